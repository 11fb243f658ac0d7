//! A claim on a node and what is about to be written under it. The only way to change a node's conductor columns.

use std::sync::Arc;

use bessemer_db::{Commit, Committed, DbError, FlowWrite, PortChange, StoredFlow};
use bessemer_model::{
    Json,
    clock::Timestamp,
    conductor::Claim,
    event::OutboxEvent,
    flow::{Flow, FlowKind, FlowLogEntry, Lane, Phase},
    history::HistoryEntry,
    ids::{FlowId, HistoryId},
    node::{Node, NodeSpec},
    state::ProvisionState,
    step::Step,
    transition::{self, Event},
};
use serde_json::json;

use crate::core::Core;

/// Why a task ends without its work being done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Another process holds the node now: stop without a further effect.
    #[error("the node was taken over or its work was replaced")]
    Lost,
    /// The store failed; the work stays persisted and is found again.
    #[error("the store failed: {0}")]
    Store(#[source] DbError),
}

impl From<DbError> for TaskError {
    fn from(e: DbError) -> Self {
        match e {
            DbError::FenceLost { .. } | DbError::StateChanged { .. } | DbError::NotFound { .. } => Self::Lost,
            other => Self::Store(other),
        }
    }
}

/// How the steps of a flow ended.
#[derive(Clone, Copy)]
pub enum StepsEnd<'a> {
    /// All done.
    Well,
    /// This one failed.
    At(&'a Step),
}

/// A node under claim with its flow, and the commit being gathered.
pub struct Task {
    /// Shared parts.
    pub core: Arc<Core>,
    /// Proof of holding.
    pub claim: Claim,
    /// The node, with its secrets, as of the last read or commit.
    pub node: Node,
    /// The flow being run.
    pub flow: Flow,
    /// Wake-ups seen.
    pub wakes: i64,
    /// Written with the next commit.
    pub pending: Commit,
}

