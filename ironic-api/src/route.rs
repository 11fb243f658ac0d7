//! The table of routes (`api.md` section 17): path, methods, microversion, what an older client gets, and the handler's name.
//!
//! Rows only; [`find()`] reads them. `{}` stands for one segment. A path that is here but not with the method asked for is 405 with the
//! `Allow` of its row; these values are part of the contract and do not always tell what the path takes.

mod find;

use bessemer_model::fault::FaultKind;

pub(crate) use self::find::{Described, Found, described, find, is_public, too_old};
use crate::{fault::Refusal, version::Version};

/// A handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    ApiRoot,
    NodeList,
    NodeDetail,
    NodeCreate,
    NodeShow,
    NodePatch,
    NodeDelete,
    NodeValidate,
    NodeValidateByQuery,
    NodeChildren,
    MaintenanceSet,
    MaintenanceClear,
    States,
    PowerSet,
    ProvisionSet,
    RaidSet,
    ConsoleShow,
    ConsoleSet,
    Indicators,
    IndicatorShow,
    IndicatorSet,
    Vifs,
    VifAttach,
    VifDetach,
    Media,
    MediaAttach,
    MediaDetach,
    BiosList,
    BiosShow,
    FirmwareList,
    VendorMethods,
    VendorCall,
    DriverVendorCall,
    BootModeSet,
    SecureBootSet,
    BootDeviceShow,
    BootDeviceSet,
    BootDeviceSupported,
    InjectNmi,
    TraitList,
    TraitsSet,
    TraitAdd,
    TraitsClear,
    TraitRemove,
    HistoryList,
    HistoryShow,
    Inventory,
    NodePorts,
    NodePortsDetail,
    NodeVolume,
    ConnectorListOfNode,
    ConnectorMisplaced,
    TargetListOfNode,
    TargetMisplaced,
    AllocationOfNode,
    AllocationOfNodeDelete,
    PortList,
    PortDetail,
    PortCreate,
    PortShow,
    PortPatch,
    PortDelete,
    PortgroupList,
    PortgroupDetail,
    PortgroupCreate,
    PortgroupShow,
    PortgroupPatch,
    PortgroupDelete,
    PortgroupPorts,
    PortgroupPortsDetail,
    NodePortgroups,
    NodePortgroupsDetail,
    PortgroupMisplaced,
    ChassisList,
    ChassisDetail,
    ChassisCreate,
    ChassisShow,
    ChassisPatch,
    ChassisDelete,
    ChassisNodes,
    ChassisNodesDetail,
    ShardList,
    DriverList,
    DriverShow,
    DriverProperties,
    DriverRaid,
    DriverMethods,
    ConductorList,
    ConductorShow,
    TemplateList,
    TemplateCreate,
    TemplateShow,
    TemplatePatch,
    TemplateDelete,
    RunbookList,
    RunbookCreate,
    RunbookShow,
    RunbookPatch,
    RunbookDelete,
    RunbookTraitList,
    RunbookTraitsSet,
    RunbookTraitAdd,
    RunbookTraitsClear,
    RunbookTraitRemove,
    RuleList,
    RuleCreate,
    RuleShow,
    RulePatch,
    RuleDelete,
    VolumeRoot,
    ConnectorList,
    ConnectorCreate,
    ConnectorShow,
    ConnectorPatch,
    ConnectorDelete,
    TargetList,
    TargetCreate,
    TargetShow,
    TargetPatch,
    TargetDelete,
    AllocationList,
    AllocationCreate,
    AllocationShow,
    AllocationPatch,
    AllocationDelete,
    /// A request to a collection that must name one of it.
    IdentMissing,
    /// A request to one that must go to the collection.
    IdentUnexpected,
    Nothing,
    Events,
    Lookup,
    Heartbeat,
    ContinueInspection,
    WrongMethodOnRoot,
}

/// What a client of an older microversion gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// 404 in the handlers' shape.
    NotFound,
    /// 404 as if the path did not exist.
    Unrouted,
    /// 404 in the handlers' shape from this microversion on, before as if the path did not exist.
    NotFoundSince(u16),
    /// 404 of the framework, with a reason.
    Hidden,
    /// 406.
    NotAcceptable,
    /// 405 of the framework, with a reason.
    HiddenMethod,
    /// 405 in the handlers' shape.
    MethodNotAllowed,
    /// 405 as if the path did not take the method; with this `Allow`.
    NoMethod(&'static str),
}

