//! IPMI 2.0 over LAN (RMCP+), spoken natively: no other program is run.
//!
//! `crypto` and `codec` are bytes, `session` is the protocol without input or output, `transport` the shared sockets,
//! `bmc` the conversation with one BMC, `client` the entrance; `chassis`, `sel` and `sdr` are typed commands.

mod bmc;
pub mod chassis;
pub mod client;
pub mod codec;
pub mod crypto;
pub mod error;
pub mod session;
pub mod transport;

pub use bmc::Resend;
pub use client::{IpmiClient, IpmiConfig, IpmiEndpoint, IpmiPool, Timing};
pub use error::{CredentialFault, Doing, IpmiError};
pub use session::Privilege;
