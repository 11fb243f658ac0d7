//! What the IPMI tests share: settings with short waits, nodes, and peers that share nothing with this project:
//! the real ipmitool, OpenIPMI's ipmi_sim, and the BMC of virtualbmc.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bessemer_drivers::ipmi::{IpmiConfig, IpmiEndpoint, Timing};
use bessemer_model::ids::NodeId;
use bessemer_model::node::{Node, NodeSpec, NodeStatus};
use bessemer_model::secret::Secret;
use bessemer_model::state::ProvisionState;
use serde_json::Value;
use virtualbmc_fixtures::ipmi::{IpmiBmc, IpmiBmcConfig};
use virtualbmc_fixtures::machine::Machine;

/// Short waits.
pub fn quick() -> IpmiConfig {
    IpmiConfig {
        timing: Timing {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_millis(400),
            tries: 4,
            idle: Duration::from_secs(60),
        },
        ..IpmiConfig::default()
    }
}

/// Waits for peers in other processes on a busy machine.
pub fn patient() -> IpmiConfig {
    IpmiConfig { timing: Timing { first_wait: Duration::from_millis(500), ..quick().timing }, ..quick() }
}

/// User `admin`, password `password` on 127.0.0.1.
pub fn endpoint_at(port: u16) -> IpmiEndpoint {
    let mut e = IpmiEndpoint::new("127.0.0.1", "admin", Secret::new("password".into()));
    e.port = port;
    e.timeout = Duration::from_secs(10);
    e
}

/// A BMC of the fixtures.
pub async fn bmc(config: IpmiBmcConfig) -> IpmiBmc {
    IpmiBmc::start(Machine::new("node-0"), config).await.expect("a free port")
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
            driver: "ipmi".to_owned(),
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

/// A UDP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port").port()
}

