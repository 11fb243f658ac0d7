//! An HTTP proxy that passes an answer's bytes only as far as a test allows, and writes down what it passed.
//!
//! With it in front of the daemon's own HTTP service (`image_http_proxy` in the node's `driver_info`) a test can stop an image transfer at
//! an exact byte. It passes bytes on without looking at more than the first request's target; one request per connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};

/// One answer that went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// First byte asked for by a range, else 0.
    pub from: u64,
    /// Status of the answer; 502 when the server could not be reached.
    pub status: u16,
    /// Body bytes passed on.
    pub bytes: u64,
}

#[derive(Debug)]
struct Shared {
    /// Body bytes that may pass in all.
    allowed: AtomicU64,
    /// Body bytes passed in all.
    passed: AtomicU64,
    /// Grows when all connections are to end.
    cuts: AtomicU64,
    log: Mutex<Vec<Passed>>,
    stop: AtomicBool,
}

/// The proxy.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Gate {
    /// Listens on a free port of the loopback interface; `allowed` body bytes may pass at first.
    ///
    /// # Errors
    /// Of the system.
    pub fn start(allowed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            allowed: AtomicU64::new(allowed),
            passed: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            log: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&own);
                std::thread::spawn(move || {
                    let mut note = Passed { from: 0, status: 502, bytes: 0 };
                    // A connection that breaks is what this proxy is for; the log tells how far it came.
                    let _ = pass(&shared, stream, &mut note);
                    shared.log.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                });
            }
        });
        Ok(Self { shared, address })
    }

    /// Its address as a proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets body bytes pass up to this number in all.
    pub fn allow(&self, bytes: u64) {
        self.shared.allowed.store(bytes, Ordering::SeqCst);
    }

    /// Ends all connections that wait at the closed gate, as a server that dies does.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Body bytes passed so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Answers that have ended, oldest first.
    #[must_use]
    pub fn log(&self) -> Vec<Passed> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.allowed.store(u64::MAX, Ordering::SeqCst);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

fn head(reader: &mut impl BufRead) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.take(8192).read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line);
    }
}

fn header(lines: &[String], name: &str) -> Option<String> {
    lines.iter().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()))
}

fn pass(shared: &Shared, client: TcpStream, note: &mut Passed) -> Result<()> {
    let cuts = shared.cuts.load(Ordering::SeqCst);
    client.set_nodelay(true)?;
    let mut answer = client.try_clone()?;
    let request = head(&mut BufReader::new(client))?;
    let first = request.first().context("no request")?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest = target.strip_prefix("http://").context("not a request to a proxy")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let from = header(&request, "range").and_then(|r| r.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    note.from = from.unwrap_or(0);
    let Ok(mut server) = TcpStream::connect(host) else {
        answer.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Ok(());
    };
    let mut asked = format!("{method} /{path} HTTP/1.1\r\n");
    for line in request.iter().skip(1).filter(|l| !l.to_ascii_lowercase().starts_with("connection:")) {
        asked.push_str(&format!("{line}\r\n"));
    }
    server.write_all(format!("{asked}Connection: close\r\n\r\n").as_bytes())?;
    let mut server = BufReader::new(server);
    let told = head(&mut server)?;
    note.status = told.first().and_then(|l| l.split(' ').nth(1)?.parse().ok()).context("no status")?;
    answer.write_all(format!("{}\r\n\r\n", told.join("\r\n")).as_bytes())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let room = loop {
            let room = shared.allowed.load(Ordering::SeqCst).saturating_sub(shared.passed.load(Ordering::SeqCst));
            if room > 0 || shared.stop.load(Ordering::SeqCst) {
                break room;
            }
            if shared.cuts.load(Ordering::SeqCst) != cuts {
                break 0;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let size = usize::try_from(room).unwrap_or(usize::MAX).min(buffer.len());
        let got = if size == 0 { 0 } else { server.read(&mut buffer[..size])? };
        if got == 0 {
            return Ok(());
        }
        answer.write_all(&buffer[..got])?;
        note.bytes += got as u64;
        shared.passed.fetch_add(got as u64, Ordering::SeqCst);
    }
}
