//! What stands around the handlers: audit log, browsers, proxies, health check, switched-off routes.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, body::Body, extract::ConnectInfo};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use ironic_api::{ApiConfig, Audit, CorsConfig};
use keystone::FakeKeystone;
use serde_json::{Value, json};
use tower::ServiceExt;

mod fake;
mod keystone;

async fn server(config: ApiConfig) -> (Router, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = fake::store(dir.path()).await;
    let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(5)));
    let peer: std::net::SocketAddr = "192.0.2.9:4711".parse().expect("an address");
    (ironic_api::router(config, store, conductor).layer(Extension(ConnectInfo(peer))), dir)
}

async fn send(router: &Router, line: &str, headers: &[(&str, &str)], body: Option<Value>) -> Response<String> {
    let (method, path) = line.split_once(' ').expect("METHOD PATH");
    let mut b = Request::builder().method(method).uri(path).header("x-openstack-ironic-api-version", "latest");
    for (k, v) in headers {
        b = b.header(*k, *v);
    }
    if body.is_some() {
        b = b.header("content-type", "application/json");
    }
    let request = b.body(body.map_or_else(Body::empty, |v| Body::from(v.to_string()))).expect("a request");
    let (parts, body) = router.clone().oneshot(request).await.expect("infallible").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Response::from_parts(parts, String::from_utf8(bytes.to_vec()).expect("text"))
}

#[tokio::test]
async fn writing_and_refused_requests_are_noted_without_their_secrets() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("audit.log");
    let keystone = FakeKeystone::start().await;
    let config = ApiConfig {
        auth: keystone.strategy(Duration::from_secs(60)),
        audit: Some(Audit::to_file(&file).expect("a file")),
        ..ApiConfig::default()
    };
    let (router, _dir) = server(config).await;
    let node = json!({"driver": "fake-hardware", "driver_info": {"ipmi_password": "s3cr3t"}});
    let admin = ("x-auth-token", "system_admin");
    let made = send(&router, "POST /v1/nodes?password=s3cr3t", &[admin], Some(node.clone())).await;
    assert_eq!(made.status(), StatusCode::BAD_REQUEST);
    assert_eq!(send(&router, "POST /v1/nodes", &[admin], Some(node)).await.status(), StatusCode::CREATED);
    send(&router, "GET /v1/nodes", &[admin], None).await;
    send(&router, "GET /v1/conductors", &[("x-auth-token", "owner_reader"), ("x-forwarded-for", "203.0.113.1")], None).await;
    send(&router, "GET /v1/nodes", &[("x-auth-token", "s3cr3t-token")], None).await;
    let mut lines = Vec::new();
    for _ in 0..200 {
        let text = std::fs::read_to_string(&file).expect("lines");
        assert!(!text.contains("s3cr3t"), "{text}");
        lines = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")).collect();
        if lines.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told: Vec<_> = lines
        .iter()
        .map(|l| {
            let text = |k: &str| l[k].as_str().unwrap_or_default().to_owned();
            (text("method"), text("path"), l["status"].as_u64(), text("outcome"), text("user_name"), text("client"))
        })
        .collect();
    let row = |m: &str, p: &str, s, o: &str, u: &str| (m.into(), p.into(), Some(s), o.into(), u.into(), "192.0.2.9".into());
    assert_eq!(
        told,
        vec![
            row("POST", "/v1/nodes", 400, "failure", "system_admin"),
            row("POST", "/v1/nodes", 201, "success", "system_admin"),
            row("GET", "/v1/conductors", 403, "denied", "owner_reader"),
            row("GET", "/v1/nodes", 401, "denied", ""),
        ]
    );
    assert_eq!(lines[2]["project_id"], "owner");
    assert!(lines.iter().all(|l| l["request_id"].as_str().is_some_and(|r| r.starts_with("req-"))));
}

#[tokio::test]
async fn browsers_learn_what_pages_may_do_also_from_refusals() {
    let keystone = FakeKeystone::start().await;
    let cors = CorsConfig { allowed_origin: vec!["https://ui.example".into()], ..CorsConfig::default() };
    let (router, _dir) = server(ApiConfig { auth: keystone.strategy(Duration::ZERO), cors, ..ApiConfig::default() }).await;
    let page = ("origin", "https://ui.example");
    let r = send(&router, "OPTIONS /v1/nodes", &[page, ("access-control-request-method", "DELETE")], None).await;
    assert_eq!((r.status(), r.body().as_str()), (StatusCode::OK, ""));
    assert!(r.headers()["access-control-allow-methods"].to_str().expect("text").contains("DELETE"));
    let r = send(&router, "GET /v1/nodes", &[page], None).await;
    assert_eq!(r.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(r.headers()["access-control-allow-origin"], "https://ui.example");
    let (plain, _dir) = server(ApiConfig::default()).await;
    let r = send(&plain, "GET /v1", &[page], None).await;
    assert!(!r.headers().contains_key("vary") && !r.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn links_follow_a_trusted_proxy_only() {
    let headers = [("host", "inner:6385"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "bm.example")];
    for (config, base) in [
        (ApiConfig::default(), "http://inner:6385"),
        (ApiConfig { tls: true, ..ApiConfig::default() }, "https://inner:6385"),
        (ApiConfig { proxy_headers: true, ..ApiConfig::default() }, "https://bm.example"),
        (ApiConfig { proxy_headers: true, public_endpoint: Some("http://p".into()), ..ApiConfig::default() }, "http://p"),
    ] {
        let (router, _dir) = server(config).await;
        let r = send(&router, "GET /", &headers, None).await;
        assert!(r.body().contains(&format!("\"{base}/v1/\"")), "{base}: {}", r.body());
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_where_it_is_switched_on() {
    let keystone = FakeKeystone::start().await;
    let config = |healthcheck| ApiConfig { auth: keystone.strategy(Duration::ZERO), healthcheck, ..ApiConfig::default() };
    let (on, _dir) = server(config(true)).await;
    let r = send(&on, "GET /healthcheck", &[], None).await;
    assert_eq!((r.status(), r.body().as_str()), (StatusCode::OK, "OK"));
    let (off, _dir) = server(config(false)).await;
    assert_eq!(send(&off, "GET /healthcheck", &[], None).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn routes_of_ramdisks_are_refused_where_they_are_switched_off() {
    let (router, _dir) = server(ApiConfig { enable_ramdisk_endpoints: false, ..ApiConfig::default() }).await;
    let id = "3fd1ac4e-0000-4000-8000-000000000000";
    for line in [format!("GET /v1/lookup?node_uuid={id}"), format!("POST /v1/heartbeat/{id}"), "POST /v1/continue_inspection".to_owned()] {
        let body = line.starts_with("POST").then(|| json!({"callback_url": "http://x"}));
        assert_eq!(send(&router, &line, &[], body).await.status(), StatusCode::FORBIDDEN, "{line}");
    }
}
