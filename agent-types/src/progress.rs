//! `GET /v1/progress`: how far the running command has come. An addition of this agent; other agents answer 404.

use serde::{Deserialize, Serialize};

/// Progress of the running command, or of the last one when none runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Id of the command, null when no command has run in this boot.
    pub command_id: Option<String>,
    /// A word for what happens now: `writing`, `verifying`, `erasing`…
    pub phase: String,
    /// Bytes finished in this phase.
    pub bytes_done: u64,
    /// Bytes of this phase in all, null when unknown.
    pub bytes_total: Option<u64>,
    /// Bytes per second, averaged over the last seconds.
    pub rate: u64,
}
