//! Types, tables and pure functions of Bessemer.
//!
//! Nothing here does I/O, reads a clock or knows a vendor, a database or an HTTP status. The tables that the rest of the
//! program is driven by live here as data: [`transition::TRANSITIONS`], [`interface::HARDWARE_TYPES`].
//! Start reading at [`node`], [`state`] and [`flow`].

pub mod agent;
pub mod allocation;
pub mod boolean;
pub mod chassis;
pub mod clock;
pub mod conductor;
pub mod deploy_template;
pub mod event;
pub mod fault;
pub mod firmware;
pub mod flow;
pub mod hashring;
pub mod history;
pub mod ids;
pub mod inspection_rule;
pub mod interface;
pub mod interfaces;
pub mod node;
pub mod port;
pub mod portgroup;
pub mod runbook;
pub mod secret;
pub mod state;
pub mod step;
pub mod transition;
pub mod volume;
pub mod yaml;

/// A JSON value.
pub type Json = serde_json::Value;
/// A JSON object; key order is kept as the map type gives it (sorted).
pub type JsonMap = serde_json::Map<String, Json>;
