//! The bytes of TFTP files: boot programs from the operator's folders, and virtual files through [`TftpFiles`].

use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::programs::{Program, ProgramError, Programs};

/// How much of a file is read ahead at once.
const CHUNK: u64 = 256 << 10;

/// An opened file of known size.
#[derive(Debug, Clone)]
pub enum TftpContent {
    /// In memory.
    Bytes(Bytes),
    /// An open file and its length.
    File(Arc<File>, u64),
}

impl TftpContent {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum TftpFileError {
    /// There is none, or none for this client.
    #[error("file not found")]
    NotFound,
    /// The name is refused.
    #[error("file name not allowed")]
    Denied,
    /// It cannot be read now.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
}

/// Where TFTP files come from.
#[async_trait]
pub trait TftpFiles: Send + Sync + 'static {
    /// Opens a file by the name in the request, for this client. Names are hostile.
    async fn open(&self, name: &str, client: SocketAddrV4) -> Result<TftpContent, TftpFileError>;
}

#[async_trait]
impl TftpFiles for Programs {
    async fn open(&self, name: &str, _client: SocketAddrV4) -> Result<TftpContent, TftpFileError> {
        // A look-up and a read of at most a few megabytes that are in the page cache: shorter than handing it over.
        match Programs::open(self, name) {
            Ok(Program::Bytes { bytes, .. }) => Ok(TftpContent::Bytes(bytes)),
            Ok(Program::File { file, len, .. }) => Ok(TftpContent::File(Arc::new(file), len)),
            Err(ProgramError::Name) => Err(TftpFileError::Denied),
            Err(ProgramError::Absent) => Err(TftpFileError::NotFound),
            Err(ProgramError::Io(error)) => Err(error.into()),
        }
    }
}

/// Reads a content in ascending order with one chunk of memory.
#[derive(Debug)]
pub struct Reader {
    content: TftpContent,
    /// The chunk read last, and its offset.
    chunk: Bytes,
    at: u64,
}

impl Reader {
    /// Reads from this content.
    pub fn new(content: TftpContent) -> Self {
        let chunk = match &content {
            TftpContent::Bytes(bytes) => bytes.clone(),
            TftpContent::File(..) => Bytes::new(),
        };
        Self { content, chunk, at: 0 }
    }

    /// Makes `offset..offset + len` available to [`Reader::slice`]; `len` must be below 256 KiB less a block.
    pub async fn prepare(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset + len as u64;
        if offset >= self.at && end <= self.at + self.chunk.len() as u64 {
            return Ok(());
        }
        let TftpContent::File(file, total) = &self.content else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let take = CHUNK.max(len as u64).min(total.saturating_sub(offset));
        let file = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; usize::try_from(take).map_err(|_| io::ErrorKind::InvalidInput)?];
            // A file that shrank since it was opened ends the transfer: its size was promised.
            file.read_exact_at(&mut buffer, offset)?;
            Ok::<_, io::Error>(buffer)
        });
        self.chunk = Bytes::from(read.await.map_err(io::Error::other)??);
        self.at = offset;
        Ok(())
    }

    /// Bytes that were prepared; empty if they were not.
    pub fn slice(&self, offset: u64, len: usize) -> &[u8] {
        let Some(start) = offset.checked_sub(self.at).and_then(|start| usize::try_from(start).ok()) else {
            return &[];
        };
        self.chunk.get(start..start.saturating_add(len)).unwrap_or_default()
    }
}
