//! The bare metal API, spoken directly: used to watch nodes, and to drive them where no command
//! line is wanted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::http::{self, Reply};

/// The API version that the lab speaks.
pub const VERSION: &str = "1.95";

const LIMIT: Duration = Duration::from_secs(30);

/// A daemon's API without authentication.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
}

impl Api {
    /// `base` is `http://HOST:PORT`.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned() }
    }

    /// Address of the API, `http://HOST:PORT`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and returns the answer, whatever its status.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let headers = [("X-OpenStack-Ironic-API-Version", VERSION), ("Content-Type", "application/json"), ("Accept", "application/json")];
        let body = body.map(serde_json::to_vec).transpose()?;
        http::request(method, &format!("{}{path}", self.base), &headers, body.as_deref(), LIMIT)
    }

    /// Sends a request that must succeed and returns its JSON.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let reply = self.send(method, path, body)?;
        ensure!((200..300).contains(&reply.status), "{method} {path}: status {}: {}", reply.status, fault(&reply));
        reply.json()
    }

    /// A node, by name or UUID.
    pub fn node(&self, node: &str) -> Result<Value> {
        self.call("GET", &format!("/v1/nodes/{node}"), None)
    }

    /// Asks for a change of the provision state; `extra` are further members of the body.
    pub fn provision(&self, node: &str, target: &str, extra: &[(&str, Value)]) -> Result<()> {
        let mut body = json!({ "target": target });
        if let Value::Object(body) = &mut body {
            body.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        }
        self.call("PUT", &format!("/v1/nodes/{node}/states/provision"), Some(&body)).map(drop)
    }

    /// Adds or replaces fields of a node; paths are JSON pointers such as `/instance_info/a`.
    pub fn patch(&self, node: &str, fields: &[(&str, Value)]) -> Result<Value> {
        let patch: Vec<Value> = fields.iter().map(|(path, value)| json!({"op": "add", "path": path, "value": value})).collect();
        self.call("PATCH", &format!("/v1/nodes/{node}"), Some(&Value::Array(patch)))
    }

    /// What inspection stored of a node.
    pub fn inventory(&self, node: &str) -> Result<Value> {
        let found = self.call("GET", &format!("/v1/nodes/{node}/inventory"), None)?;
        found.get("inventory").cloned().context("the answer holds no inventory")
    }
}

/// The words of an error answer: its `error_message`, which may be JSON within a string.
fn fault(reply: &Reply) -> String {
    let Ok(body) = reply.json() else { return reply.text() };
    let message = &body["error_message"];
    let inner = message.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let told = inner.as_ref().unwrap_or(message);
    told["faultstring"].as_str().or(told.as_str()).map_or_else(|| reply.text(), str::to_owned)
}
