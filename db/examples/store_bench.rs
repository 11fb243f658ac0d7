//! Prints how fast the store is on this machine: `cargo run --release -p bessemer-db --example store_bench`.
//! Figures for `docs/benchmarks.md`; never a test.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::{Duration, Instant};

use bessemer_db::{NodeFilter, NodeNew, NodePage, NodeSort, OpenOptions, SealKey, Store, Synchronous, WorkBegin};
use bessemer_model::{
    agent::AgentState,
    clock::Timestamp,
    flow::{Flow, FlowKind, Phase},
    ids::{FlowId, NodeId},
    interface::InterfaceKind,
    node::{NodeChange, NodeSpec, NodeStatus},
    state::ProvisionState,
    step::{Replay, Step},
};

const NODES: usize = 2000;

fn new_node(i: usize) -> NodeNew {
    let json = |v: serde_json::Value| v.as_object().cloned().unwrap();
    let mut spec = NodeSpec {
        name: Some(format!("node-{i}")),
        driver: "redfish".into(),
        driver_info: json(serde_json::json!({"redfish_address": "https://10.0.0.1", "redfish_username": "u", "redfish_password": "p"})),
        properties: json(serde_json::json!({"cpu_arch": "x86_64", "memory_mb": 65536, "local_gb": 100, "cpus": 32})),
        extra: json(serde_json::json!({"rack": "r1", "unit": i})),
        instance_info: json(serde_json::json!({"image_source": "http://images/debian.raw", "image_checksum": "00"})),
        ..NodeSpec::default()
    };
    for k in InterfaceKind::ALL {
        spec.interfaces.set(*k, "redfish");
    }
    let mut status = NodeStatus::new(ProvisionState::Available);
    status.driver_internal_info = json(serde_json::json!({"last_power_state_change": "2026-01-01T00:00:00", "agent_version": "1"}));
    NodeNew { id: NodeId::random(), spec, status, traits: vec!["CUSTOM_A".into(), "CUSTOM_B".into()], history: vec![], events: vec![] }
}

async fn repeat<T>(what: &str, times: u32, mut f: impl AsyncFnMut() -> T) {
    f().await;
    let mut all: Vec<Duration> = vec![];
    for _ in 0..times {
        let t = Instant::now();
        f().await;
        all.push(t.elapsed());
    }
    all.sort();
    println!("  {what}: median {:?}, worst {:?}", all[all.len() / 2], all[all.len() - 1]);
}

async fn bench(name: &str, url: &str, synchronous: Synchronous) {
    let s = Store::open(url, OpenOptions { synchronous, ..OpenOptions::new(SealKey::random()) }).await.unwrap();
    s.migrate().await.unwrap();
    println!("{name}");
    let t = Instant::now();
    let mut jobs = tokio::task::JoinSet::new();
    for i in 0..NODES {
        let s = s.clone();
        jobs.spawn(async move { s.node_create(new_node(i)).await.unwrap().id });
    }
    let ids = jobs.join_all().await;
    println!("  create, {NODES} at once: {:.0}/s, {} commits", NODES as f64 / t.elapsed().as_secs_f64(), s.commits());
    for id in ids.iter().take(100) {
        let flow = Flow {
            id: FlowId::random(),
            node: *id,
            kind: FlowKind::Clean,
            steps: vec![Step::internal("one", Replay::Idempotent); 8],
            at: 0,
            phase: Phase::Ready,
            attempt: 0,
            target: None,
            deadline: None,
            wake_at: Some(Timestamp(1)),
            aborting: false,
            request: serde_json::Value::Null,
            note: serde_json::Value::Null,
            created_at: Timestamp(1),
        };
        let change = NodeChange { provision_state: Some(ProvisionState::CleanWait), ..NodeChange::default() };
        s.work_begin(WorkBegin { flow: Some(flow), ..WorkBegin::new(*id, None, change) }).await.unwrap();
    }
    let all = NodeFilter::default();
    repeat("page of 1000 nodes, detailed", 50, async || s.node_list(&all, &NodePage::first(1000)).await.unwrap().len()).await;
    let page = NodePage { sort: NodeSort::Name, ..NodePage::first(1000) };
    repeat("the same by name", 50, async || s.node_list(&all, &page).await.unwrap().len()).await;
    repeat("page of 100 nodes, detailed", 200, async || s.node_list(&all, &NodePage::first(100)).await.unwrap().len()).await;
    repeat("one node", 500, async || s.node_get(ids[7]).await.unwrap()).await;
    repeat("one node with secrets", 500, async || s.node_get_with_secrets(ids[7]).await.unwrap()).await;
    repeat("due scan", 200, async || s.claims_due(Timestamp(2), 100).await.unwrap().len()).await;
    let beat = || AgentState { url: Some("https://10.0.0.9:9999".into()), ..AgentState::default() };
    repeat("heartbeat, alone", 200, async || s.agent_heartbeat(ids[3], beat(), Timestamp(3)).await.unwrap()).await;
    let t = Instant::now();
    let mut jobs = tokio::task::JoinSet::new();
    for task in 0..100 {
        let (s, ids) = (s.clone(), ids.clone());
        jobs.spawn(async move {
            for i in 0..20 {
                s.agent_heartbeat(ids[(task * 20 + i) % NODES], beat(), Timestamp(3)).await.unwrap();
            }
        });
    }
    jobs.join_all().await;
    println!("  heartbeats, 100 tasks: {:.0}/s", 2000.0 / t.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    let dir = std::env::temp_dir().join(format!("bessemer-bench-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for (name, mode) in [("SQLite, synchronous=FULL", Synchronous::Full), ("SQLite, synchronous=NORMAL", Synchronous::Normal)] {
        bench(name, &format!("sqlite://{}/{mode:?}.sqlite", dir.display()), mode).await;
    }
    std::fs::remove_dir_all(&dir).unwrap();
    match bessemer_lab::postgres::database() {
        Ok(url) => bench("PostgreSQL, fsync off", &url, Synchronous::Full).await,
        Err(e) => println!("PostgreSQL left out: {e:#}"),
    }
}
