//! What the store's methods about volumes and allocations take and give beside the model's own types.

use bessemer_model::ids::{AllocationId, NodeId, VolumeId};

use crate::types::Page;

/// A page of volume connectors or targets.
pub type VolumePage = Page<VolumeId, VolumeSort>;
/// A page of allocations.
pub type AllocationPage = Page<AllocationId, AllocationSort>;
/// Columns that volume connectors or targets can be sorted by; each kind has its part ([`crate::VolumeDetail::SORTS`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum VolumeSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Type,
    ConnectorId,
    VolumeType,
    VolumeId,
    BootIndex,
    CreatedAt,
    UpdatedAt,
}

/// Columns that allocations can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum AllocationSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Name,
    State,
    LastError,
    ResourceClass,
    Owner,
    CreatedAt,
    UpdatedAt,
}

impl AllocationSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[
        Self::Created,
        Self::Uuid,
        Self::Name,
        Self::State,
        Self::LastError,
        Self::ResourceClass,
        Self::Owner,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];
}

/// Conditions on volume connectors or targets, all of which must hold.
#[derive(Clone, Debug, Default)]
pub struct VolumeFilter {
    /// Of this node.
    pub node: Option<NodeId>,
    /// Owner or lessee of the node.
    pub project: Option<String>,
}

/// Conditions on allocations, all of which must hold.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named after the query parameters")]
pub struct AllocationFilter {
    pub node: Option<NodeId>,
    pub resource_class: Option<String>,
    /// As on the wire; one that does not exist matches nothing.
    pub state: Option<String>,
    pub owner: Option<String>,
}

/// Proof that a conductor may give an allocation its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationClaim {
    /// The allocation.
    pub allocation: AllocationId,
    /// Epoch of the conductor.
    pub epoch: i64,
    /// Grows with every taking.
    pub fence: i64,
}
