//! Our daemon as an operator runs it: the binary, a configuration file, a log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::enter::Lab;
use crate::netns::{ADDRESS, BRIDGE};
use crate::tool::{self, Guarded, command};
use crate::{http, peers};

/// Port of the API.
pub const API_PORT: u16 = 6385;
/// Port of the boot services' HTTP server.
pub const BOOT_PORT: u16 = 8088;

const LIMIT: Duration = Duration::from_secs(60);

/// What differs between the configurations that labs use.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The agent's kernel.
    pub kernel: PathBuf,
    /// The agent's ramdisk.
    pub ramdisk: PathBuf,
    /// Database URL; `None` is SQLite in the lab's state folder.
    pub database: Option<String>,
    /// Whether automated cleaning overwrites whole disks (minutes) or only what tells their content.
    pub overwrite_disks: bool,
    /// Further lines of TOML, added at the end.
    pub more: String,
}

impl Settings {
    /// Writes the configuration file.
    pub fn write(&self, lab: &Lab) -> Result<PathBuf> {
        let state = lab.dir("daemon")?;
        let database = self.database.clone().unwrap_or_else(|| format!("sqlite://{}", state.join("bessemer.sqlite").display()));
        let text = format!(
            r#"[DEFAULT]
auth_strategy = "noauth"
enabled_hardware_types = ["ipmi", "redfish"]
log_level = "debug,hyper=info,sqlx=info,rustls=info,h2=info,reqwest=info"

[api]
host_ip = "{ADDRESS}"
port = {API_PORT}

[conductor]
state_dir = "{state}"
file_url_allowed_paths = ["{cache}"]
deploy_kernel = "file://{kernel}"
deploy_ramdisk = "file://{ramdisk}"
automated_clean = true

[deploy]
erase_devices_priority = "{erase}"

[database]
connection = "{database}"

[pxe]
interface = "{BRIDGE}"
http_port = {BOOT_PORT}
kernel_append_params = "nofb vga=normal console=ttyS0"
{more}"#,
            erase = if self.overwrite_disks { "10" } else { "0" },
            state = state.display(),
            cache = peers::cache().display(),
            kernel = self.kernel.display(),
            ramdisk = self.ramdisk.display(),
            more = self.more,
        );
        let file = state.join("bessemer.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

/// A running `bessemer serve`.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Guarded,
}

impl Daemon {
    /// Starts it and waits until the API answers.
    pub fn start(lab: &Lab, binary: &Path, config: &Path) -> Result<Self> {
        let log = lab.log("daemon.log")?;
        let process = spawn(binary, config, &log)?;
        let mut daemon = Self { binary: binary.to_path_buf(), config: config.to_path_buf(), log, process };
        daemon.wait()?;
        Ok(daemon)
    }

    /// Address of the API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{ADDRESS}:{API_PORT}")
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// SIGKILL: nothing is flushed, no one is told.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, then SIGKILL after 10 s.
    pub fn stop(&mut self) {
        self.process.stop(Duration::from_secs(10));
    }

    /// Starts it again with the same configuration after [`Daemon::kill`] or [`Daemon::stop`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.binary, &self.config, &self.log)?;
        self.wait()
    }

    /// Whether the process runs.
    pub fn alive(&mut self) -> bool {
        self.process.alive()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn wait(&mut self) -> Result<()> {
        let url = format!("{}/v1", self.url());
        let (process, log) = (&mut self.process, &self.log);
        let mut ended = false;
        let answered = tool::until("the daemon's API answering", LIMIT, || {
            ended = !process.alive();
            ended || http::get(&url, Duration::from_secs(2)).is_ok()
        });
        if ended {
            return Err(anyhow!("the daemon ended at its start; its log ends: {}", tool::log_tail(log, 20)));
        }
        answered.map_err(|error| anyhow!("{error}; its log ends: {}", tool::log_tail(log, 20)))
    }
}

fn spawn(binary: &Path, config: &Path, log: &Path) -> Result<Guarded> {
    let mut serve = command(&binary.display().to_string());
    serve.args(["serve", "--config"]).arg(config).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    Guarded::start(&mut serve, log)
}
