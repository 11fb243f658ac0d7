//! A machine's serial console, as the log file that QEMU writes.
//!
//! The log grows over power cycles, so every wait starts from a [`Mark`] taken before the boot.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The console log of one machine.
#[derive(Debug, Clone)]
pub struct Serial {
    log: PathBuf,
}

/// A place in a console log, in bytes from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Serial {
    /// The log may not exist yet.
    #[must_use]
    pub fn new(log: &Path) -> Self {
        Self { log: log.to_path_buf() }
    }

    /// Where the log file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// The end of the log now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.log).map_or(0, |meta| meta.len()))
    }

    /// All text since the mark, control characters other than line ends removed.
    #[must_use]
    pub fn since(&self, mark: Mark) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.seek(SeekFrom::Start(mark.0));
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
    }

    /// Waits until `text` stands in the log after the mark and returns everything since the mark.
    /// A guest under load hangs now and then (about one boot of fifty): a caller should power
    /// cycle once and wait again before it calls this a failure.
    pub fn wait_for(&self, text: &str, mark: Mark, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let seen = self.since(mark);
            if seen.contains(text) {
                return Ok(seen);
            }
            if Instant::now() >= end {
                let lines: Vec<&str> = seen.lines().collect();
                bail!(
                    "`{text}` did not appear on the serial console in {} s; its last lines:\n{}",
                    limit.as_secs(),
                    lines[lines.len().saturating_sub(15)..].join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_before_the_mark_does_not_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "READY\n").unwrap();
        let serial = Serial::new(file.path());
        let mark = serial.mark();
        assert!(serial.wait_for("READY", mark, Duration::from_millis(50)).is_err());
        std::fs::write(file.path(), "READY\nagain READY\n").unwrap();
        assert_eq!(serial.wait_for("READY", mark, Duration::from_millis(50)).unwrap(), "again READY\n");
    }
}
