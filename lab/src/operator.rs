//! The person at the keyboard: the same acts by our command line, by python-ironicclient's, or
//! by the API itself.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::api::Api;
use crate::cli::Baremetal;

const LIMIT: Duration = Duration::from_secs(90);

/// How acts are done. Watching is always done by the API, so that it costs little.
#[derive(Debug, Clone)]
pub enum Operator {
    /// Requests to the API.
    Api(Api),
    /// A `baremetal` command, and the API for watching.
    Cli(Baremetal, Api),
}

/// A node to enroll.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Name.
    pub name: String,
    /// Hardware type.
    pub driver: String,
    /// Interfaces by kind (`boot`, `inspect`, …); others stay the hardware type's own choice.
    pub interfaces: Vec<(String, String)>,
    /// Members of `driver_info`.
    pub driver_info: Value,
    /// Members of `properties`.
    pub properties: Value,
    /// Addresses of its network cards.
    pub macs: Vec<String>,
}

impl Operator {
    /// The API that is watched.
    #[must_use]
    pub fn api(&self) -> &Api {
        match self {
            Self::Api(api) | Self::Cli(_, api) => api,
        }
    }

    /// Creates the node and its ports; returns the node's UUID.
    pub fn enroll(&self, spec: &NodeSpec) -> Result<String> {
        match self {
            Self::Api(api) => {
                let mut body = json!({
                    "name": spec.name, "driver": spec.driver,
                    "driver_info": spec.driver_info, "properties": spec.properties,
                });
                for (kind, name) in &spec.interfaces {
                    body[format!("{kind}_interface")] = json!(name);
                }
                let node = api.call("POST", "/v1/nodes", Some(&body))?;
                let uuid = node["uuid"].as_str().context("a node without UUID was created")?.to_owned();
                for mac in &spec.macs {
                    let port = json!({"node_uuid": uuid, "address": mac});
                    api.call("POST", "/v1/ports", Some(&port))?;
                }
                Ok(uuid)
            }
            Self::Cli(cli, _) => {
                let mut args: Vec<String> = ["node", "create", "--name", &spec.name, "--driver", &spec.driver].map(String::from).to_vec();
                for (kind, name) in &spec.interfaces {
                    args.extend([format!("--{kind}-interface"), name.clone()]);
                }
                for (option, members) in [("--driver-info", &spec.driver_info), ("--property", &spec.properties)] {
                    args.extend(pairs(members).into_iter().flat_map(|pair| [option.to_owned(), pair]));
                }
                let words: Vec<&str> = args.iter().map(String::as_str).collect();
                let node = cli.json(&words, LIMIT)?;
                let uuid = node["uuid"].as_str().context("a node without UUID was created")?.to_owned();
                for mac in &spec.macs {
                    cli.run(&["port", "create", mac, "--node", &uuid], LIMIT)?;
                }
                Ok(uuid)
            }
        }
    }

    /// One of `manage`, `inspect`, `provide`, `undeploy`, `rebuild`, `abort`, `adopt`.
    pub fn verb(&self, node: &str, verb: &str) -> Result<()> {
        match self {
            Self::Api(api) => api.provision(node, if verb == "undeploy" { "deleted" } else { verb }, &[]),
            Self::Cli(cli, _) => cli.run(&["node", verb, node], LIMIT).map(drop),
        }
    }

    /// Sets members of `instance_info`.
    pub fn instance_info(&self, node: &str, members: &Value) -> Result<()> {
        match self {
            Self::Api(api) => {
                let fields: Vec<(String, Value)> = members
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (format!("/instance_info/{name}"), value.clone()))
                    .collect();
                let fields: Vec<(&str, Value)> = fields.iter().map(|(p, v)| (p.as_str(), v.clone())).collect();
                api.patch(node, &fields).map(drop)
            }
            Self::Cli(cli, _) => {
                let pairs = pairs(members);
                let mut args = vec!["node", "set", node];
                args.extend(pairs.iter().flat_map(|pair| ["--instance-info", pair.as_str()]));
                cli.run(&args, LIMIT).map(drop)
            }
        }
    }

    /// Starts a deployment; the config drive is given as the object it is built from.
    pub fn deploy(&self, node: &str, config_drive: &Value) -> Result<()> {
        match self {
            Self::Api(api) => api.provision(node, "active", &[("configdrive", config_drive.clone())]),
            Self::Cli(cli, _) => {
                let text = config_drive.to_string();
                cli.run(&["node", "deploy", node, "--config-drive", &text], LIMIT).map(drop)
            }
        }
    }

    /// Marks the node as retired.
    pub fn retire(&self, node: &str, reason: &str) -> Result<()> {
        match self {
            Self::Api(api) => {
                let fields = [("/retired", json!(true)), ("/retired_reason", json!(reason))];
                api.patch(node, &fields).map(drop)
            }
            Self::Cli(cli, _) => cli.run(&["node", "set", node, "--retired", "--retired-reason", reason], LIMIT).map(drop),
        }
    }

    /// Removes the node.
    pub fn delete(&self, node: &str) -> Result<()> {
        match self {
            Self::Api(api) => api.call("DELETE", &format!("/v1/nodes/{node}"), None).map(drop),
            Self::Cli(cli, _) => cli.run(&["node", "delete", node], LIMIT).map(drop),
        }
    }
}

/// `name=value` for each member; values that are not text as JSON.
fn pairs(members: &Value) -> Vec<String> {
    let all = members.as_object().into_iter().flatten();
    all.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    })
    .collect()
}
