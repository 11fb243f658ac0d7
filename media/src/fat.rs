//! FAT16 and FAT32 images with long names, as EFI system partitions need them (Microsoft FAT specification 1.03).
//!
//! Everything is laid out front to back: boot sector, FATs, root, directories, files, each file in one run of clusters.

use std::collections::HashSet;
use std::io::{self, Write};

use crate::error::MediaError;
use crate::tree::{Content, Entry, Tree, write_content, zeros};

const SECTOR: u64 = 512;
const ENTRY: usize = 32;
const ROOT_ENTRIES_16: u64 = 512;
/// Least and most clusters of a FAT16 volume (below it is FAT12, above FAT32), with some distance kept.
const FAT16_CLUSTERS: (u64, u64) = (4_085 + 16, 65_525 - 16);
const FAT32_MIN_CLUSTERS: u64 = 65_525 + 16;
/// 1980-01-01, the first date that FAT knows.
const DATE: u16 = 0x0021;
const ATTR_DIR: u8 = 0x10;
const ATTR_FILE: u8 = 0x20;
const ATTR_LABEL: u8 = 0x08;
const ATTR_LONG: u8 = 0x0f;

/// Which FAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FatKind {
    /// Up to 2 GiB.
    Fat16,
    /// From 32 MiB.
    Fat32,
}

/// One file or directory with its place.
struct Node<'a> {
    name: String,
    short: [u8; 11],
    long: bool,
    first: u64,
    clusters: u64,
    what: What<'a>,
}

enum What<'a> {
    File { path: String, content: &'a dyn Content },
    Dir(Vec<usize>),
}

/// A FAT image, laid out and ready to be written.
pub struct FatImage<'a> {
    kind: FatKind,
    label: [u8; 11],
    per_cluster: u64,
    clusters: u64,
    fat_sectors: u64,
    /// Index 0 is the root; parents come before children.
    nodes: Vec<Node<'a>>,
    parents: Vec<usize>,
    order: Vec<usize>,
}

impl std::fmt::Debug for FatImage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FatImage").field("kind", &self.kind).field("bytes", &Content::len(self)).finish_non_exhaustive()
    }
}

impl<'a> FatImage<'a> {
    /// Lays out `tree`. `free` bytes stay free. FAT16 unless the content is too large for it.
    pub fn new(label: &str, tree: &'a Tree<'a>, free: u64) -> Result<Self, MediaError> {
        match Self::of_kind(FatKind::Fat16, label, tree, free) {
            Err(MediaError::TooLarge { .. }) => Self::of_kind(FatKind::Fat32, label, tree, free),
            other => other,
        }
    }

    /// The same with the kind chosen.
    pub fn of_kind(kind: FatKind, label: &str, tree: &'a Tree<'a>, free: u64) -> Result<Self, MediaError> {
        let mut nodes =
            vec![Node { name: String::new(), short: [b' '; 11], long: false, first: 0, clusters: 0, what: What::Dir(Vec::new()) }];
        let mut parents = vec![0];
        collect(tree, 0, "", &mut nodes, &mut parents)?;
        let mut image =
            Self { kind, label: volume_label(label), per_cluster: 1, clusters: 0, fat_sectors: 0, nodes, parents, order: Vec::new() };
        loop {
            let needed = image.place();
            let wanted = needed + free.div_ceil(image.per_cluster * SECTOR);
            let fits = match kind {
                FatKind::Fat16 => wanted <= FAT16_CLUSTERS.1,
                // 2^21 clusters keep the FATs at 8 MiB each.
                FatKind::Fat32 => wanted <= 1 << 21 || image.per_cluster == 64,
            };
            if fits {
                image.clusters = match kind {
                    FatKind::Fat16 => wanted.max(FAT16_CLUSTERS.0),
                    FatKind::Fat32 => wanted.max(FAT32_MIN_CLUSTERS),
                };
                break;
            }
            if image.per_cluster == 64 {
                let limit = FAT16_CLUSTERS.1 * 64 * SECTOR;
                return Err(MediaError::TooLarge { what: "the content of a FAT16 image".to_owned(), limit, unit: "bytes" });
            }
            image.per_cluster *= 2;
        }
        let entry_bytes = if kind == FatKind::Fat16 { 2 } else { 4 };
        image.fat_sectors = ((image.clusters + 2) * entry_bytes).div_ceil(SECTOR);
        if image.sectors() > u64::from(u32::MAX) {
            return Err(MediaError::TooLarge { what: "a FAT image".to_owned(), limit: u64::from(u32::MAX), unit: "sectors" });
        }
        Ok(image)
    }

