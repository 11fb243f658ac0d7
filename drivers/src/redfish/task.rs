//! Waiting for a task of the BMC (DSP0266 clause 13.9): what was answered with 202.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{RedfishClient, Written};
use super::error::RedfishError;
use super::resource::{self, Resource};

/// Tries of a task that is "not found" right after it was made.
const YOUNG_TRIES: u32 = 4;

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskProgress {
    /// Not finished; per cent done if the BMC says.
    Running(Option<u64>),
    /// Finished well.
    Done,
    /// The BMC forgot it; it was seen before. What it did must be checked at the thing itself.
    Gone,
}

impl RedfishClient {
    /// Looks at a task once. A bad end is an error.
    pub async fn task(&self, path: &str) -> Result<TaskProgress, RedfishError> {
        match self.get_fresh(path).await {
            Ok(r) => self.judge(&r),
            // A monitor that answers without a body: 204, the work is done.
            Err(RedfishError::Malformed { detail, .. }) if detail == "no JSON object" => Ok(TaskProgress::Done),
            Err(e) => Err(e),
        }
    }

    fn judge(&self, r: &Resource) -> Result<TaskProgress, RedfishError> {
        let Some(state) = r.text(&["TaskState"]).or_else(|| r.text(&["JobState"])) else {
            // The answer of the finished operation itself, or a refusal within a 200.
            return match r.body.get("error") {
                Some(_) => Err(self.task_error(r, "Exception")),
                None => Ok(TaskProgress::Done),
            };
        };
        match state {
            // "Scheduled" waits for a reset that somebody else has to do; it is not over either way.
            "New" | "Starting" | "Running" | "Pending" | "Suspended" | "Service" | "Stopping" | "Cancelling" | "Scheduled"
            | "Downloading" | "Waiting" | "Validating" | "Continue" | "UserIntervention" => {
                Ok(TaskProgress::Running(resource::number(&r.body, &["PercentComplete"])))
            }
            "Completed" if r.text(&["TaskStatus"]) == Some("Critical") => Err(self.task_error(r, "Completed, Critical")),
            "Completed" => Ok(TaskProgress::Done),
            other => Err(self.task_error(r, other)),
        }
    }

    fn task_error(&self, r: &Resource, state: &str) -> RedfishError {
        RedfishError::TaskFailed {
            bmc: self.bmc().to_owned(),
            task: r.path.clone(),
            state: super::error::cut(state),
            message: self.clean(resource::messages(&r.body, "")),
        }
    }

    /// Waits until a task is over.
    pub async fn wait_task(&self, path: &str, what: &str, within: Duration) -> Result<(), RedfishError> {
        let started = Instant::now();
        let (mut seen, mut young) = (false, 0u32);
        loop {
            match self.task(path).await {
                Ok(TaskProgress::Done | TaskProgress::Gone) => return Ok(()),
                Ok(TaskProgress::Running(_)) => seen = true,
                // Finished tasks are forgotten by some at once.
                Err(e) if e.is_not_found() && seen => return Ok(()),
                Err(e) if e.is_not_found() && young < YOUNG_TRIES => young += 1,
                Err(e) => return Err(e),
            }
            if started.elapsed() + self.config.poll > within {
                return Err(RedfishError::Timeout {
                    bmc: self.bmc().to_owned(),
                    waited_for: format!("task {path} ({what})"),
                    after: started.elapsed(),
                });
            }
            sleep(self.config.poll).await;
        }
    }

    /// Waits for the task behind a write, if it made one.
    pub async fn settle(&self, written: Written, what: &str) -> Result<(), RedfishError> {
        match written.task {
            Some(task) => self.wait_task(&task, what, self.config.task_wait).await,
            None => Ok(()),
        }
    }
}
