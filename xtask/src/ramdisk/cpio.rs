//! A cpio archive in the `newc` format, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format).
//!
//! Deterministic: entries sorted by name, owner 0, time 0, inode numbers in order.

use std::collections::BTreeMap;

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHAR: u32 = 0o020_000;

struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// An archive under construction. Parent folders are added as needed.
#[derive(Default)]
pub struct Archive(BTreeMap<String, Entry>);

impl Archive {
    /// Adds a folder and its parents.
    pub fn dir(&mut self, name: &str) {
        self.parents(name);
        self.0.entry(name.to_owned()).or_insert(Entry { mode: DIR | 0o755, device: (0, 0), data: Vec::new() });
    }

    /// Adds or replaces a file.
    pub fn file(&mut self, name: &str, mode: u32, data: Vec<u8>) {
        self.insert(name, Entry { mode: FILE | mode, device: (0, 0), data });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) {
        self.insert(name, Entry { mode: LINK | 0o777, device: (0, 0), data: to.as_bytes().to_vec() });
    }

    /// Adds a character device.
    pub fn node(&mut self, name: &str, mode: u32, major: u32, minor: u32) {
        self.insert(name, Entry { mode: CHAR | mode, device: (major, minor), data: Vec::new() });
    }

    fn insert(&mut self, name: &str, entry: Entry) {
        self.parents(name);
        self.0.insert(name.to_owned(), entry);
    }

    fn parents(&mut self, name: &str) {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.dir(parent);
        }
    }

    /// The archive's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (index, (name, entry)) in self.0.iter().enumerate() {
            write(&mut out, index + 1, name, entry);
        }
        write(&mut out, 0, "TRAILER!!!", &Entry { mode: 0, device: (0, 0), data: Vec::new() });
        // The kernel is content without, boot loaders align to 512.
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn write(out: &mut Vec<u8>, inode: usize, name: &str, entry: &Entry) {
    let links = if entry.mode & 0o170_000 == DIR { 2 } else { 1 };
    let fields = [
        inode,
        entry.mode as usize,
        0, // user
        0, // group
        links,
        0, // time
        entry.data.len(),
        0, // device of the file system
        0,
        entry.device.0 as usize,
        entry.device.1 as usize,
        name.len() + 1,
        0, // checksum
    ];
    out.extend(b"070701");
    for field in fields {
        out.extend(format!("{field:08X}").bytes());
    }
    out.extend(name.bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(&entry.data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_gives_the_same_bytes_in_any_order() {
        let mut a = Archive::default();
        a.file("lib/b", 0o644, b"two".to_vec());
        a.link("a", "/b");
        let mut b = Archive::default();
        b.link("a", "/b");
        b.file("lib/b", 0o644, b"two".to_vec());
        let bytes = a.finish();
        assert_eq!(bytes, b.finish());
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |needle: &str| text.find(needle).unwrap();
        assert!(at("lib\0") < at("lib/b\0"), "a folder comes before what is in it");
    }
}
