//! Short work beside the provision state: begun by a request and persisted before it is answered, or done at once under a claim.

use std::{future::Future, sync::Arc, time::Duration};

use bessemer_db::{DbError, Queue, WorkBegin};
use bessemer_model::{
    fault::{Fault, FaultKind},
    flow::Flow,
    ids::NodeId,
    node::{Node, NodeChange},
    state::{ProvisionState, StateClass},
};

use crate::{
    core::Core,
    verbs::{PATIENCE, doing, locked},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a request leads to.
pub(crate) struct Action {
    /// The work.
    pub flow: Flow,
    /// Written with it.
    pub change: NodeChange,
}

/// Persists what `prepare` makes of the node; nothing when it makes nothing of it. Other short work is waited for.
///
/// # Errors
/// What `prepare` says; `NodeLocked` while a provision flow works on the node, or when other short work does not end.
pub(crate) async fn begin(core: &Arc<Core>, id: NodeId, prepare: impl Fn(&Node) -> Result<Option<Action>, Fault>) -> Result<(), Fault> {
    let started = tokio::time::Instant::now();
    // Whoever cannot begin at once stands in line, so that nobody's time runs out while others come and go.
    let mut turn = None;
    loop {
        let node = core.store.node_get_with_secrets(id).await?;
        let Some(action) = prepare(&node)? else { return Ok(()) };
        let state = node.status.provision_state;
        if state.class() == StateClass::Working && state != ProvisionState::Verifying {
            return Err(locked(core, &node, &doing(&node)));
        }
        let mut work = WorkBegin::new(id, None, action.change);
        work.flow = Some(action.flow);
        match core.store.work_begin(work).await {
            Ok(()) => {
                core.hint(id);
                return Ok(());
            }
            // Other work of this sort runs: it is short, so this one waits for it instead of making the client try again.
            Err(e @ (DbError::FlowExists { .. } | DbError::Locked { .. })) => {
                let left = PATIENCE.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(locked(core, &node, &e.to_string()));
                }
                if turn.is_none() {
                    turn = core.store.turn(id, Queue::Work, left).await;
                } else {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Does `work` while nothing else may happen to the node; `purpose` is told to those who find it held. It runs to its end also when the client goes away.
///
/// # Errors
/// What `work` says; `NodeLocked` when the node is not let go of in time.
pub(crate) async fn exclusively<T, F, W>(core: &Arc<Core>, id: NodeId, purpose: &str, work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce(Arc<Core>, Node) -> W + Send + 'static,
    W: Future<Output = Result<T, Fault>> + Send,
{
    let started = tokio::time::Instant::now();
    let mut turn = None;
    let claim = loop {
        if let Some(claim) = core.store.claim_take(id, core.epoch(), &core.config.host, core.now(), purpose).await? {
            break claim;
        }
        let node = core.store.node_get(id).await?;
        let state = node.status.provision_state;
        if state.class() == StateClass::Working && state != ProvisionState::Verifying {
            return Err(locked(core, &node, &doing(&node)));
        }
        let left = PATIENCE.saturating_sub(started.elapsed());
        if left.is_zero() {
            core.store.claim_refuse_held(id).await?;
            return Err(locked(core, &node, "it was held again and again by short tasks"));
        }
        if turn.is_none() {
            turn = core.store.turn(id, Queue::Work, left).await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    };
    let core = Arc::clone(core);
    let task = tokio::spawn(async move {
        let lost = core.lease_lost();
        let done = async { work(Arc::clone(&core), core.store.node_get_with_secrets(id).await?).await };
        let result = tokio::select! {
            r = done => r,
            () = lost.cancelled() => Err(Fault::new(FaultKind::TemporaryFailure, format!("node {id} was taken over by another conductor meanwhile"))),
        };
        // A failure to let go is no failure of the work: the claim ends with the lease.
        if let Err(e) = core.store.claim_release(&claim).await {
            tracing::warn!(node = %id, error = %e, "the node could not be let go");
        }
        core.hint(id);
        result
    });
    task.await.unwrap_or_else(|e| Err(Fault::internal(format!("work on node {id} ended unexpectedly: {e}"))))
}
