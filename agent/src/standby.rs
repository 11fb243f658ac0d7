//! Puts an operating system on the root disk: image, partition table, config drive, boot entry.
//!
//! The config drive is fetched and checked before the first byte of the disk changes, so that a bad one costs
//! nothing. Only the chosen root disk is ever written.

use crate::agent::Agent;
use crate::commands::{Arguments, argument, error, failure};
use crate::disk::efi::{self, BootEntry};
use crate::disk::{configdrive, part, pick};
use crate::image::fetch::FetchPolicy;
use crate::image::format::FormatRules;
use crate::image::request::ImageSettings;
use crate::image::{ImageInfo, WriteImageRequest, WriteReport, write_image};
use crate::params::Settings;
use crate::progress::Progress;
use crate::{disks, http};
use bessemer_agent_types::command::CommandError;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest value of a config drive in a command.
const MAX_DRIVE: usize = 90 * 1024 * 1024;

/// `standby.prepare_image`: everything that `write_image` does, on the node of the last lookup or command.
pub async fn prepare_image(agent: &Arc<Agent>, arguments: Arguments, progress: &Arc<Progress>) -> Result<String, CommandError> {
    let node = agent.node();
    write(agent, &node, &arguments, progress).await
}

/// Writes the image (argument `image_info`) and the config drive (argument `configdrive`, else within
/// `image_info`) to the root disk of `node`. Gives a line for the operator.
pub async fn write(agent: &Arc<Agent>, node: &Value, arguments: &Arguments, progress: &Arc<Progress>) -> Result<String, CommandError> {
    let info: ImageInfo = argument(arguments, "image_info")?;
    let settings = image_settings(agent);
    let drive = config_drive(arguments)?;
    let device = root_device(agent, node).await?;
    let mut request = WriteImageRequest::from_image_info(&info, &device, &settings)
        .map_err(|e| error("InvalidCommandParamsError", 400, &e.to_string()))?;
    request.guard_special = guards_special(&agent.settings, node);
    let drive = match drive {
        Some(value) => {
            progress.start_phase("fetching the config drive", None);
            let content = configdrive::resolve(&value, &request.http, &request.policy).await;
            Some(content.map_err(|e| error("ConfigDriveError", 500, &e.to_string()))?)
        }
        None => None,
    };
    tracing::info!("writing image {} to {}", info.id, device.display());
    let report = write_image(request, Arc::clone(progress)).await.map_err(|e| error("ImageWriteError", 500, &e.to_string()))?;
    let finished = {
        let (device, progress) = (device.clone(), Arc::clone(progress));
        tokio::task::spawn_blocking(move || finish(&device, drive.as_deref(), &progress)).await
    };
    let drive_note = finished.map_err(|e| failure(&e.to_string()))??;
    let line = summary(&info.id, &device, &report, &drive_note);
    tracing::info!("{line}");
    agent.set_image_device(device);
    Ok(line)
}

/// What follows the last byte of an image. Blocking.
fn finish(device: &Path, drive: Option<&[u8]>, progress: &Progress) -> Result<String, CommandError> {
    progress.start_phase("finishing", None);
    let bad = |e: crate::disk::DiskError| error("ImageWriteError", 500, &e.to_string());
    let mended = part::fix_backup(device).map_err(bad)?;
    let layout = part::read_layout(device).map_err(bad)?;
    if layout.partitions.is_empty() {
        return Err(error(
            "ImageWriteError",
            500,
            &format!("the image left no partition on {}: it is no whole-disk image", device.display()),
        ));
    }
    let mut note = if mended { ", backup partition table moved to the end".to_owned() } else { String::new() };
    if let Some(content) = drive {
        progress.start_phase("writing the config drive", Some(content.len() as u64));
        let partition = configdrive::write(device, content).map_err(|e| error("ConfigDriveError", 500, &e.to_string()))?;
        progress.set(content.len() as u64);
        note.push_str(&format!(", config drive in partition {}", partition.number));
    }
    if !part::reread(device) {
        // The next boot reads it anyway.
        tracing::warn!("the kernel did not read the new partition table of {}", device.display());
    }
    Ok(note)
}

fn summary(id: &str, device: &Path, report: &WriteReport, note: &str) -> String {
    let seconds = report.elapsed.as_secs_f64().max(0.001);
    let rate = report.image_size as f64 / seconds / 1e6;
    let mut line = format!(
        "image ({id}) written to device {}: {} bytes of {} ({} downloaded) in {seconds:.1} s, {rate:.0} MB/s, {} {}{note}",
        device.display(),
        report.image_size,
        report.format.name(),
        report.downloaded,
        report.algorithm,
        report.digest,
    );
    if report.reconnects > 0 {
        line.push_str(&format!(", {} lost connections taken up again", report.reconnects));
    }
    for note in &report.notes {
        line.push_str(&format!("; {note}"));
    }
    line
}

/// A config drive in the arguments: text, or none. An object is something that the conductor has to build.
fn config_drive(arguments: &Arguments) -> Result<Option<String>, CommandError> {
    let bad = |text: &str| error("InvalidCommandParamsError", 400, text);
    let within = arguments.get("image_info").and_then(|info| info.get("configdrive"));
    match arguments.get("configdrive").filter(|v| !v.is_null()).or(within) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_DRIVE => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(bad("the config drive is larger than 64 MiB")),
        Some(_) => Err(bad("configdrive must be a URL or base64 text by the time it reaches the agent")),
    }
}

