//! Decompression of an image stream, recognised by its first bytes, with a bound on the decoder's memory.
//!
//! Never guesses from file names, and refuses data whose window needs more memory than the limit.

use std::io;

use async_compression::tokio::bufread::{GzipDecoder, XzDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::ImageError;
use super::block::{BLOCK, Pool};
use super::format::HEAD;
use super::source::Source;

/// Blocks of decoded bytes: being filled, waiting for the disk, being written.
const BLOCKS: usize = 4;

/// How an image is compressed on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz format.
    Xz,
}

impl Compression {
    /// Recognises compressed data by its magic number.
    pub fn detect(head: &[u8]) -> Option<Self> {
        if head.starts_with(&[0x1f, 0x8b, 0x08]) {
            Some(Self::Gzip)
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Self::Zstd)
        } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Some(Self::Xz)
        } else {
            None
        }
    }

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }
}

/// Memory that a decoder's window may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLimit {
    zstd_window_log: u32,
    xz_bytes: u64,
}

impl DecoderLimit {
    /// 32 MiB windows: with the write buffers the whole write stays within 64 MiB.
    pub const SMALL: Self = Self { zstd_window_log: 25, xz_bytes: 40 << 20 };
    /// 128 MiB windows (`zstd --long`, `xz -9`), for machines with memory to spare.
    pub const LARGE: Self = Self { zstd_window_log: 27, xz_bytes: 140 << 20 };

    /// The larger limit where more than 1 GiB of memory is available.
    pub fn of_this_machine() -> Self {
        let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = info
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse::<u64>().ok());
        if available.is_some_and(|kib| kib > 1 << 20) { Self::LARGE } else { Self::SMALL }
    }
}

enum Inner {
    Plain(Box<Source>),
    Gzip(Box<GzipDecoder<Source>>),
    Zstd(Box<ZstdDecoder<Source>>),
    Xz(Box<XzDecoder<Source>>),
}

/// The image's own bytes, decompressed where needed.
pub(crate) struct Decoded {
    inner: Inner,
    compression: Option<Compression>,
    limit: DecoderLimit,
    pool: Pool,
    /// Decoded bytes that were looked at but not yet handed on.
    head: Option<Bytes>,
}

impl Decoded {
    pub(crate) fn new(source: Source, compression: Option<Compression>, limit: DecoderLimit) -> Self {
        let inner = match compression {
            None => Inner::Plain(Box::new(source)),
            Some(Compression::Gzip) => {
                let mut decoder = GzipDecoder::new(source);
                decoder.multiple_members(true);
                Inner::Gzip(Box::new(decoder))
            }
            Some(Compression::Zstd) => {
                let mut decoder = ZstdDecoder::with_params(source, &[DParameter::window_log_max(limit.zstd_window_log)]);
                decoder.multiple_members(true);
                Inner::Zstd(Box::new(decoder))
            }
            Some(Compression::Xz) => {
                let mut decoder = XzDecoder::with_mem_limit(source, limit.xz_bytes);
                decoder.multiple_members(true);
                Inner::Xz(Box::new(decoder))
            }
        };
        let blocks = if compression.is_some() { BLOCKS } else { 0 };
        Self { inner, compression, limit, pool: Pool::new(blocks), head: None }
    }

    /// The network side.
    pub(crate) fn source(&mut self) -> &mut Source {
        match &mut self.inner {
            Inner::Plain(source) => source,
            Inner::Gzip(decoder) => decoder.get_mut(),
            Inner::Zstd(decoder) => decoder.get_mut(),
            Inner::Xz(decoder) => decoder.get_mut(),
        }
    }

    /// The image's first [`HEAD`] bytes, fewer when it is shorter. They stay unread. Called once, before the first
    /// [`Decoded::chunk`].
    pub(crate) async fn peek(&mut self) -> Result<Vec<u8>, ImageError> {
        if let Inner::Plain(source) = &mut self.inner {
            let found = source.peek(HEAD).await;
            return found.map_err(|error| self.explain(&error));
        }
        self.head = self.decode(HEAD).await?;
        Ok(self.head.as_deref().map(<[u8]>::to_vec).unwrap_or_default())
    }

    /// The next decoded bytes, `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ImageError> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        self.decode(BLOCK).await
    }

    async fn decode(&mut self, limit: usize) -> Result<Option<Bytes>, ImageError> {
        let pool = &mut self.pool;
        let found = match &mut self.inner {
            Inner::Plain(source) => source.chunk().await,
            Inner::Gzip(decoder) => some_bytes(decoder, pool, limit).await,
            Inner::Zstd(decoder) => some_bytes(decoder, pool, limit).await,
            Inner::Xz(decoder) => some_bytes(decoder, pool, limit).await,
        };
        found.map_err(|error| self.explain(&error))
    }

    /// Reads the network to its end after the decoder has ended, so that the checksum covers the whole file.
    pub(crate) async fn drain(&mut self) -> Result<(), ImageError> {
        let ended = self.source().drain().await;
        ended.map_err(|error| self.explain(&error))
    }

    /// The network's failure when there is one, else the decoder's.
    fn explain(&mut self, error: &io::Error) -> ImageError {
        if let Some(failure) = self.source().take_failure() {
            return failure;
        }
        let text = error.to_string();
        let compression = self.compression.map_or("raw", Compression::name);
        let mib = |bytes: u64| bytes >> 20;
        let reason = match self.compression {
            Some(Compression::Zstd) if text.contains("memory") => {
                format!("its window is larger than {} MiB; compress it without --long and --ultra", mib(1 << self.limit.zstd_window_log))
            }
            Some(Compression::Xz) if text.to_ascii_lowercase().contains("mem") => {
                format!("it needs more than {} MiB of memory; compress it with xz -8 or less", mib(self.limit.xz_bytes))
            }
            _ if error.kind() == io::ErrorKind::UnexpectedEof => "it ends too early; the file on the server is incomplete".into(),
            _ => text,
        };
        ImageError::Decode { compression, reason }
    }
}

/// Fills the first `limit` bytes of a block, fewer at the end; `None` when there are none.
async fn some_bytes<R: AsyncRead + Unpin>(reader: &mut R, pool: &mut Pool, limit: usize) -> io::Result<Option<Bytes>> {
    let mut block = pool.take().await;
    while block.len() < limit {
        match reader.read(block.space(limit)).await? {
            0 => break,
            read => block.filled(read),
        }
    }
    Ok((block.len() > 0).then(|| block.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_recognised_by_content_only() {
        assert_eq!(Compression::detect(&[0x1f, 0x8b, 8, 0]), Some(Compression::Gzip));
        assert_eq!(Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Some(Compression::Zstd));
        assert_eq!(Compression::detect(b"\xfd7zXZ\0"), Some(Compression::Xz));
        assert_eq!(Compression::detect(b"\x1f\x8b"), None);
        assert_eq!(Compression::detect(&[]), None);
    }
}
