//! Work that recurs: power sync, recovery from power failures, history purge (`states.md` sections 5 and 10).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bessemer_db::{Commit, NodeFilter, Write};
use bessemer_drivers::iface::DriverCx;
use bessemer_model::{
    ids::NodeId,
    node::{Node, NodeChange, NodeFault},
    state::{PowerChange, PowerState},
};
use futures::StreamExt;

use crate::{core::Core, members::Members};

/// Failures in a row, by node.
type Failures = Mutex<HashMap<NodeId, u32>>;

/// Longest time that reading one node's power may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

async fn every(core: &Core, interval: Duration) -> bool {
    if interval.is_zero() {
        core.stop.cancelled().await;
        return false;
    }
    tokio::select! {
        () = tokio::time::sleep(interval) => true,
        () = core.stop.cancelled() => false,
    }
}

/// Power sync.
pub(crate) async fn run_power_sync(core: Arc<Core>) {
    let failures = Failures::default();
    while every(&core, core.config.sync_power_state_interval).await {
        let filter = NodeFilter { maintenance: Some(false), ..Default::default() };
        let nodes = match core.store.node_refs(&filter).await {
            Ok(n) => n,
            Err(e) => {
                tracing::warn!(error = %e, "power sync could not list nodes");
                continue;
            }
        };
        // Each node by its own conductor, so that a controller is asked once.
        let members = Members::recent(&core).await.ok();
        let ours = nodes.into_iter().filter(|n| members.as_ref().is_none_or(|m| m.is_ours(&core, n)));
        futures::stream::iter(ours)
            .for_each_concurrent(core.config.sync_power_state_workers.max(1), |n| {
                let (core, failures) = (&core, &failures);
                async move { sync_one(core, n.id, failures).await }
            })
            .await;
    }
}

fn left_alone(node: &Node) -> bool {
    node.status.provision_state.power_sync_excluded()
        || node.reservation.is_some()
        || node.status.target_power_state.is_some()
        || node.spec.maintenance
        || node.status.provision_state.is_unstable()
}

async fn sync_one(core: &Arc<Core>, id: NodeId, failures: &Failures) {
    let Ok(node) = core.store.node_get_with_secrets(id).await else { return };
    if left_alone(&node) {
        return;
    }
    let Ok(power) = core.registry.power(&node).cloned() else { return };
    let cx = DriverCx { node: &node, deadline: READ_DEADLINE };
    let read = tokio::time::timeout(READ_DEADLINE, power.state(&cx)).await;
    let state = match read {
        Ok(Ok(Some(s))) if s != PowerState::Error => s,
        Ok(Ok(None)) => return,
        Ok(Ok(Some(_))) => return count_failure(core, &node, failures, "the BMC reports a power error").await,
        Ok(Err(e)) => return count_failure(core, &node, failures, &e.to_string()).await,
        Err(_) => return count_failure(core, &node, failures, "the BMC did not answer in time").await,
    };
    if node.status.power_state == Some(state) {
        failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        return;
    }
    let force = core.config.force_power_state_during_sync && !node.keeps_power() && node.status.power_state.is_some();
    if !force {
        write(core, &node, NodeChange { power_state: Some(Some(state)), ..Default::default() }, None).await;
        return;
    }
    // Drive the hardware back to what the record says.
    let change = if node.status.power_state == Some(PowerState::On) { PowerChange::On } else { PowerChange::Off };
    let Ok(Some(claim)) = core.store.claim_take(id, core.epoch(), &core.config.host, core.now(), "power sync").await else { return };
    let result = power.set(&cx, change, core.config.power_state_change_timeout).await;
    let _ = core.store.claim_release(&claim).await;
    core.hint(id);
    if let Err(e) = result {
        count_failure(core, &node, failures, &e.to_string()).await;
    }
}

async fn count_failure(core: &Arc<Core>, node: &Node, failures: &Failures, why: &str) {
    let n = {
        let mut f = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let n = f.entry(node.id).or_default();
        *n += 1;
        *n
    };
    tracing::warn!(node = %node.id, failures = n, error = why, "power sync failed");
    if n <= core.config.power_state_sync_max_retries {
        return;
    }
    failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&node.id);
    let reason = format!("During sync_power_state, max retries exceeded for node {}: {why}", node.id);
    let mut spec = node.spec.clone();
    spec.maintenance = true;
    spec.maintenance_reason = Some(reason.clone());
    spec.fault = Some(NodeFault::PowerFailure);
    let change = NodeChange { power_state: Some(Some(PowerState::Error)), last_error: Some(Some(reason)), ..Default::default() };
    write(core, node, change, Some(spec)).await;
}

async fn write(core: &Arc<Core>, node: &Node, change: NodeChange, spec: Option<bessemer_model::node::NodeSpec>) {
    let Ok(Some(claim)) = core.store.claim_take(node.id, core.epoch(), &core.config.host, core.now(), "power sync").await else { return };
    let commit = Commit { change, spec: spec.map(|s| (node.revision, s)), agent: Write::Keep, release: true, ..Default::default() };
    if let Err(e) = core.store.claim_commit(&claim, commit).await {
        tracing::info!(node = %node.id, error = %e, "power sync left the node to somebody else");
        let _ = core.store.claim_release(&claim).await;
    }
    core.hint(node.id);
}

/// Nodes in maintenance for a power failure come back when their BMC answers again.
pub(crate) async fn run_power_recovery(core: Arc<Core>) {
    while every(&core, core.config.power_failure_recovery_interval).await {
        let filter = NodeFilter { maintenance: Some(true), fault: Some(NodeFault::PowerFailure), ..Default::default() };
        let Ok(nodes) = core.store.node_refs(&filter).await else { continue };
        let members = Members::recent(&core).await.ok();
        for n in nodes.into_iter().filter(|n| members.as_ref().is_none_or(|m| m.is_ours(&core, n))) {
            let Ok(node) = core.store.node_get_with_secrets(n.id).await else { continue };
            let Ok(power) = core.registry.power(&node).cloned() else { continue };
            let cx = DriverCx { node: &node, deadline: READ_DEADLINE };
            let Ok(Ok(Some(state))) = tokio::time::timeout(READ_DEADLINE, power.state(&cx)).await else { continue };
            if state == PowerState::Error {
                continue;
            }
            let mut spec = node.spec.clone();
            spec.maintenance = false;
            spec.maintenance_reason = None;
            spec.fault = None;
            write(&core, &node, NodeChange { power_state: Some(Some(state)), ..Default::default() }, Some(spec)).await;
        }
    }
}

/// Old history entries go.
pub(crate) async fn run_history_purge(core: Arc<Core>) {
    while every(&core, Duration::from_secs(3600)).await {
        let keep = u32::try_from(core.config.node_history_max_entries).unwrap_or(300);
        if let Err(e) = core.store.history_purge(keep, bessemer_model::clock::Timestamp(0), 1000).await {
            tracing::warn!(error = %e, "history purge failed");
        }
    }
}
