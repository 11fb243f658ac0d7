//! The API with a real conductor on a database of its own, and what is judged after each request.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use axum::{Router, body::Body};
use bessemer_db::{CommitAction, CommitHook, CommitPoint};
use bessemer_model::{ids::NodeId, node::Node, secret::Secret, state::ProvisionState};
use bessemer_tests::world::{Database, Engine, World};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::cases::SECRET;

/// The newest microversion.
pub const LATEST: &str = "1.115";

/// Calls for which the conductor holds the node before it hears that the driver refuses them.
const HOLDS: &[&str] = &["management/inject_nmi"];

/// Counts commits: a request that made none changed nothing.
struct Commits(Arc<AtomicU64>);

impl CommitHook for Commits {
    fn at(&self, point: CommitPoint, _: u64) -> CommitAction {
        if point == CommitPoint::After {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        CommitAction::Continue
    }
}

/// Every log line of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let lines = log.clone();
        let started = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).with_ansi(false);
        assert!(started.with_writer(move || lines.clone()).try_init().is_ok(), "another log is in the way");
        log
    })
}

/// See the module documentation.
pub struct Server {
    api: Router,
    world: World,
    _database: Database,
    commits: Arc<AtomicU64>,
    /// What the path parameters of the API's description stand for.
    pub idents: BTreeMap<String, String>,
    node: NodeId,
    number: u64,
    wrong: Vec<String>,
    /// Requests sent, and those of them that were taken and refused.
    pub sent: [u64; 3],
}

