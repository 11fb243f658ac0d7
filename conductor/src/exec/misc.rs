//! Small steps: verification, adoption, power, tear-down, rescue with the fake interface.

use std::{sync::Arc, time::Duration};

use bessemer_db::Write;
use bessemer_drivers::error::DriverError;
use bessemer_model::{
    Json, JsonMap,
    interface::InterfaceKind,
    state::{PowerChange, PowerState},
};
use serde_json::json;

use crate::{
    devices,
    exec::{cx, device, relatives},
    flows,
    runner::{Outcome, StepError},
    task::Task,
};

/// Writes down what the power is now, and what follows from a change of it.
pub(crate) fn note_power(t: &mut Task, now: Option<PowerState>, changed: Option<PowerChange>) {
    t.pending.change.power_state = Some(now);
    if let Some(c) = changed {
        let at = t.now().to_wire();
        t.internal_info().insert("last_power_state_change".into(), json!(at.trim_end_matches("+00:00")));
        if c.stops_the_agent() {
            t.pending.agent = Write::Delete;
            t.pending.clear_token = true;
        }
    }
}

/// Brings the machine into a power state; a machine that is there already is left alone.
pub(crate) async fn power_to(t: &mut Task, change: PowerChange) -> Result<(), StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    let present = power.state(&cx(t)).await?;
    if matches!(change, PowerChange::On | PowerChange::Off) && present == Some(change.ends_in()) {
        if t.node.status.power_state != present {
            note_power(t, present, None);
        }
        return Ok(());
    }
    relatives::power(t, change).await?;
    let wait = t.core.config.power_state_change_timeout;
    power.set(&cx(t), change, wait).await?;
    note_power(t, Some(change.ends_in()), Some(change));
    Ok(())
}

/// The credentials work: read the power, and what comes cheap with it.
pub(crate) async fn verify(t: &mut Task) -> Result<Outcome, StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    power.validate(&t.node)?;
    let management = t.core.registry.management(&t.node)?.clone();
    management.validate(&t.node)?;
    let state = match power.state(&cx(t)).await {
        // A wrong password is not tried twice: it locks accounts.
        Err(e @ (DriverError::Credentials(_) | DriverError::Invalid(_))) => return Err(StepError::fatal(e.to_string())),
        other => other?,
    };
    t.pending.change.power_state = Some(state);
    if let Ok(Some(mode)) = management.boot_mode(&cx(t)).await {
        t.pending.change.boot_mode = Some(Some(mode.as_str().to_owned()));
    }
    if let Ok(on) = management.secure_boot(&cx(t)).await {
        t.pending.change.secure_boot = Some(on);
    }
    if let Ok(Some(vendor)) = management.vendor(&cx(t)).await
        && !t.node.spec.properties.contains_key("vendor")
    {
        t.spec().properties.insert("vendor".into(), json!(vendor));
    }
    device::read_firmware(t).await;
    Ok(Outcome::Next)
}

/// The node runs a workload already: only its power is read.
pub(crate) async fn adopt(t: &mut Task) -> Result<Outcome, StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    power.validate(&t.node)?;
    let state = power.state(&cx(t)).await?;
    t.pending.change.power_state = Some(state.or(t.node.status.power_state));
    Ok(Outcome::Next)
}

/// Only the fake interface is built; the verb refuses others before a flow begins.
pub(crate) async fn rescue(t: &mut Task) -> Result<Outcome, StepError> {
    match t.node.spec.interfaces.get(InterfaceKind::Rescue) {
        "fake" => Ok(Outcome::Next),
        other => Err(StepError::fatal(format!("rescue interface '{other}' is not built yet; see docs/status.md"))),
    }
}

/// A power action of the API.
pub(crate) async fn power(t: &mut Task) -> Result<Outcome, StepError> {
    let target = t.flow.request.get("target").and_then(Json::as_str).and_then(PowerChange::parse);
    let Some(change) = target else { return Err(StepError::fatal("the power action has no target")) };
    let soft = matches!(change, PowerChange::SoftOff | PowerChange::SoftReboot);
    let given = t.flow.request.get("timeout").and_then(Json::as_u64).map(Duration::from_secs);
    let c = &t.core.config;
    let wait = given.unwrap_or(if soft { c.soft_power_off_timeout } else { c.power_state_change_timeout });
    let driver = t.core.registry.power(&t.node)?.clone();
    let present = driver.state(&cx(t)).await?;
    let reached = match change {
        PowerChange::On => present == Some(PowerState::On),
        PowerChange::Off | PowerChange::SoftOff => present == Some(PowerState::Off),
        PowerChange::Reboot | PowerChange::SoftReboot => false,
    };
    if reached {
        note_power(t, present, None);
    } else {
        relatives::power(t, change).await?;
        driver.set(&cx(t), change, wait).await.map_err(|e| StepError::fatal(e.to_string()))?;
        note_power(t, Some(change.ends_in()), Some(change));
    }
    t.pending.change.target_power_state = Some(None);
    t.pending.change.last_error = Some(None);
    Ok(Outcome::Next)
}

/// A reserved power step.
pub(crate) async fn power_step(t: &mut Task, change: PowerChange) -> Result<Outcome, StepError> {
    // The node's ramdisk and its token outlive a step only where the power is not taken away.
    if t.node.spec.interfaces.get(InterfaceKind::Power) == "fake" && t.node.status.power_state.is_none() {
        return Ok(Outcome::Next);
    }
    power_to(t, change).await?;
    Ok(Outcome::Next)
}

/// The workload goes: power off, forget the instance.
pub(crate) async fn tear_down(t: &mut Task) -> Result<Outcome, StepError> {
    device::stop_console(t).await?;
    if flows::uses_ramdisk(&t.node) && !t.node.keeps_power() {
        power_to(t, PowerChange::Off).await?;
    }
    let (core, node) = (Arc::clone(&t.core), t.node.id);
    devices::detach_all(&core, node).await.map_err(|f| StepError::fatal(f.detail))?;
    forget_instance(t);
    t.pending.boot_plan = Write::Delete;
    Ok(Outcome::Next)
}

fn forget_instance(t: &mut Task) {
    let automatic_lessee = t.node.status.driver_internal_info.contains_key("automatic_lessee");
    let s = t.spec();
    s.instance_info = JsonMap::new();
    s.instance_uuid = None;
    s.instance_name = None;
    if automatic_lessee {
        s.lessee = None;
    }
    let info = t.internal_info();
    for k in [
        "instance",
        "root_uuid_or_disk_id",
        "is_whole_disk_image",
        "is_source_a_path",
        "deploy_boot_mode",
        "automatic_lessee",
        "image_source",
        "agent_start_attempted",
    ] {
        info.remove(k);
    }
    t.pending.agent = Write::Delete;
    t.pending.clear_token = true;
}
