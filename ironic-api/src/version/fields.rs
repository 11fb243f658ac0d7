//! Fields of every resource and the microversion that brought each (`api.md` sections 3.3, 3.7, 4 and 7 to 10).
//!
//! Rows only. A field is read and written from the same microversion on.

use super::table::MAX;

/// May be given when creating.
pub const CREATE: u16 = 1;
/// First segment of a path in a patch.
pub const PATCH: u16 = 2;
/// Only shown: cannot be asked for with `?fields=` and is left out when fields are asked for (`links` is always shown).
pub const SHOWN: u16 = 4;
/// Cannot be sorted by.
pub const UNSORTABLE: u16 = 8;
/// A patch may name it below its microversion (the answer does not show it).
pub const OPEN_PATCH: u16 = 16;
/// Below its microversion it is unknown (400) rather than too new (406); sorting by it is possible all the same.
pub const UNKNOWN_BEFORE: u16 = 32;
/// Below its microversion it may be given when creating, sorted by and asked for with `?fields=` (an answer about one leaves it out).
pub const OPEN: u16 = 64;
/// Lists show it whatever the microversion.
pub const LISTED: u16 = 128;
/// With [`UNKNOWN_BEFORE`]: when creating it is too new nevertheless.
pub const TOO_NEW_TO_CREATE: u16 = 256;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct FieldRule {
    /// Name on the wire.
    pub name: &'static str,
    pub(super) since: u16,
    pub(super) flags: u16,
}

