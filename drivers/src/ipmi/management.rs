//! Management interface `ipmitool`: boot device, sensors, health, vendor, NMI.

use std::sync::Arc;

use async_trait::async_trait;
use bessemer_model::Json;
use bessemer_model::JsonMap;
use bessemer_model::node::Node;
use serde_json::json;

use super::chassis::{BootFlags, BootSelector, ChassisControl};
use super::client::IpmiClient;
use super::info::{self, PROPERTIES};
use super::power::{IpmiDriver, within};
use super::sdr::{self, SensorReading};
use crate::iface::{BootDevice, BootDeviceState, BootMode, DriverCx, DriverError, Management, Property, Result};

/// Selector that Supermicro's BMCs take for "the UEFI disk" instead of the standard one.
const SUPERMICRO_UEFI_DISK: u8 = 0x24;
/// IANA number of Supermicro.
const SUPERMICRO: u32 = 10876;

/// Makers by IANA enterprise number, with the names that node properties use.
const VENDORS: &[(u32, &str)] = &[
    (11, "hewlett-packard"),
    (343, "intel"),
    (674, "dell"),
    (2011, "huawei"),
    (5771, "cisco"),
    (10368, "fujitsu"),
    (SUPERMICRO, "supermicro"),
    (15370, "gigabyte"),
    (19046, "lenovo"),
    (20301, "ibm"),
    (47196, "hewlett packard enterprise"),
];

const DEVICES: &[(BootDevice, BootSelector)] = &[
    (BootDevice::Pxe, BootSelector::Pxe),
    (BootDevice::Disk, BootSelector::Disk),
    (BootDevice::Cdrom, BootSelector::Cdrom),
    (BootDevice::Bios, BootSelector::Bios),
    (BootDevice::Safe, BootSelector::SafeDisk),
];

/// Management interface.
#[derive(Debug, Clone)]
pub struct IpmiManagement(pub Arc<IpmiDriver>);

/// Sets the boot device, with whatever the BMC needs around it.
pub(super) async fn apply(
    driver: &IpmiDriver,
    cx: &DriverCx<'_>,
    client: &IpmiClient,
    device: BootDevice,
    persistent: bool,
    mode: BootMode,
) -> Result<()> {
    let Some((_, selector)) = DEVICES.iter().find(|(d, _)| *d == device) else {
        let known: Vec<_> = DEVICES.iter().map(|(d, _)| d.as_str()).collect();
        return Err(DriverError::Invalid(format!(
            "boot device '{}' cannot be set by IPMI: use one of {}",
            device.as_str(),
            known.join(", ")
        )));
    };
    let efi = mode == BootMode::Uefi;
    let mut selector = *selector;
    if efi && device == BootDevice::Disk && is_supermicro(cx.node, client).await? {
        selector = BootSelector::Other(SUPERMICRO_UEFI_DISK);
    }
    let keep = info::flag(&cx.node.spec.driver_info, "ipmi_disable_boot_timeout")?.unwrap_or(driver.settings().disable_boot_timeout);
    if keep {
        client.disable_boot_timeout().await?;
    }
    // The EFI bit goes with every request: without it the next start falls back to legacy BIOS.
    Ok(client.set_boot_flags(BootFlags { device: selector, persistent, efi }).await?)
}

async fn is_supermicro(node: &Node, client: &IpmiClient) -> Result<bool> {
    match node.property("vendor") {
        Some(v) => Ok(v.to_ascii_lowercase().contains("supermicro")),
        None => Ok(client.device_id().await?.manufacturer == SUPERMICRO),
    }
}

