//! Bodies that nobody sane sends, to every route that takes one: none is a fault of the server, a refused one changes nothing and is
//! answered as clients parse errors, and what is secret stands in no answer and no log line.
//!
//! Routes and attributes come from the API's own description, so a new one is tried without a line here. The conductor is real, its
//! hardware is not.

use anyhow::{Context, Result, ensure};
use bessemer_model::state::ProvisionState as P;
use bessemer_tests::world::Engine;
use serde_json::{Map, Value, json};

mod cases;
mod server;

use cases::{bodies, patches, values};
use server::{LATEST, Server};

/// Attributes that patches name beside those of answers.
const ODD: &[&str] = &["bogus", "id", "version", "Extra", "node_ident"];

/// A value of this schema that the server has no reason to refuse.
fn sample(s: &mut Server, name: &str, schema: &Value) -> Value {
    let n = s.fresh();
    match name {
        "driver" => return json!("fake-hardware"),
        "address" | "mac_address" => return json!(format!("52:54:00:{:02x}:{:02x}:{:02x}", n >> 16 & 255, n >> 8 & 255, n & 255)),
        "node_uuid" => return json!(s.idents["node_ident"]),
        "actions" => return json!([{"op": "set-attribute", "args": ["/extra/x", "y"]}]),
        "boot_index" => return json!(n),
        _ => {}
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str().or(schema["type"][0].as_str()) {
        Some("boolean") => json!(true),
        Some("integer") => json!(1),
        Some("object") => Value::Object(required(s, schema)),
        Some("array") => json!([sample(s, "", &schema["items"])]),
        _ if schema["format"] == "uuid" => json!(format!("aaaaaaaa-0000-4000-8000-{n:012x}")),
        _ if schema["format"] == "uri" => json!("http://192.0.2.1/x"),
        _ => json!(format!("CUSTOM_{n}")),
    }
}

/// The attributes that must be there.
fn required(s: &mut Server, schema: &Value) -> Map<String, Value> {
    let names: Vec<String> = schema["required"].as_array().into_iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)).collect();
    names.into_iter().map(|n| (n.clone(), sample(s, &n, &schema["properties"][&n]))).collect()
}

/// A document with one attribute that is not as it should be.
fn with(base: &Map<String, Value>, attribute: &str, value: &str) -> Vec<u8> {
    let others = base.iter().filter(|(k, _)| *k != attribute).map(|(k, v)| format!("{}:{v}", json!(k)));
    let parts: Vec<String> = others.chain([format!("{}:{value}", json!(attribute))]).collect();
    format!("{{{}}}", parts.join(",")).into_bytes()
}

/// The same document twice in one: every key is there two times.
fn doubled(base: &Map<String, Value>) -> Vec<u8> {
    let text = Value::Object(base.clone()).to_string();
    format!("{},{}", &text[..text.len() - 1], &text[1..]).into_bytes()
}

struct Route {
    method: String,
    template: String,
    schema: Value,
    /// Attributes in the answer, for patches.
    shown: Vec<String>,
}

/// Every route of the description that takes a body.
async fn routes(s: &Server) -> Result<Vec<Route>> {
    let (status, text) = s.send("GET", "/openapi.json", LATEST, None).await?;
    ensure!(status == 200, "{text}");
    let document: Value = serde_json::from_str(&text)?;
    let mut out = Vec::new();
    for (template, item) in document["paths"].as_object().context("paths")? {
        for method in ["post", "put", "patch"] {
            let schema = item[method]["requestBody"]["content"]["application/json"]["schema"].clone();
            if schema.is_object() {
                let answer = &item[method]["responses"]["200"]["content"]["application/json"]["schema"]["properties"];
                let shown = answer.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
                out.push(Route { method: method.to_uppercase(), template: template.clone(), schema, shown });
            }
        }
    }
    Ok(out)
}

