//! Every option of the daemon as one table: section, name, kind, default, meaning. The file, the environment and `--set` are read by it,
//! unknown keys are refused by it, and `docs/configuration.md` is checked against it.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result, anyhow, bail};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, not negative.
    Int,
    /// A number of seconds, fractions allowed.
    Seconds,
    /// A list of texts; a comma list in the environment and on the command line.
    List,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Section of the file.
    pub section: &'static str,
    /// Name.
    pub key: &'static str,
    /// Kind of value.
    pub kind: Kind,
    /// Default, as it would be written on the command line; empty = unset.
    pub default: &'static str,
    /// Meaning, with units.
    pub doc: &'static str,
}

const fn o(section: &'static str, key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Opt {
    Opt { section, key, kind, default, doc }
}

use Kind::{Bool, Int, List, Seconds, Text};

/// The table.
pub const OPTIONS: &[Opt] = &[
    o(
        "DEFAULT",
        "auth_strategy",
        Text,
        "noauth",
        "Who may call the API: `noauth` (everybody), `http_basic` (users of a file) or `keystone`.",
    ),
    o("DEFAULT", "host", Text, "", "Unique name of this conductor. Default: the machine's host name."),
    o("DEFAULT", "http_basic_auth_user_file", Text, "/etc/bessemer/htpasswd", "Users of `http_basic`: name:bcrypt digest, one per line."),
    o("DEFAULT", "default_resource_class", Text, "", "`resource_class` of new nodes that name none."),
    o("DEFAULT", "default_conductor_group", Text, "", "`conductor_group` of new nodes that name none."),
    o("DEFAULT", "default_portgroup_mode", Text, "active-backup", "`mode` of new port groups that name none."),
    o("DEFAULT", "enabled_hardware_types", List, "ipmi,redfish", "Hardware types that nodes may have as their `driver`."),
    o("DEFAULT", "enabled_bios_interfaces", List, "", "Enabled bios interfaces. Default: no-bios, redfish."),
    o("DEFAULT", "enabled_boot_interfaces", List, "", "Enabled boot interfaces. Default: ipxe, pxe, redfish-virtual-media."),
    o("DEFAULT", "enabled_console_interfaces", List, "", "Enabled console interfaces. Default: no-console."),
    o("DEFAULT", "enabled_deploy_interfaces", List, "", "Enabled deploy interfaces. Default: direct."),
    o("DEFAULT", "enabled_firmware_interfaces", List, "", "Enabled firmware interfaces. Default: no-firmware."),
    o("DEFAULT", "enabled_inspect_interfaces", List, "", "Enabled inspect interfaces. Default: agent, no-inspect, redfish."),
    o(
        "DEFAULT",
        "enabled_management_interfaces",
        List,
        "",
        "Enabled management interfaces. Default: all that the enabled hardware types support.",
    ),
    o("DEFAULT", "enabled_network_interfaces", List, "", "Enabled network interfaces. Default: noop."),
    o("DEFAULT", "enabled_power_interfaces", List, "", "Enabled power interfaces. Default: all that the enabled hardware types support."),
    o("DEFAULT", "enabled_raid_interfaces", List, "", "Enabled raid interfaces. Default: agent, no-raid, redfish."),
    o("DEFAULT", "enabled_rescue_interfaces", List, "", "Enabled rescue interfaces. Default: no-rescue."),
    o("DEFAULT", "enabled_storage_interfaces", List, "", "Enabled storage interfaces. Default: noop."),
    o("DEFAULT", "enabled_vendor_interfaces", List, "", "Enabled vendor interfaces. Default: ipmitool, redfish, no-vendor."),
    o("DEFAULT", "default_bios_interface", Text, "", "Bios interface of nodes that name none."),
    o("DEFAULT", "default_boot_interface", Text, "", "Boot interface of nodes that name none."),
    o("DEFAULT", "default_console_interface", Text, "", "Console interface of nodes that name none."),
    o("DEFAULT", "default_deploy_interface", Text, "", "Deploy interface of nodes that name none."),
    o("DEFAULT", "default_firmware_interface", Text, "", "Firmware interface of nodes that name none."),
    o("DEFAULT", "default_inspect_interface", Text, "", "Inspect interface of nodes that name none."),
    o("DEFAULT", "default_management_interface", Text, "", "Management interface of nodes that name none."),
    o("DEFAULT", "default_network_interface", Text, "", "Network interface of nodes that name none."),
    o("DEFAULT", "default_power_interface", Text, "", "Power interface of nodes that name none."),
    o("DEFAULT", "default_raid_interface", Text, "", "Raid interface of nodes that name none."),
    o("DEFAULT", "default_rescue_interface", Text, "", "Rescue interface of nodes that name none."),
    o("DEFAULT", "default_storage_interface", Text, "noop", "Storage interface of nodes that name none."),
    o("DEFAULT", "default_vendor_interface", Text, "", "Vendor interface of nodes that name none."),
    o("DEFAULT", "rbac_service_role_elevated_access", Bool, "false", "Whether service users of the service project act as system users."),
    o("DEFAULT", "rbac_service_project_name", Text, "service", "Name of the service project."),
    o("DEFAULT", "hash_partition_exponent", Int, "5", "Each conductor owns 2 to this power arcs of the hash ring."),
    o("DEFAULT", "log_format", Text, "text", "`text` or `json`."),
    o("DEFAULT", "log_level", Text, "info", "`error`, `warn`, `info`, `debug`, or a filter such as `bessemer_conductor=debug,info`."),
    o("api", "host_ip", Text, "0.0.0.0", "Address that the API listens on."),
    o("api", "port", Int, "6385", "TCP port of the API."),
    o("api", "public_endpoint", Text, "", "Base address in links. Default: the address that the client used."),
    o("api", "max_limit", Int, "1000", "Longest page of a list, in entries."),
    o("api", "enable_ramdisk_endpoints", Bool, "true", "Whether lookup, heartbeat and inspection data are answered."),
    o(
        "api",
        "project_admin_can_manage_own_nodes",
        Bool,
        "true",
        "Whether administrators of a project may create and delete nodes that the project owns.",
    ),
    o("api", "enable_ssl_api", Bool, "false", "Whether the API speaks TLS itself."),
    o("api", "cert_file", Text, "", "Certificate chain in PEM; read again when it changes. Default: cert_file of [ssl]."),
    o("api", "key_file", Text, "", "Key in PEM. Default: key_file of [ssl]."),
    o("api", "tls_minimum_version", Text, "1.3", "`1.2` or `1.3`."),
    o("api", "restrict_lookup", Bool, "true", "Whether lookup answers only for nodes in a state that waits for a ramdisk."),
    o("api", "ramdisk_heartbeat_timeout", Seconds, "300", "Told to ramdisks, which speak at 0.3 to 0.6 of it. Seconds."),
    o("api", "disallow_clean_steps", List, "vendor.send_raw", "`interface.step` names refused in clean_steps."),
    o("api", "disallow_deploy_steps", List, "vendor.send_raw", "`interface.step` names refused in deploy_steps."),
    o("api", "disallow_service_steps", List, "vendor.send_raw", "`interface.step` names refused in service_steps."),
    o("api", "disallowed_enrollment_boot_modes", List, "", "Values of the boot_mode capability that nodes may not have."),
    o("ssl", "cert_file", Text, "", "Older place of cert_file of [api]."),
    o("ssl", "key_file", Text, "", "Older place of key_file of [api]."),
    o("keystone_authtoken", "auth_url", Text, "", "Address of Keystone, with or without `/v3`."),
    o("keystone_authtoken", "auth_type", Text, "password", "How this service proves itself to Keystone: `password`."),
    o("keystone_authtoken", "username", Text, "", "User that this service is; it must be allowed to validate tokens."),
    o("keystone_authtoken", "password", Text, "", "Its password."),
    o("keystone_authtoken", "user_domain_name", Text, "", "Name of the user's domain. Default: by user_domain_id."),
    o("keystone_authtoken", "user_domain_id", Text, "default", "Id of the user's domain."),
    o("keystone_authtoken", "project_name", Text, "service", "Project of the user."),
    o("keystone_authtoken", "project_domain_name", Text, "", "Name of the project's domain. Default: by project_domain_id."),
    o("keystone_authtoken", "project_domain_id", Text, "default", "Id of the project's domain."),
    o("keystone_authtoken", "region_name", Text, "", "Region to find services in. Default: any."),
    o("keystone_authtoken", "cafile", Text, "", "Authorities that vouch for Keystone, in PEM. Default: the system's."),
    o("keystone_authtoken", "insecure", Bool, "false", "Whether any certificate of Keystone is taken."),
    o("keystone_authtoken", "www_authenticate_uri", Text, "", "Address told to callers without a valid token. Default: auth_url."),
    o("keystone_authtoken", "http_connect_timeout", Seconds, "10", "Longest wait for an answer of Keystone."),
    o("keystone_authtoken", "http_request_max_retries", Int, "2", "How often a request that got no answer is repeated."),
    o("keystone_authtoken", "token_cache_time", Seconds, "300", "How long an answer about a token is believed; 0 = ask each time."),
    o("keystone_authtoken", "token_cache_size", Int, "10000", "How many such answers are remembered."),
    o("keystone_authtoken", "service_token_roles", List, "service", "Roles one of which a service needs to vouch for an expired token."),
    o("keystone_authtoken", "service_token_roles_required", Bool, "true", "Whether it needs one at all."),
    o(
        "oslo_policy",
        "policy_file",
        Text,
        "",
        "Rules that replace the defaults: a JSON object, or lines `\"name\": \"rule\"`; read again when it changes. Default: none.",
    ),
    o("oslo_middleware", "enable_proxy_headers_parsing", Bool, "false", "Whether `Forwarded` and `X-Forwarded-*` headers are believed."),
    o("healthcheck", "enabled", Bool, "false", "Whether `GET /healthcheck` is answered, to anybody."),
    o("cors", "allowed_origin", List, "", "Origins of web pages that may use the API; `*` = any. Default: none."),
    o("cors", "allow_credentials", Bool, "true", "Whether these pages may send what the browser knows of the user."),
    o("cors", "expose_headers", List, "", "Headers of answers that they may read. Default: the API's own."),
    o("cors", "max_age", Int, "3600", "How long browsers remember what is allowed, in seconds."),
    o("cors", "allow_methods", List, "GET,PUT,POST,DELETE,PATCH", "Methods that they may use."),
    o("cors", "allow_headers", List, "", "Headers that they may send. Default: the API's own."),
    o("audit", "enabled", Bool, "false", "Whether each writing or refused request is noted: one line of JSON."),
    o("audit", "log_file", Text, "", "File for these lines. Default: the daemon's log, target `audit`."),
    o("audit", "ignore_req_list", List, "", "Methods that are not noted."),
    o("database", "connection", Text, "", "`sqlite:///path/file` or `postgresql://user@host/name`. Default: a file in state_dir."),
    o(
        "database",
        "synchronous",
        Text,
        "full",
        "SQLite: `full` survives a power failure, `normal` is faster and may lose the last commits in one.",
    ),
    o("database", "max_connections", Int, "8", "Read connections (SQLite) or all connections (PostgreSQL)."),
    o("conductor", "state_dir", Text, "/var/lib/bessemer", "Folder of the database, the seal key and the cache."),
    o("conductor", "conductor_group", Text, "", "Group of nodes that this conductor serves."),
    o("conductor", "deploy_kernel", Text, "", "Kernel of the ramdisk: file:// or http(s):// URL."),
    o("conductor", "deploy_ramdisk", Text, "", "The ramdisk: file:// or http(s):// URL."),
    o("conductor", "automated_clean", Bool, "true", "Whether nodes are cleaned before they become available; per node: automated_clean."),
    o(
        "conductor",
        "automated_cleaning_step_source",
        Text,
        "autogenerated",
        "Steps of automated cleaning: `autogenerated` (what drivers and agent offer, by priority), `runbook` (without one cleaning fails) or `hybrid` (a runbook where there is one).",
    ),
    o("conductor", "automated_cleaning_runbook", Text, "", "UUID or name of the runbook for nodes that have no other."),
    o("conductor", "automated_cleaning_runbook_by_resource_class", List, "", "Runbooks by resource class of the node: class:runbook."),
    o(
        "conductor",
        "automated_cleaning_runbook_from_node",
        Bool,
        "false",
        "Whether `driver_info.cleaning_runbook` of a node names its runbook; whoever edits it decides about cleaning.",
    ),
    o(
        "conductor",
        "automated_cleaning_runbook_validate_traits",
        Bool,
        "true",
        "Whether a runbook and the node that it cleans must have a trait in common.",
    ),
    o("conductor", "deploy_callback_timeout", Seconds, "1800", "Longest wait for the agent in a deployment; 0 = for ever."),
    o("conductor", "clean_callback_timeout", Seconds, "1800", "Longest wait for the agent in cleaning; 0 = for ever."),
    o("conductor", "service_callback_timeout", Seconds, "1800", "Longest wait for the agent in servicing; 0 = for ever."),
    o("conductor", "inspect_wait_timeout", Seconds, "1800", "Longest wait for inspection data; 0 = for ever."),
    o("conductor", "rescue_callback_timeout", Seconds, "1800", "Longest wait for the agent in rescue; 0 = for ever."),
    o("conductor", "power_state_change_timeout", Seconds, "60", "Longest wait for a power state to be reached."),
    o("conductor", "soft_power_off_timeout", Seconds, "600", "Longest wait for an operating system to shut down."),
    o("conductor", "sync_power_state_interval", Seconds, "120", "How often the power of nodes is read; 0 = never."),
    o("conductor", "power_state_sync_max_retries", Int, "3", "Failures of power sync after which a node goes into maintenance."),
    o("conductor", "sync_power_state_workers", Int, "64", "Nodes whose power is read at the same time."),
    o(
        "conductor",
        "force_power_state_during_sync",
        Bool,
        "true",
        "Whether power sync drives the machine to the recorded state instead of recording the machine's.",
    ),
    o(
        "conductor",
        "power_failure_recovery_interval",
        Seconds,
        "300",
        "How often nodes in maintenance for a power failure are tried; 0 = never.",
    ),
    o("conductor", "workers_pool_size", Int, "300", "Flows that run at the same time."),
    o("conductor", "max_concurrent_deploy", Int, "250", "Deployments at the same time; more are refused with 503."),
    o(
        "conductor",
        "max_concurrent_clean",
        Int,
        "50",
        "Cleanings and tear-downs at the same time; more wait up to ten seconds for a place and are then refused with 503.",
    ),
    o("conductor", "allow_provisioning_in_maintenance", Bool, "true", "Whether nodes in maintenance may be provided."),
    o("conductor", "allow_deleting_available_nodes", Bool, "true", "Whether nodes in available may be deleted."),
    o("conductor", "poweroff_in_cleanfail", Bool, "false", "Whether a node whose cleaning failed is powered off."),
    o("conductor", "node_history_max_entries", Int, "300", "History entries kept per node."),
    o("conductor", "max_conductor_wait_step_seconds", Seconds, "30", "Longest pause of a `wait` step with `seconds`."),
    o("conductor", "file_url_allowed_paths", List, "/var/lib/ironic,/var/lib/bessemer", "Folders that file:// images may come from."),
    o("conductor", "heartbeat_timeout", Seconds, "15", "Life of this conductor's lease without renewal."),
    o(
        "rpc",
        "shared_key",
        Text,
        "",
        "Secret of all daemons on one PostgreSQL database, at least 32 characters (`openssl rand -hex 32`): requests that need a controller \
         now are done by the conductor that owns the node. Unset: by the daemon that received them.",
    ),
    o("rpc", "host_ip", Text, "0.0.0.0", "Address that calls of other daemons are taken on, when shared_key is set."),
    o("rpc", "port", Int, "8089", "TCP port of these calls."),
    o("rpc", "address", Text, "", "Where other daemons reach it, `http://HOST:PORT` or `https://…`. Default: host_ip and port."),
    o("rpc", "use_ssl", Bool, "false", "Whether these calls speak TLS."),
    o("rpc", "cert_file", Text, "", "Certificate chain in PEM, for the host of address. Default: cert_file of [api]."),
    o("rpc", "key_file", Text, "", "Its key in PEM. Default: key_file of [api]."),
    o("rpc", "cafile", Text, "", "Authorities that vouch for the other daemons, in PEM. Default: the system's."),
    o("deploy", "default_boot_mode", Text, "uefi", "Firmware mode of nodes that do not say: uefi or bios."),
    o("deploy", "erase_devices_priority", Text, "", "Priority of the clean step erase_devices; 0 = off. Default: the agent's (10)."),
    o(
        "deploy",
        "erase_devices_metadata_priority",
        Text,
        "",
        "Priority of the clean step erase_devices_metadata. Default: the agent's (99).",
    ),
    o("deploy", "shim_path", Text, "/usr/lib/shim/shimx64.efi.signed", "Signed first-stage loader put on virtual media."),
    o(
        "deploy",
        "grub_path",
        Text,
        "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
        "The GRUB that it loads: one that looks for its configuration on removable media.",
    ),
    o("deploy", "power_off_after_deploy_failure", Bool, "true", "Whether a node whose deployment failed is powered off."),
    o(
        "deploy",
        "external_callback_url",
        Text,
        "",
        "Address of the API as ramdisks reach it. Default: server address of [pxe] and [api] port.",
    ),
    o("agent", "require_tls", Bool, "true", "Whether ramdisks must serve their commands over TLS."),
    o("agent", "command_timeout", Seconds, "60", "Longest wait for the agent's answer to a command."),
    o("agent", "power_off_timeout", Seconds, "30", "How long the agent may take to power the machine off before the BMC does it."),
    o("agent", "allow_md5_checksum", Bool, "true", "Whether images may be checked by MD5."),
    o("pxe", "interface", Text, "", "Network interface on which machines boot. Unset: no DHCP, TFTP or HTTP boot is served."),
    o("pxe", "server_address", Text, "", "Address of this daemon on it. Default: the interface's first IPv4 address."),
    o("pxe", "subnet", Text, "", "Network with prefix length. Default: that of the interface's address."),
    o("pxe", "dhcp_range", Text, "", "Addresses to hand out, FIRST-LAST. Default: the upper half of the subnet."),
    o("pxe", "dhcp_mode", Text, "full", "`full` = give addresses; `proxy` = only boot information beside another server; `off`."),
    o("pxe", "router", Text, "", "Default gateway told to machines."),
    o("pxe", "dns", List, "", "Name servers told to machines."),
    o("pxe", "lease_time", Int, "600", "Life of an address lease in seconds."),
    o("pxe", "http_port", Int, "8088", "TCP port of the HTTP boot service."),
    o("pxe", "tftp_port", Int, "69", "UDP port of the TFTP service."),
    o("pxe", "tftp_root", List, "/usr/lib/ipxe", "Folders of boot programs (undionly.kpxe, snponly.efi), searched in this order."),
    o("pxe", "kernel_append_params", Text, "nofb vga=normal", "Further kernel parameters of the ramdisk."),
    o("redfish", "connection_attempts", Int, "5", "Tries of a request that may be repeated."),
    o("redfish", "connection_retry_interval", Seconds, "4", "Pause between tries."),
    o("redfish", "connect_timeout", Seconds, "30", "Longest wait for a connection to a BMC."),
    o("redfish", "read_timeout", Seconds, "60", "Longest wait for a BMC's answer."),
    o("redfish", "auth_type", Text, "auto", "auto (session, else basic), session, basic or none."),
    o("redfish", "verify_ca", Text, "", "CA file or folder for BMC certificates. Default: the system's."),
    o("ipmi", "command_retry_timeout", Seconds, "60", "Longest time for one IPMI command with all its retries."),
    o("ipmi", "min_command_interval", Seconds, "0.05", "Least time between two commands to one BMC."),
    o("ipmi", "cipher_suite_versions", List, "17,3", "Cipher suites to try, in this order."),
    o("ipmi", "disable_boot_timeout", Bool, "true", "Whether the BMC is told not to forget the boot device after 60 s."),
    o("inspection_rules", "built_in_rules", Text, "", "YAML file of inspection rules beside those of the API; read at each inspection."),
    o(
        "inspection_rules",
        "mask_secrets",
        Text,
        "always",
        "Which rules see passwords and tokens as ***: `always` all, `sensitive` those not marked sensitive, `never` none.",
    ),
    o("inspector", "power_off", Bool, "true", "Whether machines are powered off after inspection."),
    o("inspector", "add_ports", Text, "pxe", "Cards that get a port: pxe, active, all or disabled."),
    o("auto_discovery", "enabled", Bool, "false", "Whether unknown machines are answered and enrolled."),
    o("auto_discovery", "driver", Text, "redfish", "Hardware type of discovered machines."),
    o(
        "fake",
        "failures",
        Text,
        "",
        "Operations that fail: INTERFACE.OPERATION or INTERFACE.OPERATION:TIMES, by commas (`deploy.deploy:1,power.set`).",
    ),
    o("fake", "power_delay", Seconds, "0", "Time that an operation of fake power takes."),
    o("fake", "management_delay", Seconds, "0", "Time that an operation of fake management takes."),
    o("fake", "deploy_delay", Seconds, "0.1", "Time that a step of fake deploy takes: long enough for clients to see `deploying`."),
    o("fake", "bios_delay", Seconds, "0", "Time that a step of fake bios takes."),
    o("fake", "raid_delay", Seconds, "0", "Time that a step of fake raid takes."),
    o("fake", "firmware_delay", Seconds, "0", "Time that a step of fake firmware takes."),
    o("fake", "inspect_delay", Seconds, "0", "Time that fake inspection takes."),
    o("fake", "vendor_delay", Seconds, "0", "Time that a step of fake vendor takes."),
    o("fake", "rescue_delay", Seconds, "0", "Time that fake rescue takes."),
];

