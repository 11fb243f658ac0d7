//! `baremetal node …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::node_fields::{NewNode, Set, Unset};
use super::node_parts::{
    AddCommand, BiosCommand, BootCommand, ChildrenCommand, ConsoleCommand, FirmwareCommand, HistoryCommand, InjectCommand,
    InventoryCommand, MaintenanceCommand, PassthruCommand, PowerCommand, Reboot, RemoveCommand, SecureCommand, TraitCommand, VifCommand,
};
use super::output::{Output, OutputLong};

/// Acts on nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Take machines in: create, ports, manage, inspect, provide
    Enroll(Enroll),
    /// Register a machine
    Create(Create),
    /// List machines
    List(List),
    /// Show a machine
    Show(Show),
    /// Change fields
    Set(Box<Set>),
    /// Empty fields
    Unset(Box<Unset>),
    /// Forget machines
    Delete(Nodes),
    /// Verify that machines can be managed
    Manage(Verb),
    /// Make machines available for deployment (cleans them)
    Provide(Verb),
    /// Find out what machines are made of
    Inspect(Verb),
    /// Clean machines by explicit steps
    Clean(Clean),
    /// Put an image on machines
    Deploy(Box<Deploy>),
    /// Put the image on machines again
    Rebuild(Rebuild),
    /// Take the image away (cleans the machines)
    Undeploy(Verb),
    /// Stop what is going on
    Abort(Nodes),
    /// Take over machines that carry an instance already
    Adopt(Verb),
    /// Boot machines into a rescue system
    Rescue(Rescue),
    /// Boot machines into their own system again
    Unrescue(Verb),
    /// Work on deployed machines by explicit steps
    Service(Service),
    /// Go on after a hold step
    Unhold(Nodes),
    /// Mark machines as retired, or take the mark away
    Retire(Retire),
    /// Power
    #[command(subcommand)]
    Power(PowerCommand),
    /// Power-cycle machines
    Reboot(Reboot),
    /// Boot device and boot mode
    #[command(subcommand)]
    Boot(BootCommand),
    /// Secure boot
    #[command(subcommand)]
    Secure(SecureCommand),
    /// Maintenance mode
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// Check whether each interface has what it needs
    Validate(One),
    /// What happened to a machine
    #[command(subcommand)]
    History(HistoryCommand),
    /// What a machine is made of
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Traits
    #[command(subcommand)]
    Trait(TraitCommand),
    /// Same as `trait add`
    #[command(subcommand, hide = true)]
    Add(AddCommand),
    /// Same as `trait remove`
    #[command(subcommand, hide = true)]
    Remove(RemoveCommand),
    /// Serial console
    #[command(subcommand)]
    Console(ConsoleCommand),
    /// Virtual network interfaces
    #[command(subcommand)]
    Vif(VifCommand),
    /// BIOS settings
    #[command(subcommand)]
    Bios(BiosCommand),
    /// Firmware components
    #[command(subcommand)]
    Firmware(FirmwareCommand),
    /// Nodes that are parts of a node
    #[command(subcommand)]
    Children(ChildrenCommand),
    /// Calls that a vendor interface offers
    #[command(subcommand)]
    Passthru(PassthruCommand),
    /// Non-maskable interrupt
    #[command(subcommand)]
    Inject(InjectCommand),
}

/// Some nodes.
#[derive(Debug, Args)]
pub struct Nodes {
    /// Names or UUIDs
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// One node, printed.
#[derive(Debug, Args)]
pub struct One {
    /// Name or UUID
    #[arg(value_name = "NODE")]
    pub node: String,
    #[command(flatten)]
    pub output: Output,
}

/// Whether and how long to wait.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitArgs {
    /// Wait until it is done, at most that many seconds (0 or none: as long as the service works on it)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "0")]
    pub wait: Option<u64>,
}

