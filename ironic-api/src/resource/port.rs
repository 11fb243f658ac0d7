//! Reading ports (`api.md` section 4).

use bessemer_db::{PortFilter, PortPage, PortSort};
use bessemer_model::{
    JsonMap,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortId},
    port::{Mac, Port},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    links::{Links, next_page},
    query::{Shown, parse_uuid, shown, shown_in_list},
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, FieldSet, FieldTable, Version, fields::PortField, table::Listed},
};

use PortField as F;

const SHORT: &[PortField] = &[F::Uuid, F::Address, F::Links];
const FILTERS: &[&str] = &[
    "node",
    "node_uuid",
    "address",
    "portgroup",
    "shard",
    "conductor_groups",
    "description_contains",
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
];
/// Keys of `local_link_connection` that only some microversions know.
pub(super) const VTEP: &[&str] = &["vtep-logical-switch", "vtep-physical-switch"];

/// A port as JSON: only the fields asked for.
pub(super) struct PortView<'a> {
    pub port: &'a Port,
    pub fields: FieldSet<PortField>,
    pub version: Version,
    pub base: &'a str,
}

static NO_LINK: std::sync::LazyLock<JsonMap> = std::sync::LazyLock::new(JsonMap::new);

impl Serialize for PortView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let p = self.port;
        let mut m = s.serialize_map(None)?;
        for f in self.fields.iter() {
            let k = f.name();
            match f {
                F::Uuid => m.serialize_entry(k, &p.id)?,
                F::CreatedAt => m.serialize_entry(k, &p.created_at.to_wire())?,
                F::UpdatedAt => m.serialize_entry(k, &p.updated_at.map(|t| t.to_wire()))?,
                F::Address => m.serialize_entry(k, &p.address)?,
                F::NodeUuid => m.serialize_entry(k, &p.node)?,
                F::Extra => m.serialize_entry(k, &p.extra)?,
                F::InternalInfo => m.serialize_entry(k, &p.internal_info)?,
                F::LocalLinkConnection => {
                    let vtep = VTEP.iter().any(|k| p.local_link_connection.contains_key(*k));
                    let hidden = vtep && !self.version.has(Behaviour::LinkVtep);
                    m.serialize_entry(k, if hidden { &*NO_LINK } else { &p.local_link_connection })?;
                }
                F::PxeEnabled => m.serialize_entry(k, &p.pxe_enabled)?,
                F::PortgroupUuid => m.serialize_entry(k, &p.portgroup)?,
                F::PhysicalNetwork => m.serialize_entry(k, &p.physical_network)?,
                F::IsSmartnic => m.serialize_entry(k, &p.is_smartnic)?,
                F::Name => m.serialize_entry(k, &p.name)?,
                F::Description => m.serialize_entry(k, &p.description)?,
                F::Vendor => m.serialize_entry(k, &p.vendor)?,
                F::Category => m.serialize_entry(k, &p.category)?,
                F::AvailableForDynamicPortgroup => m.serialize_entry(k, &p.available_for_dynamic_portgroup)?,
                F::Links => m.serialize_entry(k, &Links { base: self.base, path: format_args!("ports/{}", p.id) })?,
            }
        }
        m.end()
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
pub(super) async fn port_of_path(api: &Api, req: &Req) -> Result<Port, Fault> {
    let ident = req.param(0);
    if parse_uuid(ident).is_none() && !req.version.has(Behaviour::PortNames) {
        return Err(Fault::invalid("Expected the UUID of a port."));
    }
    if ident.is_empty() || ident.len() > 255 {
        return Err(Fault::invalid("Expected a UUID or a name of a port."));
    }
    Ok(api.store.port_get(ident).await?)
}

/// `GET /v1/ports`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[FILTERS, &["fields", "detail"]].concat())?;
    collection(api, req, short(req)?, None, "ports").await
}

/// `GET /v1/ports/detail`.
pub(crate) async fn list_detail(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(FILTERS)?;
    collection(api, req, detailed(req), None, "ports/detail").await
}

/// `GET /v1/nodes/{uuid}/ports` and its detail.
pub(crate) async fn list_of_node(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    req.query.only(&["fields", "detail", "address", "limit", "marker", "sort_key", "sort_dir"])?;
    let shown = if detail { detailed(req) } else { short(req)? };
    let node = api.node_by_uuid_only(req.param(0)).await?;
    let path = format!("nodes/{node}/ports{}", if detail { "/detail" } else { "" });
    collection(api, req, shown, Some(node), &path).await
}

fn short(req: &Req) -> Result<Shown<PortField>, Fault> {
    let mut s = shown_in_list(&req.query, req.version, SHORT)?;
    if let Some(names) = &mut s.named {
        names.retain(|n| n != "links");
    }
    Ok(s)
}

