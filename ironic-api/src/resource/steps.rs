//! Steps as users name them with verbs (`api.md` section 3.4): shape only; whether a driver has them is the conductor's business.

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::InterfaceKind,
};
use bessemer_rpc::UserStep;

use crate::query::parse_uuid;

/// Which list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepList {
    Clean,
    Deploy,
    Service,
}

impl StepList {
    /// The argument's name.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Clean => "clean_steps",
            Self::Deploy => "deploy_steps",
            Self::Service => "service_steps",
        }
    }
}

/// Reads a list of steps. Clean and service steps run in the order given; `order` is checked and otherwise ignored.
///
/// # Errors
/// `InvalidParameterValue`; `Invalid` for a step that the operator has ruled out.
pub(crate) fn read(list: StepList, value: &Json, disallowed: &[String]) -> Result<Vec<UserStep>, Fault> {
    let key = list.key();
    let items = value.as_array().ok_or_else(|| Fault::invalid(format!("\"{key}\" must be a list.")))?;
    if items.is_empty() && list != StepList::Deploy {
        return Err(Fault::missing(format!("\"{key}\" must not be empty.")));
    }
    let mut out: Vec<UserStep> = Vec::with_capacity(items.len());
    for item in items {
        let m = item.as_object().ok_or_else(|| Fault::invalid(format!("\"{key}\" must hold objects.")))?;
        let step = one(list, m)?;
        if list == StepList::Deploy && out.iter().any(|s| s.interface == step.interface && s.step == step.step) {
            return Err(Fault::invalid(format!("\"{key}\" holds {}.{} twice.", step.interface.as_str(), step.step)));
        }
        check_allowed(&step, disallowed)?;
        out.push(step);
    }
    Ok(out)
}

/// Refuses a step that the operator has ruled out.
///
/// # Errors
/// `Invalid`.
pub(crate) fn check_allowed(step: &UserStep, disallowed: &[String]) -> Result<(), Fault> {
    let name = step.label();
    if disallowed.contains(&name) {
        return Err(Fault::new(FaultKind::Invalid, format!("The step {name} is not allowed here.")));
    }
    Ok(())
}

