//! `states` of a node: shown, power, RAID, boot mode (`api.md` section 3.1).

use std::time::Duration;

use bessemer_model::{
    Json, JsonMap,
    clock::Timestamp,
    fault::{Fault, FaultKind},
    interface::InterfaceKind,
    node::Node,
    state::ProvisionState,
};
use serde_json::json;

use super::{node_write::rewrite, raid};
use crate::{
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, FieldTable, fields::StatesField},
};

/// `GET states`.
pub(crate) async fn show(api: &Api, req: &Req) -> Result<Reply, Fault> {
    use StatesField as F;
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let st = &node.status;
    let mut m = JsonMap::new();
    for f in req.version.visible::<StatesField>().iter() {
        let value = match f {
            F::ConsoleEnabled => json!(st.console_enabled),
            F::LastError => json!(st.last_error),
            F::PowerState => json!(st.power_state.map(|p| p.as_str())),
            F::ProvisionState => json!(req.version.state_name(st.provision_state)),
            F::TargetPowerState => json!(st.target_power_state.map(|p| p.as_str())),
            F::TargetProvisionState => json!(st.target_provision_state.map(|p| p.as_str())),
            F::ProvisionUpdatedAt => json!(st.provision_updated_at.map(Timestamp::to_wire)),
            F::RaidConfig => Json::Object(st.raid_config.clone()),
            F::TargetRaidConfig => Json::Object(node.spec.target_raid_config.clone()),
            F::BootMode => json!(st.boot_mode),
            F::SecureBoot => json!(st.secure_boot),
        };
        m.insert(f.name().to_owned(), value);
    }
    Reply::ok(&m)
}

/// Where to look for what becomes of an action.
pub(crate) fn states_location(req: &Req) -> String {
    format!("{}/v1/nodes/{}/states", req.base, req.param(0))
}

/// `PUT states/power`.
pub(crate) async fn power(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["target", "timeout"])?;
    let target = args.required_text("target")?;
    let timeout = args.get("timeout").map(seconds).transpose()?;
    let node = api.node_of_path(req).await?;
    let change = req.version.power_target(target)?;
    if timeout.is_some() && !req.version.has(Behaviour::PowerTimeout) {
        return Err(Fault::new(FaultKind::NotAcceptable, "\"timeout\" of a power action needs a newer API version."));
    }
    let wait = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0).map(Duration::from_secs);
    let timeout = timeout.map(|n| wait(n).ok_or_else(|| Fault::invalid("\"timeout\" must be at least 1 second."))).transpose()?;
    if matches!(node.status.provision_state, ProvisionState::Cleaning | ProvisionState::CleanWait) {
        let text = format!("The power of node {} cannot be changed while it is being cleaned.", node.id);
        return Err(Fault::new(FaultKind::InvalidStateRequested, text));
    }
    api.conductor.set_power(&req.cx, node.id, change, timeout).await?;
    Ok(Reply::accepted().at(states_location(req)))
}

/// Nobody waits longer than this for a power action: a year.
const LONGEST: i64 = 86_400 * 365;

/// A whole number of seconds; a fraction is cut off, and what is longer than anybody waits is the longest wait.
fn seconds(v: &Json) -> Result<i64, Fault> {
    #[allow(clippy::cast_possible_truncation, reason = "a cast of a float cuts off and saturates")]
    let n = match v {
        Json::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)),
        Json::String(s) => {
            let digits = s.trim().trim_start_matches(['+', '-']);
            let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            whole.then(|| s.trim().parse().unwrap_or(LONGEST))
        }
        Json::Bool(b) => Some(i64::from(*b)),
        _ => None,
    };
    n.map(|n| n.min(LONGEST)).ok_or_else(|| Fault::invalid("\"timeout\" must be a whole number of seconds, at least 1."))
}

/// `PUT states/raid`: the wish only; cleaning makes it so.
pub(crate) async fn raid(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let config = if req.body.is_empty() { JsonMap::new() } else { req.body.object()? };
    let node = api.node_of_path(req).await?;
    raid::check(&config)?;
    if node.spec.interfaces.get(InterfaceKind::Raid) == "no-raid" {
        return Err(Fault::new(FaultKind::NotFound, format!("Node {} has no RAID support; choose another raid_interface.", node.id)));
    }
    rewrite(api, node, |s| s.target_raid_config.clone_from(&config)).await?;
    Ok(Reply::no_content())
}

fn settled(node: &Node, what: &str) -> Result<(), Fault> {
    if node.status.provision_state.is_unstable() {
        let text = format!("The {what} of node {} cannot change in state \"{}\".", node.id, node.status.provision_state);
        return Err(Fault::new(FaultKind::InvalidState, text));
    }
    Ok(())
}

/// `PUT states/boot_mode`.
pub(crate) async fn boot_mode(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["target"])?;
    let target = args.required_text("target")?;
    if !matches!(target, "bios" | "uefi") {
        return Err(Fault::invalid(format!("Invalid boot mode \"{target}\": use bios or uefi.")));
    }
    let node = api.node_of_path(req).await?;
    settled(&node, "boot mode")?;
    api.conductor.set_boot_mode(node.id, target).await?;
    Ok(Reply::accepted().at(states_location(req)))
}

/// `PUT states/secure_boot`.
pub(crate) async fn secure_boot(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["target"])?;
    let on = args.bool("target")?.ok_or_else(|| Fault::missing("Missing mandatory parameter: \"target\""))?;
    let node = api.node_of_path(req).await?;
    settled(&node, "secure boot")?;
    api.conductor.set_secure_boot(node.id, on).await?;
    Ok(Reply::accepted().at(states_location(req)))
}
