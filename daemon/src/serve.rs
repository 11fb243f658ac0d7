//! Puts the parts together: store, drivers, conductor, API, boot services; stops them in order.

use std::{
    future::IntoFuture,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use axum::serve::ListenerExt;
use bessemer_conductor::{
    AutomatedCleaning, CleaningSource, Conductor, ConductorConfig, Core, boot_source::StoreBootSource, rules::MaskSecrets,
};
use bessemer_db::{OpenOptions, SealKey, Store, Synchronous};
use bessemer_drivers::{
    fake::{FakeBehaviour, FakeHardware, parse_failures},
    fence::EffectFence,
    ipmi::{IpmiConfig, IpmiDriver, IpmiPool, IpmiSettings},
    redfish::{AuthType, PoolConfig, RedfishPool, Verify, iface::RedfishInterfaces},
    registry::Registry,
};
use bessemer_model::clock::SystemClock;
use bessemer_pxe::{AddressRange, BootConfig, BootServices, DhcpMode, NetworkConfig, Subnet};
use bessemer_rpc::ConductorApi;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{catalogue, options::Options, peers::Peers, tls::TlsListener};

/// How long running steps may take to end when the daemon is told to stop; they go on at the next start anyway.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// A setting that cannot work, or a socket or store that cannot be opened.
pub async fn serve(options: Options) -> Result<()> {
    let state_dir = PathBuf::from(options.text("conductor", "state_dir"));
    std::fs::create_dir_all(&state_dir).with_context(|| format!("[conductor] state_dir {}", state_dir.display()))?;
    // A restarted daemon takes its own nodes at once; this lock is why it may: its former self is dead.
    let _alone = lock(&state_dir)?;
    let drivers = catalogue::compose(&options)?;
    let http = reqwest_client()?;
    let store = open_store(&options, &state_dir).await?;
    let listen: SocketAddr = format!("{}:{}", options.text("api", "host_ip"), options.int("api", "port"))
        .parse()
        .context("[api] host_ip and port do not make an address")?;
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("the API cannot listen on {listen}: is the port in use?"))?;
    let network = boot_network(&options)?;
    let tls = crate::access::tls_files(&options)?;
    let scheme = if tls.is_some() { "https" } else { "http" };

    let mask = options.text("inspection_rules", "mask_secrets");
    if MaskSecrets::parse(&mask).is_none() {
        anyhow::bail!("[inspection_rules] mask_secrets = \"{mask}\" is not known; use always, sensitive or never");
    }
    let peers = Peers::bind(&options).await?;
    let mut config = conductor_config(&options, &state_dir)?;
    config.rpc_address = peers.as_ref().map(Peers::address).transpose()?;
    config.drivers = drivers.clone();
    if let Some(n) = &network {
        config.boot_url = Some(format!("http://{}:{}", n.server, options.int("pxe", "http_port")));
        config.api_url = format!("{scheme}://{}:{}", n.server, listen.port());
    } else {
        let own = if listen.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen.ip() };
        config.api_url = format!("{scheme}://{}", SocketAddr::new(own, listen.port()));
    }
    if let Some(u) = options.given("deploy", "external_callback_url") {
        config.api_url = u;
    }
    let bmcs = Bmcs::new(&options)?;
    let core = Core::new(config, store.clone(), bmcs.registry(&options)?, Arc::new(SystemClock), http.clone());
    let conductor = Conductor::start(Arc::clone(&core)).await.context("the conductor cannot start")?;

    let stop = CancellationToken::new();
    let mut boot = None;
    if let Some(n) = network {
        let source = StoreBootSource::new(Arc::clone(&core), vec![n.server], options.flag("auto_discovery", "enabled"));
        let boot_config = BootConfig {
            networks: vec![n],
            http_port: u16::try_from(options.int("pxe", "http_port")).context("[pxe] http_port")?,
            tftp_port: u16::try_from(options.int("pxe", "tftp_port")).context("[pxe] tftp_port")?,
            program_dirs: options.list("pxe", "tftp_root").into_iter().map(PathBuf::from).collect(),
            ..BootConfig::default()
        };
        let extras = bessemer_pxe::service::Extras { http_client: Some(http.clone()), ..Default::default() };
        boot =
            Some(BootServices::start_with(boot_config, Arc::new(source), stop.clone(), extras).context("the boot services cannot start")?);
    }

    let (api, answering): (Arc<dyn ConductorApi>, _) = match peers {
        None => (conductor.api(), None),
        Some(p) => {
            let (api, running) = p.start(&core, conductor.api(), &options.text("api", "tls_minimum_version"))?;
            (api, Some(running))
        }
    };
    let router = ironic_api::router(api_config(&options, drivers)?, store, api);
    let idle = tokio::spawn(bmcs.clone().close_idle());
    tracing::info!(address = %listener.local_addr().unwrap_or(listen), scheme, "API ready");
    let signal = stop_signal();
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    let server: BoxFuture<'_, std::io::Result<()>> = match tls {
        None => Box::pin(axum::serve(listener, app).into_future()),
        Some(files) => {
            let listener = TlsListener::new(listener, files, &options.text("api", "tls_minimum_version"))?;
            // Tapped: so axum tells handlers the client's address.
            Box::pin(axum::serve(listener.tap_io(|_| {}), app).into_future())
        }
    };
    tokio::select! {
        r = server => r.context("the API server ended")?,
        name = signal => tracing::info!(signal = name, "stopping; work in progress goes on at the next start"),
    }
    drop(answering);
    stop.cancel();
    if let Some(b) = boot {
        b.stop().await;
    }
    conductor.shutdown(GRACE).await;
    idle.abort();
    // Sessions that are left open count against the BMC's few.
    let _ = tokio::time::timeout(GRACE, bmcs.close()).await;
    Ok(())
}

