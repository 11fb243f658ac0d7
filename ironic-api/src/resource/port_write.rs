//! Creating, patching and deleting ports (`api.md` section 4).

use bessemer_db::DbError;
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::{NodeId, PortId, PortgroupId},
    node::Node,
    port::Port,
    portgroup::Portgroup,
    state::ProvisionState as P,
};
use serde_json::json;

use super::{
    node_doc::Doc,
    node_link::{self, is_rewirable, refuse_inspecting},
    port::{VTEP, parse_address, port_of_path},
    portgroup_write::{attaches, stands_alone},
};
use crate::{
    listing,
    patch::Patch,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, Version, fields::PortField},
};

/// Attributes that decide which network a machine boots from.
const CONNECTIVITY: &[&str] = &["portgroup_uuid", "pxe_enabled", "local_link_connection", "physical_network"];

/// What names the node in the body of a new port.
fn owner(doc: &JsonMap) -> Result<String, Fault> {
    let d = Doc(doc);
    d.not_null(&["node_uuid", "node_ident", "pxe_enabled"])?;
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

/// Reads a document into a port; what it does not hold stays or gets its default.
fn read(doc: &JsonMap, mut port: Port) -> Result<Port, Fault> {
    let d = Doc(doc);
    port.address = parse_address(&d.text("address", 64)?.ok_or_else(|| Fault::missing("A port needs \"address\"."))?)?;
    port.extra = d.object("extra")?;
    port.local_link_connection = link(d.object("local_link_connection")?)?;
    port.pxe_enabled = d.bool("pxe_enabled")?.unwrap_or(true);
    port.is_smartnic = d.bool("is_smartnic")?;
    port.physical_network = d.text("physical_network", 64)?;
    if port.physical_network.as_deref() == Some("") {
        return Err(Fault::invalid("\"physical_network\" must not be empty."));
    }
    port.name = d.indexed_text("name")?;
    port.description = d.text("description", 255)?;
    port.vendor = d.text("vendor", 32)?;
    port.category = d.text("category", 80)?;
    port.available_for_dynamic_portgroup = match doc.get("available_for_dynamic_portgroup") {
        None => true,
        Some(v) => v.as_bool().ok_or_else(|| Fault::invalid("\"available_for_dynamic_portgroup\" must be true or false."))?,
    };
    port.portgroup = d.uuid("portgroup_uuid")?.map(PortgroupId);
    Ok(port)
}

/// Checks `local_link_connection` and puts switch ids in lower case.
fn link(mut m: JsonMap) -> Result<JsonMap, Fault> {
    let bad = |what: &str| Fault::invalid(format!("\"local_link_connection\": {what}."));
    if m.is_empty() {
        return Ok(m);
    }
    for (k, v) in &m {
        let known =
            matches!(k.as_str(), "port_id" | "switch_id" | "hostname" | "switch_info" | "network_type") || VTEP.contains(&k.as_str());
        if !known {
            return Err(bad(&format!("\"{k}\" is not known")));
        }
        let text = v.as_str().ok_or_else(|| bad(&format!("\"{k}\" must be text")))?;
        if k == "network_type" && !matches!(text, "managed" | "unmanaged") {
            return Err(bad("\"network_type\" must be managed or unmanaged"));
        }
    }
    let has = |k: &str| m.contains_key(k);
    let complete = (has("port_id") && (has("switch_id") || has("hostname") || VTEP.iter().all(|k| has(k))))
        || m.get("network_type").and_then(Json::as_str) == Some("unmanaged");
    if !complete {
        return Err(bad("\"port_id\" with \"switch_id\" or \"hostname\" is needed"));
    }
    if VTEP.iter().any(|k| has(k)) && !VTEP.iter().all(|k| has(k)) {
        return Err(bad("the keys of a VTEP go together"));
    }
    if let Some(id) = m.get("switch_id").and_then(Json::as_str).map(str::to_lowercase) {
        let datapath = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if parse_address(&id).is_err() && !datapath {
            return Err(bad("\"switch_id\" must be a MAC address or an OpenFlow datapath id"));
        }
        m.insert("switch_id".into(), id.into());
    }
    Ok(m)
}

/// Refuses what a new port says in keys that its microversion does not have.
fn check_gates(body: &JsonMap, version: Version) -> Result<(), Fault> {
    let refuse = |k: &str| Err(Fault::new(FaultKind::NotAcceptable, format!("\"{k}\" needs another API version.")));
    version.check_create::<PortField>(body.keys().map(String::as_str).filter(|k| *k != "node_ident"))?;
    let link = body.get("local_link_connection").and_then(Json::as_object);
    let says = |k: &str| link.is_some_and(|l| l.contains_key(k));
    if says("network_type") && !version.has(Behaviour::LinkNetworkType) {
        return refuse("network_type");
    }
    match VTEP.iter().find(|k| says(k)) {
        Some(k) if !version.has(Behaviour::LinkVtep) => refuse(k),
        _ => Ok(()),
    }
}

/// A new smart NIC tells where it is found, if it tells of a link at all.
fn check_smartnic(port: &Port, body: &JsonMap) -> Result<(), Fault> {
    let link = &port.local_link_connection;
    let told = body.get("local_link_connection").is_some_and(|l| !l.is_null());
    if port.is_smartnic == Some(true) && told && !(link.contains_key("port_id") && link.contains_key("hostname")) {
        return Err(Fault::invalid("A smart NIC needs \"port_id\" and \"hostname\" in \"local_link_connection\"."));
    }
    Ok(())
}

/// The group that a body names; that it does not exist is a fault of the body.
async fn group_of(api: &Api, id: Option<PortgroupId>) -> Result<Option<Portgroup>, Fault> {
    let Some(id) = id else { return Ok(None) };
    match api.store.portgroup_get(&id.to_string()).await {
        Ok(g) => Ok(Some(g)),
        Err(DbError::NotFound { .. }) => Err(Fault::invalid(format!("Portgroup {id} could not be found."))),
        Err(e) => Err(e.into()),
    }
}

fn no_standalone(group: &Portgroup, why: &str) -> Fault {
    Fault::new(FaultKind::Conflict, format!("Port group {} does not support standalone ports, but the port {why}.", group.id))
}

/// `POST /v1/ports`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    let by_ident = body.contains_key("node_ident");
    Version::MAX.check_create::<PortField>(body.keys().map(String::as_str).filter(|k| *k != "node_ident"))?;
    let id = Doc(&body).uuid("uuid")?.map_or_else(PortId::random, PortId);
    // A body that is wrong in itself is refused without asking the store, and before a key that is too new.
    let mut port = read(&body, Port::blank(id, NodeId(uuid::Uuid::nil())))?;
    port.is_smartnic.get_or_insert(false);
    let ident = owner(&body)?;
    if by_ident && !req.version.has(Behaviour::PortNodeIdent) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"node_ident\" needs a newer API version."));
    }
    port.node = node_link::of_new(api, &ident).await?.id;
    check_gates(&body, req.version)?;
    check_smartnic(&port, &body)?;
    if let Some(group) = group_of(api, port.portgroup).await? {
        if group.node != port.node {
            return Err(Fault::invalid(format!("Port group {} is of another node.", group.id)));
        }
        // Only who asks for it hears of it: a port that says nothing may join and is booted from.
        if !group.standalone_ports_supported && Doc(&body).bool("pxe_enabled")? == Some(true) {
            return Err(no_standalone(&group, "has \"pxe_enabled\" true"));
        }
    }
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
    if patch.0.iter().any(|o| o.path == ["local_link_connection", "network_type"]) && !req.version.has(Behaviour::LinkNetworkType) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"network_type\" needs a newer API version."));
    }
    let port = port_of_path(api, req).await?;
    let mut doc = document(&port);
    patch.apply(&mut doc)?;
    let old_node = api.store.node_get(port.node).await?;
    let node = node_link::patched(api, req, old_node.clone(), &patch, doc.get("node_uuid")).await?;
    let mut new = read(&doc, port.clone())?;
    new.node = node.id;
    let group = group_of(api, new.portgroup).await?;
    refuse_inspecting(req, &node)?;
    if patch.touches("physical_network") && group.is_some() && req.version.has(Behaviour::GroupNetwork) {
        return Err(Fault::invalid("\"physical_network\" of a port in a port group cannot change; change that of the group."));
    }
    check_change(&node, &port, &new)?;
    if let Some(group) = &group {
        check_membership(api, &node, &port, &new, group).await?;
    }
    let port = if new == port {
        port
    } else {
        let stored = api.store.port_update(new, port.revision).await?;
        api.conductor.node_changed(port.node);
        api.conductor.node_changed(stored.node);
        stored
    };
    listing::whole(req, &port)
}

