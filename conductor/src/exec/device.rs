//! Steps that deal with what stands around a machine (boot mode, secure boot, console, vendor methods, virtual media) and steps of drivers that take a while.

use bessemer_drivers::iface::{BootDevice, BootMode, Restart, StepOutcome};
use bessemer_model::{
    Json,
    fault::Fault,
    flow::Phase,
    interface::InterfaceKind,
    state::{PowerChange, PowerState},
    step::{Replay, Step},
};
use bessemer_rpc::devices::VendorCall;
use serde_json::json;

use crate::{
    devices,
    exec::{callback_timeout, cx, misc},
    runner::{Outcome, StepError},
    task::Task,
};

fn fatal(f: &Fault) -> StepError {
    StepError::fatal(f.detail.clone())
}

/// `boot_mode.set`.
pub(crate) async fn boot_mode(t: &mut Task) -> Result<Outcome, StepError> {
    let name = t.flow.request.get("mode").and_then(Json::as_str).unwrap_or_default().to_owned();
    let set = async {
        let mode = BootMode::parse(&name).ok_or_else(|| Fault::invalid(format!("unknown boot mode {name}")))?;
        Ok::<(), Fault>(t.core.registry.management(&t.node)?.set_boot_mode(&cx(t), mode).await?)
    };
    match set.await {
        Ok(()) => Ok(Outcome::Next),
        Err(e) => Err(StepError::fatal(format!("The boot mode of node {} could not be set to {name}: {e}", t.node.id))),
    }
}

/// `secure_boot.set`.
pub(crate) async fn secure_boot(t: &mut Task) -> Result<Outcome, StepError> {
    let on = t.flow.request.get("on").and_then(Json::as_bool).unwrap_or(false);
    let set = async { Ok::<(), Fault>(t.core.registry.management(&t.node)?.set_secure_boot(&cx(t), on).await?) };
    match set.await {
        Ok(()) => Ok(Outcome::Next),
        Err(e) => {
            let wanted = if on { "on" } else { "off" };
            Err(StepError::fatal(format!("Secure boot of node {} could not be switched {wanted}: {e}", t.node.id)))
        }
    }
}

/// `console.set`.
pub(crate) async fn console(t: &mut Task) -> Result<Outcome, StepError> {
    let on = t.flow.request.get("enabled").and_then(Json::as_bool).unwrap_or(false);
    let console = t.core.registry.console(&t.node)?.clone();
    let (doing, result) = if on { ("enabling", console.start(&cx(t)).await) } else { ("disabling", console.stop(&cx(t)).await) };
    if let Err(e) = result {
        return Err(StepError::fatal(format!("Error {doing} the console on node {}. Reason: {e}", t.node.id)));
    }
    t.pending.change.console_enabled = Some(on);
    Ok(Outcome::Next)
}

/// `vendor.call`: its arguments were checked when it was accepted, and are again, for the node may have changed.
pub(crate) async fn vendor(t: &mut Task) -> Result<Outcome, StepError> {
    let text = |key: &str| t.flow.request.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let args = t.flow.request.get("args").and_then(Json::as_object).cloned().unwrap_or_default();
    let call = VendorCall { method: text("method"), http_method: text("http_method"), args };
    let (vendor, method) = devices::checked(&t.core, &t.node, &call).map_err(|f| fatal(&f))?;
    match vendor.call(&cx(t), method, &call.args).await {
        Ok(_) => Ok(Outcome::Next),
        Err(e) => Err(StepError::fatal(format!("Vendor method {} failed: {e}", call.method))),
    }
}

/// `media.insert`.
pub(crate) async fn insert(t: &mut Task) -> Result<Outcome, StepError> {
    let text = |key: &str| t.flow.request.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let (name, url) = (text("device"), text("url"));
    let inserted = async {
        let device = BootDevice::parse(&name).ok_or_else(|| Fault::invalid(format!("unknown device {name}")))?;
        let media = t.core.registry.media_of_management(&t.node)?;
        Ok::<(), Fault>(media.insert(&cx(t), device, &url).await?)
    };
    match inserted.await {
        Ok(()) => Ok(Outcome::Next),
        Err(e) => Err(StepError::fatal(format!("Could not attach device {name} to node {}: {e}", t.node.id))),
    }
}

