//! The interfaces named `redfish`: power, management, inspect; and virtual media for the boot interface
//! `redfish-virtual-media`. Thin: each method finds the node's system and calls the operation of that name.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bessemer_model::ids::NodeId;
use bessemer_model::interface::InterfaceKind;
use bessemer_model::node::Node;
use bessemer_model::state::{PowerChange, PowerState};
use bessemer_model::{Json, JsonMap};

use super::bios::RedfishBios;
use super::boot::{BootRequest, BootTarget, FirmwareMode};
use super::endpoint::RedfishEndpoint;
use super::error::RedfishError;
use super::firmware::RedfishFirmware;
use super::media::MediaKind;
use super::pool::RedfishPool;
use super::system::RedfishSystem;
use crate::iface::{
    BootDevice, BootDeviceState, BootMode, DriverCx, DriverError, Indicator, IndicatorState, Inspect, Inspected, Management, Power,
    Property, Result, VirtualMedia,
};
use crate::registry::Registry;

/// Keys of `driver_info` (`drivers.md` section 4.1).
pub(super) const PROPERTIES: &[Property] = &[
    Property {
        key: "redfish_address",
        text: "Required. The URL of the Redfish service: scheme (https when absent), host, port, and a path prefix if it has one.",
    },
    Property {
        key: "redfish_system_id",
        text: "Optional. The path of the ComputerSystem, such as /redfish/v1/Systems/1. Needed only when the service has several.",
    },
    Property { key: "redfish_username", text: "Optional. User account with operator or administrator rights." },
    Property { key: "redfish_password", text: "Optional. Password of the user account; not used without a user name." },
    Property {
        key: "redfish_verify_ca",
        text: "Optional. True (certificates of the operating system), False (no check), or the path of a CA file or directory.",
    },
    Property { key: "redfish_auth_type", text: "Optional. One of auto (session, else basic), session, basic, none. Default is auto." },
    Property { key: "redfish_tls_ciphers", text: "Optional. Taken for compatibility; the built-in secure set is used." },
    Property {
        key: "firmware_update_unresponsive_bmc_wait",
        text: "Optional. Seconds to wait for a BMC that restarts after a firmware update.",
    },
    Property { key: "redfish_tls_minimum_version", text: "Optional. Lowest TLS version: 1.2 or 1.3 (1.1 is taken as 1.2)." },
];

/// The Redfish interfaces on one pool.
#[derive(Clone, Debug)]
pub struct RedfishInterfaces {
    pool: Arc<RedfishPool>,
    /// Boot devices that were asked for permanently at BMCs that keep them for one start only: set again before each.
    again: Arc<Mutex<HashMap<NodeId, BootRequest>>>,
}

impl RedfishInterfaces {
    /// Interfaces on `pool`.
    #[must_use]
    pub fn new(pool: Arc<RedfishPool>) -> Self {
        Self { pool, again: Arc::default() }
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Arc<RedfishPool> {
        &self.pool
    }

    /// Puts all of them into `registry` under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.add_power("redfish", Arc::new(self.clone()));
        registry.add_management("redfish", Arc::new(self.clone()));
        registry.add_inspect("redfish", Arc::new(self.clone()));
        registry.add_media("redfish-virtual-media", Arc::new(self.clone()));
        registry.add_managed_media("redfish", Arc::new(self.clone()));
        registry.add_vendor("redfish", Arc::new(self.clone()));
        let (bios, firmware) = (Arc::new(RedfishBios(self.clone())), Arc::new(RedfishFirmware(self.clone())));
        registry.add_steps(InterfaceKind::Bios, "redfish", bios.clone());
        registry.add_bios("redfish", bios);
        registry.add_steps(InterfaceKind::Firmware, "redfish", firmware.clone());
        registry.add_firmware("redfish", firmware);
    }

    /// The node's endpoint.
    pub(super) fn endpoint(&self, node: &Node) -> Result<RedfishEndpoint> {
        Ok(RedfishEndpoint::parse(&node.spec.driver_info, self.pool.config().auth_type)?)
    }

    fn check(&self, node: &Node) -> Result<()> {
        Ok(self.pool.check(&self.endpoint(node)?)?)
    }

    /// The node's system.
    pub fn system(&self, node: &Node) -> Result<RedfishSystem> {
        Ok(self.pool.client(&self.endpoint(node)?)?)
    }

    fn remember(&self, node: NodeId, request: Option<BootRequest>) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Some(r) => again.insert(node, r),
            None => again.remove(&node),
        };
    }

    fn remembered(&self, node: NodeId) -> Option<BootRequest> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}

/// Runs `work` within the deadline of the call.
pub(super) async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, RedfishError>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(r) => Ok(r?),
        Err(_) => Err(DriverError::TimedOut(format!("Redfish: {what} took longer than {} s", limit.as_secs()))),
    }
}

