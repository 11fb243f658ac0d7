//! The verbs: checked against the table and the configuration, then written as a flow. No BMC is asked here.

use std::{sync::Arc, time::Duration};

use bessemer_db::{DbError, NodeFilter, Queue, WorkBegin};
use bessemer_model::{
    Json,
    event::OutboxEvent,
    fault::{Fault, FaultKind},
    flow::{Flow, FlowKind, FlowLogEntry, Lane, Phase},
    ids::NodeId,
    interface::InterfaceKind,
    node::{Node, NodeChange},
    state::{ProvisionState, StateClass},
    transition::{self, Event, target_after},
};
use bessemer_rpc::{ProvisionRequest, RequestCx, Verb};
use serde_json::json;

use crate::{
    core::Core,
    flows,
    task::{self, new_flow},
    validate,
};

/// How long a request waits for a short task to let go of the node before it is refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a verb leads to.
struct Plan {
    flow: Option<Flow>,
    replace: bool,
    change: NodeChange,
    spec: Option<bessemer_model::node::NodeSpec>,
}

impl Plan {
    fn with(flow: Flow) -> Self {
        Self { flow: Some(flow), replace: false, change: NodeChange::default(), spec: None }
    }
}

/// Starts a verb.
///
/// # Errors
/// See [`bessemer_rpc::ConductorApi::provision`].
pub async fn provision(core: &Arc<Core>, cx: &RequestCx, id: NodeId, request: &ProvisionRequest) -> Result<(), Fault> {
    let started = tokio::time::Instant::now();
    let mut turn = None;
    loop {
        let node = core.store.node_get_with_secrets(id).await?;
        match attempt(core, cx, &node, request).await {
            Err(Attempt::Fault(f)) => return Err(f),
            Ok(()) => {
                core.hint(id);
                return Ok(());
            }
            Err(Attempt::Wait(refusal)) => {
                let left = PATIENCE.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(refusal);
                }
                if turn.is_none() {
                    turn = core.store.turn(id, Queue::Work, left).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

enum Attempt {
    /// Refused.
    Fault(Fault),
    /// Something short is in the way; refused with this if it lasts.
    Wait(Fault),
}

impl From<Fault> for Attempt {
    fn from(f: Fault) -> Self {
        Self::Fault(f)
    }
}

async fn attempt(core: &Arc<Core>, cx: &RequestCx, node: &Node, r: &ProvisionRequest) -> Result<(), Attempt> {
    let state = node.status.provision_state;
    let on = event_of(r, state);
    let Some(row) = allowed(state, on) else { return Err(refuse(core, node, r.verb)) };
    if on == Event::Abort && abort_later(core, node).await? {
        return Ok(());
    }
    let plan = prepare(core, node, r, on).await.map_err(|f| match f.kind {
        // Others end their cleaning soon, as a rule.
        FaultKind::ConcurrentActionLimit => Attempt::Wait(f),
        _ => Attempt::Fault(f),
    })?;
    let now = core.now();
    let asked = plan.flow.as_ref().and_then(|f| f.target).filter(|_| !on.keeps_target());
    let target = target_after(on, row.to, node.status.target_provision_state, asked);
    let mut change = plan.change;
    change.provision_state = Some(row.to);
    change.target_provision_state = Some(target);
    change.provision_updated_at = Some(Some(now));
    let mut work = WorkBegin::new(node.id, Some(state), change);
    work.replace = plan.replace || (plan.flow.is_none() && state.class() != StateClass::Stable);
    work.spec = plan.spec.map(|s| (node.revision, s));
    work.events.push(OutboxEvent {
        seq: 0,
        at: now,
        node: Some(node.id),
        kind: "node.provision_state".into(),
        data: json!({"from": state, "to": row.to, "event": on, "target": target, "request_id": cx.request_id}),
    });
    if let Some(f) = &plan.flow {
        work.log.push(FlowLogEntry {
            flow: f.id,
            node: node.id,
            at: now,
            step: String::new(),
            outcome: "accepted".into(),
            detail: format!("verb {} ({})", r.verb.as_str(), cx.request_id),
        });
    }
    work.flow = plan.flow;
    match core.store.work_begin(work).await {
        Ok(()) => Ok(()),
        // The node moved on while we looked: look again.
        Err(e @ (DbError::StateChanged { .. } | DbError::FlowExists { .. } | DbError::RevisionLost { .. } | DbError::Locked { .. })) => {
            Err(Attempt::Wait(locked(core, node, &e.to_string())))
        }
        Err(e) => Err(Attempt::Fault(e.into())),
    }
}

/// The event that a verb stands for in a state.
fn event_of(r: &ProvisionRequest, state: ProvisionState) -> Event {
    match r.verb {
        // Before microversion 1.110 aborting a waiting deployment tore it down.
        Verb::Abort if state == ProvisionState::DeployWait && !r.abort_deploy_fails => Event::Delete,
        v => v.event(),
    }
}

/// The row for a verb. Rows that only a flow may take (cleaning → manageable, deleting → cleaning) are not open to users.
fn allowed(state: ProvisionState, on: Event) -> Option<&'static transition::Transition> {
    if state.class() == StateClass::Working || matches!((state, on), (ProvisionState::ServiceFailed, Event::Wait | Event::Hold)) {
        return None;
    }
    transition::next(state, on).ok()
}

pub(crate) fn locked(core: &Core, node: &Node, why: &str) -> Fault {
    let holder = node.reservation.clone().unwrap_or_else(|| core.config.host.clone());
    Fault::new(
        FaultKind::NodeLocked,
        format!("Node {} is locked by host {holder}, please retry after the current operation is completed. ({why})", node.id),
    )
}

/// The verb is not possible in the node's state: busy while a conductor works on it, plainly wrong otherwise.
fn refuse(core: &Core, node: &Node, verb: Verb) -> Attempt {
    let state = node.status.provision_state;
    let working = state.class() == StateClass::Working;
    if working || node.reservation.is_some() {
        let f = locked(core, node, &doing(node));
        // Short internal work (verification, power sync) is waited for; a real conflict is not.
        return if state == ProvisionState::Verifying || !working { Attempt::Wait(f) } else { Attempt::Fault(f) };
    }
    Attempt::Fault(Fault::new(
        FaultKind::InvalidStateRequested,
        format!(
            "The requested action \"{}\" can not be performed on node \"{}\" while it is in state \"{state}\".",
            verb.as_str(),
            node.id
        ),
    ))
}

/// What a node is doing, for those who find it busy.
pub(crate) fn doing(node: &Node) -> String {
    let since = node.status.provision_updated_at.map(|t| format!(" since {}", t.to_wire())).unwrap_or_default();
    format!("it is {}{since}", node.status.provision_state)
}

fn no_maintenance(node: &Node, verb: Verb) -> Result<(), Fault> {
    if node.spec.maintenance {
        return Err(Fault::new(
            FaultKind::NodeInMaintenance,
            format!("The {} operation can't be performed on node {} because it's in maintenance mode.", verb.as_str(), node.id),
        ));
    }
    Ok(())
}

fn not_protected(node: &Node, verb: Verb) -> Result<(), Fault> {
    if node.spec.protected {
        return Err(Fault::new(
            FaultKind::NodeProtected,
            format!(
                "Node {} is protected and cannot be undeployed, rebuilt or deleted ({}); clear 'protected' first",
                node.id,
                verb.as_str()
            ),
        ));
    }
    Ok(())
}

async fn prepare(core: &Arc<Core>, node: &Node, r: &ProvisionRequest, on: Event) -> Result<Plan, Fault> {
    let now = core.now();
    let state = node.status.provision_state;
    match r.verb {
        Verb::Manage if state == ProvisionState::Enroll => Ok(Plan::with(flows::single(node, FlowKind::Verify, "verify", json!({}), now))),
        Verb::Manage => Ok(Plan { flow: None, replace: true, change: NodeChange::default(), spec: None }),
        Verb::Provide => {
            if node.spec.retired {
                return Err(Fault::new(FaultKind::NodeIsRetired, format!("Node {} is retired and can not be provided", node.id)));
            }
            if node.spec.maintenance && !core.config.allow_provisioning_in_maintenance {
                no_maintenance(node, r.verb)?;
            }
            Ok(Plan::with(flows::automated_clean(core, node, now)))
        }
        Verb::Inspect => {
            validate::one(core, node, InterfaceKind::Power).await?;
            validate::one(core, node, InterfaceKind::Inspect).await?;
            let mut p = Plan::with(flows::inspect(&core.registry, node, now));
            p.change.inspection_started_at = Some(Some(now));
            p.change.inspection_finished_at = Some(None);
            p.change.last_error = Some(None);
            Ok(p)
        }
        Verb::Clean => {
            no_maintenance(node, r.verb)?;
            cleaning_limit(core).await?;
            validate::one(core, node, InterfaceKind::Power).await?;
            let steps = r.steps.clone().unwrap_or_default();
            let mut p = Plan::with(flows::manual_clean(&core.registry, node, &steps, r.disable_ramdisk, now));
            let mut info = node.status.driver_internal_info.clone();
            info.insert("clean_steps".into(), given_steps(&steps));
            info.insert("cleaning_disable_ramdisk".into(), json!(r.disable_ramdisk));
            info.insert("declarative_cleaning".into(), json!(true));
            p.change.driver_internal_info = Some(info);
            p.change.last_error = Some(None);
            Ok(p)
        }
        Verb::Active | Verb::Rebuild => deployment(core, node, r).await,
        Verb::Deleted => {
            not_protected(node, r.verb)?;
            cleaning_limit(core).await?;
            validate::one(core, node, InterfaceKind::Power).await?;
            Ok(tear_down(node, now))
        }
        Verb::Rescue => {
            no_maintenance(node, r.verb)?;
            validate::one(core, node, InterfaceKind::Power).await?;
            validate::one(core, node, InterfaceKind::Rescue).await?;
            Ok(Plan::with(flows::single(node, FlowKind::Rescue, "rescue", json!({}), now)))
        }
        Verb::Unrescue => {
            no_maintenance(node, r.verb)?;
            validate::one(core, node, InterfaceKind::Power).await?;
            Ok(Plan::with(flows::single(node, FlowKind::Unrescue, "unrescue", json!({}), now)))
        }
        Verb::Adopt => Ok(Plan::with(flows::single(node, FlowKind::Adopt, "adopt", json!({}), now))),
        Verb::Service => {
            no_maintenance(node, r.verb)?;
            validate::one(core, node, InterfaceKind::Power).await?;
            let steps = r.steps.clone().unwrap_or_default();
            let mut p = Plan::with(flows::service(&core.registry, node, &steps, r.disable_ramdisk, now));
            let mut info = node.status.driver_internal_info.clone();
            info.insert("service_steps".into(), given_steps(&steps));
            info.insert("service_disable_ramdisk".into(), if r.disable_ramdisk { json!(true) } else { Json::Null });
            p.change.driver_internal_info = Some(info);
            p.change.last_error = Some(None);
            p.replace = true;
            Ok(p)
        }
        Verb::Unhold => {
            let mut flow = held_flow(core, node).await?;
            flow.at += 1;
            flow.phase = Phase::Ready;
            flow.wake_at = Some(now);
            Ok(Plan { flow: Some(flow), replace: true, change: NodeChange::default(), spec: None })
        }
        Verb::Abort if on == Event::Delete => Ok(tear_down(node, now)),
        Verb::Abort => abort(core, node).await,
    }
}

fn tear_down(node: &Node, now: bessemer_model::clock::Timestamp) -> Plan {
    let mut p = Plan::with(flows::single(node, FlowKind::Delete, "delete.teardown", json!({}), now));
    p.replace = true;
    p.change.last_error = Some(None);
    p
}

async fn deployment(core: &Arc<Core>, node: &Node, r: &ProvisionRequest) -> Result<Plan, Fault> {
    no_maintenance(node, r.verb)?;
    if r.verb == Verb::Rebuild {
        not_protected(node, r.verb)?;
    }
    let deploying = core
        .store
        .node_count(&NodeFilter { provision_states: vec![ProvisionState::Deploying, ProvisionState::DeployWait], ..Default::default() })
        .await?;
    if usize::try_from(deploying).unwrap_or(0) >= core.config.max_concurrent_deploy {
        return Err(Fault::new(
            FaultKind::ConcurrentActionLimit,
            format!(
                "{deploying} deployments run already; the limit is [conductor] max_concurrent_deploy = {}",
                core.config.max_concurrent_deploy
            ),
        ));
    }
    validate::one(core, node, InterfaceKind::Power).await?;
    validate::one(core, node, InterfaceKind::Deploy).await?;
    if let Some(wanted) = node.spec.instance_info.get("traits").and_then(Json::as_array) {
        let missing: Vec<&str> = wanted.iter().filter_map(Json::as_str).filter(|w| !node.traits.iter().any(|t| t == w)).collect();
        if !missing.is_empty() {
            return Err(Fault::invalid(format!("instance_info traits are not traits of the node: {}", missing.join(", "))));
        }
    }
    let user = with_templates(core, node, r.steps.clone().unwrap_or_default()).await?;
    let request = json!({"verb": r.verb.as_str(), "configdrive": r.configdrive.clone().unwrap_or(Json::Null), "steps": user});
    let flow = flows::deploy(&core.registry, node, &user, request, core.now()).map_err(|e| Fault::invalid(e.0))?;
    let mut p = Plan::with(flow);
    p.replace = true;
    p.change.last_error = Some(None);
    if let Some(name) = node.spec.instance_info.get("display_name").and_then(Json::as_str)
        && node.spec.instance_name.is_none()
    {
        let mut spec = node.spec.clone();
        spec.instance_name = Some(name.chars().take(255).collect());
        p.spec = Some(spec);
    }
    Ok(p)
}

/// The user's deploy steps with those of the templates that the instance's traits name. The flow keeps them: what becomes of a template
/// during a deployment does not change it.
async fn with_templates(core: &Core, node: &Node, user: Vec<bessemer_rpc::UserStep>) -> Result<Vec<bessemer_rpc::UserStep>, Fault> {
    let traits = node.spec.instance_info.get("traits").and_then(Json::as_array);
    let names: Vec<String> = traits.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(user);
    }
    let templates = core.store.deploy_templates_named(&names).await?;
    crate::steps::with_templates(user, &templates, &core.config.disallow_deploy_steps)
        .map_err(|e| Fault::invalid(format!("Failed to validate deploy or power info for node {}: {}", node.id, e.0)))
}

async fn cleaning_limit(core: &Core) -> Result<(), Fault> {
    let busy = core
        .store
        .node_count(&NodeFilter {
            provision_states: vec![ProvisionState::Deleting, ProvisionState::Cleaning, ProvisionState::CleanWait],
            ..Default::default()
        })
        .await?;
    if usize::try_from(busy).unwrap_or(0) >= core.config.max_concurrent_clean {
        return Err(Fault::new(
            FaultKind::ConcurrentActionLimit,
            format!(
                "{busy} nodes are being cleaned already; the limit is [conductor] max_concurrent_clean = {}",
                core.config.max_concurrent_clean
            ),
        ));
    }
    Ok(())
}

async fn held_flow(core: &Core, node: &Node) -> Result<Flow, Fault> {
    let stored = core.store.flow_get(node.id, Lane::Provision).await?;
    stored
        .map(|s| s.flow)
        .filter(|f| f.phase == Phase::Held)
        .ok_or_else(|| Fault::new(FaultKind::InvalidStateRequested, format!("node {} is not held by a step", node.id)))
}

/// Whether the node stands at a step that must not be interrupted: then the flow is marked, and ends when that step has ended.
async fn abort_later(core: &Core, node: &Node) -> Result<bool, Fault> {
    let Some(flow) = core.store.flow_get(node.id, Lane::Provision).await?.map(|s| s.flow) else { return Ok(false) };
    let interruptible = flow.current().is_none_or(|s| s.abortable || !s.visible() || flow.phase == Phase::Held);
    if !interruptible {
        core.store.flow_set_aborting(node.id).await?;
    }
    Ok(!interruptible)
}

/// `abort`: the flow ends now, and what it left behind is cleaned up.
async fn abort(core: &Core, node: &Node) -> Result<Plan, Fault> {
    let now = core.now();
    let stored = core.store.flow_get(node.id, Lane::Provision).await?;
    if let Some(flow) = stored.map(|s| s.flow) {
        let off = flow.noted("ramdisk").is_some();
        let mut steps = Vec::new();
        if off {
            steps.push(bessemer_model::step::Step::internal("cleanup.power_off", bessemer_model::step::Replay::Idempotent));
            steps.push(bessemer_model::step::Step::internal("cleanup.boot", bessemer_model::step::Replay::Idempotent));
        }
        let cleanup = new_flow(node, FlowKind::Abort, steps, json!({"after": flow.kind}), now);
        let mut change = NodeChange::default();
        if node.status.provision_state != ProvisionState::ServiceFailed {
            change.last_error = Some(Some(format!("{} was aborted on request", task::event_type(flow.kind))));
        }
        if flow.kind == FlowKind::Inspect {
            change.inspection_started_at = Some(None);
        }
        return Ok(Plan { flow: Some(cleanup), replace: true, change, spec: None });
    }
    Ok(Plan { flow: None, replace: true, change: NodeChange::default(), spec: None })
}

/// User steps as they were given.
fn given_steps(steps: &[bessemer_rpc::UserStep]) -> Json {
    Json::Array(
        steps
            .iter()
            .map(|s| {
                let mut m = json!({"interface": s.interface, "step": s.step});
                if !s.args.is_empty() {
                    m["args"] = Json::Object(bessemer_model::secret::masked(&s.args));
                }
                if let Some(o) = s.order {
                    m["order"] = json!(o);
                }
                crate::ending::tell_children(&mut m, s.children.as_deref());
                m
            })
            .collect(),
    )
}
