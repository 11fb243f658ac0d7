//! The HTTP client for image servers: trust, proxies and credentials as the conductor and the command line say.
//!
//! Never reads proxy settings or credentials from the environment.

use std::collections::BTreeMap;
use std::time::Duration;

use bessemer_model::secret::Secret;

use super::fetch::FetchPolicy;

/// How to speak to the image server.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// PEM certificates to trust beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// No verification of the server's certificate (`ipa-insecure`).
    pub insecure: bool,
    /// Whole value of the Authorization header.
    pub authorization: Option<Secret<String>>,
    /// Proxy URL by scheme (`http`, `https`).
    pub proxies: BTreeMap<String, String>,
    /// Comma list of hosts that are reached without proxy.
    pub no_proxy: Option<String>,
}

/// Builds the client.
pub(crate) fn client(options: &HttpOptions, policy: &FetchPolicy) -> Result<reqwest::Client, String> {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let build = |only_given: bool| -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(policy.timeout)
            .redirect(reqwest::redirect::Policy::limited(5))
            .tcp_keepalive(Duration::from_secs(30))
            .user_agent(concat!("bessemer-agent/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .tls_danger_accept_invalid_certs(options.insecure);
        let certificates = match &options.ca_pem {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(|e| format!("the CA file is not usable: {e}"))?,
            None => Vec::new(),
        };
        if !options.insecure {
            builder = if only_given { builder.tls_certs_only(certificates) } else { builder.tls_certs_merge(certificates) };
        }
        for (scheme, proxy) in &options.proxies {
            let proxy = match scheme.as_str() {
                "http" => reqwest::Proxy::http(proxy),
                "https" => reqwest::Proxy::https(proxy),
                other => return Err(format!("proxy for scheme {other:?} is not known: use http or https")),
            }
            .map_err(|e| format!("the {scheme} proxy is not usable: {e}"))?;
            let exceptions = options.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(proxy.no_proxy(exceptions));
        }
        builder.build().map_err(|e| format!("cannot set up TLS: {e}"))
    };
    // A ramdisk without a system CA bundle cannot merge: then only the given certificates count.
    build(false).or_else(|_| build(true))
}
