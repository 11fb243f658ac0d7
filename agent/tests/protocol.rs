//! The agent program against a conductor of canned answers: lookup, heartbeat, tokens and the command API.
#![allow(missing_docs, clippy::unwrap_used)]

mod agent_support;

use agent_support::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn first_beat(conductor: &Conductor) -> Seen {
    conductor.wait("/v1/heartbeat", 1)[0].clone()
}

#[tokio::test]
async fn lookup_and_heartbeat_speak_the_contract() {
    let conductor = Conductor::start(Behaviour::default());
    let id = "req-7b1b1b1e-1111-4111-8111-111111111111";
    let _agent = Agent::start(&conductor.url(), &["--param", &format!("ipa-global-request-id={id}")]);
    let beat = first_beat(&conductor);
    let lookup = conductor.seen("/v1/lookup")[0].clone();
    assert_eq!(lookup.version.as_deref(), Some("1.62"));
    assert_eq!(lookup.request_id.as_deref(), Some(id));
    assert!(lookup.path.starts_with("/v1/lookup?addresses="));
    assert_eq!((beat.method.as_str(), beat.path.as_str()), ("POST", format!("/v1/heartbeat/{NODE}").as_str()));
    assert_eq!(beat.version.as_deref(), Some("1.68"));
    assert_eq!(beat.body["agent_token"], TOKEN);
    assert_eq!(beat.body["agent_version"], env!("CARGO_PKG_VERSION"));
    assert!(beat.body["callback_url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    assert!(beat.body["agent_verify_ca"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!beat.body["agent_verify_ca"].as_str().unwrap().contains("KEY"));
    // The certificate in the heartbeat verifies the command API.
    let (status, body) = Api::of(&beat).get("/v1/status").await;
    assert_eq!((status, body["version"].as_str()), (200, Some(env!("CARGO_PKG_VERSION"))));
}

#[test]
fn an_old_api_gets_only_fields_it_knows() {
    let conductor = Conductor::start(Behaviour { version: "1.30", token: Value::Null, ..Behaviour::default() });
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let beat = first_beat(&conductor);
    assert_eq!(beat.version.as_deref(), Some("1.30"));
    assert_eq!(beat.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["callback_url"]);
}

#[test]
fn a_conductor_that_is_away_at_first_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _agent = Agent::start(&format!("http://{port}"), &["--param", "ipa-lookup-timeout=2"]);
    std::thread::sleep(Duration::from_millis(2500));
    let behaviour = Behaviour { lookup_statuses: vec![503, 404, 500], heartbeat_statuses: vec![409], ..Behaviour::default() };
    let conductor = Conductor::on(TcpListener::bind(port).unwrap(), behaviour);
    // The refused heartbeat (the node was locked) is repeated soon.
    assert_eq!(conductor.wait("/v1/heartbeat", 2).len(), 2);
    assert!(conductor.seen("/v1/lookup").len() >= 4);
}

#[test]
fn the_next_api_url_is_tried_when_one_is_dead() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&format!("http://{dead},{}", conductor.url()), &[]);
    first_beat(&conductor);
}

#[test]
fn a_token_that_somebody_else_holds_keeps_the_agent_silent() {
    let conductor = Conductor::start(Behaviour { token: json!("******"), ..Behaviour::default() });
    // Without a state folder and power there is no network to take down: the agent must only never beat.
    let _agent = Agent::start(&conductor.url(), &[]);
    conductor.wait("/v1/lookup", 1);
    std::thread::sleep(Duration::from_secs(1));
    assert!(conductor.seen("/v1/heartbeat").is_empty());
}

#[tokio::test]
async fn only_the_token_opens_the_command_api() {
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let beat = first_beat(&conductor);
    let stranger = Api::of(&beat).with_token("wrong");
    for path in ["/v1/commands/", "/commands/", "/v1/commands/1", "/v1/progress"] {
        let (status, body) = stranger.get(path).await;
        assert_eq!((status, body["faultcode"].as_str()), (401, Some("Client")), "{path}");
    }
    assert_eq!(stranger.command("standby.sync", json!({}), true, &[]).await.0, 401);
    for path in ["/", "/v1", "/v1/", "/v1/status", "/v1/status/", "/status"] {
        assert_eq!(stranger.get(path).await.0, 200, "{path}");
    }
    assert_eq!(Api::of(&beat).get("/v1/commands/").await, (200, json!({"commands": []})));
}

