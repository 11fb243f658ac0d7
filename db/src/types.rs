//! What the store's methods take and give beside the model's own types. Plain data; nothing here touches a database.

use std::{net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use bessemer_model::{
    Json,
    agent::AgentState,
    clock::Timestamp,
    event::OutboxEvent,
    firmware::{BiosSetting, FirmwareComponent},
    flow::{Flow, FlowLogEntry, Lane},
    history::HistoryEntry,
    ids::{HistoryId, NodeId, PortId, PortgroupId},
    interface::InterfaceKind,
    node::{NodeChange, NodeFault, NodeSpec, NodeStatus},
    port::Port,
    secret::Secret,
    state::ProvisionState,
};

/// One page of a list (`api.md` section 1.6).
#[derive(Clone, Debug)]
pub struct Page<Id, Sort> {
    /// At most so many rows.
    pub limit: u32,
    /// The last row of the page before; [`crate::DbError::NotFound`] when it does not exist.
    pub marker: Option<Id>,
    /// What to sort by; ties go by order of creation, in the same direction.
    pub sort: Sort,
    /// From high to low; NULLs are lowest.
    pub desc: bool,
}

impl<Id, Sort: Default> Page<Id, Sort> {
    /// The first `limit` rows in order of creation.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { limit, marker: None, sort: Sort::default(), desc: false }
    }
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::first(i32::MAX as u32)
    }
}

/// A page of nodes.
pub type NodePage = Page<NodeId, NodeSort>;
/// A page of ports.
pub type PortPage = Page<PortId, PortSort>;
/// A page of history entries.
pub type HistoryPage = Page<HistoryId, HistorySort>;

/// Columns that nodes can be sorted by (`api.md` section 3.2; the forbidden ones are not here).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum NodeSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Name,
    Driver,
    InstanceUuid,
    InstanceName,
    ChassisUuid,
    ResourceClass,
    ConductorGroup,
    AutomatedClean,
    Protected,
    ProtectedReason,
    Owner,
    Lessee,
    Description,
    Retired,
    RetiredReason,
    Shard,
    ParentNode,
    DisablePowerOff,
    Maintenance,
    MaintenanceReason,
    Fault,
    ProvisionState,
    TargetProvisionState,
    ProvisionUpdatedAt,
    PowerState,
    TargetPowerState,
    LastError,
    InspectionStartedAt,
    InspectionFinishedAt,
    BootMode,
    SecureBoot,
    Health,
    ConsoleEnabled,
    Reservation,
    ConductorAffinity,
    CreatedAt,
    UpdatedAt,
    /// `boot_interface` and its like.
    Interface(InterfaceKind),
}

impl NodeSort {
    /// Every key but the interfaces.
    pub const PLAIN: &'static [Self] = &[
        Self::Created,
        Self::Uuid,
        Self::Name,
        Self::Driver,
        Self::InstanceUuid,
        Self::InstanceName,
        Self::ChassisUuid,
        Self::ResourceClass,
        Self::ConductorGroup,
        Self::AutomatedClean,
        Self::Protected,
        Self::ProtectedReason,
        Self::Owner,
        Self::Lessee,
        Self::Description,
        Self::Retired,
        Self::RetiredReason,
        Self::Shard,
        Self::ParentNode,
        Self::DisablePowerOff,
        Self::Maintenance,
        Self::MaintenanceReason,
        Self::Fault,
        Self::ProvisionState,
        Self::TargetProvisionState,
        Self::ProvisionUpdatedAt,
        Self::PowerState,
        Self::TargetPowerState,
        Self::LastError,
        Self::InspectionStartedAt,
        Self::InspectionFinishedAt,
        Self::BootMode,
        Self::SecureBoot,
        Self::Health,
        Self::ConsoleEnabled,
        Self::Reservation,
        Self::ConductorAffinity,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];
}

