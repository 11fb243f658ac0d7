//! A machine without QEMU: a loop device as its disk, and the real agent program that runs on this host while the node's power is on and a
//! ramdisk is expected. Whoever drops it gets the agent ended and the loop device detached.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bessemer_lab::{
    api::Api,
    http,
    tool::{Guarded, command, run, until},
};
use serde_json::Value;

use crate::rig::{free_port, program};

const LIMIT: Duration = Duration::from_secs(20);
/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(40);

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDisk {
    device: PathBuf,
    file: PathBuf,
}

impl LoopDisk {
    /// A new blank disk of `bytes` (a file with holes).
    ///
    /// # Errors
    /// Without root or loop devices.
    pub fn new(file: &Path, bytes: u64) -> Result<Self> {
        File::create(file)?.set_len(bytes)?;
        let mut attach = command("losetup");
        attach.args(["--find", "--show"]).arg(file);
        let device = run(&mut attach, LIMIT).context("these tests need root and a free loop device")?;
        Ok(Self { device: device.trim().into(), file: file.to_owned() })
    }

    /// Its device node.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// The file behind it.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(e) = run(command("losetup").arg("-d").arg(&self.device), LIMIT) {
            eprintln!("{} stays attached: {e:#}", self.device.display());
        }
    }
}

/// One start of the agent program.
#[derive(Debug)]
pub struct Boot {
    process: Guarded,
    state: PathBuf,
    port: u16,
}