    /// Gives every node its clusters; returns how many are used.
    fn place(&mut self) -> u64 {
        let cluster = self.per_cluster * SECTOR;
        let fixed_root = self.kind == FatKind::Fat16;
        let dir_bytes: Vec<u64> = (0..self.nodes.len()).map(|i| self.directory_bytes(i)).collect();
        // Directories first: whoever reads the medium from its beginning has them early.
        let (mut dirs, files): (Vec<_>, Vec<_>) =
            (0..self.nodes.len()).partition(|i| self.nodes.get(*i).is_some_and(|n| matches!(n.what, What::Dir(_))));
        dirs.extend(files);
        let mut next = 2;
        for i in &dirs {
            let Some(node) = self.nodes.get_mut(*i) else { continue };
            let bytes = match &node.what {
                What::File { content, .. } => content.len(),
                What::Dir(_) if *i == 0 && fixed_root => 0,
                What::Dir(_) => dir_bytes.get(*i).copied().unwrap_or(0).max(1),
            };
            node.clusters = bytes.div_ceil(cluster);
            node.first = if node.clusters == 0 { 0 } else { next };
            next += node.clusters;
        }
        self.order = dirs;
        next - 2
    }

    fn directory_bytes(&self, index: usize) -> u64 {
        let Some(Node { what: What::Dir(children), .. }) = self.nodes.get(index) else { return 0 };
        // The root has a volume label, others '.' and '..'.
        let fixed = if index == 0 { 1 } else { 2 };
        let named: usize = children.iter().filter_map(|c| self.nodes.get(*c)).map(slots).sum();
        ((fixed + named) * ENTRY) as u64
    }

    fn reserved(&self) -> u64 {
        match self.kind {
            FatKind::Fat16 => 1,
            FatKind::Fat32 => 32,
        }
    }

    fn root_sectors(&self) -> u64 {
        match self.kind {
            FatKind::Fat16 => ROOT_ENTRIES_16 * ENTRY as u64 / SECTOR,
            FatKind::Fat32 => 0,
        }
    }

    fn sectors(&self) -> u64 {
        self.reserved() + 2 * self.fat_sectors + self.root_sectors() + self.clusters * self.per_cluster
    }

    /// Which FAT it is.
    #[must_use]
    pub fn kind(&self) -> FatKind {
        self.kind
    }

