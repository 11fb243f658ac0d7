//! Erasing all data of disks: by the disk's own secure erase where it has one, else by overwriting every sector.
//!
//! Which way is taken is decided without touching the disk. A failed secure erase is an error unless the node says
//! that overwriting may follow. Afterwards spots all over the disk are read back. Never reports a disk as erased
//! that is not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::wipe::{self, Range};
use super::{DiskError, ata, nvme, part};
use crate::ioctl;
use crate::progress::Progress;

const STEP: u64 = 4 << 20;
/// Requests to the device for zeros: large enough to be fast, small enough to be interrupted.
const ZERO_STEP: u64 = 64 << 20;
/// Spots that are read back, besides both ends.
const SAMPLES: u64 = 64;

/// How a node wants its disks erased (`driver_internal_info` keys of `agent.md` section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseOptions {
    /// Passes of random bytes before the zeros (`agent_erase_devices_iterations`).
    pub iterations: u32,
    /// A last pass of zeros (`agent_erase_devices_zeroize`).
    pub zeroize: bool,
    /// Overwrite when a secure erase failed (`agent_continue_if_secure_erase_failed`).
    pub overwrite_after_failure: bool,
    /// ATA secure erase may be used (`agent_enable_ata_secure_erase`).
    pub ata: bool,
    /// NVMe format may be used (`agent_enable_nvme_secure_erase`).
    pub nvme: bool,
    /// Read-only disks are passed over (`agent_erase_skip_read_only`).
    pub skip_read_only: bool,
    /// Disks erased at the same time (`disk_erasure_concurrency`).
    pub concurrency: usize,
    /// Disks with shared-storage file systems are refused (`wipe_special_filesystems` turned round).
    pub guard_special: bool,
}

impl Default for EraseOptions {
    fn default() -> Self {
        Self {
            iterations: 1,
            zeroize: true,
            overwrite_after_failure: false,
            ata: true,
            nvme: true,
            skip_read_only: false,
            concurrency: 4,
            guard_special: true,
        }
    }
}

impl EraseOptions {
    /// Reads the options of a node document; what is absent or odd keeps its default.
    pub fn from_node(node: &Value) -> Self {
        let info = node.get("driver_internal_info").unwrap_or(&Value::Null);
        let flag = |key: &str, default: bool| info.get(key).and_then(Value::as_bool).unwrap_or(default);
        let number = |key: &str, default: u64| info.get(key).and_then(Value::as_u64).unwrap_or(default);
        let base = Self::default();
        Self {
            iterations: u32::try_from(number("agent_erase_devices_iterations", 1)).unwrap_or(1),
            zeroize: flag("agent_erase_devices_zeroize", base.zeroize),
            overwrite_after_failure: flag("agent_continue_if_secure_erase_failed", base.overwrite_after_failure),
            ata: flag("agent_enable_ata_secure_erase", base.ata),
            nvme: flag("agent_enable_nvme_secure_erase", base.nvme),
            skip_read_only: flag("agent_erase_skip_read_only", base.skip_read_only),
            concurrency: usize::try_from(number("disk_erasure_concurrency", 4)).unwrap_or(4).clamp(1, 32),
            guard_special: !flag("wipe_special_filesystems", !base.guard_special),
        }
    }
}

/// How a disk was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// NVMe Format, cryptographic or of user data.
    NvmeFormat,
    /// ATA Security Erase.
    AtaSecureErase,
    /// Every sector overwritten.
    Overwrite,
    /// Partition tables and signatures only.
    Metadata,
    /// Passed over because it is read-only.
    SkippedReadOnly,
}

/// What a disk offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Nvme(u32, nvme::Abilities),
    Ata(ata::Security),
    Nothing,
}

/// What to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Nvme(u32, nvme::Abilities),
    Ata(ata::Security),
    /// The disk's own erase exists but cannot be used now.
    Blocked(&'static str),
    Overwrite,
}

fn decide(offer: Offer, options: &EraseOptions) -> First {
    match offer {
        Offer::Nvme(namespace, abilities) if options.nvme && abilities.format => First::Nvme(namespace, abilities),
        Offer::Ata(security) if options.ata => match security.plan() {
            ata::Plan::Erase { .. } => First::Ata(security),
            ata::Plan::Blocked(why) => First::Blocked(why),
            ata::Plan::Unsupported => First::Overwrite,
        },
        _ => First::Overwrite,
    }
}

