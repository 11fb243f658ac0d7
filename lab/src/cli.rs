//! The two `baremetal` commands, ours and python-ironicclient's, against a daemon without
//! authentication.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::peers;
use crate::tool::{command, output, run};

/// A `baremetal` program and the API it talks to.
#[derive(Debug, Clone)]
pub struct Baremetal {
    program: PathBuf,
    endpoint: String,
}

impl Baremetal {
    /// Our own program.
    #[must_use]
    pub fn ours(program: &Path, endpoint: &str) -> Self {
        Self { program: program.to_path_buf(), endpoint: endpoint.to_owned() }
    }

    /// The unmodified program of python-ironicclient.
    #[must_use]
    pub fn ironic_client(endpoint: &str) -> Self {
        Self { program: peers::IRONIC_CLIENT.program("baremetal"), endpoint: endpoint.to_owned() }
    }

    /// Runs a command and returns what it printed; a failure is an error with its words.
    pub fn run(&self, args: &[&str], limit: Duration) -> Result<String> {
        run(&mut self.command(args), limit)
    }

    /// Runs a command that prints one thing or a list, and returns it as JSON.
    pub fn json(&self, args: &[&str], limit: Duration) -> Result<Value> {
        let text = run(self.command(args).args(["-f", "json"]), limit)?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// Runs a command that may fail.
    pub fn attempt(&self, args: &[&str], limit: Duration) -> Result<Output> {
        output(&mut self.command(args), limit)
    }

    /// The command line, with the environment that names the API.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command(&self.program.display().to_string());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
            command.env_remove(name);
        }
        command.env("OS_AUTH_TYPE", "none").env("OS_ENDPOINT", &self.endpoint).args(args);
        command
    }
}
