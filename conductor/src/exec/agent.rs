//! Steps that the ramdisk agent carries out.

use std::time::Duration;

use bessemer_agent_types::command::{CommandResult, CommandStatus};
use bessemer_drivers::{
    agent::client::{AgentClient, AgentEndpoint, Marks},
    error::DriverError,
};
use bessemer_model::{
    Json, JsonMap,
    flow::{FlowKind, Phase},
    secret::masked,
    step::Step,
};
use serde_json::json;

use crate::{
    exec::{callback_timeout, deploy},
    runner::{Entry, Outcome, StepError},
    task::Task,
};

/// How often a running command is asked after when no heartbeat wakes the flow.
const POLL: Duration = Duration::from_secs(2);

/// A client for the node's agent.
pub(crate) async fn client(t: &Task) -> Result<AgentClient, StepError> {
    let state = t.core.store.agent_get(t.node.id).await.map_err(|e| StepError { text: e.to_string(), retry: Some(POLL) })?;
    let token = t.core.store.agent_token_get(t.node.id).await.map_err(|e| StepError { text: e.to_string(), retry: Some(POLL) })?;
    let endpoint = AgentEndpoint::of(state.as_ref(), token)?;
    Ok(AgentClient::new(endpoint, t.core.config.agent_command_timeout)?)
}

/// Fence and step id of the current step.
pub(crate) fn marks(t: &Task) -> Marks {
    Marks { fence: Some(t.claim.fence), step: Some(t.flow.step_id()) }
}

/// The node as the agent is told of it: secrets masked.
pub(crate) fn node_json(t: &Task) -> Json {
    let n = &t.node;
    let mut instance = masked(&n.spec.instance_info);
    instance.remove("configdrive");
    json!({
        "uuid": n.id,
        "name": n.spec.name,
        "driver": n.spec.driver,
        "driver_info": masked(&n.spec.driver_info),
        "driver_internal_info": masked(&n.status.driver_internal_info),
        "instance_info": instance,
        "instance_uuid": n.spec.instance_uuid,
        "properties": n.spec.properties,
        "extra": n.spec.extra,
        "raid_config": n.status.raid_config,
        "target_raid_config": n.spec.target_raid_config,
        "provision_state": n.status.provision_state,
    })
}

/// The node's ports as the agent is told of them.
pub(crate) async fn ports_json(t: &Task) -> Result<Json, StepError> {
    let filter = bessemer_db::PortFilter { node: Some(t.node.id), ..Default::default() };
    let ports = t
        .core
        .store
        .port_list(&filter, &bessemer_db::PortPage::all())
        .await
        .map_err(|e| StepError { text: e.to_string(), retry: Some(POLL) })?;
    Ok(Json::Array(
        ports
            .iter()
            .map(|p| json!({"uuid": p.id, "node_uuid": p.node, "address": p.address, "pxe_enabled": p.pxe_enabled, "extra": p.extra}))
            .collect(),
    ))
}

/// The agent's answer to `get_clean_steps` and its like.
pub(crate) async fn offered_steps(t: &Task) -> Result<Json, StepError> {
    let command = match t.flow.kind {
        FlowKind::Clean => "clean.get_clean_steps",
        FlowKind::Service => "service.get_service_steps",
        _ => "deploy.get_deploy_steps",
    };
    let mut params = JsonMap::new();
    params.insert("node".into(), node_json(t));
    params.insert("ports".into(), ports_json(t).await?);
    let marks = Marks { fence: Some(t.claim.fence), step: None };
    let answer = client(t).await?.start(command, params, true, &marks).await?;
    finished(&answer, command)
}

/// The result of a command that has ended.
pub(crate) fn finished(r: &CommandResult, what: &str) -> Result<Json, StepError> {
    match r.command_status {
        CommandStatus::Succeeded => Ok(r.command_result.clone().unwrap_or(Json::Null)),
        CommandStatus::Running => Err(StepError { text: format!("the agent is still busy with {what}"), retry: Some(POLL) }),
        CommandStatus::Failed | CommandStatus::CleanVersionMismatch => {
            Err(StepError::fatal(format!("agent command {what} failed: {}", error_text(r))))
        }
    }
}

fn error_text(r: &CommandResult) -> String {
    let Some(e) = &r.command_error else { return "no reason given".into() };
    let text = if e.details.is_empty() { &e.message } else { &e.details };
    if e.kind.is_empty() { text.clone() } else { format!("{}: {text}", e.kind) }
}

