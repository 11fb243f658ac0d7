//! Partitions of a whole disk: what an image brought, mended for this disk, and room for the config drive.
//!
//! Reads tables itself instead of asking the kernel, so that no device node has to appear first. Never moves,
//! resizes or deletes a partition.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DiskError;
use super::gpt::{self, Gpt, GptError};
use crate::ioctl;

/// Size of a config drive partition in bytes.
pub const CONFIG_DRIVE_SIZE: u64 = 64 << 20;
/// Label of a config drive.
pub const CONFIG_DRIVE_LABEL: &str = "config-2";
/// Sectors that an MBR can address.
const MBR_LIMIT: u64 = 1 << 32;
/// Logical partitions that are followed.
const MAX_LOGICAL: usize = 128;
const MBR_LINUX: u8 = 0x83;
const MBR_ESP: u8 = 0xef;
const MBR_PROTECTIVE: u8 = 0xee;

/// Kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// DOS partition table.
    Mbr,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number, as in the device name.
    pub number: u32,
    /// Offset on the disk in bytes.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
    /// Name in the table (GPT only).
    pub name: String,
    /// Unique id: GUID, or disk signature and number.
    pub id: String,
    /// Whether it is an EFI system partition.
    pub esp: bool,
}

/// A disk's partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Kind of table.
    pub kind: TableKind,
    /// Disk GUID, or the MBR's signature as `0x…`.
    pub disk_id: String,
    /// Partitions by number.
    pub partitions: Vec<Partition>,
    /// Size of a logical sector in bytes.
    pub sector: u32,
    /// Whether both GPT copies are in their places (always true for MBR).
    pub whole: bool,
}

/// An open disk with its geometry.
pub(crate) struct Device {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) sector: u32,
    pub(crate) len: u64,
}

impl Device {
    pub(crate) fn open(path: &Path, write: bool) -> Result<Self, DiskError> {
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(DiskError::io("open", path))?;
        let sector = ioctl::logical_sector_size(&file).unwrap_or(512);
        let len = match ioctl::device_size(&file) {
            Ok(len) => len,
            Err(_) => file.metadata().map_err(DiskError::io("read the size of", path))?.len(),
        };
        Ok(Self { file, path: path.to_owned(), sector, len })
    }

    fn table(&self, error: &GptError) -> DiskError {
        DiskError::Table { device: self.path.clone(), reason: error.to_string() }
    }

    fn no_room(&self, reason: &str) -> DiskError {
        DiskError::Table { device: self.path.clone(), reason: reason.to_owned() }
    }

    fn gpt(&self) -> Result<Option<Gpt>, DiskError> {
        Gpt::read(&self.file, self.sector, self.len).map_err(|error| self.table(&error))
    }

    fn mbr(&self) -> Result<Option<Mbr>, DiskError> {
        Mbr::read(&self.file, self.len / u64::from(self.sector), u64::from(self.sector))
            .map_err(DiskError::io("read the partition table of", &self.path))
    }
}

fn gpt_partition(entry: &gpt::Entry, sector: u64) -> Partition {
    Partition {
        number: entry.number,
        start: entry.first * sector,
        len: (entry.last - entry.first + 1) * sector,
        name: entry.name.clone(),
        id: entry.id.to_string(),
        esp: entry.kind == gpt::TYPE_ESP,
    }
}

/// Reads the partition table.
///
/// # Errors
/// When there is none, it is damaged, or it was made for another sector size.
pub fn read_layout(device: &Path) -> Result<Layout, DiskError> {
    let disk = Device::open(device, false)?;
    let sector = u64::from(disk.sector);
    if let Some(gpt) = disk.gpt()? {
        return Ok(Layout {
            kind: TableKind::Gpt,
            disk_id: gpt.disk_id().to_string(),
            partitions: gpt.entries().iter().map(|entry| gpt_partition(entry, sector)).collect(),
            sector: disk.sector,
            whole: gpt.is_whole(),
        });
    }
    match disk.mbr()? {
        Some(mbr) if mbr.slots.iter().any(|slot| slot.kind == MBR_PROTECTIVE) => Err(wrong_sector_size(&disk)),
        Some(mbr) => Ok(Layout {
            kind: TableKind::Mbr,
            disk_id: format!("0x{:08x}", mbr.signature),
            partitions: mbr.partitions(sector),
            sector: disk.sector,
            whole: true,
        }),
        None => Err(DiskError::Table { device: device.to_owned(), reason: "there is none: the image is no whole-disk image".into() }),
    }
}