impl Task {
    /// A task on a flow that was read under `claim`, before `node`.
    #[must_use]
    pub fn new(core: Arc<Core>, claim: Claim, node: Node, stored: StoredFlow) -> Self {
        Self { core, claim, node, flow: stored.flow, wakes: stored.wakes, pending: Commit::default() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.core.now()
    }

    /// Present state, pending changes included.
    #[must_use]
    pub fn state(&self) -> ProvisionState {
        self.pending.change.provision_state.unwrap_or(self.node.status.provision_state)
    }

    /// Moves the node by an event; a state that has no such transition is left alone (a flow that reports `Wait` in a state without a
    /// waiting form simply keeps working). Work beside the provision state (power, console, …) never moves it: the node may be waiting in a flow.
    pub fn event(&mut self, on: Event) -> bool {
        if self.flow.kind.lane() != Lane::Provision {
            return false;
        }
        let Ok(row) = transition::next(self.state(), on) else { return false };
        let had = self.pending.change.target_provision_state.unwrap_or(self.node.status.target_provision_state);
        let target = transition::target_after(on, row.to, had, self.flow.target.filter(|_| !on.keeps_target()));
        let now = self.now();
        let before = self.state();
        self.pending.change.provision_state = Some(row.to);
        self.pending.change.target_provision_state = Some(target);
        self.pending.change.provision_updated_at = Some(Some(now));
        self.pending.events.push(OutboxEvent {
            seq: 0,
            at: now,
            node: Some(self.node.id),
            kind: "node.provision_state".into(),
            data: json!({"from": before, "to": row.to, "event": on, "target": target}),
        });
        true
    }

    /// A line for the flow's log.
    pub fn log(&mut self, step: Option<&Step>, outcome: &str, detail: impl Into<String>) {
        let entry = FlowLogEntry {
            flow: self.flow.id,
            node: self.node.id,
            at: self.now(),
            step: step.map(Step::label).unwrap_or_default(),
            outcome: outcome.to_owned(),
            detail: detail.into(),
        };
        self.pending.log.push(entry);
    }

    /// An error for people: `last_error` and a history entry.
    pub fn record_error(&mut self, text: &str) {
        self.pending.change.last_error = Some(Some(text.to_owned()));
        self.history("ERROR", event_type(self.flow.kind).into(), text.to_owned());
    }

    /// Beginning and end of the steps of cleaning, deployment and servicing, as the history tells them.
    pub fn record_steps(&mut self, ended: Option<StepsEnd<'_>>) {
        let name = match self.flow.kind {
            FlowKind::Clean if self.flow.target.is_some() => "manual_cleaning",
            FlowKind::Clean => "automated_cleaning",
            FlowKind::Deploy => "deployment",
            FlowKind::Service => "servicing",
            _ => return,
        };
        let steps: Vec<String> = self.flow.steps.iter().filter(|s| s.visible()).map(Step::label).collect();
        let (words, steps) = (name.replace('_', " "), steps.join(", "));
        match ended {
            None => self.history("INFO", format!("{name}_start"), format!("Starting {words} with steps=[{steps}]")),
            Some(StepsEnd::Well) => {
                self.history("INFO", format!("{name}_end"), format!("The {words} completed successfully with steps=[{steps}]"));
            }
            Some(StepsEnd::At(step)) => {
                let text = format!("The {words} aborted at step '{}' with steps=[{steps}]", step.label());
                self.history("ERROR", format!("{name}_end"), text);
            }
        }
    }

    fn history(&mut self, severity: &str, event_type: String, event: String) {
        let now = self.now();
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let spent = self.node.status.provision_updated_at.map(|t| now.since(t).as_secs() as f64);
        self.pending.history.push(HistoryEntry {
            id: HistoryId::random(),
            node: self.node.id,
            created_at: now,
            severity: severity.into(),
            event,
            event_type,
            conductor: Some(self.core.config.host.clone()),
            user: None,
            project: None,
            state: Some(self.node.status.provision_state),
            target_provision_state: self.node.status.target_provision_state,
            duration_seconds: spent,
        });
    }

    /// Edits `driver_internal_info`.
    pub fn internal_info(&mut self) -> &mut bessemer_model::JsonMap {
        let node = &self.node;
        self.pending.change.driver_internal_info.get_or_insert_with(|| node.status.driver_internal_info.clone())
    }

    /// Edits the owner's columns; written with the next commit if nobody changed them since.
    pub fn spec(&mut self) -> &mut NodeSpec {
        let (revision, spec) = (self.node.revision, &self.node.spec);
        &mut self.pending.spec.get_or_insert_with(|| (revision, spec.clone())).1
    }

    /// Goes on to the next step.
    pub fn advance(&mut self) {
        self.flow.at += 1;
        self.flow.phase = Phase::Ready;
        self.flow.attempt = 0;
        self.flow.deadline = None;
        self.flow.wake_at = Some(self.now());
    }

    /// Writes what was gathered, and the flow's progress. A lost race on the owner's columns is redone on fresh ones by `redo`.
    ///
    /// # Errors
    /// [`TaskError::Lost`] when the claim or the flow is gone.
    pub async fn commit(&mut self, release: bool) -> Result<Committed, TaskError> {
        let flow = FlowWrite::Put { flow: Box::new(self.flow.clone()), wakes: self.wakes };
        self.write(flow, None, release).await
    }

    /// Writes what was gathered and ends the flow, with another in its place if given.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub async fn commit_end(&mut self, next: Option<Flow>) -> Result<Committed, TaskError> {
        let lane = self.flow.kind.lane();
        self.write(FlowWrite::Delete(lane), next, true).await
    }

