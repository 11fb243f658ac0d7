//! `GET /openapi.json`: the OpenAPI 3.1 description of this API, made from the table of routes and the tables of fields.
//!
//! It tells paths, methods, the microversion that brought each, query parameters of lists and the attributes of bodies with their
//! types. Rules that span attributes are not in it. It needs no authentication: it holds nothing about this installation.

use std::sync::LazyLock;

use bessemer_model::{Json, JsonMap};
use serde_json::json;

use crate::{
    route::{self, Op},
    version::{
        FieldTable, Version,
        fields::{CREATE, ChassisField, NodeField, PATCH, PortField, PortgroupField},
    },
};

/// Attributes that are not text, by the names that every resource uses for them.
const TYPES: &[(&str, &[&str])] = &[
    (
        "boolean",
        &[
            "automated_clean",
            "available_for_dynamic_portgroup",
            "console_enabled",
            "detail",
            "disable_power_off",
            "disable_ramdisk",
            "enabled",
            "is_smartnic",
            "maintenance",
            "persistent",
            "protected",
            "public",
            "pxe_enabled",
            "retired",
            "sensitive",
            "standalone_ports_supported",
        ],
    ),
    (
        "object",
        &[
            "driver_info",
            "driver_internal_info",
            "extra",
            "instance_info",
            "internal_info",
            "inventory",
            "local_link_connection",
            "network_data",
            "plugin_data",
            "properties",
            "raid_config",
            "target_raid_config",
        ],
    ),
    (
        "array",
        &[
            "actions",
            "candidate_nodes",
            "clean_steps",
            "conditions",
            "deploy_steps",
            "events",
            "logical_disks",
            "service_steps",
            "steps",
            "traits",
        ],
    ),
    ("integer", &["boot_index", "priority", "timeout", "limit"]),
];

/// Attributes of the bodies of actions.
const ACTIONS: &[(&str, &[&str])] = &[
    ("maintenance", &["reason"]),
    ("states/power", &["target", "timeout"]),
    (
        "states/provision",
        &["target", "configdrive", "clean_steps", "deploy_steps", "service_steps", "rescue_password", "disable_ramdisk", "runbook"],
    ),
    ("states/raid", &["logical_disks"]),
    ("states/console", &["enabled"]),
    ("states/boot_mode", &["target"]),
    ("states/secure_boot", &["target"]),
    ("management/boot_device", &["boot_device", "persistent"]),
    ("traits", &["traits"]),
    ("vifs", &["id", "port_uuid", "portgroup_uuid"]),
    ("vmedia", &["device_type", "image_url", "image_download_source"]),
    ("events", &["events"]),
    ("continue_inspection", &["inventory", "plugin_data"]),
    (
        "portgroups",
        &[
            "uuid",
            "node_uuid",
            "address",
            "name",
            "extra",
            "mode",
            "properties",
            "standalone_ports_supported",
            "physical_network",
            "category",
        ],
    ),
    ("chassis", &["uuid", "description", "extra"]),
    ("volume/connectors", &["uuid", "node_uuid", "type", "connector_id", "extra"]),
    ("volume/targets", &["uuid", "node_uuid", "volume_type", "volume_id", "boot_index", "properties", "extra"]),
    ("allocations", &["uuid", "name", "node", "resource_class", "traits", "candidate_nodes", "extra", "owner"]),
    ("deploy_templates", &["uuid", "name", "description", "steps", "extra"]),
    ("runbooks", &["uuid", "name", "description", "steps", "disable_ramdisk", "extra", "owner", "public", "traits"]),
    ("inspection_rules", &["uuid", "description", "priority", "phase", "sensitive", "conditions", "actions"]),
];

/// Query parameters of a list.
const LIST: &[&str] = &["fields", "detail", "limit", "marker", "sort_key", "sort_dir"];

/// The description.
pub(crate) fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| build().to_string());
    &TEXT
}

fn build() -> Json {
    let mut paths = JsonMap::new();
    for e in route::described() {
        let (path, parameters) = template(e.path);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        let Some(item) = item.as_object_mut() else { continue };
        if !parameters.is_empty() {
            item.insert("parameters".into(), parameters.into());
        }
        let methods: &[&str] = if e.method == "*" { &["GET", "POST", "PUT", "PATCH", "DELETE"] } else { &[e.method] };
        for method in methods {
            item.insert(method.to_ascii_lowercase(), operation(method, e.path, e.since, e.op));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bessemer",
            "description": "The bare metal API v1.",
            "version": Version::MAX.to_string(),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": { "error_message": { "description": "Text that itself is JSON: faultcode, faultstring, debuginfo." } },
                },
                "Patch": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["op", "path"],
                        "properties": {
                            "op": { "enum": ["add", "replace", "remove"] },
                            "path": { "type": "string", "pattern": r"^(/[\w-]+)+$" },
                            "value": {},
                        },
                        "additionalProperties": false,
                    },
                },
            },
            "parameters": {
                "Version": {
                    "name": "X-OpenStack-Ironic-API-Version",
                    "in": "header",
                    "description": "The microversion that the client speaks; without it 1.1.",
                    "schema": { "type": "string", "pattern": r"^(1\.([1-9]|[1-9][0-9]|10[0-9]|11[0-5])|latest)$" },
                },
            },
        },
    })
}

