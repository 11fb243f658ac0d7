//! [`ConductorApi`] in the same process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bessemer_drivers::iface::{BootDevice, BootMode, DriverCx};
use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    flow::FlowKind,
    ids::NodeId,
    interface::{InterfaceKind, hardware_type},
    node::{Node, NodeChange},
    state::{PowerChange, ProvisionState},
};
use bessemer_rpc::{
    BootDevice as WireBootDevice, ConductorApi, Heartbeat, LookupAnswer, LookupQuery, ProvisionRequest, RequestCx, Validation,
};
use serde_json::json;

use crate::{
    actions::{self, Action},
    core::Core,
    flows, ramdisk_api, validate, verbs,
};

/// The conductor as the API of the same daemon sees it.
#[derive(Clone)]
pub struct LocalConductor(pub Arc<Core>);

/// Longest time that a request waits for a BMC.
const DEADLINE: Duration = Duration::from_secs(60);

impl LocalConductor {
    async fn node(&self, id: NodeId) -> Result<Node, Fault> {
        Ok(self.0.store.node_get_with_secrets(id).await?)
    }
}

#[async_trait]
impl ConductorApi for LocalConductor {
    async fn provision(&self, cx: &RequestCx, node: NodeId, request: ProvisionRequest) -> Result<(), Fault> {
        verbs::provision(&self.0, cx, node, &request).await
    }

    async fn set_power(&self, _cx: &RequestCx, id: NodeId, change: PowerChange, timeout: Option<Duration>) -> Result<(), Fault> {
        let core = &self.0;
        let request = json!({"target": change.as_str(), "timeout": timeout.map(|t| t.as_secs())});
        actions::begin(core, id, |node| {
            check_power(core, node, change)?;
            let flow = flows::single(node, FlowKind::Power, "power.set", request.clone(), core.now());
            let change = NodeChange { target_power_state: Some(Some(change.ends_in())), ..NodeChange::default() };
            Ok(Some(Action { flow, change }))
        })
        .await
    }

    async fn validate(&self, node: NodeId) -> Result<BTreeMap<InterfaceKind, Validation>, Fault> {
        validate::all(&self.0, &self.node(node).await?).await
    }

    async fn boot_device(&self, node: NodeId) -> Result<WireBootDevice, Fault> {
        let node = self.node(node).await?;
        let management = self.0.registry.management(&node)?;
        management.validate(&node)?;
        let s = management.boot_device(&DriverCx { node: &node, deadline: DEADLINE }).await?;
        Ok(WireBootDevice { device: s.device.map(|d| d.as_str().to_owned()), persistent: s.persistent })
    }

    async fn set_boot_device(&self, node: NodeId, device: &str, persistent: bool) -> Result<(), Fault> {
        let node = self.node(node).await?;
        let management = self.0.registry.management(&node)?;
        management.validate(&node)?;
        let wanted = BootDevice::parse(device).filter(|d| management.supported_boot_devices(&node).contains(d));
        let Some(wanted) = wanted else {
            let known: Vec<&str> = management.supported_boot_devices(&node).iter().map(|d| d.as_str()).collect();
            return Err(Fault::invalid(format!("boot device '{device}' is not supported by the node; use one of: {}", known.join(", "))));
        };
        // While a node is adopted its firmware settings are left alone (`states.md` section 4.7).
        if node.status.provision_state == ProvisionState::Adopting {
            return Ok(());
        }
        actions::exclusively(&self.0, node.id, "setting the boot device", async move |core, node| {
            let mode = crate::exec::boot_mode(&core, &node);
            let management = core.registry.management(&node)?;
            Ok(management.set_boot_device(&DriverCx { node: &node, deadline: DEADLINE }, wanted, persistent, mode).await?)
        })
        .await
    }

    async fn supported_boot_devices(&self, node: NodeId) -> Result<Vec<String>, Fault> {
        let node = self.node(node).await?;
        Ok(self.0.registry.management(&node)?.supported_boot_devices(&node).iter().map(|d| d.as_str().to_owned()).collect())
    }

    async fn set_boot_mode(&self, node: NodeId, mode: &str) -> Result<(), Fault> {
        if BootMode::parse(mode).is_none() {
            return Err(Fault::invalid(format!("boot mode '{mode}' is unknown; use bios or uefi")));
        }
        self.start(node, "boot_mode.set", json!({ "mode": mode }), |_| Ok(true)).await
    }

    async fn set_secure_boot(&self, node: NodeId, on: bool) -> Result<(), Fault> {
        self.start(node, "secure_boot.set", json!({ "on": on }), |_| Ok(true)).await
    }

    async fn inject_nmi(&self, node: NodeId) -> Result<(), Fault> {
        actions::exclusively(&self.0, node, "an NMI", async move |core, node| {
            Ok(core.registry.management(&node)?.inject_nmi(&DriverCx { node: &node, deadline: DEADLINE }).await?)
        })
        .await
    }

