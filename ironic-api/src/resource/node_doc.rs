//! Between a node's JSON document (of a `POST` or after a patch) and [`NodeSpec`]: types, lengths and patterns of every attribute.
//!
//! Knows nothing of states, conductors or other nodes; those rules are in [`super::node_rules`].

use std::collections::BTreeMap;

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::NodeSpec,
};
use serde_json::json;

use super::network_data;
use crate::{body::json_bool, query::parse_uuid};

/// What a document says: the owner's columns, the interfaces chosen, and a parent that is still to be looked up.
#[derive(Debug)]
pub(crate) struct Draft {
    pub spec: NodeSpec,
    pub interfaces: BTreeMap<InterfaceKind, String>,
    pub parent: Option<String>,
}

/// The attributes of a node that a patch may name, with their values.
pub(crate) fn document(spec: &NodeSpec) -> JsonMap {
    let mut m = JsonMap::new();
    let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
    put("automated_clean", json!(spec.automated_clean));
    put("chassis_uuid", json!(spec.chassis_uuid));
    put("conductor_group", json!(spec.conductor_group));
    put("description", json!(spec.description));
    put("disable_power_off", json!(spec.disable_power_off));
    put("driver", json!(spec.driver));
    put("driver_info", Json::Object(spec.driver_info.clone()));
    put("extra", Json::Object(spec.extra.clone()));
    put("instance_info", Json::Object(spec.instance_info.clone()));
    put("instance_name", json!(spec.instance_name));
    put("instance_uuid", json!(spec.instance_uuid));
    put("lessee", json!(spec.lessee));
    put("maintenance", json!(spec.maintenance));
    put("name", json!(spec.name));
    put("network_data", Json::Object(spec.network_data.clone()));
    put("owner", json!(spec.owner));
    put("parent_node", json!(spec.parent_node));
    put("properties", Json::Object(spec.properties.clone()));
    put("protected", json!(spec.protected));
    put("protected_reason", json!(spec.protected_reason));
    put("resource_class", json!(spec.resource_class));
    put("retired", json!(spec.retired));
    put("retired_reason", json!(spec.retired_reason));
    put("shard", json!(spec.shard));
    for kind in InterfaceKind::ALL {
        put(&interface_key(*kind), json!(spec.interfaces.chosen(*kind)));
    }
    m
}

/// `boot_interface` and its like.
pub(crate) fn interface_key(kind: InterfaceKind) -> String {
    format!("{}_interface", kind.as_str())
}

/// Reads a document. Attributes that are absent or null get their default; columns that no document holds stay as in `spec`.
///
/// # Errors
/// `InvalidParameterValue` or `MissingParameterValue`, naming the attribute.
pub(crate) fn read(doc: &JsonMap, mut spec: NodeSpec) -> Result<Draft, Fault> {
    let d = Doc(doc);
    spec.driver = match d.text("driver", 255)? {
        Some(s) if !s.is_empty() => s,
        _ => return Err(Fault::missing("A node needs a \"driver\".")),
    };
    spec.name = d.text("name", 255)?;
    spec.driver_info = d.object("driver_info")?;
    spec.properties = d.object("properties")?;
    spec.extra = d.object("extra")?;
    spec.instance_info = d.object("instance_info")?;
    spec.network_data = d.object("network_data")?;
    spec.instance_uuid = d.uuid("instance_uuid")?;
    spec.chassis_uuid = d.uuid("chassis_uuid")?;
    spec.instance_name = d.text("instance_name", 255)?;
    if spec.instance_name.as_deref() == Some("") {
        return Err(Fault::invalid("\"instance_name\" must not be empty."));
    }
    spec.resource_class = d.text("resource_class", 80)?;
    spec.conductor_group = d.text("conductor_group", 255)?.unwrap_or_default().to_lowercase();
    if !spec.conductor_group.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
        return Err(Fault::invalid("\"conductor_group\" may hold letters, digits, dashes, underscores and dots only."));
    }
    spec.automated_clean = d.bool("automated_clean")?;
    spec.protected = d.bool("protected")?.unwrap_or_default();
    spec.protected_reason = d.long_text("protected_reason")?;
    spec.owner = d.long_text("owner")?;
    spec.lessee = d.long_text("lessee")?;
    spec.description = d.text("description", 4096)?;
    spec.retired = d.bool("retired")?.unwrap_or_default();
    spec.retired_reason = d.long_text("retired_reason")?;
    spec.shard = d.indexed_text("shard")?;
    spec.disable_power_off = d.bool("disable_power_off")?;
    spec.maintenance = d.bool("maintenance")?.unwrap_or_default();
    spec.parent_node = None;

    check_properties(&spec.properties)?;
    if !spec.network_data.is_empty() {
        network_data::check(&spec.network_data)?;
    }
    let mut interfaces = BTreeMap::new();
    for kind in InterfaceKind::ALL {
        if let Some(name) = d.text(&interface_key(*kind), 255)? {
            interfaces.insert(*kind, name);
        }
    }
    let parent = d.text("parent_node", 255)?.filter(|p| !p.is_empty());
    Ok(Draft { spec, interfaces, parent })
}

/// Sizes of the machine are whole numbers that are not negative, as numbers or as text.
fn check_properties(properties: &JsonMap) -> Result<(), Fault> {
    for key in ["cpus", "memory_mb", "local_gb"] {
        let good = match properties.get(key) {
            None | Some(Json::Null) => true,
            Some(Json::Number(n)) => n.as_u64().is_some(),
            Some(Json::String(s)) => s.trim().parse::<u64>().is_ok(),
            Some(_) => false,
        };
        if !good {
            return Err(Fault::invalid(format!("\"properties/{key}\" must be a whole number that is not negative.")));
        }
    }
    Ok(())
}

