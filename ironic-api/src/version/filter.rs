//! What handlers ask of the table: which fields to show, which fields, queries and verbs to refuse. Nothing here writes a status; a
//! field that is too new is [`FaultKind::NotAcceptable`], one that is unknown is [`FaultKind::InvalidParameterValue`].

use std::marker::PhantomData;

use bessemer_model::{
    fault::{Fault, FaultKind},
    state::{PowerChange, ProvisionState},
};

use super::{
    Version,
    fields::{CREATE, FieldRule, LISTED, OPEN, OPEN_PATCH, PATCH, SHOWN, TOO_NEW_TO_CREATE, UNKNOWN_BEFORE, UNSORTABLE},
    table::{Early, Listed, POWER_TARGETS, QUERIES, ROOT_LINKS, STATE_NAMES, VERBS},
};

/// The fields of a resource, one rule each.
pub trait FieldTable: Copy + 'static {
    /// Every field, in the order of `RULES`.
    const ALL: &'static [Self];
    /// What is no field, but is sorted by all the same: columns that the contract's first server has in its tables.
    const COLUMNS: &'static [&'static str];
    /// The rules.
    const RULES: &'static [FieldRule];
    /// Position in both.
    fn index(self) -> u8;

    /// Its rule.
    fn rule(self) -> &'static FieldRule {
        &Self::RULES[usize::from(self.index())]
    }
    /// Name on the wire.
    fn name(self) -> &'static str {
        self.rule().name
    }
    /// The field of this name.
    fn named(name: &str) -> Option<Self> {
        Self::RULES.iter().position(|r| r.name == name).and_then(|i| Self::ALL.get(i).copied())
    }
}

/// A set of fields of one resource.
#[derive(Debug)]
pub struct FieldSet<F>(u128, PhantomData<F>);

impl<F> Clone for FieldSet<F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for FieldSet<F> {}

impl<F: FieldTable> FieldSet<F> {
    /// Nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0, PhantomData)
    }
    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0, PhantomData)
    }
    /// With one more.
    #[must_use]
    pub fn with(self, f: F) -> Self {
        Self(self.0 | (1 << f.index()), PhantomData)
    }
    /// How many they are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }
    /// Whether it is in.
    #[must_use]
    pub fn has(self, f: F) -> bool {
        self.0 & (1 << f.index()) != 0
    }
    /// Those that are in, in table order.
    pub fn iter(self) -> impl Iterator<Item = F> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let f = F::ALL.get(left.trailing_zeros() as usize).copied()?;
            left &= left - 1;
            Some(f)
        })
    }
}

/// How strict a patch is about fields of later microversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchGate {
    /// The field may be patched.
    Open,
    /// It may not be patched at all.
    Unknown,
    /// It came later.
    TooNew,
}

impl Version {
    /// Every field that this version shows.
    #[must_use]
    pub fn visible<F: FieldTable>(self) -> FieldSet<F> {
        F::ALL.iter().filter(|f| self.reached(f.rule().since)).fold(FieldSet::empty(), |s, f| s.with(*f))
    }

    /// Every field that a list of this version shows.
    #[must_use]
    pub fn listed<F: FieldTable>(self) -> FieldSet<F> {
        F::ALL.iter().filter(|f| f.rule().is(LISTED)).fold(self.visible(), |s, f| s.with(*f))
    }

    /// Those of a short list that this version shows.
    #[must_use]
    pub fn visible_of<F: FieldTable>(self, short: &[F]) -> FieldSet<F> {
        short.iter().filter(|f| self.reached(f.rule().since)).fold(FieldSet::empty(), |s, f| s.with(*f))
    }

    /// The fields that were asked for by name; `links` comes with them.
    ///
    /// # Errors
    /// `InvalidParameterValue` for an unknown field, `NotAcceptable` for one of a later version.
    pub fn selected<F: FieldTable>(self, names: &[String]) -> Result<FieldSet<F>, Fault> {
        let mut set = F::named("links").map_or(FieldSet::empty(), |l| FieldSet::empty().with(l));
        for name in names {
            let field = F::named(name)
                .filter(|f| !f.rule().is(SHOWN) && self.heard_of(*f))
                .ok_or_else(|| Fault::invalid(format!("Field(s) \"{name}\" are not valid.")))?;
            set = set.with(field);
        }
        match set.iter().find(|f| !self.lets(*f)) {
            Some(f) => Err(too_new(f.name())),
            None => Ok(set),
        }
    }

    /// Whether a request may name the field.
    fn lets<F: FieldTable>(self, field: F) -> bool {
        self.reached(field.rule().since) || field.rule().is(OPEN)
    }

