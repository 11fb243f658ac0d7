//! `cargo xtask demo --discover`: machines that nobody enrolled are switched on by hand, boot the ramdisk, and become nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bessemer_lab::{Bench, api::Api, inventory, tool};
use serde_json::Value;

/// From the power button to the node with its inventory.
const LIMIT: Duration = Duration::from_secs(400);

/// Switches all machines on and compares the nodes that come of it with what the machines were given.
pub(crate) fn check(bench: &Bench, api: &Api) -> Result<()> {
    ensure!(nodes(api)?.is_empty(), "there are nodes before anything is switched on");
    for machine in &bench.machines {
        bench.libvirt.power_on(&machine.spec.name)?;
    }
    for machine in &bench.machines {
        let (name, mac) = (&machine.spec.name, &machine.spec.mac);
        tool::until(&format!("the node of the unknown machine {name}"), LIMIT, || found(api, mac).is_ok_and(|node| node.is_some()))?;
        let uuid = found(api, mac)?.context("its port is gone")?;
        tool::until(&format!("the inventory of {name}"), LIMIT, || api.inventory(&uuid).is_ok())?;
        let node = api.node(&uuid)?;
        ensure!(node["provision_state"] == "enroll", "the discovered node is in {}", node["provision_state"]);
        inventory::check(&api.inventory(&uuid)?, &machine.spec).with_context(|| format!("{name}: the inventory"))?;
        println!("{name}: discovered as {uuid}, driver {}, in enroll, inventory right", node["driver"]);
    }
    ensure!(nodes(api)?.len() == bench.machines.len(), "a machine became more than one node");
    Ok(())
}

fn nodes(api: &Api) -> Result<Vec<Value>> {
    Ok(api.call("GET", "/v1/nodes", None)?["nodes"].as_array().cloned().unwrap_or_default())
}

/// The node that has a port of this address.
fn found(api: &Api, mac: &str) -> Result<Option<String>> {
    let ports = api.call("GET", &format!("/v1/ports?address={mac}&fields=node_uuid"), None)?;
    Ok(ports["ports"][0]["node_uuid"].as_str().map(str::to_owned))
}
