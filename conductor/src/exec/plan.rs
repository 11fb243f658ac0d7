//! Steps that find out which further steps a flow has.

use bessemer_model::{Json, step::Step};
use bessemer_rpc::UserStep;
use serde_json::json;

use crate::{
    ending::publish_plan,
    exec::{agent, device},
    flows,
    runner::{Outcome, StepError},
    steps::{self, Offer, Purpose, StepProblem},
    task::Task,
};

impl From<StepProblem> for StepError {
    fn from(p: StepProblem) -> Self {
        Self::fatal(p.0)
    }
}

fn user_steps(t: &Task) -> Vec<UserStep> {
    t.flow.request.get("steps").cloned().and_then(|s| serde_json::from_value(s).ok()).unwrap_or_default()
}

fn has_ramdisk(t: &Task) -> bool {
    t.flow.noted("ramdisk").is_some()
}

async fn from_agent(t: &mut Task, purpose: Purpose) -> Result<Vec<Offer>, StepError> {
    let answer = agent::offered_steps(t).await?;
    let key = match purpose {
        Purpose::Clean => "clean_steps",
        Purpose::Deploy => "deploy_steps",
        Purpose::Service => "service_steps",
    };
    if !answer.get(key).is_some_and(Json::is_object) {
        return Err(StepError::fatal(format!("the agent's list of steps is not understood: it has no object '{key}'")));
    }
    if let Some(v) = answer.get("hardware_manager_version") {
        t.flow.set_note("versions", v.clone());
        t.internal_info().insert("hardware_manager_version".into(), v.clone());
    }
    let offers = steps::agent_offers(&answer, purpose);
    if offers.is_empty() && purpose == Purpose::Clean {
        return Err(StepError::fatal("the agent offers no clean steps at all; refusing to call the machine clean"));
    }
    Ok(offers)
}

/// `clean.plan`.
pub(crate) async fn clean(t: &mut Task) -> Result<Outcome, StepError> {
    let ramdisk = has_ramdisk(t);
    let mut offers = steps::driver_offers(&t.core.registry, &t.node, Purpose::Clean);
    if ramdisk {
        let c = &t.core.config;
        let over = [("erase_devices", c.erase_devices_priority), ("erase_devices_metadata", c.erase_devices_metadata_priority)];
        let mut own = from_agent(t, Purpose::Clean).await?;
        for o in &mut own {
            if let Some((_, Some(p))) = over.iter().find(|(n, _)| *n == o.step.name) {
                o.step.priority = *p;
            }
        }
        offers.extend(own);
    }
    let manual = t.flow.target.is_some();
    let planned = if manual {
        let no_ramdisk_asked = t.flow.request.get("disable_ramdisk") == Some(&json!(true));
        steps::resolve(&user_steps(t), &offers, true, !no_ramdisk_asked)?
    } else {
        steps::automated_cleaning(&offers)
    };
    device::read_firmware(t).await;
    finish_plan(t, planned, ramdisk);
    Ok(Outcome::Next)
}

/// `service.plan`.
pub(crate) async fn service(t: &mut Task) -> Result<Outcome, StepError> {
    let ramdisk = has_ramdisk(t);
    let mut offers = steps::driver_offers(&t.core.registry, &t.node, Purpose::Service);
    if ramdisk {
        let own = from_agent(t, Purpose::Service).await?;
        offers.extend(own);
    }
    t.flow.set_note("unplannable", json!(true));
    let planned = steps::resolve(&user_steps(t), &offers, true, true)?;
    t.flow.set_note("unplannable", Json::Null);
    if !ramdisk {
        t.internal_info().insert("service_disable_ramdisk".into(), json!(true));
    }
    finish_plan(t, planned, ramdisk);
    Ok(Outcome::Next)
}

/// `deploy.plan`: the ramdisk is up, its own steps join in.
pub(crate) async fn deploy(t: &mut Task) -> Result<Outcome, StepError> {
    let own = from_agent(t, Purpose::Deploy).await?;
    let user = user_steps(t);
    let all = flows::deployment_steps(&t.core.registry, &t.node, &user, &own, false)?;
    // The core step has run: it brought the ramdisk up.
    let rest: Vec<Step> =
        all.into_iter().filter(|s| !(s.name == "deploy" && s.interface == bessemer_model::interface::InterfaceKind::Deploy)).collect();
    flows::splice_after_current(&mut t.flow, rest);
    publish_plan(t);
    Ok(Outcome::Next)
}

fn finish_plan(t: &mut Task, mut planned: Vec<Step>, ramdisk: bool) {
    if ramdisk {
        planned.push(flows::teardown());
    }
    flows::splice_after_current(&mut t.flow, planned);
    publish_plan(t);
}
