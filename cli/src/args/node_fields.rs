//! Fields of a node as options: of `node create`, `node set` and `node unset`.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::interfaces::{InterfaceChanges, Interfaces};

/// Fields that a new node is given (`node create`, `node enroll`).
#[derive(Debug, Clone, Default, Args)]
pub struct NewNode {
    /// Member of driver_info; @FILE and @env:NAME give secrets
    #[arg(long, value_name = "KEY=VALUE")]
    pub driver_info: Vec<String>,
    /// Member of properties
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
    /// Member of extra
    #[arg(long, value_name = "KEY=VALUE")]
    pub extra: Vec<String>,
    /// UUID that the node shall have
    #[arg(long)]
    pub uuid: Option<String>,
    /// Name that the node shall have
    #[arg(long)]
    pub name: Option<String>,
    /// Name of the instance on the node
    #[arg(long)]
    pub instance_name: Option<String>,
    /// Chassis that the node is in
    #[arg(long)]
    pub chassis_uuid: Option<String>,
    /// Resource class
    #[arg(long)]
    pub resource_class: Option<String>,
    /// Group of conductors that may drive the node
    #[arg(long)]
    pub conductor_group: Option<String>,
    /// Clean the node automatically
    #[arg(long, conflicts_with = "no_automated_clean")]
    pub automated_clean: bool,
    /// Do not clean the node automatically
    #[arg(long)]
    pub no_automated_clean: bool,
    /// Owner
    #[arg(long)]
    pub owner: Option<String>,
    /// Lessee
    #[arg(long)]
    pub lessee: Option<String>,
    /// Description
    #[arg(long)]
    pub description: Option<String>,
    /// Shard
    #[arg(long)]
    pub shard: Option<String>,
    /// Parent of the node
    #[arg(long)]
    pub parent_node: Option<String>,
    /// Never power the node off
    #[arg(long)]
    pub disable_power_off: bool,
    /// Static network configuration: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub network_data: Option<String>,
    #[command(flatten)]
    pub interfaces: Interfaces,
}

/// `node set`.
#[derive(Debug, Args)]
pub struct Set {
    /// Names or UUIDs
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Instance on the node
    #[arg(long)]
    pub instance_uuid: Option<String>,
    /// Name of the instance on the node
    #[arg(long)]
    pub instance_name: Option<String>,
    /// Name
    #[arg(long)]
    pub name: Option<String>,
    /// Chassis that the node is in
    #[arg(long)]
    pub chassis_uuid: Option<String>,
    /// Hardware type
    #[arg(long)]
    pub driver: Option<String>,
    /// With --driver: all interfaces go back to the hardware type's choice
    #[arg(long)]
    pub reset_interfaces: bool,
    /// Resource class
    #[arg(long)]
    pub resource_class: Option<String>,
    /// Group of conductors that may drive the node
    #[arg(long)]
    pub conductor_group: Option<String>,
    /// Clean the node automatically
    #[arg(long, conflicts_with = "no_automated_clean")]
    pub automated_clean: bool,
    /// Do not clean the node automatically
    #[arg(long)]
    pub no_automated_clean: bool,
    /// Protect the node from undeploy, rebuild and delete
    #[arg(long)]
    pub protected: bool,
    /// Why it is protected
    #[arg(long)]
    pub protected_reason: Option<String>,
    /// Mark the node as retired
    #[arg(long)]
    pub retired: bool,
    /// Why it is retired
    #[arg(long)]
    pub retired_reason: Option<String>,
    /// Wanted RAID configuration: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub target_raid_config: Option<String>,
    /// Member of properties
    #[arg(long, value_name = "KEY=VALUE")]
    pub property: Vec<String>,
    /// Member of extra
    #[arg(long, value_name = "KEY=VALUE")]
    pub extra: Vec<String>,
    /// Member of driver_info; @FILE and @env:NAME give secrets
    #[arg(long, value_name = "KEY=VALUE")]
    pub driver_info: Vec<String>,
    /// Member of instance_info
    #[arg(long, value_name = "KEY=VALUE")]
    pub instance_info: Vec<String>,
    /// Owner
    #[arg(long)]
    pub owner: Option<String>,
    /// Lessee
    #[arg(long)]
    pub lessee: Option<String>,
    /// Description
    #[arg(long)]
    pub description: Option<String>,
    /// Shard
    #[arg(long)]
    pub shard: Option<String>,
    /// Parent of the node
    #[arg(long)]
    pub parent_node: Option<String>,
    /// Let the node be powered off
    #[arg(long, conflicts_with = "disable_power_off")]
    pub enable_power_off: bool,
    /// Never power the node off
    #[arg(long)]
    pub disable_power_off: bool,
    /// Static network configuration: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub network_data: Option<String>,
    #[command(flatten)]
    pub interfaces: InterfaceChanges,
}

/// `node unset`.
#[derive(Debug, Args)]
pub struct Unset {
    /// Names or UUIDs
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Member of properties
    #[arg(long, value_name = "KEY")]
    pub property: Vec<String>,
    /// Member of extra
    #[arg(long, value_name = "KEY")]
    pub extra: Vec<String>,
    /// Member of driver_info
    #[arg(long, value_name = "KEY")]
    pub driver_info: Vec<String>,
    /// Member of instance_info
    #[arg(long, value_name = "KEY")]
    pub instance_info: Vec<String>,
    /// The wanted RAID configuration
    #[arg(long)]
    pub target_raid_config: bool,
    #[command(flatten)]
    pub fields: UnsetFields,
}

/// Whole fields that are emptied; names of fields.
#[derive(Debug, Default)]
pub struct UnsetFields(pub Vec<&'static str>);

/// Option and field.
const UNSET: &[(&str, &str)] = &[
    ("instance-uuid", "instance_uuid"),
    ("instance-name", "instance_name"),
    ("name", "name"),
    ("resource-class", "resource_class"),
    ("chassis-uuid", "chassis_uuid"),
    ("network-data", "network_data"),
    ("conductor-group", "conductor_group"),
    ("automated-clean", "automated_clean"),
    ("protected", "protected"),
    ("protected-reason", "protected_reason"),
    ("retired", "retired"),
    ("retired-reason", "retired_reason"),
    ("owner", "owner"),
    ("lessee", "lessee"),
    ("description", "description"),
    ("shard", "shard"),
    ("parent-node", "parent_node"),
    ("bios-interface", "bios_interface"),
    ("boot-interface", "boot_interface"),
    ("console-interface", "console_interface"),
    ("deploy-interface", "deploy_interface"),
    ("firmware-interface", "firmware_interface"),
    ("inspect-interface", "inspect_interface"),
    ("management-interface", "management_interface"),
    ("network-interface", "network_interface"),
    ("power-interface", "power_interface"),
    ("raid-interface", "raid_interface"),
    ("rescue-interface", "rescue_interface"),
    ("storage-interface", "storage_interface"),
    ("vendor-interface", "vendor_interface"),
];

impl Args for UnsetFields {
    fn augment_args(cmd: Command) -> Command {
        cmd.args(UNSET.iter().map(|(option, field)| {
            Arg::new(*option).long(*option).action(ArgAction::SetTrue).help_heading("Fields").help(format!("Empty {field}"))
        }))
    }
    fn augment_args_for_update(cmd: Command) -> Command {
        Self::augment_args(cmd)
    }
}

impl FromArgMatches for UnsetFields {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(UNSET.iter().filter(|(option, _)| matches.get_flag(option)).map(|(_, field)| *field).collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
