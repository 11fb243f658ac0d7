//! A node as JSON: only the fields asked for, straight into the answer.

use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    flow::FlowKind,
    interface::InterfaceKind,
    node::Node,
    secret::{MASK, is_secret_key},
    step::Step,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::json;

use super::masking::{Masked, MaskedValue};
use crate::{
    links::Links,
    policy::{Hidden, Policy},
    version::{FieldSet, FieldTable, Version, fields::NodeField},
};

/// See the module documentation.
pub(crate) struct NodeView<'a> {
    pub node: &'a Node,
    pub fields: FieldSet<NodeField>,
    pub version: Version,
    pub base: &'a str,
    /// The conductor that the ring names.
    pub conductor: Option<&'a str>,
    /// Shown instead of the stored reservation: the answer to a write tells who wrote.
    pub reserved_by: Option<&'a str>,
    /// What the caller does not see.
    pub hidden: Hidden,
}

/// Stands for a value that the caller may not see; clients know these texts.
struct Redacted(Policy);

impl Serialize for Redacted {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("** Redacted - requires {} permission. **", self.0.name()))
    }
}

#[derive(Serialize)]
struct RedactedObject {
    content: Redacted,
}

struct Wire(Option<Timestamp>);

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(t) => s.serialize_str(&t.to_wire()),
            None => s.serialize_none(),
        }
    }
}

impl NodeView<'_> {
    fn interface(&self, kind: InterfaceKind) -> Option<&str> {
        self.node.spec.interfaces.chosen(kind)
    }
    /// Who holds the node. A power action that was accepted holds it until it has ended, also before a conductor has begun it:
    /// clients wait for this field before they look at the power.
    fn reservation(&self) -> Option<&str> {
        let pending = if self.node.status.target_power_state.is_some() { self.conductor } else { None };
        self.reserved_by.or(self.node.reservation.as_deref()).or(pending)
    }
    fn sub(&self, what: &'static str) -> Links<'_, String> {
        Links { base: self.base, path: format!("nodes/{}{what}", self.node.id) }
    }
}

