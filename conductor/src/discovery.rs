//! Machines that nobody enrolled: they boot the ramdisk, report what they are and become nodes in `enroll` (`[auto_discovery] enabled`).

use bessemer_db::{Inventory, NodeNew};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    history::HistoryEntry,
    ids::{HistoryId, NodeId},
    interface::InterfaceKind,
    node::{Interfaces, Node, NodeSpec, NodeStatus},
    state::ProvisionState,
};
use bessemer_pxe::plan::{BootPlan, BootWhat, Nonce};
use serde_json::json;

use crate::{
    core::Core,
    files::{self, FileProblem},
    hooks, rules,
    ruling::{self, Problem},
};

/// What every unknown machine boots: the ramdisk, with the address to report to.
///
/// # Errors
/// [`FileProblem`] when the ramdisk is not configured or cannot be read.
pub async fn plan(core: &Core, nonce: &Nonce) -> Result<BootPlan, FileProblem> {
    let c = &core.config;
    let (Some(kernel), Some(ramdisk)) = (&c.deploy_kernel, &c.deploy_ramdisk) else {
        return Err(FileProblem("discovery needs [conductor] deploy_kernel and deploy_ramdisk".into()));
    };
    let mut params = vec![format!("ipa-inspection-callback-url={}/v1/continue_inspection", c.api_url.trim_end_matches('/'))];
    params.extend(c.kernel_append_params.split_whitespace().map(str::to_owned));
    Ok(BootPlan {
        node: None,
        what: BootWhat::Discovery,
        kernel: Some(files::boot_file(core, "deploy_kernel", kernel).await?),
        layers: vec![files::boot_file(core, "deploy_ramdisk", ramdisk).await?],
        params,
        nonce: nonce.clone(),
        files: Default::default(),
        macs: Vec::new(),
    })
}

/// Makes a node of a report that belongs to none.
///
/// # Errors
/// What the report or the store says.
pub async fn enroll(core: &Core, inventory: Json, plugin_data: JsonMap) -> Result<Node, Fault> {
    let driver = core.config.auto_discovery_driver.clone();
    let Some(offer) = core.config.drivers.get(&driver) else {
        return Err(Fault::invalid(format!("[auto_discovery] driver '{driver}' is not an enabled hardware type")));
    };
    let mut interfaces = Interfaces::default();
    for (kind, name) in &offer.default {
        if let Some(k) = InterfaceKind::parse(kind) {
            interfaces.set(k, name.clone());
        }
    }
    let id = NodeId::random();
    let now = core.now();
    let mut spec = NodeSpec { driver, interfaces, disable_power_off: Some(false), ..NodeSpec::default() };
    spec.extra.insert("auto_discovered".into(), json!(true));
    if let Some(bmc) = inventory.get("bmc_address").and_then(Json::as_str).filter(|a| *a != "0.0.0.0") {
        let key = if spec.driver == "ipmi" { "ipmi_address" } else { "redfish_address" };
        spec.driver_info.insert(key.into(), json!(bmc));
    }
    let history = HistoryEntry {
        id: HistoryId::random(),
        node: id,
        created_at: now,
        severity: "INFO".into(),
        event: "discovered: an unknown machine booted the ramdisk and reported itself".into(),
        event_type: "introspection".into(),
        conductor: Some(core.config.host.clone()),
        user: None,
        project: None,
        state: Some(ProvisionState::Enroll),
        target_provision_state: None,
        duration_seconds: None,
    };
    let new = NodeNew { id, spec, status: NodeStatus::new(ProvisionState::Enroll), traits: vec![], history: vec![history], events: vec![] };
    let node = core.store.node_create(new).await?;
    let mut report = Inventory { inventory, plugin_data: Json::Object(plugin_data) };
    let found = hooks::run(&core.config, &node, &report.inventory, &report.plugin_data, &[]).map_err(Fault::invalid)?;
    if let Some(m) = report.plugin_data.as_object_mut() {
        m.extend(found.plugin_data);
    }
    let mut spec = node.spec.clone();
    spec.properties.extend(found.properties);
    let new_ports = hooks::new_ports(&node, &found.ports, now);
    let ruled = ruling::rule(core, &node, &spec, &node.status.driver_internal_info, new_ports, report).await;
    let ruled = ruled.map_err(|p| match p {
        Problem::Store(text) => Fault::new(FaultKind::TemporaryFailure, text),
        Problem::Rule(text) => Fault::invalid(text),
    })?;
    core.store.node_update_spec(id, node.revision, ruled.spec, None).await?;
    for t in &ruled.traits_added {
        core.store.node_add_trait(id, t).await?;
    }
    for port in ruled.new_ports {
        core.store.port_create(port).await?;
    }
    core.store.inventory_put(id, ruled.report).await?;
    for call in &ruled.calls {
        rules::make(&core.http, call).await.map_err(|e| Fault::invalid(format!("action api-call of an inspection rule: {e}")))?;
    }
    tracing::info!(node = %id, "unknown machine discovered");
    Ok(core.store.node_get(id).await?)
}