/// Holds the state folder for this process; the kernel lets go of it when the process ends, however it ends.
fn lock(state_dir: &std::path::Path) -> Result<nix::fcntl::Flock<std::fs::File>> {
    let path = state_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("{}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        anyhow!("another daemon uses [conductor] state_dir {} ({e}): stop it or choose another folder", state_dir.display())
    })
}

async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

fn reqwest_client() -> Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).build().context("no HTTP client")
}

async fn open_store(options: &Options, state_dir: &std::path::Path) -> Result<Store> {
    let key = SealKey::load_or_create(&state_dir.join("seal.key"))?;
    let mut open = OpenOptions::new(key);
    open.connections = u32::try_from(options.int("database", "max_connections")).unwrap_or(8).max(1);
    open.synchronous = match options.text("database", "synchronous").as_str() {
        "full" => Synchronous::Full,
        "normal" => Synchronous::Normal,
        other => return Err(anyhow!("[database] synchronous = '{other}': write full or normal")),
    };
    let url =
        options.given("database", "connection").unwrap_or_else(|| format!("sqlite://{}", state_dir.join("bessemer.sqlite").display()));
    let store = Store::open(&url, open).await.context("the database cannot be opened")?;
    store.migrate().await.context("the database cannot be brought up to date")?;
    Ok(store)
}

/// The connections to BMCs that all drivers share.
#[derive(Clone)]
struct Bmcs {
    redfish: Arc<RedfishPool>,
    ipmi: Arc<IpmiDriver>,
    fence: EffectFence,
}

impl Bmcs {
    fn new(o: &Options) -> Result<Self> {
        let auth_type = match o.text("redfish", "auth_type").as_str() {
            "auto" => AuthType::Auto,
            "session" => AuthType::Session,
            "basic" => AuthType::Basic,
            "none" => AuthType::None,
            other => return Err(anyhow!("[redfish] auth_type = '{other}': write auto, session, basic or none")),
        };
        let fence = EffectFence::default();
        let redfish = PoolConfig {
            attempts: u32::try_from(o.int("redfish", "connection_attempts")).unwrap_or(5).max(1),
            retry_interval: o.seconds("redfish", "connection_retry_interval"),
            connect_timeout: o.seconds("redfish", "connect_timeout"),
            read_timeout: o.seconds("redfish", "read_timeout"),
            auth_type,
            verify_ca: o.given("redfish", "verify_ca").map_or(Verify::System, Verify::Ca),
            fence: fence.clone(),
            ..PoolConfig::default()
        };
        let suites = o.list("ipmi", "cipher_suite_versions").iter().map(|s| s.parse()).collect::<Result<Vec<u8>, _>>();
        let ipmi = IpmiSettings {
            command_retry_timeout: o.seconds("ipmi", "command_retry_timeout"),
            min_command_interval: o.seconds("ipmi", "min_command_interval"),
            cipher_suite_versions: suites.context("[ipmi] cipher_suite_versions")?,
            disable_boot_timeout: o.flag("ipmi", "disable_boot_timeout"),
            ..IpmiSettings::default()
        };
        Ok(Self {
            redfish: Arc::new(RedfishPool::new(redfish)),
            ipmi: IpmiDriver::new(IpmiPool::new(IpmiConfig { fence: fence.clone(), ..IpmiConfig::default() }), ipmi),
            fence,
        })
    }

