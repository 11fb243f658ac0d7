//! Work on the parent and the children of a node (`states.md` sections 4.8 and 5).
//!
//! Each piece of it is a flow of that other node: it is recorded before it starts, done by the conductor that owns the node, waits for other short work
//! there, and outlives a crash of either conductor.

use std::time::Duration;

use bessemer_db::{Children, NodeFilter};
use bessemer_drivers::iface::DriverCx;
use bessemer_model::{
    Json, boolean,
    fault::{Fault, FaultKind},
    flow::{Flow, FlowKind, Lane, Phase},
    ids::{FlowId, NodeId},
    node::{Node, NodeChange},
    state::PowerChange,
    step::Step,
};
use bessemer_rpc::UserStep;
use serde_json::json;
use uuid::Uuid;

use crate::{
    actions::{self, Action},
    exec::{BMC_DEADLINE, callback_timeout},
    flows,
    runner::{Outcome, RETRY, StepError},
    steps::{self, Purpose},
    task::{Task, new_flow},
};

/// Between two looks at work that takes a moment, and how long it may be looked at before the step lets go.
const LOOK: Duration = Duration::from_millis(25);
const MOMENT: Duration = Duration::from_secs(1);
/// What a power action of another node may take beyond the action itself: it stands in line there.
const IN_LINE: Duration = Duration::from_secs(15);

fn refused(f: Fault) -> StepError {
    let retry = (f.kind == FaultKind::NodeLocked).then_some(RETRY);
    StepError { text: f.detail, retry }
}

/// Whether a node has a power supply of its own instead of its parent's (`driver_info.has_dedicated_power_supply`).
fn own_supply(node: &Node) -> bool {
    match node.spec.driver_info.get("has_dedicated_power_supply") {
        Some(Json::Bool(b)) => *b,
        Some(Json::String(s)) => boolean::from_text(s) == Some(true),
        Some(Json::Number(n)) => n.as_f64() != Some(0.0),
        _ => false,
    }
}

async fn children(t: &Task, only: &[NodeId]) -> Result<Vec<NodeId>, StepError> {
    let filter = NodeFilter { children: Children::Of(t.node.id), ..NodeFilter::default() };
    let all = t.core.store.node_refs(&filter).await?;
    Ok(all.into_iter().map(|r| r.id).filter(|id| only.is_empty() || only.contains(id)).collect())
}

/// The flow by which the current step works on another node: the same one each time the step is run.
fn flow_of(t: &Task, other: NodeId) -> FlowId {
    FlowId(Uuid::new_v5(&t.flow.id.0, format!("{}/{other}", t.flow.at).as_bytes()))
}

/// Begins the work on another node unless that was done; gives whether it has ended.
async fn pursue(t: &Task, other: NodeId, make: impl Fn(&Node) -> Result<(Flow, NodeChange), Fault>) -> Result<bool, StepError> {
    let id = flow_of(t, other);
    // The lane before the log: a flow leaves the one and enters the other in one transaction.
    let running = t.core.store.flow_get(other, Lane::Power).await?;
    if running.is_some_and(|s| s.flow.id == id) {
        return Ok(false);
    }
    if let Some(end) = t.core.store.flow_end(other, id).await? {
        return if end.outcome == "finished" { Ok(true) } else { Err(StepError::fatal(format!("node {other}: {}", end.detail))) };
    }
    actions::begin(&t.core, other, |node| {
        let (flow, change) = make(node)?;
        Ok(Some(Action { flow: Flow { id, ..flow }, change }))
    })
    .await
    .map_err(refused)?;
    Ok(false)
}

/// Runs a step on the children of the node, one after the other; on all of them when `only` is empty. A child needs no ramdisk: only steps that its
/// drivers carry out can be run.
pub(crate) async fn step(t: &Task, step: &Step, only: &[NodeId]) -> Result<Outcome, StepError> {
    let purpose = if t.flow.kind == FlowKind::Service { Purpose::Service } else { Purpose::Clean };
    let user = UserStep { args: step.args.clone(), ..UserStep::new(step.interface, step.name.clone()) };
    let begun = tokio::time::Instant::now();
    for child in children(t, only).await? {
        loop {
            let done = pursue(t, child, |node| {
                let offers = steps::driver_offers(&t.core.registry, node, purpose);
                let planned = steps::resolve(std::slice::from_ref(&user), &offers, true, false)
                    .map_err(|p| Fault::invalid(format!("child node {child}: {p}")))?;
                Ok((new_flow(node, FlowKind::Device, planned, json!({ "parent": t.node.id }), t.now()), NodeChange::default()))
            })
            .await?;
            if done {
                break;
            }
            if begun.elapsed() > MOMENT {
                return Ok(Outcome::Wait { phase: Phase::Sleeping, poll: Some(MOMENT), timeout: Some(callback_timeout(t)) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(Outcome::Next)
}

/// Before the power of a node changes: the parent that feeds it is switched on, the children that it feeds are switched off.
pub(crate) async fn power(t: &Task, change: PowerChange) -> Result<(), StepError> {
    let others = match change {
        PowerChange::On if !own_supply(&t.node) => t.node.spec.parent_node.into_iter().collect(),
        PowerChange::Off => children(t, &[]).await?,
        _ => return Ok(()),
    };
    for other in others {
        let node = t.core.store.node_get_with_secrets(other).await?;
        if change == PowerChange::Off && own_supply(&node) {
            continue;
        }
        let power = t.core.registry.power(&node)?;
        if power.state(&DriverCx { node: &node, deadline: BMC_DEADLINE }).await? == Some(change.ends_in()) {
            continue;
        }
        let longest = t.core.config.power_state_change_timeout + IN_LINE;
        let begun = tokio::time::Instant::now();
        while !pursue(t, other, |node| power_flow(t, node, change)).await? {
            if begun.elapsed() > longest {
                let text = format!("node {other} did not come to '{}' within {} s", change.as_str(), longest.as_secs());
                return Err(StepError::fatal(text));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

fn power_flow(t: &Task, node: &Node, change: PowerChange) -> Result<(Flow, NodeChange), Fault> {
    if change == PowerChange::Off && node.keeps_power() {
        let text = format!("node {} has disable_power_off set and shares the power supply: neither can be powered off", node.id);
        return Err(Fault::new(FaultKind::PowerStateFailure, text));
    }
    let flow = flows::single(node, FlowKind::Power, "power.set", json!({ "target": change.as_str() }), t.now());
    Ok((flow, NodeChange { target_power_state: Some(Some(change.ends_in())), ..NodeChange::default() }))
}