    /// Writes the image.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), MediaError> {
        if self.kind == FatKind::Fat16 && self.directory_bytes(0) > ROOT_ENTRIES_16 * ENTRY as u64 {
            return Err(MediaError::TooLarge { what: "the root directory".to_owned(), limit: ROOT_ENTRIES_16, unit: "entries" });
        }
        let boot = self.boot_sector();
        out.write_all(&boot)?;
        if self.kind == FatKind::Fat32 {
            let info = self.info_sector();
            out.write_all(&info)?;
            zeros(out, 4 * SECTOR)?;
            out.write_all(&boot)?;
            out.write_all(&info)?;
            zeros(out, (self.reserved() - 8) * SECTOR)?;
        }
        for _ in 0..2 {
            self.write_fat(out)?;
        }
        if self.kind == FatKind::Fat16 {
            let root = self.directory(0);
            out.write_all(&root)?;
            zeros(out, self.root_sectors() * SECTOR - root.len() as u64)?;
        }
        let cluster = self.per_cluster * SECTOR;
        let mut used = 0;
        for i in &self.order {
            let Some(node) = self.nodes.get(*i).filter(|n| n.clusters > 0) else { continue };
            let bytes = match &node.what {
                What::Dir(_) => {
                    let d = self.directory(*i);
                    out.write_all(&d)?;
                    d.len() as u64
                }
                What::File { path, content } => {
                    write_content(path, *content, out)?;
                    content.len()
                }
            };
            zeros(out, node.clusters * cluster - bytes)?;
            used += node.clusters;
        }
        zeros(out, (self.clusters - used) * cluster)?;
        Ok(())
    }

    fn boot_sector(&self) -> Vec<u8> {
        let mut s = Vec::with_capacity(512);
        let total = self.sectors();
        let wide = self.kind == FatKind::Fat32;
        let small = if wide || total > 0xffff { 0 } else { total };
        s.extend_from_slice(if wide { &[0xeb, 0x58, 0x90] } else { &[0xeb, 0x3c, 0x90] });
        s.extend_from_slice(b"BESSEMER");
        put16(&mut s, SECTOR);
        s.push(self.per_cluster as u8); // at most 64
        put16(&mut s, self.reserved());
        s.push(2);
        put16(&mut s, if wide { 0 } else { ROOT_ENTRIES_16 });
        put16(&mut s, small);
        s.push(0xf8);
        put16(&mut s, if wide { 0 } else { self.fat_sectors });
        put16(&mut s, 63);
        put16(&mut s, 255);
        put32(&mut s, 0);
        put32(&mut s, if small == 0 { total } else { 0 });
        if wide {
            put32(&mut s, self.fat_sectors);
            put32(&mut s, 0); // flags, version
            put32(&mut s, self.nodes.first().map_or(2, |r| r.first));
            put16(&mut s, 1); // information sector
            put16(&mut s, 6); // copy of the boot sector
            s.extend_from_slice(&[0; 12]);
        }
        s.extend_from_slice(&[0x80, 0, 0x29]);
        s.extend_from_slice(b"BSMR"); // serial number: fixed, so that equal input gives equal bytes
        s.extend_from_slice(&self.label);
        s.extend_from_slice(if wide { b"FAT32   " } else { b"FAT16   " });
        s.resize(510, 0);
        s.extend_from_slice(&[0x55, 0xaa]);
        s
    }

    fn info_sector(&self) -> Vec<u8> {
        let used: u64 = self.nodes.iter().map(|n| n.clusters).sum();
        let mut s = Vec::with_capacity(512);
        put32(&mut s, 0x4161_5252);
        s.resize(484, 0);
        put32(&mut s, 0x6141_7272);
        put32(&mut s, self.clusters - used);
        put32(&mut s, 2 + used);
        s.resize(508, 0);
        put32(&mut s, 0xaa55_0000);
        s
    }

    fn write_fat(&self, out: &mut dyn Write) -> io::Result<()> {
        let wide = self.kind == FatKind::Fat32;
        let put = |buf: &mut Vec<u8>, v: u64| if wide { put32(buf, v) } else { put16(buf, v) };
        let end = if wide { 0x0fff_ffff } else { 0xffff };
        let mut buf = Vec::with_capacity(64 * 1024);
        put(&mut buf, if wide { 0x0fff_fff8 } else { 0xfff8 });
        put(&mut buf, end);
        let mut written = 0u64;
        for i in &self.order {
            let Some(node) = self.nodes.get(*i) else { continue };
            for n in 0..node.clusters {
                put(&mut buf, if n + 1 == node.clusters { end } else { node.first + n + 1 });
                if buf.len() > 60 * 1024 {
                    out.write_all(&buf)?;
                    written += buf.len() as u64;
                    buf.clear();
                }
            }
        }
        out.write_all(&buf)?;
        written += buf.len() as u64;
        zeros(out, self.fat_sectors * SECTOR - written)
    }

    fn directory(&self, index: usize) -> Vec<u8> {
        let mut d = Vec::new();
        let Some(node) = self.nodes.get(index) else { return d };
        let What::Dir(children) = &node.what else { return d };
        if index == 0 {
            short_entry(&mut d, &self.label, ATTR_LABEL, 0, 0);
        } else {
            let parent = self.parents.get(index).copied().unwrap_or(0);
            // A parent that is the root is written as 0, also on FAT32.
            let up = if parent == 0 { 0 } else { self.nodes.get(parent).map_or(0, |p| p.first) };
            short_entry(&mut d, b".          ", ATTR_DIR, node.first, 0);
            short_entry(&mut d, b"..         ", ATTR_DIR, up, 0);
        }
        for child in children.iter().filter_map(|c| self.nodes.get(*c)) {
            if child.long {
                long_entries(&mut d, &child.name, &child.short);
            }
            let (attr, size) = match &child.what {
                What::Dir(_) => (ATTR_DIR, 0),
                What::File { content, .. } => (ATTR_FILE, content.len()),
            };
            short_entry(&mut d, &child.short, attr, child.first, size);
        }
        d
    }
}

