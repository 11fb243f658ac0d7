//! Reading nodes: lists (`api.md` section 3.2) and one node.

use std::sync::Arc;

use bessemer_db::{Children, NodeFilter, NodePage, NodeSort};
use bessemer_model::{
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::InterfaceKind,
    node::{Node, NodeFault},
    state::ProvisionState,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{chassis, node_view::NodeView};
use crate::{
    listing::{Listing, PAGING, detailed, fields_of_one, short},
    policy::{Rights, visible_node},
    query::{Query, parse_uuid},
    reply::Reply,
    request::{Api, Req},
    ring::Conductors,
    version::{FieldSet, Version, fields::NodeField, table::Listed},
};

/// Fields of the short list, in the order that links to the next page name them.
const SHORT: &[NodeField] = &[
    NodeField::InstanceUuid,
    NodeField::Maintenance,
    NodeField::PowerState,
    NodeField::ProvisionState,
    NodeField::Uuid,
    NodeField::Name,
    NodeField::Links,
];

/// Filters that are booleans.
const FLAGS: &[&str] = &["associated", "maintenance", "retired", "sharded", "include_children"];

/// Query parameters that narrow its lists.
pub(crate) const FILTERS: &[&str] = &[
    "instance_uuid",
    "instance_name",
    "chassis_uuid",
    "associated",
    "maintenance",
    "provision_state",
    "driver",
    "resource_class",
    "fault",
    "conductor_group",
    "conductor",
    "owner",
    "lessee",
    "project",
    "description_contains",
    "retired",
    "shard",
    "sharded",
    "include_children",
    "parent_node",
];

/// `GET /v1/nodes` and its detail.
pub(crate) async fn list(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    let chassis = req.query.uuid("chassis_uuid")?;
    collection(api, req, detail, chassis).await
}

/// `GET /v1/chassis/{uuid}/nodes` and its detail.
pub(crate) async fn list_of_chassis(api: &Api, req: &Req, detail: bool) -> Result<Reply, Fault> {
    check_query(req, detail)?;
    let chassis = parse_uuid(req.param(0)).ok_or_else(|| Fault::invalid("Expected the UUID of a chassis."))?;
    collection(api, req, detail, Some(chassis)).await
}

fn check_query(req: &Req, detail: bool) -> Result<(), Fault> {
    let form: &[&str] = if detail { &[] } else { &["fields", "detail"] };
    req.query.only(&[FILTERS, PAGING, form].concat())?;
    // Refused for what they are before they are refused as too new. The detailed list takes any word for `include_children`.
    FLAGS.iter().filter(|k| !(detail && **k == "include_children")).try_for_each(|k| req.query.bool(k).map(drop))
}

/// Links to next pages lead to the list of all nodes, as in the contract.
async fn collection(api: &Api, req: &Req, detail: bool, chassis: Option<uuid::Uuid>) -> Result<Reply, Fault> {
    let (shown, path) = if detail { (detailed(req), "nodes/detail") } else { (short(req, SHORT)?, "nodes") };
    let (q, v) = (&req.query, req.version);
    v.check_query(Listed::Nodes, q.names())?;
    if !detail {
        v.check_query(Listed::NodesInShort, q.names())?;
    }
    let listing = Listing::read(api, req, shown, "id")?;
    let mut page: NodePage = listing.page(req, sort_column)?;
    let filter = filter(api, req, detail, chassis).await?;

    let conductors = api.ring.conductors().await?;
    // One instance is on one node: such a list has no pages.
    if filter.instance_uuid.is_some() {
        page.marker = None;
    }
    let mut nodes = api.store.node_list(&filter, &page).await?;
    if let Some(host) = q.get("conductor") {
        nodes.retain(|n| conductors.host_of(n) == Some(host));
    }

    let mut echoed = Vec::new();
    for name in ["associated", "maintenance", "retired"] {
        if q.bool(name) == Ok(Some(true)) {
            echoed.push((name, "True".to_owned()));
        }
    }
    let last = nodes.last().filter(|_| filter.instance_uuid.is_none()).map(|n| n.id);
    let next = listing.next(req, path, &echoed, nodes.len(), last);
    let length = nodes.len() * listing.shown.set.count() * BYTES_PER_FIELD;
    let all = Collection {
        nodes: &nodes,
        next,
        fields: listing.shown.set,
        version: v,
        base: &req.base,
        conductors: &conductors,
        rights: &req.rights,
    };
    Reply::ok_of_about(length, &all)
}

/// Of a node in a list, with its name: links are long, the rest is short.
const BYTES_PER_FIELD: usize = 40;

struct Collection<'a> {
    nodes: &'a [Node],
    next: Option<String>,
    fields: FieldSet<NodeField>,
    version: Version,
    base: &'a str,
    conductors: &'a Arc<Conductors>,
    rights: &'a Rights,
}