/// States of the node, and what a good request says there beside what it must.
fn variants(route: &Route) -> Vec<(P, Value)> {
    let steps = json!([{"interface": "bios", "step": "factory_reset"}]);
    if route.template.ends_with("{node_ident}/states/provision") {
        return vec![
            (P::Enroll, json!({"target": "manage"})),
            (P::Manageable, json!({"target": "clean", "clean_steps": steps})),
            (P::Manageable, json!({"target": "service", "service_steps": steps})),
            (P::Available, json!({"target": "active"})),
        ];
    }
    vec![(P::Manageable, json!({}))]
}

async fn documents(s: &mut Server, route: &Route, state: P, more: &Map<String, Value>) -> Result<()> {
    let (method, template) = (&route.method, &route.template);
    let mut attributes: Vec<String> = route.schema["properties"].as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect();
    attributes.push("bogus".into());
    for attribute in &attributes {
        for (name, value) in values(attribute) {
            let mut base = required(s, &route.schema);
            base.extend(more.clone());
            s.judge(&format!("{attribute}: {name}"), method, template, LATEST, with(&base, attribute, &value), state).await?;
        }
        let mut base = required(s, &route.schema);
        base.extend(more.clone());
        base.remove(attribute);
        s.judge(&format!("without {attribute}"), method, template, LATEST, Value::Object(base).to_string().into_bytes(), state).await?;
    }
    let mut base = required(s, &route.schema);
    base.extend(more.clone());
    s.judge("every key twice", method, template, LATEST, doubled(&base), state).await?;
    Ok(())
}

async fn patched(s: &mut Server, route: &Route, state: P) -> Result<()> {
    for patch in patches() {
        s.judge("patch", &route.method, &route.template, LATEST, patch.into_bytes(), state).await?;
    }
    let attributes: Vec<&str> = route.shown.iter().map(String::as_str).chain(ODD.iter().copied()).collect();
    for attribute in attributes {
        for (i, (name, value)) in values(attribute).into_iter().enumerate() {
            let within = [format!("/{attribute}"), format!("/{attribute}/password")];
            // What is within matters where secrets are; elsewhere some values will do.
            let paths = if i % 6 == 0 || name.starts_with("secret") { &within[..] } else { &within[..1] };
            for path in paths {
                let patch = format!(r#"[{{"op":"add","path":"{path}","value":{value}}}]"#);
                s.judge(&format!("patch {attribute}: {name}"), &route.method, &route.template, LATEST, patch.into_bytes(), state).await?;
            }
        }
        for rest in ["", "/a", "/0", "/-"] {
            let patch = format!(r#"[{{"op":"remove","path":"/{attribute}{rest}"}}]"#);
            s.judge("patch", &route.method, &route.template, LATEST, patch.into_bytes(), state).await?;
        }
    }
    Ok(())
}

async fn every_route(engine: Engine) -> Result<()> {
    let mut s = Server::start(engine).await?;
    let routes = routes(&s).await?;
    ensure!(routes.len() > 50, "only {} routes take a body: the description has lost some", routes.len());
    for route in &routes {
        for (name, body) in bodies() {
            for version in [LATEST, "1.1"] {
                s.judge(&name, &route.method, &route.template, version, body.clone(), P::Manageable).await?;
            }
        }
        for (state, more) in variants(route) {
            s.new_node(state).await?;
            if route.method == "PATCH" {
                patched(&mut s, route, state).await?;
            } else {
                documents(&mut s, route, state, more.as_object().context("an object")?).await?;
            }
        }
    }
    let [sent, taken, refused] = s.sent;
    s.verdict()?;
    ensure!(taken * 40 > sent && refused * 4 > sent, "{taken} taken and {refused} refused of {sent}: the test has lost its teeth");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_is_a_fault_of_the_server_on_sqlite() -> Result<()> {
    every_route(Engine::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_is_a_fault_of_the_server_on_postgresql() -> Result<()> {
    every_route(Engine::Postgres).await
}
