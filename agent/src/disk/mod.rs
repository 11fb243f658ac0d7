//! The machine's disks: listing, choosing, wiping, partitioning, config drive and firmware boot entries.
//!
//! Everything here works on whole disks that a command named. Nothing is written to a disk that is mounted or
//! part of an array, and listing and choosing never write.

pub mod ata;
pub mod configdrive;
pub mod efi;
pub mod efivars;
pub mod erase;
pub mod error;
pub mod fat;
pub mod gpt;
pub mod list;
pub mod nvme;
pub mod part;
pub mod pick;
pub mod wipe;

pub use error::DiskError;
