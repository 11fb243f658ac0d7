//! Runs flows: load, run the step, write the outcome, go on or let go.
//!
//! No transaction or lock is held while a driver runs. Everything that must survive is in the flow's row before its effect is started, and
//! every step may be run again after a crash (see [`bessemer_model::step::Replay`]).

use std::{sync::Arc, time::Duration};

use bessemer_db::DbError;
use bessemer_drivers::error::DriverError;
use bessemer_model::{
    clock::Timestamp,
    flow::Phase,
    ids::NodeId,
    state::StateClass,
    step::{Replay, Step},
    transition::Event,
};

use crate::{
    core::Core,
    ending, exec,
    task::{LANES, Task, TaskError, is_due},
};

/// How a step comes to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// For the first time, as far as the record tells.
    Fresh,
    /// The record says that it was begun by somebody who is gone.
    Resumed,
    /// It waited and was woken.
    Woken(Phase),
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done.
    Next,
    /// Waits. The phase tells for what.
    Wait {
        /// See [`Phase`].
        phase: Phase,
        /// Look again after this; `None` = only when woken or at the deadline.
        poll: Option<Duration>,
        /// Fail after this, counted from the first time that the step waits; `None` or zero = never.
        timeout: Option<Duration>,
    },
    /// Held until `unhold`.
    Hold,
}

/// Why a step failed. The text is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct StepError {
    /// What failed and the remedy.
    pub text: String,
    /// Try the step again after this instead of failing, as long as its time lasts.
    pub retry: Option<Duration>,
}

impl StepError {
    /// A final failure.
    pub fn fatal(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry: None }
    }
}

impl From<DriverError> for StepError {
    fn from(e: DriverError) -> Self {
        Self { text: e.to_string(), retry: e.is_transient().then_some(RETRY) }
    }
}

/// A store that fails may work again in a moment.
impl From<DbError> for StepError {
    fn from(e: DbError) -> Self {
        Self { text: e.to_string(), retry: Some(RETRY) }
    }
}

impl From<TaskError> for StepError {
    fn from(e: TaskError) -> Self {
        Self { text: e.to_string(), retry: Some(RETRY) }
    }
}

/// Between two tries of what may pass.
pub const RETRY: Duration = Duration::from_secs(5);

/// How often a step whose failure may pass is tried again.
const MAX_RETRIES: u32 = 5;

/// How often a waiting flow of a node in maintenance is looked at.
const MAINTENANCE_LOOK: Duration = Duration::from_secs(30);

/// How long after a conductor's start nothing is called overdue: machines must get the chance to speak to it.
const START_GRACE: Duration = Duration::from_secs(300);

/// Takes the node and runs what is due on it. Returns without effect when another process holds it or nothing is due.
/// Gives whether anything was run: more may be due then.
pub async fn run_node(core: Arc<Core>, node: NodeId) -> bool {
    match run_claimed(&core, node).await {
        Ok(ran) => ran,
        Err(TaskError::Lost) => {
            tracing::info!(%node, "work was taken over or replaced; leaving it");
            false
        }
        Err(TaskError::Store(e)) => {
            tracing::warn!(%node, error = %e, "the store failed; the work stays recorded and is tried again");
            false
        }
    }
}

async fn run_claimed(core: &Arc<Core>, node: NodeId) -> Result<bool, TaskError> {
    let mut due = None;
    for lane in LANES {
        let flow = core.store.flow_get(node, lane).await?.filter(|f| is_due(f, core.now()));
        due = due.or(flow.map(|f| f.flow.kind));
    }
    let Some(kind) = due else { return Ok(false) };
    let taken = core.store.claim_take(node, core.epoch(), &core.config.host, core.now(), kind.as_str()).await?;
    let Some(claim) = taken else { return Ok(false) };
    for lane in LANES {
        // The flow first: a wake-up after this reading moves its counter, and the commit notices.
        let Some(stored) = core.store.flow_get(node, lane).await? else { continue };
        if !is_due(&stored, core.now()) {
            continue;
        }
        let fresh = core.store.node_get_with_secrets(node).await?;
        let mut task = Task::new(Arc::clone(core), claim.clone(), fresh, stored);
        // Every end of a flow's run lets the node go with its last write.
        run_flow(&mut task).await?;
        return Ok(true);
    }
    core.store.claim_release(&claim).await?;
    Ok(false)
}

