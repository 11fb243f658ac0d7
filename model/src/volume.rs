//! Remote volumes of a node (`api.md` section 10): connectors, by which the node reaches storage, and targets, what it reaches.

use crate::{
    JsonMap,
    clock::Timestamp,
    ids::{NodeId, VolumeId},
};

/// A volume connector or target as stored; `D` tells which.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<D> {
    /// Identity on the wire.
    pub id: VolumeId,
    /// Order of creation; the default sort key.
    pub seq: i64,
    /// Grows with every write.
    pub revision: i64,
    /// Creation.
    pub created_at: Timestamp,
    /// Last write.
    pub updated_at: Option<Timestamp>,
    /// Whose it is.
    pub node: NodeId,
    /// Whatever its owner keeps with it.
    pub extra: JsonMap,
    /// What is particular to the kind.
    pub detail: D,
}

/// How a node reaches storage: an initiator's name or address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connector {
    /// `type`: `iqn`, `ip`, `mac`, `wwnn`, `wwpn`, `port`, `portgroup`, or whatever else was given.
    pub kind: String,
    /// Unique together with the type.
    pub connector_id: String,
}

/// A volume that a node is attached to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// `iscsi`, `fibre_channel`, or whatever else was given.
    pub volume_type: String,
    /// Name of the volume in its storage system.
    pub volume_id: String,
    /// Unique per node; 0 is what the node boots from.
    pub boot_index: i64,
    /// How to reach it. Secrets in here are [`crate::secret::MASK`] unless the target was read with its secrets.
    pub properties: JsonMap,
}

/// A volume connector.
pub type VolumeConnector = Volume<Connector>;
/// A volume target.
pub type VolumeTarget = Volume<Target>;
