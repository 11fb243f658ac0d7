//! Inspection rules (`api.md` section 13, `operations.md` section 11.1): what an operator wants done with what inspection found.
//!
//! The tables of operators and actions and the shape of a rule; applying rules is the conductor's.

use serde::{Deserialize, Serialize};

use crate::{Json, JsonMap, clock::Timestamp, ids::RuleId};

/// The only phase there is.
pub const MAIN: &str = "main";
/// Highest priority of a user's rule.
pub const MAX_PRIORITY: i64 = 9999;

/// An operator or an action: its arguments in their positional order.
#[derive(Debug, PartialEq, Eq)]
pub struct OpDecl {
    /// Name on the wire.
    pub name: &'static str,
    /// Arguments that must be given.
    pub required: &'static [&'static str],
    /// Arguments that may be given.
    pub optional: &'static [&'static str],
    /// Arguments whose replacement fields are filled in outside of loops; within loops all are.
    pub formatted: &'static [&'static str],
}

const fn op(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    formatted: &'static [&'static str],
) -> OpDecl {
    OpDecl { name, required, optional, formatted }
}

/// The operators of conditions.
pub const OPERATORS: &[OpDecl] = &[
    op("eq", &["values"], &["force_strings"], &["values"]),
    op("lt", &["values"], &["force_strings"], &["values"]),
    op("gt", &["values"], &["force_strings"], &["values"]),
    op("is-empty", &["value"], &[], &["value"]),
    op("in-net", &["address", "subnet"], &[], &["address", "subnet"]),
    op("matches", &["value", "regex"], &[], &["value"]),
    op("contains", &["value", "regex"], &[], &["value"]),
    op("one-of", &["value"], &["values"], &["value"]),
    op("is-none", &["value"], &[], &["value"]),
    op("is-true", &["value"], &[], &["value"]),
    op("is-false", &["value"], &[], &["value"]),
];

/// An argument that the engine itself supplies. It is part of the stored arguments, empty, as the contract shows it.
const PLUGIN_DATA: &str = "plugin_data";

/// The actions.
pub const ACTIONS: &[OpDecl] = &[
    op("fail", &["msg"], &[], &[]),
    op("log", &["msg"], &["level"], &["msg"]),
    op("set-attribute", &["path", "value"], &[], &["value"]),
    op("extend-attribute", &["path", "value"], &["unique"], &["value"]),
    op("del-attribute", &["path"], &[], &[]),
    op("set-capability", &["name", "value"], &[], &["value"]),
    op("unset-capability", &["name"], &[], &[]),
    op("add-trait", &["name"], &[], &[]),
    op("remove-trait", &["name"], &[], &[]),
    op("set-plugin-data", &["path", "value", PLUGIN_DATA], &[], &["value"]),
    op("extend-plugin-data", &["path", "value", PLUGIN_DATA], &["unique"], &["value"]),
    op("unset-plugin-data", &["path", PLUGIN_DATA], &[], &[]),
    op("set-port-attribute", &["port_id", "path", "value"], &[], &["value"]),
    op("extend-port-attribute", &["port_id", "path", "value"], &["unique"], &["value"]),
    op("del-port-attribute", &["port_id", "path"], &[], &[]),
    op("api-call", &["url"], &["headers", "proxies", "timeout", "retries", "backoff_factor"], &["url"]),
];

impl OpDecl {
    /// The operator and whether it is negated (`!`).
    #[must_use]
    pub fn operator(name: &str) -> Option<(&'static Self, bool)> {
        let bare = name.strip_prefix('!');
        OPERATORS.iter().find(|o| o.name == bare.unwrap_or(name)).map(|o| (o, bare.is_some()))
    }

