//! Erase steps: which devices, in which order, how many at once. The erasing itself is in [`crate::disk::wipe`].
//!
//! Disks of `skip_block_devices` are never touched. A failure on one disk does not stop the others, but fails
//! the step with all reasons.

use crate::agent::Agent;
use crate::commands::{error, failure};
use crate::disk::{pick, wipe};
use crate::progress::Progress;
use crate::{disks, standby};
use bessemer_agent_types::command::CommandError;
use bessemer_agent_types::inventory::Disk;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The disks that may be erased.
async fn targets(agent: &Agent, node: &Value) -> Result<Vec<Disk>, CommandError> {
    let disks = disks::settled(&agent.settings).await;
    let (usable, skipped) =
        pick::split_skipped(&disks, &pick::skip_hints(node)).map_err(|e| error("BlockDeviceEraseError", 500, &e.to_string()))?;
    for disk in skipped {
        tracing::info!("{} is left alone as skip_block_devices says", disk.name);
    }
    Ok(usable)
}

/// `erase_devices_metadata`.
pub async fn metadata(agent: &Arc<Agent>, node: &Value, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    let disks = targets(agent, node).await?;
    let guard = standby::guards_special(&agent.settings, node);
    let progress = Arc::clone(progress);
    let work = tokio::task::spawn_blocking(move || {
        progress.start_phase("erasing metadata", None);
        let mut failures = Vec::new();
        for disk in &disks {
            match wipe::wipe_metadata(Path::new(&disk.name), guard) {
                Ok(()) => tracing::info!("{}: metadata erased", disk.name),
                Err(e) => failures.push(e.to_string()),
            }
        }
        (disks, failures)
    });
    let (disks, failures) = work.await.map_err(|e| failure(&e.to_string()))?;
    if failures.is_empty() {
        Ok(json!(format!("metadata erased on {} disks", disks.len())))
    } else {
        Err(error("BlockDeviceEraseError", 500, &failures.join("; ")))
    }
}

/// `erase_pstore`: removes what a crashed kernel left in the firmware's store.
pub fn pstore() -> Result<Value, CommandError> {
    let mut count = 0;
    for entry in fs::read_dir("/sys/fs/pstore").into_iter().flatten().flatten() {
        fs::remove_file(entry.path()).map_err(|e| failure(&format!("cannot remove {}: {e}", entry.path().display())))?;
        count += 1;
    }
    Ok(json!(format!("{count} records removed")))
}
