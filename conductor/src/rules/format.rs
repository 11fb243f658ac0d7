//! Replacement fields of rules: `{node.name}`, `{inventory[cpu][count]}`, `{item}`. They follow the format strings of Python, in which rules
//! have always been written: results are text, and a text whose fields cannot be resolved stays as it is.

use bessemer_model::{Json, JsonMap, secret::is_secret_key};

/// Whether secrets are hidden from rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// They read `***`.
    On,
    /// They are seen.
    Off,
}

/// Keys of inspection data whose values are hidden, at any depth; compared exactly.
const SECRET_DATA: &[&str] = &["password", "auth_token", "bmc_password"];
const HIDDEN: &str = "***";
/// Deepest nesting that is rendered.
const DEPTH: usize = 64;

/// Why a text stays as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unresolved {
    /// A key is missing.
    Missing,
    /// Anything else.
    Other,
}

/// What replacement fields may name.
pub(super) struct Context<'a> {
    pub node: &'a JsonMap,
    pub inventory: &'a Json,
    pub plugin_data: &'a Json,
    pub item: Option<&'a Json>,
    pub masking: Masking,
    /// A text with a missing key becomes null (for `is-empty`).
    pub missing_is_null: bool,
}

/// A value on the way of a field, with what hides its parts.
#[derive(Clone, Copy)]
enum Found<'a> {
    Node,
    Value { value: &'a Json, secret: fn(&str) -> bool },
    Hidden,
}

fn never(_: &str) -> bool {
    false
}
fn data_key(k: &str) -> bool {
    SECRET_DATA.contains(&k)
}

impl<'a> Context<'a> {
    /// A value with all its fields filled in. Within a loop a text is filled twice: an item may itself hold fields.
    pub fn fill(&self, v: &Json) -> Json {
        let first = match v {
            Json::String(s) if self.item.is_some() => self.text(s),
            other => other.clone(),
        };
        match first {
            Json::String(s) => self.text(&s),
            Json::Object(m) => Json::Object(m.iter().map(|(k, v)| (super::format::plain(&self.text(k)), self.fill(v))).collect()),
            Json::Array(a) => Json::Array(
                a.iter()
                    .map(|v| match v {
                        Json::String(s) => self.text(s),
                        other => self.fill(other),
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    fn text(&self, s: &str) -> Json {
        match self.format(s) {
            Ok(t) => Json::String(t),
            Err(Unresolved::Missing) if self.missing_is_null => Json::Null,
            Err(_) => Json::String(s.to_owned()),
        }
    }

    fn format(&self, s: &str) -> Result<String, Unresolved> {
        let mut out = String::with_capacity(s.len());
        let mut rest = s;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if let Some(r) = from.strip_prefix("{{") {
                out.push('{');
                rest = r;
            } else if let Some(r) = from.strip_prefix("}}") {
                out.push('}');
                rest = r;
            } else if let Some(r) = from.strip_prefix('{') {
                let end = r.find('}').ok_or(Unresolved::Other)?;
                let (field, r) = r.split_at(end);
                out.push_str(&self.field(field)?);
                rest = r.strip_prefix('}').unwrap_or(r);
            } else {
                return Err(Unresolved::Other);
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// One field, without its braces: a name, then attributes and indexes. Conversions and widths are not known.
    fn field(&self, field: &str) -> Result<String, Unresolved> {
        if field.contains(['{', '!', ':']) {
            return Err(Unresolved::Other);
        }
        let end = field.find(['.', '[']).unwrap_or(field.len());
        let (name, mut way) = field.split_at(end);
        let hidden = if self.masking == Masking::On { data_key } else { never };
        let mut at = match name {
            "node" => Found::Node,
            "inventory" => Found::Value { value: self.inventory, secret: hidden },
            "plugin_data" => Found::Value { value: self.plugin_data, secret: hidden },
            "item" => Found::Value { value: self.item.ok_or(Unresolved::Missing)?, secret: never },
            "" => return Err(Unresolved::Other),
            n if n.bytes().all(|b| b.is_ascii_digit()) => return Err(Unresolved::Other),
            _ => return Err(Unresolved::Missing),
        };
        while !way.is_empty() {
            let (part, index, rest) = if let Some(r) = way.strip_prefix('[') {
                let end = r.find(']').ok_or(Unresolved::Other)?;
                (&r[..end], true, &r[end + 1..])
            } else {
                let r = way.strip_prefix('.').ok_or(Unresolved::Other)?;
                let end = r.find(['.', '[']).unwrap_or(r.len());
                (&r[..end], false, &r[end..])
            };
            if part.is_empty() {
                return Err(Unresolved::Other);
            }
            at = self.step(at, part, index)?;
            way = rest;
        }
        Ok(match at {
            Found::Node => return Err(Unresolved::Other),
            Found::Hidden => HIDDEN.to_owned(),
            Found::Value { value, secret } => text_of(value, secret),
        })
    }

    fn step(&self, at: Found<'a>, part: &str, index: bool) -> Result<Found<'a>, Unresolved> {
        match (at, index) {
            (Found::Node, false) => {
                let value = self.node.get(part).ok_or(Unresolved::Other)?;
                Ok(Found::Value { value, secret: if self.masking == Masking::On { is_secret_key } else { never } })
            }
            (Found::Value { value: Json::Object(m), secret }, true) => {
                // An index of digits is a number, and no key is one.
                let value = m.get(part).filter(|_| !digits(part)).ok_or(Unresolved::Missing)?;
                Ok(if secret(part) && !value.is_null() { Found::Hidden } else { Found::Value { value, secret } })
            }
            (Found::Value { value: Json::Array(a), secret }, true) if digits(part) => {
                let value = part.parse::<usize>().ok().and_then(|i| a.get(i)).ok_or(Unresolved::Other)?;
                Ok(Found::Value { value, secret })
            }
            _ => Err(Unresolved::Other),
        }
    }
}

fn digits(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit())
}

/// A value as text, as Python's `str` writes it.
pub(super) fn plain(v: &Json) -> String {
    text_of(v, never)
}

fn text_of(v: &Json, secret: fn(&str) -> bool) -> String {
    match v {
        Json::String(s) => s.clone(),
        other => {
            let mut out = String::new();
            repr(other, secret, &mut out, 0);
            out
        }
    }
}

fn repr(v: &Json, secret: fn(&str) -> bool, out: &mut String, depth: usize) {
    if depth > DEPTH {
        out.push_str("...");
        return;
    }
    match v {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(n) => out.push_str(&n.to_string()),
        Json::String(s) => quoted(s, out),
        Json::Array(a) => {
            out.push('[');
            for (i, x) in a.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(x, secret, out, depth + 1);
            }
            out.push(']');
        }
        Json::Object(m) => {
            out.push('{');
            for (i, (k, x)) in m.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                quoted(k, out);
                out.push_str(": ");
                if secret(k) && !x.is_null() { quoted(HIDDEN, out) } else { repr(x, secret, out, depth + 1) }
            }
            out.push('}');
        }
    }
}

fn quoted(s: &str, out: &mut String) {
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}
