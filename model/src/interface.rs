//! Interface kinds and the composition of hardware types, as data (`drivers.md` section 1).

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $wire:literal;)*) => {
        /// The interfaces that a driver is made of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum InterfaceKind { $($(#[$doc])* #[serde(rename = $wire)] $name,)* }
        impl InterfaceKind {
            /// Every kind, in wire order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// Name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $wire,)* } }
            /// The kind with this name.
            #[must_use]
            pub fn parse(s: &str) -> Option<Self> { match s { $($wire => Some(Self::$name),)* _ => None } }
        }
    };
}

kinds! {
    /// BIOS settings.
    Bios = "bios";
    /// How the machine is made to boot the ramdisk.
    Boot = "boot";
    /// Serial or graphical console.
    Console = "console";
    /// How an instance gets onto the machine.
    Deploy = "deploy";
    /// Firmware updates.
    Firmware = "firmware";
    /// Hardware inspection.
    Inspect = "inspect";
    /// Boot device, sensors and the like.
    Management = "management";
    /// Networks of the flows.
    Network = "network";
    /// Power.
    Power = "power";
    /// RAID.
    Raid = "raid";
    /// Rescue.
    Rescue = "rescue";
    /// Remote volumes.
    Storage = "storage";
    /// Vendor specials.
    Vendor = "vendor";
}

impl InterfaceKind {
    /// Tie-break between steps of equal priority in cleaning, deployment and servicing: higher first (`states.md` section 4.8).
    #[must_use]
    pub const fn step_rank(self) -> u8 {
        match self {
            Self::Network => 8,
            Self::Vendor => 7,
            Self::Power => 6,
            Self::Management => 5,
            Self::Firmware => 4,
            Self::Deploy => 3,
            Self::Bios => 2,
            Self::Raid => 1,
            _ => 0,
        }
    }

    /// Whether the API accepts clean, deploy or service steps of this interface.
    #[must_use]
    pub const fn has_steps(self) -> bool {
        matches!(self, Self::Vendor | Self::Power | Self::Management | Self::Firmware | Self::Deploy | Self::Bios | Self::Raid)
    }
}

/// A hardware type: per interface the implementations it supports, most preferred first.
#[derive(Clone, Copy, Debug)]
pub struct HardwareType {
    /// Name on the wire (`driver` of a node).
    pub name: &'static str,
    /// Pairs of interface and implementations, in order of preference.
    pub supports: &'static [(InterfaceKind, &'static [&'static str])],
}

impl HardwareType {
    /// Implementations of `kind` that this type supports.
    #[must_use]
    pub fn supported(&self, kind: InterfaceKind) -> &'static [&'static str] {
        self.supports.iter().find(|(k, _)| *k == kind).map_or(&[], |(_, s)| s)
    }
}

use InterfaceKind as K;

const BASE_DEPLOY: &[&str] = &["autodetect", "direct", "ansible", "ramdisk", "anaconda", "bootc", "custom-agent"];
const BASE_BOOT: &[&str] = &["ipxe", "pxe", "http-ipxe", "http"];
const BASE_NETWORK: &[&str] = &["flat", "neutron", "ironic-networking", "noop"];
const BASE_RESCUE: &[&str] = &["no-rescue", "agent"];
const BASE_STORAGE: &[&str] = &["noop", "cinder", "external"];
const BASE_INSPECT: &[&str] = &["agent", "no-inspect"];
const BASE_RAID: &[&str] = &["no-raid", "agent"];
const BASE_CONSOLE: &[&str] = &["no-console", "fake-graphical"];