/// Rules of a port that is in a group, or will be.
async fn check_membership(api: &Api, node: &Node, old: &Port, new: &Port, group: &Portgroup) -> Result<(), Fault> {
    if old.node != new.node && old.portgroup == new.portgroup {
        return Err(Fault::invalid(format!("Port {} is in a port group of its node; take it out before it goes to another.", old.id)));
    }
    if old.portgroup != new.portgroup && group.node != new.node {
        // A group must not be held by ports that its owner cannot see.
        let other = api.store.node_get(group.node).await?;
        if other.spec.owner != node.spec.owner {
            return Err(Fault::invalid(format!("Portgroup {} could not be found.", group.id)));
        }
    }
    let joins = old.portgroup != new.portgroup || old.pxe_enabled != new.pxe_enabled || new.vif().is_some();
    if joins && !group.standalone_ports_supported && attaches(node) {
        return stands_alone(new).map_or(Ok(()), |why| Err(no_standalone(group, why)));
    }
    Ok(())
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
    if !is_rewirable(node) {
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
    if parse_uuid(req.param(0)).is_none() {
        return Err(Fault::invalid("Expected the UUID of a port: names are not enough to delete it."));
    }
    let port = port_of_path(api, req).await?;
    if port.vif().is_some() {
        let node = api.store.node_get(port.node).await?;
        if !node.spec.maintenance {
            return Err(Fault::new(FaultKind::InvalidState, format!("Port {} has a VIF attached; detach it first.", port.id)));
        }
    }
    api.store.port_delete(port.id).await?;
    api.conductor.node_changed(port.node);
    Ok(Reply::no_content())
}
