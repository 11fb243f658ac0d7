//! Steps that the agent offers and runs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A step as the agent lists it, and as the conductor sends it back to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStep {
    /// Step name.
    pub step: String,
    /// Interface it belongs to (`deploy`, `raid`, …).
    pub interface: String,
    /// Automated order: higher runs first, 0 only when asked for.
    #[serde(default)]
    pub priority: i64,
    /// Whether the machine must be rebooted afterwards.
    #[serde(default)]
    pub reboot_requested: bool,
    /// Whether it may be aborted.
    #[serde(default)]
    pub abortable: bool,
    /// Documentation of the arguments, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argsinfo: Option<Value>,
    /// Arguments (only in a step that is to be run).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Map<String, Value>>,
}

/// Steps by the hardware manager that offers them.
pub type StepsByManager = BTreeMap<String, Vec<AgentStep>>;

/// Versions of the hardware managers by name.
pub type ManagerVersions = BTreeMap<String, String>;
