//! Creating, patching and deleting nodes, and maintenance: writes of the owner's columns under their revision.

use std::time::{Duration, Instant};

use bessemer_db::{DbError, NodeNew, Queue};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    node::{Node, NodeSpec, NodeStatus},
    state::ProvisionState,
};

use super::{
    chassis, interfaces,
    node_doc::{self, Draft, check_boot_mode, interface_key},
    node_rules::{self, check_name},
    node_view::NodeView,
};
use crate::{
    patch::Patch,
    policy::{Policy, Target, linked_node},
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req, is_loose_name},
    version::{Behaviour, fields::NodeField},
};

/// How long a request waits for others that write the same node before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a write is tried again after another process wrote the same node.
const PAUSE: Duration = Duration::from_millis(5);

/// The id of a parent named by UUID or name, for a node of this owner.
async fn parent(api: &Api, req: &Req, draft: &Draft, owner: Option<&str>) -> Result<Option<NodeId>, Fault> {
    let Some(ident) = &draft.parent else { return Ok(None) };
    if parse_uuid(ident).is_none() && !is_loose_name(ident) {
        return Err(Fault::invalid("\"parent_node\" must be the UUID or name of a node."));
    }
    Ok(Some(linked_node(api, req, "parent_node", ident, owner).await?.id))
}

async fn view(api: &Api, req: &Req, node: &Node, written: bool, created: Option<String>) -> Result<Reply, Fault> {
    let conductors = api.ring.conductors().await?;
    let conductor = conductors.host_of(node);
    let view = NodeView {
        node,
        fields: req.version.visible::<NodeField>(),
        version: req.version,
        base: &req.base,
        conductor,
        reserved_by: if written { conductor } else { None },
        hidden: req.rights.hidden(node),
    };
    match created {
        Some(location) => Reply::created(&view, location),
        None => Reply::ok(&view),
    }
}

/// The owner of a new node. A caller of a project who makes a node of their own is its owner; without projects nobody can be.
fn owner_of_new(req: &Req, asked: Option<String>) -> Result<Option<String>, Fault> {
    let own = req.rights.own_nodes() && req.rights.may(Policy::NodeCreateSelfOwnedNode, Target::default());
    if !own || req.rights.caller.system_scope.is_some() {
        return Ok(asked);
    }
    if asked.as_ref().is_some_and(|o| !o.is_empty()) && asked != req.cx.project {
        return Err(Fault::invalid("\"owner\" of a new node must be the project of the caller; set it afterwards."));
    }
    Ok(req.cx.project.clone())
}

/// `secure_boot` of a new node: of texts, every one but the empty one counts as true.
fn secure_boot(given: Option<&Json>) -> Result<Option<bool>, Fault> {
    match given {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Bool(b)) => Ok(Some(*b)),
        Some(Json::String(s)) => Ok(Some(!s.is_empty())),
        Some(_) => Err(Fault::invalid("\"secure_boot\" must be a boolean.")),
    }
}

