//! Log lines on the console: `bessemer: <uptime> <message>`, and the last of them in memory for log collection.
//!
//! A small `tracing` subscriber of our own: the usual one costs more bytes of ramdisk than the whole of
//! process 1. It never writes to a disk. Secrets never arrive here because their types do not print.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How much of the log is kept for collection.
const KEPT: usize = 512 * 1024;

static RING: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

/// Seconds since the machine started, as text with two decimals.
pub fn uptime() -> String {
    std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split_whitespace().next().map(str::to_owned))
        .unwrap_or_else(|| "?".into())
}

/// Starts logging to standard error; `debug` adds the debug lines of this program.
pub fn start(debug: bool) {
    let subscriber = Console { level: if debug { Level::DEBUG } else { Level::INFO }, next: AtomicU64::new(1) };
    // A second start (tests in one process) keeps the first subscriber.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// The newest lines, oldest first.
pub fn recent() -> Vec<u8> {
    RING.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
}

struct Console {
    level: Level,
    next: AtomicU64,
}

impl Subscriber for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries may warn; their chatter below that is of no use on a console.
        let ours = metadata.target().starts_with("bessemer");
        *metadata.level() <= if ours { self.level } else { Level::WARN }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("bessemer: {} ", uptime());
        match *event.metadata().level() {
            Level::ERROR => line.push_str("ERROR "),
            Level::WARN => line.push_str("WARN "),
            _ => {}
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.push_str(&fields.message);
        line.push_str(&fields.rest);
        line.push('\n');
        // One write per line: lines of several threads do not mix. A closed console is no reason to stop.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
        let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(line.as_bytes());
        let excess = ring.len().saturating_sub(KEPT);
        ring.drain(..excess);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ =
            if field.name() == "message" { write!(self.message, "{value:?}") } else { write!(self.rest, " {}={value:?}", field.name()) };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = if field.name() == "message" { write!(self.message, "{value}") } else { write!(self.rest, " {}={value:?}", field.name()) };
    }
}
