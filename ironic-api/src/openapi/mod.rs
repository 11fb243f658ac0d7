//! `GET /openapi.json`: the OpenAPI 3.1 description of this API, made from the table of routes and the tables of fields.
//!
//! It tells paths, methods, the microversion that brought each, query parameters, the attributes of bodies with their types, which of
//! them must be there, and the types in answers. Rules that span attributes are not in it. It needs no authentication: it holds nothing
//! about this installation.

mod kind;
mod operation;

use std::sync::LazyLock;

use bessemer_model::{Json, JsonMap};
use serde_json::json;

use crate::{
    route::{self, Described},
    version::Version,
};

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
            item.insert(method.to_ascii_lowercase(), operation(&e, method));
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
            "responses": {
                "Refused": {
                    "description": "Refused; nothing was changed.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
                "NotBuilt": {
                    "description": "A known request that this server does not carry out yet; nothing was changed.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
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

/// What a variable segment names, by the segment before it.
fn subject(before: &str) -> &str {
    match before {
        "boot_device" | "console" | "heartbeat" | "maintenance" | "power" | "provision" | "states" => "node",
        "bios" => "setting",
        "history" => "entry",
        "vendor_passthru" => "method",
        "chassis" => "chassis",
        plural => plural.trim_end_matches('s'),
    }
}

/// The path with named parameters, and their descriptions.
fn template(path: &str) -> (String, Vec<Json>) {
    let mut out = String::from("/v1");
    let (mut before, mut parameters) = ("resource", Vec::new());
    for segment in path.split('/').filter(|s| !s.is_empty()) {
        out.push('/');
        if segment == "{}" {
            let name = format!("{}_ident", subject(before));
            out.push_str(&format!("{{{name}}}"));
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }));
        } else {
            out.push_str(segment);
            before = segment;
        }
    }
    (out, parameters)
}

fn operation(e: &Described, method: &str) -> Json {
    let mut parameters = vec![json!({ "$ref": "#/components/parameters/Version" })];
    for name in operation::query(e.op) {
        parameters.push(json!({ "name": name, "in": "query", "schema": operation::parameter(e.op, name) }));
    }
    let error = json!({ "$ref": "#/components/responses/Refused" });
    let mut responses = JsonMap::new();
    match operation::answer(e.op) {
        Some((status, schema)) => {
            responses.insert(status.to_owned(), json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } }))
        }
        None => responses.insert("2XX".to_owned(), json!({ "description": "Done, or accepted." })),
    };
    responses.insert("4XX".to_owned(), error.clone());
    responses.insert("501".to_owned(), json!({ "$ref": "#/components/responses/NotBuilt" }));
    responses.insert("503".to_owned(), error);
    let mut out = json!({
        "operationId": format!("{}-{}", method.to_ascii_lowercase(), e.path.replace("{}", "one").replace('/', "-")),
        "summary": format!("{:?}, since microversion 1.{}", e.op, e.since),
        "x-since": format!("1.{}", e.since),
        "parameters": parameters,
        "responses": responses,
    });
    if let (Some(schema), Some(o)) = (operation::body(method, e.op), out.as_object_mut()) {
        o.insert("requestBody".into(), json!({ "content": { "application/json": { "schema": schema } } }));
    }
    out
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
