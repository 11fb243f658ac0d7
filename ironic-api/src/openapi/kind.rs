//! What the values of attributes and query parameters may be, by the names that every resource uses for them.

use bessemer_model::Json;
use serde_json::json;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Text of at most so many characters.
    Text(u32),
    /// A name: unreserved characters of RFC 3986.
    Name,
    Uuid,
    Mac,
    Bool,
    /// A whole number in this range.
    Whole(i64, i64),
    Object,
    /// A list of objects.
    Objects,
    /// A list of texts.
    Texts,
    /// A list of names of traits.
    Traits,
    Address,
    OneOf(&'static [&'static str]),
    /// Steps; the key that orders them, and whether it and `args` must be there.
    Steps(&'static str, bool),
    /// A schema of its own, as JSON.
    Own(&'static str),
}

use Kind::{Address, Bool, Mac, Name, Object, Objects, OneOf, Own, Steps, Text, Texts, Traits, Uuid, Whole};

const INTERFACES: &[&str] = &["bios", "deploy", "firmware", "management", "power", "raid", "vendor"];
const MAX: i64 = i32::MAX as i64;

/// Kinds by name; a name that is not here is text of at most 255 characters.
const NAMED: &[(&str, Kind)] = &[
    ("actions", Own(r#"{"type":"array","minItems":1,"items":{"type":"object","required":["op","args"]}}"#)),
    ("address", Mac),
    ("agent_verify_ca", Text(65_535)),
    ("alive", Bool),
    ("allocation_uuid", Uuid),
    ("automated_clean", Bool),
    ("available_for_dynamic_portgroup", Bool),
    ("boot_mode", Text(65_535)),
    ("boot_index", Whole(0, MAX)),
    ("candidate_nodes", Texts),
    ("category", Text(80)),
    ("chassis_uuid", Uuid),
    ("clean_step", Object),
    ("conditions", Own(r#"{"type":"array","items":{"type":"object","required":["op","args"]}}"#)),
    ("conductor_group", Own(r#"{"type":"string","maxLength":255,"pattern":"^[A-Za-z0-9_.-]*$"}"#)),
    ("console_enabled", Bool),
    ("deploy_step", Object),
    ("disable_power_off", Bool),
    ("disable_ramdisk", Bool),
    ("driver_info", Object),
    ("driver_internal_info", Object),
    ("drivers", Texts),
    ("dynamic_portgroup", Bool),
    ("extra", Object),
    ("hosts", Texts),
    ("instance_info", Object),
    ("instance_uuid", Uuid),
    ("internal_info", Object),
    ("inventory", Object),
    ("is_smartnic", Bool),
    ("lessee", Text(65_535)),
    ("last_error", Text(u32::MAX)),
    ("links", Objects),
    ("local_link_connection", Object),
    ("logical_disks", Own(r#"{"type":"array","minItems":1,"items":{"type":"object","required":["size_gb","raid_level"]}}"#)),
    ("maintenance", Bool),
    ("maintenance_reason", Text(u32::MAX)),
    ("mode", Text(65_535)),
    ("name", Name),
    ("network_data", Object),
    ("node_uuid", Uuid),
    ("nodes", Objects),
    ("owner", Text(65_535)),
    ("persistent", Bool),
    ("phase", OneOf(&["main"])),
    ("physical_network", Text(64)),
    ("plugin_data", Object),
    ("port_uuid", Uuid),
    ("portgroup_uuid", Uuid),
    ("portgroups", Objects),
    ("ports", Objects),
    ("priority", Whole(0, 9999)),
    ("properties", Object),
    ("protected", Bool),
    ("protected_reason", Text(65_535)),
    ("public", Bool),
    ("pxe_enabled", Bool),
    ("raid_config", Object),
    ("resource_class", Text(80)),
    ("retired", Bool),
    ("retired_reason", Text(65_535)),
    ("secure_boot", Bool),
    ("sensitive", Bool),
    ("service_step", Object),
    ("shard", Text(2_600)),
    ("standalone_ports_supported", Bool),
    ("states", Objects),
    ("steps", Objects),
    ("target_raid_config", Object),
    ("traits", Traits),
    ("uuid", Uuid),
    ("vendor", Text(32)),
    ("volume", Objects),
    // Query parameters.
    ("associated", Bool),
    ("detail", Bool),
    ("include_children", Bool),
    ("limit", Whole(1, MAX)),
    ("marker", Uuid),
    ("project", Text(255)),
    ("reset_interfaces", Bool),
    ("sharded", Bool),
    ("sort_dir", OneOf(&["asc", "desc"])),
];

/// The kind of the values of an attribute or query parameter.
pub(super) fn of(name: &str) -> Kind {
    NAMED.iter().find(|(n, _)| *n == name).map_or(Text(255), |(_, k)| *k)
}

impl Kind {
    /// The schema of a value that a request gives.
    pub(super) fn given(self) -> Json {
        match self {
            Text(u32::MAX) => json!({ "type": "string" }),
            Text(max) => json!({ "type": "string", "maxLength": max }),
            Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9._~-]+$", "maxLength": 255 }),
            Uuid => json!({ "type": "string", "format": "uuid" }),
            Mac => json!({ "type": "string", "pattern": "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$" }),
            Bool => json!({ "type": "boolean" }),
            Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Object => json!({ "type": "object" }),
            Objects => json!({ "type": "array", "items": { "type": "object" } }),
            Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Traits => {
                json!({ "type": "array", "items": { "type": "string", "pattern": "^(CUSTOM_[A-Z0-9_]+|[A-Z0-9_]+)$", "maxLength": 255 } })
            }
            Address => json!({ "type": "string", "format": "uri", "pattern": "^https?://", "maxLength": 2048 }),
            OneOf(names) => json!({ "enum": names }),
            Steps(order, strict) => steps(order, strict),
            Own(text) => serde_json::from_str(text).unwrap_or_default(),
        }
    }

    /// The schema of a value in an answer: the type only, or null.
    pub(super) fn shown(self) -> Json {
        let name = match self {
            Bool => "boolean",
            Whole(..) => "integer",
            Object => "object",
            Objects | Texts | Traits | Steps(..) => "array",
            Text(_) | Name | Uuid | Mac | Address | OneOf(_) => "string",
            Own(_) => self.given().get("type").and_then(Json::as_str).map_or("object", |t| if t == "array" { "array" } else { "string" }),
        };
        json!({ "type": [name, "null"] })
    }
}

fn steps(order: &str, strict: bool) -> Json {
    let required: Vec<&str> = if strict { vec!["interface", "step", "args", order] } else { vec!["interface", "step"] };
    json!({
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": required,
            "properties": {
                "interface": { "enum": INTERFACES },
                "step": { "type": "string", "minLength": 1 },
                "args": { "type": "object" },
                order: { "type": "integer", "minimum": 0, "maximum": MAX },
            },
            "additionalProperties": false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_one_row_each_and_schemas_of_their_own_are_json() {
        for (i, (name, kind)) in NAMED.iter().enumerate() {
            assert!(NAMED[..i].iter().all(|(n, _)| n != name), "{name} twice");
            assert!(kind.given().is_object(), "{name}");
            assert!(kind.shown()["type"][0].is_string(), "{name}");
        }
    }
}
