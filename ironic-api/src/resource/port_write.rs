//! Creating, patching and deleting ports (`api.md` section 4).

use bessemer_db::DbError;
use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortId},
    node::Node,
    port::{Mac, Port},
    state::ProvisionState as P,
};
use serde_json::json;

use super::{
    node_doc::Doc,
    port::{VTEP, parse_address, port_of_path},
};
use crate::{
    listing,
    patch::Patch,
    policy::linked_node,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, Version, fields::PortField},
};

/// Attributes that decide which network a machine boots from.
const CONNECTIVITY: &[&str] = &["portgroup_uuid", "pxe_enabled", "local_link_connection", "physical_network"];

/// How a body names its node.
fn named_node(doc: &JsonMap) -> Result<String, Fault> {
    let d = Doc(doc);
    match (d.text("node_uuid", 255)?, d.text("node_ident", 255)?) {
        (Some(u), None) => {
            parse_uuid(&u).ok_or_else(|| Fault::invalid("\"node_uuid\" must be the UUID of a node."))?;
            Ok(u)
        }
        (None, Some(i)) => Ok(i),
        (Some(_), Some(_)) => Err(Fault::invalid("Give either \"node_uuid\" or \"node_ident\".")),
        (None, None) => Err(Fault::missing("A port needs \"node_uuid\".")),
    }
}

/// The node that a body names.
async fn owner(api: &Api, doc: &JsonMap) -> Result<Node, Fault> {
    let ident = named_node(doc)?;
    match api.store.node_get_by_ident(&ident).await {
        Ok(n) => Ok(n),
        Err(DbError::NotFound { .. }) => Err(Fault::invalid(format!("Node {ident} could not be found."))),
        Err(e) => Err(e.into()),
    }
}

/// Reads a document into a port; what it does not hold stays or gets its default.
fn read(doc: &JsonMap, mut port: Port, version: Version) -> Result<Port, Fault> {
    let d = Doc(doc);
    port.address = parse_address(&d.text("address", 64)?.ok_or_else(|| Fault::missing("A port needs \"address\"."))?)?;
    port.extra = d.object("extra")?;
    port.local_link_connection = link(d.object("local_link_connection")?, version)?;
    port.pxe_enabled = d.bool("pxe_enabled")?.unwrap_or(true);
    port.is_smartnic = d.bool("is_smartnic")?.unwrap_or(false);
    port.physical_network = d.text("physical_network", 64)?;
    if port.physical_network.as_deref() == Some("") {
        return Err(Fault::invalid("\"physical_network\" must not be empty."));
    }
    port.name = d.text("name", 255)?;
    port.description = d.text("description", 255)?;
    port.vendor = d.text("vendor", 32)?;
    port.category = d.text("category", 80)?;
    port.available_for_dynamic_portgroup = d.bool("available_for_dynamic_portgroup")?.unwrap_or(true);
    if let Some(g) = d.uuid("portgroup_uuid")? {
        return Err(Fault::invalid(format!("Portgroup {g} could not be found.")));
    }
    let link_has = |k: &str| port.local_link_connection.contains_key(k);
    if port.is_smartnic && !(link_has("port_id") && link_has("hostname")) {
        return Err(Fault::invalid("A smart NIC needs \"port_id\" and \"hostname\" in \"local_link_connection\"."));
    }
    Ok(port)
}

/// Checks `local_link_connection` and puts switch ids in lower case.
fn link(mut m: JsonMap, version: Version) -> Result<JsonMap, Fault> {
    let bad = |what: &str| Fault::invalid(format!("\"local_link_connection\": {what}."));
    if m.is_empty() {
        return Ok(m);
    }
    for (k, v) in &m {
        match k.as_str() {
            "port_id" | "switch_id" | "hostname" | "switch_info" => {}
            "network_type" if !version.has(Behaviour::LinkNetworkType) => {
                return Err(Fault::new(FaultKind::NotAcceptable, "\"network_type\" needs a newer API version."));
            }
            "network_type" if matches!(v.as_str(), Some("managed" | "unmanaged")) => {}
            "network_type" => return Err(bad("\"network_type\" must be managed or unmanaged")),
            k if VTEP.contains(&k) && version.has(Behaviour::LinkVtep) => {}
            _ => return Err(bad(&format!("\"{k}\" is not known"))),
        }
        if !v.is_string() {
            return Err(bad(&format!("\"{k}\" must be text")));
        }
    }
    let has = |k: &str| m.contains_key(k);
    let complete = (has("port_id") && (has("switch_id") || has("hostname") || VTEP.iter().all(|k| has(k))))
        || m.get("network_type").and_then(Json::as_str) == Some("unmanaged");
    if !complete {
        return Err(bad("\"port_id\" with \"switch_id\" or \"hostname\" is needed"));
    }
    if let Some(id) = m.get("switch_id").and_then(Json::as_str).map(str::to_lowercase) {
        let datapath = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if id.parse::<Mac>().is_err() && !datapath {
            return Err(bad("\"switch_id\" must be a MAC address or an OpenFlow datapath id"));
        }
        m.insert("switch_id".into(), id.into());
    }
    Ok(m)
}

