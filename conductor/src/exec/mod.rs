//! Runs one step. Each of them may be run again after a crash at any point.

mod agent;
mod boot;
mod deploy;
mod device;
mod inspect;
mod misc;
mod plan;
mod relatives;

pub(crate) use boot::boot_mode;
pub(crate) use inspect::REPORT_MARK;

use std::time::Duration;

use crate::{
    flows,
    runner::{Entry, Outcome, StepError},
    task::Task,
};
use bessemer_drivers::iface::DriverCx;
use bessemer_model::{
    flow::{FlowKind, Phase},
    interface::InterfaceKind,
    state::PowerChange,
    step::{RunsOn, Step},
};

/// Longest time that one call to a BMC may take.
pub(crate) const BMC_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn cx(t: &Task) -> DriverCx<'_> {
    DriverCx { node: &t.node, deadline: BMC_DEADLINE }
}

/// The time a waiting step of this flow may take (`states.md` section 8).
pub(crate) fn callback_timeout(t: &Task) -> Duration {
    let c = &t.core.config;
    match t.flow.kind {
        FlowKind::Clean => c.clean_callback_timeout,
        FlowKind::Service => c.service_callback_timeout,
        FlowKind::Inspect => c.inspect_wait_timeout,
        FlowKind::Rescue => c.rescue_callback_timeout,
        _ => c.deploy_callback_timeout,
    }
}

/// Runs the current step.
pub(crate) async fn run(t: &mut Task, step: &Step, entry: &Entry) -> Result<Outcome, StepError> {
    if flows::is_internal(step) {
        return match step.name.as_str() {
            "verify" => misc::verify(t).await,
            "adopt" => misc::adopt(t).await,
            "rescue" | "unrescue" => misc::rescue(t).await,
            "power.set" => misc::power(t).await,
            "boot_mode.set" => device::boot_mode(t).await,
            "secure_boot.set" => device::secure_boot(t).await,
            "console.set" => device::console(t).await,
            "console.start" => device::start_console(t).await,
            "vendor.call" => device::vendor(t).await,
            "media.insert" => device::insert(t).await,
            "media.eject" => device::eject(t).await,
            "device.restart" => device::restart(t).await,
            "device.verify" => device::verify(t, step).await,
            "delete.teardown" => misc::tear_down(t).await,
            "cleanup.power_off" => boot::cleanup_power_off(t).await,
            "cleanup.boot" => boot::cleanup_boot(t).await,
            "ramdisk.off" => boot::off(t).await,
            "ramdisk.on" => boot::on(t).await,
            "ramdisk.wait" => Ok(boot::wait_for_agent(t)),
            "ramdisk.teardown" => boot::teardown(t).await,
            "clean.choose" => plan::choose(t).await,
            "clean.plan" => plan::clean(t).await,
            "service.plan" => plan::service(t).await,
            "deploy.plan" => plan::deploy(t).await,
            "deploy.prepare" => deploy::prepare(t).await,
            "inspect.oob" => inspect::out_of_band(t).await,
            "inspect.wait" => inspect::wait(t).await,
            "inspect.finish" => inspect::finish(t).await,
            "inspect.calls" => inspect::calls(t).await,
            other => Err(StepError::fatal(format!("the flow holds a step '{other}' that this release does not know"))),
        };
    }
    if let Some(only) = &step.children {
        return relatives::step(t, step, only).await;
    }
    if t.flow.kind == FlowKind::Deploy && step.interface == InterfaceKind::Deploy && flows::uses_ramdisk(&t.node) {
        match step.name.as_str() {
            "deploy" => return Ok(boot::wait_for_agent(t)),
            "prepare_instance_boot" => return deploy::prepare_instance_boot(t).await,
            "tear_down_agent" => return deploy::tear_down_agent(t, entry).await,
            "switch_to_tenant_network" => return Ok(Outcome::Next),
            "boot_instance" => return deploy::boot_instance(t).await,
            _ => {}
        }
    }
    match step.name.as_str() {
        "power_on" => return misc::power_step(t, PowerChange::On).await,
        "power_off" => return misc::power_step(t, PowerChange::Off).await,
        "reboot" => return misc::power_step(t, PowerChange::Reboot).await,
        "hold" => return hold(t, entry),
        "wait" => return Ok(sleep(t, step, entry)),
        _ => {}
    }
    match step.runs_on {
        RunsOn::Agent => agent::run_step(t, step, entry).await,
        RunsOn::Conductor => driver_step(t, step, entry).await,
    }
}

/// A `hold` step holds the node only while a ramdisk is up (`states.md` section 4.8); otherwise there is nothing to hold it for.
fn hold(t: &Task, entry: &Entry) -> Result<Outcome, StepError> {
    if matches!(entry, Entry::Woken(_)) || t.flow.noted("ramdisk").is_none() {
        return Ok(Outcome::Next);
    }
    Ok(Outcome::Hold)
}

fn sleep(t: &Task, step: &Step, entry: &Entry) -> Outcome {
    if matches!(entry, Entry::Woken(_)) || t.flow.noted("ramdisk").is_none() && !step.args.contains_key("seconds") {
        return Outcome::Next;
    }
    let seconds = step.args.get("seconds").and_then(serde_json::Value::as_u64).map(Duration::from_secs);
    Outcome::Wait {
        phase: Phase::Sleeping,
        poll: seconds.map(|s| s.min(t.core.config.max_conductor_wait_step)),
        timeout: Some(callback_timeout(t)),
    }
}

async fn driver_step(t: &mut Task, step: &Step, entry: &Entry) -> Result<Outcome, StepError> {
    // A step that let go waits for the agent's next word; that word is what ends it.
    if matches!(entry, Entry::Woken(Phase::Sleeping)) && t.flow.noted("step_waits_for_agent").is_some() {
        t.flow.set_note("step_waits_for_agent", serde_json::Value::Null);
        return Ok(Outcome::Next);
    }
    let Some(implementation) = t.core.registry.steps(&t.node, step.interface).cloned() else {
        return Err(StepError::fatal(format!("interface {} of the node has no step '{}'", step.interface.as_str(), step.name)));
    };
    let outcome = match device::noted(t) {
        Some(note) => implementation.resume(&cx(t), step, &note).await?,
        None => implementation.run(&cx(t), step).await?,
    };
    Ok(device::settle(t, step, outcome))
}
