//! Inspection rules (`operations.md` section 11.1): conditions over what inspection found, actions on the node, its ports and the data.
//!
//! Applying rules is pure: [`apply`] takes a [`Subject`] and changes it; the step that called it writes the outcome in its own commit, so
//! that a crash before it has changed nothing. Calls to other servers are only collected here ([`Subject::calls`]) and made afterwards.

mod actions;
mod builtin;
mod call;
mod document;
mod format;
mod operators;

pub use builtin::{BuiltIn, load};
pub use call::{Call, make};
pub use document::{NodeDoc, merge_port};
pub use format::Masking;

use bessemer_model::{
    Json, JsonMap,
    inspection_rule::{InspectionRule, Multiple, OpDecl, Operation},
    port::Port,
};
use format::Context;

/// Which values rules see as `***` (`[inspection_rules] mask_secrets`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskSecrets {
    /// Every rule.
    #[default]
    Always,
    /// None.
    Never,
    /// Rules that are not marked sensitive.
    Sensitive,
}

impl MaskSecrets {
    /// The setting of this name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            "sensitive" => Some(Self::Sensitive),
            _ => None,
        }
    }
}

/// A rule as it is applied: the user's or a built-in one.
#[derive(Clone)]
pub struct Rule {
    /// For people.
    pub name: String,
    /// Higher runs first.
    pub priority: i64,
    /// See [`MaskSecrets`].
    pub sensitive: bool,
    /// All must hold.
    pub conditions: Vec<Operation>,
    /// In order.
    pub actions: Vec<Operation>,
}

impl From<InspectionRule> for Rule {
    fn from(r: InspectionRule) -> Self {
        Self { name: r.id.to_string(), priority: r.priority, sensitive: r.sensitive, conditions: r.conditions, actions: r.actions }
    }
}

/// What rules look at and change.
pub struct Subject {
    /// The node.
    pub node: NodeDoc,
    /// Its traits.
    pub traits: Vec<String>,
    /// Its ports, those that inspection is about to add too.
    pub ports: Vec<Port>,
    /// `inventory`.
    pub inventory: Json,
    /// `plugin_data`.
    pub plugin_data: Json,
    /// Calls to make once everything is written.
    pub calls: Vec<Call>,
    /// What is worth telling, for the flow's log.
    pub notes: Vec<String>,
}

/// A rule failed, or an action failed the inspection on purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("inspection rule {rule}: {text}")]
pub struct RuleFailure {
    /// The rule.
    pub rule: String,
    /// Why.
    pub text: String,
}

/// Applies the rules, highest priority first; of equal ones in the order given.
///
/// # Errors
/// [`RuleFailure`]: the inspection fails and nothing of what the rules did is to be kept.
pub fn apply(mut rules: Vec<Rule>, subject: &mut Subject, mask: MaskSecrets) -> Result<(), RuleFailure> {
    rules.sort_by_key(|r| std::cmp::Reverse(r.priority));
    for r in &rules {
        let masking = match mask {
            MaskSecrets::Always => Masking::On,
            MaskSecrets::Sensitive if !r.sensitive => Masking::On,
            MaskSecrets::Sensitive | MaskSecrets::Never => Masking::Off,
        };
        one(r, subject, masking).map_err(|text| RuleFailure { rule: r.name.clone(), text })?;
    }
    Ok(())
}

fn one(rule: &Rule, subject: &mut Subject, masking: Masking) -> Result<(), String> {
    for c in &rule.conditions {
        if !holds(c, subject, masking)? {
            return Ok(());
        }
    }
    subject.notes.push(format!("rule {} applied", rule.name));
    for a in &rule.actions {
        let decl = OpDecl::action(&a.op).ok_or_else(|| format!("\"{}\" is not an action", a.op))?;
        for item in items(a) {
            let args = arguments(decl, a, subject, masking, item)?;
            actions::run(decl.name, &args, subject)?;
        }
    }
    Ok(())
}

/// The items of an operation's loop; one turn without an item where there is no loop.
fn items(o: &Operation) -> Vec<Option<&Json>> {
    match &o.each {
        None => vec![None],
        Some(Json::Array(a)) => a.iter().map(Some).collect(),
        Some(whole) => vec![Some(whole)],
    }
}

fn holds(c: &Operation, subject: &Subject, masking: Masking) -> Result<bool, String> {
    let (decl, negated) = OpDecl::operator(&c.op).ok_or_else(|| format!("\"{}\" is not an operator", c.op))?;
    let mut results = Vec::new();
    let multiple = c.multiple.unwrap_or_default();
    for item in items(c) {
        let mut args = arguments(decl, c, subject, masking, item)?;
        if item.is_some() && decl.optional.contains(&"force_strings") {
            args.insert("force_strings".into(), Json::Bool(true));
        }
        let result = operators::check(decl.name, &args)? != negated;
        if multiple == Multiple::First && result {
            return Ok(true);
        }
        results.push(result);
    }
    Ok(match multiple {
        Multiple::Any => results.contains(&true),
        Multiple::All => !results.contains(&false),
        Multiple::First => results.first().copied().unwrap_or(false),
        Multiple::Last => results.last().copied().unwrap_or(false),
    })
}

/// The arguments by name, with their replacement fields filled in: within a loop all of them, outside those that are declared so.
fn arguments(decl: &OpDecl, o: &Operation, subject: &Subject, masking: Masking, item: Option<&Json>) -> Result<JsonMap, String> {
    let args = decl.arguments(&o.args)?;
    let cx = Context {
        node: &subject.node.0,
        inventory: &subject.inventory,
        plugin_data: &subject.plugin_data,
        item,
        masking,
        missing_is_null: decl.name == "is-empty",
    };
    Ok(args
        .into_iter()
        .map(|(k, v)| {
            let v = if item.is_some() || decl.formatted.contains(&k.as_str()) { cx.fill(&v) } else { v };
            (k, v)
        })
        .collect())
}

#[cfg(test)]
mod tests;
