//! What every part of the conductor shares: configuration, store, drivers, clock, lease.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bessemer_db::Store;
use bessemer_drivers::registry::Registry;
use bessemer_model::{
    clock::{Clock, Timestamp},
    ids::NodeId,
};
use tokio::sync::{Notify, RwLock, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{config::ConductorConfig, members::Members};

/// Shared by everything in one conductor process. Cheap to clone behind its `Arc`.
pub struct Core {
    /// Configuration.
    pub config: ConductorConfig,
    /// The store.
    pub store: Store,
    /// Drivers.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For fetching kernels and images.
    pub http: reqwest::Client,
    /// Fires when the process stops.
    pub stop: CancellationToken,
    pub(crate) lease: Lease,
    hinted: Mutex<Vec<NodeId>>,
    pub(crate) hint: Notify,
    scan: AtomicBool,
    /// Conductors that have work which this process recorded.
    told: Mutex<BTreeSet<String>>,
    pub(crate) telling: Notify,
    /// The conductors as last read.
    pub(crate) members: RwLock<Option<Arc<Members>>>,
    /// Wakes the search for nodes for allocations.
    pub(crate) allocations: Notify,
    pub(crate) running: Mutex<HashMap<NodeId, bool>>,
    pub(crate) workers: Arc<Semaphore>,
    /// Wakes streams and tests after each commit of this process.
    pub changed: Notify,
    /// When this process started.
    pub started_at: Timestamp,
}

/// This process's lease as it knows it.
pub(crate) struct Lease {
    epoch: AtomicI64,
    valid_until: Mutex<Instant>,
    lost: Mutex<CancellationToken>,
}

impl Core {
    /// Puts the parts together; nothing runs yet.
    #[must_use]
    pub fn new(config: ConductorConfig, store: Store, registry: Registry, clock: Arc<dyn Clock>, http: reqwest::Client) -> Arc<Self> {
        let workers = config.workers_pool_size.max(1);
        let started_at = clock.now();
        Arc::new(Self {
            config,
            store,
            registry,
            clock,
            http,
            stop: CancellationToken::new(),
            lease: Lease { epoch: AtomicI64::new(0), valid_until: Mutex::new(Instant::now()), lost: Mutex::new(CancellationToken::new()) },
            hinted: Mutex::new(Vec::new()),
            hint: Notify::new(),
            scan: AtomicBool::new(false),
            told: Mutex::default(),
            telling: Notify::new(),
            members: RwLock::default(),
            allocations: Notify::new(),
            running: Mutex::new(HashMap::new()),
            workers: Arc::new(Semaphore::new(workers)),
            changed: Notify::new(),
            started_at,
        })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Epoch under which this process claims nodes.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.lease.epoch.load(Ordering::SeqCst)
    }

    /// Asks the runner to look at a node soon.
    pub fn hint(&self, node: NodeId) {
        self.hinted.lock().unwrap_or_else(PoisonError::into_inner).push(node);
        self.hint.notify_one();
    }

    pub(crate) fn take_hints(&self) -> Vec<NodeId> {
        std::mem::take(&mut *self.hinted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has due work looked for now instead of at the next scan.
    pub(crate) fn scan_now(&self) {
        self.scan.store(true, Ordering::SeqCst);
        self.hint.notify_one();
    }

    pub(crate) fn take_scan(&self) -> bool {
        self.scan.swap(false, Ordering::SeqCst)
    }

    /// Has another conductor told soon that it has work.
    pub(crate) fn tell(&self, host: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
        self.telling.notify_one();
    }

    pub(crate) fn take_told(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether effects may still be started: the lease, counted from the moment its renewal was *sent*, outlives `for_at_least`.
    #[must_use]
    pub fn lease_outlives(&self, for_at_least: Duration) -> bool {
        *self.lease.valid_until.lock().unwrap_or_else(PoisonError::into_inner) > Instant::now() + for_at_least
    }

    /// Cancelled when the lease is lost: every effect under it must stop.
    #[must_use]
    pub fn lease_lost(&self) -> CancellationToken {
        self.lease.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn lease_taken(&self, epoch: i64, sent: Instant) {
        self.lease.epoch.store(epoch, Ordering::SeqCst);
        *self.lease.lost.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
        self.lease_renewed(sent);
    }

    pub(crate) fn lease_renewed(&self, sent: Instant) {
        let safe = self.config.lease.saturating_sub(Duration::from_secs(2));
        *self.lease.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = sent + safe;
        self.registry.fence().close_at(sent + safe);
    }

    /// When the lease as this process counts it is over.
    pub(crate) fn lease_ends(&self) -> Instant {
        *self.lease.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lease_gone(&self) {
        self.lease_lost().cancel();
    }

    /// The conductor's boot folder for files that it fetched.
    #[must_use]
    pub fn cache(&self, name: &str) -> std::path::PathBuf {
        self.config.cache_dir.join(name)
    }
}
