//! `baremetal port …`, `baremetal driver …`, `baremetal conductor …`.

use clap::{Args, Subcommand};

use super::output::Output;

/// Acts on ports.
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Register a network card
    Create(Box<PortCreate>),
    /// List network cards
    List(PortList),
    /// Show a network card
    Show(PortShow),
    /// Change fields
    Set(Box<PortSet>),
    /// Empty fields
    Unset(PortUnset),
    /// Forget network cards
    Delete {
        /// UUIDs or names
        #[arg(required = true, value_name = "PORT")]
        ports: Vec<String>,
    },
}

/// `port create`.
#[derive(Debug, Args)]
pub struct PortCreate {
    /// MAC address
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Node that the card is in
    #[arg(long = "node", value_name = "NODE")]
    pub node_uuid: String,
    /// UUID that the port shall have
    #[arg(long)]
    pub uuid: Option<String>,
    /// Member of extra
    #[arg(long, value_name = "KEY=VALUE")]
    pub extra: Vec<String>,
    /// Where the switch end is: switch_id, port_id, switch_info, hostname
    #[arg(long, short = 'l', value_name = "KEY=VALUE")]
    pub local_link_connection: Vec<String>,
    /// Whether machines boot over it
    #[arg(long, value_name = "BOOLEAN")]
    pub pxe_enabled: Option<String>,
    /// Port group
    #[arg(long = "port-group", value_name = "UUID")]
    pub portgroup_uuid: Option<String>,
    /// Physical network
    #[arg(long)]
    pub physical_network: Option<String>,
    /// It is a smart NIC
    #[arg(long)]
    pub is_smartnic: bool,
    /// Name
    #[arg(long)]
    pub name: Option<String>,
    /// Description
    #[arg(long)]
    pub description: Option<String>,
    /// Vendor
    #[arg(long)]
    pub vendor: Option<String>,
    /// Category
    #[arg(long)]
    pub category: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `port list`.
#[derive(Debug, Args)]
pub struct PortList {
    /// The one with this address
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Those of this node
    #[arg(long)]
    pub node: Option<String>,
    /// Those of this port group
    #[arg(long = "port-group", value_name = "GROUP")]
    pub portgroup: Option<String>,
    /// At most so many; 0 for all
    #[arg(long)]
    pub limit: Option<u32>,
    /// Begin after this port
    #[arg(long, value_name = "PORT")]
    pub marker: Option<String>,
    /// Sort by FIELD[:asc|:desc], several with commas
    #[arg(long, value_name = "FIELDS")]
    pub sort: Option<String>,
    /// All fields
    #[arg(long, conflicts_with = "fields")]
    pub long: bool,
    /// These fields
    #[arg(long, num_args = 1.., value_name = "FIELD")]
    pub fields: Vec<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `port show`.
#[derive(Debug, Args)]
pub struct PortShow {
    /// UUID or name
    #[arg(value_name = "PORT")]
    pub port: String,
    /// PORT is a MAC address
    #[arg(long)]
    pub address: bool,
    /// These fields
    #[arg(long, num_args = 1.., value_name = "FIELD")]
    pub fields: Vec<String>,
    #[command(flatten)]
    pub output: Output,
}

/// `port set`.
#[derive(Debug, Args)]
pub struct PortSet {
    /// UUID or name
    #[arg(value_name = "PORT")]
    pub port: String,
    /// Node that the card is in
    #[arg(long = "node", value_name = "NODE")]
    pub node_uuid: Option<String>,
    /// MAC address
    #[arg(long)]
    pub address: Option<String>,
    /// Member of extra
    #[arg(long, value_name = "KEY=VALUE")]
    pub extra: Vec<String>,
    /// Port group
    #[arg(long = "port-group", value_name = "UUID")]
    pub portgroup_uuid: Option<String>,
    /// Where the switch end is: switch_id, port_id, switch_info, hostname
    #[arg(long, value_name = "KEY=VALUE")]
    pub local_link_connection: Vec<String>,
    /// Machines boot over it
    #[arg(long, conflicts_with = "pxe_disabled")]
    pub pxe_enabled: bool,
    /// Machines do not boot over it
    #[arg(long)]
    pub pxe_disabled: bool,
    /// Physical network
    #[arg(long)]
    pub physical_network: Option<String>,
    /// It is a smart NIC
    #[arg(long)]
    pub is_smartnic: bool,
    /// Name
    #[arg(long)]
    pub name: Option<String>,
    /// Description
    #[arg(long)]
    pub description: Option<String>,
    /// Vendor
    #[arg(long)]
    pub vendor: Option<String>,
    /// Category
    #[arg(long)]
    pub category: Option<String>,
}

/// `port unset`.
#[derive(Debug, Args)]
pub struct PortUnset {
    /// UUID or name
    #[arg(value_name = "PORT")]
    pub port: String,
    /// Member of extra
    #[arg(long, value_name = "KEY")]
    pub extra: Vec<String>,
    /// Member of local_link_connection
    #[arg(long, value_name = "KEY")]
    pub local_link_connection: Vec<String>,
    /// Take it out of its port group
    #[arg(long = "port-group")]
    pub portgroup: bool,
    /// Empty physical_network
    #[arg(long)]
    pub physical_network: bool,
    /// It is no smart NIC
    #[arg(long)]
    pub is_smartnic: bool,
    /// Empty name
    #[arg(long)]
    pub name: bool,
    /// Empty description
    #[arg(long)]
    pub description: bool,
    /// Empty vendor
    #[arg(long)]
    pub vendor: bool,
    /// Empty category
    #[arg(long)]
    pub category: bool,
}

/// A call of a vendor interface.
#[derive(Debug, Args)]
pub struct PassthruCall {
    /// Name of the call
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// Argument
    #[arg(long = "arg", value_name = "KEY=VALUE")]
    pub args: Vec<String>,
    /// HTTP method
    #[arg(long, value_name = "METHOD", default_value = "POST", value_parser = ["POST", "PUT", "GET", "DELETE", "PATCH"])]
    pub http_method: String,
    #[command(flatten)]
    pub output: Output,
}

/// Acts on hardware types.
#[derive(Debug, Subcommand)]
pub enum DriverCommand {
    /// List hardware types
    List {
        /// Kind: classic or dynamic
        #[arg(long = "type", value_name = "TYPE", value_parser = ["classic", "dynamic"])]
        kind: Option<String>,
        /// All fields
        #[arg(long, conflicts_with = "fields")]
        long: bool,
        /// These fields
        #[arg(long, num_args = 1.., value_name = "FIELD")]
        fields: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show a hardware type
    Show {
        /// Name
        #[arg(value_name = "DRIVER")]
        driver: String,
        /// These fields
        #[arg(long, num_args = 1.., value_name = "FIELD")]
        fields: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Members of driver_info
    #[command(subcommand)]
    Property(DriverPropertyCommand),
    /// RAID
    #[command(subcommand)]
    Raid(DriverRaidCommand),
    /// Calls that a vendor interface offers
    #[command(subcommand)]
    Passthru(DriverPassthruCommand),
}

/// `driver property …`.
#[derive(Debug, Subcommand)]
pub enum DriverPropertyCommand {
    /// List what driver_info can hold
    List(OneDriver),
}

/// `driver raid …`.
#[derive(Debug, Subcommand)]
pub enum DriverRaidCommand {
    /// Properties of logical disks
    #[command(subcommand)]
    Property(DriverPropertyCommand),
}

/// `driver passthru …`.
#[derive(Debug, Subcommand)]
pub enum DriverPassthruCommand {
    /// List the calls
    List(OneDriver),
    /// Make a call
    Call {
        /// Name of the hardware type
        #[arg(value_name = "DRIVER")]
        driver: String,
        #[command(flatten)]
        call: PassthruCall,
    },
}

/// A hardware type.
#[derive(Debug, Args)]
pub struct OneDriver {
    /// Name
    #[arg(value_name = "DRIVER")]
    pub driver: String,
    #[command(flatten)]
    pub output: Output,
}

/// Acts on conductors.
#[derive(Debug, Subcommand)]
pub enum ConductorCommand {
    /// List conductors
    List {
        /// At most so many; 0 for all
        #[arg(long)]
        limit: Option<u32>,
        /// Begin after this conductor
        #[arg(long, value_name = "HOSTNAME")]
        marker: Option<String>,
        /// Sort by FIELD[:asc|:desc], several with commas
        #[arg(long, value_name = "FIELDS")]
        sort: Option<String>,
        /// All fields
        #[arg(long, conflicts_with = "fields")]
        long: bool,
        /// These fields
        #[arg(long, num_args = 1.., value_name = "FIELD")]
        fields: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show a conductor
    Show {
        /// Host name
        #[arg(value_name = "HOSTNAME")]
        conductor: String,
        /// These fields
        #[arg(long, num_args = 1.., value_name = "FIELD")]
        fields: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
}
