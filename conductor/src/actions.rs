//! Short work beside the provision state: begun by a request and persisted before it is answered, or done at once under a claim.

use std::{future::Future, sync::Arc, time::Duration};

use bessemer_db::{DbError, WorkBegin};
use bessemer_model::{
    fault::{Fault, FaultKind},
    flow::Flow,
    ids::NodeId,
    node::{Node, NodeChange},
    state::{ProvisionState, StateClass},
};

use crate::core::Core;

/// How long a request waits for a short task to let go of the node before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a request leads to.
pub(crate) struct Action {
    /// The work.
    pub flow: Flow,
    /// Written with it.
    pub change: NodeChange,
}

fn locked(core: &Core, node: &Node) -> Fault {
    let host = node.reservation.clone().unwrap_or_else(|| core.config.host.clone());
    let text = format!("Node {} is locked by host {host}, please retry after the current operation is completed.", node.id);
    Fault::new(FaultKind::NodeLocked, text)
}

/// Persists what `prepare` makes of the node; nothing when it makes nothing of it. Other short work is waited for.
///
/// # Errors
/// What `prepare` says; `NodeLocked` while a provision flow works on the node, or when other short work does not end.
pub(crate) async fn begin(core: &Arc<Core>, id: NodeId, prepare: impl Fn(&Node) -> Result<Option<Action>, Fault>) -> Result<(), Fault> {
    let started = tokio::time::Instant::now();
    loop {
        let node = core.store.node_get_with_secrets(id).await?;
        let Some(action) = prepare(&node)? else { return Ok(()) };
        let state = node.status.provision_state;
        if state.class() == StateClass::Working && state != ProvisionState::Verifying {
            return Err(Fault::new(FaultKind::NodeLocked, format!("node {id} is busy: it is {state}; wait for that to end")));
        }
        let mut work = WorkBegin::new(id, None, action.change);
        work.flow = Some(action.flow);
        match core.store.work_begin(work).await {
            Ok(()) => {
                core.hint(id);
                return Ok(());
            }
            // Other work of this sort runs: it is short, so this one waits for it instead of making the client try again.
            Err(DbError::FlowExists { .. } | DbError::Locked { .. }) if started.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            Err(DbError::FlowExists { .. }) => return Err(locked(core, &node)),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Does `work` while nothing else may happen to the node. It runs to its end also when the client goes away.
///
/// # Errors
/// What `work` says; `NodeLocked` when the node is not let go of in time.
pub(crate) async fn exclusively<T, F, W>(core: &Arc<Core>, id: NodeId, work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce(Arc<Core>, Node) -> W + Send + 'static,
    W: Future<Output = Result<T, Fault>> + Send,
{
    let started = tokio::time::Instant::now();
    let claim = loop {
        if let Some(claim) = core.store.claim_take(id, core.epoch(), &core.config.host, core.now()).await? {
            break claim;
        }
        let node = core.store.node_get(id).await?;
        let state = node.status.provision_state;
        if started.elapsed() > PATIENCE || (state.class() == StateClass::Working && state != ProvisionState::Verifying) {
            return Err(locked(core, &node));
        }
        tokio::time::sleep(LOOK).await;
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
