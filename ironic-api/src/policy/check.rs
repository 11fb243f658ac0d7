//! The language of rules: check strings as oslo.policy has them (its documentation, "Policy Rule Expressions").
//!
//! `rule:NAME`, `role:NAME`, `FACT:VALUE`, `and`, `or`, `not`, parentheses, `@` (always), `!` (never); an empty text is always.
//! `%(NAME)s` in a value stands for a fact of the target or the caller. A fact on the left is one of the caller, or a literal
//! (`'text'`, `True`, `False`, `None`, a number).

use std::collections::HashMap;

/// A rule, parsed. Names of other rules are places in the list of [`Rules`](super::file::Rules).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Always,
    Never,
    All(Vec<Check>),
    Any(Vec<Check>),
    Not(Box<Check>),
    Rule(usize),
    /// The caller has this role; upper and lower case are alike.
    Role(Template),
    /// A fact of the caller is this.
    Fact(String, Template),
    /// A literal is this.
    Literal(String, Template),
}

/// A text with places for facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Fact(String),
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// An expression that ends too early.
    #[error("the rule ends where a check is expected")]
    Ends,
    /// A word that fits nowhere.
    #[error("\"{0}\" does not fit here: write checks as kind:value, joined by and, or, not and parentheses")]
    Unexpected(String),
    /// A reference that leads nowhere.
    #[error("there is no rule \"{0}\"")]
    NoRule(String),
    /// Checks that ask another server are not supported.
    #[error("\"{0}\": checks by an HTTP server are not supported")]
    Http(String),
    /// Nested too deeply.
    #[error("the rule is nested deeper than {MAX_DEPTH} levels")]
    Deep,
}

/// Parentheses and negations are never nested deeper.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Word(String),
}

/// Splits at white space and at the parentheses around words; those within `%(…)` belong to the word.
fn tokens(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    for raw in text.split_whitespace() {
        let word = raw.trim_start_matches('(');
        out.extend(std::iter::repeat_n(Token::Open, raw.len() - word.len()));
        let bare = word.trim_end_matches(')');
        match bare.to_ascii_lowercase().as_str() {
            "" => {}
            "and" => out.push(Token::And),
            "or" => out.push(Token::Or),
            "not" => out.push(Token::Not),
            _ => out.push(Token::Word(bare.to_owned())),
        }
        out.extend(std::iter::repeat_n(Token::Close, word.len() - bare.len()));
    }
    out
}

/// Reads a rule; `names` tells the places of other rules.
///
/// # Errors
/// [`CheckError`].
pub(super) fn parse(text: &str, names: &HashMap<String, usize>) -> Result<Check, CheckError> {
    let tokens = tokens(text);
    if tokens.is_empty() {
        return Ok(Check::Always);
    }
    let mut p = Parser { tokens: &tokens, at: 0, depth: 0, names };
    let check = p.any()?;
    match p.peek() {
        None => Ok(check),
        Some(t) => Err(CheckError::Unexpected(shown(t))),
    }
}