#[async_trait]
impl Management for IpmiManagement {
    fn properties(&self) -> &'static [Property] {
        PROPERTIES
    }

    fn validate(&self, node: &Node) -> Result<()> {
        self.0.check(node)
    }

    fn supported_boot_devices(&self, _node: &Node) -> Vec<BootDevice> {
        DEVICES.iter().map(|(d, _)| *d).collect()
    }

    async fn boot_device(&self, cx: &DriverCx<'_>) -> Result<BootDeviceState> {
        let client = self.0.client(cx)?;
        within(cx, "reading the boot device", async {
            let Some(flags) = client.boot_flags().await? else {
                return Ok(BootDeviceState::default());
            };
            let device = match flags.device {
                BootSelector::Other(SUPERMICRO_UEFI_DISK) => Some(BootDevice::Disk),
                other => DEVICES.iter().find(|(_, s)| *s == other).map(|(d, _)| *d),
            };
            Ok(BootDeviceState { device, persistent: device.map(|_| flags.persistent) })
        })
        .await
    }

    async fn set_boot_device(&self, cx: &DriverCx<'_>, device: BootDevice, persistent: bool, mode: BootMode) -> Result<()> {
        let client = self.0.client(cx)?;
        within(cx, "setting the boot device", apply(&self.0, cx, &client, device, persistent, mode)).await
    }

    async fn inject_nmi(&self, cx: &DriverCx<'_>) -> Result<()> {
        let client = self.0.client(cx)?;
        within(cx, "injecting an NMI", async { Ok(client.chassis_control(ChassisControl::Diagnostic).await?) }).await
    }

    async fn sensors(&self, cx: &DriverCx<'_>) -> Result<Json> {
        let client = self.0.client(cx)?;
        within(cx, "reading the sensors", async { Ok(by_type(&client.sensors().await?)) }).await
    }

    async fn health(&self, cx: &DriverCx<'_>) -> Result<Option<String>> {
        let client = self.0.client(cx)?;
        within(cx, "reading the health", async {
            let s = client.chassis_status().await?;
            let word = if s.power_fault || s.overload || s.control_fault {
                "Critical"
            } else if s.cooling_fault || s.drive_fault {
                "Warning"
            } else {
                "OK"
            };
            Ok(Some(word.to_owned()))
        })
        .await
    }

    async fn vendor(&self, cx: &DriverCx<'_>) -> Result<Option<String>> {
        let client = self.0.client(cx)?;
        within(cx, "reading the vendor", async {
            let id = client.device_id().await?.manufacturer;
            Ok(VENDORS.iter().find(|(n, _)| *n == id).map(|(_, name)| (*name).to_owned()))
        })
        .await
    }
}

/// Sensor type → "name (number)" → fields.
fn by_type(readings: &[SensorReading]) -> Json {
    let mut types = JsonMap::new();
    for r in readings {
        let kind = sdr::sensor_type_name(r.record.sensor_type);
        let id = format!("{} ({:#x})", r.record.name, r.record.number);
        let (entity, instance) = r.record.entity;
        let reading = match (r.value, r.record.scale, r.states) {
            (Some(v), Some(s), _) => Some(format!("{} {}", rounded(v), s.unit_name())),
            (_, _, Some(states)) => Some(format!("{states:#06x}")),
            _ => None,
        };
        let mut fields = json!({
            "Sensor ID": id,
            "Entity ID": format!("{entity}.{instance}"),
            "Sensor Type": kind,
            "Sensor Reading": reading,
            "Status": r.status.as_str(),
        });
        if let (Some(s), Some(map)) = (r.record.scale, fields.as_object_mut()) {
            let names = [
                "Lower non-critical",
                "Lower critical",
                "Lower non-recoverable",
                "Upper non-critical",
                "Upper critical",
                "Upper non-recoverable",
            ];
            for (bit, (name, raw)) in names.iter().zip(s.thresholds).enumerate() {
                if s.readable >> bit & 1 == 1
                    && let Some(v) = s.value(raw)
                {
                    map.insert((*name).to_owned(), json!(rounded(v)));
                }
            }
        }
        let group = types.entry(kind).or_insert_with(|| Json::Object(JsonMap::new()));
        if let Some(group) = group.as_object_mut() {
            group.insert(id, fields);
        }
    }
    Json::Object(types)
}

/// Three decimals, without trailing zeroes.
fn rounded(v: f64) -> f64 {
    (v * 1000.0).round() / 1000.0
}
