//! Asks the API which node this machine is, until it knows.
//!
//! Pauses are random and grow, so that a rack that is powered on at once does not ask in step. A conductor that
//! is away, for minutes or for hours, is waited for.

use crate::http::{Api, HttpError};
use crate::jitter;
use crate::params::Settings;
use bessemer_agent_types::lookup::LookupReply;
use reqwest::{Method, StatusCode};
use std::time::Duration;
use tokio::time::Instant;

/// Microversion of an API that does not tell.
const ASSUMED_MINOR: u32 = 31;
/// Highest microversion that the lookup uses.
const LOOKUP_MINOR: u32 = 62;
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Highest minor version that the API offers; some default when it does not say.
pub async fn detect_minor(api: &Api, settings: &Settings) -> u32 {
    if let Some(minor) = settings.api_minor {
        return minor;
    }
    let found = match api.ask_ok(Method::GET, "/", None, None).await {
        Ok(root) => root.pointer("/default_version/version").and_then(|v| v.as_str()?.strip_prefix("1.")?.parse().ok()),
        Err(e) => {
            tracing::debug!("no API version: {e}");
            None
        }
    };
    found.unwrap_or(ASSUMED_MINOR)
}

/// One successful lookup.
#[derive(Debug)]
pub struct Found {
    /// The answer.
    pub reply: LookupReply,
    /// Highest minor version of the API.
    pub minor: u32,
}

/// Looks the machine up by its MACs (and its node's id when inspection has told it). Returns only with an answer.
pub async fn lookup(api: &Api, settings: &Settings, macs: &[String], node: Option<&str>) -> Found {
    let path = path(macs, node);
    let mut round = Instant::now();
    let mut attempt = 0;
    let mut conflicts = [5, 10, 30].iter();
    loop {
        let minor = detect_minor(api, settings).await;
        let answer = api.ask_ok(Method::GET, &path, Some(minor.min(LOOKUP_MINOR)), None).await;
        let mut pause = random_pause(settings.lookup_interval, attempt);
        match answer {
            Ok(value) => match serde_json::from_value(value) {
                Ok(reply) => return Found { reply, minor },
                Err(e) => tracing::warn!("lookup answer lacks what the contract demands: {e}"),
            },
            Err(e) => {
                if e.status() == Some(StatusCode::CONFLICT) {
                    pause += Duration::from_secs(conflicts.next().copied().unwrap_or(30));
                }
                explain(&e, attempt, macs);
            }
        }
        attempt += 1;
        if round.elapsed() + pause > settings.lookup_timeout {
            tracing::error!("no node found within {} s, starting over", settings.lookup_timeout.as_secs());
            round = Instant::now();
            attempt = 0;
            pause = random_pause(settings.lookup_interval, attempt);
        }
        tokio::time::sleep(pause).await;
    }
}

fn explain(error: &HttpError, attempt: u32, macs: &[String]) {
    match error.status() {
        Some(StatusCode::NOT_FOUND) => {
            tracing::warn!("attempt {}: no node that expects an agent has a port with one of {}", attempt + 1, macs.join(", "));
        }
        _ => tracing::warn!("attempt {}: {error}", attempt + 1),
    }
}

fn path(macs: &[String], node: Option<&str>) -> String {
    // MACs and uuids hold nothing that would have to be escaped; anything else is left out.
    let plain = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.".contains(&b));
    let addresses: Vec<&str> = macs.iter().map(String::as_str).filter(plain).collect();
    let node = node.filter(plain).map(|uuid| format!("&node_uuid={uuid}")).unwrap_or_default();
    format!("/v1/lookup?addresses={}{node}", addresses.join(","))
}

/// Between nothing and `base` × 2^attempt, at most a minute.
fn random_pause(base: Duration, attempt: u32) -> Duration {
    let longest = base.saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(MAX_PAUSE);
    longest.mul_f64(jitter::between(0.1, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_node_are_in_the_query() {
        let macs = ["52:54:00:aa:00:01".to_owned(), "evil&x=1".to_owned(), "52:54:00:aa:00:02".to_owned()];
        assert_eq!(path(&macs, Some("u-1")), "/v1/lookup?addresses=52:54:00:aa:00:01,52:54:00:aa:00:02&node_uuid=u-1");
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let base = Duration::from_secs(1);
        assert!((0..100).all(|_| random_pause(base, 0) <= base));
        assert!((0..100).all(|_| random_pause(base, 40) <= MAX_PAUSE));
    }
}
