//! Partition tables after an image write, judged by sgdisk, sfdisk and the kernel.
#![allow(missing_docs, clippy::unwrap_used)]

mod image_support;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bessemer_agent::disk::part::{self, TableKind};
use bessemer_agent::disk::{DiskError, configdrive};
use image_support::*;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A disk of `disk` bytes with an image of `image` bytes at its start, partitioned by `make`.
fn imaged(dir: &Path, image: u64, disk: u64, make: impl FnOnce(&str)) -> PathBuf {
    let path = dir.join("disk.img");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(image).unwrap();
    make(text(&path));
    file.set_len(disk).unwrap();
    path
}

fn iso(dir: &Path) -> Vec<u8> {
    let (tree, out) = (dir.join("tree"), dir.join("cd.iso"));
    std::fs::create_dir_all(tree.join("openstack/latest")).unwrap();
    std::fs::write(tree.join("openstack/latest/meta_data.json"), b"{}").unwrap();
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-V", "config-2", "-o", text(&out), text(&tree)]);
    std::fs::read(&out).unwrap()
}

const MIB: u64 = 1 << 20;

#[test]
fn the_backup_table_of_a_smaller_image_moves_to_the_end_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = imaged(dir.path(), 40 * MIB, 200 * MIB + 512, |path| {
        run("sgdisk", &["-n", "1:2048:+8M", "-t", "1:ef00", "-n", "2:0:0", "-c", "2:root", path]);
    });
    assert!(!part::read_layout(&disk).unwrap().whole);
    assert!(part::fix_backup(&disk).unwrap());
    let verdict = run("sgdisk", &["-v", text(&disk)]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    let layout = part::read_layout(&disk).unwrap();
    assert!(layout.whole);
    assert_eq!(layout.kind, TableKind::Gpt);
    assert_eq!(layout.partitions.iter().map(|p| (p.number, p.esp)).collect::<Vec<_>>(), [(1, true), (2, false)]);
    assert_eq!(layout.partitions[1].name, "root");
    assert!(run("sgdisk", &["-p", text(&disk)]).to_lowercase().contains(&layout.disk_id));
    assert!(!part::fix_backup(&disk).unwrap(), "a second time there is nothing to do");
    // The stale backup of the image is gone.
    let mut stale = [0; 8];
    std::fs::File::open(&disk).unwrap().read_exact_at(&mut stale, 40 * MIB - 512).unwrap();
    assert_eq!(stale, [0; 8]);
}

#[test]
fn a_lost_primary_table_is_rebuilt_from_its_backup() {
    let dir = tempfile::tempdir().unwrap();
    let disk = imaged(dir.path(), 40 * MIB, 40 * MIB, |path| {
        run("sgdisk", &["-n", "1:2048:+8M", path]);
    });
    std::fs::OpenOptions::new().write(true).open(&disk).unwrap().write_all_at(&[0; 4096], 512).unwrap();
    assert!(part::fix_backup(&disk).unwrap());
    assert!(run("sgdisk", &["-v", text(&disk)]).contains("No problems found"));
}

#[test]
fn a_config_drive_gets_a_partition_at_the_end_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let content = iso(dir.path());
    let disk = imaged(dir.path(), 40 * MIB, 300 * MIB, |path| {
        run("sgdisk", &["-n", "1:2048:+20M", path]);
    });
    part::fix_backup(&disk).unwrap();
    let partition = configdrive::write(&disk, &content).unwrap();
    assert!(run("sgdisk", &["-v", text(&disk)]).contains("No problems found"));
    let table = run("sgdisk", &["-i", &partition.number.to_string(), text(&disk)]);
    assert!(table.contains("'config-2'"), "{table}");
    assert_eq!(partition.len, 64 * MIB);
    assert!(partition.start + partition.len > 298 * MIB, "at the end of the disk");
    let mut found = vec![0; content.len()];
    std::fs::File::open(&disk).unwrap().read_exact_at(&mut found, partition.start).unwrap();
    assert!(found == content);
    // Written again (a rebuild): the same partition is used.
    assert_eq!(configdrive::write(&disk, &content).unwrap(), partition);
    let offset = partition.start.to_string();
    let label = run("blkid", &["-p", "-o", "export", "-O", &offset, text(&disk)]);
    assert!(label.contains("LABEL=config-2") && label.contains("TYPE=iso9660"), "{label}");
    if std::fs::read_to_string("/proc/filesystems").unwrap().contains("iso9660") {
        let Some(device) = Loop::attach(&disk, &["--offset", &offset]) else { return };
        let mount = dir.path().join("mnt");
        std::fs::create_dir(&mount).unwrap();
        run("mount", &["-o", "ro", text(&device.device), text(&mount)]);
        let there = mount.join("openstack/latest/meta_data.json").exists();
        run("umount", &[text(&mount)]);
        assert!(there);
    }
}

