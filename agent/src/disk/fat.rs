//! Reading files of a FAT file system (Microsoft FAT specification 1.03) without mounting it.
//!
//! For looking into the EFI system partition of a freshly written image, which is as hostile as the image: every
//! chain, directory and file is bounded. Never writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Entries of one directory that are looked at.
const MAX_ENTRIES: usize = 4096;
/// Bytes of one directory that are read.
const MAX_DIRECTORY: usize = MAX_ENTRIES * 32;

/// A FAT file system at an offset of a disk.
#[derive(Debug)]
pub struct Fat<'a> {
    file: &'a File,
    fat_at: u64,
    data_at: u64,
    root: Root,
    cluster: u64,
    clusters: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

#[derive(Clone, Copy, Debug)]
enum Root {
    Fixed(u64, usize),
    Chain(u32),
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Long name where there is one.
    pub name: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes of a file.
    pub size: u32,
    first: u32,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no usable FAT file system: {what}"))
}

fn le16(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, |b| u32::from(u16::from_le_bytes(b)))
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

impl<'a> Fat<'a> {
    /// Opens the file system that starts at byte `start` of `file`.
    ///
    /// # Errors
    /// When there is none or its parameters make no sense.
    pub fn open(file: &'a File, start: u64) -> io::Result<Self> {
        let mut boot = [0; 512];
        file.read_exact_at(&mut boot, start)?;
        if boot.get(510..) != Some(&[0x55, 0xaa]) {
            return Err(bad("no boot sector"));
        }
        let sector = u64::from(le16(&boot, 11));
        let per_cluster = u64::from(boot.get(13).copied().unwrap_or(0));
        let (reserved, fats) = (u64::from(le16(&boot, 14)), u64::from(boot.get(16).copied().unwrap_or(0)));
        if ![512, 1024, 2048, 4096].contains(&sector) || !per_cluster.is_power_of_two() || reserved == 0 || !(1..=4).contains(&fats) {
            return Err(bad("odd parameters"));
        }
        let root_entries = u64::from(le16(&boot, 17));
        let either = |short: usize, long: usize| match le16(&boot, short) {
            0 => u64::from(le32(&boot, long)),
            n => u64::from(n),
        };
        let (total, fat_size) = (either(19, 32), either(22, 36));
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let before_data = reserved + fats * fat_size + root_sectors;
        let clusters = total.checked_sub(before_data).ok_or_else(|| bad("odd size"))? / per_cluster;
        let kind = match clusters {
            0..4085 => Kind::Fat12,
            4085..65525 => Kind::Fat16,
            _ => Kind::Fat32,
        };
        // A small file system may still be FAT32 when it says so.
        let kind = if root_entries == 0 { Kind::Fat32 } else { kind };
        let root = if kind == Kind::Fat32 {
            Root::Chain(le32(&boot, 44))
        } else {
            let len = usize::try_from(root_entries * 32).unwrap_or(MAX_DIRECTORY).min(MAX_DIRECTORY);
            Root::Fixed(start + (reserved + fats * fat_size) * sector, len)
        };
        Ok(Self {
            file,
            fat_at: start + reserved * sector,
            data_at: start + before_data * sector,
            root,
            cluster: per_cluster * sector,
            clusters: u32::try_from(clusters).map_err(|_| bad("odd size"))?,
            kind,
        })
    }

    /// The cluster after `cluster`, `None` at the end of the chain.
    fn next(&self, cluster: u32) -> io::Result<Option<u32>> {
        let number = u64::from(cluster);
        let (at, len) = match self.kind {
            Kind::Fat12 => (number + number / 2, 2),
            Kind::Fat16 => (number * 2, 2),
            Kind::Fat32 => (number * 4, 4),
        };
        let mut bytes = [0; 4];
        if let Some(place) = bytes.get_mut(..len) {
            self.file.read_exact_at(place, self.fat_at + at)?;
        }
        let value = le32(&bytes, 0);
        let (value, end) = match self.kind {
            Kind::Fat12 => (if cluster & 1 == 1 { value >> 4 } else { value } & 0xfff, 0xff8),
            Kind::Fat16 => (value & 0xffff, 0xfff8),
            Kind::Fat32 => (value & 0x0fff_ffff, 0x0fff_fff8),
        };
        Ok((value < end).then_some(value))
    }

