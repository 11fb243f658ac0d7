//! A conductor process and its lease.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What a hardware type offers on one conductor: per interface the enabled implementations and the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverOffer {
    /// Interface name → enabled implementations, in the hardware type's order.
    pub enabled: BTreeMap<String, Vec<String>>,
    /// Interface name → default implementation.
    pub default: BTreeMap<String, String>,
}

/// A conductor as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Conductor {
    /// Order of creation.
    pub seq: i64,
    /// Unique name.
    pub hostname: String,
    /// Group served.
    pub conductor_group: String,
    /// Hardware types offered.
    pub drivers: BTreeMap<String, DriverOffer>,
    /// Grows each time a process takes the row.
    pub epoch: i64,
    /// When the lease ends.
    pub expires_at: Timestamp,
    /// Where other daemons reach it (`http://…`), when they can.
    pub address: Option<String>,
    /// First registration.
    pub created_at: Timestamp,
    /// Last renewal.
    pub updated_at: Timestamp,
}

/// Proof of holding a node: every write of status and every effect carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: crate::ids::NodeId,
    /// Epoch of the holder.
    pub epoch: i64,
    /// Grows by one with every taking of the node.
    pub fence: i64,
}
