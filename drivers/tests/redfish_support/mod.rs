//! What the Redfish tests share: quick settings, and the real sushy-emulator as a peer.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bessemer_drivers::redfish::{AuthType, PoolConfig, RedfishEndpoint, RedfishPool, RedfishSystem};
use bessemer_model::ids::NodeId;
use bessemer_model::node::{Node, NodeSpec, NodeStatus};
use bessemer_model::state::ProvisionState;
use serde_json::{Value, json};

/// Settings with short pauses.
pub fn quick() -> PoolConfig {
    let ms = Duration::from_millis;
    PoolConfig {
        retry_interval: ms(50),
        connect_timeout: ms(2000),
        read_timeout: ms(2000),
        deadline: ms(10_000),
        refused_hold: ms(60_000),
        post_boot_delay: ms(20),
        power_on_interval: ms(20),
        poll: ms(20),
        power_wait: ms(5000),
        reboot_pause: ms(10),
        media_wait: ms(1000),
        task_wait: ms(3000),
        ..PoolConfig::default()
    }
}

/// The endpoint of a `driver_info`.
pub fn endpoint(driver_info: &Value) -> RedfishEndpoint {
    RedfishEndpoint::parse(driver_info.as_object().expect("an object"), AuthType::Auto).expect("a valid driver_info")
}

/// A system on a pool of its own.
pub fn system(driver_info: &Value, config: PoolConfig) -> RedfishSystem {
    RedfishPool::new(config).client(&endpoint(driver_info)).expect("a client")
}

/// A node with this `driver_info`.
pub fn node(driver_info: &Value) -> Node {
    Node {
        id: NodeId::random(),
        seq: 1,
        revision: 1,
        created_at: bessemer_model::clock::Timestamp::default(),
        updated_at: None,
        spec: NodeSpec {
            driver: "redfish".to_owned(),
            driver_info: driver_info.as_object().expect("an object").clone(),
            ..NodeSpec::default()
        },
        status: NodeStatus::new(ProvisionState::Manageable),
        traits: Vec::new(),
        allocation: None,
        reservation: None,
        conductor_affinity: None,
        agent: None,
        has_agent_token: false,
        flow: None,
    }
}

const SUSHY_TOOLS: &str = "sushy-tools==2.2.0";

/// The real sushy-emulator of sushy-tools with its fake driver, ended with this value.
pub struct Sushy {
    process: Child,
    dir: tempfile::TempDir,
    port: u16,
}

/// UUID of the only fake system.
pub const SUSHY_SYSTEM: &str = "27946b59-9e44-4fa7-8e91-f3527a1ef094";

impl Sushy {
    /// Starts it on a free port of 127.0.0.1. With `auth`, HTTP basic `admin`/`password`.
    pub fn start(auth: bool) -> Self {
        let program = environment().join("bin/sushy-emulator");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut config = format!("SUSHY_EMULATOR_STATE_DIR = '{}'\n", dir.path().display());
        if auth {
            let file = dir.path().join("htpasswd");
            // bcrypt (cost 4) of "password".
            std::fs::write(&file, "admin:$2b$04$86X6JcQsXigpoXBC6hKb4uWL7MSNaU.v.uzjll6aieM.MYsg2gd2i\n").expect("htpasswd");
            config.push_str(&format!("SUSHY_EMULATOR_AUTH_FILE = '{}'\n", file.display()));
        }
        let conf = dir.path().join("sushy.conf");
        std::fs::write(&conf, config).expect("configuration");
        let log = std::fs::File::create(dir.path().join("log")).expect("log");
        let process = Command::new(program)
            .args(["--fake", "-i", "127.0.0.1", "-p", &port.to_string(), "--config"])
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("sushy-emulator starts");
        let mut peer = Self { process, dir, port };
        peer.wait();
        peer
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().expect("state of the process");
            assert!(ended.is_none() && Instant::now() < until, "sushy-emulator does not answer ({ended:?}): {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut f) = std::fs::File::open(self.dir.path().join("log")) {
            f.read_to_string(&mut text).ok();
        }
        text
    }

    /// A `driver_info` for it.
    pub fn driver_info(&self) -> Value {
        json!({
            "redfish_address": format!("http://127.0.0.1:{}", self.port),
            "redfish_username": "admin",
            "redfish_password": "password",
        })
    }
}

impl Drop for Sushy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Virtual environment with sushy-tools, made once per user.
fn environment() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))
        .expect("HOME or XDG_CACHE_HOME is set");
    let peers = cache.join("bessemer/peers");
    std::fs::create_dir_all(&peers).expect("cache directory");
    let venv = peers.join(SUSHY_TOOLS.replace("==", "-"));
    // Several test processes may find it missing at once: one makes it, the others wait for the lock.
    let lock = std::fs::File::create(peers.join("sushy-tools.lock")).expect("lock file");
    lock.lock().expect("lock");
    let done = venv.join(".complete");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), &venv);
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", SUSHY_TOOLS]), &venv);
        std::fs::write(&done, "").expect("marker");
    }
    venv
}

fn run(command: &mut Command, venv: &Path) {
    let shown = format!("{command:?}");
    let out = command.stdin(Stdio::null()).output();
    let why = match &out {
        Ok(o) if o.status.success() => return,
        Ok(o) => String::from_utf8_lossy(&o.stderr).into_owned(),
        Err(e) => e.to_string(),
    };
    panic!(
        "the tests against sushy-emulator need a Python environment with {SUSHY_TOOLS} in {}, and making it failed.\n\
         Install python3-venv and let pip reach a package index. {shown}: {why}",
        venv.display()
    );
}

/// Serves any path as a small image, `/missing` as 404; ends with the test process.
pub struct ImageServer {
    port: u16,
}

impl ImageServer {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.take_while(|l| !l.is_empty()).for_each(drop);
                let status = if first.contains("/missing") { "404 Not Found" } else { "200 OK" };
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nimage").ok();
            }
        });
        Self { port }
    }

    /// Address of an image.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}
