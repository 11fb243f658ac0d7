//! Writing an operating-system image to a disk: fetch, verify, decode, write, in one pass and bounded memory.
//!
//! The image is read from its server once, front to back. A connection that breaks is taken up again at the
//! byte where it broke. Nothing is written before the image's format was found to be a permitted one, and the
//! two ends of the disk, which make it bootable, are written only after the checksum was right: a wrong or
//! half-written image never boots. This module never converts to another format, never follows a backing
//! file and never writes to a file system.

pub mod error;
pub mod fetch;
pub mod format;
pub mod request;
pub mod verify;

mod block;
mod client;
mod decode;
mod device;
mod digest;
mod pipeline;
mod qcow2;
mod ranges;
mod source;
mod write;

pub use client::HttpOptions;
pub use decode::DecoderLimit;
pub use error::ImageError;
pub use pipeline::{WriteReport, fetch_small, write_image};
pub use request::{ImageInfo, WriteImageRequest};
