//! Erasing what makes a disk recognisable: partition tables at both ends and the signatures of file systems, arrays
//! and volume managers, in the partitions first and then on the disk.
//!
//! Planning is pure: which ranges are zeroed follows from the disk's size, its partitions and what a probe finds.
//! Never touches a disk that is mounted or part of an array, nor one with a shared-storage file system while the
//! guard is on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use uuid::Uuid;

use super::DiskError;
use super::gpt::Gpt;
use super::part::{self, Layout};
use crate::ioctl;

/// Bytes zeroed at each end of the disk and of each partition. They hold both GPT copies (33 sectors), all
/// signatures that wipefs knows at low offsets, md superblocks of all versions, and ZFS labels at both ends.
const ENDS: u64 = 1 << 20;
/// Bytes zeroed around a signature that was found elsewhere.
const SPOT: u64 = 4096;

/// Signatures away from both ends: offset of the structure, offset of the magic within it, magic.
const SPOTS: [(u64, usize, &[u8]); 7] = [
    // Second header of LUKS2; lower places are within ENDS.
    (1 << 20, 0, b"SKUL\xba\xbe"),
    (2 << 20, 0, b"SKUL\xba\xbe"),
    (4 << 20, 0, b"SKUL\xba\xbe"),
    // Mirrors of the btrfs super block.
    (64 << 20, 64, b"_BHRfS_M"),
    (256 << 30, 64, b"_BHRfS_M"),
    // VMware: volume header and file system header, when the guard is off.
    (1 << 20, 0, &[0x0d, 0xd0, 0x01, 0xc0]),
    (2 << 20, 0, &[0x5e, 0xf1, 0xab, 0x2f]),
];

/// A range to zero, in bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Plans the wipe of a disk of `len` bytes: `parts` are its partitions, `probe` reads bytes of the disk (fewer
/// than asked for at its end).
pub fn plan(len: u64, parts: &[Range], mut probe: impl FnMut(u64, usize) -> Vec<u8>) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut areas: Vec<Range> = parts.iter().copied().filter(|part| part.offset < len).collect();
    // Last partition first, then the disk itself: names in reverse order.
    areas.sort_by_key(|part| std::cmp::Reverse(part.offset));
    areas.push(Range { offset: 0, len });
    for area in areas {
        let size = area.len.min(len - area.offset);
        for (at, magic_at, magic) in SPOTS {
            let place = area.offset.saturating_add(at);
            if at.saturating_add(SPOT) <= size && probe(place + magic_at as u64, magic.len()) == magic {
                ranges.push(Range { offset: place, len: SPOT });
            }
        }
        let head = size.min(ENDS);
        ranges.push(Range { offset: area.offset, len: head });
        let tail = (size - head).min(ENDS);
        if tail > 0 {
            ranges.push(Range { offset: area.offset + size - tail, len: tail });
        }
    }
    ranges
}

/// Why a disk must not be erased.
fn shared_storage(layout: Option<&Layout>, kinds: &Kinds, mut probe: impl FnMut(u64, usize) -> Vec<u8>) -> Option<&'static str> {
    const GPFS: Uuid = Uuid::from_u128(0x37AF_FC90_EF7D_4E96_91C3_2D7A_E055_B174);
    const VMFS: Uuid = Uuid::from_u128(0xAA31_E02A_400F_11DB_9590_000C_2911_D1B8);
    const VMFS_MBR: u8 = 0xfb;
    const GFS2: (u64, [u8; 4]) = (64 << 10, [0x01, 0x16, 0x19, 0x70]);
    if kinds.gpt.contains(&GPFS) {
        return Some("an IBM GPFS partition");
    }
    if kinds.gpt.contains(&VMFS) || kinds.mbr.contains(&VMFS_MBR) {
        return Some("a VMware VMFS partition");
    }
    let starts: Vec<u64> = layout.map(|layout| layout.partitions.iter().map(|p| p.start).collect()).unwrap_or_default();
    for start in std::iter::once(0).chain(starts) {
        if probe(start.saturating_add(GFS2.0), 4) == GFS2.1 {
            return Some("a Red Hat GFS2 file system");
        }
    }
    None
}

/// Partition types on a disk.
#[derive(Debug, Default)]
struct Kinds {
    gpt: Vec<Uuid>,
    mbr: Vec<u8>,
}

fn kinds(file: &File, sector: u32, len: u64) -> Kinds {
    let gpt = match Gpt::read(file, sector, len) {
        Ok(Some(gpt)) => gpt.entries().iter().map(|entry| entry.kind).collect(),
        _ => Vec::new(),
    };
    let mut mbr = [0; 512];
    let read = file.read_exact_at(&mut mbr, 0).is_ok() && mbr.get(510..) == Some(&[0x55, 0xaa]);
    let table = mbr.get(446..510).filter(|_| read).unwrap_or_default();
    Kinds { gpt, mbr: table.chunks_exact(16).filter_map(|entry| entry.get(4).copied()).collect() }
}

