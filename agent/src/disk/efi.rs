//! A firmware boot entry for the image's own boot loader, and cleaning of old ones (`agent.md` section 12).
//!
//! Looks for the loader in the EFI system partition itself, without mounting it. Never changes a file there, and
//! never fails a machine that has no UEFI variables.

use std::path::Path;

use regex_lite::RegexBuilder;
use uuid::Uuid;

use super::DiskError;
use super::efivars::{EfiVars, HardDrive, Signature, load_option};
use super::fat::{Entry, Fat};
use super::part::{self, Device, Partition, TableKind};

/// Directories below the root of the system partition that are searched: `EFI/<vendor>/<more>`.
const DEPTH: usize = 4;
/// Directories that are searched at all.
const MAX_DIRECTORIES: usize = 256;
const MAX_CSV: usize = 16 << 10;

/// Loaders by the processor that can run them; those of the first kind found win.
const LOADERS: [(&str, &[&str]); 6] = [
    ("x86_64", &["bootx64.efi", "winload.efi", "bootia32.efi"]),
    ("x86", &["bootia32.efi"]),
    ("aarch64", &["bootaa64.efi", "grubaa64.efi", "winload.efi"]),
    ("arm", &["bootarm.efi"]),
    ("riscv64", &["bootriscv64.efi"]),
    ("riscv32", &["bootriscv32.efi"]),
];
const LISTS: [(&str, &[&str]); 3] =
    [("x86_64", &["bootx64.csv", "boot.csv"]), ("aarch64", &["bootaa64.csv", "boot.csv"]), ("", &["boot.csv"])];

/// Patterns of entries that cleaning removes when none are given.
pub const DEFAULT_PATTERNS: [&str; 3] = [r"^HD\(", r"shim.*\.efi", r"grub.*\.efi"];

/// What came of a wish for a boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootEntry {
    /// The machine was not started by UEFI, or its kernel has no variables: nothing to do.
    NoVariables,
    /// The entry is first in the boot order.
    Set {
        /// Number, as in `Boot0003`.
        number: u16,
        /// Label.
        label: String,
        /// Loader, with backslashes.
        loader: String,
        /// Partition number.
        partition: u32,
    },
}

/// A loader found on a system partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    /// Label for the entry.
    pub label: String,
    /// Path with backslashes.
    pub file: String,
}

/// Makes the image's boot loader on `device` the first boot entry; `root` is where `sys` is found (`/`).
/// Blocks: call it on a blocking thread.
///
/// # Errors
/// When the image has no EFI system partition or no loader for this processor, or the firmware refuses.
pub fn set_boot_entry(root: &Path, device: &Path) -> Result<BootEntry, DiskError> {
    let Some(vars) = EfiVars::open(root) else { return Ok(BootEntry::NoVariables) };
    let layout = part::read_layout(device)?;
    let disk = Device::open(device, false)?;
    let mut looked = 0;
    for partition in layout.partitions.iter().filter(|partition| partition.esp) {
        looked += 1;
        let Ok(fat) = Fat::open(&disk.file, partition.start) else { continue };
        let Some(loader) = find_loader(&fat, std::env::consts::ARCH) else { continue };
        let drive = hard_drive(partition, layout.kind, &layout.disk_id, disk.sector);
        let data = load_option(&loader.label, &drive, &loader.file);
        let number = vars
            .put_first(&loader.label, &data)
            .map_err(|error| DiskError::BootEntry(format!("the firmware refused the variable: {error}")))?;
        return Ok(BootEntry::Set { number, label: loader.label, loader: loader.file, partition: partition.number });
    }
    Err(DiskError::BootEntry(if looked == 0 {
        "the image has no EFI system partition, so this machine cannot start it by UEFI: use an image for UEFI or boot_mode bios".into()
    } else {
        format!("the image's EFI system partition has no boot loader for {}", std::env::consts::ARCH)
    }))
}

fn hard_drive(partition: &Partition, kind: TableKind, disk_id: &str, sector: u32) -> HardDrive {
    let sector = u64::from(sector.max(1));
    let signature = match kind {
        TableKind::Gpt => Signature::Guid(Uuid::parse_str(&partition.id).unwrap_or(Uuid::nil())),
        TableKind::Mbr => Signature::Mbr(u32::from_str_radix(disk_id.trim_start_matches("0x"), 16).unwrap_or(0)),
    };
    HardDrive { number: partition.number, first: partition.start / sector, count: partition.len / sector, signature }
}

