//! Replays recorded conversations with the reference implementation of the API against a running server.
//!
//! A file is a list of requests with the answers expected. What may differ between two faithful servers (UUIDs, times, addresses, host
//! names, the wording of prose) is replaced by tokens before comparing ([`talk`]); everything else must be equal ([`compare`]): status,
//! headers that clients read, and the whole body with its types. The format is told in `tests/conformance/README.md`.

pub mod compare;
pub mod talk;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::http::{self, Reply};
use talk::{Talk, at};

const VERSION: &str = "X-OpenStack-Ironic-API-Version";
const LIMIT: Duration = Duration::from_secs(60);
/// How often a step that polls asks again.
const POLL: Duration = Duration::from_millis(50);

/// One conversation.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// Variables that it starts with.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
    /// Its requests.
    pub steps: Vec<Step>,
}

/// One request and the answer expected.
#[derive(Debug, Deserialize)]
pub struct Step {
    /// What it is about.
    #[serde(default)]
    pub name: String,
    method: String,
    path: String,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<Value>,
    body_raw: Option<String>,
    #[serde(default)]
    capture: BTreeMap<String, String>,
    poll: Option<Poll>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    ignore_headers: Vec<String>,
    #[serde(default)]
    unordered: Vec<String>,
    expect: Expected,
}

#[derive(Debug, Deserialize)]
struct Poll {
    #[serde(default)]
    until: BTreeMap<String, Value>,
    #[serde(default = "poll_seconds")]
    timeout: f64,
}

const fn poll_seconds() -> f64 {
    20.0
}

#[derive(Debug, Deserialize)]
struct Expected {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Value,
}

/// How a conversation went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Steps answered as recorded.
    pub passed: usize,
    /// One line for each other step.
    pub failures: Vec<String>,
}

/// The recordings of the project, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn recordings() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    Ok(files)
}

/// Reads a conversation.
///
/// # Errors
/// The file is not one.
pub fn read(file: &Path) -> Result<Scenario> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a conversation", file.display()))
}

/// Holds the conversation with the server at `url` (`http://HOST:PORT`), which must have no resources but its conductors.
///
/// # Errors
/// The server does not answer at all.
pub fn run(url: &str, scenario: &Scenario) -> Result<Verdict> {
    let mut talk = Talk::new(url, conductors(url)?, &scenario.vars);
    let mut verdict = Verdict::default();
    for (number, step) in scenario.steps.iter().enumerate() {
        let differences = match take(&mut talk, url, step) {
            Ok(reply) => compare::differences(&mut talk, step, &reply),
            Err(e) => vec![format!("no answer: {e:#}")],
        };
        if differences.is_empty() {
            verdict.passed += 1;
            continue;
        }
        let shown: Vec<&str> = differences.iter().take(5).map(String::as_str).collect();
        let label = format!("step {} ({}) {} {}", number + 1, step.name, step.method, step.path);
        verdict.failures.push(format!("{label}: {}", shown.join("; ")));
    }
    Ok(verdict)
}

fn conductors(url: &str) -> Result<Vec<String>> {
    let reply = http::request("GET", &format!("{url}/v1/conductors"), &[(VERSION, "latest")], None, LIMIT)?;
    ensure!(reply.status == 200, "GET /v1/conductors answers {}: {}", reply.status, reply.text());
    let names = reply.json()?["conductors"].as_array().cloned().unwrap_or_default();
    Ok(names.iter().filter_map(|c| c["hostname"].as_str().map(str::to_owned)).collect())
}

/// Sends the request, again and again while it polls, and keeps what it captures.
fn take(talk: &mut Talk, url: &str, step: &Step) -> Result<Reply> {
    let path = talk.fill_text(&step.path)?;
    let body = match (&step.body_raw, &step.body) {
        (Some(raw), _) => Some(talk.fill_text(raw)?),
        (None, Some(doc)) => {
            let doc = talk.fill(doc)?;
            talk.note_sent(&doc);
            Some(doc.to_string())
        }
        (None, None) => None,
    };
    let mut headers: Vec<(String, String)> = vec![("Accept".into(), "application/json".into())];
    if body.is_some() {
        headers.push(("Content-Type".into(), "application/json".into()));
    }
    for (name, value) in &step.headers {
        headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if let Some(text) = value.as_str() {
            headers.push((name.clone(), talk.fill_text(text)?));
        }
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let until = Instant::now() + Duration::from_secs_f64(step.poll.as_ref().map_or(0.0, |p| p.timeout));
    let reply = loop {
        let reply = http::request(&step.method, &format!("{url}{path}"), &headers, body.as_deref().map(str::as_bytes), LIMIT)?;
        let doc = reply.json().unwrap_or_default();
        let reached = step.poll.as_ref().is_none_or(|p| {
            p.until.iter().all(|(pointer, wanted)| {
                at(&doc, pointer).is_some_and(|v| match wanted {
                    Value::Array(any) => any.contains(v),
                    one => one == v,
                })
            })
        });
        if reached || Instant::now() > until {
            break reply;
        }
        std::thread::sleep(POLL);
    };
    let doc = reply.json().unwrap_or_default();
    for (name, pointer) in &step.capture {
        if let Some(v) = at(&doc, pointer) {
            talk.set(name, v.clone());
        }
    }
    Ok(reply)
}
