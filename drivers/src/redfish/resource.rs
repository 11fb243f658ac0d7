//! Reading Redfish JSON: every property may be missing, null, empty or of a surprising type, and that is no error here.

use serde_json::Value;

use super::error::{BmcMessage, BmcMessageEntry, cut};

/// Most messages that are kept of one answer.
const MAX_MESSAGES: usize = 16;
/// Most members of a collection that are looked at.
pub const MAX_MEMBERS: usize = 512;

/// One resource as the BMC gave it.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// Path it was read from (without scheme and host).
    pub path: String,
    /// ETag of header or body; an empty one counts as none.
    pub etag: Option<String>,
    /// Body.
    pub body: Value,
}

impl Resource {
    /// The value at a path of property names.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        at(&self.body, path)
    }
    /// Text at a path; blank text counts as none.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        text(&self.body, path)
    }
    /// Target of a link.
    #[must_use]
    pub fn link(&self, path: &[&str]) -> Option<&str> {
        link(&self.body, path)
    }
    /// Links of a collection or of an array of links.
    #[must_use]
    pub fn links(&self, path: &[&str]) -> Vec<String> {
        links(&self.body, path)
    }
}

/// The value at a path of property names; null counts as none.
#[must_use]
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let mut v = value;
    for key in path {
        v = v.get(*key)?;
    }
    (!v.is_null()).then_some(v)
}

/// Text at a path, trimmed; blank text counts as none.
#[must_use]
pub fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(value, path)?.as_str().map(str::trim).filter(|s| !s.is_empty())
}

