//! GUID partition tables (UEFI 2.10 section 5.3): reading both copies, moving the backup to the disk's end, adding
//! a partition.
//!
//! The table comes with the image and is as hostile as the image: sizes are bounded before anything is read,
//! and nothing here can panic on it. Never moves or resizes a partition.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

/// Largest partition array that is read, in bytes; the usual one has 16 KiB.
const MAX_ARRAY: u64 = 1 << 20;
const HEADER: usize = 92;

/// Type of an EFI system partition.
pub const TYPE_ESP: Uuid = Uuid::from_u128(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B);
/// Type of a Linux file system.
pub const TYPE_LINUX: Uuid = Uuid::from_u128(0x0FC63DAF_8483_4772_8E79_3D69D8477DE4);

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number, from 1.
    pub number: u32,
    /// Type.
    pub kind: Uuid,
    /// Unique id.
    pub id: Uuid,
    /// First sector.
    pub first: u64,
    /// Last sector, itself included.
    pub last: u64,
    /// Name.
    pub name: String,
}

/// A valid table.
#[derive(Clone, Debug)]
pub struct Gpt {
    sector: u64,
    sectors: u64,
    /// The primary header's bytes, or the backup's turned round.
    header: Vec<u8>,
    array: Vec<u8>,
    entry_size: usize,
    /// Both copies are valid and the backup is at the end of the disk.
    whole: bool,
}