/// Opens a disk for erasing: exclusively, and only when it may be written.
pub(super) fn open_exclusive(device: &Path) -> Result<(File, u64), DiskError> {
    let block = std::fs::metadata(device).map_err(DiskError::io("find", device))?.file_type().is_block_device();
    let flags = if block { libc::O_EXCL } else { 0 };
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(device);
    let file = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::EROFS | libc::EACCES) => DiskError::ReadOnly { device: device.to_owned() },
        _ => DiskError::Io { action: "open (is it mounted or part of an array?)", device: device.to_owned(), source },
    })?;
    if block && ioctl::is_read_only(&file).unwrap_or(false) {
        return Err(DiskError::ReadOnly { device: device.to_owned() });
    }
    let len = if block { ioctl::device_size(&file) } else { file.metadata().map(|m| m.len()) };
    Ok((file, len.map_err(DiskError::io("read the size of", device))?))
}

fn probe_of(file: &File) -> impl FnMut(u64, usize) -> Vec<u8> + '_ {
    |offset, len| {
        let mut bytes = vec![0; len];
        let got = file.read_at(&mut bytes, offset).unwrap_or(0);
        bytes.truncate(got);
        bytes
    }
}

/// Refuses a disk that holds a file system which other machines may share.
///
/// # Errors
/// [`DiskError::Protected`].
pub fn guard(device: &Path) -> Result<(), DiskError> {
    let disk = part::Device::open(device, false)?;
    let layout = part::read_layout(device).ok();
    match shared_storage(layout.as_ref(), &kinds(&disk.file, disk.sector, disk.len), probe_of(&disk.file)) {
        Some(found) => Err(DiskError::Protected { device: device.to_owned(), found }),
        None => Ok(()),
    }
}

/// Wipes all partition tables and signatures of a disk and makes the kernel forget its partitions.
///
/// # Errors
/// When the disk is in use, read-only or failing, or (with `guard_special`) holds a shared-storage file system.
pub fn wipe_metadata(device: &Path, guard_special: bool) -> Result<(), DiskError> {
    if guard_special {
        guard(device)?;
    }
    // Before it is wiped: which partitions there are.
    let parts: Vec<Range> = part::read_layout(device)
        .map(|layout| layout.partitions.iter().map(|p| Range { offset: p.start, len: p.len }).collect())
        .unwrap_or_default();
    let (file, len) = open_exclusive(device)?;
    for range in plan(len, &parts, probe_of(&file)) {
        zero(&file, range).map_err(DiskError::io("wipe", device))?;
    }
    file.sync_all().map_err(DiskError::io("flush", device))?;
    let rest = plan(len, &[], probe_of(&file));
    if rest.iter().any(|range| !reads_zero(&file, *range)) {
        return Err(DiskError::Io {
            action: "wipe",
            device: device.to_owned(),
            source: io::Error::other("it still holds old bytes: the disk is faulty"),
        });
    }
    drop(file);
    part::reread(device);
    Ok(())
}

fn zero(file: &File, range: Range) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(range.len.min(ENDS)).unwrap_or(0)];
    let mut done = 0;
    while done < range.len {
        let step = zeros.get(..usize::try_from(range.len - done).unwrap_or(usize::MAX)).unwrap_or(&zeros);
        file.write_all_at(step, range.offset + done)?;
        done += step.len() as u64;
    }
    Ok(())
}

/// Whether a range reads as zeros from the device, not from the cache.
pub(super) fn reads_zero(file: &File, range: Range) -> bool {
    let (offset, len) = (i64::try_from(range.offset).unwrap_or(0), i64::try_from(range.len).unwrap_or(0));
    let _ = nix::fcntl::posix_fadvise(file, offset, len, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut bytes = vec![0xff; usize::try_from(range.len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, range.offset).is_ok() && bytes.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn partitions_are_planned_before_the_disk_and_both_ends_are_covered() {
        let parts = [Range { offset: MIB, len: 10 * MIB }, Range { offset: 11 * MIB, len: MIB / 2 }];
        let found = plan(100 * MIB, &parts, |_, _| Vec::new());
        assert_eq!(
            found,
            [
                Range { offset: 11 * MIB, len: MIB / 2 },
                Range { offset: MIB, len: MIB },
                Range { offset: 10 * MIB, len: MIB },
                Range { offset: 0, len: MIB },
                Range { offset: 99 * MIB, len: MIB },
            ]
        );
    }

    #[test]
    fn a_partition_that_claims_more_than_the_disk_is_cut() {
        let found = plan(10 * MIB, &[Range { offset: 9 * MIB, len: u64::MAX }, Range { offset: GIB, len: 5 }], |_, _| Vec::new());
        assert!(found.iter().all(|range| range.offset + range.len <= 10 * MIB), "{found:?}");
    }

    #[test]
    fn signatures_away_from_the_ends_are_wiped_only_where_found() {
        let probe = |offset: u64, _| if offset == 64 * MIB + 64 { b"_BHRfS_M".to_vec() } else { Vec::new() };
        let found = plan(GIB, &[], probe);
        assert_eq!(found.first(), Some(&Range { offset: 64 * MIB, len: SPOT }));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn tiny_disks_are_planned_whole() {
        for len in [0, 1, 512, MIB, MIB + 512] {
            let found = plan(len, &[], |_, _| Vec::new());
            assert_eq!(found.iter().map(|range| range.len).sum::<u64>(), len);
        }
    }
}