    /// The action.
    #[must_use]
    pub fn action(name: &str) -> Option<&'static Self> {
        ACTIONS.iter().find(|o| o.name == name)
    }

    /// The arguments by name, of an object or of the list of old.
    ///
    /// # Errors
    /// What is missing or not known.
    pub fn arguments(&self, args: &Json) -> Result<JsonMap, String> {
        let named: JsonMap = match args {
            Json::Object(m) => m.clone(),
            Json::Array(list) => self.required.iter().chain(self.optional).map(|n| (*n).to_owned()).zip(list.iter().cloned()).collect(),
            _ => return Err(format!("\"args\" of \"{}\" must be an object or a list", self.name)),
        };
        let missing: Vec<&str> = self.required.iter().copied().filter(|n| !named.contains_key(*n)).collect();
        if !missing.is_empty() {
            return Err(format!("\"{}\" misses arguments: {}", self.name, missing.join(", ")));
        }
        match named.keys().find(|k| !self.required.contains(&k.as_str()) && !self.optional.contains(&k.as_str())) {
            Some(k) => Err(format!("\"{}\" does not know the argument \"{k}\"", self.name)),
            None => Ok(named),
        }
    }

    /// The arguments as they are stored: with the place of what the engine supplies.
    fn stored(&self, mut args: Json) -> Json {
        if self.required.contains(&PLUGIN_DATA) {
            match &mut args {
                Json::Object(m) => drop(m.insert(PLUGIN_DATA.into(), Json::Object(JsonMap::new()))),
                Json::Array(a) => a.push(Json::Object(JsonMap::new())),
                _ => {}
            }
        }
        args
    }
}

/// How the results of a condition's loop are taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiple {
    /// One suffices.
    #[default]
    Any,
    /// All must hold.
    All,
    /// The first that holds decides; without one, the first result.
    First,
    /// The last result.
    Last,
}

/// A condition or an action.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Name of the operator (perhaps with `!`) or of the action.
    pub op: String,
    /// Arguments: an object, or a list in the order of [`OpDecl`].
    pub args: Json,
    /// Not empty: a list, or an object that is its own only item.
    #[serde(rename = "loop", default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Json>,
    /// Of conditions with a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple: Option<Multiple>,
}

fn operation(v: &Json, what: &str) -> Result<Operation, String> {
    let m = v.as_object().ok_or_else(|| format!("each of \"{what}\" must be an object"))?;
    let op = m.get("op").and_then(Json::as_str).ok_or_else(|| format!("each of \"{what}\" needs \"op\""))?;
    let args = m.get("args").filter(|a| a.is_object() || a.is_array());
    let args = args.ok_or_else(|| format!("\"{op}\" of \"{what}\" needs \"args\", an object or a list"))?;
    let each = match m.get("loop") {
        None => None,
        Some(Json::Array(a)) if a.is_empty() => None,
        Some(Json::Object(o)) if o.is_empty() => None,
        Some(l @ (Json::Array(_) | Json::Object(_))) => Some(l.clone()),
        Some(_) => return Err(format!("\"loop\" of \"{op}\" must be a list or an object")),
    };
    let multiple = match m.get("multiple") {
        None => None,
        Some(v) if what == "conditions" => {
            Some(serde_json::from_value(v.clone()).map_err(|_| format!("\"multiple\" of \"{op}\" must be any, all, first or last"))?)
        }
        Some(_) => None,
    };
    let multiple = each.is_some().then(|| multiple.unwrap_or_default()).filter(|_| what == "conditions");
    Ok(Operation { op: op.to_owned(), args: args.clone(), each, multiple })
}

fn list(v: &Json, what: &str) -> Result<Vec<Operation>, String> {
    v.as_array().ok_or_else(|| format!("\"{what}\" must be a list"))?.iter().map(|o| operation(o, what)).collect()
}

/// Reads `conditions`. What they do not know is left out.
///
/// # Errors
/// What is wrong, naming the operator.
pub fn conditions(v: &Json) -> Result<Vec<Operation>, String> {
    let mut out = list(v, "conditions")?;
    for c in &mut out {
        let (decl, _) = OpDecl::operator(&c.op).ok_or_else(|| format!("\"{}\" is not an operator of conditions", c.op))?;
        c.args = decl.stored(std::mem::take(&mut c.args));
        decl.arguments(&c.args)?;
    }
    Ok(out)
}

