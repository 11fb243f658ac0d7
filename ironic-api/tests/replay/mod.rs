//! Every policy asked over HTTP by every kind of caller: the rows of `recordings/policies.json`, sent to any server of this API.
//!
//! The file is the one table of who may do what. A row is a request that the policies of the row decide, with the answer of the reference
//! implementation to each caller: `status`, and what is to `see` in the body. A path in `see` may hold `*` for every item of a list; one
//! that begins with `?` tells only whether the value is redacted. `world` is there before the first row, `fresh` is made for every
//! request and removed after it, `rules` is the policy file meanwhile. `decides` names the policies whose matrix the row's callers must
//! match (all of them, or any), `passed` what counts as having passed. `without` is the answer to the caller `by` when the first
//! policy of the row allows nobody. `reference` tells what the reference implementation answers where we mean to differ; `about` why.
#![allow(dead_code, reason = "each user of this module takes what it needs")]

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The table. Two crates read it, so its path begins at either.
pub fn table() -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../ironic-api/tests/recordings/policies.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("the table")).expect("the table is JSON")
}

/// What a server said.
pub struct Answer {
    pub status: u16,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    pub body: Value,
}

/// A server of this API and its callers.
pub trait Server {
    /// The caller who makes what the rows need.
    fn root(&self) -> &'static str;
    async fn ask(&self, who: &str, line: &str, body: Option<&Value>) -> Answer;
    /// Puts these rules into the policy file, and nothing else.
    async fn rules(&self, rules: &Map<String, Value>);
    /// Some milliseconds.
    async fn pause(&self);
}

/// Names in braces stand for what differs from one server to another.
pub fn fill(v: &Value, vars: &BTreeMap<String, String>) -> Value {
    match v {
        Value::String(s) => vars.iter().fold(s.clone(), |s, (k, v)| s.replace(&format!("{{{k}}}"), v)).into(),
        Value::Array(a) => a.iter().map(|x| fill(x, vars)).collect(),
        Value::Object(m) => m.iter().map(|(k, x)| (k.clone(), fill(x, vars))).collect(),
        other => other.clone(),
    }
}

fn is_redacted(v: &Value) -> bool {
    let only = v.as_object().filter(|m| m.len() == 1).and_then(|m| m.values().next());
    v.as_str().or(only.and_then(Value::as_str)).is_some_and(|s| s.starts_with("** "))
}

/// Redactions are worded freely.
fn plain(v: &Value) -> Value {
    match v {
        Value::String(s) if s.starts_with("** ") => "<redacted>".into(),
        Value::Array(a) => a.iter().map(plain).collect(),
        Value::Object(m) => m.iter().map(|(k, x)| (k.clone(), plain(x))).collect(),
        other => other.clone(),
    }
}

fn sorted(mut a: Vec<Value>) -> Value {
    a.sort_by_key(Value::to_string);
    a.into()
}

fn look(v: &Value, path: &str) -> Value {
    let (path, only_redacted) = path.strip_prefix('?').map_or((path, false), |p| (p, true));
    let mut at = vec![v.clone()];
    for key in path.trim_start_matches('/').split('/') {
        at = match key {
            "*" => at.iter().filter_map(Value::as_array).flatten().cloned().collect(),
            k => at.iter().map(|x| x[k].clone()).collect(),
        };
    }
    let mut at: Vec<Value> = at.iter().map(|x| if only_redacted { is_redacted(x).into() } else { plain(x) }).collect();
    if path.contains('*') { sorted(at) } else { at.pop().unwrap_or_default() }
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_default()
}

fn items(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

/// A server with the world of the table.
pub struct World<'a, S> {
    server: &'a S,
    vars: BTreeMap<String, String>,
}

impl<'a, S: Server> World<'a, S> {
    /// Makes the world. `projects` are the ids of `owner`, `lessee`, `other` and `service`.
    pub async fn make(server: &'a S, projects: BTreeMap<String, String>) -> Self {
        let mut world = Self { server, vars: projects };
        for step in items(&table()["world"]) {
            let mut vars = world.vars.clone();
            world.step(step, &mut vars).await;
            world.vars = vars;
        }
        world
    }

    async fn ask(&self, who: &str, request: &Value, vars: &BTreeMap<String, String>) -> Answer {
        let line = fill(&request["do"], vars);
        let body = request.get("body").map(|b| fill(b, vars));
        self.server.ask(who, line.as_str().expect("METHOD PATH"), body.as_ref()).await
    }

    /// Does what must succeed; returns where to find what it made.
    async fn step(&self, step: &Value, vars: &mut BTreeMap<String, String>) -> Option<String> {
        let done = self.ask(self.server.root(), step, vars).await;
        assert!(done.status < 300, "{step}: {} {}", done.status, done.body);
        let made = step["as"].as_str().map(|name| {
            let id = text(&done.body, "uuid").to_owned();
            vars.insert(name.to_owned(), id.clone());
            format!("{}/{id}", text(step, "do").split_once(' ').expect("METHOD PATH").1)
        });
        self.rest(step, vars).await;
        made
    }

