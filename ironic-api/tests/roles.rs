//! Who may do what, over HTTP with tokens: the same requests by the same kinds of callers as another implementation of this API was
//! asked, and the same answers. Beside it, what Keystone's trouble does to callers.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use ironic_api::{ApiConfig, Policies};
use keystone::FakeKeystone;
use serde_json::{Value, json};
use tower::ServiceExt;

mod fake;
mod keystone;

struct Server {
    router: Router,
    keystone: FakeKeystone,
    dir: tempfile::TempDir,
}

impl Server {
    async fn new(policies: Policies, cached: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = fake::store(dir.path()).await;
        let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(5)));
        let keystone = FakeKeystone::start().await;
        let config = ApiConfig { auth: keystone.strategy(cached), policies, ..ApiConfig::default() };
        Self { router: ironic_api::router(config, store, conductor), keystone, dir }
    }

    async fn send(&self, headers: &[(&str, &str)], line: &str, body: Option<&Value>) -> Response<Value> {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let mut b = Request::builder().method(method).uri(path);
        if headers.iter().all(|(k, _)| *k != "x-openstack-ironic-api-version") {
            b = b.header("x-openstack-ironic-api-version", "latest");
        }
        for (k, v) in headers {
            b = b.header(*k, *v);
        }
        if body.is_some() {
            b = b.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |v| Body::from(v.to_string()));
        let (parts, body) = self.router.clone().oneshot(b.body(body).expect("a request")).await.expect("infallible").into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Response::from_parts(parts, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn call(&self, who: &str, line: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let r = self.send(&[("x-auth-token", who)], line, body).await;
        (r.status(), r.into_body())
    }

    async fn make(&self, path: &str, body: Value) -> String {
        let (status, v) = self.call("system_admin", &format!("POST {path}"), Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{v}");
        v["uuid"].as_str().expect("a UUID").to_owned()
    }

    async fn node(&self, name: &str, owner: Option<&str>, lessee: Option<&str>) -> String {
        let body = json!({"driver": "fake-hardware", "name": name, "owner": owner, "lessee": lessee, "driver_info": {"a": "b"}});
        self.make("/v1/nodes", body).await
    }

    async fn port(&self, node: &str, address: &str) -> String {
        self.make("/v1/ports", json!({"node_uuid": node, "address": address})).await
    }
}

/// Names in braces stand for what differs from one server to another.
fn fill(v: &Value, vars: &[(String, String)]) -> Value {
    match v {
        Value::String(s) => vars.iter().fold(s.clone(), |s, (k, v)| s.replace(&format!("{{{k}}}"), v)).into(),
        Value::Array(a) => a.iter().map(|x| fill(x, vars)).collect(),
        Value::Object(m) => m.iter().map(|(k, x)| (k.clone(), fill(x, vars))).collect(),
        other => other.clone(),
    }
}

/// The values at a path in which `*` is every item.
fn look(v: &Value, path: &str) -> Value {
    let mut at = vec![v.clone()];
    for key in path.trim_start_matches('/').split('/') {
        at = match key {
            "*" => at.iter().filter_map(Value::as_array).flatten().cloned().collect(),
            k => at.iter().map(|x| x[k].clone()).collect(),
        };
    }
    if path.contains('*') { Value::Array(at) } else { at.pop().unwrap_or_default() }
}

fn is_redacted(v: &Value) -> bool {
    v.as_str().or(v["content"].as_str()).is_some_and(|s| s.starts_with("** "))
}

/// Lists in any order; of what may be redacted, only whether it is.
fn comparable(path: &str, v: &Value) -> Value {
    let hides = ["driver_info", "driver_internal_info", "last_error", "reservation", "properties"].iter().any(|f| path.ends_with(f));
    match v {
        Value::Array(a) => {
            let mut a: Vec<Value> = a.iter().map(|x| if hides { is_redacted(x).into() } else { x.clone() }).collect();
            a.sort_by_key(Value::to_string);
            a.into()
        }
        v if hides => is_redacted(v).into(),
        v => v.clone(),
    }
}

type Vars = Vec<(String, String)>;

/// Nodes and ports of the recordings.
async fn seed(s: &Server) -> Vars {
    let n1 = s.node("n1", Some("owner"), Some("lessee")).await;
    let n2 = s.node("n2", None, None).await;
    let n3 = s.node("n3", Some("owner"), None).await;
    let p1 = s.port(&n1, "52:54:00:00:00:01").await;
    let p2 = s.port(&n2, "52:54:00:00:00:02").await;
    let projects = ["owner", "lessee", "other", "service"].map(|p| (p.to_owned(), p.to_owned()));
    let things = [("n1", n1), ("n2", n2), ("n3", n3), ("p1", p1), ("p2", p2)].map(|(k, v)| (k.to_owned(), v));
    projects.into_iter().chain(things).collect()
}

/// Asks what was asked and tells what differed.
async fn replay(s: &Server, recorded: &str, seeded: &Vars) -> Vec<String> {
    let file: Value = serde_json::from_str(recorded).expect("a recording");
    let n1 = fill(&json!("{n1}"), seeded).as_str().expect("a UUID").to_owned();
    let mut wrong = Vec::new();
    for step in file["steps"].as_array().expect("steps") {
        for answer in step["answers"].as_array().expect("answers") {
            for who in answer["who"].as_array().expect("names").iter().filter_map(Value::as_str) {
                let mut vars = seeded.clone();
                let fresh = match step["fresh"].as_str() {
                    Some("node") => Some(("nodes", s.node("fresh", Some("owner"), None).await)),
                    Some(_) => Some(("ports", s.port(&n1, "52:54:00:00:01:01").await)),
                    None => None,
                };
                if let Some((_, id)) = &fresh {
                    vars.push(("fresh".to_owned(), id.clone()));
                }
                let line = fill(&step["do"], &vars);
                let body = step.get("body").map(|b| fill(b, &vars));
                let (status, got) = s.call(who, line.as_str().expect("text"), body.as_ref()).await;
                let what = format!("{who}: {} {}", step["do"].as_str().expect("text"), step["body"]);
                if answer["status"] != status.as_u16() {
                    wrong.push(format!("{what}: {status}, want {}: {got}", answer["status"]));
                }
                for (path, want) in answer["see"].as_object().into_iter().flatten() {
                    let (want, got) = (comparable(path, &fill(want, &vars)), comparable(path, &look(&got, path)));
                    if want != got {
                        wrong.push(format!("{what}: {path} is {got}, want {want}"));
                    }
                }
                let made = step["after"].as_str().filter(|_| status == StatusCode::CREATED).map(|kind| {
                    let kind = if kind == "made" { "nodes" } else { kind };
                    (kind, got["uuid"].as_str().expect("a UUID").to_owned())
                });
                for (kind, id) in fresh.into_iter().chain(made) {
                    s.call("system_admin", &format!("DELETE /v1/{kind}/{id}"), None).await;
                }
            }
        }
    }
    wrong
}

#[tokio::test]
async fn callers_of_every_kind_get_the_answers_that_were_recorded() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let seeded = seed(&s).await;
    let wrong = replay(&s, include_str!("recordings/roles.json"), &seeded).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn so_they_do_about_volumes_allocations_runbooks_and_the_rest() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let mut seeded = seed(&s).await;
    let steps = json!([{"interface": "deploy", "step": "x", "args": {}, "order": 1}]);
    let step = json!([{"interface": "deploy", "step": "x", "args": {}, "priority": 1}]);
    let action = json!([{"op": "set-attribute", "args": {"path": "/extra/x", "value": "1"}}]);
    let connector = |n: &str, id: &str| json!({"node_uuid": n, "type": "iqn", "connector_id": id});
    let target = |n: &str, id: &str| json!({"node_uuid": n, "volume_type": "iscsi", "volume_id": id, "boot_index": 0});
    for (name, path, body) in [
        ("vc1", "/v1/volume/connectors", connector("{n1}", "iqn.1")),
        ("vc2", "/v1/volume/connectors", connector("{n2}", "iqn.2")),
        ("vt1", "/v1/volume/targets", target("{n1}", "v1")),
        ("vt2", "/v1/volume/targets", target("{n2}", "v2")),
        ("al1", "/v1/allocations", json!({"resource_class": "none", "owner": "owner", "name": "al1"})),
        ("al2", "/v1/allocations", json!({"resource_class": "none", "name": "al2"})),
        ("rb1", "/v1/runbooks", json!({"name": "CUSTOM_RB1", "steps": steps, "owner": "owner"})),
        ("rb2", "/v1/runbooks", json!({"name": "CUSTOM_RB2", "steps": steps, "public": true})),
        ("dt1", "/v1/deploy_templates", json!({"name": "CUSTOM_DT1", "steps": step})),
        ("ir1", "/v1/inspection_rules", json!({"conditions": [], "actions": action, "description": "one"})),
    ] {
        let id = s.make(path, fill(&body, &seeded)).await;
        seeded.push((name.to_owned(), id));
    }
    let wrong = replay(&s, include_str!("recordings/roles-resources.json"), &seeded).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_allocation_of_a_node_that_does_not_exist_is_a_bad_request_to_every_caller() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let mine = s.node("mine", Some("owner"), None).await;
    let ask = |who: &'static str, node: String| {
        let s = &s;
        async move { s.call(who, &format!("GET /v1/nodes/{node}/allocation"), None).await.0 }
    };
    for (who, of_mine) in
        [("system_reader", StatusCode::NOT_FOUND), ("owner_reader", StatusCode::NOT_FOUND), ("other_admin", StatusCode::NOT_FOUND)]
    {
        assert_eq!(ask(who, "nope".to_owned()).await, StatusCode::BAD_REQUEST, "{who}");
        assert_eq!(ask(who, mine.clone()).await, of_mine, "{who}");
    }
}

