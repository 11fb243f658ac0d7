//! Bare machines: what they are made of, and their libvirt domains.
//!
//! The firmware has no operating system and no network boot program of ours: a BIOS machine
//! starts the network card's own option ROM; a UEFI machine has no option ROM, so the firmware's
//! own PXE must fetch one.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::enter::Lab;
use crate::libvirt::Libvirt;
use crate::netns::BRIDGE;
use crate::serial::Serial;

/// Firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS; network boot by the card's option ROM.
    Bios,
    /// OVMF without Secure Boot; network boot by the firmware itself.
    Uefi,
    /// OVMF with Secure Boot on and Microsoft's keys.
    SecureBoot,
}

/// A disk as the machine sees it.
#[derive(Debug, Clone, Serialize)]
pub struct DiskSpec {
    /// Serial number (at most 20 letters and digits).
    pub serial: String,
    /// Size in GiB. The file is sparse.
    pub gib: u64,
}

/// What to build.
#[derive(Debug, Clone, Serialize)]
pub struct MachineSpec {
    /// Name of the libvirt domain.
    pub name: String,
    /// SMBIOS system UUID, also the Redfish system id.
    pub uuid: String,
    /// Address of its one network card, lower case.
    pub mac: String,
    /// Firmware.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u32,
    /// Disks in the order of the firmware; the first is the one that the firmware boots.
    pub disks: Vec<DiskSpec>,
    /// SMBIOS system manufacturer.
    pub manufacturer: String,
    /// SMBIOS product name.
    pub product: String,
    /// SMBIOS system serial number.
    pub serial_number: String,
}

impl MachineSpec {
    /// The usual machine: 512 MiB, one processor, a 6 GiB disk `ROOT…` and a 5 GiB decoy `DECOY…`
    /// (the one that a choice by size alone would take). `index` makes all addresses unique.
    #[must_use]
    pub fn usual(name: &str, index: u8, firmware: Firmware) -> Self {
        Self {
            name: name.to_owned(),
            uuid: format!("1ab00000-0000-4000-8000-0000000000{index:02x}"),
            mac: format!("52:54:00:1a:b0:{index:02x}"),
            firmware,
            memory_mib: 512,
            cpus: 1,
            disks: vec![DiskSpec { serial: format!("ROOT{index:02X}"), gib: 6 }, DiskSpec { serial: format!("DECOY{index:02X}"), gib: 5 }],
            manufacturer: "Bessemer Works".to_owned(),
            product: format!("Converter {}", index + 1),
            serial_number: format!("BW-{index:04}"),
        }
    }
}

/// A defined machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What it is made of.
    pub spec: MachineSpec,
    /// The raw files of its disks, in the order of the specification.
    pub disks: Vec<PathBuf>,
    /// Its serial console.
    pub serial: Serial,
}

impl Machine {
    /// Makes the disks and defines the domain, powered off.
    pub fn define(lab: &Lab, libvirt: &Libvirt, spec: &MachineSpec) -> Result<Self> {
        let folder = lab.dir("disks")?;
        let mut disks = Vec::new();
        for disk in &spec.disks {
            let path = folder.join(format!("{}-{}.raw", spec.name, disk.serial));
            File::create(&path)?.set_len(disk.gib << 30)?;
            disks.push(path);
        }
        let serial = lab.log(&format!("{}.serial", spec.name))?;
        let nvram = lab.dir("nvram")?.join(format!("{}.fd", spec.name));
        let xml = lab.dir("domains")?.join(format!("{}.xml", spec.name));
        std::fs::write(&xml, domain_xml(spec, &disks, &serial, &nvram))?;
        libvirt.define(&xml).with_context(|| format!("defining {}", spec.name))?;
        Ok(Self { spec: spec.clone(), disks, serial: Serial::new(&serial) })
    }

    /// The file of the disk with that serial number.
    pub fn disk(&self, serial: &str) -> Result<&Path> {
        let at = self.spec.disks.iter().position(|disk| disk.serial == serial);
        at.and_then(|at| self.disks.get(at)).map(PathBuf::as_path).with_context(|| format!("{} has no disk {serial}", self.spec.name))
    }
}

fn domain_xml(spec: &MachineSpec, disks: &[PathBuf], serial: &Path, nvram: &Path) -> String {
    let pflash = |code: &str, vars: &str, secure: &str| {
        format!(
            "<loader readonly='yes' secure='{secure}' type='pflash'>/usr/share/OVMF/{code}</loader>\
             <nvram template='/usr/share/OVMF/{vars}'>{}</nvram>",
            nvram.display()
        )
    };
    // SeaBIOS begins anew after a failed network boot instead of hanging in "No bootable device".
    let (loader, bios, rom) = match spec.firmware {
        Firmware::Bios => (String::new(), "<bios useserial='yes' rebootTimeout='5000'/>", ""),
        Firmware::Uefi => {
            let loader = pflash("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", "no");
            (loader, "<bios useserial='yes'/>", "<rom enabled='no'/>")
        }
        Firmware::SecureBoot => {
            let loader = pflash("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd", "yes");
            (loader, "<bios useserial='yes'/>", "<rom enabled='no'/>")
        }
    };
    let mut drives = String::new();
    for ((disk, path), letter) in spec.disks.iter().zip(disks).zip('a'..) {
        drives.push_str(&format!(
            "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe' discard='unmap'/>\
             <source file='{}'/><target dev='vd{letter}' bus='virtio'/><serial>{}</serial></disk>\n",
            path.display(),
            disk.serial
        ));
    }
    format!(
        "<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory><vcpu>{cpus}</vcpu>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>{manufacturer}</entry><entry name='product'>{product}</entry>
    <entry name='serial'>{serial_number}</entry><entry name='uuid'>{uuid}</entry>
  </system></sysinfo>
  <os><type arch='x86_64' machine='q35'>hvm</type>{loader}<boot dev='network'/><boot dev='hd'/>{bios}<smbios mode='sysinfo'/></os>
  <features><acpi/><apic/><smm state='on'/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {drives}
    <interface type='bridge'><mac address='{mac}'/><source bridge='{BRIDGE}'/><model type='virtio'/>{rom}</interface>
    <serial type='file'><source path='{serial}' append='on'/><target port='0'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
",
        name = spec.name,
        uuid = spec.uuid,
        memory = spec.memory_mib,
        cpus = spec.cpus,
        manufacturer = spec.manufacturer,
        product = spec.product,
        serial_number = spec.serial_number,
        mac = spec.mac,
        serial = serial.display(),
    )
}