impl Serialize for NodeView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use NodeField as F;
        let (n, spec, st) = (self.node, &self.node.spec, &self.node.status);
        let mut m = s.serialize_map(None)?;
        for f in self.fields.iter() {
            let k = f.name();
            match f {
                F::Uuid => m.serialize_entry(k, &n.id)?,
                F::CreatedAt => m.serialize_entry(k, &Wire(Some(n.created_at)))?,
                F::UpdatedAt => m.serialize_entry(k, &Wire(n.updated_at))?,
                F::Name => m.serialize_entry(k, &spec.name)?,
                F::Driver => m.serialize_entry(k, &spec.driver)?,
                F::DriverInfo if self.hidden.driver_info => {
                    m.serialize_entry(k, &RedactedObject { content: Redacted(Policy::NodeGetDriverInfo) })?;
                }
                F::DriverInternalInfo if self.hidden.driver_internal_info => {
                    m.serialize_entry(k, &RedactedObject { content: Redacted(Policy::NodeGetDriverInternalInfo) })?;
                }
                F::LastError if self.hidden.last_error => m.serialize_entry(k, &Redacted(Policy::NodeGetLastError))?,
                F::Reservation if self.hidden.reservation => m.serialize_entry(k, &Redacted(Policy::NodeGetReservation))?,
                F::DriverInfo if !self.hidden.passwords => m.serialize_entry(k, &spec.driver_info)?,
                F::DriverInfo => m.serialize_entry(k, &Masked::new(&spec.driver_info))?,
                F::DriverInternalInfo => m.serialize_entry(k, &InternalInfo(n))?,
                F::Properties => m.serialize_entry(k, &spec.properties)?,
                F::Extra => m.serialize_entry(k, &spec.extra)?,
                F::InstanceInfo if !self.hidden.instance_secrets => m.serialize_entry(k, &spec.instance_info)?,
                F::InstanceInfo => m.serialize_entry(k, &Masked::instance_info(&spec.instance_info))?,
                F::InstanceUuid => m.serialize_entry(k, &spec.instance_uuid)?,
                F::InstanceName => m.serialize_entry(k, &spec.instance_name)?,
                F::ChassisUuid => m.serialize_entry(k, &spec.chassis_uuid)?,
                F::PowerState => m.serialize_entry(k, &st.power_state.map(|p| p.as_str()))?,
                F::TargetPowerState => m.serialize_entry(k, &st.target_power_state.map(|p| p.as_str()))?,
                F::ProvisionState => m.serialize_entry(k, &self.version.state_name(st.provision_state))?,
                F::TargetProvisionState => m.serialize_entry(k, &st.target_provision_state.map(|p| p.as_str()))?,
                F::ProvisionUpdatedAt => m.serialize_entry(k, &Wire(st.provision_updated_at))?,
                F::LastError => m.serialize_entry(k, &st.last_error)?,
                F::Maintenance => m.serialize_entry(k, &spec.maintenance)?,
                F::MaintenanceReason => m.serialize_entry(k, &spec.maintenance_reason)?,
                F::Fault => m.serialize_entry(k, &spec.fault.map(|x| x.as_str()))?,
                F::Reservation => m.serialize_entry(k, &self.reservation())?,
                F::ConsoleEnabled => m.serialize_entry(k, &st.console_enabled)?,
                F::InspectionStartedAt => m.serialize_entry(k, &Wire(st.inspection_started_at))?,
                F::InspectionFinishedAt => m.serialize_entry(k, &Wire(st.inspection_finished_at))?,
                F::CleanStep => m.serialize_entry(k, &current_step(n, FlowKind::Clean))?,
                F::DeployStep => m.serialize_entry(k, &current_step(n, FlowKind::Deploy))?,
                F::ServiceStep => m.serialize_entry(k, &current_step(n, FlowKind::Service))?,
                F::RaidConfig => m.serialize_entry(k, &st.raid_config)?,
                F::TargetRaidConfig => m.serialize_entry(k, &spec.target_raid_config)?,
                F::ResourceClass => m.serialize_entry(k, &spec.resource_class)?,
                F::NetworkInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Network))?,
                F::BootInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Boot))?,
                F::ConsoleInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Console))?,
                F::DeployInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Deploy))?,
                F::InspectInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Inspect))?,
                F::ManagementInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Management))?,
                F::PowerInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Power))?,
                F::RaidInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Raid))?,
                F::VendorInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Vendor))?,
                F::StorageInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Storage))?,
                F::RescueInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Rescue))?,
                F::BiosInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Bios))?,
                F::FirmwareInterface => m.serialize_entry(k, &self.interface(InterfaceKind::Firmware))?,
                F::Traits => m.serialize_entry(k, &n.traits)?,
                F::ConductorGroup => m.serialize_entry(k, &spec.conductor_group)?,
                F::AutomatedClean => m.serialize_entry(k, &spec.automated_clean)?,
                F::Protected => m.serialize_entry(k, &spec.protected)?,
                F::ProtectedReason => m.serialize_entry(k, &spec.protected_reason)?,
                F::Conductor => m.serialize_entry(k, &self.conductor)?,
                F::Owner => m.serialize_entry(k, &spec.owner)?,
                F::Description => m.serialize_entry(k, &spec.description)?,
                F::AllocationUuid => m.serialize_entry(k, &n.allocation)?,
                F::Retired => m.serialize_entry(k, &spec.retired)?,
                F::RetiredReason => m.serialize_entry(k, &spec.retired_reason)?,
                F::Lessee => m.serialize_entry(k, &spec.lessee)?,
                F::NetworkData => m.serialize_entry(k, &spec.network_data)?,
                F::BootMode => m.serialize_entry(k, &st.boot_mode)?,
                F::SecureBoot => m.serialize_entry(k, &st.secure_boot)?,
                F::Shard => m.serialize_entry(k, &spec.shard)?,
                F::ParentNode => m.serialize_entry(k, &spec.parent_node)?,
                F::DisablePowerOff => m.serialize_entry(k, &spec.disable_power_off)?,
                F::Health => m.serialize_entry(k, &st.health)?,
                F::Links => m.serialize_entry(k, &self.sub(""))?,
                F::Ports => m.serialize_entry(k, &self.sub("/ports"))?,
                F::States => m.serialize_entry(k, &self.sub("/states"))?,
                F::Portgroups => m.serialize_entry(k, &self.sub("/portgroups"))?,
                F::Volume => m.serialize_entry(k, &self.sub("/volume"))?,
            }
        }
        m.end()
    }
}