#[tokio::test]
async fn who_may_not_do_it_is_not_told_that_the_microversion_is_too_old() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let node = s.node("mine", None, None).await;
    let target = json!({"target": "uefi"});
    let boot_mode = format!("PUT /v1/nodes/{node}/states/boot_mode");
    for (who, line, version, status) in [
        ("system_reader", boot_mode.as_str(), "1.75", StatusCode::FORBIDDEN),
        ("other_admin", &boot_mode, "1.75", StatusCode::NOT_FOUND),
        ("system_admin", &boot_mode, "1.75", StatusCode::NOT_FOUND),
        ("owner_reader", "GET /v1/conductors", "1.48", StatusCode::FORBIDDEN),
        ("system_reader", "GET /v1/conductors", "1.48", StatusCode::NOT_FOUND),
        ("system_reader", "GET /v1/conductors", "1.49", StatusCode::OK),
    ] {
        let body = line.starts_with("PUT").then_some(&target);
        let headers = [("x-auth-token", who), ("x-openstack-ironic-api-version", version)];
        let got = s.send(&headers, line, body).await;
        assert_eq!(got.status(), status, "{who} {line} {version}: {}", got.body());
    }
}

#[tokio::test]
async fn a_heartbeat_may_name_its_node_in_the_body() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let node = s.node("mine", None, None).await;
    for (body, status, says) in [
        (json!({"callback_url": "http://192.0.2.1/"}), StatusCode::BAD_REQUEST, "node_ident"),
        (json!({"node_ident": "nope", "callback_url": "http://192.0.2.1/", "agent_token": "t"}), StatusCode::NOT_FOUND, "nope"),
        (json!({"node_ident": node, "callback_url": "http://192.0.2.1/", "agent_token": "t"}), StatusCode::BAD_REQUEST, "wrong token"),
    ] {
        let (got, answer) = s.call("other_reader", "POST /v1/heartbeat", Some(&body)).await;
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer.to_string().contains(says), "{body}: {answer}");
    }
    let both = json!({"node_ident": node, "callback_url": "http://192.0.2.1/", "agent_token": "t"});
    let (got, answer) = s.call("other_reader", &format!("POST /v1/heartbeat/{node}"), Some(&both)).await;
    assert_eq!(got, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer.to_string().contains("node_ident"), "named twice: {answer}");
}

