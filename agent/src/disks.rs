//! The disks that commands may see: waits until drivers have found them, and keeps tests to their own devices.

use crate::disk::list::{ListOptions, block_devices};
use crate::init;
use crate::params::Settings;
use bessemer_agent_types::inventory::Disk;
use std::path::Path;
use std::time::{Duration, Instant};

/// Marker of process 1: drivers for all devices present at start are loaded.
pub const DRIVERS_LOADED: &str = "drivers-loaded";
/// SATA links and SCSI buses are scanned in the background; a bus that was quiet for this long is done.
const QUIET: Duration = Duration::from_millis(1000);
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for the drivers themselves.
const DRIVERS: Duration = Duration::from_secs(30);

/// The disks now, without waiting.
pub fn list(settings: &Settings) -> Vec<Disk> {
    let only =
        (!settings.only_disks.is_empty()).then(|| settings.only_disks.iter().map(|path| path.to_string_lossy().into_owned()).collect());
    block_devices(&settings.root, &ListOptions { loops: only.is_some(), only })
}

/// The disks, once the drivers are loaded and no new disk has come for a moment. A machine without any disk is
/// waited for as `ipa-disk-wait-attempts` and `-delay` say, then gives an empty list.
pub async fn settled(settings: &Settings) -> Vec<Disk> {
    let mut disks = list(settings);
    if settings.state_dir.as_deref() != Some(Path::new(init::STATE_DIR)) {
        return disks; // an ordinary machine has long found its disks
    }
    let start = Instant::now();
    let marker = Path::new(init::STATE_DIR).join(DRIVERS_LOADED);
    while !marker.exists() && start.elapsed() < DRIVERS {
        tokio::time::sleep(LOOK).await;
    }
    let loaded = marker.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
    let patience = settings.disk_wait_delay.saturating_mul(settings.disk_wait_attempts);
    let mut quiet_since = Instant::now().checked_sub(loaded).unwrap_or(start);
    loop {
        let now = list(settings);
        if now != disks {
            disks = now;
            quiet_since = Instant::now();
        }
        let quiet = !has_slow_bus() || quiet_since.elapsed() >= QUIET;
        if quiet && (!disks.is_empty() || start.elapsed() >= patience) {
            return disks;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether some bus finds its disks on its own time.
fn has_slow_bus() -> bool {
    let filled = |path: &str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    filled("/sys/class/scsi_host") || filled("/sys/class/nvme")
}