    /// Refuses keys that cannot be given when creating.
    ///
    /// # Errors
    /// As [`Self::selected`].
    pub fn check_create<'a, F: FieldTable>(self, keys: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
        let mut late = None;
        for key in keys {
            match F::named(key).filter(|f| f.rule().is(CREATE) && (self.heard_of(*f) || f.rule().is(TOO_NEW_TO_CREATE))) {
                None => return Err(Fault::invalid(format!("Unexpected field \"{key}\" in the body."))),
                Some(f) if !self.lets(f) => late = Some(f),
                Some(_) => {}
            }
        }
        late.map_or(Ok(()), |f| Err(too_new(f.name())))
    }

    /// Whether a patch may start its path with `root`.
    #[must_use]
    pub fn patch_gate<F: FieldTable>(self, root: &str) -> PatchGate {
        match F::named(root).filter(|f| f.rule().is(PATCH) && self.heard_of(*f)) {
            None => PatchGate::Unknown,
            Some(f) if self.reached(f.rule().since) || f.rule().is(OPEN_PATCH) => PatchGate::Open,
            Some(_) => PatchGate::TooNew,
        }
    }

    /// Whether a field that is not there yet is refused as too new; the others are as good as unknown.
    fn heard_of<F: FieldTable>(self, f: F) -> bool {
        self.reached(f.rule().since) || !f.rule().is(UNKNOWN_BEFORE)
    }

    /// The field to sort by; `None` for the order of creation.
    ///
    /// # Errors
    /// As [`Self::selected`].
    pub fn sort_field<F: FieldTable>(self, key: &str) -> Result<Option<F>, Fault> {
        if key.is_empty() || key == "id" {
            return Ok(None);
        }
        let sortable = |f: &F| {
            let r = f.rule();
            !r.is(UNSORTABLE) && (!r.is(SHOWN) || matches!(r.name, "created_at" | "updated_at"))
        };
        // The number of a node stands for the node; the others tell nothing apart from the order of creation.
        let named = match (F::COLUMNS.contains(&key), key) {
            (true, "node_id") => F::named("node_uuid").filter(sortable),
            (true, _) => None,
            (false, _) => F::named(key),
        };
        if F::COLUMNS.contains(&key) && named.is_none() {
            return Ok(None);
        }
        if named.is_some_and(|f| !self.lets(f) && !f.rule().is(UNKNOWN_BEFORE) && !f.rule().is(SHOWN)) {
            return Err(too_new(key));
        }
        let field = named.filter(sortable);
        field.map(Some).ok_or_else(|| Fault::invalid(format!("The sort_key value \"{key}\" is invalid for sorting.")))
    }

    /// Refuses the name of a field that came later; what names none is let pass.
    ///
    /// # Errors
    /// `NotAcceptable`.
    pub fn not_too_new<F: FieldTable>(self, name: &str) -> Result<(), Fault> {
        F::named(name).filter(|f| !self.lets(*f)).map_or(Ok(()), |_| Err(too_new(name)))
    }

    /// Refuses query parameters of later versions.
    ///
    /// # Errors
    /// `NotAcceptable`.
    pub fn check_query<'a>(self, of: Listed, mut names: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
        match names.find(|n| QUERIES.iter().any(|r| r.of == of && r.name == *n && !self.reached(r.since))) {
            Some(n) => Err(Fault::new(FaultKind::NotAcceptable, format!("The query parameter \"{n}\" needs a newer API version."))),
            None => Ok(()),
        }
    }

    /// Refuses a `target` of `PUT states/provision` that this version does not know.
    ///
    /// # Errors
    /// `InvalidParameterValue` for an unknown one, `NotAcceptable` for a later one.
    pub fn check_verb(self, target: &str) -> Result<(), Fault> {
        let Some(rule) = VERBS.iter().find(|r| r.name == target) else {
            return Err(Fault::invalid(format!("The requested action \"{target}\" could not be understood.")));
        };
        if self.reached(rule.since) {
            return Ok(());
        }
        let kind = match rule.below {
            Early::NotAcceptable => FaultKind::NotAcceptable,
            Early::Invalid => FaultKind::InvalidStateRequested,
        };
        Err(Fault::new(kind, format!("The requested action \"{target}\" needs a newer API version.")))
    }

    /// The power action of a `target`.
    ///
    /// # Errors
    /// As [`Self::check_verb`].
    pub fn power_target(self, target: &str) -> Result<PowerChange, Fault> {
        let unknown = || Fault::invalid(format!("Invalid power state \"{target}\"."));
        let (_, since) = POWER_TARGETS.iter().find(|(n, _)| *n == target).ok_or_else(unknown)?;
        if !self.reached(*since) {
            return Err(Fault::new(FaultKind::NotAcceptable, format!("The power state \"{target}\" needs a newer API version.")));
        }
        PowerChange::parse(target).ok_or_else(unknown)
    }

    /// How this version calls a provision state; `None` where old clients see null.
    #[must_use]
    pub fn state_name(self, state: ProvisionState) -> Option<&'static str> {
        match STATE_NAMES.iter().find(|(s, ..)| *s == state) {
            Some((_, since, before)) if !self.reached(*since) => *before,
            _ => Some(state.as_str()),
        }
    }

    /// Resources that `GET /v1` links to.
    pub fn root_links(self) -> impl Iterator<Item = &'static str> {
        ROOT_LINKS.iter().filter(move |(_, since)| self.reached(*since)).map(|(n, _)| *n)
    }

    /// Whether a route of this age is there.
    #[must_use]
    pub(crate) const fn knows_route(self, since: u16) -> bool {
        self.reached(since)
    }
}

