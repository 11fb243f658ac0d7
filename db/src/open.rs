//! Options of [`crate::Store::open`].

use std::sync::Arc;

use bessemer_model::clock::{Clock, SystemClock};

use crate::seal::SealKey;

/// How carefully SQLite writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A commit survives a power failure.
    #[default]
    Full,
    /// A power failure may undo the last commits; a crash of the process does not. Faster.
    Normal,
}

/// How to open a store.
#[derive(Clone)]
pub struct OpenOptions {
    /// Seals the secrets.
    pub key: SealKey,
    /// SQLite only.
    pub synchronous: Synchronous,
    /// Read connections (SQLite) or all connections (PostgreSQL).
    pub connections: u32,
    /// Gives `created_at` and `updated_at`.
    pub clock: Arc<dyn Clock>,
}

impl OpenOptions {
    /// The defaults with this key.
    #[must_use]
    pub fn new(key: SealKey) -> Self {
        Self { key, synchronous: Synchronous::Full, connections: 8, clock: Arc::new(SystemClock) }
    }
}

impl std::fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("synchronous", &self.synchronous)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
