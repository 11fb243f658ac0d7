//! What the conductor remembers of a ramdisk that spoke to it (`states.md` appendix B, first row).

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The last heartbeat of a node's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// `callback_url` of the heartbeat.
    pub url: Option<String>,
    /// `agent_version`.
    pub version: Option<String>,
    /// When it last spoke.
    pub last_heartbeat: Option<Timestamp>,
    /// PEM certificate that its API is pinned to.
    pub verify_ca: Option<String>,
    /// `agent_status`: start, end or error.
    pub status: Option<String>,
    /// `agent_status_message`.
    pub status_message: Option<String>,
}
