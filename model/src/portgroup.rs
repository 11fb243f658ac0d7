//! A port group: network cards of a node that act as one, and what a port must be like to belong to it.

use crate::{
    JsonMap,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortgroupId},
    port::Port,
};

/// A port group as stored (`api.md` section 5).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 5, one to one")]
pub struct Portgroup {
    pub id: PortgroupId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    pub node: NodeId,
    pub name: Option<String>,
    /// Normalised, unique among port groups.
    pub address: Option<String>,
    pub extra: JsonMap,
    pub internal_info: JsonMap,
    pub mode: Option<String>,
    pub properties: JsonMap,
    /// Whether its ports may also be used one by one.
    pub standalone_ports_supported: bool,
    /// That of every member.
    pub physical_network: Option<String>,
    pub category: Option<String>,
    /// Made by the program for one attachment, not by a user.
    pub dynamic_portgroup: bool,
}

impl Portgroup {
    /// The VIF of the tenant that is attached to it.
    #[must_use]
    pub fn vif(&self) -> Option<&str> {
        crate::port::vif(&self.internal_info)
    }

    /// A port group with every attribute at its default. Times, `seq` and `revision` are the store's to set.
    #[must_use]
    pub fn blank(id: PortgroupId, node: NodeId) -> Self {
        Self {
            id,
            seq: 0,
            revision: 0,
            created_at: Timestamp(0),
            updated_at: None,
            node,
            name: None,
            address: None,
            extra: JsonMap::new(),
            internal_info: JsonMap::new(),
            mode: Some("active-backup".to_owned()),
            properties: JsonMap::new(),
            standalone_ports_supported: true,
            physical_network: None,
            category: None,
            dynamic_portgroup: false,
        }
    }
}

/// A port that must not become a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The ports of a group are on one physical network.
    #[error(
        "port {port} is on physical network {} but port group {group} is on {}; set the same physical_network first",
        shown(port_network.as_deref()),
        shown(group_network.as_deref())
    )]
    PhysicalNetwork {
        /// The port.
        port: String,
        /// The group.
        group: PortgroupId,
        /// The port's network.
        port_network: Option<String>,
        /// The group's network.
        group_network: Option<String>,
    },
}

fn shown(network: Option<&str>) -> String {
    network.map_or_else(|| "none".to_owned(), |n| format!("\"{n}\""))
}

impl From<Unfit> for Fault {
    fn from(u: Unfit) -> Self {
        Self::new(FaultKind::Conflict, u.to_string())
    }
}

/// Whether `port` may be a member beside one of the others (`beside`: its physical network; `None` when there is no other).
/// Gives the physical network that the group gets with it, when that is another than now.
///
/// # Errors
/// [`Unfit::PhysicalNetwork`].
pub fn admit<'p>(group: &Portgroup, beside: Option<Option<&str>>, port: &'p Port) -> Result<Option<&'p str>, Unfit> {
    let network = port.physical_network.as_deref();
    let wanted = match beside {
        Some(other) => other,
        // The first member brings its network with it.
        None if group.physical_network.is_none() => return Ok(network),
        None => group.physical_network.as_deref(),
    };
    if network == wanted {
        return Ok(None);
    }
    Err(Unfit::PhysicalNetwork {
        port: port.address.clone(),
        group: group.id,
        port_network: network.map(str::to_owned),
        group_network: wanted.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PortId;

    fn group(network: Option<&str>) -> Portgroup {
        Portgroup { physical_network: network.map(str::to_owned), ..Portgroup::blank(PortgroupId::random(), NodeId::random()) }
    }

    fn port(network: Option<&str>) -> Port {
        let mut p = Port::blank(PortId::random(), NodeId::random());
        p.physical_network = network.map(str::to_owned);
        p
    }

    #[test]
    fn the_first_member_of_a_group_without_network_brings_its_own() {
        assert_eq!(admit(&group(None), None, &port(Some("a"))), Ok(Some("a")));
        assert_eq!(admit(&group(None), None, &port(None)), Ok(None));
    }

    #[test]
    fn members_are_on_the_network_of_the_others_or_of_the_group() {
        assert_eq!(admit(&group(Some("a")), None, &port(Some("a"))), Ok(None));
        assert!(admit(&group(Some("a")), None, &port(Some("b"))).is_err());
        assert!(admit(&group(Some("a")), None, &port(None)).is_err());
        assert_eq!(admit(&group(None), Some(Some("a")), &port(Some("a"))), Ok(None));
        assert!(admit(&group(None), Some(None), &port(Some("a"))).is_err());
    }
}