impl From<RedfishError> for DriverError {
    fn from(e: RedfishError) -> Self {
        let text = e.to_string();
        match e {
            RedfishError::Endpoint(t) if t.starts_with("Missing") => Self::Missing(t),
            RedfishError::Endpoint(t) => Self::Invalid(t),
            RedfishError::Unreachable { .. } => Self::Unreachable(text),
            RedfishError::Fenced { .. } => Self::Fenced(text),
            RedfishError::Auth { .. } => Self::Credentials(text),
            RedfishError::Timeout { .. } => Self::TimedOut(text),
            RedfishError::Unsupported { .. } => Self::Unsupported(text),
            RedfishError::Refused { status: 429 | 503, .. } => Self::Busy(text),
            RedfishError::Refused { .. }
            | RedfishError::NotFound { .. }
            | RedfishError::Malformed { .. }
            | RedfishError::TaskFailed { .. }
            | RedfishError::Tls { .. } => Self::Refused(text),
        }
    }
}

#[async_trait]
impl Power for RedfishInterfaces {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.check(node)
    }

    async fn state(&self, cx: &DriverCx<'_>) -> Result<Option<PowerState>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the power state", async { Ok(Some(system.power().await?.settled())) }).await
    }

    async fn set(&self, cx: &DriverCx<'_>, change: PowerChange, wait: Duration) -> Result<()> {
        let system = self.system(cx.node)?;
        // The wait is for the state alone; the requests around it have the call's own time.
        let limit = cx.deadline.max(wait.saturating_add(Duration::from_secs(30)));
        within(limit, "changing the power", async {
            if let (Some(request), PowerState::On) = (self.remembered(cx.node.id), change.ends_in()) {
                system.set_boot(&request).await?;
            }
            if cx.node.keeps_power() && matches!(change, PowerChange::Reboot | PowerChange::SoftReboot) {
                return system.restart_without_off().await;
            }
            system.change_power(change, Some(wait)).await
        })
        .await
    }

    fn supported(&self) -> &'static [PowerChange] {
        &[PowerChange::On, PowerChange::Off, PowerChange::Reboot, PowerChange::SoftReboot, PowerChange::SoftOff]
    }
}

fn target(device: BootDevice) -> Option<BootTarget> {
    Some(match device {
        BootDevice::Pxe => BootTarget::Pxe,
        BootDevice::Disk => BootTarget::Disk,
        BootDevice::Cdrom => BootTarget::Cd,
        BootDevice::Bios => BootTarget::BiosSetup,
        BootDevice::Uefihttp => BootTarget::UefiHttp,
        BootDevice::Safe | BootDevice::Wanboot | BootDevice::Iscsiboot | BootDevice::Floppy => return None,
    })
}

const DEVICES: [BootDevice; 5] = [BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios, BootDevice::Uefihttp];

fn mode_of(mode: FirmwareMode) -> BootMode {
    match mode {
        FirmwareMode::Uefi => BootMode::Uefi,
        FirmwareMode::Legacy => BootMode::Bios,
    }
}

fn firmware(mode: BootMode) -> FirmwareMode {
    match mode {
        BootMode::Uefi => FirmwareMode::Uefi,
        BootMode::Bios => FirmwareMode::Legacy,
    }
}

