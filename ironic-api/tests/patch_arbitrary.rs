//! JSON patches that nobody sane sends: each is applied or refused, none is a fault of the server, and the node is still
//! readable afterwards.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use ironic_api::ApiConfig;
use serde_json::{Value, json};
use tower::ServiceExt;

mod fake;

const ROOTS: &[&str] = &[
    "name",
    "driver",
    "driver_info",
    "properties",
    "extra",
    "instance_info",
    "instance_uuid",
    "maintenance",
    "resource_class",
    "owner",
    "lessee",
    "traits",
    "retired",
    "protected",
    "network_data",
    "automated_clean",
    "power_interface",
    "boot_interface",
    "uuid",
    "provision_state",
    "conductor_group",
    "chassis_uuid",
    "clean_step",
    "last_error",
    "parent_node",
    "shard",
    "description",
    "disable_power_off",
    "firmware_interface",
    "no_such_thing",
    "",
];

/// Numbers that are the same on each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.roll(if depth > 3 { 9 } else { 12 }) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(u64::MAX),
            4 => json!(1.0e300),
            5 => json!(""),
            6 => json!("\u{0}"),
            7 => json!("\u{202e}ü".repeat(self.roll(300))),
            8 => json!("1be26c0b-03f2-4d2e-ae87-c02d7f33c123"),
            9 => json!([self.value(depth + 1), self.value(depth + 1)]),
            10 => json!({ "a": self.value(depth + 1), "": self.value(depth + 1) }),
            _ => json!([]),
        }
    }

    fn path(&mut self) -> String {
        let mut path = format!("/{}", self.pick(ROOTS));
        for _ in 0..self.roll(4) {
            path.push('/');
            path.push_str(self.pick(&["a", "-", "0", "99999999999999999999", "~1", "~0", "~2", "", "ü", "capabilities", "a b"]));
        }
        path
    }

    fn operation(&mut self) -> Value {
        if self.roll(2) == 0 {
            // One that may well be applied, with a value of any kind.
            let root = self.pick(&["extra", "properties", "instance_info", "driver_info"]);
            let key = self.pick(&["a", "b", "~1c", "capabilities", "root_device"]);
            return json!({"op": "add", "path": format!("/{root}/{key}"), "value": self.value(0)});
        }
        let op = self.pick(&["add", "replace", "remove", "test", "move", "copy", "ADD", ""]);
        let mut operation = json!({"op": op, "path": self.path()});
        if self.roll(3) > 0 {
            operation["value"] = self.value(0);
        }
        match self.roll(12) {
            0 => operation["path"] = self.value(0),
            1 => operation["op"] = self.value(0),
            2 => operation = self.value(0),
            3 => operation["from"] = json!(self.path()),
            _ => {}
        }
        operation
    }
}

async fn send(router: &Router, method: &str, path: &str, minor: usize, body: Option<&Value>) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.test")
        .header("content-type", "application/json")
        .header("x-openstack-ironic-api-version", format!("1.{minor}"));
    let request = request.body(body.map_or_else(Body::empty, |b| Body::from(b.to_string()))).expect("a request");
    let answer = router.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn no_patch_is_a_fault_of_the_server() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = fake::store(dir.path()).await;
    let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::ZERO));
    let router = ironic_api::router(ApiConfig::default(), store, conductor);
    let (status, node) = send(&router, "POST", "/v1/nodes", 100, Some(&json!({"driver": "fake-hardware"}))).await;
    assert_eq!(status, StatusCode::CREATED, "{node}");
    let path = format!("/v1/nodes/{}", node["uuid"].as_str().expect("a UUID"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut applied = 0;
    for _ in 0..1500 {
        let operations = (0..=dice.roll(3)).map(|_| dice.operation()).collect();
        let patch = if dice.roll(40) == 0 { dice.value(0) } else { Value::Array(operations) };
        let minor = if dice.roll(2) == 0 { 115 } else { 1 + dice.roll(115) };
        let (status, answer) = send(&router, "PATCH", &path, minor, Some(&patch)).await;
        assert!(status.as_u16() < 500 || status == StatusCode::NOT_IMPLEMENTED, "{status} {answer} for 1.{minor} {patch}");
        applied += usize::from(status == StatusCode::OK);
    }
    assert!(applied > 20, "only {applied} patches were applied: the test has lost its teeth");
    let (status, node) = send(&router, "GET", &path, 115, None).await;
    assert_eq!(status, StatusCode::OK, "{node}");
}