/// Whole number at a path; numbers in strings and fractions (cut) are taken too.
#[must_use]
pub fn number(value: &Value, path: &[&str]) -> Option<u64> {
    match at(value, path)? {
        Value::Number(n) => n.as_u64().or_else(|| to_u64(n.as_f64()?)),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// Number at a path.
#[must_use]
pub fn float(value: &Value, path: &[&str]) -> Option<f64> {
    match at(value, path)? {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok().filter(|f: &f64| f.is_finite()),
        _ => None,
    }
}

/// A non-negative float as a whole number.
#[must_use]
pub fn to_u64(f: f64) -> Option<u64> {
    // 2^63 is far beyond any size or count a BMC reports and is exact in both types.
    (0.0..9_223_372_036_854_775_808.0).contains(&f).then_some(f as u64)
}

/// Truth value at a path; "true"/"Enabled" texts are taken too.
#[must_use]
pub fn boolean(value: &Value, path: &[&str]) -> Option<bool> {
    match at(value, path)? {
        Value::Bool(b) => Some(*b),
        Value::String(s) if s.eq_ignore_ascii_case("true") || s.eq_ignore_ascii_case("enabled") => Some(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") || s.eq_ignore_ascii_case("disabled") => Some(false),
        _ => None,
    }
}

/// Target of a link: `{"@odata.id": "/…"}`, `{"href": "/…"}` or a bare path.
#[must_use]
pub fn link<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    as_link(at(value, path)?)
}

fn as_link(v: &Value) -> Option<&str> {
    let s = match v {
        Value::String(s) => s.as_str(),
        _ => v.get("@odata.id").or_else(|| v.get("href"))?.as_str()?,
    };
    let s = s.trim();
    (s.starts_with('/') || s.starts_with("http://") || s.starts_with("https://")).then_some(s)
}

/// Links in an array at `path`, or in the `Members` (or old `Links.Members`) of the collection there.
#[must_use]
pub fn links(value: &Value, path: &[&str]) -> Vec<String> {
    let Some(v) = at(value, path) else { return Vec::new() };
    let list = v
        .as_array()
        .or_else(|| v.get("Members").and_then(Value::as_array))
        .or_else(|| at(v, &["Links", "Members"]).and_then(Value::as_array));
    match list {
        Some(a) => a.iter().filter_map(as_link).take(MAX_MEMBERS).map(str::to_owned).collect(),
        None => Vec::new(),
    }
}

/// Texts of an array at `path`.
#[must_use]
pub fn texts(value: &Value, path: &[&str]) -> Vec<String> {
    at(value, path)
        .and_then(Value::as_array)
        .map(|a| a.iter().filter_map(Value::as_str).take(MAX_MEMBERS).map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The messages of an error answer or of a task. `@Message.ExtendedInfo` may be a list or one object (Dell), inside or
/// outside of `error`; a body that is no Redfish error at all gives its own text.
#[must_use]
pub fn messages(body: &Value, raw: &str) -> BmcMessage {
    let error = body.get("error").unwrap_or(body);
    let mut entries = Vec::new();
    for holder in [error, body] {
        for key in ["@Message.ExtendedInfo", "Messages"] {
            match holder.get(key) {
                Some(Value::Array(a)) => entries.extend(a.iter().take(MAX_MESSAGES).filter_map(entry)),
                Some(v @ (Value::Object(_) | Value::String(_))) => entries.extend(entry(v)),
                _ => {}
            }
        }
        if !entries.is_empty() {
            break;
        }
    }
    let own = entry(error);
    // The outer text is mostly "see the extended information": only wanted when there is none.
    if entries.is_empty() {
        entries.extend(own);
    }
    if entries.is_empty() && !body.is_object() {
        return BmcMessage::plain(raw);
    }
    entries.truncate(MAX_MESSAGES);
    BmcMessage { entries }
}

fn entry(v: &Value) -> Option<BmcMessageEntry> {
    if let Value::String(s) = v {
        let text = cut(s.trim());
        return (!text.is_empty()).then(|| BmcMessageEntry { text, ..BmcMessageEntry::default() });
    }
    let pick = |keys: &[&str]| keys.iter().find_map(|k| text(v, &[k])).map(cut).unwrap_or_default();
    let list = |key: &str| texts(v, &[key]).iter().take(MAX_MESSAGES).map(|s| cut(s)).collect();
    let e = BmcMessageEntry {
        id: pick(&["MessageId", "MessageID", "code"]),
        text: pick(&["Message", "message"]),
        args: list("MessageArgs"),
        related: list("RelatedProperties"),
    };
    (!e.id.is_empty() || !e.text.is_empty()).then_some(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn extended_info_is_read_as_list_and_as_object() {
        let m = json!({"MessageId": "Base.1.0.GeneralError", "Message": "no", "MessageArgs": ["x"]});
        let list = messages(&json!({"error": {"code": "c", "message": "see below", "@Message.ExtendedInfo": [m]}}), "");
        let object = messages(&json!({"error": {"@Message.ExtendedInfo": m}}), "");
        assert_eq!(list, object);
        assert_eq!(list.to_string(), "no (Base.1.0.GeneralError)");
        assert!(list.mentions("generalerror") && list.mentions("X"));
    }

    #[test]
    fn an_answer_that_is_no_redfish_error_still_says_something() {
        assert_eq!(messages(&Value::Null, "<h1>Bad\ngateway</h1>").to_string(), "<h1>Bad gateway</h1>");
        assert_eq!(messages(&json!({"error": {"message": "plain"}}), "").to_string(), "plain");
        assert_eq!(messages(&json!({}), "{}").to_string(), "no reason given");
    }

    #[test]
    fn numbers_and_truths_in_texts_are_understood() {
        let v = json!({"a": "12", "b": 3.7, "c": -1, "d": "Enabled", "e": {"f": null}});
        assert_eq!(number(&v, &["a"]), Some(12));
        assert_eq!(number(&v, &["b"]), Some(3));
        assert_eq!(number(&v, &["c"]), None);
        assert_eq!(boolean(&v, &["d"]), Some(true));
        assert_eq!(at(&v, &["e", "f"]), None);
    }

    #[test]
    fn collections_of_old_and_new_shape_give_links() {
        let new = json!({"Members": [{"@odata.id": "/a"}, {"x": 1}, {"@odata.id": 5}]});
        let old = json!({"Links": {"Members": [{"href": "/a"}]}});
        assert_eq!(links(&new, &[]), ["/a"]);
        assert_eq!(links(&old, &[]), ["/a"]);
    }
}
