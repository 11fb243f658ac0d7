//! What the operator can set about the API. Names follow the options of `[api]`, `[conductor]` and `[DEFAULT]` that they come from.

use std::collections::BTreeMap;

use bessemer_model::conductor::DriverOffer;

use crate::{audit::Audit, auth::AuthStrategy, cors::CorsConfig, policy::Policies};

/// Bounds of request bodies.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// `max_json_body_depth`.
    pub depth: usize,
    /// `max_json_body_size`, in bytes.
    pub general: usize,
    /// `max_json_body_size_provision`, in bytes.
    pub provision: usize,
    /// `max_json_body_size_inspection`, in bytes.
    pub inspection: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { depth: 25, general: 1 << 20, provision: 64 << 20, inspection: 16 << 20 }
    }
}

/// See the module documentation. [`ApiConfig::default`] has the defaults of Ironic's options.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Base address in links, without a trailing slash; `None` = the `Host` of each request.
    pub public_endpoint: Option<String>,
    /// Longest page.
    pub max_limit: u32,
    /// Hardware types of this installation. What the registered conductors offer takes precedence.
    pub hardware: BTreeMap<String, DriverOffer>,
    /// `resource_class` of new nodes that name none.
    pub default_resource_class: Option<String>,
    /// `conductor_group` of new nodes that name none.
    pub default_conductor_group: String,
    /// `hash_partition_exponent`: each conductor owns 2 to this power arcs of the hash ring. The same as the conductors'.
    pub hash_partition_exponent: u32,
    /// `mode` of new port groups that name none.
    pub default_portgroup_mode: String,
    /// Whether lookup, heartbeat and inspection data are answered.
    pub enable_ramdisk_endpoints: bool,
    /// Whether nodes in `available` may be deleted.
    pub allow_deleting_available_nodes: bool,
    /// `interface.step` names that users may not ask for in `clean_steps`.
    pub disallow_clean_steps: Vec<String>,
    /// Likewise in `deploy_steps`.
    pub disallow_deploy_steps: Vec<String>,
    /// Likewise in `service_steps`.
    pub disallow_service_steps: Vec<String>,
    /// Values of the `boot_mode` capability that nodes may not have.
    pub disallowed_enrollment_boot_modes: Vec<String>,
    /// Bounds of bodies.
    pub limits: BodyLimits,
    /// Who may call.
    pub auth: AuthStrategy,
    /// Who may do what, under Keystone.
    pub policies: Policies,
    /// Whether the API itself speaks TLS: then links begin with `https`.
    pub tls: bool,
    /// Whether a proxy in front is believed about address and client (`enable_proxy_headers_parsing`).
    pub proxy_headers: bool,
    /// Whether `/healthcheck` is answered.
    pub healthcheck: bool,
    /// Which pages browsers let use the API.
    pub cors: CorsConfig,
    /// Where writing requests are noted; `None` = nowhere.
    pub audit: Option<Audit>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let denied = || vec!["vendor.send_raw".to_owned()];
        Self {
            public_endpoint: None,
            max_limit: 1000,
            hardware: BTreeMap::new(),
            default_resource_class: None,
            default_conductor_group: String::new(),
            hash_partition_exponent: 5,
            default_portgroup_mode: "active-backup".to_owned(),
            enable_ramdisk_endpoints: true,
            allow_deleting_available_nodes: true,
            disallow_clean_steps: denied(),
            disallow_deploy_steps: denied(),
            disallow_service_steps: denied(),
            disallowed_enrollment_boot_modes: vec![],
            limits: BodyLimits::default(),
            auth: AuthStrategy::NoAuth,
            policies: Policies::default(),
            tls: false,
            proxy_headers: false,
            healthcheck: false,
            cors: CorsConfig::default(),
            audit: None,
        }
    }
}
