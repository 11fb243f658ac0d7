//! Tells the conductor again and again that the agent lives, and at once when a command has ended.
//!
//! The conductor may be away for as long as it likes; the agent goes on asking, more slowly.

use crate::agent::{Agent, VERSION};
use crate::http::{Api, HttpError};
use crate::init::LAST_WORDS;
use crate::jitter;
use bessemer_agent_types::lookup::Heartbeat;
use reqwest::{Method, StatusCode};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Highest microversion that a heartbeat uses.
const HEARTBEAT_MINOR: u32 = 68;
/// Microversion from which a status message may be sent.
const STATUS_MINOR: u32 = 72;
/// Two heartbeats are never closer than this, however many commands end.
const MIN_GAP: Duration = Duration::from_secs(1);
/// Pause after an error, times a random number between 1 and 2.
const ERROR_PAUSE: Duration = Duration::from_secs(5);
/// A node that is locked for a moment is asked again this soon, so that a finished command is not noticed late.
const LOCKED_PAUSE: Duration = Duration::from_secs(1);
/// How often a locked node is asked again quickly.
const LOCKED_TRIES: u32 = 5;

/// What all heartbeats of this boot have in common.
pub struct Beater {
    /// The API.
    pub api: Arc<Api>,
    /// Node id.
    pub node: String,
    /// Highest minor version of the API.
    pub minor: u32,
    /// Where the agent is reached.
    pub callback_url: String,
    /// Its certificate.
    pub certificate: Option<String>,
    /// Seconds after which the conductor calls the agent lost.
    pub timeout: Duration,
}

impl Beater {
    /// Beats until the agent leaves the network.
    pub async fn run(&self, agent: &Agent) {
        let mut locked = 0;
        let mut first = true;
        while !*agent.left.borrow() {
            let sent = Instant::now();
            let pause = match self.beat(agent).await {
                Ok(()) => {
                    if first {
                        tracing::info!("first heartbeat accepted");
                        first = false;
                    }
                    locked = 0;
                    interval(self.timeout)
                }
                Err(e) if e.status() == Some(StatusCode::CONFLICT) && locked < LOCKED_TRIES => {
                    locked += 1;
                    LOCKED_PAUSE
                }
                Err(e) => {
                    tracing::warn!("heartbeat: {e}");
                    locked = 0;
                    ERROR_PAUSE.mul_f64(jitter::between(1.0, 2.0))
                }
            };
            if timeout(pause, agent.beat.notified()).await.is_ok() {
                tokio::time::sleep_until(sent + MIN_GAP).await;
            }
        }
    }

    async fn beat(&self, agent: &Agent) -> Result<(), HttpError> {
        let token = agent.token();
        let last_words_file = agent.settings.state_dir.as_deref().map(|dir| dir.join(LAST_WORDS));
        let last_words = last_words_file.as_deref().and_then(|path| fs::read_to_string(path).ok());
        // A status message needs a newer microversion than the contract's heartbeat; used only when there is one to send.
        let highest = if last_words.is_some() { STATUS_MINOR } else { HEARTBEAT_MINOR };
        let minor = self.minor.min(highest);
        let body = Heartbeat {
            callback_url: self.callback_url.clone(),
            agent_token: token.as_ref().filter(|_| minor >= 62).map(|t| t.reveal().to_owned()),
            agent_version: (minor >= 36).then(|| VERSION.to_owned()),
            agent_verify_ca: self.certificate.clone().filter(|_| minor >= 68),
            agent_status: None,
            agent_status_message: last_words.as_deref().filter(|_| minor >= STATUS_MINOR).map(printable),
        };
        let body = serde_json::to_value(&body).map_err(|e| HttpError::Client(e.to_string()))?;
        let path = format!("/v1/heartbeat/{}", self.node);
        self.api.ask_ok(Method::POST, &path, Some(minor), Some(&body)).await?;
        if let Some(path) = last_words_file.filter(|_| last_words.is_some() && minor >= STATUS_MINOR) {
            // Said once is enough; a file that cannot go is said again.
            drop(fs::remove_file(path));
        }
        Ok(())
    }
}

/// Somewhere between 0.3 and 0.6 of the time-out.
fn interval(timeout: Duration) -> Duration {
    timeout.mul_f64(jitter::between(0.3, 0.6))
}

/// At most 2000 characters without control characters.
fn printable(text: &str) -> String {
    let clean: Vec<char> = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    clean.get(clean.len().saturating_sub(2000)..).unwrap_or_default().iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_well_below_the_timeout() {
        for _ in 0..100 {
            let pause = interval(Duration::from_secs(300));
            assert!((Duration::from_secs(90)..=Duration::from_secs(180)).contains(&pause));
        }
    }

    #[test]
    fn last_words_are_short_and_clean() {
        let text = format!("{}\u{1b}[31mpanic\n", "x".repeat(5000));
        let clean = printable(&text);
        assert_eq!(clean.chars().count(), 2000);
        assert!(clean.ends_with(" [31mpanic\n"));
    }
}
