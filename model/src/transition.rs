//! The provision state machine as one table: the 93 transitions of `states.md` appendix A.

use serde::{Deserialize, Serialize};

use crate::state::ProvisionState::{self, *};

/// What moves a node from one state to another: a verb of the API, or what a flow reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Verb `manage`; also how cleaning ends when the target is manageable.
    Manage,
    /// Verb `provide`.
    Provide,
    /// Verb `inspect`.
    Inspect,
    /// Verb `clean`; also how tear-down goes on into cleaning.
    Clean,
    /// Verb `adopt`.
    Adopt,
    /// Verbs `active` and `deploy`.
    Deploy,
    /// Verb `rebuild`.
    Rebuild,
    /// Verbs `deleted` and `undeploy`.
    Delete,
    /// Verb `rescue`.
    Rescue,
    /// Verb `unrescue`.
    Unrescue,
    /// Verb `service`.
    Service,
    /// Verb `abort`.
    Abort,
    /// Verb `unhold`.
    Unhold,
    /// A `hold` step was reached.
    Hold,
    /// The flow waits for the agent or the BMC.
    Wait,
    /// The flow goes on after a wait.
    Resume,
    /// The flow ended well.
    Done,
    /// The flow failed.
    Fail,
}

impl Event {
    /// The event's name in the reference and the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Event::Manage => "manage",
            Event::Provide => "provide",
            Event::Inspect => "inspect",
            Event::Clean => "clean",
            Event::Adopt => "adopt",
            Event::Deploy => "deploy",
            Event::Rebuild => "rebuild",
            Event::Delete => "delete",
            Event::Rescue => "rescue",
            Event::Unrescue => "unrescue",
            Event::Service => "service",
            Event::Abort => "abort",
            Event::Unhold => "unhold",
            Event::Hold => "hold",
            Event::Wait => "wait",
            Event::Resume => "resume",
            Event::Done => "done",
            Event::Fail => "fail",
        }
    }

    /// Whether the target that the flow had stays when the node does not come to rest.
    #[must_use]
    pub const fn keeps_target(self) -> bool {
        matches!(self, Event::Wait | Event::Resume | Event::Hold | Event::Unhold | Event::Fail | Event::Abort)
    }
}

/// One row of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: ProvisionState,
    /// What happens.
    pub on: Event,
    /// State after.
    pub to: ProvisionState,
}

const fn t(from: ProvisionState, on: Event, to: ProvisionState) -> Transition {
    Transition { from, on, to }
}

