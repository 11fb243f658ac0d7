//! What an operator can set of the conductor. Names are Ironic's where Ironic has the option; times are in seconds there and `Duration` here.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bessemer_model::{Json, conductor::DriverOffer, node::Node};

use crate::rules::MaskSecrets;

/// Configuration of one conductor. [`Default`] gives the documented defaults.
#[derive(Clone, Debug)]
pub struct ConductorConfig {
    /// `[DEFAULT] host`: unique name of this conductor.
    pub host: String,
    /// `[conductor] conductor_group`.
    pub group: String,
    /// Hardware types offered with their enabled interfaces.
    pub drivers: BTreeMap<String, DriverOffer>,
    /// `http://address:port` of the API as ramdisks reach it.
    pub api_url: String,
    /// `http://address:port` where other daemons on the database reach this one; `None` = they cannot.
    pub rpc_address: Option<String>,
    /// `http://address:port` of the boot services as ramdisks reach them; `None` = not served.
    pub boot_url: Option<String>,
    /// Folder for boot programs, cached kernels and images.
    pub cache_dir: PathBuf,
    /// `[conductor] deploy_kernel` and `deploy_ramdisk`: `file://` or `http(s)://`.
    pub deploy_kernel: Option<String>,
    /// See [`Self::deploy_kernel`].
    pub deploy_ramdisk: Option<String>,
    /// `[deploy] shim_path`: signed first-stage loader for virtual media.
    pub shim_path: PathBuf,
    /// `[deploy] grub_path`: the GRUB that it loads.
    pub grub_path: PathBuf,
    /// `[pxe] kernel_append_params`.
    pub kernel_append_params: String,
    /// `[conductor] automated_clean`.
    pub automated_clean: bool,
    /// Where the steps of automated cleaning come from.
    pub automated_cleaning: AutomatedCleaning,
    /// `[conductor] deploy_callback_timeout`; zero = never.
    pub deploy_callback_timeout: Duration,
    /// `[conductor] clean_callback_timeout`.
    pub clean_callback_timeout: Duration,
    /// `[conductor] service_callback_timeout`.
    pub service_callback_timeout: Duration,
    /// `[conductor] inspect_wait_timeout`.
    pub inspect_wait_timeout: Duration,
    /// `[conductor] rescue_callback_timeout`.
    pub rescue_callback_timeout: Duration,
    /// `[conductor] power_state_change_timeout`.
    pub power_state_change_timeout: Duration,
    /// `[conductor] soft_power_off_timeout`.
    pub soft_power_off_timeout: Duration,
    /// `[conductor] sync_power_state_interval`; zero = off.
    pub sync_power_state_interval: Duration,
    /// `[conductor] power_state_sync_max_retries`.
    pub power_state_sync_max_retries: u32,
    /// `[conductor] sync_power_state_workers`.
    pub sync_power_state_workers: usize,
    /// `[conductor] force_power_state_during_sync`.
    pub force_power_state_during_sync: bool,
    /// `[conductor] power_failure_recovery_interval`; zero = off.
    pub power_failure_recovery_interval: Duration,
    /// `[conductor] workers_pool_size`: flows that run at once.
    pub workers_pool_size: usize,
    /// `[conductor] max_concurrent_deploy`.
    pub max_concurrent_deploy: usize,
    /// `[conductor] max_concurrent_clean`.
    pub max_concurrent_clean: usize,
    /// `[conductor] allow_provisioning_in_maintenance`.
    pub allow_provisioning_in_maintenance: bool,
    /// `[conductor] poweroff_in_cleanfail`.
    pub poweroff_in_cleanfail: bool,
    /// `[conductor] node_history_max_entries`.
    pub node_history_max_entries: i64,
    /// `[conductor] max_conductor_wait_step_seconds`.
    pub max_conductor_wait_step: Duration,
    /// `[deploy] erase_devices_priority`; `None` = the agent's own.
    pub erase_devices_priority: Option<u32>,
    /// `[deploy] erase_devices_metadata_priority`.
    pub erase_devices_metadata_priority: Option<u32>,
    /// `[deploy] default_boot_mode`: `uefi` or `bios`.
    pub default_boot_mode: String,
    /// `[deploy] power_off_after_deploy_failure`.
    pub power_off_after_deploy_failure: bool,
    /// `[agent] require_tls`.
    pub agent_require_tls: bool,
    /// `[agent] command_timeout`.
    pub agent_command_timeout: Duration,
    /// `[agent] post_deploy_get_power_state_retries` times its interval.
    pub agent_power_off_timeout: Duration,
    /// `[agent] image_download_source`: `http` (the agent pulls from the source) or `local` (through this daemon's cache).
    pub image_download_source: String,
    /// `[agent] allow_md5_checksum`.
    pub allow_md5_checksum: bool,
    /// `[conductor] file_url_allowed_paths`.
    pub file_url_allowed_paths: Vec<PathBuf>,
    /// `[inspector] power_off`.
    pub inspect_power_off: bool,
    /// `[inspector] add_ports`: `pxe`, `active`, `all` or `disabled`.
    pub inspect_add_ports: String,
    /// `[inspection_rules] built_in_rules`: a file of rules beside those of the API.
    pub built_in_rules: Option<PathBuf>,
    /// `[inspection_rules] mask_secrets`.
    pub mask_secrets: MaskSecrets,
    /// `[api] disallow_clean_steps`: left out of runbooks of automated cleaning (`interface.step`).
    pub disallow_clean_steps: Vec<String>,
    /// `[api] disallow_deploy_steps`: left out of deploy templates (`interface.step`).
    pub disallow_deploy_steps: Vec<String>,
    /// `[auto_discovery] enabled`.
    pub auto_discovery: bool,
    /// `[auto_discovery] driver`.
    pub auto_discovery_driver: String,
    /// `[api] ramdisk_heartbeat_timeout`, told to agents.
    pub ramdisk_heartbeat_timeout: Duration,
    /// How long the lease of this process lasts without renewal.
    pub lease: Duration,
    /// How often due work is looked for when nobody gives a hint.
    pub scan_interval: Duration,
    /// `[api] restrict_lookup`.
    pub restrict_lookup: bool,
    /// `[conductor] hash_partition_exponent`.
    pub hash_partition_exponent: u32,
    /// For tests: every step that may be repeated is run twice, the first time as if the process had died before recording it.
    pub repeat_steps: bool,
}