struct Rows<'a>(&'a Collection<'a>);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let c = self.0;
        let needs_conductor = c.fields.has(NodeField::Conductor) || c.fields.has(NodeField::Reservation);
        s.collect_seq(c.nodes.iter().map(|node| NodeView {
            node,
            fields: c.fields,
            version: c.version,
            base: c.base,
            conductor: if needs_conductor { c.conductors.host_of(node) } else { None },
            reserved_by: None,
            hidden: c.rights.hidden(node),
        }))
    }
}

impl Serialize for Collection<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        m.serialize_entry("nodes", &Rows(self))?;
        if let Some(next) = &self.next {
            m.serialize_entry("next", next)?;
        }
        m.end()
    }
}

/// `GET /v1/nodes/{ident}`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["fields"])?;
    let mut node = api.node_of_path(req).await?;
    let fields = fields_of_one(req)?;
    if req.rights.sees_passwords() {
        node = api.store.node_get_with_secrets(node.id).await?;
    }
    let conductors = api.ring.conductors().await?;
    Reply::ok(&NodeView {
        node: &node,
        fields,
        version: req.version,
        base: &req.base,
        conductor: conductors.host_of(&node),
        reserved_by: None,
        hidden: req.rights.hidden(&node),
    })
}

/// The parent that a list names. Whether there is such a node is not told: a caller sees children of its own whoever has the parent, and
/// of a parent that does not exist there are none.
async fn parent(api: &Api, req: &Req, ident: &str) -> Result<NodeId, Fault> {
    match parse_uuid(ident) {
        Some(u) => Ok(NodeId(u)),
        None => match visible_node(api, req, ident).await {
            // What cannot be a node has no children either.
            Err(f) if matches!(f.kind, FaultKind::NodeNotFound | FaultKind::InvalidParameterValue) => Ok(NodeId(uuid::Uuid::nil())),
            found => Ok(found?.id),
        },
    }
}

/// Which nodes the query asks for.
async fn filter(api: &Api, req: &Req, detail: bool, chassis_uuid: Option<uuid::Uuid>) -> Result<NodeFilter, Fault> {
    let q: &Query = &req.query;
    let children = match q.get("parent_node") {
        Some(ident) => Children::Of(parent(api, req, ident).await?),
        None if detail && q.get("include_children").is_some_and(|v| !v.is_empty()) => Children::All,
        None if !detail && q.bool("include_children")? == Some(true) => Children::All,
        None => Children::TopOnly,
    };
    let state = |s: &str| ProvisionState::parse(s).ok_or_else(|| Fault::invalid(format!("Provision state \"{s}\" is not valid.")));
    let fault = |s: &str| NodeFault::parse(s).ok_or_else(|| Fault::invalid(format!("Unrecognized fault \"{s}\" is specified.")));
    if let Some(c) = chassis_uuid {
        chassis::must_exist(api, c, FaultKind::NotFound).await?;
    }
    let instance_uuid = q.uuid("instance_uuid")?;
    Ok(NodeFilter {
        instance_uuid,
        instance_name: q.text("instance_name"),
        chassis_uuid,
        associated: q.bool("associated")?,
        maintenance: q.bool("maintenance")?,
        provision_states: q.get("provision_state").map(state).transpose()?.into_iter().collect(),
        driver: q.text("driver"),
        resource_class: q.text("resource_class"),
        fault: q.get("fault").map(fault).transpose()?,
        conductor_group: q.text("conductor_group").map(|g| g.to_lowercase()),
        owner: q.text("owner"),
        lessee: q.text("lessee"),
        project: req.narrow.project().map(str::to_owned).or_else(|| q.text("project")),
        description_contains: q.text("description_contains"),
        retired: q.bool("retired")?,
        shards: q.list("shard").unwrap_or_default(),
        sharded: q.bool("sharded")?,
        reserved: None,
        // An instance is found wherever it is.
        children: if instance_uuid.is_some() { Children::All } else { children },
        // No shard at all is the shard of no node.
        ids: q.list("shard").filter(Vec::is_empty).map(|_| vec![]),
    })
}