    async fn write(&mut self, flow: FlowWrite, next: Option<Flow>, release: bool) -> Result<Committed, TaskError> {
        let mut commit = std::mem::take(&mut self.pending);
        commit.flow = flow;
        commit.next_flow = next;
        commit.release = release;
        let base = self.node.spec.clone();
        for _ in 0..20 {
            match self.core.store.claim_commit(&self.claim, commit.clone()).await {
                Ok(done) => {
                    commit.change.apply(&mut self.node.status);
                    if let Some((_, spec)) = commit.spec {
                        self.node.spec = spec;
                    }
                    self.node.revision = done.revision;
                    self.core.changed.notify_waiters();
                    return Ok(done);
                }
                // The owner patched the node meanwhile: lay our difference over what they wrote, so that neither side is lost.
                Err(DbError::RevisionLost { .. }) => {
                    let fresh = self.core.store.node_get_with_secrets(self.node.id).await?;
                    if let Some((revision, spec)) = commit.spec.as_mut() {
                        *spec = merge_spec(&base, spec, &fresh.spec);
                        *revision = fresh.revision;
                    }
                    merge_ports(&self.core, &mut commit.ports).await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(TaskError::Lost)
    }
}

/// Lays changes of ports over what was patched meanwhile. A port that is gone stays gone.
async fn merge_ports(core: &Core, ports: &mut Vec<PortChange>) -> Result<(), TaskError> {
    let mut out = Vec::with_capacity(ports.len());
    for c in ports.drain(..) {
        match core.store.port_get(&c.new.id.to_string()).await {
            Ok(theirs) => out.push(PortChange { new: crate::rules::merge_port(&c.base, &c.new, &theirs), base: theirs }),
            Err(DbError::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    *ports = out;
    Ok(())
}

/// `ours` changed against `base`, laid over `theirs`: per field, theirs unless we changed it. Objects are merged by key.
fn merge_spec(base: &NodeSpec, ours: &NodeSpec, theirs: &NodeSpec) -> NodeSpec {
    let v = |s: &NodeSpec| serde_json::to_value(s).unwrap_or(Json::Null);
    let merged = merge_json(&v(base), &v(ours), &v(theirs));
    serde_json::from_value(merged).unwrap_or_else(|_| ours.clone())
}

pub(crate) fn merge_json(base: &Json, ours: &Json, theirs: &Json) -> Json {
    if ours == base {
        return theirs.clone();
    }
    if let (Json::Object(b), Json::Object(o), Json::Object(t)) = (base, ours, theirs) {
        let mut out = t.clone();
        for k in b.keys().filter(|k| !o.contains_key(*k)) {
            out.remove(k);
        }
        for (k, v) in o {
            let merged = match (b.get(k), t.get(k)) {
                (Some(bv), Some(tv)) => merge_json(bv, v, tv),
                (Some(bv), None) if bv == v => continue,
                _ => v.clone(),
            };
            out.insert(k.clone(), merged);
        }
        return Json::Object(out);
    }
    ours.clone()
}

/// `event_type` of history entries.
#[must_use]
pub const fn event_type(kind: FlowKind) -> &'static str {
    match kind {
        FlowKind::Verify => "verify",
        FlowKind::Inspect => "introspection",
        FlowKind::Clean => "cleaning",
        FlowKind::Deploy => "deploying",
        FlowKind::Delete => "unprovisioning",
        FlowKind::Rescue | FlowKind::Unrescue => "rescue",
        FlowKind::Service => "servicing",
        FlowKind::Adopt => "adoption",
        FlowKind::Abort => "abort",
        FlowKind::Power => "power",
        FlowKind::Device => "device",
    }
}

/// A new flow, due at once.
#[must_use]
pub fn new_flow(node: &Node, kind: FlowKind, steps: Vec<Step>, request: Json, now: Timestamp) -> Flow {
    Flow {
        id: FlowId::random(),
        node: node.id,
        kind,
        steps,
        at: 0,
        phase: Phase::Ready,
        attempt: 0,
        target: None,
        deadline: None,
        wake_at: Some(now),
        aborting: false,
        request,
        note: json!({}),
        created_at: now,
    }
}

/// Whether a lane's flow is due.
#[must_use]
pub fn is_due(stored: &StoredFlow, now: Timestamp) -> bool {
    stored.flow.wake_at.is_some_and(|w| w <= now)
}

/// The lanes in the order in which a node's work is looked at.
pub const LANES: [Lane; 2] = [Lane::Power, Lane::Provision];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_raced_a_flow_is_kept_beside_the_flows_own_change() {
        let base = json!({"instance_info": {"a": 1}, "extra": {}, "name": "x"});
        let ours = json!({"instance_info": {}, "extra": {}, "name": "x"});
        let theirs = json!({"instance_info": {"a": 1, "b": 2}, "extra": {"k": 1}, "name": "y"});
        assert_eq!(merge_json(&base, &ours, &theirs), json!({"instance_info": {"b": 2}, "extra": {"k": 1}, "name": "y"}));
    }
}
