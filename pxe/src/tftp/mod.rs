//! TFTP service: RFC 1350 with options (RFC 2347), block size (2348), time-out and size (2349) and window (7440).
//!
//! Read requests only. [`codec`] reads and writes packets, [`transfer`] decides what to send when, both without I/O;
//! [`server`] owns the sockets and [`content`] the bytes.

pub mod codec;
pub mod content;
pub mod server;
pub mod transfer;
