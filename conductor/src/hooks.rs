//! Inspection hooks (`drivers.md` section 9): what a report changes about its node. Pure.

use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    ids::PortId,
    node::Node,
    port::{Mac, Port},
};
use serde_json::json;

use crate::config::ConductorConfig;

/// What the hooks want changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookOutcome {
    /// Properties to set.
    pub properties: JsonMap,
    /// Further plugin data.
    pub plugin_data: JsonMap,
    /// Ports to create: address, whether the machine booted from it.
    pub ports: Vec<(String, bool)>,
}

/// The default chain: ramdisk-error, validate-interfaces, ports, architecture; and memory, cpus and local disk size where the node's
/// owner has not said otherwise.
///
/// # Errors
/// A text for the operator when the report cannot be used.
pub fn run(
    config: &ConductorConfig,
    node: &Node,
    inventory: &Json,
    plugin_data: &Json,
    known_macs: &[String],
) -> Result<HookOutcome, String> {
    if let Some(error) = plugin_data.get("error").and_then(Json::as_str) {
        return Err(format!("the ramdisk reported an error: {error}"));
    }
    let mut out = HookOutcome::default();
    interfaces(config, inventory, plugin_data, known_macs, &mut out)?;
    if let Some(arch) = inventory.pointer("/cpu/architecture").and_then(Json::as_str) {
        out.properties.insert("cpu_arch".into(), json!(arch));
    }
    let mut set_missing = |key: &str, value: Option<u64>| {
        if let Some(v) = value
            && !node.spec.properties.contains_key(key)
        {
            out.properties.insert(key.into(), json!(v));
        }
    };
    set_missing("cpus", inventory.pointer("/cpu/count").and_then(Json::as_u64));
    set_missing("memory_mb", inventory.pointer("/memory/physical_mb").and_then(Json::as_u64));
    let root = plugin_data.pointer("/root_disk/size").and_then(Json::as_u64).map(|b| (b >> 30).saturating_sub(1));
    set_missing("local_gb", root);
    Ok(out)
}

fn interfaces(
    config: &ConductorConfig,
    inventory: &Json,
    plugin_data: &Json,
    known: &[String],
    out: &mut HookOutcome,
) -> Result<(), String> {
    let list = inventory.get("interfaces").and_then(Json::as_array).cloned().unwrap_or_default();
    if list.is_empty() {
        return Err("the inspection report names no network interface".into());
    }
    let booted = inventory
        .pointer("/boot/pxe_interface")
        .or_else(|| plugin_data.get("boot_interface"))
        .and_then(Json::as_str)
        .and_then(|b| b.strip_prefix("01-").unwrap_or(b).parse::<Mac>().ok());
    let (mut all, mut valid) = (JsonMap::new(), JsonMap::new());
    for i in &list {
        let Some(name) = i.get("name").and_then(Json::as_str) else { continue };
        let Some(mac) = i.get("mac_address").and_then(Json::as_str).and_then(|m| m.parse::<Mac>().ok()) else { continue };
        let pxe = Some(mac) == booted || known.contains(&mac.to_string());
        let mut entry = i.as_object().cloned().unwrap_or_default();
        entry.insert("mac_address".into(), json!(mac));
        entry.insert("pxe_enabled".into(), json!(pxe));
        all.insert(name.into(), Json::Object(entry.clone()));
        let has_address = i.get("ipv4_address").or_else(|| i.get("ipv6_address")).is_some_and(|a| !a.is_null());
        let wanted = match config.inspect_add_ports.as_str() {
            "all" => true,
            "active" => has_address,
            "disabled" => false,
            // Without knowledge of the boot interface every card with an address is taken for one.
            _ => pxe || (booted.is_none() && has_address),
        };
        if wanted {
            out.ports.push((mac.to_string(), pxe || booted.is_none()));
            valid.insert(name.into(), Json::Object(entry));
        }
    }
    if all.is_empty() {
        return Err("the inspection report names no network interface with a usable MAC address".into());
    }
    let macs: Vec<Json> = valid.values().filter_map(|v| v.get("mac_address").cloned()).collect();
    out.plugin_data.insert("all_interfaces".into(), Json::Object(all));
    out.plugin_data.insert("valid_interfaces".into(), Json::Object(valid));
    out.plugin_data.insert("macs".into(), Json::Array(macs));
    Ok(())
}

/// Ports to be created for these addresses; the store leaves out those that exist.
#[must_use]
pub fn new_ports(node: &Node, macs: &[(String, bool)], now: Timestamp) -> Vec<Port> {
    macs.iter()
        .map(|(address, pxe)| Port {
            created_at: now,
            address: address.clone(),
            pxe_enabled: *pxe,
            ..Port::blank(PortId::random(), node.id)
        })
        .collect()
}