fn offer(device: &Path, file: &File) -> Offer {
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.starts_with("nvme") {
        return nvme::abilities(file).map_or(Offer::Nothing, |(namespace, abilities)| Offer::Nvme(namespace, abilities));
    }
    if name.starts_with("sd") {
        return ata::security(file).map_or(Offer::Nothing, Offer::Ata);
    }
    Offer::Nothing
}

/// Erases one disk completely. Blocks: call it on a blocking thread.
///
/// # Errors
/// When the disk is in use, guarded, read-only (unless passed over), fails, or does not read back as erased.
pub fn erase_device(device: &Path, options: &EraseOptions, progress: &Progress) -> Result<Method, DiskError> {
    if options.guard_special {
        wipe::guard(device)?;
    }
    let (file, len) = match wipe::open_exclusive(device) {
        Err(DiskError::ReadOnly { .. }) if options.skip_read_only => return Ok(Method::SkippedReadOnly),
        other => other?,
    };
    let secure = match decide(offer(device, &file), options) {
        First::Nvme(namespace, abilities) => {
            Some((Method::NvmeFormat, nvme::format(&file, namespace, abilities).map_err(|error| error.to_string())))
        }
        First::Ata(security) => Some((Method::AtaSecureErase, ata::erase(&file, security))),
        First::Blocked(why) => Some((Method::AtaSecureErase, Err(why.to_owned()))),
        First::Overwrite => None,
    };
    let method = match secure {
        Some((method, Ok(()))) => {
            progress.add(len * passes(options));
            method
        }
        Some((_, Err(reason))) if !options.overwrite_after_failure => {
            return Err(DiskError::SecureErase {
                device: device.to_owned(),
                reason: format!("{reason}; or set agent_continue_if_secure_erase_failed to overwrite it instead"),
            });
        }
        failed => {
            if let Some((_, Err(reason))) = failed {
                tracing::warn!(device = %device.display(), "secure erase failed, overwriting: {reason}");
            }
            overwrite(device, &file, len, options, progress)?;
            Method::Overwrite
        }
    };
    // A secure erase may leave any pattern; the tables must be gone in any case.
    drop(file);
    wipe::wipe_metadata(device, false)?;
    Ok(method)
}

fn passes(options: &EraseOptions) -> u64 {
    u64::from(options.iterations) + u64::from(options.zeroize || options.iterations == 0)
}

fn overwrite(device: &Path, file: &File, len: u64, options: &EraseOptions, progress: &Progress) -> Result<(), DiskError> {
    let fail = || DiskError::io("overwrite", device);
    let mut random = Noise::new();
    for _ in 0..options.iterations {
        let mut at = 0;
        while at < len {
            if progress.is_cancelled() {
                return Err(DiskError::Cancelled);
            }
            let step = usize::try_from((len - at).min(STEP)).unwrap_or(0);
            file.write_all_at(random.next(step), at).map_err(fail())?;
            at += step as u64;
            progress.add(step as u64);
            if at % (64 << 20) == 0 {
                file.sync_data().map_err(fail())?;
            }
        }
        file.sync_all().map_err(fail())?;
    }
    if options.zeroize || options.iterations == 0 {
        let mut at = 0;
        let zeros = vec![0; usize::try_from(STEP).unwrap_or(0)];
        while at < len {
            if progress.is_cancelled() {
                return Err(DiskError::Cancelled);
            }
            let step = (len - at).min(ZERO_STEP);
            if ioctl::zero_out(file, at, step).is_err() {
                write_zeros(file, &zeros, at, step).map_err(fail())?;
            }
            at += step;
            progress.add(step);
        }
        file.sync_all().map_err(fail())?;
        verify(file, len).map_err(DiskError::io("verify the erasure of", device))?;
    }
    Ok(())
}

fn write_zeros(file: &File, zeros: &[u8], mut at: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let part = zeros.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(zeros);
        file.write_all_at(part, at)?;
        at += part.len() as u64;
        len -= part.len() as u64;
    }
    file.sync_data()
}

/// Reads spots all over the disk.
fn verify(file: &File, len: u64) -> io::Result<()> {
    let size = len.min(64 << 10);
    for n in 0..=SAMPLES {
        // Evenly spread, both ends included.
        let offset = u64::try_from(u128::from(len - size) * u128::from(n) / u128::from(SAMPLES)).unwrap_or(0) / 512 * 512;
        if !wipe::reads_zero(file, Range { offset, len: size }) {
            return Err(io::Error::other(format!("bytes near {offset} are not zero: the disk is faulty")));
        }
    }
    Ok(())
}

/// Fast bytes without pattern; nothing secret depends on them.
struct Noise {
    state: u64,
    buffer: Vec<u8>,
}

