//! What one conversation knows, and the tokens for what may differ between two faithful servers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::Value;

fn regex(s: &str) -> Regex {
    #[allow(clippy::expect_used, reason = "constants, compiled by the tests")]
    Regex::new(s).expect("a valid expression")
}
static UUID: LazyLock<Regex> = LazyLock::new(|| regex(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"));
static REQUEST_ID: LazyLock<Regex> = LazyLock::new(|| regex("req-<uuid>"));
static TIME: LazyLock<Regex> = LazyLock::new(|| regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(\+00:00|Z)?"));
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| regex(r"\$\{([A-Za-z0-9_]+)\}"));

/// Keys whose text is prose whatever it says.
const PROSE: &[&str] = &["error_message", "faultstring", "last_error", "debuginfo"];

/// What a JSON pointer leads to.
pub(super) fn at<'a>(doc: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer == "/" { Some(doc) } else { doc.pointer(pointer) }
}

/// See the module documentation.
pub(super) struct Talk {
    endpoint: String,
    conductors: Vec<String>,
    vars: BTreeMap<String, Value>,
    /// Strings that this client sent: they come back as they are.
    sent: HashSet<String>,
}

impl Talk {
    pub(super) fn new(endpoint: &str, conductors: Vec<String>, vars: &BTreeMap<String, Value>) -> Self {
        Self { endpoint: endpoint.to_owned(), conductors, vars: vars.clone(), sent: HashSet::new() }
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.vars.insert(name.to_owned(), value);
    }

    pub(super) fn note_sent(&mut self, v: &Value) {
        match v {
            Value::String(s) => drop(self.sent.insert(s.clone())),
            Value::Array(a) => a.iter().for_each(|x| self.note_sent(x)),
            Value::Object(m) => {
                for (k, x) in m {
                    self.sent.insert(k.clone());
                    self.note_sent(x);
                }
            }
            _ => {}
        }
    }

    /// Puts variables in.
    pub(super) fn fill_text(&self, s: &str) -> Result<String> {
        let mut out = String::new();
        let mut from = 0;
        for c in VARIABLE.captures_iter(s) {
            let Some((whole, name)) = c.get(0).zip(c.get(1)) else { continue };
            let name = name.as_str();
            let value = self.vars.get(name).with_context(|| format!("variable {name} was never captured"))?;
            out.push_str(s.get(from..whole.start()).unwrap_or_default());
            match value {
                Value::String(text) => out.push_str(text),
                other => out.push_str(&other.to_string()),
            }
            from = whole.end();
        }
        out.push_str(s.get(from..).unwrap_or_default());
        Ok(out)
    }

    /// Puts variables into every text of a document.
    pub(super) fn fill(&self, v: &Value) -> Result<Value> {
        Ok(match v {
            Value::String(s) => Value::String(self.fill_text(s)?),
            Value::Array(a) => Value::Array(a.iter().map(|x| self.fill(x)).collect::<Result<_>>()?),
            Value::Object(m) => Value::Object(m.iter().map(|(k, x)| Ok((self.fill_text(k)?, self.fill(x)?))).collect::<Result<_>>()?),
            other => other.clone(),
        })
    }

    /// A text with tokens for what may differ.
    pub(super) fn text(&self, s: &str) -> String {
        if self.sent.contains(s) && !UUID.is_match(s) {
            return s.to_owned();
        }
        if self.conductors.iter().any(|c| c == s) {
            return "<conductor>".to_owned();
        }
        let mut t = s.to_owned();
        for (name, value) in &self.vars {
            if let Value::String(v) = value
                && UUID.find(v).is_some_and(|m| m.len() == v.len())
            {
                t = t.replace(v.as_str(), &format!("<${name}>"));
            }
        }
        t = t.replace(&self.endpoint, "<endpoint>");
        for c in &self.conductors {
            for before in ["/conductors/", "conductor=", "marker="] {
                t = t.replace(&format!("{before}{c}"), &format!("{before}<conductor>"));
            }
        }
        t = UUID.replace_all(&t, "<uuid>").into_owned();
        t = REQUEST_ID.replace_all(&t, "<req>").into_owned();
        t = TIME.replace_all(&t, |c: &regex::Captures<'_>| if c.get(1).is_some() { "<time>" } else { "<time-naive>" }).into_owned();
        if t.split_whitespace().count() >= 3 && !self.sent.contains(&t) { "<text>".to_owned() } else { t }
    }

    /// A document with tokens for what may differ; `key` is the one that it stands under.
    pub(super) fn body(&self, v: &Value, key: &str) -> Value {
        match v {
            Value::Object(m) => {
                Value::Object(m.iter().map(|(k, x)| (if UUID.is_match(k) { self.text(k) } else { k.clone() }, self.body(x, k))).collect())
            }
            Value::Array(a) => Value::Array(a.iter().map(|x| self.body(x, "")).collect()),
            Value::String(s) if key == "error_message" && s.starts_with('{') => match serde_json::from_str::<Value>(s) {
                Ok(inner) => serde_json::json!({ "$json-string": self.body(&inner, "") }),
                Err(_) => "<text>".into(),
            },
            Value::String(_) if PROSE.contains(&key) => "<text>".into(),
            Value::String(s) => self.text(s).into(),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "11111111-2222-4333-8444-555555555555";

    #[test]
    fn what_may_differ_becomes_a_token_and_what_was_sent_stays() {
        let mut t = Talk::new("http://h:1", vec!["host-1".into()], &BTreeMap::new());
        t.set("node", ID.into());
        t.note_sent(&json!({"description": "three words sent"}));
        assert_eq!(t.text(&format!("http://h:1/v1/nodes/{ID}")), "<endpoint>/v1/nodes/<$node>");
        assert_eq!(t.text("99999999-2222-4333-8444-555555555555"), "<uuid>");
        assert_eq!(t.text("three words sent"), "three words sent");
        assert_eq!(t.text("three other words"), "<text>");
        assert_eq!(t.text("2026-01-02T03:04:05.678+00:00"), "<time>");
        assert_eq!(t.text("2026-01-02T03:04:05"), "<time-naive>");
        assert_eq!(t.text("req-99999999-2222-4333-8444-555555555555"), "<req>");
        assert_eq!(t.text("host-1"), "<conductor>");
        let inner = json!({"faultcode": "Client", "faultstring": "x"}).to_string();
        let expected = json!({"error_message": {"$json-string": {"faultcode": "Client", "faultstring": "<text>"}}});
        assert_eq!(t.body(&json!({ "error_message": inner }), ""), expected);
    }

    #[test]
    fn variables_are_put_in_and_unknown_ones_are_errors() {
        let mut t = Talk::new("", vec![], &BTreeMap::new());
        t.set("a", "x".into());
        assert_eq!(t.fill_text("/v1/${a}/${a}").unwrap(), "/v1/x/x");
        assert!(t.fill_text("${b}").is_err());
    }
}
