//! The machine's hardware, read from `/proc`, `/sys` and the firmware's tables.
//!
//! Each part takes a root path or bytes, so that recorded machines can be read as well as this one. What cannot
//! be read is left out, never guessed; nothing here writes anywhere.

pub mod bmc;
pub mod boot;
pub mod cpu;
pub mod dmi;
pub mod lldp;
pub mod mem;
pub mod nic;
pub mod numa;
pub mod pci;
pub mod usb;

use crate::params::Settings;
use bessemer_agent_types::inventory::{Disk, Inventory};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest attribute that is read.
const MAX_TEXT: usize = 1024 * 1024;

/// Root folder under which `proc` and `sys` are read.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Reads under `path`; `/` is this machine.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Full path of `name`, given without a leading slash.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Trimmed text of a file; none when absent, empty or not to be read.
    pub fn text(&self, name: &str) -> Option<String> {
        text(&self.path(name))
    }

    /// Names in a folder, sorted; empty when there is none.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Last part of where a link points to.
    pub fn link_name(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.path(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}

/// Trimmed text of a file, at most a megabyte.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(MAX_TEXT))?).trim().trim_matches('\0').trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The whole inventory. Blocking: call it off the event loop. Takes a moment where there is a BMC.
pub fn inventory(settings: &Settings, disks: Vec<Disk>, skip_bmc: bool) -> Inventory {
    let root = Root::new(&settings.root);
    let table = dmi::Table::read(&root);
    let bmc = if skip_bmc { None } else { Some(bmc::find(Path::new("/dev/ipmi0"))) };
    Inventory {
        interfaces: nic::interfaces(&root, &nic::addresses()),
        cpu: cpu::cpu(&root),
        disks,
        memory: mem::memory(&root, &table),
        bmc_address: bmc.as_ref().map(|bmc| bmc.address.clone().unwrap_or_else(|| "0.0.0.0".into())),
        bmc_v6address: bmc.as_ref().map(|bmc| bmc.v6_address.clone().unwrap_or_else(|| "::/0".into())),
        bmc_mac: bmc.and_then(|bmc| bmc.mac),
        system_vendor: dmi::system_vendor(&root),
        boot: boot::boot(&root, settings.boot_mac.as_deref()),
        hostname: root.text("proc/sys/kernel/hostname"),
    }
}

#[cfg(test)]
pub(crate) mod recorded {
    //! Recorded trees for tests.
    use super::Root;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A tree in a temporary folder: files `path=content`, links `path->target`.
    pub fn tree(entries: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in entries {
            let full = dir.path().join(path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            match content.strip_prefix("->") {
                Some(target) => symlink(target, full).unwrap(),
                None => fs::write(full, content).unwrap(),
            }
        }
        let root = Root::new(dir.path());
        (dir, root)
    }
}