/// Columns that ports can be sorted by (`api.md` section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum PortSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Address,
    NodeUuid,
    Name,
    PxeEnabled,
    PhysicalNetwork,
    IsSmartnic,
    Description,
    Vendor,
    Category,
    AvailableForDynamicPortgroup,
    CreatedAt,
    UpdatedAt,
}

impl PortSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[
        Self::Created,
        Self::Uuid,
        Self::Address,
        Self::NodeUuid,
        Self::Name,
        Self::PxeEnabled,
        Self::PhysicalNetwork,
        Self::IsSmartnic,
        Self::Description,
        Self::Vendor,
        Self::Category,
        Self::AvailableForDynamicPortgroup,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];
}

/// Columns that history entries can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum HistorySort {
    /// When it happened, then order of creation.
    #[default]
    CreatedAt,
    Uuid,
    Severity,
    Event,
    EventType,
    Conductor,
    User,
    Project,
    State,
    TargetProvisionState,
    DurationSeconds,
}

/// Columns that deploy templates can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum DeployTemplateSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Name,
    CreatedAt,
    UpdatedAt,
}

impl DeployTemplateSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[Self::Created, Self::Uuid, Self::Name, Self::CreatedAt, Self::UpdatedAt];
}

/// Columns that runbooks can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum RunbookSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Name,
    Description,
    Public,
    Owner,
    DisableRamdisk,
    CreatedAt,
    UpdatedAt,
}

impl RunbookSort {
    /// Every key.
    pub const ALL: &'static [Self] = &[
        Self::Created,
        Self::Uuid,
        Self::Name,
        Self::Description,
        Self::Public,
        Self::Owner,
        Self::DisableRamdisk,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];
}

/// Columns that inspection rules can be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the fields")]
pub enum RuleSort {
    /// Order of creation (`id`).
    #[default]
    Created,
    Uuid,
    Priority,
    Description,
    Phase,
    Sensitive,
    CreatedAt,
    UpdatedAt,
}

impl RuleSort {
    /// Every key.
    pub const ALL: &'static [Self] =
        &[Self::Created, Self::Uuid, Self::Priority, Self::Description, Self::Phase, Self::Sensitive, Self::CreatedAt, Self::UpdatedAt];
}

/// Which nodes a list holds as to parenthood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Children {
    /// Parents, children and the rest (`include_children`). What conductors want.
    #[default]
    All,
    /// Only nodes without a parent: the API's default.
    TopOnly,
    /// Only the children of this node.
    Of(NodeId),
}

/// Conditions on nodes, all of which must hold (`api.md` section 3.2). The default matches every node, children too.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named after the query parameters")]
pub struct NodeFilter {
    pub instance_uuid: Option<uuid::Uuid>,
    pub instance_name: Option<String>,
    pub chassis_uuid: Option<uuid::Uuid>,
    pub associated: Option<bool>,
    pub maintenance: Option<bool>,
    /// Any of these; empty = any state.
    pub provision_states: Vec<ProvisionState>,
    pub driver: Option<String>,
    pub resource_class: Option<String>,
    pub fault: Option<NodeFault>,
    pub conductor_group: Option<String>,
    pub owner: Option<String>,
    pub lessee: Option<String>,
    /// Owner or lessee.
    pub project: Option<String>,
    /// Upper and lower case (ASCII) are alike; `%` and `_` mean what they mean to SQL LIKE, as in the contract.
    pub description_contains: Option<String>,
    pub retired: Option<bool>,
    /// Any of these; empty = any shard and none.
    pub shards: Vec<String>,
    pub sharded: Option<bool>,
    /// Whether a task holds the node (`reservation`).
    pub reserved: Option<bool>,
    pub children: Children,
    /// Only these.
    pub ids: Option<Vec<NodeId>>,
}

