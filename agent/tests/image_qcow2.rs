//! qcow2 images: byte-identical to what qemu-img makes of them, read once, and refused when they point elsewhere.
#![allow(missing_docs, clippy::unwrap_used)]

mod image_support;

use std::path::Path;
use std::sync::Arc;

use bessemer_agent::image::{ImageError, WriteReport, write_image};
use bessemer_agent::progress::Progress;
use image_support::*;

const MIB: usize = 1 << 20;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A qcow2 file made by qemu-img from `image`.
fn qcow2(dir: &Path, image: &[u8], options: &[&str]) -> Vec<u8> {
    let (raw, out) = (dir.join("in.raw"), dir.join("out.qcow2"));
    std::fs::write(&raw, image).unwrap();
    let _ = std::fs::remove_file(&out);
    let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
    arguments.extend(options);
    arguments.extend([path(&raw), path(&out)]);
    run("qemu-img", &arguments);
    std::fs::read(&out).unwrap()
}

async fn write(disk: &Path, body: &[u8], faults: Faults) -> (Result<WriteReport, ImageError>, Server) {
    let server = Server::start(body.to_vec(), faults).await;
    let mut request = request(disk, &server.url("a.qcow2"), &sha256(body), "qcow2");
    request.wipe_metadata = false;
    (write_image(request, Arc::new(Progress::default())).await, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_all_shapes_are_identical_to_their_conversion_by_qemu_img() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Not a multiple of any cluster size.
    let image = sparse(24 * MIB + 512 * 5, 21);
    let shapes: [&[&str]; 9] = [
        &[],
        &["-c"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=4k"],
        &["-o", "cluster_size=2M"],
        &["-c", "-o", "cluster_size=4k"],
        &["-c", "-o", "cluster_size=2M"],
        &["-o", "compat=0.10"],
        &["-S", "0", "-o", "preallocation=metadata"],
    ];
    for options in shapes {
        let body = qcow2(dir.path(), &image, options);
        let disk = old_disk(dir.path(), 32 * MIB as u64);
        let faults = Faults::default();
        faults.cuts.lock().unwrap().extend([2_500_000]);
        let (result, server) = write(&disk, &body, faults).await;
        let report = result.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        assert_eq!(report.downloaded, body.len() as u64, "{options:?}");
        assert_eq!(report.image_size, image.len() as u64);
        assert!(std::fs::read(&disk).unwrap()[..image.len()] == image, "{options:?}");
        // Tables are read twice, data once.
        let bound = body.len() as u64 + 4 * MIB as u64 + body.len() as u64 / 16;
        assert!(server.served() <= bound, "{options:?}: {} of {}", server.served(), body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_with_scattered_clusters_is_put_together_again() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, raw) = (dir.path().join("x.qcow2"), dir.path().join("x.raw"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", path(&image), "2G"]);
    let mut commands = vec!["-f".to_owned(), "qcow2".to_owned()];
    // Far apart and backwards, with zeroed and discarded clusters, and a snapshot in between.
    for (n, at) in [1_900_u64, 700, 5, 1_200, 0, 1_500, 64, 2_047].into_iter().enumerate() {
        commands.extend(["-c".into(), format!("write -P {} {}M 1M", n + 1, at)]);
    }
    for (from, len) in [("5M", "64k"), ("1200M", "512k")] {
        commands.extend(["-c".into(), format!("write -z {from} {len}")]);
    }
    commands.extend(["-c".into(), "discard 700M 128k".into(), path(&image).to_owned()]);
    run("qemu-io", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    run("qemu-img", &["snapshot", "-c", "before", path(&image)]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 99 5M 256k", path(&image)]);
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", path(&image), path(&raw)]);
    let body = std::fs::read(&image).unwrap();
    let disk = dir.path().join("disk");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(2 << 30).unwrap();
    for at in [0_u64, 6 << 20, 703 << 20, 2046 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xee; 4096], at).unwrap();
    }
    for no_ranges in [false, true] {
        let (result, _server) = write(&disk, &body, Faults { no_ranges, ..Faults::default() }).await;
        let report = result.unwrap();
        assert_eq!(report.notes.is_empty(), !no_ranges, "{:?}", report.notes);
        run("cmp", &[path(&raw), path(&disk)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_point_elsewhere_or_need_unknown_features_are_refused_untouched() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = noise(2 * MIB, 22);
    let raw = dir.path().join("base.raw");
    std::fs::write(&raw, &image).unwrap();
    let make = |arguments: &[&str]| {
        let out = dir.path().join("odd.qcow2");
        let _ = std::fs::remove_file(&out);
        let mut all = vec!["create", "-q", "-f", "qcow2"];
        all.extend(arguments);
        all.push(path(&out));
        all.push("2M");
        run("qemu-img", &all);
        std::fs::read(&out).unwrap()
    };
    let backing = make(&["-b", path(&raw), "-F", "raw"]);
    let data = format!("data_file={}", path(&dir.path().join("data.raw")));
    let data_file = make(&["-o", &data]);
    let extended = make(&["-o", "extended_l2=on,cluster_size=128k"]);
    let zstd = make(&["-o", "compression_type=zstd"]);
    let mut encrypted = make(&[]);
    encrypted[35] = 2;
    let mut unknown = make(&[]);
    unknown[74] = 1;
    let mut corrupt = make(&[]);
    corrupt[79] |= 2;
    for (body, word) in [
        (backing, "backing file"),
        (data_file, "another file"),
        (extended, "extended L2"),
        (zstd, "zstd"),
        (encrypted, "encrypted"),
        (unknown, "not known"),
        (corrupt, "corrupt"),
    ] {
        let disk = old_disk(dir.path(), 8 * MIB as u64);
        let (result, _server) = write(&disk, &body, Faults::default()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ImageError::Qcow2(_)), "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(std::fs::read(&disk).unwrap().iter().all(|b| *b == 0xa5), "{word}: the disk was touched");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_size_larger_than_the_disk_is_refused_untouched() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let body = qcow2(dir.path(), &sparse(9 * MIB, 23), &["-c"]);
    let disk = old_disk(dir.path(), 8 * MIB as u64);
    let (result, _server) = write(&disk, &body, Faults::default()).await;
    assert!(matches!(result, Err(ImageError::TooLarge { .. })));
    assert!(std::fs::read(&disk).unwrap().iter().all(|b| *b == 0xa5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_image_is_an_error_and_leaves_nothing_bootable() {
    if !have("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for options in [&[][..], &["-c"]] {
        let mut body = qcow2(dir.path(), &noise(6 * MIB, 24), options);
        body.truncate(body.len() - 300_000);
        let disk = old_disk(dir.path(), 8 * MIB as u64);
        let (result, _server) = write(&disk, &body, Faults::default()).await;
        let error = result.unwrap_err();
        assert!(error.to_string().contains("beyond the end"), "{error}");
        let bytes = std::fs::read(&disk).unwrap();
        assert!(bytes[..MIB].iter().all(|b| *b == 0));
    }
}
