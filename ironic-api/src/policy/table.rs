//! Every policy with its default rule (`security.md` sections 2 and 3). Rows only.
//!
//! Names and rules are those that a policy file may hold; the rules are written in the language of `check.rs`.

/// Callers of which scope a policy may let in. A caller of another scope is refused whatever the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// System or project.
    Any,
    /// System only.
    SystemOnly,
    /// Whatever it is.
    Unasked,
}

macro_rules! policies {
    ($($variant:ident $name:literal $scope:ident $rule:expr;)*) => {
        /// A policy, or a rule that policies are made of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Policy { $($variant,)* }

        impl Policy {
            /// Every policy, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in a policy file.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// The rule that holds unless a policy file has another.
            pub const fn default_rule(self) -> &'static str { match self { $(Self::$variant => $rule,)* } }
            /// Whom it may let in.
            pub const fn scope(self) -> Scope { match self { $(Self::$variant => Scope::$scope,)* } }
        }
    };
}

macro_rules! system_admin {
    () => {
        "(role:admin and system_scope:all)"
    };
}
macro_rules! system_service {
    () => {
        "(role:service and system_scope:all)"
    };
}
macro_rules! system_member {
    () => {
        "(role:member and system_scope:all) or rule:service_role"
    };
}
macro_rules! system_reader {
    () => {
        "((role:reader or role:service) and system_scope:all) or rule:service_role"
    };
}
macro_rules! owner {
    ($role:literal) => {
        concat!("(role:", $role, " and project_id:%(node.owner)s)")
    };
}
macro_rules! lessee {
    ($role:literal) => {
        concat!("(role:", $role, " and project_id:%(node.lessee)s)")
    };
}

const EVERYBODY: &str = "";
const NOBODY: &str = "!";
const ANY_READER: &str = "role:reader or role:service";
const SYSTEM_ADMIN: &str = system_admin!();
const SYSTEM_MEMBER: &str = system_member!();
const SYSTEM_READER: &str = system_reader!();
const ADMIN_OR_SYSTEM_SERVICE: &str = concat!(system_admin!(), " or ", system_service!());
const READER: &str = concat!(system_reader!(), " or ", owner!("reader"), " or ", lessee!("reader"), " or ", owner!("service"));
const MEMBER: &str = concat!(system_member!(), " or ", system_service!(), " or ", owner!("member"), " or ", lessee!("member"));
const OWNER_READER: &str = concat!(system_reader!(), " or ", owner!("reader"), " or ", owner!("service"));
const OWNER_MEMBER: &str = concat!(system_member!(), " or ", system_service!(), " or ", owner!("member"), " or ", owner!("service"));
const OWNER_ADMIN: &str =
    concat!(system_member!(), " or ", system_service!(), " or ", owner!("admin"), " or ", owner!("manager"), " or ", owner!("service"));
const ADMIN_OR_OWNER_ADMIN: &str =
    concat!(system_admin!(), " or ", system_service!(), " or ", owner!("admin"), " or ", owner!("manager"), " or ", owner!("service"));
const OWNER_MEMBER_LESSEE_ADMIN: &str = concat!(
    system_member!(),
    " or ",
    system_service!(),
    " or ",
    owner!("member"),
    " or ",
    owner!("service"),
    " or ",
    lessee!("admin"),
    " or ",
    lessee!("manager")
);
const OWNER_OR_LESSEE_ADMIN: &str = concat!(
    system_member!(),
    " or ",
    system_service!(),
    " or ",
    owner!("admin"),
    " or ",
    owner!("manager"),
    " or ",
    owner!("service"),
    " or ",
    lessee!("admin"),
    " or ",
    lessee!("manager")
);
const ALLOCATION_OWNER: &str = concat!(system_member!(), " or (role:member and project_id:%(allocation.owner)s)");
const RUNBOOK_OWNER: &str = concat!(system_member!(), " or (role:manager and project_id:%(runbook.owner)s) or role:service");

