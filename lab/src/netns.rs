//! The lab's network (a bridge with fixed addresses) and its mounts.
//!
//! The mounts hide what a lab must not share with the computer or with another lab: libvirt's
//! sockets, state and configuration, and `/dev/kvm`. A present but unusable `/dev/kvm` makes
//! libvirt probe QEMU again at every definition (30 to 80 s); without it the probe takes 4 s once.
//!
//! Only ever called in the *main* process of a lab: it changes the namespaces of its caller.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::enter::Lab;
use crate::tool::{command, run};

/// Name of the bridge that every machine is connected to.
pub const BRIDGE: &str = "br0";
/// The lab's own address on the bridge: the daemon, the BMCs and the image server listen here.
pub const ADDRESS: &str = "172.30.0.1";

const LIMIT: Duration = Duration::from_secs(10);

/// Sets up network and mounts of the namespaces this process is in.
pub fn build(lab: &Lab) -> Result<()> {
    network().context("building the lab's network")?;
    mounts(lab).context("building the lab's mounts")
}

fn network() -> Result<()> {
    for line in [
        "link set lo up",
        "link add br0 type bridge forward_delay 0 stp_state 0",
        "addr replace 172.30.0.1/24 dev br0",
        "link set br0 up",
        "-6 addr replace fd00:1ab::1/64 dev br0 nodad",
    ] {
        run(command("ip").args(line.split(' ')), LIMIT)?;
    }
    Ok(())
}

fn mounts(lab: &Lab) -> Result<()> {
    // /run whole: pid files and sockets of any system daemon stay out of sight.
    for dir in ["/run", "/var/lib/libvirt", "/var/log/libvirt", "/etc/libvirt"] {
        std::fs::create_dir_all(dir)?;
        tmpfs(dir)?;
    }
    std::fs::create_dir_all("/run/lock")?;
    devices(&lab.dir("dev")?)
}

fn tmpfs(dir: &str) -> Result<()> {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).with_context(|| format!("mounting a tmpfs on {dir}"))
}

/// A small `/dev` without kvm.
fn devices(dev: &Path) -> Result<()> {
    mount(Some("tmpfs"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))?;
    let mut names: Vec<String> = ["null", "zero", "full", "random", "urandom", "tty", "loop-control"].map(String::from).to_vec();
    names.extend((0..8).map(|n| format!("loop{n}")));
    for name in names {
        let real = Path::new("/dev").join(&name);
        if real.exists() {
            bind(&real, &dev.join(&name))?;
        }
    }
    for dir in ["net", "shm", "pts"] {
        std::fs::create_dir(dev.join(dir))?;
    }
    bind(Path::new("/dev/net/tun"), &dev.join("net/tun"))?;
    mount(Some("/dev/pts"), &dev.join("pts"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(Some("tmpfs"), &dev.join("shm"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(link))?;
    }
    mount(Some(dev), "/dev", None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    std::fs::File::create(to)?;
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {} to {}", from.display(), to.display()))
}
