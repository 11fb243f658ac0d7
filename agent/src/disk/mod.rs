//! The machine's disks: listing, choosing, wiping, partitioning, config drive and firmware boot entries.
//!
//! Everything here works on whole disks that a command named. Nothing is written to a disk that is mounted or
//! part of an array, and listing and choosing never write.

pub mod error;
pub mod list;
pub mod pick;
pub mod wipe;

pub use error::DiskError;