#[rustfmt::skip]
policies! {
    AdminApi "admin_api" Unasked "role:admin or role:administrator";
    PublicApi "public_api" Unasked "is_public_api:True";
    ShowPassword "show_password" Unasked NOBODY;
    ShowInstanceSecrets "show_instance_secrets" Unasked NOBODY;
    ServiceRole "service_role" Unasked "role:service and project_name:%(config.service_project_name)s";
    IsMember "is_member" Unasked "(project_domain_id:default or project_domain_id:None) and (project_name:demo or project_name:baremetal)";
    IsObserver "is_observer" Unasked "rule:is_member and (role:observer or role:baremetal_observer)";
    IsAdmin "is_admin" Unasked "rule:admin_api or (rule:is_member and role:baremetal_admin)";
    IsNodeOwner "is_node_owner" Unasked "project_id:%(node.owner)s";
    IsNodeLessee "is_node_lessee" Unasked "project_id:%(node.lessee)s";
    IsAllocationOwner "is_allocation_owner" Unasked "project_id:%(allocation.owner)s";
    NodeCreate "baremetal:node:create" Any ADMIN_OR_SYSTEM_SERVICE;
    NodeCreateSelfOwnedNode "baremetal:node:create:self_owned_node" Any "role:admin or role:service";
    NodeList "baremetal:node:list" Any ANY_READER;
    NodeListAll "baremetal:node:list_all" Any SYSTEM_READER;
    NodeGet "baremetal:node:get" Any READER;
    NodeGetFilterThreshold "baremetal:node:get:filter_threshold" Any SYSTEM_READER;
    NodeGetLastError "baremetal:node:get:last_error" Any OWNER_READER;
    NodeGetReservation "baremetal:node:get:reservation" Any OWNER_READER;
    NodeGetDriverInternalInfo "baremetal:node:get:driver_internal_info" Any OWNER_READER;
    NodeGetDriverInfo "baremetal:node:get:driver_info" Any OWNER_READER;
    NodeUpdateDriverInfo "baremetal:node:update:driver_info" Any OWNER_MEMBER;
    NodeUpdateProperties "baremetal:node:update:properties" Any OWNER_MEMBER;
    NodeUpdateChassisUuid "baremetal:node:update:chassis_uuid" Any SYSTEM_ADMIN;
    NodeUpdateInstanceUuid "baremetal:node:update:instance_uuid" Any OWNER_MEMBER;
    NodeUpdateLessee "baremetal:node:update:lessee" Any OWNER_MEMBER;
    NodeUpdateOwner "baremetal:node:update:owner" Any SYSTEM_MEMBER;
    NodeUpdateDriverInterfaces "baremetal:node:update:driver_interfaces" Any OWNER_ADMIN;
    NodeUpdateNetworkData "baremetal:node:update:network_data" Any OWNER_MEMBER;
    NodeUpdateConductorGroup "baremetal:node:update:conductor_group" Any SYSTEM_MEMBER;
    NodeUpdateName "baremetal:node:update:name" Any OWNER_MEMBER;
    NodeUpdateRetired "baremetal:node:update:retired" Any OWNER_MEMBER;
    NodeUpdate "baremetal:node:update" Any MEMBER;
    NodeUpdateExtra "baremetal:node:update_extra" Any MEMBER;
    NodeUpdateInstanceInfo "baremetal:node:update_instance_info" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeUpdateOwnerProvisioned "baremetal:node:update_owner_provisioned" SystemOnly SYSTEM_ADMIN;
    NodeDelete "baremetal:node:delete" Any SYSTEM_ADMIN;
    NodeDeleteSelfOwnedNode "baremetal:node:delete:self_owned_node" Any owner!("admin");
    NodeValidate "baremetal:node:validate" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeSetMaintenance "baremetal:node:set_maintenance" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeClearMaintenance "baremetal:node:clear_maintenance" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeGetBootDevice "baremetal:node:get_boot_device" Any OWNER_ADMIN;
    NodeSetBootDevice "baremetal:node:set_boot_device" Any OWNER_ADMIN;
    NodeGetIndicatorState "baremetal:node:get_indicator_state" Any READER;
    NodeSetIndicatorState "baremetal:node:set_indicator_state" Any OWNER_MEMBER;
    NodeInjectNmi "baremetal:node:inject_nmi" Any OWNER_ADMIN;
    NodeGetStates "baremetal:node:get_states" Any READER;
    NodeSetPowerState "baremetal:node:set_power_state" Any MEMBER;
    NodeSetBootMode "baremetal:node:set_boot_mode" Any MEMBER;
    NodeSetSecureBoot "baremetal:node:set_secure_boot" Any MEMBER;
    NodeSetProvisionState "baremetal:node:set_provision_state" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeSetProvisionStateCleanSteps "baremetal:node:set_provision_state:clean_steps" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeSetProvisionStateServiceSteps "baremetal:node:set_provision_state:service_steps" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeSetRaidState "baremetal:node:set_raid_state" Any OWNER_MEMBER;
    NodeGetConsole "baremetal:node:get_console" Any OWNER_MEMBER;
    NodeSetConsoleState "baremetal:node:set_console_state" Any OWNER_MEMBER;
    NodeVifList "baremetal:node:vif:list" Any READER;
    NodeVifAttach "baremetal:node:vif:attach" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeVifDetach "baremetal:node:vif:detach" Any OWNER_MEMBER_LESSEE_ADMIN;
    NodeTraitsList "baremetal:node:traits:list" Any READER;
    NodeTraitsSet "baremetal:node:traits:set" Any OWNER_ADMIN;
    NodeTraitsDelete "baremetal:node:traits:delete" Any OWNER_ADMIN;
    NodeBiosGet "baremetal:node:bios:get" Any READER;
    NodeDisableCleaning "baremetal:node:disable_cleaning" Any SYSTEM_ADMIN;
    NodeHistoryGet "baremetal:node:history:get" Any OWNER_READER;
    NodeInventoryGet "baremetal:node:inventory:get" Any OWNER_READER;
    NodeUpdateShard "baremetal:node:update:shard" Any SYSTEM_ADMIN;
    ShardsGet "baremetal:shards:get" Any SYSTEM_READER;
    NodeUpdateParentNode "baremetal:node:update:parent_node" Any SYSTEM_MEMBER;
    NodeUpdateDisablePowerOff "baremetal:node:update:disable_power_off" Any SYSTEM_ADMIN;
    NodeFirmwareGet "baremetal:node:firmware:get" Any READER;
    NodeVmediaAttach "baremetal:node:vmedia:attach" Any MEMBER;
    NodeVmediaDetach "baremetal:node:vmedia:detach" Any MEMBER;
    NodeVmediaGet "baremetal:node:vmedia:get" Any READER;
    PortGet "baremetal:port:get" Any READER;
    PortList "baremetal:port:list" Any ANY_READER;
    PortListAll "baremetal:port:list_all" Any SYSTEM_READER;
    PortCreate "baremetal:port:create" Any ADMIN_OR_OWNER_ADMIN;
    PortDelete "baremetal:port:delete" Any ADMIN_OR_OWNER_ADMIN;
    PortUpdate "baremetal:port:update" Any OWNER_ADMIN;
    PortgroupGet "baremetal:portgroup:get" Any READER;
    PortgroupCreate "baremetal:portgroup:create" Any ADMIN_OR_OWNER_ADMIN;
    PortgroupDelete "baremetal:portgroup:delete" Any ADMIN_OR_OWNER_ADMIN;
    PortgroupUpdate "baremetal:portgroup:update" Any OWNER_ADMIN;
    PortgroupList "baremetal:portgroup:list" Any ANY_READER;
    PortgroupListAll "baremetal:portgroup:list_all" Any SYSTEM_READER;
    ChassisGet "baremetal:chassis:get" SystemOnly SYSTEM_READER;
    ChassisCreate "baremetal:chassis:create" SystemOnly SYSTEM_ADMIN;
    ChassisDelete "baremetal:chassis:delete" SystemOnly SYSTEM_ADMIN;
    ChassisUpdate "baremetal:chassis:update" SystemOnly SYSTEM_MEMBER;
    DriverGet "baremetal:driver:get" SystemOnly SYSTEM_READER;
    DriverGetProperties "baremetal:driver:get_properties" SystemOnly SYSTEM_READER;
    DriverGetRaidLogicalDiskProperties "baremetal:driver:get_raid_logical_disk_properties" SystemOnly SYSTEM_READER;
    NodeVendorPassthru "baremetal:node:vendor_passthru" Any SYSTEM_ADMIN;
    DriverVendorPassthru "baremetal:driver:vendor_passthru" SystemOnly SYSTEM_ADMIN;
    NodeIpaHeartbeat "baremetal:node:ipa_heartbeat" Unasked EVERYBODY;
    DriverIpaLookup "baremetal:driver:ipa_lookup" Unasked EVERYBODY;
    DriverIpaContinueInspection "baremetal:driver:ipa_continue_inspection" Unasked EVERYBODY;
    VolumeListAll "baremetal:volume:list_all" Any SYSTEM_READER;
    VolumeList "baremetal:volume:list" Any ANY_READER;
    VolumeGet "baremetal:volume:get" Any READER;
    VolumeCreate "baremetal:volume:create" Any OWNER_OR_LESSEE_ADMIN;
    VolumeDelete "baremetal:volume:delete" Any OWNER_OR_LESSEE_ADMIN;
    VolumeUpdate "baremetal:volume:update" Any OWNER_MEMBER_LESSEE_ADMIN;
    VolumeViewTargetProperties "baremetal:volume:view_target_properties" Any concat!(system_reader!(), " or role:admin");
    ConductorGet "baremetal:conductor:get" Any SYSTEM_READER;
    AllocationGet "baremetal:allocation:get" Any concat!(system_reader!(), " or (role:reader and project_id:%(allocation.owner)s)");
    AllocationList "baremetal:allocation:list" Any ANY_READER;
    AllocationListAll "baremetal:allocation:list_all" Any SYSTEM_READER;
    AllocationCreate "baremetal:allocation:create" Any concat!(system_member!(), " or role:member");
    AllocationCreateRestricted "baremetal:allocation:create_restricted" Any SYSTEM_MEMBER;
    AllocationDelete "baremetal:allocation:delete" Any ALLOCATION_OWNER;
    AllocationUpdate "baremetal:allocation:update" Any ALLOCATION_OWNER;
    AllocationCreatePreRbac "baremetal:allocation:create_pre_rbac" Any NOBODY;
    EventsPost "baremetal:events:post" SystemOnly SYSTEM_ADMIN;
    DeployTemplateGet "baremetal:deploy_template:get" Any SYSTEM_READER;
    DeployTemplateCreate "baremetal:deploy_template:create" Any SYSTEM_ADMIN;
    DeployTemplateDelete "baremetal:deploy_template:delete" Any SYSTEM_ADMIN;
    DeployTemplateUpdate "baremetal:deploy_template:update" Any SYSTEM_ADMIN;
    RunbookGet "baremetal:runbook:get" Any concat!(system_reader!(), " or (role:reader and project_id:%(runbook.owner)s) or role:service");
    RunbookList "baremetal:runbook:list" Any ANY_READER;
    RunbookListAll "baremetal:runbook:list_all" Any SYSTEM_READER;
    RunbookCreate "baremetal:runbook:create" Any concat!(system_member!(), " or role:manager or role:service");
    RunbookDelete "baremetal:runbook:delete" Any RUNBOOK_OWNER;
    RunbookUpdate "baremetal:runbook:update" Any RUNBOOK_OWNER;
    RunbookUpdatePublic "baremetal:runbook:update:public" Any SYSTEM_MEMBER;
    RunbookUpdateOwner "baremetal:runbook:update:owner" Any SYSTEM_MEMBER;
    RunbookUse "baremetal:runbook:use" Any RUNBOOK_OWNER;
    InspectionRuleGet "baremetal:inspection_rule:get" Any SYSTEM_READER;
    InspectionRuleListAll "baremetal:inspection_rule:list_all" Any SYSTEM_READER;
    InspectionRuleCreate "baremetal:inspection_rule:create" Any SYSTEM_ADMIN;
    InspectionRuleUpdate "baremetal:inspection_rule:update" Any SYSTEM_ADMIN;
    InspectionRuleDelete "baremetal:inspection_rule:delete" Any SYSTEM_ADMIN;
}
