//! Erase steps: which devices, with which options. The erasing itself is in [`crate::disk::erase`].
//!
//! Disks of `skip_block_devices` are never touched. A failure on one disk does not stop the others, but fails
//! the step with all reasons.

use crate::agent::Agent;
use crate::commands::{error, failure};
use crate::disk::erase::{EraseOptions, Extent, Method, erase_devices};
use crate::disk::pick;
use crate::disks;
use crate::progress::Progress;
use bessemer_agent_types::command::CommandError;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Erases all disks of the machine as far as `extent` says. The result names each disk and how it was erased.
pub async fn erase(agent: &Arc<Agent>, node: &Value, extent: Extent, progress: &Arc<Progress>) -> Result<Value, CommandError> {
    let disks = disks::settled(&agent.settings).await;
    let split = pick::split_skipped(&disks, &pick::skip_hints(node));
    let (targets, skipped) = split.map_err(|e| error("BlockDeviceEraseError", 500, &e.to_string()))?;
    for disk in skipped {
        tracing::info!("{} is left alone as skip_block_devices says", disk.name);
    }
    let devices: Vec<PathBuf> = targets.into_iter().map(|disk| PathBuf::from(disk.name)).collect();
    let mut options = EraseOptions::from_node(node);
    options.guard_special &= agent.settings.guard_special_filesystems;
    let progress = Arc::clone(progress);
    let work = tokio::task::spawn_blocking(move || erase_devices(&devices, extent, &options, &progress)).await;
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for (device, outcome) in work.map_err(|e| failure(&e.to_string()))? {
        match outcome {
            Ok(method) => {
                tracing::info!("{}: {}", device.display(), words(method));
                done.push(format!("{}: {}", device.display(), words(method)));
            }
            Err(e) => failures.push(e.to_string()),
        }
    }
    if failures.is_empty() {
        Ok(json!(if done.is_empty() { "this machine has no disk to erase".to_owned() } else { done.join(", ") }))
    } else {
        Err(error("BlockDeviceEraseError", 500, &failures.join("; ")))
    }
}

/// `erase_pstore`: removes what a crashed kernel left in the firmware's store.
pub fn pstore(root: &Path) -> Result<Value, CommandError> {
    let mut count = 0;
    for entry in fs::read_dir(root.join("sys/fs/pstore")).into_iter().flatten().flatten() {
        fs::remove_file(entry.path()).map_err(|e| failure(&format!("cannot remove {}: {e}", entry.path().display())))?;
        count += 1;
    }
    Ok(json!(format!("{count} records removed")))
}

fn words(method: Method) -> &'static str {
    match method {
        Method::NvmeFormat => "erased by NVMe format",
        Method::AtaSecureErase => "erased by ATA secure erase",
        Method::Overwrite => "overwritten",
        Method::Metadata => "metadata erased",
        Method::SkippedReadOnly => "read-only, passed over",
    }
}