/// The values in force.
#[derive(Clone, Debug, Default)]
pub struct Options {
    values: BTreeMap<(&'static str, &'static str), String>,
}

fn find(section: &str, key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.section == section && o.key == key)
}

/// The known name nearest to a misspelt one.
fn nearest(section: &str, key: &str) -> String {
    let best = OPTIONS
        .iter()
        .map(|o| (distance(key, o.key) + if o.section == section { 0 } else { 2 }, o))
        .min_by_key(|(d, _)| *d)
        .map(|(_, o)| format!("[{}] {}", o.section, o.key));
    best.unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = row.first().copied().unwrap_or(0);
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, cb) in b.iter().enumerate() {
            let old = row.get(j + 1).copied().unwrap_or(0);
            let left = row.get(j).copied().unwrap_or(0);
            let new = (before + usize::from(ca != *cb)).min(old + 1).min(left + 1);
            before = old;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = new;
            }
        }
    }
    row.last().copied().unwrap_or(0)
}

impl Options {
    /// Reads the file, then the environment (`BESSEMER_SECTION_KEY`), then `--set` values; the later wins.
    ///
    /// # Errors
    /// An unknown key (with the nearest known one named) or a value of the wrong kind, and where it stands.
    pub fn read(file: Option<&str>, environment: impl Iterator<Item = (String, String)>, set: &[String]) -> Result<Self> {
        let mut out = Self::default();
        if let Some(text) = file {
            let table: toml::Table = text.parse().context("the configuration file is not valid TOML")?;
            for (section, body) in table {
                let Some(body) = body.as_table() else { bail!("'{section}' stands outside a section; options stand below a [section]") };
                for (key, value) in body {
                    let text = match value {
                        toml::Value::String(s) => s.clone(),
                        toml::Value::Array(a) => {
                            let items: Option<Vec<&str>> = a.iter().map(toml::Value::as_str).collect();
                            items.ok_or_else(|| anyhow!("[{section}] {key}: a list of texts is expected"))?.join(",")
                        }
                        other => other.to_string(),
                    };
                    out.put(&section, key, text, "the configuration file")?;
                }
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("BESSEMER_") else { continue };
            let known = OPTIONS.iter().find(|o| format!("{}_{}", o.section, o.key).eq_ignore_ascii_case(rest));
            if let Some(o) = known {
                out.put(o.section, o.key, value, &format!("environment variable {name}"))?;
            }
        }
        for s in set {
            let (name, value) = s.split_once('=').ok_or_else(|| anyhow!("--set {s}: write it as SECTION.KEY=VALUE"))?;
            let (section, key) = name.split_once('.').ok_or_else(|| anyhow!("--set {s}: write it as SECTION.KEY=VALUE"))?;
            out.put(section, key, value.to_owned(), "--set")?;
        }
        Ok(out)
    }

    fn put(&mut self, section: &str, key: &str, value: String, origin: &str) -> Result<()> {
        let Some(o) = find(section, key) else {
            bail!("{origin}: unknown option [{section}] {key}; did you mean {}?", nearest(section, key));
        };
        let bad = |want: &str| anyhow!("{origin}: [{section}] {key} = '{value}' is not {want}");
        match o.kind {
            Bool if value.parse::<bool>().is_err() => return Err(bad("true or false")),
            Int if value.parse::<u64>().is_err() => return Err(bad("a whole number of at least 0")),
            Seconds if !value.parse::<f64>().is_ok_and(|v| v.is_finite() && v >= 0.0) => {
                return Err(bad("a number of seconds of at least 0"));
            }
            _ => {}
        }
        self.values.insert((o.section, o.key), value);
        Ok(())
    }

    /// Sets a default that holds unless a value was given.
    pub fn default_to(&mut self, section: &'static str, key: &'static str, value: &str) {
        self.values.entry((section, key)).or_insert_with(|| value.to_owned());
    }

    /// The value, or the default.
    #[must_use]
    pub fn text(&self, section: &'static str, key: &'static str) -> String {
        self.values.get(&(section, key)).cloned().unwrap_or_else(|| find(section, key).map_or_else(String::new, |o| o.default.to_owned()))
    }
    /// The value, or `None` when it is empty.
    #[must_use]
    pub fn given(&self, section: &'static str, key: &'static str) -> Option<String> {
        Some(self.text(section, key)).filter(|v| !v.is_empty())
    }
    /// A truth value.
    #[must_use]
    pub fn flag(&self, section: &'static str, key: &'static str) -> bool {
        self.text(section, key).parse().unwrap_or(false)
    }
    /// A number.
    #[must_use]
    pub fn int(&self, section: &'static str, key: &'static str) -> u64 {
        self.text(section, key).parse().unwrap_or(0)
    }
    /// A duration.
    #[must_use]
    pub fn seconds(&self, section: &'static str, key: &'static str) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.text(section, key).parse().unwrap_or(0.0))
    }
    /// A list.
    #[must_use]
    pub fn list(&self, section: &'static str, key: &'static str) -> Vec<String> {
        self.text(section, key).split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }
}

