//! Asks the policies before a handler runs (`security.md` section 3, "Visibility rules").
//!
//! What the caller may not see does not exist (404); what it may see but not do is refused (403).

use std::sync::atomic::{AtomicBool, Ordering};

use bessemer_db::DbError;
use bessemer_model::{
    Json, boolean,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    portgroup::Portgroup,
    runbook::Runbook,
    volume::{Connector, Target as VolumeTarget},
};

use super::{
    Rights, Target,
    access::{Access, Special, access},
    forbidden,
    table::Policy as P,
};
use crate::{
    body::json_bool,
    query::parse_uuid,
    request::{Api, Req, no_such_node},
    resource::{record::find, volume},
    route::Op,
};

/// What a list must be narrowed to.
#[derive(Debug, Default)]
pub(crate) struct Narrow {
    project: Option<String>,
    asked: AtomicBool,
}

impl Narrow {
    /// The project whose things a list may hold; `None` = everybody's. Every handler of a list asks.
    pub fn project(&self) -> Option<&str> {
        self.asked.store(true, Ordering::Relaxed);
        self.project.as_deref()
    }
    fn forgotten(&self) -> bool {
        self.project.is_some() && !self.asked.load(Ordering::Relaxed)
    }
}

/// Refuses what the caller may not do.
///
/// # Errors
/// `Forbidden`; "not found" for what the caller may not see.
pub(crate) async fn enforce(api: &Api, req: &mut Req, op: Op) -> Result<(), Fault> {
    if !req.rights.enforced() {
        return Ok(());
    }
    let none = Target::default();
    match access(op) {
        Access::Open => {}
        Access::Plain(p) => req.rights.need(p, none)?,
        Access::Node(p) => {
            let node = visible_node(api, req, req.param(0)).await?;
            req.rights.need(p, Target::node(&node))?;
        }
        Access::NodeOfQuery(p) => {
            if let Some(ident) = req.query.get("node").or(req.query.get("node_uuid")) {
                let node = visible_node(api, req, ident).await?;
                req.rights.need(p, Target::node(&node))?;
            }
        }
        Access::NodeOfBody(p) => {
            let node = node_of_body(api, req).await?;
            req.rights.need(p, node.as_ref().map_or(none, Target::node))?;
        }
        Access::Port(p) => {
            let port = crate::resource::port::port_of_path(api, req).await?;
            let node = api.store.node_get(port.node).await?;
            if !req.rights.may(P::NodeGet, Target::node(&node)) {
                let ident: String = req.param(0).chars().take(255).collect();
                return Err(Fault::new(FaultKind::PortNotFound, format!("Port {ident} could not be found.")));
            }
            req.rights.need(p, Target::node(&node))?;
        }
        Access::Connector(p, at) => {
            let ident = req.param(at);
            of_node(req, p, &volume::node_of::<Connector>(api, ident).await?, "Volume connector", ident)?;
        }
        Access::Target(p, at) => {
            let ident = req.param(at);
            of_node(req, p, &volume::node_of::<VolumeTarget>(api, ident).await?, "Volume target", ident)?;
        }
        Access::Allocation(p) => {
            let owner = crate::resource::allocation::of_path(api, req).await?.owner;
            let target = Target::allocation(owner.as_deref());
            if !req.rights.may(P::AllocationGet, target) {
                return Err(not_found("Allocation", req.param(0)));
            }
            req.rights.need(p, target)?;
        }
        Access::Runbook(p) => {
            let r: Runbook = find(api, req, req.param(0)).await?;
            req.rights.need(p, Target::runbook(r.owner.as_deref()))?;
        }
        Access::Special(Special::RunbookShow) => {
            let r: Runbook = find(api, req, req.param(0)).await?;
            if !r.public {
                req.rights.need(P::RunbookGet, Target::runbook(r.owner.as_deref()))?;
            }
        }
        Access::Special(Special::RunbookPatch) => runbook_patch(api, req).await?,
        Access::Portgroup(p, at) => {
            let (_, node) = visible_portgroup(api, req, req.param(at)).await?;
            req.rights.need(p, Target::node(&node))?;
        }
        Access::ListOfPortgroup(all, own) => {
            visible_portgroup(api, req, req.param(0)).await?;
            narrow(req, op, all, own)?;
        }
        Access::List(all, own) => narrow(req, op, all, own)?,
        Access::ListOfNode(all, own) => {
            visible_node(api, req, req.param(0)).await?;
            narrow(req, op, all, own)?;
        }
        Access::Special(Special::NodeCreate) => {
            let own = req.rights.own_nodes() && req.rights.may(P::NodeCreateSelfOwnedNode, none);
            if !own {
                req.rights.need(P::NodeCreate, none)?;
            }
        }
        Access::Special(Special::NodePatch) => node_patch(api, req).await?,
        Access::Special(Special::NodeDelete) => {
            let node = visible_node(api, req, req.param(0)).await?;
            let target = Target::node(&node);
            let own = req.rights.own_nodes() && req.rights.may(P::NodeDeleteSelfOwnedNode, target);
            if !own {
                req.rights.need(P::NodeDelete, target)?;
            }
        }
        Access::Special(Special::Provision) => provision(api, req).await?,
    }
    Ok(())
}

