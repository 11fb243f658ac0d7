//! Conversations with another implementation of this API, replayed: the same requests must get the same answers.
//!
//! A file of `recordings/` is a list of requests with the answers expected. Values that may differ between two faithful servers are
//! names in angle brackets (`<uuid>`, `<time>`, `<conductor>`, `<endpoint>`, `<text>` for any prose); a captured UUID is `<$name>`.
//! `"$error"` is the usual body of a client's error; `$node` holds what differs from `node-template.txt`, `$without` what is absent.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use http_body_util::BodyExt;
use regex::Regex;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

mod fake;

const TEMPLATE: &str = include_str!("recordings/node-template.txt");
const VERSION: &str = "X-OpenStack-Ironic-API-Version";
const COMPARED: &[&str] = &[
    VERSION,
    "X-OpenStack-Ironic-API-Minimum-Version",
    "X-OpenStack-Ironic-API-Maximum-Version",
    "Openstack-Request-Id",
    "X-Openstack-Request-Id",
    "Content-Type",
    "Location",
    "Allow",
];

fn regex(s: &str) -> Regex {
    Regex::new(s).expect("a valid expression")
}
static UUID: LazyLock<Regex> = LazyLock::new(|| regex("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"));
static REQUEST_ID: LazyLock<Regex> = LazyLock::new(|| regex("req-<uuid>"));
static TIME: LazyLock<Regex> = LazyLock::new(|| regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00"));

/// What one conversation knows.
#[derive(Default)]
struct Talk {
    vars: BTreeMap<String, String>,
    sent: HashSet<String>,
}

impl Talk {
    fn fill(&self, v: &Value) -> Value {
        match v {
            Value::String(s) => Value::String(self.fill_text(s)),
            Value::Array(a) => a.iter().map(|x| self.fill(x)).collect(),
            Value::Object(m) => Value::Object(m.iter().map(|(k, x)| (self.fill_text(k), self.fill(x))).collect()),
            other => other.clone(),
        }
    }
    fn fill_text(&self, s: &str) -> String {
        self.vars.iter().fold(s.to_owned(), |s, (k, v)| s.replace(&format!("${{{k}}}"), v))
    }
    fn note_sent(&mut self, v: &Value) {
        match v {
            Value::String(s) => drop(self.sent.insert(s.clone())),
            Value::Array(a) => a.iter().for_each(|x| self.note_sent(x)),
            Value::Object(m) => {
                for (k, x) in m {
                    self.sent.insert(k.clone());
                    self.note_sent(x);
                }
            }
            _ => {}
        }
    }
    /// Replaces what may differ.
    fn text(&self, s: &str) -> String {
        if self.sent.contains(s) && !UUID.is_match(s) {
            return s.to_owned();
        }
        if s == fake::HOST {
            return "<conductor>".to_owned();
        }
        let uuids = self.vars.iter().filter(|(_, v)| UUID.is_match(v));
        let mut t = uuids.fold(s.to_owned(), |t, (k, v)| t.replace(v.as_str(), &format!("<${k}>")));
        t = t.replace("http://api.test", "<endpoint>");
        for before in ["/conductors/", "conductor=", "marker="] {
            t = t.replace(&format!("{before}{}", fake::HOST), &format!("{before}<conductor>"));
        }
        t = UUID.replace_all(&t, "<uuid>").into_owned();
        t = REQUEST_ID.replace_all(&t, "<req>").into_owned();
        t = TIME.replace_all(&t, "<time>").into_owned();
        if t.split_whitespace().count() >= 3 && !self.sent.contains(&t) { "<text>".to_owned() } else { t }
    }
    fn body(&self, v: &Value, key: &str) -> Value {
        match v {
            Value::Object(m) => {
                Value::Object(m.iter().map(|(k, x)| (if UUID.is_match(k) { self.text(k) } else { k.clone() }, self.body(x, k))).collect())
            }
            Value::Array(a) => a.iter().map(|x| self.body(x, "")).collect(),
            Value::String(s) if key == "error_message" && s.starts_with('{') => {
                let inner: Value = serde_json::from_str(s).expect("JSON within JSON");
                json!({ "$json-string": self.body(&inner, "") })
            }
            Value::String(_) if matches!(key, "error_message" | "faultstring" | "last_error" | "debuginfo") => "<text>".into(),
            Value::String(s) => self.text(s).into(),
            other => other.clone(),
        }
    }
}

/// Undoes the shortenings of the files.
fn expand(v: &Value) -> Value {
    match v {
        Value::String(s) if s == "$error" => {
            json!({ "error_message": { "$json-string": { "faultcode": "Client", "faultstring": "<text>", "debuginfo": null } } })
        }
        Value::Object(m) if m.contains_key("$node") => {
            let id = m["$node"]["uuid"].as_str().expect("a node has a UUID");
            let mut node: Map<String, Value> = serde_json::from_str(&TEMPLATE.replace("<id>", id)).expect("the template is JSON");
            for k in m.get("$without").and_then(Value::as_array).into_iter().flatten() {
                node.remove(k.as_str().expect("a name"));
            }
            node.extend(m["$node"].as_object().expect("an object").clone());
            Value::Object(node)
        }
        Value::Object(m) => Value::Object(m.iter().map(|(k, x)| (k.clone(), expand(x))).collect()),
        Value::Array(a) => a.iter().map(expand).collect(),
        other => other.clone(),
    }
}

fn listed(step: &Value, list: &str, at: &str) -> bool {
    let matches = |pattern: &str| {
        let (p, a): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), at.split('/').collect());
        p.len() == a.len() && p.iter().zip(a).all(|(p, a)| *p == "*" || *p == a)
    };
    step[list].as_array().into_iter().flatten().filter_map(Value::as_str).any(matches)
}

