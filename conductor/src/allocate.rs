//! Finding nodes for allocations (`operations.md` section 12).
//!
//! A request is a row; any living conductor may take it. Taking, giving a node and giving up are one write each, the last two under the
//! fence of the taking: a process that dies in between leaves a row that another one takes, and one that was only believed dead
//! can write no more. Giving a node checks it again, so that two requests never get the same.

use std::{sync::Arc, time::Duration};

use bessemer_db::{AllocationClaim, DbError, NodeFilter, NodePage};
use bessemer_model::{allocation::Allocation, ids::AllocationId, node::Node, state::ProvisionState};
use futures::StreamExt;
use rand::seq::SliceRandom;

use crate::core::Core;

/// Requests looked for at once.
const BATCH: u32 = 1000;
/// Requests worked on at once.
const PARALLEL: usize = 8;
/// How often nodes are looked for again after all that fitted were lost to others.
const ROUNDS: u32 = 5;
/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves requests until the process stops. Hints make it quick; the scan alone suffices.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        match core.store.allocations_due(core.now(), BATCH).await {
            Ok(due) => {
                let work = futures::stream::iter(due).for_each_concurrent(PARALLEL, |id| serve(&core, id));
                tokio::select! {
                    () = work => {}
                    () = core.stop.cancelled() => return,
                }
            }
            Err(e) => tracing::warn!(error = %e, "looking for allocations failed"),
        }
        tokio::select! {
            () = core.allocations.notified() => {}
            () = tokio::time::sleep(core.config.scan_interval) => {}
            () = core.stop.cancelled() => return,
        }
    }
}

/// Takes a request and ends it, with a node or without.
async fn serve(core: &Core, id: AllocationId) {
    let taken = core.store.allocation_take(id, core.epoch(), &core.config.host, core.now()).await;
    let (claim, wish) = match taken {
        Ok(Some(t)) => t,
        Ok(None) => return,
        Err(e) => {
            tracing::warn!(allocation = %id, error = %e, "an allocation could not be taken; it is tried again");
            return;
        }
    };
    // Taken is taken for as long as this process lives: what the store refuses now is tried until it does not.
    loop {
        match settle(core, &claim, &wish).await {
            Ok(()) => break,
            Err(DbError::FenceLost { .. }) => {
                tracing::info!(allocation = %id, "the allocation is gone or another conductor's");
                break;
            }
            Err(e) => {
                tracing::warn!(allocation = %id, error = %e, "the store failed; the allocation is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    core.changed.notify_waiters();
}

async fn settle(core: &Core, claim: &AllocationClaim, wish: &Allocation) -> Result<(), DbError> {
    for _ in 0..ROUNDS {
        let nodes = match candidates(core, wish).await? {
            Ok(nodes) => nodes,
            Err(why) => return give_up(core, claim, &why).await,
        };
        for node in nodes {
            match core.store.allocation_reserve(claim, node.id).await {
                Ok(true) => {
                    tracing::info!(allocation = %wish.id, node = %node.id, "node allocated");
                    return Ok(());
                }
                Ok(false) => {}
                Err(DbError::Duplicate { .. }) => {
                    return give_up(core, claim, "another node has the UUID of this allocation as its instance").await;
                }
                Err(e) => return Err(e),
            }
        }
    }
    give_up(core, claim, "all nodes were filtered out during reservation").await
}

async fn give_up(core: &Core, claim: &AllocationClaim, why: &str) -> Result<(), DbError> {
    tracing::info!(allocation = %claim.allocation, why, "no node for the allocation");
    core.store.allocation_fail(claim, &format!("Failed to process allocation {}: {why}.", claim.allocation)).await
}

/// The nodes that fit, in the order to try them: chance, so that requests served at once do not all want the same first; before
/// the others the one of the allocation's name. Or why there are none.
async fn candidates(core: &Core, wish: &Allocation) -> Result<Result<Vec<Node>, String>, DbError> {
    let class = wish.resource_class.clone().unwrap_or_default();
    let filter = NodeFilter {
        resource_class: Some(class.clone()),
        provision_states: vec![ProvisionState::Available],
        associated: Some(false),
        maintenance: Some(false),
        project: wish.owner.clone(),
        ids: (!wish.candidates.is_empty()).then(|| wish.candidates.clone()),
        ..NodeFilter::default()
    };
    let mut nodes = core.store.node_list(&filter, &NodePage::all()).await?;
    nodes.retain(|n| n.status.power_state.is_some());
    if nodes.is_empty() {
        return Ok(Err(match wish.candidates.is_empty() {
            true => format!("no available nodes match the resource class {class}"),
            false => format!("none of the requested nodes are available and match the resource class {class}"),
        }));
    }
    nodes.retain(|n| wish.fits(n));
    if nodes.is_empty() {
        return Ok(Err(format!("no suitable nodes have the requested traits {}", wish.traits.join(", "))));
    }
    nodes.shuffle(&mut rand::rng());
    if let Some(at) = nodes.iter().position(|n| wish.name.is_some() && n.spec.name == wish.name) {
        nodes.swap(0, at);
    }
    Ok(Ok(nodes))
}
