//! Composes the enabled hardware types from the configuration (`drivers.md` section 1).

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bessemer_model::{
    conductor::DriverOffer,
    interface::{HARDWARE_TYPES, InterfaceKind, default_implementation, hardware_type},
};

use crate::options::Options;

/// Interfaces that are enabled where the configuration does not say. Empty = all that the enabled types support.
const fn default_enabled(kind: InterfaceKind) -> &'static [&'static str] {
    match kind {
        InterfaceKind::Bios => &["no-bios", "redfish"],
        InterfaceKind::Boot => &["ipxe", "pxe", "redfish-virtual-media"],
        InterfaceKind::Console => &["no-console"],
        InterfaceKind::Deploy => &["direct"],
        InterfaceKind::Firmware => &["no-firmware"],
        InterfaceKind::Inspect => &["agent", "no-inspect", "redfish"],
        InterfaceKind::Management | InterfaceKind::Power => &[],
        InterfaceKind::Network | InterfaceKind::Storage => &["noop"],
        InterfaceKind::Raid => &["agent", "no-raid", "redfish"],
        InterfaceKind::Rescue => &["no-rescue"],
        InterfaceKind::Vendor => &["ipmitool", "redfish", "no-vendor"],
    }
}

const fn keys(kind: InterfaceKind) -> (&'static str, &'static str) {
    match kind {
        InterfaceKind::Bios => ("enabled_bios_interfaces", "default_bios_interface"),
        InterfaceKind::Boot => ("enabled_boot_interfaces", "default_boot_interface"),
        InterfaceKind::Console => ("enabled_console_interfaces", "default_console_interface"),
        InterfaceKind::Deploy => ("enabled_deploy_interfaces", "default_deploy_interface"),
        InterfaceKind::Firmware => ("enabled_firmware_interfaces", "default_firmware_interface"),
        InterfaceKind::Inspect => ("enabled_inspect_interfaces", "default_inspect_interface"),
        InterfaceKind::Management => ("enabled_management_interfaces", "default_management_interface"),
        InterfaceKind::Network => ("enabled_network_interfaces", "default_network_interface"),
        InterfaceKind::Power => ("enabled_power_interfaces", "default_power_interface"),
        InterfaceKind::Raid => ("enabled_raid_interfaces", "default_raid_interface"),
        InterfaceKind::Rescue => ("enabled_rescue_interfaces", "default_rescue_interface"),
        InterfaceKind::Storage => ("enabled_storage_interfaces", "default_storage_interface"),
        InterfaceKind::Vendor => ("enabled_vendor_interfaces", "default_vendor_interface"),
    }
}

/// What each enabled hardware type offers.
///
/// # Errors
/// An unknown hardware type or interface, or a type that is left without an interface.
pub fn compose(options: &Options) -> Result<BTreeMap<String, DriverOffer>> {
    let types = options.list("DEFAULT", "enabled_hardware_types");
    if types.is_empty() {
        bail!("[DEFAULT] enabled_hardware_types is empty: enable at least one hardware type");
    }
    let mut out = BTreeMap::new();
    for name in &types {
        let Some(hw) = hardware_type(name) else {
            let known: Vec<&str> = HARDWARE_TYPES.iter().map(|h| h.name).collect();
            bail!("[DEFAULT] enabled_hardware_types: there is no hardware type '{name}'; known are {}", known.join(", "));
        };
        let mut offer = DriverOffer::default();
        for kind in InterfaceKind::ALL {
            let (enabled_key, default_key) = keys(*kind);
            let mut enabled = options.list("DEFAULT", enabled_key);
            if enabled.is_empty() {
                enabled = default_enabled(*kind).iter().map(|s| (*s).to_owned()).collect();
                if enabled.is_empty() {
                    enabled =
                        types.iter().filter_map(|t| hardware_type(t)).flat_map(|t| t.supported(*kind)).map(|s| (*s).to_owned()).collect();
                } else if name == "fake-hardware" {
                    enabled.push("fake".to_owned());
                } else if name == "manual-management" && *kind == InterfaceKind::Deploy {
                    enabled.push("noop".to_owned());
                }
            }
            for e in &enabled {
                if !HARDWARE_TYPES.iter().any(|h| h.supported(*kind).contains(&e.as_str())) {
                    bail!("[DEFAULT] {enabled_key}: no hardware type has a {} interface '{e}'", kind.as_str());
                }
            }
            let usable: Vec<String> =
                hw.supported(*kind).iter().filter(|s| enabled.iter().any(|e| e == *s)).map(|s| (*s).to_owned()).collect();
            let configured = options.given("DEFAULT", default_key);
            let Some(default) = default_implementation(hw, *kind, &enabled, configured.as_deref()) else {
                bail!(
                    "hardware type {name} has no enabled {} interface: add one of {} to [DEFAULT] {enabled_key}",
                    kind.as_str(),
                    hw.supported(*kind).join(", ")
                );
            };
            offer.default.insert(kind.as_str().into(), default.to_owned());
            offer.enabled.insert(kind.as_str().into(), usable);
        }
        out.insert(name.clone(), offer);
    }
    Ok(out)
}

