//! Which fields lists show, as python-ironicclient shows them, and which can be asked for.

/// Fields of `node list`.
pub const NODE: &[&str] = &["uuid", "name", "instance_uuid", "power_state", "provision_state", "maintenance"];

/// Fields of `node list --long`.
pub const NODE_LONG: &[&str] = &[
    "allocation_uuid",
    "automated_clean",
    "bios_interface",
    "boot_interface",
    "boot_mode",
    "chassis_uuid",
    "clean_step",
    "conductor",
    "conductor_group",
    "console_enabled",
    "console_interface",
    "created_at",
    "raid_config",
    "deploy_interface",
    "deploy_step",
    "description",
    "disable_power_off",
    "driver",
    "driver_info",
    "driver_internal_info",
    "extra",
    "fault",
    "firmware_interface",
    "health",
    "inspect_interface",
    "inspection_finished_at",
    "inspection_started_at",
    "instance_info",
    "instance_name",
    "instance_uuid",
    "last_error",
    "lessee",
    "maintenance",
    "maintenance_reason",
    "management_interface",
    "name",
    "network_data",
    "network_interface",
    "owner",
    "parent_node",
    "power_interface",
    "power_state",
    "properties",
    "protected",
    "protected_reason",
    "provision_updated_at",
    "provision_state",
    "raid_interface",
    "rescue_interface",
    "reservation",
    "resource_class",
    "retired",
    "retired_reason",
    "secure_boot",
    "storage_interface",
    "target_power_state",
    "target_provision_state",
    "target_raid_config",
    "traits",
    "uuid",
    "updated_at",
    "vendor_interface",
];

/// Fields of `port list`.
pub const PORT: &[&str] = &["uuid", "address"];

/// Fields of `port list --long` and of a port that was created.
pub const PORT_LONG: &[&str] = &[
    "uuid",
    "address",
    "created_at",
    "extra",
    "node_uuid",
    "category",
    "vendor",
    "local_link_connection",
    "portgroup_uuid",
    "pxe_enabled",
    "physical_network",
    "updated_at",
    "internal_info",
    "is_smartnic",
    "name",
];

/// Fields of `driver list`.
pub const DRIVER: &[&str] = &["name", "hosts"];

/// Fields of `driver list --long`.
pub const DRIVER_LONG: &[&str] = &[
    "name",
    "type",
    "hosts",
    "default_bios_interface",
    "default_boot_interface",
    "default_console_interface",
    "default_deploy_interface",
    "default_firmware_interface",
    "default_inspect_interface",
    "default_management_interface",
    "default_network_interface",
    "default_power_interface",
    "default_raid_interface",
    "default_rescue_interface",
    "default_storage_interface",
    "default_vendor_interface",
    "enabled_bios_interfaces",
    "enabled_boot_interfaces",
    "enabled_console_interfaces",
    "enabled_deploy_interfaces",
    "enabled_firmware_interfaces",
    "enabled_inspect_interfaces",
    "enabled_management_interfaces",
    "enabled_network_interfaces",
    "enabled_power_interfaces",
    "enabled_raid_interfaces",
    "enabled_rescue_interfaces",
    "enabled_storage_interfaces",
    "enabled_vendor_interfaces",
];

/// Fields of `conductor list`.
pub const CONDUCTOR: &[&str] = &["hostname", "conductor_group", "alive"];
/// Fields of `conductor list --long`.
pub const CONDUCTOR_LONG: &[&str] = &["hostname", "conductor_group", "alive", "drivers", "created_at", "updated_at"];
/// Fields of `node history list`.
pub const HISTORY: &[&str] = &["uuid", "created_at", "severity", "event"];
/// Fields of `node history list --long`.
pub const HISTORY_LONG: &[&str] = &[
    "uuid",
    "created_at",
    "severity",
    "event_type",
    "event",
    "conductor",
    "user",
    "project",
    "state",
    "target_provision_state",
    "duration_seconds",
];
/// Fields of `node bios setting list`.
pub const BIOS: &[&str] = &["name", "value"];
/// Fields of `node bios setting list --long`.
pub const BIOS_LONG: &[&str] = &[
    "name",
    "value",
    "attribute_type",
    "allowable_values",
    "lower_bound",
    "min_length",
    "max_length",
    "read_only",
    "reset_required",
    "unique",
    "upper_bound",
];
/// Fields of `node firmware list`.
pub const FIRMWARE: &[&str] = &["component", "initial_version", "current_version", "last_version_flashed", "created_at", "updated_at"];
/// Fields of a list of vendor calls.
pub const PASSTHRU: &[&str] = &["name", "http_methods", "async", "description", "attach"];

/// Members of a node that are links, which are not shown.
pub const NODE_LINKS: &[&str] = &["links", "ports", "portgroups", "states", "volume"];

/// The fields named by `--fields` (also with commas), each once.
pub fn named(given: &[String]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for field in given.iter().flat_map(|field| field.split(',')).map(str::trim).filter(|field| !field.is_empty()) {
        if !fields.iter().any(|f| f == field) {
            fields.push(field.to_owned());
        }
    }
    fields
}
