//! Compares an answer with the recorded one.

use serde_json::{Value, json};

use super::{Step, talk::Talk};
use crate::http::Reply;

/// Headers that clients read.
const HEADERS: &[&str] = &[
    "X-OpenStack-Ironic-API-Version",
    "X-OpenStack-Ironic-API-Minimum-Version",
    "X-OpenStack-Ironic-API-Maximum-Version",
    "Openstack-Request-Id",
    "X-Openstack-Request-Id",
    "Content-Type",
    "Location",
    "Allow",
    "Retry-After",
    "WWW-Authenticate",
];

/// What differs; nothing when the answer is as recorded.
pub(super) fn differences(talk: &mut Talk, step: &Step, got: &Reply) -> Vec<String> {
    let mut out = Vec::new();
    let want = &step.expect;
    let body = parse(talk, got);
    if want.status != got.status {
        out.push(format!("status {}, expected {}", got.status, want.status));
        if got.status >= 400 {
            out.push(format!("body was {}", short(&body)));
        }
    }
    for name in HEADERS {
        if matches(&format!("/{name}"), &step.ignore_headers) {
            continue;
        }
        let (a, b) = (want.headers.get(*name).cloned(), header(talk, got, name));
        if a != b && !(a.as_deref() == Some("<text>") && b.is_some()) {
            out.push(format!("header {name}: {}, expected {}", b.as_deref().unwrap_or("absent"), a.as_deref().unwrap_or("absent")));
        }
    }
    if want.status == got.status {
        compare(&want.body, &body, "", step, &mut out);
    }
    out
}

fn parse(talk: &Talk, got: &Reply) -> Value {
    if got.body.is_empty() {
        return json!({ "$empty": true });
    }
    match serde_json::from_slice::<Value>(&got.body) {
        Ok(v) => talk.body(&v, ""),
        Err(_) => json!({ "$not-json": media_type(got.header("content-type").unwrap_or_default()) }),
    }
}

fn media_type(s: &str) -> &str {
    s.split(';').next().unwrap_or_default().trim()
}

fn header(talk: &Talk, got: &Reply, name: &str) -> Option<String> {
    let value = got.header(&name.to_ascii_lowercase())?;
    Some(match name {
        "Content-Type" => media_type(value).to_owned(),
        "Openstack-Request-Id" | "X-Openstack-Request-Id" => talk.text(value),
        "Allow" => {
            let mut methods: Vec<&str> = value.split(',').map(str::trim).collect();
            methods.sort_unstable();
            methods.join(", ")
        }
        _ => talk.text(value),
    })
}

/// Whether a JSON pointer is one of the patterns; `*` stands for one segment.
fn matches(pointer: &str, patterns: &[String]) -> bool {
    let parts: Vec<&str> = pointer.split('/').collect();
    patterns.iter().any(|p| {
        let pattern: Vec<&str> = p.split('/').collect();
        pattern.len() == parts.len() && pattern.iter().zip(&parts).all(|(a, b)| *a == "*" || a == b)
    })
}

fn short(v: &Value) -> String {
    let s = v.to_string();
    if s.chars().count() <= 90 { s } else { s.chars().take(87).chain("...".chars()).collect() }
}

fn same_kind(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn compare(want: &Value, got: &Value, pointer: &str, step: &Step, out: &mut Vec<String>) {
    if matches(pointer, &step.ignore) {
        return;
    }
    let place = if pointer.is_empty() { "/" } else { pointer };
    match (want, got) {
        (Value::String(w), Value::String(g)) if w == "<text>" && !g.is_empty() => {}
        (w, g) if !same_kind(w, g) => out.push(format!("body {place}: {}, expected {} (another type)", short(g), short(w))),
        (Value::Object(w), Value::Object(g)) => {
            let below = |k: &str| format!("{pointer}/{}", k.replace('~', "~0").replace('/', "~1"));
            for (k, v) in w {
                match g.get(k) {
                    Some(x) => compare(v, x, &below(k), step, out),
                    None if matches(&below(k), &step.ignore) => {}
                    None => out.push(format!("body {}: missing (expected {})", below(k), short(v))),
                }
            }
            for (k, v) in g.iter().filter(|(k, _)| !w.contains_key(*k) && !matches(&below(k), &step.ignore)) {
                out.push(format!("body {}: not expected ({})", below(k), short(v)));
            }
        }
        (Value::Array(w), Value::Array(g)) => {
            let (mut w, mut g): (Vec<&Value>, Vec<&Value>) = (w.iter().collect(), g.iter().collect());
            if matches(pointer, &step.unordered) {
                w.sort_by_key(ToString::to_string);
                g.sort_by_key(ToString::to_string);
            }
            if w.len() == g.len() {
                for (i, (a, b)) in w.iter().zip(&g).enumerate() {
                    compare(a, b, &format!("{pointer}/{i}"), step, out);
                }
            } else {
                out.push(format!("body {place}: {} items, expected {} ({}, expected {})", g.len(), w.len(), short(got), short(want)));
            }
        }
        (w, g) if w == g => {}
        (Value::Number(w), Value::Number(g)) if w.as_f64() == g.as_f64() => {}
        (w, g) => out.push(format!("body {place}: {}, expected {}", short(g), short(w))),
    }
}
