//! When a node may be changed or deleted (`api.md` sections 3.1 and 3.5). Pure: looks at the node and the patch only.

use bessemer_model::{
    allocation::Allocation,
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::{Node, NodeSpec},
    state::ProvisionState as P,
};

use super::{network_data, node_doc::check_boot_mode};
use crate::{
    patch::{Op, Patch},
    query::parse_uuid,
    request::{is_host_name, is_loose_name},
    version::{Behaviour, Version},
};

/// Names that would hide a path.
const RESERVED: &[&str] = &["states", "vendor_passthru", "management", "maintenance", "detail", "validate"];

/// Refuses names that a node must not have.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn check_name(name: &str, version: Version) -> Result<(), Fault> {
    let fits = if version.has(Behaviour::LooseNames) { is_loose_name(name) } else { is_host_name(name) };
    if !fits || parse_uuid(name).is_some() || RESERVED.contains(&name) {
        return Err(Fault::invalid(format!("\"{}\" cannot be the name of a node.", name.chars().take(255).collect::<String>())));
    }
    Ok(())
}

/// States in which interfaces and the resource class may change.
const fn is_reconfigurable(state: P) -> bool {
    matches!(state, P::Enroll | P::Inspecting | P::InspectWait | P::Manageable | P::Available)
}

fn refused(node: &Node, what: &str) -> Fault {
    let text = format!("{what} of node {} cannot change while it is in state \"{}\".", node.id, node.status.provision_state);
    Fault::new(FaultKind::InvalidState, text)
}

/// Whether the node takes a patch at all in its state.
///
/// # Errors
/// `InvalidState`.
pub(crate) fn check_patchable(node: &Node, patch: &Patch, version: Version) -> Result<(), Fault> {
    if let [only] = patch.0.as_slice()
        && node.spec.maintenance
        && only.op == Op::Remove
        && only.is_whole()
        && only.root() == "instance_uuid"
    {
        return Ok(());
    }
    let state = node.status.provision_state;
    let inspecting = state == P::Inspecting && version.has(Behaviour::InspectingIsLocked);
    if inspecting || (node.status.target_provision_state.is_some() && !state.update_allowed()) {
        return Err(Fault::new(
            FaultKind::InvalidState,
            format!("Node {} cannot be updated while a state transition is in progress.", node.id),
        ));
    }
    Ok(())
}

/// The owner of a node may not change while the node is given to an allocation with an owner.
///
/// # Errors
/// `InvalidState`.
pub(crate) fn check_allocated_owner(node: &Node, allocation: Option<&Allocation>) -> Result<(), Fault> {
    match allocation {
        Some(a) if a.owner.is_some() => Err(Fault::new(
            FaultKind::InvalidState,
            format!("The owner of node {} cannot change while it belongs to allocation {}, which has an owner.", node.id, a.id),
        )),
        _ => Ok(()),
    }
}

/// Refuses a choice of interfaces that differs from what the node has, where these may not change.
///
/// # Errors
/// `InvalidState`.
pub(crate) fn check_interfaces<'a>(node: &Node, mut chosen: impl Iterator<Item = (InterfaceKind, &'a str)>) -> Result<(), Fault> {
    if node.spec.maintenance || is_reconfigurable(node.status.provision_state) {
        return Ok(());
    }
    match chosen.find(|(k, name)| node.spec.interfaces.get(*k) != *name) {
        Some((k, _)) => Err(refused(node, &format!("The {}_interface", k.as_str()))),
        None => Ok(()),
    }
}

