//! The commands of this boot: what ran, what runs, and who may start the next.
//!
//! One asynchronous command runs at a time. A command with a lower fence than the highest seen is refused; a
//! step id that was seen before gets the command it had, and nothing runs twice. The table is written to the
//! state folder on each change, so that an agent that crashed still knows what it had been doing: such a
//! command is failed, never run again.

use crate::progress::Progress;
use bessemer_agent_types::command::{CommandError, CommandResult, CommandStatus};
use bessemer_agent_types::progress as wire;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most commands of one boot; a conductor that needs more is looping.
const MAX_COMMANDS: usize = 10_000;

/// Why a command was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another command runs.
    #[error("Agent is busy: executing command {0}")]
    Busy(String),
    /// A newer conductor has spoken.
    #[error("fence {offered} is below {highest}: another conductor has taken over this node, read its state again")]
    Fenced {
        /// What the request said.
        offered: u64,
        /// What was seen before.
        highest: u64,
    },
    /// The table is full.
    #[error("{MAX_COMMANDS} commands in one boot: reboot the machine to go on")]
    Full,
}

/// A command that may go ahead, or the one that its step id already has.
pub enum Begun {
    /// Run it.
    New(Ticket),
    /// Answer with this.
    Known(CommandResult),
}

/// Right to run one command. Dropping it unfinished fails the command.
pub struct Ticket {
    table: Arc<Table>,
    id: String,
    /// Progress of this command.
    pub progress: Arc<Progress>,
    done: bool,
}

/// All commands of the boot.
pub struct Table {
    inner: Mutex<Inner>,
    store: Option<PathBuf>,
    changes: watch::Sender<u64>,
}

struct Inner {
    saved: Saved,
    running: Option<String>,
    progress: Arc<Progress>,
    progress_of: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Saved {
    highest_fence: u64,
    commands: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    result: CommandResult,
    step: Option<String>,
}

impl Table {
    /// A table that is kept in `state_dir` (in memory only when none). Takes up what a crashed agent left.
    pub fn open(state_dir: Option<&Path>) -> Arc<Self> {
        let store = state_dir.map(|dir| dir.join("commands.json"));
        let mut saved: Saved = match store.as_deref().map(fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                tracing::error!("the stored commands cannot be read, starting without: {e}");
                Saved::default()
            }),
            _ => Saved::default(),
        };
        for entry in &mut saved.commands {
            if entry.result.command_status == CommandStatus::Running {
                entry.result.command_status = CommandStatus::Failed;
                entry.result.command_error = Some(crashed(&entry.result.command_name));
            }
        }
        let (changes, _) = watch::channel(0);
        let progress = Arc::new(Progress::default());
        Arc::new(Self { inner: Mutex::new(Inner { saved, running: None, progress, progress_of: None }), store, changes })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is complete before the lock is let go, so a poisoned table is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a request's fence and remembers it.
    pub fn check_fence(&self, fence: Option<u64>) -> Result<(), Refusal> {
        let Some(offered) = fence else { return Ok(()) };
        let mut inner = self.lock();
        let highest = inner.saved.highest_fence;
        if offered < highest {
            return Err(Refusal::Fenced { offered, highest });
        }
        inner.saved.highest_fence = offered;
        Ok(())
    }

    /// Registers a command, which then runs.
    pub fn begin(self: &Arc<Self>, name: &str, fence: Option<u64>, step: Option<&str>) -> Result<Begun, Refusal> {
        self.check_fence(fence)?;
        let mut inner = self.lock();
        if let Some(step) = step
            && let Some(entry) = inner.saved.commands.iter().rev().find(|entry| entry.step.as_deref() == Some(step))
        {
            return Ok(Begun::Known(entry.result.clone()));
        }
        if let Some(id) = &inner.running {
            let name = inner.saved.commands.iter().find(|e| e.result.id == *id).map(|e| e.result.command_name.clone());
            return Err(Refusal::Busy(name.unwrap_or_default()));
        }
        if inner.saved.commands.len() >= MAX_COMMANDS {
            return Err(Refusal::Full);
        }
        let id = uuid::Uuid::new_v4().to_string();
        inner.saved.commands.push(Entry {
            result: CommandResult {
                id: id.clone(),
                command_name: name.to_owned(),
                command_status: CommandStatus::Running,
                command_error: None,
                command_result: None,
            },
            step: step.map(str::to_owned),
        });
        inner.running = Some(id.clone());
        inner.progress = Arc::new(Progress::default());
        inner.progress_of = Some(id.clone());
        let progress = Arc::clone(&inner.progress);
        self.save(&inner.saved);
        drop(inner);
        Ok(Begun::New(Ticket { table: Arc::clone(self), id, progress, done: false }))
    }

    /// All commands, oldest first.
    pub fn list(&self) -> Vec<CommandResult> {
        self.lock().saved.commands.iter().map(|entry| entry.result.clone()).collect()
    }

    /// One command.
    pub fn get(&self, id: &str) -> Option<CommandResult> {
        self.lock().saved.commands.iter().find(|entry| entry.result.id == id).map(|entry| entry.result.clone())
    }

    /// The running command's name.
    pub fn running(&self) -> Option<String> {
        let inner = self.lock();
        let id = inner.running.as_deref()?;
        inner.saved.commands.iter().find(|e| e.result.id == id).map(|e| e.result.command_name.clone())
    }

    /// Waits until a command has ended. None when there is no such command.
    pub async fn wait(&self, id: &str) -> Option<CommandResult> {
        let mut changes = self.changes.subscribe();
        loop {
            let result = self.get(id)?;
            if result.command_status.is_final() || changes.changed().await.is_err() {
                return Some(result);
            }
        }
    }

