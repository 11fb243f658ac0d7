//! Network interfaces, from sysfs, with their addresses.

use super::Root;
use bessemer_agent_types::inventory::Interface;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses by interface name.
pub type Addresses = BTreeMap<String, (Vec<Ipv4Addr>, Vec<Ipv6Addr>)>;

const INFINIBAND: &str = "32";
const MELLANOX: &str = "0x15b3";

/// The addresses of this machine.
pub fn addresses() -> Addresses {
    let mut found = Addresses::new();
    for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = entry.address else { continue };
        let (v4, v6) = found.entry(entry.interface_name).or_default();
        if let Some(address) = address.as_sockaddr_in() {
            v4.push(address.ip());
        } else if let Some(address) = address.as_sockaddr_in6() {
            v6.push(address.ip());
        }
    }
    found
}

/// The interfaces with a device behind them, in name order.
pub fn interfaces(root: &Root, addresses: &Addresses) -> Vec<Interface> {
    let mut all = Vec::new();
    for name in root.names("sys/class/net") {
        let base = format!("sys/class/net/{name}");
        if !root.path(&format!("{base}/device")).exists() {
            continue;
        }
        let read = |file: &str| root.text(&format!("{base}/{file}"));
        let vendor = read("device/vendor");
        let address = read("address").map(|text| text.to_ascii_lowercase());
        let (mac_address, client_id) = match read("type").as_deref() {
            Some(INFINIBAND) => infiniband(address.as_deref().unwrap_or_default(), vendor.as_deref()),
            _ => (address, None),
        };
        let (v4, v6) = addresses.get(&name).cloned().unwrap_or_default();
        let link_local = |ip: &&Ipv6Addr| ip.is_unicast_link_local();
        let v6_address = v6.iter().find(|ip| !link_local(ip)).or_else(|| v6.iter().find(link_local));
        all.push(Interface {
            mac_address,
            client_id,
            ipv4_address: v4.first().map(ToString::to_string),
            ipv6_address: v6_address.map(ToString::to_string),
            has_carrier: read("carrier").as_deref() == Some("1"),
            lldp: None,
            vendor,
            product: read("device/device"),
            biosdevname: None,
            speed_mbps: read("speed").and_then(|text| text.parse().ok()).filter(|speed| *speed > 0),
            pci_address: pci_address(root, &base),
            driver: root.link_name(&format!("{base}/device/driver")),
            name,
        });
    }
    all
}

/// The nearest PCI device above the interface (a virtio device has one above it).
fn pci_address(root: &Root, base: &str) -> Option<String> {
    let device = fs::canonicalize(root.path(&format!("{base}/device"))).ok()?;
    device.ancestors().filter_map(|path| path.file_name()?.to_str()).find(|name| is_pci_address(name)).map(str::to_owned)
}

/// `dddd:bb:dd.f`
fn is_pci_address(name: &str) -> bool {
    let shape: String = name.chars().map(|c| if c.is_ascii_hexdigit() { 'h' } else { c }).collect();
    shape == "hhhh:hh:hh.h"
}

/// Ethernet-like MAC and DHCP client id of an InfiniBand port, whose address has 20 bytes, the last 8 its GUID.
fn infiniband(address: &str, vendor: Option<&str>) -> (Option<String>, Option<String>) {
    let bytes: Vec<&str> = address.split(':').collect();
    let Some(guid) = bytes.get(12..20) else { return (None, None) };
    let mac = [guid.get(..3), guid.get(5..)].into_iter().flatten().flatten().copied().collect::<Vec<_>>().join(":");
    let client_id = (vendor == Some(MELLANOX)).then(|| format!("ff:00:00:00:00:00:02:00:00:02:c9:00:{}", guid.join(":")));
    (Some(mac), client_id)
}

#[cfg(test)]
mod tests {
    use super::super::recorded::tree;
    use super::*;

    #[test]
    fn a_virtio_card_has_the_pci_address_above_it() {
        let (_dir, root) = tree(&[
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/vendor", "0x1af4\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/device", "0x0001\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/driver", "->../../../../bus/virtio/drivers/virtio_net"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/address", "52:54:00:AA:00:01\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/carrier", "1\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/type", "1\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/speed", "-1\n"),
            ("sys/devices/pci0000:00/0000:00:02.0/virtio0/net/eth0/device", "->../../../virtio0"),
            ("sys/class/net/eth0", "->../../devices/pci0000:00/0000:00:02.0/virtio0/net/eth0"),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
        ]);
        let addresses =
            [("eth0".to_owned(), (vec![Ipv4Addr::new(10, 0, 2, 15)], vec!["fe80::1".parse().unwrap(), "fd00::1".parse().unwrap()]))].into();
        let found = interfaces(&root, &addresses);
        assert_eq!(found.len(), 1, "the loopback is no hardware");
        let card = &found[0];
        assert_eq!(card.mac_address.as_deref(), Some("52:54:00:aa:00:01"));
        assert_eq!(card.pci_address.as_deref(), Some("0000:00:02.0"));
        assert_eq!(card.driver.as_deref(), Some("virtio_net"));
        assert_eq!(card.ipv4_address.as_deref(), Some("10.0.2.15"));
        assert_eq!(card.ipv6_address.as_deref(), Some("fd00::1"));
        assert_eq!((card.vendor.as_deref(), card.product.as_deref()), (Some("0x1af4"), Some("0x0001")));
        assert!(card.has_carrier);
        assert_eq!(card.speed_mbps, None);
    }

    #[test]
    fn an_infiniband_port_gets_a_mac_and_a_client_id() {
        let address = "a0:00:00:27:fe:80:00:00:00:00:00:00:7c:fe:90:03:00:29:26:52";
        let (mac, client_id) = infiniband(address, Some(MELLANOX));
        assert_eq!(mac.as_deref(), Some("7c:fe:90:29:26:52"));
        assert_eq!(client_id.as_deref(), Some("ff:00:00:00:00:00:02:00:00:02:c9:00:7c:fe:90:03:00:29:26:52"));
        assert_eq!(infiniband("52:54", None), (None, None));
    }
}
