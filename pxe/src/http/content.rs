//! The bytes of an answer: parts in memory, in files and behind addresses, joined, cut to a range and streamed in
//! bounded memory.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::task::JoinHandle;

use super::range::ByteRange;
use crate::plan::FileRef;
use crate::programs::Program;

/// Bytes read from a file at once. Two such chunks are in memory per connection.
const CHUNK: u64 = 256 << 10;
/// How long another server may take to begin an answer.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(15);

/// Why there are no bytes.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The plan names a file that is not there or cannot be read.
    #[error("cannot read {what}: {source}")]
    File {
        /// Its name.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The plan names an address that does not give the file.
    #[error("cannot fetch the file that the plan names: {0}")]
    Upstream(String),
}

/// Bytes ready to be served.
#[derive(Debug)]
pub struct Content {
    parts: Vec<Part>,
    len: u64,
    etag: Option<String>,
}

#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    File { file: File, len: u64 },
    Url { url: String, len: u64, client: reqwest::Client },
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Url { len, .. } => *len,
        }
    }
}

impl Content {
    /// A boot program.
    pub fn of_program(program: Program) -> Self {
        let (part, modified) = match program {
            Program::Bytes { bytes, modified } => (Part::Bytes(bytes), modified),
            Program::File { file, len, modified } => (Part::File { file, len }, modified),
        };
        let len = part.len();
        Self { len, etag: Some(quoted(&stamp(len, modified))), parts: vec![part] }
    }

    /// The files joined in their order. With `align`, each part but the last is filled up with zeros to a multiple of
    /// four bytes: the kernel finds the next archive of an initial ramdisk only there.
    pub async fn open(files: &[FileRef], align: bool, client: Option<&reqwest::Client>) -> Result<Self, ContentError> {
        let mut parts: Vec<Part> = Vec::with_capacity(files.len());
        let mut stamps = Some(String::new());
        let mut len = 0u64;
        for file in files {
            let padding = if align { (4 - len % 4) % 4 } else { 0 };
            if padding > 0 {
                let zeros = Bytes::from_static(&[0; 3]);
                parts.push(Part::Bytes(zeros.slice(..usize::try_from(padding).unwrap_or(0))));
                len += padding;
            }
            let (part, stamp) = open_one(file, client).await?;
            len += part.len();
            parts.push(part);
            stamps = stamps.zip(stamp).map(|(all, one)| if all.is_empty() { one } else { format!("{all}.{one}") });
        }
        Ok(Self { parts, len, etag: stamps.map(|stamps| quoted(&stamps)) })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Strong validator with its quotes; none if the parts have none.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The bytes of a range as a body that reads ahead by one chunk.
    pub fn into_body(self, range: ByteRange) -> Body {
        let mut at = 0u64;
        let mut pieces = VecDeque::new();
        for part in self.parts {
            let (part_start, part_end) = (at, at + part.len());
            at = part_end;
            let (start, end) = (range.start.max(part_start), range.end.min(part_end));
            if start < end {
                pieces.push_back(Piece::new(part, start - part_start, end - start));
            }
        }
        if pieces.len() == 1
            && let Some(Piece::Bytes(bytes)) = pieces.front_mut()
        {
            return Body::from(std::mem::take(bytes));
        }
        Body::from_stream(stream::unfold(pieces, |mut pieces| async move {
            loop {
                let front = pieces.front_mut()?;
                match front.next().await {
                    Ok(Some(bytes)) => return Some((Ok(bytes), pieces)),
                    Ok(None) => {
                        pieces.pop_front();
                    }
                    Err(error) => return Some((Err::<Bytes, _>(error), VecDeque::new())),
                }
            }
        }))
    }
}

async fn open_one(file: &FileRef, client: Option<&reqwest::Client>) -> Result<(Part, Option<String>), ContentError> {
    match file {
        FileRef::Bytes(bytes) => {
            let mut hasher = std::hash::DefaultHasher::new();
            bytes.hash(&mut hasher);
            let stamp = format!("{:x}-{:x}", bytes.len(), hasher.finish());
            Ok((Part::Bytes(bytes.clone()), Some(stamp)))
        }
        FileRef::Path(path) => {
            let wanted = path.clone();
            let opened = tokio::task::spawn_blocking(move || {
                let meta = std::fs::metadata(&wanted)?;
                if !meta.is_file() {
                    return Err(io::Error::other("not a regular file"));
                }
                let file = File::open(&wanted)?;
                let meta = file.metadata()?;
                Ok((file, meta.len(), meta.modified()?))
            });
            let (file, len, modified) = opened
                .await
                .map_err(io::Error::other)
                .flatten()
                .map_err(|source| ContentError::File { what: path.display().to_string(), source })?;
            Ok((Part::File { file, len }, Some(stamp(len, modified))))
        }
        FileRef::Url(url) => {
            let client =
                client.ok_or_else(|| ContentError::Upstream("no HTTP client is configured for files at other servers".to_owned()))?;
            probe(url, client).await
        }
    }
}

/// Asks another server for length and validator.
async fn probe(url: &str, client: &reqwest::Client) -> Result<(Part, Option<String>), ContentError> {
    // Addresses may hold credentials: errors are shown without them.
    let upstream = |error: reqwest::Error| ContentError::Upstream(error.without_url().to_string());
    let answer =
        client.head(url).timeout(UPSTREAM_PATIENCE).send().await.and_then(reqwest::Response::error_for_status).map_err(upstream)?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let len: u64 = header("content-length")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ContentError::Upstream("the server does not say the file's length".to_owned()))?;
    let stamp = header("etag").filter(|tag| !tag.starts_with("W/")).map(|tag| {
        let mut hasher = std::hash::DefaultHasher::new();
        tag.hash(&mut hasher);
        format!("{len:x}-{:x}", hasher.finish())
    });
    let part = Part::Url { url: url.to_owned(), len, client: client.clone() };
    Ok((part, stamp))
}

