//! HTTP boot service: scripts by hardware address, a plan's files under its nonce, boot programs by name.
//!
//! | path | what | who gets it |
//! |---|---|---|
//! | `/boot/ipxe/<mac>` | the rendered script | the address leased to that MAC; all others 404 |
//! | `/boot/<nonce>/kernel`, `/ramdisk`, `/<file>` | the plan's files | who knows the nonce, while the plan is current |
//! | `/files/<program>` | boot programs (UEFI HTTP boot) | everybody on the network |
//!
//! GET and HEAD with single byte ranges (RFC 9110). Nothing is written, no address is built from a `Host` header.

pub mod access;
pub mod content;
pub mod range;
pub mod routes;
pub mod server;
