//! How BMCs of a vendor, model or firmware differ, as data. No other place compares a vendor's name.
//!
//! A row only chooses what is tried *first*; what a BMC refuses is tried in the other known forms anyway (see `boot` and
//! `media`), so a missing row costs one refused request, not a failure. Rows whose behaviour cannot be found out by
//! trying (a machine that hangs) decide alone.

/// What is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Send target, enabled and mode with every boot change, also when unchanged.
    pub full_boot: bool,
    /// Never send `BootSourceOverrideMode` together with a device.
    pub omit_boot_mode: bool,
    /// Only one-time overrides are kept reliably.
    pub once_only: bool,
    /// Boot device goes to `<system>/SD` (the future state resource) with `If-Match`.
    pub boot_at_future_state: bool,
    /// Virtual CD is called `UsbCd` among boot targets.
    pub usb_cd: bool,
    /// Media are inserted by PATCH.
    pub media_by_patch: bool,
    /// `Inserted` and `WriteProtected` must not be sent.
    pub bare_insert: bool,
    /// `ForceRestart` must not be used: power off, wait, power on.
    pub no_force_restart: bool,
    /// Do not change the boot device to disk in UEFI mode (firmware asks a question at the next start).
    pub no_disk_override_in_uefi: bool,
    /// Standard virtual media cannot be booted from.
    pub no_standard_media_boot: bool,
    /// Seconds to leave between off and on.
    pub off_on_pause: u8,
}

const NONE: Flags = Flags {
    full_boot: false,
    omit_boot_mode: false,
    once_only: false,
    boot_at_future_state: false,
    usb_cd: false,
    media_by_patch: false,
    bare_insert: false,
    no_force_restart: false,
    no_disk_override_in_uefi: false,
    no_standard_media_boot: false,
    off_on_pause: 0,
};

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Quirk {
    /// What it is about, and where that is known from.
    pub why: &'static str,
    /// Begin of the manufacturer's name, lower case.
    pub vendor: &'static str,
    /// Part of the model, lower case; empty for all.
    pub model: &'static str,
    /// First firmware major version it is true for.
    pub firmware_from: u32,
    /// First firmware major version it is no longer true for.
    pub firmware_below: u32,
    /// What is special.
    pub flags: Flags,
}

const fn row(vendor: &'static str, model: &'static str, flags: Flags, why: &'static str) -> Quirk {
    Quirk { why, vendor, model, firmware_from: 0, firmware_below: u32::MAX, flags }
}

/// The table. All matching rows apply together.
pub const QUIRKS: &[Quirk] = &[
    row(
        "supermicro",
        "",
        Flags { full_boot: true, usb_cd: true, bare_insert: true, ..NONE },
        "reverts to Once without Enabled and Mode (Redfishtool 106); virtual CD is UsbCd; X11/X12 have Inserted read-only",
    ),
    row("ami", "", Flags { full_boot: true, ..NONE }, "partial boot objects are refused"),
    row("american megatrends", "", Flags { full_boot: true, ..NONE }, "partial boot objects are refused"),
    row(
        "asrockrack",
        "",
        Flags { full_boot: true, boot_at_future_state: true, ..NONE },
        "boot override only on the future state resource (Redfish-Tacklebox 144)",
    ),
    row("nvidia", "", Flags { full_boot: true, ..NONE }, "AMI firmware; If-Match is mandatory (gofish 171)"),
    row(
        "hpe",
        "",
        Flags { omit_boot_mode: true, once_only: false, ..NONE },
        "BootSourceOverrideMode is not writable (community.general 3509)",
    ),
    row("hewlett", "", Flags { omit_boot_mode: true, ..NONE }, "as HPE"),
    row(
        "lenovo",
        "",
        Flags { no_disk_override_in_uefi: true, ..NONE },
        "a boot change in BMC and NVRAM brings up the boot option restoration screen (LP 2053064)",
    ),
    row("lenovo", "sd530", Flags { media_by_patch: true, ..NONE }, "media only by PATCH with Inserted"),
    row("lenovo", "sr675 v3", Flags { no_force_restart: true, off_on_pause: 10, ..NONE }, "ForceRestart hangs the machine"),
    row("lenovo", "sr650 v4", Flags { no_force_restart: true, ..NONE }, "ForceRestart cuts the power of the DPU"),
    Quirk {
        why: "standard media boot was broken before 6.00",
        vendor: "dell",
        model: "",
        firmware_from: 0,
        firmware_below: 6,
        flags: Flags { no_standard_media_boot: true, ..NONE },
    },
];