/// The whole machine.
pub const TRANSITIONS: &[Transition] = &[
    t(Available, Event::Deploy, Deploying),
    t(Available, Event::Manage, Manageable),
    t(Deploying, Event::Fail, DeployFailed),
    t(Deploying, Event::Wait, DeployWait),
    t(Deploying, Event::Hold, DeployHold),
    t(Deploying, Event::Done, Active),
    t(DeployFailed, Event::Rebuild, Deploying),
    t(DeployFailed, Event::Deploy, Deploying),
    t(DeployFailed, Event::Delete, Deleting),
    t(DeployWait, Event::Hold, DeployHold),
    t(DeployWait, Event::Resume, Deploying),
    t(DeployWait, Event::Fail, DeployFailed),
    t(DeployWait, Event::Abort, DeployFailed),
    t(DeployWait, Event::Delete, Deleting),
    t(DeployHold, Event::Unhold, DeployWait),
    t(DeployHold, Event::Abort, DeployFailed),
    t(Active, Event::Rebuild, Deploying),
    t(Active, Event::Delete, Deleting),
    t(Active, Event::Rescue, Rescuing),
    t(Active, Event::Service, Servicing),
    t(Deleting, Event::Fail, Error),
    t(Deleting, Event::Clean, Cleaning),
    t(Cleaning, Event::Done, Available),
    t(Cleaning, Event::Fail, CleanFailed),
    t(Cleaning, Event::Wait, CleanWait),
    t(Cleaning, Event::Hold, CleanHold),
    t(Cleaning, Event::Manage, Manageable),
    t(CleanWait, Event::Fail, CleanFailed),
    t(CleanWait, Event::Abort, CleanFailed),
    t(CleanWait, Event::Hold, CleanHold),
    t(CleanWait, Event::Resume, Cleaning),
    t(CleanHold, Event::Abort, CleanFailed),
    t(CleanHold, Event::Unhold, CleanWait),
    t(CleanFailed, Event::Manage, Manageable),
    t(Manageable, Event::Provide, Cleaning),
    t(Manageable, Event::Clean, Cleaning),
    t(Manageable, Event::Inspect, Inspecting),
    t(Manageable, Event::Adopt, Adopting),
    t(Error, Event::Rebuild, Deploying),
    t(Error, Event::Delete, Deleting),
    t(Inspecting, Event::Done, Manageable),
    t(Inspecting, Event::Fail, InspectFailed),
    t(Inspecting, Event::Wait, InspectWait),
    t(InspectWait, Event::Done, Manageable),
    t(InspectWait, Event::Fail, InspectFailed),
    t(InspectWait, Event::Abort, InspectFailed),
    t(InspectWait, Event::Resume, Inspecting),
    t(InspectFailed, Event::Manage, Manageable),
    t(InspectFailed, Event::Inspect, Inspecting),
    t(Rescuing, Event::Done, Rescue),
    t(Rescuing, Event::Wait, RescueWait),
    t(Rescuing, Event::Fail, RescueFailed),
    t(RescueWait, Event::Resume, Rescuing),
    t(RescueWait, Event::Fail, RescueFailed),
    t(RescueWait, Event::Abort, RescueFailed),
    t(RescueWait, Event::Delete, Deleting),
    t(Rescue, Event::Rescue, Rescuing),
    t(Rescue, Event::Delete, Deleting),
    t(Rescue, Event::Unrescue, Unrescuing),
    t(RescueFailed, Event::Rescue, Rescuing),
    t(RescueFailed, Event::Unrescue, Unrescuing),
    t(RescueFailed, Event::Delete, Deleting),
    t(Unrescuing, Event::Done, Active),
    t(Unrescuing, Event::Fail, UnrescueFailed),
    t(UnrescueFailed, Event::Rescue, Rescuing),
    t(UnrescueFailed, Event::Unrescue, Unrescuing),
    t(UnrescueFailed, Event::Delete, Deleting),
    t(Enroll, Event::Manage, Verifying),
    t(Verifying, Event::Done, Manageable),
    t(Verifying, Event::Fail, Enroll),
    t(Adopting, Event::Done, Active),
    t(Adopting, Event::Fail, AdoptFailed),
    t(AdoptFailed, Event::Adopt, Adopting),
    t(AdoptFailed, Event::Manage, Manageable),
    t(Servicing, Event::Done, Active),
    t(Servicing, Event::Fail, ServiceFailed),
    t(Servicing, Event::Wait, ServiceWait),
    t(Servicing, Event::Hold, ServiceHold),
    t(ServiceWait, Event::Hold, ServiceHold),
    t(ServiceWait, Event::Resume, Servicing),
    t(ServiceWait, Event::Fail, ServiceFailed),
    t(ServiceWait, Event::Abort, ServiceFailed),
    t(ServiceWait, Event::Delete, Deleting),
    t(ServiceHold, Event::Service, Servicing),
    t(ServiceHold, Event::Unhold, ServiceWait),
    t(ServiceHold, Event::Fail, ServiceFailed),
    t(ServiceHold, Event::Abort, ServiceFailed),
    t(ServiceFailed, Event::Service, Servicing),
    t(ServiceFailed, Event::Rescue, Rescuing),
    t(ServiceFailed, Event::Wait, ServiceWait),
    t(ServiceFailed, Event::Hold, ServiceHold),
    t(ServiceFailed, Event::Delete, Deleting),
    t(ServiceFailed, Event::Abort, Active),
];