impl Content for FatImage<'_> {
    fn len(&self) -> u64 {
        self.sectors() * SECTOR
    }
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write(out).map_err(|e| match e {
            MediaError::Io(e) => e,
            other => io::Error::other(other),
        })
    }
}

fn collect<'a>(tree: &'a Tree<'a>, at: usize, path: &str, nodes: &mut Vec<Node<'a>>, parents: &mut Vec<usize>) -> Result<(), MediaError> {
    let mut taken = HashSet::new();
    let mut children = Vec::new();
    for (name, entry) in tree.entries() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        let (short, long) = short_name(name, &mut taken);
        let what = match entry {
            Entry::Dir(_) => What::Dir(Vec::new()),
            Entry::File(c) if c.len() > u64::from(u32::MAX) => {
                return Err(MediaError::TooLarge { what: format!("'{path}'"), limit: u64::from(u32::MAX), unit: "bytes" });
            }
            Entry::File(c) => What::File { path: path.clone(), content: c.as_ref() },
        };
        let index = nodes.len();
        nodes.push(Node { name: name.to_owned(), short, long, first: 0, clusters: 0, what });
        parents.push(at);
        children.push(index);
        if let Entry::Dir(t) = entry {
            collect(t, index, &path, nodes, parents)?;
        }
    }
    if let Some(Node { what: What::Dir(list), .. }) = nodes.get_mut(at) {
        *list = children;
    }
    Ok(())
}

/// Directory slots of a node: its long name in pieces of 13, and the short entry.
fn slots(node: &Node<'_>) -> usize {
    1 + if node.long { node.name.encode_utf16().count().div_ceil(13) } else { 0 }
}

fn plain(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "$%'-_@~`!(){}^#&".contains(c)
}

/// The 8.3 name, unique in `taken`, and whether a long name is needed beside it.
fn short_name(name: &str, taken: &mut HashSet<[u8; 11]>) -> ([u8; 11], bool) {
    let (stem, ext) = match name.rsplit_once('.') {
        Some((s, e)) if !s.is_empty() => (s, e),
        _ => (name, ""),
    };
    let fits = stem.len() <= 8 && ext.len() <= 3 && stem.chars().all(plain) && ext.chars().all(plain);
    let clean = |s: &str, n: usize| -> Vec<u8> {
        s.chars()
            .filter(|c| !matches!(c, ' ' | '.'))
            .map(|c| c.to_ascii_uppercase())
            .map(|c| if plain(c) { c as u8 } else { b'_' })
            .take(n)
            .collect()
    };
    let ext = clean(ext, 3);
    let fill = |stem: &[u8]| {
        let mut out = [b' '; 11];
        out.iter_mut().zip(stem).for_each(|(o, c)| *o = *c);
        out.iter_mut().skip(8).zip(&ext).for_each(|(o, c)| *o = *c);
        out
    };
    let exact = fill(&clean(stem, 8));
    if fits && taken.insert(exact) {
        return (exact, false);
    }
    let mut number = 1u32;
    loop {
        let tail = format!("~{number}");
        let mut short = clean(stem, 8 - tail.len().min(7));
        short.extend_from_slice(tail.as_bytes());
        let short = fill(&short);
        // Ends: there are fewer entries in a directory than numbers of seven digits.
        if taken.insert(short) {
            return (short, true);
        }
        number += 1;
    }
}