    /// Reads at most `limit` bytes of a chain.
    fn chain(&self, first: u32, limit: usize) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        let mut at = Some(first);
        while let Some(cluster) = at {
            if data.len() >= limit {
                break;
            }
            if cluster < 2 || cluster - 2 >= self.clusters {
                return Err(bad("a chain leaves the file system"));
            }
            let len = usize::try_from(self.cluster).unwrap_or(0).min(limit - data.len());
            let from = data.len();
            data.resize(from + len, 0);
            if let Some(place) = data.get_mut(from..) {
                self.file.read_exact_at(place, self.data_at + u64::from(cluster - 2) * self.cluster)?;
            }
            at = self.next(cluster)?;
        }
        Ok(data)
    }

    /// Entries of the root directory.
    ///
    /// # Errors
    /// When the disk cannot be read or the file system is damaged.
    pub fn root(&self) -> io::Result<Vec<Entry>> {
        let data = match self.root {
            Root::Fixed(at, len) => {
                let mut data = vec![0; len];
                self.file.read_exact_at(&mut data, at)?;
                data
            }
            Root::Chain(first) => self.chain(first, MAX_DIRECTORY)?,
        };
        Ok(entries(&data))
    }

    /// Entries of a directory.
    ///
    /// # Errors
    /// As [`Fat::root`].
    pub fn list(&self, directory: &Entry) -> io::Result<Vec<Entry>> {
        Ok(entries(&self.chain(directory.first, MAX_DIRECTORY)?))
    }

    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    /// As [`Fat::root`].
    pub fn read(&self, file: &Entry, limit: usize) -> io::Result<Vec<u8>> {
        if file.size == 0 {
            return Ok(Vec::new());
        }
        self.chain(file.first, limit.min(usize::try_from(file.size).unwrap_or(limit)))
    }
}

fn entries(data: &[u8]) -> Vec<Entry> {
    const LONG_NAME: u8 = 0x0f;
    const VOLUME: u8 = 0x08;
    const DIRECTORY: u8 = 0x10;
    let mut found = Vec::new();
    // Pieces of a long name come before their entry, last piece first.
    let mut long: Vec<u16> = Vec::new();
    for bytes in data.chunks_exact(32).take(MAX_ENTRIES) {
        let (first, attributes) = (bytes.first().copied().unwrap_or(0), bytes.get(11).copied().unwrap_or(0));
        if first == 0 {
            break;
        }
        if first == 0xe5 {
            long.clear();
            continue;
        }
        if attributes & 0x3f == LONG_NAME {
            let piece = [1..11, 14..26, 28..32].into_iter().filter_map(|part| bytes.get(part)).flatten().copied();
            let piece: Vec<u8> = piece.collect();
            let mut units: Vec<u16> = piece.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes).collect();
            if first & 0x40 != 0 {
                long.clear();
            }
            units.append(&mut long);
            long = units;
            long.truncate(260);
            continue;
        }
        let name: Vec<u16> = std::mem::take(&mut long).into_iter().take_while(|unit| *unit != 0 && *unit != 0xffff).collect();
        if attributes & VOLUME != 0 || first == b'.' {
            continue;
        }
        let name = if name.is_empty() { short_name(bytes) } else { String::from_utf16_lossy(&name) };
        found.push(Entry {
            name,
            directory: attributes & DIRECTORY != 0,
            size: le32(bytes, 28),
            first: le16(bytes, 26) | le16(bytes, 20) << 16,
        });
    }
    found
}

fn short_name(bytes: &[u8]) -> String {
    // Bits by which Windows notes that a part is in lower case.
    let flags = bytes.get(12).copied().unwrap_or(0);
    let part = |range: std::ops::Range<usize>, lower: u8| {
        let text = String::from_utf8_lossy(bytes.get(range).unwrap_or_default()).trim_end().to_owned();
        if flags & lower != 0 { text.to_lowercase() } else { text }
    };
    let (base, extension) = (part(0..8, 0x08), part(8..11, 0x10));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    proptest::proptest! {
        #[test]
        fn a_hostile_file_system_does_no_harm(noise: Vec<u8>, per_cluster in 0_u8..=8, root_entries in 0_u16..64, total: u16, fat in 1_u16..8) {
            let mut disk = vec![0_u8; 64 << 10];
            for (place, byte) in disk.iter_mut().skip(512).zip(noise.iter().cycle().take(60 << 10)) {
                *place = *byte;
            }
            disk[11..13].copy_from_slice(&512_u16.to_le_bytes());
            disk[13] = per_cluster;
            disk[14] = 1;
            disk[16] = 1;
            disk[17..19].copy_from_slice(&root_entries.to_le_bytes());
            disk[19..21].copy_from_slice(&total.to_le_bytes());
            disk[22..24].copy_from_slice(&fat.to_le_bytes());
            disk[44] = 2;
            disk[510..512].copy_from_slice(&[0x55, 0xaa]);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&disk).unwrap();
            if let Ok(fat) = Fat::open(&file, 0) {
                for entry in fat.root().unwrap_or_default().iter().take(16) {
                    let _ = fat.list(entry);
                    let _ = fat.read(entry, 4096);
                }
            }
        }
    }
}
