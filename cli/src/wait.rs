//! Waiting for nodes: what for, how long, and what it means when it does not come.

use std::time::{Duration, Instant};

use crate::client::{Client, Request};
use crate::display::Line;
use crate::error::CliError;
use crate::hints;
use crate::record::Record;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(700);
/// A node that was just told something may still show its old stable state for so long.
const GRACE: Duration = Duration::from_secs(3);
/// A service that does not answer for so long ends the wait, also one without a limit.
const GONE: Duration = Duration::from_secs(300);

/// Waits until the node is in that state with nothing going on. A failed state, or a stable one that is not wanted, is an
/// error with the node's own words. A restart of the service is waited out.
pub async fn for_state(client: &Client, node: &str, wanted: &str, limit: Option<Duration>, line: &Line) -> Result<Record, CliError> {
    let begin = Instant::now();
    let mut answered = Instant::now();
    let mut astray: Option<Instant> = None;
    // Once it was seen on its way, a stable state is where that way has ended.
    let mut moved = false;
    loop {
        let seen = match client.get(Request::to(&["nodes", node])).await {
            Ok(seen) => seen,
            Err(error @ CliError::Unreachable { .. }) if answered.elapsed() < GONE && !over(begin, limit) => {
                line.say(&format!("no answer from {}; waiting for it to come back", client.settings().endpoint));
                drop(error);
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        answered = Instant::now();
        line.node(&seen);
        let state = seen.text("provision_state").unwrap_or_default().to_owned();
        let stable = seen.text("target_provision_state").is_none_or(str::is_empty);
        // A retired node is never made available: it is as far as it goes.
        let retired = moved && wanted == "available" && state == "manageable" && seen.is("retired");
        if stable && (state == wanted || retired) {
            return Ok(seen);
        }
        let failed = state == "error" || state.ends_with(" failed");
        if !stable {
            (astray, moved) = (None, true);
        }
        let since = *astray.get_or_insert_with(Instant::now);
        if failed || (stable && (moved || since.elapsed() >= GRACE)) {
            return Err(went_wrong(node, &state, wanted, &seen));
        }
        if over(begin, limit) {
            return Err(CliError::TooLong { node: node.into(), state, wanted: wanted.into(), limit: limit.unwrap_or_default() });
        }
        let left = limit.map_or(LOOK, |limit| limit.saturating_sub(begin.elapsed()));
        tokio::time::sleep(LOOK.min(left.max(Duration::from_millis(10)))).await;
    }
}

fn over(begin: Instant, limit: Option<Duration>) -> bool {
    limit.is_some_and(|limit| begin.elapsed() >= limit)
}

fn went_wrong(node: &str, state: &str, wanted: &str, seen: &Record) -> CliError {
    let why = seen.text("last_error").filter(|text| !text.is_empty()).unwrap_or("the service tells no error").trim_end().to_owned();
    let hint = hints::after_failure(node, state);
    CliError::WentWrong { node: node.into(), state: state.into(), wanted: wanted.into(), why, hint }
}