/// The event is not defined for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event '{}' is not possible in provision state '{from}'", on.name())]
pub struct InvalidTransition {
    /// State the node is in.
    pub from: ProvisionState,
    /// The event refused.
    pub on: Event,
}

/// The row for `on` in state `from`.
///
/// # Errors
/// [`InvalidTransition`] where the table has no such row.
pub fn next(from: ProvisionState, on: Event) -> Result<&'static Transition, InvalidTransition> {
    TRANSITIONS.iter().find(|t| t.from == from && t.on == on).ok_or(InvalidTransition { from, on })
}

/// The target that a node has after `on` brought it to `to`: none at rest, else what the flow asked for, else what it had, else the default.
#[must_use]
pub fn target_after(on: Event, to: ProvisionState, had: Option<ProvisionState>, asked: Option<ProvisionState>) -> Option<ProvisionState> {
    if to.is_stable() {
        return None;
    }
    asked.or(if on.keeps_target() { had } else { None }).or(to.default_target())
}

/// The machine as a Graphviz diagram, kept in `docs/` and checked against this table.
#[must_use]
pub fn diagram_dot() -> String {
    let mut out = String::from("digraph provision {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
    for s in ProvisionState::ALL {
        if s.is_stable() {
            out.push_str(&format!("  \"{s}\" [style=\"rounded,bold\"];\n"));
        }
    }
    for t in TRANSITIONS {
        out.push_str(&format!("  \"{}\" -> \"{}\" [label=\"{}\"];\n", t.from, t.to, t.on.name()));
    }
    out.push_str("}\n");
    out
}

/// The machine as a Mermaid state diagram, for the documentation pages.
#[must_use]
pub fn diagram_mermaid() -> String {
    let id = |s: ProvisionState| s.as_str().replace([' ', '-'], "_");
    let mut out = String::from("stateDiagram-v2\n    [*] --> enroll\n");
    for s in ProvisionState::ALL {
        if id(*s) != s.as_str() {
            out.push_str(&format!("    state \"{s}\" as {}\n", id(*s)));
        }
    }
    for t in TRANSITIONS {
        out.push_str(&format!("    {} --> {}: {}\n", id(t.from), id(t.to), t.on.name()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::state::StateClass;

    #[test]
    fn the_machine_has_93_unambiguous_transitions_and_30_states() {
        assert_eq!(TRANSITIONS.len(), 93);
        assert_eq!(ProvisionState::ALL.len(), 30);
        let keys: HashSet<_> = TRANSITIONS.iter().map(|t| (t.from, t.on)).collect();
        assert_eq!(keys.len(), 93);
    }

    #[test]
    fn every_working_state_can_fail_and_go_forward() {
        for s in ProvisionState::ALL.iter().filter(|s| s.class() == StateClass::Working) {
            assert!(next(*s, Event::Fail).is_ok(), "{s} cannot fail");
            assert!(TRANSITIONS.iter().any(|t| t.from == *s && matches!(t.on, Event::Done | Event::Clean)), "{s} cannot end");
        }
    }

    #[test]
    fn every_state_is_reachable_from_enroll() {
        let mut seen = HashSet::from([Enroll]);
        loop {
            let more: Vec<_> = TRANSITIONS.iter().filter(|t| seen.contains(&t.from) && !seen.contains(&t.to)).map(|t| t.to).collect();
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        assert_eq!(seen.len(), 30);
    }

    #[test]
    fn a_manual_clean_keeps_its_target_through_wait_and_failure() {
        let had = Some(Manageable);
        assert_eq!(target_after(Event::Wait, CleanWait, had, None), had);
        assert_eq!(target_after(Event::Fail, CleanFailed, had, None), had);
        assert_eq!(target_after(Event::Manage, Manageable, had, None), None);
        assert_eq!(target_after(Event::Delete, Deleting, Some(Active), None), Some(Available));
    }
}
