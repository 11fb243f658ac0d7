//! Bad input from BMCs, ramdisks and strangers, given to the real daemon: a clear error each, nothing lost, and the node goes on once the
//! cause is mended. (Images are in `bad_images.rs`; hostile DHCP, TFTP and IPMI packets in the tests of `pxe/` and `drivers/`.)

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bessemer_lab::api::Api;
use bessemer_tests::rig::Daemon;
use serde_json::{Value, json};
use virtualbmc_fixtures::{
    ipmi::{Fault as IpmiFault, IpmiBmc, IpmiBmcConfig},
    machine::Machine,
    redfish::{Fault, FaultRule, RedfishBmc, RedfishConfig},
};

const LIMIT: Duration = Duration::from_secs(90);
const IMPATIENT: &[&str] = &[
    "ipmi.command_retry_timeout=1",
    "redfish.connection_attempts=2",
    "redfish.connection_retry_interval=0.2",
    "redfish.connect_timeout=1",
    "redfish.read_timeout=1",
];

struct Bench {
    daemon: Daemon,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(set: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let all: Vec<&str> = IMPATIENT.iter().chain(set).copied().collect();
        Ok(Self { daemon: Daemon::start(dir.path(), false, &all)?, _dir: dir })
    }

    fn api(&self) -> Api {
        self.daemon.api()
    }

    /// `manage`, then the node at its rest.
    fn managed(&self, node: &str) -> Result<Value> {
        self.api().provision(node, "manage", &[])?;
        // `enroll` is also where it comes from: wait for the flow to begin or to have left an error.
        self.daemon.reach(node, &["enroll", "manageable"], LIMIT)
    }

    /// `manage` fails with an error that holds each of `words`, and none of `secrets`.
    fn not_managed(&self, node: &str, words: &[&str], secrets: &[&str]) -> Result<()> {
        let n = self.managed(node)?;
        let error = n["last_error"].as_str().unwrap_or_default();
        ensure!(n["provision_state"] == "enroll", "{}: {error}", n["provision_state"]);
        for word in words {
            ensure!(error.contains(word), "{word:?} is not in the error: {error:?}");
        }
        for secret in secrets {
            ensure!(!error.contains(secret) && !self.daemon.log_tail().contains(secret), "a secret shows: {error}");
        }
        Ok(())
    }

    fn is_managed(&self, node: &str) -> Result<()> {
        let n = self.managed(node)?;
        ensure!(n["provision_state"] == "manageable", "{}: {}", n["provision_state"], n["last_error"]);
        ensure!(n["last_error"].is_null(), "an old error stays: {}", n["last_error"]);
        Ok(())
    }

    /// A node of the fake driver that boots a ramdisk that never comes; its id.
    fn waiting_for_a_ramdisk(&self, name: &str, mac: &str, verbs: &[(&str, &str)]) -> Result<String> {
        let body = json!({
            "name": name, "driver": "fake-hardware", "deploy_interface": "direct", "boot_interface": "ipxe", "inspect_interface": "agent",
            "instance_info": {"image_source": "http://127.0.0.1:1/i", "image_os_hash_algo": "sha256", "image_os_hash_value": "0".repeat(64)},
        });
        let node = self.api().call("POST", "/v1/nodes", Some(&body))?;
        self.api().call("POST", "/v1/ports", Some(&json!({"node_uuid": node["uuid"], "address": mac})))?;
        for (verb, state) in verbs {
            self.api().provision(name, verb, &[])?;
            self.daemon.reach(name, &[state], LIMIT)?;
        }
        Ok(node["uuid"].as_str().context("uuid")?.to_owned())
    }

    fn ipmi_node(&self, name: &str, bmc: &IpmiBmc, password: &str) -> Result<()> {
        let info = json!({
            "ipmi_address": "127.0.0.1", "ipmi_port": bmc.address().port(), "ipmi_username": "admin", "ipmi_password": password,
        });
        self.api().call("POST", "/v1/nodes", Some(&json!({"name": name, "driver": "ipmi", "driver_info": info}))).map(drop)
    }

    fn redfish_node(&self, name: &str, bmc: &RedfishBmc, password: &str) -> Result<()> {
        let info = json!({
            "redfish_address": bmc.url(), "redfish_system_id": "/redfish/v1/Systems/1",
            "redfish_username": "admin", "redfish_password": password,
        });
        self.api().call("POST", "/v1/nodes", Some(&json!({"name": name, "driver": "redfish", "driver_info": info}))).map(drop)
    }
}

