//! `PUT states/provision` (`api.md` section 3.4): shape, microversion and whether the state knows the verb. Everything else about a
//! verb is checked by the conductor, which also checks the state again when it writes.

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    node::Node,
    secret::Secret,
    state::{ProvisionState, StateClass},
    transition,
};
use bessemer_rpc::{ProvisionRequest, Verb};

use super::{
    node_states::states_location,
    runbook::{self, Prepared},
    steps::{self, StepList},
};
use crate::{
    body::Args,
    policy,
    reply::Reply,
    request::{Api, Req},
    version::{Behaviour, Version},
};

/// See the module documentation.
pub(crate) async fn set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&[
        "target",
        "configdrive",
        "clean_steps",
        "deploy_steps",
        "service_steps",
        "rescue_password",
        "disable_ramdisk",
        "runbook",
    ])?;
    let target = args.required_text("target")?.to_owned();
    check_types(&args)?;
    let node = api.node_of_path(req).await?;
    req.version.check_verb(&target)?;
    let verb = Verb::parse(&target).ok_or_else(|| Fault::invalid(format!("The requested action \"{target}\" could not be understood.")))?;
    if matches!(verb, Verb::Active | Verb::Rebuild) && node.spec.maintenance {
        return Err(Fault::new(FaultKind::NodeInMaintenance, format!("Node {} is in maintenance.", node.id)));
    }
    check_state(&node, verb, req.version)?;
    let runbook = runbook::for_verb(api, req, &node, verb, &args).await?;
    let request = request(api, req.version, verb, &target, args, runbook)?;
    let children: Vec<NodeId> = request.steps.iter().flatten().flat_map(|s| s.children.iter().flatten().copied()).collect();
    policy::provision_children(api, req, &children).await?;
    api.conductor.provision(&req.cx, node.id, request).await?;
    Ok(Reply::accepted().at(states_location(req)))
}

/// Types are looked at before the verb, the node and the microversion.
fn check_types(args: &Args) -> Result<(), Fault> {
    if args.get("configdrive").is_some_and(|c| !c.is_string() && !c.is_object()) {
        return Err(Fault::invalid("\"configdrive\" must be text or an object."));
    }
    for list in [StepList::Clean, StepList::Deploy, StepList::Service] {
        if args.get(list.key()).is_some_and(|v| !v.is_array()) {
            return Err(Fault::invalid(format!("\"{}\" must be a list.", list.key())));
        }
    }
    for key in ["rescue_password", "runbook"] {
        args.text(key)?;
    }
    args.bool("disable_ramdisk").map(drop)
}

/// Whether the node's state knows the verb; a node that is being worked on is locked rather than in a wrong state.
fn check_state(node: &Node, verb: Verb, version: Version) -> Result<(), Fault> {
    let state = node.status.provision_state;
    if verb == Verb::Abort && state == ProvisionState::InspectWait && !version.has(Behaviour::AbortInspection) {
        return Err(Fault::new(FaultKind::NotAcceptable, "Aborting an inspection needs a newer API version."));
    }
    if transition::next(state, verb.event()).is_ok() {
        return Ok(());
    }
    // Long work is a conflict whatever else the request says; what is short the conductor waits for.
    if state.class() == StateClass::Working && state != ProvisionState::Verifying {
        let holder = node.reservation.as_deref().unwrap_or("a conductor");
        let since = node.status.provision_updated_at.map(|t| format!(" since {}", t.to_wire())).unwrap_or_default();
        let text = format!("Node {} is locked by host {holder}: it is {state}{since}. Retry when that has ended.", node.id);
        return Err(Fault::new(FaultKind::NodeLocked, text));
    }
    if node.reservation.is_some() || state == ProvisionState::Verifying {
        return Ok(());
    }
    let text = format!("The action \"{}\" cannot be performed on node {} while it is in state \"{state}\".", verb.as_str(), node.id);
    Err(Fault::new(FaultKind::InvalidStateRequested, text))
}

