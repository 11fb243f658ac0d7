//! Body of `POST /v1/continue_inspection` and its answer.

use crate::inventory::{Disk, Inventory};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the agent posts when it has looked at the hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InspectionReport {
    /// The hardware. Absent when the `default` collector was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The disk that a deployment without hints would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk: Option<Disk>,
    /// MAC (or `01-` form) of the interface the machine was booted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_interface: Option<String>,
    /// Collectors that were run and the agent's hardware managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Value>,
    /// Failures of collectors, null when there was none.
    #[serde(default)]
    pub error: Option<String>,
    /// Data of further collectors (`logs`, `pci_devices`, `lldp_raw`, `dmi`…).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Answer to an inspection report; only the node's id matters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InspectionReply {
    /// Node id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl InspectionReply {
    /// The node's id, be it at the top or within `node`.
    pub fn node_uuid(&self) -> Option<&str> {
        self.uuid.as_deref().or_else(|| self.rest.get("node")?.get("uuid")?.as_str())
    }
}
