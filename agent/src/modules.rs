//! A small modprobe: finds the modules for a device's alias and loads them with what they need.
//!
//! Reads `modules.dep` and `modules.alias` as `depmod` writes them. Modules in the ramdisk are not
//! compressed one by one and keep their signatures, so that a locked-down kernel accepts them.
//! It never unloads anything.

use nix::kmod::{ModuleInitFlags, finit_module};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A module that takes this long is mentioned: boot time is counted in tenths of a second.
const SLOW: Duration = Duration::from_millis(100);

/// The modules of the running kernel.
pub struct Modules {
    dir: PathBuf,
    /// Module name to its file and the files it needs, nearest first.
    files: HashMap<String, Vec<String>>,
    /// Alias patterns by the text before their first `:` or wildcard.
    aliases: HashMap<String, Vec<(String, String)>>,
    loaded: Mutex<HashSet<String>>,
}

impl Modules {
    /// Reads the tables in `dir` (`/lib/modules/<release>`). Missing tables are empty tables.
    pub fn read(dir: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        Self::parse(dir, &text("modules.dep"), &text("modules.alias"))
    }

    fn parse(dir: &Path, dep: &str, alias: &str) -> Self {
        let mut files = HashMap::new();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let mut chain = vec![file.to_owned()];
                chain.extend(needs.split_whitespace().map(str::to_owned));
                files.insert(module_name(file), chain);
            }
        }
        let mut aliases: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                aliases.entry(bucket(pattern)).or_default().push((pattern.to_owned(), module.to_owned()));
            }
        }
        Self { dir: dir.to_owned(), files, aliases, loaded: Mutex::new(HashSet::new()) }
    }

    /// Names of the modules that say they drive `alias`, in table order.
    pub fn matching(&self, alias: &str) -> Vec<&str> {
        let exact = bucket(alias);
        let mut names = Vec::new();
        // Patterns that begin with a wildcard, or have one before their colon, stand under the shorter text.
        for key in [exact.as_str(), alias.get(..4).unwrap_or(alias), ""] {
            for (pattern, module) in self.aliases.get(key).into_iter().flatten() {
                if !names.contains(&module.as_str()) && glob(pattern.as_bytes(), alias.as_bytes()) {
                    names.push(module.as_str());
                }
            }
        }
        names
    }

    /// Loads what drives `alias` (a device's modalias, or a name such as `fs-vfat`). Says how many modules were new.
    pub fn load_alias(&self, alias: &str) -> usize {
        self.matching(alias).into_iter().map(|name| self.load(name)).sum()
    }

    /// Loads a module by name after the modules it needs. Says how many were new; a module that is not in the
    /// ramdisk, or whose device is absent, is not an error.
    pub fn load(&self, name: &str) -> usize {
        let Some(chain) = self.files.get(&name.replace('-', "_")) else {
            return 0;
        };
        chain.iter().rev().filter(|file| self.insert(file)).count()
    }

    fn insert(&self, file: &str) -> bool {
        let name = module_name(file);
        if !self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            return false;
        }
        let opened = match fs::File::open(self.dir.join(file)) {
            Ok(opened) => opened,
            Err(e) => {
                eprintln!("bessemer: module {name}: {e}");
                return false;
            }
        };
        let start = Instant::now();
        let outcome = finit_module(opened, c"", ModuleInitFlags::empty());
        if start.elapsed() > SLOW {
            eprintln!("bessemer: module {name} took {} ms", start.elapsed().as_millis());
        }
        match outcome {
            Ok(()) => true,
            // Already there (built in or loaded by the kernel's own request), or its hardware is not.
            Err(nix::Error::EEXIST | nix::Error::ENODEV) => false,
            Err(e) => {
                eprintln!("bessemer: module {name}: {}", e.desc());
                // What it lacked may come later.
                self.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                false
            }
        }
    }
}

/// Module name of a file: `kernel/drivers/net/virtio-net.ko` is `virtio_net`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split('.').next().unwrap_or(base).replace('-', "_")
}

/// The text by which a pattern is found: all before the first colon or wildcard.
fn bucket(pattern: &str) -> String {
    pattern.split([':', '*', '?', '[']).next().unwrap_or_default().to_owned()
}

/// Shell pattern match with `*`, `?` and `[a-b]`, as in `modules.alias`. Runs in pattern × text steps at worst.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if let Some(&c) = text.get(t) {
            let step = match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, t));
                    p += 1;
                    continue;
                }
                Some(b'?') => Some(p + 1),
                Some(b'[') => class(pattern, p, c),
                Some(&b) if b == c => Some(p + 1),
                _ => None,
            };
            if let Some(next) = step {
                p = next;
                t += 1;
            } else if let Some((after, from)) = star {
                p = after;
                t = from + 1;
                star = Some((after, from + 1));
            } else {
                return false;
            }
        } else {
            return pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'));
        }
    }
}

/// Matches `c` against the class that begins at `p`; gives the position after the class.
fn class(pattern: &[u8], p: usize, c: u8) -> Option<usize> {
    let body = pattern.get(p + 1..)?;
    let end = body.iter().position(|b| *b == b']')?;
    let mut rest = body.get(..end)?;
    while let Some(&low) = rest.first() {
        let (high, used) = match (rest.get(1), rest.get(2)) {
            (Some(b'-'), Some(&high)) => (high, 3),
            _ => (low, 1),
        };
        if (low..=high).contains(&c) {
            return Some(p + 1 + end + 1);
        }
        rest = rest.get(used..)?;
    }
    None
}

/// The folder of the running kernel's modules.
pub fn running_dir() -> PathBuf {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/lib/modules").join(release.trim())
}

/// What the kernel calls as `/sbin/modprobe -q -- <name>` when it wants a file system or an algorithm.
pub fn modprobe(args: &[String]) -> i32 {
    let modules = Modules::read(&running_dir());
    for name in args.iter().filter(|arg| !arg.starts_with('-')) {
        modules.load_alias(name);
        modules.load(name);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Modules {
        Modules::parse(
            Path::new("/nowhere"),
            "kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko\n",
            "# comment\nalias virtio:d00000001v* virtio_net\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias pci:v*d*sv*sd*bc01sc06i01* ahci\nalias acpi*:IPI0001:* ipmi_si\nalias fs-vfat vfat\n\
             alias of:N*T*Cfoo bad\nalias dmi*:svn[Dd]ell* dell\n",
        )
    }

    #[test]
    fn device_aliases_find_their_modules() {
        let t = table();
        assert_eq!(t.matching("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(t.matching("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"), ["virtio_pci"]);
        assert_eq!(t.matching("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"), ["ahci"]);
        assert_eq!(t.matching("acpi:IPI0001:"), ["ipmi_si"]);
        assert_eq!(t.matching("fs-vfat"), ["vfat"]);
        assert_eq!(t.matching("dmi:svnDell Inc."), ["dell"]);
        assert!(t.matching("usb:v1").is_empty());
    }

    #[test]
    fn modules_come_with_what_they_need_first() {
        let chain = &table().files["virtio_net"];
        assert_eq!(chain.len(), 3);
        assert_eq!(chain.last().unwrap(), "kernel/drivers/virtio/virtio.ko");
    }

    #[test]
    fn hostile_patterns_end_quickly() {
        let text = "a".repeat(2000);
        assert!(!glob(format!("{}b", "*a".repeat(20)).as_bytes(), text.as_bytes()));
        assert!(!glob(b"[", b"a"));
        assert!(!glob(b"[a-", b"a"));
        assert!(glob(b"", b""));
    }
}