/// `media.eject`.
pub(crate) async fn eject(t: &mut Task) -> Result<Outcome, StepError> {
    let named = t.flow.request.get("devices").and_then(Json::as_array).filter(|d| !d.is_empty()).cloned();
    let devices: Vec<Option<BootDevice>> = match &named {
        Some(list) => list.iter().filter_map(Json::as_str).map(BootDevice::parse).collect(),
        None => vec![None],
    };
    let ejected = async {
        let media = t.core.registry.media_of_management(&t.node)?;
        for d in devices {
            media.eject(&cx(t), d).await?;
        }
        Ok::<(), Fault>(())
    };
    match ejected.await {
        Ok(()) => Ok(Outcome::Next),
        Err(e) => {
            let what = named.map_or("all".to_owned(), |l| l.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "));
            Err(StepError::fatal(format!("Could not detach device(s) {what} from node {}: {e}", t.node.id)))
        }
    }
}

/// `console.start`: an instance is there again, and its owner had the console enabled. What keeps it from starting does not undo the rest.
pub(crate) async fn start_console(t: &mut Task) -> Result<Outcome, StepError> {
    if !t.node.status.console_enabled {
        return Ok(Outcome::Next);
    }
    let started = match t.core.registry.console(&t.node).cloned() {
        Ok(console) => console.start(&cx(t)).await,
        Err(e) => Err(e),
    };
    if let Err(e) = started {
        tracing::warn!(node = %t.node.id, error = %e, "the console could not be started again");
        t.record_error(&format!("Failed to start the console of node {}: {e}", t.node.id));
        t.pending.change.console_enabled = Some(false);
    }
    Ok(Outcome::Next)
}

/// Before an instance goes: its console stops, and its owner's wish for one stays for the next.
pub(crate) async fn stop_console(t: &Task) -> Result<(), StepError> {
    if t.node.status.console_enabled {
        t.core.registry.console(&t.node)?.clone().stop(&cx(t)).await?;
    }
    Ok(())
}

/// What the current step wanted to remember when it last let go.
pub(crate) fn noted(t: &Task) -> Option<Json> {
    let kept = t.flow.noted("step")?;
    if kept.get("at") == Some(&json!(t.flow.at)) { kept.get("note").cloned() } else { None }
}

/// Takes over what a driver's step gave.
pub(crate) fn settle(t: &mut Task, step: &Step, outcome: StepOutcome) -> Outcome {
    match outcome {
        StepOutcome::Done => {}
        StepOutcome::BiosSettings(settings) => t.pending.bios = Some(settings),
        StepOutcome::Firmware(found) => t.pending.firmware = found,
        StepOutcome::RaidConfig(config) => t.pending.change.raid_config = Some(config),
        StepOutcome::Restart(restart) => restart_for(t, step, restart),
        StepOutcome::Wait { poll, note } => {
            t.flow.set_note("step", json!({ "at": t.flow.at, "note": note }));
            if poll.is_none() {
                t.flow.set_note("step_waits_for_agent", json!(true));
            }
            return Outcome::Wait { phase: Phase::Sleeping, poll, timeout: Some(callback_timeout(t)) };
        }
    }
    t.flow.set_note("step", Json::Null);
    Outcome::Next
}

/// Puts what must happen before the step can go on after it: the machine starts anew, into its ramdisk if one was up.
fn restart_for(t: &mut Task, step: &Step, restart: Restart) {
    let ramdisk = t.flow.noted("ramdisk").is_some();
    // The ramdisk is to be brought up once more.
    t.flow.set_note("switching_on", Json::Null);
    let names: &[&str] = if ramdisk { &["ramdisk.off", "ramdisk.on", "ramdisk.wait"] } else { &["device.restart"] };
    let mut steps: Vec<Step> = names.iter().map(|n| Step::internal(n, Replay::Idempotent)).collect();
    let mut verify = Step::internal("device.verify", Replay::Idempotent);
    let seconds = restart.poll.as_secs_f64();
    let about = json!({ "interface": step.interface, "step": step.name, "args": step.args, "note": restart.note, "poll": seconds });
    verify.args = about.as_object().cloned().unwrap_or_default();
    steps.push(verify);
    let at = t.flow.at + 1;
    t.flow.steps.splice(at..at, steps);
}

/// `device.restart`.
pub(crate) async fn restart(t: &mut Task) -> Result<Outcome, StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    let on = power.state(&cx(t)).await? != Some(PowerState::Off);
    misc::power_to(t, if on { PowerChange::Reboot } else { PowerChange::On }).await?;
    Ok(Outcome::Next)
}

/// `device.verify`: a driver's step goes on after the restart that it needed.
pub(crate) async fn verify(t: &mut Task, hidden: &Step) -> Result<Outcome, StepError> {
    let kind = hidden.args.get("interface").and_then(Json::as_str).and_then(InterfaceKind::parse);
    let name = hidden.args.get("step").and_then(Json::as_str).unwrap_or_default().to_owned();
    let Some(implementation) = kind.and_then(|k| t.core.registry.steps(&t.node, k).cloned()) else {
        return Err(StepError::fatal(format!("the node has no interface any more that could finish step '{name}'")));
    };
    let mut step = Step::internal(&name, Replay::Idempotent);
    step.interface = kind.unwrap_or(step.interface);
    step.args = hidden.args.get("args").and_then(Json::as_object).cloned().unwrap_or_default();
    let first = || hidden.args.get("note").cloned().unwrap_or(Json::Null);
    let Some(note) = noted(t) else {
        let seconds = hidden.args.get("poll").and_then(Json::as_f64).filter(|s| (0.0..=86_400.0).contains(s)).unwrap_or(15.0);
        let poll = Some(std::time::Duration::from_secs_f64(seconds));
        return Ok(settle(t, &step, StepOutcome::Wait { poll, note: first() }));
    };
    match implementation.resume(&cx(t), &step, &note).await {
        Ok(outcome) => Ok(settle(t, &step, outcome)),
        // The controller may be busy with the same restart.
        Err(e) if e.is_transient() => Ok(settle(t, &step, StepOutcome::Wait { poll: Some(std::time::Duration::from_secs(15)), note })),
        Err(e) => Err(StepError::fatal(format!("step {}: {e}", step.label()))),
    }
}

/// Reads BIOS settings and versions of firmware where that can be done. What cannot be read is left as it was known.
pub(crate) async fn read_firmware(t: &mut Task) {
    if let Some(bios) = t.core.registry.bios(&t.node).cloned() {
        match bios.settings(&cx(t)).await {
            Ok(settings) => t.pending.bios = Some(settings),
            Err(e) => tracing::info!(node = %t.node.id, "BIOS settings not read: {e}"),
        }
    }
    if let Some(firmware) = t.core.registry.firmware(&t.node).cloned() {
        match firmware.components(&cx(t)).await {
            Ok(found) => t.pending.firmware = found,
            Err(e) => tracing::info!(node = %t.node.id, "versions of firmware not read: {e}"),
        }
    }
}