/// A step as clients see it.
fn step_json(step: &Step) -> Json {
    let mut m = JsonMap::new();
    m.insert("interface".into(), step.interface.as_str().into());
    m.insert("step".into(), step.name.clone().into());
    m.insert("abortable".into(), step.abortable.into());
    m.insert("priority".into(), step.priority.into());
    if !step.args.is_empty() {
        m.insert("args".into(), Json::Object(bessemer_model::secret::masked(&step.args)));
    }
    Json::Object(m)
}

/// The step that a flow of this kind stands at, when clients may see it; else an empty object. One that must not be interrupted says when
/// an `abort` waits for its end.
fn current_step(node: &Node, kind: FlowKind) -> Json {
    let Some(flow) = node.flow.as_ref().filter(|f| f.kind == kind) else { return json!({}) };
    let Some(step) = flow.current().filter(|s| s.visible()) else { return json!({}) };
    let mut shown = step_json(step);
    if flow.aborting && !step.abortable {
        shown["abort_after"] = true.into();
    }
    shown
}

/// `driver_internal_info`: what is stored, and over it what other rows know (`states.md` appendix B).
pub(crate) struct InternalInfo<'a>(pub &'a Node);

impl InternalInfo<'_> {
    fn overlay(&self) -> Vec<(&'static str, Json)> {
        let mut out = Vec::new();
        if let Some(f) = &self.0.flow {
            let keys = match f.kind {
                FlowKind::Clean => Some(("clean_steps", "clean_step_index")),
                FlowKind::Deploy => Some(("deploy_steps", "deploy_step_index")),
                FlowKind::Service => Some(("service_steps", "service_step_index")),
                _ => None,
            };
            let steps: Vec<_> = f.steps.iter().filter(|s| s.visible()).map(step_json).collect();
            if let Some((list, index)) = keys
                && !steps.is_empty()
            {
                out.push((list, Json::Array(steps)));
                if f.current().is_some_and(Step::visible) {
                    let before = f.steps.iter().take(f.at).filter(|s| s.visible()).count();
                    out.push((index, before.into()));
                }
            }
        }
        if let Some(a) = &self.0.agent {
            let text = |v: &Option<String>| v.clone().map(Json::from);
            let known = [
                ("agent_url", text(&a.url)),
                ("agent_version", text(&a.version)),
                ("agent_last_heartbeat", a.last_heartbeat.map(|t| naive(t).into())),
                ("agent_verify_ca", text(&a.verify_ca)),
                ("agent_status", text(&a.status)),
                ("agent_status_message", text(&a.status_message)),
            ];
            out.extend(known.into_iter().filter_map(|(k, v)| Some((k, v?))));
        }
        if self.0.has_agent_token {
            out.push(("agent_secret_token", MASK.into()));
        }
        out
    }
}

/// Times within this object carry no offset.
fn naive(t: Timestamp) -> String {
    t.to_wire().trim_end_matches("+00:00").to_owned()
}

impl Serialize for InternalInfo<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let overlay = self.overlay();
        let stored = &self.0.status.driver_internal_info;
        let mut m = s.serialize_map(None)?;
        for (k, v) in stored.iter().filter(|(k, _)| !overlay.iter().any(|(o, _)| o == k)) {
            m.serialize_entry(k, &MaskedValue { value: v, secret: is_secret_key(k) })?;
        }
        for (k, v) in &overlay {
            m.serialize_entry(k, v)?;
        }
        m.end()
    }
}
