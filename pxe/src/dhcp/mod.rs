//! DHCPv4 (RFC 2131, 2132, 3396, 4578) and proxyDHCP (PXE 2.1): leases keyed on the hardware address, boot file by
//! client architecture.
//!
//! [`codec`] turns bytes into a packet and back; [`decide`] says what a packet asks and what the answer holds, without
//! I/O; [`server`] asks the [`BootSource`](crate::source::BootSource) and owns the sockets.

pub mod codec;
pub mod decide;
pub mod options;
pub mod server;
