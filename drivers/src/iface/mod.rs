//! One trait per interface that differs between BMCs.
//!
//! Boot, deploy, network and the like are chosen by name too, but their work is the conductor's: see [`crate::registry`].

mod devices;
mod firmware;

use std::time::Duration;

use async_trait::async_trait;
use bessemer_model::{
    Json, JsonMap,
    firmware::{BiosSetting, FirmwareComponent},
    node::Node,
    state::{PowerChange, PowerState},
    step::{Replay, Step},
};
use serde::{Deserialize, Serialize};

pub use crate::error::DriverError;
pub use devices::{Console, Indicator, IndicatorState, MethodDecl, Vendor};
pub use firmware::{Bios, Firmware};

/// Result of a driver call.
pub type Result<T, E = DriverError> = std::result::Result<T, E>;

/// What a call may use. The node was read *with* its secrets.
#[derive(Clone, Copy)]
pub struct DriverCx<'a> {
    /// The node.
    pub node: &'a Node,
    /// How long the whole call may take.
    pub deadline: Duration,
}

/// A key that an implementation reads, with a description for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key of `driver_info`.
    pub key: &'static str,
    /// What it means; begins with "Required." or "Optional.".
    pub text: &'static str,
}

/// A step that an implementation offers.
#[derive(Clone, Debug)]
pub struct StepDecl {
    /// Its name.
    pub name: &'static str,
    /// Priority in automated cleaning; 0 = only when asked for.
    pub clean_priority: Option<u32>,
    /// Priority in deployment.
    pub deploy_priority: Option<u32>,
    /// Whether it can be used in servicing.
    pub service: bool,
    /// Whether it can run in verification, with its priority.
    pub verify_priority: Option<u32>,
    /// Arguments: name, required.
    pub args: &'static [(&'static str, bool)],
    /// Whether `abort` may stop it.
    pub abortable: bool,
    /// Whether it needs the ramdisk.
    pub requires_ramdisk: bool,
    /// What to do when it is found started.
    pub replay: Replay,
}

impl StepDecl {
    /// A step that is only run when asked for by name, needs no ramdisk and may be repeated.
    #[must_use]
    pub const fn on_request(name: &'static str) -> Self {
        Self {
            name,
            clean_priority: Some(0),
            deploy_priority: Some(0),
            service: true,
            verify_priority: None,
            args: &[],
            abortable: false,
            requires_ramdisk: false,
            replay: Replay::Idempotent,
        }
    }
}

/// A restart that a step needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    /// When to look at the machine afterwards.
    pub poll: Duration,
    /// What the step must remember.
    pub note: Json,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// Done; go on.
    Done,
    /// Wait for the agent's next word, or for `poll` to say more after this time.
    Wait {
        /// When to call the step again; `None` = only on a heartbeat.
        poll: Option<Duration>,
        /// What the step must remember.
        note: Json,
    },
    /// The machine must be restarted, with its ramdisk if one is up; the step goes on afterwards.
    Restart(Restart),
    /// The BIOS settings as they are now, all of them. Then as [`StepOutcome::Done`].
    BiosSettings(Vec<BiosSetting>),
    /// The versions of firmware as they are now. Then as [`StepOutcome::Done`].
    Firmware(Vec<FirmwareComponent>),
    /// The RAID configuration as it is now; empty when there is none. Then as [`StepOutcome::Done`].
    RaidConfig(JsonMap),
}

/// Power (`drivers.md` section 2).
#[async_trait]
pub trait Power: Send + Sync {
    /// Keys that it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks the node's configuration without asking the BMC.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, node: &Node) -> Result<()>;
    /// Reads the power; `None` where nothing can tell.
    ///
    /// # Errors
    /// What the BMC or the network says.
    async fn state(&self, cx: &DriverCx<'_>) -> Result<Option<PowerState>>;
    /// Changes the power and waits, at most `wait`, until the BMC says it is reached. A change to the present state is no error.
    ///
    /// # Errors
    /// As above; `TimedOut` when the state is not reached.
    async fn set(&self, cx: &DriverCx<'_>, change: PowerChange, wait: Duration) -> Result<()>;
    /// Changes that it can make.
    fn supported(&self) -> &'static [PowerChange] {
        &[PowerChange::On, PowerChange::Off, PowerChange::Reboot]
    }
    /// Steps that it offers.
    fn steps(&self) -> &'static [StepDecl] {
        &[]
    }
}

