//! Which steps a flow begins with. More are added by its planning step, once the ramdisk can be asked.

use std::sync::Arc;

use bessemer_drivers::registry::Registry;
use bessemer_model::{
    Json,
    clock::Timestamp,
    flow::{Flow, FlowKind},
    interface::InterfaceKind,
    node::Node,
    state::ProvisionState,
    step::{Replay, Step, StepSource},
};
use bessemer_rpc::UserStep;
use serde_json::json;

use crate::{
    core::Core,
    steps::{self, Purpose, StepProblem},
    task::new_flow,
};

pub(crate) fn internal(name: &str) -> Step {
    Step::internal(name, Replay::Idempotent)
}

/// Whether the node's deploy interface works through a ramdisk.
#[must_use]
pub fn uses_ramdisk(node: &Node) -> bool {
    !matches!(node.spec.interfaces.get(InterfaceKind::Deploy), "fake" | "noop" | "")
}

pub(crate) fn boot_ramdisk() -> [Step; 3] {
    [internal("ramdisk.off"), internal("ramdisk.on"), internal("ramdisk.wait")]
}

/// Whether automated cleaning is wanted for this node.
#[must_use]
pub fn cleans_automatically(core: &Core, node: &Node) -> bool {
    node.spec.automated_clean.unwrap_or(core.config.automated_clean)
}

/// Automated cleaning; without steps where it is switched off.
#[must_use]
pub fn automated_clean(core: &Arc<Core>, node: &Node, now: Timestamp) -> Flow {
    let mut steps = Vec::new();
    if cleans_automatically(core, node) {
        if core.config.automated_cleaning.by_runbook() {
            steps.push(internal("clean.choose"));
        } else {
            if uses_ramdisk(node) {
                steps.extend(boot_ramdisk());
            }
            steps.push(internal("clean.plan"));
        }
    }
    new_flow(node, FlowKind::Clean, steps, json!({}), now)
}

/// Whether the ramdisk is booted for these steps: not for those that all do without.
#[must_use]
pub fn boots_ramdisk(registry: &Registry, node: &Node, user: &[UserStep], purpose: Purpose, disabled: bool) -> bool {
    // Who holds a cleaning wants to look at the machine in its ramdisk.
    let held = purpose == Purpose::Clean && user.iter().any(|u| u.children.is_none() && matches!(u.step.as_str(), "hold" | "wait"));
    !disabled && uses_ramdisk(node) && (held || steps::want_ramdisk(user, &steps::driver_offers(registry, node, purpose)))
}

/// Cleaning with the user's steps; ends in `manageable`. The ramdisk is booted only if one of them needs it.
#[must_use]
pub fn manual_clean(registry: &Registry, node: &Node, user: &[UserStep], disable_ramdisk: bool, now: Timestamp) -> Flow {
    let mut steps = Vec::new();
    if boots_ramdisk(registry, node, user, Purpose::Clean, disable_ramdisk) {
        steps.extend(boot_ramdisk());
    }
    steps.push(internal("clean.plan"));
    let mut f = new_flow(node, FlowKind::Clean, steps, json!({"steps": user, "disable_ramdisk": disable_ramdisk}), now);
    f.target = Some(ProvisionState::Manageable);
    f
}

/// Servicing with the user's steps; the ramdisk is booted only if one of them needs it.
#[must_use]
pub fn service(registry: &Registry, node: &Node, user: &[UserStep], disable_ramdisk: bool, now: Timestamp) -> Flow {
    let ramdisk = boots_ramdisk(registry, node, user, Purpose::Service, disable_ramdisk);
    let mut steps = Vec::new();
    if ramdisk {
        steps.extend(boot_ramdisk());
    }
    steps.push(internal("service.plan"));
    new_flow(node, FlowKind::Service, steps, json!({"steps": user, "disable_ramdisk": disable_ramdisk, "ramdisk": ramdisk}), now)
}

