//! The boot path alone: our boot services and our ramdisk on real firmware, without a conductor.
//!
//! `cargo run -p bessemer-lab --example rehearsal -- [bios|uefi|MIB]…` powers the machines on by
//! libvirt, plays the API's part of lookup and heartbeat, and prints when each came. A number is
//! the machines' memory in MiB. Needs `cargo xtask ramdisk --minimal` first.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bessemer_lab::machines::{Firmware, MachineSpec};
use bessemer_lab::{Bench, Lab, enter, tool};
use bessemer_pxe::plan::{BootPlan, BootWhat, FileRef, Nonce};
use bessemer_pxe::{BootConfig, BootServices, MacAddr, MemorySource, NetworkConfig};
use serde_json::json;
use uuid::Uuid;

fn main() -> Result<()> {
    enter::run("rehearsal", std::env::var_os(enter::KEEP).is_some(), rehearse)
}

fn rehearse(lab: &Lab) -> Result<()> {
    let (numbers, wanted): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.parse::<u64>().is_ok());
    let memory_mib = numbers.first().and_then(|number| number.parse().ok()).unwrap_or(512);
    let specs: Vec<MachineSpec> = [("bios", Firmware::Bios), ("uefi", Firmware::Uefi)]
        .into_iter()
        .zip(0..)
        .filter(|((name, _), _)| wanted.is_empty() || wanted.iter().any(|w| w == name))
        .map(|((name, firmware), index)| MachineSpec { memory_mib, ..MachineSpec::usual(name, index, firmware) })
        .collect();
    let bench = Bench::start(lab, &specs)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let _guard = runtime.enter();
    let source = Arc::new(MemorySource::new());
    let files = PathBuf::from("target/ramdisk/minimal").canonicalize().context("run `cargo xtask ramdisk --minimal`")?;
    for machine in &bench.machines {
        let mac: MacAddr = machine.spec.mac.parse().map_err(|error| anyhow!("{error:?}"))?;
        let node = Uuid::parse_str(&machine.spec.uuid)?;
        source.add_node(mac, node);
        source.set_plan(
            mac,
            BootPlan {
                node: Some(node),
                what: BootWhat::Ramdisk,
                kernel: Some(FileRef::Path(files.join("vmlinuz"))),
                layers: vec![FileRef::Path(files.join("ramdisk.img"))],
                params: ["ipa-api-url=http://172.30.0.1:6385", "console=ttyS0", "ipa-debug=1"].map(String::from).to_vec(),
                nonce: Nonce::random(),
                files: BTreeMap::new(),
                macs: vec![mac],
            },
        );
    }
    let network: NetworkConfig = serde_json::from_value(json!({
        "name": "lab", "interface": "br0", "server": "172.30.0.1", "subnet": "172.30.0.0/24",
        "range": "172.30.0.100-172.30.0.199",
    }))?;
    let config = BootConfig { networks: vec![network], ..BootConfig::default() };
    let _services = BootServices::start(config, source, tokio_util::sync::CancellationToken::new())?;
    let (events, seen) = channel();
    std::thread::spawn(move || api(&events));
    let begin = Instant::now();
    for machine in &bench.machines {
        bench.libvirt.power_on(&machine.spec.name)?;
    }
    let mut beating = 0;
    while beating < bench.machines.len() {
        let event = seen.recv_timeout(Duration::from_secs(90).saturating_sub(begin.elapsed()));
        let Ok(event) = event else {
            for machine in &bench.machines {
                println!("--- {}\n{}", machine.spec.name, tool::log_tail(machine.serial.path(), 40));
            }
            anyhow::bail!("no heartbeat");
        };
        println!("[{:6.2} s] {event}", begin.elapsed().as_secs_f64());
        beating += usize::from(event.contains("/v1/heartbeat/"));
    }
    for machine in &bench.machines {
        println!("--- {}\n{}", machine.spec.name, tool::log_tail(machine.serial.path(), 25));
    }
    Ok(())
}

/// Lookup finds the machine with that MAC; heartbeats are accepted.
fn api(events: &Sender<String>) {
    let Ok(listener) = TcpListener::bind("172.30.0.1:6385") else { return };
    for stream in listener.incoming().flatten() {
        let events = events.clone();
        std::thread::spawn(move || answer(stream, &events));
    }
}

fn answer(stream: std::net::TcpStream, events: &Sender<String>) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let path = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let _ = events.send(format!("{} {}", line.trim(), String::from_utf8_lossy(&body)));
        let (status, reply) = if path.starts_with("/v1/lookup") {
            let index = path.split("b0:").nth(1).and_then(|rest| rest.get(..2)).unwrap_or("00");
            let uuid = format!("1ab00000-0000-4000-8000-0000000000{index}");
            let config = json!({"heartbeat_timeout": 300, "agent_token": "x".repeat(64), "agent_token_required": true});
            (200, json!({"node": {"uuid": uuid, "properties": {}, "instance_info": {}}, "config": config}))
        } else if path.starts_with("/v1/heartbeat") {
            (202, json!(null))
        } else {
            (200, json!({"default_version": {"version": "1.95", "min_version": "1.1"}}))
        };
        let reply = if reply.is_null() { String::new() } else { reply.to_string() };
        write!(writer, "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{reply}", reply.len())?;
    }
}
