//! The test bench: bare machines under plain QEMU, real BMC emulators in front of them, and
//! everything that a test needs around them (images, an image server, a database, our daemon).
//!
//! A lab lives in Linux namespaces of its own (network, mounts, processes), see [`enter`]. So
//! several labs run side by side on one computer with the same addresses, well-known ports are
//! free to use, and when the lab's first process ends the kernel ends all the others: nothing
//! is left behind, also after Ctrl-C or SIGKILL.
//!
//! Invariants: nothing here is linked into a shipped program; no crate under test is a
//! dependency (programs are run as an operator runs them); outside of [`setup`] nothing touches
//! the network beyond the lab's own namespace.
//!
//! Start reading at [`enter::run`] (get into a lab), then [`bench::Bench`] (machines with BMCs)
//! and [`life::Life`] (a whole life of one machine).

pub mod api;
pub mod bench;
pub mod bmc;
pub mod cli;
pub mod conformance;
pub mod cpio;
pub mod daemon;
pub mod dev;
pub mod disks;
pub mod enter;
pub mod foreign;
pub mod http;
pub mod image;
pub mod imageserver;
pub mod inventory;
pub mod ironic;
pub mod kernel;
pub mod keystone;
pub mod libvirt;
pub mod life;
pub mod load;
pub mod machines;
pub mod netns;
pub mod operator;
pub mod peers;
pub mod postgres;
pub mod serial;
pub mod setup;
pub mod tempest;
pub mod tool;

pub use bench::Bench;
pub use enter::Lab;
