//! Daemons that share a database do each other's calls: what needs a controller now is done by the conductor that owns the node.
//!
//! [`routed`] is the side that asks, [`server`] the side that does. A call makes one hop: what comes in by the server is done in this
//! process, whoever the ring names. Without `[rpc] shared_key` there are no peers and everything is done where it arrives.

mod routed;
mod server;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bessemer_conductor::{Core, api::LocalConductor};
use bessemer_model::secret::Secret;
use bessemer_rpc::{
    ConductorApi,
    signed::{Key, Receiver},
};
use tokio::net::TcpListener;
use url::Url;

use crate::{options::Options, tls};

/// Longest time that a call takes, from sending it to the end of its answer.
const DEADLINE: Duration = Duration::from_secs(60);
/// No call and no answer is larger: the API takes no larger bodies, and consoles, indicators and drives are short lists.
const MAX_BODY: usize = 4 << 20;

/// What the options say about peers.
#[derive(Clone, Debug)]
struct Settings {
    key: Key,
    listen: SocketAddr,
    address: Option<Url>,
    tls: Option<tls::Files>,
    ca_file: Option<PathBuf>,
}

impl Settings {
    fn new(o: &Options) -> Result<Option<Self>> {
        let Some(key) = o.given("rpc", "shared_key").map(Secret::new) else { return Ok(None) };
        let key = Key::new(&key).context("[rpc] shared_key")?;
        let listen: SocketAddr =
            format!("{}:{}", o.text("rpc", "host_ip"), o.int("rpc", "port")).parse().context("[rpc] host_ip and port make no address")?;
        let tls = if o.flag("rpc", "use_ssl") { Some(crate::access::pair(o, "[rpc] use_ssl", &["rpc", "api", "ssl"])?) } else { None };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = match o.given("rpc", "address") {
            Some(a) => {
                let url: Url = a.parse().with_context(|| format!("[rpc] address {a}"))?;
                if url.scheme() != scheme || url.host().is_none() || !matches!(url.path(), "" | "/") {
                    bail!("[rpc] address {a}: write it as {scheme}://HOST:PORT ({scheme} because of [rpc] use_ssl)");
                }
                Some(url)
            }
            None if listen.ip().is_unspecified() => bail!(
                "[rpc] shared_key is set, but nothing says where other daemons reach this one: set [rpc] address to \
                 {scheme}://HOST:{} with a host name or address of this machine, or [rpc] host_ip",
                listen.port()
            ),
            None => None,
        };
        Ok(Some(Self { key, listen, address, tls, ca_file: o.given("rpc", "cafile").map(PathBuf::from) }))
    }

    fn client(&self) -> Result<reqwest::Client> {
        // A connection for each call: one that was kept may belong to a process that is gone, and then nobody knows what became of the call.
        let mut http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(DEADLINE)
            .pool_max_idle_per_host(0)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("[rpc] cafile {}", file.display()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("[rpc] cafile {}: no certificates in PEM", file.display()))?;
            http = http.tls_certs_only(roots);
        }
        http.build().context("no HTTP client for [rpc]")
    }
}

/// A place where calls of other daemons arrive; nothing is answered yet.
pub struct Peers {
    settings: Settings,
    listener: TcpListener,
    http: reqwest::Client,
}

impl Peers {
    /// Listens, when the options say so.
    ///
    /// # Errors
    /// Options that cannot work, each named.
    pub async fn bind(o: &Options) -> Result<Option<Self>> {
        let Some(settings) = Settings::new(o)? else { return Ok(None) };
        let http = settings.client()?;
        let at = settings.listen;
        let listener = TcpListener::bind(at).await.with_context(|| format!("[rpc] cannot listen on {at}: is the port in use?"))?;
        Ok(Some(Self { settings, listener, http }))
    }

    /// Where other daemons reach this one: for the conductor's row.
    ///
    /// # Errors
    /// Of the socket.
    pub fn address(&self) -> Result<String> {
        Ok(match &self.settings.address {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => {
                let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", self.listener.local_addr()?)
            }
        })
    }

    /// Answers other daemons from now on; gives what asks them.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn start(self, core: &Arc<Core>, local: Arc<LocalConductor>, tls_minimum: &str) -> Result<(Arc<dyn ConductorApi>, Running)> {
        let Self { settings, listener, http } = self;
        let receiver = Receiver::new(settings.key.clone(), core.config.host.clone());
        let at = listener.local_addr()?;
        let server = server::start(receiver, Arc::clone(core), Arc::clone(&local), listener, settings.tls, tls_minimum)?;
        tracing::info!(address = %at, "calls of other daemons are answered");
        Ok((Arc::new(routed::Routed::new(Arc::clone(core), local, settings.key, http)), Running(server)))
    }
}

/// The server at work; dropping it ends it.
pub struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "rpc.shared_key=0123456789abcdef0123456789abcdef";

    fn settings(set: &[&str]) -> Result<Option<Settings>, String> {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Settings::new(&Options::read(None, std::iter::empty(), &set).unwrap()).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn without_a_key_there_are_no_peers() {
        assert!(settings(&["rpc.host_ip=10.0.0.1"]).unwrap().is_none());
    }

    #[test]
    fn what_cannot_work_is_named_and_the_key_is_never_shown() {
        for (set, named) in [
            (&["rpc.shared_key=hunter2", "rpc.host_ip=10.0.0.1"][..], "[rpc] shared_key"),
            (&[KEY], "[rpc] address"),
            (&[KEY, "rpc.address=https://a:1"], "[rpc] use_ssl"),
            (&[KEY, "rpc.address=http://a:1/rpc"], "http://HOST:PORT"),
            (&[KEY, "rpc.host_ip=here"], "[rpc] host_ip"),
            (&[KEY, "rpc.host_ip=10.0.0.1", "rpc.use_ssl=true"], "[rpc] cert_file"),
        ] {
            let e = settings(set).unwrap_err();
            assert!(e.contains(named) && !e.contains("hunter2") && !e.contains("0123456789abcdef"), "{named}: {e}");
        }
        let all = settings(&[KEY, "rpc.address=http://a:8089"]).unwrap().unwrap();
        assert!(!format!("{all:?}").contains("0123456789abcdef"));
    }
}
