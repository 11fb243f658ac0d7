//! Outbox events: written in the transaction that they tell of, read by streams.

use crate::{Json, clock::Timestamp, ids::NodeId};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEvent {
    /// Position in the stream; 0 until stored.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The node that it is about.
    pub node: Option<NodeId>,
    /// `node.provision_state`, `node.power_state`, `flow.step`…
    pub kind: String,
    /// Its data; no secrets.
    pub data: Json,
}