impl Default for ConductorConfig {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            host: "localhost".into(),
            group: String::new(),
            drivers: BTreeMap::new(),
            api_url: "http://127.0.0.1:6385".into(),
            boot_url: None,
            rpc_address: None,
            cache_dir: PathBuf::from("/var/lib/bessemer/cache"),
            deploy_kernel: None,
            deploy_ramdisk: None,
            shim_path: PathBuf::from("/usr/lib/shim/shimx64.efi.signed"),
            grub_path: PathBuf::from("/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"),
            kernel_append_params: "nofb vga=normal".into(),
            automated_clean: true,
            automated_cleaning: AutomatedCleaning::default(),
            deploy_callback_timeout: s(1800),
            clean_callback_timeout: s(1800),
            service_callback_timeout: s(1800),
            inspect_wait_timeout: s(1800),
            rescue_callback_timeout: s(1800),
            power_state_change_timeout: s(60),
            soft_power_off_timeout: s(600),
            sync_power_state_interval: s(120),
            power_state_sync_max_retries: 3,
            sync_power_state_workers: 64,
            force_power_state_during_sync: true,
            power_failure_recovery_interval: s(300),
            workers_pool_size: 300,
            max_concurrent_deploy: 250,
            max_concurrent_clean: 50,
            allow_provisioning_in_maintenance: true,
            poweroff_in_cleanfail: false,
            node_history_max_entries: 300,
            max_conductor_wait_step: s(30),
            erase_devices_priority: None,
            erase_devices_metadata_priority: None,
            default_boot_mode: "uefi".into(),
            power_off_after_deploy_failure: true,
            agent_require_tls: true,
            agent_command_timeout: s(60),
            agent_power_off_timeout: s(30),
            image_download_source: "http".into(),
            allow_md5_checksum: true,
            file_url_allowed_paths: vec![PathBuf::from("/var/lib/ironic"), PathBuf::from("/var/lib/bessemer")],
            inspect_power_off: true,
            inspect_add_ports: "pxe".into(),
            built_in_rules: None,
            mask_secrets: MaskSecrets::Always,
            disallow_clean_steps: vec!["vendor.send_raw".into()],
            disallow_deploy_steps: vec!["vendor.send_raw".into()],
            auto_discovery: false,
            auto_discovery_driver: "redfish".into(),
            ramdisk_heartbeat_timeout: s(300),
            lease: s(15),
            scan_interval: s(1),
            restrict_lookup: true,
            hash_partition_exponent: 5,
            repeat_steps: false,
        }
    }
}

/// `[conductor] automated_cleaning_step_source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleaningSource {
    /// What drivers and the agent offer, by priority.
    #[default]
    Autogenerated,
    /// A runbook; without one cleaning fails.
    Runbook,
    /// A runbook where there is one, else as [`Self::Autogenerated`].
    Hybrid,
}

impl CleaningSource {
    /// The source of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "autogenerated" => Some(Self::Autogenerated),
            "runbook" => Some(Self::Runbook),
            "hybrid" => Some(Self::Hybrid),
            _ => None,
        }
    }
}

/// Where the steps of automated cleaning come from (`states.md` section 4.3).
#[derive(Clone, Debug)]
pub struct AutomatedCleaning {
    /// `[conductor] automated_cleaning_step_source`.
    pub source: CleaningSource,
    /// `[conductor] automated_cleaning_runbook`: UUID or name.
    pub runbook: Option<String>,
    /// `[conductor] automated_cleaning_runbook_by_resource_class`.
    pub runbook_by_resource_class: BTreeMap<String, String>,
    /// `[conductor] automated_cleaning_runbook_from_node`: whether `driver_info.cleaning_runbook` of a node counts.
    pub runbook_from_node: bool,
    /// `[conductor] automated_cleaning_runbook_validate_traits`: whether runbook and node must share a trait.
    pub validate_traits: bool,
}

impl Default for AutomatedCleaning {
    fn default() -> Self {
        Self {
            source: CleaningSource::default(),
            runbook: None,
            runbook_by_resource_class: BTreeMap::new(),
            runbook_from_node: false,
            validate_traits: true,
        }
    }
}

impl AutomatedCleaning {
    /// Whether a runbook may give the steps.
    #[must_use]
    pub fn by_runbook(&self) -> bool {
        self.source != CleaningSource::Autogenerated
    }

    /// The runbook for a node, by UUID or name: the node's own where that is allowed, that of its resource class, the general one.
    #[must_use]
    pub fn runbook_for<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        let own = || node.spec.driver_info.get("cleaning_runbook").and_then(Json::as_str);
        let of_class = node.spec.resource_class.as_ref().and_then(|c| self.runbook_by_resource_class.get(c));
        let own = if self.runbook_from_node { own() } else { None };
        own.or(of_class.or(self.runbook.as_ref()).map(String::as_str)).filter(|r| !r.is_empty())
    }
}
