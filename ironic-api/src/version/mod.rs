//! Microversions: one table ([`table`]), the header that picks one ([`negotiate`]) and the questions that handlers may ask ([`filter`]).
//!
//! A [`Version`] cannot be compared outside this module: handlers ask what it allows, they never look at its number. Adding a
//! microversion means adding rows to the table.

mod behaviour;
pub mod fields;
mod filter;
mod negotiate;
pub mod table;

pub use behaviour::Behaviour;
pub use filter::{FieldSet, FieldTable, PatchGate};
pub use negotiate::{Refused, negotiate, range_headers, version_headers};

/// A microversion that the client may speak; always within the range served.
///
/// Deliberately neither `PartialEq` nor `PartialOrd`.
#[derive(Clone, Copy, Debug)]
pub struct Version(u16);

impl Version {
    /// The oldest.
    pub const MIN: Self = Self(table::MIN);
    /// The newest.
    pub const MAX: Self = Self(table::MAX);

    /// Every version, oldest first; for tests and listings.
    pub fn all() -> impl Iterator<Item = Self> {
        (table::MIN..=table::MAX).map(Self)
    }

    const fn within(self, since: u16, until: u16) -> bool {
        since <= self.0 && self.0 <= until
    }

    const fn reached(self, since: u16) -> bool {
        since <= self.0
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}
