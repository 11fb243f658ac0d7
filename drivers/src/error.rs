//! What can go wrong when talking to a BMC or an agent, in terms a conductor can act on. No text holds a secret.

use bessemer_model::fault::{Fault, FaultKind};

/// An error of a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// A value of `driver_info`, `properties` or an argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A value is missing.
    #[error("{0}")]
    Missing(String),
    /// The implementation has no such feature.
    #[error("{0}")]
    Unsupported(String),
    /// Nobody answered in time. Worth trying again.
    #[error("{0}")]
    Unreachable(String),
    /// The BMC or agent refused the credentials. Trying again may lock the account.
    #[error("{0}")]
    Credentials(String),
    /// The BMC or agent answered with an error.
    #[error("{0}")]
    Refused(String),
    /// What was waited for did not happen in time.
    #[error("{0}")]
    TimedOut(String),
    /// The agent is busy with another command.
    #[error("{0}")]
    Busy(String),
    /// The agent knows a newer holder of the node (`X-Bessemer-Fence`).
    #[error("{0}")]
    Fenced(String),
    /// Not built yet.
    #[error("{0} is not built yet; see docs/status.md")]
    NotBuilt(String),
}

impl DriverError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy(_) | Self::TimedOut(_))
    }
}

impl From<DriverError> for Fault {
    fn from(e: DriverError) -> Self {
        let kind = match &e {
            DriverError::Invalid(_) => FaultKind::InvalidParameterValue,
            DriverError::Missing(_) => FaultKind::MissingParameterValue,
            DriverError::Unsupported(_) => FaultKind::UnsupportedDriverExtension,
            DriverError::NotBuilt(_) => FaultKind::NotBuilt,
            DriverError::Busy(_) => FaultKind::TemporaryFailure,
            _ => FaultKind::DriverFailure,
        };
        Self::new(kind, e.to_string())
    }
}
