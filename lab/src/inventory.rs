//! The inventory of a node beside what the machine was built of.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::machines::{Firmware, MachineSpec};

/// The inventory in a few lines for a person.
#[must_use]
pub fn lines(inventory: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let list = |name: &str| inventory[name].as_array().cloned().unwrap_or_default();
    let vendor = &inventory["system_vendor"];
    let (cpu, memory) = (&inventory["cpu"], &inventory["memory"]);
    let mut lines = vec![
        format!("{} {}, serial {}", text(&vendor["manufacturer"]), text(&vendor["product_name"]), text(&vendor["serial_number"])),
        format!("{} x {} ({}), {} MiB", cpu["count"], text(&cpu["model_name"]), text(&cpu["architecture"]), memory["physical_mb"]),
    ];
    for disk in list("disks") {
        lines.push(format!("disk {} serial {} {} bytes", text(&disk["name"]), text(&disk["serial"]), disk["size"]));
    }
    for card in list("interfaces") {
        lines.push(format!("network card {} {}", text(&card["name"]), text(&card["mac_address"])));
    }
    lines.push(format!("boot mode {}", text(&inventory["boot"]["current_boot_mode"])));
    lines
}

/// Fails at the first difference between inventory and machine.
pub fn check(inventory: &Value, spec: &MachineSpec) -> Result<()> {
    let disks = inventory["disks"].as_array().context("no list of disks")?;
    ensure!(disks.len() == spec.disks.len(), "{} disks were found, {} given", disks.len(), spec.disks.len());
    for disk in &spec.disks {
        let found = disks.iter().find(|found| found["serial"] == disk.serial.as_str());
        let found = found.with_context(|| format!("no disk with serial {}", disk.serial))?;
        ensure!(found["size"] == (disk.gib << 30), "disk {}: size {}", disk.serial, found["size"]);
    }
    let cards = inventory["interfaces"].as_array().context("no list of network cards")?;
    let macs: Vec<&str> = cards.iter().filter_map(|card| card["mac_address"].as_str()).collect();
    ensure!(macs == [spec.mac.as_str()], "network cards {macs:?}");
    ensure!(inventory["cpu"]["count"] == spec.cpus, "processors: {}", inventory["cpu"]["count"]);
    ensure!(inventory["memory"]["physical_mb"] == spec.memory_mib, "memory: {} MiB", inventory["memory"]["physical_mb"]);
    let vendor = &inventory["system_vendor"];
    for (name, given) in [("manufacturer", &spec.manufacturer), ("product_name", &spec.product), ("serial_number", &spec.serial_number)] {
        ensure!(vendor[name] == given.as_str(), "SMBIOS {name}: {}", vendor[name]);
    }
    let mode = if spec.firmware == Firmware::Bios { "bios" } else { "uefi" };
    let found = &inventory["boot"]["current_boot_mode"];
    ensure!(*found == mode, "boot mode: {found}");
    Ok(())
}