fn wrong_sector_size(disk: &Device) -> DiskError {
    let other = if disk.sector == 512 { 4096 } else { 512 };
    let found = matches!(Gpt::read(&disk.file, other, disk.len), Ok(Some(_)));
    let reason = if found {
        format!("the image was made for sectors of {other} bytes but the disk has {}: use an image made for this disk", disk.sector)
    } else {
        "there is a protective MBR but no GPT: the image is incomplete".to_owned()
    };
    DiskError::Table { device: disk.path.clone(), reason }
}

/// Moves the backup GPT to the end of the disk after a smaller image was written. True when something was changed.
///
/// # Errors
/// When the table is damaged beyond repair or the disk cannot be written.
pub fn fix_backup(device: &Path) -> Result<bool, DiskError> {
    let disk = Device::open(device, true)?;
    match disk.gpt()? {
        Some(mut gpt) if !gpt.is_whole() => {
            gpt.write(&disk.file).map_err(|error| disk.table(&error))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Tells the kernel about the changed table, with a few attempts while something (udev) holds the disk. Not telling
/// it does no harm to what is on the disk.
pub fn reread(device: &Path) -> bool {
    for attempt in 0..5 {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        let done = File::open(device).and_then(|file| ioctl::reread_partitions(&file));
        match done {
            Ok(()) => return true,
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {}
            Err(error) => {
                tracing::debug!(device = %device.display(), "partition table not read again: {error}");
                return false;
            }
        }
    }
    tracing::warn!(device = %device.display(), "the kernel keeps its old view of the partitions: the disk is in use");
    false
}

/// The partition for the config drive: the one labelled `config-2` when the image brought it, else a new one of
/// 64 MiB at the end of the disk. The second value says whether it is new.
///
/// # Errors
/// When there is no table, no room for 64 MiB, or no free entry.
pub fn config_drive_partition(device: &Path) -> Result<(Partition, bool), DiskError> {
    let layout = read_layout(device)?;
    let disk = Device::open(device, true)?;
    for partition in &layout.partitions {
        let label = filesystem_label(&disk.file, partition.start);
        let labelled = label.is_some_and(|label| label.eq_ignore_ascii_case(CONFIG_DRIVE_LABEL));
        if labelled || partition.name.eq_ignore_ascii_case(CONFIG_DRIVE_LABEL) {
            return Ok((partition.clone(), false));
        }
    }
    let sector = u64::from(disk.sector);
    let partition = match layout.kind {
        TableKind::Gpt => {
            let Some(mut gpt) = disk.gpt()? else { return Err(disk.no_room("it vanished")) };
            let entry = gpt
                .add_at_end(CONFIG_DRIVE_LABEL, gpt::TYPE_LINUX, CONFIG_DRIVE_SIZE)
                .and_then(|entry| gpt.write(&disk.file).map(|()| entry));
            gpt_partition(&entry.map_err(|error| disk.table(&error))?, sector)
        }
        TableKind::Mbr => {
            let Some(mbr) = disk.mbr()? else { return Err(disk.no_room("it vanished")) };
            mbr.add_at_end(&disk)?
        }
    };
    // Whatever was there before must not show through.
    let zeros = vec![0; 1 << 20];
    disk.file.write_all_at(&zeros, partition.start).map_err(DiskError::io("write to", device))?;
    disk.file.sync_all().map_err(DiskError::io("flush", device))?;
    Ok((partition, true))
}

/// Label of an ISO 9660, FAT or ext file system at `start`.
fn filesystem_label(file: &File, start: u64) -> Option<String> {
    let mut head = vec![0; 34 << 10];
    let got = file.read_at(&mut head, start).ok()?;
    head.truncate(got);
    let text = |at: usize, len: usize| {
        let bytes = head.get(at..at + len)?;
        Some(String::from_utf8_lossy(bytes).trim_end_matches(['\0', ' ']).to_owned())
    };
    if head.get(0x8001..0x8006) == Some(b"CD001") {
        return text(0x8028, 32);
    }
    if head.get(510..512) == Some(&[0x55, 0xaa]) {
        if head.get(82..87) == Some(b"FAT32") {
            return text(71, 11);
        }
        if head.get(54..57) == Some(b"FAT") {
            return text(43, 11);
        }
    }
    if head.get(0x438..0x43a) == Some(&[0x53, 0xef]) {
        return text(0x478, 16);
    }
    None
}

/// One of the four entries of a DOS partition table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    kind: u8,
    first: u64,
    count: u64,
}

struct Mbr {
    signature: u32,
    slots: [Slot; 4],
    logical: Vec<Slot>,
}

fn slots(sector: &[u8; 512]) -> [Slot; 4] {
    let mut found = [Slot::default(); 4];
    for (slot, bytes) in found.iter_mut().zip(sector.get(446..510).unwrap_or_default().chunks_exact(16)) {
        let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        *slot = Slot { kind: bytes.get(4).copied().unwrap_or(0), first: u64::from(number(8)), count: u64::from(number(12)) };
    }
    found
}

impl Slot {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn is_used(self, sectors: u64) -> bool {
        self.kind != 0 && self.count > 0 && self.first < sectors
    }
}

impl Mbr {
    fn read(file: &File, sectors: u64, sector: u64) -> io::Result<Option<Self>> {
        let mut first = [0; 512];
        if sectors < 2 {
            return Ok(None);
        }
        file.read_exact_at(&mut first, 0)?;
        if first.get(510..) != Some(&[0x55, 0xaa]) {
            return Ok(None);
        }
        let slots = slots(&first);
        // A FAT or NTFS boot sector ends with the same mark; what it holds there are no partitions.
        let sane = first.get(446..510).is_some_and(|table| table.chunks_exact(16).all(|e| matches!(e.first(), Some(0 | 0x80))));
        if !sane || !slots.iter().any(|slot| slot.is_used(sectors)) {
            return Ok(None);
        }
        let signature = first.get(440..444).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let mut found = Self { signature, slots, logical: Vec::new() };
        if let Some(extended) = slots.iter().find(|slot| slot.is_extended() && slot.is_used(sectors)) {
            found.follow(file, extended.first, sectors, sector)?;
        }
        Ok(Some(found))
    }

    /// Walks the chain of extended boot records.
    fn follow(&mut self, file: &File, base: u64, sectors: u64, sector: u64) -> io::Result<()> {
        let mut at = base;
        for _ in 0..MAX_LOGICAL {
            let mut record = [0; 512];
            if at >= sectors {
                break;
            }
            file.read_exact_at(&mut record, at * sector)?;
            if record.get(510..) != Some(&[0x55, 0xaa]) {
                break;
            }
            let [data, next, ..] = slots(&record);
            if data.kind != 0 && data.count > 0 {
                self.logical.push(Slot { first: at + data.first, ..data });
            }
            if !next.is_extended() || next.first == 0 {
                break;
            }
            at = base + next.first;
        }
        Ok(())
    }

    fn partitions(&self, sector: u64) -> Vec<Partition> {
        let describe = |number: u32, slot: &Slot| Partition {
            number,
            start: slot.first * sector,
            len: slot.count * sector,
            name: String::new(),
            id: format!("{:08x}-{number:02x}", self.signature),
            esp: slot.kind == MBR_ESP,
        };
        let primary = (1..).zip(&self.slots).filter(|(_, slot)| slot.kind != 0 && slot.count > 0 && !slot.is_extended());
        let logical = (5..).zip(&self.logical);
        primary.chain(logical).map(|(number, slot)| describe(number, slot)).collect()
    }

    /// Adds a primary partition of 64 MiB at the end of what an MBR can address.
    fn add_at_end(&self, disk: &Device) -> Result<Partition, DiskError> {
        let sector = u64::from(disk.sector);
        let mib = ((1 << 20) / sector).max(1);
        let need = CONFIG_DRIVE_SIZE / sector;
        let end = (disk.len / sector).min(MBR_LIMIT);
        let start = end.saturating_sub(need) / mib * mib;
        let used = self.slots.iter().filter(|slot| slot.kind != 0).map(|slot| slot.first + slot.count).max().unwrap_or(0);
        if start == 0 || start < used {
            return Err(disk.no_room("there is no free space of 64 MiB behind the image's partitions for the config drive"));
        }
        let Some(index) = self.slots.iter().position(|slot| slot.kind == 0) else {
            return Err(disk.no_room("all four primary partitions are used, there is none for the config drive"));
        };
        let mut entry = [0_u8; 16];
        // CHS fields say "look at the sector numbers".
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = MBR_LINUX;
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        entry[8..12].copy_from_slice(&narrow(start));
        entry[12..16].copy_from_slice(&narrow(need));
        let mut table = [0; 512];
        let fail = || DiskError::io("write the partition table of", &disk.path);
        disk.file.read_exact_at(&mut table, 0).map_err(fail())?;
        if let Some(place) = table.get_mut(446 + 16 * index..462 + 16 * index) {
            place.copy_from_slice(&entry);
        }
        disk.file.write_all_at(&table, 0).map_err(fail())?;
        disk.file.sync_all().map_err(fail())?;
        let number = u32::try_from(index + 1).unwrap_or(1);
        Ok(Partition {
            number,
            start: start * sector,
            len: need * sector,
            name: String::new(),
            id: format!("{:08x}-{number:02x}", self.signature),
            esp: false,
        })
    }
}