#[tokio::test]
async fn commands_answer_in_the_contract_shape() {
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let api = Api::of(&first_beat(&conductor));
    let (status, result) = api.command("standby.sync", json!({}), true, &[]).await;
    assert_eq!(status, 200);
    assert_eq!(result["command_name"], "sync");
    assert_eq!(result["command_status"], "SUCCEEDED");
    assert_eq!(result["command_error"], Value::Null);
    assert!(result["command_result"]["result"].as_str().unwrap().starts_with("sync: "));
    let id = result["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/v1/commands/{id}")).await, (200, result.clone()));
    assert_eq!(api.get("/v1/commands/").await.1["commands"], json!([result]));

    let (status, fault) = api.command("no.such", json!({}), true, &[]).await;
    assert_eq!((status, fault["faultcode"].as_str()), (404, Some("Client")));
    assert_eq!(api.get("/v1/commands/none").await.0, 404);
    assert_eq!(api.get("/nothing").await.0, 404);
    assert_eq!(api.raw(b"{".to_vec()).await.0, 400);
    let (_, rescue) = api.command("rescue.finalize_rescue", json!({"rescue_password": "x"}), true, &[]).await;
    assert_eq!(rescue["command_status"], "FAILED");
    assert!(rescue["command_error"]["details"].as_str().unwrap().contains("not built"));
    // Power is noted, not cut, in tests; a heartbeat follows an asynchronous command.
    let (_, off) = api.command("standby.power_off", json!({}), true, &[]).await;
    assert_eq!(off["command_status"], "SUCCEEDED");
    conductor.wait("/v1/heartbeat", 2);
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let beat = first_beat(&conductor);
    let mut stream = TcpStream::connect(beat.body["callback_url"].as_str().unwrap().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!("POST /v1/commands/?agent_token={TOKEN} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 200 << 20);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn steps_are_listed_and_versions_are_checked() {
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let api = Api::of(&first_beat(&conductor));
    let (_, listed) = api.command("clean.get_clean_steps", json!({"node": {"uuid": NODE}, "ports": []}), true, &[]).await;
    let steps = &listed["command_result"]["clean_steps"]["bessemer_agent"];
    assert!(steps.as_array().unwrap().iter().any(|s| s["step"] == "erase_devices_metadata" && s["priority"] == 99));
    let version = listed["command_result"]["hardware_manager_version"].clone();
    let step =
        json!({"step": {"step": "erase_pstore", "interface": "deploy"}, "node": {"uuid": NODE}, "ports": [], "clean_version": version});
    let (_, done) = api.command("clean.execute_clean_step", step.clone(), true, &[]).await;
    assert_eq!(done["command_status"], "SUCCEEDED", "{done}");
    assert_eq!(done["command_result"]["clean_step"]["step"], "erase_pstore");
    let mut other = step;
    other["clean_version"] = json!({"another_manager": "9"});
    let (_, mismatch) = api.command("clean.execute_clean_step", other, true, &[]).await;
    assert_eq!(mismatch["command_status"], "CLEAN_VERSION_MISMATCH");
}

#[tokio::test]
async fn fences_and_step_ids_hold_across_a_crash_of_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("--state-dir={}", dir.path().display());
    let conductor = Conductor::start(Behaviour::default());
    let mut agent = Agent::start(&conductor.url(), &["--no-tls", &state]);
    let api = Api::of(&first_beat(&conductor));
    let marks = [("X-Bessemer-Fence", "7"), ("X-Bessemer-Step", "flow:1")];
    let (_, first) = api.command("standby.sync", json!({}), true, &marks).await;
    let (_, again) = api.command("standby.sync", json!({}), true, &[("X-Bessemer-Fence", "8"), ("X-Bessemer-Step", "flow:1")]).await;
    assert_eq!(first["id"], again["id"], "a repeated step is the same command");
    let (status, fault) = api.command("standby.sync", json!({}), true, &marks).await;
    assert_eq!(status, 409);
    assert!(fault["faultstring"].as_str().unwrap().contains("fence 7 is below 8"), "{fault}");
    assert_eq!(api.command("standby.sync", json!({}), true, &[("X-Bessemer-Fence", "-1")]).await.0, 400);
    agent.kill();

    // The lookup now hides the token; the restarted agent has kept it, and its certificate and commands.
    let conductor = Conductor::start(Behaviour { token: json!("******"), ..Behaviour::default() });
    let _agent = Agent::start(&conductor.url(), &["--no-tls", &state]);
    let api = Api::of(&first_beat(&conductor));
    let (_, known) = api.command("standby.sync", json!({}), true, &[("X-Bessemer-Fence", "9"), ("X-Bessemer-Step", "flow:1")]).await;
    assert_eq!(known["id"], first["id"]);
    assert_eq!(api.command("standby.sync", json!({}), true, &marks).await.0, 409);
}

