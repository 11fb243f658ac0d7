//! Habits of BMCs, as data: each field is one way in which real ones differ.

/// What a BMC thinks of ETags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtagHabit {
    /// Gives none; refuses every `If-Match`.
    Refused,
    /// Gives none; ignores `If-Match`.
    Ignored,
    /// Gives a strong one; a wrong `If-Match` is refused, a missing one is fine.
    Strong,
    /// Gives a weak one and wants it back just so.
    Weak,
    /// Gives a weak one and wants it back without `W/`.
    WeakWantsStrong,
    /// Gives an empty one and refuses that.
    Empty,
    /// Wants `If-Match` with every change; `*` will do. Gives an ETag in the body only.
    Required,
}

/// Where a boot override has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootPlace {
    /// To the system.
    System,
    /// To the settings resource named by `@Redfish.Settings`; the system refuses.
    Settings,
    /// A settings resource shows it and refuses it; the system takes it.
    SystemDespiteSettings,
    /// To `<system>/SD`, with `If-Match`; the system answers `OperationSupportedInFutureStateURI`.
    FutureState,
}

/// What is made of a boot object without all three properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Missing ones keep their value.
    Fine,
    /// A missing `BootSourceOverrideEnabled` counts as `Once`.
    BecomesOnce,
    /// Refused without a useful word.
    Refused,
}

/// What is thought of `BootSourceOverrideMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeHabit {
    /// Writable.
    Writable,
    /// Shown, not writable.
    ReadOnly,
    /// Must come with every target.
    Required,
    /// Neither shown nor known.
    Absent,
}

/// Answer to a power-off of a machine that is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffWhenOff {
    /// 204.
    Fine,
    /// 409.
    Conflict,
}

/// Where virtual media are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaPlace {
    /// Below the system.
    System,
    /// Below the BMC.
    Manager,
}

/// What there is of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionHabit {
    /// As the specification says.
    Ordinary,
    /// Not named in the service root except in `Links.Sessions`; the service itself wants authentication to be read.
    OnlyLinked,
    /// No session service: 404.
    Absent,
    /// Always full: 503 with Dell's message.
    Full,
}

/// One BMC's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// `Manufacturer` of the system.
    pub manufacturer: &'static str,
    /// `Model` of the system.
    pub model: &'static str,
    /// `FirmwareVersion` of the BMC.
    pub firmware: &'static str,
    /// ETags.
    pub etag: EtagHabit,
    /// Sessions.
    pub sessions: SessionHabit,
    /// Place of the boot override.
    pub boot_place: BootPlace,
    /// Incomplete boot objects.
    pub partial: Partial,
    /// Boot mode.
    pub mode: ModeHabit,
    /// Refuses values that are equal to the present ones.
    pub refuses_unchanged: bool,
    /// `Continuous` is refused.
    pub once_only: bool,
    /// Setting a boot device alone sets the mode to Legacy.
    pub mode_flips: bool,
    /// Name of the CD among boot targets.
    pub cd_target: &'static str,
    /// Boot changes refused because of the power-on self test, after each power on.
    pub post_refusals: u32,
    /// `On` refused this often after each power off.
    pub on_conflicts: u32,
    /// Off when off.
    pub off_when_off: OffWhenOff,
    /// Power changes and inserts are tasks.
    pub tasks: bool,
    /// Allowed reset types are in an ActionInfo resource.
    pub action_info: bool,
    /// Place of virtual media.
    pub media_place: MediaPlace,
    /// `MediaTypes` of the CD drive.
    pub cd_types: &'static [&'static str],
    /// Media have no actions and are changed by PATCH with `Inserted`.
    pub media_by_patch: bool,
    /// `Inserted` and `WriteProtected` are refused.
    pub media_bare: bool,
    /// `TransferProtocolType` is required.
    pub media_protocol: bool,
    /// `UserName` and `Password` are required; the refusal is no Redfish error.
    pub media_credentials: bool,
    /// Inserts fail with 500 this often after each eject.
    pub media_settling: u32,
    /// Ejected media go on being shown.
    pub media_stale: bool,
    /// `@Message.ExtendedInfo` is an object.
    pub info_is_object: bool,
    /// `Links.ManagedBy` is missing.
    pub no_managed_by: bool,
}