/// Who made a BMC and what runs on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `Manufacturer` of the system, else `Vendor` of the service root.
    pub vendor: String,
    /// `Model` of the system.
    pub model: String,
    /// `FirmwareVersion` of its BMC, when read.
    pub firmware: Option<String>,
}

impl Identity {
    /// All that applies.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let vendor = self.vendor.to_ascii_lowercase();
        let model = self.model.to_ascii_lowercase();
        let major = self.firmware.as_deref().and_then(major);
        QUIRKS
            .iter()
            .filter(|q| vendor.starts_with(q.vendor) && model.contains(q.model))
            .filter(|q| {
                let all = q.firmware_from == 0 && q.firmware_below == u32::MAX;
                all || major.is_some_and(|m| (q.firmware_from..q.firmware_below).contains(&m))
            })
            .fold(Flags::default(), |all, q| all.and(q.flags))
    }

    /// Whether any row for this vendor looks at the firmware version.
    #[must_use]
    pub fn firmware_matters(&self) -> bool {
        let vendor = self.vendor.to_ascii_lowercase();
        QUIRKS.iter().any(|q| vendor.starts_with(q.vendor) && (q.firmware_from != 0 || q.firmware_below != u32::MAX))
    }
}

impl Flags {
    fn and(self, o: Self) -> Self {
        Self {
            full_boot: self.full_boot || o.full_boot,
            omit_boot_mode: self.omit_boot_mode || o.omit_boot_mode,
            once_only: self.once_only || o.once_only,
            boot_at_future_state: self.boot_at_future_state || o.boot_at_future_state,
            usb_cd: self.usb_cd || o.usb_cd,
            media_by_patch: self.media_by_patch || o.media_by_patch,
            bare_insert: self.bare_insert || o.bare_insert,
            no_force_restart: self.no_force_restart || o.no_force_restart,
            no_disk_override_in_uefi: self.no_disk_override_in_uefi || o.no_disk_override_in_uefi,
            no_standard_media_boot: self.no_standard_media_boot || o.no_standard_media_boot,
            off_on_pause: self.off_on_pause.max(o.off_on_pause),
        }
    }
}

/// First number in a version such as `6.10.30.00` or `iLO 5 v2.72` (there the one after `v`).
fn major(version: &str) -> Option<u32> {
    let from = version.find(" v").map_or(version, |at| &version[at + 2..]);
    let digits: String = from.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(vendor: &str, model: &str, firmware: Option<&str>) -> Flags {
        Identity { vendor: vendor.into(), model: model.into(), firmware: firmware.map(Into::into) }.flags()
    }

    #[test]
    fn rows_match_by_vendor_model_and_firmware() {
        assert!(id("Supermicro", "X12", None).full_boot);
        assert!(id("Lenovo", "ThinkSystem SD530", None).media_by_patch);
        assert!(!id("Lenovo", "ThinkSystem SR630", None).media_by_patch);
        assert!(id("Dell Inc.", "R640", Some("5.10.0.0")).no_standard_media_boot);
        assert!(!id("Dell Inc.", "R640", Some("6.10.30.00")).no_standard_media_boot);
        assert_eq!(id("Contoso", "X", None), Flags::default());
        assert_eq!(id("", "", None), Flags::default());
    }

    #[test]
    fn all_matching_rows_apply_together() {
        let f = id("Lenovo", "ThinkSystem SR675 V3", None);
        assert!(f.no_force_restart && f.no_disk_override_in_uefi && f.off_on_pause == 10);
    }

    #[test]
    fn versions_of_different_looks_have_a_major_number() {
        assert_eq!(major("6.10.30.00"), Some(6));
        assert_eq!(major("iLO 5 v2.72"), Some(2));
        assert_eq!(major("unknown"), None);
    }
}