/// Every hardware type that is known. One that is not in here is "not found", whatever its name once was.
pub const HARDWARE_TYPES: &[HardwareType] = &[
    HardwareType {
        name: "ipmi",
        supports: &[
            (K::Bios, &["no-bios"]),
            (K::Boot, BASE_BOOT),
            (K::Console, &["ipmitool-socat", "no-console", "fake-graphical"]),
            (K::Deploy, BASE_DEPLOY),
            (K::Firmware, &["no-firmware"]),
            (K::Inspect, BASE_INSPECT),
            (K::Management, &["ipmitool", "noop"]),
            (K::Network, BASE_NETWORK),
            (K::Power, &["ipmitool"]),
            (K::Raid, BASE_RAID),
            (K::Rescue, BASE_RESCUE),
            (K::Storage, BASE_STORAGE),
            (K::Vendor, &["ipmitool", "no-vendor"]),
        ],
    },
    HardwareType {
        name: "redfish",
        supports: &[
            (K::Bios, &["redfish", "no-bios"]),
            (K::Boot, &["ipxe", "pxe", "http-ipxe", "http", "redfish-virtual-media", "redfish-https"]),
            (K::Console, &["redfish-graphical", "ipmitool-socat", "no-console", "fake-graphical"]),
            (K::Deploy, BASE_DEPLOY),
            (K::Firmware, &["redfish", "no-firmware"]),
            (K::Inspect, &["redfish", "agent", "no-inspect"]),
            (K::Management, &["redfish", "noop"]),
            (K::Network, BASE_NETWORK),
            (K::Power, &["redfish"]),
            (K::Raid, &["redfish", "no-raid", "agent"]),
            (K::Rescue, BASE_RESCUE),
            (K::Storage, BASE_STORAGE),
            (K::Vendor, &["redfish", "no-vendor"]),
        ],
    },
    HardwareType {
        name: "manual-management",
        supports: &[
            (K::Bios, &["no-bios"]),
            (K::Boot, BASE_BOOT),
            (K::Console, BASE_CONSOLE),
            (K::Deploy, &["autodetect", "direct", "ansible", "ramdisk", "anaconda", "bootc", "custom-agent", "noop"]),
            (K::Firmware, &["no-firmware"]),
            (K::Inspect, BASE_INSPECT),
            (K::Management, &["noop", "fake"]),
            (K::Network, BASE_NETWORK),
            (K::Power, &["agent", "fake"]),
            (K::Raid, BASE_RAID),
            (K::Rescue, BASE_RESCUE),
            (K::Storage, BASE_STORAGE),
            (K::Vendor, &["no-vendor"]),
        ],
    },
    HardwareType {
        name: "fake-hardware",
        supports: &[
            (K::Bios, &["fake", "no-bios"]),
            (K::Boot, &["fake", "ipxe", "pxe", "http-ipxe", "http"]),
            (K::Console, &["fake", "no-console", "fake-graphical"]),
            (K::Deploy, &["fake", "autodetect", "direct", "ansible", "ramdisk", "anaconda", "bootc", "custom-agent"]),
            (K::Firmware, &["fake", "no-firmware"]),
            (K::Inspect, &["fake", "agent", "no-inspect"]),
            (K::Management, &["fake"]),
            (K::Network, BASE_NETWORK),
            (K::Power, &["fake"]),
            (K::Raid, &["fake", "no-raid", "agent"]),
            (K::Rescue, &["fake", "no-rescue", "agent"]),
            (K::Storage, &["fake", "noop", "cinder", "external"]),
            (K::Vendor, &["fake", "no-vendor"]),
        ],
    },
];

/// The hardware type of this name.
#[must_use]
pub fn hardware_type(name: &str) -> Option<&'static HardwareType> {
    HARDWARE_TYPES.iter().find(|h| h.name == name)
}

/// The default implementation: the configured one if the type supports it, else the first supported one that is enabled.
#[must_use]
pub fn default_implementation<'a>(
    hw: &HardwareType,
    kind: InterfaceKind,
    enabled: &'a [String],
    configured: Option<&'a str>,
) -> Option<&'a str> {
    let supported = hw.supported(kind);
    if let Some(c) = configured
        && supported.contains(&c)
        && enabled.iter().any(|e| e == c)
    {
        return Some(c);
    }
    supported.iter().find_map(|s| enabled.iter().find(|e| e == s).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hardware_type_composes_every_interface() {
        for hw in HARDWARE_TYPES {
            for k in InterfaceKind::ALL {
                assert!(!hw.supported(*k).is_empty(), "{} has no {}", hw.name, k.as_str());
            }
        }
    }
}
