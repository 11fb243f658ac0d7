//! The agent's image writer alone, on this computer: `write_rate URL DEVICE SHA256` writes a raw
//! image and prints one JSON object: bytes, seconds, whether it wrote past the page cache, and
//! the most memory that the process had, in bytes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bessemer_agent::image::request::ImageSettings;
use bessemer_agent::image::{ImageInfo, WriteImageRequest, write_image};
use serde_json::json;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, device, sha256] = &args[..] else { anyhow::bail!("usage: write_rate URL DEVICE SHA256") };
    let info = ImageInfo {
        id: "bench".to_owned(),
        urls: vec![url.clone()],
        os_hash_algo: Some("sha256".to_owned()),
        os_hash_value: Some(sha256.clone()),
        disk_format: Some("raw".to_owned()),
        ..ImageInfo::default()
    };
    let request = WriteImageRequest::from_image_info(&info, Path::new(device), &ImageSettings::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(write_image(request, Arc::default()))?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    ensure!(report.reconnects == 0, "the connection broke during a benchmark");
    println!("{}", json!({"seconds": report.elapsed.as_secs_f64(), "direct": report.direct, "peak_memory": peak << 10}));
    Ok(())
}
