//! Parameters from virtual media: `parameters.txt` on the floppy, USB stick or CD that a BMC presents.
//!
//! Reads the file system itself (FAT and ISO 9660): nothing is mounted and nothing is written. Only whole
//! devices that carry the expected label, or call themselves virtual media, are looked at.

use crate::disk::fat::Fat;
use crate::hw::Root;
use crate::params::Params;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Label of the medium with the parameters.
const LABEL: &str = "ir-vfd-dev";
const FILE: &str = "parameters.txt";
/// The same name on a plain ISO 9660 medium.
const SHORT_FILE: &str = "paramete.txt";
const MAX_FILE: usize = 64 * 1024;
const SECTOR: usize = 2048;
/// A BMC presents its media some time after power-on.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

/// Waits for the medium and reads its parameters; none when it does not come.
pub async fn parameters(root: &Root) -> Option<Params> {
    let start = Instant::now();
    loop {
        let looking = root.clone();
        if let Ok(Some(text)) = tokio::task::spawn_blocking(move || find(&looking)).await {
            return Some(Params::parse(&text));
        }
        if start.elapsed() > PATIENCE {
            tracing::error!("boot_method=vmedia, but no medium labelled {LABEL} has come within {} s", PATIENCE.as_secs());
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at each device once.
fn find(root: &Root) -> Option<String> {
    root.names("sys/block").into_iter().find_map(|name| {
        let model = root.text(&format!("sys/block/{name}/device/model")).unwrap_or_default().to_lowercase();
        let virtual_media = model.contains("virtual media") || model.contains("virtual floppy");
        let file = File::open(root.path("dev").join(name.replace('!', "/"))).ok()?;
        match read(&file, virtual_media) {
            Ok(text) => text,
            Err(e) => {
                tracing::debug!("{name}: {e}");
                None
            }
        }
    })
}

/// The parameter file on one device; none when it is another device.
fn read(device: &File, any_label: bool) -> io::Result<Option<String>> {
    let mut head = [0; 512];
    if device.read_exact_at(&mut head, 0).is_err() {
        return Ok(None); // an empty drive
    }
    let fat_label = |at: usize| head.get(at..at + 11).is_some_and(same_label);
    if head.ends_with(&[0x55, 0xaa]) && (any_label || fat_label(43) || fat_label(71)) {
        let fat = Fat::open(device, 0)?;
        if let Some(entry) = fat.root()?.iter().find(|entry| entry.name.eq_ignore_ascii_case(FILE)) {
            return Ok(Some(String::from_utf8_lossy(&fat.read(entry, MAX_FILE)?).into_owned()));
        }
    }
    iso(device, any_label)
}

fn same_label(label: &[u8]) -> bool {
    String::from_utf8_lossy(label).trim().eq_ignore_ascii_case(LABEL)
}

/// The parameter file in the root folder of an ISO 9660 medium (ECMA-119, 8.4 and 9.1).
fn iso(device: &File, any_label: bool) -> io::Result<Option<String>> {
    let mut volume = [0; SECTOR];
    if device.read_exact_at(&mut volume, 16 * SECTOR as u64).is_err() || volume.get(1..6) != Some(b"CD001") {
        return Ok(None);
    }
    if !any_label && !volume.get(40..72).is_some_and(same_label) {
        return Ok(None);
    }
    let number = |bytes: &[u8], at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let root = volume.get(156..190).unwrap_or_default();
    let (sector, length) = (number(root, 2), number(root, 10));
    let mut folder = vec![0; (length as usize).min(MAX_FILE)];
    device.read_exact_at(&mut folder, u64::from(sector) * SECTOR as u64)?;
    let mut at = 0;
    while let Some(&size) = folder.get(at) {
        if size == 0 {
            at = (at / SECTOR + 1) * SECTOR; // records do not cross sectors
            continue;
        }
        let record = folder.get(at..at + usize::from(size)).unwrap_or_default();
        let name_length = usize::from(record.get(32).copied().unwrap_or(0));
        let name = String::from_utf8_lossy(record.get(33..33 + name_length).unwrap_or_default()).into_owned();
        let plain = name.split(';').next().unwrap_or_default().trim_end_matches('.');
        if [FILE, SHORT_FILE].iter().any(|wanted| plain.eq_ignore_ascii_case(wanted)) {
            let mut text = vec![0; (number(record, 10) as usize).min(MAX_FILE)];
            device.read_exact_at(&mut text, u64::from(number(record, 2)) * SECTOR as u64)?;
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
        at += usize::from(size);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    fn tool(program: &str, arguments: &[&str]) -> bool {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    }

    /// A machine whose only device is `image`.
    fn machine(dir: &Path, image: &Path) -> Root {
        fs::create_dir_all(dir.join("sys/block/sdz/device")).unwrap();
        fs::create_dir_all(dir.join("dev")).unwrap();
        fs::rename(image, dir.join("dev/sdz")).unwrap();
        Root::new(dir)
    }

    #[test]
    fn a_labelled_floppy_gives_its_parameters() {
        let dir = tempfile::tempdir().unwrap();
        let (image, text) = (dir.path().join("f.img"), dir.path().join("parameters.txt"));
        fs::write(&image, vec![0; 1_474_560]).unwrap();
        fs::write(&text, "ipa-api-url=http://a:6385\nipa-agent-token=t boot=x\n").unwrap();
        let (image_text, text) = (image.to_str().unwrap(), text.to_str().unwrap());
        if !tool("mkfs.vfat", &["-n", "IR-VFD-DEV", image_text]) || !tool("mcopy", &["-i", image_text, text, "::"]) {
            eprintln!("skipped: mkfs.vfat and mcopy are not installed");
            return;
        }
        let found = find(&machine(dir.path(), &image)).unwrap();
        assert_eq!(Params::parse(&found).get("ipa-api-url"), Some("http://a:6385"));
    }

    #[test]
    fn a_labelled_cd_gives_its_parameters_and_another_does_not() {
        for (label, expected) in [("ir-vfd-dev", true), ("debian", false)] {
            let dir = tempfile::tempdir().unwrap();
            let tree = dir.path().join("tree");
            fs::create_dir(&tree).unwrap();
            fs::write(tree.join("parameters.txt"), "ipa-api-url=http://b").unwrap();
            let image = dir.path().join("f.iso");
            if !tool("xorriso", &["-as", "mkisofs", "-V", label, "-o", image.to_str().unwrap(), tree.to_str().unwrap()]) {
                eprintln!("skipped: xorriso is not installed");
                return;
            }
            assert_eq!(find(&machine(dir.path(), &image)).is_some(), expected, "{label}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_medium_makes_the_agent_panic(sector in proptest::collection::vec(proptest::prelude::any::<u8>(), 2048)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m");
            let mut bytes = vec![0; 16 * SECTOR];
            let mut volume = sector.clone();
            volume[1..6].copy_from_slice(b"CD001");
            volume[158..162].copy_from_slice(&17_u32.to_le_bytes());
            bytes.extend(volume);
            bytes.extend(&sector);
            fs::write(&path, &bytes).unwrap();
            drop(read(&File::open(&path).unwrap(), true));
            let mut boot = sector;
            boot[510..512].copy_from_slice(&[0x55, 0xaa]);
            fs::write(&path, boot).unwrap();
            drop(read(&File::open(&path).unwrap(), true));
        }
    }
}
