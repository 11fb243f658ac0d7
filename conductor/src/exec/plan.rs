//! Steps that find out which further steps a flow has.

use bessemer_db::DbError;
use bessemer_model::{Json, node::Node, runbook::Runbook, step::Step};
use bessemer_rpc::UserStep;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    config::CleaningSource,
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
    } else if let Some(chosen) = t.flow.noted(CHOSEN) {
        let chosen: Chosen = serde_json::from_value(chosen.clone()).map_err(|e| StepError::fatal(format!("the noted runbook: {e}")))?;
        steps::resolve(&chosen.steps, &offers, true, !chosen.disable_ramdisk)?
    } else {
        steps::automated_cleaning(&offers)
    };
    device::read_firmware(t).await;
    finish_plan(t, planned, ramdisk);
    Ok(Outcome::Next)
}

/// The note of what a runbook has for automated cleaning.
const CHOSEN: &str = "runbook";

/// See [`CHOSEN`].
#[derive(Serialize, Deserialize)]
struct Chosen {
    steps: Vec<UserStep>,
    disable_ramdisk: bool,
}

/// `clean.choose`: whether a runbook gives the steps of automated cleaning, and so whether the ramdisk is needed.
pub(crate) async fn choose(t: &mut Task) -> Result<Outcome, StepError> {
    let policy = &t.core.config.automated_cleaning;
    let book = match policy.runbook_for(&t.node) {
        None if policy.source == CleaningSource::Runbook => {
            let text = "automated cleaning wants a runbook and the node has none; set [conductor] automated_cleaning_runbook or its like";
            return Err(StepError::fatal(text));
        }
        None => None,
        Some(ident) => match t.core.store.record_get::<Runbook>(ident).await {
            Ok(book) => Some(book),
            Err(DbError::NotFound { .. }) => return Err(StepError::fatal(format!("there is no runbook {ident} for automated cleaning"))),
            Err(e) => return Err(e.into()),
        },
    };
    if let Some(book) = book.as_ref().filter(|_| policy.validate_traits) {
        shares_trait(book, &t.node)?;
    }
    let chosen = book.map(|b| chosen(b, &t.core.config.disallow_clean_steps));
    let ramdisk = match &chosen {
        Some(c) => flows::boots_ramdisk(&t.core.registry, &t.node, &c.steps, Purpose::Clean, c.disable_ramdisk),
        None => flows::uses_ramdisk(&t.node),
    };
    t.flow.set_note(CHOSEN, json!(chosen));
    let mut next = Vec::new();
    if ramdisk {
        next.extend(flows::boot_ramdisk());
    }
    next.push(flows::internal("clean.plan"));
    flows::splice_after_current(&mut t.flow, next);
    Ok(Outcome::Next)
}

/// What a runbook has for cleaning, without the steps that the operator has ruled out.
fn chosen(book: Runbook, ruled_out: &[String]) -> Chosen {
    let steps = book.steps.into_iter().map(UserStep::from).filter(|s| !ruled_out.contains(&s.label())).collect();
    Chosen { steps, disable_ramdisk: book.disable_ramdisk }
}

fn shares_trait(book: &Runbook, node: &Node) -> Result<(), StepError> {
    if book.traits.iter().any(|t| node.traits.contains(t)) {
        return Ok(());
    }
    let has = if book.traits.is_empty() { "it has no traits".to_owned() } else { format!("its traits are {}", book.traits.join(", ")) };
    let text = format!("runbook {} may not clean the node: {has}, the node has none of them; give both the same trait", book.name);
    Err(StepError::fatal(text))
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
