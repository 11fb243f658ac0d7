//! Boots machines without a daemon: the boot services over a source in memory. For the laboratory and for trying things.
//!
//! `bootserve CONFIG.json`, where the file holds `{"boot": {…BootConfig…}, "machines": [{"mac": …, "plan": {…}}],
//! "discovery": false}`. A machine without a plan gets an address and nothing to boot.

use std::sync::Arc;

use bessemer_pxe::{BootConfig, BootPlan, BootServices, MacAddr, Machine, MachineKind, MemorySource};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    boot: BootConfig,
    #[serde(default)]
    machines: Vec<Entry>,
    #[serde(default)]
    discovery: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    mac: MacAddr,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    reserved: Option<std::net::Ipv4Addr>,
    #[serde(default)]
    plan: Option<BootPlan>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    let path = std::env::args().nth(1).ok_or("usage: bootserve CONFIG.json")?;
    let setup: Setup = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let source = Arc::new(MemorySource::new());
    source.set_discovery(setup.discovery);
    for entry in setup.machines {
        source.set_machine(
            entry.mac,
            Machine {
                kind: MachineKind::Known {
                    node: entry.plan.as_ref().and_then(|plan| plan.node).unwrap_or_else(Uuid::nil),
                    hostname: entry.hostname,
                },
                netboot: entry.plan.is_some(),
                reserved: entry.reserved,
            },
        );
        if let Some(plan) = entry.plan {
            source.set_plan(entry.mac, plan);
        }
    }
    let services = BootServices::start(setup.boot, source, CancellationToken::new())?;
    tokio::signal::ctrl_c().await?;
    services.stop().await;
    Ok(())
}
