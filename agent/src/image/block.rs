//! Memory of the image write: aligned buffers in a fixed number, shared without copies and used again.
//!
//! A buffer is filled once by its owner, then read by many (hash, decoder, disk) as [`Bytes`]; the last reader's drop
//! brings it home. Who wants one waits until one is home: that is the whole of the backpressure.

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Bytes of a block and size of one write.
pub(crate) const BLOCK: usize = 2 << 20;
/// Alignment of direct writes in memory and on the disk: the largest logical sector in use.
pub(crate) const ALIGN: usize = 4096;

/// A buffer of [`BLOCK`] bytes whose usable part starts at an aligned address.
pub(crate) struct AlignedBuffer {
    store: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    pub(crate) fn new() -> Self {
        let store = vec![0; BLOCK + ALIGN];
        let start = store.as_ptr().align_offset(ALIGN);
        Self { store, start }
    }

    /// `len` bytes from `from` on; empty when that reaches past the end.
    pub(crate) fn part(&self, from: usize, len: usize) -> &[u8] {
        self.store.get(self.start + from..self.start + from + len).filter(|_| from + len <= BLOCK).unwrap_or_default()
    }

    /// The bytes from `from` to the end.
    pub(crate) fn room(&mut self, from: usize) -> &mut [u8] {
        self.store.get_mut(self.start + from..self.start + BLOCK).unwrap_or_default()
    }
}

/// A fixed number of buffers. Memory is taken when it is first written to.
pub(crate) struct Pool {
    home: UnboundedSender<AlignedBuffer>,
    free: UnboundedReceiver<AlignedBuffer>,
}

impl Pool {
    pub(crate) fn new(buffers: usize) -> Self {
        let (home, free) = unbounded_channel();
        for _ in 0..buffers {
            // The receiver is right here.
            let _ = home.send(AlignedBuffer::new());
        }
        Self { home, free }
    }

    /// Waits for a free buffer.
    pub(crate) async fn take(&mut self) -> Block {
        // The pool holds a sender itself: there is no end.
        let buffer = self.free.recv().await.unwrap_or_else(AlignedBuffer::new);
        Block { buffer: Some(buffer), len: 0, home: self.home.clone() }
    }
}

/// A buffer of a pool, being filled from its start.
pub(crate) struct Block {
    buffer: Option<AlignedBuffer>,
    len: usize,
    home: UnboundedSender<AlignedBuffer>,
}

impl Block {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is still to be filled of the first `limit` bytes. Say by [`Block::filled`] how much of it was.
    pub(crate) fn space(&mut self, limit: usize) -> &mut [u8] {
        let left = limit.min(BLOCK).saturating_sub(self.len);
        self.buffer.as_mut().and_then(|buffer| buffer.room(self.len).get_mut(..left)).unwrap_or_default()
    }

    /// The first `len` bytes of the space hold data now.
    pub(crate) fn filled(&mut self, len: usize) {
        self.len = (self.len + len).min(BLOCK);
    }

    /// Appends as much of `data` as there is room for below `limit` bytes, and says how much that was.
    pub(crate) fn fill(&mut self, data: &[u8], limit: usize) -> usize {
        let space = self.space(limit);
        let taken = space.len().min(data.len());
        if let (Some(place), Some(data)) = (space.get_mut(..taken), data.get(..taken)) {
            place.copy_from_slice(data);
        }
        self.filled(taken);
        taken
    }

    /// Ends the filling.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| buffer.part(0, self.len))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            // Without a pool the memory is given back.
            let _ = self.home.send(buffer);
        }
    }
}

/// Whether all bytes are zero. Looks no further than the first that is not.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    let (lines, rest) = data.as_chunks::<64>();
    // By words: the C library's comparison goes byte by byte on some systems.
    let blank = |line: &[u8; 64]| line.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0;
    lines.iter().all(blank) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_block_comes_home_when_its_last_reader_is_gone_and_not_before() {
        let mut pool = Pool::new(1);
        let mut block = pool.take().await;
        assert_eq!(block.fill(&[7; 100], BLOCK), 100);
        assert_eq!(block.fill(&vec![8; BLOCK], 150), 50, "the limit holds");
        assert_eq!(block.fill(&vec![9; BLOCK], BLOCK), BLOCK - 150);
        let all = block.freeze();
        let one = all.slice(100..101);
        assert_eq!((all.len(), all[99], one[0], all[BLOCK - 1]), (BLOCK, 7, 8, 9));
        assert_eq!(all.as_ptr().align_offset(ALIGN), 0);
        drop(all);
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, pool.take()).await.is_err(), "a part of it is still read");
        drop(one);
        assert_eq!(pool.take().await.len(), 0);
    }

    #[test]
    fn one_bit_anywhere_makes_data_not_zero() {
        let mut data = vec![0; 1000];
        assert!(is_zero(&data) && is_zero(&[]));
        for at in [0, 7, 8, 63, 64, 511, 960, 999] {
            data[at] = 1;
            assert!(!is_zero(&data), "{at}");
            data[at] = 0;
        }
    }
}
