//! From an image to a disk that boots: write, mend the partition table, add the config drive.
//!
//! Firmware boot entries are a step of their own ([`super::efi`]). Never returns success for a disk without a
//! partition.

use std::path::PathBuf;
use std::sync::Arc;

use super::DiskError;
use super::configdrive;
use super::part::{self, Layout, Partition};
use crate::image::{ImageError, WriteImageRequest, WriteReport, write_image};
use crate::progress::Progress;

/// What an installation did.
#[derive(Clone, Debug)]
pub struct InstallReport {
    /// Disk.
    pub device: PathBuf,
    /// The image write.
    pub image: WriteReport,
    /// Partition table afterwards.
    pub layout: Layout,
    /// Whether the backup GPT was moved to the end of the disk.
    pub backup_moved: bool,
    /// Partition of the config drive.
    pub config_drive: Option<Partition>,
}

impl InstallReport {
    /// One line for people and for the command's result.
    pub fn summary(&self) -> String {
        let image = &self.image;
        let mut text = format!(
            "image ({}{}) of {} bytes written to {} in {:.1} s, {} {} verified",
            image.format.name(),
            image.compression.map(|name| format!(", {name}")).unwrap_or_default(),
            image.image_size,
            self.device.display(),
            image.elapsed.as_secs_f64(),
            image.algorithm,
            image.digest,
        );
        if let Some(partition) = &self.config_drive {
            text += &format!("; config drive in partition {}", partition.number);
        }
        for note in &image.notes {
            text += &format!("; {note}");
        }
        text
    }

    /// What `standby.get_partition_uuids` answers as the root's id for a whole-disk image: the disk's.
    pub fn root_id(&self) -> &str {
        &self.layout.disk_id
    }
}

/// Failure of an installation.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Writes a whole-disk image and what belongs to it.
///
/// The config drive's value is fetched and checked before the disk is touched.
///
/// # Errors
/// See [`ImageError`] and [`DiskError`]; also when the disk has no partition afterwards.
pub async fn install(
    request: WriteImageRequest,
    config_drive: Option<&str>,
    progress: Arc<Progress>,
) -> Result<InstallReport, InstallError> {
    let device = request.device.clone();
    let content = match config_drive.map(str::trim).filter(|value| !value.is_empty()) {
        Some(value) => {
            progress.start_phase("fetching the config drive", None);
            Some(configdrive::resolve(value, &request.http, &request.policy).await?)
        }
        None => None,
    };
    let image = write_image(request, Arc::clone(&progress)).await?;
    progress.start_phase("partitioning", None);
    let target = device.clone();
    let work = move || -> Result<(Layout, bool, Option<Partition>), DiskError> {
        let backup_moved = part::fix_backup(&target)?;
        let config_drive = content.map(|content| configdrive::write(&target, &content)).transpose()?;
        part::reread(&target);
        let layout = part::read_layout(&target)?;
        let other = |partition: &&Partition| config_drive.as_ref().is_none_or(|drive| drive.number != partition.number);
        if !layout.partitions.iter().any(|partition| other(&partition)) {
            return Err(DiskError::Table { device: target, reason: "the image has no partition: use a whole-disk image".into() });
        }
        Ok((layout, backup_moved, config_drive))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (layout, backup_moved, config_drive) =
        done.map_err(|error| DiskError::Table { device: device.clone(), reason: format!("the work on it died: {error}") })??;
    progress.start_phase("written", None);
    Ok(InstallReport { device, image, layout, backup_moved, config_drive })
}