/// Conditions on ports, all of which must hold.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "named after the query parameters")]
pub struct PortFilter {
    pub node: Option<NodeId>,
    /// Any of these, normalised; empty = any.
    pub addresses: Vec<String>,
    pub portgroup: Option<PortgroupId>,
    /// Of the node; empty = any.
    pub shards: Vec<String>,
    /// Of the node; empty = any.
    pub conductor_groups: Vec<String>,
    pub description_contains: Option<String>,
    pub pxe_enabled: Option<bool>,
    /// Owner or lessee of the node.
    pub project: Option<String>,
}

/// A node to create.
#[derive(Clone, Debug)]
pub struct NodeNew {
    /// Its UUID.
    pub id: NodeId,
    /// What its owner wrote, secrets in clear.
    pub spec: NodeSpec,
    /// First status, [`NodeStatus::new`] as a rule.
    pub status: NodeStatus,
    /// First traits.
    pub traits: Vec<String>,
    /// Written in the same transaction.
    pub history: Vec<HistoryEntry>,
    /// Written in the same transaction.
    pub events: Vec<OutboxEvent>,
}

/// What the hash ring needs to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// The node.
    pub id: NodeId,
    /// Its hardware type.
    pub driver: String,
    /// Its conductor group.
    pub conductor_group: String,
}

/// A verb taken on: everything that is written before 202 is answered, in one transaction.
#[derive(Clone, Debug)]
pub struct WorkBegin {
    /// The node.
    pub node: NodeId,
    /// The state that the verb was checked against; [`crate::DbError::StateChanged`] when the node left it. `None` = any (power actions).
    pub expect: Option<ProvisionState>,
    /// New state and target.
    pub change: NodeChange,
    /// Also the owner's columns, if still at this revision.
    pub spec: Option<(i64, NodeSpec)>,
    /// The work. `None` for verbs that only move the state.
    pub flow: Option<Flow>,
    /// Put `flow` in the place of one that waits, instead of refusing with [`crate::DbError::FlowExists`]. Refused with
    /// [`crate::DbError::Locked`] while a living conductor holds the node; otherwise a former holder loses its fence.
    /// With `flow: None`, the provision flow is removed.
    pub replace: bool,
    /// Written with it.
    pub log: Vec<FlowLogEntry>,
    /// Written with it.
    pub history: Vec<HistoryEntry>,
    /// Written with it.
    pub events: Vec<OutboxEvent>,
}

impl WorkBegin {
    /// A change of state without anything else.
    #[must_use]
    pub fn new(node: NodeId, expect: Option<ProvisionState>, change: NodeChange) -> Self {
        Self { node, expect, change, spec: None, flow: None, replace: false, log: vec![], history: vec![], events: vec![] }
    }
}

/// A flow and how often it had been woken when it was read. Read it *before* (or with) what the runner decides on: a wake-up after
/// the reading then moves the counter, and [`FlowWrite::Put`] keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFlow {
    /// The flow.
    pub flow: Flow,
    /// Grows with every [`crate::Store::flow_wake`], heartbeat and abort.
    pub wakes: i64,
}

/// What a commit does to the flow that was run.
#[derive(Clone, Debug, Default)]
pub enum FlowWrite {
    /// Nothing.
    #[default]
    Keep,
    /// Stores its progress. The flow must still be the node's ([`crate::DbError::StateChanged`] otherwise). When the counter moved on
    /// from `wakes`, an earlier `wake_at` in the database stays and [`Committed::woken`] tells. A stored `aborting` is never taken back;
    /// `request` is never rewritten.
    Put {
        /// The flow with its progress.
        flow: Box<Flow>,
        /// [`StoredFlow::wakes`] as read.
        wakes: i64,
    },
    /// It is over.
    Delete(Lane),
}

/// Inspection data of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// `inventory`.
    pub inventory: Json,
    /// `plugin_data`.
    pub plugin_data: Json,
}

