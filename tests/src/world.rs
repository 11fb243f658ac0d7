//! A conductor with fake hardware on SQLite or PostgreSQL, that can be killed at an exact commit and started again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bessemer_conductor::{Conductor, ConductorConfig, Core};
use bessemer_db::{CommitAction, CommitHook, CommitPoint, NodeNew, OpenOptions, SealKey, Store};
use bessemer_drivers::{
    fake::{FakeBehaviour, FakeHardware},
    registry::Registry,
};
use bessemer_lab::postgres;
use bessemer_model::{
    clock::{Clock, SystemClock},
    conductor::DriverOffer,
    ids::NodeId,
    interface::{InterfaceKind, hardware_type},
    node::{Interfaces, Node, NodeSpec, NodeStatus},
    state::ProvisionState,
};
use bessemer_rpc::{ConductorApi, ProvisionRequest, RequestCx, UserStep, Verb};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A SQLite file.
    Sqlite,
    /// A private PostgreSQL server.
    Postgres,
}

/// Both.
pub const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// A database that outlives conductors.
pub struct Database {
    url: String,
    key: PathBuf,
    _dir: tempfile::TempDir,
}

impl Database {
    /// An empty, migrated database.
    ///
    /// # Errors
    /// When the engine cannot be started.
    pub async fn new(engine: Engine) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        static PATTERN: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        let dir = tempfile::tempdir()?;
        let name = format!("world_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let url = match engine {
            Engine::Sqlite => format!("sqlite://{}", dir.path().join("db.sqlite").display()),
            Engine::Postgres => {
                // Migrated once: a copy takes a fraction of the time, and some tests make hundreds.
                PATTERN.get_or_try_init(Self::pattern).await?;
                let server = postgres::own()?;
                server.create_like(&name, "pattern")?;
                server.url_of(&name)
            }
        };
        let key = dir.path().join("seal.key");
        let db = Self { url, key, _dir: dir };
        if engine == Engine::Sqlite {
            db.migrate().await?;
        }
        Ok(db)
    }

    /// Makes the database `pattern`.
    async fn pattern() -> Result<()> {
        let server = postgres::own()?;
        server.create("pattern")?;
        let dir = tempfile::tempdir()?;
        let key = dir.path().join("seal.key");
        Self { url: server.url_of("pattern"), key, _dir: dir }.migrate().await
    }

    async fn migrate(&self) -> Result<()> {
        let store = self.open().await?;
        store.migrate().await?;
        store.close().await;
        Ok(())
    }

    /// A new handle, as a new process would make.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self) -> Result<Store> {
        let mut options = OpenOptions::new(SealKey::load_or_create(&self.key)?);
        options.connections = 2;
        options.synchronous = bessemer_db::Synchronous::Normal;
        Ok(Store::open(&self.url, options).await?)
    }

    /// Folder for files of the test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self._dir.path()
    }
}

/// Kills the process, so to say, at one commit.
pub struct CrashAt {
    /// Number of the commit, counted from 1.
    pub commit: u64,
    /// Before or after it.
    pub point: CommitPoint,
    /// Set when it happened.
    pub happened: Arc<std::sync::atomic::AtomicBool>,
}

impl CommitHook for CrashAt {
    fn at(&self, point: CommitPoint, number: u64) -> CommitAction {
        if number == self.commit && point == self.point {
            self.happened.store(true, Ordering::SeqCst);
            return CommitAction::Crash;
        }
        CommitAction::Continue
    }
}

/// Settings for fake hardware only. The lease is long so that its renewals do not count among a flow's commits.
#[must_use]
pub fn config() -> ConductorConfig {
    let hw = hardware_type("fake-hardware");
    let mut offer = DriverOffer::default();
    for kind in InterfaceKind::ALL {
        let name = match kind {
            InterfaceKind::Network => "noop",
            _ => "fake",
        };
        offer.default.insert(kind.as_str().into(), name.into());
        offer
            .enabled
            .insert(kind.as_str().into(), hw.map(|h| h.supported(*kind)).unwrap_or_default().iter().map(|s| (*s).into()).collect());
    }
    ConductorConfig {
        host: "test-conductor".into(),
        drivers: BTreeMap::from([("fake-hardware".to_owned(), offer)]),
        lease: Duration::from_secs(3600),
        scan_interval: Duration::from_millis(50),
        sync_power_state_interval: Duration::ZERO,
        power_failure_recovery_interval: Duration::ZERO,
        ..ConductorConfig::default()
    }
}