impl Boot {
    /// Starts an agent that sees only `disk` and asks at `api` who it is.
    ///
    /// # Errors
    /// When the program is not built.
    pub fn start(dir: &Path, disk: &Path, api: &str, params: &[String]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = free_port()?;
        let mut agent = command(&program("bessemer-agent")?.display().to_string());
        agent.args(["run", "--no-tls", "--no-power", "--listen", &format!("127.0.0.1:{port}"), "--only-disk"]).arg(disk);
        agent.arg("--state-dir").arg(dir).args(["--param", &format!("ipa-api-url={api}"), "--param", "ipa-lookup-interval=0.2"]);
        for p in params {
            agent.args(["--param", p]);
        }
        let process = Guarded::start(&mut agent, &dir.join("log"))?;
        Ok(Self { process, state: dir.to_owned(), port })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Address of its command API, `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token that its lookup brought, once it has one.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        std::fs::read_to_string(self.state.join("token")).ok().filter(|t| !t.is_empty())
    }
}

/// What the agent tells of its running command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Word for what happens.
    pub phase: String,
    /// Bytes of this phase.
    pub done: u64,
}

#[derive(Debug, Default)]
struct Seen {
    boot: Option<Boot>,
    /// State folders of all starts.
    starts: Vec<PathBuf>,
    pids: Vec<u32>,
    failure: Option<String>,
}

/// The machine of one node.
#[derive(Debug)]
pub struct Machine {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    disk: LoopDisk,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a ramdisk shall run; `None` = as it is now.
fn wanted(node: &Value) -> Option<bool> {
    let on = node["power_state"] == "power on";
    match node["provision_state"].as_str()? {
        "wait call-back" | "clean wait" | "inspect wait" | "service wait" => Some(on),
        "deploying" | "cleaning" | "inspecting" | "servicing" if on => None,
        _ => Some(false),
    }
}

impl Machine {
    /// A machine for `node`, which is watched through the API from now on. A daemon that is down changes nothing.
    ///
    /// # Errors
    /// Without root or loop devices.
    pub fn new(dir: &Path, disk_bytes: u64, api: Api, node: &str, params: Vec<String>) -> Result<Self> {
        let dir = dir.join("machine");
        std::fs::create_dir_all(&dir)?;
        let disk = LoopDisk::new(&dir.join("disk"), disk_bytes)?;
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (seen, stop, device, node) = (Arc::clone(&seen), Arc::clone(&stop), disk.device().to_owned(), node.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    if let Ok(now) = api.node(&node) {
                        follow(&mut lock(&seen), &now, &dir, &device, api.base(), &params);
                    }
                    std::thread::sleep(LOOK);
                }
            })
        };
        Ok(Self { seen, stop, thread: Some(thread), disk })
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &LoopDisk {
        &self.disk
    }

    /// Process ids of all ramdisks so far, oldest first.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        lock(&self.seen).pids.clone()
    }

    /// Commands of the last ramdisk as it wrote them down: `(name, status, step)`, oldest first.
    ///
    /// # Errors
    /// When there was none.
    pub fn commands(&self) -> Result<Vec<(String, String, String)>> {
        let dir = lock(&self.seen).starts.last().cloned().context("no ramdisk was started yet")?;
        let text = std::fs::read(dir.join("commands.json")).context("the agent has stored no command")?;
        let stored: Value = serde_json::from_slice(&text)?;
        let entries = stored["commands"].as_array().cloned().unwrap_or_default();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        Ok(entries
            .iter()
            .map(|e| {
                let r = &e["result"];
                let step = ["deploy_step", "clean_step"].iter().map(|k| text(&r["command_result"][*k]["step"])).find(|s| !s.is_empty());
                (text(&r["command_name"]), text(&r["command_status"]), step.unwrap_or_default())
            })
            .collect())
    }

    /// The running ramdisk's log.
    #[must_use]
    pub fn log(&self) -> String {
        let dir = lock(&self.seen).starts.last().cloned().unwrap_or_default();
        std::fs::read_to_string(dir.join("log")).unwrap_or_default()
    }

    /// Progress of the running command; nothing before it can be asked.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (url, token) = {
            let seen = lock(&self.seen);
            match seen.boot.as_ref().and_then(|b| Some((b.url(), b.token()?))) {
                Some(known) => known,
                None => return Progress::default(),
            }
        };
        let asked = http::get(&format!("{url}/v1/progress?agent_token={token}"), Duration::from_secs(2)).and_then(|r| r.json());
        let told = asked.unwrap_or_default();
        Progress { phase: told["phase"].as_str().unwrap_or_default().to_owned(), done: told["bytes_done"].as_u64().unwrap_or_default() }
    }

    /// Waits until the machine has followed the power off of a node at rest: a node that is used again at once would otherwise be served by
    /// the ramdisk of before, which no real machine does.
    ///
    /// # Errors
    /// After 5 s.
    pub fn rests(&self) -> Result<()> {
        until("the ramdisk's end", Duration::from_secs(5), || lock(&self.seen).boot.is_none())
    }

    /// An error when the machine itself (not the daemon) did something wrong.
    ///
    /// # Errors
    /// The agent could not be started or ended by itself.
    pub fn check(&self) -> Result<()> {
        match &lock(&self.seen).failure {
            Some(text) => bail!("{text}"),
            None => Ok(()),
        }
    }
}

fn follow(seen: &mut Seen, node: &Value, dir: &Path, device: &Path, api: &str, params: &[String]) {
    let want = wanted(node);
    if let Some(boot) = &mut seen.boot
        && !boot.process.alive()
    {
        seen.failure = Some("the agent program ended by itself".into());
        seen.boot = None;
        return;
    }
    match (want, seen.boot.is_some()) {
        (Some(true), false) if seen.failure.is_none() => {
            let state = dir.join(format!("boot-{}", seen.starts.len() + 1));
            match Boot::start(&state, device, api, params) {
                Ok(boot) => {
                    seen.starts.push(state);
                    seen.pids.push(boot.pid());
                    seen.boot = Some(boot);
                }
                Err(e) => seen.failure = Some(format!("{e:#}")),
            }
        }
        (Some(false), true) => {
            if let Some(mut boot) = seen.boot.take() {
                // Power goes without a word.
                boot.process.kill();
            }
        }
        _ => {}
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            drop(t.join());
        }
        // Before the disk: a loop device that is in use stays attached.
        lock(&self.seen).boot = None;
    }
}
