//! Proving who we are: one Redfish session per (BMC, credential), or HTTP basic.
//!
//! A wrong password is tried once, then not again before [`PoolConfig::refused_hold`](super::PoolConfig::refused_hold) is
//! over, since BMCs lock accounts. The fall-back from session to basic happens only before the first success.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use bessemer_model::secret::Secret;
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::client::{Mode, RedfishClient};
use super::endpoint::AuthType;
use super::error::RedfishError;
use super::resource;
use super::wire::{Ask, Grant, Reply};

/// Where sessions are made when the service root does not say.
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
/// How long the end of a session may take.
const LOGOUT: Duration = Duration::from_secs(5);

enum State {
    /// Not tried yet.
    Unknown,
    /// A session.
    Session { token: Secret<String>, uri: Option<String>, number: u64 },
    /// HTTP basic.
    Basic,
    /// Refused; not asked again before `until`.
    Refused { until: Instant, detail: String },
}

/// The credential of one client and what has become of it.
pub struct Auth {
    kind: AuthType,
    username: String,
    password: Secret<String>,
    state: Mutex<State>,
    /// Held by whoever logs in, so that a burst of requests makes one session.
    gate: tokio::sync::Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    logins: u64,
    /// A session once worked: never fall back to basic from now on.
    session_proven: bool,
}

impl Auth {
    /// Nothing is asked yet.
    pub fn new(kind: AuthType, username: Option<String>, password: Option<Secret<String>>) -> Self {
        Self {
            kind,
            username: username.unwrap_or_default(),
            password: password.unwrap_or_default(),
            state: Mutex::new(State::Unknown),
            gate: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each write below replaces the whole value, so a panic elsewhere cannot have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn basic(&self) -> Grant {
        let pair = format!("{}:{}", self.username, self.password.reveal());
        Grant::Basic(Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))))
    }

    /// Everything that must not be in a text.
    pub fn secrets(&self) -> Vec<String> {
        let mut all = vec![self.password.reveal().clone()];
        if let State::Session { token, .. } = &*self.state() {
            all.push(token.reveal().clone());
        }
        all
    }

    fn known(&self, bmc: &str) -> Option<Result<Grant, RedfishError>> {
        match &*self.state() {
            State::Session { token, number, .. } => Some(Ok(Grant::Token(token.clone(), *number))),
            State::Basic => Some(Ok(self.basic())),
            State::Refused { until, detail } if Instant::now() < *until => {
                Some(Err(RedfishError::Auth { bmc: bmc.to_owned(), detail: format!("{detail} (not tried again yet)") }))
            }
            State::Refused { .. } | State::Unknown => None,
        }
    }
}

impl RedfishClient {
    /// What to send with the next request; logs in when there is no session yet.
    pub(super) async fn grant(&self, until: Instant) -> Result<Grant, RedfishError> {
        let auth = &self.auth;
        if auth.kind == AuthType::None {
            return Ok(Grant::Nothing);
        }
        if let Some(known) = auth.known(self.bmc()) {
            return known;
        }
        let mut progress = auth.gate.lock().await;
        if let Some(known) = auth.known(self.bmc()) {
            return known;
        }
        if auth.kind == AuthType::Basic {
            *auth.state() = State::Basic;
            return Ok(auth.basic());
        }
        match self.login(until).await {
            Ok((token, uri)) => {
                progress.logins += 1;
                progress.session_proven = true;
                let number = progress.logins;
                tracing::debug!(bmc = self.bmc(), "Redfish session opened");
                *auth.state() = State::Session { token: token.clone(), uri, number };
                Ok(Grant::Token(token, number))
            }
            Err(e @ RedfishError::Auth { .. }) => {
                self.hold(&e);
                Err(e)
            }
            Err(e) if auth.kind == AuthType::Auto && !progress.session_proven && no_sessions_here(&e) => {
                tracing::info!(bmc = self.bmc(), reason = %e, "no Redfish session to be had, using HTTP basic");
                *auth.state() = State::Basic;
                Ok(auth.basic())
            }
            // Only left when sessions were asked for by name.
            Err(e @ RedfishError::Refused { status: 401, .. }) => {
                self.hold(&e);
                Err(RedfishError::Auth { bmc: self.bmc().to_owned(), detail: e.to_string() })
            }
            Err(e) => Err(e),
        }
    }

    /// Told that a request with `grant` got 401. `Ok` means: try once more with a new grant.
    pub(super) fn denied(&self, grant: &Grant, reply: &Reply) -> Result<(), RedfishError> {
        let error = self.auth_error(reply);
        match grant {
            Grant::Nothing => Err(error),
            Grant::Basic(_) => {
                self.hold(&error);
                Err(error)
            }
            Grant::Token(_, number) => {
                let mut state = self.auth.state();
                // Somebody else may have renewed it in the meantime.
                if matches!(&*state, State::Session { number: n, .. } if n == number) {
                    *state = State::Unknown;
                }
                Ok(())
            }
        }
    }

