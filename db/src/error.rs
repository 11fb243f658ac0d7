//! What can go wrong in the store. Texts never hold a value of a row beyond names, ids and addresses.

use bessemer_model::{
    clock::Timestamp,
    fault::{Fault, FaultKind},
    flow::FlowKind,
    state::ProvisionState,
};

/// What was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the resources")]
pub enum Entity {
    Node,
    Port,
    VolumeConnector,
    VolumeTarget,
    Allocation,
    Portgroup,
    Chassis,
    Conductor,
    Flow,
    History,
    Inventory,
    Trait,
    Lease,
    BootPlan,
    BiosSetting,
    DeployTemplate,
    Runbook,
    InspectionRule,
}

impl Entity {
    const fn word(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Port => "Port",
            Self::VolumeConnector => "Volume connector",
            Self::VolumeTarget => "Volume target",
            Self::Allocation => "Allocation",
            Self::Portgroup => "Portgroup",
            Self::Chassis => "Chassis",
            Self::Conductor => "Conductor",
            Self::Flow => "Flow",
            Self::History => "History entry",
            Self::Inventory => "Inventory of node",
            Self::Trait => "Trait",
            Self::Lease => "Lease",
            Self::BootPlan => "Boot plan",
            Self::BiosSetting => "BIOS setting",
            Self::DeployTemplate => "Deploy template",
            Self::Runbook => "Runbook",
            Self::InspectionRule => "Rule",
        }
    }
}

/// Which column of a row must differ from every other row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the columns")]
pub enum Unique {
    NodeUuid,
    NodeName,
    InstanceUuid,
    PortUuid,
    PortAddress,
    PortName,
    VolumeConnectorUuid,
    VolumeConnector,
    VolumeTargetUuid,
    VolumeTargetIndex,
    AllocationUuid,
    AllocationName,
    DeployTemplateUuid,
    DeployTemplateName,
    RunbookUuid,
    RunbookName,
    InspectionRuleUuid,
    PortgroupUuid,
    PortgroupAddress,
    PortgroupName,
    ChassisUuid,
    Other,
}

impl Unique {
    const fn words(self) -> &'static str {
        match self {
            Self::NodeUuid => "node with UUID",
            Self::NodeName => "node with name",
            Self::InstanceUuid => "node associated with instance",
            Self::PortUuid => "port with UUID",
            Self::PortAddress => "port with MAC address",
            Self::PortName => "port with name",
            Self::VolumeConnectorUuid => "volume connector with UUID",
            Self::VolumeConnector => "volume connector with type",
            Self::VolumeTargetUuid => "volume target with UUID",
            Self::VolumeTargetIndex => "volume target of the node with boot index",
            Self::AllocationUuid => "allocation with UUID",
            Self::AllocationName => "allocation with name",
            Self::DeployTemplateUuid => "deploy template with UUID",
            Self::DeployTemplateName => "deploy template with name",
            Self::RunbookUuid => "runbook with UUID",
            Self::RunbookName => "runbook with name",
            Self::InspectionRuleUuid => "rule with UUID",
            Self::PortgroupUuid => "port group with UUID",
            Self::PortgroupAddress => "port group with MAC address",
            Self::PortgroupName => "port group with name",
            Self::ChassisUuid => "chassis with UUID",
            Self::Other => "row like",
        }
    }
}

