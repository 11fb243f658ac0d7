//! Inventory files of `node enroll`: machines with their ports, in YAML, JSON or TOML.
//!
//! `nodes` is a list of objects with any fields of a node, `macs` (addresses) or `ports` (objects), and `inspect` and
//! `provide` (booleans); `defaults` holds what every node has unless it says otherwise. Without `nodes`, the file itself is
//! the list.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::CliError;
use crate::{pairs, structured};

/// Most machines in one file.
const MAX_NODES: usize = 100_000;

/// A machine to take in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Machine {
    /// What it is called while it is taken in.
    pub label: String,
    /// Body that creates the node.
    pub body: Map<String, Value>,
    /// Bodies of its ports, without node_uuid.
    pub ports: Vec<Map<String, Value>>,
    /// Inspect it; `None` where the file does not say.
    pub inspect: Option<bool>,
    /// Make it available; `None` where the file does not say.
    pub provide: Option<bool>,
}

/// Reads a file, or standard input for `-`.
pub fn read(given: &str) -> Result<Vec<Machine>, CliError> {
    let (value, path) = if given == "-" {
        (structured::argument(given, "--file")?, Path::new("standard input"))
    } else {
        let path = Path::new(given);
        (structured::read(path)?, path)
    };
    machines(value).map_err(|what| CliError::File { path: path.to_owned(), what })
}

fn machines(value: Value) -> Result<Vec<Machine>, String> {
    let (nodes, defaults) = match value {
        Value::Array(nodes) => (nodes, Map::new()),
        Value::Object(mut members) => {
            let defaults = match members.remove("defaults") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(defaults)) => defaults,
                Some(_) => return Err("`defaults` is no object".into()),
            };
            let nodes = match members.remove("nodes") {
                Some(Value::Array(nodes)) => nodes,
                _ => return Err("it has no list `nodes`".into()),
            };
            if let Some(name) = members.keys().next() {
                return Err(format!("`{name}` is neither `nodes` nor `defaults`"));
            }
            (nodes, defaults)
        }
        _ => return Err("it holds no list of machines".into()),
    };
    if nodes.is_empty() || nodes.len() > MAX_NODES {
        return Err(format!("it lists {} machines; from 1 to {MAX_NODES} are taken", nodes.len()));
    }
    let machines: Vec<Machine> =
        nodes.into_iter().enumerate().map(|(at, node)| machine(at, node, &defaults)).collect::<Result<_, String>>()?;
    let mut labels: Vec<&str> = machines.iter().map(|machine| machine.label.as_str()).collect();
    labels.sort_unstable();
    match labels.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => Err(format!("two machines are called `{}`", pair.first().unwrap_or(&""))),
        None => Ok(machines),
    }
}

fn machine(at: usize, node: Value, defaults: &Map<String, Value>) -> Result<Machine, String> {
    let Value::Object(node) = node else { return Err(format!("machine {} is no object", at + 1)) };
    let mut body = merged(defaults, node);
    let of = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let label = of("name").or_else(|| of("uuid"));
    // A machine without name or UUID could not be found again, and would be created anew each time.
    let label = label.ok_or_else(|| format!("machine {} has neither `name` nor `uuid`", at + 1))?;
    let bad = |what: String| format!("machine `{label}`: {what}");
    if of("driver").is_none() {
        return Err(bad("it has no `driver`".into()));
    }
    let mut ports = Vec::new();
    for (name, items) in [("macs", body.remove("macs")), ("ports", body.remove("ports"))] {
        let items = match items {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) => items,
            Some(Value::String(one)) => vec![Value::String(one)],
            Some(_) => return Err(bad(format!("`{name}` is no list"))),
        };
        for item in items {
            ports.push(match item {
                Value::String(address) => Map::from_iter([("address".to_owned(), Value::String(address))]),
                Value::Object(port) if port.get("address").is_some_and(Value::is_string) => port,
                _ => return Err(bad(format!("a member of `{name}` has no address"))),
            });
        }
    }
    let mut flag = |name: &str| match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(format!("machine `{label}`: `{name}` is neither true nor false")),
    };
    let (inspect, provide) = (flag("inspect")?, flag("provide")?);
    if let Some(Value::Object(info)) = body.get_mut("driver_info") {
        pairs::resolve_secrets(info).map_err(|e| bad(e.to_string()))?;
    }
    Ok(Machine { label, body, ports, inspect, provide })
}

/// Defaults with a machine's own members over them; objects are merged member by member.
fn merged(defaults: &Map<String, Value>, own: Map<String, Value>) -> Map<String, Value> {
    let mut all = defaults.clone();
    for (name, value) in own {
        match (all.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(value)) => *into = merged(into, value),
            (_, value) => {
                all.insert(name, value);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_merged_below_each_machine() {
        let found = machines(json!({
            "defaults": {"driver": "redfish", "driver_info": {"redfish_username": "admin", "redfish_verify_ca": false}, "inspect": false},
            "nodes": [
                {"name": "a", "driver_info": {"redfish_address": "https://a", "redfish_username": "root"}, "macs": ["52:54:00:00:00:01"]},
                {"name": "b", "driver": "ipmi", "inspect": true, "ports": [{"address": "52:54:00:00:00:02", "pxe_enabled": false}]}
            ]
        }))
        .expect("read");
        assert_eq!(
            Value::Object(found[0].body.clone()),
            json!({
                "name": "a", "driver": "redfish",
                "driver_info": {"redfish_address": "https://a", "redfish_username": "root", "redfish_verify_ca": false}
            })
        );
        assert_eq!(found[0].inspect, Some(false));
        assert_eq!(Value::Object(found[0].ports[0].clone()), json!({"address": "52:54:00:00:00:01"}));
        assert_eq!((found[1].inspect, found[1].body["driver"].as_str()), (Some(true), Some("ipmi")));
        assert_eq!(found[1].ports[0]["pxe_enabled"], json!(false));
    }

    #[test]
    fn the_inventory_shown_by_help_is_one() {
        let help = crate::args::node::INVENTORY.split_once('\n').expect("a first line").1.replace("@env:BMC_PASSWORD", "x");
        let found = machines(structured::parse(&help).expect("YAML")).expect("an inventory");
        assert_eq!((found[0].label.as_str(), found[0].ports.len(), found[0].inspect), ("rack1-01", 1, Some(true)));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_machine_s_name() {
        for (value, expected) in [
            (json!([]), "0 machines"),
            (json!({"node": []}), "no list `nodes`"),
            (json!([{"driver": "ipmi"}]), "neither `name` nor `uuid`"),
            (json!([{"name": "a"}]), "`a`: it has no `driver`"),
            (json!([{"name": "a", "driver": "x", "macs": [1]}]), "`a`: a member of `macs`"),
            (json!([{"name": "a", "driver": "x", "inspect": "yes"}]), "`a`: `inspect`"),
            (json!([{"name": "a", "driver": "x"}, {"name": "a", "driver": "x"}]), "two machines are called `a`"),
            (json!({"nodes": [{"name": "a", "driver": "x"}], "chassis": []}), "`chassis`"),
        ] {
            let error = machines(value).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
