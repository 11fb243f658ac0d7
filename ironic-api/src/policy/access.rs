//! Which policy each handler needs. Rows only: one for every [`Op`], or the crate does not compile.
//!
//! What a row asks for is asked before the handler runs ([`super::enforce`]). A handler of a list then narrows what it reads to
//! `req.narrow.project()`; one that forgets answers 403 to callers of projects. A new resource whose target nobody can find yet is
//! safe with [`Access::Plain`]: rules about owners match nothing then, and only callers of the system pass.

use super::table::Policy as P;
use crate::route::Op;

/// What must hold before a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: the answer says nothing about anybody's things.
    Open,
    /// The policy, about nothing in particular.
    Plain(P),
    /// The node of the path is visible to the caller (else 404), and the policy holds for it.
    Node(P),
    /// Likewise for the node that `?node=` or `?node_uuid=` names.
    NodeOfQuery(P),
    /// The policy holds for the node that the body names; for no node when it names none.
    NodeOfBody(P),
    /// The port of the path belongs to a node that is visible, and the policy holds for that.
    Port(P),
    /// The volume connector that this variable segment of the path names, likewise.
    Connector(P, usize),
    /// The volume target, likewise.
    Target(P, usize),
    /// The allocation of the path is visible to the caller (else 404), and the policy holds for it.
    Allocation(P),
    /// The port group that this variable segment of the path names belongs to a node that is visible, and the policy holds for that.
    Portgroup(P, usize),
    /// A list: of everything by the first policy, else of the caller's project by the second.
    List(P, P),
    /// A list below a node, which must be visible.
    ListOfNode(P, P),
    /// The policy holds for the runbook of the path.
    Runbook(P),
    /// A list below a port group, whose node must be visible.
    ListOfPortgroup(P, P),
    /// A rule that is code.
    Special(Special),
}

/// Rules that are more than one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Anybody's node, or one of the caller's project.
    NodeCreate,
    /// By the attributes that the patch names.
    NodePatch,
    /// Anybody's node, or one of the caller's project.
    NodeDelete,
    /// By the arguments of the verb, and by each step.
    Provision,
    /// Public ones may be seen by everybody.
    RunbookShow,
    /// By the attributes that the patch names.
    RunbookPatch,
}

