//! A disk opened for writing: past the page cache where the alignment allows it, through it where not.
//!
//! Shared by the writing threads; ranges never overlap. Never writes past what it is told.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::libc;

use super::ImageError;
use super::block::{ALIGN, BLOCK};
use crate::ioctl;

/// One request for zeros, so that a slow device can still be interrupted.
const ZERO_STEP: u64 = 256 << 20;
/// Without direct writes the page cache is flushed this often, or it would fill the memory.
const FLUSH_EVERY: u64 = 64 << 20;

/// A disk opened for writing.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    buffered: File,
    direct: Option<File>,
    /// The device took the flag for direct writes but not a write.
    refused: AtomicBool,
    block: bool,
    size: u64,
    unflushed: AtomicU64,
}

impl Disk {
    /// Opens a block device exclusively (or a file as is).
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let fail = |action| move |source| ImageError::Disk { action, device: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(fail("find"))?.file_type();
        let block = kind.is_block_device();
        let exclusive = if block { libc::O_EXCL } else { 0 };
        let open = |flags: i32| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let buffered = open(exclusive).map_err(fail("open (is it mounted or part of an array?)"))?;
        let size = if block {
            ioctl::device_size(&buffered).map_err(fail("read the size of"))?
        } else {
            buffered.metadata().map_err(fail("read the size of"))?.len()
        };
        let direct = open(libc::O_DIRECT).ok();
        Ok(Self { path: path.to_owned(), buffered, direct, refused: AtomicBool::new(false), block, size, unflushed: AtomicU64::new(0) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the page cache is bypassed.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn fail(&self, action: &'static str, source: io::Error) -> ImageError {
        ImageError::Disk { action, device: self.path.clone(), source }
    }

    /// Writes `data`: whole blocks past the page cache where its address in memory is congruent to `offset` modulo
    /// [`ALIGN`], ragged edges and everything else through it.
    pub(crate) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let (first, last) = (offset.next_multiple_of(ALIGN as u64), end / ALIGN as u64 * ALIGN as u64);
        if let Some(direct) = self.direct.as_ref().filter(|_| self.is_direct())
            && first < last
            && let (Ok(lead), Ok(body)) = (usize::try_from(first - offset), usize::try_from(last - first))
            && let Some((before, rest)) = data.split_at_checked(lead)
            && let Some((middle, after)) = rest.split_at_checked(body)
        {
            match direct.write_all_at(middle, first) {
                Ok(()) => {
                    self.write_buffered(offset, before)?;
                    return self.write_buffered(last, after);
                }
                // The device or file system took the flag but not the write: go on through the cache.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.refused.store(true, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        self.write_cached(offset, data)
    }

    /// Writes through the page cache.
    pub(crate) fn write_buffered(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.buffered.write_all_at(data, offset)
    }

    /// Writes through the page cache and keeps the cache small.
    fn write_cached(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_buffered(offset, data)?;
        let before = self.unflushed.fetch_add(data.len() as u64, Ordering::Relaxed);
        if before + data.len() as u64 >= FLUSH_EVERY {
            self.unflushed.store(0, Ordering::Relaxed);
            self.buffered.sync_data()?;
        }
        Ok(())
    }

    /// Makes a range read as zeros.
    pub(crate) fn zero(&self, mut offset: u64, mut len: u64) -> io::Result<()> {
        while len > 0 {
            let step = len.min(ZERO_STEP);
            if self.offload_zeros(offset, step).is_err() {
                self.write_zeros(offset, step)?;
            }
            offset += step;
            len -= step;
        }
        Ok(())
    }

    fn offload_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        use nix::fcntl::{FallocateFlags, fallocate};
        if self.block {
            return ioctl::zero_out(&self.buffered, offset, len);
        }
        let range = || io::Error::from(io::ErrorKind::InvalidInput);
        let (start, len) = (i64::try_from(offset).map_err(|_| range())?, i64::try_from(len).map_err(|_| range())?);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.buffered, flags, start, len).map_err(io::Error::from)
    }

    fn write_zeros(&self, mut offset: u64, mut len: u64) -> io::Result<()> {
        // No special alignment, so through the cache; memory that only zeros are read from costs next to nothing.
        let zeros = vec![0; usize::try_from(len).unwrap_or(BLOCK).min(BLOCK)];
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(BLOCK).min(zeros.len());
            self.write_cached(offset, zeros.get(..step).unwrap_or(&zeros))?;
            offset += step as u64;
            len -= step as u64;
        }
        Ok(())
    }

    /// Flushes what was written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.unflushed.store(0, Ordering::Relaxed);
        // On a block device this also flushes the device's own cache, for direct writes too.
        self.buffered.sync_all()
    }
}
