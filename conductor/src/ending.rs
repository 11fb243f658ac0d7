//! How flows end: well, failed, aborted.

use bessemer_drivers::iface::DriverCx;
use bessemer_model::{
    Json,
    flow::{Flow, FlowKind},
    node::NodeFault,
    state::ProvisionState,
    step::{Replay, Step},
    transition::Event,
};
use serde_json::json;

use crate::{
    flows,
    task::{StepsEnd, Task, TaskError, new_flow},
};

/// Keys of `driver_internal_info` that a flow leaves behind only while it lasts (`states.md` appendix B).
fn step_keys(kind: FlowKind) -> Option<(&'static str, &'static [&'static str])> {
    match kind {
        FlowKind::Clean => {
            Some(("clean_steps", &["clean_step_index", "cleaning_disable_ramdisk", "declarative_cleaning", "agent_cached_clean_steps"]))
        }
        FlowKind::Deploy => {
            Some(("deploy_steps", &["deploy_step_index", "user_deploy_steps", "steps_validated", "agent_cached_deploy_steps"]))
        }
        FlowKind::Service => Some(("service_steps", &["service_step_index", "service_disable_ramdisk", "agent_cached_service_steps"])),
        _ => None,
    }
}

/// The flow has no steps left.
pub(crate) async fn finished(t: &mut Task) -> Result<(), TaskError> {
    let kind = t.flow.kind;
    let ran_steps = t.flow.noted("planned").is_some();
    if let Some((steps, temporary)) = step_keys(kind) {
        let info = t.internal_info();
        for k in temporary {
            info.remove(*k);
        }
        if ran_steps {
            info.insert(steps.into(), Json::Null);
        }
    }
    if ran_steps {
        t.record_steps(Some(StepsEnd::Well));
    }
    let mut next = None;
    match kind {
        FlowKind::Clean => {
            let manual = t.flow.target == Some(ProvisionState::Manageable);
            t.event(if manual || t.node.spec.retired { Event::Manage } else { Event::Done });
        }
        FlowKind::Delete => {
            t.event(Event::Clean);
            next = Some(flows::automated_clean(&t.core, &t.node, t.now()));
        }
        FlowKind::Inspect => {
            t.pending.change.inspection_finished_at = Some(Some(t.now()));
            t.pending.change.inspection_started_at = Some(None);
            t.event(Event::Done);
        }
        FlowKind::Abort | FlowKind::Power | FlowKind::Device => {}
        _ => {
            t.event(Event::Done);
            if matches!(kind, FlowKind::Deploy | FlowKind::Adopt) && t.node.status.console_enabled {
                next = Some(flows::single(&t.node, FlowKind::Device, "console.start", json!({}), t.now()));
            }
        }
    }
    if !matches!(kind, FlowKind::Power | FlowKind::Device | FlowKind::Abort) {
        t.pending.change.last_error = Some(None);
    }
    t.log(None, "finished", kind.as_str());
    t.commit_end(next).await?;
    tracing::info!(node = %t.node.id, flow = kind.as_str(), state = %t.node.status.provision_state, "flow finished");
    Ok(())
}

/// A step failed for good.
pub(crate) async fn failed(t: &mut Task, step: &Step, text: &str) -> Result<(), TaskError> {
    let kind = t.flow.kind;
    // What the failed step itself had gathered is not written.
    t.pending = bessemer_db::Commit { log: std::mem::take(&mut t.pending.log), ..Default::default() };
    let text = match kind {
        FlowKind::Power => format!("Failed to change the power state: {text}"),
        FlowKind::Device => text.to_owned(),
        _ if step.visible() => format!("Node failed step {}: {text}", step.label()),
        _ => format!("Node failed to {}: {text}", doing(kind)),
    };
    tracing::warn!(node = %t.node.id, flow = kind.as_str(), step = %step.label(), error = %text, "flow failed");
    t.log(Some(step), "failed", text.clone());
    let visible_step = (step.visible() || step.name == "device.verify") && t.flow.noted("planned").is_some();
    if visible_step {
        t.record_steps(Some(StepsEnd::At(step)));
    }
    t.record_error(&text);
    match kind {
        FlowKind::Clean if visible_step => set_maintenance(t, NodeFault::CleanFailure, &text),
        FlowKind::Service if visible_step || t.flow.noted("unplannable").is_some() => set_maintenance(t, NodeFault::ServiceFailure, &text),
        FlowKind::Inspect => t.pending.change.inspection_started_at = Some(None),
        FlowKind::Adopt => t.pending.change.power_state = Some(None),
        FlowKind::Power => {
            t.pending.change.target_power_state = Some(None);
            t.pending.change.power_state = Some(read_power(t).await);
        }
        _ => {}
    }
    t.event(Event::Fail);
    let cleanup = cleanup_after(t, kind);
    t.commit_end(cleanup).await?;
    Ok(())
}

/// `abort` was asked for and the flow has come to a place where it may stop.
pub(crate) async fn aborted(t: &mut Task) -> Result<(), TaskError> {
    let kind = t.flow.kind;
    let text = format!("{} was aborted on request", doing(kind));
    t.log(None, "aborted", text.clone());
    t.record_error(&text);
    if !t.event(Event::Abort) {
        t.event(Event::Fail);
    }
    if matches!(kind, FlowKind::Inspect) {
        t.pending.change.inspection_started_at = Some(None);
    }
    let cleanup = cleanup_after(t, kind);
    t.commit_end(cleanup).await?;
    Ok(())
}

/// The flow that brings the machine to rest after another one failed or was aborted, if anything is left to do.
pub(crate) fn cleanup_after(t: &mut Task, kind: FlowKind) -> Option<Flow> {
    let c = &t.core.config;
    let booted = t.flow.noted("ramdisk").is_some();
    let off = match kind {
        FlowKind::Deploy => booted && c.power_off_after_deploy_failure,
        FlowKind::Clean => booted && c.poweroff_in_cleanfail,
        FlowKind::Inspect | FlowKind::Rescue => booted,
        _ => false,
    };
    if !booted {
        return None;
    }
    let mut steps = Vec::new();
    if off {
        steps.push(Step::internal("cleanup.power_off", Replay::Idempotent));
    }
    steps.push(Step::internal("cleanup.boot", Replay::Idempotent));
    Some(new_flow(&t.node, FlowKind::Abort, steps, json!({"after": kind}), t.now()))
}

fn set_maintenance(t: &mut Task, fault: NodeFault, reason: &str) {
    let spec = t.spec();
    spec.maintenance = true;
    spec.maintenance_reason = Some(reason.to_owned());
    spec.fault = Some(fault);
}

async fn read_power(t: &Task) -> Option<bessemer_model::state::PowerState> {
    let power = t.core.registry.power(&t.node).ok()?;
    let cx = DriverCx { node: &t.node, deadline: std::time::Duration::from_secs(10) };
    power.state(&cx).await.ok().flatten().or(Some(bessemer_model::state::PowerState::Error))
}

const fn doing(kind: FlowKind) -> &'static str {
    match kind {
        FlowKind::Verify => "verify the BMC credentials",
        FlowKind::Inspect => "inspect hardware",
        FlowKind::Clean => "clean",
        FlowKind::Deploy => "deploy",
        FlowKind::Delete => "tear down",
        FlowKind::Rescue => "rescue",
        FlowKind::Unrescue => "unrescue",
        FlowKind::Service => "service",
        FlowKind::Adopt => "adopt",
        FlowKind::Abort => "clean up",
        FlowKind::Power => "change power",
        FlowKind::Device => "use a device",
    }
}

