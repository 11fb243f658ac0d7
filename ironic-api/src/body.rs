//! Request bodies: bounded in size and depth, then read either strictly (resources, patches) or as named arguments.

use bessemer_model::{Json, JsonMap, boolean, fault::Fault};
use bytes::Bytes;

/// A body as received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its media type, without parameters.
    pub media_type: Option<String>,
}

impl Body {
    /// Whether the media type lets the body be read as JSON. A form is not; a missing type counts as one.
    fn readable(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default().to_ascii_lowercase();
        !matches!(media_type.as_str(), "" | "application/x-www-form-urlencoded" | "multipart/form-data")
    }

    /// A document that must be there.
    pub fn json(&self) -> Result<Json, Fault> {
        if !self.readable() {
            return Err(Fault::invalid("A JSON body with Content-Type application/json is needed."));
        }
        if self.bytes.is_empty() {
            return Err(Fault::missing("The body is empty."));
        }
        serde_json::from_slice(&self.bytes).map_err(|e| Fault::invalid(format!("The body is not JSON: {e}")))
    }

    /// An object that must be there.
    pub fn object(&self) -> Result<JsonMap, Fault> {
        match self.json()? {
            Json::Object(m) => Ok(m),
            _ => Err(Fault::invalid("The body must be a JSON object.")),
        }
    }

    /// Named arguments. A body that is absent, null, not JSON or of another type has none; the caller then misses what it needs.
    pub fn args(&self) -> Result<Args, Fault> {
        if !matches!(self.media_type.as_deref(), Some("application/json" | "application/javascript")) {
            return Ok(Args::default());
        }
        match serde_json::from_slice(&self.bytes) {
            Ok(Json::Object(m)) => Ok(Args(m)),
            Ok(Json::Null) => Ok(Args::default()),
            Ok(_) => Err(Fault::invalid("The body must be a JSON object.")),
            Err(_) => Ok(Args::default()),
        }
    }

    /// Whether the client sent anything.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Arguments of an action.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args(pub JsonMap);

impl Args {
    /// Refuses arguments that are not in `names`.
    pub fn only(&self, names: &[&str]) -> Result<(), Fault> {
        match self.0.keys().find(|k| !names.contains(&k.as_str())) {
            Some(k) => Err(Fault::invalid(format!("Unexpected arguments: \"{k}\""))),
            None => Ok(()),
        }
    }
    /// An argument; null counts as absent.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|v| !v.is_null())
    }
    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        self.get(name).map(|v| v.as_str().ok_or_else(|| Fault::invalid(format!("Expected text for \"{name}\".")))).transpose()
    }
    /// A text that must be there.
    pub fn required_text(&self, name: &str) -> Result<&str, Fault> {
        self.text(name)?.ok_or_else(|| Fault::missing(format!("Missing mandatory parameter: \"{name}\"")))
    }
    /// A boolean, also as text, or one of the numbers 0 and 1.
    pub fn bool(&self, name: &str) -> Result<Option<bool>, Fault> {
        let read = |v: &Json| json_bool(v).or_else(|| v.as_u64().filter(|n| *n < 2).map(|n| n == 1));
        self.get(name).map(|v| read(v).ok_or_else(|| Fault::invalid(format!("Expected a boolean for \"{name}\".")))).transpose()
    }
}

/// A boolean or a text that means one.
pub(crate) fn json_bool(v: &Json) -> Option<bool> {
    match v {
        Json::Bool(b) => Some(*b),
        Json::String(s) => boolean::from_text(s),
        _ => None,
    }
}

/// How deeply a JSON text is nested, without parsing it. Brackets within strings do not count.
pub(crate) fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for b in bytes {
        if in_string {
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match b {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_ignores_brackets_within_strings() {
        assert_eq!(json_depth(br#"{"a":[{"b":"[[[\"[["}],"c":[]}"#), 3);
        assert_eq!(json_depth(b"]]]][["), 2);
    }

    fn body(media_type: Option<&str>, bytes: &'static [u8]) -> Body {
        Body { bytes: Bytes::from_static(bytes), media_type: media_type.map(str::to_owned) }
    }

    #[test]
    fn forms_and_untyped_bodies_are_not_documents_but_odd_types_are() {
        let doc = br#"{"a":1}"#;
        assert!(body(Some("text/plain"), doc).object().is_ok());
        assert!(body(Some("application/x-www-form-urlencoded"), doc).object().is_err());
        assert!(body(None, doc).object().is_err());
        assert!(body(Some("application/json"), b"not json").args().is_ok_and(|a| a.0.is_empty()));
        assert!(body(Some("application/json"), b"[]").args().is_err());
        for odd in ["text/plain", "APPLICATION/JSON"] {
            assert!(body(Some(odd), doc).args().is_ok_and(|a| a.0.is_empty()), "{odd}");
            assert!(body(Some(odd), doc).object().is_ok(), "{odd}");
        }
    }
}
