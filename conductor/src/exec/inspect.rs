//! Inspection: out of band, or through the ramdisk's report.

use bessemer_db::{Inventory, Write};
use bessemer_model::{Json, flow::Phase, state::PowerChange};
use serde_json::json;

use crate::{
    exec::{boot, callback_timeout, cx, device, misc},
    hooks,
    runner::{Outcome, StepError},
    task::Task,
};

/// Marks a report as the answer to one particular inspection; never shown.
pub(crate) const REPORT_MARK: &str = "_bessemer_flow";

/// `inspect.oob`.
pub(crate) async fn out_of_band(t: &mut Task) -> Result<Outcome, StepError> {
    let Some(driver) = t.core.registry.inspect(&t.node).cloned() else {
        return Err(StepError::fatal("the inspect interface of the node is not built; see docs/status.md"));
    };
    let found = driver.inspect(&cx(t)).await?;
    if let Some(inventory) = found.inventory {
        t.pending.inventory = Write::Put(Inventory { inventory, plugin_data: Json::Object(found.plugin_data) });
    }
    if !found.properties.is_empty() {
        t.spec().properties.extend(found.properties);
    }
    let macs: Vec<(String, bool)> = found.macs.into_iter().map(|m| (m, true)).collect();
    t.pending.new_ports = hooks::new_ports(&t.node, &macs, t.now());
    device::read_firmware(t).await;
    Ok(Outcome::Next)
}

/// `inspect.wait`.
pub(crate) async fn wait(t: &mut Task) -> Result<Outcome, StepError> {
    let stored = t.core.store.inventory_get(t.node.id).await.map_err(|e| StepError::fatal(e.to_string()))?;
    let ours = json!(t.flow.id);
    if stored.is_some_and(|i| i.plugin_data.get(REPORT_MARK) == Some(&ours)) {
        return Ok(Outcome::Next);
    }
    Ok(Outcome::Wait { phase: Phase::WaitingInspection, poll: None, timeout: Some(callback_timeout(t)) })
}

/// `inspect.finish`: hooks, then the machine rests.
pub(crate) async fn finish(t: &mut Task) -> Result<Outcome, StepError> {
    let stored = t.core.store.inventory_get(t.node.id).await.map_err(|e| StepError::fatal(e.to_string()))?;
    let Some(mut report) = stored else { return Err(StepError::fatal("the inspection report is gone")) };
    if let Some(m) = report.plugin_data.as_object_mut() {
        m.remove(REPORT_MARK);
        m.remove("logs");
    }
    let known = boot::pxe_macs(t).await?;
    let outcome = hooks::run(&t.core.config, &t.node, &report.inventory, &report.plugin_data, &known).map_err(StepError::fatal)?;
    if let Some(m) = report.plugin_data.as_object_mut() {
        m.extend(outcome.plugin_data);
    }
    if !outcome.properties.is_empty() {
        t.spec().properties.extend(outcome.properties);
    }
    t.pending.new_ports = hooks::new_ports(&t.node, &outcome.ports, t.now());
    t.pending.inventory = Write::Put(report);
    if t.core.config.inspect_power_off && !t.node.keeps_power() {
        misc::power_to(t, PowerChange::Off).await?;
    }
    boot::eject(t).await?;
    t.pending.boot_plan = Write::Delete;
    Ok(Outcome::Next)
}
