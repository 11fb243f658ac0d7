//! An HTTP server for images that misbehaves on demand and writes down every byte it sent.
//!
//! One thread per connection, HTTP/1.1 with keep-alive, `GET` and `HEAD`, single byte ranges
//! (RFC 9110 section 14). Each answer adds one [`Access`] and one JSON line to the log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

const BLOCK: usize = 64 << 10;
/// How long a stalled answer holds its connection open.
const STALL: Duration = Duration::from_secs(600);

/// How the server answers for one path.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Body bytes per second of each answer; `None` sends as fast as it goes.
    pub rate: Option<u64>,
    /// Close the connection after that many body bytes of an answer.
    pub cut_after: Option<u64>,
    /// How many answers are cut; later ones are whole.
    pub cuts: u32,
    /// Send nothing more after that many body bytes, and hold the connection.
    pub stall_after: Option<u64>,
    /// Answer with this status and no body instead.
    pub status: Option<u16>,
    /// Whether ranges are honoured (`false`: always the whole file with status 200).
    pub ranges: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { rate: None, cut_after: None, cuts: u32::MAX, stall_after: None, status: None, ranges: true }
    }
}

/// One answered request.
#[derive(Debug, Clone, Serialize)]
pub struct Access {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Status sent.
    pub status: u16,
    /// First byte of the file that was sent.
    pub from: u64,
    /// Body bytes handed to the network. What was lost with the connection counts as sent.
    pub sent: u64,
    /// Body bytes that the answer announced.
    pub announced: u64,
    /// Address of the client.
    pub peer: String,
    /// When the answer began, in seconds since the server's start.
    pub at: f64,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<HashMap<String, (PathBuf, Behaviour)>>,
    accesses: Mutex<Vec<Access>>,
    stop: AtomicBool,
}

/// A running server.
#[derive(Debug)]
pub struct ImageServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ImageServer {
    /// Listens on `address` (port 0 takes a free one); accesses are also written to `log`.
    pub fn start(address: &str, log: &Path) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("image server on {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let log = Arc::new(Mutex::new(File::options().create(true).append(true).open(log)?));
        let start = Instant::now();
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, log) = (served.clone(), log.clone());
                std::thread::spawn(move || {
                    let note = |access: Access| {
                        if let Ok(line) = serde_json::to_string(&access) {
                            let _ = writeln!(locked(&log), "{line}");
                        }
                        locked(&shared.accesses).push(access);
                    };
                    let _ = connection(&shared, stream, start, &note);
                });
            }
        });
        Ok(Self { shared, address })
    }

    /// Serves `file` at `path` (begins with `/`); replaces what was there.
    pub fn serve(&self, path: &str, file: &Path, behaviour: Behaviour) -> String {
        locked(&self.shared.files).insert(path.to_owned(), (file.to_path_buf(), behaviour));
        format!("http://{}{path}", self.address)
    }

    /// Every answer so far, in the order in which they ended. An answer is written down a moment
    /// after its last byte was sent.
    #[must_use]
    pub fn accesses(&self) -> Vec<Access> {
        locked(&self.shared.accesses).clone()
    }

    /// The accesses of one path.
    #[must_use]
    pub fn accesses_of(&self, path: &str) -> Vec<Access> {
        self.accesses().into_iter().filter(|access| access.path == path).collect()
    }
}

impl Drop for ImageServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn connection(shared: &Shared, stream: TcpStream, start: Instant, note: &dyn Fn(Access)) -> Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?.to_string();
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some((method, path, range)) = read_request(&mut reader)? {
        let entry = locked(&shared.files).get(&path).cloned();
        let mut access = Access {
            method,
            path: path.clone(),
            status: 404,
            from: 0,
            sent: 0,
            announced: 0,
            peer: peer.clone(),
            at: start.elapsed().as_secs_f64(),
        };
        let result = match entry {
            None => plain(&mut writer, 404),
            Some((_, Behaviour { status: Some(status), .. })) => {
                access.status = status;
                plain(&mut writer, status)
            }
            Some((file, behaviour)) => {
                let cut = behaviour.cut_after.is_some() && take_cut(shared, &path);
                let plan = Behaviour { cut_after: behaviour.cut_after.filter(|_| cut), ..behaviour };
                answer(&mut writer, &file, &plan, range, &mut access)
            }
        };
        let whole = access.sent == access.announced || access.method == "HEAD";
        note(access);
        result?;
        if !whole {
            return Ok(());
        }
    }
    Ok(())
}

/// Uses up one of the path's cuts; false when none is left.
fn take_cut(shared: &Shared, path: &str) -> bool {
    let mut files = locked(&shared.files);
    let Some((_, behaviour)) = files.get_mut(path) else { return false };
    let left = behaviour.cuts > 0;
    behaviour.cuts = behaviour.cuts.saturating_sub(1);
    left
}