fn not_found(what: &str, ident: &str) -> Fault {
    let ident: String = ident.chars().take(255).collect();
    Fault::new(FaultKind::NotFound, format!("{what} {ident} could not be found."))
}

/// Something of a node: where that is not visible it does not exist, else the policy must hold for the node.
fn of_node(req: &Req, p: P, node: &Node, what: &str, ident: &str) -> Result<(), Fault> {
    if !req.rights.may(P::NodeGet, Target::node(node)) {
        return Err(not_found(what, ident));
    }
    req.rights.need(p, Target::node(node))
}

/// Refuses the answer of a list that was to be narrowed and was not.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn handled(req: &Req, op: Op) -> Result<(), Fault> {
    if req.narrow.forgotten() {
        tracing::error!(?op, "a list was not narrowed to the caller's project; it is withheld");
        return Err(Fault::new(FaultKind::Forbidden, "This list is for callers of the system only."));
    }
    Ok(())
}

/// A node that the caller may see.
pub(crate) async fn visible_node(api: &Api, req: &Req, ident: &str) -> Result<Node, Fault> {
    let node = api.node(req, ident).await?;
    see(&req.rights, &node, ident)?;
    Ok(node)
}

/// The children that steps are to run on: there must be such nodes, and the caller must be allowed to provision each of them.
///
/// # Errors
/// "Not found" for what is not there or not visible, `Forbidden`.
pub(crate) async fn provision_children(api: &Api, req: &Req, children: &[NodeId]) -> Result<(), Fault> {
    for child in children {
        let node = visible_node(api, req, &child.to_string()).await?;
        req.rights.need(P::NodeSetProvisionState, Target::node(&node))?;
    }
    Ok(())
}

/// A port group whose node the caller may see, with that node.
async fn visible_portgroup(api: &Api, req: &Req, ident: &str) -> Result<(Portgroup, Node), Fault> {
    let group = api.store.portgroup_get(ident).await?;
    let node = api.store.node_get(group.node).await?;
    if req.rights.may(P::NodeGet, Target::node(&node)) {
        return Ok((group, node));
    }
    Err(not_found("Portgroup", ident))
}

/// A node that the caller may not see does not exist.
fn see(rights: &Rights, node: &Node, ident: &str) -> Result<(), Fault> {
    if rights.may(P::NodeGet, Target::node(node)) { Ok(()) } else { Err(no_such_node(ident)) }
}

