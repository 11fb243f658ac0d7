//! One image from its server to the disk: the order of checks, and what happens when one fails.
//!
//! Size, format and permission are checked on the first MiB, before the disk is touched. The checksum covers
//! the bytes as they are served. Never leaves a bootable disk behind after a failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::HttpOptions;
use super::decode::{Compression, Decoded};
use super::fetch::{FetchPolicy, FetchStats, Remote};
use super::format::{self, Format};
use super::ranges::RangeReader;
use super::request::WriteImageRequest;
use super::source::{Download, Source, download};
use super::verify::{ChecksumError, Expected, Hasher, MAX_CHECKSUM_FILE};
use super::write::{Disk, DiskSink, SinkReport};
use super::{ImageError, qcow2};
use crate::progress::Progress;

/// Times that a write begins again because the server can neither resume nor say that the image is the same.
const MAX_RESTARTS: u32 = 10;
/// How soon a request to stop is noticed.
const CANCEL_POLL: Duration = Duration::from_millis(200);

/// What a successful image write did.
#[derive(Clone, Debug)]
pub struct WriteReport {
    /// URL that was used, without credentials.
    pub url: String,
    /// Detected format.
    pub format: Format,
    /// Compression around it.
    pub compression: Option<&'static str>,
    /// Bytes of the file on the server, all of them hashed.
    pub downloaded: u64,
    /// Bytes of the image on the disk (the virtual size of a qcow2 image).
    pub image_size: u64,
    /// Bytes of data written; holes are not counted.
    pub written: u64,
    /// Bytes of the disk.
    pub disk_size: u64,
    /// Algorithm of the checksum that was right.
    pub algorithm: &'static str,
    /// The checksum.
    pub digest: String,
    /// Connections that were lost and taken up again.
    pub reconnects: u32,
    /// Bytes that the server had to send again because it has no ranges.
    pub repeated_bytes: u64,
    /// Whether the page cache was bypassed.
    pub direct: bool,
    /// Time from the first request to the last flush.
    pub elapsed: Duration,
    /// Things that an operator may want to know.
    pub notes: Vec<String>,
}

/// Writes a whole-disk image. On any failure the disk's first and last MiB are zero or as they were before.
///
/// Survives lost connections and a restart of the image server; dropping the future, or
/// [`Progress::cancel`], stops it.
///
/// # Errors
/// See [`ImageError`]; failures of one URL's server move on to the next URL.
pub async fn write_image(request: WriteImageRequest, progress: Arc<Progress>) -> Result<WriteReport, ImageError> {
    let mut notes = Vec::new();
    let mut restarts = 0;
    let mut last = ImageError::Request("no image URL was given".into());
    for url in &request.urls {
        loop {
            match attempt(&request, url, &progress).await {
                Ok(mut report) => {
                    notes.append(&mut report.notes);
                    report.notes = notes;
                    return Ok(report);
                }
                Err(ImageError::Restart) if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    let note = "the server could not resume the same image: the write began again";
                    tracing::warn!(restarts, "{note}");
                    notes.push(note.to_owned());
                }
                Err(ImageError::Restart) => {
                    return Err(ImageError::Request(format!(
                        "the download broke {MAX_RESTARTS} times and the server can neither resume it nor \
                         identify the image: serve it with ranges and an ETag"
                    )));
                }
                Err(error) if error.is_of_the_server() => {
                    tracing::warn!("{error}");
                    last = error;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Err(last)
}

async fn attempt(request: &WriteImageRequest, url: &str, progress: &Arc<Progress>) -> Result<WriteReport, ImageError> {
    let started = Instant::now();
    progress.start_phase("connecting", None);
    let remote = Remote::new(url, &request.http, &request.policy)?;
    let opening = async {
        let expected = expected(request, &remote).await?;
        let download = download(remote.clone(), Hasher::new(expected.algorithm), Arc::clone(progress)).await?;
        Ok::<_, ImageError>((expected, download))
    };
    let (expected, Download { source, total, tables, guard }) = until_cancelled(opening, progress).await?;
    let mut guard = Some(guard);
    let work = Work { request: request.clone(), source, expected, total, tables, progress: Arc::clone(progress) };
    let handle = tokio::runtime::Handle::current();
    let mut running = tokio::task::spawn_blocking(move || handle.block_on(work.run()));
    let done = loop {
        tokio::select! {
            done = &mut running => break done,
            () = tokio::time::sleep(CANCEL_POLL) => if progress.is_cancelled() { drop(guard.take()) },
        }
    };
    let mut report = done.map_err(|error| ImageError::Request(format!("the write thread died: {error}")))??;
    remote.shown().clone_into(&mut report.url);
    report.elapsed = started.elapsed();
    Ok(report)
}

async fn until_cancelled<T>(work: impl Future<Output = Result<T, ImageError>>, progress: &Progress) -> Result<T, ImageError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(CANCEL_POLL) => if progress.is_cancelled() { return Err(ImageError::Cancelled) },
        }
    }
}

