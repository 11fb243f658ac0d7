//! Many clients at one node, while power sync and a ramdisk's heartbeats go on: nobody is told that the node is locked for something
//! that lasts a moment, and no write is lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use axum::{Router, body::Body};
use bessemer_conductor::ConductorConfig;
use bessemer_db::Commit;
use bessemer_drivers::fake::{FakeBehaviour, FakeHardware};
use bessemer_model::{
    clock::{Clock, SystemClock},
    ids::NodeId,
    node::NodeChange,
    secret::Secret,
    state::{PowerState, ProvisionState},
};
use bessemer_rpc::ConductorApi;
use bessemer_tests::world::{Database, Engine, World, config};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const CLIENTS: usize = 100;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Answers by request and status.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Refusals and failures, with their texts.
    wrong: Mutex<Vec<String>>,
    longest_micros: AtomicU64,
}

#[derive(Clone)]
struct Client {
    api: Router,
    node: NodeId,
    seen: Arc<Seen>,
}

impl Client {
    async fn ask(&self, what: &'static str, method: &str, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/nodes/{}{path}", self.node))
            .header("x-openstack-ironic-api-version", "1.115")
            .header("content-type", "application/json")
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) })?;
        let sent = Instant::now();
        let answer = self.api.clone().oneshot(request).await?;
        let status = answer.status();
        let text = String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned();
        let took = u64::try_from(sent.elapsed().as_micros())?;
        self.seen.longest_micros.fetch_max(took, Ordering::Relaxed);
        *self.seen.answers.lock().unwrap_or_else(PoisonError::into_inner).entry((what, status.as_u16())).or_default() += 1;
        if !status.is_success() {
            self.seen.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {status} {text}"));
        }
        Ok((status, text))
    }

    /// Counts up a key of its own under `extra`, and does something else between. Gives the count.
    async fn work(self, number: usize, until: Instant) -> Result<u64> {
        let key = format!("client{number}");
        let mut count = 0u64;
        let mut round = number;
        while Instant::now() < until {
            let path = format!("/extra/{key}");
            let patch = json!([{"op": "add", "path": path, "value": count + 1}]);
            if self.ask("patch", "PATCH", "", &patch).await?.0.is_success() {
                count += 1;
            }
            round += 1;
            match round % 6 {
                0 => {
                    let target = if round.is_multiple_of(12) { "power on" } else { "power off" };
                    self.ask("power", "PUT", "/states/power", &json!({"target": target})).await?;
                }
                1 => {
                    self.ask("boot device", "PUT", "/management/boot_device", &json!({"boot_device": "pxe"})).await?;
                }
                2 => {
                    self.ask("trait", "PUT", &format!("/traits/CUSTOM_{}", number % 20), &Value::Null).await?;
                }
                3 => {
                    let (method, body) = if round % 12 == 3 { ("PUT", json!({"reason": key})) } else { ("DELETE", Value::Null) };
                    self.ask("maintenance", method, "/maintenance", &body).await?;
                }
                4 => {
                    self.ask("show", "GET", "", &Value::Null).await?;
                }
                _ => {
                    self.ask("list of traits", "GET", "/traits", &Value::Null).await?;
                }
            }
        }
        Ok(count)
    }
}

