//! PCI devices, by ids only: names are the reader's affair.

use super::Root;
use serde_json::{Value, json};

/// The `pci_devices` part of an inspection report, in bus order.
pub fn devices(root: &Root) -> Vec<Value> {
    root.names("sys/bus/pci/devices")
        .into_iter()
        .filter_map(|bus| {
            let read = |file: &str| root.text(&format!("sys/bus/pci/devices/{bus}/{file}"));
            let id = |file: &str| read(file).map(|text| text.trim_start_matches("0x").to_owned());
            Some(json!({
                "vendor_id": id("vendor")?, "product_id": id("device")?, "class": id("class"), "revision": id("revision"),
                "numa_node_id": read("numa_node").and_then(|text| text.parse::<i32>().ok()),
                "bus": bus,
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn devices_are_listed_by_their_ids() {
        let (_dir, root) = tree(&[
            ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x1af4\n"),
            ("sys/bus/pci/devices/0000:00:02.0/device", "0x1041\n"),
            ("sys/bus/pci/devices/0000:00:02.0/class", "0x020000\n"),
            ("sys/bus/pci/devices/0000:00:02.0/revision", "0x01\n"),
            ("sys/bus/pci/devices/0000:00:02.0/numa_node", "-1\n"),
            ("sys/bus/pci/devices/0000:00:03.0/class", "0x020000\n"),
        ]);
        assert_eq!(
            devices(&root),
            [
                json!({"vendor_id": "1af4", "product_id": "1041", "class": "020000", "revision": "01", "bus": "0000:00:02.0", "numa_node_id": -1})
            ]
        );
    }
}
