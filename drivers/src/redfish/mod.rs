//! Redfish (DMTF DSP0266, DSP0268): a tolerant client and the operations on a machine that need one.
//!
//! Every property of an answer is optional, every body is bounded, every wait has an end. Vendors' differences are rows of
//! [`quirks::QUIRKS`] or are found out by trying the known forms in turn; no code path asks for a vendor's name.
//! Secrets are in no text that leaves this module. Start reading at [`pool`], then `system`, then `power` and `boot`.

pub mod bios;
pub mod boot;
pub mod client;
pub mod config;
pub mod endpoint;
pub mod error;
pub mod firmware;
pub mod health;
pub mod iface;
pub mod indicator;
pub mod inspect;
pub mod media;
pub mod pool;
pub mod power;
pub mod quirks;
pub mod resource;
mod session;
pub mod system;
pub mod task;
mod tls;
pub mod vendor;
mod wire;

pub use boot::{BootOutcome, BootRequest, BootState, BootTarget, FirmwareMode};
pub use client::RedfishClient;
pub use config::PoolConfig;
pub use endpoint::{AuthType, MinTls, RedfishEndpoint, Verify};
pub use error::{BmcMessage, RedfishError};
pub use pool::RedfishPool;
pub use power::RedfishPower;
pub use system::RedfishSystem;
