//! One HTTP exchange with a BMC: bounded in time and size, never compressed, never redirected on its own, never retried.
//!
//! Reads share kept connections. Writes always use a new one: BMCs that cut a kept connection at the moment of reuse would
//! else leave open whether a reset or an insert was carried out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bessemer_model::secret::Secret;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use reqwest::{Client, Method, redirect};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::Url;

use super::config::PoolConfig;
use super::endpoint::{MinTls, RedfishEndpoint, Verify};
use super::error::{BmcMessage, RedfishError, cut};
use super::{resource, tls};

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");
/// Longest path that is followed.
const MAX_PATH: usize = 2048;

/// What proves who we are, for one request.
#[derive(Clone)]
pub enum Grant {
    /// Nothing.
    Nothing,
    /// `Authorization: Basic …`, ready to send.
    Basic(Secret<String>),
    /// A session token with the number of the login that gave it.
    Token(Secret<String>, u64),
}

/// One request.
pub struct Ask<'a> {
    /// Method.
    pub method: Method,
    /// Path below the host.
    pub path: &'a str,
    /// JSON body.
    pub body: Option<&'a Value>,
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// Longer (or shorter) wait for the answer than configured.
    pub read_timeout: Option<Duration>,
}

/// One answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`, when given in seconds.
    pub retry_after: Option<Duration>,
    /// `X-Auth-Token`.
    pub token: Option<Secret<String>>,
    /// Body, null when it is not JSON.
    pub body: Value,
    /// Beginning of a body that is not JSON.
    pub raw: String,
}

impl Reply {
    /// What the BMC said.
    pub fn message(&self) -> BmcMessage {
        resource::messages(&self.body, &self.raw)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoReply {
    /// Nothing was sent: sure to be safe to try again.
    NotSent(RedfishError),
    /// The request may have been carried out.
    Lost(RedfishError),
    /// Trying again is useless.
    Final(RedfishError),
}

/// What decides about TLS: how the BMC is checked, and the time of the CA file, so that a replaced file is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsKey {
    verify: Verify,
    min: MinTls,
    changed: Option<SystemTime>,
}

impl TlsKey {
    /// For an endpoint.
    pub fn of(endpoint: &RedfishEndpoint, default: &Verify) -> Self {
        let verify = endpoint.verify.as_ref().unwrap_or(default);
        // A plain http:// address needs no trust store; a machine without one must still be able to use it.
        let verify = if endpoint.address.scheme() == "https" { verify.clone() } else { Verify::Off };
        let changed = match &verify {
            Verify::Ca(path) => std::fs::metadata(path).and_then(|m| m.modified()).ok(),
            Verify::System | Verify::Off => None,
        };
        Self { verify, min: endpoint.min_tls, changed }
    }
}

/// HTTP clients with one TLS set-up, shared by all BMCs that are checked in the same way.
#[derive(Clone)]
pub struct Http {
    reads: Client,
    writes: Client,
}

impl Http {
    /// Reads the trusted certificates.
    pub fn new(key: &TlsKey, config: &PoolConfig) -> Result<Self, RedfishError> {
        let tls = tls::client_config(&key.verify, key.min)?;
        let build = |idle: usize| {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(redirect::Policy::none())
                .no_proxy()
                .retry(reqwest::retry::never())
                .http1_only()
                .http1_ignore_invalid_headers_in_responses(true)
                .connect_timeout(config.connect_timeout)
                .pool_max_idle_per_host(idle)
                .pool_idle_timeout(Duration::from_secs(10))
                .user_agent(concat!("bessemer/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|e| RedfishError::Endpoint(format!("HTTP client cannot be set up: {}", chain(&e))))
        };
        Ok(Self { reads: build(config.per_bmc)?, writes: build(0)? })
    }
}

/// The way to one BMC.
pub struct Wire {
    base: Url,
    prefix: String,
    origin: String,
    http: Http,
    config: Arc<PoolConfig>,
}

impl Wire {
    /// The way to `endpoint`; connects to nothing.
    pub fn new(endpoint: &RedfishEndpoint, http: Http, config: Arc<PoolConfig>) -> Self {
        Self {
            prefix: endpoint.address.path().trim_end_matches('/').to_owned(),
            origin: endpoint.origin(),
            base: endpoint.address.clone(),
            http,
            config,
        }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The path of a link or `Location`, whatever host it names: BMCs name themselves wrongly, and credentials go to the
    /// configured host only.
    pub fn path_of(&self, link: &str) -> Result<String, RedfishError> {
        let bad = |why: &str| RedfishError::Malformed {
            bmc: self.origin.clone(),
            what: "a link".to_owned(),
            detail: format!("{why}: {}", cut(link)),
        };
        if link.len() > MAX_PATH {
            return Err(bad("too long"));
        }
        let path = match link.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => link,
        };
        let path = path.split('#').next().unwrap_or(path);
        if !path.starts_with('/') || path.starts_with("//") || path.contains('\\') || path.chars().any(char::is_control) {
            return Err(bad("not a path"));
        }
        // A proxy that serves a BMC under a prefix may or may not rewrite the links in the answers.
        if self.prefix.is_empty() || path == self.prefix || path.starts_with(&format!("{}/", self.prefix)) {
            Ok(path.to_owned())
        } else {
            Ok(format!("{}{path}", self.prefix))
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        match path.split_once('?') {
            Some((p, q)) => {
                url.set_path(p);
                url.set_query(Some(q));
            }
            None => url.set_path(path),
        }
        url
    }

    /// Does one exchange, before `until`.
    pub async fn exchange(&self, ask: &Ask<'_>, grant: &Grant, until: Instant) -> Result<Reply, NoReply> {
        let what = format!("{} {}", ask.method, ask.path);
        let started = Instant::now();
        let late = |waited_for: String| RedfishError::Timeout { bmc: self.origin.clone(), waited_for, after: started.elapsed() };
        let read = ask.read_timeout.unwrap_or(self.config.read_timeout);
        let left = until.saturating_duration_since(started);
        if left.is_zero() {
            return Err(NoReply::Final(late(format!("a chance to send {what}"))));
        }
        let client = if ask.method == Method::GET { &self.http.reads } else { &self.http.writes };
        let mut request = client.request(ask.method.clone(), self.url(ask.path)).headers(headers(ask, grant));
        if let Some(body) = ask.body {
            request = request.body(body.to_string());
        }
        let head = timeout(left.min(read + self.config.connect_timeout), request.send()).await;
        let mut response = match head {
            Err(_) => return Err(NoReply::Lost(late(format!("an answer to {what}")))),
            Ok(Err(e)) => return Err(self.classify(&e, &what, started)),
            Ok(Ok(r)) => r,
        };
        let status = response.status().as_u16();
        let head = response.headers();
        let header = |name: &str| head.get(name).and_then(|v| v.to_str().ok()).map(str::trim).filter(|s| !s.is_empty());
        let mut reply = Reply {
            status,
            etag: header("etag").filter(|e| !matches!(*e, "\"\"" | "W/\"\"")).map(str::to_owned),
            location: header("location").map(str::to_owned),
            retry_after: header("retry-after").and_then(|v| v.parse().ok()).map(Duration::from_secs),
            token: header("x-auth-token").map(|t| Secret::new(t.to_owned())),
            body: Value::Null,
            raw: String::new(),
        };
        let mut bytes = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left.min(read), response.chunk()).await {
                Err(_) => return Err(NoReply::Lost(late(format!("the rest of the answer to {what}")))),
                Ok(Err(e)) => return Err(self.classify(&e, &what, started)),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(piece))) => {
                    if bytes.len() + piece.len() > self.config.max_body {
                        return Err(NoReply::Final(RedfishError::Malformed {
                            bmc: self.origin.clone(),
                            what,
                            detail: format!("more than {} bytes", self.config.max_body),
                        }));
                    }
                    bytes.extend_from_slice(&piece);
                }
            }
        }
        match serde_json::from_slice(&bytes) {
            Ok(v) => reply.body = v,
            Err(_) => {
                reply.raw = cut(String::from_utf8_lossy(bytes.get(..4096).unwrap_or(&bytes)).trim());
            }
        }
        Ok(reply)
    }

