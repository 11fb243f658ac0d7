//! Images by HTTP onto disks: what arrives, and what a bad server or a bad image leaves behind.
#![allow(missing_docs, clippy::unwrap_used)]

mod image_support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bessemer_agent::image::{ImageError, write_image};
use bessemer_agent::progress::Progress;
use image_support::*;

const MIB: usize = 1 << 20;

fn progress() -> Arc<Progress> {
    Arc::new(Progress::default())
}

/// Nothing on the disk that firmware or a kernel would take for a system.
fn assert_not_bootable(disk: &[u8]) {
    assert!(disk[..MIB].iter().all(|b| *b == 0), "the first MiB is not empty");
    assert!(disk[disk.len() - MIB..].iter().all(|b| *b == 0), "the last MiB is not empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_image_arrives_byte_for_byte_on_a_loop_device_in_spite_of_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 48 * MIB as u64);
    let Some(disk) = Loop::attach(&file, &[]) else { return };
    let image = sparse(40 * MIB + 512 * 3, 1);
    let server = Server::start(image.clone(), Faults::default()).await;
    let cuts = [700, 5 * MIB as u64, 9 * MIB as u64 + 13];
    server.faults.cuts.lock().unwrap().extend(cuts);
    let progress = progress();
    let report = write_image(request(&disk.device, &server.url("a.img"), &sha256(&image), "raw"), Arc::clone(&progress)).await.unwrap();
    assert_eq!(report.downloaded, image.len() as u64);
    assert_eq!(report.reconnects, 3);
    assert_eq!(report.repeated_bytes, 0);
    assert!(report.direct, "a loop device takes direct writes");
    assert!(server.served() <= image.len() as u64 + 3 * 4 * MIB as u64, "{} served", server.served());
    assert_eq!(progress.read().phase, "syncing");
    drop(disk);
    let on_disk = std::fs::read(&file).unwrap();
    assert!(on_disk[..image.len()] == image);
    assert!(on_disk[image.len()..47 * MIB].iter().all(|b| *b == 0xa5), "bytes behind the image are not touched");
    assert!(on_disk[47 * MIB..].iter().all(|b| *b == 0), "an old partition table at the end is gone");
}

async fn write_to_file(
    disk_len: usize,
    body: Vec<u8>,
    checksum: &str,
    format: &str,
    faults: Faults,
) -> (Result<bessemer_agent::image::WriteReport, ImageError>, Vec<u8>, Server) {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), disk_len as u64);
    let server = Server::start(body, faults).await;
    let mut request = request(&file, &server.url("a.img"), checksum, format);
    request.wipe_metadata = false;
    let result = write_image(request, progress()).await;
    (result, std::fs::read(&file).unwrap(), server)
}

