//! USB devices.

use super::Root;
use serde_json::{Value, json};

/// The `usb_devices` part of an inspection report.
pub fn devices(root: &Root) -> Vec<Value> {
    root.names("sys/bus/usb/devices")
        .into_iter()
        .filter_map(|name| {
            let read = |file: &str| root.text(&format!("sys/bus/usb/devices/{name}/{file}"));
            // Interfaces of a device have no bus number of their own.
            let (bus, device) = (read("busnum")?, read("devnum")?);
            Some(json!({"product": read("product"), "vendor": read("manufacturer"), "handle": format!("USB:{bus}:{device}")}))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn devices_but_not_their_interfaces_are_listed() {
        let (_dir, root) = tree(&[
            ("sys/bus/usb/devices/1-1/busnum", "1\n"),
            ("sys/bus/usb/devices/1-1/devnum", "2\n"),
            ("sys/bus/usb/devices/1-1/product", "QEMU USB HARDDRIVE\n"),
            ("sys/bus/usb/devices/1-1/manufacturer", "QEMU\n"),
            ("sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "08\n"),
        ]);
        assert_eq!(devices(&root), [json!({"product": "QEMU USB HARDDRIVE", "vendor": "QEMU", "handle": "USB:1:2"})]);
    }
}
