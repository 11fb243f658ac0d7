//! What the command line takes: names, arguments and meaning of python-ironicclient's `baremetal`, and our additions.
//!
//! Only describes; nothing is read from files or network here.

pub mod interfaces;
pub mod node;
pub mod node_fields;
pub mod node_parts;
pub mod other;
pub mod output;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "baremetal",
    version,
    about = "Operate bare metal machines through the bare metal API (v1)",
    infer_long_args = true,
    infer_subcommands = true,
    max_term_width = 120,
    after_help = "The service is found by --os-endpoint, OS_ENDPOINT, or a cloud of clouds.yaml (--os-cloud, OS_CLOUD).\n\
                  First steps: `baremetal node enroll --help`, then `baremetal node deploy --help`."
)]
pub struct Cli {
    /// How to reach the service.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the service; may stand anywhere on the line.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Base URL of the service, for example http://192.0.2.1:6385
    #[arg(long, global = true, value_name = "URL")]
    pub os_endpoint: Option<String>,
    /// Cloud of clouds.yaml to take the connection from
    #[arg(long, global = true, value_name = "NAME")]
    pub os_cloud: Option<String>,
    /// How to authenticate: `none` or `http_basic`
    #[arg(long, global = true, value_name = "TYPE", alias = "os-auth-plugin")]
    pub os_auth_type: Option<String>,
    /// User name for http_basic
    #[arg(long, global = true, value_name = "NAME")]
    pub os_username: Option<String>,
    /// Password for http_basic (better given by OS_PASSWORD)
    #[arg(long, global = true, value_name = "PASSWORD", hide = true)]
    pub os_password: Option<String>,
    /// API version 1.N to speak; `latest` (the default) is the newest that both sides know
    #[arg(long, global = true, value_name = "VERSION")]
    pub os_baremetal_api_version: Option<String>,
    /// Takes precedence over every other endpoint
    #[arg(long, global = true, value_name = "URL", hide = true)]
    pub os_endpoint_override: Option<String>,
    /// Do not verify the service's certificate
    #[arg(long, global = true)]
    pub insecure: bool,
    /// File of certificate authorities that the service's certificate is verified with
    #[arg(long, global = true, value_name = "FILE")]
    pub os_cacert: Option<PathBuf>,
    /// File with the certificate that this client shows
    #[arg(long, global = true, value_name = "FILE")]
    pub os_cert: Option<PathBuf>,
    /// File with the private key of that certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub os_key: Option<PathBuf>,
    /// Oldest TLS version to accept: 1.2 or 1.3
    #[arg(long, global = true, value_name = "VERSION")]
    pub tls_min_version: Option<String>,
    /// Seconds that one request may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// How often a request is repeated when the service does not answer, is busy, or the node is locked
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 5)]
    pub max_retries: u32,
    /// Longest pause between two such tries, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 2)]
    pub retry_interval: u64,
    /// Say more; repeated, tell every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell every request on standard error
    #[arg(long, global = true)]
    pub debug: bool,
    // Only of use with a service catalogue; taken so that scripts that set them go on working.
    #[arg(long, global = true, hide = true)]
    pub os_region_name: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub os_interface: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub os_service_type: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub os_service_name: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub os_api_version: Option<String>,
}

/// Kinds of things.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Machines
    #[command(subcommand)]
    Node(Box<node::NodeCommand>),
    /// Network cards of machines
    #[command(subcommand)]
    Port(other::PortCommand),
    /// Hardware types
    #[command(subcommand)]
    Driver(other::DriverCommand),
    /// Daemons that drive machines
    #[command(subcommand)]
    Conductor(other::ConductorCommand),
}

#[cfg(test)]
mod tests;