fn compress(program: &str, arguments: &[&str], data: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain");
    std::fs::write(&path, data).unwrap();
    let output = std::process::Command::new(program).args(arguments).arg("-c").arg(&path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_images_are_unpacked_and_their_served_bytes_verified() {
    let image = sparse(20 * MIB + 700, 3);
    let (first, second) = image.split_at(11 * MIB);
    let mut two_members = compress("gzip", &[], first);
    two_members.extend(compress("gzip", &[], second));
    let cases = [
        ("gzip", compress("gzip", &["-1"], &image)),
        ("gzip", two_members),
        ("zstd", compress("zstd", &["-q", "-3"], &image)),
        ("xz", compress("xz", &["-1"], &image)),
        ("xz", compress("xz", &["-0", "--block-size=1MiB"], &image)),
    ];
    for (name, body) in cases {
        let served = body.len() as u64;
        let faults = Faults::default();
        faults.cuts.lock().unwrap().extend([3_000_000]);
        let (result, disk, server) = write_to_file(24 * MIB, body.clone(), &sha512(&body), "raw", faults).await;
        let report = result.unwrap();
        assert_eq!(report.compression, Some(name));
        assert_eq!((report.downloaded, report.image_size), (served, image.len() as u64));
        assert!(server.served() <= served + 4 * MIB as u64);
        assert!(disk[..image.len()] == image, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_that_wants_too_much_memory_is_refused_before_the_disk_is_touched() {
    let image = noise(3 * MIB, 8);
    for (program, arguments) in [("zstd", vec!["-q", "--ultra", "-22", "--long=28"]), ("xz", vec!["--lzma2=dict=512MiB"])] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain");
        std::fs::write(&path, &image).unwrap();
        // From a pipe the size is unknown, so that the window is announced in full.
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("cat {} | {program} {} -c", path.display(), arguments.join(" ")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let body = output.stdout;
        let (result, disk, _server) = write_to_file(8 * MIB, body.clone(), &sha256(&body), "raw", Faults::default()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ImageError::Decode { .. }), "{error}");
        assert!(error.to_string().contains("MiB"), "{error}");
        assert!(disk.iter().all(|b| *b == 0xa5), "{program}: the disk was touched");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_compressed_data_is_an_error_and_leaves_nothing_bootable() {
    let image = noise(6 * MIB, 9);
    for program in ["gzip", "zstd", "xz"] {
        let mut body = compress(program, &[], &image);
        let cut = body.len() - 1000;
        body.truncate(cut);
        let (result, disk, _server) = write_to_file(8 * MIB, body.clone(), &sha256(&body), "raw", Faults::default()).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ImageError::Decode { .. }), "{program}: {error}");
        assert_not_bootable(&disk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_checksum_is_an_error_and_leaves_nothing_bootable() {
    let image = noise(6 * MIB + 512, 4);
    let (result, disk, _server) = write_to_file(8 * MIB, image, &sha256(b"other"), "raw", Faults::default()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ImageError::ChecksumMismatch { .. }), "{error}");
    assert!(error.to_string().contains(&sha256(b"other")));
    assert_not_bootable(&disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_checksum_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), MIB as u64);
    let server = Server::start(noise(MIB, 1), Faults::default()).await;
    let error = write_image(request(&file, &server.url("a"), "", "raw"), progress()).await.unwrap_err();
    assert!(error.to_string().contains("no checksum"), "{error}");
    assert_eq!(server.served(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_larger_than_the_disk_is_refused_before_the_disk_is_touched() {
    let image = noise(48 * MIB, 5);
    let (result, disk, server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", Faults::default()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { at_least: false, .. }), "{error}");
    assert!(disk.iter().all(|b| *b == 0xa5), "the disk was touched");
    // Only what was on its way is lost.
    assert!(server.served() < image.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_image_that_turns_out_too_large_leaves_nothing_bootable() {
    let body = compress("zstd", &["-q"], &noise(9 * MIB, 5));
    let (result, disk, _server) = write_to_file(8 * MIB, body.clone(), &sha256(&body), "raw", Faults::default()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { at_least: true, .. }), "{error}");
    assert_not_bootable(&disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_400_class_is_final_and_touches_nothing() {
    for status in [400, 401, 403, 404, 410] {
        let faults = Faults::default();
        faults.status.store(status, Ordering::SeqCst);
        let started = Instant::now();
        let (result, disk, _server) = write_to_file(2 * MIB, noise(MIB, 1), &sha256(b""), "raw", faults).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(&status.to_string()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(disk.iter().all(|b| *b == 0xa5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_url_is_tried_when_the_first_has_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let image = noise(3 * MIB, 2);
    let gone = Server::start(Vec::new(), Faults::default()).await;
    gone.faults.status.store(404, Ordering::SeqCst);
    let good = Server::start(image.clone(), Faults::default()).await;
    let mut request = request(&file, &gone.url("a.img"), &sha256(&image), "raw");
    request.urls.push(good.url("a.img"));
    let report = write_image(request, progress()).await.unwrap();
    assert!(report.url.starts_with(&good.url("")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_is_resumed_and_one_that_never_recovers_is_given_up() {
    let image = noise(6 * MIB, 6);
    let faults = Faults::default();
    faults.stalls.lock().unwrap().extend([2 * MIB as u64]);
    let (result, disk, server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", faults).await;
    assert_eq!(result.unwrap().reconnects, 1);
    assert!(disk[..image.len()] == image);
    assert!(server.served() <= image.len() as u64 + 4 * MIB as u64);

    let faults = Faults::default();
    faults.stalls.lock().unwrap().push_back(2 * MIB as u64);
    faults.stalls.lock().unwrap().extend([0; 50]);
    let (result, disk, _server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", faults).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("no data for 2 s") && error.contains("byte 2097152"), "{error}");
    assert_not_bootable(&disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_pass_are_waited_out() {
    let image = noise(2 * MIB, 7);
    let faults = Faults::default();
    faults.statuses.lock().unwrap().extend([503, 500, 429]);
    let (result, disk, _server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", faults).await;
    result.unwrap();
    assert!(disk[..image.len()] == image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_waited_for_and_sends_no_byte_twice() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 16 * MIB as u64);
    let image = noise(12 * MIB, 10);
    let server = Server::start(image.clone(), Faults::default()).await;
    let address = server.address.to_string();
    server.faults.cuts.lock().unwrap().push_back(5 * MIB as u64);
    server.faults.stalls.lock().unwrap().extend([0; 9]);
    let mut request = request(&file, &server.url("a.img"), &sha256(&image), "raw");
    request.policy.outage = Duration::from_secs(60);
    let writing = tokio::spawn(write_image(request, progress()));
    while server.served() < 5 * MIB as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = server.served();
    drop(server);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!writing.is_finished(), "connection refused is not final");
    let again = Server::start_at(&address, image.clone(), Faults::default()).await;
    let report = writing.await.unwrap().unwrap();
    assert_eq!(report.repeated_bytes, 0);
    assert!(before + again.served() <= image.len() as u64 + 4 * MIB as u64);
    assert!(std::fs::read(&file).unwrap()[..image.len()] == image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_ranges_is_read_again_from_the_start_and_says_so() {
    let image = noise(6 * MIB, 11);
    for no_validators in [false, true] {
        let faults = Faults { no_ranges: true, no_etag: no_validators, no_last_modified: no_validators, ..Faults::default() };
        faults.cuts.lock().unwrap().extend([4 * MIB as u64]);
        let (result, disk, _server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", faults).await;
        let report = result.unwrap();
        assert!(disk[..image.len()] == image);
        assert!(!report.notes.is_empty(), "the report says that bytes were sent again");
        if !no_validators {
            assert_eq!(report.repeated_bytes, 4 * MIB as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_changes_during_the_download_is_never_mixed() {
    let image = noise(6 * MIB, 12);
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let server = Server::start(image.clone(), Faults { no_last_modified: true, ..Faults::default() }).await;
    server.faults.cuts.lock().unwrap().extend([3 * MIB as u64]);
    let faults = Arc::clone(&server.faults);
    let served = Arc::clone(&server.served);
    tokio::spawn(async move {
        while served.load(Ordering::SeqCst) < 2 * MIB as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        faults.changed.store(true, Ordering::SeqCst);
    });
    let report = write_image(request(&file, &server.url("a"), &sha256(&image), "raw"), progress()).await.unwrap();
    assert_eq!(report.downloaded, image.len() as u64);
    assert!(report.notes.iter().any(|note| note.contains("began again")), "{:?}", report.notes);
    assert!(std::fs::read(&file).unwrap()[..image.len()] == image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_unknown_length_is_written_to_its_end() {
    let image = noise(3 * MIB + 512, 13);
    let faults = Faults { no_length: true, ..Faults::default() };
    let (result, disk, _server) = write_to_file(8 * MIB, image.clone(), &sha256(&image), "raw", faults).await;
    result.unwrap();
    assert!(disk[..image.len()] == image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checksum_may_be_in_a_file_beside_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let image = noise(2 * MIB, 14);
    let sums = Server::start(format!("{}  x.img\n{} *a.img\n", sha256(b"x"), sha256(&image)).into_bytes(), Faults::default()).await;
    let server = Server::start(image.clone(), Faults::default()).await;
    let report = write_image(request(&file, &server.url("a.img"), &sums.url("SHA256SUMS"), "raw"), progress()).await.unwrap();
    assert_eq!(report.digest, sha256(&image));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorization_is_sent_and_never_shown() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let image = noise(2 * MIB, 15);
    let server = Server::start(image.clone(), Faults { authorization: Some("Bearer sesame".into()), ..Faults::default() }).await;
    let info = bessemer_agent::image::ImageInfo {
        urls: vec![server.url("a.img")],
        checksum: Some(sha256(&image)),
        image_request_authorization: Some(base64::engine::general_purpose::STANDARD.encode("Bearer sesame")),
        ..Default::default()
    };
    let request = bessemer_agent::image::WriteImageRequest::from_image_info(&info, &file, &Default::default()).unwrap();
    assert!(!format!("{info:?} {request:?}").contains("sesame"));
    write_image(request, progress()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_image_is_refused_by_name() {
    let info = bessemer_agent::image::ImageInfo { urls: vec!["http://x/".into()], kernel: Some("k".into()), ..Default::default() };
    let error = bessemer_agent::image::WriteImageRequest::from_image_info(&info, "/dev/null".as_ref(), &Default::default()).unwrap_err();
    assert!(error.to_string().contains("partition images are not built"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_write_stops_soon_and_leaves_nothing_bootable() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 16 * MIB as u64);
    let image = noise(12 * MIB, 16);
    let server = Server::start(image.clone(), Faults::default()).await;
    server.faults.stalls.lock().unwrap().push_back(6 * MIB as u64);
    let mut request = request(&file, &server.url("a.img"), &sha256(&image), "raw");
    request.policy.timeout = Duration::from_secs(60);
    let progress = progress();
    let writing = tokio::spawn(write_image(request, Arc::clone(&progress)));
    // What was received is never counted back, also when it came while the disk was wiped.
    let reached = async {
        while progress.read().done < 5 * MIB as u64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the progress shows what was received");
    progress.cancel();
    let error = tokio::time::timeout(Duration::from_secs(5), writing).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ImageError::Cancelled), "{error}");
    assert_not_bootable(&std::fs::read(&file).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_half_way_ends_the_write_soon_by_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().to_str().unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "small", mount]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs root");
        return;
    }
    let file = dir.path().join("disk");
    std::fs::File::create(&file).unwrap().set_len(64 * MIB as u64).unwrap();
    let image = noise(48 * MIB, 23);
    let server = Server::start(image.clone(), Faults::default()).await;
    let mut request = request(&file, &server.url("a.img"), &sha256(&image), "raw");
    request.wipe_metadata = false;
    let result = tokio::time::timeout(Duration::from_secs(20), write_image(request, progress())).await;
    let disk = std::fs::read(&file).unwrap();
    run("umount", &[mount]);
    let error = result.unwrap().unwrap_err();
    assert!(matches!(error, ImageError::Disk { .. }) && error.to_string().contains("No space"), "{error}");
    assert_not_bootable(&disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let Some(disk) = Loop::attach(&file, &[]) else { return };
    run("mkfs.ext4", &["-q", disk.device.to_str().unwrap()]);
    let mount = dir.path().join("mnt");
    std::fs::create_dir(&mount).unwrap();
    run("mount", &[disk.device.to_str().unwrap(), mount.to_str().unwrap()]);
    let image = noise(2 * MIB, 17);
    let server = Server::start(image.clone(), Faults::default()).await;
    let result = write_image(request(&disk.device, &server.url("a.img"), &sha256(&image), "raw"), progress()).await;
    run("umount", &[mount.to_str().unwrap()]);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("mounted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_ca_is_trusted_when_given_and_an_unknown_one_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let image = noise(2 * MIB, 18);
    let (server, ca) = Server::start_tls(image.clone(), Faults::default()).await;
    let url = format!("https://{}/a.img", server.address);
    let started = Instant::now();
    let error = write_image(request(&file, &url, &sha256(&image), "raw"), progress()).await.unwrap_err().to_string();
    assert!(error.contains("certificate") && error.contains("ipa-insecure"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "no use in trying again");
    let mut trusting = request(&file, &url, &sha256(&image), "raw");
    trusting.http.ca_pem = Some(ca);
    write_image(trusting, progress()).await.unwrap();
    let mut careless = request(&file, &url, &sha256(&image), "raw");
    careless.http.insecure = true;
    write_image(careless, progress()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_used_except_for_hosts_that_are_excepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 8 * MIB as u64);
    let image = noise(2 * MIB, 19);
    let proxy = Server::start(image.clone(), Faults::default()).await;
    let mut proxied = request(&file, "http://images.invalid/a.img", &sha256(&image), "raw");
    proxied.http.proxies.insert("http".into(), proxy.url(""));
    write_image(proxied, progress()).await.unwrap();
    let direct = Server::start(image.clone(), Faults::default()).await;
    let mut excepted = request(&file, &direct.url("a.img"), &sha256(&image), "raw");
    excepted.http.proxies.insert("http".into(), proxy.url(""));
    excepted.http.no_proxy = Some("example.org,127.0.0.1".into());
    write_image(excepted, progress()).await.unwrap();
    assert_eq!((proxy.served(), direct.served()), (image.len() as u64, image.len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_large_sectors_takes_an_image_that_ends_inside_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = old_disk(dir.path(), 24 * MIB as u64);
    let Some(disk) = Loop::attach(&file, &["--sector-size", "4096"]) else { return };
    let image = sparse(18 * MIB + 512 * 3, 20);
    let server = Server::start(image.clone(), Faults::default()).await;
    write_image(request(&disk.device, &server.url("a.img"), &sha256(&image), "raw"), progress()).await.unwrap();
    drop(disk);
    assert!(std::fs::read(&file).unwrap()[..image.len()] == image);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_in_a_foreign_format_is_refused_before_the_disk_is_touched() {
    let mut vmdk = noise(2 * MIB, 21);
    vmdk[..4].copy_from_slice(b"KDMV");
    let mut iso = noise(2 * MIB, 22);
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    let mut hidden = vec![0; 2 * MIB];
    hidden[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let packed = compress("gzip", &[], &hidden);
    for (body, word) in [(vmdk, "vmdk"), (iso, "iso"), (hidden, "qcow2"), (packed, "qcow2"), (Vec::new(), "empty")] {
        let (result, disk, _server) = write_to_file(8 * MIB, body.clone(), &sha256(&body), "raw", Faults::default()).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(disk.iter().all(|b| *b == 0xa5), "{word}: the disk was touched");
    }
}
