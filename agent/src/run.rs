//! The agent's life after start: network, lookup, command API, heartbeats.

use crate::agent::{Agent, TokenVerdict};
use crate::heartbeat::Beater;
use crate::http::Api;
use crate::hw::Root;
use crate::net::{self, Network};
use crate::params::{Params, PowerMode, Settings};
use crate::{hw, init, inspect, lookup, server, tls, vmedia};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, lookup_host};

/// Why an agent cannot go on at all; process 1 starts another.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The HTTP client.
    #[error(transparent)]
    Http(#[from] crate::http::HttpError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The port.
    #[error("cannot listen on port {0}: {1}")]
    Listen(u16, std::io::Error),
}

/// Runs as the child of process 1 with the kernel's parameters. Returns only with an error.
pub async fn ramdisk() -> Result<(), RunError> {
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut params = Params::parse(&text);
    let mut settings = Settings::from_params(&params);
    tracing::info!("agent {} starts", crate::agent::VERSION);
    let network = Network::start(settings.boot_mac.clone());
    if settings.virtual_media
        && let Some(more) = vmedia::parameters(&Root::new(&settings.root)).await
    {
        params.merge(more);
        settings = Settings::from_params(&params);
    }
    settings.state_dir = Some(PathBuf::from(init::STATE_DIR));
    agent(settings, Some(network)).await
}

/// Runs the agent. Without a network of its own it uses the host's (tests).
pub async fn agent(settings: Settings, network: Option<Network>) -> Result<(), RunError> {
    let agent = Agent::new(settings);
    let settings = &agent.settings;
    if let Some(network) = &network {
        network.wait_online(settings.dhcp_wait.max(Duration::from_secs(1))).await;
    }
    // Not before there is an address: ipa-listen-host may name it.
    let listener = server::listen(settings.listen_host.as_deref(), settings.listen_port)
        .await
        .map_err(|e| RunError::Listen(settings.listen_port, e))?;
    if !settings.hardware_delay.is_zero() {
        tokio::time::sleep(settings.hardware_delay).await;
    }
    let mut inspected = None;
    if !settings.inspection_urls.is_empty() {
        if let Some(network) = network.as_ref().filter(|_| settings.dhcp_all_interfaces) {
            network.wait_all(settings.dhcp_wait).await;
        }
        inspected = inspection(&agent).await;
    }
    if settings.api_urls.is_empty() {
        if settings.inspection_urls.is_empty() {
            tracing::error!("neither ipa-api-url nor ipa-inspection-callback-url: nobody knows of this agent");
        }
        let local = listener.local_addr().map_or(IpAddr::from([127, 0, 0, 1]), |a| a.ip());
        return serve(&agent, listener, local, None).await;
    }
    let api = Api::new(settings)?;
    let macs: Vec<String> = net::cards(Path::new("/sys")).into_iter().map(|card| card.mac).filter(|mac| !mac.is_empty()).collect();
    let found = lookup::lookup(&api, settings, &macs, inspected.as_deref()).await;
    let node = found.reply.node.uuid.clone();
    let timeout = Duration::from_secs(found.reply.config.heartbeat_timeout.clamp(1, 24 * 3600));
    tracing::info!("this machine is node {node}");
    if agent.accept(found.reply) == TokenVerdict::Lockdown {
        tracing::error!("the token of node {node} was given to another agent already: leaving the network for good");
        // On an ordinary host (`run --no-power`) the network is not this program's to take away.
        if agent.settings.power == PowerMode::Recorded {
            agent.record_power("lockdown");
        } else {
            net::lockdown();
        }
        pending::<()>().await;
    }
    let address = advertised(&agent, &api).await;
    let beater = Beater { api, node, minor: found.minor, callback_url: String::new(), certificate: None, timeout };
    serve(&agent, listener, address, Some(beater)).await
}

/// Looks at the hardware and reports it; gives the node's id when the answer names it.
async fn inspection(agent: &Arc<Agent>) -> Option<String> {
    tracing::info!("inspection begins");
    let report = inspect::collect(agent).await;
    match inspect::post(&agent.settings, &report).await {
        Ok(node) => {
            tracing::info!("inspection report accepted");
            node
        }
        Err(e) => {
            tracing::error!("{e}");
            None
        }
    }
}

async fn serve(agent: &Arc<Agent>, listener: TcpListener, address: IpAddr, beater: Option<Beater>) -> Result<(), RunError> {
    let settings = &agent.settings;
    let identity = if settings.tls {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let dir = settings.state_dir.as_deref();
        Some(tls::identity(address, host.trim(), settings.curve_p384, settings.tls13_only, dir)?)
    } else {
        None
    };
    let port = listener.local_addr().map_or(settings.listen_port, |a| a.port());
    let config = identity.as_ref().map(|identity| Arc::clone(&identity.config));
    let api = tokio::spawn(server::serve(Arc::clone(agent), listener, config));
    let protocol = settings.advertise_protocol.as_deref().unwrap_or(if identity.is_some() { "https" } else { "http" });
    let port = if settings.advertise_port == settings.listen_port { port } else { settings.advertise_port };
    let callback_url = server::callback_url(protocol, SocketAddr::new(address, port));
    tracing::info!("commands at {callback_url}");
    if let Some(beater) = beater {
        let beater = Beater { callback_url, certificate: identity.map(|identity| identity.certificate), ..beater };
        beater.run(agent).await;
    }
    drop(api.await);
    // Without network and commands there is nothing left to do, but an end would count as a crash.
    pending::<()>().await;
    Ok(())
}

/// The address at which the conductor reaches this agent. Waits until there is one.
async fn advertised(agent: &Agent, api: &Api) -> IpAddr {
    let settings = &agent.settings;
    if let Some(fixed) = settings.advertise_host.as_deref() {
        match fixed.trim_matches(['[', ']']).parse() {
            Ok(ip) => return ip,
            Err(_) => tracing::warn!("ipa-advertise-host={fixed} is no address and is ignored"),
        }
    }
    loop {
        if let Some(name) = settings.network_interface.as_deref() {
            let (v4, v6) = hw::nic::addresses().remove(name).unwrap_or_default();
            let v6 = v6.into_iter().find(|ip| !ip.is_unicast_link_local());
            if let Some(ip) = v4.first().copied().map(IpAddr::V4).or(v6.map(IpAddr::V6)) {
                return ip;
            }
        } else if let Some(url) = api.url().and_then(|url| url::Url::parse(url).ok())
            && let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default())
        {
            match lookup_host((host.trim_matches(['[', ']']), port)).await {
                Ok(found) => {
                    if let Some(ip) = found.filter_map(net::route_source).next() {
                        return ip;
                    }
                }
                Err(e) => tracing::warn!("{host}: {e}"),
            }
        }
        tracing::warn!("no address to be reached at yet");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
