//! Bringing a machine's ramdisk up and down.
//!
//! Off and on are two steps, each of which may be repeated: a crash between them never boots a machine twice.

use bessemer_db::{BootPlanRow, PortFilter, PortPage, Write};
use bessemer_drivers::iface::{BootDevice, BootMode};
use bessemer_model::{
    flow::{FlowKind, Phase},
    interface::InterfaceKind,
    node::Node,
    state::{PowerChange, PowerState},
};
use bessemer_pxe::plan::{BootPlan, BootWhat, Nonce};
use serde_json::json;

use crate::{
    core::Core,
    exec::{callback_timeout, cx, misc},
    files,
    runner::{Outcome, StepError},
    task::Task,
    vmedia,
};

/// The firmware mode in which the node boots (`drivers.md` section 6).
pub(crate) fn boot_mode(core: &Core, node: &Node) -> BootMode {
    if node.instance_capability("secure_boot").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return BootMode::Uefi;
    }
    let stored = |key: &str| node.spec.instance_info.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    node.instance_capability("boot_mode")
        .or_else(|| stored("deploy_boot_mode"))
        .or_else(|| node.capability("boot_mode"))
        .or_else(|| node.status.boot_mode.clone())
        .and_then(|m| BootMode::parse(&m))
        .or_else(|| BootMode::parse(&core.config.default_boot_mode))
        .unwrap_or(BootMode::Uefi)
}

/// `ramdisk.off`: whatever runs now stops, and what it was told is void.
pub(crate) async fn off(t: &mut Task) -> Result<Outcome, StepError> {
    if t.node.keeps_power() {
        t.pending.agent = Write::Delete;
        t.pending.clear_token = true;
    } else {
        misc::power_to(t, PowerChange::Off).await?;
    }
    t.pending.agent = Write::Delete;
    t.pending.clear_token = true;
    if t.flow.kind == FlowKind::Clean {
        let info = t.internal_info();
        for (k, v) in [
            ("agent_erase_devices_iterations", json!(1)),
            ("agent_erase_devices_zeroize", json!(true)),
            ("agent_continue_if_secure_erase_failed", json!(false)),
            ("agent_continue_if_ata_erase_failed", json!(false)),
            ("agent_enable_nvme_secure_erase", json!(true)),
            ("agent_enable_ata_secure_erase", json!(true)),
            ("disk_erasure_concurrency", json!(4)),
            ("agent_erase_skip_read_only", json!(false)),
        ] {
            info.insert(k.into(), v);
        }
    }
    t.flow.set_note("ramdisk", json!(true));
    Ok(Outcome::Next)
}

fn setting<'a>(t: &'a Task, key: &str, fallback: Option<&'a String>) -> Option<&'a str> {
    t.node.spec.driver_info.get(key).and_then(|v| v.as_str()).or(fallback.map(String::as_str))
}

/// What the machine shall boot, stored before it is switched on.
async fn plan(t: &mut Task, with_image: bool) -> Result<BootPlanRow, StepError> {
    let c = &t.core.config;
    let (kernel, ramdisk) =
        (setting(t, "deploy_kernel", c.deploy_kernel.as_ref()), setting(t, "deploy_ramdisk", c.deploy_ramdisk.as_ref()));
    let (Some(kernel), Some(ramdisk)) = (kernel, ramdisk) else {
        return Err(StepError::fatal(
            "no ramdisk to boot: set deploy_kernel and deploy_ramdisk in the node's driver_info or in section [conductor]",
        ));
    };
    let kernel_file = files::boot_file(&t.core, "deploy_kernel", kernel).await.map_err(|e| StepError::fatal(e.0))?;
    let ramdisk_file = files::boot_file(&t.core, "deploy_ramdisk", ramdisk).await.map_err(|e| StepError::fatal(e.0))?;
    let macs = pxe_macs(t).await?;
    let mut params = vec![];
    if t.flow.kind == FlowKind::Inspect {
        params.push(format!("ipa-inspection-callback-url={}/v1/continue_inspection", c.api_url.trim_end_matches('/')));
    } else {
        params.push(format!("ipa-api-url={}", c.api_url.trim_end_matches('/')));
    }
    let append = setting(t, "kernel_append_params", None)
        .map_or_else(|| c.kernel_append_params.clone(), |own| own.replace("%default%", &c.kernel_append_params));
    params.extend(append.split_whitespace().map(str::to_owned));
    let mut files = std::collections::BTreeMap::new();
    if let Some(path) = t.flow.noted("image_path").and_then(|p| p.as_str()) {
        files.insert("image".to_owned(), bessemer_pxe::plan::FileRef::Path(path.into()));
    }
    let mut plan = BootPlan {
        node: Some(t.node.id.0),
        what: BootWhat::Ramdisk,
        kernel: Some(kernel_file),
        layers: vec![ramdisk_file],
        params,
        nonce: Nonce::random(),
        files,
        macs: macs.iter().filter_map(|m| m.parse().ok()).collect(),
    };
    if with_image {
        let mode = boot_mode(&t.core, &t.node);
        vmedia::add_image(&t.core, &mut plan, mode).await?;
    }
    let nonce = plan.nonce.reveal().to_owned();
    let json = serde_json::to_value(&plan).map_err(|e| StepError::fatal(format!("boot plan: {e}")))?;
    Ok(BootPlanRow { node: t.node.id, nonce, macs, plan: json })
}

/// Addresses of the cards that may boot from the network.
pub(crate) async fn pxe_macs(t: &Task) -> Result<Vec<String>, StepError> {
    let filter = PortFilter { node: Some(t.node.id), ..Default::default() };
    let ports = t.core.store.port_list(&filter, &PortPage::all()).await.map_err(|e| StepError::fatal(e.to_string()))?;
    Ok(ports.into_iter().filter(|p| p.pxe_enabled).map(|p| p.address).collect())
}

