//! The images as other programs see them: isoinfo, xorriso, mtools, fsck.vfat and the Linux kernel.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use bessemer_media::fat::{FatImage, FatKind};
use bessemer_media::iso::IsoImage;
use bessemer_media::tree::{Content, Tree};
use bessemer_media::{BootMedia, boot_iso, config_drive};
use serde_json::json;

/// Output of a program, which must be there and succeed.
fn run(package: &str, program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .env("MTOOLS_SKIP_CHECK", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("this test needs {program} (Debian package {package}): {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

fn save(dir: &tempfile::TempDir, name: &str, content: &dyn Content) -> String {
    let path = dir.path().join(name);
    content.write_to(&mut std::fs::File::create(&path).unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), content.len());
    path.to_str().unwrap().to_owned()
}

/// A file of every awkward kind.
fn awkward() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut add = |path: &str, bytes: usize| {
        files.insert(path.to_owned(), (0..bytes).map(|i| (i * 31 % 251) as u8).collect());
    };
    add("empty", 0);
    add("one", 1);
    add("block", 2048);
    add("block-and-one", 2049);
    add("UPPER.TXT", 10);
    add("two.dots.in.it", 3);
    add("with space and ünïcode", 5);
    add(&"n".repeat(64), 6);
    add("a/b/c/d/e/f/g/deep", 7);
    add("z/meta_data.json", 100_000);
    for i in 0..150 {
        add(&format!("many/a-rather-long-file-name-number-{i:04}.dat"), i);
    }
    for i in 0..20 {
        add(&format!("dirs/directory-{i:02}/x"), 1);
    }
    files
}

fn tree(files: &BTreeMap<String, Vec<u8>>) -> Tree<'_> {
    let mut t = Tree::new();
    for (path, bytes) in files {
        t.add(path, bytes.as_slice()).unwrap();
    }
    t
}

