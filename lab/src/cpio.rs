//! Writing a cpio archive in the `newc` format that the kernel unpacks as initial ramdisk.
//! The same input gives the same bytes: owner root, time zero, entries in the order given.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// An archive being written.
#[derive(Debug, Default)]
pub struct Cpio {
    out: Vec<u8>,
    inode: u32,
    folders: BTreeMap<String, ()>,
}

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;

impl Cpio {
    /// Adds a folder and those above it, each once.
    pub fn folder(&mut self, path: &str) {
        let mut above = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !above.is_empty() {
                above.push('/');
            }
            above.push_str(part);
            if self.folders.insert(above.clone(), ()).is_none() {
                self.entry(&above.clone(), FOLDER, &[]);
            }
        }
    }

    /// Adds a file with permission bits `mode`.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.above(path);
        self.entry(path, FILE | mode, content);
    }

    /// Adds a copy of a file.
    pub fn copy(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, mode, &content);
        Ok(())
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.above(path);
        self.entry(path, LINK, target.as_bytes());
    }

    /// Ends the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.out
    }

    fn above(&mut self, path: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0,
        ];
        self.out.extend(b"070701");
        for field in fields {
            self.out.extend(format!("{field:08x}").bytes());
        }
        self.out.extend(path.bytes());
        self.out.push(0);
        self.pad();
        self.out.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tool::{command, run};

    #[test]
    fn cpio_itself_lists_what_was_written() {
        let mut cpio = Cpio::default();
        cpio.file("etc/a/name", 0o644, b"x");
        cpio.link("bin/sh", "busybox");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), cpio.finish()).unwrap();
        let mut list = command("cpio");
        list.args(["-t", "--quiet", "-F"]).arg(file.path());
        let text = run(&mut list, Duration::from_secs(5)).unwrap();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["etc", "etc/a", "etc/a/name", "bin", "bin/sh"]);
    }
}