fn narrow(req: &mut Req, op: Op, all: P, own: P) -> Result<(), Fault> {
    let none = Target::default();
    if req.rights.may(all, none) {
        return Ok(());
    }
    let project = req.rights.caller.project_id.clone().ok_or_else(|| forbidden(all.name()))?;
    let owner_is_a_filter = matches!(op, Op::NodeList | Op::NodeDetail | Op::ChassisNodes | Op::ChassisNodesDetail);
    let asked = match op {
        // Here it is a boolean, true being no project of anybody's.
        Op::RunbookList => req.query.get("project").filter(|p| boolean::from_text(p) == Some(true)),
        _ => req.query.get("project").or(req.query.get("owner").filter(|_| !owner_is_a_filter)),
    };
    if asked.is_some_and(|p| p != project) {
        return Err(forbidden(all.name()));
    }
    req.rights.need(own, none)?;
    req.narrow.project = Some(project);
    Ok(())
}

/// The body as JSON; null when it is none: then the handler says what is wrong with it.
fn body(req: &Req) -> Json {
    serde_json::from_slice(&req.body.bytes).unwrap_or_default()
}

/// The node that a new port and its like names. Whether there is one is told only to those who pass the policy.
async fn node_of_body(api: &Api, req: &Req) -> Result<Option<Node>, Fault> {
    let body = body(req);
    let Some(ident) = ["node_ident", "node_uuid"].iter().find_map(|k| body.get(k)?.as_str()) else { return Ok(None) };
    match api.store.node_get_by_ident(ident).await {
        Ok(n) => Ok(Some(n)),
        Err(DbError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The policy of a root attribute of a node; `None` = the general one.
fn policy_of_attribute(root: &str) -> Option<P> {
    Some(match root {
        "instance_info" | "instance_name" => P::NodeUpdateInstanceInfo,
        "extra" => P::NodeUpdateExtra,
        "driver_info" => P::NodeUpdateDriverInfo,
        "properties" => P::NodeUpdateProperties,
        "chassis_uuid" => P::NodeUpdateChassisUuid,
        "instance_uuid" => P::NodeUpdateInstanceUuid,
        "lessee" => P::NodeUpdateLessee,
        "owner" => P::NodeUpdateOwner,
        "driver" => P::NodeUpdateDriverInterfaces,
        "network_data" => P::NodeUpdateNetworkData,
        "conductor_group" => P::NodeUpdateConductorGroup,
        "name" => P::NodeUpdateName,
        "retired" | "retired_reason" => P::NodeUpdateRetired,
        "shard" => P::NodeUpdateShard,
        "parent_node" => P::NodeUpdateParentNode,
        "disable_power_off" => P::NodeUpdateDisablePowerOff,
        _ => {
            let kind = root.strip_suffix("_interface").and_then(InterfaceKind::parse);
            return kind.map(|_| P::NodeUpdateDriverInterfaces);
        }
    })
}

/// The policies that a patch of a node needs, in the order of its operations.
fn policies_of_patch(patch: &Json) -> Vec<P> {
    let mut out: Vec<P> = Vec::new();
    let mut general = false;
    for o in patch.as_array().into_iter().flatten() {
        let path = o.get("path").and_then(Json::as_str).unwrap_or_default();
        let root = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let value = o.get("value");
        let off = value.and_then(json_bool).or_else(|| value.and_then(Json::as_str).and_then(boolean::from_text));
        let policy = match root {
            "automated_clean" if off == Some(false) => Some(P::NodeDisableCleaning),
            root => policy_of_attribute(root),
        };
        match policy {
            Some(p) if out.contains(&p) => {}
            Some(p) => out.push(p),
            None => general = true,
        }
    }
    if general || out.is_empty() {
        out.push(P::NodeUpdate);
    }
    out
}

async fn node_patch(api: &Api, req: &Req) -> Result<(), Fault> {
    let node = visible_node(api, req, req.param(0)).await?;
    policies_of_patch(&body(req)).into_iter().try_for_each(|p| req.rights.need(p, Target::node(&node)))
}

async fn runbook_patch(api: &Api, req: &Req) -> Result<(), Fault> {
    let r: Runbook = find(api, req, req.param(0)).await?;
    let target = Target::runbook(r.owner.as_deref());
    let body = body(req);
    let mut general = true;
    for o in body.as_array().into_iter().flatten() {
        match o.get("path").and_then(Json::as_str).unwrap_or_default().split('/').nth(1) {
            Some("owner") => req.rights.need(P::RunbookUpdateOwner, target)?,
            Some("public") => req.rights.need(P::RunbookUpdatePublic, target)?,
            _ => req.rights.need(P::RunbookUpdate, target)?,
        }
        general = false;
    }
    if general { req.rights.need(P::RunbookUpdate, target) } else { Ok(()) }
}

async fn provision(api: &Api, req: &Req) -> Result<(), Fault> {
    let node = visible_node(api, req, req.param(0)).await?;
    let target = Target::node(&node);
    req.rights.need(P::NodeSetProvisionState, target)?;
    let body = body(req);
    let steps = |key: &str| body.get(key).and_then(Json::as_array).filter(|s| !s.is_empty());
    if steps("clean_steps").is_some() {
        req.rights.need(P::NodeSetProvisionStateCleanSteps, target)?;
    }
    if steps("service_steps").is_some() {
        req.rights.need(P::NodeSetProvisionStateServiceSteps, target)?;
    }
    for step in ["deploy_steps", "clean_steps", "service_steps"].iter().filter_map(|k| steps(k)).flatten() {
        let name = |k: &str| step.get(k).and_then(Json::as_str).unwrap_or_default().to_owned();
        let step = format!("{}.{}", name("interface"), name("step"));
        if !req.rights.may_run_step(&step, target) {
            return Err(forbidden(&format!("{}{step}", super::STEP_PREFIX)));
        }
    }
    Ok(())
}

/// The node that something of `owner` is moved to: visible to the caller, and of the same owner. Nothing else is told about it.
///
/// # Errors
/// `Invalid`, the same for every reason.
pub(crate) async fn linked_node(api: &Api, req: &Req, field: &str, ident: &str, owner: Option<&str>) -> Result<Node, Fault> {
    let refused = || Fault::invalid(format!("The value of \"{field}\" ({}) cannot be used.", ident.chars().take(255).collect::<String>()));
    let found = match parse_uuid(ident) {
        Some(u) => api.store.node_get(NodeId(u)).await,
        None => api.store.node_get_by_ident(ident).await,
    };
    let node = match found {
        Ok(n) => n,
        Err(DbError::NotFound { .. }) => return Err(refused()),
        Err(e) => return Err(e.into()),
    };
    if see(&req.rights, &node, ident).is_err() || node.spec.owner.as_deref() != owner {
        return Err(refused());
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_needs_the_policy_of_each_attribute_and_the_general_one_for_the_rest() {
        let ask = |paths: &[&str]| policies_of_patch(&paths.iter().map(|p| json!({"op": "add", "path": p, "value": 1})).collect::<Json>());
        assert_eq!(ask(&[]), vec![P::NodeUpdate]);
        assert_eq!(ask(&["/extra/a", "/extra/b"]), vec![P::NodeUpdateExtra]);
        assert_eq!(ask(&["/description", "/driver_info/x"]), vec![P::NodeUpdateDriverInfo, P::NodeUpdate]);
        assert_eq!(ask(&["/bios_interface", "/driver"]), vec![P::NodeUpdateDriverInterfaces]);
        assert_eq!(ask(&["/retired_reason"]), vec![P::NodeUpdateRetired]);
        let clean = |v: Json| policies_of_patch(&json!([{"op": "replace", "path": "/automated_clean", "value": v}]));
        assert_eq!(clean(json!(false)), vec![P::NodeDisableCleaning]);
        assert_eq!(clean(json!("no")), vec![P::NodeDisableCleaning]);
        assert_eq!(clean(json!(true)), vec![P::NodeUpdate]);
    }
}
