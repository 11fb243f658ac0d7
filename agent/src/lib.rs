//! The ramdisk agent: one static program that is `/init` of the ramdisk, brings the machine onto the
//! network, tells the conductor that it is there, and carries out the conductor's commands.
//!
//! It trusts nobody but the holder of the agent token, never writes to a disk unless a command says so,
//! and keeps every result for the life of the boot. It never falls back to another API or transport
//! than those named on the kernel command line.
//!
//! Start reading at [`run`] (what the agent does after start) and [`init`] (process 1).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod command;
pub mod commands;
pub mod dhcp;
pub mod disk;
pub mod disks;
pub mod erase;
pub mod heartbeat;
pub mod http;
pub mod hw;
pub mod image;
pub mod init;
pub mod inspect;
pub mod ioctl;
pub mod jitter;
pub mod log;
pub mod logs;
pub mod lookup;
pub mod modules;
pub mod net;
pub mod netlink;
pub mod params;
pub mod power;
pub mod progress;
pub mod run;
pub mod secret;
pub mod server;
pub mod standby;
pub mod steps;
pub mod tls;
pub mod vmedia;