/// Settings of `--dev`: what API recordings and client tests assume.
pub fn development(options: &mut Options) {
    for (key, value) in [
        ("enabled_hardware_types", "fake-hardware,redfish,ipmi,manual-management"),
        ("enabled_bios_interfaces", "fake,no-bios,redfish"),
        ("enabled_boot_interfaces", "fake,ipxe,pxe,redfish-virtual-media"),
        ("enabled_console_interfaces", "fake,no-console"),
        ("enabled_deploy_interfaces", "fake,direct,ramdisk"),
        ("enabled_firmware_interfaces", "fake,no-firmware,redfish"),
        ("enabled_inspect_interfaces", "fake,no-inspect,agent,redfish"),
        ("enabled_management_interfaces", "fake,ipmitool,noop,redfish"),
        ("enabled_network_interfaces", "noop"),
        ("enabled_power_interfaces", "fake,agent,ipmitool,redfish"),
        ("enabled_raid_interfaces", "fake,agent,no-raid,redfish"),
        ("enabled_rescue_interfaces", "fake,agent,no-rescue"),
        ("enabled_storage_interfaces", "fake,noop"),
        ("enabled_vendor_interfaces", "fake,ipmitool,no-vendor,redfish"),
        ("auth_strategy", "noauth"),
    ] {
        options.default_to("DEFAULT", key, value);
    }
    options.default_to("conductor", "automated_clean", "false");
    options.default_to("conductor", "sync_power_state_interval", "0");
    options.default_to("conductor", "deploy_kernel", "http://192.0.2.1/vmlinuz");
    options.default_to("conductor", "deploy_ramdisk", "http://192.0.2.1/ramdisk.img");
    options.default_to("agent", "require_tls", "false");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_settings_compose_with_the_recorded_defaults() {
        let mut o = Options::default();
        development(&mut o);
        let c = compose(&o).unwrap();
        let fake = &c["fake-hardware"];
        assert_eq!(fake.default["boot"], "fake");
        assert_eq!(fake.default["network"], "noop");
        assert_eq!(c["redfish"].default["boot"], "ipxe");
        assert_eq!(c["ipmi"].default["rescue"], "no-rescue");
    }

    #[test]
    fn the_production_defaults_compose() {
        let c = compose(&Options::default()).unwrap();
        assert_eq!(c["ipmi"].default["deploy"], "direct");
        assert_eq!(c["redfish"].default["inspect"], "redfish");
    }

    #[test]
    fn a_hardware_type_of_old_is_refused_by_name() {
        let o = Options::read(None, std::iter::empty(), &["DEFAULT.enabled_hardware_types=ilo5".into()]).unwrap();
        assert!(compose(&o).unwrap_err().to_string().contains("'ilo5'"));
    }
}
