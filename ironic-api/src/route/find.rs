//! From a method and a path to a handler, by the table of routes.

use std::sync::LazyLock;

use bessemer_model::fault::FaultKind;

use super::{Entry, Lost, Op, PLACES, Place};
use crate::{fault::Refusal, query::parse_uuid, request::is_loose_name, version::Version};

/// A place with the segments of its path.
type Split = (Vec<&'static str>, &'static Place);

/// Places by number of segments.
static BY_LENGTH: LazyLock<Vec<Vec<Split>>> = LazyLock::new(|| {
    let mut out: Vec<Vec<_>> = Vec::new();
    for p in PLACES {
        let segments: Vec<&str> = p.path.split('/').filter(|s| !s.is_empty()).collect();
        if out.len() <= segments.len() {
            out.resize_with(segments.len() + 1, Vec::new);
        }
        if let Some(slot) = out.get_mut(segments.len()) {
            slot.push((segments, p));
        }
    }
    // A fixed segment wins over a variable one, the leftmost first.
    for slot in &mut out {
        slot.sort_by_key(|(s, _)| s.iter().map(|s| *s == "{}").collect::<Vec<_>>());
    }
    out
});

/// Nodes and port groups look at what names one of them before they look at anything else, but not on these ways below a node.
fn is_ident_looked_at_later(segments: &[String]) -> bool {
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nodes", _, "states" | "vendor_passthru", ..] | ["nodes", _, "management", _, ..] | ["nodes", "", "validate"] => true,
        ["nodes" | "portgroups", ""] | ["portgroups", "", ..] => true,
        ["nodes" | "portgroups", ident, ..] => can_name(ident),
        _ => true,
    }
}

fn can_name(ident: &str) -> bool {
    parse_uuid(ident).is_some() || is_loose_name(ident)
}

/// The place does not take the method. Below a node, what names it is looked at even then, if not before.
fn no_method(segments: &[String], refusal: Refusal) -> Lost {
    match segments {
        [root, ident, _, ..] if root == "nodes" && !ident.is_empty() && !can_name(ident) => Lost::Refused(Refusal::Ident),
        _ => Lost::Refused(refusal),
    }
}

/// Places that fit a path, the most fixed first.
fn places_of(segments: &[String]) -> impl Iterator<Item = &'static Split> {
    let fits = move |pattern: &[&str]| pattern.iter().zip(segments).all(|(p, s)| *p == "{}" || p == s);
    BY_LENGTH.get(segments.len()).into_iter().flatten().filter(move |(pattern, _)| fits(pattern))
}

fn place_of(segments: &[String]) -> Option<&'static Split> {
    places_of(segments).next()
}

/// Where a method and path lead.
#[derive(Debug)]
pub(crate) struct Found {
    pub op: Op,
    /// The variable segments.
    pub params: Vec<String>,
    /// Fields asked for by a segment after the name, as if by `?fields=`.
    pub fields: Option<String>,
}

/// The handler of a method and path (segments below `/v1`, decoded).
pub(crate) fn find(method: &str, segments: &[String], slash: bool, version: Version) -> Result<Found, Lost> {
    // Empty segments below a name count for nothing; a name may be one, which is then refused as such.
    let ended = segments.iter().rposition(|s| !s.is_empty()).map_or(0, |i| i + 1);
    let least = if segments.first().is_some_and(|s| s == "volume") { 1 } else { 2 };
    let segments = segments.get(..ended.max(least)).unwrap_or(segments);
    if !is_ident_looked_at_later(segments) {
        return Err(Lost::Refused(Refusal::Ident));
    }
    let hidden = |n: usize| segments.get(..n).and_then(place_of).is_some_and(|(_, place)| place.is_hidden(version));
    if (1..=segments.len()).any(hidden) {
        return Err(Lost::Refused(Refusal::Unrouted));
    }
    // To methods other than its own, `detail` is the name of one like any other.
    let chosen = places_of(segments).find(|(_, place)| !place.exact || place.takes(method, version).is_some());
    let Some((pattern, place)) = chosen.or_else(|| place_of(segments)) else {
        return beyond(method, segments, version);
    };
    let entry = place.takes(method, version).ok_or_else(|| no_method(segments, place.refuses(version)))?;
    if place.exact && slash {
        return Err(Lost::Fault(FaultKind::NotFound));
    }
    entry.reached(version)?;
    Ok(Found { op: entry.op, params: params(pattern, segments), fields: None })
}

fn params(pattern: &[&str], segments: &[String]) -> Vec<String> {
    pattern.iter().zip(segments).filter(|(p, _)| **p == "{}").map(|(_, s)| s.clone()).collect()
}

/// Below a place that exists, what is left over counts as further arguments of its method; that of one resource takes fields.
fn beyond(method: &str, segments: &[String], version: Version) -> Result<Found, Lost> {
    let above = (1..segments.len()).rev().find_map(|n| {
        let (known, rest) = segments.split_at_checked(n)?;
        Some((places_of(known).find(|(_, place)| !place.exact)?, rest))
    });
    let Some(((pattern, place), rest)) = above else { return Err(Lost::Refused(Refusal::Unrouted)) };
    let entry = place.takes(method, version).ok_or_else(|| no_method(segments, place.refuses(version)))?;
    entry.reached(version)?;
    match rest {
        [fields] if entry.op.takes_fields() => Ok(Found { op: entry.op, params: params(pattern, segments), fields: Some(fields.clone()) }),
        // Deleting what a node does not have.
        _ if entry.op == Op::NodeDelete => Err(Lost::Fault(FaultKind::NotFound)),
        _ => Err(Lost::Fault(FaultKind::InvalidParameterValue)),
    }
}

