//! Ends the machine's boot: everything written reaches the disks first, then process 1 is asked.
//!
//! With power commands recorded (tests) nothing is signalled.

use crate::agent::Agent;
use crate::params::PowerMode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// How the boot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power off.
    Off,
    /// Reboot.
    Reboot,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "power_off",
            Self::Reboot => "reboot",
        }
    }
}

/// The answer to the command must leave the machine before its network does.
const ANSWER_TIME: Duration = Duration::from_millis(300);
/// After this long process 1 is taken to be stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes all caches to the disks and empties the disks' own caches.
pub fn sync_disks() {
    nix::unistd::sync();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().replace('!', "/");
        if name.starts_with("loop") || name.starts_with("ram") || name.starts_with("sr") || name.starts_with("fd") {
            continue;
        }
        let flushed = fs::File::open(format!("/dev/{name}")).and_then(|file| file.sync_all());
        if let Err(e) = flushed {
            tracing::debug!("flush of {name}: {e}");
        }
    }
}

/// Syncs, then ends the boot a moment later so that the command can be answered.
pub async fn end(agent: &Arc<Agent>, how: End) {
    if agent.settings.power == PowerMode::Recorded {
        agent.record_power(how.name());
        tracing::info!("{} recorded, not done", how.name());
        return;
    }
    if tokio::task::spawn_blocking(sync_disks).await.is_err() {
        tracing::warn!("disks were not synced");
    }
    tracing::info!("{}", how.name());
    tokio::spawn(async move {
        tokio::time::sleep(ANSWER_TIME).await;
        let signal = if how == End::Off { Signal::SIGUSR2 } else { Signal::SIGTERM };
        if let Err(e) = kill(Pid::from_raw(1), signal) {
            tracing::error!("process 1 cannot be asked: {e}");
        }
        tokio::time::sleep(PATIENCE).await;
        tracing::error!("process 1 did nothing, asking the kernel");
        drop(fs::write("/proc/sysrq-trigger", if how == End::Off { "o" } else { "b" }));
    });
}
