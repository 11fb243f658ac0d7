//! Lookup and heartbeat bodies.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Answer of `GET /v1/lookup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupReply {
    /// The machine's node.
    pub node: LookupNode,
    /// Settings for the agent.
    pub config: LookupConfig,
}

/// The node as lookup shows it: `uuid` and whatever else the API renders (properties, instance_info, links…).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupNode {
    /// Node id.
    pub uuid: String,
    /// All other fields, untouched.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `config` of a lookup answer. Unknown keys are kept in `rest`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct LookupConfig {
    /// Seconds after which the conductor calls the agent lost.
    pub heartbeat_timeout: u64,
    /// The token on the first lookup of a boot, [`crate::HIDDEN_TOKEN`] later, null when tokens are off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<String>,
    /// Whether md5 checksums of images may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_md5_checksum_enable: Option<bool>,
    /// Whether the format of images is left unchecked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_deep_image_inspection: Option<bool>,
    /// Formats that may be written: a list, or a comma-separated text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permitted_image_formats: Option<Value>,
    /// Whether the search for the BMC is left out of the inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_skip_bmc_detect: Option<bool>,
    /// Whether a BIOS boot loader may be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_bios_bootloader_install: Option<bool>,
    /// All other keys (`metrics`, `metrics_statsd`, `agent_containers`, …).
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

// The token must not reach a log through `{:?}`.
impl fmt::Debug for LookupConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupConfig")
            .field("heartbeat_timeout", &self.heartbeat_timeout)
            .field("agent_token", &self.agent_token.as_ref().map(|_| "<redacted>"))
            .finish_non_exhaustive()
    }
}

/// Body of `POST /v1/heartbeat/{uuid}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `proto://ip:port` of the agent's API; IPv6 in brackets.
    pub callback_url: String,
    /// Token (microversion 1.62).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<String>,
    /// Version of the agent (microversion 1.36).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// PEM certificate by which the agent's API is verified (microversion 1.68).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_verify_ca: Option<String>,
    /// `start`, `end` or `error` (microversion 1.72).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_status: Option<String>,
    /// Free text (microversion 1.72); this agent reports the last words of a crashed predecessor here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_status_message: Option<String>,
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("callback_url", &self.callback_url)
            .field("agent_token", &self.agent_token.as_ref().map(|_| "<redacted>"))
            .field("agent_version", &self.agent_version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lookup_answer_keeps_keys_it_does_not_know() {
        let text = json!({"node": {"uuid": "u", "properties": {"cpus": 1}},
                          "config": {"heartbeat_timeout": 300, "metrics": {"backend": "noop"}}});
        let reply: LookupReply = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(reply.config.heartbeat_timeout, 300);
        assert_eq!(serde_json::to_value(&reply).unwrap(), text);
    }

    #[test]
    fn tokens_stay_out_of_debug_output() {
        let config: LookupConfig = serde_json::from_value(json!({"heartbeat_timeout": 1, "agent_token": "hunter2"})).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn absent_heartbeat_fields_are_not_sent_at_all() {
        let beat = Heartbeat {
            callback_url: "https://192.0.2.1:9999".into(),
            agent_token: None,
            agent_version: None,
            agent_verify_ca: None,
            agent_status: None,
            agent_status_message: None,
        };
        assert_eq!(serde_json::to_value(&beat).unwrap(), json!({"callback_url": "https://192.0.2.1:9999"}));
    }
}
