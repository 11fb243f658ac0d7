//! Every policy asked for every kind of caller, against the answers of another implementation (`matrix.txt`); and that the table of
//! requests leaves out no policy and no route.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    Policies, Policy, Target,
    access::{Access, access},
};
use crate::{auth::Caller, route, version::Version};

const MATRIX: &str = include_str!("matrix.txt");

/// Roles as Keystone hands them out: with those that they imply.
fn roles(role: &str) -> Vec<String> {
    const CHAIN: &[&str] = &["admin", "manager", "member", "reader"];
    let from = CHAIN.iter().position(|r| *r == role);
    from.and_then(|i| CHAIN.get(i..)).unwrap_or(&[role]).iter().map(|r| (*r).to_owned()).collect()
}

fn caller(name: &str) -> Caller {
    let project = |p: &str, role: &str| Caller {
        project_id: Some(p.to_owned()),
        project_name: Some(p.to_owned()),
        roles: roles(role),
        ..Caller::default()
    };
    match name.split_once('_') {
        Some(("system", role)) => Caller { system_scope: Some("all".to_owned()), roles: roles(role), ..Caller::default() },
        Some(("domain", role)) => Caller { domain_id: Some("default".to_owned()), roles: roles(role), ..Caller::default() },
        Some(("nova", _)) => project("service", "service"),
        Some((p, role)) => project(p, role),
        None if name == "nova" => project("service", "service"),
        None => Caller::default(),
    }
}

