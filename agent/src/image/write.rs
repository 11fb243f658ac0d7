//! Bytes onto a disk: aligned direct writes on a thread of their own, with both ends of the disk held back.
//!
//! The first and the last MiB, where partition tables and boot loaders begin, are zeroed before anything else
//! and written only by [`DiskSink::commit`], tail first, head last, each behind a flush. Until then, and after
//! any failure, the disk holds nothing that firmware would boot. Never writes past the end of the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use nix::libc;

use super::ImageError;
use crate::ioctl;

/// Bytes held back at each end of the disk.
pub(crate) const EDGE: u64 = 1 << 20;
/// Size of one write.
const BUFFER: usize = 4 << 20;
/// One being filled, two queued, one being written.
const BUFFERS: usize = 4;
/// Alignment of direct writes: the largest logical sector in use.
const ALIGN: u64 = 4096;
/// A run of zeros at least this long is left to the device.
const ZERO_RUN: usize = 1 << 20;
/// One request for zeros, so that a slow device can still be interrupted.
const ZERO_STEP: u64 = 256 << 20;
/// Without direct writes the page cache is flushed this often, or it would fill the memory.
const FLUSH_EVERY: u64 = 64 << 20;

static ZEROS: [u8; BUFFER] = [0; BUFFER];

/// A disk opened for writing.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    buffered: File,
    direct: Option<File>,
    block: bool,
    size: u64,
    unflushed: u64,
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
        Ok(Self { path: path.to_owned(), buffered, direct, block, size, unflushed: 0 })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn fail(&self, action: &'static str, source: io::Error) -> ImageError {
        ImageError::Disk { action, device: self.path.clone(), source }
    }

    /// Writes `data`, which starts at a memory address congruent to `offset` modulo [`ALIGN`]: whole aligned
    /// blocks past the page cache, ragged edges through it.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let (first, last) = (offset.next_multiple_of(ALIGN), end / ALIGN * ALIGN);
        if let Some(direct) = &self.direct
            && first < last
            && let (Ok(lead), Ok(body)) = (usize::try_from(first - offset), usize::try_from(last - first))
            && let Some((before, rest)) = data.split_at_checked(lead)
            && let Some((middle, after)) = rest.split_at_checked(body)
        {
            match direct.write_all_at(middle, first) {
                Ok(()) => {
                    self.buffered.write_all_at(before, offset)?;
                    return self.buffered.write_all_at(after, last);
                }
                // The device or file system took the flag but not the write: go on through the cache.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        self.buffered.write_all_at(data, offset)?;
        self.unflushed += data.len() as u64;
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            self.buffered.sync_data()?;
        }
        Ok(())
    }

    /// Makes a range read as zeros.
    pub(crate) fn zero(&mut self, mut offset: u64, mut len: u64) -> io::Result<()> {
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

    fn write_zeros(&mut self, mut offset: u64, mut len: u64) -> io::Result<()> {
        while len > 0 {
            let step = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
            // The zero block has no special alignment: write through the cache.
            self.buffered.write_all_at(ZEROS.get(..step).unwrap_or(&ZEROS), offset)?;
            offset += step as u64;
            len -= step as u64;
            self.unflushed += step as u64;
            if self.unflushed >= FLUSH_EVERY {
                self.unflushed = 0;
                self.buffered.sync_data()?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.unflushed = 0;
        // On a block device this also flushes the device's own cache, for direct writes too.
        self.buffered.sync_all()
    }
}

/// A buffer whose usable part starts at an aligned address.
struct AlignedBuffer {
    store: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    fn new() -> Self {
        let store = vec![0; BUFFER + ALIGN as usize];
        let start = store.as_ptr().align_offset(ALIGN as usize);
        Self { store, start }
    }

    fn part(&self, from: usize, len: usize) -> &[u8] {
        self.store.get(self.start + from..self.start + from + len).unwrap_or_default()
    }

    fn put(&mut self, at: usize, data: &[u8]) -> bool {
        let start = self.start + at;
        match self.store.get_mut(start..start + data.len()) {
            Some(place) => {
                place.copy_from_slice(data);
                true
            }
            None => false,
        }
    }
}

enum Job {
    Write { offset: u64, buffer: AlignedBuffer, lead: usize, len: usize },
    Zero { offset: u64, len: u64 },
}

struct Filling {
    buffer: AlignedBuffer,
    offset: u64,
    /// Where in the buffer the data begins, so that memory and disk are aligned alike.
    lead: usize,
    len: usize,
    room: usize,
}

/// What a finished write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SinkReport {
    pub(crate) written: u64,
    pub(crate) direct: bool,
}

/// Takes the image's bytes in any order and writes them.
pub(crate) struct DiskSink {
    path: PathBuf,
    size: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: u64,
    tail_used: bool,
    filling: Option<Filling>,
    free: Receiver<AlignedBuffer>,
    queue: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<Result<Disk, ImageError>>>,
    written: u64,
}

impl DiskSink {
    /// Zeroes both ends of the disk and starts the writing thread. Destroys the disk's partition table.
    pub(crate) fn start(mut disk: Disk) -> Result<Self, ImageError> {
        let size = disk.size;
        let head_len = size.min(EDGE);
        let tail_at = size.saturating_sub(EDGE).max(head_len);
        let zeroed = disk.zero(0, head_len).and_then(|()| disk.zero(tail_at, size - tail_at)).and_then(|()| disk.sync());
        zeroed.map_err(|error| disk.fail("wipe the ends of", error))?;
        let (queue, jobs) = sync_channel(2);
        let (back, free) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel has room for all of them.
            let _ = back.send(AlignedBuffer::new());
        }
        let path = disk.path.clone();
        let worker = std::thread::Builder::new()
            .name("disk-writer".into())
            .spawn(move || work(disk, &jobs, &back))
            .map_err(|source| ImageError::Disk { action: "start a thread for", device: path.clone(), source })?;
        let edge = |len: u64| vec![0; usize::try_from(len).unwrap_or(EDGE as usize)];
        Ok(Self {
            path,
            size,
            head: edge(head_len),
            tail: edge(size - tail_at),
            tail_at,
            tail_used: false,
            filling: None,
            free,
            queue: Some(queue),
            worker: Some(worker),
            written: 0,
        })
    }

    /// Queues `data` for `offset`. Waits while the disk is slower.
    pub(crate) fn write(&mut self, mut offset: u64, mut data: &[u8]) -> Result<(), ImageError> {
        self.check(offset, data.len() as u64)?;
        self.written += data.len() as u64;
        while !data.is_empty() {
            let taken = if let Some(taken) = put(&mut self.head, 0, offset, data) {
                taken
            } else if let Some(taken) = put(&mut self.tail, self.tail_at, offset, data) {
                self.tail_used = true;
                taken
            } else {
                let until = usize::try_from(self.tail_at - offset).unwrap_or(usize::MAX);
                self.fill(offset, data.get(..until).unwrap_or(data))?
            };
            offset += taken as u64;
            data = data.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Queues zeros.
    pub(crate) fn zero(&mut self, mut offset: u64, mut len: u64) -> Result<(), ImageError> {
        self.check(offset, len)?;
        let head_len = self.head.len() as u64;
        // Both ends are zero from the start and a range is given only once.
        let cut = head_len.saturating_sub(offset).min(len);
        offset += cut;
        len -= cut;
        len = len.min(self.tail_at.saturating_sub(offset));
        if len == 0 {
            return Ok(());
        }
        if len < ZERO_RUN as u64 {
            while len > 0 {
                let taken = self.fill(offset, ZEROS.get(..usize::try_from(len).unwrap_or(BUFFER)).unwrap_or(&ZEROS))?;
                offset += taken as u64;
                len -= taken as u64;
            }
            return Ok(());
        }
        self.flush()?;
        self.send(Job::Zero { offset, len })
    }

    fn check(&self, offset: u64, len: u64) -> Result<(), ImageError> {
        let end = offset.saturating_add(len);
        if end > self.size {
            return Err(ImageError::TooLarge { image: end, at_least: true, disk: self.size, device: self.path.clone() });
        }
        Ok(())
    }

    /// Copies as much of `data` as the current buffer takes.
    fn fill(&mut self, offset: u64, data: &[u8]) -> Result<usize, ImageError> {
        if self.filling.as_ref().is_some_and(|f| f.offset + f.len as u64 != offset || f.len == f.room) {
            self.flush()?;
        }
        let filling = match self.filling.take() {
            Some(filling) => filling,
            None => {
                let Ok(buffer) = self.free.recv() else { return Err(self.worker_failure()) };
                // Whole buffers end on a multiple of their size.
                let into = usize::try_from(offset % BUFFER as u64).unwrap_or(0);
                let lead = usize::try_from(offset % ALIGN).unwrap_or(0);
                Filling { buffer, offset, lead, len: 0, room: BUFFER - into }
            }
        };
        let filling = self.filling.insert(filling);
        let taken = data.len().min(filling.room - filling.len);
        if !filling.buffer.put(filling.lead + filling.len, data.get(..taken).unwrap_or_default()) {
            return Err(ImageError::Request("a write buffer overflowed".into()));
        }
        filling.len += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> Result<(), ImageError> {
        match self.filling.take() {
            Some(Filling { buffer, offset, lead, len, .. }) => self.send(Job::Write { offset, buffer, lead, len }),
            None => Ok(()),
        }
    }

    fn send(&mut self, job: Job) -> Result<(), ImageError> {
        match self.queue.as_ref().map(|queue| queue.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.worker_failure()),
        }
    }

    /// Why the writing thread is gone.
    fn worker_failure(&mut self) -> ImageError {
        match self.stop() {
            Err(error) => error,
            Ok(_) => ImageError::Cancelled,
        }
    }

    fn stop(&mut self) -> Result<Disk, ImageError> {
        self.queue = None;
        let gone = |text: &str| ImageError::Disk { action: "write", device: self.path.clone(), source: io::Error::other(text.to_owned()) };
        match self.worker.take() {
            Some(worker) => worker.join().unwrap_or_else(|_| Err(gone("the writing thread died"))),
            None => Err(gone("the writing thread has stopped")),
        }
    }

    /// Everything was right: flushes, then writes the held-back ends, tail first.
    pub(crate) fn commit(mut self) -> Result<SinkReport, ImageError> {
        self.flush()?;
        let mut disk = self.stop()?;
        let ends = self.write_ends(&mut disk);
        if let Err(error) = ends {
            // A head written in part may look bootable.
            let _ = disk.zero(0, self.head.len() as u64).and_then(|()| disk.sync());
            return Err(disk.fail("write the first and last MiB of", error));
        }
        Ok(SinkReport { written: self.written, direct: disk.direct.is_some() })
    }

    fn write_ends(&self, disk: &mut Disk) -> io::Result<()> {
        disk.sync()?;
        if self.tail_used {
            disk.buffered.write_all_at(&self.tail, self.tail_at)?;
            disk.sync()?;
        }
        disk.buffered.write_all_at(&self.head, 0)?;
        disk.sync()
    }
}

impl Drop for DiskSink {
    /// Waits for the writing thread, so that nothing writes to the disk after the sink is gone.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Copies the part of `data` that lies in `held` (which starts at `base`); `None` when `offset` is outside.
fn put(held: &mut [u8], base: u64, offset: u64, data: &[u8]) -> Option<usize> {
    let at = usize::try_from(offset.checked_sub(base)?).ok()?;
    let place = held.get_mut(at..).filter(|place| !place.is_empty())?;
    let taken = place.len().min(data.len());
    place.get_mut(..taken)?.copy_from_slice(data.get(..taken)?);
    Some(taken)
}

fn work(mut disk: Disk, jobs: &Receiver<Job>, back: &SyncSender<AlignedBuffer>) -> Result<Disk, ImageError> {
    for job in jobs {
        match job {
            Job::Write { offset, buffer, lead, len } => {
                let data = buffer.part(lead, len);
                let done = if len >= ZERO_RUN && ZEROS.get(..len) == Some(data) {
                    disk.zero(offset, len as u64)
                } else {
                    disk.write_at(offset, data)
                };
                done.map_err(|error| disk.fail("write to", error))?;
                // The sink may be gone already.
                let _ = back.send(buffer);
            }
            Job::Zero { offset, len } => {
                disk.zero(offset, len).map_err(|error| disk.fail("write zeros to", error))?;
            }
        }
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_file(size: u64) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        // Old data everywhere.
        let old = vec![0xee; 1 << 20];
        let mut at = 0;
        while at < size {
            let len = (size - at).min(1 << 20);
            file.write_all_at(&old[..usize::try_from(len).unwrap()], at).unwrap();
            at += len;
        }
        (dir, path)
    }

    #[test]
    fn ragged_pieces_in_any_order_land_where_they_belong() {
        const SIZE: u64 = 12 << 20;
        let (_dir, path) = disk_file(SIZE);
        let mut want = vec![0_u8; SIZE as usize];
        let mut sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
        let pieces: [(u64, usize); 7] =
            [(0, 700), (700, 1_500_000), (9_000_001, 513), (5 << 20, 4 << 20), (1_500_700, 11), (SIZE - 5, 5), (10_000_000, 8192)];
        let mut holes = vec![true; SIZE as usize];
        for (n, (offset, len)) in pieces.into_iter().enumerate() {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + n + 1) as u8).collect();
            sink.write(offset, &data).unwrap();
            let range = offset as usize..offset as usize + len;
            want[range.clone()].copy_from_slice(&data);
            holes[range].fill(false);
        }
        // Everything else is zeroed explicitly.
        let mut at = 0;
        while at < holes.len() {
            let end = holes[at..].iter().position(|hole| *hole != holes[at]).map_or(holes.len(), |n| at + n);
            if holes[at] {
                sink.zero(at as u64, (end - at) as u64).unwrap();
            }
            at = end;
        }
        sink.commit().unwrap();
        assert!(std::fs::read(&path).unwrap() == want);
    }

    #[test]
    fn nothing_bootable_is_on_the_disk_before_the_commit() {
        const SIZE: u64 = 8 << 20;
        let (_dir, path) = disk_file(SIZE);
        let mut sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
        sink.write(0, &vec![1; SIZE as usize]).unwrap();
        drop(sink);
        let disk = std::fs::read(&path).unwrap();
        assert!(disk[..EDGE as usize].iter().all(|b| *b == 0));
        assert!(disk[(SIZE - EDGE) as usize..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_write_past_the_end_is_refused() {
        for size in [0, 700, 1 << 20, 3 << 20] {
            let (_dir, path) = disk_file(size);
            let mut sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
            assert!(matches!(sink.write(size, &[1]), Err(ImageError::TooLarge { .. })));
            assert!(matches!(sink.zero(u64::MAX, 2), Err(ImageError::TooLarge { .. })));
        }
    }

    #[test]
    fn a_disk_smaller_than_both_ends_is_written_whole() {
        for size in [700, 1 << 20, (1 << 20) + 512, 2 << 20] {
            let (_dir, path) = disk_file(size);
            let mut sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
            sink.write(0, &vec![9; size as usize]).unwrap();
            sink.commit().unwrap();
            assert!(std::fs::read(&path).unwrap().iter().all(|b| *b == 9));
        }
    }
}