    async fn lookup(&self, query: LookupQuery) -> Result<LookupAnswer, Fault> {
        ramdisk_api::lookup(&self.0, query).await
    }

    async fn heartbeat(&self, node: NodeId, heartbeat: Heartbeat) -> Result<(), Fault> {
        ramdisk_api::heartbeat(&self.0, node, heartbeat).await
    }

    async fn continue_inspection(&self, node: Option<NodeId>, data: Json) -> Result<Node, Fault> {
        ramdisk_api::continue_inspection(&self.0, node, data).await
    }

    async fn driver_properties(&self, driver: &str) -> Result<BTreeMap<String, String>, Fault> {
        let Some(hw) = hardware_type(driver).filter(|_| self.0.config.drivers.contains_key(driver)) else {
            return Err(Fault::new(FaultKind::DriverNotFound, format!("No valid host was found. Reason: driver {driver} is not enabled")));
        };
        let r = &self.0.registry;
        let mut out = BTreeMap::new();
        let mut add = |list: &[bessemer_drivers::iface::Property]| out.extend(list.iter().map(|p| (p.key.to_owned(), p.text.to_owned())));
        let default = |kind: InterfaceKind| {
            let offer = self.0.config.drivers.get(driver)?;
            offer.default.get(kind.as_str()).cloned().or_else(|| hw.supported(kind).first().map(|s| (*s).to_owned()))
        };
        if let Some(p) = default(InterfaceKind::Power).and_then(|n| r.power_named(&n).cloned()) {
            add(p.properties());
        }
        if let Some(m) = default(InterfaceKind::Management).and_then(|n| r.management_named(&n).cloned()) {
            add(m.properties());
        }
        for kind in [InterfaceKind::Bios, InterfaceKind::Raid, InterfaceKind::Firmware, InterfaceKind::Vendor] {
            if let Some(s) = default(kind).and_then(|n| r.steps_named(kind, &n).cloned()) {
                add(s.properties());
            }
        }
        if driver != "fake-hardware" {
            add(RAMDISK_PROPERTIES);
        }
        Ok(out)
    }

    fn allocations_wait(&self) {
        self.0.allocations.notify_one();
    }

    fn node_changed(&self, node: NodeId) {
        self.0.hint(node);
    }
}

/// Whether the power of a node can be changed so.
fn check_power(core: &Core, node: &Node, change: PowerChange) -> Result<(), Fault> {
    let (id, state) = (node.id, node.status.provision_state);
    if node.keeps_power() && matches!(change, PowerChange::Off | PowerChange::SoftOff) {
        let text = format!("node {id} has disable_power_off set: it cannot be powered off");
        return Err(Fault::new(FaultKind::PowerStateFailure, text));
    }
    let power = core.registry.power(node)?;
    power.validate(node)?;
    if !power.supported().contains(&change) {
        return Err(Fault::invalid(format!(
            "power interface '{}' of node {id} does not support '{}'",
            node.spec.interfaces.get(InterfaceKind::Power),
            change.as_str()
        )));
    }
    if matches!(state, ProvisionState::Cleaning | ProvisionState::CleanWait) {
        let text = format!("the power of node {id} cannot be changed while it is in state '{state}'");
        return Err(Fault::new(FaultKind::InvalidStateRequested, text));
    }
    Ok(())
}

/// Keys of `driver_info` that booting and deploying through the ramdisk reads (`drivers.md` section 4.3).
const RAMDISK_PROPERTIES: &[bessemer_drivers::iface::Property] = &[
    p("deploy_kernel", "URL of the kernel of the deployment ramdisk. Required unless set in the configuration."),
    p("deploy_ramdisk", "URL of the deployment ramdisk. Required unless set in the configuration."),
    p("rescue_kernel", "URL of the kernel of the rescue ramdisk. Optional."),
    p("rescue_ramdisk", "URL of the rescue ramdisk. Optional."),
    p("kernel_append_params", "Further kernel parameters of the ramdisk; %default% stands for the configured ones. Optional."),
    p("image_http_proxy", "Proxy for images fetched by HTTP. Optional."),
    p("image_https_proxy", "Proxy for images fetched by HTTPS. Optional."),
    p("image_no_proxy", "Hosts to be reached without a proxy. Optional."),
    p("image_download_source", "Where the ramdisk gets images from: http or local. Optional."),
    p("deploy_forces_oob_reboot", "Whether the ramdisk is ended by the BMC instead of by itself. Optional."),
    p("agent_verify_ca", "Certificate authority for the agent's API. Optional."),
    p("force_persistent_boot_device", "Always, Default or Never. Optional."),
];

const fn p(key: &'static str, text: &'static str) -> bessemer_drivers::iface::Property {
    bessemer_drivers::iface::Property { key, text }
}
