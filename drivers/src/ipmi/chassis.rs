//! Chassis and controller commands: power, boot options, device identity (IPMI 2.0 sections 20 and 28).

use super::bmc::Resend;
use super::client::IpmiClient;
use super::codec::PacketError;
use super::error::IpmiError;

const NETFN_CHASSIS: u8 = 0x00;
const NETFN_APP: u8 = 0x06;
const CMD_STATUS: u8 = 0x01;
const CMD_CONTROL: u8 = 0x02;
const CMD_SET_BOOT: u8 = 0x08;
const CMD_GET_BOOT: u8 = 0x09;
const CMD_DEVICE_ID: u8 = 0x01;
const CMD_COLD_RESET: u8 = 0x02;
const CMD_WARM_RESET: u8 = 0x03;

/// Boot option parameters (table 28-14).
const PARAM_IN_PROGRESS: u8 = 0;
const PARAM_VALID_CLEAR: u8 = 3;
const PARAM_INFO_ACK: u8 = 4;
const PARAM_FLAGS: u8 = 5;

/// What Get Device ID tells (20.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceId {
    /// Device number of the maker.
    pub device_id: u8,
    /// Device revision.
    pub revision: u8,
    /// Firmware version, major and minor.
    pub firmware: (u8, u8),
    /// The BMC is in firmware update or initialisation and answers little.
    pub updating: bool,
    /// IPMI version, major and minor.
    pub ipmi: (u8, u8),
    /// Maker, IANA enterprise number (0: not said).
    pub manufacturer: u32,
    /// Product number of the maker.
    pub product: u16,
}

/// What Get Chassis Status tells (28.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChassisStatus {
    /// The system has power.
    pub on: bool,
    /// Shut down because of a power overload.
    pub overload: bool,
    /// Main power supply failed.
    pub power_fault: bool,
    /// Power control failed.
    pub control_fault: bool,
    /// A fan or cooling failed.
    pub cooling_fault: bool,
    /// A drive failed.
    pub drive_fault: bool,
    /// What happens when mains power returns.
    pub restore_policy: RestorePolicy,
}

/// What happens when mains power returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePolicy {
    /// Stays off.
    Off,
    /// As it was.
    Previous,
    /// Powers on.
    On,
    /// Not known.
    Unknown,
}

/// Chassis Control (28.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ChassisControl {
    /// Cut the power.
    Off = 0,
    /// Power on.
    On = 1,
    /// Off and on again. Many BMCs refuse it when off; never sent twice.
    Cycle = 2,
    /// Hardware reset; never sent twice.
    Reset = 3,
    /// Diagnostic interrupt; never sent twice.
    Diagnostic = 4,
    /// Ask the operating system to shut down (ACPI).
    Soft = 5,
}

impl ChassisControl {
    const fn resend(self) -> Resend {
        match self {
            Self::Off | Self::On | Self::Soft => Resend::Yes,
            Self::Cycle | Self::Reset | Self::Diagnostic => Resend::Never,
        }
    }
}

/// Boot device selector (table 28-14, parameter 5, data 2 bits 5 to 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootSelector {
    /// No override.
    None,
    /// Network.
    Pxe,
    /// Default disk.
    Disk,
    /// Default disk, safe mode.
    SafeDisk,
    /// Diagnostic partition.
    Diagnostic,
    /// Optical drive.
    Cdrom,
    /// Firmware setup.
    Bios,
    /// Any other selector, as the whole byte.
    Other(u8),
}

impl BootSelector {
    /// The byte on the wire.
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Self::None => 0x00,
            Self::Pxe => 0x04,
            Self::Disk => 0x08,
            Self::SafeDisk => 0x0c,
            Self::Diagnostic => 0x10,
            Self::Cdrom => 0x14,
            Self::Bios => 0x18,
            Self::Other(b) => b,
        }
    }

    /// Reads the byte; the other bits of it (CMOS clear, keyboard lock) do not matter.
    #[must_use]
    pub const fn from_wire(b: u8) -> Self {
        match b & 0x3c {
            0x00 => Self::None,
            0x04 => Self::Pxe,
            0x08 => Self::Disk,
            0x0c => Self::SafeDisk,
            0x10 => Self::Diagnostic,
            0x14 => Self::Cdrom,
            0x18 => Self::Bios,
            other => Self::Other(other),
        }
    }
}

/// Boot flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFlags {
    /// Device.
    pub device: BootSelector,
    /// For every start, not only the next.
    pub persistent: bool,
    /// Start as UEFI.
    pub efi: bool,
}

impl BootFlags {
    /// First two data bytes of parameter 5: valid, persistent and EFI bits, then the selector.
    #[must_use]
    pub const fn wire(self) -> [u8; 2] {
        let mut flags = 0x80;
        if self.persistent {
            flags |= 0x40;
        }
        if self.efi {
            flags |= 0x20;
        }
        [flags, self.device.wire()]
    }
}

impl IpmiClient {
    fn short(&self, netfn: u8, cmd: u8) -> IpmiError {
        self.bad_answer(netfn, cmd, PacketError::Short)
    }

