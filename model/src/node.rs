//! A node: what its owner wrote ([`NodeSpec`]) and what the conductor knows ([`NodeStatus`]).
//!
//! **Every column has one owner.** The API writes `spec` under a compare-and-set on `revision`; a conductor writes `status` under the
//! fence of its claim. A flow that must write `spec` (tear-down empties `instance_info`, hooks set properties) needs both.

use serde::{Deserialize, Serialize};

use crate::{
    Json, JsonMap,
    clock::Timestamp,
    ids::NodeId,
    state::{PowerState, ProvisionState},
};

pub use crate::interfaces::Interfaces;

/// Why a node went into maintenance by itself (`states.md` section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeFault {
    /// Power sync could not read or set the power.
    #[serde(rename = "power failure")]
    PowerFailure,
    /// A cleaning step failed.
    #[serde(rename = "clean failure")]
    CleanFailure,
    /// Cleaning up after an aborted rescue failed.
    #[serde(rename = "rescue abort failure")]
    RescueAbortFailure,
    /// A service step failed.
    #[serde(rename = "service failure")]
    ServiceFailure,
}

impl NodeFault {
    /// Every fault.
    pub const ALL: &'static [Self] = &[Self::PowerFailure, Self::CleanFailure, Self::RescueAbortFailure, Self::ServiceFailure];
    /// The string on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerFailure => "power failure",
            Self::CleanFailure => "clean failure",
            Self::RescueAbortFailure => "rescue abort failure",
            Self::ServiceFailure => "service failure",
        }
    }
    /// The fault with this wire name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.as_str() == s)
    }
}

/// Columns written by the API for the node's owner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of api.md section 3.3, one to one")]
pub struct NodeSpec {
    pub name: Option<String>,
    pub driver: String,
    pub interfaces: Interfaces,
    /// Secrets in here are [`crate::secret::MASK`] unless the node was read with its secrets.
    pub driver_info: JsonMap,
    pub properties: JsonMap,
    pub extra: JsonMap,
    pub instance_info: JsonMap,
    pub instance_uuid: Option<uuid::Uuid>,
    pub instance_name: Option<String>,
    pub chassis_uuid: Option<uuid::Uuid>,
    pub resource_class: Option<String>,
    pub conductor_group: String,
    pub automated_clean: Option<bool>,
    pub protected: bool,
    pub protected_reason: Option<String>,
    pub owner: Option<String>,
    pub lessee: Option<String>,
    pub description: Option<String>,
    pub retired: bool,
    pub retired_reason: Option<String>,
    pub network_data: JsonMap,
    pub shard: Option<String>,
    pub parent_node: Option<NodeId>,
    /// `None` after a patch removed it; means the same as `Some(false)`.
    pub disable_power_off: Option<bool>,
    pub maintenance: bool,
    pub maintenance_reason: Option<String>,
    /// Why the program itself set maintenance; cleared with it.
    pub fault: Option<NodeFault>,
    pub target_raid_config: JsonMap,
}

