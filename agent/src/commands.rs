//! The table of commands: name, kind, and what runs.
//!
//! A command answers with a value or with a [`CommandError`] that says what failed and the remedy. A text
//! outcome is wrapped as `{"result": "<command>: <text>"}`.

use crate::agent::Agent;
use crate::params::PowerMode;
use crate::power::{self, End};
use crate::progress::Progress;
use crate::steps::{self, Stage};
use crate::{disks, hw, logs, net, standby};
use bessemer_agent_types::command::CommandError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Whether the request waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer holds the outcome.
    Sync,
    /// The answer says `RUNNING`; a heartbeat follows the end.
    Async,
}

/// Every command of this agent.
const COMMANDS: &[(&str, Kind)] = &[
    ("clean.get_clean_steps", Kind::Sync),
    ("clean.execute_clean_step", Kind::Async),
    ("deploy.get_deploy_steps", Kind::Sync),
    ("deploy.execute_deploy_step", Kind::Async),
    ("service.get_service_steps", Kind::Sync),
    ("service.execute_service_step", Kind::Async),
    ("standby.prepare_image", Kind::Async),
    ("standby.run_image", Kind::Async),
    ("standby.power_off", Kind::Async),
    ("standby.sync", Kind::Sync),
    ("standby.get_partition_uuids", Kind::Sync),
    ("image.install_bootloader", Kind::Async),
    ("rescue.finalize_rescue", Kind::Sync),
    ("log.collect_system_logs", Kind::Sync),
    ("poll.get_hardware_info", Kind::Sync),
    ("poll.set_node_info", Kind::Sync),
    ("system.lockdown", Kind::Sync),
    ("flow.start_flow", Kind::Async),
];

/// Kind of a command; none when there is no such command.
pub fn kind(name: &str) -> Option<Kind> {
    COMMANDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// A command's name without its extension.
pub fn short_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, command)| command)
}

/// Arguments of a command.
pub type Arguments = Map<String, Value>;

/// Runs a command to its end.
pub async fn run(agent: &Arc<Agent>, name: &str, arguments: Arguments, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    match name {
        "flow.start_flow" => start_flow(agent, &arguments, progress).await,
        _ => run_one(agent, name, arguments, progress).await,
    }
}

