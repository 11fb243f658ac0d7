//! How far the running command has come: written by the work, read by the API without a lock on the hot path.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const UNKNOWN: u64 = u64::MAX;
/// The rate is averaged over this span.
const WINDOW: Duration = Duration::from_secs(5);

/// Progress of one command. Shared between the work and the API as an `Arc`.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    slow: Mutex<Slow>,
}

#[derive(Debug)]
struct Slow {
    phase: String,
    samples: VecDeque<(Instant, u64)>,
}

/// A reading of [`Progress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Word for what happens now.
    pub phase: String,
    /// Bytes finished in this phase.
    pub done: u64,
    /// Bytes of this phase in all, when known.
    pub total: Option<u64>,
    /// Bytes per second over the last seconds.
    pub rate: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            cancelled: AtomicBool::new(false),
            slow: Mutex::new(Slow { phase: "starting".into(), samples: VecDeque::new() }),
        }
    }
}

impl Progress {
    /// A new phase begins: zero bytes of `total` are done.
    pub fn start_phase(&self, phase: &str, total: Option<u64>) {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        phase.clone_into(&mut slow.phase);
        slow.samples.clear();
        slow.samples.push_back((Instant::now(), 0));
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Another word for what happens, while the bytes of the phase go on being counted.
    pub fn rename_phase(&self, phase: &str) {
        phase.clone_into(&mut self.slow.lock().unwrap_or_else(PoisonError::into_inner).phase);
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `bytes` are done in all.
    pub fn set(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// The size of the phase became known.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Asks the work to stop at its next convenient moment.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What the API shows now. Each reading is also a sample for the rate.
    pub fn read(&self) -> Reading {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let now = Instant::now();
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        while slow.samples.len() > 1 && slow.samples.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            slow.samples.pop_front();
        }
        let rate = slow.samples.front().map_or(0, |(at, bytes)| {
            let millis = now.duration_since(*at).as_millis().max(1);
            u64::try_from(u128::from(done.saturating_sub(*bytes)) * 1000 / millis).unwrap_or(u64::MAX)
        });
        if slow.samples.back().is_none_or(|(at, _)| now - *at > Duration::from_millis(200)) {
            slow.samples.push_back((now, done));
        }
        Reading { phase: slow.phase.clone(), done, total: (total != UNKNOWN).then_some(total), rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_phase_starts_from_zero() {
        let progress = Progress::default();
        progress.start_phase("writing", Some(10));
        progress.add(10);
        assert_eq!(progress.read().done, 10);
        progress.start_phase("verifying", None);
        let reading = progress.read();
        assert_eq!((reading.phase.as_str(), reading.done, reading.total), ("verifying", 0, None));
    }
}