/// Why a path leads to no handler.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Refused by the framework.
    Refused(Refusal),
    /// Refused by the resource.
    Fault(FaultKind),
}

/// One method of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    method: &'static str,
    since: u16,
    below: Below,
    /// Older clients learn that they are too old only if they may do it at all.
    late: bool,
    /// The microversion from which the place no longer takes it.
    until: Option<u16>,
    pub op: Op,
}

impl Entry {
    const fn since(mut self, since: u16, below: Below) -> Self {
        self.since = since;
        self.below = below;
        self
    }

    const fn until(mut self, gone: u16) -> Self {
        self.until = Some(gone);
        self
    }

    const fn to_those_allowed(mut self) -> Self {
        self.late = true;
        self
    }

    /// Refuses a microversion that does not have it, unless that is told later.
    fn reached(&self, version: Version) -> Result<(), Lost> {
        self.refusal(version).filter(|_| !self.late).map_or(Ok(()), Err)
    }

    /// What an older client gets; `None` in a microversion that has it.
    fn refusal(&self, version: Version) -> Option<Lost> {
        if version.knows_route(self.since) {
            return None;
        }
        Some(match self.below {
            Below::NotFound => Lost::Fault(FaultKind::NotFound),
            Below::NotFoundSince(there) if version.knows_route(there) => Lost::Fault(FaultKind::NotFound),
            Below::Unrouted | Below::NotFoundSince(_) => Lost::Refused(Refusal::Unrouted),
            Below::Hidden => Lost::Refused(Refusal::Hidden),
            Below::NotAcceptable => Lost::Fault(FaultKind::NotAcceptable),
            Below::MethodNotAllowed => Lost::Fault(FaultKind::MethodNotAllowed),
            Below::HiddenMethod => Lost::Refused(Refusal::HiddenMethod),
            Below::NoMethod(allow) => Lost::Refused(Refusal::Method(allow)),
        })
    }
}

const fn on(method: &'static str, op: Op) -> Entry {
    Entry { method, since: 1, below: Below::NotFound, late: false, until: None, op }
}
const fn get(op: Op) -> Entry {
    on("GET", op)
}
const fn post(op: Op) -> Entry {
    on("POST", op)
}
const fn put(op: Op) -> Entry {
    on("PUT", op)
}
const fn patch(op: Op) -> Entry {
    on("PATCH", op)
}
const fn delete(op: Op) -> Entry {
    on("DELETE", op)
}
const fn any(op: Op) -> Entry {
    on("*", op)
}

/// One path.
pub(crate) struct Place {
    path: &'static str,
    allow: &'static str,
    /// A trailing slash leads nowhere.
    exact: bool,
    entries: &'static [Entry],
}

impl Place {
    fn takes(&self, method: &str, version: Version) -> Option<&'static Entry> {
        let there = |e: &Entry| e.until.is_none_or(|gone| !version.knows_route(gone));
        self.entries.iter().find(|e| (e.method == method || e.method == "*") && there(e))
    }

    /// What a method gets that is not taken here.
    fn refuses(&self, version: Version) -> Refusal {
        // To those for whom there is nothing yet, the place does not exist.
        let hidden = |e: &Entry| e.below == Hidden && !version.knows_route(e.since);
        if !self.entries.is_empty() && self.entries.iter().all(hidden) { Refusal::Hidden } else { Refusal::Method(self.allow) }
    }

    /// Whether it does not exist in this microversion, whatever the method.
    fn is_hidden(&self, version: Version) -> bool {
        let unrouted = |e: &Entry| match e.below {
            Below::Unrouted => !version.knows_route(e.since),
            Below::NotFoundSince(there) => !version.knows_route(there),
            _ => false,
        };
        !self.entries.is_empty() && self.entries.iter().all(unrouted)
    }
}

const fn at(path: &'static str, allow: &'static str, entries: &'static [Entry]) -> Place {
    Place { path, allow, exact: false, entries }
}
const fn exactly(path: &'static str, allow: &'static str, entries: &'static [Entry]) -> Place {
    Place { path, allow, exact: true, entries }
}

const ALL: &str = "DELETE, GET, PATCH, POST";
const G: &str = "GET";
const GDP: &str = "DELETE, GET, PUT";

use Below::{Hidden, HiddenMethod, MethodNotAllowed, NoMethod, NotAcceptable, NotFound, NotFoundSince, Unrouted};

