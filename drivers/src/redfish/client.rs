//! A tolerant Redfish client for one (BMC, credential): authentication, retries, redirects, ETags.
//!
//! It knows HTTP and the error object, no schema. Equal reads under way at the same time share one request.
//! A request that may have been carried out is repeated only when repeating does no harm.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, sleep};

use super::config::PoolConfig;
use super::endpoint::RedfishEndpoint;
use super::error::{BmcMessage, RedfishError};
use super::resource::{self, Resource};
use super::session::Auth;
use super::wire::{Ask, Grant, Http, NoReply, Reply, Wire};

/// The service root (DSP0266 clause 6.2).
pub const ROOT: &str = "/redfish/v1/";
const MAX_REDIRECTS: usize = 5;
/// Longest `Retry-After` that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Whether a request goes with or without credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Without.
    Open,
    /// With what [`RedfishClient::grant`] gives.
    Granted,
}

/// What a write gave.
#[derive(Debug, Clone)]
pub struct Written {
    /// HTTP status (2xx).
    pub status: u16,
    /// Body, null when there is none.
    pub body: Value,
    /// Path of the task that does the work, when the BMC answered 202.
    pub task: Option<String>,
}

type Shared = Arc<OnceCell<Result<Resource, RedfishError>>>;

/// Client for one (BMC, credential). Made by [`super::RedfishPool`].
pub struct RedfishClient {
    pub(super) wire: Wire,
    pub(super) auth: Auth,
    pub(super) config: Arc<PoolConfig>,
    limit: Arc<Semaphore>,
    reads: Mutex<HashMap<String, Shared>>,
    /// Which kind of `If-Match` this BMC was found to want: 0 not known, else 1 + [`Rung`].
    rung: AtomicU8,
    pub(super) only_system: OnceCell<String>,
}

impl std::fmt::Debug for RedfishClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedfishClient").field("bmc", &self.bmc()).finish_non_exhaustive()
    }
}

impl RedfishClient {
    pub(super) fn new(endpoint: &RedfishEndpoint, http: Http, config: Arc<PoolConfig>, limit: Arc<Semaphore>) -> Self {
        Self {
            wire: Wire::new(endpoint, http, config.clone()),
            auth: Auth::new(endpoint.auth, endpoint.username.clone(), endpoint.password.clone()),
            config,
            limit,
            reads: Mutex::default(),
            rung: AtomicU8::new(0),
            only_system: OnceCell::new(),
        }
    }

    /// Scheme, host and port of the BMC.
    #[must_use]
    pub fn bmc(&self) -> &str {
        self.wire.origin()
    }

    /// Settings in force.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Reads a resource. Joins an equal read that is under way.
    pub async fn get(&self, path: &str) -> Result<Resource, RedfishError> {
        let path = self.wire.path_of(path)?;
        let cell = {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.entry(path.clone()).or_default().clone()
        };
        let result = cell.get_or_init(|| self.get_fresh(&path)).await.clone();
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.get(&path).is_some_and(|c| Arc::ptr_eq(c, &cell)) {
            reads.remove(&path);
        }
        result
    }

    /// Reads a resource with a request of its own.
    pub async fn get_fresh(&self, path: &str) -> Result<Resource, RedfishError> {
        let path = self.wire.path_of(path)?;
        let ask = Ask { method: Method::GET, path: &path, body: None, if_match: None, read_timeout: None };
        let reply = self.send(&ask).await?;
        if !reply.body.is_object() {
            return Err(RedfishError::Malformed {
                bmc: self.bmc().to_owned(),
                what: format!("GET {path}"),
                detail: if reply.raw.is_empty() { "no JSON object".to_owned() } else { reply.raw },
            });
        }
        let in_body = resource::text(&reply.body, &["@odata.etag"]).map(str::to_owned);
        let etag = reply.etag.or(in_body).filter(|e| !matches!(e.as_str(), "" | "\"\"" | "W/\"\""));
        Ok(Resource { path, etag, body: reply.body })
    }

