//! The downloaded bytes as a reader: hashed as they come, countable, and peekable for format detection.
//!
//! The bytes come through a short channel from the task that fetches, so that fetching, hashing and writing
//! overlap. Never holds more than the channel and the peeked head.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::ImageError;
use super::fetch::{FetchError, ImageStream};
use super::verify::Hasher;
use crate::progress::Progress;

/// Chunks in flight; a chunk of an HTTP/1 body is at most the connection's read buffer (about 400 KiB).
const DEPTH: usize = 16;

/// What the fetching task sends.
pub(crate) enum Item {
    Chunk(Bytes),
    End(super::fetch::FetchStats),
    Failed(FetchError),
}

/// Starts the fetching task. It ends with the stream or when the receiver goes away.
pub(crate) fn spawn_fetch(mut stream: ImageStream) -> (mpsc::Receiver<Item>, tokio::task::AbortHandle) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let task = tokio::spawn(async move {
        loop {
            let item = match stream.next().await {
                Ok(Some(chunk)) => Item::Chunk(chunk),
                Ok(None) => Item::End(stream.stats()),
                Err(error) => Item::Failed(error),
            };
            let last = !matches!(item, Item::Chunk(_));
            if sender.send(item).await.is_err() || last {
                break;
            }
        }
    });
    (receiver, task.abort_handle())
}

/// The image as its server sends it.
pub(crate) struct Source {
    receiver: mpsc::Receiver<Item>,
    waiting: VecDeque<Bytes>,
    hasher: Option<Hasher>,
    progress: Arc<Progress>,
    received: u64,
    ended: bool,
    failed: Option<ImageError>,
    stats: super::fetch::FetchStats,
}

impl Source {
    pub(crate) fn new(receiver: mpsc::Receiver<Item>, hasher: Hasher, progress: Arc<Progress>) -> Self {
        Self {
            receiver,
            waiting: VecDeque::new(),
            hasher: Some(hasher),
            progress,
            received: 0,
            ended: false,
            failed: None,
            stats: super::fetch::FetchStats::default(),
        }
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn stats(&self) -> &super::fetch::FetchStats {
        &self.stats
    }

    /// What stopped the stream, to be preferred over the I/O error that readers saw.
    pub(crate) fn take_failure(&mut self) -> Option<ImageError> {
        self.failed.take()
    }

    /// Digest of everything received; `None` when taken before.
    pub(crate) fn digest(&mut self) -> Option<String> {
        self.hasher.take().map(Hasher::finish)
    }

    /// Takes the next chunk from the network into `waiting`; false at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if self.failed.is_some() {
            return Poll::Ready(Err(io::Error::other("the download failed")));
        }
        match ready!(self.receiver.poll_recv(cx)) {
            Some(Item::Chunk(chunk)) => {
                if let Some(hasher) = self.hasher.as_mut() {
                    hasher.update(&chunk);
                }
                self.received += chunk.len() as u64;
                self.progress.set(self.received);
                self.waiting.push_back(chunk);
                Poll::Ready(Ok(true))
            }
            Some(Item::End(stats)) => {
                self.stats = stats;
                self.ended = true;
                Poll::Ready(Ok(false))
            }
            Some(Item::Failed(error)) => {
                self.failed = Some(match error {
                    FetchError::Changed { .. } => ImageError::Restart,
                    other => other.into(),
                });
                Poll::Ready(Err(io::Error::other("the download failed")))
            }
            // The fetching task is gone without a word: the write was dropped.
            None => {
                self.failed = Some(ImageError::Cancelled);
                Poll::Ready(Err(io::Error::other("the download was cancelled")))
            }
        }
    }

    /// The first bytes of what is still unread, at least `len` unless the image is shorter. They stay unread.
    pub(crate) async fn peek(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.waiting.iter().map(Bytes::len).sum::<usize>() < len {
            if !std::future::poll_fn(|cx| self.poll_receive(cx)).await? {
                break;
            }
        }
        let mut head = Vec::with_capacity(len);
        for chunk in &self.waiting {
            let wanted = len - head.len();
            head.extend_from_slice(chunk.get(..wanted).unwrap_or(chunk));
        }
        Ok(head)
    }

    /// The next unread chunk, `None` at the end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(chunk) = self.waiting.pop_front() {
                return Ok(Some(chunk));
            }
            if !std::future::poll_fn(|cx| self.poll_receive(cx)).await? {
                return Ok(None);
            }
        }
    }

    /// Reads and hashes what is left without using it.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }
}

impl AsyncBufRead for Source {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.waiting.front().is_none_or(Bytes::is_empty) {
            this.waiting.pop_front();
            if this.waiting.is_empty() && !ready!(this.poll_receive(cx))? {
                return Poll::Ready(Ok(&[]));
            }
        }
        Poll::Ready(Ok(this.waiting.front().map_or(&[], |chunk| chunk)))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        if let Some(front) = self.get_mut().waiting.front_mut() {
            let amount = amount.min(front.len());
            let _ = front.split_to(amount);
        }
    }
}

impl AsyncRead for Source {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let data = ready!(self.as_mut().poll_fill_buf(cx))?;
        let taken = data.len().min(buf.remaining());
        buf.put_slice(data.get(..taken).unwrap_or_default());
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}
