//! Partition tables of foreign disks: read, a partition added at the end, written, read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

use std::os::unix::fs::FileExt;

use bessemer_agent::disk::gpt::Gpt;
use uuid::Uuid;

const DISK: u64 = 256 << 10;

/// Makes the checksums of a header at `at` fit, so that what stands in it is looked at.
fn sign(disk: &mut [u8], at: usize, sector: u64) {
    let word = |disk: &[u8], i: usize| u32::from_le_bytes(disk[i..i + 4].try_into().expect("four bytes"));
    let array = u64::from_le_bytes(disk[at + 72..at + 80].try_into().expect("eight bytes"));
    let (count, size) = (u64::from(word(disk, at + 80)), u64::from(word(disk, at + 84)));
    let array = array.checked_mul(sector).and_then(|from| {
        let to = from.checked_add(count.checked_mul(size)?)?;
        disk.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    });
    if let Some(crc) = array.map(crc32fast::hash) {
        disk[at + 88..at + 92].copy_from_slice(&crc.to_le_bytes());
    }
    let len = usize::try_from(word(disk, at + 12)).unwrap_or(0).clamp(92, 512);
    disk[at + 16..at + 20].fill(0);
    let crc = crc32fast::hash(&disk[at..at + len]);
    disk[at + 16..at + 20].copy_from_slice(&crc.to_le_bytes());
}

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (large_sectors, signed, bytes) = input;
    let sector: u32 = if large_sectors { 4096 } else { 512 };
    let mut disk = vec![0; DISK as usize];
    let start = sector as usize;
    let len = bytes.len().min(disk.len() / 2);
    disk[start..start + len].copy_from_slice(&bytes[..len]);
    if signed {
        disk[start..start + 8].copy_from_slice(b"EFI PART");
        disk[start + 24..start + 32].copy_from_slice(&1_u64.to_le_bytes());
        sign(&mut disk, start, u64::from(sector));
    }
    let Ok(file) = tempfile::tempfile() else { return };
    if file.write_all_at(&disk, 0).is_err() {
        return;
    }
    let Ok(Some(mut table)) = Gpt::read(&file, sector, DISK) else { return };
    let before = table.entries().len();
    let _ = (table.disk_id(), table.is_whole(), table.first_usable(), table.last_usable());
    let added = table.add_at_end("config-2", Uuid::from_u128(1), 16 << 10).is_ok();
    if table.write(&file).is_ok()
        && added
        && let Ok(Some(again)) = Gpt::read(&file, sector, DISK)
    {
        assert_eq!(again.entries().len(), before + 1);
    }
});
