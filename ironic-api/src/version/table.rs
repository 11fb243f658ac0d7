//! The range of microversions and the rules that are not about fields: queries, verbs, power targets, values, links of the root.
//!
//! Rows only; routes with their microversions are in `route.rs`, fields in [`super::fields`], behaviours in `super::behaviour`.

use bessemer_model::state::ProvisionState;

/// Oldest minor served.
pub const MIN: u16 = 1;
/// Newest minor served.
pub const MAX: u16 = 115;

/// A list that takes query parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the resources")]
pub enum Listed {
    Nodes,
    NodesInShort,
    Ports,
    Portgroups,
    Drivers,
    Allocations,
}

/// A query parameter that is refused (406) below a microversion. Parameters that are accepted at any have no row.
pub struct QueryRule {
    pub(super) of: Listed,
    pub(super) name: &'static str,
    pub(super) since: u16,
}

const fn q(of: Listed, name: &'static str, since: u16) -> QueryRule {
    QueryRule { of, name, since }
}

/// Every such parameter (`api.md` sections 3.2, 4 and 7). `description_contains`, `retired` and `project` are not
/// enforced for nodes, `conductor_groups` and `description_contains` not for ports and port groups.
pub const QUERIES: &[QueryRule] = &[
    q(Listed::Nodes, "provision_state", 9),
    q(Listed::Nodes, "driver", 16),
    q(Listed::Nodes, "resource_class", 21),
    q(Listed::Nodes, "fault", 42),
    q(Listed::Nodes, "conductor_group", 46),
    q(Listed::Nodes, "conductor", 49),
    q(Listed::Nodes, "owner", 50),
    q(Listed::Nodes, "lessee", 65),
    q(Listed::Nodes, "shard", 82),
    q(Listed::Nodes, "sharded", 82),
    q(Listed::Nodes, "instance_name", 104),
    // The detailed list knows parents and children in any microversion.
    q(Listed::NodesInShort, "include_children", 83),
    q(Listed::NodesInShort, "parent_node", 83),
    q(Listed::Ports, "portgroup", 24),
    q(Listed::Ports, "shard", 82),
    q(Listed::Portgroups, "shard", 106),
    q(Listed::Allocations, "owner", 60),
    q(Listed::Drivers, "type", 30),
    q(Listed::Drivers, "detail", 30),
    q(Listed::Drivers, "fields", 77),
];

/// What a too-old microversion does to a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    /// 406.
    NotAcceptable,
    /// 400.
    Invalid,
}

/// A `target` of `PUT states/provision`.
pub struct VerbRule {
    /// Name on the wire.
    pub name: &'static str,
    pub(super) since: u16,
    pub(super) below: Early,
}

const fn v(name: &'static str, since: u16) -> VerbRule {
    VerbRule { name, since, below: Early::NotAcceptable }
}

/// Every verb (`api.md` section 3.4).
pub const VERBS: &[VerbRule] = &[
    v("active", 1),
    v("deleted", 1),
    v("rebuild", 1),
    v("manage", 4),
    v("provide", 4),
    v("inspect", 6),
    v("abort", 13),
    v("clean", 15),
    v("adopt", 17),
    v("rescue", 38),
    v("unrescue", 38),
    v("deploy", 73),
    v("undeploy", 73),
    VerbRule { name: "unhold", since: 85, below: Early::Invalid },
    v("service", 87),
];

/// Targets of `PUT states/power`.
pub const POWER_TARGETS: &[(&str, u16)] =
    &[("power on", 1), ("power off", 1), ("rebooting", 1), ("soft rebooting", 27), ("soft power off", 27)];

/// Provision states that older clients see as something else: the state, the first microversion that knows it, what is shown before.
pub const STATE_NAMES: &[(ProvisionState, u16, Option<&str>)] =
    &[(ProvisionState::Available, 2, None), (ProvisionState::InspectWait, 39, Some("inspecting"))];

/// Resources that `GET /v1` links to.
pub const ROOT_LINKS: &[(&str, u16)] = &[
    ("chassis", 1),
    ("nodes", 1),
    ("ports", 1),
    ("drivers", 1),
    ("portgroups", 23),
    ("volume", 32),
    ("lookup", 22),
    ("heartbeat", 22),
    ("conductors", 49),
    ("allocations", 52),
    ("events", 54),
    ("deploy_templates", 55),
    ("shards", 82),
    ("runbooks", 92),
    ("inspection_rules", 96),
    ("continue_inspection", 84),
];
