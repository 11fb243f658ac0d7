//! IPMI 2.0 over LAN (RMCP+), spoken natively: no other program is run.
//!
//! `crypto` and `codec` are bytes, `session` is the protocol without input or output, `transport` the shared sockets, `login` and
//! `bmc` the conversation with one BMC, `client` the entrance; `chassis`, `sel` and `sdr` are typed commands; `info` reads `driver_info`,
//! `power`, `management` and `vendor` are the interfaces named `ipmitool`. Start reading at [`IpmiPool`] or [`IpmiPower`].

mod bmc;
pub mod chassis;
pub mod client;
pub mod codec;
pub mod crypto;
pub mod error;
pub mod info;
mod login;
pub mod management;
pub mod power;
pub mod sdr;
pub mod sel;
pub mod session;
pub mod transport;
pub mod vendor;

pub use bmc::Resend;
pub use client::{IpmiClient, IpmiConfig, IpmiEndpoint, IpmiPool, Timing};
pub use error::{CredentialFault, Doing, IpmiError};
pub use info::IpmiSettings;
pub use management::IpmiManagement;
pub use power::{IpmiDriver, IpmiPower};
pub use session::Privilege;
pub use vendor::IpmiVendor;

use bessemer_model::interface::InterfaceKind;

/// Adds the `ipmitool` interfaces to a registry. All of them share the pool.
pub fn register(registry: &mut crate::registry::Registry, driver: &std::sync::Arc<IpmiDriver>) {
    registry.add_power("ipmitool", std::sync::Arc::new(IpmiPower(driver.clone())));
    registry.add_management("ipmitool", std::sync::Arc::new(IpmiManagement(driver.clone())));
    registry.add_vendor("ipmitool", std::sync::Arc::new(IpmiVendor(driver.clone())));
    registry.add_steps(InterfaceKind::Vendor, "ipmitool", std::sync::Arc::new(IpmiVendor(driver.clone())));
}
