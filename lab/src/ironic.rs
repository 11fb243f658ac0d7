//! The reference implementation as a peer: OpenStack Ironic, API and conductor in one process, on SQLite, without authentication.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    dev::free_port,
    http, peers,
    tool::{self, Guarded, command, run},
};

const INSTALL: Duration = Duration::from_secs(900);
const START: Duration = Duration::from_secs(120);

/// A running Ironic with an empty database; ended when it goes out of scope.
#[derive(Debug)]
pub struct Ironic {
    process: Guarded,
    port: u16,
    /// From its start until its drivers were registered.
    pub started_in: Duration,
    _folder: TempDir,
}

/// Fake hardware without delays; everything else at its default.
fn configuration(folder: &str, port: u16) -> String {
    let kinds = ["power", "boot", "deploy", "vendor", "management", "inspect", "raid", "bios", "storage", "rescue", "firmware"];
    let delays: String = kinds.iter().map(|i| format!("{i}_delay = 0\n")).collect();
    // Its default storage interface must be among them.
    let enabled = |kind: &str| if kind == "storage" { "fake,noop" } else { "fake" };
    let interfaces: String = kinds.iter().map(|i| format!("enabled_{i}_interfaces = {}\n", enabled(i))).collect();
    format!(
        "[DEFAULT]\nauth_strategy = noauth\nrpc_transport = none\nhost = peer\nmy_ip = 127.0.0.1\nstate_path = {folder}\ndebug = false\n\
         log_file = {folder}/ironic.log\nuse_stderr = false\nenabled_hardware_types = fake-hardware\n\
         enabled_network_interfaces = noop\nenabled_console_interfaces = fake\n{interfaces}minimum_memory_warning_only = true\n\
         [oslo_concurrency]\nlock_path = {folder}/lock\n[database]\nconnection = sqlite:///{folder}/ironic.sqlite\n\
         [api]\nhost_ip = 127.0.0.1\nport = {port}\n\
         [conductor]\nautomated_clean = false\nsync_power_state_interval = 0\n\
         [fake]\n{delays}[deploy]\nhttp_root = {folder}/httpboot\n[pxe]\ntftp_root = {folder}/tftpboot\n\
         tftp_master_path = {folder}/master\nimages_path = {folder}/images\ninstance_master_path = {folder}/master\n\
         [dhcp]\ndhcp_provider = none\n[inventory]\ndata_backend = database\n[oslo_policy]\npolicy_file = {folder}/policy.yaml\n"
    )
}

impl Ironic {
    /// Installs it when it is not there (minutes) and starts it (seconds).
    ///
    /// # Errors
    /// It cannot be installed or does not answer; with the end of its log.
    pub fn start() -> Result<Self> {
        peers::IRONIC.ensure()?;
        let folder = tempfile::tempdir()?;
        let at = folder.path().display().to_string();
        for name in ["lock", "httpboot", "tftpboot", "master", "images"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let port = free_port()?;
        let config = folder.path().join("ironic.conf");
        std::fs::write(&config, configuration(&at, port))?;
        std::fs::write(folder.path().join("policy.yaml"), "")?;
        let with_config = |program: &str| {
            let mut c = command(&peers::IRONIC.program(program).display().to_string());
            c.arg("--config-file").arg(&config);
            c
        };
        // Its migrations do not run on SQLite; the schema as a whole does.
        run(with_config("ironic-dbsync").arg("create_schema"), INSTALL).context("making Ironic's database")?;
        let begin = Instant::now();
        let log = folder.path().join("out.log");
        let mut process = Guarded::start(&mut with_config("ironic"), &log)?;
        let url = format!("http://127.0.0.1:{port}/v1/drivers");
        let up = tool::until("Ironic's drivers", START, || {
            !process.alive() || http::get(&url, Duration::from_secs(5)).is_ok_and(|r| r.text().contains("fake-hardware"))
        });
        if up.is_err() || !process.alive() {
            anyhow::bail!("Ironic did not start: {}\n{}", tool::log_tail(&log, 20), tool::log_tail(&folder.path().join("ironic.log"), 20));
        }
        Ok(Self { process, port, started_in: begin.elapsed(), _folder: folder })
    }

    /// Address of its API, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id; it has children.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
