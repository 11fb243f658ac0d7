//! Nodes and ports as documents whose attributes rules change by path.

use bessemer_model::{
    Json, JsonMap, boolean,
    clock::Timestamp,
    interface::InterfaceKind,
    node::{Node, NodeSpec},
    port::{Mac, Port},
};
use serde_json::json;

use super::{actions::push, format::plain, operators::truthy};

/// What an attribute holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Flag,
    Object,
}

/// Attributes of a node that rules may change, beside the interfaces. The state of a node is its conductor's alone.
const OPEN: &[(&str, Holds)] = &[
    ("automated_clean", Holds::Flag),
    ("chassis_uuid", Holds::Text),
    ("conductor_group", Holds::Text),
    ("description", Holds::Text),
    ("disable_power_off", Holds::Flag),
    ("driver_info", Holds::Object),
    ("driver_internal_info", Holds::Object),
    ("extra", Holds::Object),
    ("instance_info", Holds::Object),
    ("instance_name", Holds::Text),
    ("lessee", Holds::Text),
    ("maintenance", Holds::Flag),
    ("maintenance_reason", Holds::Text),
    ("name", Holds::Text),
    ("network_data", Holds::Object),
    ("owner", Holds::Text),
    ("properties", Holds::Object),
    ("protected", Holds::Flag),
    ("protected_reason", Holds::Text),
    ("resource_class", Holds::Text),
    ("retired", Holds::Flag),
    ("retired_reason", Holds::Text),
    ("shard", Holds::Text),
    ("target_raid_config", Holds::Object),
];

/// Attributes that may not be null.
const NEVER_NULL: &[&str] = &["conductor_group", "maintenance", "protected", "retired"];

/// A node as rules see it: every attribute by its name on the wire, secrets in clear (reading hides them).
#[derive(Clone)]
pub struct NodeDoc(pub JsonMap);

fn interface_key(kind: InterfaceKind) -> String {
    format!("{}_interface", kind.as_str())
}

impl NodeDoc {
    /// The node, with the owner's columns as in `spec` and these internal facts.
    #[must_use]
    pub fn of(node: &Node, spec: &NodeSpec, internal_info: &JsonMap) -> Self {
        let mut m = match serde_json::to_value(spec) {
            Ok(Json::Object(m)) => m,
            _ => JsonMap::new(),
        };
        m.remove("interfaces");
        for kind in InterfaceKind::ALL {
            m.insert(interface_key(*kind), json!(spec.interfaces.chosen(*kind)));
        }
        let s = &node.status;
        let time = |t: Option<Timestamp>| t.map(|t| t.to_wire());
        let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
        put("driver_internal_info", Json::Object(internal_info.clone()));
        put("uuid", json!(node.id));
        put("created_at", json!(node.created_at.to_wire()));
        put("updated_at", json!(time(node.updated_at)));
        put("provision_state", json!(s.provision_state.as_str()));
        put("target_provision_state", json!(s.target_provision_state.map(|t| t.as_str())));
        put("provision_updated_at", json!(time(s.provision_updated_at)));
        put("power_state", json!(s.power_state.map(|p| p.as_str())));
        put("target_power_state", json!(s.target_power_state.map(|p| p.as_str())));
        put("last_error", json!(s.last_error));
        put("inspection_started_at", json!(time(s.inspection_started_at)));
        put("inspection_finished_at", json!(time(s.inspection_finished_at)));
        put("boot_mode", json!(s.boot_mode));
        put("secure_boot", json!(s.secure_boot));
        put("health", json!(s.health));
        put("raid_config", Json::Object(s.raid_config.clone()));
        put("console_enabled", json!(s.console_enabled));
        put("reservation", json!(node.reservation));
        put("conductor_affinity", json!(node.conductor_affinity));
        Self(m)
    }

