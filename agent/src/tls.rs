//! The agent's own certificate: made at start, for its own address, kept for the whole boot.
//!
//! The conductor pins it (it refuses another certificate within the same boot), so it is stored in the state
//! folder and taken up again after a crash. The key never leaves the machine's memory file system.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The clocks of machine and conductor may differ by this much.
const SKEW: Duration = Duration::from_secs(3600);
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why the agent has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Generation failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refuses it.
    #[error("cannot serve TLS: {0}")]
    Config(#[from] rustls::Error),
    /// A stored certificate cannot be read.
    #[error("cannot read the stored certificate: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// The certificate (PEM, for the heartbeat) and the server configuration that uses it.
pub struct Identity {
    /// PEM text.
    pub certificate: String,
    /// For the acceptor.
    pub config: Arc<rustls::ServerConfig>,
}

/// Takes up the stored certificate for `ip`, or makes a new one and stores it.
pub fn identity(ip: IpAddr, host: &str, p384: bool, tls13_only: bool, state_dir: Option<&Path>) -> Result<Identity, TlsError> {
    crate::http::install_crypto();
    let stored = state_dir.map(|dir| dir.join(format!("agent-{}.pem", ip.to_string().replace(':', "-"))));
    let pem = match stored.as_deref().and_then(|path| fs::read_to_string(path).ok()) {
        Some(pem) => pem,
        None => {
            let pem = make(ip, host, p384)?;
            if let Some(path) = &stored {
                let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
                if let Err(e) = written.and_then(|mut file| file.write_all(pem.as_bytes())) {
                    tracing::warn!("certificate not stored, a restarted agent will be refused: {e}");
                }
            }
            pem
        }
    };
    let certificate = pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or(&pem).to_owned();
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
    let versions: &[&rustls::SupportedProtocolVersion] = if tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { certificate, config: Arc::new(config) })
}

fn make(ip: IpAddr, host: &str, p384: bool) -> Result<String, TlsError> {
    let key = KeyPair::generate_for(if p384 { &rcgen::PKCS_ECDSA_P384_SHA384 } else { &rcgen::PKCS_ECDSA_P256_SHA256 })?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, host);
    params.subject_alt_names.push(SanType::IpAddress(ip));
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFE).into();
    // It is pinned as it stands. An authority's certificate would be refused as a server's own by strict verifiers.
    params.is_ca = rcgen::IsCa::NoCa;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem().replace("\r\n", "\n"), key.serialize_pem().replace("\r\n", "\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_agent_keeps_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let ip = "192.0.2.7".parse().unwrap();
        let first = identity(ip, "node", false, false, Some(dir.path())).unwrap();
        let second = identity(ip, "node", false, false, Some(dir.path())).unwrap();
        assert_eq!(first.certificate, second.certificate);
        assert!(!first.certificate.contains("PRIVATE KEY"));
        let other = identity("192.0.2.8".parse().unwrap(), "node", true, true, Some(dir.path())).unwrap();
        assert_ne!(first.certificate, other.certificate);
    }
}
