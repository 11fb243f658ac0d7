//! Runbooks: prepared lists of steps for cleaning and servicing, approved for nodes by traits (`api.md` section 12).

use serde::{Deserialize, Serialize};

use crate::{JsonMap, clock::Timestamp, ids::RunbookId, interface::InterfaceKind};

/// A step of a runbook.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RunbookStep {
    /// The interface.
    pub interface: InterfaceKind,
    /// The step.
    pub step: String,
    /// Arguments; may hold secrets.
    pub args: JsonMap,
    /// For people: the steps run in the order of the list.
    pub order: u32,
}

/// A runbook as stored.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 12, one to one")]
pub struct Runbook {
    pub id: RunbookId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    /// Of its own columns; a change of steps or traits alone does not count.
    pub updated_at: Option<Timestamp>,
    /// Unique.
    pub name: String,
    pub description: Option<String>,
    /// Everybody may use it; it has no owner then.
    pub public: bool,
    /// A project.
    pub owner: Option<String>,
    pub disable_ramdisk: bool,
    pub extra: JsonMap,
    /// At least one; interface and name together are unique.
    pub steps: Vec<RunbookStep>,
    /// Sorted, each once.
    pub traits: Vec<String>,
}

impl Runbook {
    /// A runbook that is still to be filled and stored.
    #[must_use]
    pub fn blank(id: RunbookId) -> Self {
        Self {
            id,
            seq: 0,
            revision: 0,
            created_at: Timestamp(0),
            updated_at: None,
            name: String::new(),
            description: None,
            public: false,
            owner: None,
            disable_ramdisk: false,
            extra: JsonMap::new(),
            steps: vec![],
            traits: vec![],
        }
    }
}
