//! A Keystone for tests, in process: the token of a caller is the caller's name.
#![allow(dead_code, reason = "each user of this module takes what it needs")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bessemer_clients::keystone::{Keystone, KeystoneConfig, Named};
use bessemer_model::secret::Secret;
use http::{HeaderMap, StatusCode};
use ironic_api::{AuthStrategy, TokenAuth, TokenOptions};
use serde_json::{Value, json};

/// Told to those without a token.
pub const CHALLENGE: &str = "https://keystone.example/v3";

/// What the service does, and what it counted.
#[derive(Debug, Default)]
pub struct Switches {
    /// Answers 503 to everything.
    pub down: AtomicBool,
    /// Refuses the password.
    pub locked: AtomicBool,
    /// Tokens given to the service itself; earlier ones are void when `revoked` says so.
    pub issued: AtomicUsize,
    /// Own tokens up to this one are refused.
    pub revoked: AtomicUsize,
    /// Questions about callers.
    pub asked: AtomicUsize,
}

/// The service.
pub struct FakeKeystone {
    pub switches: Arc<Switches>,
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeKeystone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn roles(role: &str) -> Vec<&str> {
    const CHAIN: &[&str] = &["admin", "manager", "member", "reader"];
    CHAIN.iter().position(|r| *r == role).and_then(|i| CHAIN.get(i..)).map_or_else(|| vec![role], <[&str]>::to_vec)
}

/// The token of a caller by name: `SCOPE_ROLE`, `nova`, `unscoped`.
pub fn token(name: &str) -> Option<Value> {
    let (scope, role) = match name {
        "nova" => ("service", "service"),
        "unscoped" => ("unscoped", ""),
        other => other.split_once('_')?,
    };
    let mut t = json!({
        "user": {"id": format!("id-{name}"), "name": name, "domain": {"id": "default", "name": "Default"}},
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "issued_at": "2020-01-01T00:00:00.000000Z",
    });
    match scope {
        "unscoped" => return Some(t),
        "system" => t["system"] = json!({"all": true}),
        "domain" => t["domain"] = json!({"id": "default"}),
        p => t["project"] = json!({"id": p, "name": p, "domain": {"id": "default", "name": "Default"}}),
    }
    t["roles"] = roles(role).iter().map(|r| json!({"id": format!("role-{r}"), "name": r})).collect();
    Some(t)
}

async fn issue(State(s): State<Arc<Switches>>, Json(body): Json<Value>) -> Response {
    if s.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let user = &body["auth"]["identity"]["password"]["user"];
    if s.locked.load(Ordering::SeqCst) || user["name"] != "ironic" || user["password"] != "pass" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let n = s.issued.fetch_add(1, Ordering::SeqCst) + 1;
    let body = json!({ "token": token("service_admin") });
    (StatusCode::CREATED, [("X-Subject-Token", format!("own-{n}"))], Json(body)).into_response()
}

async fn validate(State(s): State<Arc<Switches>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if s.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let own: Option<usize> = text("X-Auth-Token").strip_prefix("own-").and_then(|n| n.parse().ok());
    if own.is_none_or(|n| n <= s.revoked.load(Ordering::SeqCst)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    s.asked.fetch_add(1, Ordering::SeqCst);
    let subject = text("X-Subject-Token");
    let allowed = query.as_deref() == Some("allow_expired=1");
    let found = match subject.strip_prefix("expired:") {
        Some(name) if allowed => token(name).map(|mut t| {
            t["expires_at"] = json!("2020-01-02T00:00:00.000000Z");
            t
        }),
        Some(_) => None,
        None => token(&subject),
    };
    match found {
        Some(t) => Json(json!({ "token": t })).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl FakeKeystone {
    /// Starts it.
    pub async fn start() -> Self {
        let switches = Arc::new(Switches::default());
        let app = Router::new().route("/v3/auth/tokens", get(validate).post(issue)).with_state(Arc::clone(&switches));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { switches, url, task }
    }

    /// The strategy that asks it; answers are believed for `cached`.
    pub fn strategy(&self, cached: Duration) -> AuthStrategy {
        let config = KeystoneConfig {
            auth_url: self.url.parse().expect("a URL"),
            username: "ironic".into(),
            password: Secret::new("pass".into()),
            user_domain: Named::Id("default".into()),
            project_name: "service".into(),
            project_domain: Named::Name("Default".into()),
            region: None,
            ca_file: None,
            insecure: false,
            timeout: Duration::from_secs(5),
            retries: 0,
        };
        let options = TokenOptions {
            www_authenticate_uri: CHALLENGE.into(),
            token_cache_time: cached,
            token_cache_size: 100,
            service_token_roles: vec!["service".into()],
            service_token_roles_required: true,
        };
        AuthStrategy::Keystone(Arc::new(TokenAuth::new(Keystone::new(config).expect("a client"), options)))
    }

    pub fn asked(&self) -> usize {
        self.switches.asked.load(Ordering::SeqCst)
    }
}
