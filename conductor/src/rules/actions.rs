//! The actions of rules.

use bessemer_model::{Json, JsonMap};

use super::{
    Subject,
    call::Call,
    document::{self, at_path, in_place, path_of},
    format::plain,
    operators::{equal, truthy},
};

fn arg<'a>(args: &'a JsonMap, name: &str) -> &'a Json {
    args.get(name).unwrap_or(&Json::Null)
}

fn text<'a>(args: &'a JsonMap, name: &str) -> Result<&'a str, String> {
    arg(args, name).as_str().ok_or_else(|| format!("\"{name}\" must be text"))
}

/// Runs one action with its arguments filled in.
pub(super) fn run(op: &str, args: &JsonMap, s: &mut Subject) -> Result<(), String> {
    let value = || arg(args, "value").clone();
    let unique = args.get("unique").is_some_and(truthy);
    match op {
        "fail" => Err(plain(arg(args, "msg"))),
        "log" => log(args, s),
        "set-attribute" => s.node.change(text(args, "path")?, |d, p| document::set(d, p, value()), &mut s.notes),
        "extend-attribute" => s.node.change(text(args, "path")?, |d, p| document::extend(d, p, value(), unique), &mut s.notes),
        "del-attribute" => s.node.change(text(args, "path")?, document::remove, &mut s.notes),
        "set-capability" => capability(s, text(args, "name")?, Some(text(args, "value")?)),
        "unset-capability" => capability(s, text(args, "name")?, None),
        "add-trait" => {
            let name = text(args, "name")?;
            if name.is_empty() || name.len() > 255 {
                return Err("a trait has 1 to 255 characters".into());
            }
            if !s.traits.iter().any(|t| t == name) {
                s.traits.push(name.to_owned());
                s.traits.sort();
            }
            if s.traits.len() > 50 { Err("a node has at most 50 traits".into()) } else { Ok(()) }
        }
        "remove-trait" => {
            let name = text(args, "name")?;
            s.traits.retain(|t| t != name);
            Ok(())
        }
        "set-plugin-data" => in_place(&mut s.plugin_data, &dots(args)?, |slot| {
            *slot = value();
            Ok(())
        }),
        "extend-plugin-data" => in_place(&mut s.plugin_data, &dots(args)?, |slot| {
            if !truthy(slot) {
                *slot = Json::Array(vec![]);
            }
            push(slot, value(), unique)
        }),
        "unset-plugin-data" => {
            let path = dots(args)?;
            if !unset(&mut s.plugin_data, &path) {
                s.notes.push(format!("plugin data have no {}", path.join(".")));
            }
            Ok(())
        }
        "set-port-attribute" => port(args, s, |d, p| document::set(d, p, value())),
        "extend-port-attribute" => port(args, s, |d, p| document::extend(d, p, value(), unique)),
        "del-port-attribute" => port(args, s, document::remove),
        "api-call" => {
            s.calls.push(Call::read(args)?);
            Ok(())
        }
        other => Err(format!("\"{other}\" is not an action")),
    }
}

/// Appends to a list.
pub(super) fn push(list: &mut Json, value: Json, unique: bool) -> Result<(), String> {
    let a = list.as_array_mut().ok_or("what is to be extended is not a list")?;
    if !unique || !a.iter().any(|x| equal(x, &value)) {
        a.push(value);
    }
    Ok(())
}

fn dots(args: &JsonMap) -> Result<Vec<String>, String> {
    Ok(text(args, "path")?.split('.').map(str::to_owned).collect())
}

/// Removes a key; an object that it leaves empty goes too. False when the key is not there.
fn unset(data: &mut Json, path: &[String]) -> bool {
    let Some((last, way)) = path.split_last() else { return false };
    let Some(Json::Object(m)) = at_path(data, way) else { return false };
    if m.remove(last).is_none() {
        return false;
    }
    if m.is_empty()
        && let Some((parent, above)) = way.split_last()
        && let Some(Json::Object(m)) = at_path(data, above)
    {
        m.remove(parent);
    }
    true
}

fn log(args: &JsonMap, s: &mut Subject) -> Result<(), String> {
    let msg = plain(arg(args, "msg"));
    let level = args.get("level").map_or_else(|| "info".to_owned(), plain).to_lowercase();
    let node = plain(s.node.0.get("uuid").unwrap_or(&Json::Null));
    match level.as_str() {
        "debug" => tracing::debug!(node, "inspection rule: {msg}"),
        "info" => tracing::info!(node, "inspection rule: {msg}"),
        "warning" => tracing::warn!(node, "inspection rule: {msg}"),
        "error" | "critical" => tracing::error!(node, "inspection rule: {msg}"),
        other => return Err(format!("\"{other}\" is not a log level: debug, info, warning, error or critical")),
    }
    s.notes.push(msg);
    Ok(())
}

/// Sets (appends, as it has always been) or removes a capability of `properties/capabilities`.
fn capability(s: &mut Subject, name: &str, value: Option<&str>) -> Result<(), String> {
    let slot = s.node.properties();
    let old = match slot.get("capabilities") {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(c)) => c.clone(),
        Some(_) => return Err("properties/capabilities is not text".into()),
    };
    let new = match value {
        Some(v) if old.is_empty() => format!("{name}:{v}"),
        Some(v) => format!("{old},{name}:{v}"),
        None => old.split(',').filter(|c| !c.starts_with(&format!("{name}:"))).collect::<Vec<_>>().join(","),
    };
    slot.insert("capabilities".into(), Json::String(new));
    Ok(())
}

fn port(args: &JsonMap, s: &mut Subject, change: impl FnOnce(&mut JsonMap, &[String]) -> Result<(), String>) -> Result<(), String> {
    let id = plain(arg(args, "port_id"));
    let path = path_of(text(args, "path")?);
    let port = s.ports.iter_mut().find(|p| p.id.to_string() == id).ok_or_else(|| format!("Port {id} could not be found"))?;
    let mut doc = document::of_port(port);
    if !doc.contains_key(path.first().map_or("", String::as_str)) {
        s.notes.push(format!("ports have no attribute {}", path.join("/")));
        return Ok(());
    }
    change(&mut doc, &path)?;
    document::into_port(doc, port)
}