/// A verb without arguments of its own.
#[derive(Debug, Args)]
pub struct Verb {
    #[command(flatten)]
    pub nodes: Nodes,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `node create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Hardware type
    #[arg(long)]
    pub driver: String,
    #[command(flatten)]
    pub new: NewNode,
    #[command(flatten)]
    pub output: Output,
}

/// An inventory, for the help of `node enroll`.
pub const INVENTORY: &str = "\
An inventory (run it again to go on where it ended):
  defaults:
    driver: ipmi
    driver_info: {ipmi_username: admin, ipmi_password: '@env:BMC_PASSWORD'}
  nodes:
  - name: rack1-01
    driver_info: {ipmi_address: 192.0.2.11}
    properties: {root_device: {serial: S1}}
    macs: ['52:54:00:00:00:01']
    inspect: true    # the default
    provide: true    # the default";

/// `node enroll`.
#[derive(Debug, Args)]
#[command(after_help = INVENTORY)]
pub struct Enroll {
    /// Inventory of several machines: YAML, JSON or TOML; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Hardware type (for one machine, without an inventory)
    #[arg(long)]
    pub driver: Option<String>,
    /// Address of a network card (repeat it for more)
    #[arg(long = "mac", value_name = "ADDRESS")]
    pub macs: Vec<String>,
    /// Do not inspect
    #[arg(long)]
    pub no_inspect: bool,
    /// Stay manageable
    #[arg(long)]
    pub no_provide: bool,
    /// Seconds that each machine may take in all
    #[arg(long, value_name = "SECONDS", default_value_t = 7200)]
    pub wait_timeout: u64,
    /// Machines at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub jobs: u16,
    #[command(flatten)]
    pub new: NewNode,
    #[command(flatten)]
    pub output: OutputLong,
}

/// `node list`.
#[derive(Debug, Args)]
pub struct List {
    /// At most so many; 0 for all
    #[arg(long)]
    pub limit: Option<u32>,
    /// Begin after this node
    #[arg(long, value_name = "NODE")]
    pub marker: Option<String>,
    /// Sort by FIELD[:asc|:desc], several with commas
    #[arg(long, value_name = "FIELDS")]
    pub sort: Option<String>,
    /// Those in maintenance
    #[arg(long, conflicts_with = "no_maintenance")]
    pub maintenance: bool,
    /// Those not in maintenance
    #[arg(long)]
    pub no_maintenance: bool,
    /// Those that are retired
    #[arg(long, conflicts_with = "no_retired")]
    pub retired: bool,
    /// Those that are not retired
    #[arg(long)]
    pub no_retired: bool,
    /// Those with this fault
    #[arg(long)]
    pub fault: Option<String>,
    /// Those with an instance
    #[arg(long, conflicts_with = "unassociated")]
    pub associated: bool,
    /// Those without an instance
    #[arg(long)]
    pub unassociated: bool,
    /// Those in this state
    #[arg(long, value_name = "STATE")]
    pub provision_state: Option<String>,
    /// Those of this hardware type
    #[arg(long)]
    pub driver: Option<String>,
    /// Those of this resource class
    #[arg(long)]
    pub resource_class: Option<String>,
    /// Those of this conductor group
    #[arg(long)]
    pub conductor_group: Option<String>,
    /// Those driven by this conductor
    #[arg(long)]
    pub conductor: Option<String>,
    /// Those in this chassis
    #[arg(long, value_name = "UUID")]
    pub chassis: Option<String>,
    /// Those of this owner
    #[arg(long)]
    pub owner: Option<String>,
    /// Those of this lessee
    #[arg(long)]
    pub lessee: Option<String>,
    /// Those whose description has this text
    #[arg(long, value_name = "TEXT")]
    pub description_contains: Option<String>,
    /// Those with this instance name
    #[arg(long)]
    pub instance_name: Option<String>,
    /// Those in a shard
    #[arg(long, conflicts_with = "unsharded")]
    pub sharded: bool,
    /// Those in no shard
    #[arg(long)]
    pub unsharded: bool,
    /// Those in these shards
    #[arg(long, num_args = 1..)]
    pub shards: Vec<String>,
    /// All fields
    #[arg(long, conflicts_with = "fields")]
    pub long: bool,
    /// These fields
    #[arg(long, num_args = 1.., value_name = "FIELD")]
    pub fields: Vec<String>,
    /// Also nodes that are parts of others
    #[arg(long, conflicts_with = "parent_node")]
    pub include_children: bool,
    /// The parts of this node
    #[arg(long, value_name = "NODE")]
    pub parent_node: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `node show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Name or UUID
    #[arg(value_name = "NODE")]
    pub node: String,
    /// NODE is the UUID of an instance
    #[arg(long)]
    pub instance: bool,
    /// These fields
    #[arg(long, num_args = 1.., value_name = "FIELD")]
    pub fields: Vec<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `node clean`.
#[derive(Debug, Args)]
pub struct Clean {
    #[command(flatten)]
    pub verb: Verb,
    /// Steps: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "STEPS", required_unless_present = "runbook", conflicts_with = "runbook")]
    pub clean_steps: Option<String>,
    /// Name or UUID of a stored list of steps
    #[arg(long)]
    pub runbook: Option<String>,
    /// Do not boot the ramdisk
    #[arg(long, conflicts_with = "runbook")]
    pub disable_ramdisk: bool,
}

/// `node service`.
#[derive(Debug, Args)]
pub struct Service {
    #[command(flatten)]
    pub verb: Verb,
    /// Steps: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "STEPS", required_unless_present = "runbook", conflicts_with = "runbook")]
    pub service_steps: Option<String>,
    /// Name or UUID of a stored list of steps
    #[arg(long)]
    pub runbook: Option<String>,
    /// Do not boot the ramdisk
    #[arg(long, conflicts_with = "runbook")]
    pub disable_ramdisk: bool,
}

/// What the deployed system is told about itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Config drive")]
pub struct ConfigDriveArgs {
    /// Config drive: an image, its gzipped base64 form, a directory, a JSON object or file, a URL, or - for standard input
    #[arg(long, value_name = "FILE|DIR|JSON|URL|-", conflicts_with_all = ["user_data", "meta_data", "network_config", "vendor_data"])]
    pub config_drive: Option<String>,
    /// User data (cloud-init's, for example)
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// Meta data, JSON or YAML
    #[arg(long, value_name = "FILE")]
    pub meta_data: Option<PathBuf>,
    /// Network data, JSON or YAML
    #[arg(long = "network-data", value_name = "FILE", id = "network_config")]
    pub network_data: Option<PathBuf>,
    /// Vendor data, JSON or YAML
    #[arg(long, value_name = "FILE")]
    pub vendor_data: Option<PathBuf>,
}

/// `node deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    pub verb: Verb,
    /// URL of the image to put on the root disk (recorded in instance_info)
    #[arg(long, value_name = "URL")]
    pub image: Option<String>,
    /// Checksum of the image: sha256:HEX, sha512:HEX, the bare HEX, or the URL of a checksum file
    #[arg(long, value_name = "CHECKSUM", requires = "image")]
    pub checksum: Option<String>,
    /// Format of the image: raw or qcow2
    #[arg(long, value_name = "FORMAT", requires = "image")]
    pub image_format: Option<String>,
    /// The disk to write to: serial=…, wwn=…, size='>= 100' … (repeat it for more)
    #[arg(long, value_name = "HINT=VALUE")]
    pub root_device: Vec<String>,
    /// Steps on top of the usual ones: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "STEPS")]
    pub deploy_steps: Option<String>,
    #[command(flatten)]
    pub config_drive: ConfigDriveArgs,
}

/// `node rebuild`.
#[derive(Debug, Args)]
pub struct Rebuild {
    #[command(flatten)]
    pub verb: Verb,
    /// Steps on top of the usual ones: JSON, a JSON or YAML file, or - for standard input
    #[arg(long, value_name = "STEPS")]
    pub deploy_steps: Option<String>,
    #[command(flatten)]
    pub config_drive: ConfigDriveArgs,
}

/// `node rescue`.
#[derive(Debug, Args)]
pub struct Rescue {
    #[command(flatten)]
    pub verb: Verb,
    /// Password for the rescue system; @FILE and @env:NAME are read
    #[arg(long, value_name = "PASSWORD")]
    pub rescue_password: String,
}

/// `node retire`.
#[derive(Debug, Args)]
pub struct Retire {
    #[command(flatten)]
    pub nodes: Nodes,
    /// Why
    #[arg(long, conflicts_with = "undo")]
    pub reason: Option<String>,
    /// Take the mark away
    #[arg(long)]
    pub undo: bool,
}
