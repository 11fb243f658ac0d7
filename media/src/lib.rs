//! Images that machines read as media: config drives (ISO 9660), EFI system partitions (FAT) and bootable CDs.
//!
//! Pure: the layout is worked out from names and lengths, then written front to back into any [`std::io::Write`]; nothing
//! is read from disk or network here, and equal input gives equal bytes (times and serial numbers are fixed).
//! Start reading at [`tree`], then [`config_drive`](mod@config_drive) and [`boot`].

pub mod boot;
pub mod config_drive;
mod error;
pub mod fat;
pub mod iso;
pub mod tree;

pub use boot::{BootMedia, boot_iso};
pub use config_drive::{config_drive, decode, encode};
pub use error::MediaError;
pub use fat::FatImage;
pub use iso::IsoImage;
pub use tree::{Content, Tree};
