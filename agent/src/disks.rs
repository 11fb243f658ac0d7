//! The disks that commands may see: waits until drivers have found them, and keeps tests to their own devices.

use crate::disk::list::{ListOptions, block_devices};
use crate::hw::Root;
use crate::init;
use crate::params::Settings;
use bessemer_agent_types::inventory::Disk;
use std::path::Path;
use std::time::{Duration, Instant};

/// Marker of process 1: drivers for all devices present at start are loaded.
pub const DRIVERS_LOADED: &str = "drivers-loaded";
/// SAS, Fibre Channel and USB disks come on their own time; after this long without a new one they are all there.
const SLOW_QUIET: Duration = Duration::from_millis(1000);
/// NVMe namespaces are found in the background, soon after their controller.
const NVME_QUIET: Duration = Duration::from_millis(250);
/// Wait for a first disk on a machine without any late bus.
const NO_DISK: Duration = Duration::from_secs(2);
/// SCSI hosts whose disks are all there when their driver has loaded (the kernel waits for their scan).
const PROMPT_HOSTS: [&str; 5] = ["ahci", "ata_piix", "virtio_scsi", "Virtio SCSI HBA", "vmw_pvscsi"];
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for the drivers themselves.
const DRIVERS: Duration = Duration::from_secs(30);

/// The disks now, without waiting.
pub fn list(settings: &Settings) -> Vec<Disk> {
    let only =
        (!settings.only_disks.is_empty()).then(|| settings.only_disks.iter().map(|path| path.to_string_lossy().into_owned()).collect());
    block_devices(&settings.root, &ListOptions { loops: only.is_some(), only })
}

/// The disks, once the drivers are loaded and no new disk has come for a moment. A machine with a bus
/// that comes late but without any disk is waited for as `ipa-disk-wait-attempts` and `-delay` say, then gives an empty list.
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
        let needed = needed_quiet(&Root::new(&settings.root));
        // Where no bus comes late, a machine without a disk is what it seems.
        let longest = if needed.is_zero() { patience.min(NO_DISK) } else { patience };
        if quiet_since.elapsed() >= needed && (!disks.is_empty() || start.elapsed() >= longest) {
            return disks;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How long the list of disks must be unchanged before it is complete.
fn needed_quiet(root: &Root) -> Duration {
    let slow = root
        .names("sys/class/scsi_host")
        .iter()
        .filter_map(|host| root.text(&format!("sys/class/scsi_host/{host}/proc_name")))
        .any(|driver| !PROMPT_HOSTS.contains(&driver.as_str()));
    let nvme: Vec<Option<String>> =
        root.names("sys/class/nvme").iter().map(|name| root.text(&format!("sys/class/nvme/{name}/state"))).collect();
    if slow || nvme.iter().any(|state| state.as_deref() != Some("live")) {
        SLOW_QUIET
    } else if nvme.is_empty() {
        Duration::ZERO
    } else {
        NVME_QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::recorded::tree;

    #[test]
    fn only_buses_that_come_late_are_waited_for() {
        let (_dir, root) = tree(&[("sys/class/scsi_host/host0/proc_name", "ahci\n")]);
        assert_eq!(needed_quiet(&root), Duration::ZERO);
        let (_dir, root) = tree(&[("sys/class/nvme/nvme0/state", "live\n")]);
        assert_eq!(needed_quiet(&root), NVME_QUIET);
        let (_dir, root) = tree(&[("sys/class/nvme/nvme0/state", "connecting\n")]);
        assert_eq!(needed_quiet(&root), SLOW_QUIET);
        let (_dir, root) = tree(&[("sys/class/scsi_host/host0/proc_name", "mpt3sas\n")]);
        assert_eq!(needed_quiet(&root), SLOW_QUIET);
    }
}
