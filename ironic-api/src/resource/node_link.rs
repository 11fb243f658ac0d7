//! The node that another resource belongs to, as bodies name it (`api.md` sections 4 and 5, `security.md` section 3).

use bessemer_db::DbError;
use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    node::Node,
    state::ProvisionState as P,
};

use crate::{
    patch::Patch,
    policy::linked_node,
    query::parse_uuid,
    request::{Api, Req, is_loose_name},
    version::Behaviour,
};

/// The node of a new resource. That it does not exist is a fault of the body, not of the path.
///
/// # Errors
/// `InvalidParameterValue`.
pub(super) async fn of_new(api: &Api, ident: &str) -> Result<Node, Fault> {
    match api.store.node_get_by_ident(ident).await {
        Ok(n) => Ok(n),
        Err(DbError::NotFound { .. }) => Err(Fault::invalid(format!("Node {ident} could not be found."))),
        Err(e) => Err(e.into()),
    }
}

/// The node that a resource has after a patch of its `node_uuid`; `value` is what the patched document holds. A removed `node_uuid`
/// stays as it was.
///
/// # Errors
/// Of [`linked_node`].
pub(super) async fn patched(api: &Api, req: &Req, old: Node, patch: &Patch, value: Option<&Json>) -> Result<Node, Fault> {
    if !patch.assigns("node_uuid") {
        return Ok(old);
    }
    let ident = value.and_then(Json::as_str).ok_or_else(|| Fault::invalid("\"/node_uuid\" must name a node."))?;
    linked_node(api, req, "node_uuid", ident, old.spec.owner.as_deref()).await
}

/// Refuses changes of what belongs to a node that is being inspected.
///
/// # Errors
/// `InvalidState`.
pub(super) fn refuse_inspecting(req: &Req, node: &Node) -> Result<(), Fault> {
    if node.status.provision_state == P::Inspecting && req.version.has(Behaviour::InspectingIsLocked) {
        return Err(Fault::new(FaultKind::InvalidState, format!("Node {} is being inspected.", node.id)));
    }
    Ok(())
}

/// Whether the node is in a state in which what connects it to networks may change.
pub(super) const fn is_rewirable(node: &Node) -> bool {
    node.spec.maintenance || matches!(node.status.provision_state, P::Enroll | P::Inspecting | P::InspectWait | P::Manageable)
}

/// What identifies a resource with UUID and name: either, else a fault of the request.
///
/// # Errors
/// `InvalidParameterValue`.
pub(super) fn check_ident(ident: &str) -> Result<(), Fault> {
    if parse_uuid(ident).is_some() || is_loose_name(ident) {
        return Ok(());
    }
    Err(Fault::invalid(format!("Expected a UUID or a name but received {}.", ident.chars().take(255).collect::<String>())))
}