    fn classify(&self, e: &reqwest::Error, what: &str, started: Instant) -> NoReply {
        let bmc = self.origin.clone();
        if let Some((detail, remedy)) = tls::explain(e) {
            return NoReply::Final(RedfishError::Tls { bmc, detail, remedy });
        }
        if e.is_connect() {
            if e.is_timeout() {
                let after = started.elapsed();
                return NoReply::NotSent(RedfishError::Timeout { bmc, waited_for: "a connection".to_owned(), after });
            }
            return NoReply::NotSent(RedfishError::Unreachable { bmc, detail: chain(e) });
        }
        if e.is_builder() {
            return NoReply::Final(RedfishError::Endpoint(format!("{what}: {}", chain(e))));
        }
        NoReply::Lost(RedfishError::Unreachable { bmc, detail: format!("{what}: {}", chain(e)) })
    }
}

fn headers(ask: &Ask<'_>, grant: &Grant) -> HeaderMap {
    let mut h = HeaderMap::new();
    h.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Some BMCs give a compressed answer a weak ETag and then refuse that.
    h.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    h.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
    if ask.body.is_some() {
        h.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(v) = ask.if_match.and_then(|e| HeaderValue::from_str(e).ok()) {
        h.insert(IF_MATCH, v);
    }
    let secret = match grant {
        Grant::Nothing => None,
        Grant::Basic(s) => Some((AUTHORIZATION, s)),
        Grant::Token(s, _) => Some((X_AUTH_TOKEN, s)),
    };
    if let Some((name, secret)) = secret
        && let Ok(mut v) = HeaderValue::from_str(secret.reveal())
    {
        v.set_sensitive(true);
        h.insert(name, v);
    }
    h
}

/// An error with its causes, on one line and without the URL.
fn chain(e: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { cut(&e.to_string()) } else { cut(&parts.join(": ")) }
}
