//! Reading port groups (`api.md` section 5).

use std::fmt::Display;

use bessemer_db::{PortgroupFilter, PortgroupSort};
use bessemer_model::{
    fault::{Fault, FaultKind},
    ids::NodeId,
    portgroup::Portgroup,
};
use serde::ser::SerializeMap;

use super::{node_link::check_ident, port::parse_address};
use crate::{
    links::Links,
    listing::{self, Listing, Look, PAGING, Show, View, detailed, fields_of_one, short},
    reply::Reply,
    request::{Api, Req},
    version::{FieldTable, fields::PortgroupField, table::Listed},
};

use PortgroupField as F;

const SHORT: &[PortgroupField] = &[F::Uuid, F::Address, F::Name, F::Links];
/// Query parameters that narrow its lists.
pub(crate) const FILTERS: &[&str] = &["node", "address", "shard", "conductor_groups"];

impl Show for Portgroup {
    type Field = PortgroupField;
    const KEY: &'static str = "portgroups";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: PortgroupField, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Address => m.serialize_entry(k, &self.address),
            F::Extra => m.serialize_entry(k, &self.extra),
            F::InternalInfo => m.serialize_entry(k, &self.internal_info),
            F::Mode => m.serialize_entry(k, &self.mode),
            F::Name => m.serialize_entry(k, &self.name),
            F::Properties => m.serialize_entry(k, &self.properties),
            F::StandalonePortsSupported => m.serialize_entry(k, &self.standalone_ports_supported),
            F::NodeUuid => m.serialize_entry(k, &self.node),
            F::PhysicalNetwork => m.serialize_entry(k, &self.physical_network),
            F::Category => m.serialize_entry(k, &self.category),
            F::DynamicPortgroup => m.serialize_entry(k, &self.dynamic_portgroup),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("portgroups/{}", self.id) }),
            F::Ports => m.serialize_entry(k, &Links { base: look.base, path: format_args!("portgroups/{}/ports", self.id) }),
        }
    }
}

/// The port group that a path names.
pub(super) async fn portgroup_of_path(api: &Api, req: &Req) -> Result<Portgroup, Fault> {
    check_ident(req.param(0))?;
    Ok(api.store.portgroup_get(req.param(0)).await?)
}

/// `GET /v1/portgroups` and its detail.
pub(crate) async fn list(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    collection(api, req, detail, None).await
}

/// `GET /v1/nodes/{uuid}/portgroups` and its detail.
pub(crate) async fn list_of_node(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    let node = api.node_by_uuid_only(req.param(0)).await?;
    collection(api, req, detail, Some(node)).await
}

fn check_query(req: &Req, detail: bool) -> Result<(), Fault> {
    let form: &[&str] = if detail { &[] } else { &["fields", "detail"] };
    req.query.only(&[FILTERS, PAGING, form].concat())
}

/// One port group below a node: it is there, but not here.
pub(crate) async fn misplaced(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_ident(req.param(1))?;
    let there = api.store.portgroup_get(req.param(1)).await?;
    Err(Fault::invalid(format!("Malformed request URI: port group {} is at /v1/portgroups/{0}.", there.id)))
}

/// Which port groups the query asks for.
async fn filter(api: &Api, req: &Req, node: Option<NodeId>) -> Result<PortgroupFilter, Fault> {
    let q = &req.query;
    let by_node = q.get("node");
    by_node.map(check_ident).transpose()?;
    let address = q.get("address").map(parse_address).transpose()?;
    let shards = q.list("shard").unwrap_or_default();
    let conductor_groups = q.list("conductor_groups").unwrap_or_default();
    let given = [node.is_some() || by_node.is_some(), address.is_some(), !shards.is_empty(), !conductor_groups.is_empty()];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(Fault::new(FaultKind::Invalid, "Give only one of node, address, shard and conductor_groups."));
    }
    let node = match (node, by_node) {
        (None, Some(ident)) => Some(api.node(req, ident).await?.id),
        (within, _) => within,
    };
    Ok(PortgroupFilter { node, address, shards, conductor_groups, project: req.narrow.project().map(str::to_owned) })
}

/// Links to next pages lead to the whole list, as in the contract.
async fn collection(api: &Api, req: &Req, detail: bool, node: Option<NodeId>) -> Result<Reply, Fault> {
    let (shown, path) = if detail { (detailed(req), "portgroups/detail") } else { (short(req, SHORT)?, "portgroups") };
    req.version.check_query(Listed::Portgroups, req.query.names())?;
    let listing = Listing::read(api, req, shown, "id")?;
    let page = listing.page(req, sort_column)?;
    let filter = filter(api, req, node).await?;
    let groups = api.store.portgroup_list(&filter, &page).await?;
    listing::answer(req, &listing, path, &[], &groups)
}

/// `GET /v1/portgroups/{ident}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let group = portgroup_of_path(api, req).await?;
    let fields = fields_of_one(req)?;
    Reply::ok(&View { one: &group, fields, look: Look::of(req) })
}

fn sort_column(f: PortgroupField) -> Option<PortgroupSort> {
    Some(match f {
        F::Uuid => PortgroupSort::Uuid,
        F::CreatedAt => PortgroupSort::CreatedAt,
        F::UpdatedAt => PortgroupSort::UpdatedAt,
        F::Address => PortgroupSort::Address,
        F::Mode => PortgroupSort::Mode,
        F::Name => PortgroupSort::Name,
        F::StandalonePortsSupported => PortgroupSort::StandalonePortsSupported,
        F::NodeUuid => PortgroupSort::NodeUuid,
        F::PhysicalNetwork => PortgroupSort::PhysicalNetwork,
        F::Category => PortgroupSort::Category,
        F::DynamicPortgroup => PortgroupSort::DynamicPortgroup,
        F::Extra | F::InternalInfo | F::Properties | F::Links | F::Ports => return None,
    })
}