/// Starts the step at the agent, or looks how far it is.
pub(crate) async fn run_step(t: &mut Task, step: &Step, entry: &Entry) -> Result<Outcome, StepError> {
    let agent = client(t).await?;
    let answer = if let Entry::Woken(Phase::WaitingAgent { command }) = entry {
        match agent.command(command).await {
            Ok(r) => r,
            // It may be rebooting its network or be too busy to answer: the deadline decides, not one lost request.
            Err(e) if e.is_transient() => return Ok(still(t, command.clone())),
            Err(DriverError::Refused(text)) => {
                return Err(StepError::fatal(format!(
                    "the agent no longer knows the command of step {}: {text}; it may have restarted",
                    step.label()
                )));
            }
            Err(e) => return Err(e.into()),
        }
    } else {
        // The same step id after a crash: an agent that already has the command answers with it instead of starting it again. For agents
        // that know no step ids, the list of commands is asked first.
        if let Some(known) = already_started(t, &agent, step).await? {
            known
        } else {
            let (name, params) = command_of(t, step).await?;
            agent.start(name, params, false, &marks(t)).await?
        }
    };
    match answer.command_status {
        CommandStatus::Running => {
            // It speaks and it works: the time to wait begins anew.
            t.flow.deadline = Some(t.now().after(callback_timeout(t))).filter(|_| !callback_timeout(t).is_zero());
            // For people who watch: an agent that does not tell is no error.
            if let Ok(progress) = agent.progress().await {
                t.internal_info().insert("agent_progress".into(), progress);
            }
            Ok(still(t, answer.id))
        }
        CommandStatus::Succeeded => {
            t.internal_info().remove("agent_progress");
            if let Some(r) = answer.command_result {
                t.flow.set_note("last_result", r);
            }
            Ok(Outcome::Next)
        }
        CommandStatus::Failed | CommandStatus::CleanVersionMismatch => {
            Err(StepError::fatal(format!("agent command for step {} failed: {}", step.label(), error_text(&answer))))
        }
    }
}

fn still(t: &Task, command: String) -> Outcome {
    Outcome::Wait { phase: Phase::WaitingAgent { command }, poll: Some(POLL), timeout: Some(callback_timeout(t)) }
}

/// After a crash an agent without step ids is asked whether the step's command is there already.
async fn already_started(t: &mut Task, agent: &AgentClient, step: &Step) -> Result<Option<CommandResult>, StepError> {
    if t.flow.noted("asking").and_then(Json::as_str) != Some(t.flow.step_id().as_str()) {
        // First time here: remember that we are about to ask, so that a crash between asking and recording is seen.
        let id = t.flow.step_id();
        t.flow.set_note("asking", json!(id));
        t.commit(false).await.map_err(|e| StepError { text: e.to_string(), retry: Some(POLL) })?;
        return Ok(None);
    }
    let list = agent.commands().await?;
    let name = match t.flow.kind {
        FlowKind::Clean => "execute_clean_step",
        FlowKind::Service => "execute_service_step",
        _ => "execute_deploy_step",
    };
    Ok(list.into_iter().rev().find(|c| {
        c.command_name == name
            && match &c.command_result {
                Some(r) => ["clean_step", "deploy_step", "service_step"]
                    .iter()
                    .find_map(|k| r.get(*k))
                    .is_none_or(|s| s.get("step").and_then(Json::as_str) == Some(step.name.as_str())),
                None => true,
            }
    }))
}

async fn command_of(t: &mut Task, step: &Step) -> Result<(&'static str, JsonMap), StepError> {
    let mut wire = json!({
        "interface": step.interface, "step": step.name, "priority": step.priority, "abortable": step.abortable,
        "args": step.args, "reboot_requested": false,
    });
    if t.flow.kind == FlowKind::Deploy && step.name == "write_image" {
        wire["args"] = deploy::write_image_args(t).await?;
    }
    let (name, version_key) = match t.flow.kind {
        FlowKind::Clean => ("clean.execute_clean_step", "clean_version"),
        FlowKind::Service => ("service.execute_service_step", "service_version"),
        _ => ("deploy.execute_deploy_step", "deploy_version"),
    };
    let mut params = JsonMap::new();
    params.insert("step".into(), wire);
    params.insert("node".into(), node_json(t));
    params.insert("ports".into(), ports_json(t).await?);
    params.insert(version_key.into(), t.flow.noted("versions").cloned().unwrap_or_else(|| json!({})));
    Ok((name, params))
}