fn compare(want: &Value, got: &Value, at: &str, step: &Value, out: &mut Vec<String>) {
    if listed(step, "ignore", at) || (want == "<text>" && got.as_str().is_some_and(|s| !s.is_empty())) {
        return;
    }
    match (want, got) {
        (Value::Object(w), Value::Object(g)) => {
            for k in w.keys().chain(g.keys()).collect::<HashSet<_>>() {
                let below = format!("{at}/{k}");
                match (w.get(k), g.get(k)) {
                    (Some(w), Some(g)) => compare(w, g, &below, step, out),
                    _ if listed(step, "ignore", &below) => {}
                    (w, g) => out.push(format!("{below}: got {g:?}, want {w:?}")),
                }
            }
        }
        (Value::Array(w), Value::Array(g)) if w.len() == g.len() => {
            let (mut w, mut g) = (w.clone(), g.clone());
            if listed(step, "unordered", at) {
                w.sort_by_key(Value::to_string);
                g.sort_by_key(Value::to_string);
            }
            for (i, (w, g)) in w.iter().zip(&g).enumerate() {
                compare(w, g, &format!("{at}/{i}"), step, out);
            }
        }
        _ if want == got => {}
        _ => out.push(format!("{at}: got {got}, want {want}")),
    }
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Option<Value>,
}

async fn ask(router: &Router, talk: &Talk, step: &Value) -> Answer {
    let (method, path) = step["do"].as_str().and_then(|d| d.split_once(' ')).expect("METHOD PATH");
    let mut headers: BTreeMap<String, Option<String>> =
        [("host", "api.test"), ("accept", "application/json")].map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).into();
    if let Some(v) = step["version"].as_str() {
        headers.insert(VERSION.to_lowercase(), Some(v.to_owned()));
    }
    let body = match (&step["raw"], &step["body"]) {
        (Value::String(raw), _) => Some(talk.fill_text(raw)),
        (_, Value::Null) => None,
        (_, v) => Some(talk.fill(v).to_string()),
    };
    if body.is_some() {
        headers.insert("content-type".into(), Some("application/json".into()));
    }
    for (k, v) in step["headers"].as_object().into_iter().flatten() {
        headers.insert(k.to_lowercase(), v.as_str().map(str::to_owned));
    }
    let mut request = Request::builder().method(method).uri(talk.fill_text(path));
    for (k, v) in headers.iter().filter_map(|(k, v)| Some((k, v.as_ref()?))) {
        request = request.header(k, v);
    }
    let request = request.body(body.map_or_else(Body::empty, Body::from)).expect("a request");
    let (parts, body) = router.clone().oneshot(request).await.expect("infallible").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let body = (!bytes.is_empty()).then(|| serde_json::from_slice(&bytes).expect("JSON"));
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Plays a conversation and tells what differed.
async fn play(text: &str) -> Vec<String> {
    let file: Value = serde_json::from_str(text).expect("a recording is JSON");
    let dir = tempfile::tempdir().expect("a folder");
    let store = fake::store(dir.path()).await;
    let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(5)));
    let router = ironic_api::router(ironic_api::ApiConfig::default(), store, conductor);
    let mut talk = Talk::default();
    for (k, v) in file["vars"].as_object().into_iter().flatten() {
        talk.vars.insert(k.clone(), v.as_str().expect("text").to_owned());
    }
    let mut wrong = Vec::new();
    for (i, step) in file["steps"].as_array().expect("steps").iter().enumerate() {
        talk.note_sent(&talk.fill(&step["body"]));
        let mut answer = ask(&router, &talk, step).await;
        for _ in 0..400 {
            let until = step["poll"].as_object().into_iter().flatten();
            let reached = |(at, want): (&String, &Value)| {
                let got = answer.body.as_ref().and_then(|b| b.pointer(at));
                got.is_some_and(|g| g == want || want.as_array().is_some_and(|a| a.contains(g)))
            };
            if until.into_iter().all(reached) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer = ask(&router, &talk, step).await;
        }
        for (name, at) in step["capture"].as_object().into_iter().flatten() {
            let got = answer.body.as_ref().and_then(|b| b.pointer(at.as_str().expect("a pointer")));
            if let Some(s) = got.and_then(Value::as_str) {
                talk.vars.insert(name.clone(), s.to_owned());
            }
        }
        let mut found = Vec::new();
        if step["status"] != answer.status {
            found.push(format!("status {}, want {}: {:?}", answer.status, step["status"], answer.body));
        }
        check_headers(&talk, step, &answer, &mut found);
        let got = answer.body.map_or(Value::Null, |b| talk.body(&b, ""));
        compare(&expand(&step["expect"]), &got, "", step, &mut found);
        wrong.extend(found.into_iter().map(|f| format!("step {} {}: {f}", i + 1, step["do"])));
    }
    wrong
}