    /// Progress of the running command, or of the last one.
    pub fn progress(&self) -> wire::Progress {
        let (progress, id) = {
            let inner = self.lock();
            (Arc::clone(&inner.progress), inner.progress_of.clone())
        };
        let reading = progress.read();
        wire::Progress { command_id: id, phase: reading.phase, bytes_done: reading.done, bytes_total: reading.total, rate: reading.rate }
    }

    fn finish(&self, id: &str, status: CommandStatus, error: Option<CommandError>, value: Option<Value>) {
        let mut inner = self.lock();
        if let Some(entry) = inner.saved.commands.iter_mut().find(|entry| entry.result.id == id) {
            entry.result.command_status = status;
            entry.result.command_error = error;
            entry.result.command_result = value;
        }
        if inner.running.as_deref() == Some(id) {
            inner.running = None;
        }
        self.save(&inner.saved);
        drop(inner);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn save(&self, saved: &Saved) {
        let Some(path) = &self.store else { return };
        let partial = path.with_extension("partial");
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&serde_json::to_vec(saved)?)?;
            fs::rename(&partial, path)
        };
        if let Err(e) = write() {
            tracing::warn!("commands not stored, a crash of the agent would forget them: {e}");
        }
    }
}

impl Ticket {
    /// Id of the command.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends the command.
    pub fn finish(mut self, outcome: Result<Value, CommandError>) -> Option<CommandResult> {
        self.done = true;
        match outcome {
            Ok(value) => self.table.finish(&self.id, CommandStatus::Succeeded, None, Some(value)),
            Err(error) => {
                let mismatch = error.kind == VERSION_MISMATCH;
                let status = if mismatch { CommandStatus::CleanVersionMismatch } else { CommandStatus::Failed };
                self.table.finish(&self.id, status, Some(error), None);
            }
        }
        self.table.get(&self.id)
    }
}

/// Error class that ends a command as `CLEAN_VERSION_MISMATCH`.
pub const VERSION_MISMATCH: &str = "VersionMismatch";

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.done {
            let error = CommandError {
                kind: "CommandExecutionError".into(),
                code: 500,
                message: "Command execution failed".into(),
                details: "the command ended without a result; this is a fault in the agent, see its log".into(),
            };
            self.table.finish(&self.id, CommandStatus::Failed, Some(error), None);
        }
    }
}

fn crashed(name: &str) -> CommandError {
    CommandError {
        kind: "AgentCrashed".into(),
        code: 500,
        message: "Command execution failed".into(),
        details: format!("the agent died while it ran {name} and was started again; its last words are in the next heartbeat"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn new(begun: Result<Begun, Refusal>) -> Ticket {
        match begun {
            Ok(Begun::New(ticket)) => ticket,
            Ok(Begun::Known(_)) => panic!("the command is known"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_second_command_is_refused_while_one_runs() {
        let table = Table::open(None);
        let ticket = new(table.begin("prepare_image", None, None));
        let refused = table.begin("sync", None, None).err().unwrap();
        assert_eq!(refused.to_string(), "Agent is busy: executing command prepare_image");
        ticket.finish(Ok(json!({})));
        new(table.begin("sync", None, None)).finish(Ok(json!({})));
        assert_eq!(table.list().len(), 2);
    }

    #[test]
    fn a_repeated_step_id_never_runs_twice() {
        let table = Table::open(None);
        let ticket = new(table.begin("execute_deploy_step", Some(1), Some("s1")));
        let id = ticket.id().to_owned();
        let Ok(Begun::Known(running)) = table.begin("execute_deploy_step", Some(2), Some("s1")) else { panic!() };
        assert_eq!((running.id.as_str(), running.command_status), (id.as_str(), CommandStatus::Running));
        ticket.finish(Ok(json!({"a": 1})));
        let Ok(Begun::Known(done)) = table.begin("execute_deploy_step", Some(2), Some("s1")) else { panic!() };
        assert_eq!(done.command_result, Some(json!({"a": 1})));
        assert_eq!(table.list().len(), 1);
    }

    #[test]
    fn a_lower_fence_is_refused_even_for_a_known_step() {
        let table = Table::open(None);
        new(table.begin("sync", Some(7), Some("s"))).finish(Ok(json!({})));
        assert_eq!(table.begin("sync", Some(6), Some("s")).err(), Some(Refusal::Fenced { offered: 6, highest: 7 }));
        assert!(table.begin("sync", None, None).is_ok(), "a request without a fence is not fenced");
    }

    #[test]
    fn a_crashed_agent_remembers_its_commands_and_its_fence() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::open(Some(dir.path()));
        new(table.begin("sync", Some(3), Some("a"))).finish(Ok(json!({"result": "x"})));
        std::mem::forget(new(table.begin("write", Some(3), Some("b"))));
        let again = Table::open(Some(dir.path()));
        let list = again.list();
        assert_eq!(list[0].command_status, CommandStatus::Succeeded);
        assert_eq!(list[1].command_status, CommandStatus::Failed);
        assert_eq!(list[1].command_error.as_ref().unwrap().kind, "AgentCrashed");
        assert!(matches!(again.begin("write", Some(2), Some("b")), Err(Refusal::Fenced { .. })));
        assert!(matches!(again.begin("write", Some(3), Some("b")), Ok(Begun::Known(_))));
    }

    #[test]
    fn a_command_that_vanishes_is_failed() {
        let table = Table::open(None);
        let ticket = new(table.begin("sync", None, None));
        let id = ticket.id().to_owned();
        drop(ticket);
        assert_eq!(table.get(&id).unwrap().command_status, CommandStatus::Failed);
    }
}
