//! Creating, patching and deleting port groups (`api.md` section 5).

use bessemer_db::{PortFilter, PortPage};
use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortgroupId},
    interface::InterfaceKind,
    node::Node,
    port::Port,
    portgroup::Portgroup,
};
use serde_json::json;

use super::{
    node_doc::Doc,
    node_link::{self, is_rewirable, refuse_inspecting},
    port::parse_address,
    portgroup::portgroup_of_path,
};
use crate::{
    listing,
    patch::Patch,
    reply::Reply,
    request::{Api, Req, is_loose_name},
    version::{Version, fields::PortgroupField},
};

/// Network interfaces that attach VIFs to single ports, and so look after `standalone_ports_supported`.
const ATTACHING: &[&str] = &["flat", "neutron"];

/// Reads a document into a port group; what it does not hold gets its default.
fn read(doc: &JsonMap, mut group: Portgroup) -> Result<Portgroup, Fault> {
    let d = Doc(doc);
    group.address = d.text("address", 64)?.as_deref().map(parse_address).transpose()?;
    group.extra = d.object("extra")?;
    group.mode = d.long_text("mode")?;
    // An empty name is taken (and is unique like any other).
    group.name = d.text("name", 255)?;
    if let Some(name) = group.name.as_deref().filter(|n| !n.is_empty() && !is_loose_name(n)) {
        return Err(Fault::invalid(format!("\"{name}\" cannot be the name of a port group.")));
    }
    group.properties = d.object("properties")?;
    group.standalone_ports_supported = d.bool("standalone_ports_supported")?.unwrap_or(true);
    group.physical_network = d.text("physical_network", 64)?;
    group.category = d.text("category", 80)?;
    Ok(group)
}

fn blank(id: PortgroupId) -> Portgroup {
    Portgroup {
        id,
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        node: NodeId(uuid::Uuid::nil()),
        name: None,
        address: None,
        extra: JsonMap::new(),
        internal_info: JsonMap::new(),
        mode: None,
        properties: JsonMap::new(),
        standalone_ports_supported: true,
        physical_network: None,
        category: None,
        dynamic_portgroup: false,
    }
}

/// Whether a value says something; null, an empty object and an empty text do not.
fn says_something(v: &Json) -> bool {
    match v {
        Json::Null => false,
        Json::Object(m) => !m.is_empty(),
        Json::String(s) => !s.is_empty(),
        _ => true,
    }
}

/// `POST /v1/portgroups`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    Version::MAX.check_create::<PortgroupField>(body.keys().map(String::as_str))?;
    let d = Doc(&body);
    let node = d.uuid("node_uuid")?.ok_or_else(|| Fault::missing("A port group needs \"node_uuid\"."))?;
    let id = d.uuid("uuid")?.map_or_else(PortgroupId::random, PortgroupId);
    let mut group = read(&body, blank(id))?;
    // A node that is not there is told before a field that is too new.
    group.node = node_link::of_new(api, &node.to_string()).await?.id;
    let given = body.iter().filter(|(_, v)| says_something(v)).map(|(k, _)| k.as_str());
    req.version.check_create::<PortgroupField>(given)?;
    if group.mode.as_deref().is_none_or(str::is_empty) {
        group.mode = Some(api.config.default_portgroup_mode.clone());
    }
    let group = api.store.portgroup_create(group).await?;
    api.conductor.node_changed(group.node);
    listing::created(req, &group)
}

fn document(g: &Portgroup) -> JsonMap {
    let mut m = JsonMap::new();
    let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
    put("address", json!(g.address));
    put("extra", Json::Object(g.extra.clone()));
    put("mode", json!(g.mode));
    put("name", json!(g.name));
    put("node_uuid", json!(g.node));
    put("properties", Json::Object(g.properties.clone()));
    put("standalone_ports_supported", json!(g.standalone_ports_supported));
    put("physical_network", json!(g.physical_network));
    put("category", json!(g.category));
    m
}

/// `PATCH /v1/portgroups/{ident}`.
pub(crate) async fn patch(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let patch = Patch::parse::<PortgroupField>(&req.body.json()?, req.version, &[])?;
    let old = portgroup_of_path(api, req).await?;
    let mut doc = document(&old);
    patch.apply(&mut doc)?;
    let node = node_link::patched(api, req, api.store.node_get(old.node).await?, &patch, doc.get("node_uuid")).await?;
    if !doc.contains_key("mode") {
        return Err(Fault::invalid("\"/mode\" cannot be removed."));
    }
    let mut new = read(&doc, old.clone())?;
    new.node = node.id;
    refuse_inspecting(req, &node)?;
    check_change(api, &node, &old, &new).await?;
    let group = if new == old {
        old
    } else {
        let stored = api.store.portgroup_update(new, old.revision).await?;
        api.conductor.node_changed(old.node);
        api.conductor.node_changed(stored.node);
        stored
    };
    listing::whole(req, &group)
}

/// Rules that look at the node and at the members.
async fn check_change(api: &Api, node: &Node, old: &Portgroup, new: &Portgroup) -> Result<(), Fault> {
    if old.node != new.node && !is_rewirable(node) {
        let text = format!(
            "Port group {} cannot go to node {} while that is in state \"{}\"; set its maintenance to do it anyway.",
            old.id, node.id, node.status.provision_state
        );
        return Err(Fault::new(FaultKind::InvalidState, text));
    }
    if !old.standalone_ports_supported || new.standalone_ports_supported || !attaches(node) {
        return Ok(());
    }
    let members = PortFilter { portgroup: Some(old.id), ..PortFilter::default() };
    let members = api.store.port_list(&members, &PortPage::all()).await?;
    match members.iter().find_map(|p| Some((p, stands_alone(p)?))) {
        None => Ok(()),
        Some((p, why)) => {
            let text = format!("\"standalone_ports_supported\" cannot become false: port {} {why}.", p.id);
            Err(Fault::new(FaultKind::Conflict, text))
        }
    }
}

/// Whether the node's network interface attaches VIFs to single ports.
pub(super) fn attaches(node: &Node) -> bool {
    ATTACHING.contains(&node.spec.interfaces.get(InterfaceKind::Network))
}

/// Why a port cannot be in a group without support of standalone ports.
pub(super) fn stands_alone(port: &Port) -> Option<&'static str> {
    if port.pxe_enabled {
        return Some("has \"pxe_enabled\" true");
    }
    port.vif().map(|_| "has a VIF attached")
}

/// `DELETE /v1/portgroups/{ident}`.
pub(crate) async fn delete(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let group = portgroup_of_path(api, req).await?;
    api.store.portgroup_delete(group.id).await?;
    api.conductor.node_changed(group.node);
    Ok(Reply::no_content())
}
