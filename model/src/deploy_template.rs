//! Deploy templates: steps that join a deployment when the instance asks for a trait of the template's name (`api.md` section 11).

use serde::{Deserialize, Serialize};

use crate::{JsonMap, clock::Timestamp, ids::DeployTemplateId, interface::InterfaceKind};

/// A step of a template.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateStep {
    /// The interface.
    pub interface: InterfaceKind,
    /// The step.
    pub step: String,
    /// Arguments; may hold secrets.
    pub args: JsonMap,
    /// In the place of the driver's; 0 disables the step.
    pub priority: u32,
}

/// A deploy template as stored.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 11, one to one")]
pub struct DeployTemplate {
    pub id: DeployTemplateId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    /// Of its own columns; a change of steps alone does not count.
    pub updated_at: Option<Timestamp>,
    /// A trait; unique.
    pub name: String,
    pub extra: JsonMap,
    /// At least one; interface and name together are unique.
    pub steps: Vec<TemplateStep>,
}

impl DeployTemplate {
    /// A template that is still to be filled and stored.
    #[must_use]
    pub fn blank(id: DeployTemplateId) -> Self {
        Self {
            id,
            seq: 0,
            revision: 0,
            created_at: Timestamp(0),
            updated_at: None,
            name: String::new(),
            extra: JsonMap::new(),
            steps: vec![],
        }
    }
}
