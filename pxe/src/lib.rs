//! Boot services of the daemon: DHCPv4 and proxy-DHCP, router advertisements, TFTP, HTTP and the scripts they hand out.
//!
//! What a machine gets is asked through [`BootSource`]; this crate knows no database, no conductor and no BMC.
//! It never answers a stranger, never writes a file, and renders scripts only from a [`BootPlan`].
//! Packet decoders are pure functions of a byte slice (`dhcp::codec::decode`, `tftp::codec::decode`,
//! `ra::decode_solicitation`, `http::range::parse`): bounded, without panics, fit for fuzzing.
//!
//! Start reading at [`service`], which starts everything; then [`dhcp`], [`tftp`] and [`http`] in the order in which
//! a machine meets them.

pub mod arch;
pub mod config;
pub mod dhcp;
pub mod http;
pub mod mac;
pub mod memory;
pub mod net;
pub mod plan;
pub mod programs;
pub mod ra;
pub mod script;
pub mod service;
pub mod source;
pub mod tftp;

pub use config::{AddressRange, BootConfig, DhcpMode, NetworkConfig, Subnet};
pub use mac::MacAddr;
pub use memory::MemorySource;
pub use plan::{BootPlan, BootWhat, FileRef, Nonce};
pub use service::{BootServices, ServiceError};
pub use source::{BootSource, Machine, MachineKind, Pool, SourceError, Wish};
