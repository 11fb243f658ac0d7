//! What the protocol tests share: a conductor of canned answers, and the agent program under test.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "test support: not every test file uses all of it")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789a";
pub const NODE: &str = "8d3b1c5e-0000-4000-8000-000000000001";

/// A request that the conductor has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub version: Option<String>,
    pub request_id: Option<String>,
    pub body: Value,
}

/// How the conductor behaves.
#[derive(Clone)]
pub struct Behaviour {
    pub version: &'static str,
    pub token: Value,
    /// Answers of the first lookups.
    pub lookup_statuses: Vec<u16>,
    /// Answers of the first heartbeats.
    pub heartbeat_statuses: Vec<u16>,
    pub inspection_statuses: Vec<u16>,
    pub heartbeat_timeout: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            version: "1.115",
            token: json!(TOKEN),
            lookup_statuses: vec![],
            heartbeat_statuses: vec![],
            inspection_statuses: vec![],
            heartbeat_timeout: 300,
        }
    }
}

/// A conductor of canned answers.
pub struct Conductor {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Conductor {
    pub fn start(behaviour: Behaviour) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), behaviour)
    }

    pub fn on(listener: TcpListener, behaviour: Behaviour) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let behaviour = Arc::new(Mutex::new(behaviour));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, behaviour) = (Arc::clone(&shared), Arc::clone(&behaviour));
                std::thread::spawn(move || while answer(&stream, &seen, &behaviour).is_some() {});
            }
        });
        Self { address, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.path.starts_with(path)).cloned().collect()
    }

    /// Waits for `count` requests to `path`.
    pub fn wait(&self, path: &str, count: usize) -> Vec<Seen> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = self.seen(path);
            if seen.len() >= count {
                return seen;
            }
            assert!(Instant::now() < deadline, "only {} of {count} requests to {path}", seen.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn answer(stream: &TcpStream, seen: &Mutex<Vec<Seen>>, behaviour: &Mutex<Behaviour>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut version, mut request_id) = (0, None, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "x-openstack-ironic-api-version" => version = Some(value.to_owned()),
            "x-openstack-request-id" => request_id = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, answer) = {
        let mut behaviour = behaviour.lock().unwrap();
        let take = |list: &mut Vec<u16>, default| if list.is_empty() { default } else { list.remove(0) };
        if path == "/" {
            (200, json!({"default_version": {"version": behaviour.version}}))
        } else if path.starts_with("/v1/lookup") {
            let status = take(&mut behaviour.lookup_statuses, 200);
            (
                status,
                json!({"node": {"uuid": NODE}, "config": {"heartbeat_timeout": behaviour.heartbeat_timeout, "agent_token": behaviour.token}}),
            )
        } else if path.starts_with("/v1/heartbeat") {
            (take(&mut behaviour.heartbeat_statuses, 202), Value::Null)
        } else if path.starts_with("/v1/continue_inspection") {
            (take(&mut behaviour.inspection_statuses, 200), json!({"uuid": NODE}))
        } else {
            (404, json!({}))
        }
    };
    seen.lock().unwrap().push(Seen { method, path, version, request_id, body });
    // The token is in no error answer.
    let text = if status >= 400 || answer.is_null() { String::new() } else { answer.to_string() };
    Some(()).filter(|()| reply(stream, status, &text))
}

fn reply(mut stream: &TcpStream, status: u16, text: &str) -> bool {
    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).is_ok()
}

/// The agent program, stopped when dropped.
pub struct Agent(Child);

impl Agent {
    pub fn start(conductor: &str, options: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_bessemer-agent"))
            .args([
                "run",
                "--no-power",
                "--listen",
                "127.0.0.1:0",
                "--param",
                &format!("ipa-api-url={conductor}"),
                "--param",
                "ipa-lookup-interval=0.2",
            ])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command API at a callback URL.
pub struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    /// From a heartbeat. Trusts exactly the certificate in it.
    pub fn of(beat: &Seen) -> Self {
        bessemer_agent::http::install_crypto();
        let mut builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
        if let Some(pem) = beat.body["agent_verify_ca"].as_str() {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()]);
        }
        Self { client: builder.build().unwrap(), url: beat.body["callback_url"].as_str().unwrap().to_owned(), token: TOKEN.to_owned() }
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.token = token.to_owned();
        self
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}?agent_token={}", self.url, self.token);
        read(self.client.get(url)).await
    }

    pub async fn command(&self, name: &str, params: Value, wait: bool, headers: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/v1/commands/?wait={wait}&agent_token={}", self.url, self.token);
        let mut request = self.client.post(url).json(&json!({"name": name, "params": params}));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request).await
    }

    pub async fn raw(&self, body: Vec<u8>) -> (u16, Value) {
        let url = format!("{}/v1/commands/?agent_token={}", self.url, self.token);
        read(self.client.post(url).body(body)).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}
