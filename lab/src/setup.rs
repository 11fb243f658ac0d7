//! Installing what the lab needs on a fresh Debian machine. Quick when all is there.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::kernel::{Flavour, Kernel};
use crate::peers;
use crate::tool::{command, find, output, run, show};

/// Debian packages: programs that the lab, the image builder and the tests run.
pub const PACKAGES: &[&str] = &[
    "busybox-static",
    "cpio",
    "curl",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "gcc",
    "genisoimage",
    "gdisk",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "gzip",
    "iproute2",
    "ipmitool",
    "ipxe",
    "ipxe-qemu",
    "kmod",
    "libc6-dev",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-system",
    "libvirt-dev",
    "mtools",
    "musl-tools",
    "openipmi",
    "ovmf",
    "parted",
    "pkg-config",
    "postgresql",
    "python3",
    "python3-dev",
    "python3-venv",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "shim-signed",
    "tftp-hpa",
    "util-linux",
    "xorriso",
    "xz-utils",
    "zstd",
];

/// The target that the ramdisk's agent is built for.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Installs everything; says each step on standard error. Needs root and the package registries
/// only when something is missing.
pub fn all() -> Result<()> {
    packages()?;
    target()?;
    for peer in peers::USUAL {
        step(&format!("Python environment {}", peer.name), peer.ready(), || peer.ensure())?;
    }
    for flavour in [Flavour::Cloud, Flavour::Generic] {
        Kernel::fetch(flavour).context("getting Debian's kernels")?;
    }
    Ok(())
}

/// Packages of the servers that benchmarks compare with.
pub const PEER_SERVERS: &[&str] = &["curl", "dnsmasq-base", "nginx-light", "tftpd-hpa"];

/// Installs these packages where they are missing.
pub fn install(names: &[&'static str]) -> Result<()> {
    let missing = missing(names)?;
    step(&format!("Debian packages {}", missing.join(" ")), missing.is_empty(), || install_now(&missing))
}

fn step(what: &str, done: bool, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if done {
        return Ok(());
    }
    eprint!("setup: {what} …");
    let start = Instant::now();
    let result = work();
    eprintln!(" {} s", start.elapsed().as_secs());
    result.with_context(|| format!("setup: {what}"))
}

/// Those of the packages that are not installed.
pub fn missing(names: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut ask = command("dpkg-query");
    ask.args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(names);
    // dpkg-query fails when it knows one of the names not at all; its answer on the rest counts.
    let answer = output(&mut ask, Duration::from_secs(30))?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let installed = |name: &str| text.lines().any(|line| line == format!("{name} installed"));
    Ok(names.iter().copied().filter(|name| !installed(name)).collect())
}

fn packages() -> Result<()> {
    ensure!(find("dpkg-query").is_some(), "this set-up knows Debian only");
    let missing = missing(PACKAGES)?;
    let lists = has_lists();
    step("apt-get update", lists && missing.is_empty(), || apt(&["update"]))?;
    step(&format!("Debian packages {}", missing.join(" ")), missing.is_empty(), || install_now(&missing))
}

fn install_now(missing: &[&str]) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "not root: run `apt-get install {}` and try again", missing.join(" "));
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(missing);
    if let Err(first) = apt(&install) {
        // Where qemu-utils came from backports, the stable emulator does not go with it.
        let stable = format!("qemu-utils/{}", codename()?);
        let mut retry = vec!["install", "-y", "--no-install-recommends", "--allow-downgrades", &stable];
        retry.extend(missing.iter().filter(|name| **name != "qemu-utils"));
        apt(&retry).with_context(|| format!("after a first try failed with {first:#}"))?;
    }
    Ok(())
}

/// Whether apt knows packages at all (kernels are downloaded by name later).
fn has_lists() -> bool {
    let mut ask = command("apt-cache");
    ask.args(["show", "linux-image-cloud-amd64"]);
    run(&mut ask, Duration::from_secs(60)).is_ok_and(|text| text.contains("Package:"))
}

fn apt(args: &[&str]) -> Result<()> {
    let mut apt = command("apt-get");
    apt.args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]).args(args);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt, Duration::from_secs(1200)).map(drop)
}

fn codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release")
}

fn target() -> Result<()> {
    let sysroot = run(command("rustc").args(["--print", "sysroot"]), Duration::from_secs(60))?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET);
    step(&format!("Rust target {TARGET}"), folder.exists(), || {
        let mut add = command("rustup");
        add.args(["target", "add", TARGET]);
        if find("rustup").is_none() {
            bail!("rustc lacks it and there is no rustup to run `{}`", show(&add));
        }
        run(&mut add, Duration::from_secs(600)).map(drop)
    })
}