    /// The owner's columns and the internal facts as they are now.
    ///
    /// # Errors
    /// A value that its column cannot hold.
    pub fn into_parts(self, base: &NodeSpec) -> Result<(NodeSpec, JsonMap), String> {
        let mut m = self.0;
        let internal = match m.remove("driver_internal_info") {
            Some(Json::Object(i)) => i,
            _ => JsonMap::new(),
        };
        let mut interfaces = base.interfaces.clone();
        for kind in InterfaceKind::ALL {
            if let Some(Json::String(name)) = m.remove(&interface_key(*kind)) {
                interfaces.set(*kind, name);
            }
        }
        m.insert("interfaces".into(), json!(interfaces));
        let spec = serde_json::from_value(Json::Object(m)).map_err(|e| format!("the node cannot be as the rules made it: {e}"))?;
        Ok((spec, internal))
    }

    /// `properties`.
    pub(super) fn properties(&mut self) -> &mut JsonMap {
        let slot = self.0.entry("properties").or_insert_with(|| json!({}));
        if !slot.is_object() {
            *slot = json!({});
        }
        match slot {
            Json::Object(m) => m,
            _ => unreachable!("made an object above"),
        }
    }

    /// Changes what a path names.
    pub(super) fn change(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut JsonMap, &[String]) -> Result<(), String>,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        let path = path_of(path);
        let root = path.first().cloned().unwrap_or_default();
        let interface = root.strip_suffix("_interface").and_then(InterfaceKind::parse).is_some();
        let holds = OPEN.iter().find(|(n, _)| *n == root).map(|(_, h)| *h).or(interface.then_some(Holds::Text));
        let Some(holds) = holds else {
            if self.0.contains_key(&root) {
                return Err(format!("\"{root}\" of a node cannot be changed by rules"));
            }
            // The old server takes such a path and keeps nothing of it.
            notes.push(format!("nodes have no attribute {}", path.join("/")));
            return Ok(());
        };
        change(&mut self.0, &path)?;
        let slot = self.0.entry(root.clone()).or_insert(Json::Null);
        *slot = coerced(&root, holds, std::mem::take(slot))?;
        if slot.is_null() && (NEVER_NULL.contains(&root.as_str()) || interface) {
            return Err(format!("\"{root}\" of a node must have a value"));
        }
        Ok(())
    }
}

/// A value in the type of its attribute: numbers become text, words become booleans.
fn coerced(root: &str, holds: Holds, v: Json) -> Result<Json, String> {
    match (holds, v) {
        (Holds::Object, Json::Null) => Ok(json!({})),
        (_, Json::Null) => Ok(Json::Null),
        (Holds::Text, v @ (Json::String(_) | Json::Number(_) | Json::Bool(_))) => Ok(Json::String(plain(&v))),
        (Holds::Flag, Json::String(s)) => Ok(Json::Bool(boolean::from_text(&s) == Some(true))),
        (Holds::Flag, v @ (Json::Bool(_) | Json::Number(_))) => Ok(Json::Bool(truthy(&v))),
        (Holds::Object, v @ Json::Object(_)) => Ok(v),
        (Holds::Object, Json::String(s)) => {
            serde_json::from_str::<JsonMap>(&s).map(Json::Object).map_err(|_| format!("\"{root}\" must be an object"))
        }
        _ => Err(format!("\"{root}\" cannot hold such a value")),
    }
}

/// The segments of `/a/b` or `a.b`.
pub(super) fn path_of(path: &str) -> Vec<String> {
    if path.contains('/') {
        path.trim_matches('/').split('/').map(str::to_owned).collect()
    } else {
        path.split('.').map(str::to_owned).collect()
    }
}

/// What is at a path.
pub(super) fn at_path<'a>(mut at: &'a mut Json, path: &[String]) -> Option<&'a mut Json> {
    for p in path {
        at = at.as_object_mut()?.get_mut(p)?;
    }
    Some(at)
}

/// Makes the way to a path and changes what is there (null when nothing was).
pub(super) fn in_place(at: &mut Json, path: &[String], change: impl FnOnce(&mut Json) -> Result<(), String>) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else { return change(at) };
    let m = at.as_object_mut().ok_or_else(|| format!("there is no object to hold \"{first}\""))?;
    let slot = m.entry(first.clone()).or_insert_with(|| if rest.is_empty() { Json::Null } else { json!({}) });
    in_place(slot, rest, change)
}