impl Op {
    /// Whether a segment after the name asks for fields.
    const fn takes_fields(self) -> bool {
        matches!(
            self,
            Self::NodeShow
                | Self::PortShow
                | Self::PortgroupShow
                | Self::ChassisShow
                | Self::ConnectorShow
                | Self::TargetShow
                | Self::AllocationShow
                | Self::TemplateShow
                | Self::RunbookShow
                | Self::RuleShow
                | Self::ConductorShow
                | Self::DriverShow
        )
    }
}

/// Why this microversion does not have what the caller may do; asked after the policies.
pub(crate) fn too_old(op: Op, version: Version) -> Option<Lost> {
    let late = |e: &&Entry| e.late && e.op == op;
    PLACES.iter().flat_map(|p| p.entries).find(late).and_then(|e| e.refusal(version))
}

/// A method of a path, for describing the API.
pub(crate) struct Described {
    /// Below `/v1/`; `{}` stands for one segment.
    pub path: &'static str,
    /// `*` = any.
    pub method: &'static str,
    /// The microversion that brought it.
    pub since: u16,
    pub op: Op,
}

/// Every method that does something.
pub(crate) fn described() -> impl Iterator<Item = Described> {
    let refuses = |op: Op| matches!(op, Op::IdentMissing | Op::IdentUnexpected | Op::Nothing | Op::WrongMethodOnRoot);
    let rows = PLACES.iter().flat_map(|p| p.entries.iter().map(move |e| (p, e)));
    rows.filter(move |(_, e)| !refuses(e.op) && e.method != "HEAD").map(|(p, e)| Described {
        path: p.path,
        method: e.method,
        since: e.since,
        op: e.op,
    })
}

/// Whether the path is answered without authentication (`api.md` section 1.2).
pub(crate) fn is_public(segments: &[String]) -> bool {
    let bare = |s: &str| s.strip_suffix(".json").or_else(|| s.strip_suffix(".xml")).unwrap_or(s).to_owned();
    match segments {
        [] => true,
        [one] => matches!(bare(one).as_str(), "lookup" | "continue_inspection"),
        [first, id] => first == "heartbeat" && bare(id).bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ALL, *};

    fn path(p: &str) -> Vec<String> {
        p.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn fixed_segments_win_over_variable_ones() {
        let at = |m, p| find(m, &path(p), false, Version::MAX).map(|found| found.op).ok();
        assert_eq!(at("GET", "nodes/detail"), Some(Op::NodeDetail));
        assert_eq!(at("GET", "nodes/one"), Some(Op::NodeShow));
        assert_eq!(at("GET", "nodes/one/management/boot_device"), Some(Op::BootDeviceShow));
        assert_eq!(at("GET", "drivers/x/vendor_passthru/methods"), Some(Op::DriverMethods));
    }

    #[test]
    fn deleting_what_a_node_does_not_have_is_not_found() {
        let lost = |method, p: &str, minor: &str| {
            let version = Version::all().find(|v| v.to_string() == minor).expect("a version");
            find(method, &path(&format!("nodes/one/{p}")), false, version).map(|found| found.op)
        };
        for (p, minor) in [("traits", "1.36"), ("traits/A", "1.1"), ("nothing", "1.115"), ("nothing/more", "1.115")] {
            let got = lost("DELETE", p, minor);
            assert!(matches!(got, Err(Lost::Fault(FaultKind::NotFound))), "{p} in {minor}: {got:?}");
        }
        assert!(matches!(lost("PUT", "traits", "1.36"), Err(Lost::Refused(Refusal::Method(ALL)))));
        assert!(matches!(lost("DELETE", "validate", "1.115"), Ok(Op::Nothing)));
        assert!(matches!(lost("DELETE", "traits", "1.37"), Ok(Op::TraitsClear)));
    }

    #[test]
    fn what_a_microversion_does_not_have_below_a_node_takes_no_method_at_all() {
        let lost = |method, p: &str, minor: &str| {
            let version = Version::all().find(|v| v.to_string() == minor).expect("a version");
            find(method, &path(&format!("nodes/one/{p}")), false, version).map(|found| found.op)
        };
        let places =
            [("vifs", "1.27"), ("bios", "1.39"), ("allocation", "1.51"), ("history", "1.77"), ("firmware/x", "1.85"), ("vmedia", "1.88")];
        for (p, minor) in places {
            for method in ["GET", "PUT", "PATCH", "DELETE", "POST"] {
                let got = lost(method, p, minor);
                assert!(matches!(got, Err(Lost::Refused(Refusal::Unrouted))), "{method} {p} in {minor}: {got:?}");
            }
            assert!(matches!(lost("PUT", &format!("{p}/a/b"), minor), Err(Lost::Refused(Refusal::Unrouted))), "{p} in {minor}");
        }
        assert!(matches!(lost("PUT", "vmedia", "1.89"), Err(Lost::Refused(Refusal::Method(_)))));
        assert!(matches!(lost("GET", "vmedia", "1.92"), Err(Lost::Fault(FaultKind::NotFound))));
    }

    #[test]
    fn every_route_of_the_oldest_and_newest_microversion_is_known() {
        let line = |p: &Place, e: &Entry| {
            let late = if e.late { " to those allowed" } else { "" };
            format!("{} /v1/{} since 1.{} else {:?}{late} -> {:?}", e.method, p.path, e.since, e.below, e.op)
        };
        let lines: Vec<_> = PLACES.iter().flat_map(|p| p.entries.iter().map(move |e| line(p, e))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
