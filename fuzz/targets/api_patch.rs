//! A JSON patch of any content on a node, at any microversion, over the whole API and a real store: never a fault of the
//! server.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../ironic-api/tests/fake/mod.rs"]
mod fake;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use tower::ServiceExt;

struct Api {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

const NODE: &str = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";

static API: LazyLock<Api> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let router = runtime.block_on(async {
        let store = fake::store(dir.path()).await;
        let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::ZERO));
        ironic_api::router(ironic_api::ApiConfig::default(), store, conductor)
    });
    let api = Api { router, runtime, _dir: dir };
    let body = format!(r#"{{"driver": "fake-hardware", "uuid": "{NODE}", "name": "fuzz"}}"#);
    assert_eq!(call(&api, "POST", "/v1/nodes", 99, body.as_bytes()), StatusCode::CREATED);
    api
});

fn call(api: &Api, method: &str, path: &str, minor: u8, body: &[u8]) -> StatusCode {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.test")
        .header("content-type", "application/json")
        .header("x-openstack-ironic-api-version", format!("1.{minor}"))
        .body(Body::from(body.to_vec()))
        .expect("a request");
    api.runtime.block_on(api.router.clone().oneshot(request)).expect("infallible").status()
}

fuzz_target!(|input: (u8, &[u8])| {
    let (minor, patch) = input;
    let status = call(&API, "PATCH", &format!("/v1/nodes/{NODE}"), 1 + minor % 115, patch);
    assert!(status.as_u16() < 500 || status == StatusCode::NOT_IMPLEMENTED, "{status}");
});
