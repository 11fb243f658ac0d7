//! All SQL of Bessemer, for SQLite and PostgreSQL.
//!
//! One statement text serves both engines wherever they agree (a statement that differs names both texts in one place). Methods of [`Store`] are named
//! `object_verb`, take and give model types, and hold no transaction while anything but the database works. Nothing here knows HTTP,
//! drivers or flows' meaning. Start reading at [`Store`].

mod agent;
mod allocation;
mod boot_plan;
mod chassis;
mod claim;
mod conductor;
mod crash;
mod deploy_template;
mod driver_secrets;
mod engine;
mod error;
mod event;
mod firmware;
mod flow;
mod flow_row;
mod history;
mod inventory;
mod lease;
mod migrate;
mod node;
mod node_list;
mod node_row;
mod notify;
mod open;
mod page;
mod port;
mod portgroup;
mod record;
mod request_types;
mod rule;
mod runbook;
mod seal;
mod secret;
#[cfg(test)]
mod statements;
mod store;
mod turn;
mod types;
mod volume;
mod work;

pub use chassis::{ChassisPage, ChassisSort};
pub use crash::{CommitAction, CommitHook, CommitPoint};
pub use error::{DbError, Entity, Result, Unique};
pub use notify::{Heard, Hints};
pub use open::{OpenOptions, Synchronous};
pub use portgroup::{PortgroupFilter, PortgroupPage, PortgroupSort};
pub use record::Record;
pub use request_types::*;
pub use seal::SealKey;
pub use store::Store;
pub use turn::{Queue, Turn};
pub use types::*;
pub use volume::VolumeDetail;

/// Kinds of [`Store::secret_put`].
pub mod secret_kind {
    /// The secret values of `driver_info`; written by the store itself.
    pub const DRIVER_INFO: &str = "driver_info";
    /// The ramdisk's token; written by [`crate::Store::agent_token_mint`].
    pub const AGENT_TOKEN: &str = "agent_token";
    /// Password of the rescue user.
    pub const RESCUE_PASSWORD: &str = "rescue_password";
}