/// Reads `actions`.
///
/// # Errors
/// What is wrong, naming the action.
pub fn actions(v: &Json) -> Result<Vec<Operation>, String> {
    let mut out = list(v, "actions")?;
    if out.is_empty() {
        return Err("\"actions\" must not be empty".into());
    }
    for a in &mut out {
        let decl = OpDecl::action(&a.op).ok_or_else(|| format!("\"{}\" is not an action", a.op))?;
        a.args = decl.stored(std::mem::take(&mut a.args));
        decl.arguments(&a.args)?;
    }
    Ok(out)
}

/// An inspection rule as stored.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 13, one to one")]
pub struct InspectionRule {
    pub id: RuleId,
    pub seq: i64,
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    /// Higher runs first.
    pub priority: i64,
    pub description: Option<String>,
    /// `None` after a patch removed it: such a rule never runs.
    pub phase: Option<String>,
    /// Conditions and actions are never shown.
    pub sensitive: bool,
    /// All must hold; empty = always.
    pub conditions: Vec<Operation>,
    pub actions: Vec<Operation>,
}

impl InspectionRule {
    /// A rule that is still to be filled and stored.
    #[must_use]
    pub fn blank(id: RuleId) -> Self {
        Self {
            id,
            seq: 0,
            revision: 0,
            created_at: Timestamp(0),
            updated_at: None,
            priority: 0,
            description: None,
            phase: Some(MAIN.to_owned()),
            sensitive: false,
            conditions: vec![],
            actions: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operators_may_be_negated_once_and_actions_never() {
        assert!(matches!(OpDecl::operator("!eq"), Some((o, true)) if o.name == "eq"));
        for bad in ["!!eq", "! eq", " eq", "ne", "!"] {
            assert!(OpDecl::operator(bad).is_none(), "{bad}");
        }
        assert!(OpDecl::action("!fail").is_none());
        assert_eq!((OPERATORS.len(), ACTIONS.len()), (11, 16));
    }

    #[test]
    fn arguments_are_checked_by_name_whichever_form_they_have() {
        let ok = |v: Json| conditions(&json!([v])).is_ok();
        assert!(ok(json!({"op": "eq", "args": {"values": [1, 2]}})));
        assert!(ok(json!({"op": "eq", "args": [[1, 2], true, "ignored"]})));
        for bad in [
            json!({"op": "eq"}),
            json!({"op": "eq", "args": "x"}),
            json!({"op": "eq", "args": []}),
            json!({"op": "eq", "args": {"values": [], "x": 1}}),
            json!({"op": "in-net", "args": {"address": "10.0.0.1"}}),
            json!({"op": "eq", "args": {"values": []}, "loop": "x"}),
            json!({"op": "eq", "args": {"values": []}, "multiple": "some"}),
        ] {
            assert!(!ok(bad.clone()), "{bad}");
        }
        assert!(actions(&json!([])).is_err());
    }

    #[test]
    fn the_place_of_plugin_data_is_stored_and_cannot_be_filled() {
        let a = |args: Json| actions(&json!([{"op": "set-plugin-data", "args": args}])).map(|a| a[0].args.clone());
        assert_eq!(a(json!({"path": "a", "value": 1, "plugin_data": 7})), Ok(json!({"path": "a", "value": 1, "plugin_data": {}})));
        assert_eq!(a(json!(["a", 1])), Ok(json!(["a", 1, {}])));
    }

    #[test]
    fn an_empty_loop_is_none_and_a_loop_of_a_condition_has_a_default() {
        let c = conditions(&json!([
            {"op": "eq", "args": {"values": []}, "loop": [], "multiple": "all", "bogus": 1},
            {"op": "eq", "args": {"values": []}, "loop": [1]},
        ]));
        let c = c.unwrap_or_default();
        assert_eq!(serde_json::to_value(&c[0]).ok(), Some(json!({"op": "eq", "args": {"values": []}})));
        assert_eq!(c[1].multiple, Some(Multiple::Any));
    }
}
