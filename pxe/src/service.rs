//! Starts all boot services of a configuration and stops them together.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{BootConfig, ConfigError, DhcpMode, NetworkConfig};
use crate::dhcp::server::DhcpService;
use crate::http::routes::{self, HttpState};
use crate::http::server::HttpService;
use crate::net::SocketError;
use crate::programs::Programs;
use crate::ra::RaService;
use crate::source::BootSource;
use crate::tftp::content::TftpFiles;
use crate::tftp::server::{TftpService, TftpSettings};
use crate::tftp::transfer::Limits;

/// Why the boot services cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// What may be given besides configuration and source.
#[derive(Default)]
pub struct Extras {
    /// Serves TFTP instead of the folders of boot programs.
    pub tftp_files: Option<Arc<dyn TftpFiles>>,
    /// Fetches files that a plan has at other servers. Without it clients are redirected to them.
    pub http_client: Option<reqwest::Client>,
}

/// The running boot services. Dropping it stops them at once; [`BootServices::stop`] lets transfers end.
#[derive(Debug)]
pub struct BootServices {
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    http: Vec<SocketAddr>,
    tftp_ports: Vec<u16>,
}

impl BootServices {
    /// Binds every socket, then serves until `cancel`. Nothing is served if one socket cannot be had, except router
    /// advertisements, whose absence costs time but no boot: that is only logged.
    pub fn start(config: BootConfig, source: Arc<dyn BootSource>, cancel: CancellationToken) -> Result<Self, ServiceError> {
        Self::start_with(config, source, cancel, Extras::default())
    }

    /// As [`BootServices::start`], with extras. Must be called within a tokio runtime.
    pub fn start_with(
        config: BootConfig,
        source: Arc<dyn BootSource>,
        cancel: CancellationToken,
        extras: Extras,
    ) -> Result<Self, ServiceError> {
        config.check()?;
        let programs = Arc::new(Programs::new(config.program_dirs.clone()));
        let files: Arc<dyn TftpFiles> = extras.tftp_files.unwrap_or_else(|| Arc::clone(&programs) as Arc<dyn TftpFiles>);
        let cancel = cancel.child_token();

        let mut dhcp = Vec::new();
        let mut tftp = Vec::new();
        let mut advertisers = Vec::new();
        for (interface, networks) in by_interface(&config.networks) {
            if networks.iter().any(|network| network.mode != DhcpMode::Off) {
                dhcp.push(DhcpService::bind(&interface, networks.clone(), config.http_port, Arc::clone(&source))?);
            }
            let server = networks.first().map_or(Ipv4Addr::UNSPECIFIED, |network| network.server);
            tftp.push(TftpService::bind(
                TftpSettings {
                    interface: interface.clone(),
                    port: config.tftp_port,
                    server,
                    transfers: config.tftp_transfers,
                    limits: Limits { block: config.tftp_block_bytes, window: config.tftp_window_blocks },
                },
                Arc::clone(&files),
            )?);
            if networks.iter().any(|network| network.router_advertisements && !network.relayed) {
                match RaService::bind(&interface, Arc::clone(&source)) {
                    Ok(service) => advertisers.push(service),
                    Err(error) => warn!(%error, "ra: no router advertisements; each iPXE boot takes 13 s longer"),
                }
            }
        }

        let router = routes::router(Arc::new(HttpState {
            source,
            networks: config.networks.clone(),
            programs,
            http_port: config.http_port,
            client: extras.http_client,
        }));
        let connections = Arc::new(Semaphore::new(config.http_connections.max(1)));
        let mut servers: Vec<Ipv4Addr> = config.networks.iter().map(|network| network.server).collect();
        servers.sort_unstable();
        servers.dedup();
        let http = servers
            .into_iter()
            .map(|server| HttpService::bind(server, config.http_port, router.clone(), Arc::clone(&connections)))
            .collect::<Result<Vec<_>, _>>()?;

        // All sockets are there: from here on nothing fails.
        let mut services = Self {
            tasks: JoinSet::new(),
            http: http.iter().filter_map(|service| service.local_addr().ok()).collect(),
            tftp_ports: tftp.iter().filter_map(|service| service.port().ok()).collect(),
            cancel: cancel.clone(),
        };
        for service in dhcp {
            services.tasks.spawn(service.run(cancel.clone()));
        }
        for service in tftp {
            services.tasks.spawn(service.run(cancel.clone()));
        }
        for service in advertisers {
            services.tasks.spawn(service.run(cancel.clone()));
        }
        for service in http {
            services.tasks.spawn(service.run(cancel.clone()));
        }
        for network in &config.networks {
            info!(network = network.name, interface = network.interface, server = %network.server, mode = ?network.mode, "boot services started");
        }
        Ok(services)
    }

    /// Addresses on which HTTP is served.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Ports on which TFTP is served, one per interface.
    pub fn tftp_ports(&self) -> &[u16] {
        &self.tftp_ports
    }

    /// Stops: no new packets are answered, HTTP transfers under way get two seconds.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Waits until all services have ended (after the token was cancelled), or one of them has died.
    pub async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a boot service died; stopping the others");
                self.cancel.cancel();
            }
        }
    }
}

fn by_interface(networks: &[NetworkConfig]) -> BTreeMap<String, Vec<NetworkConfig>> {
    let mut groups: BTreeMap<String, Vec<NetworkConfig>> = BTreeMap::new();
    for network in networks {
        groups.entry(network.interface.clone()).or_default().push(network.clone());
    }
    groups
}
