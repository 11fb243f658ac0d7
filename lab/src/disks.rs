//! What is on a machine's disk, read from the host: the only witness that cannot be fooled by
//! the program under test.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};

const SECTOR: u64 = 512;
const BLOCK: usize = 64 << 10;
/// Sectors of a GPT header with the usual table of 128 entries.
const TABLE: u64 = 33;

/// A partition entry of a GPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// First sector.
    pub first: u64,
    /// Last sector, included.
    pub last: u64,
    /// Name.
    pub name: String,
    raw: Vec<u8>,
}

/// What [`holds_image`] found.
#[derive(Debug)]
pub struct Deployed {
    /// Bytes of the image that were compared with the disk.
    pub compared: u64,
    /// The partition that was added for the config drive.
    pub config_drive: Option<Partition>,
}

/// SHA-256 of a disk's content; holes and blocks of zeros count the same and cost nothing.
pub fn digest(disk: &Path) -> Result<String> {
    let file = open(disk)?;
    let length = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < length {
        at = match lseek(&file, i64::try_from(at)?, Whence::SeekData) {
            Ok(data) => u64::try_from(data)? / BLOCK as u64 * BLOCK as u64,
            Err(_) => break, // no data behind this place
        };
        let size = usize::try_from((length - at).min(BLOCK as u64))?;
        let block = &mut block[..size];
        file.read_exact_at(block, at)?;
        if block.iter().any(|byte| *byte != 0) {
            hash.update(at.to_le_bytes());
            hash.update(&*block);
        }
        at += size as u64;
    }
    Ok(hex::encode(hash.finalize()))
}

/// Fails when a partition table (MBR or GPT, at either end, for 512- and 4096-byte sectors) or a
/// file system that starts a disk (ext, XFS, LVM, swap signatures aside) is found.
pub fn has_no_partition_table(disk: &Path) -> Result<()> {
    let file = open(disk)?;
    let length = file.metadata()?.len();
    let mut signature = [0; 2];
    file.read_exact_at(&mut signature, 510)?;
    ensure!(signature != [0x55, 0xaa], "{} begins with a boot sector", disk.display());
    for at in [SECTOR, 4096, length - SECTOR, length - 4096] {
        let mut text = [0; 8];
        file.read_exact_at(&mut text, at)?;
        ensure!(&text != b"EFI PART", "{} has a GPT header at byte {at}", disk.display());
    }
    Ok(())
}

/// Checks that the disk holds the image's bytes.
///
/// Everything outside of GPT structures must be equal byte for byte. In the table each of the
/// image's entries must be unchanged; one entry may have been added (the config drive). The
/// backup header must stand at the disk's end with right checksums.
pub fn holds_image(disk: &Path, image: &Path) -> Result<Deployed> {
    let (disk_file, image_file) = (open(disk)?, open(image)?);
    let (size, length) = (disk_file.metadata()?.len(), image_file.metadata()?.len());
    ensure!(length <= size, "the image is larger than the disk");
    let Some(wanted) = partitions(&image_file, 1)? else {
        // Without a GPT only the MBR's table (four entries) may have been added to.
        let compared = compare(&disk_file, &image_file, &[(0, 446), (510, length)])?;
        return Ok(Deployed { compared, config_drive: None });
    };
    let middle = ((2 + TABLE - 1) * SECTOR, length - TABLE * SECTOR);
    // The MBR's code; its protective entry grows with the disk.
    let compared = compare(&disk_file, &image_file, &[(0, 446), middle])?;
    let found = partitions(&disk_file, 1)?.context("the disk's GPT header is gone")?;
    for entry in &wanted {
        ensure!(found.contains(entry), "the partition {} is not as in the image", entry.name);
    }
    let mut added: Vec<Partition> = found.iter().filter(|entry| !wanted.contains(entry)).cloned().collect();
    ensure!(added.len() <= 1, "more than one partition was added: {added:?}");
    let backup = partitions(&disk_file, size / SECTOR - 1)?.context("no backup GPT at the disk's end")?;
    ensure!(backup == found, "the two partition tables of the disk differ");
    Ok(Deployed { compared, config_drive: added.pop() })
}