    fn registry(&self, options: &Options) -> Result<Registry> {
        let mut r = Registry::with_fake(&FakeHardware::new(fake_behaviour(options)?));
        r.set_fence(self.fence.clone());
        bessemer_drivers::ipmi::register(&mut r, &self.ipmi);
        RedfishInterfaces::new(Arc::clone(&self.redfish)).register(&mut r);
        Ok(r)
    }

    async fn close_idle(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(120)).await;
            self.redfish.close_idle(Duration::from_secs(300)).await;
        }
    }

    async fn close(&self) {
        self.redfish.close().await;
        self.ipmi.pool().close().await;
    }
}

/// Bounded: a conductor with 2^16 arcs is beyond reason.
fn ring_exponent(o: &Options) -> u32 {
    u32::try_from(o.int("DEFAULT", "hash_partition_exponent")).map_or(5, |n| n.min(16))
}

fn fake_behaviour(options: &Options) -> Result<FakeBehaviour> {
    let failures = parse_failures(&options.text("fake", "failures")).map_err(|e| anyhow!("[fake] failures: {e}"))?;
    Ok(FakeBehaviour { delays: fake_delays(options), failures })
}

fn fake_delays(options: &Options) -> std::collections::HashMap<String, f64> {
    let options_of_fake = crate::options::OPTIONS.iter().filter(|o| o.section == "fake");
    options_of_fake.filter_map(|o| Some((o.key.strip_suffix("_delay")?.to_owned(), options.seconds("fake", o.key).as_secs_f64()))).collect()
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".into() } else { name.to_owned() }
}

fn automated_cleaning(o: &Options) -> Result<AutomatedCleaning> {
    let source = o.text("conductor", "automated_cleaning_step_source");
    let pair = |entry: String| {
        let (class, runbook) = entry.split_once(':').filter(|(c, r)| !c.trim().is_empty() && !r.trim().is_empty()).ok_or_else(|| {
            anyhow!("[conductor] automated_cleaning_runbook_by_resource_class: '{entry}' is not of the form class:runbook")
        })?;
        Ok((class.trim().to_owned(), runbook.trim().to_owned()))
    };
    Ok(AutomatedCleaning {
        source: CleaningSource::parse(&source).ok_or_else(|| {
            anyhow!("[conductor] automated_cleaning_step_source: '{source}' is not known; use autogenerated, runbook or hybrid")
        })?,
        runbook: o.given("conductor", "automated_cleaning_runbook"),
        runbook_by_resource_class: o
            .list("conductor", "automated_cleaning_runbook_by_resource_class")
            .into_iter()
            .map(pair)
            .collect::<Result<_>>()?,
        runbook_from_node: o.flag("conductor", "automated_cleaning_runbook_from_node"),
        validate_traits: o.flag("conductor", "automated_cleaning_runbook_validate_traits"),
    })
}