    /// Waits until the node of the step rests, in the state that is wanted if one is.
    async fn rest(&self, step: &Value, vars: &BTreeMap<String, String>) {
        let Some(node) = step["settle"].as_str().and_then(|n| vars.get(n)) else { return };
        let wanted: Vec<&str> = items(&step["until"]).filter_map(Value::as_str).collect();
        let request = json!({ "do": format!("GET /v1/nodes/{node}") });
        let mut last = Value::Null;
        for _ in 0..2000 {
            let seen = self.ask(self.server.root(), &request, vars).await;
            let state = text(&seen.body, "provision_state");
            let there = if wanted.is_empty() { state != "verifying" } else { wanted.contains(&state) };
            let idle = seen.body["reservation"].is_null() && seen.body["target_power_state"].is_null();
            if seen.status == 404 || (there && idle) {
                return;
            }
            last = seen.body;
            self.server.pause().await;
        }
        panic!("{step}: {} {}", last["provision_state"], last["last_error"]);
    }

    async fn remove(&self, path: &str) {
        let request = json!({ "do": format!("DELETE {path}") });
        let mut gone = 0;
        for _ in 0..500 {
            gone = self.ask(self.server.root(), &request, &self.vars).await.status;
            if gone != 409 {
                break;
            }
            self.server.pause().await;
        }
        assert!(gone == 204 || gone == 404, "DELETE {path}: {gone}");
    }

    /// What a request of the row needs, and the paths of what was made for it.
    async fn prepare(&self, row: &Value) -> (BTreeMap<String, String>, Vec<String>) {
        let (mut vars, mut made) = (self.vars.clone(), Vec::new());
        for step in items(&row["fresh"]) {
            made.extend(self.step(step, &mut vars).await);
        }
        (vars, made)
    }

    /// Removes what was made for a request of the row, and by it.
    async fn tidy(&self, row: &Value, answer: &Answer, vars: &BTreeMap<String, String>, made: Vec<String>) {
        self.rest(row, vars).await;
        if let (201, Some(path)) = (answer.status, row["made"].as_str()) {
            self.remove(&format!("/v1/{path}/{}", text(&answer.body, "uuid"))).await;
        }
        for path in made.iter().rev() {
            self.remove(path).await;
        }
    }

    /// What differs from an answer of the table.
    fn differences(row: &Value, who: &str, want: &Value, got: &Answer, vars: &BTreeMap<String, String>) -> Vec<String> {
        let what = format!("{who}: {} {}", text(row, "do"), row["body"]);
        let mut wrong = Vec::new();
        if want["status"] != got.status {
            wrong.push(format!("{what}: {}, want {}: {}", got.status, want["status"], got.body));
            return wrong;
        }
        if got.status == 401 && got.challenge.is_none() {
            wrong.push(format!("{what}: 401 without WWW-Authenticate"));
        }
        for (path, value) in want["see"].as_object().into_iter().flatten() {
            let value = match fill(value, vars) {
                Value::Array(a) if path.contains('*') => sorted(a),
                v => v,
            };
            let seen = look(&got.body, path);
            if seen != value {
                wrong.push(format!("{what}: {path} is {seen}, want {value}"));
            }
        }
        wrong
    }

    /// Sends a row as every caller of `callers` and tells what differs.
    pub async fn row(&self, row: &Value, callers: &[&str]) -> Vec<String> {
        let mut wrong = Vec::new();
        let rules = row["rules"].as_object();
        if let Some(rules) = rules {
            self.server.rules(rules).await;
        }
        for who in callers {
            let Some(want) = items(&row["answers"]).find(|a| items(&a["who"]).any(|w| w == *who)) else {
                wrong.push(format!("{who}: {} {}: not in the table", text(row, "do"), row["body"]));
                continue;
            };
            let (vars, made) = self.prepare(row).await;
            let got = self.ask(who, row, &vars).await;
            wrong.extend(Self::differences(row, who, want, &got, &vars));
            self.tidy(row, &got, &vars, made).await;
        }
        if rules.is_some() {
            self.server.rules(&Map::new()).await;
        }
        wrong
    }

    /// Sends a row as the caller `by` while its first policy allows nobody.
    pub async fn without_policy(&self, row: &Value) -> Vec<String> {
        let (Some(who), Some(want)) = (row["by"].as_str(), row.get("without")) else { return vec![] };
        let mut rules = row["rules"].as_object().cloned().unwrap_or_default();
        rules.insert(row["policies"][0].as_str().expect("a policy").to_owned(), "!".into());
        let (vars, made) = self.prepare(row).await;
        self.server.rules(&rules).await;
        let got = self.ask(who, row, &vars).await;
        self.server.rules(&Map::new()).await;
        let wrong = Self::differences(row, &format!("{who} without {}", row["policies"][0]), want, &got, &vars);
        self.tidy(row, &got, &vars, made).await;
        wrong
    }
}
