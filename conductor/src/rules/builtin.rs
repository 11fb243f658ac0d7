//! Rules of the operator's file (`[inspection_rules] built_in_rules`): never shown by the API, read anew at each inspection.

use std::path::Path;

use bessemer_model::{
    Json,
    inspection_rule::{self as rule, MAIN},
    yaml,
};

use super::Rule;

/// The rules of a file.
pub type BuiltIn = Vec<Rule>;

/// Reads the file.
///
/// # Errors
/// A file that cannot be read, or the rule that is wrong.
pub async fn load(path: &Path) -> Result<BuiltIn, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|e| format!("built-in rules {}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("built-in rules {}: {e}", path.display()))
}

pub(super) fn parse(text: &str) -> Result<BuiltIn, String> {
    let Json::Array(list) = yaml::parse(text)? else { return Err("the file must hold a list of rules".into()) };
    let mut unnamed = 0;
    let mut out = Vec::with_capacity(list.len());
    for v in &list {
        let name = match v.get("uuid") {
            Some(Json::String(s)) => s.clone(),
            Some(Json::Null) | None => {
                unnamed += 1;
                format!("00000000-0000-0000-0000-{:012x}", unnamed - 1)
            }
            Some(_) => return Err("\"uuid\" of a rule must be text".into()),
        };
        let wrong = |e: String| format!("rule {name}: {e}");
        let phase = v.get("phase").unwrap_or(&Json::Null);
        if !phase.is_null() && phase.as_str() != Some(MAIN) {
            return Err(wrong(format!("\"phase\" must be \"{MAIN}\"")));
        }
        let priority = match v.get("priority") {
            None => 0,
            Some(p) => p.as_i64().ok_or_else(|| wrong("\"priority\" must be a whole number".into()))?,
        };
        let conditions = v.get("conditions").map_or(Ok(vec![]), rule::conditions).map_err(wrong)?;
        let actions = rule::actions(v.get("actions").unwrap_or(&Json::Array(vec![]))).map_err(wrong)?;
        let sensitive = v.get("sensitive").and_then(Json::as_bool).unwrap_or(false);
        out.push(Rule { name, priority, sensitive, conditions, actions });
    }
    Ok(out)
}
