//! The image's checksum on a thread of its own, beside receiving and writing.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::verify::Hasher;

/// Where the bytes to hash go, in order. Holds no more than the blocks that there are: their pool is the bound.
pub(crate) type Feed = Sender<Bytes>;

/// A running hash.
pub(crate) struct DigestThread(JoinHandle<String>);

impl DigestThread {
    /// Starts the thread. It ends when the feed is dropped.
    ///
    /// # Errors
    /// When the system has no thread.
    pub(crate) fn start(mut hasher: Hasher) -> std::io::Result<(Self, Feed)> {
        let (feed, bytes): (Feed, Receiver<Bytes>) = channel();
        let thread = std::thread::Builder::new().name("image-digest".into()).spawn(move || {
            for piece in bytes {
                hasher.update(&piece);
            }
            hasher.finish()
        })?;
        Ok((Self(thread), feed))
    }

    /// Digest of everything that was fed, lower-case hexadecimal. Waits until the feed is dropped and everything is
    /// hashed. `None` when the thread died.
    pub(crate) fn finish(self) -> Option<String> {
        self.0.join().ok()
    }
}
