//! `baremetal node …` for the parts of a node: power, boot, maintenance, history, inventory, traits, console and the rest.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::node::{Nodes, One};
use super::output::Output;

/// `node power …`.
#[derive(Debug, Subcommand)]
pub enum PowerCommand {
    /// Power on
    On(PowerArgs),
    /// Power off
    Off(PowerOff),
}

/// Of each power command.
#[derive(Debug, Args)]
pub struct PowerArgs {
    #[command(flatten)]
    pub nodes: Nodes,
    /// Seconds that the machine may take
    #[arg(long, value_name = "SECONDS")]
    pub power_timeout: Option<u32>,
}

/// `node power off`.
#[derive(Debug, Args)]
pub struct PowerOff {
    #[command(flatten)]
    pub power: PowerArgs,
    /// Ask the operating system to shut down
    #[arg(long)]
    pub soft: bool,
}

/// `node reboot`.
#[derive(Debug, Args)]
pub struct Reboot {
    #[command(flatten)]
    pub power: PowerArgs,
    /// Ask the operating system to shut down
    #[arg(long)]
    pub soft: bool,
}

/// `node boot …`.
#[derive(Debug, Subcommand)]
pub enum BootCommand {
    /// Boot device
    #[command(subcommand)]
    Device(BootDeviceCommand),
    /// Boot mode
    #[command(subcommand)]
    Mode(BootModeCommand),
}

/// `node boot device …`.
#[derive(Debug, Subcommand)]
pub enum BootDeviceCommand {
    /// Choose what the next boot is from
    Set {
        /// Names or UUIDs
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// pxe, disk, cdrom, bios, safe, wanboot, …
        #[arg(value_name = "DEVICE")]
        device: String,
        /// For every boot from now on
        #[arg(long)]
        persistent: bool,
    },
    /// Show what the next boot is from
    Show {
        /// Show what can be chosen
        #[arg(long)]
        supported: bool,
        #[command(flatten)]
        one: One,
    },
}

/// `node boot mode …`.
#[derive(Debug, Subcommand)]
pub enum BootModeCommand {
    /// Choose the boot mode
    Set {
        /// Names or UUIDs
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// uefi or bios
        #[arg(value_name = "MODE", value_parser = ["uefi", "bios"])]
        boot_mode: String,
    },
}

/// `node secure …`.
#[derive(Debug, Subcommand)]
pub enum SecureCommand {
    /// Secure boot
    #[command(subcommand)]
    Boot(SecureBootCommand),
}

/// `node secure boot …`.
#[derive(Debug, Subcommand)]
pub enum SecureBootCommand {
    /// Switch secure boot on
    On(Nodes),
    /// Switch secure boot off
    Off(Nodes),
}

/// `node maintenance …`.
#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Enter maintenance mode
    Set {
        #[command(flatten)]
        nodes: Nodes,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Leave maintenance mode
    Unset(Nodes),
}

/// `node history …`.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// List events
    List {
        /// All fields
        #[arg(long)]
        long: bool,
        #[command(flatten)]
        one: One,
    },
    /// Show an event
    Get {
        /// Name or UUID
        #[arg(value_name = "NODE")]
        node: String,
        /// UUID of the event
        #[arg(value_name = "EVENT")]
        event: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `node inventory …`.
#[derive(Debug, Subcommand)]
pub enum InventoryCommand {
    /// Print what inspection found as JSON, or write it to a file
    Save {
        /// Name or UUID
        #[arg(value_name = "NODE")]
        node: String,
        /// File to write
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `node trait …`.
#[derive(Debug, Subcommand)]
pub enum TraitCommand {
    /// List traits
    List(One),
    /// Add traits
    Add(Traits),
    /// Remove traits
    Remove(RemoveTraits),
}

/// `node add …`.
#[derive(Debug, Subcommand)]
pub enum AddCommand {
    /// Add traits
    Trait(Traits),
}

/// `node remove …`.
#[derive(Debug, Subcommand)]
pub enum RemoveCommand {
    /// Remove traits
    Trait(RemoveTraits),
}

/// Traits of a node.
#[derive(Debug, Args)]
pub struct Traits {
    /// Name or UUID
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Traits
    #[arg(required = true, value_name = "TRAIT")]
    pub traits: Vec<String>,
}

/// Traits of a node, or all.
#[derive(Debug, Args)]
pub struct RemoveTraits {
    /// Name or UUID
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Traits
    #[arg(value_name = "TRAIT", required_unless_present = "all", conflicts_with = "all")]
    pub traits: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

/// `node console …`.
#[derive(Debug, Subcommand)]
pub enum ConsoleCommand {
    /// Show where the console is
    Show(One),
    /// Enable it
    Enable(Nodes),
    /// Disable it
    Disable(Nodes),
}

/// `node vif …`.
#[derive(Debug, Subcommand)]
pub enum VifCommand {
    /// List them
    List(One),
    /// Attach one
    Attach {
        /// Name or UUID of the node
        #[arg(value_name = "NODE")]
        node: String,
        /// Name or UUID of the virtual interface
        #[arg(value_name = "VIF")]
        vif_id: String,
        /// Port to attach it to
        #[arg(long, conflicts_with = "portgroup_uuid")]
        port_uuid: Option<String>,
        /// Port group to attach it to
        #[arg(long)]
        portgroup_uuid: Option<String>,
        /// More about it
        #[arg(long, value_name = "KEY=VALUE")]
        vif_info: Vec<String>,
    },
    /// Detach one
    Detach {
        /// Name or UUID of the node
        #[arg(value_name = "NODE")]
        node: String,
        /// Name or UUID of the virtual interface
        #[arg(value_name = "VIF")]
        vif_id: String,
    },
}

/// `node bios …`.
#[derive(Debug, Subcommand)]
pub enum BiosCommand {
    /// Settings
    #[command(subcommand)]
    Setting(BiosSettingCommand),
}

/// `node bios setting …`.
#[derive(Debug, Subcommand)]
pub enum BiosSettingCommand {
    /// List settings
    List {
        /// All fields
        #[arg(long, conflicts_with = "fields")]
        long: bool,
        /// These fields
        #[arg(long, num_args = 1.., value_name = "FIELD")]
        fields: Vec<String>,
        #[command(flatten)]
        one: One,
    },
    /// Show a setting
    Show {
        /// Name or UUID
        #[arg(value_name = "NODE")]
        node: String,
        /// Name of the setting
        #[arg(value_name = "SETTING")]
        setting_name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `node firmware …`.
#[derive(Debug, Subcommand)]
pub enum FirmwareCommand {
    /// List components
    List(One),
}

/// `node children …`.
#[derive(Debug, Subcommand)]
pub enum ChildrenCommand {
    /// List them
    List(One),
}

/// `node passthru …`.
#[derive(Debug, Subcommand)]
pub enum PassthruCommand {
    /// List the calls
    List(One),
    /// Make a call
    Call {
        /// Name or UUID
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        call: super::other::PassthruCall,
    },
}

/// `node inject …`.
#[derive(Debug, Subcommand)]
pub enum InjectCommand {
    /// Inject it
    Nmi(Nodes),
}