fn status(api: &Api, method: &str, path: &str, body: &Value) -> Result<(u16, String)> {
    let reply = api.send(method, path, Some(body))?;
    Ok((reply.status, reply.text()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_ipmi_password_is_named_and_the_right_one_works() -> Result<()> {
    let bmc = IpmiBmc::start(Machine::new("m"), IpmiBmcConfig::default()).await?;
    let bench = Bench::new(&[])?;
    bench.ipmi_node("n", &bmc, "not-the-password")?;
    bench.not_managed("n", &["127.0.0.1", "password wrong", "ipmi_password"], &["not-the-password"])?;
    bench.api().patch("n", &[("/driver_info/ipmi_password", json!("password"))])?;
    bench.is_managed("n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_ipmi_bmc_is_named_and_works_once_it_speaks() -> Result<()> {
    let bmc = IpmiBmc::start(Machine::new("m"), IpmiBmcConfig::default()).await?;
    let bench = Bench::new(&[])?;
    bench.ipmi_node("n", &bmc, "password")?;
    bmc.faults().set_silent(true);
    bench.not_managed("n", &["127.0.0.1", "does not answer"], &["password\""])?;
    bmc.faults().set_silent(false);
    bench.is_managed("n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_ipmi_bmc_is_waited_for() -> Result<()> {
    let bmc = IpmiBmc::start(Machine::new("m"), IpmiBmcConfig::default()).await?;
    let bench = Bench::new(&["ipmi.command_retry_timeout=10"])?;
    bench.ipmi_node("n", &bmc, "password")?;
    for _ in 0..2 {
        bmc.faults().once(IpmiFault::Completion(0xc0));
    }
    bench.is_managed("n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_redfish_password_is_named_and_the_right_one_works() -> Result<()> {
    let bmc = RedfishBmc::start(RedfishConfig::new(Machine::new("m"))).await?;
    let bench = Bench::new(&[])?;
    bench.redfish_node("n", &bmc, "not-the-password")?;
    bench.not_managed("n", &["127.0.0.1", "refuses the credentials", "redfish_password"], &["not-the-password"])?;
    bench.api().patch("n", &[("/driver_info/redfish_password", json!("secret-password"))])?;
    bench.is_managed("n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_redfish_bmc_is_named_and_works_once_it_speaks() -> Result<()> {
    let bmc = RedfishBmc::start(RedfishConfig::new(Machine::new("m"))).await?;
    let bench = Bench::new(&[])?;
    bench.redfish_node("n", &bmc, "secret-password")?;
    bmc.inject(FaultRule::once(Fault::Slow(Duration::from_secs(30))).times(u32::MAX));
    bench.not_managed("n", &["127.0.0.1", "tim"], &["secret-password"])?;
    bmc.clear_faults();
    bench.is_managed("n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redfish_bmc_that_answers_503_for_a_while_is_waited_for() -> Result<()> {
    let machine = Machine::new("m");
    let bmc = RedfishBmc::start(RedfishConfig::new(machine.clone())).await?;
    let bench = Bench::new(&["redfish.connection_attempts=4"])?;
    bench.redfish_node("n", &bmc, "secret-password")?;
    bmc.inject(FaultRule::once(Fault::Status(503, Some(1))).times(2));
    bench.is_managed("n")?;
    // In the middle of an action as well: power on is carried out once.
    bmc.inject(FaultRule::once(Fault::Status(503, None)).on("POST", "Reset").times(2));
    bench.api().call("PUT", "/v1/nodes/n/states/power", Some(&json!({"target": "power on"})))?;
    let on = || bench.api().node("n").is_ok_and(|n| n["power_state"] == "power on" && n["target_power_state"].is_null());
    bessemer_lab::tool::until("power on", Duration::from_secs(30), on).with_context(|| bench.daemon.log_tail())?;
    ensure!(machine.power() == virtualbmc_fixtures::machine::Power::On);
    ensure!(bench.api().node("n")?["last_error"].is_null());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redfish_bmc_that_stays_at_503_is_named_and_works_once_it_recovers() -> Result<()> {
    let bmc = RedfishBmc::start(RedfishConfig::new(Machine::new("m"))).await?;
    let bench = Bench::new(&[])?;
    bench.redfish_node("n", &bmc, "secret-password")?;
    bmc.inject(FaultRule::once(Fault::Status(503, None)).times(u32::MAX));
    bench.not_managed("n", &["127.0.0.1", "503"], &["secret-password"])?;
    bmc.clear_faults();
    bench.is_managed("n")
}

const OWN: &str = "52:54:00:00:00:01";
const FOREIGN: &str = "52:54:00:00:00:02";

fn report(macs: &[&str]) -> Value {
    let cards: Vec<Value> =
        macs.iter().enumerate().map(|(n, m)| json!({"name": format!("eth{n}"), "mac_address": m, "ipv4_address": "192.0.2.9"})).collect();
    json!({"inventory": {
        "interfaces": cards, "cpu": {"count": 2, "architecture": "x86_64"}, "memory": {"physical_mb": 1024}, "disks": [],
        "bmc_address": null, "boot": {"current_boot_mode": "bios", "pxe_interface": macs[0]},
    }})
}

#[test]
fn a_mac_of_another_node_is_refused_for_ports_and_for_inspection() -> Result<()> {
    let bench = Bench::new(&[])?;
    let api = bench.api();
    let steps = [("manage", "manageable"), ("inspect", "inspect wait")];
    let id = bench.waiting_for_a_ramdisk("own", OWN, &steps)?;
    bench.waiting_for_a_ramdisk("other", FOREIGN, &[])?;

    let (code, text) = status(&api, "POST", "/v1/ports", &json!({"node_uuid": id, "address": FOREIGN}))?;
    ensure!(code == 409 && text.contains(FOREIGN), "{code} {text}");
    let upper = json!({"node_uuid": id, "address": FOREIGN.to_uppercase()});
    ensure!(status(&api, "POST", "/v1/ports", &upper)?.0 == 409, "the same address in other letters");

    // Data of a machine with the other node's card, in every form: none reaches this node, and the other node does not wait for any.
    for (path, macs) in [
        (format!("/v1/continue_inspection?node_uuid={id}"), &[FOREIGN][..]),
        (format!("/v1/continue_inspection?node_uuid={id}"), &[OWN, FOREIGN]),
        ("/v1/continue_inspection".to_owned(), &[FOREIGN]),
        ("/v1/continue_inspection".to_owned(), &[OWN, FOREIGN]),
        ("/v1/continue_inspection".to_owned(), &["52:54:00:00:00:99"]),
    ] {
        let (code, text) = status(&api, "POST", &path, &report(macs))?;
        ensure!(code == 404, "{path} {macs:?}: {code} {text}");
    }
    ensure!(api.node("own")?["provision_state"] == "inspect wait");
    ensure!(api.send("GET", "/v1/nodes/own/inventory", None)?.status == 404, "nothing was stored");

    let (code, text) = status(&api, "POST", "/v1/continue_inspection", &report(&[OWN]))?;
    ensure!(code == 202, "{code} {text}");
    let node = bench.daemon.reach("own", &["manageable", "inspect failed"], LIMIT)?;
    ensure!(node["provision_state"] == "manageable" && node["last_error"].is_null(), "{}", node["last_error"]);
    ensure!(api.inventory("own")?["interfaces"][0]["mac_address"] == OWN);
    Ok(())
}

const DEPLOY: &[(&str, &str)] = &[("manage", "manageable"), ("provide", "available"), ("active", "wait call-back")];

fn lookup(api: &Api, mac: &str) -> Result<Value> {
    api.call("GET", &format!("/v1/lookup?addresses={mac}"), None)
}

fn beat(token: Option<&str>, url: &str) -> Value {
    let mut body = json!({"callback_url": url, "agent_version": "1"});
    if let Some(t) = token {
        body["agent_token"] = json!(t);
    }
    body
}

#[test]
fn a_strangers_heartbeat_changes_nothing() -> Result<()> {
    let bench = Bench::new(&[])?;
    let api = bench.api();
    let id = bench.waiting_for_a_ramdisk("n", OWN, DEPLOY)?;
    let path = format!("/v1/heartbeat/{id}");
    let stranger = TcpListener::bind("127.0.0.1:0")?;
    stranger.set_nonblocking(true)?;
    let url = format!("http://{}", stranger.local_addr()?);
    let refused = |token: Option<&str>| -> Result<()> {
        let (code, text) = status(&api, "POST", &path, &beat(token, &url))?;
        ensure!(code == 400 && text.to_lowercase().contains("token"), "{token:?}: {code} {text}");
        let node = api.node("n")?;
        ensure!(node["provision_state"] == "wait call-back" && node["last_error"].is_null(), "{}", node["provision_state"]);
        ensure!(node["driver_internal_info"]["agent_url"].is_null(), "{}", node["driver_internal_info"]);
        Ok(())
    };
    // Before any ramdisk has asked for a token, and after.
    for token in [None, Some(""), Some("guess"), Some("******")] {
        refused(token)?;
    }
    let found = lookup(&api, OWN)?;
    let token = found["config"]["agent_token"].as_str().context("the first lookup brings the token")?.to_owned();
    ensure!(lookup(&api, OWN)?["config"]["agent_token"] == "******", "a second one does not");
    let shorter = &token[..token.len() - 1];
    for token in [None, Some(""), Some("guess"), Some("******"), Some(shorter)] {
        refused(token)?;
    }
    std::thread::sleep(Duration::from_secs(1));
    ensure!(stranger.accept().is_err(), "the daemon spoke to the stranger");
    // An unknown machine learns nothing, and nobody looks up a node that does not wait.
    ensure!(api.send("GET", &format!("/v1/lookup?addresses={FOREIGN}"), None)?.status == 404);
    ensure!(status(&api, "POST", &path, &beat(Some(&token), &url))?.0 == 202, "the ramdisk with the token is heard");
    Ok(())
}

/// Speaks for the node's ramdisk at `url`, then waits for the end of the deployment.
fn deployed_by(bench: &Bench, id: &str, url: &str) -> Result<Value> {
    let api = bench.api();
    let token = lookup(&api, OWN)?["config"]["agent_token"].as_str().context("token")?.to_owned();
    ensure!(status(&api, "POST", &format!("/v1/heartbeat/{id}"), &beat(Some(&token), url))?.0 == 202);
    bench.daemon.reach("n", &["deploy failed", "active"], LIMIT)
}

/// Answers every request with these bytes and closes.
fn answering(bytes: Vec<u8>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut buffer = [0; 65536];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(&bytes);
        }
    });
    Ok(format!("http://{address}"))
}

#[test]
fn a_ramdisk_that_answers_nonsense_fails_the_deployment_with_its_words() -> Result<()> {
    let bench = Bench::new(&["agent.command_timeout=2"])?;
    let id = bench.waiting_for_a_ramdisk("n", OWN, DEPLOY)?;
    let http = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let huge = [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(), vec![b' '; 70 << 20]].concat();
    let failed = [b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n".as_slice(), b"{\"faultstring\": \"the disk burns\"}"].concat();
    let cases: [(Vec<u8>, &str); 6] = [
        (http("<html>"), "not understood"),
        (http(&deep), "not understood"),
        (http("{\"id\": 5, \"command_status\": \"PERHAPS\"}"), "not understood"),
        (huge, "larger than"),
        (failed, "the disk burns"),
        (
            http("{\"id\": \"1\", \"command_name\": \"x\", \"command_status\": \"SUCCEEDED\", \"command_result\": {\"deploy_steps\": 7}}"),
            "",
        ),
    ];
    for (n, (bytes, words)) in cases.into_iter().enumerate() {
        if n > 0 {
            bench.api().provision("n", "active", &[])?;
            bench.daemon.reach("n", &["wait call-back"], LIMIT)?;
        }
        let node = deployed_by(&bench, &id, &answering(bytes)?)?;
        let error = node["last_error"].as_str().unwrap_or_default();
        ensure!(node["provision_state"] == "deploy failed" && !error.is_empty(), "case {n}: {}: {error}", node["provision_state"]);
        ensure!(error.contains(words) && error.len() < 2000, "case {n}: {error}");
    }
    Ok(())
}

#[test]
fn hostile_http_bodies_are_answered_with_an_error_and_harm_nobody() -> Result<()> {
    let bench = Bench::new(&[])?;
    let api = bench.api();
    let address = api.base().trim_start_matches("http://").to_owned();
    let post = |length: usize, body: &[u8]| {
        let mut bytes = format!("POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    let whole = |body: &[u8]| post(body.len(), body);
    let deep = format!("{{\"driver\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("half a document", whole(b"{\"driver\": \"fake-hard")),
        ("no JSON", whole(b"\xff\xfe\x00\x01")),
        ("a list", whole(b"[1,2,3]")),
        ("deep nesting", whole(deep.as_bytes())),
        ("a body that never comes whole", post(5000, b"{")),
        ("an enormous length", post(usize::MAX / 2, b"{")),
        ("a negative length", b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n".to_vec()),
        ("two lengths", b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ".to_vec()),
        ("a bad chunk", b"POST /v1/nodes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n".to_vec()),
        ("an endless header", [b"GET /v1/nodes HTTP/1.1\r\nHost: a\r\nX: ".to_vec(), vec![b'a'; 2 << 20]].concat()),
        ("no HTTP", vec![0x16, 0x03, 0x01, 0x00, 0xa5, 0x01, 0x00]),
        ("a path out of the API", b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in &cases {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        // The server may close while we still speak.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = [0; 64];
        let got = stream.read(&mut answer).unwrap_or(0);
        let text = String::from_utf8_lossy(&answer[..got]).into_owned();
        ensure!(got == 0 || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.0 4"), "{what}: {text}");
    }
    let nodes = api.call("GET", "/v1/nodes", None)?;
    ensure!(nodes["nodes"].as_array().is_some_and(Vec::is_empty), "{nodes}");
    ensure!(!bench.daemon.log_tail().contains("panicked"), "{}", bench.daemon.log_tail());
    Ok(())
}
