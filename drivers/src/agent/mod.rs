//! Talking to the ramdisk agent's command API.

pub mod client;
