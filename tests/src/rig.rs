//! A rig for one node without QEMU: the real daemon program with fake power, and a [`Machine`] that runs the real agent program when the
//! daemon has switched the node on. One rig at a time per process: loop devices and processors are few.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
pub use bessemer_lab::dev::free_port;
use bessemer_lab::{
    api::Api,
    http, tool,
    tool::{Guarded, command},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::machine::Machine;

/// Smallest disk that is chosen without hints.
pub const DISK: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A program of this build.
///
/// # Errors
/// When it is not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let mut at = std::env::current_exe()?;
    while at.pop() {
        let candidate = at.join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("{name} is not built: run `cargo build --bins` first (cargo xtask test does)")
}

/// A whole-disk image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Image {
    /// `mib` MiB of noise with a partition table around it, at `path`.
    ///
    /// # Errors
    /// Without `sgdisk`.
    pub fn noise(path: &Path, mib: u64) -> Result<Self> {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let words = (0..mib * MIB / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        std::fs::write(path, words.collect::<Vec<u8>>())?;
        tool::run(command("sgdisk").args(["-Z"]).arg(path), Duration::from_secs(20)).ok();
        let mut table = command("sgdisk");
        tool::run(table.args(["-n", "1:2048:0", "-c", "1:root"]).arg(path), Duration::from_secs(20))?;
        Self::of(path)
    }

    /// An image that is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        Ok(Self { path: path.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)), bytes })
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Checks that a disk holds the image, but for the partition table, which moves to the end of a larger disk.
    ///
    /// # Errors
    /// The first byte that differs.
    pub fn is_on(&self, disk: &Path) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        // Table at the front: boot sector, header and 32 sectors of entries; its copy at the end of the image: 33 sectors.
        let (front, end) = (34 * 512, self.bytes.len() - 33 * 512);
        let mut found = vec![0; end - front];
        std::fs::File::open(disk)?.read_exact_at(&mut found, front as u64)?;
        if let Some(at) = found.iter().zip(&self.bytes[front..end]).position(|(a, b)| a != b) {
            bail!("byte {} of the disk is not the image's", front + at);
        }
        let listed = tool::run(command("sgdisk").arg("-p").arg(disk), Duration::from_secs(20))?;
        if !listed.contains("root") {
            bail!("the disk has not the image's partition table: {listed}");
        }
        Ok(())
    }
}

/// The daemon program with its state, which outlives kills.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
    port: u16,
    boot_port: u16,
    set: Vec<String>,
    process: Option<Guarded>,
}

