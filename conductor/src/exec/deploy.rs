//! Steps of the `direct` deploy interface on the conductor's side.

use std::time::Duration;

use bessemer_db::Write;
use bessemer_drivers::{agent::client::Marks, iface::BootMode};
use bessemer_model::{
    Json, JsonMap,
    interface::InterfaceKind,
    state::{PowerChange, PowerState},
};
use serde_json::json;

use crate::{
    configdrive,
    ending::publish_plan,
    exec::{agent, boot, cx, device, misc},
    image,
    runner::{Entry, Outcome, StepError},
    task::Task,
};

/// `deploy.prepare`: the image is known and allowed, the config drive is made; nothing is touched yet.
pub(crate) async fn prepare(t: &mut Task) -> Result<Outcome, StepError> {
    let request = t.flow.request.get("configdrive").cloned().unwrap_or(Json::Null);
    let empty = request.is_null() || request.as_object().is_some_and(serde_json::Map::is_empty) || request.as_str() == Some("");
    if !empty {
        let drive = configdrive::stored_form(&t.node, &request).map_err(StepError::fatal)?;
        t.spec().instance_info.insert("configdrive".into(), json!(drive));
    }
    if t.node.spec.interfaces.get(InterfaceKind::Deploy) == "direct" {
        let source = image::source(&t.core, &t.node).await.map_err(|e| StepError::fatal(e.0))?;
        if let Some(path) = &source.served_path {
            t.flow.set_note("image_path", json!(path));
        }
        if let Some(sum) = &source.computed_sha256 {
            t.flow.set_note("image_sha256", json!(sum));
        }
        let mode = boot::boot_mode(&t.core, &t.node);
        let info = t.internal_info();
        info.insert("is_whole_disk_image".into(), json!(true));
        info.insert("deploy_boot_mode".into(), json!(mode.as_str()));
    }
    device::read_firmware(t).await;
    publish_plan(t);
    Ok(Outcome::Next)
}

/// Arguments of the agent's `write_image`.
pub(crate) async fn write_image_args(t: &mut Task) -> Result<Json, StepError> {
    let served = t.flow.noted("image_path").is_some().then(|| {
        let nonce = t.flow.noted("nonce").and_then(Json::as_str).unwrap_or_default();
        let base = t.core.config.boot_url.clone().unwrap_or_default();
        format!("{}/boot/{nonce}/image", base.trim_end_matches('/'))
    });
    let computed = t.flow.noted("image_sha256").and_then(Json::as_str).map(str::to_owned);
    let info = image::info(&t.node, served, computed).map_err(|e| StepError::fatal(e.0))?;
    let mut args = JsonMap::new();
    args.insert("image_info".into(), info);
    if let Some(drive) = t.node.spec.instance_info.get("configdrive").filter(|d| !d.is_null()) {
        args.insert("configdrive".into(), drive.clone());
    }
    Ok(Json::Object(args))
}

/// `prepare_instance_boot`: the boot loader's entry, then the boot device.
pub(crate) async fn prepare_instance_boot(t: &mut Task) -> Result<Outcome, StepError> {
    let mode = boot::boot_mode(&t.core, &t.node);
    if mode == BootMode::Uefi {
        let client = agent::client(t).await?;
        let fence = Marks { fence: Some(t.claim.fence), step: None };
        let uuids =
            agent::finished(&client.start("standby.get_partition_uuids", JsonMap::new(), true, &fence).await?, "get_partition_uuids")?;
        let mut params = JsonMap::new();
        params.insert("root_uuid".into(), uuids.get("root uuid").cloned().unwrap_or(Json::Null));
        params.insert("efi_system_part_uuid".into(), uuids.get("efi system partition uuid").cloned().unwrap_or(Json::Null));
        params.insert("prep_boot_part_uuid".into(), uuids.get("PReP Boot partition uuid").cloned().unwrap_or(Json::Null));
        params.insert("target_boot_mode".into(), json!(mode.as_str()));
        params.insert("ignore_bootloader_failure".into(), json!(false));
        let answer = client.start("image.install_bootloader", params, true, &agent::marks(t)).await?;
        agent::finished(&answer, "install_bootloader")?;
    }
    boot::boot_from_disk(t).await?;
    Ok(Outcome::Next)
}

/// `tear_down_agent`: the agent flushes and powers the machine off; the BMC does it if the agent cannot.
pub(crate) async fn tear_down_agent(t: &mut Task, _entry: &Entry) -> Result<Outcome, StepError> {
    let power = t.core.registry.power(&t.node)?.clone();
    if power.state(&cx(t)).await? == Some(PowerState::Off) {
        misc::note_power(t, Some(PowerState::Off), Some(PowerChange::Off));
        return Ok(Outcome::Next);
    }
    if let Ok(client) = agent::client(t).await {
        let fence = Marks { fence: Some(t.claim.fence), step: None };
        let synced = client.start("standby.sync", JsonMap::new(), true, &fence).await;
        if let Err(e) = &synced {
            // Without a flush a hard power-off may lose the image's last blocks: the agent's own answer to write_image came after its
            // own sync, so this is worth a line, not a failure.
            t.log(None, "sync failed", e.to_string());
        }
        if synced.is_ok() && !t.node.keeps_power() {
            match client.start("standby.power_off", JsonMap::new(), false, &agent::marks(t)).await {
                Ok(_) => {
                    let until = tokio::time::Instant::now() + t.core.config.agent_power_off_timeout;
                    while tokio::time::Instant::now() < until {
                        if power.state(&cx(t)).await? == Some(PowerState::Off) {
                            misc::note_power(t, Some(PowerState::Off), Some(PowerChange::Off));
                            return Ok(Outcome::Next);
                        }
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    t.log(None, "agent did not power off", "switching off by the BMC");
                }
                Err(e) => t.log(None, "agent power-off failed", e.to_string()),
            }
        }
    }
    if !t.node.keeps_power() {
        misc::power_to(t, PowerChange::Off).await?;
    }
    Ok(Outcome::Next)
}

/// `boot_instance`: what the ramdisk was told is void; the machine starts from its own disk.
pub(crate) async fn boot_instance(t: &mut Task) -> Result<Outcome, StepError> {
    boot::eject(t).await?;
    // The plan goes first: a machine that starts with its network card would otherwise get the ramdisk once more.
    t.pending.boot_plan = Write::Delete;
    t.pending.agent = Write::Delete;
    t.pending.clear_token = true;
    t.commit(false).await?;
    misc::power_to(t, if t.node.keeps_power() { PowerChange::Reboot } else { PowerChange::On }).await?;
    Ok(Outcome::Next)
}
