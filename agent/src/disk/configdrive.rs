//! The config drive: decoded with a bound, written to its partition, and read back.
//!
//! Never mounts it and never changes what is in it.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;

use super::DiskError;
use super::part::{CONFIG_DRIVE_SIZE, Device, Partition, config_drive_partition};
use crate::image::HttpOptions;
use crate::image::fetch::FetchPolicy;

/// Largest file that is fetched for a config drive: 64 MiB as base64.
const MAX_FETCH: usize = (CONFIG_DRIVE_SIZE as usize / 3 + 1) * 4;

/// Gets a config drive's bytes from its value: base64 of gzip of a file system, or a URL of that or of the bytes.
///
/// # Errors
/// When the value cannot be fetched or decoded, or is larger than 64 MiB.
pub async fn resolve(value: &str, options: &HttpOptions, policy: &FetchPolicy) -> Result<Vec<u8>, DiskError> {
    let value = value.trim();
    if value.starts_with("http://") || value.starts_with("https://") {
        let fetched = crate::image::fetch_small(value, options, policy, MAX_FETCH).await;
        let bytes = fetched.map_err(|error| DiskError::ConfigDrive(error.to_string()))?;
        return decode_bytes(&bytes);
    }
    decode(value.as_bytes())
}

/// Decodes base64 of gzip of a file system.
///
/// # Errors
/// When it is neither, or larger than 64 MiB.
pub fn decode(value: &[u8]) -> Result<Vec<u8>, DiskError> {
    let packed: Vec<u8> = value.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(packed).map_err(|_| DiskError::ConfigDrive("it is neither a URL nor base64".into()))?;
    decode_bytes(&bytes)
}

fn decode_bytes(bytes: &[u8]) -> Result<Vec<u8>, DiskError> {
    let too_large = || DiskError::ConfigDrive("it is larger than 64 MiB".into());
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        let read = MultiGzDecoder::new(bytes).take(CONFIG_DRIVE_SIZE + 1).read_to_end(&mut plain);
        read.map_err(|error| DiskError::ConfigDrive(format!("its gzip data cannot be decoded: {error}")))?;
        if plain.len() as u64 > CONFIG_DRIVE_SIZE {
            return Err(too_large());
        }
        return known_filesystem(plain);
    }
    if has_filesystem(bytes) {
        if bytes.len() as u64 > CONFIG_DRIVE_SIZE {
            return Err(too_large());
        }
        return Ok(bytes.to_vec());
    }
    let text = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=\r\n".contains(b));
    if text && !bytes.is_empty() {
        let packed: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        if let Ok(inner) = STANDARD.decode(packed)
            && (inner.starts_with(&[0x1f, 0x8b]) || has_filesystem(&inner))
        {
            return decode_bytes(&inner);
        }
    }
    Err(DiskError::ConfigDrive("it holds neither an ISO 9660 nor a FAT file system".into()))
}

fn known_filesystem(bytes: Vec<u8>) -> Result<Vec<u8>, DiskError> {
    if has_filesystem(&bytes) {
        Ok(bytes)
    } else {
        Err(DiskError::ConfigDrive("it holds neither an ISO 9660 nor a FAT file system".into()))
    }
}

fn is_iso(bytes: &[u8]) -> bool {
    bytes.get(0x8001..0x8006) == Some(b"CD001")
}

fn has_filesystem(bytes: &[u8]) -> bool {
    is_iso(bytes) || (bytes.get(510..512) == Some(&[0x55, 0xaa]) && bytes.first().is_some_and(|b| matches!(b, 0xeb | 0xe9)))
}

/// Writes a config drive to `device`, into the image's own `config-2` partition or a new one, and reads it back.
///
/// # Errors
/// When there is no room, the partition is too small, or what is read back differs.
pub fn write(device: &Path, content: &[u8]) -> Result<Partition, DiskError> {
    let (partition, _new) = config_drive_partition(device)?;
    let disk = Device::open(device, true)?;
    if content.len() as u64 > partition.len {
        return Err(DiskError::ConfigDrive(format!(
            "it has {} bytes but the image's partition {} labelled config-2 only {}",
            content.len(),
            partition.number,
            partition.len
        )));
    }
    if is_iso(content) && disk.sector > 2048 {
        return Err(DiskError::ConfigDrive(format!(
            "the disk has sectors of {} bytes, on which Linux cannot mount an ISO 9660 file system, and making another \
             one is not built: give the config drive as a FAT image",
            disk.sector
        )));
    }
    disk.file.write_all_at(content, partition.start).map_err(DiskError::io("write the config drive to", device))?;
    disk.file.sync_all().map_err(DiskError::io("flush", device))?;
    read_back(&disk, partition.start, content).map_err(DiskError::io("read the config drive back from", device))?;
    Ok(partition)
}

fn read_back(disk: &Device, start: u64, content: &[u8]) -> io::Result<()> {
    // What was flushed is dropped from the cache, so that the disk itself answers.
    let len = i64::try_from(content.len()).unwrap_or(0);
    let offset = i64::try_from(start).unwrap_or(0);
    let _ = nix::fcntl::posix_fadvise(&disk.file, offset, len, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut buffer = vec![0; 1 << 20];
    for (n, want) in (0_u64..).zip(content.chunks(1 << 20)) {
        let Some(got) = buffer.get_mut(..want.len()) else { break };
        disk.file.read_exact_at(got, start + (n << 20))?;
        if got != want {
            return Err(io::Error::other("the bytes differ: the disk is faulty"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn iso() -> Vec<u8> {
        let mut iso = vec![0; 40 << 10];
        iso[0x8001..0x8006].copy_from_slice(b"CD001");
        iso
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_usual_wrappings_are_decoded() {
        let text = STANDARD.encode(gzip(&iso()));
        let broken_lines: Vec<u8> = text.bytes().collect::<Vec<_>>().chunks(76).flat_map(|line| [line, b"\n"].concat()).collect();
        assert_eq!(decode(text.as_bytes()).unwrap(), iso());
        assert_eq!(decode(&broken_lines).unwrap(), iso());
        assert_eq!(decode_bytes(&iso()).unwrap(), iso());
        assert_eq!(decode_bytes(&gzip(&iso())).unwrap(), iso());
        assert_eq!(decode_bytes(text.as_bytes()).unwrap(), iso());
    }

    #[test]
    fn a_bomb_is_refused_with_bounded_memory() {
        let bomb = STANDARD.encode(gzip(&vec![0; (CONFIG_DRIVE_SIZE + 1) as usize]));
        assert!(decode(bomb.as_bytes()).unwrap_err().to_string().contains("64 MiB"));
    }

    #[test]
    fn what_is_no_file_system_is_refused() {
        for value in ["", "!!!!", "aGVsbG8=", &STANDARD.encode(gzip(b"hello"))] {
            assert!(decode(value.as_bytes()).is_err(), "{value}");
        }
    }
}
