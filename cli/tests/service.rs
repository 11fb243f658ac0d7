//! Our program against a service that misbehaves: old, busy, locked, gone for a while, or no bare metal API at all.

mod support;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bessemer_lab::cli::Baremetal;
use support::{LIMIT, text};

/// A request as it came: first line, headers in small letters, body.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A service that gives prepared answers, one per request; the last one again and again.
struct Fake {
    ours: Baremetal,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Status line and headers, then the body.
fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn fault(status: &str, words: &str) -> String {
    let inner = serde_json::json!({"faultcode": "Client", "faultstring": words, "debuginfo": null}).to_string();
    answer(status, &serde_json::json!({"error_message": inner}).to_string())
}

impl Fake {
    fn start(answers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, mut answers) = (Arc::clone(&seen), answers.iter().cloned().collect::<VecDeque<_>>());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
                let (mut lines, mut line) = (Vec::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    lines.push(std::mem::take(&mut line).trim_end().to_owned());
                }
                let length = lines.iter().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
                let mut body = vec![0; length];
                if lines.is_empty() || reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let headers = lines.iter().skip(1).map(|l| l.to_lowercase()).collect();
                record.lock().expect("the record").push(Seen { line: lines[0].clone(), headers, body: text(&body) });
                let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
                let _ = stream.write_all(answer.unwrap_or_default().as_bytes());
            }
        });
        Self { ours: Baremetal::ours(std::path::Path::new(env!("CARGO_BIN_EXE_baremetal")), &url), seen }
    }

    fn run(&self, words: &[&str]) -> Output {
        self.ours.attempt(words, LIMIT).expect("it runs")
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the record").clone()
    }
}

#[test]
fn an_older_service_is_spoken_to_in_its_own_version() {
    let too_new = "HTTP/1.1 406 Not Acceptable\r\nX-OpenStack-Ironic-API-Minimum-Version: 1.1\r\n\
                   X-OpenStack-Ironic-API-Maximum-Version: 1.72\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let fake = Fake::start(&[too_new.to_owned(), answer("200 OK", r#"{"nodes": []}"#)]);
    let out = fake.run(&["node", "list", "-f", "json"]);
    assert_eq!(text(&out.stdout), "[]\n", "{}", text(&out.stderr));
    let versions: Vec<String> =
        fake.seen().iter().flat_map(|seen| seen.headers.clone()).filter(|h| h.starts_with("x-openstack-ironic-api-version")).collect();
    assert_eq!(versions, ["x-openstack-ironic-api-version: 1.115", "x-openstack-ironic-api-version: 1.72"]);

    // A version that was asked for is not bargained about.
    let fake = Fake::start(&[too_new.to_owned()]);
    let out = fake.run(&["--os-baremetal-api-version", "1.90", "node", "list"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("1.1 to 1.72"), "{}", text(&out.stderr));
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn a_locked_node_is_tried_again_without_a_word() {
    let locked = fault("409 Conflict", "Node n1 is locked by host a, please retry after the current operation is completed.");
    let fake = Fake::start(&[locked.clone(), locked.clone(), answer("202 Accepted", "")]);
    let out = fake.run(&["node", "manage", "n1"]);
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out.stderr));
    assert_eq!(fake.seen().len(), 3);
    assert_eq!(fake.seen()[0].line, "PUT /v1/nodes/n1/states/provision HTTP/1.1");
    assert_eq!(fake.seen()[0].body, r#"{"target":"manage"}"#);

    let fake = Fake::start(&[locked]);
    let begin = Instant::now();
    let out = fake.run(&["--max-retries", "1", "node", "manage", "n1"]);
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(text(&out.stderr).contains("reservation"), "{}", text(&out.stderr));
}

#[test]
fn a_conflict_that_will_not_pass_is_told_at_once() {
    let fake = Fake::start(&[fault("409 Conflict", "A node with name n1 already exists.")]);
    let out = fake.run(&["node", "create", "--driver", "ipmi", "--name", "n1"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn what_is_no_bare_metal_api_is_called_so() {
    for body in ["<html>hello</html>", r#"["x"]"#, r#"{"machines": []}"#, r#"{"nodes": "many"}"#] {
        let fake = Fake::start(&[answer("200 OK", body)]);
        let out = fake.run(&["node", "list"]);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{body}");
        assert!(said.contains("does not answer like a bare metal API"), "{body}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // Cut in the middle of the body.
    let fake = Fake::start(&["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned()]);
    assert_eq!(fake.run(&["node", "list"]).status.code(), Some(1));
}

#[test]
fn names_cannot_lead_to_other_paths() {
    let fake = Fake::start(&[fault("404 Not Found", "Node could not be found.")]);
    fake.run(&["node", "show", "../drivers?x=1#y"]);
    assert_eq!(fake.seen()[0].line, "GET /v1/nodes/..%2Fdrivers%3Fx=1%23y HTTP/1.1");
    for name in ["..", ".", ""] {
        assert_eq!(fake.run(&["node", "delete", name]).status.code(), Some(2), "{name}");
    }
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn a_deployment_shows_bytes_and_rate_on_plain_lines() {
    let node = |state: &str, target: &str, progress: &str| {
        let target = if target.is_empty() { "null".to_owned() } else { format!("\"{target}\"") };
        let body = format!(
            r#"{{"uuid": "u", "name": "n1", "provision_state": "{state}", "target_provision_state": {target},
                "deploy_step": {{"interface": "deploy", "step": "write_image"}}, "driver_internal_info": {{"agent_progress": {progress}}}}}"#
        );
        answer("200 OK", &body)
    };
    let progress = r#"{"command_id": "c", "phase": "writing", "bytes_done": 1000000, "bytes_total": 4000000, "rate": 500000}"#;
    let fake = Fake::start(&[
        node("available", "", "null"),
        answer("202 Accepted", ""),
        node("deploying", "active", progress),
        node("active", "", "null"),
    ]);
    let out = fake.run(&["node", "deploy", "n1", "--wait", "30"]);
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("deploying, deploy step deploy.write_image, writing 1.0 MB of 4.0 MB (25 %), 500.0 kB/s, 6 s left"), "{said}");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let fake = Fake::start(&[fault("401 Unauthorized", "Incorrect username or password")]);
    let mut command = fake.ours.command(&["--debug", "-vv", "node", "list"]);
    command.env("OS_AUTH_TYPE", "http_basic").env("OS_USERNAME", "me").env("OS_PASSWORD", "hunter2");
    let out = command.output().expect("it runs");
    let said = text(&out.stderr) + &text(&out.stdout);
    assert!(fake.seen()[0].headers.contains(&"authorization: basic bwu6ahvudgvymg==".to_owned()), "{:?}", fake.seen());
    assert!(said.contains("OS_PASSWORD") && !said.contains("hunter2") && !said.contains("bWU6"), "{said}");
}

#[test]
fn passwords_in_bodies_are_not_shown_by_debug() {
    let fake = Fake::start(&[fault("400 Bad Request", "no")]);
    let out = fake.run(&["--debug", "node", "create", "--driver", "ipmi", "--driver-info", "ipmi_password=hunter2"]);
    assert!(fake.seen()[0].body.contains("hunter2"));
    assert!(!text(&out.stderr).contains("hunter2"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let many = format!(r#"{{"nodes": [{}]}}"#, vec![r#"{"uuid": "u"}"#; 20_000].join(","));
    let fake = Fake::start(&[answer("200 OK", &many)]);
    let mut child = fake
        .ours
        .command(&["node", "list", "-f", "value"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success() && out.stderr.is_empty(), "{}", text(&out.stderr));
}
