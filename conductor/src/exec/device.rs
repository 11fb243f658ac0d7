//! Steps that deal with what stands around a machine: console, vendor methods, virtual media.

use bessemer_drivers::iface::BootDevice;
use bessemer_model::{Json, fault::Fault};
use bessemer_rpc::devices::VendorCall;

use crate::{
    devices,
    exec::cx,
    runner::{Outcome, StepError},
    task::Task,
};

fn fatal(f: &Fault) -> StepError {
    StepError::fatal(f.detail.clone())
}

/// `console.set`.
pub(crate) async fn console(t: &mut Task) -> Result<Outcome, StepError> {
    let wanted = t.flow.request.get("enabled").and_then(Json::as_bool);
    let console = t.core.registry.console(&t.node)?.clone();
    let (doing, result) = match wanted {
        Some(true) => ("enabling", console.start(&cx(t)).await),
        _ => ("disabling", console.stop(&cx(t)).await),
    };
    if let Err(e) = result {
        return Err(StepError::fatal(format!("Error {doing} the console on node {}. Reason: {e}", t.node.id)));
    }
    let Some(on) = wanted else {
        return Err(StepError::fatal("\"enabled\" of the console was null; give true or false"));
    };
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
