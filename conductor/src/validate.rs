//! Checks of a node's configuration, per interface. Nothing here asks a BMC: they are too fragile to be touched by a check.

use std::collections::BTreeMap;

use bessemer_db::{PortFilter, PortPage};
use bessemer_drivers::registry::Registry;
use bessemer_model::{
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::Node,
};
use bessemer_rpc::Validation;

use crate::{core::Core, image};

/// What the checks need to know beside the node itself.
#[derive(Clone, Copy, Debug)]
struct Facts {
    has_ports: bool,
}

async fn facts(core: &Core, node: &Node) -> Result<Facts, Fault> {
    let filter = PortFilter { node: Some(node.id), ..Default::default() };
    Ok(Facts { has_ports: !core.store.port_list(&filter, &PortPage::first(1)).await?.is_empty() })
}

/// Checks one interface.
///
/// # Errors
/// Names the key and the remedy.
pub async fn one(core: &Core, node: &Node, kind: InterfaceKind) -> Result<(), Fault> {
    let facts = facts(core, node).await?;
    check(core, &core.registry, node, kind, facts)
}

/// Checks every interface but vendor.
///
/// # Errors
/// Of the store only.
pub async fn all(core: &Core, node: &Node) -> Result<BTreeMap<InterfaceKind, Validation>, Fault> {
    let facts = facts(core, node).await?;
    Ok(InterfaceKind::ALL
        .iter()
        .filter(|k| **k != InterfaceKind::Vendor)
        .map(|k| {
            let v = match check(core, &core.registry, node, *k, facts) {
                Ok(()) => Validation { result: Some(true), reason: None },
                Err(e) => Validation { result: Some(false), reason: Some(e.detail) },
            };
            (*k, v)
        })
        .collect())
}

fn unsupported(kind: InterfaceKind, what: &str) -> Result<(), Fault> {
    Err(Fault::new(FaultKind::UnsupportedDriverExtension, format!("{} is not supported by the node: {what}", kind.as_str())))
}

fn check(core: &Core, registry: &Registry, node: &Node, kind: InterfaceKind, facts: Facts) -> Result<(), Fault> {
    let name = node.spec.interfaces.get(kind);
    match kind {
        InterfaceKind::Power => registry.power(node)?.validate(node)?,
        InterfaceKind::Management => registry.management(node)?.validate(node)?,
        InterfaceKind::Boot if name != "fake" => {
            bootable(core, registry, node, facts)?;
        }
        InterfaceKind::Deploy => match name {
            "fake" | "noop" => {}
            "direct" => {
                image::check(node).map_err(|e| Fault::missing(e.0))?;
                if node.spec.interfaces.get(InterfaceKind::Boot) != "fake" {
                    bootable(core, registry, node, facts)?;
                }
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
                bootable(core, registry, node, facts)?;
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
        InterfaceKind::Console => registry.console(node)?.validate(node)?,
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

/// Whether the node can be made to boot the ramdisk.
fn bootable(core: &Core, registry: &Registry, node: &Node, facts: Facts) -> Result<(), Fault> {
    ramdisk_configured(core, node)?;
    if let Some(m) = registry.media(node) {
        return Ok(m.validate(node)?);
    }
    if !facts.has_ports {
        return Err(Fault::missing(format!(
            "node {} has no port: create one with the address of the network card that it boots from",
            node.id
        )));
    }
    Ok(())
}

fn ramdisk_configured(core: &Core, node: &Node) -> Result<(), Fault> {
    for (key, fallback) in [("deploy_kernel", &core.config.deploy_kernel), ("deploy_ramdisk", &core.config.deploy_ramdisk)] {
        if node.spec.driver_info.get(key).and_then(|v| v.as_str()).is_none() && fallback.is_none() {
            return Err(Fault::missing(format!("{key} is missing: set it in the node's driver_info or in section [conductor]")));
        }
    }
    Ok(())
}
