//! Node history as the API shows it (`api.md` section 3.7).

use crate::{
    clock::Timestamp,
    ids::{HistoryId, NodeId},
    state::ProvisionState,
};

/// An entry of a node's history.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 3.7, one to one")]
pub struct HistoryEntry {
    pub id: HistoryId,
    pub node: NodeId,
    pub created_at: Timestamp,
    /// `ERROR` or `INFO`.
    pub severity: String,
    pub event: String,
    /// `provisioning`, `deploying`, `cleaning`, `transition`…
    pub event_type: String,
    pub conductor: Option<String>,
    pub user: Option<String>,
    pub project: Option<String>,
    pub state: Option<ProvisionState>,
    pub target_provision_state: Option<ProvisionState>,
    pub duration_seconds: Option<f64>,
}