impl FieldRule {
    /// Whether the flag is set.
    #[must_use]
    pub const fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

macro_rules! resource {
    ($(#[$doc:meta])* $resource:ident $([$($column:literal)*])?: $($variant:ident $wire:literal since $since:literal $($flag:ident)*;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "named after the fields")]
        pub enum $resource { $($variant,)* }

        impl super::FieldTable for $resource {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            const COLUMNS: &'static [&'static str] = &[$($($column,)*)?];
            const RULES: &'static [FieldRule] = &[$(FieldRule { name: $wire, since: $since, flags: 0 $(| $flag)* },)*];
            fn index(self) -> u8 { self as u8 }
        }

        const _: () = {
            let mut i = 0;
            let since: &[u16] = &[$($since,)*];
            assert!(since.len() <= 128, "a field set is a u128");
            while i < since.len() {
                assert!(since[i] >= 1 && since[i] <= MAX);
                i += 1;
            }
        };
    };
}

resource! {
    /// Fields of a node.
    NodeField ["version" "chassis_id" "allocation_id" "conductor_affinity"]:
    Uuid "uuid" since 1 CREATE;
    CreatedAt "created_at" since 1 SHOWN;
    UpdatedAt "updated_at" since 1 SHOWN;
    Name "name" since 5 CREATE PATCH;
    Driver "driver" since 1 CREATE PATCH;
    DriverInfo "driver_info" since 1 CREATE PATCH UNSORTABLE;
    DriverInternalInfo "driver_internal_info" since 3 UNSORTABLE;
    Properties "properties" since 1 CREATE PATCH UNSORTABLE;
    Extra "extra" since 1 CREATE PATCH UNSORTABLE;
    InstanceInfo "instance_info" since 1 CREATE PATCH UNSORTABLE;
    InstanceUuid "instance_uuid" since 1 CREATE PATCH;
    InstanceName "instance_name" since 104 CREATE PATCH;
    ChassisUuid "chassis_uuid" since 1 CREATE PATCH UNSORTABLE;
    PowerState "power_state" since 1;
    TargetPowerState "target_power_state" since 1;
    ProvisionState "provision_state" since 1;
    TargetProvisionState "target_provision_state" since 1;
    ProvisionUpdatedAt "provision_updated_at" since 1;
    LastError "last_error" since 1;
    Maintenance "maintenance" since 1 CREATE PATCH;
    MaintenanceReason "maintenance_reason" since 1;
    Fault "fault" since 42;
    Reservation "reservation" since 1;
    ConsoleEnabled "console_enabled" since 1 CREATE;
    InspectionStartedAt "inspection_started_at" since 6;
    InspectionFinishedAt "inspection_finished_at" since 6;
    CleanStep "clean_step" since 7 UNSORTABLE;
    DeployStep "deploy_step" since 44 UNSORTABLE;
    ServiceStep "service_step" since 87 UNSORTABLE;
    RaidConfig "raid_config" since 12 UNSORTABLE;
    TargetRaidConfig "target_raid_config" since 12 UNSORTABLE;
    ResourceClass "resource_class" since 21 CREATE PATCH;
    NetworkInterface "network_interface" since 20 CREATE PATCH;
    BootInterface "boot_interface" since 31 CREATE PATCH;
    ConsoleInterface "console_interface" since 31 CREATE PATCH;
    DeployInterface "deploy_interface" since 31 CREATE PATCH;
    InspectInterface "inspect_interface" since 31 CREATE PATCH;
    ManagementInterface "management_interface" since 31 CREATE PATCH;
    PowerInterface "power_interface" since 31 CREATE PATCH;
    RaidInterface "raid_interface" since 31 CREATE PATCH;
    VendorInterface "vendor_interface" since 31 CREATE PATCH;
    StorageInterface "storage_interface" since 33 CREATE PATCH;
    RescueInterface "rescue_interface" since 38 CREATE PATCH;
    BiosInterface "bios_interface" since 40 CREATE PATCH;
    FirmwareInterface "firmware_interface" since 86 CREATE PATCH;
    Traits "traits" since 37 UNSORTABLE;
    ConductorGroup "conductor_group" since 46 CREATE PATCH;
    AutomatedClean "automated_clean" since 47 CREATE PATCH;
    Protected "protected" since 48 PATCH;
    ProtectedReason "protected_reason" since 48 PATCH;
    Conductor "conductor" since 49 UNSORTABLE;
    Owner "owner" since 50 CREATE PATCH;
    Description "description" since 51 CREATE PATCH;
    AllocationUuid "allocation_uuid" since 52 UNSORTABLE;
    Retired "retired" since 61 CREATE PATCH;
    RetiredReason "retired_reason" since 61 CREATE PATCH;
    Lessee "lessee" since 65 CREATE PATCH;
    NetworkData "network_data" since 66 CREATE PATCH UNSORTABLE;
    BootMode "boot_mode" since 75 CREATE;
    SecureBoot "secure_boot" since 75 CREATE;
    Shard "shard" since 82 CREATE PATCH;
    ParentNode "parent_node" since 83 CREATE PATCH;
    DisablePowerOff "disable_power_off" since 95 CREATE PATCH;
    Health "health" since 109;
    Links "links" since 1 SHOWN;
    Ports "ports" since 1 SHOWN;
    States "states" since 14 SHOWN;
    Portgroups "portgroups" since 24 SHOWN;
    Volume "volume" since 32 SHOWN;
}

resource! {
    /// Fields of `GET states`.
    StatesField:
    ConsoleEnabled "console_enabled" since 1;
    LastError "last_error" since 1;
    PowerState "power_state" since 1;
    ProvisionState "provision_state" since 1;
    TargetPowerState "target_power_state" since 1;
    TargetProvisionState "target_provision_state" since 1;
    ProvisionUpdatedAt "provision_updated_at" since 1;
    RaidConfig "raid_config" since 12;
    TargetRaidConfig "target_raid_config" since 12;
    BootMode "boot_mode" since 75;
    SecureBoot "secure_boot" since 75;
}

resource! {
    /// Fields of a port.
    PortField ["version" "node_id" "portgroup_id"]:
    Uuid "uuid" since 1 CREATE;
    CreatedAt "created_at" since 1;
    UpdatedAt "updated_at" since 1;
    Address "address" since 1 CREATE PATCH;
    NodeUuid "node_uuid" since 1 CREATE PATCH;
    Extra "extra" since 1 CREATE PATCH UNSORTABLE;
    InternalInfo "internal_info" since 18 UNSORTABLE OPEN;
    LocalLinkConnection "local_link_connection" since 19 CREATE PATCH UNSORTABLE;
    PxeEnabled "pxe_enabled" since 19 CREATE PATCH;
    PortgroupUuid "portgroup_uuid" since 24 CREATE PATCH UNSORTABLE;
    PhysicalNetwork "physical_network" since 34 CREATE PATCH;
    IsSmartnic "is_smartnic" since 53 CREATE PATCH;
    Name "name" since 88 CREATE PATCH OPEN_PATCH;
    Description "description" since 97 CREATE PATCH OPEN_PATCH;
    Vendor "vendor" since 100 CREATE PATCH OPEN_PATCH;
    Category "category" since 101 CREATE PATCH OPEN_PATCH;
    AvailableForDynamicPortgroup "available_for_dynamic_portgroup" since 111 CREATE PATCH OPEN_PATCH;
    Links "links" since 1 UNSORTABLE;
}

resource! {
    /// Fields of a port group.
    PortgroupField ["version" "node_id"]:
    Uuid "uuid" since 23 CREATE;
    CreatedAt "created_at" since 23;
    UpdatedAt "updated_at" since 23;
    Address "address" since 23 CREATE PATCH;
    Extra "extra" since 23 CREATE PATCH UNSORTABLE;
    InternalInfo "internal_info" since 23 UNSORTABLE;
    Mode "mode" since 26 CREATE PATCH LISTED;
    Name "name" since 23 CREATE PATCH;
    Properties "properties" since 26 CREATE PATCH UNSORTABLE LISTED;
    StandalonePortsSupported "standalone_ports_supported" since 23 CREATE PATCH;
    NodeUuid "node_uuid" since 23 CREATE PATCH;
    PhysicalNetwork "physical_network" since 102 CREATE PATCH OPEN_PATCH OPEN LISTED;
    Category "category" since 103 CREATE PATCH OPEN_PATCH OPEN LISTED;
    DynamicPortgroup "dynamic_portgroup" since 111 LISTED;
    Links "links" since 23 UNSORTABLE;
    Ports "ports" since 23 UNSORTABLE;
}

resource! {
    /// Fields of a chassis.
    ChassisField ["version"]:
    Uuid "uuid" since 1 CREATE PATCH;
    CreatedAt "created_at" since 1;
    UpdatedAt "updated_at" since 1;
    Description "description" since 1 CREATE PATCH;
    Extra "extra" since 1 CREATE PATCH UNSORTABLE;
    Links "links" since 1 UNSORTABLE;
    Nodes "nodes" since 1 UNSORTABLE;
}

resource! {
    /// Fields of a volume connector.
    ConnectorField ["version" "node_id"]:
    Uuid "uuid" since 32 CREATE;
    CreatedAt "created_at" since 32;
    UpdatedAt "updated_at" since 32;
    ConnectorId "connector_id" since 32 CREATE PATCH;
    Extra "extra" since 32 CREATE PATCH UNSORTABLE;
    Type "type" since 32 CREATE PATCH;
    Links "links" since 32 UNSORTABLE;
    NodeUuid "node_uuid" since 32 CREATE PATCH UNSORTABLE;
}

resource! {
    /// Fields of a volume target.
    TargetField ["version" "node_id"]:
    Uuid "uuid" since 32 CREATE;
    CreatedAt "created_at" since 32;
    UpdatedAt "updated_at" since 32;
    BootIndex "boot_index" since 32 CREATE PATCH;
    Extra "extra" since 32 CREATE PATCH UNSORTABLE;
    Properties "properties" since 32 CREATE PATCH UNSORTABLE;
    VolumeId "volume_id" since 32 CREATE PATCH;
    VolumeType "volume_type" since 32 CREATE PATCH;
    Links "links" since 32 UNSORTABLE;
    NodeUuid "node_uuid" since 32 CREATE PATCH UNSORTABLE;
}

resource! {
    /// Fields of an allocation.
    AllocationField ["version" "node_id" "conductor_affinity"]:
    Uuid "uuid" since 52 CREATE;
    CreatedAt "created_at" since 52;
    UpdatedAt "updated_at" since 52;
    CandidateNodes "candidate_nodes" since 52 CREATE UNSORTABLE;
    Extra "extra" since 52 CREATE PATCH UNSORTABLE;
    LastError "last_error" since 52;
    Name "name" since 52 CREATE PATCH;
    Owner "owner" since 60 CREATE UNKNOWN_BEFORE TOO_NEW_TO_CREATE;
    ResourceClass "resource_class" since 52 CREATE;
    State "state" since 52;
    Traits "traits" since 52 CREATE UNSORTABLE;
    Links "links" since 52 UNSORTABLE;
    NodeUuid "node_uuid" since 52 UNSORTABLE;
}

resource! {
    /// Fields of a conductor.
    ConductorField ["version" "online"]:
    Hostname "hostname" since 49;
    ConductorGroup "conductor_group" since 49;
    Alive "alive" since 49 UNSORTABLE;
    Drivers "drivers" since 49 UNSORTABLE;
    CreatedAt "created_at" since 49;
    UpdatedAt "updated_at" since 49;
    Links "links" since 49 UNSORTABLE;
}

resource! {
    /// Fields of a driver. The two of each interface kind are one row.
    DriverField:
    Name "name" since 1;
    Hosts "hosts" since 1;
    Links "links" since 1 UNSORTABLE;
    Properties "properties" since 14;
    Type "type" since 30;
    Boot "boot" since 30;
    Console "console" since 30;
    Deploy "deploy" since 30;
    Inspect "inspect" since 30;
    Management "management" since 30;
    Network "network" since 30;
    Power "power" since 30;
    Raid "raid" since 30;
    Vendor "vendor" since 30;
    Storage "storage" since 33;
    Rescue "rescue" since 38;
    Bios "bios" since 40;
    Firmware "firmware" since 86;
}

resource! {
    /// Fields of a BIOS setting.
    BiosField:
    Name "name" since 40;
    Value "value" since 40;
    CreatedAt "created_at" since 40 SHOWN;
    UpdatedAt "updated_at" since 40 SHOWN;
    AttributeType "attribute_type" since 74;
    AllowableValues "allowable_values" since 74;
    LowerBound "lower_bound" since 74;
    UpperBound "upper_bound" since 74;
    MinLength "min_length" since 74;
    MaxLength "max_length" since 74;
    ReadOnly "read_only" since 74;
    ResetRequired "reset_required" since 74;
    Unique "unique" since 74;
    Links "links" since 40 SHOWN;
}

resource! {
    /// Fields of a firmware component.
    FirmwareField:
    Component "component" since 86;
    InitialVersion "initial_version" since 86;
    CurrentVersion "current_version" since 86;
    LastVersionFlashed "last_version_flashed" since 86;
    Vendor "vendor" since 114;
    Model "model" since 114;
    SerialNumber "serial_number" since 114;
    CreatedAt "created_at" since 86 SHOWN;
    UpdatedAt "updated_at" since 86 SHOWN;
}

resource! {
    /// Fields of a history entry.
    HistoryField ["version" "node_id" "updated_at"]:
    Uuid "uuid" since 78;
    CreatedAt "created_at" since 78;
    Severity "severity" since 78;
    Event "event" since 78;
    EventType "event_type" since 78;
    Conductor "conductor" since 78;
    User "user" since 78;
    Project "project" since 113;
    State "state" since 115;
    TargetProvisionState "target_provision_state" since 115;
    DurationSeconds "duration_seconds" since 115;
    Links "links" since 78 SHOWN;
}

resource! {
    /// Fields of a deploy template. `description` is taken and forgotten, which the resource sees to.
    DeployTemplateField ["version"]:
    Uuid "uuid" since 55 CREATE;
    CreatedAt "created_at" since 55;
    UpdatedAt "updated_at" since 55;
    Name "name" since 55 CREATE PATCH;
    Extra "extra" since 55 CREATE PATCH UNSORTABLE;
    Links "links" since 55 UNSORTABLE;
    Steps "steps" since 55 CREATE PATCH UNSORTABLE;
}

resource! {
    /// Fields of a runbook.
    RunbookField ["version"]:
    Uuid "uuid" since 92 CREATE;
    CreatedAt "created_at" since 92;
    UpdatedAt "updated_at" since 92;
    Name "name" since 92 CREATE PATCH;
    Extra "extra" since 92 CREATE PATCH UNSORTABLE;
    Public "public" since 92 CREATE PATCH;
    Owner "owner" since 92 CREATE PATCH;
    DisableRamdisk "disable_ramdisk" since 92 CREATE PATCH;
    Description "description" since 112 CREATE PATCH UNKNOWN_BEFORE;
    Links "links" since 92 UNSORTABLE;
    Steps "steps" since 92 CREATE PATCH UNSORTABLE;
    Traits "traits" since 112 UNSORTABLE UNKNOWN_BEFORE;
}

resource! {
    /// Fields of an inspection rule.
    RuleField ["version" "scope"]:
    Uuid "uuid" since 96 CREATE PATCH;
    CreatedAt "created_at" since 96 PATCH;
    UpdatedAt "updated_at" since 96 PATCH;
    Description "description" since 96 CREATE PATCH;
    Priority "priority" since 96 CREATE PATCH;
    Sensitive "sensitive" since 96 CREATE PATCH;
    Phase "phase" since 96 CREATE PATCH;
    Conditions "conditions" since 96 CREATE PATCH UNSORTABLE;
    Actions "actions" since 96 CREATE PATCH UNSORTABLE;
    Links "links" since 96 UNSORTABLE;
}
