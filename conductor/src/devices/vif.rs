//! Virtual interfaces (VIFs): which port of a node each one is attached to (`nova-calls.md`, `drivers.md` section 6).
//!
//! What is attached is written in the port's `internal_info`. With the network interface `noop` nobody keeps VIFs: attaching and
//! detaching succeed and change nothing.

use std::{collections::BTreeSet, sync::Arc};

use bessemer_db::{DbError, PortFilter, PortPage};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    port::Port,
};
use bessemer_rpc::devices::VifRequest;

use crate::core::Core;

/// Where an attached VIF is written down.
const KEY: &str = "tenant_vif_port_id";
/// Tries to write a port that others write too.
const TRIES: u32 = 20;

/// What a VIF can be attached to.
#[derive(Clone, Debug, PartialEq)]
struct Place<'a> {
    port: &'a Port,
}

fn attached(info: &JsonMap) -> Option<&str> {
    info.get(KEY).and_then(Json::as_str).filter(|v| !v.is_empty())
}

async fn ports(core: &Core, node: NodeId) -> Result<Vec<Port>, Fault> {
    let filter = PortFilter { node: Some(node), ..PortFilter::default() };
    Ok(core.store.port_list(&filter, &PortPage::all()).await?)
}

fn network(node: &Node) -> &str {
    node.spec.interfaces.get(InterfaceKind::Network)
}

pub(super) async fn list(core: &Core, node: &Node) -> Result<Vec<String>, Fault> {
    if network(node) == "noop" {
        return Ok(vec![]);
    }
    Ok(ports(core, node.id).await?.iter().filter_map(|p| attached(&p.internal_info)).map(str::to_owned).collect())
}

pub(super) async fn attach(core: &Arc<Core>, node: &Node, vif: &VifRequest) -> Result<(), Fault> {
    match network(node) {
        "noop" => Ok(()),
        "flat" | "neutron" => {
            for _ in 0..TRIES {
                let ports = ports(core, node.id).await?;
                let mut port = choose(node, &ports, vif, &BTreeSet::new())?.port.clone();
                port.internal_info.insert(KEY.to_owned(), vif.id.clone().into());
                let revision = port.revision;
                match core.store.port_update(port, revision).await {
                    // The port was patched meanwhile: choose again.
                    Err(DbError::RevisionLost { .. } | DbError::NotFound { .. }) => {}
                    other => return Ok(other.map(drop)?),
                }
            }
            Err(Fault::new(FaultKind::NodeLocked, format!("The ports of node {} are being changed by others; try again.", node.id)))
        }
        other => Err(Fault::not_built(format!("the network interface '{other}'"))),
    }
}

pub(super) async fn detach(core: &Arc<Core>, node: &Node, vif: &str) -> Result<(), Fault> {
    match network(node) {
        "noop" => Ok(()),
        "flat" | "neutron" => {
            if clear(core, node.id, |v| v == vif).await? == 0 {
                return Err(Fault::invalid(format!("Unable to detach VIF {vif} from node {} because it is not attached to it.", node.id)));
            }
            Ok(())
        }
        other => Err(Fault::not_built(format!("the network interface '{other}'"))),
    }
}

/// Detaches every VIF of a node whose instance goes.
///
/// # Errors
/// Of the store.
pub(crate) async fn detach_all(core: &Arc<Core>, node: NodeId) -> Result<(), Fault> {
    clear(core, node, |_| true).await.map(drop)
}

/// Forgets the VIFs that `which` names; gives how many there were.
async fn clear(core: &Core, node: NodeId, which: impl Fn(&str) -> bool) -> Result<usize, Fault> {
    let mut cleared = 0;
    for _ in 0..TRIES {
        let mut lost = false;
        for mut port in ports(core, node).await? {
            if !attached(&port.internal_info).is_some_and(&which) {
                continue;
            }
            port.internal_info.remove(KEY);
            port.extra.remove("vif_port_id");
            let revision = port.revision;
            match core.store.port_update(port, revision).await {
                Ok(_) => cleared += 1,
                Err(DbError::RevisionLost { .. }) => lost = true,
                Err(DbError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !lost {
            return Ok(cleared);
        }
    }
    Err(Fault::new(FaultKind::NodeLocked, format!("The ports of node {node} are being changed by others; try again.")))
}

/// Whether the port tells enough of how it is cabled for this network interface.
fn usable(node: &Node, port: &Port) -> bool {
    // InfiniBand finds its way by itself.
    if port.extra.get("client-id").is_some_and(|v| !v.is_null() && v != "") {
        return true;
    }
    let link = &port.local_link_connection;
    if network(node) == "neutron" && link.is_empty() {
        return false;
    }
    let of_smart_nic = link.contains_key("port_id") && link.contains_key("hostname");
    port.is_smartnic.unwrap_or_default() == of_smart_nic
}

/// The free port for a VIF. Those on a physical network of the VIF come first, then those with PXE; else the order of creation.
/// `physical_networks` are those that the VIF can be on; empty = any.
///
/// # Errors
/// `AlreadyExists` when the VIF is attached to the node already; `InvalidParameterValue` without a free port.
fn choose<'a>(node: &Node, ports: &'a [Port], vif: &VifRequest, physical_networks: &BTreeSet<String>) -> Result<Place<'a>, Fault> {
    let mut free = Vec::new();
    for port in ports {
        let asked = vif.port_uuid.as_ref().is_none_or(|u| u.eq_ignore_ascii_case(&port.id.to_string()));
        if !asked || !usable(node, port) {
            continue;
        }
        match attached(&port.internal_info) {
            Some(v) if v == vif.id => {
                let text = format!("Unable to attach VIF because VIF {v} is already attached to Ironic Port {}", port.id);
                return Err(Fault::new(FaultKind::AlreadyExists, text));
            }
            Some(_) => continue,
            None => {}
        }
        let allowed = physical_networks.is_empty() || port.physical_network.as_ref().is_none_or(|n| physical_networks.contains(n));
        let only_group = vif.port_uuid.is_none() && vif.portgroup_uuid.is_some();
        if allowed && !only_group && port.portgroup.is_none() {
            free.push(Place { port });
        }
    }
    let rank = |p: &Place<'_>| (p.port.physical_network.as_ref().is_some_and(|n| physical_networks.contains(n)), p.port.pxe_enabled);
    // The first of equals: `max_by_key` would give the last.
    free.into_iter()
        .rev()
        .max_by_key(rank)
        .ok_or_else(|| Fault::invalid(format!("Unable to attach VIF {}, not enough free physical ports.", vif.id)))
}
