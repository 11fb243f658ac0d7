//! Every policy of the table (`recordings/policies.json`) by every kind of caller, over HTTP and in process: with tokens, with a users
//! file, and with nobody asked. The same rows go to the real daemon in the workspace's tests.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, body::Body};
use base64::Engine as _;
use bessemer_db::Store;
use http::{Request, header};
use http_body_util::BodyExt;
use ironic_api::{ApiConfig, AuthStrategy, Policies};
use keystone::FakeKeystone;
use replay::{Answer, Server, World, table};
use serde_json::{Map, Value};
use tower::ServiceExt;

mod fake;
mod keystone;
mod replay;

struct InProcess {
    root: &'static str,
    config: ApiConfig,
    elevated: Option<String>,
    store: Store,
    conductor: Arc<fake::FakeConductor>,
    router: RwLock<Router>,
    file: PathBuf,
    _dir: tempfile::TempDir,
    _keystone: FakeKeystone,
}

impl InProcess {
    async fn new(root: &'static str, elevated: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let keystone = FakeKeystone::start().await;
        let users = dir.path().join("htpasswd");
        let digest = bcrypt::hash("pass", 4).expect("hash");
        std::fs::write(&users, format!("admin:{digest}\n")).expect("write");
        let auth = match root {
            "noauth" => AuthStrategy::NoAuth,
            "basic" => AuthStrategy::HttpBasic(ironic_api::BasicAuth::new(&users)),
            _ => keystone.strategy(Duration::from_secs(3600)),
        };
        let store = fake::store(dir.path()).await;
        let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(5)));
        let server = Self {
            root,
            config: ApiConfig { auth, ..ApiConfig::default() },
            elevated: elevated.map(str::to_owned),
            store,
            conductor,
            router: RwLock::default(),
            file: dir.path().join("policy.yaml"),
            _dir: dir,
            _keystone: keystone,
        };
        server.rules(&Map::new()).await;
        server
    }
}

impl Server for InProcess {
    fn root(&self) -> &'static str {
        self.root
    }

    async fn ask(&self, who: &str, line: &str, body: Option<&Value>) -> Answer {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let mut request = Request::builder().method(method).uri(path).header("x-openstack-ironic-api-version", "latest");
        let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        request = match who {
            "nobody" | "noauth" | "basic_none" => request,
            "basic" => request.header(header::AUTHORIZATION, basic("admin:pass")),
            "basic_wrong" => request.header(header::AUTHORIZATION, basic("admin:wrong")),
            "nova_elevated" => request.header("x-auth-token", "nova"),
            who => request.header("x-auth-token", who),
        };
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |v| Body::from(v.to_string()));
        let router = self.router.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (parts, body) = router.oneshot(request.body(body).expect("a request")).await.expect("infallible").into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let challenge = parts.headers.get(header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Answer { status: parts.status.as_u16(), challenge, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn rules(&self, rules: &Map<String, Value>) {
        std::fs::write(&self.file, Value::Object(rules.clone()).to_string()).expect("write");
        let policies = Policies::from_file(&self.file).expect("rules").with_service_project(self.elevated.clone());
        let config = ApiConfig { policies, ..self.config.clone() };
        let router = ironic_api::router(config, self.store.clone(), self.conductor.clone());
        *self.router.write().unwrap_or_else(PoisonError::into_inner) = router;
    }

    async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn projects() -> BTreeMap<String, String> {
    ["owner", "lessee", "other", "service"].map(|p| (p.to_owned(), p.to_owned())).into()
}

/// Every row of the table that `chosen` picks, as all these callers.
async fn rows(root: &'static str, elevated: Option<&str>, callers: &[&str], chosen: impl Fn(&str) -> bool) {
    let server = InProcess::new(root, elevated).await;
    let world = World::make(&server, projects()).await;
    let mut wrong = Vec::new();
    for row in table()["rows"].as_array().expect("rows") {
        if chosen(row["do"].as_str().unwrap_or_default()) {
            wrong.extend(world.row(row, callers).await);
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn token_callers(table: &Value) -> Vec<&str> {
    let all = table["callers"].as_array().expect("callers").iter().filter_map(Value::as_str);
    all.filter(|c| *c != "nova_elevated" && !c.starts_with("basic") && *c != "noauth").collect()
}

fn is_about_nodes(line: &str) -> bool {
    line.contains(" /v1/nodes")
}

#[tokio::test]
async fn callers_with_tokens_about_nodes() {
    rows("system_admin", None, &token_callers(&table()), is_about_nodes).await;
}

#[tokio::test]
async fn callers_with_tokens_about_everything_else() {
    rows("system_admin", None, &token_callers(&table()), |line| !is_about_nodes(line)).await;
}

#[tokio::test]
async fn a_service_of_the_elevated_project() {
    rows("system_admin", Some("service"), &["nova_elevated"], |_| true).await;
}

#[tokio::test]
async fn nobody_is_asked_and_everybody_may() {
    rows("noauth", None, &["noauth"], |_| true).await;
}

#[tokio::test]
async fn a_user_of_the_file_may_do_everything_and_others_nothing() {
    rows("basic", None, &["basic", "basic_wrong", "basic_none"], |_| true).await;
}

#[tokio::test]
async fn a_policy_that_allows_nobody_closes_its_rows() {
    let server = InProcess::new("system_admin", None).await;
    let world = World::make(&server, projects()).await;
    let mut wrong = Vec::new();
    for row in table()["rows"].as_array().expect("rows") {
        wrong.extend(world.without_policy(row).await);
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