/// The path with named parameters, and their descriptions.
fn template(path: &str) -> (String, Vec<Json>) {
    let mut out = String::from("/v1");
    let (mut before, mut parameters) = ("resource", Vec::new());
    for segment in path.split('/').filter(|s| !s.is_empty()) {
        out.push('/');
        if segment == "{}" {
            let name = format!("{}_ident", before.trim_end_matches('s'));
            out.push_str(&format!("{{{name}}}"));
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }));
        } else {
            out.push_str(segment);
            before = segment;
        }
    }
    (out, parameters)
}

fn operation(method: &str, path: &str, since: u16, op: Op) -> Json {
    let mut parameters = vec![json!({ "$ref": "#/components/parameters/Version" })];
    let list = method == "GET" && !path.ends_with("{}") && path.split('/').count() <= 3;
    for name in LIST.iter().filter(|_| list) {
        parameters.push(json!({ "name": name, "in": "query", "schema": { "type": type_of(name).unwrap_or("string") } }));
    }
    let error =
        json!({ "description": "Refused.", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let mut out = json!({
        "operationId": format!("{}-{}", method.to_ascii_lowercase(), path.replace("{}", "one").replace('/', "-")),
        "summary": format!("{op:?}, since microversion 1.{since}"),
        "parameters": parameters,
        "responses": { "2XX": { "description": "Done, or accepted." }, "4XX": error },
    });
    if let Some(schema) = body(method, path)
        && let Some(o) = out.as_object_mut()
    {
        o.insert("requestBody".into(), json!({ "content": { "application/json": { "schema": schema } } }));
    }
    out
}

fn body(method: &str, path: &str) -> Option<Json> {
    match (method, path) {
        ("PATCH", _) => Some(json!({ "$ref": "#/components/schemas/Patch" })),
        ("POST", "nodes") => Some(of_fields::<NodeField>()),
        ("POST", "ports") => Some(of_fields::<PortField>()),
        ("POST", "portgroups") => Some(of_fields::<PortgroupField>()),
        ("POST", "chassis") => Some(of_fields::<ChassisField>()),
        ("POST" | "PUT", _) => {
            let names =
                ACTIONS.iter().find(|(end, _)| path == *end || path.strip_prefix("nodes/{}/") == Some(end)).map_or(&[][..], |a| a.1);
            Some(json!({ "type": "object", "properties": properties(names.iter().copied()) }))
        }
        _ => None,
    }
}

fn of_fields<F: FieldTable>() -> Json {
    let names = F::ALL.iter().filter(|f| f.rule().is(CREATE) || f.rule().is(PATCH)).map(|f| f.name());
    json!({ "type": "object", "properties": properties(names) })
}

fn properties<'a>(names: impl Iterator<Item = &'a str>) -> JsonMap {
    let one = |n: &str| match type_of(n) {
        Some(t) => json!({ "type": t }),
        None => json!({ "type": ["string", "null"] }),
    };
    names.map(|n| (n.to_owned(), one(n))).collect()
}

fn type_of(name: &str) -> Option<&'static str> {
    TYPES.iter().find(|(_, names)| names.contains(&name)).map(|(t, _)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_its_parameters() {
        let d = build();
        let paths = d["paths"].as_object().expect("paths");
        for e in route::described() {
            let (path, parameters) = template(e.path);
            assert!(paths.contains_key(&path), "{path}");
            assert_eq!(path.matches('{').count(), parameters.len(), "{path}");
        }
        assert!(
            d["paths"]["/v1/nodes"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["driver"].is_object()
        );
        assert!(paths.len() > 80, "{}", paths.len());
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let d = build();
        let mut seen = std::collections::HashSet::new();
        for item in d["paths"].as_object().expect("paths").values() {
            for o in item.as_object().expect("item").values().filter_map(|o| o["operationId"].as_str()) {
                assert!(seen.insert(o.to_owned()), "{o} twice");
            }
        }
    }
}
