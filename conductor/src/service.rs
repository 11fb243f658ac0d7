//! Starting and stopping a conductor: lease, due work, periodic tasks.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bessemer_db::DbError;
use bessemer_model::ids::NodeId;
use tokio::task::JoinSet;

use crate::{
    allocate,
    api::LocalConductor,
    core::Core,
    members::{self, Members},
    periodic, runner,
};

/// A running conductor. Dropping it aborts its tasks as a crash would; [`Conductor::shutdown`] ends them in order.
pub struct Conductor {
    core: Arc<Core>,
    tasks: JoinSet<()>,
}

impl Conductor {
    /// Takes the conductor's row and starts working.
    ///
    /// # Errors
    /// What the store says.
    pub async fn start(core: Arc<Core>) -> Result<Self, DbError> {
        take_lease(&core).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(run_lease(Arc::clone(&core)));
        tasks.spawn(run_due(Arc::clone(&core)));
        tasks.spawn(members::run_telling(Arc::clone(&core)));
        tasks.spawn(members::run_listening(Arc::clone(&core)));
        tasks.spawn(allocate::run(Arc::clone(&core)));
        tasks.spawn(periodic::run_power_sync(Arc::clone(&core)));
        tasks.spawn(periodic::run_power_recovery(Arc::clone(&core)));
        tasks.spawn(periodic::run_history_purge(Arc::clone(&core)));
        Ok(Self { core, tasks })
    }

    /// For the API of the same process.
    #[must_use]
    pub fn api(&self) -> Arc<LocalConductor> {
        Arc::new(LocalConductor(Arc::clone(&self.core)))
    }

    /// The shared parts.
    #[must_use]
    pub const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Stops taking work, lets running steps end for at most `grace`, gives the lease back.
    pub async fn shutdown(mut self, grace: Duration) {
        self.core.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!("steps still ran at the end of the grace time; they go on when a conductor starts again");
        }
        if let Err(e) = self.core.store.conductor_expire(&self.core.config.host, self.core.epoch()).await {
            tracing::warn!(error = %e, "the lease could not be given back; it runs out by itself");
        }
    }
}

async fn take_lease(core: &Core) -> Result<(), DbError> {
    let sent = Instant::now();
    let c = &core.config;
    let epoch = core.store.conductor_take(&c.host, &c.group, c.drivers.clone(), c.rpc_address.as_deref(), core.now(), c.lease).await?;
    core.lease_taken(epoch, sent);
    tracing::info!(host = %c.host, epoch, "conductor lease taken");
    Ok(())
}

/// Renews the lease. When it cannot be renewed in time every effect is cancelled, and a new epoch is taken.
async fn run_lease(core: Arc<Core>) {
    let every = core.config.lease / 5;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = core.stop.cancelled() => return,
        }
        let sent = Instant::now();
        // A store that does not answer must not keep effects going beyond the lease.
        let renewal = core.store.conductor_renew(&core.config.host, core.epoch(), core.now(), core.config.lease);
        match tokio::time::timeout_at(core.lease_ends().into(), renewal).await {
            Ok(Ok(true)) => core.lease_renewed(sent),
            Ok(Ok(false)) => {
                tracing::warn!("the conductor's row was taken by another process or has run out; starting a new epoch");
                core.lease_gone();
                if let Err(e) = take_lease(&core).await {
                    tracing::error!(error = %e, "the conductor's row could not be taken");
                }
            }
            result => {
                match result {
                    Ok(Err(e)) => tracing::warn!(error = %e, "the lease could not be renewed"),
                    _ => tracing::warn!("the lease could not be renewed in time: the store does not answer"),
                }
                if !core.lease_outlives(Duration::ZERO) {
                    core.lease_gone();
                    if let Err(e) = take_lease(&core).await {
                        tracing::error!(error = %e, "the conductor's row could not be taken");
                    }
                }
            }
        }
    }
}

/// Finds due work and starts it. Hints make it quick; the scan alone suffices.
async fn run_due(core: Arc<Core>) {
    let mut running = JoinSet::new();
    let mut next_scan = Instant::now();
    loop {
        while running.try_join_next().is_some() {}
        let hints = core.take_hints();
        if !hints.is_empty() {
            for node in members::ours(&core, hints).await {
                start_node(&core, node, &mut running);
            }
        }
        if core.take_scan() || Instant::now() >= next_scan {
            next_scan = Instant::now() + core.config.scan_interval;
            match due_for_us(&core).await {
                Ok(nodes) => {
                    for n in nodes {
                        start_node(&core, n, &mut running);
                    }
                }
                Err(e) => tracing::warn!(error = %e, "looking for due work failed"),
            }
        }
        let pause = next_scan.saturating_duration_since(Instant::now());
        tokio::select! {
            () = core.hint.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = core.stop.cancelled() => break,
        }
    }
    while running.join_next().await.is_some() {}
}

/// Nodes started by one scan, about.
const PER_SCAN: u32 = 1000;

/// The nodes that are due and ours. What is due for others, a backlog of any length, does not hide them.
async fn due_for_us(core: &Core) -> Result<Vec<NodeId>, DbError> {
    let mut limit = PER_SCAN;
    let mut due = core.store.claims_due(core.now(), limit).await?;
    // Nearly every look finds nothing: it is not to cost a second read.
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let members = Members::read(core).await?;
    loop {
        // A node counts once, also with a flow in either lane.
        let all = due.len() < limit as usize / 2;
        let ours: Vec<NodeId> = due.into_iter().filter(|n| members.is_ours(core, n)).map(|n| n.id).collect();
        if all || ours.len() >= PER_SCAN as usize / 2 || limit == u32::MAX {
            return Ok(ours);
        }
        limit = limit.saturating_mul(8);
        due = core.store.claims_due(core.now(), limit).await?;
    }
}

fn start_node(core: &Arc<Core>, node: NodeId, running: &mut JoinSet<()>) {
    {
        let mut nodes = core.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(again) = nodes.get_mut(&node) {
            // It runs already; its end looks once more.
            *again = true;
            return;
        }
        nodes.insert(node, false);
    }
    let core = Arc::clone(core);
    running.spawn(async move {
        let mut ran = false;
        if core.workers.acquire().await.is_ok() {
            ran = runner::run_node(Arc::clone(&core), node).await;
        }
        let missed = core.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&node) == Some(true);
        if ran || missed {
            core.hint(node);
        }
    });
}
