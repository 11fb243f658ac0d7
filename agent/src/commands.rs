//! The table of commands: name, kind, and what runs.
//!
//! A command answers with a value or with a [`CommandError`] that says what failed and the remedy. A text
//! outcome is wrapped as `{"result": "<command>: <text>"}`.

use crate::agent::Agent;
use crate::power::{self, End};
use crate::progress::Progress;
use bessemer_agent_types::command::CommandError;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Whether the request waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer holds the outcome.
    Sync,
    /// The answer says `RUNNING`; a heartbeat follows the end.
    Async,
}

/// Every command of this agent.
const COMMANDS: &[(&str, Kind)] = &[("standby.sync", Kind::Sync), ("standby.power_off", Kind::Async), ("standby.run_image", Kind::Async)];

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
pub async fn run(agent: &Arc<Agent>, name: &str, _arguments: Arguments, _progress: &Arc<Progress>) -> Result<Value, CommandError> {
    let text = |text: &str| Ok(json!({"result": format!("{}: {text}", short_name(name))}));
    match name {
        "standby.sync" => {
            tokio::task::spawn_blocking(power::sync_disks).await.map_err(|e| failure(&e.to_string()))?;
            text("caches flushed")
        }
        "standby.power_off" => {
            power::end(agent, End::Off).await;
            text("powering off")
        }
        "standby.run_image" => {
            power::end(agent, End::Reboot).await;
            text("rebooting into the image")
        }
        _ => Err(failure("the command has no code")),
    }
}

/// A command that failed while it ran.
pub fn failure(details: &str) -> CommandError {
    CommandError { kind: "CommandExecutionError".into(), code: 500, message: "Command execution failed".into(), details: details.into() }
}