fn blank(id: PortId, node: NodeId) -> Port {
    Port {
        id,
        seq: 0,
        revision: 0,
        created_at: Timestamp(0),
        updated_at: None,
        node,
        address: String::new(),
        name: None,
        extra: JsonMap::new(),
        internal_info: JsonMap::new(),
        local_link_connection: JsonMap::new(),
        pxe_enabled: true,
        portgroup: None,
        physical_network: None,
        is_smartnic: false,
        description: None,
        vendor: None,
        category: None,
        available_for_dynamic_portgroup: true,
    }
}

/// `POST /v1/ports`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    let by_ident = body.contains_key("node_ident");
    if by_ident && !req.version.has(Behaviour::PortNodeIdent) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"node_ident\" needs a newer API version."));
    }
    req.version.check_create::<PortField>(body.keys().map(String::as_str).filter(|k| *k != "node_ident"))?;
    let id = Doc(&body).uuid("uuid")?.map_or_else(PortId::random, PortId);
    // The node is looked up last: a body that is wrong in itself is refused without asking the store.
    let mut port = read(&body, blank(id, NodeId(uuid::Uuid::nil())), req.version)?;
    port.node = owner(api, &body).await?.id;
    let port = api.store.port_create(port).await?;
    api.conductor.node_changed(port.node);
    listing::created(req, &port)
}

fn document(p: &Port) -> JsonMap {
    let mut m = JsonMap::new();
    let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
    put("address", json!(p.address));
    put("node_uuid", json!(p.node));
    put("extra", Json::Object(p.extra.clone()));
    put("local_link_connection", Json::Object(p.local_link_connection.clone()));
    put("pxe_enabled", json!(p.pxe_enabled));
    put("portgroup_uuid", json!(p.portgroup));
    put("physical_network", json!(p.physical_network));
    put("is_smartnic", json!(p.is_smartnic));
    put("name", json!(p.name));
    put("description", json!(p.description));
    put("vendor", json!(p.vendor));
    put("category", json!(p.category));
    put("available_for_dynamic_portgroup", json!(p.available_for_dynamic_portgroup));
    m
}

/// `PATCH /v1/ports/{ident}`.
pub(crate) async fn patch(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let patch = Patch::parse::<PortField>(&req.body.json()?, req.version, &["node_ident"])?;
    if patch.touches("node_ident") && !req.version.has(Behaviour::PortNodeIdent) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"/node_ident\" needs a newer API version."));
    }
    let port = port_of_path(api, req).await?;
    let node = api.store.node_get(port.node).await?;
    if node.status.provision_state == P::Inspecting && req.version.has(Behaviour::InspectingIsLocked) {
        return Err(Fault::new(FaultKind::InvalidState, format!("Node {} is being inspected.", node.id)));
    }
    let mut doc = document(&port);
    if patch.touches("node_ident") {
        doc.insert("node_ident".into(), Json::Null);
    }
    patch.apply(&mut doc)?;
    if patch.assigns("node_ident") {
        doc.remove("node_uuid");
    }
    let mut new = read(&doc, port.clone(), req.version)?;
    new.node = if patch.touches("node_uuid") || patch.touches("node_ident") {
        linked_node(api, req, "node_uuid", &named_node(&doc)?, node.spec.owner.as_deref()).await?.id
    } else {
        port.node
    };
    check_change(&node, &port, &new)?;
    let port = if new == port {
        port
    } else {
        let revision = port.revision;
        let stored = api.store.port_update(new, revision).await?;
        api.conductor.node_changed(stored.node);
        stored
    };
    listing::whole(req, &port)
}

fn check_change(node: &Node, old: &Port, new: &Port) -> Result<(), Fault> {
    let state = node.status.provision_state;
    let refuse = |what: &str| {
        let text = format!("{what} of port {} cannot change while node {} is in state \"{state}\".", old.id, node.id);
        Err(Fault::new(FaultKind::InvalidState, text))
    };
    let in_use = state == P::Active || node.spec.instance_uuid.is_some();
    if old.address != new.address && in_use && !node.spec.maintenance {
        return refuse("The address");
    }
    let settled = node.spec.maintenance || matches!(state, P::Enroll | P::Inspecting | P::InspectWait | P::Manageable);
    if !settled {
        let (was, is) = (document(old), document(new));
        if let Some(k) = CONNECTIVITY.iter().find(|k| was.get(**k) != is.get(**k)) {
            return refuse(&format!("\"{k}\""));
        }
    }
    Ok(())
}

/// `DELETE /v1/ports/{ident}`.
pub(crate) async fn delete(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let port = port_of_path(api, req).await?;
    if port.internal_info.get("tenant_vif_port_id").is_some_and(|v| !v.is_null()) {
        let node = api.store.node_get(port.node).await?;
        if !node.spec.maintenance {
            return Err(Fault::new(FaultKind::InvalidState, format!("Port {} has a VIF attached; detach it first.", port.id)));
        }
    }
    api.store.port_delete(port.id).await?;
    api.conductor.node_changed(port.node);
    Ok(Reply::no_content())
}