/// `ramdisk.on`: plan, boot device, power.
pub(crate) async fn on(t: &mut Task) -> Result<Outcome, StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    // A crash after the machine was switched on: its plan is stored and it is booting by it. Leave it alone.
    if t.flow.noted("switching_on").is_some() && power.state(&cx(t)).await? == Some(PowerState::On) && !t.node.keeps_power() {
        misc::note_power(t, Some(PowerState::On), Some(PowerChange::On));
        return Ok(Outcome::Next);
    }
    let media = t.core.registry.media(&t.node).cloned();
    let row = plan(t, media.is_some()).await?;
    let boot = t.node.spec.interfaces.get(InterfaceKind::Boot).to_owned();
    let mode = boot_mode(&t.core, &t.node);
    let macs_known = !row.macs.is_empty();
    t.flow.set_note("nonce", json!(row.nonce));
    t.pending.boot_plan = Write::Put(row.clone());
    t.flow.set_note("switching_on", json!(true));
    t.commit(false).await?;

    let device = if let Some(media) = media {
        vmedia::insert(t, media.as_ref(), &row.nonce).await?;
        BootDevice::Cdrom
    } else {
        if !macs_known && boot != "fake" {
            return Err(StepError::fatal("the node has no port with pxe_enabled: create one with the address of the card it boots from"));
        }
        match boot.as_str() {
            "http" | "http-ipxe" => BootDevice::Uefihttp,
            _ => BootDevice::Pxe,
        }
    };
    if boot != "fake" {
        set_boot_device(t, device, false, mode).await?;
    }
    misc::power_to(t, if t.node.keeps_power() { PowerChange::Reboot } else { PowerChange::On }).await?;
    Ok(Outcome::Next)
}

/// `ramdisk.wait` and `deploy.deploy`: over when the agent has spoken.
pub(crate) fn wait_for_agent(t: &Task) -> Outcome {
    if t.node.agent.as_ref().is_some_and(|a| a.url.is_some()) {
        return Outcome::Next;
    }
    Outcome::Wait { phase: Phase::WaitingBoot, poll: None, timeout: Some(callback_timeout(t)) }
}

/// `ramdisk.teardown`: the ramdisk's work is done, the machine rests.
pub(crate) async fn teardown(t: &mut Task) -> Result<Outcome, StepError> {
    if !t.node.keeps_power() {
        misc::power_to(t, PowerChange::Off).await?;
    }
    eject(t).await?;
    t.pending.agent = Write::Delete;
    t.pending.clear_token = true;
    t.pending.boot_plan = Write::Delete;
    if t.flow.kind == FlowKind::Service {
        boot_from_disk(t).await?;
        misc::power_to(t, PowerChange::On).await?;
    }
    Ok(Outcome::Next)
}

/// Takes the ramdisk's medium away, where it was booted from one.
pub(crate) async fn eject(t: &Task) -> Result<(), StepError> {
    let Some(media) = t.core.registry.media(&t.node).cloned() else { return Ok(()) };
    media.eject(&cx(t), None).await?;
    if let Some(nonce) = t.flow.noted("nonce").and_then(|n| n.as_str()) {
        vmedia::discard(&t.core, nonce).await;
    }
    Ok(())
}

/// Makes the machine boot from its own disk from now on.
pub(crate) async fn boot_from_disk(t: &mut Task) -> Result<(), StepError> {
    if t.node.spec.interfaces.get(InterfaceKind::Boot) == "fake" {
        return Ok(());
    }
    let mode = boot_mode(&t.core, &t.node);
    set_boot_device(t, BootDevice::Disk, true, mode).await
}

/// Sets the boot device, and remembers it for nodes whose BMC must be told again before each start (`ipmi_force_boot_device`).
async fn set_boot_device(t: &mut Task, device: BootDevice, persistent: bool, mode: BootMode) -> Result<(), StepError> {
    let management = t.core.registry.management(&t.node)?.clone();
    management.set_boot_device(&cx(t), device, persistent, mode).await?;
    if t.node.spec.driver_info.get("ipmi_force_boot_device").is_some_and(|v| v.as_bool() == Some(true) || v.as_str() == Some("true")) {
        let info = t.internal_info();
        info.insert("is_next_boot_persistent".into(), json!(persistent));
        if persistent {
            info.insert("persistent_boot_device".into(), json!(device.as_str()));
        }
    }
    Ok(())
}

/// `cleanup.power_off`: as far as the BMC lets us; a failure here must not hide the one that led here.
pub(crate) async fn cleanup_power_off(t: &mut Task) -> Result<Outcome, StepError> {
    if t.node.keeps_power() {
        return Ok(Outcome::Next);
    }
    if let Err(e) = misc::power_to(t, PowerChange::Off).await {
        if e.retry.is_some() && t.flow.attempt < 3 {
            return Err(e);
        }
        tracing::warn!(node = %t.node.id, error = %e, "could not power the machine off while cleaning up");
        t.log(None, "power off failed", e.text);
    }
    Ok(Outcome::Next)
}

/// `cleanup.boot`: what the ramdisk was told is void.
pub(crate) async fn cleanup_boot(t: &mut Task) -> Result<Outcome, StepError> {
    if let Err(e) = eject(t).await {
        t.log(None, "eject failed", e.text);
    }
    t.pending.agent = Write::Delete;
    t.pending.clear_token = true;
    t.pending.boot_plan = Write::Delete;
    Ok(Outcome::Next)
}