impl Server {
    /// One with a resource of each kind.
    pub async fn start(engine: Engine) -> Result<Self> {
        log();
        let database = Database::new(engine).await?;
        let commits = Arc::new(AtomicU64::new(0));
        let store = database.open().await?.with_commit_hook(Arc::new(Commits(Arc::clone(&commits))));
        let world = World::start(store).await?;
        let api = ironic_api::router(ironic_api::ApiConfig::default(), world.store.clone(), world.api());
        let node = world.node(ProvisionState::Manageable).await?;
        let idents = BTreeMap::new();
        let mut s = Self { api, world, _database: database, commits, idents, node, number: 0, wrong: vec![], sent: [0; 3] };
        s.new_node(ProvisionState::Manageable).await?;
        for (parameter, value) in [
            ("driver_ident", "fake-hardware"),
            ("conductor_ident", "test-conductor"),
            ("trait_ident", "CUSTOM_A"),
            ("vif_ident", "vif-1"),
            ("method_ident", "first_method"),
            ("indicator_ident", "power@chassis"),
            ("setting_ident", "a"),
            ("entry_ident", "ffffffff-0000-4000-8000-0000000000ff"),
        ] {
            s.idents.insert(parameter.into(), value.into());
        }
        let node = s.idents["node_ident"].clone();
        let step = |order: &str| json!([{"interface": "bios", "step": "s", "args": {"password": SECRET}, order: 1}]);
        for (kind, parameter, body) in [
            ("ports", "port_ident", json!({"node_uuid": node, "address": "52:54:00:00:00:01"})),
            ("portgroups", "portgroup_ident", json!({"node_uuid": node})),
            ("chassis", "chassis_ident", json!({})),
            ("volume/connectors", "connector_ident", json!({"node_uuid": node, "type": "iqn", "connector_id": "c"})),
            (
                "volume/targets",
                "target_ident",
                json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0, "properties": {"auth_password": SECRET}}),
            ),
            ("allocations", "allocation_ident", json!({"resource_class": "nothing-has-it"})),
            ("deploy_templates", "deploy_template_ident", json!({"name": "CUSTOM_T", "steps": step("priority")})),
            ("runbooks", "runbook_ident", json!({"name": "CUSTOM_R", "steps": step("order")})),
            ("inspection_rules", "inspection_rule_ident", json!({"actions": [{"op": "set-attribute", "args": ["/extra/x", "y"]}]})),
        ] {
            let (status, text) = s.send("POST", &format!("/v1/{kind}"), LATEST, Some(body.to_string().into_bytes())).await?;
            ensure!(status == 201, "{kind}: {status} {text}");
            let made: Value = serde_json::from_str(&text)?;
            s.idents.insert(parameter.into(), made["uuid"].as_str().context("a UUID")?.to_owned());
        }
        s.allocated().await?;
        Ok(s)
    }

    /// The node at rest, without the note of which conductor last had it.
    async fn node_as_seen(&self) -> Result<Node> {
        Ok(Node { conductor_affinity: None, ..self.world.settled(self.node).await? })
    }

    /// Waits until the conductor has looked for a node for every allocation.
    async fn allocated(&self) -> Result<()> {
        let open = || self.send("GET", "/v1/allocations?state=allocating&limit=1", LATEST, None);
        for _ in 0..500 {
            if open().await?.1 == r#"{"allocations":[]}"# {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("allocations stay open: {}", open().await?.1)
    }

    /// A fresh node with secrets takes the place of the one before.
    pub async fn new_node(&mut self, state: ProvisionState) -> Result<()> {
        let plant = |spec: &mut bessemer_model::node::NodeSpec| {
            spec.driver_info.insert("fake_password".into(), SECRET.into());
            spec.driver_info.insert("ipmi_password".into(), SECRET.into());
            spec.instance_info.insert("configdrive".into(), SECRET.into());
        };
        self.node = self.world.node_with(state, plant).await?;
        self.world.store.agent_token_mint(self.node, &Secret::new(SECRET.to_owned())).await?;
        self.idents.insert("node_ident".into(), self.node.to_string());
        Ok(())
    }

    /// A number that was not given before.
    pub fn fresh(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The path of the description with its parameters filled in.
    pub fn path(&self, template: &str) -> Result<String> {
        let mut out = template.to_owned();
        while let Some((before, rest)) = out.split_once('{') {
            let (name, after) = rest.split_once('}').context("a closed parameter")?;
            let value = self.idents.get(name).with_context(|| format!("nothing stands for {name} in {template}"))?;
            out = format!("{before}{value}{after}");
        }
        Ok(out)
    }

    /// Sends a request as it is.
    pub async fn send(&self, method: &str, path: &str, version: &str, body: Option<Vec<u8>>) -> Result<(u16, String)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "api.test")
            .header("content-type", "application/json")
            .header("x-auth-token", SECRET)
            .header("x-openstack-ironic-api-version", version);
        let answer = self.api.clone().oneshot(request.body(body.map_or_else(Body::empty, Body::from))?).await?;
        let status = answer.status().as_u16();
        Ok((status, String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned()))
    }

    /// Sends a request and judges the answer. Gives whether it was taken; then the node may be another.
    pub async fn judge(
        &mut self,
        what: &str,
        method: &str,
        template: &str,
        version: &str,
        body: Vec<u8>,
        state: ProvisionState,
    ) -> Result<bool> {
        let path = self.path(template)?;
        // Such a call takes the node and gives it back, which is written; but nothing that anybody sees may be another afterwards.
        let held = HOLDS.iter().any(|end| template.ends_with(end));
        let seen = if held { Some(self.node_as_seen().await?) } else { None };
        let before = self.commits.load(Ordering::SeqCst);
        let shown: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        let again = body.clone();
        let (status, text) = self.send(method, &path, version, Some(body)).await?;
        let taken = status < 400;
        self.sent[0] += 1;
        self.sent[if taken { 1 } else { 2 }] += 1;
        let mut unchanged = match seen {
            Some(node) => taken || self.node_as_seen().await? == node,
            None => self.commits.load(Ordering::SeqCst) == before,
        };
        // A conductor may still have been tidying up after an earlier request: one that writes does so each time.
        for _ in 0..3 {
            if taken || unchanged || held {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let before = self.commits.load(Ordering::SeqCst);
            self.send(method, &path, version, Some(again.clone())).await?;
            unchanged = self.commits.load(Ordering::SeqCst) == before;
        }
        let mut wrong = |why: &str| {
            let text: String = text.chars().take(300).collect();
            self.wrong.push(format!("{why}: {what}: {method} {template} at {version} {shown} -> {status} {text}"));
        };
        if status >= 500 && status != 501 {
            wrong("a fault of the server");
        }
        if text.contains(SECRET) {
            wrong("a secret in the answer");
        }
        if !taken {
            if !is_error(&text) {
                wrong("not the shape of an error");
            }
            if !unchanged {
                wrong("something was written");
            }
        } else if template.contains("allocation") {
            self.allocated().await?;
        } else if template.contains("node_ident") {
            // What was taken ends before the next request is judged.
            let old = self.node;
            self.new_node(state).await?;
            if self.world.store.node_get(old).await.is_ok() {
                let _ = self.world.settled(old).await;
            }
        }
        Ok(taken)
    }

    /// Everything that was wrong, and what stands in the log that must not.
    pub fn verdict(mut self) -> Result<()> {
        let text = log().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8_lossy(&text);
        ensure!(text.contains("request refused"), "the log was not kept");
        let secret = text.lines().filter(|l| l.contains(SECRET)).take(5);
        self.wrong.extend(secret.map(|l| format!("a secret in the log: {}", l.chars().take(400).collect::<String>())));
        let panicked = text.lines().filter(|l| l.contains("panicked")).take(5);
        self.wrong.extend(panicked.map(|l| format!("a panic: {}", l.chars().take(400).collect::<String>())));
        ensure!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.sent[0], self.wrong[..self.wrong.len().min(60)].join("\n"));
        Ok(())
    }
}

/// An error as clients parse it: a document with a text that is a document, or the plain form of what is refused before any handler.
fn is_error(text: &str) -> bool {
    let Ok(outer) = serde_json::from_str::<Value>(text) else { return false };
    if outer["faultstring"].is_string() {
        return true;
    }
    let inner = outer["error_message"].as_str().and_then(|t| serde_json::from_str::<Value>(t).ok());
    inner.is_some_and(|i| i["faultstring"].is_string() || i["title"].is_string())
}