/// `{"interface", "step", "abortable", "priority"}` and arguments, as `clean_step` and its like show a step.
#[must_use]
pub fn step_json(s: &Step) -> Json {
    let mut m = json!({"interface": s.interface, "step": s.name, "abortable": s.abortable, "priority": s.priority});
    if !s.args.is_empty()
        && let Some(o) = m.as_object_mut()
    {
        o.insert("args".into(), Json::Object(bessemer_model::secret::masked(&s.args)));
    }
    tell_children(&mut m, s.children.as_deref());
    m
}

/// On which children a step runs, in the words of the request.
pub(crate) fn tell_children(step: &mut Json, children: Option<&[bessemer_model::ids::NodeId]>) {
    if let Some(only) = children {
        step["execute_on_child_nodes"] = json!(true);
        step["limit_child_node_execution"] = json!(only);
    }
}

/// Publishes the plan in `driver_internal_info` (`clean_steps`, `clean_step_index` and their like).
pub(crate) fn publish_plan(t: &mut Task) {
    let Some((key, _)) = step_keys(t.flow.kind) else { return };
    let list: Vec<Json> = t.flow.steps.iter().filter(|s| s.visible()).map(step_json).collect();
    let info = t.internal_info();
    info.insert(key.into(), Json::Array(list));
    if t.flow.noted("planned").is_none() {
        t.record_steps(None);
    }
    t.flow.set_note("planned", json!(true));
}