type Range = Option<(u64, Option<u64>)>;

fn read_request(reader: &mut impl BufRead) -> Result<Option<(String, String, Range)>> {
    let mut line = String::new();
    if reader.take(8192).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut range = None;
    loop {
        let mut header = String::new();
        if reader.take(8192).read_line(&mut header)? == 0 || header.trim().is_empty() {
            return Ok(Some((method, path, range)));
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("range") {
            range = parse_range(value.trim());
        }
    }
}

fn parse_range(value: &str) -> Range {
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, if to.is_empty() { None } else { Some(to.parse().ok()?) }))
}

fn plain(writer: &mut TcpStream, status: u16) -> Result<()> {
    write!(writer, "HTTP/1.1 {status} -\r\nContent-Length: 0\r\n\r\n")?;
    Ok(())
}

fn answer(writer: &mut TcpStream, path: &Path, behaviour: &Behaviour, range: Range, access: &mut Access) -> Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut from, mut until) = (0, length);
    access.status = 200;
    if let Some((first, last)) = range.filter(|_| behaviour.ranges) {
        if first >= length {
            access.status = 416;
            write!(writer, "HTTP/1.1 416 -\r\nContent-Range: bytes */{length}\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(());
        }
        access.status = 206;
        (from, until) = (first, last.map_or(length, |last| (last + 1).min(length)));
    }
    (access.from, access.announced) = (from, until.saturating_sub(from));
    let ranges = if behaviour.ranges { "Accept-Ranges: bytes\r\n" } else { "" };
    let part = if access.status == 206 { format!("Content-Range: bytes {from}-{}/{length}\r\n", until - 1) } else { String::new() };
    write!(
        writer,
        "HTTP/1.1 {} -\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n{ranges}{part}\r\n",
        access.status, access.announced
    )?;
    if access.method == "HEAD" {
        return Ok(());
    }
    let begin = Instant::now();
    let mut block = vec![0; BLOCK];
    while access.sent < access.announced {
        let mut size = (access.announced - access.sent).min(BLOCK as u64);
        for (limit, stall) in [(behaviour.cut_after, false), (behaviour.stall_after, true)] {
            let Some(limit) = limit else { continue };
            if access.sent >= limit {
                if stall {
                    std::thread::sleep(STALL);
                }
                writer.shutdown(std::net::Shutdown::Both)?;
                return Ok(());
            }
            size = size.min(limit - access.sent);
        }
        let block = block.get_mut(..usize::try_from(size)?).context("block within its buffer")?;
        file.read_exact_at(block, from + access.sent)?;
        if let Some(rate) = behaviour.rate.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64((access.sent + size) as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        writer.write_all(block)?;
        access.sent += size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request;

    fn start(content: &[u8], behaviour: Behaviour) -> (tempfile::TempDir, ImageServer, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, content).unwrap();
        let server = ImageServer::start("127.0.0.1:0", &folder.path().join("log")).unwrap();
        let url = server.serve("/file", &file, behaviour);
        (folder, server, url)
    }

    fn fetch(url: &str, range: &str) -> Result<crate::http::Reply> {
        request("GET", url, &[("Range", range)], None, Duration::from_secs(5))
    }

    /// An answer is written down a moment after its last byte was sent.
    fn answered(server: &ImageServer, count: usize) -> Vec<Access> {
        crate::tool::until("accesses", Duration::from_secs(5), || server.accesses().len() >= count).unwrap();
        server.accesses_of("/file")
    }

    #[test]
    fn a_range_is_answered_with_that_part_and_written_down() {
        let (_folder, server, url) = start(b"0123456789", Behaviour::default());
        let reply = fetch(&url, "bytes=4-6").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (206, "456"));
        assert_eq!(reply.header("content-range"), Some("bytes 4-6/10"));
        let access = answered(&server, 1).pop().unwrap();
        assert_eq!((access.from, access.sent), (4, 3));
    }

    #[test]
    fn a_cut_answer_is_resumed_by_the_next_range() {
        let content = vec![7; 200_000];
        let (_folder, server, url) = start(&content, Behaviour { cut_after: Some(70_000), cuts: 1, ..Behaviour::default() });
        assert!(fetch(&url, "bytes=0-").is_err());
        assert_eq!(fetch(&url, "bytes=70000-").unwrap().body.len(), 130_000);
        let sent: u64 = answered(&server, 2).iter().map(|access| access.sent).sum();
        assert_eq!(sent, 200_000);
    }

    #[test]
    fn a_rate_is_kept() {
        let (_folder, _server, url) = start(&[7; 128 << 10], Behaviour { rate: Some(256 << 10), ..Behaviour::default() });
        let begin = Instant::now();
        fetch(&url, "bytes=0-").unwrap();
        assert!(begin.elapsed() > Duration::from_millis(450));
    }
}
