//! Commands: the request, the result that is polled, and the error body.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Body of `POST /v1/commands/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// `extension.command`, for example `standby.sync`.
    pub name: String,
    /// Named arguments.
    #[serde(default)]
    pub params: Map<String, Value>,
}

/// Where a command stands. The names are the wire names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandStatus {
    /// Still at work: ask again.
    Running,
    /// Done; `command_result` holds the outcome.
    Succeeded,
    /// Ended without its effect; `command_error` says why.
    Failed,
    /// The agent's step versions differ from those the conductor planned with: refresh the steps.
    CleanVersionMismatch,
}

impl CommandStatus {
    /// Whether the command has ended.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandError {
    /// Class name. The conductor treats `TypeError` as "this agent does not know these arguments".
    #[serde(rename = "type", default)]
    pub kind: String,
    /// HTTP status that the same error would have as a direct answer.
    #[serde(default)]
    pub code: u16,
    /// One line.
    #[serde(default)]
    pub message: String,
    /// What failed and the remedy.
    #[serde(default)]
    pub details: String,
}

/// One command as the agent reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// Unique within the boot.
    pub id: String,
    /// Name without its extension.
    pub command_name: String,
    /// Where it stands.
    pub command_status: CommandStatus,
    /// Set when the status is `Failed` or `CleanVersionMismatch`.
    #[serde(default)]
    pub command_error: Option<CommandError>,
    /// Set when the status is `Succeeded`. A text outcome is wrapped as `{"result": "<command>: <text>"}`.
    #[serde(default)]
    pub command_result: Option<Value>,
}

/// Answer of `GET /v1/commands/`, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandList {
    /// All commands of this boot.
    pub commands: Vec<CommandResult>,
}

/// Error body of the agent's HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultBody {
    /// `Client` or `Server`.
    pub faultcode: String,
    /// What failed and the remedy.
    pub faultstring: String,
}

/// Answer of `GET /v1/status`; needs no token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Seconds since the epoch.
    pub started_at: f64,
    /// Version of the agent.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn command_results_have_the_contract_shape() {
        let result = CommandResult {
            id: "1".into(),
            command_name: "sync".into(),
            command_status: CommandStatus::CleanVersionMismatch,
            command_error: Some(CommandError { kind: "CleaningError".into(), code: 500, message: "m".into(), details: "d".into() }),
            command_result: None,
        };
        assert_eq!(
            serde_json::to_value(&result).unwrap(),
            json!({"id": "1", "command_name": "sync", "command_status": "CLEAN_VERSION_MISMATCH",
                   "command_error": {"type": "CleaningError", "code": 500, "message": "m", "details": "d"},
                   "command_result": null})
        );
    }
}
