//! Inspection rules (`api.md` section 13). Their links and the address of the next page say `inspection`, not `inspection_rules`: that is
//! the contract.

use std::fmt::Display;

use bessemer_db::RuleSort as Sort;
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::RuleId,
    inspection_rule::{self as rule, InspectionRule, MAIN, MAX_PRIORITY},
};
use serde::ser::SerializeMap;
use serde_json::json;
use uuid::Uuid;

use super::{
    node_doc::Doc,
    record::{Filtered, Resource, Strict, whole},
};
use crate::{
    links::Links,
    listing::{Look, Show},
    patch::{Op, Patch},
    query::parse_uuid,
    request::Req,
    version::{FieldTable, fields::RuleField as F},
};

impl Show for InspectionRule {
    type Field = F;
    const KEY: &'static str = "inspection_rules";
    fn identity(&self) -> impl Display {
        self.id
    }
    fn field<M: SerializeMap>(&self, f: F, look: Look<'_>, m: &mut M) -> Result<(), M::Error> {
        let k = f.name();
        match f {
            F::Uuid => m.serialize_entry(k, &self.id),
            F::CreatedAt => m.serialize_entry(k, &self.created_at.to_wire()),
            F::UpdatedAt => m.serialize_entry(k, &self.updated_at.map(|t| t.to_wire())),
            F::Description => m.serialize_entry(k, &self.description),
            F::Priority => m.serialize_entry(k, &self.priority),
            F::Sensitive => m.serialize_entry(k, &self.sensitive),
            F::Phase => m.serialize_entry(k, &self.phase),
            F::Conditions | F::Actions if self.sensitive => m.serialize_entry(k, &Json::Null),
            F::Conditions => m.serialize_entry(k, &self.conditions),
            F::Actions => m.serialize_entry(k, &self.actions),
            F::Links => m.serialize_entry(k, &Links { base: look.base, path: format_args!("inspection/{}", self.id) }),
        }
    }
}

fn read(mut r: InspectionRule, doc: &JsonMap) -> Result<InspectionRule, Fault> {
    let d = Doc(doc);
    r.description = d.text("description", 255)?;
    r.sensitive = Strict(doc).flag("sensitive")?;
    r.priority = match doc.get("priority") {
        None => 0,
        Some(v) => whole(v)
            .filter(|n| (0..=MAX_PRIORITY).contains(n))
            .ok_or_else(|| Fault::invalid(format!("\"priority\" must be a whole number from 0 to {MAX_PRIORITY}.")))?,
    };
    let wrong = |what: String| Fault::invalid(format!("Inspection rule: {what}."));
    r.conditions = match doc.get("conditions") {
        None => vec![],
        Some(v) => rule::conditions(v).map_err(wrong)?,
    };
    let actions = doc.get("actions").ok_or_else(|| Fault::missing("\"actions\" is a required property."))?;
    r.actions = rule::actions(actions).map_err(wrong)?;
    Ok(r)
}

fn check_phase(v: &Json) -> Result<(), Fault> {
    if v.as_str() == Some(MAIN) { Ok(()) } else { Err(Fault::invalid(format!("\"phase\" must be \"{MAIN}\"."))) }
}

impl Resource for InspectionRule {
    const WHAT: &'static str = "Rule";
    const NAMED: bool = false;
    const SHORT: &'static [F] = &[F::Uuid, F::Priority, F::Phase, F::Description, F::Links];
    const FILTERS: &'static [&'static str] = &["phase"];
    const PATCH_ROOTS: &'static [&'static str] = &["id", "version", "scope"];
    const NEXT: &'static str = "inspection";
    fn column(f: F) -> Option<Sort> {
        Some(match f {
            F::Uuid => Sort::Uuid,
            F::Priority => Sort::Priority,
            F::Description => Sort::Description,
            F::Phase => Sort::Phase,
            F::Sensitive => Sort::Sensitive,
            F::CreatedAt => Sort::CreatedAt,
            F::UpdatedAt => Sort::UpdatedAt,
            _ => return None,
        })
    }
    /// `phase` does not narrow the list; it is said again in the next page's address, in the old server's words.
    fn filter(req: &Req) -> Result<Filtered<()>, Fault> {
        let phase = req.query.get("phase").filter(|p| !p.is_empty());
        let said = phase.map_or_else(
            || "{}".to_owned(),
            |p| format!("{{'phase': '{}'}}", percent_encoding::utf8_percent_encode(p, percent_encoding::NON_ALPHANUMERIC)),
        );
        Ok(((), vec![("filters", said)]))
    }
    fn blank(id: Uuid) -> Self {
        Self::blank(RuleId(id))
    }
    fn create(self, body: JsonMap, req: &Req) -> Result<Self, Fault> {
        req.version.check_create::<F>(body.keys().map(String::as_str))?;
        body.get("phase").map_or(Ok(()), check_phase)?;
        read(self, &body)
    }
    fn document(&self) -> JsonMap {
        let mut m = JsonMap::new();
        let mut put = |k: &str, v: Json| m.insert(k.to_owned(), v);
        put("uuid", json!(self.id));
        put("created_at", json!(self.created_at.to_wire()));
        put("updated_at", json!(self.updated_at.map(|t| t.to_wire())));
        for unused in Self::PATCH_ROOTS {
            put(unused, Json::Null);
        }
        put("description", json!(self.description));
        put("priority", json!(self.priority));
        put("sensitive", json!(self.sensitive));
        put("phase", json!(self.phase));
        put("conditions", json!(self.conditions));
        put("actions", json!(self.actions));
        m
    }
    fn patched(&self, patch: &Patch, _: &Req) -> Result<Self, Fault> {
        let unset = |o: &crate::patch::Operation| o.root() == "sensitive" && (o.op == Op::Remove || o.value != Json::Bool(true));
        if self.sensitive && patch.0.iter().any(unset) {
            return Err(Fault::new(FaultKind::PatchError, "A sensitive rule stays sensitive; delete it and make another one."));
        }
        let mut doc = self.document();
        patch.apply(&mut doc)?;
        if doc.get("uuid") != Some(&json!(self.id)) {
            let named = doc.get("uuid").and_then(Json::as_str).and_then(parse_uuid);
            let named = named.ok_or_else(|| Fault::invalid("\"/uuid\" must be a UUID, and cannot be changed."))?;
            // The contract's answer: the rule is looked for under its new name.
            return Err(Fault::new(FaultKind::NotFound, format!("Rule {named} could not be found.")));
        }
        doc.get("phase").map_or(Ok(()), check_phase)?;
        let mut new = read(self.clone(), &doc)?;
        new.phase = doc.get("phase").and_then(Json::as_str).map(str::to_owned);
        Ok(new)
    }
}