/// A running conductor.
pub struct World {
    /// Its store.
    pub store: Store,
    /// Its hardware.
    pub hardware: Arc<FakeHardware>,
    conductor: Conductor,
}

impl World {
    /// Starts a conductor on a handle.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start(store: Store) -> Result<Self> {
        Self::start_with(store, config(), FakeHardware::new(FakeBehaviour::default())).await
    }

    /// Starts a conductor with these settings.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start_with(store: Store, config: ConductorConfig, hardware: Arc<FakeHardware>) -> Result<Self> {
        let registry = Registry::with_fake(&hardware);
        Self::start_on(store, config, hardware, registry).await
    }

    /// Starts a conductor with these settings and drivers.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start_on(store: Store, config: ConductorConfig, hardware: Arc<FakeHardware>, registry: Registry) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let core = Core::new(config, store.clone(), registry, Arc::new(SystemClock), reqwest::Client::new());
        let conductor = Conductor::start(core).await?;
        Ok(Self { store, hardware, conductor })
    }

    /// A node of fake hardware in a state of rest.
    ///
    /// # Errors
    /// Of the store.
    pub async fn node(&self, state: ProvisionState) -> Result<NodeId> {
        self.node_with(state, |_| {}).await
    }

    /// A node of fake hardware in a state of rest, changed before it is stored.
    ///
    /// # Errors
    /// Of the store.
    pub async fn node_with(&self, state: ProvisionState, change: impl FnOnce(&mut NodeSpec)) -> Result<NodeId> {
        let mut interfaces = Interfaces::default();
        for (k, v) in &config().drivers["fake-hardware"].default {
            interfaces.set(InterfaceKind::parse(k).context("kind")?, v);
        }
        let id = NodeId::random();
        let mut spec = NodeSpec { driver: "fake-hardware".into(), interfaces, ..NodeSpec::default() };
        change(&mut spec);
        let new = NodeNew { id, spec, status: NodeStatus::new(state), traits: vec![], history: vec![], events: vec![] };
        self.store.node_create(new).await?;
        Ok(id)
    }

    /// Starts a verb.
    ///
    /// # Errors
    /// The fault.
    pub async fn verb(&self, node: NodeId, verb: Verb, steps: Option<Vec<UserStep>>) -> Result<(), bessemer_model::fault::Fault> {
        self.conductor.api().provision(&RequestCx::default(), node, request(verb, steps)).await
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> Arc<impl ConductorApi + use<>> {
        self.conductor.api()
    }

    /// Waits until the node rests: no flow but one that waits for long, nothing beside it, no holder.
    ///
    /// # Errors
    /// After 30 s, with what the node was doing.
    pub async fn settled(&self, node: NodeId) -> Result<Node> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            // The flow first: once it is gone, what it did to the node is there to be read.
            let power = self.store.flow_get(node, bessemer_model::flow::Lane::Power).await?;
            let n = self.store.node_get(node).await?;
            // A wait that nothing but the outside world ends soon.
            let soon = SystemClock.now().after(Duration::from_secs(10));
            let waits = n.flow.as_ref().is_some_and(|f| f.phase.waits() && f.wake_at.is_none_or(|w| w > soon));
            if (n.flow.is_none() || waits) && power.is_none() && n.reservation.is_none() {
                return Ok(n);
            }
            if Instant::now() > until {
                bail!("the node did not come to rest: {} with {:?}", n.status.provision_state, n.flow);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the conductor as SIGKILL would: its tasks stop where they are.
    pub fn kill(self) {
        drop(self.conductor);
    }
}

/// A request without extras.
#[must_use]
pub fn request(verb: Verb, steps: Option<Vec<UserStep>>) -> ProvisionRequest {
    ProvisionRequest { verb, configdrive: None, steps, disable_ramdisk: false, rescue_password: None, abort_deploy_fails: true }
}

/// A step without arguments.
#[must_use]
pub fn step(interface: InterfaceKind, name: &str) -> UserStep {
    UserStep::new(interface, name)
}
