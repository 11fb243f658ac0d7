//! `bessemer serve --dev` on a free port with an empty state of its own: no lab, no root, milliseconds to start.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    http,
    tool::{self, Guarded, command},
};

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP port that is free now.
///
/// # Errors
/// Of the system.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A running server; it is ended and its state removed when it goes out of scope.
#[derive(Debug)]
pub struct DevServer {
    process: Option<Guarded>,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    folder: TempDir,
}

impl DevServer {
    /// Starts `program` with `SECTION.KEY=VALUE` options.
    ///
    /// # Errors
    /// It does not answer; with the end of its log.
    pub fn start(program: &Path, options: &[&str]) -> Result<Self> {
        let mut last = None;
        // Another program may take a port between looking and listening.
        for _ in 0..3 {
            let port = free_port()?;
            let folder = tempfile::tempdir()?;
            let mut arguments: Vec<String> = ["serve", "--dev", "--listen"].map(String::from).to_vec();
            arguments.extend([format!("127.0.0.1:{port}"), "--state-dir".to_owned(), folder.path().join("state").display().to_string()]);
            arguments.extend(options.iter().flat_map(|o| ["--set".to_owned(), (*o).to_owned()]));
            let mut server = Self { process: None, program: program.to_owned(), arguments, port, folder };
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no free port")))
    }

    /// SIGKILL: nothing is flushed, no one is told.
    pub fn kill(&mut self) {
        if let Some(mut p) = self.process.take() {
            p.kill();
        }
    }

    /// Starts it again on the same state and port.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let mut serve = command(&self.program.display().to_string());
        serve.args(&self.arguments).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
        let mut process = Guarded::start(&mut serve, &self.log())
            .with_context(|| format!("{} is not built? run `cargo build --workspace --bins`", self.program.display()))?;
        let root = format!("{}/v1", self.url());
        let up =
            tool::until("the daemon's API answering", PATIENCE, || !process.alive() || http::get(&root, Duration::from_secs(5)).is_ok());
        if up.is_err() || !process.alive() {
            bail!("the daemon did not come up; its log ends: {}", tool::log_tail(&self.log(), 20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Address of the API, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }
}