fn stamp(len: u64, modified: SystemTime) -> String {
    let nanos = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{len:x}-{nanos:x}")
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// What is left to send of a part.
enum Piece {
    Bytes(Bytes),
    File(FileReader),
    Url(Box<UrlReader>),
}

impl Piece {
    fn new(part: Part, offset: u64, len: u64) -> Self {
        match part {
            Part::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
                Self::Bytes(bytes.slice(start..end.min(bytes.len())))
            }
            Part::File { file, .. } => Self::File(FileReader { file: Some(file), seek: Some(offset), left: len, ahead: None }),
            Part::Url { url, client, .. } => Self::Url(Box::new(UrlReader { url, client, offset, left: len, answer: None })),
        }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => Ok(None),
            Self::Bytes(bytes) => Ok(Some(std::mem::take(bytes))),
            Self::File(reader) => reader.next().await,
            Self::Url(reader) => reader.next().await,
        }
    }
}

/// Reads a file on the blocking threads, one chunk ahead of what is being sent.
struct FileReader {
    file: Option<File>,
    seek: Option<u64>,
    left: u64,
    ahead: Option<JoinHandle<io::Result<(File, Bytes)>>>,
}

impl FileReader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.read_ahead();
        let Some(ahead) = self.ahead.take() else {
            return Ok(None);
        };
        let (file, bytes) = ahead.await.map_err(io::Error::other)??;
        self.file = Some(file);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.read_ahead();
        Ok(Some(bytes))
    }

    fn read_ahead(&mut self) {
        if self.left == 0 || self.ahead.is_some() {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let (seek, want) = (self.seek.take(), self.left.min(CHUNK));
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            if let Some(offset) = seek {
                file.seek(SeekFrom::Start(offset))?;
            }
            let mut buffer = Vec::with_capacity(usize::try_from(want).unwrap_or(0));
            (&mut file).take(want).read_to_end(&mut buffer)?;
            // A file that shrank: the length was promised, so the connection ends instead of the body.
            if (buffer.len() as u64) < want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((file, Bytes::from(buffer)))
        }));
    }
}

/// Passes on another server's bytes.
struct UrlReader {
    url: String,
    client: reqwest::Client,
    offset: u64,
    left: u64,
    answer: Option<reqwest::Response>,
}

impl UrlReader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let failed = |error: reqwest::Error| io::Error::other(error.without_url());
        if self.answer.is_none() {
            let range = format!("bytes={}-{}", self.offset, self.offset + self.left - 1);
            let send = self.client.get(&self.url).header(http::header::RANGE, range).send();
            let answer = tokio::time::timeout(UPSTREAM_PATIENCE, send)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
                .map_err(failed)?;
            let fits =
                answer.status() == http::StatusCode::PARTIAL_CONTENT || (answer.status() == http::StatusCode::OK && self.offset == 0);
            if !fits {
                return Err(io::Error::other(format!("the other server answered {}", answer.status())));
            }
            self.answer = Some(answer);
        }
        let Some(answer) = &mut self.answer else { return Ok(None) };
        let chunk = tokio::time::timeout(UPSTREAM_PATIENCE * 4, answer.chunk())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(failed)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let keep = usize::try_from(self.left).unwrap_or(usize::MAX).min(chunk.len());
        self.left -= keep as u64;
        Ok(Some(chunk.slice(..keep)))
    }
}