#[test]
fn every_caller_may_do_what_the_matrix_says() {
    let target =
        Target { node_owner: Some("owner"), node_lessee: Some("lessee"), allocation_owner: Some("owner"), runbook_owner: Some("owner") };
    let mut lines = MATRIX.lines().filter(|l| !l.starts_with('#'));
    let callers: Vec<&str> = lines.next().expect("callers").split(' ').skip(1).collect();
    let rows: Vec<(&str, &str)> = lines.map(|l| l.split_once(' ').expect("policy and letters")).collect();
    let plain = Policies::default();
    let elevated = Policies::default().with_service_project(Some("service".to_owned()));
    let mut wrong = Vec::new();
    for policy in Policy::ALL.iter().filter(|p| p.name().starts_with("baremetal:")) {
        let letters = rows.iter().find(|(n, _)| *n == policy.name()).map_or("", |(_, l)| l);
        // The one policy that only older rules ask.
        if letters.is_empty() && *policy == Policy::AllocationCreatePreRbac {
            continue;
        }
        assert_eq!(letters.len(), callers.len(), "{} is in the matrix", policy.name());
        for (name, letter) in callers.iter().zip(letters.chars()) {
            let policies = if name.ends_with("_elevated") { &elevated } else { &plain };
            let may = policies.of(caller(name), true).may(*policy, target);
            if may != (letter == 'y') {
                wrong.push(format!("{} {name}: {may}", policy.name()));
            }
            assert!(policies.of(caller(name), false).may(*policy, target), "{} without policies", policy.name());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows of requests with the answers to every kind of caller; `tests/policies.rs` sends them.
fn rows() -> Vec<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/policies.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the table")).expect("the table is JSON");
    table["rows"].as_array().cloned().expect("rows")
}

fn texts(v: &Value) -> impl Iterator<Item = &str> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether an answer shows that its callers passed.
fn passed(row: &Value, answer: &Value) -> bool {
    let status = &answer["status"];
    let by_field = |at: &String, want: &Value| {
        let seen = &answer["see"][at];
        *seen == *want || seen.as_array().is_some_and(|all| all.contains(want))
    };
    match &row["passed"] {
        Value::Null => ![401, 403, 404].iter().any(|s| status == s),
        Value::Array(statuses) => statuses.contains(status),
        Value::Object(rule) => rule.iter().all(|(at, want)| match at.as_str() {
            "not" => !want.as_array().is_some_and(|s| s.contains(status)),
            _ => by_field(at, want),
        }),
        other => panic!("passed: {other}"),
    }
}

/// The policies that decide a row, and whether one of them is enough; none where the row shows something else.
fn deciding(row: &Value) -> (Vec<&str>, bool) {
    match row.get("decides") {
        None => (texts(&row["policies"]).take(1).collect(), false),
        Some(Value::Null) => (vec![], false),
        Some(rule) => (texts(&rule["all"]).chain(texts(&rule["any"])).collect(), !rule["any"].is_null()),
    }
}

#[test]
fn every_policy_decides_a_row_of_the_table_of_requests() {
    let rows = rows();
    let decided: HashSet<&str> = rows.iter().flat_map(|r| deciding(r).0).collect();
    let named: HashSet<&str> = rows.iter().flat_map(|r| texts(&r["policies"])).collect();
    // Nothing asks these as long as today's rules are in force; their requests are in the table.
    let never_asked = [Policy::AllocationCreatePreRbac, Policy::InspectionRuleListAll];
    let missing = Policy::ALL.iter().filter(|p| p.name().starts_with("baremetal:")).filter(|p| {
        let where_ = if never_asked.contains(p) { &named } else { &decided };
        !where_.contains(p.name())
    });
    let missing: Vec<&str> = missing.map(|p| p.name()).collect();
    assert!(missing.is_empty(), "add rows to tests/recordings/policies.json for {missing:?}");
    let unknown: Vec<&&str> = named.iter().filter(|n| !Policy::ALL.iter().any(|p| p.name() == **n)).collect();
    assert!(unknown.is_empty(), "no such policies: {unknown:?}");
}

#[test]
fn the_callers_who_pass_a_row_are_those_of_the_matrix() {
    let mut lines = MATRIX.lines().filter(|l| !l.starts_with('#'));
    let callers: Vec<&str> = lines.next().expect("callers").split(' ').skip(1).collect();
    let matrix: HashMap<&str, &str> = lines.map(|l| l.split_once(' ').expect("policy and letters")).collect();
    let mut wrong = Vec::new();
    for row in rows() {
        let (policies, any) = deciding(&row);
        if policies.is_empty() {
            continue;
        }
        for (i, caller) in callers.iter().enumerate() {
            let mut allowed = policies.iter().map(|p| matrix.get(p).is_some_and(|l| l.as_bytes().get(i) == Some(&b'y')));
            let want = if any { allowed.any(|a| a) } else { allowed.all(|a| a) };
            let answer = row["answers"].as_array().into_iter().flatten().find(|a| texts(&a["who"]).any(|w| w == *caller));
            let got = answer.is_some_and(|a| passed(&row, a));
            if got != want {
                wrong.push(format!("{} {} {caller}: passed {got}, {policies:?} say {want}", row["do"], row["body"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_route_that_a_policy_guards_is_in_the_table_of_requests() {
    let mut asked = Vec::new();
    for row in rows() {
        let line = row["do"].as_str().expect("METHOD PATH");
        let (method, path) = line.split_once(" /v1/").expect("METHOD /v1/PATH");
        let path = path.split_once('?').map_or(path, |(p, _)| p);
        let ident = |s: &str| if s.starts_with('{') { "3fd1ac4e-0000-4000-8000-000000000000".to_owned() } else { s.to_owned() };
        let segments: Vec<String> = path.split('/').map(ident).collect();
        match route::find(method, &segments, false, Version::MAX) {
            Ok(found) => asked.push(found.op),
            Err(_) => panic!("no such route: {line}"),
        }
    }
    let missing: Vec<String> = route::described()
        .filter(|d| access(d.op) != Access::Open && !asked.contains(&d.op))
        .map(|d| format!("{} {}", d.method, d.path))
        .collect();
    assert!(missing.is_empty(), "add rows to tests/recordings/policies.json for {missing:?}");
}