fn detailed(req: &Req) -> Shown<PortField> {
    Shown { set: req.version.visible(), named: None, detail: None }
}

async fn filter(api: &Api, req: &Req, node: Option<NodeId>) -> Result<PortFilter, Fault> {
    let q = &req.query;
    let groups = q.list("conductor_groups");
    let by_node = q.get("node").or(q.get("node_uuid"));
    let given = [by_node.is_some(), q.get("portgroup").is_some(), q.get("shard").is_some()];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(Fault::new(FaultKind::OperationNotPermitted, "Give only one of node, portgroup and shard."));
    }
    if groups.is_some() && (by_node.is_some() || q.get("portgroup").is_some() || q.get("address").is_some()) {
        return Err(Fault::invalid("\"conductor_groups\" cannot be given with node, portgroup or address."));
    }
    if let Some(p) = q.get("portgroup") {
        return Err(Fault::new(FaultKind::NotFound, format!("Portgroup {} could not be found.", p.chars().take(255).collect::<String>())));
    }
    let node = match (node, by_node) {
        (Some(n), _) => Some(n),
        (None, Some(ident)) => Some(api.node(req, ident).await?.id),
        (None, None) => None,
    };
    Ok(PortFilter {
        node,
        addresses: q.get("address").map(parse_address).transpose()?.into_iter().collect(),
        portgroup: None,
        shards: q.list("shard").unwrap_or_default(),
        conductor_groups: groups.unwrap_or_default(),
        description_contains: q.text("description_contains"),
        pxe_enabled: None,
        project: None,
    })
}

async fn collection(api: &Api, req: &Req, shown: Shown<PortField>, node: Option<NodeId>, path: &str) -> Result<Reply, Fault> {
    let (q, v) = (&req.query, req.version);
    v.check_query(Listed::Ports, q.names())?;
    let limit = q.limit(api.config.max_limit)?;
    let sort_key = q.get("sort_key").filter(|k| !k.is_empty()).unwrap_or("id");
    let desc = q.descending()?;
    let sort = v.sort_field::<PortField>(sort_key)?.map_or(Ok(PortSort::Created), sort_column)?;
    let marker = q.uuid("marker")?.map(PortId);
    let filter = filter(api, req, node).await?;
    let ports = api.store.port_list(&filter, &PortPage { limit, marker, sort, desc }).await?;
    let next = ports.last().filter(|_| ports.len() == limit as usize).map(|last| {
        let mut args = vec![("sort_key", sort_key.to_owned()), ("sort_dir", if desc { "desc" } else { "asc" }.to_owned())];
        if let Some(d) = shown.detail {
            args.push(("detail", if d { "True" } else { "False" }.to_owned()));
        }
        if let Some(names) = shown.named.as_ref().filter(|n| !n.is_empty()) {
            args.push(("fields", names.join(",")));
        }
        next_page(&req.base, path, &args, limit, last.id)
    });
    Reply::ok(&Collection { ports: &ports, next, fields: shown.set, version: v, base: &req.base })
}

struct Collection<'a> {
    ports: &'a [Port],
    next: Option<String>,
    fields: FieldSet<PortField>,
    version: Version,
    base: &'a str,
}

struct Rows<'a>(&'a Collection<'a>);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let c = self.0;
        s.collect_seq(c.ports.iter().map(|port| PortView { port, fields: c.fields, version: c.version, base: c.base }))
    }
}

impl Serialize for Collection<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        m.serialize_entry("ports", &Rows(self))?;
        if let Some(next) = &self.next {
            m.serialize_entry("next", next)?;
        }
        m.end()
    }
}

/// `GET /v1/ports/{ident}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let fields = shown(&req.query, req.version)?.map_or_else(|| req.version.visible(), |(set, _)| set);
    let port = port_of_path(api, req).await?;
    Reply::ok(&PortView { port: &port, fields, version: req.version, base: &req.base })
}

fn sort_column(f: PortField) -> Result<PortSort, Fault> {
    Ok(match f {
        F::Uuid => PortSort::Uuid,
        F::CreatedAt => PortSort::CreatedAt,
        F::UpdatedAt => PortSort::UpdatedAt,
        F::Address => PortSort::Address,
        F::NodeUuid => PortSort::NodeUuid,
        F::PxeEnabled => PortSort::PxeEnabled,
        F::PortgroupUuid => PortSort::PortgroupUuid,
        F::PhysicalNetwork => PortSort::PhysicalNetwork,
        F::IsSmartnic => PortSort::IsSmartnic,
        F::Name => PortSort::Name,
        F::Description => PortSort::Description,
        F::Vendor => PortSort::Vendor,
        F::Category => PortSort::Category,
        F::AvailableForDynamicPortgroup => PortSort::AvailableForDynamicPortgroup,
        _ => return Err(Fault::invalid("Ports cannot be sorted by this field.")),
    })
}