fn conductor_config(o: &Options, state_dir: &std::path::Path) -> Result<ConductorConfig> {
    let s = |key| o.seconds("conductor", key);
    let n = |section, key| usize::try_from(o.int(section, key)).unwrap_or(usize::MAX);
    let priority = |key| o.given("deploy", key).and_then(|v| v.parse().ok());
    Ok(ConductorConfig {
        host: o.given("DEFAULT", "host").unwrap_or_else(host_name),
        group: o.text("conductor", "conductor_group"),
        cache_dir: state_dir.join("cache"),
        deploy_kernel: o.given("conductor", "deploy_kernel"),
        deploy_ramdisk: o.given("conductor", "deploy_ramdisk"),
        shim_path: PathBuf::from(o.text("deploy", "shim_path")),
        grub_path: PathBuf::from(o.text("deploy", "grub_path")),
        kernel_append_params: o.text("pxe", "kernel_append_params"),
        automated_clean: o.flag("conductor", "automated_clean"),
        automated_cleaning: automated_cleaning(o)?,
        disallow_clean_steps: o.list("api", "disallow_clean_steps"),
        deploy_callback_timeout: s("deploy_callback_timeout"),
        clean_callback_timeout: s("clean_callback_timeout"),
        service_callback_timeout: s("service_callback_timeout"),
        inspect_wait_timeout: s("inspect_wait_timeout"),
        rescue_callback_timeout: s("rescue_callback_timeout"),
        power_state_change_timeout: s("power_state_change_timeout"),
        soft_power_off_timeout: s("soft_power_off_timeout"),
        sync_power_state_interval: s("sync_power_state_interval"),
        power_state_sync_max_retries: u32::try_from(o.int("conductor", "power_state_sync_max_retries")).unwrap_or(3),
        sync_power_state_workers: n("conductor", "sync_power_state_workers"),
        force_power_state_during_sync: o.flag("conductor", "force_power_state_during_sync"),
        power_failure_recovery_interval: s("power_failure_recovery_interval"),
        workers_pool_size: n("conductor", "workers_pool_size"),
        max_concurrent_deploy: n("conductor", "max_concurrent_deploy"),
        max_concurrent_clean: n("conductor", "max_concurrent_clean"),
        allow_provisioning_in_maintenance: o.flag("conductor", "allow_provisioning_in_maintenance"),
        poweroff_in_cleanfail: o.flag("conductor", "poweroff_in_cleanfail"),
        node_history_max_entries: i64::try_from(o.int("conductor", "node_history_max_entries")).unwrap_or(300),
        max_conductor_wait_step: s("max_conductor_wait_step_seconds"),
        erase_devices_priority: priority("erase_devices_priority"),
        erase_devices_metadata_priority: priority("erase_devices_metadata_priority"),
        default_boot_mode: o.text("deploy", "default_boot_mode"),
        power_off_after_deploy_failure: o.flag("deploy", "power_off_after_deploy_failure"),
        agent_require_tls: o.flag("agent", "require_tls"),
        agent_command_timeout: o.seconds("agent", "command_timeout"),
        agent_power_off_timeout: o.seconds("agent", "power_off_timeout"),
        allow_md5_checksum: o.flag("agent", "allow_md5_checksum"),
        file_url_allowed_paths: o.list("conductor", "file_url_allowed_paths").into_iter().map(PathBuf::from).collect(),
        inspect_power_off: o.flag("inspector", "power_off"),
        inspect_add_ports: o.text("inspector", "add_ports"),
        built_in_rules: o.given("inspection_rules", "built_in_rules").map(PathBuf::from),
        mask_secrets: MaskSecrets::parse(&o.text("inspection_rules", "mask_secrets")).unwrap_or_default(),
        disallow_deploy_steps: o.list("api", "disallow_deploy_steps"),
        auto_discovery: o.flag("auto_discovery", "enabled"),
        auto_discovery_driver: o.text("auto_discovery", "driver"),
        ramdisk_heartbeat_timeout: o.seconds("api", "ramdisk_heartbeat_timeout"),
        lease: s("heartbeat_timeout").max(Duration::from_secs(5)),
        restrict_lookup: o.flag("api", "restrict_lookup"),
        hash_partition_exponent: ring_exponent(o),
        ..ConductorConfig::default()
    })
}

