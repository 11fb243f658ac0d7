//! Reading ports (`api.md` section 4).

use std::fmt::Display;

use bessemer_db::{PortFilter, PortSort};
use bessemer_model::{
    JsonMap,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortgroupId},
    port::{Mac, Port},
};
use serde::ser::SerializeMap;

use super::node_link::check_ident;
use crate::{
    links::Links,
    listing::{self, Listing, Look, PAGING, Show, View, detailed, fields_of_one, short},
    query::{Shown, parse_uuid},
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, FieldTable, fields::PortField, table::Listed},
};

use PortField as F;

const SHORT: &[PortField] = &[F::Uuid, F::Address, F::Links];
/// Query parameters that narrow its lists.
pub(crate) const FILTERS: &[&str] = &["node", "node_uuid", "address", "portgroup", "shard", "conductor_groups", "description_contains"];
/// Keys of `local_link_connection` that only some microversions know.
pub(super) const VTEP: &[&str] = &["vtep-logical-switch", "vtep-physical-switch"];

static NO_LINK: std::sync::LazyLock<JsonMap> = std::sync::LazyLock::new(JsonMap::new);

impl Show for Port {
    type Field = PortField;
    const KEY: &'static str = "ports";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: PortField, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Address => m.serialize_entry(k, &self.address),
            F::NodeUuid => m.serialize_entry(k, &self.node),
            F::Extra => m.serialize_entry(k, &self.extra),
            F::InternalInfo => m.serialize_entry(k, &self.internal_info),
            F::LocalLinkConnection => {
                let vtep = VTEP.iter().any(|k| self.local_link_connection.contains_key(*k));
                let hidden = vtep && !look.version.has(Behaviour::LinkVtep);
                m.serialize_entry(k, if hidden { &*NO_LINK } else { &self.local_link_connection })
            }
            F::PxeEnabled => m.serialize_entry(k, &self.pxe_enabled),
            F::PortgroupUuid => m.serialize_entry(k, &self.portgroup),
            F::PhysicalNetwork => m.serialize_entry(k, &self.physical_network),
            F::IsSmartnic => m.serialize_entry(k, &self.is_smartnic),
            F::Name => m.serialize_entry(k, &self.name),
            F::Description => m.serialize_entry(k, &self.description),
            F::Vendor => m.serialize_entry(k, &self.vendor),
            F::Category => m.serialize_entry(k, &self.category),
            F::AvailableForDynamicPortgroup => m.serialize_entry(k, &self.available_for_dynamic_portgroup),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("ports/{}", self.id) }),
        }
    }
}

/// A MAC address as the API takes it: colons only.
pub(super) fn parse_address(s: &str) -> Result<String, Fault> {
    let colons = !s.contains('-');
    let mac = s.parse::<Mac>().ok().filter(|_| colons);
    mac.map(|m| m.to_string())
        .ok_or_else(|| Fault::invalid(format!("Expected a MAC address but received {}.", s.chars().take(64).collect::<String>())))
}

/// The port that a path names.
pub(crate) async fn port_of_path(api: &Api, req: &Req) -> Result<Port, Fault> {
    let ident = req.param(0);
    check_ident(ident)?;
    // To older clients ports have no names.
    if parse_uuid(ident).is_none() && !req.version.has(Behaviour::PortNames) {
        return Err(Fault::new(FaultKind::PortNotFound, format!("Port {ident} could not be found.")));
    }
    Ok(api.store.port_get(ident).await?)
}

/// `GET /v1/ports`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_query(req, false)?;
    collection(api, req, short(req, SHORT)?, None, "ports").await
}

/// `GET /v1/ports/detail`.
pub(crate) async fn list_detail(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_query(req, true)?;
    collection(api, req, detailed(req), None, "ports/detail").await
}

/// What the path confines a list of ports to.
#[derive(Clone, Copy)]
enum Within {
    Node(NodeId),
    Portgroup(PortgroupId),
}

/// `GET /v1/nodes/{uuid}/ports` and its detail.
pub(crate) async fn list_of_node(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    let node = api.node_by_uuid_only(req.param(0)).await?;
    list_within(api, req, detail, Within::Node(node)).await
}

/// `GET /v1/portgroups/{uuid}/ports` and its detail.
pub(crate) async fn list_of_portgroup(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    check_ident(req.param(0))?;
    // By UUID only, as below a node.
    let none = || Fault::new(FaultKind::NotFound, format!("Portgroup {} could not be found.", req.param(0)));
    let id = PortgroupId(parse_uuid(req.param(0)).ok_or_else(none)?);
    let group = api.store.portgroup_get(&id.to_string()).await?;
    list_within(api, req, detail, Within::Portgroup(group.id)).await
}