#[async_trait]
impl Management for RedfishInterfaces {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.check(node)
    }

    fn supported_boot_devices(&self, _node: &Node) -> Vec<BootDevice> {
        DEVICES.to_vec()
    }

    async fn boot_device(&self, cx: &DriverCx<'_>) -> Result<BootDeviceState> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the boot device", async {
            let boot = system.boot().await?;
            let device = boot.target.and_then(|t| DEVICES.into_iter().find(|d| target(*d) == Some(t)));
            Ok(BootDeviceState { device, persistent: boot.persistent })
        })
        .await
    }

    async fn set_boot_device(&self, cx: &DriverCx<'_>, device: BootDevice, persistent: bool, mode: BootMode) -> Result<()> {
        let wanted = target(device)
            .ok_or_else(|| DriverError::Invalid(format!("the redfish management interface cannot boot from {}", device.as_str())))?;
        let request = BootRequest { target: wanted, persistent, mode: Some(firmware(mode)), http_uri: None };
        let system = self.system(cx.node)?;
        within(cx.deadline, "setting the boot device", async {
            let outcome = system.set_boot(&request).await?;
            self.remember(cx.node.id, (persistent && !outcome.persistent).then_some(request));
            Ok(())
        })
        .await
    }

    async fn boot_mode(&self, cx: &DriverCx<'_>) -> Result<Option<BootMode>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the boot mode", async { Ok(system.boot_mode().await?.map(mode_of)) }).await
    }

    async fn set_boot_mode(&self, cx: &DriverCx<'_>, mode: BootMode) -> Result<()> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "setting the boot mode", async {
            // Some machines show the new mode only after their next start: that is no failure here.
            system.set_boot_mode(firmware(mode), settings_wait(&system)).await.map(drop)
        })
        .await
    }

    async fn secure_boot(&self, cx: &DriverCx<'_>) -> Result<Option<bool>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading secure boot", system.secure_boot()).await
    }

    async fn set_secure_boot(&self, cx: &DriverCx<'_>, on: bool) -> Result<()> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "setting secure boot", async { system.set_secure_boot(on, settings_wait(&system)).await.map(drop) }).await
    }

    async fn sensors(&self, cx: &DriverCx<'_>) -> Result<Json> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the sensors", system.sensors()).await
    }

    async fn health(&self, cx: &DriverCx<'_>) -> Result<Option<String>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the health", system.health()).await
    }

    async fn vendor(&self, cx: &DriverCx<'_>) -> Result<Option<String>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the vendor", async {
            let found = system.identity(&system.system().await?).await?;
            Ok(Some(found.vendor).filter(|v| !v.is_empty()))
        })
        .await
    }

    async fn indicators(&self, cx: &DriverCx<'_>, component: Option<&str>) -> Result<Vec<Indicator>> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading the indicators", system.indicators(component)).await
    }

    async fn indicator(&self, cx: &DriverCx<'_>, component: &str, name: &str) -> Result<IndicatorState> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "reading an indicator", system.indicator(component, name)).await
    }

    async fn set_indicator(&self, cx: &DriverCx<'_>, component: &str, name: &str, state: IndicatorState) -> Result<()> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "setting an indicator", system.set_indicator(component, name, state)).await
    }

    async fn inject_nmi(&self, cx: &DriverCx<'_>) -> Result<()> {
        let system = self.system(cx.node)?;
        within(cx.deadline, "sending an NMI", system.nmi()).await
    }
}

/// How long a setting that shows only after a restart is waited for.
fn settings_wait(system: &RedfishSystem) -> Duration {
    system.client().config().poll.saturating_mul(3)
}

fn media_kind(device: BootDevice) -> Result<MediaKind> {
    match device {
        BootDevice::Cdrom => Ok(MediaKind::Cd),
        BootDevice::Disk => Ok(MediaKind::Usb),
        BootDevice::Floppy => Ok(MediaKind::Floppy),
        other => Err(DriverError::Invalid(format!("there are no virtual media for the boot device {}", other.as_str()))),
    }
}

#[async_trait]
impl VirtualMedia for RedfishInterfaces {
    fn validate(&self, node: &Node) -> Result<()> {
        self.check(node)
    }

    /// `cdrom` is a CD or DVD drive, `disk` a USB stick, `floppy` a floppy.
    async fn insert(&self, cx: &DriverCx<'_>, device: BootDevice, url: &str) -> Result<()> {
        let kind = media_kind(device)?;
        let system = self.system(cx.node)?;
        within(cx.deadline, "inserting virtual media", async {
            if kind == MediaKind::Cd {
                system.check_media_boot().await?;
            }
            system.insert_media(kind, url).await
        })
        .await
    }

    async fn eject(&self, cx: &DriverCx<'_>, device: Option<BootDevice>) -> Result<()> {
        let kind = device.map(media_kind).transpose()?;
        let system = self.system(cx.node)?;
        within(cx.deadline, "ejecting virtual media", system.eject_media(kind)).await
    }

    async fn list(&self, cx: &DriverCx<'_>) -> Result<Vec<Json>> {
        let system = self.system(cx.node)?;
        let media = within(cx.deadline, "listing virtual media", system.media()).await?;
        Ok(media
            .into_iter()
            .map(|m| serde_json::json!({"media_types": m.types, "inserted": m.inserted, "image": m.image.unwrap_or_default()}))
            .collect())
    }
}

#[async_trait]
impl Inspect for RedfishInterfaces {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.check(node)
    }

    async fn inspect(&self, cx: &DriverCx<'_>) -> Result<Inspected> {
        let system = self.system(cx.node)?;
        let found = within(cx.deadline, "inspection", system.inspect()).await?;
        // As text, the way ramdisk inspection stores them too.
        let mut properties = JsonMap::new();
        let mut put = |key: &str, value: Option<String>| {
            if let Some(v) = value {
                properties.insert(key.to_owned(), v.into());
            }
        };
        put("memory_mb", found.memory_mb.map(|n| n.to_string()));
        put("cpus", found.cpus.map(|n| n.to_string()));
        put("cpu_arch", found.cpu_arch);
        put("local_gb", found.local_gb.map(|n| n.to_string()));
        put("vendor", found.vendor);
        Ok(Inspected { inventory: Some(found.inventory), plugin_data: JsonMap::new(), properties, macs: found.macs })
    }
}
