//! The HTTP client for the bare-metal API: trust, time-outs, and requests that try each API URL in turn.
//!
//! The URL that answered last is tried first. No redirect is followed to another scheme by this module's
//! callers, and a body is never read beyond its bound.

use crate::params::Settings;
use bessemer_agent_types::API_VERSION_HEADER;
use reqwest::{Client, Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

/// Certificates of authorities that the ramdisk trusts.
pub const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Largest answer that is read.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Why a request had no useful answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No client could be made.
    #[error("HTTP client: {0}")]
    Client(String),
    /// No API URL is known.
    #[error("no API URL is known: give ipa-api-url on the kernel command line")]
    NoUrl,
    /// Every URL failed to answer at all.
    #[error("{url} did not answer: {cause}")]
    Silent {
        /// Which URL (the last one tried).
        url: String,
        /// The chain of causes.
        cause: String,
    },
    /// The answer is an error.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// Which URL.
        url: String,
        /// Its status.
        status: StatusCode,
        /// Start of its body.
        body: String,
    },
    /// The answer is not what the contract says.
    #[error("{url} gave an answer that cannot be read: {cause}")]
    Answer {
        /// Which URL.
        url: String,
        /// Why.
        cause: String,
    },
}

impl HttpError {
    /// Status of the answer, when there was one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Makes ring the process's TLS provider; harmless when repeated.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that some provider is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// The certificates in the trust file, empty when there is none.
pub fn trusted_certificates() -> Vec<CertificateDer<'static>> {
    let Ok(text) = std::fs::read(CA_FILE) else { return Vec::new() };
    CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect()
}

/// A client with this agent's trust: the ramdisk's authorities, or anyone's when `insecure`.
pub fn client(insecure: bool, timeout: Duration) -> Result<Client, HttpError> {
    install_crypto();
    let builder = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::limited(5))
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout)
        .user_agent(concat!("bessemer-agent/", env!("CARGO_PKG_VERSION")));
    let builder = if insecure {
        builder.tls_danger_accept_invalid_certs(true)
    } else {
        let certificates = trusted_certificates().into_iter().filter_map(|der| reqwest::Certificate::from_der(&der).ok());
        builder.tls_certs_only(certificates)
    };
    builder.build().map_err(|e| HttpError::Client(chain(&e)))
}

/// The bare-metal API behind one or several URLs.
pub struct Api {
    client: Client,
    urls: Vec<String>,
    good: AtomicUsize,
    request_id: Option<String>,
}

impl Api {
    /// For the URLs in the settings.
    pub fn new(settings: &Settings) -> Result<Arc<Self>, HttpError> {
        Ok(Arc::new(Self {
            client: client(settings.insecure, settings.http_timeout)?,
            urls: settings.api_urls.clone(),
            good: AtomicUsize::new(0),
            request_id: settings.global_request_id.clone(),
        }))
    }

    /// The base URL that answered last.
    pub fn url(&self) -> Option<&str> {
        self.urls.get(self.good.load(Ordering::Relaxed)).or_else(|| self.urls.first()).map(String::as_str)
    }

    /// Asks each URL until one answers at all, or with less than 500. Gives the status and the JSON body
    /// (null when there is none).
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        minor: Option<u32>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), HttpError> {
        let first = self.good.load(Ordering::Relaxed);
        let mut failure = HttpError::NoUrl;
        for step in 0..self.urls.len() {
            let index = (first + step) % self.urls.len();
            let Some(base) = self.urls.get(index) else { continue };
            let mut request = self.client.request(method.clone(), format!("{base}{path}"));
            if let Some(minor) = minor {
                request = request.header(API_VERSION_HEADER, format!("1.{minor}"));
            }
            if let Some(id) = &self.request_id {
                request = request.header("X-OpenStack-Request-ID", id);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match read(request, base).await {
                Ok((status, _)) if status.is_server_error() && step + 1 < self.urls.len() => {}
                Ok(answer) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    /// As [`Self::ask`], and a status other than success is an error.
    pub async fn ask_ok(&self, method: Method, path: &str, minor: Option<u32>, body: Option<&Value>) -> Result<Value, HttpError> {
        let (status, value) = self.ask(method, path, minor, body).await?;
        if status.is_success() {
            return Ok(value);
        }
        let url = self.url().unwrap_or_default().to_owned();
        Err(HttpError::Status { url, status, body: value.to_string().chars().take(300).collect() })
    }
}

/// Posts JSON to a full URL (inspection call-backs live outside the API's base).
pub async fn post(client: &Client, url: &str, body: &Value) -> Result<(StatusCode, Value), HttpError> {
    read(client.post(url).json(body), url).await
}

async fn read(request: reqwest::RequestBuilder, url: &str) -> Result<(StatusCode, Value), HttpError> {
    let silent = |e: reqwest::Error| HttpError::Silent { url: url.to_owned(), cause: chain(&e.without_url()) };
    let mut answer = request.send().await.map_err(silent)?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(silent)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(HttpError::Answer { url: url.to_owned(), cause: format!("more than {MAX_ANSWER} bytes") });
        }
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((status, value)),
        Err(_) if bytes.is_empty() || !status.is_success() => {
            Ok((status, Value::String(String::from_utf8_lossy(&bytes).chars().take(300).collect())))
        }
        Err(e) => Err(HttpError::Answer { url: url.to_owned(), cause: e.to_string() }),
    }
}

/// An error with its causes, since the outermost alone says only "error sending request".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Whether the ramdisk has any authority to verify a server with.
pub fn has_trust() -> bool {
    Path::new(CA_FILE).exists()
}