async fn run_one(agent: &Arc<Agent>, name: &str, arguments: Arguments, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    match name {
        "clean.get_clean_steps" => Ok(steps::list(agent, Stage::Clean, &arguments)),
        "deploy.get_deploy_steps" => Ok(steps::list(agent, Stage::Deploy, &arguments)),
        "service.get_service_steps" => Ok(steps::list(agent, Stage::Service, &arguments)),
        "clean.execute_clean_step" => steps::execute(agent, Stage::Clean, arguments, progress).await,
        "deploy.execute_deploy_step" => steps::execute(agent, Stage::Deploy, arguments, progress).await,
        "service.execute_service_step" => steps::execute(agent, Stage::Service, arguments, progress).await,
        "standby.prepare_image" => {
            let report = standby::prepare_image(agent, arguments, progress).await?;
            Ok(text(name, &report))
        }
        "standby.get_partition_uuids" => Ok(standby::partition_uuids(agent).await),
        "image.install_bootloader" => {
            let report = standby::install_bootloader(agent, arguments).await?;
            Ok(text(name, &report))
        }
        "standby.sync" => {
            tokio::task::spawn_blocking(power::sync_disks).await.map_err(|e| failure(&e.to_string()))?;
            Ok(text(name, "all caches are written to the disks"))
        }
        "standby.power_off" => {
            power::end(agent, End::Off).await;
            Ok(text(name, "powering off"))
        }
        "standby.run_image" => {
            power::end(agent, End::Reboot).await;
            Ok(text(name, "rebooting into the image"))
        }
        "rescue.finalize_rescue" => {
            Err(error("RescueError", 500, "rescue is not built into this ramdisk: boot the node with a ramdisk that has it"))
        }
        "log.collect_system_logs" => {
            let root = hw::Root::new(&agent.settings.root);
            let collected = tokio::task::spawn_blocking(move || logs::collect_base64(&root, &[])).await;
            let archive = collected.map_err(|e| failure(&e.to_string()))?.map_err(|e| failure(&format!("logs: {e}")))?;
            Ok(json!({"system_logs": archive}))
        }
        "poll.get_hardware_info" => {
            let disks = disks::settled(&agent.settings).await;
            let settings = agent.settings.clone();
            let skip_bmc = agent.config().and_then(|c| c.agent_skip_bmc_detect).unwrap_or(false);
            let inventory = tokio::task::spawn_blocking(move || hw::inventory(&settings, disks, skip_bmc)).await;
            let inventory = inventory.map_err(|e| failure(&e.to_string()))?;
            serde_json::to_value(inventory).map_err(|e| failure(&e.to_string()))
        }
        "poll.set_node_info" => {
            if !agent.settings.api_urls.is_empty() {
                return Err(error(
                    "InvalidCommandError",
                    400,
                    "poll.set_node_info is for an agent without ipa-api-url; this one looks itself up",
                ));
            }
            let node: Value = argument(&arguments, "node_info")?;
            agent.set_node(node.get("node").cloned().unwrap_or(node));
            Ok(text(name, "node set"))
        }
        "system.lockdown" => {
            let agent = Arc::clone(agent);
            tokio::spawn(async move {
                // The answer leaves first.
                tokio::time::sleep(Duration::from_millis(300)).await;
                agent.left.send_replace(true);
                if agent.settings.power == PowerMode::Recorded {
                    agent.record_power("lockdown");
                } else {
                    net::lockdown();
                }
            });
            Ok(text(name, "leaving the network for good"))
        }
        _ => Err(failure("the command has no code")),
    }
}

/// Runs commands one after another; the first that fails ends the flow.
async fn start_flow(agent: &Arc<Agent>, arguments: &Arguments, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    let flow: Vec<Map<String, Value>> = argument(arguments, "flow")?;
    let mut results = Vec::new();
    for (name, parameters) in flow.into_iter().flatten() {
        if kind(&name).is_none() || name == "flow.start_flow" {
            return Err(error("InvalidCommandError", 400, &format!("no command {name:?} for a flow in this agent")));
        }
        let parameters = match parameters {
            Value::Object(map) => map,
            _ => Arguments::new(),
        };
        results.push(run_one(agent, &name, parameters, progress).await?);
    }
    Ok(json!({"result": results}))
}

/// A text outcome in its wrapping.
pub fn text(name: &str, text: &str) -> Value {
    json!({"result": format!("{}: {text}", short_name(name))})
}

/// An argument that must be there and of the right shape.
pub fn argument<T: DeserializeOwned>(arguments: &Arguments, name: &str) -> Result<T, CommandError> {
    let value = arguments.get(name).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|e| error("InvalidCommandParamsError", 400, &format!("argument {name}: {e}")))
}

/// A command that failed while it ran.
pub fn failure(details: &str) -> CommandError {
    error("CommandExecutionError", 500, details)
}

/// A failure of a class that the conductor may know.
pub fn error(kind: &str, code: u16, details: &str) -> CommandError {
    let message = if code == 400 { "Invalid command parameters" } else { "Command execution failed" };
    CommandError { kind: kind.into(), code, message: message.into(), details: details.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_known_once_and_others_are_not() {
        for (index, (name, kind)) in COMMANDS.iter().enumerate() {
            assert_eq!(super::kind(name), Some(*kind));
            assert!(COMMANDS.iter().skip(index + 1).all(|(other, _)| other != name), "{name} stands twice");
        }
        assert_eq!(kind("standby"), None);
        assert_eq!(kind("sync"), None);
        assert_eq!(short_name("standby.sync"), "sync");
    }
}