fn below(doc: &mut JsonMap, path: &[String], change: impl FnOnce(&mut Json) -> Result<(), String>) -> Result<(), String> {
    let Some((root, rest)) = path.split_first() else { return Err("the path is empty".into()) };
    in_place(doc.entry(root.clone()).or_insert(Json::Null), rest, change)
}

/// Sets a value.
pub(super) fn set(doc: &mut JsonMap, path: &[String], value: Json) -> Result<(), String> {
    below(doc, path, |slot| {
        *slot = value;
        Ok(())
    })
}

/// Appends to a list below an attribute; a list that is not there is made.
pub(super) fn extend(doc: &mut JsonMap, path: &[String], value: Json, unique: bool) -> Result<(), String> {
    let within = path.len() > 1;
    below(doc, path, |slot| {
        if slot.is_null() && within {
            *slot = json!([]);
        }
        push(slot, value, unique)
    })
}

/// Removes what is there; an attribute itself loses its value.
pub(super) fn remove(doc: &mut JsonMap, path: &[String]) -> Result<(), String> {
    let none = || format!("there is no {}", path.join("/"));
    match path {
        [] => Err("the path is empty".into()),
        [root] => {
            let slot = doc.get_mut(root).ok_or_else(none)?;
            *slot = match slot {
                Json::Bool(_) => json!(false),
                Json::Object(_) => json!({}),
                _ => Json::Null,
            };
            Ok(())
        }
        [root, way @ .., last] => {
            let m = doc.get_mut(root).and_then(|r| at_path(r, way)).and_then(Json::as_object_mut).ok_or_else(none)?;
            m.remove(last).map(drop).ok_or_else(none)
        }
    }
}

/// The attributes of a port that rules may change.
pub(super) fn of_port(p: &Port) -> JsonMap {
    let v = json!({
        "address": p.address, "name": p.name, "extra": p.extra, "local_link_connection": p.local_link_connection,
        "pxe_enabled": p.pxe_enabled, "physical_network": p.physical_network, "is_smartnic": p.is_smartnic,
        "description": p.description, "vendor": p.vendor, "category": p.category,
        "available_for_dynamic_portgroup": p.available_for_dynamic_portgroup,
    });
    v.as_object().cloned().unwrap_or_default()
}

/// Writes them back.
pub(super) fn into_port(mut doc: JsonMap, p: &mut Port) -> Result<(), String> {
    let mut take = |k: &str, holds| coerced(k, holds, doc.remove(k).unwrap_or(Json::Null));
    let text = |v: Json| v.as_str().map(str::to_owned);
    let object = |v: Json| match v {
        Json::Object(m) => m,
        _ => JsonMap::new(),
    };
    let address = text(take("address", Holds::Text)?).unwrap_or_default();
    if address != p.address {
        p.address = address.parse::<Mac>().map_err(|e| e.to_string())?.to_string();
    }
    p.name = text(take("name", Holds::Text)?);
    p.extra = object(take("extra", Holds::Object)?);
    p.local_link_connection = object(take("local_link_connection", Holds::Object)?);
    p.pxe_enabled = truthy(&take("pxe_enabled", Holds::Flag)?);
    p.physical_network = text(take("physical_network", Holds::Text)?);
    p.is_smartnic = Some(take("is_smartnic", Holds::Flag)?).filter(|v| !v.is_null()).map(|v| truthy(&v));
    p.description = text(take("description", Holds::Text)?);
    p.vendor = text(take("vendor", Holds::Text)?);
    p.category = text(take("category", Holds::Text)?);
    p.available_for_dynamic_portgroup = truthy(&take("available_for_dynamic_portgroup", Holds::Flag)?);
    Ok(())
}

/// A port that rules made `ours` of `base`, laid over what others made of it meanwhile.
#[must_use]
pub fn merge_port(base: &Port, ours: &Port, theirs: &Port) -> Port {
    let merged = crate::task::merge_json(&Json::Object(of_port(base)), &Json::Object(of_port(ours)), &Json::Object(of_port(theirs)));
    let mut out = theirs.clone();
    if let Json::Object(m) = merged {
        // Both sides were valid by themselves, hence so is every attribute.
        let _ = into_port(m, &mut out);
    }
    out
}
