//! The identity service, API version 3: a token of our own, tokens of others checked, and where services are (Keystone's API
//! reference, "Authentication and token management").

mod token;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bessemer_model::secret::Secret;
use reqwest::{Client, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

pub use token::{Named, Scope, Token};

/// How to reach Keystone, and as whom. Names follow the options of `[keystone_authtoken]`.
#[derive(Clone, Debug)]
pub struct KeystoneConfig {
    /// Address of the API, with or without `/v3`.
    pub auth_url: Url,
    /// Name of the user that this service is.
    pub username: String,
    /// Its password.
    pub password: Secret<String>,
    /// Name or id of the user's domain.
    pub user_domain: Named,
    /// Name of its project.
    pub project_name: String,
    /// Name or id of the project's domain.
    pub project_domain: Named,
    /// Region to choose endpoints in; `None` = any.
    pub region: Option<String>,
    /// Authorities trusted instead of the system's, as a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// How often a request that got no answer is repeated.
    pub retries: u32,
}

/// Why Keystone could not help.
#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    /// No answer, or none that makes sense: try again later.
    #[error("Keystone at {url} does not answer: {reason}")]
    Unavailable {
        /// Where it was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// Our own credentials are refused.
    #[error("Keystone at {url} refuses the user \"{user}\" of this service (status {status}): check [keystone_authtoken]")]
    Refused {
        /// Where it was asked.
        url: String,
        /// As whom.
        user: String,
        /// With which status.
        status: u16,
    },
    /// The token of a caller is not valid.
    #[error("the token is not valid")]
    InvalidToken,
    /// The catalogue has no such service.
    #[error("the service catalogue has no {interface} endpoint of \"{service}\"")]
    NoEndpoint {
        /// Type of the service.
        service: String,
        /// `public`, `internal` or `admin`.
        interface: String,
    },
    /// The settings make no client.
    #[error("{0}")]
    Config(String),
}

/// A client of one Keystone. Clones share the service's own token.
#[derive(Clone, Debug)]
pub struct Keystone {
    config: Arc<KeystoneConfig>,
    http: Client,
    base: Url,
    own: Arc<Mutex<Option<Arc<OwnToken>>>>,
}

/// The token of this service itself.
#[derive(Debug)]
pub struct OwnToken {
    /// For `X-Auth-Token`.
    pub id: Secret<String>,
    /// What it says.
    pub token: Token,
}

/// A token of our own is replaced so long before it expires.
const MARGIN: Duration = Duration::from_secs(60);
/// An answer of Keystone is never larger: catalogues of large clouds are some hundred KiB.
const MAX_ANSWER: usize = 4 << 20;
/// A token is never longer.
const MAX_TOKEN: usize = 16 << 10;

impl Keystone {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// [`KeystoneError::Config`].
    pub fn new(config: KeystoneConfig) -> Result<Self, KeystoneError> {
        let bad = |what: String| KeystoneError::Config(what);
        // Fails only when another provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(config.insecure);
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).map_err(|e| bad(format!("[keystone_authtoken] cafile {}: {e}", file.display())))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| bad(format!("[keystone_authtoken] cafile {}: no certificates in PEM: {e}", file.display())))?;
            http = http.tls_certs_only(roots);
        }
        let http = http.build().map_err(|e| bad(format!("no HTTP client for Keystone: {e}")))?;
        let base = base(&config.auth_url).ok_or_else(|| bad(format!("[keystone_authtoken] auth_url {} is no address", config.auth_url)))?;
        Ok(Self { config: Arc::new(config), http, base, own: Arc::default() })
    }

    /// Address of the API with `/v3`.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// A token of this service, asked for when there is none that lasts. Callers that come together share one request.
    ///
    /// # Errors
    /// [`KeystoneError::Unavailable`], [`KeystoneError::Refused`].
    pub async fn own_token(&self) -> Result<Arc<OwnToken>, KeystoneError> {
        let mut own = self.own.lock().await;
        if let Some(t) = own.as_ref().filter(|t| t.token.lasts(SystemTime::now(), MARGIN)) {
            return Ok(Arc::clone(t));
        }
        let fresh = Arc::new(self.authenticate().await?);
        *own = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Forgets the token of this service, unless another has taken its place already.
    async fn forget(&self, which: &Arc<OwnToken>) {
        let mut own = self.own.lock().await;
        if own.as_ref().is_some_and(|t| Arc::ptr_eq(t, which)) {
            *own = None;
        }
    }

    async fn authenticate(&self) -> Result<OwnToken, KeystoneError> {
        let c = &self.config;
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": c.username, "domain": c.user_domain.reference(), "password": c.password.reveal(),
            } } },
            "scope": { "project": { "name": c.project_name, "domain": c.project_domain.reference() } },
        } });
        let response = self.send(|| self.http.post(self.url("auth/tokens")).json(&body)).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(match status {
                s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => self.unavailable(format!("status {}", s.as_u16())),
                s => KeystoneError::Refused { url: self.base.to_string(), user: c.username.clone(), status: s.as_u16() },
            });
        }
        let id = response.headers().get("x-subject-token").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let id = id.ok_or_else(|| self.unavailable("no X-Subject-Token in the answer".to_owned()))?;
        let token = self.token_of(response).await?;
        Ok(OwnToken { id: Secret::new(id), token })
    }

    /// What a caller's token says. `allow_expired`: the caller is vouched for by a service, whose work may outlive the token.
    ///
    /// # Errors
    /// [`KeystoneError::InvalidToken`], and those of [`Self::own_token`].
    pub async fn validate(&self, subject: &Secret<String>, allow_expired: bool) -> Result<Token, KeystoneError> {
        let subject = subject.reveal();
        let clean = !subject.is_empty() && subject.len() <= MAX_TOKEN && subject.bytes().all(|b| b.is_ascii_graphic());
        let Ok(mut value) = header::HeaderValue::try_from(subject.as_str()) else { return Err(KeystoneError::InvalidToken) };
        if !clean {
            return Err(KeystoneError::InvalidToken);
        }
        value.set_sensitive(true);
        let url = self.url(if allow_expired { "auth/tokens?allow_expired=1" } else { "auth/tokens" });
        // Our own token may have been revoked before its time: once with the one at hand, once with a new one.
        for last in [false, true] {
            let own = self.own_token().await?;
            let ask = || self.http.get(&url).header("X-Auth-Token", own.id.reveal()).header("X-Subject-Token", value.clone());
            let response = self.send(ask).await?;
            match response.status() {
                s if s.is_success() => return self.token_of(response).await,
                StatusCode::NOT_FOUND => return Err(KeystoneError::InvalidToken),
                s @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    self.forget(&own).await;
                    if last || s == StatusCode::FORBIDDEN {
                        let user = self.config.username.clone();
                        return Err(KeystoneError::Refused { url: self.base.to_string(), user, status: s.as_u16() });
                    }
                }
                s => return Err(self.unavailable(format!("status {}", s.as_u16()))),
            }
        }
        Err(self.unavailable("the token of this service is refused".to_owned()))
    }

    /// Where a service is, by the catalogue of our own token.
    ///
    /// # Errors
    /// [`KeystoneError::NoEndpoint`], and those of [`Self::own_token`].
    pub async fn endpoint(&self, service: &str, interface: &str) -> Result<Url, KeystoneError> {
        let own = self.own_token().await?;
        let found = own.token.endpoint(service, interface, self.config.region.as_deref());
        found.ok_or_else(|| KeystoneError::NoEndpoint { service: service.to_owned(), interface: interface.to_owned() })
    }

    fn unavailable(&self, reason: String) -> KeystoneError {
        KeystoneError::Unavailable { url: self.base.to_string(), reason }
    }

    /// Sends, and again when nothing came back.
    async fn send(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Response, KeystoneError> {
        let mut tries = 0;
        loop {
            match request().header(header::ACCEPT, "application/json").send().await {
                Ok(r) => return Ok(r),
                // Without the address of the request: tokens never stand in it, but nothing is lost either.
                Err(e) if tries >= self.config.retries => {
                    return Err(self.unavailable(reason(&e.without_url())));
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(200 << tries.min(4))).await;
                }
            }
        }
    }

    async fn token_of(&self, mut response: Response) -> Result<Token, KeystoneError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unavailable(reason(&e.without_url())))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(self.unavailable("the answer is too large".to_owned()));
            }
        }
        let body: Value = serde_json::from_slice(&bytes).map_err(|_| self.unavailable("the answer is not JSON".to_owned()))?;
        Token::read(body.get("token").unwrap_or(&Value::Null)).ok_or_else(|| self.unavailable("the answer holds no token".to_owned()))
    }
}

fn reason(e: &reqwest::Error) -> String {
    let mut text = e.to_string();
    let mut at = std::error::Error::source(e);
    while let Some(s) = at {
        text = format!("{text}: {s}");
        at = s.source();
    }
    text
}

/// The address with `/v3` and nothing behind it.
fn base(url: &Url) -> Option<Url> {
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return None;
    }
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&if path.ends_with("/v3") { path } else { format!("{path}/v3") });
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_belongs_to_the_address_once() {
        for (given, want) in [
            ("http://k:5000", "http://k:5000/v3"),
            ("http://k:5000/v3/", "http://k:5000/v3"),
            ("https://k/identity?x#y", "https://k/identity/v3"),
        ] {
            assert_eq!(base(&given.parse().expect("a URL")).expect("usable").as_str(), want);
        }
        assert!(base(&"ftp://k".parse().expect("a URL")).is_none());
    }
}