/// All files below a directory.
fn read_back(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for e in std::fs::read_dir(dir).unwrap() {
            let path = e.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                out.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// Mounts an image and reads it whole; `None` when this process may not mount.
fn mounted(image: &str, options: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let at = tempfile::tempdir().unwrap();
    let at_text = at.path().to_str().unwrap();
    let done = Command::new("mount").args(["-o", options, image, at_text]).output().unwrap();
    if !done.status.success() {
        eprintln!("not mounted, left out: {}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    let files = std::panic::catch_unwind(|| read_back(at.path()));
    run("mount", "umount", &[at_text]);
    Some(files.unwrap())
}

#[test]
fn linux_reads_every_file_of_an_iso_with_and_without_rock_ridge() {
    let dir = tempfile::tempdir().unwrap();
    let files = awkward();
    let tree = tree(&files);
    let image = save(&dir, "x.iso", &IsoImage::new("config-2", &tree).unwrap());
    if let Some(rock) = mounted(&image, "loop,ro") {
        assert!(rock == files, "{:?}", rock.keys().collect::<Vec<_>>());
    }
    if let Some(joliet) = mounted(&image, "loop,ro,norock,iocharset=utf8") {
        assert!(joliet == files, "{:?}", joliet.keys().collect::<Vec<_>>());
    }
}

#[test]
fn isoinfo_and_xorriso_agree_with_the_iso() {
    let dir = tempfile::tempdir().unwrap();
    let files = awkward();
    let tree = tree(&files);
    let image = save(&dir, "x.iso", &IsoImage::new("config-2", &tree).unwrap());
    let shown = run("genisoimage", "isoinfo", &["-d", "-i", &image]);
    assert!(shown.contains("Volume id: config-2") && shown.contains("Joliet with UCS level 3"), "{shown}");
    assert!(shown.contains("Rock Ridge signatures version 1 found"), "{shown}");
    for flag in ["-R", "-J"] {
        let mut names: Vec<String> =
            run("genisoimage", "isoinfo", &[flag, "-f", "-i", &image]).lines().map(|l| l.trim_start_matches('/').to_owned()).collect();
        names.sort();
        // isoinfo writes no UTF-8.
        for path in files.keys().filter(|p| p.is_ascii()) {
            assert!(names.binary_search(path).is_ok(), "{flag}: {path} is missing");
        }
    }
    // xorriso is strict about structure and prints what it has to complain about.
    let found = run("xorriso", "xorriso", &["-abort_on", "WARNING", "-indev", &image, "-find", "/", "-type", "f"]);
    assert_eq!(found.lines().filter(|l| l.starts_with('\'')).count(), files.len(), "{found}");
    let out = dir.path().join("out");
    run("xorriso", "xorriso", &["-osirrox", "on", "-indev", &image, "-extract", "/", out.to_str().unwrap()]);
    assert!(read_back(&out) == files);
}

#[test]
fn a_config_drive_has_the_layout_that_readers_look_for() {
    let dir = tempfile::tempdir().unwrap();
    let meta = json!({"uuid": "c2", "hostname": "node"});
    let net = json!({"links": []});
    let user = b"#cloud-config\n\0binary";
    let image = config_drive(&meta, Some(user), Some(&net), Some(&json!({"v": 1}))).unwrap();
    let path = save(&dir, "cd.iso", &image);
    let out = dir.path().join("out");
    run("xorriso", "xorriso", &["-osirrox", "on", "-indev", &path, "-extract", "/", out.to_str().unwrap()]);
    let files = read_back(&out);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let wanted: Vec<String> = ["2012-08-10", "latest"]
        .iter()
        .flat_map(|v| ["meta_data.json", "network_data.json", "user_data", "vendor_data2.json"].map(|f| format!("openstack/{v}/{f}")))
        .collect();
    assert_eq!(names, wanted);
    assert_eq!(files["openstack/latest/user_data"], user);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&files["openstack/latest/meta_data.json"]).unwrap(), meta);
    if let Some(m) = mounted(&path, "loop,ro") {
        assert!(m == files);
    }
    let label = run("util-linux", "blkid", &["-p", "-o", "value", "-s", "LABEL", &path]);
    assert_eq!(label.trim(), "config-2");
}

#[test]
fn fsck_and_mtools_find_nothing_wrong_with_a_fat_image() {
    let dir = tempfile::tempdir().unwrap();
    let files = awkward();
    let tree = tree(&files);
    for (kind, free) in [(FatKind::Fat16, 0), (FatKind::Fat16, 100 << 20), (FatKind::Fat32, 0)] {
        let image = save(&dir, "x.img", &FatImage::of_kind(kind, "BESSEMER", &tree, free).unwrap());
        let report = run("dosfstools", "fsck.vfat", &["-n", "-v", &image]);
        assert!(!report.contains("ifferences") && !report.contains("wrong"), "{kind:?}: {report}");
        let out = dir.path().join(format!("{kind:?}{free}"));
        std::fs::create_dir(&out).unwrap();
        run("mtools", "mcopy", &["-s", "-n", "-i", &image, "::", out.to_str().unwrap()]);
        assert!(read_back(&out) == files, "{kind:?}");
        if let Some(m) = mounted(&image, "loop,ro,iocharset=utf8") {
            assert!(m == files, "{kind:?}");
        }
    }
}

#[test]
fn a_boot_medium_names_its_esp_in_the_boot_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = vec![1u8; 3_000_000];
    let (ramdisk, layer) = (vec![2u8; 5_000_000], b"layer".to_vec());
    // Small: the catalog gives the length. Above 32 MiB it cannot and says 0.
    for grub in [vec![3u8; 1_000_000], vec![3u8; 40_000_000]] {
        let mut files = Tree::new();
        files.add("hello.txt", b"hi".to_vec()).unwrap();
        let media = BootMedia {
            loader: &b"shim".as_slice(),
            loader_name: "BOOTX64.EFI",
            grub: Some(("grubx64.efi", &grub)),
            kernel: &kernel,
            ramdisks: vec![&ramdisk, &layer],
            command_line: "console=ttyS0",
            files,
            label: "boot",
        };
        let path = dir.path().join("boot.iso");
        let bytes = boot_iso(media, &mut std::fs::File::create(&path).unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
        let report = run("xorriso", "xorriso", &["-indev", path.to_str().unwrap(), "-report_el_torito", "plain"]);
        let boot = report.lines().find(|l| l.starts_with("El Torito boot img :   1  UEFI  y   none")).unwrap_or_else(|| panic!("{report}"));
        let fields: Vec<&str> = boot.split_whitespace().collect();
        let block: u64 = fields.last().unwrap().parse().unwrap();
        let image = std::fs::read(&path).unwrap();
        let esp = dir.path().join("esp.img");
        std::fs::write(&esp, &image[usize::try_from(block * 2048).unwrap()..]).unwrap();
        let esp = esp.to_str().unwrap();
        run("dosfstools", "fsck.vfat", &["-n", esp]);
        assert_eq!(run("mtools", "mtype", &["-i", esp, "::/EFI/BOOT/BOOTX64.EFI"]), "shim");
        let out = dir.path().join("out");
        run("xorriso", "xorriso", &["-osirrox", "on", "-indev", path.to_str().unwrap(), "-extract", "/", out.to_str().unwrap()]);
        let on_cd = read_back(&out);
        assert_eq!(on_cd["hello.txt"], b"hi");
        assert_eq!(on_cd["ramdisk1"], b"layer");
        let config = String::from_utf8(on_cd["boot/grub/grub.cfg"].clone()).unwrap();
        assert!(config.contains("linux /vmlinuz 'console=ttyS0'") && config.contains("initrd /ramdisk0 /ramdisk1"), "{config}");
        run("coreutils", "rm", &["-rf", out.to_str().unwrap()]);
    }
}
