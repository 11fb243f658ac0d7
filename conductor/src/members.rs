//! Which conductor should run a node, and the telling of the others: hints are quick, the scan for due work alone suffices.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bessemer_db::{DbError, Heard, NodeFilter, NodeRef};
use bessemer_model::{hashring::Rings, ids::NodeId};

use crate::core::Core;

/// A reading of the conductors is believed so long where a hint is at stake.
const FRESH: Duration = Duration::from_secs(2);
/// Between two hints to other daemons.
const COALESCE: Duration = Duration::from_millis(50);
/// Before the next try to listen.
const RETRY: Duration = Duration::from_secs(1);

/// The living conductors at one moment.
pub(crate) struct Members {
    read_at: Instant,
    /// Nobody else is there.
    alone: bool,
    rings: Rings,
}

impl Members {
    /// As they are now.
    pub async fn read(core: &Core) -> Result<Arc<Self>, DbError> {
        let alive = core.store.conductor_list_alive(core.now()).await?;
        let alone = alive.iter().all(|c| c.hostname == core.config.host);
        let rings = if alone { Rings::default() } else { Rings::new(&alive, core.config.hash_partition_exponent) };
        let members = Arc::new(Self { read_at: Instant::now(), alone, rings });
        *core.members.write().await = Some(Arc::clone(&members));
        Ok(members)
    }

    /// As they were at most two seconds ago.
    pub async fn recent(core: &Core) -> Result<Arc<Self>, DbError> {
        if let Some(m) = core.members.read().await.as_ref()
            && m.read_at.elapsed() < FRESH
        {
            return Ok(Arc::clone(m));
        }
        Self::read(core).await
    }

    /// The other conductor that should run a node; `None`: this one, as also when nobody serves such nodes.
    pub fn other(&self, core: &Core, node: &NodeRef) -> Option<&str> {
        if self.alone {
            return None;
        }
        self.rings.host(&node.conductor_group, &node.driver, node.id).filter(|h| *h != core.config.host)
    }

    /// Whether this conductor should run a node.
    pub fn is_ours(&self, core: &Core, node: &NodeRef) -> bool {
        self.other(core, node).is_none()
    }
}

/// Those of `nodes` that this conductor should run now; the conductors of the others are told.
pub(crate) async fn ours(core: &Core, nodes: Vec<NodeId>) -> Vec<NodeId> {
    let sorted = async {
        let members = Members::recent(core).await?;
        if members.alone {
            return Ok(nodes.clone());
        }
        let filter = NodeFilter { ids: Some(nodes.clone()), ..NodeFilter::default() };
        let mut ours = Vec::new();
        for node in core.store.node_refs(&filter).await? {
            match members.other(core, &node) {
                None => ours.push(node.id),
                Some(host) => core.tell(host),
            }
        }
        Ok(ours)
    };
    let sorted: Result<_, DbError> = sorted.await;
    // Who should is a matter of speed; the claim says who may.
    sorted.unwrap_or_else(|e| {
        tracing::debug!(error = %e, "not known whose nodes are due; trying all");
        nodes
    })
}

/// Tells other daemons that they have work, at most every [`COALESCE`].
pub(crate) async fn run_telling(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.telling.notified() => {}
            () = core.stop.cancelled() => return,
        }
        let hosts = core.take_told();
        if hosts.is_empty() {
            continue;
        }
        if let Err(e) = core.store.hint_send(&hosts).await {
            tracing::debug!(error = %e, "other daemons were not told of work; they will find it");
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// Looks for due work at once when another daemon says that there is some.
pub(crate) async fn run_listening(core: Arc<Core>) {
    let Some(mut hints) = core.store.hints() else { return };
    let mut failing = false;
    loop {
        let heard = tokio::select! {
            h = hints.next() => h,
            () = core.stop.cancelled() => return,
        };
        match heard {
            Ok(heard) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("hints of other daemons are heard again");
                }
                let for_us = match heard {
                    Heard::Work(hosts) => hosts.contains(&core.config.host),
                    Heard::Gap => true,
                };
                if for_us {
                    core.scan_now();
                }
            }
            Err(e) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = %e, "hints of other daemons are not heard; due work is found by scans alone");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = core.stop.cancelled() => return,
                }
            }
        }
    }
}