/// The bytes of a partition.
pub fn read_partition(disk: &Path, partition: &Partition) -> Result<Vec<u8>> {
    let length = usize::try_from((partition.last + 1 - partition.first) * SECTOR)?;
    let mut bytes = vec![0; length];
    open(disk)?.read_exact_at(&mut bytes, partition.first * SECTOR)?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn compare(disk: &File, image: &File, ranges: &[(u64, u64)]) -> Result<u64> {
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut compared = 0;
    for (from, to) in ranges {
        let mut at = *from;
        while at < *to {
            let size = usize::try_from((to - at).min(BLOCK as u64))?;
            let (one, other) = (&mut one[..size], &mut other[..size]);
            disk.read_exact_at(one, at)?;
            image.read_exact_at(other, at)?;
            if let Some(differs) = one.iter().zip(&*other).position(|(a, b)| a != b) {
                bail!("disk and image differ at byte {}", at + differs as u64);
            }
            at += size as u64;
            compared += size as u64;
        }
    }
    Ok(compared)
}

/// The used entries of the GPT whose header stands in that sector, `None` without a header.
fn partitions(file: &File, sector: u64) -> Result<Option<Vec<Partition>>> {
    let mut header = [0u8; 512];
    file.read_exact_at(&mut header, sector * SECTOR)?;
    if &header[..8] != b"EFI PART" {
        return Ok(None);
    }
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let header_size = usize::try_from(u32_at(12))?;
    ensure!((92..=512).contains(&header_size), "GPT header of impossible size");
    let mut unsummed = header[..header_size].to_vec();
    unsummed[16..20].fill(0);
    ensure!(crc32(&unsummed) == u32_at(16), "wrong checksum of the GPT header in sector {sector}");
    let (count, size) = (usize::try_from(u32_at(80))?, usize::try_from(u32_at(84))?);
    ensure!(count <= 1024 && (128..=1024).contains(&size), "GPT of impossible size");
    let place = u64_of(&header, 72)?;
    let mut table = vec![0; count * size];
    file.read_exact_at(&mut table, place * SECTOR)?;
    ensure!(crc32(&table) == u32_at(88), "wrong checksum of the partition table of sector {sector}");
    let mut all = Vec::new();
    for raw in table.chunks_exact(size).filter(|raw| raw[..16].iter().any(|byte| *byte != 0)) {
        let name: Vec<u16> = raw[56..128].chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        all.push(Partition {
            first: u64_of(raw, 32)?,
            last: u64_of(raw, 40)?,
            name: String::from_utf16_lossy(&name).trim_end_matches('\0').to_owned(),
            raw: raw.to_vec(),
        });
    }
    Ok(Some(all))
}

fn u64_of(bytes: &[u8], at: usize) -> Result<u64> {
    let part = bytes.get(at..at + 8).context("structure too short")?;
    Ok(u64::from_le_bytes(part.try_into()?))
}

/// CRC-32 as GPT uses it (UEFI 2.10 section 5.3.2: the polynomial of IEEE 802.3, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(sum & 1))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tool::{command, run};

    fn sgdisk(disk: &Path, args: &[&str]) {
        run(command("sgdisk").args(args).arg(disk), Duration::from_secs(20)).unwrap();
    }

    fn image(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("image");
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
        sgdisk(&path, &["-o", "-n", "1:2048:+2M", "-c", "1:one"]);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"content", 2048 * 512).unwrap();
        path
    }

    #[test]
    fn a_moved_backup_header_and_one_more_partition_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let disk = folder.path().join("disk");
        std::fs::copy(&image, &disk).unwrap();
        File::options().write(true).open(&disk).unwrap().set_len(32 << 20).unwrap();
        sgdisk(&disk, &["-e", "-n", "2:-1M:0", "-c", "2:config-2"]);
        let found = holds_image(&disk, &image).unwrap();
        assert_eq!(found.config_drive.unwrap().name, "config-2");
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let disk = folder.path().join("disk");
        std::fs::copy(&image, &disk).unwrap();
        File::options().write(true).open(&disk).unwrap().write_all_at(b"X", 2048 * 512 + 3).unwrap();
        let error = holds_image(&disk, &image).unwrap_err().to_string();
        assert_eq!(error, format!("disk and image differ at byte {}", 2048 * 512 + 3));
    }

    #[test]
    fn a_table_is_found_at_either_end() {
        let folder = tempfile::tempdir().unwrap();
        let disk = image(folder.path());
        assert!(has_no_partition_table(&disk).is_err());
        let file = File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&[0; 34 * 512], 0).unwrap();
        assert!(has_no_partition_table(&disk).unwrap_err().to_string().contains("GPT header"));
        file.write_all_at(&[0; 512], (8 << 20) - 512).unwrap();
        has_no_partition_table(&disk).unwrap();
    }

    #[test]
    fn a_hole_and_written_zeros_have_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("a"), folder.path().join("b"));
        File::create(&one).unwrap().set_len(1 << 20).unwrap();
        std::fs::write(&other, vec![0; 1 << 20]).unwrap();
        assert_eq!(digest(&one).unwrap(), digest(&other).unwrap());
        File::options().write(true).open(&one).unwrap().write_all_at(b"x", 700_000).unwrap();
        assert_ne!(digest(&one).unwrap(), digest(&other).unwrap());
    }
}
