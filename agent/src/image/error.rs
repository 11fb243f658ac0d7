//! What can go wrong between an image server and a disk, each with what to do about it.

use std::io;
use std::path::PathBuf;

use super::fetch::FetchError;
use super::verify::ChecksumError;

/// Failure of an image write. Texts hold no credentials: URLs are shown without user, query and fragment.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The image could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The request cannot be carried out as it stands.
    #[error("the image request is not usable: {0}")]
    Request(String),
    /// The expected checksum could not be established.
    #[error(transparent)]
    ChecksumSource(#[from] ChecksumError),
    /// The bytes that came are not those that were promised. Both ends of the disk were wiped.
    #[error(
        "image checksum is wrong: {algorithm} of the {bytes} bytes downloaded is {actual}, expected {expected}; \
         the disk's partition table was wiped. Correct the checksum or replace the image on its server"
    )]
    ChecksumMismatch {
        /// Algorithm.
        algorithm: &'static str,
        /// Lower-case hexadecimal.
        expected: String,
        /// Lower-case hexadecimal.
        actual: String,
        /// Bytes hashed.
        bytes: u64,
    },
    /// The image does not fit.
    #[error(
        "the image needs {image} bytes{approximately} but {device} has {disk}: choose a larger disk by root device hints or a smaller image",
        device = device.display(),
        approximately = if *at_least { " or more" } else { "" }
    )]
    TooLarge {
        /// Bytes that the image needs.
        image: u64,
        /// Whether `image` is only what was seen until it did not fit.
        at_least: bool,
        /// Bytes of the disk.
        disk: u64,
        /// Disk.
        device: PathBuf,
    },
    /// Format rules refuse the image (`security.md` section 6: format safety).
    #[error("image refused: {0}")]
    Format(String),
    /// The image's compressed data cannot be decoded.
    #[error("the image's {compression} data cannot be decoded: {reason}")]
    Decode {
        /// Kind of compression.
        compression: &'static str,
        /// Cause and remedy.
        reason: String,
    },
    /// The qcow2 image cannot be read.
    #[error("qcow2 image refused: {0}")]
    Qcow2(String),
    /// A partition image was asked for.
    #[error("partition images are not built: give a whole-disk image (image_type whole-disk, without kernel and ramdisk)")]
    PartitionImage,
    /// A disk operation failed.
    #[error("cannot {action} {device}: {source}", device = device.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Disk.
        device: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The disk's old contents could not be wiped.
    #[error(transparent)]
    Wipe(#[from] crate::disk::DiskError),
    /// The work was asked to stop.
    #[error("the image write was cancelled; the disk holds no bootable system")]
    Cancelled,
    /// The server sent another image, or cannot resume: the write has to begin again. Never leaves this module.
    #[error("the image changed on its server during the download")]
    Restart,
}

impl ImageError {
    /// Whether another URL of the same image may succeed.
    pub(crate) fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Fetch(_))
    }
}