/// A BMC by the book.
pub const ORDINARY: Profile = Profile {
    manufacturer: "Contoso",
    model: "3500RX",
    firmware: "1.00",
    etag: EtagHabit::Strong,
    sessions: SessionHabit::Ordinary,
    boot_place: BootPlace::System,
    partial: Partial::Fine,
    mode: ModeHabit::Writable,
    refuses_unchanged: false,
    once_only: false,
    mode_flips: false,
    cd_target: "Cd",
    post_refusals: 0,
    on_conflicts: 0,
    off_when_off: OffWhenOff::Fine,
    tasks: false,
    action_info: false,
    media_place: MediaPlace::System,
    cd_types: &["CD", "DVD"],
    media_by_patch: false,
    media_bare: false,
    media_protocol: false,
    media_credentials: false,
    media_settling: 0,
    media_stale: false,
    info_is_object: false,
    no_managed_by: false,
};

/// Dell iDRAC9: 409 when off, media under the BMC, ejects that take a while, one message instead of a list.
pub const DELL: Profile = Profile {
    manufacturer: "Dell Inc.",
    model: "PowerEdge R640",
    firmware: "6.10.30.00",
    off_when_off: OffWhenOff::Conflict,
    media_place: MediaPlace::Manager,
    media_settling: 2,
    media_stale: true,
    info_is_object: true,
    ..ORDINARY
};

/// Dell 17th generation (iDRAC10): `On` refused right after off; sessions run out.
pub const DELL_17G: Profile =
    Profile { model: "PowerEdge R670", firmware: "1.20.25.00", on_conflicts: 3, sessions: SessionHabit::Full, ..DELL };

/// HPE iLO: boot mode read only, unchanged values refused, nothing may be changed during the self test.
pub const HPE: Profile = Profile {
    manufacturer: "HPE",
    model: "ProLiant DL360 Gen10",
    firmware: "iLO 5 v2.72",
    etag: EtagHabit::Weak,
    mode: ModeHabit::ReadOnly,
    refuses_unchanged: true,
    post_refusals: 3,
    sessions: SessionHabit::OnlyLinked,
    action_info: true,
    media_place: MediaPlace::Manager,
    ..ORDINARY
};

/// Supermicro X12: whole boot objects, `UsbCd`, bare inserts.
pub const SUPERMICRO: Profile = Profile {
    manufacturer: "Supermicro",
    model: "SYS-120C-TN10R",
    firmware: "01.01.20",
    etag: EtagHabit::WeakWantsStrong,
    partial: Partial::BecomesOnce,
    cd_target: "UsbCd",
    media_bare: true,
    media_place: MediaPlace::Manager,
    ..ORDINARY
};

/// AMI (NVIDIA, Lenovo AMD): `If-Match` mandatory, whole boot objects.
pub const AMI: Profile = Profile {
    manufacturer: "AMI",
    model: "DGXH100",
    firmware: "24.01",
    etag: EtagHabit::Required,
    partial: Partial::Refused,
    mode: ModeHabit::Required,
    ..ORDINARY
};

/// ASRock Rack: boot override on the future state resource.
pub const ASROCKRACK: Profile = Profile {
    manufacturer: "ASRockRack",
    model: "1U4LW-X570",
    firmware: "12.49",
    etag: EtagHabit::Required,
    boot_place: BootPlace::FutureState,
    partial: Partial::Refused,
    ..ORDINARY
};

/// Lenovo XClarity.
pub const LENOVO: Profile =
    Profile { manufacturer: "Lenovo", model: "ThinkSystem SR630", firmware: "8.20", etag: EtagHabit::Empty, tasks: true, ..ORDINARY };

/// Lenovo SD530: media by PATCH.
pub const LENOVO_SD530: Profile = Profile { model: "ThinkSystem SD530", media_by_patch: true, tasks: false, ..LENOVO };

/// Nokia: settings resource, transfer protocol required.
pub const NOKIA: Profile = Profile {
    manufacturer: "Nokia Solutions and Networks",
    model: "AE-SER-001",
    firmware: "4.13",
    etag: EtagHabit::Refused,
    boot_place: BootPlace::Settings,
    once_only: true,
    media_protocol: true,
    ..ORDINARY
};

/// Cisco: DVDs only, no boot mode, no ManagedBy, credentials for every image, a settings resource that takes nothing.
pub const CISCO: Profile = Profile {
    manufacturer: "Cisco Systems Inc",
    model: "UCSC-C240-M5SX",
    firmware: "4.1(3)",
    etag: EtagHabit::Ignored,
    sessions: SessionHabit::Absent,
    boot_place: BootPlace::SystemDespiteSettings,
    mode: ModeHabit::Absent,
    cd_types: &["DVD"],
    media_credentials: true,
    media_place: MediaPlace::Manager,
    no_managed_by: true,
    ..ORDINARY
};
