//! Bytes onto a disk: aligned direct writes on threads of their own, with both ends of the disk held back.
//!
//! The first and the last MiB, where partition tables and boot loaders begin, are zeroed before anything else
//! and written only by [`DiskSink::commit`], tail first, head last, each behind a flush. Until then, and after
//! any failure, the disk holds nothing that firmware would boot. Never writes past the end of the disk, and never
//! relies on the order of two writes in between: each range is given once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::ImageError;
use super::block::{ALIGN, AlignedBuffer, BLOCK, is_zero};
pub(crate) use super::device::Disk;

/// Bytes held back at each end of the disk.
pub(crate) const EDGE: u64 = 1 << 20;
/// Writes under way at once, a thread for each: the disk need not wait for us between two of them.
const WRITERS: usize = 2;
/// Writes that wait for a thread.
const QUEUE: usize = 2;
/// Own buffers, for data that cannot be written from where it lies: being filled, queued, being written.
const BUFFERS: usize = 1 + QUEUE + WRITERS;
/// Shared data at least this long is written from where it lies; less is gathered first.
const SHARED_MIN: usize = 256 << 10;
/// A run of zeros at least this long is left to the device.
const ZERO_RUN: usize = 1 << 20;

enum Job {
    Write { offset: u64, buffer: AlignedBuffer, lead: usize, len: usize },
    Shared { offset: u64, data: Bytes },
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

/// What to gather in a buffer.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Data(&'a [u8]),
    Zeros(usize),
}

/// What a finished write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SinkReport {
    pub(crate) written: u64,
    pub(crate) direct: bool,
}

/// Takes the image's bytes in any order and writes them.
pub(crate) struct DiskSink {
    disk: Arc<Disk>,
    size: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: u64,
    tail_used: bool,
    filling: Option<Filling>,
    /// Own buffers that were never used yet.
    unused: usize,
    free: Receiver<AlignedBuffer>,
    queue: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<Result<(), ImageError>>>,
    written: u64,
}

impl DiskSink {
    /// Zeroes both ends of the disk and starts the writing threads. Destroys the disk's partition table.
    pub(crate) fn start(disk: Disk) -> Result<Self, ImageError> {
        let size = disk.size();
        let head_len = size.min(EDGE);
        let tail_at = size.saturating_sub(EDGE).max(head_len);
        let zeroed = disk.zero(0, head_len).and_then(|()| disk.zero(tail_at, size - tail_at)).and_then(|()| disk.sync());
        zeroed.map_err(|error| disk.fail("wipe the ends of", error))?;
        let disk = Arc::new(disk);
        let (queue, jobs) = sync_channel(QUEUE);
        let (back, free) = sync_channel(BUFFERS);
        let (jobs, failed) = (Arc::new(Mutex::new(jobs)), Arc::new(AtomicBool::new(false)));
        let mut workers = Vec::with_capacity(WRITERS);
        for _ in 0..WRITERS {
            let worker = Worker { disk: Arc::clone(&disk), jobs: Arc::clone(&jobs), back: back.clone(), failed: Arc::clone(&failed) };
            let thread = std::thread::Builder::new().name("disk-writer".into()).spawn(move || worker.work());
            workers.push(thread.map_err(|error| disk.fail("start a thread for", error))?);
        }
        let edge = |len: u64| vec![0; usize::try_from(len).unwrap_or(EDGE as usize)];
        Ok(Self {
            disk,
            size,
            head: edge(head_len),
            tail: edge(size - tail_at),
            tail_at,
            tail_used: false,
            filling: None,
            unused: BUFFERS,
            free,
            queue: Some(queue),
            workers,
            written: 0,
        })
    }

