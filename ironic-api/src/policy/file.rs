//! The rules in force: the defaults of the table, changed by a policy file, which is read again when it changes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use super::{
    check::{self, Check, CheckError, Facts},
    table::Policy,
};

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is larger than any policy file.
    #[error("{0} is larger than {MAX_FILE} bytes")]
    Size(PathBuf),
    /// Neither JSON nor lines of the form `"name": "rule"`.
    #[error("line {0}: {1}")]
    Line(usize, &'static str),
    /// JSON that is no object of texts.
    #[error("not a JSON object of rules: {0}")]
    Json(String),
    /// A rule that cannot be understood.
    #[error("rule \"{0}\": {1}")]
    Rule(String, #[source] CheckError),
    /// A rule that leads to itself.
    #[error("rule \"{0}\" refers to itself")]
    Circle(String),
}

const MAX_FILE: u64 = 1 << 20;

/// Every rule, parsed: the policies in the order of the table, then the file's own.
#[derive(Debug)]
pub(super) struct Rules {
    names: HashMap<String, usize>,
    checks: Vec<Check>,
}

impl Rules {
    /// The defaults with `overrides` in their place.
    ///
    /// # Errors
    /// A rule that cannot be understood, or one that leads to itself.
    pub fn new(overrides: &[(String, String)]) -> Result<Self, PolicyFileError> {
        let mut texts: Vec<(&str, &str)> = Policy::ALL.iter().map(|p| (p.name(), p.default_rule())).collect();
        let mut names: HashMap<String, usize> = texts.iter().enumerate().map(|(i, (n, _))| ((*n).to_owned(), i)).collect();
        for (name, rule) in overrides {
            if name.starts_with("baremetal:") && !name.starts_with(STEP_PREFIX) && !names.contains_key(name) {
                tracing::warn!(policy = name, "the policy file names a policy that does not exist; the line has no effect");
            }
            match names.get(name).and_then(|i| texts.get_mut(*i)) {
                Some(slot) => slot.1 = rule,
                None => {
                    names.insert(name.clone(), texts.len());
                    texts.push((name, rule));
                }
            }
        }
        let parse = |(name, text): &(&str, &str)| {
            let text: &str = text;
            check::parse(text, &names).map_err(|e| PolicyFileError::Rule((*name).to_owned(), e))
        };
        let checks = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = circle(&checks) {
            return Err(PolicyFileError::Circle(texts.get(at).map_or_else(String::new, |(n, _)| (*n).to_owned())));
        }
        Ok(Self { names, checks })
    }

    pub fn holds(&self, policy: Policy, facts: &dyn Facts) -> bool {
        self.checks.get(policy as usize).is_some_and(|c| c.holds(&self.checks, facts))
    }

    /// Whether a rule that only a file can define holds; true when none does.
    pub fn holds_if_defined(&self, name: &str, facts: &dyn Facts) -> bool {
        self.names.get(name).and_then(|at| self.checks.get(*at)).is_none_or(|c| c.holds(&self.checks, facts))
    }
}

/// Policies of single steps; no such exists by default.
pub(crate) const STEP_PREFIX: &str = "baremetal:step:execute:";

/// A rule that leads to itself.
fn circle(checks: &[Check]) -> Option<usize> {
    // 0 = not seen, 1 = on the way, 2 = fine.
    fn visit(at: usize, checks: &[Check], seen: &mut [u8]) -> bool {
        match seen.get(at) {
            Some(1) => return true,
            Some(0) => {}
            _ => return false,
        }
        if let Some(s) = seen.get_mut(at) {
            *s = 1;
        }
        let mut next = Vec::new();
        if let Some(c) = checks.get(at) {
            c.references(&mut next);
        }
        let round = next.into_iter().any(|n| visit(n, checks, seen));
        if let Some(s) = seen.get_mut(at) {
            *s = 2;
        }
        round
    }
    let mut seen = vec![0; checks.len()];
    (0..checks.len()).find(|at| visit(*at, checks, &mut seen))
}

/// Reads `{"name": "rule", …}` or the lines `"name": "rule"` of flat YAML.
///
/// # Errors
/// Anything else.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, PolicyFileError> {
    if text.trim_start().starts_with('{') {
        let map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|e| PolicyFileError::Json(e.to_string()))?;
        let pair = |(name, rule): (String, serde_json::Value)| match rule {
            serde_json::Value::String(rule) => Ok((name, rule)),
            _ => Err(PolicyFileError::Json(format!("the rule \"{name}\" must be a text"))),
        };
        return map.into_iter().map(pair).collect();
    }
    let mut out: Vec<(String, String)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let bad = |what| PolicyFileError::Line(i + 1, what);
        let bare = line.trim_end();
        if bare.is_empty() || bare.trim_start().starts_with('#') || bare == "---" || bare == "{}" {
            continue;
        }
        if bare.starts_with([' ', '\t', '-']) {
            return Err(bad(
                "write each rule on one line as \"name\": \"rule\", not indented; lists and texts over several lines are not read",
            ));
        }
        let (name, rest) = scalar(bare, true).ok_or(bad("write the rule as \"name\": \"rule\""))?;
        let rest = rest.trim_start().strip_prefix(':').ok_or(bad("a colon is expected after the name"))?;
        let rest = rest.strip_prefix([' ', '\t']).ok_or(bad("a space is expected after the colon"))?.trim_start();
        let (rule, rest) = scalar(rest, false).ok_or(bad("a rule in quotes is expected"))?;
        let rest = rest.trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(bad("something follows the rule"));
        }
        if out.iter().any(|(n, _)| *n == name) {
            return Err(bad("the rule is there twice"));
        }
        out.push((name, rule));
    }
    Ok(out)
}

