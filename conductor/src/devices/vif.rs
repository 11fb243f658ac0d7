//! Virtual interfaces (VIFs): which port or port group of a node each one is attached to (`nova-calls.md`, `drivers.md` section 6).
//!
//! What is attached is written in the `internal_info` of the port or the group. With the network interface `noop` nobody keeps VIFs:
//! attaching and detaching succeed and change nothing. The network service is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bessemer_db::{DbError, PortFilter, PortPage, PortgroupFilter, PortgroupPage};
use bessemer_model::{
    fault::{Fault, FaultKind},
    ids::{NodeId, PortgroupId},
    interface::InterfaceKind,
    node::Node,
    port::{Port, VIF_KEY},
    portgroup::Portgroup,
};
use bessemer_rpc::devices::VifRequest;

use crate::core::Core;

/// Tries to write a port that others write too.
const TRIES: u32 = 20;

/// What a VIF can be attached to.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Port(Box<Port>),
    Group(Box<Portgroup>),
}

impl Place {
    fn vif(&self) -> Option<&str> {
        match self {
            Self::Port(p) => p.vif(),
            Self::Group(g) => g.vif(),
        }
    }

    fn attach(&mut self, vif: &str) {
        let info = match self {
            Self::Port(p) => &mut p.internal_info,
            Self::Group(g) => &mut g.internal_info,
        };
        info.insert(VIF_KEY.to_owned(), vif.into());
    }

    fn detach(&mut self) {
        let (info, extra) = match self {
            Self::Port(p) => (&mut p.internal_info, &mut p.extra),
            Self::Group(g) => (&mut g.internal_info, &mut g.extra),
        };
        info.remove(VIF_KEY);
        extra.remove("vif_port_id");
    }

    /// Writes it, unless somebody else did since it was read.
    async fn save(self, core: &Core) -> Result<(), DbError> {
        match self {
            Self::Port(p) => {
                let revision = p.revision;
                core.store.port_update(*p, revision).await.map(drop)
            }
            Self::Group(g) => {
                let revision = g.revision;
                core.store.portgroup_update(*g, revision).await.map(drop)
            }
        }
    }
}

/// The ports and the port groups of a node, in the order of their creation.
async fn cards(core: &Core, node: NodeId) -> Result<(Vec<Port>, Vec<Portgroup>), Fault> {
    let ports = PortFilter { node: Some(node), ..PortFilter::default() };
    let groups = PortgroupFilter { node: Some(node), ..PortgroupFilter::default() };
    Ok((core.store.port_list(&ports, &PortPage::all()).await?, core.store.portgroup_list(&groups, &PortgroupPage::all()).await?))
}

/// The same as places, ports first.
async fn places(core: &Core, node: NodeId) -> Result<impl Iterator<Item = Place>, Fault> {
    let (ports, groups) = cards(core, node).await?;
    let ports = ports.into_iter().map(|p| Place::Port(Box::new(p)));
    Ok(ports.chain(groups.into_iter().map(|g| Place::Group(Box::new(g)))))
}

fn network(node: &Node) -> &str {
    node.spec.interfaces.get(InterfaceKind::Network)
}

pub(super) async fn list(core: &Core, node: &Node) -> Result<Vec<String>, Fault> {
    if network(node) == "noop" {
        return Ok(vec![]);
    }
    Ok(places(core, node.id).await?.filter_map(|p| p.vif().map(str::to_owned)).collect())
}