/// Runs the flow until it waits or ends; its last write releases the claim.
async fn run_flow(t: &mut Task) -> Result<(), TaskError> {
    loop {
        if !t.core.lease_outlives(Duration::ZERO) {
            return Err(TaskError::Lost);
        }
        if t.flow.aborting && may_stop_here(t) {
            ending::aborted(t).await?;
            return Ok(());
        }
        let Some(step) = t.flow.current().cloned() else {
            ending::finished(t).await?;
            return Ok(());
        };
        let entry = match &t.flow.phase {
            Phase::Ready => Entry::Fresh,
            Phase::Started => Entry::Resumed,
            waiting => Entry::Woken(waiting.clone()),
        };
        if matches!(entry, Entry::Woken(_)) && t.node.spec.maintenance {
            return in_maintenance(t, &step).await;
        }
        if entry == Entry::Resumed {
            if step.replay == Replay::Never {
                let text = format!("the conductor stopped during step {}; whether it took effect is not known", step.label());
                ending::failed(t, &step, &text).await?;
                return Ok(());
            }
            t.log(Some(&step), "resumed", "");
        }
        if entry == Entry::Fresh && step.replay == Replay::Never {
            t.flow.phase = Phase::Started;
            t.commit(false).await?;
        }
        if t.core.config.repeat_steps && step.replay == Replay::Idempotent {
            let before = (t.flow.clone(), t.pending.clone(), t.node.clone());
            exec::run(t, &step, &entry).await.ok();
            // What the "dead" process had not recorded is gone; what it had done to the world is not.
            let recorded = t.core.store.node_get_with_secrets(t.node.id).await?;
            (t.flow, t.pending, t.node) = before;
            t.node = recorded;
        }
        let lost = t.core.lease_lost();
        let result = tokio::select! {
            r = exec::run(t, &step, &entry) => r,
            () = lost.cancelled() => return Err(TaskError::Lost),
        };
        match result {
            Ok(Outcome::Next) => {
                t.log(Some(&step), "done", "");
                if t.state().class() == StateClass::Waiting {
                    t.event(Event::Resume);
                }
                t.advance();
                if t.flow.current().is_some() {
                    t.commit(false).await?;
                }
            }
            Ok(Outcome::Wait { phase, poll, timeout }) => {
                if let Some(text) = overdue(t, &step, &phase) {
                    ending::failed(t, &step, &text).await?;
                    return Ok(());
                }
                return wait(t, &step, phase, poll, timeout).await;
            }
            Ok(Outcome::Hold) => {
                t.event(Event::Hold);
                t.flow.phase = Phase::Held;
                t.flow.wake_at = None;
                t.flow.deadline = None;
                t.log(Some(&step), "held", "until 'unhold'");
                t.commit(true).await?;
                return Ok(());
            }
            Err(e) => {
                if let Some(after) = e.retry.filter(|_| t.flow.attempt < MAX_RETRIES) {
                    t.flow.attempt += 1;
                    t.log(Some(&step), "retrying", e.text);
                    t.flow.phase = Phase::Ready;
                    t.flow.wake_at = Some(t.now().after(after));
                    t.commit(true).await?;
                    return Ok(());
                }
                ending::failed(t, &step, &e.text).await?;
                return Ok(());
            }
        }
    }
}

/// A ramdisk's word about a node in maintenance is written down but moves nothing, or ends the flow where the operator wants it so
/// (`[conductor] allow_provisioning_in_maintenance`, `states.md` section 9).
async fn in_maintenance(t: &mut Task, step: &Step) -> Result<(), TaskError> {
    if !t.core.config.allow_provisioning_in_maintenance {
        return ending::failed(t, step, "aborted as node is in maintenance").await;
    }
    t.flow.wake_at = Some(t.now().after(MAINTENANCE_LOOK));
    t.commit(true).await?;
    Ok(())
}

/// Records a wait and lets go; at once due again when somebody woke the flow meanwhile.
async fn wait(t: &mut Task, step: &Step, phase: Phase, poll: Option<Duration>, timeout: Option<Duration>) -> Result<(), TaskError> {
    let now = t.now();
    let first = t.flow.phase != phase;
    if first {
        t.log(Some(step), "waiting", waits_for(&phase));
        t.flow.deadline = timeout.filter(|d| !d.is_zero()).map(|d| now.after(d));
    }
    t.flow.phase = phase;
    t.flow.wake_at = match (poll.map(|p| now.after(p)), t.flow.deadline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if t.state().class() == StateClass::Working {
        t.event(Event::Wait);
    }
    let done = t.commit(true).await?;
    if done.woken {
        t.core.hint(t.node.id);
    }
    Ok(())
}

fn waits_for(phase: &Phase) -> &'static str {
    match phase {
        Phase::WaitingBoot => "for the ramdisk to boot and speak",
        Phase::WaitingAgent { .. } => "for the agent to finish its command",
        Phase::WaitingInspection => "for inspection data",
        Phase::WaitingBmcTask { .. } => "for a task of the BMC",
        Phase::Sleeping => "for time to pass or the next heartbeat",
        Phase::Held => "for 'unhold'",
        Phase::Ready | Phase::Started => "",
    }
}

/// Whether an abort may end the flow now: between steps always, in a wait only where the step allows it.
fn may_stop_here(t: &Task) -> bool {
    match (&t.flow.phase, t.flow.current()) {
        (Phase::Ready, _) | (_, None) => true,
        (phase, Some(step)) => phase.waits() && (step.abortable || !step.visible()),
    }
}

/// The failure text when the step still waits for the same and its time is over. Nodes in maintenance are left alone, and the time in which no
/// conductor ran to hear the answer does not count: after a start there is always a grace.
fn overdue(t: &Task, step: &Step, waiting: &Phase) -> Option<String> {
    let deadline: Timestamp = t.flow.deadline?;
    if *waiting != t.flow.phase || t.node.spec.maintenance {
        return None;
    }
    if t.now() < deadline.max(t.core.started_at.after(START_GRACE.min(deadline.since(t.flow.created_at)))) {
        return None;
    }
    Some(format!("timeout reached while waiting {} (step {})", waits_for(waiting), step.label()))
}