/// Links to next pages lead to the whole list, as in the contract.
async fn list_within(api: &Api, req: &Req, detail: bool, within: Within) -> Result<Reply, Fault> {
    let (shown, path) = if detail { (detailed(req), "ports/detail") } else { (short(req, SHORT)?, "ports") };
    collection(api, req, shown, Some(within), path).await
}

fn check_query(req: &Req, detail: bool) -> Result<(), Fault> {
    let form: &[&str] = if detail { &[] } else { &["fields", "detail"] };
    req.query.only(&[FILTERS, PAGING, form].concat())?;
    // Refused for what they are before they are refused as too new.
    ["node", "portgroup"].iter().filter_map(|k| req.query.get(k)).try_for_each(check_ident)
}

/// Which ports the query asks for. What the path says goes before the same said by the query.
async fn filter(api: &Api, req: &Req, within: Option<Within>) -> Result<PortFilter, Fault> {
    let q = &req.query;
    let by_node = q.get("node_uuid").or(q.get("node"));
    let by_group = q.get("portgroup");
    q.uuid("node_uuid")?;
    if by_node.is_some_and(|n| parse_uuid(n).is_none()) && !req.version.has(Behaviour::NodeNames) {
        return Err(Fault::new(FaultKind::NotAcceptable, "Names of nodes need a newer API version."));
    }
    let mut addresses: Vec<_> = q.get("address").map(parse_address).transpose()?.into_iter().collect();
    let mut shards = q.list("shard").unwrap_or_default();
    let conductor_groups = q.list("conductor_groups").unwrap_or_default();
    let mut description_contains = q.text("description_contains").filter(|d| !d.is_empty());
    let node_given = by_node.is_some() || matches!(within, Some(Within::Node(_)));
    let group_given = by_group.is_some() || matches!(within, Some(Within::Portgroup(_)));
    if [node_given, group_given, !shards.is_empty()].iter().filter(|g| **g).count() > 1 {
        return Err(Fault::new(FaultKind::OperationNotPermitted, "Give only one of node, portgroup and shard."));
    }
    if !conductor_groups.is_empty() && (node_given || group_given || !addresses.is_empty()) {
        return Err(Fault::invalid("\"conductor_groups\" cannot be given with node, portgroup or address."));
    }
    // An address says nothing beside a node or a port group; without them it says all.
    if node_given || group_given {
        addresses.clear();
    } else if !addresses.is_empty() {
        shards.clear();
        description_contains = None;
    }
    let (node, portgroup) = match (within, by_node, by_group) {
        (Some(Within::Node(n)), ..) => (Some(n), None),
        (Some(Within::Portgroup(g)), ..) => (None, Some(g)),
        (None, Some(ident), _) => (Some(api.node(req, ident).await?.id), None),
        (None, None, Some(ident)) => (None, Some(api.store.portgroup_get(ident).await?.id)),
        (None, None, None) => (None, None),
    };
    Ok(PortFilter {
        node,
        addresses,
        portgroup,
        shards,
        conductor_groups,
        description_contains,
        pxe_enabled: None,
        project: req.narrow.project().map(str::to_owned),
    })
}

async fn collection(api: &Api, req: &Req, shown: Shown<PortField>, within: Option<Within>, path: &str) -> Result<Reply, Fault> {
    req.version.check_query(Listed::Ports, req.query.names())?;
    let listing = Listing::read(api, req, shown, "id")?;
    let page = listing.page(req, sort_column)?;
    let filter = filter(api, req, within).await?;
    let ports = api.store.port_list(&filter, &page).await?;
    listing::answer(req, &listing, path, &[], &ports)
}

/// `GET /v1/ports/{ident}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let port = port_of_path(api, req).await?;
    let fields = fields_of_one(req)?;
    Reply::ok(&View { one: &port, fields, look: Look::of(req) })
}

fn sort_column(f: PortField) -> Option<PortSort> {
    Some(match f {
        F::Uuid => PortSort::Uuid,
        F::CreatedAt => PortSort::CreatedAt,
        F::UpdatedAt => PortSort::UpdatedAt,
        F::Address => PortSort::Address,
        F::NodeUuid => PortSort::NodeUuid,
        F::PxeEnabled => PortSort::PxeEnabled,
        F::PhysicalNetwork => PortSort::PhysicalNetwork,
        F::IsSmartnic => PortSort::IsSmartnic,
        F::Name => PortSort::Name,
        F::Description => PortSort::Description,
        F::Vendor => PortSort::Vendor,
        F::Category => PortSort::Category,
        F::AvailableForDynamicPortgroup => PortSort::AvailableForDynamicPortgroup,
        _ => return None,
    })
}