/// Deployment (also `rebuild`).
///
/// # Errors
/// [`StepProblem`] when the user's deploy steps cannot be used.
pub fn deploy(registry: &Registry, node: &Node, user: &[UserStep], request: Json, now: Timestamp) -> Result<Flow, StepProblem> {
    let ramdisk = uses_ramdisk(node);
    let mut list = vec![internal("deploy.prepare")];
    let mut planned = deployment_steps(registry, node, user, &[], !ramdisk)?;
    if ramdisk {
        list.extend([internal("ramdisk.off"), internal("ramdisk.on")]);
        // The agent's own steps are known once `deploy.deploy` has brought it up.
        if let Some(i) = planned.iter().position(|s| s.interface == InterfaceKind::Deploy && s.name == "deploy") {
            planned.insert(i + 1, internal("deploy.plan"));
        }
    }
    list.extend(planned);
    Ok(new_flow(node, FlowKind::Deploy, list, request, now))
}

/// The visible steps of a deployment. `lenient` leaves out what nobody offers instead of refusing it.
///
/// # Errors
/// As for [`deploy`].
pub fn deployment_steps(
    registry: &Registry,
    node: &Node,
    user: &[UserStep],
    agent: &[steps::Offer],
    lenient: bool,
) -> Result<Vec<Step>, StepProblem> {
    let mut offers = steps::driver_offers(registry, node, Purpose::Deploy);
    for o in agent {
        if !offers.iter().any(|k| k.step.interface == o.step.interface && k.step.name == o.step.name) {
            offers.push(o.clone());
        }
    }
    let user: Vec<UserStep> = user
        .iter()
        .filter(|u| {
            !lenient
                || bessemer_model::step::RESERVED_STEPS.contains(&u.step.as_str())
                || offers.iter().any(|o| o.step.interface == u.interface && o.step.name == u.step)
        })
        .cloned()
        .collect();
    steps::deployment(&offers, &user, !agent.is_empty())
}

/// Inspection: out of band where the driver can, through the ramdisk otherwise.
#[must_use]
pub fn inspect(registry: &Registry, node: &Node, now: Timestamp) -> Flow {
    let steps = if registry.inspect(node).is_some() {
        vec![internal("inspect.oob")]
    } else {
        vec![internal("ramdisk.off"), internal("ramdisk.on"), internal("inspect.wait"), internal("inspect.finish")]
    };
    new_flow(node, FlowKind::Inspect, steps, json!({}), now)
}

/// A flow of one hidden step.
#[must_use]
pub fn single(node: &Node, kind: FlowKind, step: &str, request: Json, now: Timestamp) -> Flow {
    new_flow(node, kind, vec![internal(step)], request, now)
}

/// Puts `planned` in the place of everything after the current step.
pub fn splice_after_current(flow: &mut Flow, planned: Vec<Step>) {
    flow.steps.truncate(flow.at + 1);
    flow.steps.extend(planned);
}

/// The hidden step that ends a ramdisk's work.
#[must_use]
pub fn teardown() -> Step {
    internal("ramdisk.teardown")
}

/// Whether a step is one of the flow's own.
#[must_use]
pub fn is_internal(s: &Step) -> bool {
    s.source == StepSource::Flow
}

#[cfg(test)]
mod tests {
    use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};

    use super::*;

    #[test]
    fn manual_cleaning_boots_the_ramdisk_only_for_steps_that_need_it_and_to_be_held_in() {
        let registry = Registry::with_fake(&FakeHardware::new(FakeBehaviour::default()));
        let mut node = crate::testing::node(ProvisionState::Manageable);
        for (kind, name) in [(InterfaceKind::Deploy, "direct"), (InterfaceKind::Bios, "fake")] {
            node.spec.interfaces.set(kind, name);
        }
        let boots = |node: &Node, kind, step: &str, disabled| {
            let flow = manual_clean(&registry, node, &[UserStep::new(kind, step)], disabled, Timestamp(0));
            flow.steps.iter().any(|s| s.name == "ramdisk.on")
        };
        assert!(!boots(&node, InterfaceKind::Bios, "factory_reset", false), "the BMC does it");
        assert!(boots(&node, InterfaceKind::Deploy, "erase_devices", false), "the ramdisk does it");
        assert!(boots(&node, InterfaceKind::Power, "hold", false), "somebody wants to look at the machine");
        assert!(!boots(&node, InterfaceKind::Deploy, "erase_devices", true), "it was turned off");
        node.spec.interfaces.set(InterfaceKind::Deploy, "fake");
        assert!(!boots(&node, InterfaceKind::Deploy, "erase_devices", false), "there is no ramdisk");
    }
}