#[test]
fn the_last_words_of_a_crashed_agent_are_in_the_next_heartbeat_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last-words");
    std::fs::write(&file, "agent died (crash 1, SIGABRT): panicked at …").unwrap();
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls", &format!("--state-dir={}", dir.path().display())]);
    let beat = first_beat(&conductor);
    assert_eq!(beat.version.as_deref(), Some("1.72"));
    assert!(beat.body["agent_status_message"].as_str().unwrap().contains("SIGABRT"));
    assert!(beat.body.get("agent_status").is_none(), "only a message: the status would fail a deployment");
    let deadline = Instant::now() + Duration::from_secs(5);
    while file.exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_running_command_shows_progress_and_keeps_others_out() {
    let conductor = Conductor::start(Behaviour::default());
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let api = Api::of(&first_beat(&conductor));
    // No disk is allowed, so the step ends with an error; the server that would give the image is never asked.
    let params = json!({"image_info": {"id": "i", "urls": ["http://127.0.0.1:1/i"], "checksum": "0".repeat(64)}});
    let (_, failed) = api.command("standby.prepare_image", params, true, &[]).await;
    assert_eq!(failed["command_status"], "FAILED");
    assert!(failed["command_error"]["details"].as_str().unwrap().contains("no disk"), "{failed}");
    let (status, progress) = api.get("/v1/progress").await;
    assert_eq!((status, &progress["command_id"]), (200, &failed["id"]));
}

#[tokio::test]
async fn inspection_is_reported_before_the_lookup_and_its_node_is_asked_for() {
    let conductor = Conductor::start(Behaviour { inspection_statuses: vec![], ..Behaviour::default() });
    let url = format!("{}/v1/continue_inspection", conductor.url());
    let collectors = "ipa-inspection-collectors=default,logs,pci-devices,usb-devices,numa-topology,dmi-decode,unknown";
    let _agent = Agent::start(&conductor.url(), &["--param", &format!("ipa-inspection-callback-url={url}"), "--param", collectors]);
    let report = conductor.wait("/v1/continue_inspection", 1)[0].body.clone();
    for key in ["interfaces", "cpu", "disks", "memory", "bmc_address", "bmc_v6address", "system_vendor", "boot", "hostname"] {
        assert!(report["inventory"].get(key).is_some(), "{key}");
    }
    assert!(report["inventory"]["cpu"]["count"].as_u64().unwrap() >= 1);
    assert!(report["inventory"]["memory"]["total"].as_u64().unwrap() > 1 << 20);
    assert_eq!(report["error"], Value::Null);
    assert!(report["logs"].as_str().unwrap().len() > 100);
    assert!(report["pci_devices"].is_array() && report["usb_devices"].is_array() && report["dmi"].is_object());
    let lookup = conductor.wait("/v1/lookup", 1)[0].path.clone();
    assert!(lookup.ends_with(&format!("node_uuid={NODE}")), "{lookup}");
}

#[tokio::test]
async fn a_locked_down_agent_is_gone() {
    let conductor = Conductor::start(Behaviour { heartbeat_timeout: 2, ..Behaviour::default() });
    let _agent = Agent::start(&conductor.url(), &["--no-tls"]);
    let beat = first_beat(&conductor);
    let (_, result) = Api::of(&beat).command("system.lockdown", json!({}), true, &[]).await;
    assert_eq!(result["command_status"], "SUCCEEDED");
    let address = beat.body["callback_url"].as_str().unwrap().trim_start_matches("http://").to_owned();
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "the port is still open");
        std::thread::sleep(Duration::from_millis(50));
    }
}
