//! Schemathesis reads the API's own description and sends what it allows, and what it does not: no answer is a fault of the server, the
//! answers are of the types that the description tells, and what is secret stays out of answers and log.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};
use bessemer_lab::{
    api::Api,
    dev::DevServer,
    http, peers,
    tool::{self, command},
};
use bessemer_tests::rig::program;
use serde_json::{Value, json};

/// For one microversion, on a busy machine.
const LIMIT: Duration = Duration::from_secs(560);
/// Requests per operation and phase.
const EXAMPLES: u32 = 12;
/// A password of a node.
const SECRET: &str = "hunter2-planted";
/// Names nothing.
const NOTHING: &str = "ffffffff-0000-4000-8000-0000000000ff";

/// One resource of each kind, by the path parameter that names it.
fn furnish(server: &DevServer) -> Result<BTreeMap<&'static str, String>> {
    let make = |kind: &str, body: &Value| -> Result<String> {
        let headers = [("X-OpenStack-Ironic-API-Version", "1.115"), ("Content-Type", "application/json")];
        let url = format!("{}/v1/{kind}", server.url());
        let reply = http::request("POST", &url, &headers, Some(&serde_json::to_vec(body)?), Duration::from_secs(30))?;
        ensure!(reply.status == 201, "{kind}: {}", reply.text());
        Ok(reply.json()?["uuid"].as_str().context("a UUID")?.to_owned())
    };
    let node = make("nodes", &json!({"driver": "fake-hardware", "driver_info": {"fake_password": SECRET}}))?;
    Api::new(&server.url()).provision(&node, "manage", &[])?;
    let step = |order: &str| json!([{"interface": "bios", "step": "s", "args": {}, order: 1}]);
    let mut idents = BTreeMap::from([
        ("driver_ident", "fake-hardware".to_owned()),
        ("trait_ident", "CUSTOM_A".to_owned()),
        ("vif_ident", "vif-1".to_owned()),
        ("method_ident", "first_method".to_owned()),
        ("indicator_ident", "power@chassis".to_owned()),
    ]);
    for (kind, parameter, body) in [
        ("ports", "port_ident", json!({"node_uuid": node, "address": "52:54:00:00:00:01"})),
        ("portgroups", "portgroup_ident", json!({"node_uuid": node})),
        ("chassis", "chassis_ident", json!({})),
        ("volume/connectors", "connector_ident", json!({"node_uuid": node, "type": "iqn", "connector_id": "c"})),
        ("volume/targets", "target_ident", json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0})),
        ("allocations", "allocation_ident", json!({"resource_class": "nothing-has-it"})),
        ("deploy_templates", "deploy_template_ident", json!({"name": "CUSTOM_T", "steps": step("priority")})),
        ("runbooks", "runbook_ident", json!({"name": "CUSTOM_R", "steps": step("order")})),
        ("inspection_rules", "inspection_rule_ident", json!({"actions": [{"op": "set-attribute", "args": ["/extra/x", "y"]}]})),
    ] {
        idents.insert(parameter, make(kind, &body)?);
    }
    idents.insert("node_ident", node);
    Ok(idents)
}

/// What schemathesis is told: the resources that are there, which checks, how much.
fn settings(version: &str, idents: &BTreeMap<&str, String>) -> Result<String> {
    let mut text = format!(
        "seed = 1\ncolor = false\nwarnings = false\ncontinue-on-failure = true\nrequest-timeout = 60.0\n\
         [generation]\nmax-examples = {EXAMPLES}\n\
         [phases]\nstateful.enabled = false\n\
         [checks]\nenabled = false\nresponse_schema_conformance.enabled = true\nnot_a_server_error.enabled = true\n\
         not_a_server_error.expected-statuses = [\"2XX\", \"4XX\", 501]\n\
         [parameters]\n\"X-OpenStack-Ironic-API-Version\" = \"{version}\"\n"
    );
    for (name, value) in idents {
        writeln!(text, "{name} = \"{value}\"")?;
    }
    // What the others need stays.
    for (path, name) in [
        ("nodes/{node_ident}", "node_ident"),
        ("nodes/{node_ident}/allocation", "node_ident"),
        ("ports/{port_ident}", "port_ident"),
        ("portgroups/{portgroup_ident}", "portgroup_ident"),
        ("chassis/{chassis_ident}", "chassis_ident"),
        ("volume/connectors/{connector_ident}", "connector_ident"),
        ("volume/targets/{target_ident}", "target_ident"),
        ("allocations/{allocation_ident}", "allocation_ident"),
        ("deploy_templates/{deploy_template_ident}", "deploy_template_ident"),
        ("runbooks/{runbook_ident}", "runbook_ident"),
        ("inspection_rules/{inspection_rule_ident}", "inspection_rule_ident"),
    ] {
        writeln!(text, "[[operations]]\ninclude-name = \"DELETE /v1/{path}\"\nparameters = {{ {name} = \"{NOTHING}\" }}")?;
    }
    Ok(text)
}

fn by_description(version: &str) -> Result<()> {
    peers::SCHEMATHESIS.ensure()?;
    let server = DevServer::start(&program("bessemer")?, &["conductor.automated_clean=false"])?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, settings(version, &furnish(&server)?)?)?;
    let mut run = command(&peers::SCHEMATHESIS.program("schemathesis").display().to_string());
    run.arg("--config-file").arg(&config).args(["run", &format!("{}/openapi.json", server.url())]);
    run.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let out = tool::output(&mut run, LIMIT)?;
    let said = String::from_utf8_lossy(&out.stdout);
    let log = std::fs::read_to_string(server.log())?;
    ensure!(out.status.success(), "{said}\n{}\n{}", String::from_utf8_lossy(&out.stderr), tool::log_tail(&server.log(), 20));
    ensure!(tested(&said).is_some_and(|n| n > 150), "too few operations were tried: {said}");
    for bad in ["panicked", SECRET] {
        let line = log.lines().find(|l| l.contains(bad));
        ensure!(line.is_none() && !said.contains(bad), "\"{bad}\" in the log or in an answer: {line:?}");
    }
    Ok(())
}

/// How many operations schemathesis says it has tried.
fn tested(said: &str) -> Option<u32> {
    said.lines().find_map(|l| l.trim().strip_prefix("Tested:")).and_then(|n| n.trim().parse().ok())
}

#[test]
#[ignore = "needs schemathesis from PyPI; run by cargo xtask test --all"]
fn schemathesis_finds_nothing_at_the_oldest_microversion() -> Result<()> {
    by_description("1.1")
}

#[test]
#[ignore = "needs schemathesis from PyPI; run by cargo xtask test --all"]
fn schemathesis_finds_nothing_at_the_microversion_that_the_client_speaks() -> Result<()> {
    by_description("1.61")
}

#[test]
#[ignore = "needs schemathesis from PyPI; run by cargo xtask test --all"]
fn schemathesis_finds_nothing_at_the_newest_microversion() -> Result<()> {
    by_description("1.115")
}
