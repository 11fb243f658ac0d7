//! Boot entries for images with real FAT system partitions, on a made-up efivarfs.
#![allow(missing_docs, clippy::unwrap_used)]

mod image_support;

use std::path::{Path, PathBuf};

use bessemer_agent::disk::DiskError;
use bessemer_agent::disk::efi::{self, BootEntry};
use bessemer_agent::disk::efivars::EfiVars;
use image_support::*;

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A GPT disk whose system partition holds `files`.
fn disk(dir: &Path, esp_mib: u64, fat: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let disk = dir.join("disk.img");
    let esp = dir.join("esp.img");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len((esp_mib + 20) * MIB).unwrap();
    run("sgdisk", &["-n", &format!("1:2048:+{esp_mib}M"), "-t", "1:ef00", "-n", "2:0:0", text(&disk)]);
    std::fs::File::create(&esp).unwrap().set_len(esp_mib * MIB).unwrap();
    run("mkfs.vfat", &["-F", fat, text(&esp)]);
    let mut made = std::collections::BTreeSet::new();
    for (path, content) in files {
        let parts: Vec<&str> = path.split('/').collect();
        for n in 1..parts.len() {
            let parent = parts[..n].join("/");
            if made.insert(parent.to_lowercase()) {
                run("mmd", &["-i", text(&esp), &format!("::/{parent}")]);
            }
        }
        let local = dir.join("content");
        std::fs::write(&local, content).unwrap();
        run("mcopy", &["-i", text(&esp), text(&local), &format!("::/{path}")]);
    }
    run("dd", &[&format!("if={}", text(&esp)), &format!("of={}", text(&disk)), "bs=1M", "seek=1", "conv=notrunc"]);
    disk
}

fn uefi(dir: &Path) -> EfiVars {
    let vars = dir.join("sys/firmware/efi/efivars");
    std::fs::create_dir_all(&vars).unwrap();
    std::fs::write(vars.join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"), [6, 0, 0, 0, 0]).unwrap();
    EfiVars::open(dir).unwrap()
}

fn wide(text: &str) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_boot_list_of_the_distribution_wins_over_the_fallback_loader() {
    if !have("mcopy") {
        return;
    }
    for (fat, size) in [("12", 4), ("16", 32), ("32", 64)] {
        let dir = tempfile::tempdir().unwrap();
        let list = wide("shimx64.efi,debian,,This is the boot entry for debian\n");
        let files: &[(&str, &[u8])] = &[
            ("EFI/BOOT/BOOTX64.EFI", b"x"),
            ("EFI/BOOT/a file with a rather long name.txt", b"x"),
            ("EFI/debian/shimx64.efi", b"x"),
            ("EFI/debian/BOOTX64.CSV", &list),
        ];
        let disk = disk(dir.path(), size, fat, files);
        let vars = uefi(dir.path());
        let entry = efi::set_boot_entry(dir.path(), &disk).unwrap();
        let BootEntry::Set { number, label, loader, partition } = entry else { panic!("{entry:?}") };
        assert_eq!((label.as_str(), partition), ("debian", 1), "FAT{fat}");
        assert_eq!(loader, "\\EFI\\debian\\shimx64.efi");
        assert_eq!(vars.order().unwrap(), [number]);
        let option = vars.options().unwrap().remove(0);
        let id = run("sgdisk", &["-i", "1", text(&disk)]).to_lowercase();
        let guid = option.path.split(',').nth(2).unwrap();
        assert!(id.contains(guid), "{id} {guid}");
        assert!(option.path.contains(&format!("0x800,{:#x}", size * MIB / 512)), "{}", option.path);
        // A second time (a rebuild) nothing piles up.
        efi::set_boot_entry(dir.path(), &disk).unwrap();
        assert_eq!(vars.options().unwrap().len(), 1);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn without_a_usable_list_the_well_known_loader_is_taken() {
    if !have("mcopy") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let list = wide("gone.efi,debian\n");
    let disk = disk(dir.path(), 64, "32", &[("EFI/BOOT/bootx64.efi", b"x"), ("EFI/debian/BOOTX64.CSV", &list)]);
    let vars = uefi(dir.path());
    let entry = efi::set_boot_entry(dir.path(), &disk).unwrap();
    assert!(
        matches!(&entry, BootEntry::Set { label, loader, .. } if label == "ironic1" && loader.eq_ignore_ascii_case("\\EFI\\BOOT\\bootx64.efi")),
        "{entry:?}"
    );
    let removed = efi::clean_nvram(dir.path(), &[]).unwrap();
    assert_eq!(removed, ["Boot0000 ironic1"]);
    assert!(vars.options().unwrap().is_empty() && vars.order().unwrap().is_empty());
}

#[test]
fn a_machine_without_variables_is_no_error_and_an_image_without_a_loader_is() {
    if !have("mcopy") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path(), 64, "32", &[("readme.txt", b"x")]);
    assert_eq!(efi::set_boot_entry(dir.path(), &disk).unwrap(), BootEntry::NoVariables);
    assert!(efi::clean_nvram(dir.path(), &[]).unwrap().is_empty());
    uefi(dir.path());
    let error = efi::set_boot_entry(dir.path(), &disk).unwrap_err();
    assert!(error.to_string().contains("no boot loader"), "{error}");
    run("sgdisk", &["-t", "1:8300", text(&disk)]);
    let error = efi::set_boot_entry(dir.path(), &disk).unwrap_err();
    assert!(error.to_string().contains("no EFI system partition"), "{error}");
}

#[test]
fn only_matching_entries_are_cleaned_and_a_bad_pattern_cleans_nothing() {
    use bessemer_agent::disk::efivars::{HardDrive, Signature, load_option};
    let dir = tempfile::tempdir().unwrap();
    let vars = uefi(dir.path());
    let drive = HardDrive { number: 1, first: 1, count: 1, signature: Signature::Mbr(1) };
    vars.put_first("one", &load_option("one", &drive, "\\EFI\\ubuntu\\SHIMX64.EFI")).unwrap();
    vars.put_first("two", &load_option("two", &drive, "\\EFI\\other.efi")).unwrap();
    assert!(matches!(efi::clean_nvram(dir.path(), &["(".into()]), Err(DiskError::BootEntry(_))));
    let removed = efi::clean_nvram(dir.path(), &[r"shim.*\.efi".into()]).unwrap();
    assert_eq!(removed, ["Boot0000 one"]);
    assert_eq!(vars.order().unwrap(), [1]);
}