fn request(
    api: &Api,
    version: Version,
    verb: Verb,
    target: &str,
    mut args: Args,
    runbook: Option<Prepared>,
) -> Result<ProvisionRequest, Fault> {
    let newer = |what: &str| Fault::new(FaultKind::NotAcceptable, format!("{what} needs a newer API version."));
    let wrong = |what: &str| Fault::invalid(format!("\"{what}\" cannot be given with \"{target}\"."));

    // An empty config drive is none, whatever its type; so is an empty list of steps that the verb does not take.
    let empty = |v: &Json| v.as_str() == Some("") || v.as_object().is_some_and(JsonMap::is_empty);
    let configdrive = args.0.remove("configdrive").filter(|v| !v.is_null() && !empty(v));
    if let Some(c) = &configdrive {
        // The alias `deploy` came after config drives and never took one.
        if !matches!(target, "active" | "rebuild") {
            return Err(wrong("configdrive"));
        }
        if verb == Verb::Rebuild && !version.has(Behaviour::RebuildConfigdrive) {
            return Err(wrong("configdrive"));
        }
        check_configdrive(c, version)?;
    }
    let disable_ramdisk = args.bool("disable_ramdisk")?;
    if disable_ramdisk.is_some() {
        let since = match verb {
            Verb::Clean => Behaviour::CleanWithoutRamdisk,
            Verb::Service => Behaviour::ServiceWithoutRamdisk,
            _ => return Err(wrong("disable_ramdisk")),
        };
        if !version.has(since) {
            return Err(newer("\"disable_ramdisk\""));
        }
    }

    let lists = [
        (StepList::Clean, &api.config.disallow_clean_steps, verb == Verb::Clean),
        (StepList::Deploy, &api.config.disallow_deploy_steps, matches!(verb, Verb::Active | Verb::Rebuild)),
        (StepList::Service, &api.config.disallow_service_steps, verb == Verb::Service),
    ];
    // A runbook decides about the ramdisk, whatever the request says beside it.
    let (mut steps, disable_ramdisk) = match runbook {
        Some(r) => (Some(r.steps), r.disable_ramdisk),
        None => (None, disable_ramdisk.unwrap_or(false)),
    };
    for (list, disallowed, fits) in lists {
        match args.get(list.key()) {
            Some(v) if !fits && v.as_array().is_some_and(Vec::is_empty) => {}
            Some(_) if !fits => return Err(wrong(list.key())),
            Some(_) if list == StepList::Deploy && !version.has(Behaviour::DeploySteps) => return Err(newer("\"deploy_steps\"")),
            // Beside a runbook only an empty list comes as far as this.
            Some(v) if steps.is_none() => steps = Some(steps::read(list, v, disallowed)?),
            None if fits && list != StepList::Deploy && steps.is_none() => {
                return Err(Fault::missing(format!("\"{target}\" needs \"{}\".", list.key())));
            }
            Some(_) | None => {}
        }
    }

    let rescue_password = args.text("rescue_password")?.map(str::to_owned);
    match (&rescue_password, verb == Verb::Rescue) {
        (Some(p), true) if !p.trim().is_empty() => {}
        (_, true) => return Err(Fault::missing("\"rescue\" needs \"rescue_password\" that is not blank.")),
        (Some(_), false) => return Err(wrong("rescue_password")),
        (None, false) => {}
    }
    Ok(ProvisionRequest {
        verb,
        configdrive,
        steps,
        disable_ramdisk,
        rescue_password: rescue_password.map(Secret::new),
        abort_deploy_fails: version.has(Behaviour::AbortFailsDeploy),
    })
}

/// A URL, base64 text or an object of known parts.
fn check_configdrive(c: &Json, version: Version) -> Result<(), Fault> {
    match c {
        Json::String(s) if s.contains("://") => Ok(()),
        Json::String(s) => {
            let padded = |b: u8| base64::alphabet::STANDARD.as_str().as_bytes().contains(&b) || b"=\n\r\t ".contains(&b);
            if s.bytes().all(padded) { Ok(()) } else { Err(Fault::invalid("\"configdrive\" is neither a URL nor base64 text.")) }
        }
        Json::Object(m) => {
            if !version.has(Behaviour::JsonConfigdrive) {
                return Err(Fault::invalid("A \"configdrive\" object needs a newer API version."));
            }
            for (k, v) in m {
                let good = match k.as_str() {
                    "meta_data" | "network_data" => v.is_object(),
                    "vendor_data" if !version.has(Behaviour::VendorData) => {
                        return Err(Fault::invalid("\"vendor_data\" of a \"configdrive\" needs a newer API version."));
                    }
                    "vendor_data" => v.is_object(),
                    "user_data" => matches!(v, Json::Object(_) | Json::Array(_) | Json::String(_) | Json::Null),
                    _ => false,
                };
                if !good {
                    return Err(Fault::invalid(format!("\"{k}\" of \"configdrive\" is unknown or of a wrong type.")));
                }
            }
            Ok(())
        }
        _ => Err(Fault::invalid("\"configdrive\" must be text or an object.")),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn whatever_the_encoder_writes_is_taken_as_base64() {
        let all: Vec<u8> = (0..=255).collect();
        let text = base64::engine::general_purpose::STANDARD.encode(all);
        assert!(check_configdrive(&Json::String(text), Version::MIN).is_ok());
        assert!(check_configdrive(&Json::String("not base64!".into()), Version::MIN).is_err());
        assert!(check_configdrive(&serde_json::json!({"meta_data": {}}), Version::MIN).is_err());
        assert!(check_configdrive(&serde_json::json!({"meta_data": {}}), Version::MAX).is_ok());
    }
}
