//! The hardware inventory that the agent reports.
//!
//! Optional parts are null on the wire, never left out: readers of the contract expect each key.

use serde::{Deserialize, Serialize};

/// Everything the agent knows about the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// Network interfaces, in name order.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Processors.
    #[serde(default)]
    pub cpu: Cpu,
    /// Block devices.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Memory.
    #[serde(default)]
    pub memory: Memory,
    /// IPv4 address of the BMC, `0.0.0.0` when there is none, null when not looked for.
    #[serde(default)]
    pub bmc_address: Option<String>,
    /// IPv6 address of the BMC, `::/0` when there is none, null when not looked for.
    #[serde(default)]
    pub bmc_v6address: Option<String>,
    /// MAC of the BMC; left out when it cannot be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_mac: Option<String>,
    /// Maker and model.
    #[serde(default)]
    pub system_vendor: SystemVendor,
    /// How the machine was booted.
    #[serde(default)]
    pub boot: Boot,
    /// Name of the machine.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// MAC, lower case with colons.
    #[serde(default)]
    pub mac_address: Option<String>,
    /// First IPv4 address.
    #[serde(default)]
    pub ipv4_address: Option<String>,
    /// First global, else link-local, IPv6 address.
    #[serde(default)]
    pub ipv6_address: Option<String>,
    /// Whether a cable is seen.
    #[serde(default)]
    pub has_carrier: bool,
    /// LLDP type-length-values as (type, hexadecimal value), null when not collected.
    #[serde(default)]
    pub lldp: Option<Vec<(u8, String)>>,
    /// PCI vendor, `0x....`.
    #[serde(default)]
    pub vendor: Option<String>,
    /// PCI device, `0x....`.
    #[serde(default)]
    pub product: Option<String>,
    /// DHCP client id of InfiniBand cards.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Name in the manner of biosdevname.
    #[serde(default)]
    pub biosdevname: Option<String>,
    /// Speed of the link in Mbit/s.
    #[serde(default)]
    pub speed_mbps: Option<u32>,
    /// `dddd:bb:dd.f`.
    #[serde(default)]
    pub pci_address: Option<String>,
    /// Kernel driver.
    #[serde(default)]
    pub driver: Option<String>,
}

/// The processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Marketing name.
    #[serde(default)]
    pub model_name: Option<String>,
    /// MHz as text.
    #[serde(default)]
    pub frequency: Option<String>,
    /// Logical processors.
    #[serde(default)]
    pub count: u32,
    /// `x86_64`, `aarch64`…
    #[serde(default)]
    pub architecture: String,
    /// Feature flags.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Occupied sockets.
    #[serde(default)]
    pub socket_count: u32,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// `/dev/…`.
    pub name: String,
    /// Model text.
    #[serde(default)]
    pub model: Option<String>,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// Whether it has spinning platters.
    #[serde(default)]
    pub rotational: bool,
    /// World-wide name.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Vendor text.
    #[serde(default)]
    pub vendor: Option<String>,
    /// World-wide name with the vendor's extension.
    #[serde(default)]
    pub wwn_with_extension: Option<String>,
    /// The vendor's extension alone.
    #[serde(default)]
    pub wwn_vendor_extension: Option<String>,
    /// SCSI host:channel:target:lun.
    #[serde(default)]
    pub hctl: Option<String>,
    /// `/dev/disk/by-path/…`.
    #[serde(default)]
    pub by_path: Option<String>,
    /// Logical sector size in bytes.
    #[serde(default)]
    pub logical_sectors: Option<u32>,
    /// Physical sector size in bytes.
    #[serde(default)]
    pub physical_sectors: Option<u32>,
    /// Transport: `sata`, `nvme`, `usb`…
    #[serde(default)]
    pub tran: Option<String>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that the kernel may use.
    #[serde(default)]
    pub total: u64,
    /// Installed MiB, null when the firmware does not say.
    #[serde(default)]
    pub physical_mb: Option<u64>,
}

/// Maker and model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SystemVendor {
    /// Product.
    #[serde(default)]
    pub product_name: Option<String>,
    /// Serial number.
    #[serde(default)]
    pub serial_number: Option<String>,
    /// Maker.
    #[serde(default)]
    pub manufacturer: Option<String>,
    /// System firmware.
    #[serde(default)]
    pub firmware: Option<Firmware>,
}

/// System firmware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Firmware {
    /// Maker.
    #[serde(default)]
    pub vendor: Option<String>,
    /// Version.
    #[serde(default)]
    pub version: Option<String>,
    /// Date of build as the firmware writes it.
    #[serde(default)]
    pub build_date: Option<String>,
}

/// How the machine was booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// `uefi` or `bios`.
    #[serde(default)]
    pub current_boot_mode: Option<String>,
    /// MAC that the boot loader names, else null.
    #[serde(default)]
    pub pxe_interface: Option<String>,
}