/// The longest text without a limit in the contract, in characters.
const LONG: usize = 65_535;
/// The same for what an index holds, in bytes: PostgreSQL has room for a third of a page.
const INDEXED: usize = 2_600;

/// Typed access to the attributes of a document; null counts as absent.
pub(crate) struct Doc<'a>(pub &'a JsonMap);

impl Doc<'_> {
    fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key).filter(|v| !v.is_null())
    }
    /// Refuses null where the attribute may be left out, but not be nothing.
    pub fn not_null(&self, keys: &[&str]) -> Result<(), Fault> {
        match keys.iter().find(|k| self.0.get(**k).is_some_and(Json::is_null)) {
            Some(k) => Err(Fault::invalid(format!("\"{k}\" must not be null; leave it out to get its default."))),
            None => Ok(()),
        }
    }
    /// A text of at most `max` characters.
    pub fn text(&self, key: &str, max: usize) -> Result<Option<String>, Fault> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let s = v.as_str().ok_or_else(|| Fault::invalid(format!("\"{key}\" must be text.")))?;
        // No database takes it, and it would be missed only when it is written.
        if s.contains('\0') {
            return Err(Fault::invalid(format!("\"{key}\" must not hold a NUL character.")));
        }
        if s.chars().count() > max {
            return Err(Fault::invalid(format!("\"{key}\" must not be longer than {max} characters.")));
        }
        Ok(Some(s.to_owned()))
    }
    /// A text that the contract gives no limit.
    pub fn long_text(&self, key: &str) -> Result<Option<String>, Fault> {
        self.text(key, LONG)
    }
    /// A text without a limit in the contract that an index holds: no more than fits there.
    pub fn indexed_text(&self, key: &str) -> Result<Option<String>, Fault> {
        match self.long_text(key)? {
            Some(s) if s.len() > INDEXED => Err(Fault::invalid(format!("\"{key}\" must not be longer than {INDEXED} bytes."))),
            fits => Ok(fits),
        }
    }
    /// An object; empty when absent.
    pub fn object(&self, key: &str) -> Result<JsonMap, Fault> {
        match self.get(key) {
            None => Ok(JsonMap::new()),
            Some(Json::Object(m)) => Ok(m.clone()),
            Some(_) => Err(Fault::invalid(format!("\"{key}\" must be an object."))),
        }
    }
    /// A boolean, also as text.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Fault> {
        self.get(key).map(|v| json_bool(v).ok_or_else(|| Fault::invalid(format!("\"{key}\" must be a boolean.")))).transpose()
    }
    /// A whole number; `1.0` is one.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, Fault> {
        let whole = |f: f64| (f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0).then_some(f as i64);
        let read = |v: &Json| {
            let n = v.as_i64().or_else(|| v.as_f64().filter(|_| v.is_f64()).and_then(whole));
            n.ok_or_else(|| Fault::invalid(format!("\"{key}\" must be a whole number.")))
        };
        self.get(key).map(read).transpose()
    }
    /// A UUID.
    pub fn uuid(&self, key: &str) -> Result<Option<uuid::Uuid>, Fault> {
        let read = |v: &Json| v.as_str().and_then(parse_uuid).ok_or_else(|| Fault::invalid(format!("\"{key}\" must be a UUID.")));
        self.get(key).map(read).transpose()
    }
}

/// Refuses values of the `boot_mode` capability that the operator has ruled out.
pub(crate) fn check_boot_mode(properties: &JsonMap, disallowed: &[String]) -> Result<(), Fault> {
    let mode = match properties.get("capabilities") {
        Some(Json::String(s)) => {
            s.split(',').filter_map(|kv| kv.split_once(':')).find(|(k, _)| k.trim() == "boot_mode").map(|(_, v)| v.trim())
        }
        Some(Json::Object(m)) => m.get("boot_mode").and_then(Json::as_str),
        _ => None,
    };
    match mode.filter(|m| disallowed.iter().any(|d| d.eq_ignore_ascii_case(m))) {
        Some(m) => Err(Fault::new(FaultKind::Invalid, format!("Boot mode \"{m}\" is not allowed here."))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_reads_back_as_the_spec_it_was_made_of() {
        let body = json!({
            "driver": "fake-hardware", "name": "n", "extra": {"a": 1}, "properties": {"cpus": "4"}, "automated_clean": true,
            "resource_class": "x", "owner": "o", "instance_uuid": "bbbbbbbb-0000-4000-8000-000000000003",
        });
        let first = read(body.as_object().expect("object"), NodeSpec::default()).expect("reads");
        let again = read(&document(&first.spec), first.spec.clone()).expect("reads");
        assert_eq!(again.spec, first.spec);
    }

    #[test]
    fn wrong_types_and_lengths_are_refused() {
        for bad in [
            json!({}),
            json!({"driver": null}),
            json!({"driver": 5}),
            json!({"driver": ""}),
            json!({"driver": "d", "extra": []}),
            json!({"driver": "d", "maintenance": "banana"}),
            json!({"driver": "d", "owner": 5}),
            json!({"driver": "d", "resource_class": "r".repeat(81)}),
            json!({"driver": "d", "description": "r".repeat(4097)}),
            json!({"driver": "d", "properties": {"cpus": -1}}),
            json!({"driver": "d", "conductor_group": "a b"}),
        ] {
            assert!(read(bad.as_object().expect("object"), NodeSpec::default()).is_err(), "{bad}");
        }
    }
}
