//! Steps of cleaning, deployment and servicing.

use serde::{Deserialize, Serialize};

use crate::{JsonMap, ids::NodeId, interface::InterfaceKind};

/// What a new conductor may do with a step that it finds started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Run it again.
    #[default]
    Idempotent,
    /// Ask whether it took effect (the agent's command list, the BMC), then run it or go on.
    Probe,
    /// Nobody can tell: fail the flow and say what is unknown.
    Never,
}

/// Who carries a step out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum RunsOn {
    /// The conductor, through a driver.
    #[default]
    Conductor,
    /// The ramdisk agent.
    Agent,
}

/// Where a step came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum StepSource {
    /// Work of the flow itself (prepare, tear down); never shown on the wire.
    #[default]
    Flow,
    /// A step that the driver or the agent offers.
    Driver,
    /// Named by the user.
    User,
}

/// One step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The interface that offers it.
    pub interface: InterfaceKind,
    /// Its name.
    pub name: String,
    /// Higher runs first (deploy, automated clean); 0 = disabled.
    pub priority: u32,
    /// Arguments.
    #[serde(default)]
    pub args: JsonMap,
    /// Whether `abort` may stop the flow while it waits in this step.
    #[serde(default)]
    pub abortable: bool,
    /// Whether it needs the ramdisk.
    #[serde(default)]
    pub requires_ramdisk: bool,
    /// See [`Replay`].
    #[serde(default)]
    pub replay: Replay,
    /// See [`RunsOn`].
    #[serde(default)]
    pub runs_on: RunsOn,
    /// See [`StepSource`].
    #[serde(default)]
    pub source: StepSource,
    /// It runs on these children of the node instead of on the node itself; on all of them when the list is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<NodeId>>,
}

impl Step {
    /// A piece of the flow itself, hidden from the wire.
    #[must_use]
    pub fn internal(name: &str, replay: Replay) -> Self {
        Self {
            interface: InterfaceKind::Deploy,
            name: name.to_owned(),
            priority: 0,
            args: JsonMap::new(),
            abortable: false,
            requires_ramdisk: false,
            replay,
            runs_on: RunsOn::Conductor,
            source: StepSource::Flow,
            children: None,
        }
    }

    /// Whether clients see it as `clean_step` and its like.
    #[must_use]
    pub fn visible(&self) -> bool {
        self.source != StepSource::Flow
    }

    /// `interface.step`, as history and logs name it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}.{}", self.interface.as_str(), self.name)
    }
}

/// Names that need no driver (`states.md` section 4.8).
pub const RESERVED_STEPS: &[&str] = &["power_on", "power_off", "reboot", "hold", "wait"];
