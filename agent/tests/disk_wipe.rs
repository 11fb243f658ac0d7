//! Wiping and erasing, judged by wipefs and sgdisk.
#![allow(missing_docs, clippy::unwrap_used)]

mod image_support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bessemer_agent::disk::erase::{EraseOptions, Extent, Method, erase_devices};
use bessemer_agent::disk::{DiskError, wipe};
use bessemer_agent::progress::Progress;
use image_support::*;

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn signatures(path: &Path) -> String {
    run("wipefs", &["-n", "--all", "--force", text(path)])
}

fn blank(dir: &Path, len: u64) -> std::path::PathBuf {
    let path = dir.join("disk.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(len).unwrap();
    path
}

#[test]
fn no_signature_of_any_kind_survives_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let makers: &[&[&str]] = &[
        &["mkfs.ext4", "-q", "-F"],
        &["mkfs.vfat"],
        &["mkswap", "-q"],
        &["mkfs.xfs", "-q", "-f"],
        &["mkfs.btrfs", "-q", "-f"],
        &["sgdisk", "-n", "1:2048:+20M", "-n", "2:0:0"],
        &["parted", "-s", "-a", "none", "--", "mklabel msdos mkpart primary 1MiB 100%"],
    ];
    for maker in makers {
        let disk = blank(dir.path(), 400 * MIB);
        let (program, arguments) = maker.split_first().unwrap();
        let mut command = Command::new(program);
        if *program == "parted" {
            command.args(["-s", text(&disk), "mklabel", "msdos", "mkpart", "primary", "1MiB", "100%"]);
        } else {
            command.args(arguments).arg(&disk);
        }
        match command.output() {
            Err(_) => {
                eprintln!("SKIPPED: {program} is not installed");
                continue;
            }
            Ok(output) => assert!(output.status.success(), "{program}: {output:?}"),
        }
        assert!(!signatures(&disk).is_empty(), "{program} made something");
        wipe::wipe_metadata(&disk, true).unwrap();
        assert_eq!(signatures(&disk), "", "{program}");
    }
}

#[test]
fn signatures_written_by_hand_at_their_known_places_are_gone() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let disk = blank(dir.path(), 400 * MIB);
    let len = 400 * MIB;
    let places: &[(u64, &[u8])] = &[
        (0, b"LUKS\xba\xbe"),
        (0x4000, b"SKUL\xba\xbe"),
        (4 * MIB, b"SKUL\xba\xbe"),
        (64 * MIB + 64, b"_BHRfS_M"),
        (64 * 1024 + 64, b"_BHRfS_M"),
        (512, b"LABELONE"),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
        (len - 64 * 1024, &[0xfc, 0x4e, 0x2b, 0xa9]),
        (len - 128 * 1024, &[0xfc, 0x4e, 0x2b, 0xa9]),
        (len - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]),
        (128 * 1024 + 1024, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]),
        (len - 512 * 1024 + 128 * 1024, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]),
        (len - 1024, b"Intel Raid ISM Cfg Sig. "),
        (len - 512, &[0xde, 0x11, 0xde, 0x11]),
        (0x8001, b"CD001"),
    ];
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&disk).unwrap();
    for (offset, magic) in places {
        file.write_all_at(magic, *offset).unwrap();
    }
    wipe::wipe_metadata(&disk, true).unwrap();
    for (offset, magic) in places {
        let mut found = vec![0xff; magic.len()];
        file.read_exact_at(&mut found, *offset).unwrap();
        assert!(found.iter().all(|b| *b == 0), "{offset}");
    }
}

#[test]
fn file_systems_inside_partitions_are_wiped_too() {
    let dir = tempfile::tempdir().unwrap();
    let disk = blank(dir.path(), 200 * MIB);
    run("sgdisk", &["-n", "1:2048:+20M", "-n", "2:0:+64M", text(&disk)]);
    for (start, size) in [(MIB, 20 * MIB), (21 * MIB, 64 * MIB)] {
        let offset = format!("offset={start}");
        run("mkfs.ext4", &["-q", "-F", "-E", &offset, text(&disk), &format!("{}k", size / 1024)]);
        let probe = Command::new("blkid").args(["-p", "-O", &start.to_string(), text(&disk)]).output().unwrap();
        assert!(probe.status.success());
    }
    wipe::wipe_metadata(&disk, true).unwrap();
    assert_eq!(signatures(&disk), "");
    for start in [MIB, 21 * MIB] {
        let probe = Command::new("blkid").args(["-p", "-O", &start.to_string(), text(&disk)]).output().unwrap();
        assert!(probe.stdout.is_empty(), "{probe:?}");
    }
    let both_ends = run("sgdisk", &["-p", text(&disk)]);
    assert!(both_ends.contains("Creating new GPT entries"), "{both_ends}");
}

