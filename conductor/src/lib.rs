//! The conductor: drives nodes through their flows.
//!
//! Invariants: it never knows HTTP routes or microversions; no lock or transaction is held while a driver runs; every effect is under a
//! claim whose lease is valid; whatever is in memory may vanish at any instant and the work goes on from the store.
//! Start reading at [`service`], then [`runner`] and [`exec`].

mod actions;
mod allocate;
pub mod api;
pub mod boot_source;
pub mod config;
pub mod configdrive;
pub mod core;
mod devices;
pub mod discovery;
mod ending;
mod exec;
pub mod files;
pub mod flows;
pub mod hooks;
pub mod image;
mod members;
mod periodic;
mod ramdisk_api;
pub mod rules;
mod ruling;
mod runner;
pub mod service;
pub mod steps;
mod task;
#[cfg(test)]
mod testing;
mod validate;
mod verbs;
mod vmedia;

pub use config::{AutomatedCleaning, CleaningSource, ConductorConfig};
pub use core::Core;
pub use service::Conductor;