pub(super) async fn attach(core: &Arc<Core>, node: &Node, vif: &VifRequest) -> Result<(), Fault> {
    match network(node) {
        "noop" => Ok(()),
        "flat" | "neutron" => {
            for _ in 0..TRIES {
                let (ports, groups) = cards(core, node.id).await?;
                let mut place = choose(node, &ports, &groups, vif, &BTreeSet::new())?;
                place.attach(&vif.id);
                match place.save(core).await {
                    // It was patched meanwhile: choose again.
                    Err(DbError::RevisionLost { .. } | DbError::NotFound { .. }) => {}
                    other => return Ok(other?),
                }
            }
            Err(contended(node.id))
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
        for mut place in places(core, node).await? {
            if !place.vif().is_some_and(&which) {
                continue;
            }
            place.detach();
            match place.save(core).await {
                Ok(()) => cleared += 1,
                Err(DbError::RevisionLost { .. }) => lost = true,
                Err(DbError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if !lost {
            return Ok(cleared);
        }
    }
    Err(contended(node))
}

fn contended(node: NodeId) -> Fault {
    Fault::new(FaultKind::NodeLocked, format!("The ports of node {node} are being changed by others; try again."))
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

/// Whether another VIF is there.
///
/// # Errors
/// `AlreadyExists` when it is this one.
fn taken(there: Option<&str>, vif: &str, what: &str, id: &str) -> Result<bool, Fault> {
    match there {
        Some(v) if v == vif => {
            let text = format!("Unable to attach VIF because VIF {v} is already attached to Ironic {what} {id}");
            Err(Fault::new(FaultKind::AlreadyExists, text))
        }
        other => Ok(other.is_some()),
    }
}

/// The free place for a VIF. Those on a physical network of the VIF come first, then groups, then ports with PXE; else the order of
/// creation. A group is a place while it has a usable port and none of its ports has a VIF of its own; in a group whose ports are used one
/// by one, the others of them are places. `physical_networks` are those that the VIF can be on; empty = any.
///
/// # Errors
/// `AlreadyExists` when the VIF is attached to the node already; `InvalidParameterValue` without a free place.
fn choose(
    node: &Node,
    ports: &[Port],
    groups: &[Portgroup],
    vif: &VifRequest,
    physical_networks: &BTreeSet<String>,
) -> Result<Place, Fault> {
    let is = |asked: &Option<String>, id: String| asked.as_ref().is_none_or(|u| u.eq_ignore_ascii_case(&id));
    let wants_group = vif.port_uuid.is_none() && vif.portgroup_uuid.is_some();
    let mut free: Vec<&Port> = Vec::new();
    let mut members: BTreeMap<PortgroupId, Vec<&Port>> = BTreeMap::new();
    let mut split = BTreeSet::new();
    for port in ports.iter().filter(|p| is(&vif.port_uuid, p.id.to_string()) && usable(node, p)) {
        if taken(port.vif(), &vif.id, "Port", &port.id.to_string())? {
            split.extend(port.portgroup);
            continue;
        }
        let allowed = physical_networks.is_empty() || port.physical_network.as_ref().is_none_or(|n| physical_networks.contains(n));
        match port.portgroup {
            Some(g) if allowed => members.entry(g).or_default().push(port),
            None if allowed && !wants_group => free.push(port),
            _ => {}
        }
    }
    let mut free_groups: Vec<&Portgroup> = Vec::new();
    for group in groups.iter().filter(|g| vif.port_uuid.is_none() && is(&vif.portgroup_uuid, g.id.to_string())) {
        if taken(group.vif(), &vif.id, "Portgroup", &group.id.to_string())? {
            continue;
        }
        let its_ports = members.remove(&group.id).unwrap_or_default();
        if !split.contains(&group.id) {
            free_groups.extend((!its_ports.is_empty()).then_some(group));
        } else if !wants_group {
            free.extend(its_ports);
        }
    }
    let near = |network: &Option<String>| network.as_ref().is_some_and(|n| physical_networks.contains(n));
    let groups = free_groups.into_iter().map(|g| ((near(&g.physical_network), true, true), Place::Group(Box::new(g.clone()))));
    let ports = free.into_iter().map(|p| ((near(&p.physical_network), false, p.pxe_enabled), Place::Port(Box::new(p.clone()))));
    // The first of equals: `max_by_key` would give the last.
    let best = groups.chain(ports).collect::<Vec<_>>().into_iter().rev().max_by_key(|(rank, _)| *rank);
    best.map(|(_, place)| place).ok_or_else(|| Fault::invalid(format!("Unable to attach VIF {}, not enough free physical ports.", vif.id)))
}