/// Runs ipmitool against 127.0.0.1; gives its exit status and both outputs.
pub fn ipmitool(port: u16, args: &[&str]) -> (bool, String) {
    let out = Command::new("ipmitool")
        .args(["-I", "lanplus", "-H", "127.0.0.1", "-p", &port.to_string(), "-U", "admin", "-P", "password", "-R", "2", "-N", "1"])
        .args(args)
        .stdin(Stdio::null())
        .output();
    let Ok(Output { status, stdout, stderr }) = out else {
        panic!("ipmitool does not run: install the Debian package ipmitool");
    };
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// ipmitool as above, off the async threads; must succeed.
pub async fn ipmitool_ok(port: u16, args: &[&str]) -> String {
    let owned: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    let (ok, text) = tokio::task::spawn_blocking(move || ipmitool(port, &owned.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .expect("ipmitool ran");
    assert!(ok, "ipmitool {args:?}: {text}");
    text
}

/// A process of a peer, ended with this value.
pub struct Peer {
    process: Child,
    /// Its files.
    pub dir: tempfile::TempDir,
    /// Its UDP port.
    pub port: u16,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Peer {
    fn start(mut command: Command, dir: tempfile::TempDir, port: u16, missing: &str) -> Self {
        let log = std::fs::File::create(dir.path().join("output")).expect("log");
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{:?} does not run ({e}): {missing}", command.get_program()));
        let mut peer = Self { process, dir, port };
        peer.wait();
        peer
    }

    /// Until it answers Get Channel Authentication Capabilities.
    fn wait(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let ask = hex::decode("0600ff07000000000000000000092018c88100388e04b5").expect("hex");
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let ended = self.process.try_wait().expect("state of the process");
            assert!(ended.is_none() && Instant::now() < until, "the peer does not answer ({ended:?}): {}", self.read("output"));
            let sent = socket.send_to(&ask, ("127.0.0.1", self.port)).is_ok();
            if sent && socket.recv(&mut [0; 64]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One of its files, trimmed; empty when missing.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default().trim().to_owned()
    }

    /// OpenIPMI's ipmi_sim: suites 0 to 3, one sensor of 42 degrees, one event. Power and boot device in the files `power` and `boot`.
    pub fn ipmi_sim() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let chassis = dir.path().join("chassis.sh");
        write(&chassis, CHASSIS_SH);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&chassis, mode).expect("permissions");
        let methods = ["callback", "user", "operator", "admin"].map(|l| format!("allowed_auths_{l} none md2 md5 straight\n")).concat();
        let lan = format!(
            "name \"sim\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n{methods}\
             guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{} 0x20\"\n\
             user 1 true \"\" \"\" user 10 none md2 md5 straight\nuser 2 true \"admin\" \"password\" admin 10 none md2 md5 straight\n",
            chassis.display()
        );
        write(&dir.path().join("lan.conf"), &lan);
        write(&dir.path().join("sim.emu"), SIM_EMU);
        std::fs::create_dir(dir.path().join("state")).expect("state directory");
        let mut c = Command::new("ipmi_sim");
        c.current_dir(dir.path()).args(["-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"]);
        Self::start(c, dir, port, "install the Debian package openipmi")
    }

    /// The BMC of virtualbmc with pyghmi, in front of a libvirt that only remembers: files `active`, `xml` and `calls`.
    pub fn virtualbmc() -> Self {
        let python = environment().join("bin/python3");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        write(&dir.path().join("serve.py"), VBMC_PY);
        let mut c = Command::new(python);
        c.current_dir(dir.path()).args(["serve.py", &port.to_string()]);
        Self::start(c, dir, port, "install the Debian packages python3 and python3-venv")
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file of the peer");
}

const CHASSIS_SH: &str = r#"#!/bin/sh
# chassis_control program of ipmi_sim: MC, verb, names (and values)
dir=$(dirname "$0")
shift
verb=$1
shift
case $verb in
get) while [ $# -gt 0 ]; do echo "$1:$(cat "$dir/$1" 2>/dev/null || echo 0)"; shift; done ;;
set) while [ $# -gt 1 ]; do echo "$2" >"$dir/$1"; shift 2; done ;;
esac
"#;

const SIM_EMU: &str = "mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
sensor_add 0x20 0 1 0x01 0x01
sensor_set_value 0x20 0 1 42 0
main_sdr_add 0x20 0x00 0x00 0x51 0x01 0x2f 0x20 0x00 0x01 0x07 0x01 0x7f 0x68 0x01 0x01 0x00 0x00 0x00 0x00 0x18 0x00 0x00 0x01 0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0xff 0x00 0xf0 0xe0 0xd0 0x02 0x05 0x08 0x02 0x02 0x00 0x00 0x00 0xc4 0x54 0x65 0x6d 0x70
sel_add 0x20 0x02 0x80 0x1a 0x00 0x00 0x20 0x00 0x04 0x01 0x01 0x01 0x57 0xe0 0xd0
sensor_set_event_support 0x20 0 1 enable scanning per-state 000000000000000 000000000000000 000000000000000 000000000000000
";

const VBMC_PY: &str = r#"
import os, sys, types
def note(call):
    with open('calls', 'a') as f:
        f.write(call + '\n')
class Domain:
    def isActive(self): return os.path.exists('active')
    def create(self): note('create'); open('active', 'w').close()
    def destroy(self): note('destroy'); os.unlink('active')
    def shutdown(self):
        note('shutdown')
        if not os.path.exists('deaf'): os.unlink('active')
    def reset(self, *a): note('reset')
    def injectNMI(self, *a): note('nmi')
    def XMLDesc(self, flags=0):
        try: return open('xml').read()
        except FileNotFoundError: return '<domain><os><boot dev="hd"/></os><devices/></domain>'
class Connection:
    def lookupByName(self, name): return Domain()
    def defineXML(self, xml):
        with open('xml', 'w') as f: f.write(xml)
    def close(self): pass
libvirt = types.ModuleType('libvirt')
libvirt.libvirtError = type('libvirtError', (Exception,), {})
libvirt.VIR_DOMAIN_XML_SECURE = 1
libvirt.open = libvirt.openReadOnly = lambda uri: Connection()
sys.modules['libvirt'] = libvirt
os.environ['HOME'] = os.getcwd()
from virtualbmc.vbmc import VirtualBMC
VirtualBMC('admin', 'password', int(sys.argv[1]), '127.0.0.1', 'node', 'test:///default').listen(timeout=5)
"#;

const VIRTUALBMC: &[&str] = &["virtualbmc==3.3.0", "pyghmi==1.6.19"];

/// Virtual environment with virtualbmc (without libvirt, which has to be compiled), made once per user.
fn environment() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))
        .expect("HOME or XDG_CACHE_HOME is set");
    let peers = cache.join("bessemer/peers");
    std::fs::create_dir_all(&peers).expect("cache directory");
    let venv = peers.join("virtualbmc-3.3.0-without-libvirt");
    // Several test processes may find it missing at once: one makes it, the others wait for the lock.
    let lock = std::fs::File::create(peers.join("virtualbmc-without-libvirt.lock")).expect("lock file");
    lock.lock().expect("lock");
    let done = venv.join(".complete");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let pip = || {
            let mut c = Command::new(venv.join("bin/pip"));
            c.args(["install", "--quiet", "--disable-pip-version-check"]);
            c
        };
        run(pip().args(["--no-deps", VIRTUALBMC[0]]));
        run(pip().args([VIRTUALBMC[1], "pbr", "setuptools<81"]));
        std::fs::write(&done, "").expect("marker");
    }
    venv
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let out = command.stdin(Stdio::null()).output();
    match &out {
        Ok(o) if o.status.success() => {}
        Ok(o) => panic!("{shown} failed: {}", String::from_utf8_lossy(&o.stderr)),
        Err(e) => panic!("{shown} does not run ({e}): install the Debian packages python3 and python3-venv"),
    }
}