/// A device to boot from, as named on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "named as on the wire")]
pub enum BootDevice {
    Pxe,
    Disk,
    Cdrom,
    Bios,
    Safe,
    Wanboot,
    Iscsiboot,
    Floppy,
    Uefihttp,
}

impl BootDevice {
    /// Every device.
    pub const ALL: &'static [Self] =
        &[Self::Pxe, Self::Disk, Self::Cdrom, Self::Bios, Self::Safe, Self::Wanboot, Self::Iscsiboot, Self::Floppy, Self::Uefihttp];
    /// Name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "pxe",
            Self::Disk => "disk",
            Self::Cdrom => "cdrom",
            Self::Bios => "bios",
            Self::Safe => "safe",
            Self::Wanboot => "wanboot",
            Self::Iscsiboot => "iscsiboot",
            Self::Floppy => "floppy",
            Self::Uefihttp => "uefihttp",
        }
    }
    /// The device with this name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.as_str() == s)
    }
}

/// Firmware mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootMode {
    /// Legacy BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl BootMode {
    /// Name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
    /// The mode with this name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "bios" => Some(Self::Bios),
            "uefi" => Some(Self::Uefi),
            _ => None,
        }
    }
}

/// The boot device as the BMC tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootDeviceState {
    /// The device; `None` when the BMC does not say.
    pub device: Option<BootDevice>,
    /// Whether it outlives the next boot.
    pub persistent: Option<bool>,
}

fn unsupported<T>(what: &str) -> Result<T> {
    Err(DriverError::Unsupported(format!("this management interface cannot {what}")))
}

/// Boot device, boot mode, sensors and the like (`drivers.md` section 2).
#[async_trait]
pub trait Management: Send + Sync {
    /// Keys that it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks the node's configuration without asking the BMC.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, node: &Node) -> Result<()>;
    /// Devices that can be set.
    fn supported_boot_devices(&self, node: &Node) -> Vec<BootDevice>;
    /// Reads the boot device.
    ///
    /// # Errors
    /// What the BMC or the network says.
    async fn boot_device(&self, cx: &DriverCx<'_>) -> Result<BootDeviceState>;
    /// Sets the boot device. `mode` is the firmware mode the node boots in, for BMCs that must be told with the device.
    ///
    /// # Errors
    /// As above; `Invalid` for a device that is not supported.
    async fn set_boot_device(&self, cx: &DriverCx<'_>, device: BootDevice, persistent: bool, mode: BootMode) -> Result<()>;
    /// Reads the boot mode.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn boot_mode(&self, _cx: &DriverCx<'_>) -> Result<Option<BootMode>> {
        unsupported("read the boot mode")
    }
    /// Sets the boot mode.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn set_boot_mode(&self, _cx: &DriverCx<'_>, _mode: BootMode) -> Result<()> {
        unsupported("set the boot mode")
    }
    /// Reads secure boot.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn secure_boot(&self, _cx: &DriverCx<'_>) -> Result<Option<bool>> {
        unsupported("read secure boot")
    }
    /// Sets secure boot.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn set_secure_boot(&self, _cx: &DriverCx<'_>, _on: bool) -> Result<()> {
        unsupported("set secure boot")
    }
    /// Sends an NMI.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn inject_nmi(&self, _cx: &DriverCx<'_>) -> Result<()> {
        unsupported("inject an NMI")
    }
    /// Reads the sensors: type → id → fields, as Ironic's notifications carry them.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn sensors(&self, _cx: &DriverCx<'_>) -> Result<Json> {
        unsupported("read sensors")
    }
    /// `OK`, `Warning` or `Critical`.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn health(&self, _cx: &DriverCx<'_>) -> Result<Option<String>> {
        unsupported("read the health")
    }
    /// Lamps of the machine, of one component or of all.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn indicators(&self, _cx: &DriverCx<'_>, _component: Option<&str>) -> Result<Vec<Indicator>> {
        unsupported("tell indicators")
    }
    /// State of a lamp.
    ///
    /// # Errors
    /// `Unsupported` by default; `Invalid` for one that the machine does not have.
    async fn indicator(&self, _cx: &DriverCx<'_>, _component: &str, _name: &str) -> Result<IndicatorState> {
        unsupported("tell the state of indicators")
    }
    /// Sets a lamp.
    ///
    /// # Errors
    /// As above, and for a lamp or state that cannot be set.
    async fn set_indicator(&self, _cx: &DriverCx<'_>, _component: &str, _name: &str, _state: IndicatorState) -> Result<()> {
        unsupported("set indicators")
    }
    /// Vendor of the BMC or machine.
    ///
    /// # Errors
    /// `Unsupported` by default.
    async fn vendor(&self, _cx: &DriverCx<'_>) -> Result<Option<String>> {
        unsupported("detect the vendor")
    }
    /// Steps that it offers.
    fn steps(&self) -> &'static [StepDecl] {
        &[]
    }
}