/// The loader of an EFI system partition for a processor: what a boot list (CSV) names, else a well-known name.
pub fn find_loader(fat: &Fat<'_>, processor: &str) -> Option<Loader> {
    let files = walk(fat);
    let names = |table: &[(&str, &'static [&'static str])]| -> &'static [&'static str] {
        table.iter().find(|(arch, _)| *arch == processor || arch.is_empty()).map_or(&[], |(_, names)| *names)
    };
    for wanted in names(&LISTS) {
        for (directory, entry) in files.iter().filter(|(_, entry)| entry.name.eq_ignore_ascii_case(wanted)) {
            let Some(loader) = fat.read(entry, MAX_CSV).ok().and_then(|text| read_list(directory, &text)) else { continue };
            let exists = files.iter().any(|(at, file)| format!("{at}\\{}", file.name).eq_ignore_ascii_case(&loader.file));
            if exists {
                return Some(loader);
            }
        }
    }
    for wanted in names(&LOADERS) {
        if let Some((directory, entry)) = files.iter().find(|(_, entry)| entry.name.eq_ignore_ascii_case(wanted)) {
            return Some(Loader { label: "ironic1".into(), file: format!("{directory}\\{}", entry.name) });
        }
    }
    None
}

/// Files by directory, nearest to the root first.
fn walk(fat: &Fat<'_>) -> Vec<(String, Entry)> {
    let mut files = Vec::new();
    let mut level = vec![(String::new(), fat.root().unwrap_or_default())];
    let mut directories = 0;
    for _ in 0..=DEPTH {
        let mut deeper = Vec::new();
        for (path, entries) in level {
            for entry in entries {
                if !entry.directory {
                    files.push((path.clone(), entry));
                } else if directories < MAX_DIRECTORIES {
                    directories += 1;
                    deeper.push((format!("{path}\\{}", entry.name), fat.list(&entry).unwrap_or_default()));
                }
            }
        }
        level = deeper;
    }
    files
}

/// First line of a boot list, `file,label,…`, in UTF-16 (as shim wants it) or UTF-8.
fn read_list(directory: &str, bytes: &[u8]) -> Option<Loader> {
    let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.get(1) == Some(&0);
    let text = if wide {
        let units: Vec<u16> = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(u16::from_le_bytes).collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    let text = text.trim_start_matches('\u{feff}');
    let line = text.lines().map(|line| line.trim_matches(['\0', ' ', '\t', '\r'])).find(|line| !line.is_empty())?;
    let mut fields = line.split(',');
    let (file, label) = (fields.next()?.trim(), fields.next()?.trim());
    let usable = !file.is_empty() && !label.is_empty() && !file.contains(['/', '\\']) && label.chars().all(|c| !c.is_control());
    usable.then(|| Loader { label: label.chars().take(64).collect(), file: format!("{directory}\\{file}") })
}

/// Removes boot entries whose device path matches one of `patterns` (case does not matter). Returns what was removed
/// as `Boot0003 label`; nothing on a machine without variables.
///
/// # Errors
/// When a pattern is no regular expression, or the firmware refuses.
pub fn clean_nvram(root: &Path, patterns: &[String]) -> Result<Vec<String>, DiskError> {
    let compile = |pattern: &str| {
        RegexBuilder::new(pattern)
            .case_insensitive(true)
            .build()
            .map_err(|error| DiskError::BootEntry(format!("pattern {pattern:?} is no regular expression: {error}")))
    };
    let patterns = if patterns.is_empty() {
        DEFAULT_PATTERNS.iter().map(|pattern| compile(pattern)).collect::<Result<Vec<_>, _>>()?
    } else {
        patterns.iter().map(|pattern| compile(pattern)).collect::<Result<Vec<_>, _>>()?
    };
    let Some(vars) = EfiVars::open(root) else { return Ok(Vec::new()) };
    let refused = |error: std::io::Error| DiskError::BootEntry(format!("the firmware refused: {error}"));
    let options = vars.options().map_err(refused)?;
    let doomed: Vec<_> = options.into_iter().filter(|option| patterns.iter().any(|pattern| pattern.is_match(&option.path))).collect();
    vars.remove(&doomed.iter().map(|option| option.number).collect::<Vec<_>>()).map_err(refused)?;
    Ok(doomed.iter().map(|option| format!("Boot{:04X} {}", option.number, option.label)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn boot_lists_of_both_encodings_are_read() {
        let want = Loader { label: "debian".into(), file: "\\EFI\\debian\\shimx64.efi".into() };
        let line = "shimx64.efi,debian,,This is the boot entry for debian\n";
        assert_eq!(read_list("\\EFI\\debian", &wide(line)), Some(want.clone()));
        assert_eq!(read_list("\\EFI\\debian", &wide(line)[2..]), Some(want.clone()));
        assert_eq!(read_list("\\EFI\\debian", line.as_bytes()), Some(want));
    }

    #[test]
    fn boot_lists_that_make_no_sense_are_ignored() {
        for bad in ["", "\n\n", "one field", ",label", "file,", "..\\..\\x.efi,label", "a/b,label"] {
            assert_eq!(read_list("\\EFI", bad.as_bytes()), None, "{bad}");
        }
    }
}
