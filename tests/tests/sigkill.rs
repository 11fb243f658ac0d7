//! SIGKILL of the real daemon at random moments of fake-driver lives: nothing is lost, nothing fails because a process died.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const KILLS: usize = 30;
const NODES: usize = 12;

struct Daemon {
    child: Child,
}

fn binary() -> Result<PathBuf> {
    let mut at = std::env::current_exe()?;
    while at.pop() {
        let candidate = at.join("bessemer");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("the daemon is not built: run `cargo build -p bessemer` first (cargo xtask test does)")
}

impl Daemon {
    fn start(dir: &std::path::Path, port: u16) -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
        let mut c = Command::new(binary()?);
        c.args(["serve", "--dev", "--listen", &format!("127.0.0.1:{port}"), "--state-dir"]).arg(dir.join("state"));
        c.args(["--set", "conductor.automated_clean=true"]);
        for i in ["deploy", "inspect", "vendor", "power"] {
            c.args(["--set", &format!("fake.{i}_delay=0.03")]);
        }
        let child = c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("bessemer serve")?;
        Ok(Self { child })
    }
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    /// One request; `None` while the daemon is down.
    async fn send(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let mut r = self.http.request(method, format!("{}{path}", self.base)).header("X-OpenStack-Ironic-API-Version", "1.115");
        if let Some(b) = body {
            r = r.json(&b);
        }
        let a = r.send().await.ok()?;
        let status = a.status().as_u16();
        Some((status, a.json().await.unwrap_or(Value::Null)))
    }
    async fn get(&self, path: &str) -> Result<Value> {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if let Some((200, v)) = self.send(reqwest::Method::GET, path, None).await {
                return Ok(v);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("GET {path}: no answer of the daemon within 30 s")
    }
}

/// One node through enroll → manageable → available → active → available, for as long as asked; every request may hit a dead daemon.
async fn live(api: &Api, name: &str, until: Instant) -> Result<usize> {
    let body = json!({"driver": "fake-hardware", "name": name});
    loop {
        match api.send(reqwest::Method::POST, "/v1/nodes", Some(body.clone())).await {
            Some((201 | 409, _)) => break,
            Some((s, b)) => bail!("create: {s} {b}"),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    let path = format!("/v1/nodes/{name}");
    let mut rounds = 0;
    loop {
        let node = api.get(&path).await?;
        let state = node["provision_state"].as_str().unwrap_or_default().to_owned();
        if !node["last_error"].is_null() || state.contains("failed") || state == "error" {
            bail!("{name} failed in '{state}': {}", node["last_error"]);
        }
        let done = Instant::now() >= until && state == "available" && rounds > 0;
        let target = match state.as_str() {
            _ if done => return Ok(rounds),
            "enroll" => "manage",
            "manageable" => "provide",
            "available" => "active",
            "active" => {
                rounds += 1;
                "deleted"
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                continue;
            }
        };
        let verb = json!({"target": target});
        match api.send(reqwest::Method::PUT, &format!("{path}/states/provision"), Some(verb)).await {
            // 400 and 409: the request before this one had been taken after all, though its answer was lost.
            Some((202 | 400 | 409, _)) | None => {}
            Some((s, b)) => bail!("{name} {target}: {s} {b}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_sigkills_lose_no_life() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let api = std::sync::Arc::new(Api { http, base: format!("http://127.0.0.1:{port}") });
    let mut daemon = Daemon::start(dir.path(), port)?;
    let kills = async {
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..KILLS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tokio::time::sleep(Duration::from_millis(150 + (seed >> 33) % 500)).await;
            daemon.kill();
            daemon = Daemon::start(dir.path(), port)?;
        }
        anyhow::Ok(daemon)
    };
    let until = Instant::now() + Duration::from_secs(18);
    let mut lives = tokio::task::JoinSet::new();
    for i in 0..NODES {
        let api = std::sync::Arc::clone(&api);
        lives.spawn(async move { live(&api, &format!("n{i}"), until).await });
    }
    let kept = kills.await?;
    let mut rounds = 0;
    let all = async {
        while let Some(r) = lives.join_next().await {
            rounds += r??;
        }
        anyhow::Ok(())
    };
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        let nodes = api.get("/v1/nodes/detail").await.unwrap_or_default();
        for n in nodes["nodes"].as_array().into_iter().flatten() {
            println!(
                "{} {} target {} reservation {} error {}",
                n["name"], n["provision_state"], n["target_provision_state"], n["reservation"], n["last_error"]
            );
        }
        println!(
            "{}",
            std::fs::read_to_string(dir.path().join("log")).unwrap_or_default().lines().rev().take(30).collect::<Vec<_>>().join("\n")
        );
        bail!("lives did not end after the last kill");
    }
    println!("{KILLS} SIGKILLs, {NODES} nodes, {rounds} deployments");
    assert!(rounds >= NODES, "too little happened between the kills: {rounds}");
    drop(kept);
    Ok(())
}
