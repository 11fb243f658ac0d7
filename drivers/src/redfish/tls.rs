//! TLS towards BMCs: which certificates are trusted, and what to say when a handshake fails.
//!
//! The configuration is built explicitly on the ring provider, so that nothing depends on what the process installed.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::endpoint::{MinTls, Verify};
use super::error::RedfishError;

/// Largest CA file that is read.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

/// Builds the TLS configuration for one way of checking.
pub fn client_config(verify: &Verify, min: MinTls) -> Result<ClientConfig, RedfishError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match min {
        MinTls::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinTls::V13 => &[&rustls::version::TLS13],
    };
    let verifier: Arc<dyn ServerCertVerifier> = match verify {
        Verify::Off => Arc::new(NoCheck(provider.clone())),
        Verify::System => {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(RedfishError::Endpoint(
                    "this machine has no trusted certificates (install ca-certificates, or give redfish_verify_ca a CA file)".to_owned(),
                ));
            }
            webpki(roots, &provider)?
        }
        Verify::Ca(path) => {
            let certs = read_ca(path)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certs.iter().cloned());
            if roots.is_empty() {
                return Err(RedfishError::Endpoint(format!("redfish_verify_ca: {path} holds no usable certificate")));
            }
            Arc::new(Pinned { inner: webpki(roots, &provider)?, exact: certs })
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| RedfishError::Endpoint(format!("TLS cannot be set up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn webpki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, RedfishError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| RedfishError::Endpoint(format!("TLS cannot be set up: {e}")))
}

/// Reads the PEM certificates of a file, or of every regular file of a directory.
fn read_ca(path: &str) -> Result<Vec<CertificateDer<'static>>, RedfishError> {
    let fail = |why: String| RedfishError::Endpoint(format!("redfish_verify_ca: cannot read {path}: {why}"));
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    let files = if meta.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .map_err(|e| fail(e.to_string()))?
            .filter_map(Result::ok)
            .map(|e| e.path())
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        files
    } else {
        vec![path.into()]
    };
    let mut certs = Vec::new();
    for file in files {
        let size = std::fs::metadata(&file).map_err(|e| fail(e.to_string()))?.len();
        if size > MAX_CA_BYTES {
            return Err(fail(format!("{} is larger than {MAX_CA_BYTES} bytes", file.display())));
        }
        let bytes = std::fs::read(&file).map_err(|e| fail(e.to_string()))?;
        // A directory may hold other things; a file that was named must parse.
        for cert in CertificateDer::pem_slice_iter(&bytes) {
            match cert {
                Ok(c) => certs.push(c),
                Err(e) if !meta.is_dir() => return Err(fail(format!("{e:?}"))),
                Err(_) => {}
            }
        }
    }
    if certs.is_empty() {
        return Err(fail("no PEM certificate in it".to_owned()));
    }
    Ok(certs)
}

/// Accepts certificates that are in the CA file themselves; asks webpki about all others.
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    exact: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.exact.iter().any(|c| c.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `redfish_verify_ca = false`: encrypts towards whoever answers. Signatures are not checked either, since BMCs with
/// 1024-bit keys exist that the provider would refuse, and without an identity a signature proves nothing.
#[derive(Debug)]
struct NoCheck(Arc<CryptoProvider>);

impl ServerCertVerifier for NoCheck {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS error somewhere in the causes of `error`, with what to do about it.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> Option<(String, &'static str)> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return Some((tls.to_string(), remedy(tls)));
        }
        // source() of an io::Error skips the error that it wraps.
        let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|i| explain(i)) {
            return Some(found);
        }
        next = e.source();
    }
    None
}

fn remedy(e: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription, CertificateError, Error};
    match e {
        Error::InvalidCertificate(c) => match c {
            CertificateError::UnknownIssuer => {
                "set redfish_verify_ca to the file of the CA that signed the BMC's certificate (or false to skip the check)"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for another name: use that name in redfish_address, or name the certificate itself in redfish_verify_ca"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "renew the BMC's certificate and check the clocks of both sides",
            _ => "replace the BMC's certificate, name it itself in redfish_verify_ca, or set redfish_verify_ca to false",
        },
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            "the BMC seems to offer only TLS older than 1.2 or old ciphers: update its firmware, raise its TLS setting, or use an http:// address on a protected network"
        }
        Error::InvalidMessage(_) => "the port seems not to speak TLS: check the port and the scheme of redfish_address",
        _ => "check redfish_address, redfish_verify_ca and the TLS settings of the BMC",
    }
}