/// What a machine gets when it boots.
#[derive(Clone, Debug, PartialEq)]
pub struct BootPlanRow {
    /// The node.
    pub node: NodeId,
    /// Unguessable part of its addresses; void with the next plan.
    pub nonce: String,
    /// Network cards that may ask for it, as `52:54:00:aa:00:01`.
    pub macs: Vec<String>,
    /// The plan.
    pub plan: Json,
}

/// What a commit does to a row that may or may not be there.
#[derive(Clone, Debug, Default)]
pub enum Write<T> {
    /// Nothing.
    #[default]
    Keep,
    /// Stores it, in the place of what was there.
    Put(T),
    /// Removes it.
    Delete,
}

/// Everything that a runner writes at once, under its claim. The default writes nothing and keeps the claim.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Status columns.
    pub change: NodeChange,
    /// The owner's columns, if still at this revision ([`crate::DbError::RevisionLost`]: read again, decide again).
    pub spec: Option<(i64, NodeSpec)>,
    /// The flow that was run.
    pub flow: FlowWrite,
    /// A flow that follows (tear-down goes on into cleaning), stored after `flow` was written.
    pub next_flow: Option<Flow>,
    /// The whole set of traits.
    pub traits: Option<Vec<String>>,
    /// Traits to add.
    pub traits_added: Vec<String>,
    /// Traits to remove.
    pub traits_removed: Vec<String>,
    /// Inspection data.
    pub inventory: Write<Inventory>,
    /// The boot plan.
    pub boot_plan: Write<BootPlanRow>,
    /// What the agent last said.
    pub agent: Write<AgentState>,
    /// Forget the agent's token.
    pub clear_token: bool,
    /// Secrets by kind (see [`crate::secret_kind`]); `None` removes one.
    pub secrets: Vec<(String, Option<Secret<String>>)>,
    /// BIOS settings, all of them.
    pub bios: Option<Vec<BiosSetting>>,
    /// Versions of firmware that were read.
    pub firmware: Vec<FirmwareComponent>,
    /// Ports found by inspection; one whose address is known already is left as it is.
    pub new_ports: Vec<Port>,
    /// Ports that were changed; [`crate::DbError::RevisionLost`] when somebody else changed one meanwhile.
    pub ports: Vec<PortChange>,
    /// Log lines.
    pub log: Vec<FlowLogEntry>,
    /// History entries.
    pub history: Vec<HistoryEntry>,
    /// Events.
    pub events: Vec<OutboxEvent>,
    /// Let the node go.
    pub release: bool,
}

/// A change of a port.
#[derive(Clone, Debug)]
pub struct PortChange {
    /// The port as it was read.
    pub base: Port,
    /// As it shall be.
    pub new: Port,
}

/// What a commit tells its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The node's revision after it.
    pub revision: i64,
    /// Somebody woke the flow since it was read: read it again and go on instead of sleeping.
    pub woken: bool,
}

/// A request for an address (RFC 2131 section 4.3.1).
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// The network's name.
    pub network: String,
    /// Hardware address of the client.
    pub mac: String,
    /// What the client would like, honoured when it is in the pool and free.
    pub wanted: Option<Ipv4Addr>,
    /// Reserved for this client by the operator; given even outside the pool, unless another holds it unexpired.
    pub fixed: Option<Ipv4Addr>,
    /// Addresses to give.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// Never given from the pool: the server, the router, reservations of others.
    pub reserved: Vec<Ipv4Addr>,
    /// How long the offer is held.
    pub hold: Duration,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The network's name.
    pub network: String,
    /// Hardware address of the client.
    pub mac: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Acknowledged, not only offered.
    pub bound: bool,
    /// When it may be given to another.
    pub expires_at: Timestamp,
}

/// Where a reader of the event stream stands. Readers go on strictly after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor {
    /// Transaction of the row (PostgreSQL; 0 on SQLite, whose single writer makes `seq` the order of commits).
    pub xid: i64,
    /// Number of the row.
    pub seq: i64,
}
