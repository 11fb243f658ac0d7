//! Inspection: out of band, or through the ramdisk's report.

use std::time::Duration;

use bessemer_db::{Inventory, Write};
use bessemer_model::{
    Json,
    flow::Phase,
    state::PowerChange,
    step::{Replay, Step},
};
use serde_json::json;

use crate::{
    exec::{boot, callback_timeout, cx, device, misc},
    flows, hooks,
    rules::{self, Call},
    ruling::{self, Problem},
    runner::{Outcome, StepError},
    task::Task,
};

/// Marks a report as the answer to one particular inspection; never shown.
pub(crate) const REPORT_MARK: &str = "_bessemer_flow";

/// How soon a store that did not answer is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// `inspect.oob`.
pub(crate) async fn out_of_band(t: &mut Task) -> Result<Outcome, StepError> {
    let Some(driver) = t.core.registry.inspect(&t.node).cloned() else {
        return Err(StepError::fatal("the inspect interface of the node is not built; see docs/status.md"));
    };
    let found = driver.inspect(&cx(t)).await?;
    if !found.properties.is_empty() {
        t.spec().properties.extend(found.properties);
    }
    let macs: Vec<(String, bool)> = found.macs.into_iter().map(|m| (m, true)).collect();
    t.pending.new_ports = hooks::new_ports(&t.node, &macs, t.now());
    device::read_firmware(t).await;
    if let Some(inventory) = found.inventory {
        let report = Inventory { inventory, plugin_data: Json::Object(found.plugin_data) };
        let report = apply_rules(t, report).await?;
        t.pending.inventory = Write::Put(report);
    }
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
    let report = apply_rules(t, report).await?;
    t.pending.inventory = Write::Put(report);
    if t.core.config.inspect_power_off && !t.node.keeps_power() {
        misc::power_to(t, PowerChange::Off).await?;
    }
    boot::eject(t).await?;
    t.pending.boot_plan = Write::Delete;
    Ok(Outcome::Next)
}

/// The rules, on what the hooks made of the report. What they change is gathered for this step's commit, with everything else that the step
/// does; a crash before it has changed nothing, and the rules start anew. Calls to other servers become a step of their own.
async fn apply_rules(t: &mut Task, report: Inventory) -> Result<Inventory, StepError> {
    let spec = t.pending.spec.as_ref().map_or_else(|| t.node.spec.clone(), |(_, s)| s.clone());
    let internal = t.pending.change.driver_internal_info.clone().unwrap_or_else(|| t.node.status.driver_internal_info.clone());
    let new_ports = std::mem::take(&mut t.pending.new_ports);
    let ruled = ruling::rule(&t.core, &t.node, &spec, &internal, new_ports, report).await.map_err(|p| match p {
        Problem::Store(text) => StepError { text, retry: Some(STORE_PAUSE) },
        Problem::Rule(text) => StepError::fatal(text),
    })?;
    if ruled.spec != spec {
        *t.spec() = ruled.spec;
    }
    if ruled.internal != internal {
        *t.internal_info() = ruled.internal;
    }
    t.pending.traits_added = ruled.traits_added;
    t.pending.traits_removed = ruled.traits_removed;
    t.pending.new_ports = ruled.new_ports;
    t.pending.ports = ruled.ports;
    for n in ruled.notes {
        t.log(None, "inspection rule", n);
    }
    if !ruled.calls.is_empty() {
        let calls = serde_json::to_value(&ruled.calls).map_err(|e| StepError::fatal(e.to_string()))?;
        t.flow.set_note("calls", calls);
        flows::splice_after_current(&mut t.flow, vec![Step::internal("inspect.calls", Replay::Idempotent)]);
    }
    Ok(ruled.report)
}

/// `inspect.calls`: what rules want other servers told, once it is written what the rules did. After a crash they are told again.
pub(crate) async fn calls(t: &mut Task) -> Result<Outcome, StepError> {
    let noted = t.flow.noted("calls").cloned().unwrap_or_else(|| json!([]));
    let list: Vec<Call> = serde_json::from_value(noted).map_err(|e| StepError::fatal(format!("the calls noted are unreadable: {e}")))?;
    for call in &list {
        rules::make(&t.core.http, call).await.map_err(|e| StepError::fatal(format!("action api-call of an inspection rule: {e}")))?;
    }
    Ok(Outcome::Next)
}
