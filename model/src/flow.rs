//! Persisted progress of long work. A row of `flows` is the only truth about what a node is doing; everything in memory may vanish.

use serde::{Deserialize, Serialize};

use crate::{
    Json,
    clock::Timestamp,
    ids::{FlowId, NodeId},
    state::ProvisionState,
    step::Step,
};

/// What the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "named after the verbs")]
pub enum FlowKind {
    Verify,
    Inspect,
    Clean,
    Deploy,
    Delete,
    Rescue,
    Unrescue,
    Service,
    Adopt,
    Abort,
    Power,
    Device,
}

impl FlowKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Verify,
        Self::Inspect,
        Self::Clean,
        Self::Deploy,
        Self::Delete,
        Self::Rescue,
        Self::Unrescue,
        Self::Service,
        Self::Adopt,
        Self::Abort,
        Self::Power,
        Self::Device,
    ];
    /// Name in the database and the logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Inspect => "inspect",
            Self::Clean => "clean",
            Self::Deploy => "deploy",
            Self::Delete => "delete",
            Self::Rescue => "rescue",
            Self::Unrescue => "unrescue",
            Self::Service => "service",
            Self::Adopt => "adopt",
            Self::Abort => "abort",
            Self::Power => "power",
            Self::Device => "device",
        }
    }
    /// The kind with this name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| k.as_str() == s)
    }
    /// A node has at most one flow of each lane; only one of them runs at a time.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::Power | Self::Device => Lane::Power,
            _ => Lane::Provision,
        }
    }
}

/// See [`FlowKind::lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Moves the provision state.
    Provision,
    /// Leaves the provision state alone: power, console, media and the like.
    Power,
}

impl Lane {
    /// Name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Power => "power",
        }
    }
}

/// Where the current step stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Not begun.
    Ready,
    /// Begun; found like this after a crash, [`crate::step::Replay`] decides.
    Started,
    /// Waits for the agent's first word after a boot.
    WaitingBoot,
    /// Waits for an agent command.
    WaitingAgent {
        /// Id of the command at the agent.
        command: String,
    },
    /// Waits for inspection data.
    WaitingInspection,
    /// Waits for a BMC task.
    WaitingBmcTask {
        /// Its URI.
        uri: String,
    },
    /// Waits until `wake_at` or, without one, for the next heartbeat.
    Sleeping,
    /// Held by a `hold` step.
    Held,
}

impl Phase {
    /// Whether the flow waits for something outside.
    #[must_use]
    pub const fn waits(&self) -> bool {
        !matches!(self, Self::Ready | Self::Started)
    }
}

/// One flow (a row of `flows`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Identity.
    pub id: FlowId,
    /// The node.
    pub node: NodeId,
    /// The work.
    pub kind: FlowKind,
    /// All steps, hidden ones too.
    pub steps: Vec<Step>,
    /// Index of the current step; `steps.len()` = finished.
    pub at: usize,
    /// Where that step stands.
    pub phase: Phase,
    /// How often the current step was begun; part of the step id that the agent sees.
    pub attempt: u32,
    /// State asked for (`manageable` for a manual clean); `None` = the default of the state.
    pub target: Option<ProvisionState>,
    /// When waiting becomes a failure.
    pub deadline: Option<Timestamp>,
    /// When a conductor shall look at it; `None` = only when somebody wakes it.
    pub wake_at: Option<Timestamp>,
    /// Set by `abort`: the runner ends the flow between steps or at the next wait.
    pub aborting: bool,
    /// What the request asked for (config drive, explicit steps, rescue password reference…).
    pub request: Json,
    /// Resume data of the current step and facts gathered by earlier ones.
    pub note: Json,
    /// When it was accepted.
    pub created_at: Timestamp,
}

impl Flow {
    /// The current step.
    #[must_use]
    pub fn current(&self) -> Option<&Step> {
        self.steps.get(self.at)
    }

    /// The id under which the agent knows the current step of this flow: the same after a crash, another for another attempt.
    #[must_use]
    pub fn step_id(&self) -> String {
        format!("{}-{}-{}", self.id, self.at, self.attempt)
    }

    /// A note by key.
    #[must_use]
    pub fn noted(&self, key: &str) -> Option<&Json> {
        self.note.get(key).filter(|v| !v.is_null())
    }

    /// Writes a note.
    pub fn set_note(&mut self, key: &str, value: Json) {
        if !self.note.is_object() {
            self.note = Json::Object(crate::JsonMap::new());
        }
        if let Some(m) = self.note.as_object_mut() {
            m.insert(key.to_owned(), value);
        }
    }
}

/// A line of the append-only `flow_log`.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowLogEntry {
    /// The flow.
    pub flow: FlowId,
    /// The node.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
    /// Step label, or empty for the flow itself.
    pub step: String,
    /// What happened: accepted, started, waiting, done, failed, resumed.
    pub outcome: String,
    /// More, for a person; no secrets.
    pub detail: String,
}