/// The reference that stands in `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    let mut section = "";
    for o in OPTIONS {
        if o.section != section {
            section = o.section;
            let _ = write!(out, "\n### [{section}]\n\n| Option | Kind | Default | Meaning |\n|---|---|---|---|\n");
        }
        let default = if o.default.is_empty() { "-".to_owned() } else { format!("`{}`", o.default) };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", o.key, format!("{:?}", o.kind).to_lowercase(), o.doc);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let e = Options::read(Some("[conductor]\nautomated_claen = true\n"), std::iter::empty(), &[]).unwrap_err().to_string();
        assert!(e.contains("[conductor] automated_clean"), "{e}");
    }

    #[test]
    fn the_command_line_beats_the_environment_which_beats_the_file() {
        let env = [("BESSEMER_API_PORT".to_owned(), "2".to_owned())];
        let o = Options::read(Some("[api]\nport = 1\n"), env.into_iter(), &["api.port=3".into()]).unwrap();
        assert_eq!(o.int("api", "port"), 3);
        let env = [("BESSEMER_API_PORT".to_owned(), "2".to_owned())];
        assert_eq!(Options::read(Some("[api]\nport = 1\n"), env.into_iter(), &[]).unwrap().int("api", "port"), 2);
    }

    #[test]
    fn values_of_the_wrong_kind_name_the_option() {
        let e = Options::read(None, std::iter::empty(), &["conductor.automated_clean=maybe".into()]).unwrap_err().to_string();
        assert!(e.contains("[conductor] automated_clean") && e.contains("true or false"), "{e}");
    }

    #[test]
    fn no_option_stands_twice_in_the_table() {
        let mut seen = std::collections::HashSet::new();
        for o in OPTIONS {
            assert!(seen.insert((o.section, o.key)), "[{}] {}", o.section, o.key);
        }
    }

    #[test]
    fn the_configuration_guide_lists_every_option_as_it_is() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
        assert!(text.contains(&reference()), "docs/configuration.md is out of date: run `bessemer options` and paste its output");
    }
}