/// Why there is no usable table.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// Cannot read or write.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is a signature but the table behind it is no good.
    #[error("the GPT is damaged: {0}")]
    Damaged(&'static str),
    /// Nothing fits.
    #[error("{0}")]
    NoRoom(&'static str),
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

// Offsets of the header's fields.
const CRC: usize = 16;
const MY_LBA: usize = 24;
const OTHER_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const DISK_GUID: usize = 56;
const ARRAY_LBA: usize = 72;
const ENTRIES: usize = 80;
const ENTRY_SIZE: usize = 84;
const ARRAY_CRC: usize = 88;

/// A header sector and its partition array.
type Copy = (Vec<u8>, Vec<u8>);

/// Header and array at `lba`, `None` when no header is there.
fn copy_at(file: &File, sector: u64, sectors: u64, lba: u64) -> Result<Option<Copy>, GptError> {
    if lba >= sectors {
        return Ok(None);
    }
    let mut header = vec![0; usize::try_from(sector).unwrap_or(512)];
    file.read_exact_at(&mut header, lba * sector)?;
    if !header.starts_with(b"EFI PART") {
        return Ok(None);
    }
    let size = le32(&header, 12) as usize;
    if size < HEADER || size > header.len() {
        return Err(GptError::Damaged("header size"));
    }
    let mut summed = header.get(..size).unwrap_or(&header).to_vec();
    put(&mut summed, CRC, &[0; 4]);
    if crc32fast::hash(&summed) != le32(&header, CRC) {
        return Err(GptError::Damaged("header checksum"));
    }
    if le64(&header, MY_LBA) != lba {
        return Err(GptError::Damaged("header is in the wrong place"));
    }
    let (count, entry) = (u64::from(le32(&header, ENTRIES)), u64::from(le32(&header, ENTRY_SIZE)));
    if entry < 128 || entry % 8 != 0 || count == 0 || count * entry > MAX_ARRAY {
        return Err(GptError::Damaged("partition array size"));
    }
    let at = le64(&header, ARRAY_LBA);
    if at < 2 || at >= sectors || (sectors - at) * sector < count * entry {
        return Err(GptError::Damaged("partition array is outside of the disk"));
    }
    let mut array = vec![0; usize::try_from(count * entry).unwrap_or(0)];
    file.read_exact_at(&mut array, at * sector)?;
    if crc32fast::hash(&array) != le32(&header, ARRAY_CRC) {
        return Err(GptError::Damaged("partition array checksum"));
    }
    Ok(Some((header, array)))
}

impl Gpt {
    /// Reads the table of a disk of `len` bytes with sectors of `sector` bytes. `None` when neither copy is there.
    ///
    /// # Errors
    /// When a copy is there but neither is valid.
    pub fn read(file: &File, sector: u32, len: u64) -> Result<Option<Self>, GptError> {
        let sector = u64::from(sector.max(512));
        let sectors = len / sector;
        if sectors < 6 {
            return Ok(None);
        }
        let primary = copy_at(file, sector, sectors, 1);
        let backup = copy_at(file, sector, sectors, sectors - 1);
        let make = |header: Vec<u8>, array: Vec<u8>, whole| {
            let entry_size = le32(&header, ENTRY_SIZE) as usize;
            Self { sector, sectors, header, array, entry_size, whole }
        };
        match (primary, backup) {
            (Ok(Some((header, array))), other) => {
                let whole = matches!(&other, Ok(Some((_, copy))) if *copy == array) && le64(&header, OTHER_LBA) == sectors - 1;
                Ok(Some(make(header, array, whole)))
            }
            (_, Ok(Some((mut header, array)))) => {
                // Only the backup is left: turn it round.
                put(&mut header, MY_LBA, &1_u64.to_le_bytes());
                put(&mut header, OTHER_LBA, &(sectors - 1).to_le_bytes());
                put(&mut header, ARRAY_LBA, &2_u64.to_le_bytes());
                Ok(Some(make(header, array, false)))
            }
            (Ok(None), Ok(None)) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Id of the disk.
    pub fn disk_id(&self) -> Uuid {
        self.guid(&self.header, DISK_GUID)
    }

    /// Whether both copies are valid and in their places.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn guid(&self, bytes: &[u8], at: usize) -> Uuid {
        bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).map_or(Uuid::nil(), Uuid::from_bytes_le)
    }

    /// Partitions in use whose bounds make sense.
    pub fn entries(&self) -> Vec<Entry> {
        let mut found = Vec::new();
        for (number, bytes) in (1_u32..).zip(self.array.chunks_exact(self.entry_size)) {
            let kind = self.guid(bytes, 0);
            let (first, last) = (le64(bytes, 32), le64(bytes, 40));
            if kind.is_nil() || first > last || first < 2 || last >= self.sectors {
                continue;
            }
            let name: Vec<u16> = bytes
                .get(56..128)
                .unwrap_or_default()
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]))
                .take_while(|unit| *unit != 0)
                .collect();
            found.push(Entry { number, kind, id: self.guid(bytes, 16), first, last, name: String::from_utf16_lossy(&name) });
        }
        found
    }

    fn array_sectors(&self) -> u64 {
        (self.array.len() as u64).div_ceil(self.sector)
    }

    /// Last sector that a partition may have when the backup is at the end of the disk.
    pub fn last_usable(&self) -> u64 {
        self.sectors.saturating_sub(self.array_sectors() + 2)
    }

    /// First sector that a partition may have.
    pub fn first_usable(&self) -> u64 {
        le64(&self.header, FIRST_USABLE).max(le64(&self.header, ARRAY_LBA).saturating_add(self.array_sectors()))
    }

    /// Puts a partition of `bytes` bytes into the last free space of the disk, aligned to 1 MiB.
    ///
    /// # Errors
    /// When there is no free space of that size, or no free entry.
    pub fn add_at_end(&mut self, name: &str, kind: Uuid, bytes: u64) -> Result<Entry, GptError> {
        let mib = ((1 << 20) / self.sector).max(1);
        let need = bytes.div_ceil(self.sector);
        let mut used: Vec<(u64, u64)> = self.entries().iter().map(|entry| (entry.first, entry.last)).collect();
        used.sort_unstable();
        let last_usable = self.last_usable();
        // Free spaces, last one first.
        let mut free = Vec::new();
        let mut from = self.first_usable();
        for (first, last) in used {
            if first > from {
                free.push((from, first - 1));
            }
            from = from.max(last.saturating_add(1));
        }
        if from <= last_usable {
            free.push((from, last_usable));
        }
        let place = free.into_iter().rev().find_map(|(from, until)| {
            let start = (until.min(last_usable) + 1).checked_sub(need)? / mib * mib;
            (start >= from).then_some((start, start + need - 1))
        });
        let Some((first, last)) = place else {
            return Err(GptError::NoRoom("there is no free space of 64 MiB behind or between the image's partitions"));
        };
        let slot = self.array.chunks_exact(self.entry_size).position(|bytes| self.guid(bytes, 0).is_nil());
        let Some(slot) = slot else { return Err(GptError::NoRoom("all entries of the partition table are used")) };
        let id = Uuid::new_v4();
        let mut bytes = vec![0; self.entry_size];
        put(&mut bytes, 0, &kind.to_bytes_le());
        put(&mut bytes, 16, &id.to_bytes_le());
        put(&mut bytes, 32, &first.to_le_bytes());
        put(&mut bytes, 40, &last.to_le_bytes());
        for (n, unit) in name.encode_utf16().take(35).enumerate() {
            put(&mut bytes, 56 + 2 * n, &unit.to_le_bytes());
        }
        put(&mut self.array, slot * self.entry_size, &bytes);
        self.whole = false;
        let number = u32::try_from(slot + 1).unwrap_or(u32::MAX);
        Ok(Entry { number, kind, id, first, last, name: name.to_owned() })
    }

    /// Writes both copies, the backup first and at the end of the disk.
    ///
    /// # Errors
    /// When a partition reaches into the place of the backup, or the disk cannot be written.
    pub fn write(&mut self, file: &File) -> Result<(), GptError> {
        let end = self.sectors - 1;
        let last_usable = self.last_usable();
        if self.entries().iter().any(|entry| entry.last > last_usable) {
            return Err(GptError::NoRoom("a partition reaches into the last sectors of the disk, where the backup table belongs"));
        }
        let old_backup = le64(&self.header, OTHER_LBA);
        let array_lba = le64(&self.header, ARRAY_LBA);
        put(&mut self.header, OTHER_LBA, &end.to_le_bytes());
        put(&mut self.header, LAST_USABLE, &last_usable.to_le_bytes());
        put(&mut self.header, ARRAY_CRC, &crc32fast::hash(&self.array).to_le_bytes());
        let mut backup = self.header.clone();
        put(&mut backup, MY_LBA, &end.to_le_bytes());
        put(&mut backup, OTHER_LBA, &1_u64.to_le_bytes());
        put(&mut backup, ARRAY_LBA, &(end - self.array_sectors()).to_le_bytes());
        sum(&mut backup);
        sum(&mut self.header);
        file.write_all_at(&self.array, (end - self.array_sectors()) * self.sector)?;
        file.write_all_at(&backup, end * self.sector)?;
        file.sync_all()?;
        file.write_all_at(&self.array, array_lba * self.sector)?;
        file.write_all_at(&self.header, self.sector)?;
        self.protect(file)?;
        // The backup of the smaller image is stale; sectors of a partition are never touched.
        let in_use = self.entries().iter().any(|entry| (entry.first..=entry.last).contains(&old_backup));
        if old_backup > self.first_usable() && old_backup < last_usable && !in_use {
            let mut stale = [0; 8];
            file.read_exact_at(&mut stale, old_backup * self.sector)?;
            if &stale == b"EFI PART" {
                file.write_all_at(&vec![0; usize::try_from(self.sector).unwrap_or(512)], old_backup * self.sector)?;
            }
        }
        file.sync_all()?;
        self.whole = true;
        Ok(())
    }

    /// Lets the protective MBR cover the whole disk; a hybrid one is left alone.
    fn protect(&self, file: &File) -> io::Result<()> {
        let mut mbr = [0; 512];
        file.read_exact_at(&mut mbr, 0)?;
        let only_protective = mbr.get(450) == Some(&0xee) && mbr.get(462..510).is_some_and(|rest| rest.iter().all(|b| *b == 0));
        if mbr.get(510..) != Some(&[0x55, 0xaa]) || !only_protective {
            return Ok(());
        }
        let size = u32::try_from(self.sectors - 1).unwrap_or(u32::MAX);
        put(&mut mbr, 458, &size.to_le_bytes());
        file.write_all_at(&mbr, 0)
    }
}

