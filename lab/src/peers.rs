//! The Python programs that our own are tested against: virtual environments under the user's
//! cache folder, each made once from exact versions on PyPI.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::tool::{command, run};

/// A virtual environment: its name and what pip installs into it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Name of its folder.
    pub name: &'static str,
    /// Requirements as pip takes them.
    pub needs: &'static [&'static str],
}

/// The BMC emulators: `sushy-emulator`, `vbmcd`.
pub const BMC: Peer = Peer { name: "bmc", needs: &["sushy-tools==2.2.0", "virtualbmc==3.3.0", "libvirt-python<9.1", "setuptools"] };
/// The `baremetal` command of OpenStack's client.
pub const IRONIC_CLIENT: Peer = Peer { name: "ironicclient", needs: &["python-ironicclient==6.3.0", "setuptools"] };
/// OpenStack Ironic itself, with the client of agents that its conductor uses.
pub const IRONIC: Peer = Peer { name: "ironic", needs: &["ironic==39.0.0", "setuptools"] };
/// OpenStack Keystone.
pub const KEYSTONE: Peer = Peer { name: "keystone", needs: &["keystone==30.0.0", "cheroot", "setuptools<81"] };
/// The acceptance suite of Ironic's API.
pub const TEMPEST: Peer = Peer { name: "tempest", needs: &["tempest==47.0.0", "ironic-tempest-plugin==3.2.0", "setuptools<81"] };
/// OpenStack Nova with its ironic driver, and the SDK through which that driver speaks.
pub const NOVA: Peer = Peer { name: "nova", needs: &["nova==34.0.0", "openstacksdk==4.22.0", "setuptools<82"] };
/// OpenStack's SDK alone.
pub const SDK: Peer = Peer { name: "openstacksdk", needs: &["openstacksdk==4.22.0", "setuptools"] };
/// The tester of APIs by their description.
pub const SCHEMATHESIS: Peer = Peer { name: "schemathesis", needs: &["schemathesis==4.32.5"] };
/// Every environment that the demo and the usual tests need.
pub const USUAL: &[Peer] = &[BMC, IRONIC_CLIENT];

/// Folder of our own programs that run in these environments.
pub const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers");

/// Folder for everything that is slow to make and the same for every checkout:
/// `$XDG_CACHE_HOME/bessemer`, or `~/.cache/bessemer`.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("bessemer")
}

impl Peer {
    /// Folder of the environment.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        cache().join("peers").join(self.name)
    }

    /// One of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder().join("bin").join(name)
    }

    /// Whether it is complete and of exactly these requirements.
    #[must_use]
    pub fn ready(&self) -> bool {
        std::fs::read_to_string(self.mark()).is_ok_and(|text| text == self.needs.join("\n"))
    }

    /// Makes the environment when it is not there. Needs PyPI then; other processes that want
    /// the same one wait.
    pub fn ensure(&self) -> Result<()> {
        if self.ready() {
            return Ok(());
        }
        std::fs::create_dir_all(cache().join("peers"))?;
        let lock = std::fs::File::create(cache().join("peers").join(format!("{}.lock", self.name)))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context("waiting for another process that makes the same environment")?;
        if self.ready() {
            return Ok(());
        }
        let limit = Duration::from_secs(600);
        let python = if PathBuf::from("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
        let _ = std::fs::remove_file(self.mark());
        run(command(python).args(["-m", "venv", "--clear"]).arg(self.folder()), limit)
            .context("making a Python environment (needs python3-venv)")?;
        let mut pip = command(&self.program("pip").display().to_string());
        pip.args(["install", "-q", "--disable-pip-version-check"]).args(self.needs);
        run(&mut pip, limit).with_context(|| format!("installing {}", self.needs.join(" ")))?;
        std::fs::write(self.mark(), self.needs.join("\n"))?;
        Ok(())
    }

    fn mark(&self) -> PathBuf {
        self.folder().join("complete")
    }
}
