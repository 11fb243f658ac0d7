//! JSON patch as the API restricts it (`api.md` section 1.7): `add`, `replace` and `remove` on known roots, one by one.

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
};

use crate::version::{FieldTable, PatchGate, Version};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Sets a key or inserts into a list.
    Add,
    /// Sets what exists.
    Replace,
    /// Removes what exists.
    Remove,
}

/// One operation, checked for shape.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// What to do.
    pub op: Op,
    /// Segments; at least one.
    pub path: Vec<String>,
    /// Null for `remove`.
    pub value: Json,
}

impl Operation {
    /// The attribute that it is about.
    pub fn root(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }
    /// Whether it is about the attribute itself, not something inside it.
    pub fn is_whole(&self) -> bool {
        self.path.len() == 1
    }
}

/// A patch, checked for shape, roots and microversion.
#[derive(Clone, Debug)]
pub(crate) struct Patch(pub Vec<Operation>);

impl Patch {
    /// Reads a patch of a resource whose fields are `F`.
    ///
    /// # Errors
    /// `InvalidParameterValue` for a bad shape or root, `NotAcceptable` for a root of a later microversion.
    pub fn parse<F: FieldTable>(body: &Json, version: Version, extra_roots: &[&str]) -> Result<Self, Fault> {
        let Json::Array(items) = body else {
            return Err(Fault::invalid("A JSON patch is a list of operations."));
        };
        let mut late = None;
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let o = operation(item)?;
            let root = o.root();
            if !extra_roots.contains(&root) {
                match version.patch_gate::<F>(root) {
                    PatchGate::Open => {}
                    PatchGate::TooNew => late = Some(root.to_owned()),
                    PatchGate::Unknown => return Err(Fault::invalid(format!("\"/{root}\" is not an attribute that can be patched."))),
                }
            }
            out.push(o);
        }
        match late {
            Some(root) => Err(Fault::new(FaultKind::NotAcceptable, format!("\"/{root}\" needs a newer API version."))),
            None => Ok(Self(out)),
        }
    }

    /// Whether any operation is about `root`.
    pub fn touches(&self, root: &str) -> bool {
        self.0.iter().any(|o| o.root() == root)
    }

    /// Whether `root` as a whole is given a value.
    pub fn assigns(&self, root: &str) -> bool {
        self.0.iter().any(|o| o.root() == root && o.is_whole() && o.op != Op::Remove)
    }

    /// Applies the operations to `doc` in order. A removed root is absent afterwards.
    ///
    /// # Errors
    /// `PatchError`: a path that leads nowhere.
    pub fn apply(&self, doc: &mut JsonMap) -> Result<(), Fault> {
        for o in &self.0 {
            apply(doc, o).ok_or_else(|| {
                Fault::new(
                    FaultKind::PatchError,
                    format!(
                        "Couldn't apply the patch: there is no \"/{}\" to {}.",
                        o.path.join("/"),
                        match o.op {
                            Op::Add => "add to",
                            Op::Replace => "replace",
                            Op::Remove => "remove",
                        }
                    ),
                )
            })?;
        }
        Ok(())
    }
}

fn operation(item: &Json) -> Result<Operation, Fault> {
    let Json::Object(m) = item else { return Err(Fault::invalid("Each operation of a JSON patch is an object.")) };
    if let Some(k) = m.keys().find(|k| !matches!(k.as_str(), "op" | "path" | "value")) {
        return Err(Fault::invalid(format!("Unexpected key \"{k}\" in a JSON patch.")));
    }
    let op = match m.get("op").and_then(Json::as_str) {
        Some("add") => Op::Add,
        Some("replace") => Op::Replace,
        Some("remove") => Op::Remove,
        _ => return Err(Fault::invalid("\"op\" of a JSON patch must be add, replace or remove.")),
    };
    let path = m.get("path").and_then(Json::as_str).ok_or_else(|| Fault::missing("A JSON patch operation needs \"path\"."))?;
    let bad = || Fault::invalid(format!("Invalid path \"{}\" in a JSON patch.", path.chars().take(200).collect::<String>()));
    let segments = path.strip_prefix('/').ok_or_else(bad)?;
    // The contract's pattern of paths has no `~`, so that escapes never come through, in any microversion.
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let path = segments
        .split('/')
        .map(|s| (!s.is_empty() && s.chars().all(word)).then(|| s.to_owned()))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(bad)?;
    let value = match (op, m.get("value")) {
        (Op::Remove, _) => Json::Null,
        (_, Some(v)) => v.clone(),
        (_, None) => return Err(Fault::missing("\"add\" and \"replace\" of a JSON patch need \"value\".")),
    };
    Ok(Operation { op, path, value })
}

