//! `node create/set/unset/delete/retire`.

use serde_json::{Map, Value, json};

use crate::args::node::{Create, Retire};
use crate::args::node_fields::{NewNode, Set, Unset};
use crate::client::Request;
use crate::error::CliError;
use crate::pairs::{self, Patch};
use crate::{fields, structured, wait};

use super::{Session, provision};

/// The body that registers a node with these fields.
pub fn new_node(driver: Option<&str>, new: &NewNode) -> Result<Map<String, Value>, CliError> {
    let mut body = Map::new();
    if let Some(driver) = driver {
        body.insert("driver".into(), driver.into());
    }
    let texts = [
        ("uuid", &new.uuid),
        ("name", &new.name),
        ("instance_name", &new.instance_name),
        ("chassis_uuid", &new.chassis_uuid),
        ("resource_class", &new.resource_class),
        ("conductor_group", &new.conductor_group),
        ("owner", &new.owner),
        ("lessee", &new.lessee),
        ("description", &new.description),
        ("shard", &new.shard),
        ("parent_node", &new.parent_node),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            body.insert(name.into(), value.clone().into());
        }
    }
    for (field, members) in [
        ("driver_info", pairs::driver_info(&new.driver_info)?),
        ("properties", pairs::object(&new.properties)?),
        ("extra", pairs::object(&new.extra)?),
    ] {
        if !members.is_empty() {
            body.insert(field.into(), members.into());
        }
    }
    for (field, name) in &new.interfaces.0 {
        body.insert((*field).into(), name.clone().into());
    }
    if new.automated_clean || new.no_automated_clean {
        body.insert("automated_clean".into(), new.automated_clean.into());
    }
    if new.disable_power_off {
        body.insert("disable_power_off".into(), true.into());
    }
    if let Some(given) = &new.network_data {
        body.insert("network_data".into(), structured::argument(given, "--network-data")?);
    }
    Ok(body)
}

/// `node create`.
pub async fn create(session: &Session, args: Create) -> Result<(), CliError> {
    let body = Value::Object(new_node(Some(&args.driver), &args.new)?);
    let mut node = session.client.post(&["nodes"], &body).await?.without(fields::NODE_LINKS);
    if node.get("chassis_uuid").is_none() {
        node.set("chassis_uuid", "".into());
    }
    session.show(&node, &args.output)
}

/// What `node set` changes.
fn set_patch(args: &Set) -> Result<Patch, CliError> {
    let mut patch = Patch::default();
    let texts = [
        ("instance_uuid", &args.instance_uuid),
        ("instance_name", &args.instance_name),
        ("name", &args.name),
        ("chassis_uuid", &args.chassis_uuid),
        ("driver", &args.driver),
        ("resource_class", &args.resource_class),
        ("conductor_group", &args.conductor_group),
        ("owner", &args.owner),
        ("lessee", &args.lessee),
        ("description", &args.description),
        ("shard", &args.shard),
        ("parent_node", &args.parent_node),
    ];
    for (field, value) in texts {
        patch.set_some(field, value.as_ref());
    }
    // The mark comes before its reason, which needs it.
    for (field, yes, no) in [
        ("protected", args.protected, false),
        ("retired", args.retired, false),
        ("automated_clean", args.automated_clean, args.no_automated_clean),
        ("disable_power_off", args.disable_power_off, args.enable_power_off),
    ] {
        if yes || no {
            patch.set(field, yes);
        }
    }
    patch.set_some("protected_reason", args.protected_reason.as_ref());
    patch.set_some("retired_reason", args.retired_reason.as_ref());
    for (field, name) in &args.interfaces.0 {
        match name {
            Some(name) => patch.set(field, name.clone()),
            None => patch.remove(field),
        }
    }
    patch.set_members("properties", pairs::object(&args.property)?);
    patch.set_members("extra", pairs::object(&args.extra)?);
    patch.set_members("driver_info", pairs::driver_info(&args.driver_info)?);
    patch.set_members("instance_info", pairs::object(&args.instance_info)?);
    if let Some(given) = &args.network_data {
        patch.set("network_data", structured::argument(given, "--network-data")?);
    }
    Ok(patch)
}

/// `node set`.
pub async fn set(session: &Session, args: Set) -> Result<(), CliError> {
    for (option, given) in [("--name", &args.name), ("--instance-uuid", &args.instance_uuid)] {
        if given.is_some() && args.nodes.len() > 1 {
            return Err(CliError::Usage(format!("{option} is unique; it cannot be given to several nodes")));
        }
    }
    if args.reset_interfaces && args.driver.is_none() {
        return Err(CliError::Usage("--reset-interfaces goes with --driver only".into()));
    }
    let raid = args.target_raid_config.as_ref().map(|given| structured::argument(given, "--target-raid-config")).transpose()?;
    let patch = set_patch(&args)?;
    // First, because the node may get another name then.
    if let Some(raid) = &raid {
        for node in &args.nodes {
            session.client.put(&["nodes", node, "states", "raid"], raid).await?;
        }
    }
    if patch.is_empty() {
        if raid.is_none() {
            session.note("Nothing to set was given; `baremetal node set --help` tells what there is.");
        }
        return Ok(());
    }
    let body = patch.body();
    for node in &args.nodes {
        let mut request = Request::to(&["nodes", node]).body(&body);
        if args.reset_interfaces {
            request = request.query("reset_interfaces", "True");
        }
        session.client.patch(request).await?;
    }
    Ok(())
}

