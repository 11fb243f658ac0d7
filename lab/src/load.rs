//! Load on an API: many connections that are kept open, and what each request took.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http::{Connection, Reply};

const LIMIT: Duration = Duration::from_secs(300);
/// How often a request that is answered "locked" is sent again, and after which pause: what clients of this API do.
const RETRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// What a series of requests took.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Seconds of each, shortest first.
    seconds: Vec<f64>,
    /// Of the whole series.
    pub wall: f64,
    /// Answers 409 that were waited out.
    pub conflicts: usize,
}

impl Series {
    /// Requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.seconds.len() as f64 / self.wall
    }

    /// Milliseconds within which that share (0 to 1) of the requests was answered.
    #[must_use]
    pub fn within(&self, share: f64) -> f64 {
        let at = (share * self.seconds.len() as f64) as usize;
        self.seconds.get(at.min(self.seconds.len().saturating_sub(1))).map_or(f64::NAN, |s| s * 1e3)
    }
}

/// One client of the load.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    url: String,
    conflicts: usize,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// No connection.
    pub fn open(url: &str) -> Result<Self> {
        Ok(Self { connection: Connection::open(url, LIMIT)?, url: url.to_owned(), conflicts: 0 })
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Reply> {
        let mut headers = vec![("X-OpenStack-Ironic-API-Version", "1.81"), ("Accept", "application/json")];
        if body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        let bytes = body.map(str::as_bytes);
        self.connection.send(method, path, &headers, bytes).or_else(|_| {
            // The server closed the connection in between.
            self.connection = Connection::open(&self.url, LIMIT)?;
            self.connection.send(method, path, &headers, bytes)
        })
    }

    /// One request that must succeed; 409 of a request that changes something is waited out as clients do.
    ///
    /// # Errors
    /// Another status than 2xx.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let text = body.map(Value::to_string);
        for _ in 0..RETRIES {
            let reply = self.send(method, path, text.as_deref())?;
            match reply.status {
                200..=299 => return Ok(reply),
                409 if method != "POST" => {
                    self.conflicts += 1;
                    std::thread::sleep(PAUSE);
                }
                status => bail!("{method} {path}: status {status}: {}", reply.text()),
            }
        }
        bail!("{method} {path}: still 409 after {RETRIES} tries")
    }
}

/// Runs `job(client, number)` for every number below `count` on `clients` connections.
///
/// # Errors
/// The first of any job.
pub fn each(url: &str, clients: usize, count: usize, job: impl Fn(&mut Client, usize) -> Result<()> + Sync) -> Result<Series> {
    let next = AtomicUsize::new(0);
    spread(url, clients, |client| {
        let mut seconds = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(seconds);
            }
            let begin = Instant::now();
            job(client, number)?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
    })
}

/// Runs `job(client, number)` for that long on `clients` connections.
///
/// # Errors
/// The first of any job.
pub fn during(url: &str, clients: usize, time: Duration, job: impl Fn(&mut Client, usize) -> Result<()> + Sync) -> Result<Series> {
    let next = AtomicUsize::new(0);
    let until = Instant::now() + time;
    spread(url, clients, |client| {
        let mut seconds = Vec::new();
        while Instant::now() < until {
            let begin = Instant::now();
            job(client, next.fetch_add(1, Ordering::Relaxed))?;
            seconds.push(begin.elapsed().as_secs_f64());
        }
        Ok(seconds)
    })
}

fn spread(url: &str, clients: usize, work: impl Fn(&mut Client) -> Result<Vec<f64>> + Sync) -> Result<Series> {
    let all = Mutex::new(Series::default());
    let begin = Instant::now();
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                s.spawn(|| -> Result<()> {
                    let mut client = Client::open(url)?;
                    let seconds = work(&mut client)?;
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.seconds.extend(seconds);
                    all.conflicts += client.conflicts;
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().ok().context("a client panicked")?)
    })?;
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.wall = begin.elapsed().as_secs_f64();
    all.seconds.sort_by(f64::total_cmp);
    Ok(all)
}