fn apply(doc: &mut JsonMap, o: &Operation) -> Option<()> {
    let (root, rest) = o.path.split_first()?;
    let Some((last, way)) = rest.split_last() else {
        return match o.op {
            Op::Add | Op::Replace => doc.get_mut(root).map(|slot| *slot = o.value.clone()),
            Op::Remove => doc.remove(root).map(drop),
        };
    };
    let mut at = doc.get_mut(root)?;
    for segment in way {
        at = match at {
            Json::Object(m) => m.get_mut(segment)?,
            Json::Array(a) => a.get_mut(index(segment)?)?,
            _ => return None,
        };
    }
    match at {
        Json::Object(m) => match o.op {
            Op::Add => {
                m.insert(last.clone(), o.value.clone());
                Some(())
            }
            Op::Replace => m.get_mut(last).map(|slot| *slot = o.value.clone()),
            Op::Remove => m.remove(last).map(drop),
        },
        Json::Array(a) => match o.op {
            Op::Add if last == "-" => {
                a.push(o.value.clone());
                Some(())
            }
            Op::Add => {
                let i = index(last).filter(|i| *i <= a.len())?;
                a.insert(i, o.value.clone());
                Some(())
            }
            Op::Replace => a.get_mut(index(last)?).map(|slot| *slot = o.value.clone()),
            Op::Remove => {
                let i = index(last).filter(|i| *i < a.len())?;
                a.remove(i);
                Some(())
            }
        },
        _ => None,
    }
}

/// RFC 6901 section 4: no sign, no leading zero.
fn index(s: &str) -> Option<usize> {
    if (s.len() > 1 && s.starts_with('0')) || !s.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    s.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::version::fields::NodeField;

    fn patch(v: Json) -> Result<Patch, Fault> {
        Patch::parse::<NodeField>(&v, Version::MAX, &[])
    }

    fn patched(doc: Json, v: Json) -> Result<Json, Fault> {
        let Json::Object(mut m) = doc else { unreachable!("tests pass objects") };
        patch(v)?.apply(&mut m)?;
        Ok(Json::Object(m))
    }

    #[test]
    fn operations_reach_into_objects_and_lists() {
        let doc = json!({"extra": {"foo": {"deep": [1]}}});
        let got = patched(
            doc,
            json!([
                {"op": "add", "path": "/extra/foo/deep/-", "value": 2},
                {"op": "add", "path": "/extra/foo/deep/0", "value": 0},
                {"op": "remove", "path": "/extra/foo/deep/1"},
            ]),
        );
        assert_eq!(got, Ok(json!({"extra": {"foo": {"deep": [0, 2]}}})));
    }

    #[test]
    fn paths_that_lead_nowhere_and_bad_shapes_are_refused() {
        for bad in [
            json!({}),
            json!([{}]),
            json!([{"op": "test", "path": "/extra", "value": 1}]),
            json!([{"op": "add", "path": "/extra/a"}]),
            json!([{"op": "add", "path": "extra/a", "value": 1}]),
            json!([{"op": "add", "path": "/", "value": 1}]),
            json!([{"op": "add", "path": "/extra//a", "value": 1}]),
            json!([{"op": "add", "path": "/extra/a~1b", "value": 1}]),
            json!([{"op": "add", "path": "/extra/a", "value": 1, "from": "/extra"}]),
            json!([{"op": "replace", "path": "/uuid", "value": "x"}]),
            json!([{"op": "remove", "path": "/extra/none"}]),
            json!([{"op": "replace", "path": "/extra/none", "value": 1}]),
            json!([{"op": "add", "path": "/extra/list/5", "value": 1}]),
            json!([{"op": "remove", "path": "/extra/list/00"}]),
        ] {
            assert!(patched(json!({"extra": {"list": [1]}}), bad.clone()).is_err(), "{bad}");
        }
    }
}