/// The checksum that the image must have, fetched when it is given by URL.
async fn expected(request: &WriteImageRequest, image: &Remote) -> Result<Expected, ImageError> {
    let value = request.checksum.as_deref().map(str::trim).filter(|value| !value.is_empty()).ok_or(ChecksumError::Missing)?;
    let algorithm = request.algorithm.as_deref();
    if !value.starts_with("http://") && !value.starts_with("https://") {
        return Ok(Expected::parse(value, algorithm, request.allow_md5)?);
    }
    let remote = Remote::new(value, &request.http, &request.policy)?;
    let bytes = remote.read_small(MAX_CHECKSUM_FILE).await?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Expected::from_file(&text, &image.file_name(), remote.shown(), algorithm, request.allow_md5)?)
}

/// What runs on the blocking thread.
struct Work {
    request: WriteImageRequest,
    source: Source,
    expected: Expected,
    total: Option<u64>,
    tables: RangeReader,
    progress: Arc<Progress>,
}

impl Work {
    async fn run(mut self) -> Result<WriteReport, ImageError> {
        let head = match self.source.peek(format::HEAD).await {
            Ok(head) => head,
            Err(error) => return Err(self.source.take_failure().unwrap_or_else(|| ImageError::Request(error.to_string()))),
        };
        if head.is_empty() {
            return Err(ImageError::Format("it is empty".into()));
        }
        let compression = Compression::detect(&head);
        let mut image = Decoded::new(self.source, compression, self.request.decoder);
        let head = if compression.is_some() { image.peek().await? } else { head };
        let format = format::decide(&head, self.request.disk_format.as_deref(), &self.request.rules)?;
        let disk = Disk::open(&self.request.device)?;
        let disk_size = disk.size();
        let fits = |size: u64| {
            let device = || self.request.device.clone();
            if size > disk_size {
                return Err(ImageError::TooLarge { image: size, at_least: false, disk: disk_size, device: device() });
            }
            Ok(())
        };
        let plan = match (format, compression) {
            (Format::Qcow2, Some(compression)) => {
                return Err(ImageError::Format(format!(
                    "qcow2 inside {} is not built: serve the qcow2 itself, compressed by qemu-img convert -c",
                    compression.name()
                )));
            }
            (Format::Qcow2, None) => {
                let header = qcow2::Header::parse(&head)?;
                fits(header.virtual_size())?;
                self.tables.know_head(head);
                Some(qcow2::Plan::read(&header, &mut self.tables).await?)
            }
            (_, None) => {
                if let Some(total) = self.total {
                    fits(total)?;
                }
                None
            }
            (_, Some(_)) => None,
        };
        drop(disk);
        if self.request.wipe_metadata {
            // The download goes on meanwhile and counts its bytes.
            self.progress.rename_phase("wiping");
            crate::disk::wipe::wipe_metadata(&self.request.device, self.request.guard_special)?;
            self.progress.rename_phase("writing");
        }
        let mut sink = DiskSink::start(Disk::open(&self.request.device)?)?;
        let image_size = match plan {
            Some(plan) => plan.write(&mut image, &mut sink).await?,
            None => write_plain(&mut image, &mut sink).await?,
        };
        image.drain().await?;
        self.progress.start_phase("verifying", None);
        let source = image.source();
        let downloaded = source.received();
        let actual = source.digest().unwrap_or_default();
        if actual != self.expected.hex {
            return Err(ImageError::ChecksumMismatch {
                algorithm: self.expected.algorithm.name(),
                expected: self.expected.hex,
                actual,
                bytes: downloaded,
            });
        }
        let stats = source.stats().clone();
        self.progress.start_phase("syncing", None);
        let SinkReport { written, direct } = sink.commit()?;
        let FetchStats { reconnects, repeated_bytes } = stats;
        let repeated_bytes = repeated_bytes + self.tables.repeated();
        let mut notes = Vec::new();
        if repeated_bytes > 0 {
            notes.push(format!("the image server has no range requests: {repeated_bytes} bytes were sent again"));
        }
        if !direct {
            notes.push("the device refused direct writes: the page cache was used".to_owned());
        }
        Ok(WriteReport {
            url: String::new(),
            format,
            compression: compression.map(Compression::name),
            downloaded,
            image_size,
            written,
            disk_size,
            algorithm: self.expected.algorithm.name(),
            digest: actual,
            reconnects,
            repeated_bytes,
            direct,
            elapsed: Duration::ZERO,
            notes,
        })
    }
}

async fn write_plain(image: &mut Decoded, sink: &mut DiskSink) -> Result<u64, ImageError> {
    let mut offset = 0;
    while let Some(chunk) = image.chunk().await? {
        let len = chunk.len() as u64;
        sink.write_shared(offset, chunk)?;
        offset += len;
    }
    Ok(offset)
}

/// Fetches a small file with the same patience as an image, for a config drive given by URL.
///
/// # Errors
/// As for images, and when the file is larger than `limit` bytes.
pub async fn fetch_small(url: &str, options: &HttpOptions, policy: &FetchPolicy, limit: usize) -> Result<bytes::Bytes, ImageError> {
    Ok(Remote::new(url, options, policy)?.read_small(limit).await?)
}
