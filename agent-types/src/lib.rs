//! Wire types between the conductor and the ramdisk agent: what a machine says when it looks itself up,
//! beats its heart, answers a command or reports its hardware.
//!
//! The shapes are the public contract of bare-metal agents, so a foreign agent or a foreign conductor
//! can stand on either side. This crate never opens a connection and never decides anything.
//!
//! Start reading at [`command`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod command;
pub mod inspection;
pub mod inventory;
pub mod lookup;
pub mod progress;
pub mod step;

/// Request header with the fencing number of the conductor that sends a command: a decimal `u64`.
///
/// The agent remembers the highest number it has seen and answers 409 to a lower one.
/// A request without the header is not fenced.
pub const FENCE_HEADER: &str = "X-Bessemer-Fence";

/// Request header with the id of the step that a command carries out: at most 128 visible ASCII characters.
///
/// A repeated id is answered with the command that the agent already has; nothing runs twice.
pub const STEP_HEADER: &str = "X-Bessemer-Step";

/// Request header that names the microversion of the bare-metal API.
pub const API_VERSION_HEADER: &str = "X-OpenStack-Ironic-API-Version";

/// Query argument that carries the agent token on each command and status request.
pub const TOKEN_ARGUMENT: &str = "agent_token";

/// What the API shows in place of a token that has already been handed out.
pub const HIDDEN_TOKEN: &str = "******";

/// Fewest characters of an acceptable agent token.
pub const MIN_TOKEN_LEN: usize = 32;

/// TCP port of the agent's command API.
pub const DEFAULT_PORT: u16 = 9999;

/// Largest body of a command: a base64 configuration drive of 64 MiB with its envelope.
pub const MAX_COMMAND_BODY: usize = 96 * 1024 * 1024;