/// The column behind a sortable field.
fn sort_column(f: NodeField) -> Option<NodeSort> {
    use NodeField as F;
    use NodeSort as S;
    Some(match f {
        F::Uuid => S::Uuid,
        F::CreatedAt => S::CreatedAt,
        F::UpdatedAt => S::UpdatedAt,
        F::Name => S::Name,
        F::Driver => S::Driver,
        F::InstanceUuid => S::InstanceUuid,
        F::InstanceName => S::InstanceName,
        F::PowerState => S::PowerState,
        F::TargetPowerState => S::TargetPowerState,
        F::ProvisionState => S::ProvisionState,
        F::TargetProvisionState => S::TargetProvisionState,
        F::ProvisionUpdatedAt => S::ProvisionUpdatedAt,
        F::LastError => S::LastError,
        F::Maintenance => S::Maintenance,
        F::MaintenanceReason => S::MaintenanceReason,
        F::Fault => S::Fault,
        F::Reservation => S::Reservation,
        F::ConsoleEnabled => S::ConsoleEnabled,
        F::InspectionStartedAt => S::InspectionStartedAt,
        F::InspectionFinishedAt => S::InspectionFinishedAt,
        F::ResourceClass => S::ResourceClass,
        F::NetworkInterface => S::Interface(InterfaceKind::Network),
        F::BootInterface => S::Interface(InterfaceKind::Boot),
        F::ConsoleInterface => S::Interface(InterfaceKind::Console),
        F::DeployInterface => S::Interface(InterfaceKind::Deploy),
        F::InspectInterface => S::Interface(InterfaceKind::Inspect),
        F::ManagementInterface => S::Interface(InterfaceKind::Management),
        F::PowerInterface => S::Interface(InterfaceKind::Power),
        F::RaidInterface => S::Interface(InterfaceKind::Raid),
        F::VendorInterface => S::Interface(InterfaceKind::Vendor),
        F::StorageInterface => S::Interface(InterfaceKind::Storage),
        F::RescueInterface => S::Interface(InterfaceKind::Rescue),
        F::BiosInterface => S::Interface(InterfaceKind::Bios),
        F::FirmwareInterface => S::Interface(InterfaceKind::Firmware),
        F::ConductorGroup => S::ConductorGroup,
        F::AutomatedClean => S::AutomatedClean,
        F::Protected => S::Protected,
        F::ProtectedReason => S::ProtectedReason,
        F::Owner => S::Owner,
        F::Description => S::Description,
        F::Retired => S::Retired,
        F::RetiredReason => S::RetiredReason,
        F::Lessee => S::Lessee,
        F::BootMode => S::BootMode,
        F::SecureBoot => S::SecureBoot,
        F::Shard => S::Shard,
        F::ParentNode => S::ParentNode,
        F::DisablePowerOff => S::DisablePowerOff,
        F::Health => S::Health,
        _ => return None,
    })
}