#[test]
fn a_config_drive_partition_that_the_image_brought_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let content = iso(dir.path());
    let disk = imaged(dir.path(), 100 * MIB, 100 * MIB, |path| {
        run("sgdisk", &["-n", "1:2048:+8M", "-c", "1:CONFIG-2", "-n", "2:0:0", path]);
    });
    let partition = configdrive::write(&disk, &content).unwrap();
    assert_eq!((partition.number, partition.start), (1, MIB));
}

#[test]
fn a_dos_table_gets_its_config_drive_within_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let content = iso(dir.path());
    let script = dir.path().join("table");
    let sfdisk = |path: &str, table: &str| {
        std::fs::write(&script, table).unwrap();
        run("sh", &["-c", &format!("sfdisk -q {path} < {}", text(&script))]);
    };
    // Larger than 2 TiB: the partition must stay where an MBR can name it.
    let disk = imaged(dir.path(), 40 * MIB, 3 << 40, |path| sfdisk(path, "label: dos\n2048,16M,0c,*\n"));
    let partition = configdrive::write(&disk, &content).unwrap();
    assert!(partition.start + partition.len <= 2 << 40);
    let table = run("sfdisk", &["-d", text(&disk)]);
    assert!(table.contains("disk.img2 : start=  4294836224, size=      131072, type=83"), "{table}");
    assert_eq!(part::read_layout(&disk).unwrap().kind, TableKind::Mbr);

    let full = "label: dos\n2048,1M,83\n4096,1M,83\n6144,1M,83\n8192,1M,83\n";
    let disk = imaged(dir.path(), 40 * MIB, 300 * MIB, |path| sfdisk(path, full));
    let error = configdrive::write(&disk, &content).unwrap_err().to_string();
    assert!(error.contains("all four primary partitions"), "{error}");

    let tight = "label: dos\n2048,,83\n";
    let disk = imaged(dir.path(), 300 * MIB, 300 * MIB, |path| sfdisk(path, tight));
    let error = configdrive::write(&disk, &content).unwrap_err().to_string();
    assert!(error.contains("no free space"), "{error}");
}

#[test]
fn logical_partitions_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("table");
    std::fs::write(
        &script,
        "label: dos\nx1 : start=2048,size=8M,type=83\nx2 : size=100M,type=5\nx5 : size=10M,type=83\nx6 : size=20M,type=83\n",
    )
    .unwrap();
    let disk = imaged(dir.path(), 200 * MIB, 200 * MIB, |path| {
        run("sh", &["-c", &format!("sfdisk -q {path} < {}", text(&script))]);
    });
    let numbers: Vec<u32> = part::read_layout(&disk).unwrap().partitions.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [1, 5, 6]);
}

#[test]
fn a_full_gpt_disk_has_no_room_for_a_config_drive() {
    let dir = tempfile::tempdir().unwrap();
    let content = iso(dir.path());
    let disk = imaged(dir.path(), 100 * MIB, 100 * MIB, |path| {
        run("sgdisk", &["-n", "1:2048:0", path]);
    });
    let error = configdrive::write(&disk, &content).unwrap_err();
    assert!(matches!(error, DiskError::Table { .. }), "{error}");
    assert!(run("sgdisk", &["-v", text(&disk)]).contains("No problems found"), "the table is as before");
}

#[test]
fn a_disk_without_a_usable_table_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let disk = old_disk(dir.path(), 8 * MIB);
    assert!(part::read_layout(&disk).unwrap_err().to_string().contains("no whole-disk image"));
    let Some(device) = Loop::attach(&disk, &["--sector-size", "4096"]) else { return };
    run("sgdisk", &["-Z", text(&device.device)]);
    drop(device);
    // A table for 512-byte sectors on a disk of 4096-byte sectors.
    let disk = imaged(dir.path(), 100 * MIB, 100 * MIB, |path| {
        run("sgdisk", &["-n", "1:2048:0", path]);
    });
    let Some(device) = Loop::attach(&disk, &["--sector-size", "4096"]) else { return };
    let error = part::read_layout(&device.device).unwrap_err().to_string();
    assert!(error.contains("made for sectors of 512 bytes but the disk has 4096"), "{error}");
}

#[test]
fn tables_on_disks_with_large_sectors_are_mended_too() {
    let dir = tempfile::tempdir().unwrap();
    let disk = old_disk(dir.path(), 200 * MIB);
    let Some(device) = Loop::attach(&disk, &["--sector-size", "4096"]) else { return };
    run("sgdisk", &["-Z", text(&device.device)]);
    run("sgdisk", &["-n", "1:256:+40M", text(&device.device)]);
    drop(device);
    std::fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(300 * MIB).unwrap();
    let Some(device) = Loop::attach(&disk, &["--sector-size", "4096"]) else { return };
    assert!(part::fix_backup(&device.device).unwrap());
    let (partition, new) = part::config_drive_partition(&device.device).unwrap();
    assert!(new && partition.len == 64 * MIB);
    let verdict = run("sgdisk", &["-v", text(&device.device)]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    let error = configdrive::write(&device.device, &iso(dir.path())).unwrap_err().to_string();
    assert!(error.contains("4096 bytes"), "{error}");
}
