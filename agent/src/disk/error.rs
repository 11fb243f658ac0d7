//! What can go wrong with a disk, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Failure of a disk operation.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The kernel refused or the device failed.
    #[error("cannot {action} {device}: {source}", device = device.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Device or file.
        device: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// No disk fits.
    #[error("{0}")]
    NotFound(String),
    /// A root device hint cannot be understood.
    #[error("root device hint {hint} is not usable: {reason}")]
    Hint {
        /// Key and value.
        hint: String,
        /// Cause and remedy.
        reason: String,
    },
    /// Erasing would destroy a file system that other machines share.
    #[error(
        "{device} holds {found}, which other machines may share, so it is not erased: disconnect it, list it in \
         skip_block_devices, or set driver_internal_info wipe_special_filesystems to false",
        device = device.display()
    )]
    Protected {
        /// Device.
        device: PathBuf,
        /// What was found.
        found: &'static str,
    },
    /// The kernel holds the device read-only.
    #[error("{device} is read-only: unlock it, or set agent_erase_skip_read_only", device = device.display())]
    ReadOnly {
        /// Device.
        device: PathBuf,
    },
    /// The partition table cannot be used or changed.
    #[error("partition table of {device}: {reason}", device = device.display())]
    Table {
        /// Device.
        device: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// The config drive cannot be used.
    #[error("config drive: {0}")]
    ConfigDrive(String),
    /// The firmware's boot entries cannot be set.
    #[error("boot entry: {0}")]
    BootEntry(String),
    /// The device's own erase failed.
    #[error("secure erase of {device} failed: {reason}", device = device.display())]
    SecureErase {
        /// Device.
        device: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// The work was asked to stop.
    #[error("erasing was cancelled: the disk is erased in part")]
    Cancelled,
}

impl DiskError {
    /// Shorthand for `map_err`.
    pub(crate) fn io(action: &'static str, device: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, device: device.to_owned(), source }
    }
}
