//! Every policy asked for every kind of caller, against the answers of another implementation (`matrix.txt`).

use super::{Policies, Policy, Target};
use crate::auth::Caller;

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
