//! Collects what is needed to understand a failed machine: logs and the state of the kernel, as a tar.gz.
//!
//! The agent token on the kernel command line is blanked out; nothing else secret is at these places.

use crate::hw::Root;
use crate::log;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most of one file that is taken.
const MAX_FILE: usize = 2 * 1024 * 1024;

/// Files under the root that are collected.
const FILES: &[&str] = &[
    "proc/cmdline",
    "proc/cpuinfo",
    "proc/interrupts",
    "proc/iomem",
    "proc/mdstat",
    "proc/meminfo",
    "proc/modules",
    "proc/mounts",
    "proc/net/dev",
    "proc/net/route",
    "proc/partitions",
    "proc/uptime",
    "proc/version",
    "etc/resolv.conf",
    "run/bessemer/last-words",
];

/// The archive in base64, as `log.collect_system_logs` and inspection report it.
pub fn collect_base64(root: &Root, extra: &[(&str, Vec<u8>)]) -> io::Result<String> {
    collect(root, extra).map(|bytes| STANDARD.encode(bytes))
}

/// The archive: the agent's log, the kernel's, the files above and `extra` ones.
pub fn collect(root: &Root, extra: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    add(&mut gzip, "agent.log", &log::recent())?;
    add(&mut gzip, "dmesg", &kernel_log(Path::new("/dev/kmsg")))?;
    for file in FILES {
        if let Ok(bytes) = read_bounded(&root.path(file)) {
            let bytes = if *file == "proc/cmdline" { blank_token(&bytes) } else { bytes };
            add(&mut gzip, &file.replace('/', "_"), &bytes)?;
        }
    }
    for (name, bytes) in extra {
        add(&mut gzip, name, bytes)?;
    }
    gzip.write_all(&[0; 1024])?;
    gzip.finish()
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn blank_token(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let words = text.split_whitespace().map(|word| match word.split_once('=') {
        Some((name, _)) if bessemer_model::secret::is_secret_key(name) => format!("{name}=******"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ").into_bytes()
}

/// The kernel's ring buffer, one message a line with its time in seconds.
fn kernel_log(device: &Path) -> Vec<u8> {
    let Ok(mut file) = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(device) else { return Vec::new() };
    let mut text = Vec::new();
    let mut record = vec![0; 8192];
    while text.len() < MAX_FILE {
        match file.read(&mut record) {
            Ok(length @ 1..) => {
                // "priority,sequence,microseconds,flags;message", then lines of further keys.
                let line = String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
                let Some((head, message)) = line.split_once(';') else { continue };
                let micros = head.split(',').nth(2).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
                let message = message.lines().next().unwrap_or_default();
                text.extend(format!("[{:5}.{:06}] {message}\n", micros / 1_000_000, micros % 1_000_000).bytes());
            }
            // A record was overwritten under us: the next read goes on behind it.
            Err(e) if e.raw_os_error() == Some(nix::libc::EPIPE) || e.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    text
}

/// One file of a tar archive (POSIX.1-1988 ustar).
fn add(out: &mut impl Write, name: &str, data: &[u8]) -> io::Result<()> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, name.as_bytes().get(..name.len().min(99)).unwrap_or_default());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let checksum = format!("{sum:06o}\0 ");
    for (to, from) in header.iter_mut().skip(148).zip(checksum.bytes()) {
        *to = from;
    }
    out.write_all(&header)?;
    out.write_all(data)?;
    let padding = data.len().next_multiple_of(512) - data.len();
    out.write_all([0; 512].get(..padding).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hw::recorded::tree;
    use flate2::read::GzDecoder;

    #[test]
    fn the_archive_is_readable_and_holds_no_token() {
        let (dir, root) = tree(&[("proc/cmdline", "quiet ipa-agent-token=hunter2 a=b\n"), ("proc/uptime", "1 1\n")]);
        let bytes = collect(&root, &[("inventory.json", b"{}".to_vec())]).unwrap();
        let mut plain = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        let text = String::from_utf8_lossy(&plain);
        assert!(!text.contains("hunter2"));
        assert!(text.contains("ipa-agent-token=****** a=b"));
        let file = dir.path().join("logs.tar.gz");
        fs::write(&file, &bytes).unwrap();
        if let Ok(output) = std::process::Command::new("tar").arg("tzf").arg(&file).output() {
            let listing = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(listing.contains("inventory.json") && listing.contains("agent.log"), "{listing}");
        }
    }
}