    /// Get Device ID. Answers that leave out the maker are accepted.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn device_id(&self) -> Result<DeviceId, IpmiError> {
        let d = self.raw(NETFN_APP, CMD_DEVICE_ID, &[]).await?;
        let [device_id, revision, major, minor, ipmi, rest @ ..] = &d[..] else {
            return Err(self.short(NETFN_APP, CMD_DEVICE_ID));
        };
        let byte = |i: usize| rest.get(i).copied().unwrap_or(0);
        Ok(DeviceId {
            device_id: *device_id,
            revision: revision & 0x0f,
            // The minor version is two decimal digits in one byte.
            firmware: (major & 0x7f, (minor >> 4) * 10 + (minor & 0x0f)),
            updating: major & 0x80 != 0,
            ipmi: (ipmi & 0x0f, ipmi >> 4),
            manufacturer: u32::from_le_bytes([byte(1), byte(2), byte(3), 0]) & 0x000f_ffff,
            product: u16::from_le_bytes([byte(4), byte(5)]),
        })
    }

    /// Get Chassis Status.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn chassis_status(&self) -> Result<ChassisStatus, IpmiError> {
        let d = self.raw(NETFN_CHASSIS, CMD_STATUS, &[]).await?;
        let Some(power) = d.first() else {
            return Err(self.short(NETFN_CHASSIS, CMD_STATUS));
        };
        let misc = d.get(2).copied().unwrap_or(0);
        Ok(ChassisStatus {
            on: power & 0x01 != 0,
            overload: power & 0x02 != 0,
            power_fault: power & 0x08 != 0,
            control_fault: power & 0x10 != 0,
            cooling_fault: misc & 0x08 != 0,
            drive_fault: misc & 0x04 != 0,
            restore_policy: match power >> 5 & 3 {
                0 => RestorePolicy::Off,
                1 => RestorePolicy::Previous,
                2 => RestorePolicy::On,
                _ => RestorePolicy::Unknown,
            },
        })
    }

    /// Chassis Control. The BMC answers before the power changes: poll [`IpmiClient::chassis_status`].
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn chassis_control(&self, what: ChassisControl) -> Result<(), IpmiError> {
        self.command(NETFN_CHASSIS, CMD_CONTROL, &[what as u8], what.resend()).await.map(drop)
    }

    async fn set_boot_option(&self, parameter: u8, data: &[u8]) -> Result<(), IpmiError> {
        let mut bytes = vec![parameter];
        bytes.extend_from_slice(data);
        self.raw(NETFN_CHASSIS, CMD_SET_BOOT, &bytes).await.map(drop)
    }

    /// As [`IpmiClient::set_boot_option`], for parameters that many BMCs lack: an error of the BMC is only noted.
    async fn try_boot_option(&self, parameter: u8, data: &[u8]) -> Result<(), IpmiError> {
        match self.set_boot_option(parameter, data).await {
            Err(IpmiError::Completion { code, .. }) => {
                tracing::debug!(host = %self.endpoint().host, parameter, code, "BMC does not take a boot option");
                Ok(())
            }
            other => other,
        }
    }

    /// Keeps the BMC from dropping boot flags 60 s after they were set (valid bit clearing, parameter 3).
    /// BMCs that refuse this are left as they are.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn disable_boot_timeout(&self) -> Result<(), IpmiError> {
        self.try_boot_option(PARAM_VALID_CLEAR, &[0x08]).await
    }

    /// Sets the boot flags, within the set-in-progress guard (28.12). Device byte as given, so that vendors' own selectors fit.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), IpmiError> {
        // In progress; information acknowledged by nobody yet (BIOS POST bit written 1).
        self.try_boot_option(PARAM_IN_PROGRESS, &[0x01]).await?;
        self.try_boot_option(PARAM_INFO_ACK, &[0x01, 0x01]).await?;
        let [first, device] = flags.wire();
        let done = self.set_boot_option(PARAM_FLAGS, &[first, device, 0, 0, 0]).await;
        if done.is_ok() {
            // Commit, where the BMC knows it.
            self.try_boot_option(PARAM_IN_PROGRESS, &[0x02]).await?;
        }
        self.try_boot_option(PARAM_IN_PROGRESS, &[0x00]).await?;
        done
    }

    /// Reads the boot flags; `None` when none are valid.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn boot_flags(&self) -> Result<Option<BootFlags>, IpmiError> {
        let d = self.raw(NETFN_CHASSIS, CMD_GET_BOOT, &[PARAM_FLAGS, 0, 0]).await?;
        let [_, parameter, first, device, ..] = &d[..] else {
            return Err(self.short(NETFN_CHASSIS, CMD_GET_BOOT));
        };
        // Bit 7 of the parameter byte: the parameter is marked invalid.
        if parameter & 0x80 != 0 || first & 0x80 == 0 {
            return Ok(None);
        }
        Ok(Some(BootFlags { device: BootSelector::from_wire(*device), persistent: first & 0x40 != 0, efi: first & 0x20 != 0 }))
    }

    /// Restarts the BMC itself (not the system). Its sessions end; a missing answer counts as done, since many BMCs never send it.
    ///
    /// # Errors
    /// See [`IpmiError`].
    pub async fn mc_reset(&self, warm: bool) -> Result<(), IpmiError> {
        let cmd = if warm { CMD_WARM_RESET } else { CMD_COLD_RESET };
        match self.command(NETFN_APP, cmd, &[], Resend::Never).await {
            Ok(_) | Err(IpmiError::OutcomeUnknown { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