    /// Reads a resource that a BMC may lack: `None` when it says 404, 405, 501 or refuses with 400.
    pub async fn find(&self, path: &str) -> Result<Option<Resource>, RedfishError> {
        match self.get(path).await {
            Ok(r) => Ok(Some(r)),
            Err(e) if matches!(e.status(), Some(400 | 404 | 405 | 410 | 501)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Runs an action or creates something. `body` should be `{}` rather than nothing (some BMCs insist).
    pub async fn post(&self, path: &str, body: &Value) -> Result<Written, RedfishError> {
        self.write(Method::POST, path, Some(body), None).await
    }

    /// Deletes a resource.
    pub async fn delete(&self, path: &str) -> Result<Written, RedfishError> {
        self.write(Method::DELETE, path, None, None).await
    }

    /// Changes a resource, with whatever `If-Match` this BMC accepts: `etag` as given, without `W/`, `*`, none.
    pub async fn patch(&self, path: &str, etag: Option<&str>, body: &Value) -> Result<Written, RedfishError> {
        let mut ladder = Ladder::new(etag, Rung::from_code(self.rung.load(Ordering::Relaxed)));
        let mut refreshed = false;
        loop {
            let Some((rung, value)) = ladder.next() else {
                // `next` gives at least one rung, so the loop has stored an error before it runs dry.
                return Err(ladder.error.unwrap_or_else(|| RedfishError::Unsupported {
                    bmc: self.bmc().to_owned(),
                    what: format!("any form of If-Match for {path}"),
                }));
            };
            match self.write(Method::PATCH, path, Some(body), value.as_deref()).await {
                Ok(w) => {
                    if ladder.tried > 1 {
                        self.rung.store(rung.code(), Ordering::Relaxed);
                    }
                    return Ok(w);
                }
                Err(e) if precondition(&e) => {
                    tracing::debug!(bmc = self.bmc(), path, if_match = value.as_deref(), "If-Match not accepted: {e}");
                    ladder.error = Some(e);
                    // The resource may have changed meanwhile, or we never had its ETag.
                    if !refreshed {
                        refreshed = true;
                        if let Some(new) = self.get_fresh(path).await.ok().and_then(|r| r.etag) {
                            ladder.learn(&new);
                        }
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn write(&self, method: Method, path: &str, body: Option<&Value>, if_match: Option<&str>) -> Result<Written, RedfishError> {
        let path = self.wire.path_of(path)?;
        let ask = Ask { method, path: &path, body, if_match, read_timeout: None };
        let result = self.send(&ask).await;
        // Whoever reads from now on must see the change: no joining of reads that began before it.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let reply = result?;
        let task = if reply.status == 202 {
            let link = reply
                .location
                .as_deref()
                .or_else(|| resource::text(&reply.body, &["TaskMonitor"]).or_else(|| resource::link(&reply.body, &["@odata.id"])));
            link.map(|l| self.wire.path_of(l)).transpose()?
        } else {
            None
        };
        Ok(Written { status: reply.status, body: reply.body, task })
    }

    /// One request with authentication; errors for every status from 400 on.
    async fn send(&self, ask: &Ask<'_>) -> Result<Reply, RedfishError> {
        let until = Instant::now() + self.config.deadline;
        let reply = self.exchange_retrying(ask, Mode::Granted, until).await?;
        match reply.status {
            200..=299 => Ok(reply),
            401 => Err(self.auth_error(&reply)),
            403 if reply.message().mentions("PasswordChangeRequired") => Err(self.auth_error(&reply)),
            _ => Err(self.refusal(ask, &reply)),
        }
    }

    /// The reply without our secrets, in case a BMC repeats them.
    pub(super) fn clean(&self, message: BmcMessage) -> BmcMessage {
        let secrets = self.auth.secrets();
        message.without(&secrets.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(super) fn refusal(&self, ask: &Ask<'_>, reply: &Reply) -> RedfishError {
        let bmc = self.bmc().to_owned();
        match reply.status {
            404 if ask.method == Method::GET => RedfishError::NotFound { bmc, path: ask.path.to_owned() },
            404 if reply.message().entries.is_empty() => RedfishError::NotFound { bmc, path: ask.path.to_owned() },
            status => {
                RedfishError::Refused { bmc, what: format!("{} {}", ask.method, ask.path), status, message: self.clean(reply.message()) }
            }
        }
    }

    /// Sends until there is an answer worth having, an error that stays, or no time left.
    pub(super) async fn exchange_retrying(&self, ask: &Ask<'_>, mode: Mode, until: Instant) -> Result<Reply, RedfishError> {
        let safe = matches!(ask.method, Method::GET | Method::PATCH | Method::DELETE);
        let mut path = ask.path.to_owned();
        let (mut tries, mut redirects, mut renewed) = (0u32, 0usize, false);
        loop {
            let grant = match mode {
                Mode::Open => Grant::Nothing,
                // Boxed: logging in sends requests through this very function.
                Mode::Granted => Box::pin(self.grant(until)).await?,
            };
            let this = Ask { method: ask.method.clone(), path: &path, ..*ask };
            if mode == Mode::Granted && ask.method != Method::GET && !self.config.fence.is_open() {
                return Err(RedfishError::Fenced { bmc: self.bmc().to_owned() });
            }
            let outcome = self.exchange_limited(&this, &grant, until).await;
            tries += 1;
            let pause = self.pause(tries);
            let more = tries < self.config.attempts;
            match outcome {
                Ok(reply) if reply.status == 401 && mode == Mode::Granted && !renewed => {
                    renewed = true;
                    self.denied(&grant, &reply)?;
                    tries -= 1;
                }
                Ok(reply) if reply.status == 401 && mode == Mode::Granted => {
                    let error = self.auth_error(&reply);
                    self.hold(&error);
                    return Err(error);
                }
                Ok(reply) if let Some(next) = self.redirect(&this, &reply)? => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS || next == path {
                        return Err(RedfishError::Malformed {
                            bmc: self.bmc().to_owned(),
                            what: format!("{} {}", ask.method, ask.path),
                            detail: format!("it redirects without end, last to {next}; check the scheme and host of redfish_address"),
                        });
                    }
                    path = next;
                    tries -= 1;
                }
                Ok(reply) if more && worth_repeating(&this, &reply) => {
                    let pause = reply.retry_after.map_or(pause, |r| r.min(MAX_RETRY_AFTER));
                    if Instant::now() + pause >= until {
                        return Ok(reply);
                    }
                    tracing::debug!(bmc = self.bmc(), path, status = reply.status, "BMC is busy, trying again");
                    sleep(pause).await;
                }
                Ok(reply) => return Ok(reply),
                Err(NoReply::Final(e)) => return Err(e),
                Err(NoReply::Lost(e)) if !safe => return Err(e),
                Err(NoReply::NotSent(e) | NoReply::Lost(e)) => {
                    if !more || Instant::now() + pause >= until {
                        return Err(e);
                    }
                    tracing::debug!(bmc = self.bmc(), path, "{e}, trying again");
                    sleep(pause).await;
                }
            }
        }
    }

    async fn exchange_limited(&self, ask: &Ask<'_>, grant: &Grant, until: Instant) -> Result<Reply, NoReply> {
        let waiting = Instant::now();
        let permit = tokio::time::timeout_at(until, self.limit.acquire()).await;
        // The semaphore is never closed, so only the time can run out.
        let Ok(Ok(_permit)) = permit else {
            return Err(NoReply::Final(RedfishError::Timeout {
                bmc: self.bmc().to_owned(),
                waited_for: "other requests to the same BMC".to_owned(),
                after: waiting.elapsed(),
            }));
        };
        let started = Instant::now();
        let result = self.wire.exchange(ask, grant, until).await;
        let status = result.as_ref().map_or(0, |r| r.status);
        let ms = started.elapsed().as_millis();
        tracing::trace!(bmc = self.bmc(), method = %ask.method, path = ask.path, status, ms, "Redfish");
        result
    }

    fn redirect(&self, ask: &Ask<'_>, reply: &Reply) -> Result<Option<String>, RedfishError> {
        let follow = match reply.status {
            301 | 302 | 307 | 308 => true,
            303 => ask.method == Method::GET,
            _ => false,
        };
        match &reply.location {
            Some(to) if follow => self.wire.path_of(to).map(Some),
            _ => Ok(None),
        }
    }

    fn pause(&self, tries: u32) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(self.config.retry_interval)
    }
}

/// Whether the BMC only has no time now. A 500 is repeated for reads: it passes, mostly (SecureBoot while being set up, Dell's SYS518).
fn worth_repeating(ask: &Ask<'_>, reply: &Reply) -> bool {
    match reply.status {
        // A full table of sessions does not empty within seconds; the caller knows what else to do.
        503 => !(ask.method == Method::POST && session_limit(reply)),
        429 => true,
        500 | 502 | 504 => ask.method == Method::GET || (reply.status == 500 && reply.message().mentions("SYS518")),
        _ => false,
    }
}

fn session_limit(reply: &Reply) -> bool {
    let m = reply.message();
    m.mentions("SessionLimitExceeded") || m.mentions("RAC0218") || m.mentions("maximum number of user sessions")
}

/// Whether a refusal is about `If-Match`.
fn precondition(e: &RedfishError) -> bool {
    match e.status() {
        Some(412 | 428) => true,
        Some(400 | 403 | 409) => ["Precondition", "If-Match", "ETag"].iter().any(|w| e.mentions(w)),
        _ => false,
    }
}

/// A form of `If-Match`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rung {
    Given,
    Strong,
    Star,
    Nothing,
}

impl Rung {
    const ALL: [Self; 4] = [Self::Given, Self::Strong, Self::Star, Self::Nothing];

    fn code(self) -> u8 {
        match self {
            Self::Given => 1,
            Self::Strong => 2,
            Self::Star => 3,
            Self::Nothing => 4,
        }
    }
    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
    fn value(self, etag: Option<&str>) -> Option<Option<String>> {
        match self {
            Self::Given => etag.map(|e| Some(e.to_owned())),
            Self::Strong => etag.and_then(|e| e.strip_prefix("W/")).map(|e| Some(e.to_owned())),
            Self::Star => Some(Some("*".to_owned())),
            Self::Nothing => Some(None),
        }
    }
}

/// The forms of `If-Match` still to be tried.
struct Ladder {
    todo: Vec<(Rung, Option<String>)>,
    tried: usize,
    error: Option<RedfishError>,
}

impl Ladder {
    fn new(etag: Option<&str>, first: Option<Rung>) -> Self {
        let etag = etag.filter(|e| !e.is_empty());
        let mut order: Vec<Rung> = match etag {
            Some(_) => Rung::ALL.to_vec(),
            None => vec![Rung::Nothing, Rung::Star],
        };
        if let Some(first) = first.filter(|f| order.contains(f)) {
            order.retain(|r| *r != first);
            order.insert(0, first);
        }
        let todo = order.into_iter().filter_map(|r| r.value(etag).map(|v| (r, v))).collect();
        Self { todo, tried: 0, error: None }
    }

    /// A newly read ETag: its forms come first, if they are news.
    fn learn(&mut self, etag: &str) {
        for rung in [Rung::Strong, Rung::Given] {
            if let Some(v) = rung.value(Some(etag))
                && !self.todo.iter().any(|(_, known)| *known == v)
            {
                self.todo.insert(0, (rung, v));
            }
        }
    }

    fn next(&mut self) -> Option<(Rung, Option<String>)> {
        if self.todo.is_empty() {
            return None;
        }
        self.tried += 1;
        Some(self.todo.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut l: Ladder) -> Vec<Option<String>> {
        std::iter::from_fn(|| l.next().map(|(_, v)| v)).collect()
    }

    #[test]
    fn the_ladder_goes_from_the_given_etag_to_none() {
        let s = |x: &str| Some(x.to_owned());
        assert_eq!(all(Ladder::new(Some("W/\"1\""), None)), [s("W/\"1\""), s("\"1\""), s("*"), None]);
        assert_eq!(all(Ladder::new(Some("\"1\""), None)), [s("\"1\""), s("*"), None]);
        assert_eq!(all(Ladder::new(Some(""), None)), [None, s("*")]);
        assert_eq!(all(Ladder::new(Some("\"1\""), Some(Rung::Star))), [s("*"), s("\"1\""), None]);
    }

    #[test]
    fn an_etag_learned_on_the_way_is_tried_first() {
        let mut l = Ladder::new(None, None);
        l.next();
        l.learn("W/\"2\"");
        assert_eq!(all(l), [Some("W/\"2\"".into()), Some("\"2\"".into()), Some("*".into())]);
    }
}
