//! Which crate of the workspace may use which: the architecture's arrows, as data, checked
//! against `cargo metadata`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bessemer_lab::tool;
use serde_json::Value;

/// One crate's row.
struct Row {
    name: &'static str,
    /// Crates of the workspace that it may use; `None`: any.
    uses: Option<&'static [&'static str]>,
    /// Crates from outside that it must never know.
    never: &'static [&'static str],
}

const MODEL: &str = "bessemer-model";
const AGENT_TYPES: &str = "bessemer-agent-types";
const RPC: &str = "bessemer-rpc";
const DB: &str = "bessemer-db";
const DRIVERS: &str = "bessemer-drivers";
const PXE: &str = "bessemer-pxe";
const MEDIA: &str = "bessemer-media";
const CLIENTS: &str = "bessemer-clients";
const CONDUCTOR: &str = "bessemer-conductor";
const API: &str = "ironic-api";
const LAB: &str = "bessemer-lab";
const FIXTURES: &str = "virtualbmc-fixtures";

/// Runtimes, servers and databases: nothing a pure crate may touch.
const IMPURE: &[&str] = &["tokio", "sqlx", "axum", "hyper", "reqwest", "nix", "socket2"];

const TABLE: &[Row] = &[
    Row { name: MODEL, uses: Some(&[]), never: IMPURE },
    Row { name: AGENT_TYPES, uses: Some(&[MODEL]), never: IMPURE },
    Row { name: RPC, uses: Some(&[MODEL]), never: &["sqlx", "axum"] },
    Row { name: DB, uses: Some(&[MODEL]), never: &["axum", "hyper", "reqwest"] },
    Row { name: DRIVERS, uses: Some(&[MODEL, AGENT_TYPES]), never: &["sqlx", "axum"] },
    Row { name: PXE, uses: Some(&[MODEL]), never: &["sqlx"] },
    Row { name: MEDIA, uses: Some(&[MODEL]), never: IMPURE },
    Row { name: CLIENTS, uses: Some(&[MODEL]), never: &["sqlx", "axum"] },
    Row { name: CONDUCTOR, uses: Some(&[MODEL, RPC, DB, DRIVERS, PXE, MEDIA, AGENT_TYPES]), never: &["axum", "sqlx"] },
    // agent-types: lookup and heartbeat are part of the HTTP contract.
    Row { name: API, uses: Some(&[MODEL, RPC, DB, CLIENTS, AGENT_TYPES]), never: &["sqlx", "reqwest"] },
    Row { name: "bessemer", uses: Some(&[MODEL, RPC, DB, DRIVERS, PXE, MEDIA, CLIENTS, CONDUCTOR, API, AGENT_TYPES]), never: &["sqlx"] },
    Row { name: "bessemer-agent", uses: Some(&[MODEL, AGENT_TYPES]), never: &["sqlx", "axum"] },
    Row { name: "bessemer-cli", uses: Some(&[MODEL, MEDIA]), never: &["sqlx", "axum"] },
    Row { name: FIXTURES, uses: Some(&[MODEL, AGENT_TYPES]), never: &["sqlx", "ipmi-rs", "ipmi-rs-core"] },
    Row { name: LAB, uses: Some(&[]), never: &["tokio", "sqlx", "axum"] },
    Row { name: "bessemer-tests", uses: None, never: &[] },
    Row { name: "xtask", uses: Some(&[LAB]), never: &["tokio", "sqlx", "axum"] },
];

/// What any crate may use for its own tests, beyond its row.
const FOR_TESTS: &[&str] = &[LAB, FIXTURES];

/// Fails with every broken arrow.
pub(crate) fn check() -> Result<()> {
    let mut ask = tool::command("cargo");
    ask.args(["metadata", "--format-version", "1", "--no-deps"]);
    let text = tool::run(&mut ask, Duration::from_secs(120))?;
    let broken = broken(&serde_json::from_str(&text)?)?;
    if !broken.is_empty() {
        bail!("the architecture's arrows are broken:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn broken(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    let rows: BTreeMap<&str, &Row> = TABLE.iter().map(|row| (row.name, row)).collect();
    let mut broken = Vec::new();
    for package in packages {
        let from = name(package);
        let Some(row) = rows.get(from.as_str()) else {
            broken.push(format!("{from} has no row in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = name(dependency);
            let in_tests = dependency["kind"] == "dev";
            // The bench's own examples rehearse and measure parts of the product.
            if in_tests && (FOR_TESTS.contains(&to.as_str()) || from == LAB) {
                continue;
            }
            if ours.contains(&to) {
                if row.uses.is_some_and(|uses| !uses.contains(&to.as_str())) {
                    broken.push(format!("{from} uses {to}"));
                }
            } else if !in_tests && row.never.contains(&to.as_str()) {
                broken.push(format!("{from} knows {to}"));
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_workspace_keeps_its_arrows() {
        check().unwrap();
    }

    #[test]
    fn a_wrong_arrow_is_named() {
        let metadata = json!({"packages": [
            {"name": MODEL, "dependencies": [{"name": "tokio", "kind": null}]},
            {"name": DB, "dependencies": [{"name": DRIVERS, "kind": null}, {"name": FIXTURES, "kind": "dev"}]},
            {"name": DRIVERS, "dependencies": []},
            {"name": "stranger", "dependencies": []},
        ]});
        let expected = ["bessemer-model knows tokio", "bessemer-db uses bessemer-drivers", "stranger has no row in the table"];
        assert_eq!(broken(&metadata).unwrap(), expected);
    }
}