/// `POST /v1/nodes`.
pub(crate) async fn create(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let body = req.body.object()?;
    req.version.check_create::<NodeField>(body.keys().map(String::as_str))?;
    let id = match body.get("uuid") {
        None | Some(Json::Null) => NodeId::random(),
        Some(v) => NodeId(v.as_str().and_then(parse_uuid).ok_or_else(|| Fault::invalid("\"uuid\" must be a UUID."))?),
    };
    node_doc::Doc(&body).not_null(&["console_enabled", "maintenance", "properties"])?;
    let console_enabled = node_doc::Doc(&body).bool("console_enabled")?.unwrap_or(false);
    let boot_mode = node_doc::Doc(&body).long_text("boot_mode")?;
    let secure_boot = secure_boot(body.get("secure_boot"))?;

    let mut draft = node_doc::read(&body, NodeSpec::default())?;
    draft.spec.disable_power_off.get_or_insert(false);
    draft.spec.owner = owner_of_new(req, draft.spec.owner.take())?;
    draft.spec.parent_node = parent(api, req, &draft, draft.spec.owner.as_deref()).await?;
    let Draft { mut spec, interfaces: chosen, .. } = draft;
    if let Some(name) = &spec.name {
        check_name(name, req.version)?;
    }
    if let Some(c) = spec.chassis_uuid {
        chassis::must_exist(api, c, FaultKind::InvalidParameterValue).await?;
    }
    check_boot_mode(&spec.properties, &api.config.disallowed_enrollment_boot_modes)?;
    if body.get("conductor_group").is_none_or(Json::is_null) {
        spec.conductor_group.clone_from(&api.config.default_conductor_group);
    }
    if spec.resource_class.as_deref().is_none_or(str::is_empty) {
        spec.resource_class.clone_from(&api.config.default_resource_class);
    }
    node_rules::name_instance(&mut spec);
    spec.interfaces = interfaces::offer(api, &spec.conductor_group, &spec.driver).await?.complete(&chosen)?;

    let available = req.version.has(Behaviour::CreateAvailable);
    let mut status = NodeStatus::new(if available { ProvisionState::Available } else { ProvisionState::Enroll });
    // Remembered as told; the conductor's own look at the machine replaces it.
    (status.console_enabled, status.boot_mode, status.secure_boot) = (console_enabled, boot_mode, secure_boot);
    let node = api.store.node_create(NodeNew { id, spec, status, traits: vec![], history: vec![], events: vec![] }).await?;
    api.conductor.node_changed(node.id);
    let location = format!("{}/v1/nodes/{}", req.base, node.id);
    view(api, req, &node, false, Some(location)).await
}

/// `PATCH /v1/nodes/{ident}`.
pub(crate) async fn patch(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["reset_interfaces"])?;
    let patch = Patch::parse::<NodeField>(&req.body.json()?, req.version, &[])?;
    let reset = req.query.bool("reset_interfaces")?;
    if reset.is_some() && !req.version.has(Behaviour::ResetInterfaces) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"reset_interfaces\" needs a newer API version."));
    }
    if reset == Some(true) && !patch.assigns("driver") {
        return Err(Fault::invalid("\"reset_interfaces\" goes with a change of \"/driver\" only."));
    }
    let mut node = api.node_of_path(req).await?;
    let id = node.id;
    let until = Instant::now() + PATIENCE;
    // Requests of this process stand in line; those of others, and conductors, are noticed by the revision.
    let _turn = api.store.turn(id, Queue::Spec, PATIENCE).await.ok_or_else(|| busy(id))?;
    loop {
        let spec = patched(api, req, &patch, reset == Some(true), &node).await?;
        let done = api.store.node_update_spec(id, node.revision, spec, Some(node.status.provision_state)).await;
        match done {
            Err(DbError::RevisionLost { .. } | DbError::StateChanged { .. }) => node = again(api, id, until).await?,
            Err(e) => return Err(e.into()),
            Ok(_) => {
                api.conductor.node_changed(id);
                let node = api.store.node_get(id).await?;
                return view(api, req, &node, true, None).await;
            }
        }
    }
}

fn busy(id: NodeId) -> Fault {
    let text = format!("Node {id} was changed by others all the {} seconds that this request waited; repeat it.", PATIENCE.as_secs());
    Fault::new(FaultKind::NodeLocked, text)
}

/// The node after somebody else wrote it, for another try.
async fn again(api: &Api, id: NodeId, until: Instant) -> Result<Node, Fault> {
    if Instant::now() >= until {
        return Err(busy(id));
    }
    tokio::time::sleep(PAUSE).await;
    Ok(api.store.node_get(id).await?)
}

