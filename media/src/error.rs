//! Why an image cannot be made.

/// An image cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A file or directory name cannot be on the medium.
    #[error("'{path}' cannot be on the medium: {why}")]
    Name {
        /// Path as given.
        path: String,
        /// Reason.
        why: &'static str,
    },
    /// More than the format or the given limit can hold.
    #[error("{what} is too large: at most {limit} {unit}")]
    TooLarge {
        /// What.
        what: String,
        /// Limit.
        limit: u64,
        /// Unit of the limit.
        unit: &'static str,
    },
    /// A content gave another number of bytes than it had announced.
    #[error("'{path}' gave {given} bytes instead of {announced}")]
    Length {
        /// Path as given.
        path: String,
        /// Bytes it gave.
        given: u64,
        /// Bytes announced.
        announced: u64,
    },
    /// The given text is no encoded config drive.
    #[error("the config drive is not valid: {0}")]
    Encoding(String),
    /// Writing the image (or reading a content) failed.
    #[error("the image cannot be written: {0}")]
    Io(#[from] std::io::Error),
}
