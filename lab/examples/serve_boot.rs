//! Our boot services alone, until killed: `serve_boot FOLDER` serves the folder's files by TFTP
//! (port 69) and HTTP (`/files/NAME`, port 8088) on the lab's bridge. For benchmarks.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bessemer_pxe::{BootConfig, BootServices, MemorySource, NetworkConfig};
use serde_json::json;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: serve_boot FOLDER")?;
    let network: NetworkConfig =
        serde_json::from_value(json!({"name": "lab", "interface": "br0", "server": "172.30.0.1", "subnet": "172.30.0.0/24"}))?;
    let config = BootConfig { networks: vec![network], program_dirs: vec![PathBuf::from(folder)], ..BootConfig::default() };
    let runtime = tokio::runtime::Runtime::new()?;
    let _guard = runtime.enter();
    let _services = BootServices::start(config, Arc::new(MemorySource::new()), tokio_util::sync::CancellationToken::new())?;
    loop {
        std::thread::park();
    }
}