/// Checks what a patch made of the owner's columns and settles what depends on them.
///
/// # Errors
/// Whatever the rule that is broken calls for.
pub(crate) fn settle_patch(
    node: &Node,
    new: &mut NodeSpec,
    patch: &Patch,
    version: Version,
    disallowed_boot_modes: &[String],
) -> Result<(), Fault> {
    let old = &node.spec;
    let state = node.status.provision_state;
    if let Some(name) = new.name.as_deref().filter(|n| old.name.as_deref() != Some(*n)) {
        check_name(name, version)?;
    }
    // A name goes by being removed.
    if patch.assigns("name") && new.name.is_none() {
        return Err(Fault::invalid("\"/name\" must not be null; remove it instead."));
    }
    if patch.touches("chassis_uuid") && new.chassis_uuid.is_none() && !version.has(Behaviour::UnsetChassis) {
        return Err(Fault::new(FaultKind::NotAcceptable, "Unsetting chassis_uuid needs a newer API version."));
    }
    if let (Some(was), Some(is)) = (old.instance_uuid, new.instance_uuid)
        && was != is
    {
        let text = format!("Node {} is associated with instance {was}; remove that first.", node.id);
        return Err(Fault::new(FaultKind::NodeAssociated, text));
    }
    if node.allocation.is_some() && new.instance_uuid.is_none() && !old.maintenance && !is_reconfigurable(state) {
        return Err(refused(node, "The instance_uuid, which is an allocation,"));
    }
    if old.resource_class.is_some() && new.resource_class != old.resource_class && !is_reconfigurable(state) {
        return Err(refused(node, "The resource_class"));
    }
    if new.driver != old.driver && node.status.console_enabled {
        return Err(Fault::new(FaultKind::InvalidState, format!("Stop the console of node {} before changing its driver.", node.id)));
    }
    if new.protected && !old.protected && !matches!(state, P::Active | P::Rescue) {
        return Err(Fault::new(FaultKind::InvalidState, format!("Node {} can only be protected in state active or rescue.", node.id)));
    }
    if !new.protected {
        if patch.assigns("protected_reason") && new.protected_reason.as_deref().is_some_and(|r| !r.is_empty()) {
            return Err(Fault::invalid("\"protected_reason\" needs \"protected\" to be true."));
        }
        new.protected_reason = new.protected_reason.take().filter(|_| patch.assigns("protected_reason"));
    }
    if new.retired && !old.retired && state == P::Available {
        return Err(Fault::new(FaultKind::InvalidState, format!("Node {} cannot be retired while it is available.", node.id)));
    }
    if !new.retired {
        if patch.assigns("retired_reason") && new.retired_reason.as_deref().is_some_and(|r| !r.is_empty()) {
            return Err(Fault::invalid("\"retired_reason\" needs \"retired\" to be true."));
        }
        new.retired_reason = new.retired_reason.take().filter(|_| patch.assigns("retired_reason"));
    }
    if !new.maintenance {
        new.maintenance_reason = None;
        new.fault = None;
    }
    if patch.touches("properties") {
        check_boot_mode(&new.properties, disallowed_boot_modes)?;
    }
    if patch.0.iter().any(|o| o.root() == "network_data" && !(o.is_whole() && o.op == Op::Remove)) {
        network_data::check(&new.network_data)?;
    }
    if patch.touches("instance_info") {
        name_instance(new);
    }
    Ok(())
}

/// `instance_name` follows `instance_info.display_name` while nobody has chosen one.
pub(crate) fn name_instance(spec: &mut NodeSpec) {
    let shown = spec.instance_info.get("display_name").and_then(|v| v.as_str()).filter(|s| (1..=255).contains(&s.chars().count()));
    if spec.instance_name.is_none() {
        spec.instance_name = shown.map(str::to_owned);
    }
}

/// Whether the node may be deleted.
///
/// # Errors
/// `NodeProtected`, `NodeAssociated`, `InvalidState`.
pub(crate) fn check_delete(node: &Node, available_too: bool) -> Result<(), Fault> {
    if node.spec.protected {
        return Err(Fault::new(FaultKind::NodeProtected, format!("Node {} is protected.", node.id)));
    }
    if node.spec.maintenance {
        return Ok(());
    }
    if let Some(i) = node.spec.instance_uuid {
        return Err(Fault::new(FaultKind::NodeAssociated, format!("Node {} is associated with instance {i}.", node.id)));
    }
    let state = node.status.provision_state;
    if state.delete_allowed() || (available_too && state == P::Available) {
        return Ok(());
    }
    let text = format!("Node {} cannot be deleted while it is in state \"{state}\"; set maintenance to do it anyway.", node.id);
    Err(Fault::new(FaultKind::InvalidState, text))
}