    /// Remembers that the credential is not accepted.
    pub(super) fn hold(&self, error: &RedfishError) {
        let detail = match error {
            RedfishError::Auth { detail, .. } => detail.clone(),
            other => other.to_string(),
        };
        *self.auth.state() = State::Refused { until: Instant::now() + self.config.refused_hold, detail };
    }

    pub(super) fn auth_error(&self, reply: &Reply) -> RedfishError {
        let message = self.clean(reply.message());
        let detail = if message.mentions("PasswordChangeRequired") {
            format!("the password must be changed at the BMC first: {message}")
        } else {
            format!("HTTP {}, {message}", reply.status)
        };
        RedfishError::Auth { bmc: self.bmc().to_owned(), detail }
    }

    /// Makes a session (DSP0266 clause 13.3.4). Gives token and path of the session.
    async fn login(&self, until: Instant) -> Result<(Secret<String>, Option<String>), RedfishError> {
        let root = self.exchange_retrying(&get(super::client::ROOT), Mode::Open, until).await?;
        if root.status == 404 {
            return Err(RedfishError::NotFound { bmc: self.bmc().to_owned(), path: super::client::ROOT.to_owned() });
        }
        // SessionService itself may not be readable without a session, hence the link in the root.
        let link = resource::link(&root.body, &["Links", "Sessions"]);
        let advertised = link.is_some() || resource::link(&root.body, &["SessionService"]).is_some();
        let path = self.wire.path_of(link.unwrap_or(SESSIONS))?;
        let body = json!({"UserName": self.auth.username, "Password": self.auth.password.reveal()});
        let ask = Ask { method: Method::POST, path: &path, body: Some(&body), if_match: None, read_timeout: None };
        let reply = self.exchange_retrying(&ask, Mode::Open, until).await?;
        match reply.status {
            200..=299 => {
                let token = reply.token.clone().ok_or_else(|| RedfishError::Malformed {
                    bmc: self.bmc().to_owned(),
                    what: format!("POST {path}"),
                    detail: "no X-Auth-Token".to_owned(),
                })?;
                let uri = reply.location.as_deref().or_else(|| resource::link(&reply.body, &["@odata.id"]));
                Ok((token, uri.and_then(|u| self.wire.path_of(u).ok())))
            }
            // Services without sessions that guard every path with HTTP basic: no verdict about the password.
            401 if !advertised => Err(self.refusal(&ask, &reply)),
            401 | 403 => Err(self.auth_error(&reply)),
            // Some answer a wrong password with 400.
            400 if reply.message().mentions("invalid username or password") || reply.message().mentions("authentication") => {
                Err(self.auth_error(&reply))
            }
            _ => Err(self.refusal(&ask, &reply)),
        }
    }

    /// Ends the session, if there is one. Errors do not matter: the BMC ends idle sessions itself.
    pub async fn close(&self) {
        let old = std::mem::replace(&mut *self.auth.state(), State::Unknown);
        match old {
            State::Session { token, uri: Some(uri), number } => {
                let ask = Ask { method: Method::DELETE, path: &uri, body: None, if_match: None, read_timeout: Some(LOGOUT) };
                let grant = Grant::Token(token, number);
                if self.wire.exchange(&ask, &grant, Instant::now() + LOGOUT).await.is_err() {
                    tracing::debug!(bmc = self.bmc(), "Redfish session could not be closed");
                }
            }
            State::Session { .. } | State::Unknown => {}
            other @ (State::Basic | State::Refused { .. }) => *self.auth.state() = other,
        }
    }

    /// Whether a session is open.
    #[must_use]
    pub fn has_session(&self) -> bool {
        matches!(&*self.auth.state(), State::Session { .. })
    }
}

fn get(path: &str) -> Ask<'_> {
    Ask { method: Method::GET, path, body: None, if_match: None, read_timeout: None }
}

/// Whether a failed login means that sessions are not to be had, as opposed to a BMC in trouble.
fn no_sessions_here(e: &RedfishError) -> bool {
    match e {
        RedfishError::Refused { status: 503, .. } => e.mentions("session") || e.mentions("RAC0218"),
        RedfishError::Refused { status, .. } => matches!(status, 400 | 401 | 404 | 405 | 406 | 410 | 415 | 500 | 501),
        RedfishError::NotFound { path, .. } => path != super::client::ROOT,
        RedfishError::Malformed { .. } => true,
        _ => false,
    }
}
