//! The API over HTTP, in process, on a real store, with a conductor that only pretends.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bessemer_db::Store;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use ironic_api::{ApiConfig, AuthStrategy, BasicAuth};
use serde_json::{Value, json};
use tower::ServiceExt;

mod fake;

const V: &str = "x-openstack-ironic-api-version";

struct Server {
    router: Router,
    store: Store,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn with(config: ApiConfig) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = fake::store(dir.path()).await;
        let conductor = Arc::new(fake::FakeConductor::new(store.clone(), Duration::from_millis(20)));
        Self { router: ironic_api::router(config, store.clone(), conductor), store, _dir: dir }
    }
    async fn new() -> Self {
        Self::with(ApiConfig::default()).await
    }

    async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        let (parts, body) = self.router.clone().oneshot(request).await.expect("infallible").into_parts();
        Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
    }

    async fn call(&self, method: &str, path: &str, version: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut b = Request::builder().method(method).uri(path).header("host", "api.test").header(V, version);
        if body.is_some() {
            b = b.header("content-type", "application/json");
        }
        let request = b.body(body.map_or_else(Body::empty, |v| Body::from(v.to_string()))).expect("a request");
        let r = self.send(request).await;
        assert!(r.headers().contains_key("openstack-request-id"), "{method} {path} carries no request id");
        (r.status(), serde_json::from_slice(r.body()).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call("GET", path, "latest", None).await
    }

    async fn node(&self, body: Value) -> String {
        let (status, v) = self.call("POST", "/v1/nodes", "latest", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{v}");
        v["uuid"].as_str().expect("a UUID").to_owned()
    }
}

#[tokio::test]
async fn no_answer_ever_holds_a_password() {
    let s = Server::new().await;
    let secrets = json!({"ipmi_password": "s3cr3t-a", "deep": {"auth_token": "s3cr3t-b"}});
    let id = s.node(json!({"driver": "fake-hardware", "driver_info": secrets, "instance_info": {"configdrive": "s3cr3t-c"}})).await;
    let patch = json!([{"op": "add", "path": "/driver_info/redfish_password", "value": "s3cr3t-d"}]);
    let (status, patched) = s.call("PATCH", &format!("/v1/nodes/{id}"), "latest", Some(patch)).await;
    assert_eq!(status, StatusCode::OK);
    let mut seen = patched.to_string();
    for path in [format!("/v1/nodes/{id}"), "/v1/nodes/detail".into(), "/v1/nodes?fields=driver_info,instance_info".into()] {
        seen += &s.get(&path).await.1.to_string();
    }
    assert!(!seen.contains("s3cr3t"), "{seen}");
    assert_eq!(patched["driver_info"]["redfish_password"], "******");
}

#[tokio::test]
async fn a_patch_keeps_the_secrets_that_it_does_not_name() {
    let s = Server::new().await;
    let id = s.node(json!({"driver": "fake-hardware", "driver_info": {"ipmi_password": "one", "a": 1}})).await;
    let patch = json!([{"op": "add", "path": "/driver_info/b", "value": 2}, {"op": "replace", "path": "/extra", "value": {"x": 1}}]);
    s.call("PATCH", &format!("/v1/nodes/{id}"), "latest", Some(patch)).await;
    let node = s.store.node_get_with_secrets(id.parse().expect("a UUID")).await.expect("the node");
    assert_eq!(Value::Object(node.spec.driver_info), json!({"ipmi_password": "one", "a": 1, "b": 2}));
}

#[tokio::test]
async fn racing_patches_lose_neither_side() {
    let s = Arc::new(Server::new().await);
    let id = s.node(json!({"driver": "fake-hardware"})).await;
    let mut all = tokio::task::JoinSet::new();
    for i in 0..6 {
        let (s, path) = (s.clone(), format!("/v1/nodes/{id}"));
        all.spawn(async move {
            let patch = json!([{"op": "add", "path": format!("/extra/k{i}"), "value": i}]);
            s.call("PATCH", &path, "latest", Some(patch)).await.0
        });
    }
    while let Some(status) = all.join_next().await {
        assert_eq!(status.expect("no panic"), StatusCode::OK);
    }
    let (_, v) = s.get(&format!("/v1/nodes/{id}?fields=extra")).await;
    assert_eq!(v["extra"].as_object().map(serde_json::Map::len), Some(6), "{v}");
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_depth() {
    let mut config = ApiConfig::default();
    config.limits.general = 4096;
    let s = Server::with(config).await;
    let (status, v) = s.call("POST", "/v1/nodes", "latest", Some(json!({"driver": "x".repeat(5000)}))).await;
    assert_eq!((status, &v["faultcode"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("Client")));
    let deep = (0..30).fold(json!(1), |v, _| json!([v]));
    let (status, v) = s.call("POST", "/v1/nodes", "latest", Some(json!({"driver": "fake-hardware", "extra": {"d": deep}}))).await;
    assert_eq!((status, &v["faultcode"]), (StatusCode::BAD_REQUEST, &json!("Client")));
}

#[tokio::test]
async fn a_panic_is_an_error_of_one_request_only() {
    let s = Server::new().await;
    s.node(json!({"driver": "fake-hardware", "name": "panics"})).await;
    assert_eq!(s.get("/v1/nodes/panics/validate").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(s.get("/v1/nodes").await.0, StatusCode::OK);
}

#[tokio::test]
async fn ramdisk_endpoints_can_be_switched_off() {
    let s = Server::with(ApiConfig { enable_ramdisk_endpoints: false, ..ApiConfig::default() }).await;
    let id = s.node(json!({"driver": "fake-hardware"})).await;
    assert_eq!(s.get(&format!("/v1/lookup?node_uuid={id}")).await.0, StatusCode::FORBIDDEN);
    for path in [format!("/v1/heartbeat/{id}"), "/v1/continue_inspection".to_owned()] {
        assert_eq!(s.call("POST", &path, "latest", Some(json!({}))).await.0, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn basic_authentication_guards_everything_but_the_public_routes() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("users");
    std::fs::write(&file, format!("admin:{}\n", bcrypt::hash("pw", 4).expect("hash"))).expect("write");
    let auth = AuthStrategy::HttpBasic(BasicAuth::new(&file));
    let s = Server::with(ApiConfig { auth, ..ApiConfig::default() }).await;
    for (path, expected) in [
        ("/", StatusCode::OK),
        ("/v1", StatusCode::OK),
        ("/v1/lookup", StatusCode::BAD_REQUEST),
        ("/v1/nodes", StatusCode::UNAUTHORIZED),
        ("/v1/heartbeat/a/b", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(s.get(path).await.0, expected, "{path}");
    }
    let request = Request::get("/v1/nodes").header("authorization", "Basic YWRtaW46cHc=").body(Body::empty()).expect("a request");
    assert_eq!(s.send(request).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_json_suffix_is_cut_for_old_clients_only() {
    let s = Server::new().await;
    s.node(json!({"driver": "fake-hardware", "name": "plain"})).await;
    s.node(json!({"driver": "fake-hardware", "name": "dotted.json"})).await;
    let status = async |path: &str, v: &str| s.call("GET", path, v, None).await.0;
    assert_eq!(status("/v1/nodes/plain.json", "1.90").await, StatusCode::OK);
    assert_eq!(status("/v1/nodes/dotted.json", "1.90").await, StatusCode::OK);
    assert_eq!(status("/v1/nodes/plain.json", "1.91").await, StatusCode::NOT_FOUND);
    assert_eq!(status("/v1/nodes/dotted.json", "1.91").await, StatusCode::OK);
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let s = Server::new().await;
    for i in 0..7 {
        s.node(json!({"driver": "fake-hardware", "name": format!("n{i}"), "resource_class": if i % 2 == 0 { "a" } else { "b" }})).await;
    }
    let mut path = "/v1/nodes?limit=3&sort_key=resource_class&sort_dir=desc&fields=name".to_owned();
    let mut names = Vec::new();
    loop {
        let (status, v) = s.get(&path).await;
        assert_eq!(status, StatusCode::OK);
        names.extend(v["nodes"].as_array().expect("nodes").iter().map(|n| n["name"].as_str().expect("name").to_owned()));
        match v["next"].as_str() {
            Some(next) => path = next.strip_prefix("http://api.test").expect("our address").to_owned(),
            None => break,
        }
    }
    assert_eq!(names, ["n5", "n3", "n1", "n6", "n4", "n2", "n0"]);
}

/// Every method on many paths, at the microversions around which anything changes: an error is always one of the client, well-formed,
/// and never a fault of the server other than "not built".
#[tokio::test]
async fn every_route_answers_in_shape_at_every_microversion() {
    let s = Server::new().await;
    let id = s.node(json!({"driver": "fake-hardware", "name": "sweep"})).await;
    let below_node = [
        "",
        "/validate",
        "/maintenance",
        "/states",
        "/states/power",
        "/states/provision",
        "/states/raid",
        "/states/console",
        "/states/boot_mode",
        "/states/secure_boot",
        "/management",
        "/management/boot_device",
        "/management/boot_device/supported",
        "/management/inject_nmi",
        "/management/indicators",
        "/management/indicators/led@system",
        "/vendor_passthru/methods",
        "/vendor_passthru/x",
        "/traits",
        "/traits/CUSTOM_A",
        "/vifs",
        "/vifs/x",
        "/bios",
        "/bios/x",
        "/firmware",
        "/history",
        "/history/x",
        "/inventory",
        "/children",
        "/vmedia",
        "/ports",
        "/ports/detail",
        "/portgroups",
        "/volume",
        "/volume/connectors",
        "/volume/targets",
        "/allocation",
        "/nothing",
    ];
    let mut paths: Vec<String> = below_node.iter().map(|p| format!("/v1/nodes/{id}{p}")).collect();
    for collection in [
        "nodes",
        "ports",
        "portgroups",
        "chassis",
        "drivers",
        "conductors",
        "allocations",
        "deploy_templates",
        "runbooks",
        "inspection_rules",
        "shards",
        "volume",
        "volume/connectors",
        "volume/targets",
        "events",
        "lookup",
        "heartbeat",
        "continue_inspection",
        "nowhere",
    ] {
        paths.extend([format!("/v1/{collection}"), format!("/v1/{collection}/detail"), format!("/v1/{collection}/some-thing")]);
    }
    let versions = ["1.1", "1.4", "1.11", "1.21", "1.22", "1.23", "1.36", "1.48", "1.54", "1.81", "1.91", "1.95", "1.111", "1.115"];
    for path in &paths {
        for method in ["GET", "PUT", "PATCH", "POST"] {
            for version in versions {
                let body = (method != "GET").then(|| json!({}));
                let (status, v) = s.call(method, path, version, body).await;
                let what = format!("{method} {path} at {version}: {status} {v}");
                assert!(!status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED, "{what}");
                if !status.is_success() {
                    let inner: Value = serde_json::from_str(v["error_message"].as_str().expect(&what)).expect(&what);
                    assert!(inner.get("faultstring").or(inner.get("title")).is_some(), "{what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn ports_follow_the_state_of_their_node() {
    let s = Server::new().await;
    let id = s.node(json!({"driver": "fake-hardware", "instance_uuid": "bbbbbbbb-0000-4000-8000-000000000001"})).await;
    let new = json!({"node_uuid": id, "address": "52:54:00:AA:00:01", "local_link_connection": {"port_id": "p", "switch_id": "52:54:00:AA:BB:CC"}});
    let (status, port) = s.call("POST", "/v1/ports", "latest", Some(new)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!((&port["address"], &port["local_link_connection"]["switch_id"]), (&json!("52:54:00:aa:00:01"), &json!("52:54:00:aa:bb:cc")));
    let path = format!("/v1/ports/{}", port["uuid"].as_str().expect("a UUID"));
    let mac = json!([{"op": "replace", "path": "/address", "value": "52:54:00:aa:00:02"}]);
    assert_eq!(s.call("PATCH", &path, "latest", Some(mac.clone())).await.0, StatusCode::CONFLICT, "the node has an instance");
    s.call("PUT", &format!("/v1/nodes/{id}/maintenance"), "latest", None).await;
    assert_eq!(s.call("PATCH", &path, "latest", Some(mac)).await.0, StatusCode::OK);
    for bad in [json!({"port_id": "p"}), json!({"bogus": "x"}), json!({"port_id": "p", "switch_id": "x"}), json!({"port_id": 5})] {
        let patch = json!([{"op": "replace", "path": "/local_link_connection", "value": bad}]);
        assert_eq!(s.call("PATCH", &path, "latest", Some(patch)).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn inspection_data_needs_an_interface_with_an_address() {
    let s = Server::new().await;
    let id = s.node(json!({"driver": "fake-hardware"})).await;
    let path = format!("/v1/continue_inspection?node_uuid={id}");
    for bad in [json!({}), json!({"inventory": {}}), json!({"inventory": {"interfaces": []}}), json!({"inventory": {"interfaces": [{}]}})] {
        assert_eq!(s.call("POST", &path, "latest", Some(bad.clone())).await.0, StatusCode::BAD_REQUEST, "{bad}");
    }
    let good = json!({"inventory": {"interfaces": [{"mac_address": "52:54:00:aa:00:01"}]}});
    let manage = format!("/v1/nodes/{id}/states/provision");
    assert_eq!(s.call("PUT", &manage, "latest", Some(json!({"target": "manage"}))).await.0, StatusCode::ACCEPTED);
    let (status, v) = s.call("POST", &path, "latest", Some(good)).await;
    assert_eq!((status, &v["node"]["uuid"]), (StatusCode::ACCEPTED, &json!(id)));
}

#[tokio::test]
async fn resetting_interfaces_goes_with_a_new_driver() {
    let s = Server::new().await;
    let id = s.node(json!({"driver": "fake-hardware"})).await;
    let patch = json!([{"op": "replace", "path": "/driver", "value": "ipmi"}]);
    let path = format!("/v1/nodes/{id}");
    assert_eq!(s.call("PATCH", &path, "latest", Some(patch.clone())).await.0, StatusCode::BAD_REQUEST, "the interfaces do not fit");
    let reset = format!("{path}?reset_interfaces=true");
    assert_eq!(s.call("PATCH", &reset, "1.44", Some(patch.clone())).await.0, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(
        s.call("PATCH", &reset, "latest", Some(json!([{"op": "add", "path": "/extra/a", "value": 1}]))).await.0,
        StatusCode::BAD_REQUEST
    );
    let (status, v) = s.call("PATCH", &reset, "latest", Some(patch)).await;
    assert_eq!((status, &v["power_interface"]), (StatusCode::OK, &json!("ipmitool")));
}

#[tokio::test]
async fn shards_are_counted_and_hidden_from_older_clients() {
    let s = Server::new().await;
    assert_eq!(s.get("/v1/shards").await, (StatusCode::OK, json!({"shards": []})));
    for shard in [json!("s2"), json!("s1"), json!("s1"), Value::Null] {
        s.node(json!({"driver": "fake-hardware", "shard": shard})).await;
    }
    let counted = json!({"shards": [{"name": "s1", "count": 2}, {"name": "None", "count": 1}, {"name": "s2", "count": 1}]});
    assert_eq!(s.get("/v1/shards/").await, (StatusCode::OK, counted));
    assert_eq!(s.call("GET", "/v1/shards", "1.81", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(s.get("/v1/shards/s1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(s.get("/v1/shards?limit=1").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn volumes_of_a_node_that_is_on_tell_the_refused_action_like_other_requests_do() {
    let s = Server::new().await;
    let node = s.node(json!({"driver": "fake-hardware"})).await;
    for (kind, body) in [
        ("connector", json!({"node_uuid": node, "type": "iqn", "connector_id": "iqn.1"})),
        ("target", json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0})),
    ] {
        let (status, v) = s.call("POST", &format!("/v1/volume/{kind}s"), "latest", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{v}");
        let path = format!("/v1/volume/{kind}s/{}", v["uuid"].as_str().expect("a UUID"));
        let patch = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
        let (status, v) = s.call("PATCH", &path, "latest", Some(patch)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{v}");
        let inner: Value = serde_json::from_str(v["error_message"].as_str().expect("a text")).expect("JSON");
        let want = format!("The requested action \"volume {kind} update\" can not be performed on node \"{node}\"");
        assert!(inner["faultstring"].as_str().is_some_and(|t| t.starts_with(&want)), "{inner}");
    }
}

#[tokio::test]
async fn a_group_that_attaches_its_ports_together_takes_no_port_that_boots_alone() {
    let s = Server::with(ApiConfig { default_portgroup_mode: "802.3ad".into(), ..ApiConfig::default() }).await;
    let id = s.node(json!({"driver": "fake-hardware"})).await;
    let group = json!({"node_uuid": id, "standalone_ports_supported": false});
    let (status, group) = s.call("POST", "/v1/portgroups", "latest", Some(group)).await;
    assert_eq!((status, &group["mode"]), (StatusCode::CREATED, &json!("802.3ad")));
    let port =
        |boots: Value| json!({"node_uuid": id, "address": "52:54:00:00:00:01", "portgroup_uuid": group["uuid"], "pxe_enabled": boots});
    let (status, _) = s.call("POST", "/v1/ports", "latest", Some(port(json!(true)))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, made) = s.call("POST", "/v1/ports", "latest", Some(port(json!(false)))).await;
    assert_eq!((status, &made["portgroup_uuid"]), (StatusCode::CREATED, &group["uuid"]));
    // Where the network interface attaches VIFs to single ports, that stays so.
    let boots = || Some(json!([{"op": "replace", "path": "/pxe_enabled", "value": true}]));
    let path = format!("/v1/ports/{}", made["uuid"].as_str().expect("a UUID"));
    let node = s.store.node_get(id.parse().expect("a UUID")).await.expect("the node");
    let mut spec = node.spec.clone();
    spec.interfaces.set(bessemer_model::interface::InterfaceKind::Network, "flat");
    s.store.node_update_spec(node.id, node.revision, spec, None).await.expect("written");
    assert_eq!(s.call("PATCH", &path, "latest", boots()).await.0, StatusCode::CONFLICT);
    s.store.node_update_spec(node.id, node.revision + 1, node.spec, None).await.expect("written");
    assert_eq!(s.call("PATCH", &path, "latest", boots()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_port_joins_no_group_of_another_owner() {
    let s = Server::new().await;
    let mut groups = Vec::new();
    for owner in ["a", "b"] {
        let id = s.node(json!({"driver": "fake-hardware"})).await;
        let patch = json!([{"op": "replace", "path": "/owner", "value": owner}]);
        assert_eq!(s.call("PATCH", &format!("/v1/nodes/{id}"), "latest", Some(patch)).await.0, StatusCode::OK);
        let (_, group) = s.call("POST", "/v1/portgroups", "latest", Some(json!({"node_uuid": id}))).await;
        groups.push((id, group["uuid"].clone()));
    }
    let port = json!({"node_uuid": groups[0].0, "address": "52:54:00:00:00:01"});
    let (_, port) = s.call("POST", "/v1/ports", "latest", Some(port)).await;
    let path = format!("/v1/ports/{}", port["uuid"].as_str().expect("a UUID"));
    let join = |group: &Value| Some(json!([{"op": "replace", "path": "/portgroup_uuid", "value": group}]));
    assert_eq!(s.call("PATCH", &path, "latest", join(&groups[1].1)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(s.call("PATCH", &path, "latest", join(&groups[0].1)).await.0, StatusCode::OK);
    let elsewhere = json!([{"op": "replace", "path": "/node_uuid", "value": groups[1].0}]);
    assert_eq!(s.call("PATCH", &path, "latest", Some(elsewhere)).await.0, StatusCode::BAD_REQUEST);
}