/// `node unset`.
pub async fn unset(session: &Session, args: Unset) -> Result<(), CliError> {
    if args.target_raid_config {
        for node in &args.nodes {
            session.client.put(&["nodes", node, "states", "raid"], &json!({})).await?;
        }
    }
    let mut patch = Patch::default();
    for field in &args.fields.0 {
        patch.remove(field);
    }
    patch.remove_members("properties", &args.property);
    patch.remove_members("extra", &args.extra);
    patch.remove_members("driver_info", &args.driver_info);
    patch.remove_members("instance_info", &args.instance_info);
    if patch.is_empty() {
        if !args.target_raid_config {
            session.note("Nothing to unset was given; `baremetal node unset --help` tells what there is.");
        }
        return Ok(());
    }
    let body = patch.body();
    for node in &args.nodes {
        session.client.patch(Request::to(&["nodes", node]).body(&body)).await?;
    }
    Ok(())
}

/// `node delete`: all that can be deleted, then the failures.
pub async fn delete(session: &Session, nodes: &[String]) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for node in nodes {
        match session.client.delete(&["nodes", node]).await {
            Ok(()) => session.print(&format!("Deleted node {node}\n"))?,
            Err(error) => failures.push(error),
        }
    }
    CliError::gather(failures)
}

/// `node retire`: also of a node that is available, which is made manageable first so that nobody takes it.
pub async fn retire(session: &Session, args: Retire) -> Result<(), CliError> {
    let mut failures = Vec::new();
    for node in &args.nodes.nodes {
        if let Err(error) = retire_one(session, node, &args).await {
            failures.push(error);
        }
    }
    CliError::gather(failures)
}

async fn retire_one(session: &Session, node: &str, args: &Retire) -> Result<(), CliError> {
    let mut patch = Patch::default();
    if args.undo {
        patch.remove("retired");
    } else {
        let seen = session.client.get(Request::to(&["nodes", node])).await?;
        if seen.text("provision_state") == Some("available") {
            let line = session.display.line(node);
            provision::send(&session.client, node, &json!({"target": "manage"})).await?;
            let managed = wait::for_state(&session.client, node, "manageable", Some(provision::VERIFY_LIMIT), &line).await;
            line.finish(if managed.is_ok() { "manageable, so that it is not taken meanwhile" } else { "failed" });
            session.display.end();
            managed?;
        }
        patch.set("retired", true);
        patch.set_some("retired_reason", args.reason.as_ref());
    }
    session.client.patch(Request::to(&["nodes", node]).body(&patch.body())).await?;
    session.print(&format!("{} {node}\n", if args.undo { "No longer retired:" } else { "Retired:" }))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command, node::NodeCommand};

    fn command(words: &[&str]) -> NodeCommand {
        let cli = Cli::try_parse_from(["baremetal", "node"].iter().chain(words)).expect("parsed");
        let Command::Node(command) = cli.command else { panic!("a node command") };
        *command
    }

    #[test]
    fn create_sends_what_was_given_and_nothing_else() {
        let NodeCommand::Create(args) = command(&[
            "create",
            "--driver",
            "ipmi",
            "--name",
            "n1",
            "--driver-info",
            "ipmi_address=192.0.2.1",
            "--driver-info",
            "ipmi_port=6230",
            "--property",
            "root_device={\"serial\": \"S1\"}",
            "--deploy-interface",
            "direct",
            "--no-automated-clean",
            "--resource-class",
            "big",
        ]) else {
            panic!("create")
        };
        let body = new_node(Some(&args.driver), &args.new).expect("a body");
        assert_eq!(
            Value::Object(body),
            json!({
                "driver": "ipmi", "name": "n1", "driver_info": {"ipmi_address": "192.0.2.1", "ipmi_port": 6230},
                "properties": {"root_device": {"serial": "S1"}}, "deploy_interface": "direct", "automated_clean": false, "resource_class": "big"
            })
        );
    }

    #[test]
    fn set_makes_a_patch_with_the_mark_before_its_reason() {
        let NodeCommand::Set(args) = command(&[
            "set",
            "n1",
            "--retired",
            "--retired-reason",
            "old",
            "--property",
            "cpus=4",
            "--reset-boot-interface",
            "--power-interface",
            "fake",
            "--instance-info",
            "image_source=http://x/y",
        ]) else {
            panic!("set")
        };
        assert_eq!(
            set_patch(&args).expect("a patch").body(),
            json!([
                {"op": "add", "path": "/retired", "value": true},
                {"op": "add", "path": "/retired_reason", "value": "old"},
                {"op": "remove", "path": "/boot_interface"},
                {"op": "add", "path": "/power_interface", "value": "fake"},
                {"op": "add", "path": "/properties/cpus", "value": 4},
                {"op": "add", "path": "/instance_info/image_source", "value": "http://x/y"}
            ])
        );
    }

    #[test]
    fn unset_knows_every_field() {
        let NodeCommand::Unset(args) = command(&["unset", "n1", "--name", "--vendor-interface", "--extra", "a"]) else { panic!("unset") };
        assert_eq!(args.fields.0, ["name", "vendor_interface"]);
        assert_eq!(args.extra, ["a"]);
    }
}