/// What a library of the database told.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// No such row.
    #[error("{} {ident} could not be found.", what.word())]
    NotFound {
        /// What was looked for.
        what: Entity,
        /// By which name.
        ident: String,
    },
    /// The value is taken.
    #[error("A {} {value} already exists.", what.words())]
    Duplicate {
        /// Which column.
        what: Unique,
        /// The value.
        value: String,
    },
    /// The owner's columns were changed by somebody else: read again, decide again.
    #[error("{node} was changed by another request meanwhile; repeat the request")]
    RevisionLost {
        /// The node, or what else it is.
        node: String,
    },
    /// The node has another instance.
    #[error("Node {node} is associated with instance {instance}.")]
    Associated {
        /// The node.
        node: String,
        /// Its instance.
        instance: String,
    },
    /// What is to be removed or moved still holds others.
    #[error("{} {ident} still holds others: remove or move them first.", what.word())]
    NotEmpty {
        /// What it is.
        what: Entity,
        /// Its UUID.
        ident: String,
    },
    /// A port that does not fit the group it is to join.
    #[error(transparent)]
    Unfit(#[from] bessemer_model::portgroup::Unfit),
    /// The claim is not held any more: stop, without any further effect.
    #[error("node {node} was taken over by another conductor")]
    FenceLost {
        /// The node.
        node: String,
    },
    /// The node is not in the state that the request was checked against.
    #[error("node {node} is in state '{}' now; repeat the request", state.map_or("another", ProvisionState::as_str))]
    StateChanged {
        /// The node.
        node: String,
        /// The state that it is in, when known.
        state: Option<ProvisionState>,
    },
    /// The node has a flow of that lane already.
    #[error("node {node} is busy{}: that operation has not ended yet; wait for it or abort it", occupied(with))]
    FlowExists {
        /// The node.
        node: String,
        /// What it is doing, and since when.
        with: Option<(FlowKind, Timestamp)>,
    },
    /// A living conductor runs a step on the node.
    #[error("Node {node} is locked by host {host}{}, please retry after the current operation is completed.", held(purpose.as_deref(), *since))]
    Locked {
        /// The node.
        node: String,
        /// The holder's host.
        host: String,
        /// What for.
        purpose: Option<String>,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// A text that no database takes (a NUL character).
    #[error("text with a NUL character cannot be stored")]
    NulCharacter,
    /// A sealed secret could not be opened.
    #[error("a sealed secret of kind {kind} cannot be opened: the seal key is not the one that it was sealed with; restore the key file")]
    Unsealable {
        /// Kind of the secret.
        kind: String,
    },
    /// The seal key file is unusable.
    #[error("seal key file {path}: {reason}")]
    SealKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A row holds what this program never writes.
    #[error("the database holds an unreadable {what}: {detail}; was it written by a newer release?")]
    Corrupt {
        /// Column or value.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The URL names no database that this program knows.
    #[error("database URL not understood: {0}; use sqlite:///path/to/file or postgresql://user@host/name")]
    Url(String),
    /// The database could not be opened.
    #[error("cannot open the database {what}: {remedy}")]
    Open {
        /// File, or host and database name.
        what: String,
        /// What to check.
        remedy: &'static str,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A migration failed.
    #[error("the database could not be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database does not answer; trying again may help.
    #[error("the database is not available")]
    Unavailable(#[source] Option<Cause>),
    /// Anything else that the database refused.
    #[error("the database refused a statement")]
    Other(#[source] Cause),
}

fn held(purpose: Option<&str>, since: Option<Timestamp>) -> String {
    let since = since.map(|t| format!(" since {}", t.to_wire())).unwrap_or_default();
    format!("{}{since}", purpose.map(|p| format!(" for {p}")).unwrap_or_default())
}

fn occupied(with: &Option<(FlowKind, Timestamp)>) -> String {
    with.map(|(kind, since)| format!(" with {} since {}", kind.as_str(), since.to_wire())).unwrap_or_default()
}

/// Result of the store's methods.
pub type Result<T, E = DbError> = std::result::Result<T, E>;

impl DbError {
    pub(crate) fn not_found(what: Entity, ident: impl ToString) -> Self {
        Self::NotFound { what, ident: ident.to_string() }
    }
    pub(crate) fn revision_lost(what: Entity, ident: impl ToString) -> Self {
        Self::RevisionLost { node: format!("{} {}", what.word(), ident.to_string()) }
    }
    /// Fills in which row an engine's error is about.
    pub(crate) fn about(self, subject: impl ToString) -> Self {
        match self {
            Self::NotFound { what, ident } if ident.is_empty() => Self::NotFound { what, ident: subject.to_string() },
            Self::Duplicate { what, value } if value.is_empty() => Self::Duplicate { what, value: subject.to_string() },
            other => other,
        }
    }
    /// Fills in which node a missing reference is about.
    pub(crate) fn about_node(self, node: bessemer_model::ids::NodeId) -> Self {
        match self {
            Self::NotFound { what: Entity::Node, ident } if ident.is_empty() => Self::not_found(Entity::Node, node),
            other => other,
        }
    }
    /// Fills in which chassis a missing reference of a node is about: a node refers to nothing else.
    pub(crate) fn about_chassis(self, chassis: Option<uuid::Uuid>) -> Self {
        match (self, chassis) {
            (Self::NotFound { what: Entity::Node, ident }, Some(c)) if ident.is_empty() => Self::not_found(Entity::Chassis, c),
            (other, _) => other,
        }
    }
    /// Fills in the value of a column that must be unique.
    pub(crate) fn taken(self, value: impl Fn(Unique) -> Option<String>) -> Self {
        match self {
            Self::Duplicate { what, value: v } if v.is_empty() => Self::Duplicate { what, value: value(what).unwrap_or_default() },
            other => other,
        }
    }
    pub(crate) fn corrupt(what: &'static str, detail: impl ToString) -> Self {
        Self::Corrupt { what, detail: detail.to_string() }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(e: sqlx::Error) -> Self {
        match &e {
            sqlx::Error::Database(d) => {
                if let Some(what) = unique_column(d.as_ref()) {
                    return Self::Duplicate { what, value: String::new() };
                }
                if d.is_foreign_key_violation() {
                    // Nearly every reference of the schema is to a node (boot_plan_macs' to a plan is written with the plan). Where it
                    // is to something else, the caller says so.
                    return Self::NotFound { what: Entity::Node, ident: String::new() };
                }
                let code = d.code().unwrap_or_default();
                // Deadlock, serialisation failure, shut-down and connection trouble; SQLITE_BUSY and SQLITE_LOCKED.
                let passing = code.starts_with("40") || code.starts_with("57P") || code.starts_with("08") || code == "5" || code == "6";
                if passing { Self::Unavailable(Some(Box::new(e))) } else { Self::Other(Box::new(e)) }
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(Some(Box::new(e)))
            }
            _ => Self::Other(Box::new(e)),
        }
    }
}

/// Of reading only: nothing there can be taken or missing.
impl From<rusqlite::Error> for DbError {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as E;
        match e.sqlite_error_code() {
            Some(E::DatabaseBusy | E::DatabaseLocked | E::CannotOpen | E::SystemIoFailure) => Self::Unavailable(Some(Box::new(e))),
            _ => Self::Other(Box::new(e)),
        }
    }
}

/// The unique column that a statement hit: SQLite names it in the message, PostgreSQL by the constraint.
fn unique_column(d: &dyn sqlx::error::DatabaseError) -> Option<Unique> {
    if !d.is_unique_violation() {
        return None;
    }
    let text = d.constraint().map_or_else(|| d.message().to_owned(), str::to_owned).replace('.', "_");
    let known = [
        ("nodes_id", Unique::NodeUuid),
        ("nodes_name", Unique::NodeName),
        ("nodes_instance_uuid", Unique::InstanceUuid),
        ("ports_id", Unique::PortUuid),
        ("ports_address", Unique::PortAddress),
        ("ports_name", Unique::PortName),
        ("volume_connectors_id", Unique::VolumeConnectorUuid),
        ("volume_connectors_type", Unique::VolumeConnector),
        ("volume_targets_id", Unique::VolumeTargetUuid),
        ("volume_targets_node", Unique::VolumeTargetIndex),
        ("allocations_id", Unique::AllocationUuid),
        ("allocations_name", Unique::AllocationName),
        ("deploy_templates_id", Unique::DeployTemplateUuid),
        ("deploy_templates_name", Unique::DeployTemplateName),
        ("runbooks_id", Unique::RunbookUuid),
        ("runbooks_name", Unique::RunbookName),
        ("inspection_rules_id", Unique::InspectionRuleUuid),
        ("portgroups_id", Unique::PortgroupUuid),
        ("portgroups_address", Unique::PortgroupAddress),
        ("portgroups_name", Unique::PortgroupName),
        ("chassis_id", Unique::ChassisUuid),
    ];
    Some(known.into_iter().find(|(k, _)| text.contains(k)).map_or(Unique::Other, |(_, u)| u))
}

impl From<DbError> for Fault {
    fn from(e: DbError) -> Self {
        let kind = match &e {
            DbError::NotFound { what, .. } => match what {
                Entity::Node => FaultKind::NodeNotFound,
                Entity::Port => FaultKind::PortNotFound,
                Entity::Conductor => FaultKind::ConductorNotFound,
                _ => FaultKind::NotFound,
            },
            DbError::Duplicate { what, .. } => match what {
                Unique::NodeName
                | Unique::PortName
                | Unique::PortgroupName
                | Unique::AllocationName
                | Unique::DeployTemplateName
                | Unique::RunbookName => FaultKind::DuplicateName,
                Unique::InstanceUuid => FaultKind::InstanceAssociated,
                Unique::PortAddress | Unique::PortgroupAddress => FaultKind::MacAlreadyExists,
                _ => FaultKind::AlreadyExists,
            },
            DbError::Associated { .. } => FaultKind::NodeAssociated,
            DbError::RevisionLost { .. }
            | DbError::FenceLost { .. }
            | DbError::StateChanged { .. }
            | DbError::FlowExists { .. }
            | DbError::Locked { .. } => FaultKind::NodeLocked,
            DbError::NotEmpty { .. } => FaultKind::NotEmpty,
            DbError::Unfit(_) => FaultKind::Conflict,
            DbError::NulCharacter => FaultKind::InvalidParameterValue,
            DbError::Unavailable(_) | DbError::Open { .. } => FaultKind::TemporaryFailure,
            DbError::Unsealable { .. }
            | DbError::SealKey { .. }
            | DbError::Corrupt { .. }
            | DbError::Url(_)
            | DbError::Migrate(_)
            | DbError::Other(_) => FaultKind::Internal,
        };
        if matches!(kind, FaultKind::Internal | FaultKind::TemporaryFailure) {
            tracing::error!(error = chain(&e), "database");
        }
        Fault::new(kind, e.to_string())
    }
}

/// The error with its causes. Only their texts: the details that PostgreSQL keeps beside may quote a row.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
