//! Checks of a node's configuration, per interface. Nothing here asks a BMC: they are too fragile to be touched by a check.

use std::collections::BTreeMap;

use bessemer_drivers::registry::Registry;
use bessemer_model::{
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::Node,
};
use bessemer_rpc::Validation;

use crate::{core::Core, image};

/// Checks one interface.
///
/// # Errors
/// Names the key and the remedy.
pub fn one(core: &Core, node: &Node, kind: InterfaceKind) -> Result<(), Fault> {
    check(core, &core.registry, node, kind)
}

/// Checks every interface but vendor.
#[must_use]
pub fn all(core: &Core, node: &Node) -> BTreeMap<InterfaceKind, Validation> {
    InterfaceKind::ALL
        .iter()
        .filter(|k| **k != InterfaceKind::Vendor)
        .map(|k| {
            let v = match one(core, node, *k) {
                Ok(()) => Validation { result: Some(true), reason: None },
                Err(e) => Validation { result: Some(false), reason: Some(e.detail) },
            };
            (*k, v)
        })
        .collect()
}

fn unsupported(kind: InterfaceKind, what: &str) -> Result<(), Fault> {
    Err(Fault::new(FaultKind::UnsupportedDriverExtension, format!("{} is not supported by the node: {what}", kind.as_str())))
}

fn check(core: &Core, registry: &Registry, node: &Node, kind: InterfaceKind) -> Result<(), Fault> {
    let name = node.spec.interfaces.get(kind);
    match kind {
        InterfaceKind::Power => registry.power(node)?.validate(node)?,
        InterfaceKind::Management => registry.management(node)?.validate(node)?,
        InterfaceKind::Boot if name != "fake" => {
            ramdisk_configured(core, node)?;
            if let Some(m) = registry.media(node) {
                m.validate(node)?;
            }
        }
        InterfaceKind::Deploy => match name {
            "fake" | "noop" => {}
            "direct" => {
                image::check(node).map_err(|e| Fault::missing(e.0))?;
                ramdisk_needed(core, node)?;
            }
            "ramdisk" | "ansible" | "anaconda" | "bootc" | "custom-agent" | "autodetect" => {
                return Err(Fault::not_built(format!("deploy interface '{name}'")));
            }
            _ => {}
        },
        InterfaceKind::Inspect => match name {
            "no-inspect" => return unsupported(kind, "inspect_interface is no-inspect"),
            "agent" => {
                if node.spec.interfaces.get(InterfaceKind::Boot) == "fake" {
                    return unsupported(kind, "boot interface 'fake' cannot boot a ramdisk for inspection");
                }
                ramdisk_configured(core, node)?;
            }
            _ => {
                if let Some(i) = registry.inspect(node) {
                    i.validate(node)?;
                }
            }
        },
        InterfaceKind::Rescue => match name {
            "no-rescue" => return unsupported(kind, "rescue_interface is no-rescue"),
            "agent" => return Err(Fault::not_built("rescue through the ramdisk (rescue interface 'agent')")),
            _ => {}
        },
        InterfaceKind::Console if name == "no-console" => return unsupported(kind, "console_interface is no-console"),
        InterfaceKind::Bios if name == "no-bios" => return unsupported(kind, "bios_interface is no-bios"),
        InterfaceKind::Raid if name == "no-raid" => return unsupported(kind, "raid_interface is no-raid"),
        InterfaceKind::Firmware if name == "no-firmware" => return unsupported(kind, "firmware_interface is no-firmware"),
        InterfaceKind::Bios | InterfaceKind::Raid | InterfaceKind::Firmware => {
            if let Some(s) = registry.steps(node, kind) {
                s.validate(node)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn ramdisk_needed(core: &Core, node: &Node) -> Result<(), Fault> {
    if node.spec.interfaces.get(InterfaceKind::Boot) == "fake" { Ok(()) } else { ramdisk_configured(core, node) }
}

fn ramdisk_configured(core: &Core, node: &Node) -> Result<(), Fault> {
    for (key, fallback) in [("deploy_kernel", &core.config.deploy_kernel), ("deploy_ramdisk", &core.config.deploy_ramdisk)] {
        if node.spec.driver_info.get(key).and_then(|v| v.as_str()).is_none() && fallback.is_none() {
            return Err(Fault::missing(format!("{key} is missing: set it in the node's driver_info or in section [conductor]")));
        }
    }
    Ok(())
}