#[test]
fn shared_storage_is_guarded_until_the_guard_is_off() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let disk = blank(dir.path(), 64 * MIB);
    for kind in ["37AFFC90-EF7D-4E96-91C3-2D7AE055B174", "AA31E02A-400F-11DB-9590-000C2911D1B8"] {
        run("sgdisk", &["-Z", text(&disk)]);
        run("sgdisk", &["-n", "1:2048:0", "-t", &format!("1:{kind}"), text(&disk)]);
        assert!(matches!(wipe::wipe_metadata(&disk, true), Err(DiskError::Protected { .. })));
        assert!(signatures(&disk).contains("gpt"), "nothing was touched");
        let progress = Arc::new(Progress::default());
        for extent in [Extent::All, Extent::Metadata, Extent::Express] {
            let results = erase_devices(std::slice::from_ref(&disk), extent, &EraseOptions::default(), &progress);
            assert!(matches!(results[0].1, Err(DiskError::Protected { .. })), "{extent:?}");
        }
    }
    wipe::wipe_metadata(&disk, false).unwrap();
    assert_eq!(signatures(&disk), "");
    let file = std::fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&[0x01, 0x16, 0x19, 0x70], 65536).unwrap();
    let error = wipe::wipe_metadata(&disk, true).unwrap_err().to_string();
    assert!(error.contains("GFS2"), "{error}");
}

#[test]
fn a_loop_device_is_overwritten_and_reads_back_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 70 * MIB + 512);
    let Some(disk) = Loop::attach(&file, &[]) else { return };
    let progress = Arc::new(Progress::default());
    let results = erase_devices(std::slice::from_ref(&disk.device), Extent::All, &EraseOptions::default(), &progress);
    assert_eq!(*results[0].1.as_ref().unwrap(), Method::Overwrite);
    let reading = progress.read();
    assert_eq!((reading.total, reading.done), (Some(2 * (70 * MIB + 512)), 2 * (70 * MIB + 512)));
    drop(disk);
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn only_the_zero_pass_runs_without_iterations_and_only_noise_without_zeroize() {
    let dir = tempfile::tempdir().unwrap();
    for (iterations, zeroize, zero) in [(0, true, true), (0, false, true), (1, false, false)] {
        let file = old_disk(dir.path(), 9 * MIB);
        let options = EraseOptions { iterations, zeroize, ..EraseOptions::default() };
        let results = erase_devices(std::slice::from_ref(&file), Extent::All, &options, &Arc::new(Progress::default()));
        results[0].1.as_ref().unwrap();
        let middle = &std::fs::read(&file).unwrap()[2 * MIB as usize..7 * MIB as usize];
        assert_eq!(middle.iter().all(|b| *b == 0), zero);
        assert!(!middle.windows(64).any(|w| w.iter().all(|b| *b == 0xa5)), "old data is gone");
    }
}

#[test]
fn a_mounted_disk_and_a_read_only_disk_are_not_erased() {
    let dir = tempfile::tempdir().unwrap();
    let file = blank(dir.path(), 64 * MIB);
    run("mkfs.ext4", &["-q", "-F", text(&file)]);
    let progress = Arc::new(Progress::default());
    {
        let Some(disk) = Loop::attach(&file, &[]) else { return };
        let mount = dir.path().join("mnt");
        std::fs::create_dir(&mount).unwrap();
        run("mount", &[text(&disk.device), text(&mount)]);
        let results = erase_devices(std::slice::from_ref(&disk.device), Extent::Metadata, &EraseOptions::default(), &progress);
        run("umount", &[text(&mount)]);
        assert!(results[0].1.as_ref().unwrap_err().to_string().contains("mounted"));
    }
    let Some(disk) = Loop::attach(&file, &["--read-only"]) else { return };
    for extent in [Extent::All, Extent::Metadata, Extent::Express] {
        let results = erase_devices(std::slice::from_ref(&disk.device), extent, &EraseOptions::default(), &progress);
        assert!(matches!(results[0].1, Err(DiskError::ReadOnly { .. })), "{:?}", results[0].1);
        let skip = EraseOptions { skip_read_only: true, ..EraseOptions::default() };
        let results = erase_devices(std::slice::from_ref(&disk.device), extent, &skip, &progress);
        assert_eq!(*results[0].1.as_ref().unwrap(), Method::SkippedReadOnly);
    }
    drop(disk);
    assert!(signatures(&file).contains("ext4"));
}

#[test]
fn one_failing_disk_does_not_keep_the_others_from_being_erased() {
    let dir = tempfile::tempdir().unwrap();
    let disk = blank(dir.path(), 64 * MIB);
    run("mkfs.ext4", &["-q", "-F", text(&disk)]);
    let devices = [dir.path().join("absent"), disk.clone()];
    let results = erase_devices(&devices, Extent::Metadata, &EraseOptions::default(), &Arc::new(Progress::default()));
    assert!(results[0].1.is_err());
    assert_eq!(*results[1].1.as_ref().unwrap(), Method::Metadata);
    assert_eq!(signatures(&disk), "");
}