#[rustfmt::skip]
const PLACES: &[Place] = &[
    at("", "GET, HEAD", &[get(Op::ApiRoot), on("HEAD", Op::ApiRoot), any(Op::WrongMethodOnRoot)]),

    at("nodes", ALL, &[get(Op::NodeList), post(Op::NodeCreate), patch(Op::IdentMissing), delete(Op::IdentMissing)]),
    exactly("nodes/detail", ALL, &[get(Op::NodeDetail)]),
    at("nodes/validate", ALL, &[get(Op::NodeValidateByQuery)]),
    at("nodes/{}", ALL, &[get(Op::NodeShow), patch(Op::NodePatch), delete(Op::NodeDelete), post(Op::IdentUnexpected)]),
    at("nodes/{}/validate", ALL, &[get(Op::NodeValidate), delete(Op::Nothing), post(Op::IdentUnexpected), patch(Op::IdentUnexpected)]),
    at("nodes/{}/maintenance", "DELETE, PUT", &[put(Op::MaintenanceSet), delete(Op::MaintenanceClear)]),
    at("nodes/{}/states", G, &[get(Op::States)]),
    at("nodes/{}/states/power", G, &[put(Op::PowerSet)]),
    at("nodes/{}/states/provision", G, &[put(Op::ProvisionSet)]),
    at("nodes/{}/states/raid", G, &[put(Op::RaidSet).since(12, NotAcceptable).to_those_allowed()]),
    at("nodes/{}/states/console", "GET, PUT", &[get(Op::ConsoleShow), put(Op::ConsoleSet)]),
    at("nodes/{}/states/boot_mode", G, &[put(Op::BootModeSet).since(76, NotFound).to_those_allowed()]),
    at("nodes/{}/states/secure_boot", G, &[put(Op::SecureBootSet).since(76, NotFound).to_those_allowed()]),
    // Older clients name the node last.
    at("nodes/states/{}", G, &[get(Op::States)]),
    at("nodes/states/console/{}", "GET, PUT", &[get(Op::ConsoleShow), put(Op::ConsoleSet)]),
    at("nodes/states/power/{}", G, &[put(Op::PowerSet)]),
    at("nodes/states/provision/{}", G, &[put(Op::ProvisionSet)]),
    at("nodes/management/boot_device/{}", "", &[get(Op::BootDeviceShow), put(Op::BootDeviceSet)]),
    at("nodes/maintenance/{}", "DELETE, PUT", &[put(Op::MaintenanceSet), delete(Op::MaintenanceClear)]),
    at("nodes/{}/management", "", &[]),
    at("nodes/{}/management/{}", "", &[]),
    at("nodes/{}/management/boot_device", "", &[get(Op::BootDeviceShow), put(Op::BootDeviceSet)]),
    at("nodes/{}/management/boot_device/supported", "", &[get(Op::BootDeviceSupported), put(Op::IdentUnexpected)]),
    at("nodes/{}/management/inject_nmi", "", &[put(Op::InjectNmi).since(29, NotFound)]),
    at("nodes/{}/management/indicators", "", &[get(Op::Indicators), put(Op::IdentMissing)]),
    at("nodes/{}/management/indicators/{}", "", &[get(Op::IndicatorShow), put(Op::IndicatorSet)]),
    at("nodes/{}/vendor_passthru", "", &[any(Op::VendorCall)]),
    at("nodes/{}/vendor_passthru/methods", "", &[get(Op::VendorMethods), any(Op::VendorCall)]),
    at("nodes/{}/vendor_passthru/{}", "", &[any(Op::VendorCall)]),
    at("nodes/{}/traits", GDP, &[
        get(Op::TraitList).since(37, NotAcceptable),
        put(Op::TraitsSet).since(37, NoMethod(ALL)),
        delete(Op::TraitsClear).since(37, NotFound),
        post(Op::IdentUnexpected).until(37),
        patch(Op::IdentUnexpected).until(37),
    ]),
    at("nodes/{}/traits/{}", GDP, &[
        put(Op::TraitAdd).since(37, NoMethod(ALL)),
        delete(Op::TraitRemove).since(37, NotFound),
        post(Op::IdentUnexpected).until(37),
        patch(Op::IdentUnexpected).until(37),
    ]),
    at("nodes/{}/vifs", "DELETE, GET, POST", &[
        get(Op::Vifs).since(28, Unrouted),
        post(Op::VifAttach).since(28, Unrouted),
        delete(Op::IdentMissing).since(28, Unrouted),
    ]),
    at("nodes/{}/vifs/{}", "DELETE, GET, POST", &[delete(Op::VifDetach).since(28, Unrouted), post(Op::IdentUnexpected).since(28, Unrouted)]),
    at("nodes/{}/bios", G, &[get(Op::BiosList).since(40, Unrouted)]),
    at("nodes/{}/bios/{}", G, &[get(Op::BiosShow).since(40, Unrouted)]),
    at("nodes/{}/firmware", G, &[get(Op::FirmwareList).since(86, Unrouted)]),
    at("nodes/{}/firmware/{}", G, &[]),
    at("nodes/{}/history", G, &[get(Op::HistoryList).since(78, Unrouted)]),
    at("nodes/{}/history/{}", G, &[get(Op::HistoryShow).since(78, Unrouted)]),
    at("nodes/{}/inventory", G, &[get(Op::Inventory).since(81, Unrouted)]),
    at("nodes/{}/children", G, &[get(Op::NodeChildren).since(83, Unrouted)]),
    at("nodes/{}/children/{}", G, &[]),
    at("nodes/{}/vmedia", "DELETE, GET, POST", &[
        get(Op::Media).since(93, NotFoundSince(89)),
        post(Op::MediaAttach).since(89, Unrouted),
        delete(Op::MediaDetach).since(89, Unrouted),
    ]),
    at("nodes/{}/ports", ALL, &[get(Op::NodePorts), post(Op::IdentUnexpected), patch(Op::IdentUnexpected), delete(Op::IdentUnexpected)]),
    exactly("nodes/{}/ports/detail", ALL, &[get(Op::NodePortsDetail), post(Op::IdentUnexpected), patch(Op::IdentUnexpected), delete(Op::IdentUnexpected)]),
    at("nodes/{}/portgroups", ALL, &[
        get(Op::NodePortgroups).since(24, Unrouted),
        post(Op::IdentUnexpected).since(24, Unrouted),
        patch(Op::IdentMissing).since(24, Unrouted),
        delete(Op::IdentMissing).since(24, Unrouted),
    ]),
    exactly("nodes/{}/portgroups/detail", ALL, &[get(Op::NodePortgroupsDetail).since(24, Unrouted), post(Op::IdentUnexpected).since(24, Unrouted), patch(Op::IdentUnexpected).since(24, Unrouted), delete(Op::IdentUnexpected).since(24, Unrouted)]),
    at("nodes/{}/portgroups/{}", ALL, &[
        get(Op::PortgroupMisplaced).since(24, Unrouted),
        post(Op::IdentUnexpected).since(24, Unrouted),
        patch(Op::PortgroupMisplaced).since(24, Unrouted),
        delete(Op::PortgroupMisplaced).since(24, Unrouted),
    ]),
    at("nodes/{}/volume", G, &[get(Op::NodeVolume).since(32, NotFound)]),
    at("nodes/{}/volume/connectors", ALL, &[
        get(Op::ConnectorListOfNode).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
        patch(Op::IdentMissing).since(32, Unrouted),
        delete(Op::IdentMissing).since(32, Unrouted),
    ]),
    at("nodes/{}/volume/connectors/{}", ALL, &[
        get(Op::ConnectorMisplaced).since(32, Unrouted),
        patch(Op::ConnectorMisplaced).since(32, Unrouted),
        delete(Op::ConnectorMisplaced).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
    ]),
    at("nodes/{}/volume/targets", ALL, &[
        get(Op::TargetListOfNode).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
        patch(Op::IdentMissing).since(32, Unrouted),
        delete(Op::IdentMissing).since(32, Unrouted),
    ]),
    at("nodes/{}/volume/targets/{}", ALL, &[
        get(Op::TargetMisplaced).since(32, Unrouted),
        patch(Op::TargetMisplaced).since(32, Unrouted),
        delete(Op::TargetMisplaced).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
    ]),
    at("nodes/{}/allocation", "DELETE, GET", &[
        get(Op::AllocationOfNode).since(52, Unrouted),
        delete(Op::AllocationOfNodeDelete).since(52, Unrouted),
    ]),
    at("nodes/{}/allocation/{}", "DELETE, GET", &[]),

    at("ports", ALL, &[get(Op::PortList), post(Op::PortCreate), patch(Op::IdentMissing), delete(Op::IdentMissing)]),
    exactly("ports/detail", ALL, &[get(Op::PortDetail)]),
    at("ports/detail/{}", ALL, &[get(Op::Nothing), post(Op::IdentUnexpected), patch(Op::IdentUnexpected), delete(Op::IdentUnexpected)]),
    at("nodes/detail/{}", ALL, &[get(Op::Nothing), post(Op::IdentUnexpected), patch(Op::IdentUnexpected), delete(Op::Nothing)]),
    at("ports/{}", ALL, &[get(Op::PortShow), patch(Op::PortPatch), delete(Op::PortDelete), post(Op::IdentUnexpected)]),

    at("portgroups", ALL, &[
        get(Op::PortgroupList).since(23, NotFound),
        post(Op::PortgroupCreate).since(23, NotFound),
        patch(Op::IdentMissing).since(23, NotFound),
        delete(Op::IdentMissing).since(23, NotFound),
    ]),
    exactly("portgroups/detail", ALL, &[get(Op::PortgroupDetail).since(23, NotFound)]),
    at("portgroups/{}", ALL, &[
        get(Op::PortgroupShow).since(23, NotFound),
        patch(Op::PortgroupPatch).since(23, NotFound),
        delete(Op::PortgroupDelete).since(23, NotFound),
        post(Op::IdentUnexpected).since(23, NotFound),
    ]),
    at("portgroups/{}/detail", ALL, &[get(Op::Nothing)]),
    at("portgroups/{}/ports", ALL, &[
        get(Op::PortgroupPorts).since(24, Unrouted),
        post(Op::IdentUnexpected).since(24, Unrouted),
        patch(Op::IdentMissing).since(24, Unrouted),
        delete(Op::IdentMissing).since(24, Unrouted),
    ]),
    exactly("portgroups/{}/ports/detail", ALL, &[get(Op::PortgroupPortsDetail).since(24, Unrouted), post(Op::IdentUnexpected).since(24, Unrouted), patch(Op::IdentUnexpected).since(24, Unrouted), delete(Op::IdentUnexpected).since(24, Unrouted)]),

    at("chassis", ALL, &[get(Op::ChassisList), post(Op::ChassisCreate), patch(Op::IdentMissing), delete(Op::IdentMissing)]),
    exactly("chassis/detail", ALL, &[get(Op::ChassisDetail)]),
    at("chassis/{}", ALL, &[
        get(Op::ChassisShow),
        patch(Op::ChassisPatch),
        delete(Op::ChassisDelete),
        post(Op::IdentUnexpected),
    ]),
    at("chassis/{}/detail", ALL, &[get(Op::Nothing)]),
    at("chassis/{}/nodes", ALL, &[
        get(Op::ChassisNodes),
        post(Op::IdentUnexpected),
        patch(Op::IdentMissing),
        delete(Op::IdentMissing),
    ]),
    exactly("chassis/{}/nodes/detail", ALL, &[get(Op::ChassisNodesDetail), post(Op::IdentUnexpected), patch(Op::IdentUnexpected), delete(Op::IdentUnexpected)]),

    at("drivers", G, &[get(Op::DriverList)]),
    at("drivers/properties", G, &[get(Op::IdentMissing)]),
    at("drivers/{}", G, &[get(Op::DriverShow)]),
    at("drivers/{}/properties", G, &[get(Op::DriverProperties)]),
    at("drivers/{}/raid", "", &[]),
    at("drivers/{}/raid/logical_disk_properties", "", &[get(Op::DriverRaid).since(12, NotAcceptable).to_those_allowed()]),
    at("drivers/{}/vendor_passthru/methods", "", &[get(Op::DriverMethods), any(Op::DriverVendorCall)]),
    at("drivers/{}/vendor_passthru", "", &[any(Op::DriverVendorCall)]),
    at("drivers/{}/vendor_passthru/{}", "", &[any(Op::DriverVendorCall)]),

    at("volume", G, &[get(Op::VolumeRoot).since(32, NotFound)]),
    at("volume/connectors", ALL, &[
        get(Op::ConnectorList).since(32, Unrouted),
        post(Op::ConnectorCreate).since(32, Unrouted),
        patch(Op::IdentMissing).since(32, Unrouted),
        delete(Op::IdentMissing).since(32, Unrouted),
    ]),
    at("volume/connectors/{}", ALL, &[
        get(Op::ConnectorShow).since(32, Unrouted),
        patch(Op::ConnectorPatch).since(32, Unrouted),
        delete(Op::ConnectorDelete).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
    ]),
    at("volume/targets", ALL, &[
        get(Op::TargetList).since(32, Unrouted),
        post(Op::TargetCreate).since(32, Unrouted),
        patch(Op::IdentMissing).since(32, Unrouted),
        delete(Op::IdentMissing).since(32, Unrouted),
    ]),
    at("volume/targets/{}", ALL, &[
        get(Op::TargetShow).since(32, Unrouted),
        patch(Op::TargetPatch).since(32, Unrouted),
        delete(Op::TargetDelete).since(32, Unrouted),
        post(Op::IdentUnexpected).since(32, Unrouted),
    ]),

    at("conductors", G, &[get(Op::ConductorList).since(49, NotFound).to_those_allowed()]),
    at("conductors/{}", G, &[get(Op::ConductorShow).since(49, NotFound).to_those_allowed()]),

    at("allocations", ALL, &[
        get(Op::AllocationList).since(52, NotFound),
        post(Op::AllocationCreate).since(52, MethodNotAllowed),
        patch(Op::IdentMissing).since(57, MethodNotAllowed),
        delete(Op::IdentMissing).since(52, MethodNotAllowed),
    ]),
    at("allocations/{}", ALL, &[
        get(Op::AllocationShow).since(52, NotFound),
        patch(Op::AllocationPatch).since(57, MethodNotAllowed),
        delete(Op::AllocationDelete).since(52, MethodNotAllowed),
        post(Op::IdentUnexpected).since(52, MethodNotAllowed),
    ]),
    at("deploy_templates", ALL, &[
        get(Op::TemplateList).since(55, Hidden),
        post(Op::TemplateCreate).since(55, HiddenMethod),
        patch(Op::IdentMissing).since(55, HiddenMethod),
        delete(Op::IdentMissing).since(55, HiddenMethod),
    ]),
    at("deploy_templates/{}", ALL, &[
        get(Op::TemplateShow).since(55, Hidden),
        patch(Op::TemplatePatch).since(55, HiddenMethod),
        delete(Op::TemplateDelete).since(55, HiddenMethod),
        post(Op::IdentUnexpected).since(55, HiddenMethod),
    ]),
    at("runbooks", ALL, &[
        get(Op::RunbookList).since(92, Hidden),
        post(Op::RunbookCreate).since(92, HiddenMethod),
        patch(Op::IdentMissing).since(92, HiddenMethod),
        delete(Op::IdentMissing).since(92, HiddenMethod),
    ]),
    at("runbooks/{}", ALL, &[
        get(Op::RunbookShow).since(92, Hidden),
        patch(Op::RunbookPatch).since(92, HiddenMethod),
        delete(Op::RunbookDelete).since(92, HiddenMethod),
        post(Op::IdentUnexpected).since(92, HiddenMethod),
    ]),
    at("runbooks/{}/traits", GDP, &[
        get(Op::RunbookTraitList).since(112, Hidden),
        put(Op::RunbookTraitsSet).since(112, Hidden),
        delete(Op::RunbookTraitsClear).since(112, Hidden),
    ]),
    at("runbooks/{}/traits/{}", GDP, &[
        put(Op::RunbookTraitAdd).since(112, Hidden),
        delete(Op::RunbookTraitRemove).since(112, Hidden),
    ]),
    at("inspection_rules", ALL, &[
        get(Op::RuleList).since(96, NotFound),
        post(Op::RuleCreate).since(96, MethodNotAllowed),
        patch(Op::IdentMissing).since(96, MethodNotAllowed),
        delete(Op::IdentMissing).since(96, MethodNotAllowed),
    ]),
    at("inspection_rules/{}", ALL, &[
        get(Op::RuleShow).since(96, NotFound),
        patch(Op::RulePatch).since(96, MethodNotAllowed),
        delete(Op::RuleDelete).since(96, MethodNotAllowed),
        post(Op::IdentUnexpected).since(96, MethodNotAllowed),
    ]),

    at("shards", G, &[get(Op::ShardList).since(82, NotFound)]),
    at("shards/{}", G, &[get(Op::Nothing)]),
    at("events", "POST", &[post(Op::Events).since(54, NotFound)]),

    at("lookup", G, &[get(Op::Lookup)]),
    at("lookup/{}", G, &[]),
    at("heartbeat", "POST", &[post(Op::Heartbeat).since(22, NotFound)]),
    at("heartbeat/{}", "POST", &[post(Op::Heartbeat).since(22, NotFound)]),
    at("continue_inspection", "POST", &[post(Op::ContinueInspection)]),
];
