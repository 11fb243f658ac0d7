//! A private libvirtd for one lab, asked through `virsh`.
//!
//! It runs in the lab's own namespaces (see [`crate::netns`]), without systemd, control groups,
//! security drivers or the log daemon. It emulates in software only: no KVM.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::enter::Lab;
use crate::tool::{self, Guarded, command, run};

/// Where clients find it.
pub const URI: &str = "qemu:///system";

const LIMIT: Duration = Duration::from_secs(90);

const QEMU_CONF: &str = r#"security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
max_processes = 0
"#;

/// A running libvirtd; ended on drop.
#[derive(Debug)]
pub struct Libvirt {
    _daemon: Guarded,
}

impl Libvirt {
    /// Starts libvirtd and waits until it answers. Defines the storage pool `default`, where
    /// emulated BMCs put virtual media.
    pub fn start(lab: &Lab) -> Result<Self> {
        let dir = lab.dir("libvirt")?;
        let log = lab.log("libvirtd.log")?;
        std::fs::write("/etc/libvirt/qemu.conf", QEMU_CONF)?;
        let config = dir.join("libvirtd.conf");
        std::fs::write(
            &config,
            format!(
                "unix_sock_group = \"root\"\nauth_unix_rw = \"none\"\nlog_filters = \"3:qemu 3:libvirt\"\nlog_outputs = \"3:file:{}\"\n",
                log.display()
            ),
        )?;
        let mut start = command("libvirtd");
        start.arg("-f").arg(&config).arg("-p").arg(dir.join("libvirtd.pid"));
        let daemon = Guarded::start(&mut start, &lab.log("libvirtd.out")?)?;
        let libvirt = Self { _daemon: daemon };
        tool::until("libvirtd answering", LIMIT, || Path::new("/run/libvirt/libvirt-sock").exists() && libvirt.virsh(&["version"]).is_ok())
            .map_err(|error| anyhow!("{error:#}; its log ends: {}", tool::log_tail(&log, 10)))?;
        let pool = lab.dir("pool")?;
        let pool = pool.to_str().context("the state folder's name is not text")?;
        libvirt.virsh(&["pool-create-as", "default", "dir", "--target", pool])?;
        Ok(libvirt)
    }

    /// Runs one `virsh` command and returns what it printed.
    pub fn virsh(&self, args: &[&str]) -> Result<String> {
        run(command("virsh").args(["-q", "-c", URI]).args(args), LIMIT)
    }

    /// Defines a domain from its XML.
    pub fn define(&self, xml: &Path) -> Result<()> {
        self.virsh(&["define", &xml.display().to_string()]).map(drop)
    }

    /// Whether the domain is powered on.
    pub fn running(&self, domain: &str) -> Result<bool> {
        Ok(self.virsh(&["domstate", domain])?.trim() == "running")
    }

    /// Powers a domain on; no error when it is on.
    pub fn power_on(&self, domain: &str) -> Result<()> {
        if self.running(domain)? { Ok(()) } else { self.virsh(&["start", domain]).map(drop) }
    }

    /// Cuts a domain's power; no error when it is off.
    pub fn power_off(&self, domain: &str) -> Result<()> {
        if self.running(domain)? { self.virsh(&["destroy", domain]).map(drop) } else { Ok(()) }
    }
}