/// A YAML scalar on one line and what follows it. A bare key ends at the colon that a space follows, as in YAML.
fn scalar(s: &str, key: bool) -> Option<(String, &str)> {
    let quote = s.chars().next()?;
    if !matches!(quote, '"' | '\'') {
        let end = if key { s.find(": ")? } else { s.find(" #").unwrap_or(s.len()) };
        let (text, rest) = s.split_at(end);
        let special = text.starts_with(['!', '@', '[', ']', '{', '}', '&', '*', '|', '>', '%', '`', ',', '?', '#']);
        return (!special && !text.trim().is_empty()).then(|| (text.trim().to_owned(), rest));
    }
    let mut out = String::new();
    let mut chars = s.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => match chars.next()?.1 {
                e @ ('"' | '\\' | '/') => out.push(e),
                't' | 'n' => out.push(' '),
                _ => return None,
            },
            c if c == quote => {
                if quote == '\'' && chars.peek().is_some_and(|(_, n)| *n == '\'') {
                    chars.next();
                    out.push('\'');
                    continue;
                }
                return Some((out, s.get(i + 1..)?));
            }
            c => out.push(c),
        }
    }
    None
}

/// What tells one version of a file from another.
type Stamp = (SystemTime, u64);

/// The rules in force, and where they come from.
#[derive(Debug)]
pub(super) struct Source {
    path: Option<PathBuf>,
    current: RwLock<Arc<Rules>>,
    checked: Mutex<(Instant, Option<Stamp>)>,
}

/// A changed file is noticed within this time.
const RECHECK: Duration = Duration::from_secs(1);

fn load(path: &Path) -> Result<(Rules, Stamp), PolicyFileError> {
    let error = |e| PolicyFileError::Read(path.to_owned(), e);
    let stamp = stamp(path).map_err(error)?;
    if stamp.1 > MAX_FILE {
        return Err(PolicyFileError::Size(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(error)?;
    Ok((Rules::new(&read(&text)?)?, stamp))
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let m = std::fs::metadata(path)?;
    Ok((m.modified()?, m.len()))
}

impl Source {
    /// The defaults. Were they not parsable (a test says that they are), nothing would be allowed.
    pub fn defaults() -> Self {
        let rules = Rules::new(&[]).unwrap_or(Rules { names: HashMap::new(), checks: vec![] });
        Self { path: None, current: RwLock::new(Arc::new(rules)), checked: Mutex::new((Instant::now(), None)) }
    }

    /// The defaults, changed by the file.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(path: &Path) -> Result<Self, PolicyFileError> {
        let (rules, stamp) = load(path)?;
        let checked = Mutex::new((Instant::now(), Some(stamp)));
        Ok(Self { path: Some(path.to_owned()), current: RwLock::new(Arc::new(rules)), checked })
    }

    /// The rules in force now. A file that was spoilt since leaves the last good rules in force and says so in the log.
    pub fn rules(&self) -> Arc<Rules> {
        if let Some(path) = &self.path {
            self.look(path);
        }
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self, path: &Path) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.0.elapsed() < RECHECK {
            return;
        }
        checked.0 = Instant::now();
        let now = stamp(path).ok();
        if now == checked.1 {
            return;
        }
        checked.1 = now;
        match load(path) {
            Ok((rules, stamp)) => {
                checked.1 = Some(stamp);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
                tracing::info!(file = %path.display(), "the policy file was read again");
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "the policy file cannot be used; the last good rules stay in force")
            }
        }
    }

    /// Lets the next request look at the file.
    #[cfg(test)]
    pub fn expire(&self) {
        if let Some(before) = Instant::now().checked_sub(RECHECK * 2) {
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).0 = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_yaml_and_json_say_the_same() {
        let yaml = "---\n# comment\n\n\"a:b\": \"role:x or 'l':%(y)s\" # why\n'c': 'role:y'\nd: role:z\ne:f: \"\"\n";
        let json = r#" {"a:b": "role:x or 'l':%(y)s", "c": "role:y", "d": "role:z", "e:f": ""}"#;
        assert_eq!(read(yaml).expect("yaml"), read(json).expect("json"));
        assert_eq!(read("{}").expect("empty"), vec![]);
        assert_eq!(read("# all defaults\n").expect("empty"), vec![]);
    }

    #[test]
    fn other_yaml_is_refused_with_its_line() {
        for bad in ["a: !", "a:\n  - b", "- a", "a: [b]", "a", "a:b", "\"a\": \"b\" c", "\"a\" \"b\"", "a: |\n", "a: b\na: c", "\"a: b"] {
            assert!(matches!(read(&format!("ok: role:x\n{bad}")), Err(PolicyFileError::Line(2.., _))), "{bad}");
        }
        assert!(matches!(read(r#"{"a": [["role:x"]]}"#), Err(PolicyFileError::Json(_))));
    }

    #[test]
    fn circles_and_unknown_rules_are_refused_by_name() {
        let with = |pairs: &[(&str, &str)]| Rules::new(&pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>());
        let circle = with(&[("a", "rule:b"), ("b", "not rule:a")]);
        assert!(circle.is_err_and(|e| e.to_string().contains("refers to itself")));
        let gone = with(&[("baremetal:node:get", "rule:nowhere")]);
        assert!(gone.is_err_and(|e| e.to_string().contains("baremetal:node:get")));
        assert!(with(&[("mine", "role:x"), ("baremetal:node:get", "rule:mine")]).is_ok());
    }
}
