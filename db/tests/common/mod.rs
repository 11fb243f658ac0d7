//! What the store tests share: every test runs on SQLite and on PostgreSQL.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use bessemer_db::{NodeNew, OpenOptions, SealKey, Store, Synchronous};
use bessemer_model::{
    Json, JsonMap,
    chassis::Chassis,
    clock::{ManualClock, Timestamp},
    flow::{Flow, FlowKind, Phase},
    ids::{ChassisId, FlowId, NodeId, PortId, PortgroupId},
    node::{NodeSpec, NodeStatus},
    port::Port,
    portgroup::Portgroup,
    state::ProvisionState,
    step::{Replay, Step},
};

/// A database that any number of stores ("daemons") can be opened on.
pub struct Database {
    pub url: String,
    pub key: SealKey,
    pub clock: Arc<ManualClock>,
    /// Where the bytes are (SQLite).
    pub folder: tempfile::TempDir,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("db.sqlite").display());
        Self::new(url, folder)
    }
    pub fn postgres() -> Self {
        Self::new(bessemer_lab::postgres::database().unwrap(), tempfile::tempdir().unwrap())
    }
    fn new(url: String, folder: tempfile::TempDir) -> Self {
        // PostgreSQL judges leases by its own clock: tests that wait for a lease to end must do so in real time there.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(now.as_micros() as i64)));
        Self { url, key: SealKey::random(), clock, folder }
    }
    pub fn options(&self) -> OpenOptions {
        OpenOptions { clock: self.clock.clone(), synchronous: Synchronous::Normal, ..OpenOptions::new(self.key.clone()) }
    }
    /// A store, migrated.
    pub async fn open(&self) -> Store {
        let s = Store::open(&self.url, self.options()).await.unwrap();
        s.migrate().await.unwrap();
        s
    }
    pub fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }
}

/// Declares tests that run on both engines.
#[macro_export]
macro_rules! on_both {
    ($($(#[$m:meta])* async fn $name:ident($db:ident: Database) $body:block)*) => {$(
        $(#[$m])*
        mod $name {
            use super::*;
            async fn check($db: Database) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn sqlite() { check(Database::sqlite()).await }
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn postgres() { check(Database::postgres()).await }
        }
    )*};
}

pub fn map(v: Json) -> JsonMap {
    v.as_object().cloned().unwrap()
}

pub fn spec(name: &str) -> NodeSpec {
    NodeSpec {
        name: Some(name.to_owned()),
        driver: "fake-hardware".to_owned(),
        properties: map(serde_json::json!({"cpu_arch": "x86_64", "memory_mb": 4096})),
        ..NodeSpec::default()
    }
}

pub fn new_node(spec: NodeSpec, state: ProvisionState) -> NodeNew {
    NodeNew { id: NodeId::random(), spec, status: NodeStatus::new(state), traits: vec![], history: vec![], events: vec![] }
}

pub async fn node(s: &Store, name: &str, state: ProvisionState) -> NodeId {
    s.node_create(new_node(spec(name), state)).await.unwrap().id
}

pub fn flow(node: NodeId, kind: FlowKind, wake_at: Option<Timestamp>) -> Flow {
    Flow {
        id: FlowId::random(),
        node,
        kind,
        steps: vec![Step::internal("one", Replay::Idempotent), Step::internal("two", Replay::Probe)],
        at: 0,
        phase: Phase::Ready,
        attempt: 0,
        target: None,
        deadline: None,
        wake_at,
        aborting: false,
        request: serde_json::json!({"configdrive": "abc"}),
        note: Json::Null,
        created_at: Timestamp(1),
    }
}

pub fn chassis() -> Chassis {
    Chassis {
        id: ChassisId::random(),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        description: Some("rack".into()),
        extra: map(serde_json::json!({"row": 1})),
    }
}

pub fn portgroup(node: NodeId, name: &str) -> Portgroup {
    Portgroup {
        id: PortgroupId::random(),
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        node,
        name: Some(name.to_owned()),
        address: None,
        extra: map(serde_json::json!({"e": 1})),
        internal_info: JsonMap::new(),
        mode: Some("active-backup".to_owned()),
        properties: map(serde_json::json!({"miimon": 100})),
        standalone_ports_supported: true,
        physical_network: None,
        category: None,
        dynamic_portgroup: false,
    }
}

pub fn port(node: NodeId, address: &str) -> Port {
    Port { address: address.to_owned(), ..Port::blank(PortId::random(), node) }
}

/// Reads events until there are `n`: on PostgreSQL a row waits for every transaction of the server that began before it, other tests' too.
pub async fn events(
    s: &Store,
    after: bessemer_db::EventCursor,
    n: usize,
) -> Vec<(bessemer_db::EventCursor, bessemer_model::event::OutboxEvent)> {
    for _ in 0..500 {
        let got = s.events_after(after, 1000).await.unwrap();
        if got.len() >= n {
            return got;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("fewer than {n} events within five seconds");
}