/// Settings of image writes from the command line and the lookup.
pub fn image_settings(agent: &Agent) -> ImageSettings {
    let download = &agent.settings.download;
    let config = agent.config();
    let mut rules = FormatRules::default();
    let mut allow_md5 = false;
    if let Some(config) = &config {
        rules.inspect = !config.disable_deep_image_inspection.unwrap_or(false);
        allow_md5 = config.agent_md5_checksum_enable.unwrap_or(false);
        let permitted: Vec<String> = match &config.permitted_image_formats {
            Some(Value::String(text)) => text.split(',').map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        if !permitted.is_empty() {
            rules.permitted = permitted;
        }
    }
    ImageSettings {
        policy: FetchPolicy {
            timeout: download.timeout,
            retries: download.retries,
            interval: download.retry_interval,
            max_duration: download.max_duration,
            ..FetchPolicy::default()
        },
        ca_pem: std::fs::read(http::CA_FILE).ok(),
        insecure: agent.settings.insecure,
        rules,
        allow_md5,
    }
}

/// Whether shared-storage file systems are protected on this node.
pub fn guards_special(settings: &Settings, node: &Value) -> bool {
    let node_says = node.pointer("/driver_internal_info/wipe_special_filesystems").and_then(Value::as_bool);
    settings.guard_special_filesystems && node_says != Some(false)
}

/// The disk to install on.
pub async fn root_device(agent: &Agent, node: &Value) -> Result<PathBuf, CommandError> {
    let known = if node.is_object() { node.clone() } else { agent.node() };
    let disks = disks::settled(&agent.settings).await;
    let hints = pick::root_hints(&known);
    let disk =
        pick::pick_root(&disks, hints.as_ref(), &pick::skip_hints(&known)).map_err(|e| error("DeviceNotFound", 404, &e.to_string()))?;
    Ok(PathBuf::from(disk.name))
}

/// `standby.get_partition_uuids` for the image that this boot has written; empty before.
pub async fn partition_uuids(agent: &Agent) -> Value {
    let Some(device) = agent.image_device() else { return json!({}) };
    let read = tokio::task::spawn_blocking(move || {
        let layout = part::read_layout(&device).ok()?;
        // An image of a whole disk is known by the signature in its boot sector, be it zero.
        let mut signature = [0; 4];
        File::open(&device).and_then(|file| file.read_exact_at(&mut signature, 440)).ok()?;
        let partitions: serde_json::Map<String, Value> = layout.partitions.iter().map(|p| (p.number.to_string(), json!(p.id))).collect();
        let esp = layout.partitions.iter().find(|p| p.esp).map(|p| p.id.clone());
        Some(json!({
            "root uuid": format!("0x{:08x}", u32::from_le_bytes(signature)),
            "efi system partition uuid": esp,
            "PReP Boot partition uuid": null,
            "partitions": partitions,
        }))
    });
    read.await.ok().flatten().unwrap_or_else(|| json!({}))
}

/// `image.install_bootloader`: a boot entry of the firmware for the image's boot loader. Nothing to do under BIOS.
pub async fn install_bootloader(agent: &Arc<Agent>, arguments: Arguments) -> Result<String, CommandError> {
    let mode = arguments.get("target_boot_mode").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ignore = arguments.get("ignore_bootloader_failure").and_then(Value::as_bool).unwrap_or(agent.settings.ignore_bootloader_failure);
    if mode != "uefi" {
        return Ok("nothing to do: the image brings its BIOS boot loader".into());
    }
    match boot_entry(agent).await {
        Err(e) if ignore => {
            tracing::warn!("boot entry not set, as is allowed: {}", e.details);
            Ok(format!("failure ignored: {}", e.details))
        }
        outcome => outcome,
    }
}

async fn boot_entry(agent: &Arc<Agent>) -> Result<String, CommandError> {
    let device = match agent.image_device() {
        Some(device) => device,
        None => root_device(agent, &agent.node()).await?,
    };
    let root = agent.settings.root.clone();
    let set = tokio::task::spawn_blocking(move || efi::set_boot_entry(&root, &device)).await;
    let entry = set.map_err(|e| failure(&e.to_string()))?.map_err(|e| error("BootloaderError", 500, &e.to_string()))?;
    Ok(match entry {
        BootEntry::NoVariables => "nothing to do: this machine has no EFI variables".into(),
        BootEntry::Set { number, label, loader, partition } => {
            format!("Boot{number:04X} {label:?} starts {loader} on partition {partition}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(value: Value) -> Arguments {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_config_drive_argument_wins_over_the_image_info() {
        let both = arguments(json!({"image_info": {"configdrive": "a"}, "configdrive": "b"}));
        assert_eq!(config_drive(&both).unwrap().as_deref(), Some("b"));
        let inner = arguments(json!({"image_info": {"configdrive": "a"}, "configdrive": null}));
        assert_eq!(config_drive(&inner).unwrap().as_deref(), Some("a"));
        assert_eq!(config_drive(&arguments(json!({"image_info": {}}))).unwrap(), None);
        assert!(config_drive(&arguments(json!({"configdrive": {"meta_data": {}}}))).is_err());
    }
}
