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