/// The row of a handler.
pub(crate) fn access(op: Op) -> Access {
    use Access::{
        Allocation, Connector, List, ListOfNode, ListOfPortgroup, Node, NodeOfBody, NodeOfQuery, Open, Plain, Port, Portgroup, Runbook,
        Special as Rule, Target,
    };
    match op {
        Op::ApiRoot | Op::WrongMethodOnRoot => Open,
        Op::IdentMissing | Op::IdentUnexpected | Op::Nothing => Open,

        Op::NodeList | Op::NodeDetail => List(P::NodeListAll, P::NodeList),
        Op::NodeCreate => Rule(Special::NodeCreate),
        Op::NodeShow => Node(P::NodeGet),
        Op::NodePatch => Rule(Special::NodePatch),
        Op::NodeDelete => Rule(Special::NodeDelete),
        Op::NodeValidate => Node(P::NodeValidate),
        Op::NodeValidateByQuery => NodeOfQuery(P::NodeValidate),
        Op::NodeChildren => ListOfNode(P::NodeListAll, P::NodeList),
        Op::MaintenanceSet => Node(P::NodeSetMaintenance),
        Op::MaintenanceClear => Node(P::NodeClearMaintenance),
        Op::States => Node(P::NodeGetStates),
        Op::PowerSet => Node(P::NodeSetPowerState),
        Op::ProvisionSet => Rule(Special::Provision),
        Op::RaidSet => Node(P::NodeSetRaidState),
        Op::ConsoleShow => Node(P::NodeGetConsole),
        Op::ConsoleSet => Node(P::NodeSetConsoleState),
        Op::Indicators | Op::IndicatorShow => Node(P::NodeGetIndicatorState),
        Op::IndicatorSet => Node(P::NodeSetIndicatorState),
        Op::BiosList | Op::BiosShow => Node(P::NodeBiosGet),
        Op::FirmwareList => Node(P::NodeFirmwareGet),
        Op::Vifs => Node(P::NodeVifList),
        Op::VifAttach => Node(P::NodeVifAttach),
        Op::VifDetach => Node(P::NodeVifDetach),
        Op::Media => Node(P::NodeVmediaGet),
        Op::MediaAttach => Node(P::NodeVmediaAttach),
        Op::MediaDetach => Node(P::NodeVmediaDetach),
        Op::VendorMethods | Op::VendorCall => Node(P::NodeVendorPassthru),
        Op::BootModeSet => Node(P::NodeSetBootMode),
        Op::SecureBootSet => Node(P::NodeSetSecureBoot),
        Op::BootDeviceShow | Op::BootDeviceSupported => Node(P::NodeGetBootDevice),
        Op::BootDeviceSet => Node(P::NodeSetBootDevice),
        Op::InjectNmi => Node(P::NodeInjectNmi),
        Op::TraitList => Node(P::NodeTraitsList),
        Op::TraitsSet | Op::TraitAdd => Node(P::NodeTraitsSet),
        Op::TraitsClear | Op::TraitRemove => Node(P::NodeTraitsDelete),
        Op::HistoryList | Op::HistoryShow => Node(P::NodeHistoryGet),
        Op::Inventory => Node(P::NodeInventoryGet),
        Op::NodePorts | Op::NodePortsDetail => ListOfNode(P::PortListAll, P::PortList),
        Op::NodeVolume | Op::VolumeRoot => Plain(P::VolumeGet),
        Op::ConnectorList | Op::TargetList => List(P::VolumeListAll, P::VolumeList),
        Op::ConnectorListOfNode | Op::TargetListOfNode => ListOfNode(P::VolumeListAll, P::VolumeList),
        Op::ConnectorCreate | Op::TargetCreate => NodeOfBody(P::VolumeCreate),
        Op::ConnectorShow => Connector(P::VolumeGet, 0),
        Op::ConnectorPatch => Connector(P::VolumeUpdate, 0),
        Op::ConnectorDelete => Connector(P::VolumeDelete, 0),
        Op::TargetShow => Target(P::VolumeGet, 0),
        Op::TargetPatch => Target(P::VolumeUpdate, 0),
        Op::TargetDelete => Target(P::VolumeDelete, 0),
        Op::ConnectorMisplaced => Connector(P::VolumeGet, 1),
        Op::TargetMisplaced => Target(P::VolumeGet, 1),

        Op::AllocationList => List(P::AllocationListAll, P::AllocationList),
        Op::AllocationCreate => Plain(P::AllocationCreate),
        Op::AllocationShow => Allocation(P::AllocationGet),
        Op::AllocationPatch => Allocation(P::AllocationUpdate),
        Op::AllocationDelete => Allocation(P::AllocationDelete),
        // The handler asks: that the node does not exist is a bad request here.
        Op::AllocationOfNode => Open,
        Op::AllocationOfNodeDelete => Node(P::NodeGet),

        Op::PortList | Op::PortDetail => List(P::PortListAll, P::PortList),
        Op::PortCreate => NodeOfBody(P::PortCreate),
        Op::PortShow => Port(P::PortGet),
        Op::PortPatch => Port(P::PortUpdate),
        Op::PortDelete => Port(P::PortDelete),

        Op::PortgroupList | Op::PortgroupDetail => List(P::PortgroupListAll, P::PortgroupList),
        Op::PortgroupCreate => NodeOfBody(P::PortgroupCreate),
        Op::PortgroupShow => Portgroup(P::PortgroupGet, 0),
        Op::PortgroupPatch => Portgroup(P::PortgroupUpdate, 0),
        Op::PortgroupDelete => Portgroup(P::PortgroupDelete, 0),
        Op::PortgroupPorts | Op::PortgroupPortsDetail => ListOfPortgroup(P::PortListAll, P::PortList),
        Op::NodePortgroups | Op::NodePortgroupsDetail => ListOfNode(P::PortgroupListAll, P::PortgroupList),
        Op::PortgroupMisplaced => Portgroup(P::PortgroupGet, 1),

        Op::ChassisList | Op::ChassisDetail | Op::ChassisShow => Plain(P::ChassisGet),
        Op::ChassisCreate => Plain(P::ChassisCreate),
        Op::ChassisPatch => Plain(P::ChassisUpdate),
        Op::ChassisDelete => Plain(P::ChassisDelete),
        Op::ChassisNodes | Op::ChassisNodesDetail => List(P::NodeListAll, P::NodeList),
        Op::ShardList => Plain(P::ShardsGet),

        Op::TemplateList | Op::TemplateShow => Plain(P::DeployTemplateGet),
        Op::TemplateCreate => Plain(P::DeployTemplateCreate),
        Op::TemplatePatch => Plain(P::DeployTemplateUpdate),
        Op::TemplateDelete => Plain(P::DeployTemplateDelete),
        Op::RunbookList => List(P::RunbookListAll, P::RunbookList),
        Op::RunbookCreate => Plain(P::RunbookCreate),
        Op::RunbookShow => Rule(Special::RunbookShow),
        Op::RunbookPatch => Rule(Special::RunbookPatch),
        Op::RunbookDelete => Runbook(P::RunbookDelete),
        Op::RunbookTraitList => Runbook(P::RunbookGet),
        Op::RunbookTraitsSet | Op::RunbookTraitAdd | Op::RunbookTraitsClear | Op::RunbookTraitRemove => Runbook(P::RunbookUpdate),
        Op::RuleList | Op::RuleShow => Plain(P::InspectionRuleGet),
        Op::RuleCreate => Plain(P::InspectionRuleCreate),
        Op::RulePatch => Plain(P::InspectionRuleUpdate),
        Op::RuleDelete => Plain(P::InspectionRuleDelete),

        Op::DriverList | Op::DriverShow => Plain(P::DriverGet),
        Op::DriverProperties => Plain(P::DriverGetProperties),
        Op::DriverRaid => Plain(P::DriverGetRaidLogicalDiskProperties),
        Op::DriverMethods | Op::DriverVendorCall => Plain(P::DriverVendorPassthru),
        Op::ConductorList | Op::ConductorShow => Plain(P::ConductorGet),
        Op::Events => Plain(P::EventsPost),

        Op::Lookup => Plain(P::DriverIpaLookup),
        Op::Heartbeat => Plain(P::NodeIpaHeartbeat),
        Op::ContinueInspection => Plain(P::DriverIpaContinueInspection),
    }
}
