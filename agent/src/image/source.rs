//! The downloaded bytes as a reader: countable, hashed beside, and peekable for format detection.
//!
//! One thread fetches into blocks of a fixed number and hands each to the hash and to the reader of this module at
//! once, so that fetching, hashing and writing overlap. Never holds more than those blocks.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ImageError;
use super::block::{BLOCK, Block, Pool};
use super::digest::{DigestThread, Feed};
use super::fetch::{FetchError, FetchStats, ImageStream, Remote};
use super::format::HEAD;
use super::ranges::RangeReader;
use super::verify::Hasher;
use crate::progress::Progress;

/// Blocks in flight: one being filled, two being written, the others at the hash or waiting for either.
const BLOCKS: usize = 6;

/// What the fetching thread sends.
enum Item {
    Chunk(Bytes),
    End(FetchStats),
    Failed(FetchError),
}

/// What the first answer told about the image.
struct Opened {
    total: Option<u64>,
    tables: RangeReader,
}

/// A download under way.
pub(crate) struct Download {
    /// Its bytes.
    pub(crate) source: Source,
    /// Bytes of the whole file when the server told.
    pub(crate) total: Option<u64>,
    /// Reader of single pieces of the same file.
    pub(crate) tables: RangeReader,
    /// Ends the download when dropped.
    pub(crate) guard: DropGuard,
}

/// Asks for the image and, once its first answer is there, goes on fetching on a thread of its own.
///
/// That thread also drives the connection: what it receives it copies into a block while it is in the processor's
/// cache, and the connection's own buffer is free for the next piece without any allocation.
///
/// # Errors
/// As [`Remote::open`].
pub(crate) async fn download(remote: Remote, hasher: Hasher, progress: Arc<Progress>) -> Result<Download, ImageError> {
    let no_thread = |error: io::Error| ImageError::Request(format!("no thread for the download: {error}"));
    let (digest, feed) = DigestThread::start(hasher).map_err(no_thread)?;
    let (sender, receiver) = mpsc::channel(BLOCKS);
    let (opened, head) = oneshot::channel();
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
    let thread = std::thread::Builder::new().name("image-fetch".into());
    let counter = Arc::clone(&progress);
    thread
        .spawn(move || {
            runtime.block_on(token.run_until_cancelled(fetch(remote, opened, Pump::new(sender, feed, counter))));
            // A name that is still being looked up must not hold anybody.
            runtime.shutdown_background();
        })
        .map_err(no_thread)?;
    let Opened { total, tables } = match head.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(ImageError::Request("the download's thread died".into())),
    };
    Ok(Download { source: Source::new(receiver, digest), total, tables, guard })
}

async fn fetch(remote: Remote, opened: oneshot::Sender<Result<Opened, FetchError>>, mut pump: Pump) {
    let mut stream = match remote.open().await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    let tables = RangeReader::beside(&stream);
    pump.progress.start_phase("writing", stream.total());
    if opened.send(Ok(Opened { total: stream.total(), tables })).is_ok() {
        // Without a receiver the write is over.
        let _ = pump.run(&mut stream).await;
    }
}

/// The reader is gone.
struct Gone;

/// Moves the stream's bytes into blocks.
struct Pump {
    pool: Pool,
    sender: mpsc::Sender<Item>,
    feed: Feed,
    progress: Arc<Progress>,
    received: u64,
    filling: Option<Block>,
    limit: usize,
}

impl Pump {
    fn new(sender: mpsc::Sender<Item>, feed: Feed, progress: Arc<Progress>) -> Self {
        // The first block is what format detection wants; all later ones are whole.
        Self { pool: Pool::new(BLOCKS), sender, feed, progress, received: 0, filling: None, limit: HEAD }
    }

    async fn run(&mut self, stream: &mut ImageStream) -> Result<(), Gone> {
        loop {
            match stream.next().await {
                Ok(Some(piece)) => self.take(piece).await?,
                Ok(None) => {
                    self.hand_on().await?;
                    return self.send(Item::End(stream.stats())).await;
                }
                Err(error) => return self.send(Item::Failed(error)).await,
            }
        }
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<(), Gone> {
        self.received += piece.len() as u64;
        self.progress.set(self.received);
        while !piece.is_empty() {
            let mut block = match self.filling.take() {
                Some(block) => block,
                None => self.pool.take().await,
            };
            let taken = block.fill(&piece, self.limit);
            piece.advance(taken);
            let full = block.len() >= self.limit;
            self.filling = Some(block);
            if full {
                self.hand_on().await?;
            }
        }
        Ok(())
    }

    /// Gives the block that is being filled to the hash and to the reader.
    async fn hand_on(&mut self) -> Result<(), Gone> {
        let Some(block) = self.filling.take() else { return Ok(()) };
        self.limit = BLOCK;
        let bytes = block.freeze();
        self.feed.send(bytes.clone()).map_err(|_| Gone)?;
        self.send(Item::Chunk(bytes)).await
    }

    async fn send(&self, item: Item) -> Result<(), Gone> {
        self.sender.send(item).await.map_err(|_| Gone)
    }
}

/// The image as its server sends it.
pub(crate) struct Source {
    receiver: mpsc::Receiver<Item>,
    waiting: VecDeque<Bytes>,
    digest: Option<DigestThread>,
    received: u64,
    ended: bool,
    failed: Option<ImageError>,
    stats: FetchStats,
}

impl Source {
    fn new(receiver: mpsc::Receiver<Item>, digest: DigestThread) -> Self {
        Self {
            receiver,
            waiting: VecDeque::new(),
            digest: Some(digest),
            received: 0,
            ended: false,
            failed: None,
            stats: FetchStats::default(),
        }
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn stats(&self) -> &FetchStats {
        &self.stats
    }

    /// What stopped the stream, to be preferred over the I/O error that readers saw.
    pub(crate) fn take_failure(&mut self) -> Option<ImageError> {
        self.failed.take()
    }

    /// Digest of the whole file; to be asked for after the end only. `None` when asked for before.
    pub(crate) fn digest(&mut self) -> Option<String> {
        self.digest.take().filter(|_| self.ended).and_then(DigestThread::finish)
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
                self.received += chunk.len() as u64;
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
            // The fetching thread is gone without a word: the write was dropped.
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

    /// Reads what is left without using it.
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
