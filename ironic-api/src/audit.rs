//! The audit log: one line of JSON for each request that writes, and for each that is refused to its caller: who, what, when, from
//! where, with what result (`[audit]`). Bodies, queries and headers are never in it.

use std::{io::Write as _, net::IpAddr, path::Path, time::Duration};

use bessemer_model::clock::{Clock as _, SystemClock};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::auth::Caller;

/// Where the lines go.
#[derive(Clone, Debug)]
pub struct Audit {
    to: To,
    ignored: Vec<Method>,
}

#[derive(Clone, Debug)]
enum To {
    Log,
    File(mpsc::Sender<String>),
}

/// So many lines may wait for the disk; then requests wait too: a line is never dropped.
const WAITING: usize = 1024;

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub time: String,
    pub request_id: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// `success`, `failure` or `denied`.
    pub outcome: &'static str,
    pub duration_ms: u64,
    pub client: Option<IpAddr>,
    pub user_id: Option<&'a str>,
    pub user_name: Option<&'a str>,
    pub project_id: Option<&'a str>,
    pub project_name: Option<&'a str>,
    pub system_scope: Option<&'a str>,
    pub domain_id: Option<&'a str>,
    pub roles: &'a [String],
}

impl Audit {
    /// Lines go to the daemon's log, target `audit`.
    #[must_use]
    pub const fn to_log() -> Self {
        Self { to: To::Log, ignored: vec![] }
    }

    /// Lines are appended to a file, which may be moved away at any time: each burst opens it anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn to_file(path: &Path) -> std::io::Result<Self> {
        drop(append(path)?);
        let (send, lines) = mpsc::channel(WAITING);
        let path = path.to_owned();
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(&path, lines))?;
        Ok(Self { to: To::File(send), ignored: vec![] })
    }

    /// Leaves out requests of these methods (`ignore_req_list`).
    #[must_use]
    pub fn ignoring(mut self, methods: Vec<Method>) -> Self {
        self.ignored = methods;
        self
    }

    /// Whether a request with this outcome gets a line.
    pub(crate) fn wants(&self, method: &Method, status: StatusCode) -> bool {
        let writes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        (writes || denied) && !self.ignored.contains(method)
    }

    pub(crate) async fn record(&self, r: &Record<'_>) {
        let line = match serde_json::to_string(r) {
            Ok(l) => l,
            Err(error) => return tracing::error!(%error, "an audit line could not be rendered"),
        };
        match &self.to {
            To::Log => tracing::info!(target: "audit", "{line}"),
            To::File(lines) => {
                if lines.send(line).await.is_err() {
                    tracing::error!("the audit file's writer has ended");
                }
            }
        }
    }
}

impl<'a> Record<'a> {
    /// The line of a request that has its answer.
    pub fn new(request_id: &'a str, method: &'a Method, path: &'a str, status: StatusCode, took: Duration, who: &'a Caller) -> Self {
        let outcome = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "denied",
            s if s.is_client_error() || s.is_server_error() => "failure",
            _ => "success",
        };
        Self {
            time: SystemClock.now().to_wire(),
            request_id,
            method: method.as_str(),
            path,
            status: status.as_u16(),
            outcome,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            client: None,
            user_id: who.user_id.as_deref(),
            user_name: who.user_name.as_deref(),
            project_id: who.project_id.as_deref(),
            project_name: who.project_name.as_deref(),
            system_scope: who.system_scope.as_deref(),
            domain_id: who.domain_id.as_deref(),
            roles: &who.roles,
        }
    }
}

fn append(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn write(path: &Path, mut lines: mpsc::Receiver<String>) {
    while let Some(first) = lines.blocking_recv() {
        let mut burst = first;
        burst.push('\n');
        while burst.len() < 1 << 16
            && let Ok(next) = lines.try_recv()
        {
            burst.push_str(&next);
            burst.push('\n');
        }
        // A full disk must not lose lines silently: they go to the log then.
        if let Err(error) = append(path).and_then(|mut f| f.write_all(burst.as_bytes())) {
            tracing::error!(file = %path.display(), %error, lines = burst, "the audit file cannot be written");
        }
    }
}