    /// Queues `data` for `offset`. Waits while the disk is slower.
    pub(crate) fn write(&mut self, mut offset: u64, mut data: &[u8]) -> Result<(), ImageError> {
        self.check(offset, data.len() as u64)?;
        self.written += data.len() as u64;
        while !data.is_empty() {
            let taken = match self.hold_back(offset, data) {
                Some(taken) => taken,
                None => {
                    let until = usize::try_from(self.tail_at - offset).unwrap_or(usize::MAX);
                    self.fill(offset, Piece::Data(data.get(..until).unwrap_or(data)))?
                }
            };
            offset += taken as u64;
            data = data.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// As [`DiskSink::write`], and without a copy where `data` is long and lies in memory as it will on the disk.
    pub(crate) fn write_shared(&mut self, mut offset: u64, mut data: Bytes) -> Result<(), ImageError> {
        self.check(offset, data.len() as u64)?;
        while !data.is_empty() {
            if let Some(taken) = self.hold_back(offset, &data) {
                self.written += taken as u64;
                offset += taken as u64;
                let _ = data.split_to(taken);
                continue;
            }
            let until = usize::try_from(self.tail_at - offset).unwrap_or(usize::MAX).min(data.len());
            let part = data.split_to(until);
            let congruent = (part.as_ptr().addr() as u64).wrapping_sub(offset).is_multiple_of(ALIGN as u64);
            if congruent && part.len() >= SHARED_MIN {
                self.written += part.len() as u64;
                self.send(Job::Shared { offset, data: part })?;
            } else {
                self.write(offset, &part)?;
            }
            offset += until as u64;
        }
        Ok(())
    }

    /// Keeps what belongs to one of the disk's ends; says how much that was. `None`: `offset` lies between them.
    fn hold_back(&mut self, offset: u64, data: &[u8]) -> Option<usize> {
        if let Some(taken) = put(&mut self.head, 0, offset, data) {
            return Some(taken);
        }
        let taken = put(&mut self.tail, self.tail_at, offset, data)?;
        self.tail_used = true;
        Some(taken)
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
                let taken = self.fill(offset, Piece::Zeros(usize::try_from(len).unwrap_or(ZERO_RUN)))?;
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
            let device = self.disk.path().to_owned();
            return Err(ImageError::TooLarge { image: end, at_least: true, disk: self.size, device });
        }
        Ok(())
    }

    /// Gathers as much of `piece` as the current buffer takes.
    fn fill(&mut self, offset: u64, piece: Piece<'_>) -> Result<usize, ImageError> {
        if self.filling.as_ref().is_some_and(|f| f.offset + f.len as u64 != offset || f.len == f.room) {
            self.flush()?;
        }
        let filling = match self.filling.take() {
            Some(filling) => filling,
            None => {
                let buffer = self.buffer()?;
                // Whole buffers end on a multiple of their size.
                let into = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
                let lead = into % ALIGN;
                Filling { buffer, offset, lead, len: 0, room: BLOCK - into }
            }
        };
        let filling = self.filling.insert(filling);
        let room = filling.buffer.room(filling.lead + filling.len);
        let left = filling.room - filling.len;
        let taken = match piece {
            Piece::Data(data) => {
                let taken = data.len().min(left);
                if let (Some(place), Some(data)) = (room.get_mut(..taken), data.get(..taken)) {
                    place.copy_from_slice(data);
                }
                taken
            }
            Piece::Zeros(len) => {
                let taken = len.min(left);
                if let Some(place) = room.get_mut(..taken) {
                    place.fill(0);
                }
                taken
            }
        };
        filling.len += taken;
        Ok(taken)
    }

    /// An own buffer; waits until one is free.
    fn buffer(&mut self) -> Result<AlignedBuffer, ImageError> {
        if let Ok(buffer) = self.free.try_recv() {
            return Ok(buffer);
        }
        if self.unused > 0 {
            self.unused -= 1;
            return Ok(AlignedBuffer::new());
        }
        self.free.recv().map_err(|_| self.worker_failure())
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

    /// Why the writing threads are gone.
    fn worker_failure(&mut self) -> ImageError {
        let gone = self.disk.fail("write", io::Error::other("the writing thread has stopped"));
        self.stop().err().unwrap_or(gone)
    }

    /// Waits until everything queued is written.
    fn stop(&mut self) -> Result<(), ImageError> {
        self.queue = None;
        let mut result = Ok(());
        for worker in std::mem::take(&mut self.workers) {
            let died = || Err(self.disk.fail("write", io::Error::other("the writing thread died")));
            result = result.and(worker.join().unwrap_or_else(|_| died()));
        }
        result
    }

    /// Everything was right: flushes, then writes the held-back ends, tail first.
    pub(crate) fn commit(mut self) -> Result<SinkReport, ImageError> {
        self.flush()?;
        self.stop()?;
        if let Err(error) = self.write_ends() {
            // A head written in part may look bootable.
            let _ = self.disk.zero(0, self.head.len() as u64).and_then(|()| self.disk.sync());
            return Err(self.disk.fail("write the first and last MiB of", error));
        }
        Ok(SinkReport { written: self.written, direct: self.disk.is_direct() })
    }

    fn write_ends(&self) -> io::Result<()> {
        self.disk.sync()?;
        if self.tail_used {
            self.disk.write_buffered(self.tail_at, &self.tail)?;
            self.disk.sync()?;
        }
        self.disk.write_buffered(0, &self.head)?;
        self.disk.sync()
    }
}

impl Drop for DiskSink {
    /// Waits for the writing threads, so that nothing writes to the disk after the sink is gone.
    fn drop(&mut self) {
        let _ = self.stop();
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

/// One writing thread. The first failure ends them all, which the sink sees by the queue that nobody reads.
struct Worker {
    disk: Arc<Disk>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    back: SyncSender<AlignedBuffer>,
    failed: Arc<AtomicBool>,
}

impl Worker {
    fn work(self) -> Result<(), ImageError> {
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return Ok(()) };
            if self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.carry_out(job).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        }
    }

    fn carry_out(&self, job: Job) -> Result<(), ImageError> {
        match job {
            Job::Write { offset, buffer, lead, len } => {
                self.write(offset, buffer.part(lead, len))?;
                // The sink may be gone already.
                let _ = self.back.send(buffer);
                Ok(())
            }
            Job::Shared { offset, data } => self.write(offset, &data),
            Job::Zero { offset, len } => self.disk.zero(offset, len).map_err(|error| self.disk.fail("write zeros to", error)),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), ImageError> {
        let done = if data.len() >= ZERO_RUN && is_zero(data) {
            self.disk.zero(offset, data.len() as u64)
        } else {
            self.disk.write_at(offset, data)
        };
        done.map_err(|error| self.disk.fail("write to", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

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
    fn shared_data_arrives_whether_or_not_it_can_be_written_from_where_it_lies() {
        const SIZE: u64 = 9 << 20;
        // From the first MiB through the middle into the last; pieces of any address and length, one of them all zeros.
        for cut in [1 << 20, (1 << 20) + 1, 300_000, 4096 * 70] {
            let (_dir, path) = disk_file(SIZE);
            let mut want = Vec::new();
            let mut sink = DiskSink::start(Disk::open(&path).unwrap()).unwrap();
            while (want.len() as u64) < SIZE {
                let offset = want.len();
                let len = cut.min(SIZE as usize - offset);
                let seed = if offset / cut == 3 { 0 } else { offset / cut + 1 };
                let data: Vec<u8> = (0..len).map(|i| (i * 13 * seed.min(1) + seed) as u8).collect();
                // Every second piece starts at an aligned address, as a block of the download does.
                let data = if seed % 2 == 0 { Bytes::from(data) } else { aligned(&data) };
                sink.write_shared(offset as u64, data.clone()).unwrap();
                want.extend_from_slice(&data);
            }
            let report = sink.commit().unwrap();
            assert_eq!(report.written, SIZE);
            assert!(std::fs::read(&path).unwrap() == want, "{cut}");
        }
    }

    fn aligned(data: &[u8]) -> Bytes {
        struct Owner(AlignedBuffer, usize);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.part(0, self.1)
            }
        }
        let mut buffer = AlignedBuffer::new();
        buffer.room(0)[..data.len()].copy_from_slice(data);
        Bytes::from_owner(Owner(buffer, data.len()))
    }

    #[test]
    fn a_failed_write_names_the_disk_and_the_cause() {
        let path = PathBuf::from("/dev/full");
        let disk = Disk::open(&path).unwrap();
        let worker =
            Worker { disk: Arc::new(disk), jobs: Arc::new(Mutex::new(sync_channel(1).1)), back: sync_channel(1).0, failed: Arc::default() };
        let error = worker.carry_out(Job::Shared { offset: 0, data: Bytes::from_static(b"x") }).unwrap_err().to_string();
        assert!(error.contains("write to /dev/full") && error.contains("No space"), "{error}");
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
