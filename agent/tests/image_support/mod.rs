//! What the image and disk tests share: an HTTP server with faults, loop devices, and test images.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "test support: not every test file uses all of it")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bessemer_agent::image::request::ImageSettings;
use bessemer_agent::image::{ImageInfo, WriteImageRequest};
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// How the server behaves.
#[derive(Default)]
pub struct Faults {
    pub no_ranges: bool,
    pub no_etag: bool,
    pub no_last_modified: bool,
    /// Connections are cut after so many body bytes, one entry for each connection.
    pub cuts: Mutex<VecDeque<u64>>,
    /// Connections stop sending after so many body bytes, one entry for each connection.
    pub stalls: Mutex<VecDeque<u64>>,
    /// Status to answer instead.
    pub status: AtomicU16,
    /// Answers with this status, one entry for each request.
    pub statuses: Mutex<VecDeque<u16>>,
    pub authorization: Option<String>,
    /// No Content-Length: the end of the connection ends the body.
    pub no_length: bool,
    pub changed: AtomicBool,
}

pub struct Server {
    pub address: std::net::SocketAddr,
    pub served: Arc<AtomicU64>,
    pub requests: Arc<AtomicU64>,
    pub faults: Arc<Faults>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(body: Vec<u8>, faults: Faults) -> Self {
        Self::start_at("127.0.0.1:0", body, faults).await
    }

    /// Over TLS with a certificate of its own authority, whose PEM is given back.
    pub async fn start_tls(body: Vec<u8>, faults: Faults) -> (Self, Vec<u8>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (Self::serve("127.0.0.1:0", body, faults, Some(acceptor)).await, key.cert.pem().into_bytes())
    }

    pub async fn start_at(address: &str, body: Vec<u8>, faults: Faults) -> Self {
        Self::serve(address, body, faults, None).await
    }

    async fn serve(address: &str, body: Vec<u8>, faults: Faults, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (served, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let faults = Arc::new(faults);
        let body = Arc::new(body);
        let shared = (Arc::clone(&served), Arc::clone(&requests), Arc::clone(&faults));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (served, requests, faults) = shared.clone();
                let body = Arc::clone(&body);
                let tls = tls.clone();
                connections.spawn(async move {
                    let _ = match tls {
                        None => connection(stream, &body, &faults, &served, &requests).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => connection(stream, &body, &faults, &served, &requests).await,
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Self { address, served, requests, faults, task }
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    body: &[u8],
    faults: &Faults,
    served: &AtomicU64,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await?;
            head.push(byte);
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).map(|value| value.trim().to_owned());
        let once = faults.statuses.lock().unwrap().pop_front();
        let status = once.unwrap_or_else(|| faults.status.load(Ordering::SeqCst));
        let denied =
            faults.authorization.as_ref().is_some_and(|want| header("authorization").as_deref() != Some(&want.to_ascii_lowercase()));
        if status != 0 || denied {
            let status = if denied { 401 } else { status };
            stream.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            continue;
        }
        let etag = if faults.changed.load(Ordering::SeqCst) { "\"two\"" } else { "\"one\"" };
        let range = header("range").filter(|_| !faults.no_ranges);
        let same = header("if-range").is_none_or(|validator| validator == etag || validator.starts_with("sun"));
        let bounds = range.filter(|_| same).and_then(|range| {
            let (from, to) = range.strip_prefix("bytes=")?.split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            let from: usize = from.parse().ok()?;
            let to = if to.is_empty() { body.len() } else { to.parse::<usize>().ok()?.saturating_add(1).min(body.len()) };
            Some((from, to))
        });
        if bounds.is_some_and(|(from, _)| from >= body.len()) {
            stream.write_all(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        }
        let (from, to) = bounds.unwrap_or((0, body.len()));
        let mut answer = if bounds.is_some() {
            format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{}\r\n", to - 1, body.len())
        } else {
            "HTTP/1.1 200 OK\r\n".to_owned()
        };
        if faults.no_length {
            answer += "Connection: close\r\n";
        } else {
            answer += &format!("Content-Length: {}\r\n", to - from);
        }
        if !faults.no_ranges {
            answer += "Accept-Ranges: bytes\r\n";
        }
        if !faults.no_etag {
            answer += &format!("ETag: {etag}\r\n");
        }
        if !faults.no_last_modified {
            answer += "Last-Modified: Sun, 01 Mar 2026 10:00:00 GMT\r\n";
        }
        stream.write_all((answer + "\r\n").as_bytes()).await?;
        let cut = faults.cuts.lock().unwrap().pop_front();
        let stall = faults.stalls.lock().unwrap().pop_front();
        let limit = cut.or(stall).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let part = &body[from..to.min(from.saturating_add(limit))];
        for piece in part.chunks(64 << 10) {
            stream.write_all(piece).await?;
            served.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        if part.len() < to - from {
            if stall.is_some() && cut.is_none() {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            return Ok(());
        }
        if faults.no_length {
            return Ok(());
        }
    }
}

/// Bytes that do not compress and do not repeat.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A disk-like image: data, holes and text in turns.
pub fn sparse(len: usize, seed: u64) -> Vec<u8> {
    let mut image = vec![0; len];
    let step = 3_000_000;
    for (n, start) in (0..len).step_by(step).enumerate() {
        let end = (start + step / 2).min(len);
        match n % 3 {
            0 => image[start..end].copy_from_slice(&noise(end - start, seed + n as u64)),
            1 => image[start..end].fill(b'a'),
            _ => {}
        }
    }
    image
}

pub fn sha256(data: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(data))
}

pub fn sha512(data: &[u8]) -> String {
    hex::encode(sha2::Sha512::digest(data))
}

/// A request with little patience, for tests.
pub fn request(device: &Path, url: &str, checksum: &str, format: &str) -> WriteImageRequest {
    let info = ImageInfo {
        id: "test".into(),
        urls: vec![url.into()],
        checksum: Some(checksum.into()),
        disk_format: Some(format.into()),
        ..ImageInfo::default()
    };
    let mut settings = ImageSettings::default();
    settings.policy.timeout = Duration::from_secs(2);
    settings.policy.interval = Duration::from_millis(300);
    settings.policy.retries = 3;
    settings.policy.outage = Duration::from_secs(3);
    WriteImageRequest::from_image_info(&info, device, &settings).unwrap()
}

/// A file that stands for a disk, filled with old data.
pub fn old_disk(dir: &Path, len: u64) -> PathBuf {
    let path = dir.join("disk.img");
    let old = vec![0xa5_u8; usize::try_from(len).unwrap()];
    std::fs::write(&path, old).unwrap();
    path
}

/// A loop device, detached when dropped.
pub struct Loop {
    pub device: PathBuf,
}

impl Loop {
    /// `None` (with a word on stderr) where loop devices cannot be made.
    pub fn attach(file: &Path, options: &[&str]) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).args(options).arg(file).output().ok()?;
        if !output.status.success() {
            eprintln!("SKIPPED: no loop device: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self { device: PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// Runs a tool that a test needs; its output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Whether a tool is installed; says so when not.
pub fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
