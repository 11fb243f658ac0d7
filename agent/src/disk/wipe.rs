//! Erasing what makes a disk recognisable.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::DiskError;

/// Bytes zeroed at each end.
const ENDS: u64 = 33 * 512;

/// Wipes both ends.
///
/// # Errors
/// When the device cannot be written.
pub fn wipe_metadata(device: &Path, _guard_special: bool) -> Result<(), DiskError> {
    let file = OpenOptions::new().read(true).write(true).open(device).map_err(DiskError::io("open", device))?;
    let size = crate::ioctl::device_size(&file)
        .or_else(|_| file.metadata().map(|m| m.len()))
        .map_err(DiskError::io("read the size of", device))?;
    let zeros = vec![0; usize::try_from(ENDS.min(size)).unwrap_or(0)];
    file.write_all_at(&zeros, 0).map_err(DiskError::io("wipe", device))?;
    file.write_all_at(&zeros, size - zeros.len() as u64).map_err(DiskError::io("wipe", device))?;
    file.sync_all().map_err(DiskError::io("flush", device))
}
