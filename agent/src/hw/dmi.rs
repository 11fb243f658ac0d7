//! What the firmware says about the machine (DMTF DSP0134, SMBIOS).
//!
//! The table is the firmware's and may be wrong in any way: each read is bounded, and a structure that does not
//! fit ends the walk.

use super::Root;
use bessemer_agent_types::inventory::{Firmware, SystemVendor};
use serde_json::{Value, json};
use std::fs;

/// Largest table that is read.
const MAX_TABLE: usize = 4 * 1024 * 1024;
const MAX_STRUCTURES: usize = 10_000;

/// The structures of an SMBIOS table.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Structure>);

#[derive(Clone, Debug)]
struct Structure {
    kind: u8,
    /// With the four bytes of header.
    body: Vec<u8>,
    strings: Vec<String>,
}

impl Structure {
    fn number(&self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.body.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// The string whose number stands at `at`; none for "not specified" and the like.
    fn string(&self, at: usize) -> Option<&str> {
        let index = usize::from(*self.body.get(at)?).checked_sub(1)?;
        self.strings.get(index).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Size of a memory device in MiB; none when the slot is empty or its size unknown (7.18).
    fn memory_mib(&self) -> Option<u64> {
        match self.number(0x0c, 2)? {
            0 | 0xffff => None,
            0x7fff => self.number(0x1c, 4).map(|n| n & 0x7fff_ffff),
            n if n & 0x8000 != 0 => Some((n & 0x7fff) / 1024),
            n => Some(n),
        }
    }
}

impl Table {
    /// Reads the kernel's copy of the table; empty where there is none.
    pub fn read(root: &Root) -> Self {
        Self::parse(&fs::read(root.path("sys/firmware/dmi/tables/DMI")).unwrap_or_default())
    }

    /// Parses a table's bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut rest = bytes.get(..bytes.len().min(MAX_TABLE)).unwrap_or_default();
        let mut structures = Vec::new();
        while let (Some(&kind), Some(&length)) = (rest.first(), rest.get(1)) {
            let length = usize::from(length);
            let (Some(body), Some(tail)) = (rest.get(..length), rest.get(length..)) else { break };
            let Some(end) = tail.windows(2).position(|pair| pair == [0, 0]) else { break };
            if length < 4 || structures.len() >= MAX_STRUCTURES {
                break;
            }
            let strings = tail.get(..end).unwrap_or_default().split(|b| *b == 0);
            structures.push(Structure {
                kind,
                body: body.to_vec(),
                strings: strings.map(|text| String::from_utf8_lossy(text).trim().to_owned()).collect(),
            });
            if kind == 127 {
                break;
            }
            rest = tail.get(end + 2..).unwrap_or_default();
        }
        Self(structures)
    }

    fn of(&self, kind: u8) -> impl Iterator<Item = &Structure> {
        self.0.iter().filter(move |structure| structure.kind == kind)
    }

    /// Installed memory in MiB; none when the table names none.
    pub fn memory_mib(&self) -> Option<u64> {
        let total = self.of(17).filter_map(Structure::memory_mib).fold(0_u64, u64::saturating_add);
        (total > 0).then_some(total)
    }

    /// The `dmi` part of an inspection report.
    pub fn report(&self) -> Value {
        let bios = self.of(0).next().map(|s| {
            json!({
                "Vendor": s.string(4), "Version": s.string(5), "Release Date": s.string(8),
                "BIOS Revision": s.number(0x14, 1).zip(s.number(0x15, 1)).filter(|r| *r != (255, 255)).map(|(a, b)| format!("{a}.{b}")),
            })
        });
        let cpus: Vec<Value> = self
            .of(4)
            .map(|s| {
                json!({
                    "Socket Designation": s.string(4), "Manufacturer": s.string(7), "Version": s.string(0x10),
                    "Max Speed": s.number(0x14, 2).filter(|n| *n > 0).map(|n| format!("{n} MHz")),
                    "Current Speed": s.number(0x16, 2).filter(|n| *n > 0).map(|n| format!("{n} MHz")),
                    "Serial Number": s.string(0x20), "Part Number": s.string(0x22),
                    "Core Count": s.number(0x23, 1), "Core Enabled": s.number(0x24, 1), "Thread Count": s.number(0x25, 1),
                })
            })
            .collect();
        let devices: Vec<Value> = self
            .of(17)
            .map(|s| {
                json!({
                    "Size": s.memory_mib().map_or("No Module Installed".into(), |mib| format!("{mib} MB")),
                    "Locator": s.string(0x10), "Bank Locator": s.string(0x11), "Manufacturer": s.string(0x17),
                    "Serial Number": s.string(0x18), "Asset Tag": s.string(0x19), "Part Number": s.string(0x1a),
                    "Speed": s.number(0x15, 2).filter(|n| *n > 0).map(|n| format!("{n} MT/s")),
                })
            })
            .collect();
        let array = self.of(16).next();
        let capacity = array.and_then(|s| match s.number(7, 4)? {
            0x8000_0000 => s.number(0xf, 8).map(|bytes| bytes / 1024),
            kib => Some(kib),
        });
        json!({
            "bios": bios,
            "cpu": cpus,
            "memory": {
                "Maximum Capacity": capacity.map(|kib| format!("{} MB", kib / 1024)),
                "Number Of Devices": array.and_then(|s| s.number(0xd, 2)),
                "devices": devices,
            },
        })
    }
}

/// Maker, model and firmware, as the kernel shows them.
pub fn system_vendor(root: &Root) -> SystemVendor {
    let id = |name: &str| root.text(&format!("sys/class/dmi/id/{name}"));
    let firmware = Firmware { vendor: id("bios_vendor"), version: id("bios_version"), build_date: id("bios_date") };
    SystemVendor {
        product_name: id("product_name"),
        serial_number: id("product_serial"),
        manufacturer: id("sys_vendor"),
        firmware: (firmware != Firmware::default()).then_some(firmware),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    /// A table as SeaBIOS under QEMU writes it, cut down: BIOS, memory array, one device of 512 MiB, end.
    fn qemu() -> Vec<u8> {
        let mut t = vec![0, 24, 0, 0, 1, 2, 0, 0xe8, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0xff, 0xff];
        t.extend(b"SeaBIOS\x001.16.2-debian-1.16.2-1\x0004/01/2014\x00\x00");
        t.extend([16, 23, 0, 0x10, 1, 3, 6, 0, 0, 8, 0, 0xfe, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut device = vec![17, 40, 0, 0x11, 0, 0x10, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 2, 9, 0, 1, 0, 7, 2, 0, 0, 0, 2];
        device.resize(40, 0);
        t.extend(device);
        t.extend(b"DIMM 0\x00QEMU\x00\x00");
        t.extend([127, 4, 0, 0x7f, 0, 0]);
        t
    }

    #[test]
    fn installed_memory_is_summed() {
        assert_eq!(Table::parse(&qemu()).memory_mib(), Some(512));
        assert_eq!(Table::parse(&[]).memory_mib(), None);
    }

    #[test]
    fn the_report_has_firmware_and_memory_slots() {
        let report = Table::parse(&qemu()).report();
        assert_eq!(report["bios"]["Vendor"], "SeaBIOS");
        assert_eq!(report["bios"]["Release Date"], "04/01/2014");
        assert_eq!(report["memory"]["devices"][0]["Size"], "512 MB");
        assert_eq!(report["memory"]["devices"][0]["Manufacturer"], "QEMU");
        assert_eq!(report["memory"]["Maximum Capacity"], "512 MB");
    }

    #[test]
    fn large_modules_use_the_extended_size() {
        let s = Structure { kind: 17, body: [vec![0; 12], vec![0xff, 0x7f], vec![0; 14], vec![0, 0, 2, 0]].concat(), strings: vec![] };
        assert_eq!(s.memory_mib(), Some(131_072));
    }

    #[test]
    fn damaged_tables_are_read_as_far_as_they_go() {
        let full = qemu();
        for length in 0..full.len() {
            drop(Table::parse(&full[..length]).report());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_the_agent_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let table = Table::parse(&bytes);
            drop(table.report());
            table.memory_mib();
        }
    }

    #[test]
    fn the_vendor_is_what_the_kernel_shows() {
        let (_dir, root) = tree(&[
            ("sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n"),
            ("sys/class/dmi/id/product_serial", "SN-0042\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/bios_version", "1.16.2\n"),
        ]);
        let vendor = system_vendor(&root);
        assert_eq!(vendor.serial_number.as_deref(), Some("SN-0042"));
        assert_eq!(vendor.firmware.unwrap().version.as_deref(), Some("1.16.2"));
    }
}
