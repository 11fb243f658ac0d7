//! The Ironic v1 REST API: routes, microversions, JSON shapes, errors.
//!
//! The crate reads and writes what owners of nodes say through the store, and asks the conductor ([`bessemer_rpc::ConductorApi`]) for
//! everything else. It knows no driver, no SQL and no flow. Start reading at [`router`] and `route.rs` (the table of routes), then
//! [`version`] (the table of microversions) and [`fault`] (the table of statuses).

mod audit;
mod auth;
mod body;
mod config;
mod cors;
pub mod fault;
mod heartbeat;
mod inspection;
mod links;
mod listing;
mod lookup;
mod openapi;
mod patch;
mod policy;
mod proxy;
mod query;
mod reply;
mod request;
mod resource;
mod ring;
mod route;
mod router;
pub mod version;

pub use audit::Audit;
pub use auth::{AuthStrategy, BasicAuth, TokenAuth, TokenOptions, UnknownStrategy};
pub use config::{ApiConfig, BodyLimits};
pub use cors::CorsConfig;
pub use policy::{CheckError, Policies, PolicyFileError};
pub use router::router;