/// A ramdisk that says again and again that it lives, with a new token after each power-off took its old one.
async fn heartbeats(api: Router, w: &World, node: NodeId) -> Result<u64> {
    let mut heard = 0;
    for i in 0u64.. {
        let fresh = Secret::new(format!("token-{i}"));
        w.store.agent_token_mint(node, &fresh).await?;
        if let Some(token) = w.store.agent_token_get(node).await? {
            let body = json!({"callback_url": "https://192.0.2.1:9999", "agent_version": "1", "agent_token": token.reveal()});
            let request = Request::builder()
                .method("POST")
                .uri(format!("/v1/heartbeat/{node}"))
                .header("x-openstack-ironic-api-version", "1.68")
                .header("content-type", "application/json")
                .body(Body::from(body.to_string()))?;
            let status = api.clone().oneshot(request).await?.status();
            // 400: a power-off took the token meanwhile.
            ensure!(status == StatusCode::ACCEPTED || status == StatusCode::BAD_REQUEST, "heartbeat: {status}");
            heard += u64::from(status == StatusCode::ACCEPTED);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(heard)
}

/// What power sync does to hardware that changes by itself: holds the node while it asks the BMC, then writes what it found.
async fn internal_tasks(w: &World, node: NodeId) -> Result<u64> {
    let host = config().host;
    let epoch = w.store.conductor_get(&host).await?.epoch;
    for i in 0u64.. {
        if let Some(claim) = w.store.claim_take(node, epoch, &host, SystemClock.now(), "power sync").await? {
            tokio::time::sleep(Duration::from_millis(15)).await;
            let state = if i % 2 == 0 { PowerState::On } else { PowerState::Off };
            let change = NodeChange { power_state: Some(Some(state)), ..NodeChange::default() };
            w.store.claim_commit(&claim, Commit { change, release: true, ..Commit::default() }).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(0)
}

async fn load(engine: Engine, time: Duration) -> Result<()> {
    let db = Database::new(engine).await?;
    let often = ConductorConfig { sync_power_state_interval: Duration::from_millis(50), ..config() };
    let w = World::start_with(db.open().await?, often, FakeHardware::new(FakeBehaviour::default())).await?;
    let node = w.node(ProvisionState::Manageable).await?;
    let conductor: Arc<dyn ConductorApi> = w.api();
    let api = ironic_api::router(ironic_api::ApiConfig::default(), w.store.clone(), conductor);
    let seen = Arc::new(Seen::default());
    let client = Client { api: api.clone(), node, seen: Arc::clone(&seen) };
    let until = Instant::now() + time;
    let clients: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(client.clone().work(n, until))).collect();
    let all = async {
        let mut counts = Vec::new();
        for c in clients {
            counts.push(c.await??);
        }
        anyhow::Ok(counts)
    };
    let counts = tokio::select! {
        counts = all => counts?,
        r = heartbeats(api, &w, node) => anyhow::bail!("the heartbeats ended: {r:?}"),
        r = internal_tasks(&w, node) => anyhow::bail!("the internal tasks ended: {r:?}"),
    };
    let end = w.store.node_get(node).await?;
    let answers = seen.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let longest = Duration::from_micros(seen.longest_micros.load(Ordering::Relaxed));
    println!("{engine:?}: {answers:?}, longest {longest:?}");
    let wrong = seen.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(wrong.is_empty(), "{} of the requests were refused, such as {:?}", wrong.len(), wrong.iter().take(5).collect::<Vec<_>>());
    for (n, count) in counts.iter().enumerate() {
        let stored = end.spec.extra.get(&format!("client{n}")).and_then(Value::as_u64).unwrap_or_default();
        assert_eq!(stored, *count, "client {n} lost a write");
    }
    let sum: u64 = counts.iter().sum();
    let kept: u64 = end.spec.extra.values().filter_map(Value::as_u64).sum();
    assert_eq!(kept, sum);
    assert!(counts.iter().all(|c| *c > 0), "a client never got its turn: {counts:?}");
    assert!(longest < Duration::from_secs(10), "a request took {longest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_that_a_node_is_locked_for_a_moment_and_no_write_is_lost() -> Result<()> {
    load(Engine::Sqlite, Duration::from_secs(4)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes five minutes; part of the full run"]
async fn nobody_is_told_that_a_node_is_locked_for_a_moment_within_five_minutes_on_sqlite() -> Result<()> {
    load(Engine::Sqlite, Duration::from_secs(300)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes five minutes; part of the full run"]
async fn nobody_is_told_that_a_node_is_locked_for_a_moment_within_five_minutes_on_postgresql() -> Result<()> {
    load(Engine::Postgres, Duration::from_secs(300)).await
}