fn shown(t: &Token) -> String {
    match t {
        Token::Open => "(".to_owned(),
        Token::Close => ")".to_owned(),
        Token::And => "and".to_owned(),
        Token::Or => "or".to_owned(),
        Token::Not => "not".to_owned(),
        Token::Word(w) => w.chars().take(200).collect(),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    names: &'a HashMap<String, usize>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, t: &Token) -> bool {
        let found = self.peek() == Some(t);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Check, CheckError> {
        let first = self.all()?;
        let mut list = vec![first];
        while self.take(&Token::Or) {
            list.push(self.all()?);
        }
        Ok(joined(list, Check::Any))
    }

    fn all(&mut self) -> Result<Check, CheckError> {
        let first = self.one()?;
        let mut list = vec![first];
        while self.take(&Token::And) {
            list.push(self.one()?);
        }
        Ok(joined(list, Check::All))
    }

    fn one(&mut self) -> Result<Check, CheckError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CheckError::Deep);
        }
        let token = self.peek().cloned().ok_or(CheckError::Ends)?;
        self.at += 1;
        let check = match token {
            Token::Not => Check::Not(Box::new(self.one()?)),
            Token::Open => {
                let inner = self.any()?;
                if !self.take(&Token::Close) {
                    return Err(self.peek().map_or(CheckError::Ends, |t| CheckError::Unexpected(shown(t))));
                }
                inner
            }
            Token::Word(w) => self.word(&w)?,
            other => return Err(CheckError::Unexpected(shown(&other))),
        };
        self.depth -= 1;
        Ok(check)
    }

    fn word(&self, word: &str) -> Result<Check, CheckError> {
        match word {
            "@" => return Ok(Check::Always),
            "!" => return Ok(Check::Never),
            _ => {}
        }
        let unexpected = || CheckError::Unexpected(word.chars().take(200).collect());
        let (kind, value) = split(word).ok_or_else(unexpected)?;
        match kind {
            "rule" => self.names.get(value).map(|at| Check::Rule(*at)).ok_or_else(|| CheckError::NoRule(value.to_owned())),
            "role" => Ok(Check::Role(template(value).ok_or_else(unexpected)?)),
            "http" | "https" => Err(CheckError::Http(word.to_owned())),
            _ => {
                let value = template(value).ok_or_else(unexpected)?;
                Ok(match literal(kind) {
                    Some(l) => Check::Literal(l, value),
                    None => Check::Fact(kind.to_owned(), value),
                })
            }
        }
    }
}

fn joined(mut list: Vec<Check>, join: fn(Vec<Check>) -> Check) -> Check {
    match list.len() {
        1 => list.pop().unwrap_or(Check::Never),
        _ => join(list),
    }
}

/// Kind and value; a kind in quotes may hold colons.
fn split(word: &str) -> Option<(&str, &str)> {
    let quote = word.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let (kind, value) = match quote {
        Some(q) => {
            let end = word.get(1..)?.find(q)? + 2;
            (word.get(..end)?, word.get(end..)?.strip_prefix(':')?)
        }
        None => word.split_once(':')?,
    };
    (!kind.is_empty() && !value.is_empty()).then_some((kind, value))
}

fn literal(kind: &str) -> Option<String> {
    let quoted = ['\'', '"'].iter().find_map(|q| kind.strip_prefix(*q)?.strip_suffix(*q));
    match quoted {
        Some(q) => Some(q.to_owned()),
        None if matches!(kind, "True" | "False" | "None") || kind.parse::<i64>().is_ok() => Some(kind.to_owned()),
        None => None,
    }
}