macro_rules! status {
    ($($(#[$doc:meta])* $f:ident: $t:ty,)*) => {
        /// Columns written by conductors, only under the fence of a claim.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "the fields are those of api.md section 3.3, one to one")]
        pub struct NodeStatus { $($(#[$doc])* pub $f: $t,)* }

        /// A set of status columns to write; `None` leaves a column as it is.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(missing_docs, reason = "same fields as NodeStatus")]
        pub struct NodeChange { $(pub $f: Option<$t>,)* }

        impl NodeChange {
            /// Whether nothing would be written.
            #[must_use]
            pub fn is_empty(&self) -> bool { true $(&& self.$f.is_none())* }
            /// Applies the change to a copy in memory.
            pub fn apply(&self, s: &mut NodeStatus) { $(if let Some(v) = &self.$f { s.$f = v.clone(); })* }
            /// This change, overridden by what `other` sets.
            #[must_use]
            pub fn and(mut self, other: Self) -> Self { $(if other.$f.is_some() { self.$f = other.$f; })* self }
        }
    };
}

status! {
    provision_state: ProvisionState,
    target_provision_state: Option<ProvisionState>,
    provision_updated_at: Option<Timestamp>,
    power_state: Option<PowerState>,
    /// Wire name of the state that a power action is driving to.
    target_power_state: Option<PowerState>,
    last_error: Option<String>,
    /// Free-form facts of `states.md` appendix B; agent and step keys are rendered from other rows, not stored here.
    driver_internal_info: JsonMap,
    inspection_started_at: Option<Timestamp>,
    inspection_finished_at: Option<Timestamp>,
    boot_mode: Option<String>,
    secure_boot: Option<bool>,
    health: Option<String>,
    raid_config: JsonMap,
    console_enabled: bool,
}

impl NodeStatus {
    /// The status of a node that was just created.
    #[must_use]
    pub fn new(state: ProvisionState) -> Self {
        Self {
            provision_state: state,
            target_provision_state: None,
            provision_updated_at: None,
            power_state: None,
            target_power_state: None,
            last_error: None,
            driver_internal_info: JsonMap::new(),
            inspection_started_at: None,
            inspection_finished_at: None,
            boot_mode: None,
            secure_boot: None,
            health: None,
            raid_config: JsonMap::new(),
            console_enabled: false,
        }
    }
}

/// A node as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Identity on the wire.
    pub id: NodeId,
    /// Order of creation; the default sort key.
    pub seq: i64,
    /// Grows with every write of `spec`.
    pub revision: i64,
    /// Creation.
    pub created_at: Timestamp,
    /// Last write of any column that clients see.
    pub updated_at: Option<Timestamp>,
    /// What its owner wrote.
    pub spec: NodeSpec,
    /// What the conductor knows.
    pub status: NodeStatus,
    /// Traits, sorted.
    pub traits: Vec<String>,
    /// The allocation that it was given to.
    pub allocation: Option<crate::ids::AllocationId>,
    /// Host of the process that runs a step on it right now.
    pub reservation: Option<String>,
    /// The conductor that last took it over or ran a step.
    pub conductor_affinity: Option<String>,
    /// What the ramdisk last said; absent when no ramdisk has spoken since the last power-off.
    pub agent: Option<crate::agent::AgentState>,
    /// Whether a token has been minted for the running ramdisk.
    pub has_agent_token: bool,
    /// The provision flow in progress, for rendering `clean_step` and its like.
    pub flow: Option<crate::flow::Flow>,
}

impl Node {
    /// A property given as text or number, as text.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<String> {
        match self.spec.properties.get(key)? {
            Json::String(s) => Some(s.clone()),
            Json::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// Whether the machine must never be powered off.
    #[must_use]
    pub fn keeps_power(&self) -> bool {
        self.spec.disable_power_off == Some(true)
    }

    /// A capability of `properties/capabilities` (`k:v,k:v` or an object).
    #[must_use]
    pub fn capability(&self, key: &str) -> Option<String> {
        capability(self.spec.properties.get("capabilities"), key)
    }

    /// A capability of `instance_info/capabilities`.
    #[must_use]
    pub fn instance_capability(&self, key: &str) -> Option<String> {
        capability(self.spec.instance_info.get("capabilities"), key)
    }
}

fn capability(value: Option<&Json>, key: &str) -> Option<String> {
    match value? {
        Json::Object(m) => match m.get(key)? {
            Json::String(s) => Some(s.clone()),
            other => Some(other.to_string()),
        },
        Json::String(s) => {
            if let Ok(Json::Object(m)) = serde_json::from_str(s) {
                return capability(Some(&Json::Object(m)), key);
            }
            s.split(',').filter_map(|kv| kv.split_once(':')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().to_owned())
        }
        _ => None,
    }
}
