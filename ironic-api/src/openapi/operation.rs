//! What each operation takes and gives: attributes of bodies, query parameters, answers. Rows only, beside the functions that read them.

use bessemer_model::{Json, JsonMap};
use serde_json::json;

use super::kind::{self, Kind};
use crate::{
    listing::PAGING,
    resource::{allocation, node, port, portgroup},
    route::Op,
    version::{
        FieldTable,
        fields::{
            AllocationField, CREATE, ChassisField, ConductorField, ConnectorField, DeployTemplateField, NodeField, PortField,
            PortgroupField, RuleField, RunbookField, StatesField, TargetField,
        },
        table::{POWER_TARGETS, VERBS},
    },
};

/// Attributes of the bodies of actions: name, kind, whether it must be there. Other attributes are refused.
type Attributes = &'static [(&'static str, Kind, bool)];

const CLEAN: Kind = Kind::Steps("order", false);
const MUST: bool = true;
const MAY: bool = false;

/// The body of an action; `None` for what takes no body or has one by its resource.
#[rustfmt::skip]
fn action(op: Op) -> Option<Attributes> {
    Some(match op {
        Op::MaintenanceSet => &[("reason", Kind::Text(65_535), MAY)],
        Op::RaidSet => &[("logical_disks", Kind::Own(r#"{"type":"array","minItems":1,"items":{"type":"object","required":["size_gb","raid_level"]}}"#), MAY)],
        Op::ConsoleSet => &[("enabled", Kind::Bool, MUST)],
        Op::BootModeSet => &[("target", Kind::OneOf(&["bios", "uefi"]), MUST)],
        Op::SecureBootSet => &[("target", Kind::Bool, MUST)],
        Op::BootDeviceSet => &[("boot_device", Kind::Text(255), MUST), ("persistent", Kind::Bool, MAY)],
        Op::InjectNmi | Op::TraitAdd | Op::RunbookTraitAdd => &[],
        Op::IndicatorSet => &[("state", Kind::OneOf(&["ON", "OFF", "BLINKING", "UNKNOWN"]), MUST)],
        Op::TraitsSet | Op::RunbookTraitsSet => &[("traits", Kind::Traits, MUST)],
        Op::VifAttach => &[("id", Kind::Name, MUST), ("port_uuid", Kind::Uuid, MAY), ("portgroup_uuid", Kind::Uuid, MAY)],
        Op::MediaAttach => &[
            ("device_type", Kind::OneOf(&["disk", "cdrom", "floppy"]), MUST),
            ("image_url", Kind::Address, MUST),
            ("image_download_source", Kind::OneOf(&["http", "local", "swift"]), MAY),
        ],
        Op::Events => &[("events", Kind::Own(EVENTS), MUST)],
        Op::Heartbeat => &[
            // Named here where the path names none.
            ("node_ident", Kind::Name, MAY),
            ("callback_url", Kind::Address, MUST),
            ("agent_version", Kind::Text(255), MAY),
            ("agent_token", Kind::Text(255), MAY),
            ("agent_verify_ca", Kind::Text(65_535), MAY),
            ("agent_status", Kind::OneOf(&["start", "end", "error"]), MAY),
            ("agent_status_message", Kind::Text(65_535), MAY),
        ],
        _ => return None,
    })
}

const EVENTS: &str = r#"{"type":"array","minItems":1,"items":{"type":"object","required":["event","port_id","mac_address","status"],
    "properties":{"event":{"enum":["network.bind_port","network.unbind_port","network.delete_port"]},
    "port_id":{"type":"string","format":"uuid"},"mac_address":{"type":"string","pattern":"^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"},
    "status":{"type":"string"},"device_id":{"type":["string","null"],"format":"uuid"},
    "binding:host_id":{"type":["string","null"],"format":"uuid"},"binding:vnic_type":{"type":["string","null"]}},
    "additionalProperties":false}}"#;

const INSPECTION: &str = r#"{"type":"object","required":["inventory"],"properties":{"plugin_data":{"type":["object","null"]},
    "inventory":{"type":"object","required":["interfaces"],"properties":{"interfaces":{"type":"array","minItems":1,"items":{
    "type":"object","required":["mac_address"],"properties":{"mac_address":{"type":"string",
    "pattern":"^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"}}}}}}}}"#;