/// Insertable media of a BMC.
#[async_trait]
pub trait VirtualMedia: Send + Sync {
    /// Checks the node's configuration without asking the BMC.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, node: &Node) -> Result<()>;
    /// Ejects what is inserted in a drive for `device`, then inserts the image at `url`.
    ///
    /// # Errors
    /// What the BMC says.
    async fn insert(&self, cx: &DriverCx<'_>, device: BootDevice, url: &str) -> Result<()>;
    /// Ejects; no error when nothing is inserted. `None` = every drive.
    ///
    /// # Errors
    /// What the BMC says.
    async fn eject(&self, cx: &DriverCx<'_>, device: Option<BootDevice>) -> Result<()>;
    /// `[{media_types, inserted, image}]`.
    ///
    /// # Errors
    /// What the BMC says.
    async fn list(&self, cx: &DriverCx<'_>) -> Result<Vec<Json>>;
}

/// What out-of-band inspection found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspected {
    /// In the shape of `agent.md` section 8; `None` when the driver keeps none.
    pub inventory: Option<Json>,
    /// Further data.
    pub plugin_data: JsonMap,
    /// Properties to set (`memory_mb`, `cpu_arch`, `local_gb`, `vendor`).
    pub properties: JsonMap,
    /// MAC addresses of network cards to make ports of.
    pub macs: Vec<String>,
}

/// Out-of-band inspection. (Inspection through the ramdisk is the conductor's own.)
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Keys that it reads.
    fn properties(&self) -> &'static [Property];
    /// Checks the node's configuration.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, node: &Node) -> Result<()>;
    /// Inspects.
    ///
    /// # Errors
    /// What the BMC says.
    async fn inspect(&self, cx: &DriverCx<'_>) -> Result<Inspected>;
}

/// An implementation whose only work are steps (bios, raid, firmware, vendor).
#[async_trait]
pub trait Steps: Send + Sync {
    /// Keys that it reads.
    fn properties(&self) -> &'static [Property] {
        &[]
    }
    /// Checks the node's configuration.
    ///
    /// # Errors
    /// Names the key and the remedy.
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }
    /// Steps that it offers.
    fn steps(&self) -> &'static [StepDecl];
    /// Runs one of them.
    ///
    /// # Errors
    /// What the hardware says; `Unsupported` for a step that it does not offer.
    async fn run(&self, cx: &DriverCx<'_>, step: &Step) -> Result<StepOutcome>;
    /// Goes on with a step that waited or had the machine restarted; `note` is what it wanted to remember.
    ///
    /// # Errors
    /// As for [`Self::run`].
    async fn resume(&self, cx: &DriverCx<'_>, step: &Step, _note: &Json) -> Result<StepOutcome> {
        self.run(cx, step).await
    }
}