/// What the patch makes of the owner's columns of this node.
async fn patched(api: &Api, req: &Req, patch: &Patch, reset: bool, node: &Node) -> Result<NodeSpec, Fault> {
    node_rules::check_patchable(node, patch, req.version)?;
    if let Some(a) = node.allocation.filter(|_| patch.touches("owner")) {
        node_rules::check_allocated_owner(node, api.store.allocation_get(&a.to_string()).await.ok().as_ref())?;
    }
    let mut doc: JsonMap = node_doc::document(&node.spec);
    let driver = doc.get("driver").cloned();
    patch.apply(&mut doc)?;
    if reset && doc.get("driver") != driver.as_ref() {
        for kind in bessemer_model::interface::InterfaceKind::ALL {
            let key = interface_key(*kind);
            if !patch.touches(&key) {
                doc.remove(&key);
            }
        }
    }
    if doc.get("maintenance").is_none_or(Json::is_null) {
        return Err(Fault::invalid("\"/maintenance\" must be true or false; it cannot be removed."));
    }
    let mut draft = node_doc::read(&doc, node.spec.clone())?;
    if patch.assigns("parent_node") && draft.parent.is_none() {
        return Err(Fault::invalid("\"/parent_node\" must be the UUID or name of a node; remove it to have none."));
    }
    draft.spec.parent_node =
        if patch.touches("parent_node") { parent(api, req, &draft, node.spec.owner.as_deref()).await? } else { node.spec.parent_node };
    let Draft { mut spec, interfaces: chosen, .. } = draft;
    let provisioned = node.status.provision_state == ProvisionState::Active && patch.assigns("owner");
    if provisioned && !req.rights.may(Policy::NodeUpdateOwnerProvisioned, Target::node(node)) {
        return Err(Fault::new(FaultKind::InvalidState, format!("The owner of node {} cannot change while it is active.", node.id)));
    }
    node_rules::settle_patch(node, &mut spec, patch, req.version, &api.config.disallowed_enrollment_boot_modes)?;

    if let Some(c) = spec.chassis_uuid.filter(|c| node.spec.chassis_uuid != Some(*c)) {
        chassis::must_exist(api, c, FaultKind::InvalidParameterValue).await?;
    }

    let moved = spec.driver != node.spec.driver || spec.conductor_group != node.spec.conductor_group;
    let chosen_names = || chosen.iter().map(|(kind, name)| (*kind, name.as_str()));
    if moved || chosen_names().ne(node.spec.interfaces.iter()) {
        // A state that forbids the change is told before an implementation that does not exist.
        if spec.driver == node.spec.driver {
            node_rules::check_interfaces(node, chosen_names())?;
        }
        spec.interfaces = interfaces::offer(api, &spec.conductor_group, &spec.driver).await?.complete(&chosen)?;
        node_rules::check_interfaces(node, spec.interfaces.iter())?;
    }
    Ok(spec)
}

/// `DELETE /v1/nodes/{ident}`.
pub(crate) async fn delete(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    node_rules::check_delete(&node, api.config.allow_deleting_available_nodes)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match api.store.node_delete(node.id).await {
            // A short task holds it: what it holds it for may also change whether it may go.
            Err(DbError::Locked { .. }) if Instant::now() < until => {
                let node = again(api, node.id, until).await?;
                node_rules::check_delete(&node, api.config.allow_deleting_available_nodes)?;
            }
            done => break done?,
        }
    }
    api.conductor.node_changed(node.id);
    Ok(Reply::no_content())
}

/// Changes the owner's columns in any state, again and again until nobody else wrote meanwhile.
pub(crate) async fn rewrite(api: &Api, mut node: Node, change: impl Fn(&mut NodeSpec)) -> Result<(), Fault> {
    let id = node.id;
    let until = Instant::now() + PATIENCE;
    let _turn = api.store.turn(id, Queue::Spec, PATIENCE).await.ok_or_else(|| busy(id))?;
    loop {
        let mut spec = node.spec.clone();
        change(&mut spec);
        match api.store.node_update_spec(id, node.revision, spec, None).await {
            Ok(_) => {
                api.conductor.node_changed(id);
                return Ok(());
            }
            Err(DbError::RevisionLost { .. }) => node = again(api, id, until).await?,
            Err(e) => return Err(e.into()),
        }
    }
}

/// `PUT /v1/nodes/{ident}/maintenance`.
pub(crate) async fn maintenance_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["reason"])?;
    let reason = args.text("reason")?.map(str::to_owned);
    let node = api.node_of_path(req).await?;
    rewrite(api, node, |s| {
        s.maintenance = true;
        s.maintenance_reason.clone_from(&reason);
    })
    .await?;
    Ok(Reply::accepted())
}

/// `DELETE /v1/nodes/{ident}/maintenance`.
pub(crate) async fn maintenance_clear(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    rewrite(api, node, |s| {
        s.maintenance = false;
        s.maintenance_reason = None;
        s.fault = None;
    })
    .await?;
    Ok(Reply::accepted())
}
