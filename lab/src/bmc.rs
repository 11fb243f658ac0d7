//! Real BMC emulators in front of the machines: sushy-emulator (Redfish) and virtualbmc (IPMI).
//!
//! Both come from PyPI (see [`crate::setup`]); they talk to the lab's libvirtd. They share no
//! code with the clients under test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::enter::Lab;
use crate::libvirt::URI;
use crate::machines::Machine;
use crate::netns::ADDRESS;
use crate::tool::{self, Guarded};
use crate::{http, peers};

/// User name of every emulated BMC.
pub const USER: &str = "admin";
/// Password of every emulated BMC.
pub const PASSWORD: &str = "password";
/// Port of the Redfish service.
pub const REDFISH_PORT: u16 = 8000;
/// Port of the first machine's IPMI BMC; the others follow.
pub const IPMI_PORT: u16 = 6230;

const LIMIT: Duration = Duration::from_secs(60);

/// A running sushy-emulator: one Redfish service with all machines of the lab as its systems.
#[derive(Debug)]
pub struct Redfish {
    process: Guarded,
    config: PathBuf,
    log: PathBuf,
}

impl Redfish {
    /// Starts it and waits until it answers. HTTP basic authentication is on.
    pub fn start(lab: &Lab) -> Result<Self> {
        let dir = lab.dir("sushy")?;
        let htpasswd = dir.join("htpasswd");
        // bcrypt of PASSWORD at cost 4: every request is checked against it.
        std::fs::write(&htpasswd, format!("{USER}:{PASSWORD_BCRYPT}\n"))?;
        let config = dir.join("sushy.conf");
        std::fs::write(
            &config,
            format!(
                "SUSHY_EMULATOR_LISTEN_IP = '{ADDRESS}'
SUSHY_EMULATOR_LISTEN_PORT = {REDFISH_PORT}
SUSHY_EMULATOR_SSL_CERT = None
SUSHY_EMULATOR_SSL_KEY = None
SUSHY_EMULATOR_LIBVIRT_URI = '{URI}'
SUSHY_EMULATOR_STATE_DIR = '{dir}'
SUSHY_EMULATOR_IGNORE_BOOT_DEVICE = False
SUSHY_EMULATOR_AUTH_FILE = '{htpasswd}'
SUSHY_EMULATOR_BOOT_LOADER_MAP = {{
    'UEFI': {{'x86_64': '/usr/share/OVMF/OVMF_CODE_4M.fd'}},
    'Legacy': {{'x86_64': '/usr/share/seabios/bios-256k.bin'}},
}}
SUSHY_EMULATOR_SECURE_BOOT_ENABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.ms.fd'
SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.fd'
",
                dir = dir.display(),
                htpasswd = htpasswd.display(),
            ),
        )?;
        let log = lab.log("sushy.log")?;
        let mut redfish = Self { process: Self::spawn(&config, &log)?, config, log };
        redfish.wait()?;
        Ok(redfish)
    }

    fn spawn(config: &Path, log: &Path) -> Result<Guarded> {
        let mut start = tool::command(&peers::BMC.program("sushy-emulator").display().to_string());
        Guarded::start(start.arg("--config").arg(config), log)
    }

    fn wait(&mut self) -> Result<()> {
        let url = format!("{}/redfish/v1/", self.url());
        tool::until("sushy-emulator answering", LIMIT, || http::get(&url, Duration::from_secs(5)).is_ok())
            .map_err(|error| anyhow!("{error}; its log ends: {}", tool::log_tail(&self.log, 10)))
    }

    /// Address of the service, `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{ADDRESS}:{REDFISH_PORT}")
    }

    /// Path of a machine's system resource.
    #[must_use]
    pub fn system(machine: &Machine) -> String {
        format!("/redfish/v1/Systems/{}", machine.spec.uuid)
    }

    /// Makes the BMC silent (the process is killed).
    pub fn silence(&mut self) {
        self.process.kill();
    }

    /// Brings a silenced BMC back.
    pub fn revive(&mut self) -> Result<()> {
        self.process = Self::spawn(&self.config, &self.log)?;
        self.wait()
    }
}

/// bcrypt (cost 4) of [`PASSWORD`].
const PASSWORD_BCRYPT: &str = "$2b$04$a49YgdxUpcPgSVSig9xVgufvTW3cgLdwciHpvkPlz8T4MT1.3L9c6";

/// A running vbmcd: one IPMI BMC per machine, all on the lab's address, ports from [`IPMI_PORT`].
#[derive(Debug)]
pub struct Ipmi {
    _process: Guarded,
}

impl Ipmi {
    /// Starts it for these machines and waits until each BMC answers on its port.
    pub fn start(lab: &Lab, machines: &[Machine]) -> Result<Self> {
        let dir = lab.dir("vbmc")?;
        let log = lab.log("vbmc.log")?;
        for (port, machine) in (IPMI_PORT..).zip(machines) {
            let name = &machine.spec.name;
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(
                folder.join("config"),
                format!(
                    "[VirtualBMC]\nusername = {USER}\npassword = {PASSWORD}\naddress = {ADDRESS}\nport = {port}\n\
                     domain_name = {name}\nlibvirt_uri = {URI}\nactive = True\n"
                ),
            )?;
        }
        let config = lab.dir("vbmc-config")?.join("virtualbmc.conf");
        std::fs::write(
            &config,
            format!(
                "[default]\nconfig_dir={}\npid_file={}\nserver_port=50891\n[log]\nlogfile={}\n",
                dir.display(),
                dir.with_extension("pid").display(),
                log.display()
            ),
        )?;
        let mut start = tool::command(&peers::BMC.program("vbmcd").display().to_string());
        start.arg("--foreground").env("VIRTUALBMC_CONFIG", &config);
        let process = Guarded::start(&mut start, &lab.log("vbmcd.out")?)?;
        for (port, _) in (IPMI_PORT..).zip(machines) {
            tool::until(&format!("virtualbmc answering on port {port}"), LIMIT, || ping(port).is_ok())
                .map_err(|error| anyhow!("{error}; its log ends: {}", tool::log_tail(&log, 10)))?;
        }
        Ok(Self { _process: process })
    }
}

/// IPMI 2.0 section 13.13 "Get Channel Authentication Capabilities" outside of a session:
/// the one question that every BMC answers to a stranger.
fn ping(port: u16) -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let (address, function) = ([0x20, 0x18], [0x81, 0x00, 0x38, 0x8e, 0x04]);
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    let mut packet = vec![0x06, 0x00, 0xff, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    packet.extend(address);
    packet.push(sum(&address));
    packet.extend(function);
    packet.push(sum(&function));
    socket.send_to(&packet, (ADDRESS, port))?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    ensure!(length > 20, "short answer");
    Ok(())
}
