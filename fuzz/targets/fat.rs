//! FAT file systems of foreign disks: the whole tree is walked.
#![no_main]

use libfuzzer_sys::fuzz_target;

use std::os::unix::fs::FileExt;

use bessemer_agent::disk::fat::Fat;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = tempfile::tempfile() else { return };
    let mut boot = data.to_vec();
    boot.resize(boot.len().max(512), 0);
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    if file.write_all_at(&boot, 0).is_err() || file.set_len(1 << 20).is_err() {
        return;
    }
    let Ok(fat) = Fat::open(&file, 0) else { return };
    for entry in fat.root().unwrap_or_default() {
        let _ = fat.list(&entry);
        let _ = fat.read(&entry, 64 << 10);
    }
});