fn too_new(field: &str) -> Fault {
    Fault::new(FaultKind::NotAcceptable, format!("The field \"{field}\" needs a newer API version."))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::version::{
        Behaviour,
        fields::{
            AllocationField, ChassisField, ConductorField, ConnectorField, DeployTemplateField, DriverField, HistoryField, NodeField,
            PortField, PortgroupField, RuleField, RunbookField, StatesField, TargetField,
        },
    };

    /// Every minor, one line each time the set changes: what came and what went.
    fn walk<F: FieldTable>(what: &str, out: &mut String) {
        let mut before: Vec<&str> = Vec::new();
        for v in Version::all() {
            let now: Vec<&str> = v.visible::<F>().iter().map(FieldTable::name).collect();
            let came: Vec<&&str> = now.iter().filter(|n| !before.contains(n)).collect();
            let went: Vec<&&str> = before.iter().filter(|n| !now.contains(n)).collect();
            if !came.is_empty() || !went.is_empty() {
                let _ = writeln!(out, "{what} {v}: +{came:?} -{went:?} = {}", now.len());
            }
            before = now;
        }
    }

    #[test]
    fn the_field_set_of_every_microversion_and_resource_is_this() {
        let mut out = String::new();
        walk::<NodeField>("node", &mut out);
        walk::<StatesField>("node states", &mut out);
        walk::<PortField>("port", &mut out);
        walk::<PortgroupField>("port group", &mut out);
        walk::<ChassisField>("chassis", &mut out);
        walk::<DriverField>("driver", &mut out);
        walk::<ConductorField>("conductor", &mut out);
        walk::<HistoryField>("history", &mut out);
        walk::<ConnectorField>("volume connector", &mut out);
        walk::<TargetField>("volume target", &mut out);
        walk::<AllocationField>("allocation", &mut out);
        walk::<DeployTemplateField>("deploy template", &mut out);
        walk::<RunbookField>("runbook", &mut out);
        walk::<RuleField>("inspection rule", &mut out);
        insta::assert_snapshot!(out);
    }

    #[test]
    fn the_verbs_queries_values_and_behaviours_of_every_microversion_are_these() {
        let mut out = String::new();
        let mut before: Vec<String> = Vec::new();
        for v in Version::all() {
            let mut now: Vec<String> = VERBS.iter().filter(|r| v.check_verb(r.name).is_ok()).map(|r| format!("verb {}", r.name)).collect();
            now.extend(POWER_TARGETS.iter().filter(|(n, _)| v.power_target(n).is_ok()).map(|(n, _)| format!("power {n}")));
            let known = QUERIES.iter().filter(|q| v.check_query(q.of, std::iter::once(q.name)).is_ok());
            now.extend(known.map(|q| format!("query {:?}.{}", q.of, q.name)));
            now.extend(Behaviour::ALL.iter().filter(|b| v.has(**b)).map(|b| format!("behaviour {b:?}")));
            now.extend(v.root_links().map(|l| format!("root {l}")));
            let renamed = ProvisionState::ALL.iter().filter(|s| v.state_name(**s) != Some(s.as_str()));
            now.extend(renamed.map(|s| format!("state {s} shown as {:?}", v.state_name(*s))));
            for came in now.iter().filter(|n| !before.contains(n)) {
                let _ = writeln!(out, "{v} + {came}");
            }
            for went in before.iter().filter(|n| !now.contains(n)) {
                let _ = writeln!(out, "{v} - {went}");
            }
            before = now;
        }
        insta::assert_snapshot!(out);
    }

    #[test]
    fn a_field_is_refused_as_unknown_or_as_too_new() {
        let ask = |v: Version, f: &str| v.selected::<NodeField>(&[f.to_owned()]).map(|_| ()).map_err(|e| e.kind);
        assert_eq!(ask(Version::MAX, "health"), Ok(()));
        assert_eq!(ask(Version::MIN, "health"), Err(FaultKind::NotAcceptable));
        for unknown in ["bogus", "id", "links", "created_at", "ports"] {
            assert_eq!(ask(Version::MAX, unknown), Err(FaultKind::InvalidParameterValue), "{unknown}");
        }
    }
}