/// `None` for a `%` that begins no place.
fn template(value: &str) -> Option<Template> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(i) = rest.find('%') {
        let (before, after) = (rest.get(..i)?, rest.get(i + 1..)?);
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        if let Some(after) = after.strip_prefix('%') {
            parts.push(Part::Text("%".to_owned()));
            rest = after;
            continue;
        }
        let (name, after) = after.strip_prefix('(')?.split_once(")s")?;
        parts.push(Part::Fact(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Some(Template(parts))
}

/// What a rule is about: facts by name.
pub(super) trait Facts {
    /// Facts of the caller that are `name`; empty when it has none such. Several = a list.
    fn caller(&self, name: &str) -> Vec<String>;
    /// The value for `%(name)s`: of the target, else of the caller; `None` when there is none.
    fn target(&self, name: &str) -> Option<String>;
    /// Whether the caller has this role.
    fn has_role(&self, role: &str) -> bool;
}

impl Template {
    /// `None` when a fact is missing: then nothing matches, not even another fact that is missing.
    fn fill(&self, facts: &dyn Facts) -> Option<String> {
        let mut out = String::new();
        for p in &self.0 {
            match p {
                Part::Text(t) => out.push_str(t),
                Part::Fact(name) => out.push_str(&facts.target(name)?),
            }
        }
        Some(out)
    }

    fn is_text(&self, text: &str) -> bool {
        matches!(self.0.as_slice(), [Part::Text(t)] if t == text)
    }
}

impl Check {
    /// Whether the rule holds. `rules` are those that [`Check::Rule`] names; they are free of circles.
    pub fn holds(&self, rules: &[Check], facts: &dyn Facts) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::All(list) => list.iter().all(|c| c.holds(rules, facts)),
            Self::Any(list) => list.iter().any(|c| c.holds(rules, facts)),
            Self::Not(c) => !c.holds(rules, facts),
            Self::Rule(at) => rules.get(*at).is_some_and(|c| c.holds(rules, facts)),
            Self::Role(t) => t.fill(facts).is_some_and(|r| facts.has_role(&r)),
            Self::Fact(name, t) => {
                let mine = facts.caller(name);
                if mine.is_empty() {
                    return t.is_text("None");
                }
                t.fill(facts).is_some_and(|v| mine.contains(&v))
            }
            Self::Literal(l, t) => t.fill(facts).map_or(l == "None", |v| v == *l),
        }
    }

    /// Places of the rules that this one names.
    pub fn references(&self, out: &mut Vec<usize>) {
        match self {
            Self::All(list) | Self::Any(list) => list.iter().for_each(|c| c.references(out)),
            Self::Not(c) => c.references(out),
            Self::Rule(at) => out.push(*at),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Someone;

    impl Facts for Someone {
        fn caller(&self, name: &str) -> Vec<String> {
            match name {
                "project_id" => vec!["p1".into()],
                "roles" => vec!["Reader".into(), "member".into()],
                "is_admin_project" => vec!["True".into()],
                _ => vec![],
            }
        }
        fn target(&self, name: &str) -> Option<String> {
            match name {
                "node.owner" => Some("p1".into()),
                "node.lessee" => Some("p2".into()),
                _ => None,
            }
        }
        fn has_role(&self, role: &str) -> bool {
            ["reader", "member"].contains(&role.to_lowercase().as_str())
        }
    }

    fn holds(text: &str) -> bool {
        let names = HashMap::from([("yes".to_owned(), 0), ("no".to_owned(), 1)]);
        let rules = [Check::Always, Check::Never];
        parse(text, &names).unwrap_or_else(|e| panic!("{text}: {e}")).holds(&rules, &Someone)
    }

    #[test]
    fn expressions_mean_what_the_language_says() {
        for yes in [
            "",
            "@",
            "rule:yes",
            "not rule:no",
            "role:READER",
            "project_id:%(node.owner)s",
            "(role:reader and (project_id:%(node.owner)s or project_id:%(node.lessee)s))",
            "rule:no and rule:no or rule:yes",
            "rule:yes or rule:no and rule:no",
            "not rule:no and role:member",
            "NOT rule:no AND role:member",
            "'p2':%(node.lessee)s",
            "True:True",
            "None:%(nothing)s",
            "system_scope:None",
            "roles:member",
            "is_admin_project:True",
            "project_id:p%(node.nothing)s or @",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "!",
            "rule:no",
            "role:admin",
            "project_id:%(node.lessee)s",
            "project_id:%(node.nothing)s",
            "system_scope:%(node.nothing)s",
            "system_scope:all",
            "rule:yes and rule:no or rule:no",
            "not (rule:yes or rule:no)",
            "'p1':%(node.lessee)s",
            "project_id:None",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        let none = HashMap::new();
        for bad in
            ["role", "role:", ":x", "role:a role:b", "(role:a", "role:a)", "and role:a", "role:a or", "not", "()", "role:%(x", "role:%x"]
        {
            assert!(parse(bad, &none).is_err(), "{bad}");
        }
        assert_eq!(parse("rule:gone", &none), Err(CheckError::NoRule("gone".into())));
        assert!(matches!(parse("http://example.org/%(node.owner)s", &none), Err(CheckError::Http(_))));
        assert_eq!(parse(&"(".repeat(5000), &none), Err(CheckError::Deep));
        assert_eq!(parse(&format!("{}@", "not ".repeat(5000)), &none), Err(CheckError::Deep));
    }
}
