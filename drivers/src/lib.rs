//! Hardware types and interfaces: IPMI, Redfish, fake and manual management.
//!
//! A driver is a set of interface implementations chosen by name ([`registry::Registry`]). Drivers read the [`bessemer_model::node::Node`]
//! they are given and talk to its BMC; they never see the database, the HTTP server or another node.
//! Start reading at [`iface`].

pub mod agent;
pub mod error;
pub mod fake;
pub mod fence;
pub mod iface;
pub mod ipmi;
pub mod noop;
pub mod redfish;
pub mod registry;