/// Sets a header's own checksum.
fn sum(header: &mut [u8]) {
    put(header, CRC, &[0; 4]);
    let size = (le32(header, 12) as usize).min(header.len());
    let crc = crc32fast::hash(header.get(..size).unwrap_or_default());
    put(header, CRC, &crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn disk(bytes: &[u8], len: u64) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn an_empty_or_tiny_disk_has_no_table() {
        for len in [0, 512, 4096, 1 << 20] {
            assert!(Gpt::read(&disk(&[], len), 512, len).unwrap().is_none());
        }
    }

    #[test]
    fn a_header_that_asks_for_too_much_is_refused() {
        let mut bytes = vec![0; 1024];
        bytes[512..520].copy_from_slice(b"EFI PART");
        put(&mut bytes, 512 + 12, &92_u32.to_le_bytes());
        put(&mut bytes, 512 + MY_LBA, &1_u64.to_le_bytes());
        put(&mut bytes, 512 + ARRAY_LBA, &2_u64.to_le_bytes());
        put(&mut bytes, 512 + ENTRIES, &u32::MAX.to_le_bytes());
        put(&mut bytes, 512 + ENTRY_SIZE, &128_u32.to_le_bytes());
        sum(&mut bytes[512..]);
        assert!(matches!(Gpt::read(&disk(&bytes, 1 << 20), 512, 1 << 20), Err(GptError::Damaged("partition array size"))));
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_do_no_harm(fields: [u8; 92], valid: bool) {
            let mut bytes = vec![0; 512];
            bytes.extend(fields);
            bytes.resize(1024, 0);
            bytes[512..520].copy_from_slice(b"EFI PART");
            put(&mut bytes, 512 + 12, &92_u32.to_le_bytes());
            if valid {
                put(&mut bytes, 512 + MY_LBA, &1_u64.to_le_bytes());
                put(&mut bytes, 512 + ENTRIES, &4_u32.to_le_bytes());
                put(&mut bytes, 512 + ENTRY_SIZE, &128_u32.to_le_bytes());
                put(&mut bytes, 512 + ARRAY_LBA, &2_u64.to_le_bytes());
                put(&mut bytes, 512 + ARRAY_CRC, &crc32fast::hash(&[0; 512]).to_le_bytes());
            }
            sum(&mut bytes[512..]);
            let file = disk(&bytes, 256 << 10);
            if let Ok(Some(mut gpt)) = Gpt::read(&file, 512, 256 << 10) {
                let _ = gpt.add_at_end("x", TYPE_LINUX, 4096);
                let _ = gpt.write(&file);
            }
        }
    }
}