impl Daemon {
    /// Starts `bessemer serve --dev` with these further settings (`SECTION.KEY=VALUE`). With `boot`, also the boot services, on the loopback
    /// interface, for images that the daemon serves itself.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(dir: &Path, boot: bool, set: &[&str]) -> Result<Self> {
        let (port, boot_port) = (free_port()?, free_port()?);
        for name in ["kernel", "ramdisk"] {
            std::fs::write(dir.join(name), name)?;
        }
        let mut settings = vec![
            format!("conductor.deploy_kernel=file://{}", dir.join("kernel").display()),
            format!("conductor.deploy_ramdisk=file://{}", dir.join("ramdisk").display()),
            format!("conductor.file_url_allowed_paths={}", dir.display()),
            // No boot entries: an agent on this host must leave the host's firmware alone.
            "deploy.default_boot_mode=bios".into(),
            "agent.require_tls=false".into(),
            "agent.command_timeout=5".into(),
            "agent.power_off_timeout=1".into(),
            "api.ramdisk_heartbeat_timeout=5".into(),
            "conductor.heartbeat_timeout=5".into(),
        ];
        if boot {
            let tftp = free_port()?;
            for s in ["interface=lo", "server_address=127.0.0.1", "subnet=127.0.0.0/8", "dhcp_mode=off"] {
                settings.push(format!("pxe.{s}"));
            }
            settings.extend([format!("pxe.http_port={boot_port}"), format!("pxe.tftp_port={tftp}")]);
        }
        settings.extend(set.iter().map(|s| (*s).to_owned()));
        let mut daemon = Self { dir: dir.to_owned(), port, boot_port, set: settings, process: None };
        daemon.restart()?;
        Ok(daemon)
    }

    /// Its API.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// Address of its HTTP boot service, `HOST:PORT`.
    #[must_use]
    pub fn boot_address(&self) -> String {
        format!("127.0.0.1:{}", self.boot_port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut p) = self.process.take() {
            p.kill();
        }
    }

    /// Starts it again on the same state.
    ///
    /// # Errors
    /// When it does not answer within 20 s.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let log = self.dir.join("daemon.log");
        let mut serve = command(&program("bessemer")?.display().to_string());
        serve.args(["serve", "--dev", "--listen", &format!("127.0.0.1:{}", self.port), "--state-dir"]).arg(self.dir.join("state"));
        for s in &self.set {
            serve.args(["--set", s]);
        }
        let mut process = Guarded::start(serve.env("NO_COLOR", "1"), &log)?;
        let url = format!("http://127.0.0.1:{}/v1", self.port);
        let up = tool::until("the daemon's API answering", Duration::from_secs(20), || {
            !process.alive() || http::get(&url, Duration::from_secs(2)).is_ok()
        });
        if up.is_err() || !process.alive() {
            bail!("the daemon did not come up; its log ends: {}", self.log_tail());
        }
        self.process = Some(process);
        Ok(())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tool::log_tail(&self.dir.join("daemon.log"), 40)
    }

    /// Waits until the node is in one of `states` and nobody works on it.
    ///
    /// # Errors
    /// After `limit`, with the node's state, error and the end of the daemon's log.
    pub fn reach(&self, node: &str, states: &[&str], limit: Duration) -> Result<Value> {
        let until = Instant::now() + limit;
        let mut last = Value::Null;
        while Instant::now() < until {
            if let Ok(n) = self.api().node(node) {
                let state = n["provision_state"].as_str().unwrap_or_default().to_owned();
                if states.contains(&state.as_str()) && n["reservation"].is_null() {
                    return Ok(n);
                }
                last = n;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        bail!(
            "{node} is '{}' (wanted {states:?}), last error {}; the daemon's log ends: {}",
            last["provision_state"],
            last["last_error"],
            self.log_tail()
        )
    }
}

/// Daemon, node and machine.
pub struct Rig {
    // Dropped in this order: the machine first.
    /// The machine.
    pub machine: Machine,
    /// The daemon.
    pub daemon: Daemon,
    /// Files of the test.
    pub dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Name of the rig's node.
pub const NODE: &str = "rig";

/// Addresses of this host's own network cards, by which an agent on it is looked up.
///
/// # Errors
/// When there is none.
pub fn host_macs() -> Result<Vec<String>> {
    let mut macs = Vec::new();
    for card in std::fs::read_dir("/sys/class/net")?.flatten() {
        let text = std::fs::read_to_string(card.path().join("address")).unwrap_or_default();
        let mac = text.trim().to_owned();
        if mac.len() == 17 && mac != "00:00:00:00:00:00" && !macs.contains(&mac) {
            macs.push(mac);
        }
    }
    if macs.is_empty() {
        bail!("this host has no network card with an address; add one: ip link add rig0 type dummy");
    }
    Ok(macs)
}

impl Rig {
    /// A rig whose node is `available`, with a blank disk of 4 GiB.
    ///
    /// # Errors
    /// When something does not start.
    pub fn new(boot: bool, agent_params: &[&str], set: &[&str]) -> Result<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir()?;
        let daemon = Daemon::start(dir.path(), boot, set)?;
        let api = daemon.api();
        let body = json!({"name": NODE, "driver": "fake-hardware", "deploy_interface": "direct", "boot_interface": "fake"});
        let node = api.call("POST", "/v1/nodes", Some(&body))?;
        for mac in host_macs()? {
            api.call("POST", "/v1/ports", Some(&json!({"node_uuid": node["uuid"], "address": mac})))?;
        }
        let params = agent_params.iter().map(|p| (*p).to_owned()).collect();
        let machine = Machine::new(dir.path(), DISK, api, NODE, params)?;
        let rig = Self { machine, daemon, dir, _turn: turn };
        for (verb, state) in [("manage", "manageable"), ("provide", "available")] {
            rig.daemon.api().provision(NODE, verb, &[])?;
            rig.daemon.reach(NODE, &[state], Duration::from_secs(30))?;
        }
        Ok(rig)
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> Api {
        self.daemon.api()
    }

    /// Sets `instance_info` whole.
    ///
    /// # Errors
    /// Of the API.
    pub fn instance_info(&self, info: &Value) -> Result<()> {
        self.api().patch(NODE, &[("/instance_info", info.clone())]).map(drop)
    }

    /// Asks for a deployment.
    ///
    /// # Errors
    /// Of the API.
    pub fn deploy(&self) -> Result<()> {
        self.api().provision(NODE, "active", &[])
    }

    /// Waits for the end of a deployment: `active` or `deploy failed`.
    ///
    /// # Errors
    /// When it takes too long, or the machine broke.
    pub fn deployed(&self, limit: Duration) -> Result<Value> {
        let end = self.daemon.reach(NODE, &["active", "deploy failed", "error"], limit);
        self.machine.check()?;
        if end.is_ok() {
            self.machine.rests()?;
        }
        end.with_context(|| format!("the agent's log: {}", self.machine.log()))
    }

    /// The running command's progress once `ready` says yes.
    ///
    /// # Errors
    /// After `limit`.
    pub fn progress_until(&self, what: &str, limit: Duration, ready: impl Fn(&crate::machine::Progress) -> bool) -> Result<()> {
        let begin = Instant::now();
        loop {
            let now = self.machine.progress();
            if ready(&now) {
                return Ok(());
            }
            if begin.elapsed() > limit {
                bail!(
                    "{what}: not after {limit:?}, the agent is at {now:?}; daemon: {}; agent: {}",
                    self.daemon.log_tail(),
                    self.machine.log()
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}
