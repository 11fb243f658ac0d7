//! `noop` management: leaves the machine's firmware settings to somebody else (manual management).

use async_trait::async_trait;
use bessemer_model::node::Node;

use crate::iface::{BootDevice, BootDeviceState, BootMode, DriverCx, DriverError, Management, Property, Result};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopManagement;

#[async_trait]
impl Management for NoopManagement {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    fn supported_boot_devices(&self, _node: &Node) -> Vec<BootDevice> {
        vec![BootDevice::Pxe, BootDevice::Disk]
    }
    async fn boot_device(&self, _cx: &DriverCx<'_>) -> Result<BootDeviceState> {
        // What is told to somebody who asks nonetheless: the ramdisk is always reached through the network.
        Ok(BootDeviceState { device: Some(BootDevice::Pxe), persistent: Some(true) })
    }
    async fn set_boot_device(&self, _cx: &DriverCx<'_>, _device: BootDevice, _persistent: bool, _mode: BootMode) -> Result<()> {
        Ok(())
    }
}

/// `agent` power: only the ramdisk itself could restart the machine, which needs fast track (not built). Nothing is known of the power.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentPower;

#[async_trait]
impl crate::iface::Power for AgentPower {
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    fn validate(&self, _node: &Node) -> Result<()> {
        Err(DriverError::Invalid("power interface 'agent' needs a ramdisk that stays up between operations (fast track), which is not built yet; see docs/status.md".into()))
    }
    async fn state(&self, cx: &DriverCx<'_>) -> Result<Option<bessemer_model::state::PowerState>> {
        Ok(cx.node.status.power_state)
    }
    async fn set(&self, _cx: &DriverCx<'_>, _change: bessemer_model::state::PowerChange, _wait: std::time::Duration) -> Result<()> {
        Err(DriverError::NotBuilt("changing the power through the ramdisk (power interface 'agent')".into()))
    }
    fn supported(&self) -> &'static [bessemer_model::state::PowerChange] {
        &[bessemer_model::state::PowerChange::Reboot, bessemer_model::state::PowerChange::SoftReboot]
    }
}