fn check_headers(talk: &Talk, step: &Value, answer: &Answer, found: &mut Vec<String>) {
    let spoken = match step["version"].as_str() {
        None | Some("") => "1.1",
        Some("latest") => "1.115",
        Some(v) => v,
    };
    for name in COMPARED {
        let usual = match *name {
            VERSION => Some(spoken),
            "X-OpenStack-Ironic-API-Minimum-Version" => Some("1.1"),
            "X-OpenStack-Ironic-API-Maximum-Version" => Some("1.115"),
            "Openstack-Request-Id" | "X-Openstack-Request-Id" => Some("<req>"),
            "Content-Type" if !step["expect"].is_null() => Some("application/json"),
            _ => None,
        };
        let want = match &step["answers"][name] {
            Value::Null if step["answers"].get(name).is_some() => None,
            Value::Null => usual.map(str::to_owned),
            v => v.as_str().map(str::to_owned),
        };
        let got = answer.headers.get(*name).map(|v| v.to_str().expect("text"));
        let got = got.map(|v| if *name == "Allow" { v.to_owned() } else { talk.text(v) });
        if want != got {
            found.push(format!("header {name}: got {got:?}, want {want:?}"));
        }
    }
}

macro_rules! recordings {
    ($($test:ident $file:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let wrong = play(include_str!(concat!("recordings/", $file, ".json"))).await;
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    )*};
}

recordings! {
    allocations_are_as_recorded "allocations";
    invalid_allocations_are_as_recorded "allocations-invalid";
    bad_transitions_are_as_recorded "bad-transitions";
    boot_devices_are_as_recorded "boot-device";
    chassis_are_as_recorded "chassis";
    children_are_as_recorded "children";
    conductors_are_as_recorded "conductors";
    consoles_are_as_recorded "console";
    deleting_by_state_is_as_recorded "delete-by-state";
    indicators_are_as_recorded "nmi-indicators";
    instance_uuids_are_as_recorded "instance-uuid";
    maintenance_is_as_recorded "maintenance";
    malformed_requests_are_as_recorded "malformed";
    methods_and_paths_are_as_recorded "methods-and-paths";
    microversion_negotiation_is_as_recorded "microversion-negotiation";
    node_creation_is_as_recorded "node-create-basic";
    node_creation_gating_is_as_recorded "node-create-gating";
    invalid_node_creation_is_as_recorded "node-create-invalid";
    node_fields_are_as_recorded "node-fields";
    node_lists_by_version_are_as_recorded "node-list-by-version";
    node_names_are_as_recorded "node-names";
    node_pagination_is_as_recorded "node-pagination";
    node_patches_are_as_recorded "node-patch";
    invalid_node_patches_are_as_recorded "node-patch-invalid";
    node_secrets_are_as_recorded "node-secrets";
    nodes_by_version_are_as_recorded "node-show-by-version";
    node_sorting_is_as_recorded "node-sort";
    node_states_are_as_recorded "node-states";
    owners_and_lessees_are_as_recorded "owner-lessee";
    port_groups_are_as_recorded "portgroups";
    ports_are_as_recorded "ports";
    ports_by_version_are_as_recorded "ports-by-version";
    port_gating_is_as_recorded "ports-gating";
    invalid_ports_are_as_recorded "ports-invalid";
    power_is_as_recorded "power";
    raid_is_as_recorded "raid";
    request_ids_are_as_recorded "request-id";
    retired_nodes_are_as_recorded "retired";
    discovery_of_the_root_is_as_recorded "root-discovery";
    root_links_by_version_are_as_recorded "root-links-by-version";
    vendor_methods_are_as_recorded "vendor-passthru";
    virtual_interfaces_are_as_recorded "vifs";
    volume_connectors_are_as_recorded "volume-connectors";
}
