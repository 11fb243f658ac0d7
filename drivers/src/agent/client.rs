//! HTTP client of the agent's command API (`agent.md` section 4).
//!
//! The agent's certificate is pinned to the one that its first heartbeat brought. Each command carries the holder's fence and the step id, so
//! that an agent of ours refuses an outdated holder and never runs a step twice; other agents ignore those headers.

use std::{sync::Arc, time::Duration};

use bessemer_agent_types::command::{CommandList, CommandResult};
use bessemer_model::{Json, JsonMap, agent::AgentState, secret::Secret};

use crate::iface::{DriverError, Result};

/// How the agent is reached and told who we are.
#[derive(Clone, Debug)]
pub struct AgentEndpoint {
    /// `callback_url` of the heartbeat.
    pub url: String,
    /// PEM certificate to pin; `None` = plain HTTP.
    pub verify_ca: Option<String>,
    /// Token that the agent was given.
    pub token: Option<Secret<String>>,
}

impl AgentEndpoint {
    /// The endpoint that a heartbeat told of.
    ///
    /// # Errors
    /// `Unreachable` when no heartbeat has come since the machine was started.
    pub fn of(state: Option<&AgentState>, token: Option<Secret<String>>) -> Result<Self> {
        let s = state.ok_or_else(|| DriverError::Unreachable("no agent has spoken since the machine was started".into()))?;
        let url = s.url.clone().ok_or_else(|| DriverError::Unreachable("the agent has not told its address".into()))?;
        Ok(Self { url, verify_ca: s.verify_ca.clone(), token })
    }
}

/// Marks of the holder and the step.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Fence of the claim.
    pub fence: Option<i64>,
    /// [`bessemer_model::flow::Flow::step_id`].
    pub step: Option<String>,
}

/// A client for one agent.
#[derive(Clone)]
pub struct AgentClient {
    http: reqwest::Client,
    endpoint: AgentEndpoint,
}

/// The largest answer read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

impl AgentClient {
    /// A client; `timeout` is for one request.
    ///
    /// # Errors
    /// `Invalid` when the certificate cannot be read.
    pub fn new(endpoint: AgentEndpoint, timeout: Duration) -> Result<Self> {
        let mut b = reqwest::Client::builder().timeout(timeout).connect_timeout(timeout.min(Duration::from_secs(10))).no_proxy();
        // Without a certificate only plain HTTP can work: nothing is trusted.
        b = b.tls_backend_preconfigured(match &endpoint.verify_ca {
            Some(pem) => pinned(pem)?,
            None => trusting_nothing()?,
        });
        let http = b.build().map_err(|e| DriverError::Invalid(format!("cannot make an HTTP client for the agent: {e}")))?;
        Ok(Self { http, endpoint })
    }

    fn url(&self, path: &str, wait: Option<bool>) -> Result<url::Url> {
        let mut u = url::Url::parse(&format!("{}{path}", self.endpoint.url.trim_end_matches('/')))
            .map_err(|e| DriverError::Invalid(format!("agent address {}: {e}", self.endpoint.url)))?;
        if let Some(w) = wait {
            u.query_pairs_mut().append_pair("wait", if w { "true" } else { "false" });
        }
        if let Some(t) = &self.endpoint.token {
            u.query_pairs_mut().append_pair("agent_token", t.reveal());
        }
        Ok(u)
    }

    /// All commands of this boot, oldest first.
    ///
    /// # Errors
    /// `Unreachable`, `Credentials`, `Refused`.
    pub async fn commands(&self) -> Result<Vec<CommandResult>> {
        let body = self.send(self.http.get(self.url("/v1/commands/", None)?), "list commands").await?;
        let list: CommandList =
            serde_json::from_slice(&body).map_err(|e| DriverError::Refused(format!("the agent's command list is not understood: {e}")))?;
        Ok(list.commands)
    }

    /// One command.
    ///
    /// # Errors
    /// As for [`Self::commands`].
    pub async fn command(&self, id: &str) -> Result<CommandResult> {
        let body = self.send(self.http.get(self.url(&format!("/v1/commands/{id}"), None)?), "read a command").await?;
        serde_json::from_slice(&body).map_err(|e| DriverError::Refused(format!("the agent's answer is not understood: {e}")))
    }

    /// Progress of the running command, as far as the agent tells (an extension of our agent).
    ///
    /// # Errors
    /// As for [`Self::commands`].
    pub async fn progress(&self) -> Result<Json> {
        let body = self.send(self.http.get(self.url("/v1/progress", None)?), "read the progress").await?;
        serde_json::from_slice(&body).map_err(|e| DriverError::Refused(format!("the agent's answer is not understood: {e}")))
    }

    /// Starts a command (`wait` = stay until it has ended).
    ///
    /// # Errors
    /// As for [`Self::commands`]; `Busy` while another command runs; `Fenced` when a newer holder has spoken to it.
    pub async fn start(&self, name: &str, params: JsonMap, wait: bool, marks: &Marks) -> Result<CommandResult> {
        let mut r = self.http.post(self.url("/v1/commands/", Some(wait))?).json(&serde_json::json!({"name": name, "params": params}));
        if let Some(f) = marks.fence {
            r = r.header("X-Bessemer-Fence", f.to_string());
        }
        if let Some(s) = &marks.step {
            r = r.header("X-Bessemer-Step", s);
        }
        let body = self.send(r, name).await?;
        serde_json::from_slice(&body).map_err(|e| DriverError::Refused(format!("the agent's answer to {name} is not understood: {e}")))
    }

    async fn send(&self, r: reqwest::RequestBuilder, what: &str) -> Result<Vec<u8>> {
        // `without_url`: the address carries the token.
        let mut answer = r.send().await.map_err(|e| {
            DriverError::Unreachable(format!("the agent at {} does not answer ({what}): {}", self.endpoint.url, cause(&e.without_url())))
        })?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|e| DriverError::Unreachable(format!("the agent's answer broke off ({what}): {}", cause(&e.without_url()))))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(DriverError::Refused(format!("the agent's answer to {what} is larger than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        let text = serde_json::from_slice::<Json>(&body)
            .ok()
            .and_then(|j| j.get("faultstring").and_then(Json::as_str).map(str::to_owned))
            .unwrap_or_else(|| format!("HTTP status {status}"));
        Err(match status.as_u16() {
            401 => DriverError::Credentials(format!("the agent refused our token ({what})")),
            409 if text.contains("fence") => DriverError::Fenced(text),
            409 => DriverError::Busy(text),
            _ => DriverError::Refused(format!("agent, {what}: {text}")),
        })
    }
}

fn cause(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        text = format!("{text}: {s}");
        at = s.source();
    }
    text
}

/// TLS that accepts exactly the certificate in `pem`.
fn pinned(pem: &str) -> Result<rustls::ClientConfig> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let cert = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| DriverError::Invalid(format!("the agent's certificate (agent_verify_ca) is not PEM: {e}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| DriverError::Invalid(format!("TLS: {e}")))
        .map(|b| b.dangerous().with_custom_certificate_verifier(Arc::new(Pin { cert: cert.into_owned(), provider })).with_no_client_auth())
}

fn trusting_nothing() -> Result<rustls::ClientConfig> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| DriverError::Invalid(format!("TLS: {e}")))
        .map(|b| b.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// Accepts one certificate and nothing else: stricter than a CA, and free of names and clocks, which a machine being installed has wrong.
#[derive(Debug)]
struct Pin {
    cert: rustls_pki_types::CertificateDer<'static>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::client::danger::ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.cert.as_ref() {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the agent's certificate is not the one that its heartbeat brought".into()))
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
