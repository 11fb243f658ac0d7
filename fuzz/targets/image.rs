//! A whole image write: any bytes as an image (raw, qcow2, compressed) from a real HTTP server on loopback to a file as
//! the disk. It ends, stays within the disk, and reports an error rather than half an image.
#![no_main]

use libfuzzer_sys::fuzz_target;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bessemer_agent::image::request::ImageSettings;
use bessemer_agent::image::{ImageInfo, WriteImageRequest, write_image};
use bessemer_agent::progress::Progress;
use sha2::{Digest, Sha256};

const DISK: u64 = 1 << 20;

static BODY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
});

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// One answer per connection, with ranges.
fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let body = BODY.lock().ok()?.clone();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).and_then(|range| {
        let (from, to) = range.trim().split_once('-')?;
        let to = to.parse().map_or(body.len(), |to: usize| to.saturating_add(1).min(body.len()));
        Some((from.parse::<usize>().ok()?, to))
    });
    let (status, from, to) = match range {
        Some((from, to)) if from < to => ("206 Partial Content", from, to),
        Some(_) => ("416 Range Not Satisfiable", 0, 0),
        None => ("200 OK", 0, body.len()),
    };
    let mut answer = format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nConnection: close\r\nContent-Length: {}\r\n", to - from);
    if range.is_some() && from < to {
        answer += &format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, body.len());
    }
    answer += "\r\n";
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&body[from..to]).ok()
}

fuzz_target!(init: bessemer_agent::http::install_crypto(), |data: &[u8]| {
    data.clone_into(&mut BODY.lock().expect("one writer"));
    // In memory where that is possible: the writer flushes.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let Ok(disk) = tempfile::NamedTempFile::new_in(folder) else { return };
    if disk.as_file().set_len(DISK).is_err() {
        return;
    }
    let sum: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    let info = ImageInfo {
        id: "fuzz".into(),
        urls: vec![format!("http://{}/image", *SERVER)],
        os_hash_algo: Some("sha256".into()),
        os_hash_value: Some(sum),
        ..ImageInfo::default()
    };
    let mut settings = ImageSettings::default();
    settings.policy.retries = 0;
    settings.policy.outage = Duration::ZERO;
    settings.policy.interval = Duration::from_millis(1);
    settings.policy.timeout = Duration::from_secs(5);
    let Ok(mut request) = WriteImageRequest::from_image_info(&info, disk.path(), &settings) else { return };
    request.wipe_metadata = false;
    let _ = RUNTIME.block_on(write_image(request, Arc::new(Progress::default())));
    let len = disk.as_file().metadata().map(|meta| meta.len()).unwrap_or(DISK);
    assert_eq!(len, DISK, "the disk grew");
});
