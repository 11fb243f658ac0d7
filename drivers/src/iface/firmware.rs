//! What a machine's own firmware tells of itself.

use async_trait::async_trait;
use bessemer_model::firmware::{BiosSetting, FirmwareComponent};

use super::{DriverCx, Result};

/// BIOS settings that can be read. Changing them is the work of steps.
#[async_trait]
pub trait Bios: Send + Sync {
    /// Every setting.
    ///
    /// # Errors
    /// What the BMC says; `Unsupported` when it tells none.
    async fn settings(&self, cx: &DriverCx<'_>) -> Result<Vec<BiosSetting>>;
}

/// Versions of firmware that can be read. Updating is the work of steps.
#[async_trait]
pub trait Firmware: Send + Sync {
    /// Every part with a version.
    ///
    /// # Errors
    /// What the BMC says.
    async fn components(&self, cx: &DriverCx<'_>) -> Result<Vec<FirmwareComponent>>;
}