#[tokio::test]
async fn without_a_valid_token_the_answer_tells_where_to_get_one() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    for headers in [&[][..], &[("x-auth-token", "gone")], &[("x-auth-token", "")], &[("x-auth-token", "two words")]] {
        let r = s.send(headers, "GET /v1/nodes", None).await;
        assert_eq!(r.status(), StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(r.headers()["www-authenticate"], format!("Keystone uri=\"{}\"", keystone::CHALLENGE).as_str());
        assert_eq!(r.body()["error"]["code"], 401);
    }
    for public in ["GET /", "GET /v1", "GET /v1/lookup?addresses=52:54:00:00:00:01"] {
        assert_ne!(s.send(&[], public, None).await.status(), StatusCode::UNAUTHORIZED, "{public}");
    }
}

#[tokio::test]
async fn keystone_is_asked_once_while_its_answer_is_fresh() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    for _ in 0..5 {
        assert_eq!(s.call("system_reader", "GET /v1/nodes", None).await.0, StatusCode::OK);
        assert_eq!(s.call("gone", "GET /v1/nodes", None).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(s.keystone.asked(), 2);
    let s = Server::new(Policies::default(), Duration::ZERO).await;
    for _ in 0..3 {
        assert_eq!(s.call("system_reader", "GET /v1/nodes", None).await.0, StatusCode::OK);
    }
    assert_eq!(s.keystone.asked(), 3);
}

#[tokio::test]
async fn a_void_token_of_our_own_is_replaced_and_trouble_of_keystone_is_503() {
    let s = Server::new(Policies::default(), Duration::ZERO).await;
    let ask = async || s.call("system_reader", "GET /v1/nodes", None).await.0;
    let k = &s.keystone.switches;
    assert_eq!(ask().await, StatusCode::OK);
    k.revoked.store(1, Ordering::SeqCst);
    assert_eq!(ask().await, StatusCode::OK);
    assert_eq!(k.issued.load(Ordering::SeqCst), 2);
    k.down.store(true, Ordering::SeqCst);
    let r = s.send(&[("x-auth-token", "system_reader")], "GET /v1/nodes", None).await;
    assert_eq!(r.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(r.body()["error"]["message"].as_str().is_some_and(|m| m.contains("identity service")));
    assert_eq!(s.send(&[], "GET /v1", None).await.status(), StatusCode::OK);
    k.down.store(false, Ordering::SeqCst);
    assert_eq!(ask().await, StatusCode::OK);
    k.revoked.store(9, Ordering::SeqCst);
    k.locked.store(true, Ordering::SeqCst);
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_service_with_the_right_role_vouches_for_an_expired_token() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let ask = async |user: &str, service: Option<&str>| {
        let mut h = vec![("x-auth-token", user)];
        h.extend(service.map(|t| ("x-service-token", t)));
        s.send(&h, "GET /v1/nodes", None).await.status()
    };
    assert_eq!(ask("expired:owner_reader", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("expired:owner_reader", Some("nova")).await, StatusCode::OK);
    assert_eq!(ask("expired:owner_reader", Some("owner_admin")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("expired:owner_reader", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("owner_reader", Some("gone")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("owner_reader", Some("owner_admin")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_policy_file_decides_over_http() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("policy.yaml");
    let rules = "\"baremetal:conductor:get\": \"role:reader\"\n\"show_password\": \"role:admin and system_scope:all\"\n\
                 \"baremetal:step:execute:deploy.x\": \"!\"\n";
    std::fs::write(&file, rules).expect("write");
    let s = Server::new(Policies::from_file(&file).expect("a policy file"), Duration::from_secs(60)).await;
    assert_eq!(s.call("other_reader", "GET /v1/conductors", None).await.0, StatusCode::OK);
    let id = s.make("/v1/nodes", json!({"driver": "fake-hardware", "driver_info": {"ipmi_password": "s3cr3t"}})).await;
    let seen = async |who: &str| s.call(who, &format!("GET /v1/nodes/{id}"), None).await.1["driver_info"]["ipmi_password"].clone();
    assert_eq!(seen("system_admin").await, "s3cr3t");
    assert_eq!(seen("system_reader").await, "******");
    let clean = json!({"target": "clean", "clean_steps": [{"interface": "deploy", "step": "x"}]});
    let (status, body) = s.call("system_admin", &format!("PUT /v1/nodes/{id}/states/provision"), Some(&clean)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body["error_message"].as_str().is_some_and(|m| m.contains("baremetal:step:execute:deploy.x")), "{body}");
    drop(s.dir);
}

#[tokio::test]
async fn a_node_that_is_not_seen_cannot_be_linked_to() {
    let s = Server::new(Policies::default(), Duration::from_secs(60)).await;
    let mine = s.node("mine", Some("owner"), None).await;
    let other = s.node("other", Some("other"), None).await;
    let port = s.port(&mine, "52:54:00:00:00:01").await;
    let patch = |path: &str, v: &str| json!([{"op": "add", "path": path, "value": v}]);
    let mut answers = Vec::new();
    for target in [other.as_str(), "3fd1ac4e-0000-4000-8000-000000000000"] {
        let (status, body) = s.call("owner_admin", &format!("PATCH /v1/ports/{port}"), Some(&patch("/node_uuid", target))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        answers.push(body.to_string().replace(target, ""));
        let (status, body) = s.call("system_admin", &format!("PATCH /v1/nodes/{mine}"), Some(&patch("/parent_node", target))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(answers[0], answers[1], "the answer tells whether the node exists");
}