fn api_config(
    o: &Options,
    hardware: std::collections::BTreeMap<String, bessemer_model::conductor::DriverOffer>,
) -> Result<ironic_api::ApiConfig> {
    Ok(ironic_api::ApiConfig {
        auth: crate::access::strategy(o)?,
        policies: crate::access::policies(o)?,
        tls: o.flag("api", "enable_ssl_api"),
        proxy_headers: o.flag("oslo_middleware", "enable_proxy_headers_parsing"),
        healthcheck: o.flag("healthcheck", "enabled"),
        cors: crate::access::cors(o),
        audit: crate::access::audit(o)?,
        public_endpoint: o.given("api", "public_endpoint"),
        max_limit: u32::try_from(o.int("api", "max_limit")).unwrap_or(1000).max(1),
        hardware,
        default_resource_class: o.given("DEFAULT", "default_resource_class"),
        default_conductor_group: o.text("DEFAULT", "default_conductor_group"),
        hash_partition_exponent: ring_exponent(o),
        default_portgroup_mode: o.text("DEFAULT", "default_portgroup_mode"),
        enable_ramdisk_endpoints: o.flag("api", "enable_ramdisk_endpoints"),
        allow_deleting_available_nodes: o.flag("conductor", "allow_deleting_available_nodes"),
        disallow_clean_steps: o.list("api", "disallow_clean_steps"),
        disallow_deploy_steps: o.list("api", "disallow_deploy_steps"),
        disallow_service_steps: o.list("api", "disallow_service_steps"),
        disallowed_enrollment_boot_modes: o.list("api", "disallowed_enrollment_boot_modes"),
        ..ironic_api::ApiConfig::default()
    })
}

/// The first IPv4 address and network of an interface.
fn interface_address(name: &str) -> Result<(Ipv4Addr, Subnet)> {
    for a in nix::ifaddrs::getifaddrs().context("the network interfaces cannot be listed")? {
        if a.interface_name != name {
            continue;
        }
        let (Some(ip), Some(mask)) =
            (a.address.as_ref().and_then(|s| s.as_sockaddr_in()), a.netmask.as_ref().and_then(|s| s.as_sockaddr_in()))
        else {
            continue;
        };
        let prefix = u8::try_from(u32::from(mask.ip()).count_ones()).unwrap_or(24);
        let subnet = Subnet::new(ip.ip(), prefix).ok_or_else(|| anyhow!("interface {name}: its network is too small to serve"))?;
        return Ok((ip.ip(), subnet));
    }
    Err(anyhow!("[pxe] interface {name} has no IPv4 address: give it one, or set [pxe] server_address and subnet"))
}

/// The network to boot machines on, when one is configured.
fn boot_network(o: &Options) -> Result<Option<NetworkConfig>> {
    let Some(interface) = o.given("pxe", "interface") else { return Ok(None) };
    let (server, subnet) = match (o.given("pxe", "server_address"), o.given("pxe", "subnet")) {
        (Some(a), Some(s)) => (a.parse().context("[pxe] server_address")?, s.parse::<Subnet>().context("[pxe] subnet")?),
        (a, s) => {
            let (own, net) = interface_address(&interface)?;
            let server = a.map_or(Ok(own), |a| a.parse()).context("[pxe] server_address")?;
            (server, s.map_or(Ok(net), |s| s.parse()).context("[pxe] subnet")?)
        }
    };
    let mode = match o.text("pxe", "dhcp_mode").as_str() {
        "full" => DhcpMode::Full,
        "proxy" => DhcpMode::Proxy,
        "off" => DhcpMode::Off,
        other => return Err(anyhow!("[pxe] dhcp_mode = '{other}': write full, proxy or off")),
    };
    let range = match o.given("pxe", "dhcp_range") {
        Some(r) => Some(r.parse::<AddressRange>().context("[pxe] dhcp_range")?),
        None if mode == DhcpMode::Full => upper_half(subnet, server),
        None => None,
    };
    Ok(Some(NetworkConfig {
        name: "provisioning".into(),
        interface,
        server,
        subnet,
        mode,
        range,
        router: o.given("pxe", "router").map(|r| r.parse()).transpose().context("[pxe] router")?,
        dns: o.list("pxe", "dns").iter().map(|d| d.parse()).collect::<Result<_, _>>().context("[pxe] dns")?,
        domain: None,
        ntp: vec![],
        mtu: None,
        lease_secs: u32::try_from(o.int("pxe", "lease_time")).context("[pxe] lease_time")?,
        offer_secs: 60,
        relayed: false,
        router_advertisements: true,
    }))
}

fn upper_half(subnet: Subnet, server: Ipv4Addr) -> Option<AddressRange> {
    let last = u32::from(subnet.broadcast()).checked_sub(1)?;
    let first = u32::from(subnet.broadcast()) - (!u32::from(subnet.mask())) / 2;
    let server = u32::from(server);
    let (first, last) = if (first..=last).contains(&server) { (server + 1, last) } else { (first, last) };
    AddressRange::new(first.into(), last.into())
}