impl Noise {
    fn new() -> Self {
        Self { state: rand::random::<u64>() | 1, buffer: vec![0; usize::try_from(STEP).unwrap_or(0)] }
    }

    fn next(&mut self, len: usize) -> &[u8] {
        for word in self.buffer.chunks_exact_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            word.copy_from_slice(&self.state.to_le_bytes());
        }
        self.buffer.get(..len).unwrap_or(&self.buffer)
    }
}

/// How far an erase goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All data (`erase_devices`).
    All,
    /// Partition tables and signatures (`erase_devices_metadata`).
    Metadata,
    /// NVMe Format where there is one, else metadata (`erase_devices_express`).
    Express,
}

/// Erases several disks, some at the same time, and tells about each. Blocks: call it on a blocking thread.
///
/// All disks are tried even when one fails.
pub fn erase_devices(
    devices: &[PathBuf],
    extent: Extent,
    options: &EraseOptions,
    progress: &Arc<Progress>,
) -> Vec<(PathBuf, Result<Method, DiskError>)> {
    let total: u64 = devices.iter().filter_map(|device| part::Device::open(device, false).ok()).map(|disk| disk.len).sum();
    let bytes = if extent == Extent::All { Some(total.saturating_mul(passes(options))) } else { None };
    progress.start_phase(if extent == Extent::All { "erasing" } else { "erasing metadata" }, bytes);
    // Names in reverse order: what stands on other disks (md0, dm-1) comes late in no useful order, partitions are
    // handled with their disk.
    let mut queue: Vec<&PathBuf> = devices.iter().collect();
    queue.sort_by(|a, b| b.cmp(a));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.concurrency.clamp(1, queue.len().max(1)) {
            scope.spawn(|| {
                while let Some(device) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result =
                        if progress.is_cancelled() { Err(DiskError::Cancelled) } else { erase_one(device, extent, options, progress) };
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(((*device).clone(), result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    results
}

fn erase_one(device: &Path, extent: Extent, options: &EraseOptions, progress: &Progress) -> Result<Method, DiskError> {
    if extent == Extent::All {
        return erase_device(device, options, progress);
    }
    if extent == Extent::Express {
        if options.guard_special {
            wipe::guard(device)?;
        }
        let (file, _) = match wipe::open_exclusive(device) {
            Err(DiskError::ReadOnly { .. }) if options.skip_read_only => return Ok(Method::SkippedReadOnly),
            other => other?,
        };
        if let First::Nvme(namespace, abilities) = decide(offer(device, &file), options) {
            let formatted = nvme::format(&file, namespace, abilities);
            formatted.map_err(|error| DiskError::SecureErase { device: device.to_owned(), reason: error.to_string() })?;
            drop(file);
            wipe::wipe_metadata(device, false)?;
            return Ok(Method::NvmeFormat);
        }
    }
    match wipe::wipe_metadata(device, options.guard_special) {
        Err(DiskError::ReadOnly { .. }) if options.skip_read_only => Ok(Method::SkippedReadOnly),
        other => other.map(|()| Method::Metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn security(frozen: bool) -> ata::Security {
        ata::Security { supported: true, enabled: false, locked: false, frozen, enhanced: true, timeout_ms: 1 }
    }

    #[test]
    fn the_disks_own_erase_goes_first_where_it_is_allowed() {
        let on = EraseOptions::default();
        let off = EraseOptions { ata: false, nvme: false, ..on };
        assert!(matches!(decide(Offer::Ata(security(false)), &on), First::Ata(_)));
        assert!(matches!(decide(Offer::Ata(security(true)), &on), First::Blocked(_)));
        assert_eq!(decide(Offer::Ata(security(false)), &off), First::Overwrite);
        assert_eq!(decide(Offer::Nothing, &on), First::Overwrite);
    }

    #[test]
    fn options_are_read_from_the_node() {
        let node = json!({"driver_internal_info": {
            "agent_erase_devices_iterations": 3, "agent_erase_devices_zeroize": false,
            "agent_continue_if_secure_erase_failed": true, "agent_enable_ata_secure_erase": false,
            "agent_erase_skip_read_only": true, "disk_erasure_concurrency": 2, "wipe_special_filesystems": true}});
        let options = EraseOptions::from_node(&node);
        assert_eq!(
            options,
            EraseOptions {
                iterations: 3,
                zeroize: false,
                overwrite_after_failure: true,
                ata: false,
                nvme: true,
                skip_read_only: true,
                concurrency: 2,
                guard_special: false
            }
        );
        assert_eq!(EraseOptions::from_node(&Value::Null), EraseOptions::default());
    }
}