fn long_entries(d: &mut Vec<u8>, name: &str, short: &[u8; 11]) {
    let sum = short.iter().fold(0u8, |s, c| s.rotate_right(1).wrapping_add(*c));
    let mut units: Vec<u16> = name.encode_utf16().collect();
    let pieces = units.len().div_ceil(13);
    if units.len() < pieces * 13 {
        units.push(0);
        units.resize(pieces * 13, 0xffff);
    }
    for (i, piece) in units.chunks(13).enumerate().rev() {
        let last = if i + 1 == pieces { 0x40 } else { 0 };
        d.push((i as u8 + 1) | last); // at most five pieces of a name of 64
        let unit = |d: &mut Vec<u8>, range: std::ops::Range<usize>| {
            piece.get(range).unwrap_or_default().iter().for_each(|u| d.extend_from_slice(&u.to_le_bytes()));
        };
        unit(d, 0..5);
        d.extend_from_slice(&[ATTR_LONG, 0, sum]);
        unit(d, 5..11);
        d.extend_from_slice(&[0, 0]);
        unit(d, 11..13);
    }
}

fn short_entry(d: &mut Vec<u8>, name: &[u8; 11], attr: u8, first: u64, size: u64) {
    d.extend_from_slice(name);
    d.push(attr);
    d.extend_from_slice(&[0, 0, 0, 0]);
    d.extend_from_slice(&DATE.to_le_bytes());
    d.extend_from_slice(&DATE.to_le_bytes());
    put16(d, first >> 16);
    d.extend_from_slice(&[0, 0]);
    d.extend_from_slice(&DATE.to_le_bytes());
    put16(d, first & 0xffff);
    put32(d, size);
}

fn volume_label(label: &str) -> [u8; 11] {
    let mut out = [b' '; 11];
    let chars = label.chars().map(|c| c.to_ascii_uppercase()).map(|c| if plain(c) || c == ' ' { c as u8 } else { b'_' });
    out.iter_mut().zip(chars).for_each(|(o, c)| *o = c);
    out
}

/// The low 16 bits; callers have checked that there are no others, or want just these.
fn put16(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(&(v as u16).to_le_bytes());
}

/// The low 32 bits, as above.
fn put32(out: &mut Vec<u8>, v: u64) {
    out.extend_from_slice(&(v as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_unique_and_plain_names_need_no_long_one() {
        let mut taken = HashSet::new();
        assert_eq!(short_name("BOOTX64.EFI", &mut taken), (*b"BOOTX64 EFI", false));
        assert_eq!(short_name("grub.cfg", &mut taken), (*b"GRUB~1  CFG", true));
        assert_eq!(short_name("meta_data.json", &mut taken), (*b"META_D~1JSO", true));
        assert_eq!(short_name("meta_data2.json", &mut taken), (*b"META_D~2JSO", true));
        assert_eq!(short_name(".hidden", &mut taken), (*b"HIDDEN~1   ", true));
    }

    #[test]
    fn the_image_has_the_announced_length_and_no_chance_in_it() {
        let mut tree = Tree::new();
        tree.add("a/long name with spaces.txt", vec![1u8; 3000]).unwrap();
        tree.add("empty", Vec::new()).unwrap();
        for kind in [FatKind::Fat16, FatKind::Fat32] {
            let image = FatImage::of_kind(kind, "x", &tree, 0).unwrap();
            let (mut a, mut b) = (Vec::new(), Vec::new());
            image.write(&mut a).unwrap();
            image.write(&mut b).unwrap();
            assert_eq!(a.len() as u64, Content::len(&image));
            assert!(a == b);
        }
    }
}