/// The schema of the body that an operation takes.
pub(super) fn body(method: &str, op: Op) -> Option<Json> {
    if let Some(attributes) = action(op) {
        let others = op == Op::VifAttach;
        return Some(object(attributes.iter().copied(), others));
    }
    Some(match op {
        Op::NodeCreate => new::<NodeField>(&["driver"], &[("description", Kind::Text(4096)), ("parent_node", Kind::Name)]),
        Op::PortCreate => new::<PortField>(&["address", "node_uuid"], &[("node_ident", Kind::Name)]),
        Op::PortgroupCreate => new::<PortgroupField>(&["node_uuid"], &[]),
        Op::ChassisCreate => new::<ChassisField>(&[], &[]),
        Op::ConnectorCreate => new::<ConnectorField>(&["node_uuid", "type", "connector_id"], &[]),
        Op::TargetCreate => new::<TargetField>(&["node_uuid", "volume_type", "volume_id", "boot_index"], &[]),
        Op::AllocationCreate => new::<AllocationField>(&["resource_class"], &[("node", Kind::Name)]),
        Op::TemplateCreate => {
            let name = Kind::Own(r#"{"type":"string","pattern":"^CUSTOM_[A-Z0-9_]+$","maxLength":255}"#);
            new::<DeployTemplateField>(&["name", "steps"], &[("steps", Kind::Steps("priority", true)), ("name", name)])
        }
        Op::RunbookCreate => {
            let name = Kind::Own(r#"{"type":"string","pattern":"^CUSTOM_[A-Z0-9_]+$","maxLength":255}"#);
            new::<RunbookField>(&["name", "steps"], &[("steps", Kind::Steps("order", true)), ("name", name)])
        }
        Op::RuleCreate => new::<RuleField>(&["actions"], &[]),
        Op::PowerSet => {
            let targets: Vec<&str> = POWER_TARGETS.iter().map(|(n, _)| *n).collect();
            json!({
                "type": "object",
                "required": ["target"],
                "properties": { "target": { "enum": targets }, "timeout": { "type": "integer", "minimum": 1, "maximum": 31_536_000 } },
                "additionalProperties": false,
            })
        }
        Op::ProvisionSet => {
            let verbs: Vec<&str> = VERBS.iter().map(|v| v.name).collect();
            json!({
                "type": "object",
                "required": ["target"],
                "properties": {
                    "target": { "enum": verbs },
                    "configdrive": { "type": ["object", "string"] },
                    "clean_steps": CLEAN.given(),
                    "deploy_steps": Kind::Steps("priority", true).given(),
                    "service_steps": CLEAN.given(),
                    "rescue_password": { "type": "string", "minLength": 1 },
                    "disable_ramdisk": { "type": "boolean" },
                    "runbook": { "type": "string" },
                },
                "additionalProperties": false,
            })
        }
        Op::ContinueInspection => Kind::Own(INSPECTION).given(),
        Op::VendorCall | Op::DriverVendorCall if !matches!(method, "GET" | "DELETE") => json!({ "type": "object" }),
        _ if method == "PATCH" => json!({ "$ref": "#/components/schemas/Patch" }),
        _ => return None,
    })
}

fn object(attributes: impl Iterator<Item = (&'static str, Kind, bool)>, others: bool) -> Json {
    let (mut properties, mut required) = (JsonMap::new(), Vec::new());
    for (name, kind, must) in attributes {
        properties.insert(name.to_owned(), kind.given());
        if must {
            required.push(name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": others })
}

/// The body that makes a resource: attributes of its table that may be given, some with a kind of their own.
fn new<F: FieldTable>(required: &[&str], own: &[(&'static str, Kind)]) -> Json {
    let known = F::ALL.iter().filter(|f| f.rule().is(CREATE)).map(|f| f.name());
    let more = own.iter().map(|(n, _)| *n).filter(|n| F::named(n).is_none());
    let kind = |name: &'static str| own.iter().find(|(n, _)| *n == name).map_or_else(|| kind::of(name), |(_, k)| *k);
    object(known.chain(more).map(|n| (n, kind(n), required.contains(&n))), false)
}

const SHORT_FORM: &[&str] = &["fields", "detail"];

/// The query parameters that an operation takes.
pub(super) fn query(op: Op) -> Vec<&'static str> {
    let lists: &[&[&str]] = match op {
        Op::NodeList | Op::ChassisNodes => &[node::FILTERS, PAGING, SHORT_FORM],
        Op::NodeDetail | Op::ChassisNodesDetail => &[node::FILTERS, PAGING],
        Op::PortList | Op::NodePorts | Op::PortgroupPorts => &[port::FILTERS, PAGING, SHORT_FORM],
        Op::PortDetail | Op::NodePortsDetail | Op::PortgroupPortsDetail => &[port::FILTERS, PAGING],
        Op::PortgroupList | Op::NodePortgroups => &[portgroup::FILTERS, PAGING, SHORT_FORM],
        Op::PortgroupDetail | Op::NodePortgroupsDetail => &[portgroup::FILTERS, PAGING],
        Op::ChassisList | Op::ConductorList | Op::TemplateList => &[PAGING, SHORT_FORM],
        Op::ChassisDetail => &[PAGING],
        Op::ConnectorList | Op::TargetList | Op::ConnectorListOfNode | Op::TargetListOfNode => &[PAGING, SHORT_FORM, &["node"]],
        Op::AllocationList => &[allocation::FILTERS, PAGING, &["fields"]],
        Op::RunbookList => &[PAGING, SHORT_FORM, &["project"]],
        Op::RuleList => &[PAGING, SHORT_FORM, &["phase"]],
        Op::DriverList => &[&["type"], SHORT_FORM],
        Op::HistoryList => &[PAGING, &["detail"]],
        Op::BiosList => &[SHORT_FORM],
        Op::NodeShow
        | Op::PortShow
        | Op::PortgroupShow
        | Op::ChassisShow
        | Op::ConnectorShow
        | Op::TargetShow
        | Op::AllocationShow
        | Op::AllocationOfNode
        | Op::TemplateShow
        | Op::RunbookShow
        | Op::RuleShow
        | Op::ConductorShow
        | Op::DriverShow => &[&["fields"]],
        Op::NodePatch => &[&["reset_interfaces"]],
        Op::NodeValidateByQuery => &[&["node", "node_uuid"]],
        Op::Lookup => &[&["addresses", "node_uuid"]],
        Op::ContinueInspection => &[&["node_uuid"]],
        Op::MediaDetach => &[&["device_types"]],
        _ => &[],
    };
    lists.concat()
}

/// The schema of one query parameter.
pub(super) fn parameter(op: Op, name: &str) -> Json {
    match (op, name) {
        // Runbooks of the caller's project, or not; everywhere else the project itself.
        (Op::RunbookList, "project") => Kind::Bool.given(),
        (Op::ConductorList, "marker") => Kind::Text(255).given(),
        (Op::DriverList, "type") => Kind::OneOf(&["classic", "dynamic"]).given(),
        (Op::MediaDetach, _) => Kind::OneOf(&["disk", "cdrom", "floppy"]).given(),
        _ => match kind::of(name) {
            // What a body may hold would not fit into an address.
            Kind::Text(longest) => Kind::Text(longest.min(255)).given(),
            other => other.given(),
        },
    }
}

/// What an operation answers: the status, and the schema of the body.
pub(super) fn answer(op: Op) -> Option<(&'static str, Json)> {
    let ok = |schema| Some(("200", schema));
    let made = |schema| Some(("201", schema));
    match op {
        Op::NodeList | Op::NodeDetail | Op::ChassisNodes | Op::ChassisNodesDetail => ok(list::<NodeField>("nodes")),
        Op::NodeShow | Op::NodePatch => ok(one::<NodeField>()),
        Op::NodeCreate => made(one::<NodeField>()),
        Op::States => ok(one::<StatesField>()),
        Op::PortList | Op::PortDetail | Op::NodePorts | Op::NodePortsDetail | Op::PortgroupPorts | Op::PortgroupPortsDetail => {
            ok(list::<PortField>("ports"))
        }
        Op::PortShow | Op::PortPatch => ok(one::<PortField>()),
        Op::PortCreate => made(one::<PortField>()),
        Op::PortgroupList | Op::PortgroupDetail | Op::NodePortgroups | Op::NodePortgroupsDetail => ok(list::<PortgroupField>("portgroups")),
        Op::PortgroupShow | Op::PortgroupPatch => ok(one::<PortgroupField>()),
        Op::PortgroupCreate => made(one::<PortgroupField>()),
        Op::ChassisList | Op::ChassisDetail => ok(list::<ChassisField>("chassis")),
        Op::ChassisShow | Op::ChassisPatch => ok(one::<ChassisField>()),
        Op::ChassisCreate => made(one::<ChassisField>()),
        Op::ConnectorList | Op::ConnectorListOfNode => ok(list::<ConnectorField>("connectors")),
        Op::ConnectorShow | Op::ConnectorPatch => ok(one::<ConnectorField>()),
        Op::ConnectorCreate => made(one::<ConnectorField>()),
        Op::TargetList | Op::TargetListOfNode => ok(list::<TargetField>("targets")),
        Op::TargetShow | Op::TargetPatch => ok(one::<TargetField>()),
        Op::TargetCreate => made(one::<TargetField>()),
        Op::AllocationList => ok(list::<AllocationField>("allocations")),
        Op::AllocationShow | Op::AllocationPatch | Op::AllocationOfNode => ok(one::<AllocationField>()),
        Op::AllocationCreate => made(one::<AllocationField>()),
        Op::TemplateList => ok(list::<DeployTemplateField>("deploy_templates")),
        Op::TemplateShow | Op::TemplatePatch => ok(one::<DeployTemplateField>()),
        Op::TemplateCreate => made(one::<DeployTemplateField>()),
        Op::RunbookList => ok(list::<RunbookField>("runbooks")),
        Op::RunbookShow | Op::RunbookPatch => ok(one::<RunbookField>()),
        Op::RunbookCreate => made(one::<RunbookField>()),
        Op::RuleList => ok(list::<RuleField>("inspection_rules")),
        Op::RuleShow | Op::RulePatch => ok(one::<RuleField>()),
        Op::RuleCreate => made(one::<RuleField>()),
        Op::ConductorList => ok(list::<ConductorField>("conductors")),
        Op::ConductorShow => ok(one::<ConductorField>()),
        Op::TraitList | Op::RunbookTraitList => {
            ok(json!({ "type": "object", "required": ["traits"], "properties": { "traits": Kind::Texts.given() } }))
        }
        Op::Vifs => ok(json!({ "type": "object", "required": ["vifs"], "properties": { "vifs": Kind::Objects.given() } })),
        Op::ShardList => ok(json!({ "type": "object", "required": ["shards"], "properties": { "shards": Kind::Objects.given() } })),
        _ => None,
    }
}

/// A resource in an answer. Which attributes are there depends on microversion and query.
fn one<F: FieldTable>() -> Json {
    let properties: JsonMap = F::ALL.iter().map(|f| (f.name().to_owned(), kind::of(f.name()).shown())).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn list<F: FieldTable>(key: &str) -> Json {
    json!({
        "type": "object",
        "required": [key],
        "properties": { key: { "type": "array", "items": one::<F>() }, "next": { "type": "string" } },
        "additionalProperties": false,
    })
}