fn one(list: StepList, m: &JsonMap) -> Result<UserStep, Fault> {
    let key = list.key();
    let bad = |what: &str| Fault::invalid(format!("A step of \"{key}\": {what}."));
    let known: &[&str] = match list {
        StepList::Deploy => &["interface", "step", "args", "priority"],
        _ => &["interface", "step", "args", "order", "execute_on_child_nodes", "limit_child_node_execution"],
    };
    if let Some(k) = m.keys().find(|k| !known.contains(&k.as_str())) {
        return Err(bad(&format!("\"{k}\" is not known")));
    }
    let interface = m
        .get("interface")
        .and_then(Json::as_str)
        .and_then(InterfaceKind::parse)
        .filter(|k| k.has_steps() || (list == StepList::Service && *k == InterfaceKind::Network))
        .ok_or_else(|| bad("\"interface\" must name an interface that has steps"))?;
    let step = m.get("step").and_then(Json::as_str).filter(|s| !s.is_empty()).ok_or_else(|| bad("\"step\" must be text"))?;
    let args = match m.get("args") {
        None if list == StepList::Deploy => return Err(bad("\"args\" is needed")),
        None => JsonMap::new(),
        Some(Json::Object(a)) => a.clone(),
        Some(_) => return Err(bad("\"args\" must be an object")),
    };
    let whole = |k: &str| -> Result<Option<u32>, Fault> {
        let n = match m.get(k) {
            None => return Ok(None),
            // What is beyond the largest number that is kept orders like it.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and not negative; the cast saturates")]
            Some(Json::Number(n)) => {
                let whole = n.as_f64().filter(|f| *f >= 0.0 && f.fract() == 0.0).map(|f| f as u64);
                n.as_u64().or(whole).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
            }
            Some(Json::String(s)) if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) => Some(s.parse().unwrap_or(u32::MAX)),
            Some(_) => None,
        };
        n.map(Some).ok_or_else(|| bad(&format!("\"{k}\" must be a whole number that is not negative")))
    };
    let order = whole("order")?;
    let priority = whole("priority")?;
    if list == StepList::Deploy && priority.is_none() {
        return Err(bad("\"priority\" is needed"));
    }
    let on_children = match m.get("execute_on_child_nodes") {
        None | Some(Json::Bool(false)) => false,
        Some(Json::Bool(true)) => true,
        Some(_) => return Err(bad("\"execute_on_child_nodes\" must be a boolean")),
    };
    let only = match m.get("limit_child_node_execution") {
        None => &[],
        Some(Json::Array(a)) => a.as_slice(),
        Some(_) => return Err(bad("\"limit_child_node_execution\" must be a list of UUIDs of nodes")),
    };
    // The list means nothing, and may hold anything, where the step is not for children.
    let children = on_children
        .then(|| only.iter().map(|u| u.as_str().and_then(parse_uuid).map(NodeId)).collect::<Option<Vec<_>>>())
        .map(|list| list.ok_or_else(|| bad("\"limit_child_node_execution\" must be a list of UUIDs of nodes")))
        .transpose()?;
    Ok(UserStep { args, priority, order, children, ..UserStep::new(interface, step) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shapes_are_enforced_per_list() {
        let ok = |l, v| read(l, &v, &[]).is_ok();
        assert!(ok(StepList::Clean, json!([{"interface": "bios", "step": "factory_reset", "order": "3"}])));
        assert!(ok(StepList::Service, json!([{"interface": "network", "step": "reattach_networking"}])));
        assert!(ok(StepList::Deploy, json!([{"interface": "bios", "step": "x", "priority": "10", "args": {}}])));
        for (l, v) in [
            (StepList::Clean, json!([])),
            (StepList::Clean, json!({})),
            (StepList::Clean, json!([{"interface": "network", "step": "x"}])),
            (StepList::Clean, json!([{"interface": "bios", "step": ""}])),
            (StepList::Clean, json!([{"interface": "bios", "step": "x", "args": []}])),
            (StepList::Clean, json!([{"interface": "bios", "step": "x", "order": -1}])),
            (StepList::Clean, json!([{"interface": "bios", "step": "x", "priority": 1}])),
            (StepList::Clean, json!([{"interface": "bios", "step": "x", "execute_on_child_nodes": "yes"}])),
            (StepList::Clean, json!([{"interface": "bios", "step": "x", "limit_child_node_execution": "all"}])),
            (
                StepList::Clean,
                json!([{"interface": "bios", "step": "x", "execute_on_child_nodes": true, "limit_child_node_execution": ["a"]}]),
            ),
            (StepList::Deploy, json!([{"interface": "deploy", "step": "deploy"}])),
            (StepList::Deploy, json!([{"interface": "deploy", "step": "deploy", "priority": -1, "args": {}}])),
            (
                StepList::Deploy,
                json!([
                    {"interface": "deploy", "step": "deploy", "priority": 1, "args": {}},
                    {"interface": "deploy", "step": "deploy", "priority": 2, "args": {}},
                ]),
            ),
        ] {
            assert!(!ok(l, v.clone()), "{l:?} {v}");
        }
        let children = |extra: Json| {
            let mut step = json!({"interface": "bios", "step": "x", "limit_child_node_execution": []});
            step["execute_on_child_nodes"] = extra;
            read(StepList::Clean, &json!([step]), &[]).expect("read").remove(0).children
        };
        assert_eq!(children(json!(true)), Some(vec![]));
        assert_eq!(children(json!(false)), None);
        assert!(read(StepList::Clean, &json!([{"interface": "vendor", "step": "send_raw"}]), &["vendor.send_raw".into()]).is_err());
    }
}
