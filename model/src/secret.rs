//! A value that never shows itself.

use std::fmt;

/// Holds a secret. Has no `Display` and no `Serialize`; `Debug` prints `******`. Only [`Secret::reveal`] gives it out.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
    /// The value itself. Callers keep it out of logs, errors and answers.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

/// What stands where a secret was.
pub const MASK: &str = "******";

/// Substrings (lower case) that make a key of a free-form object a secret (`security.md` section 4).
pub const SECRET_KEY_PATTERNS: &[&str] = &[
    "adminpass",
    "admin_pass",
    "password",
    "auth_token",
    "new_pass",
    "secret_uuid",
    "secret",
    "sys_pswd",
    "token",
    "passphrase",
    "private_key",
    "encryption_key",
    "snmp_auth_key",
    "snmp_priv_key",
    "ipmi_hex_kg_key",
];

/// Whether a key of `driver_info` and its like names a secret.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let k = key.to_ascii_lowercase();
    SECRET_KEY_PATTERNS.iter().any(|p| k.contains(p))
}

/// A copy in which every non-null value under a secret key, at any depth, is [`MASK`].
#[must_use]
pub fn masked(map: &crate::JsonMap) -> crate::JsonMap {
    map.iter().map(|(k, v)| (k.clone(), masked_value(k, v))).collect()
}

fn masked_value(key: &str, v: &crate::Json) -> crate::Json {
    use crate::Json;
    match v {
        Json::Object(m) => Json::Object(masked(m)),
        Json::Array(a) => Json::Array(a.iter().map(|x| masked_value(key, x)).collect()),
        Json::Null => Json::Null,
        _ if is_secret_key(key) => Json::String(MASK.to_owned()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_value() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), MASK);
    }

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let v = serde_json::json!({"ipmi_password": "x", "a": {"b": [{"auth_token": "y", "plain": 1}]}});
        let m = masked(v.as_object().expect("object"));
        assert_eq!(
            serde_json::Value::Object(m),
            serde_json::json!({"ipmi_password": MASK, "a": {"b": [{"auth_token": MASK, "plain": 1}]}})
        );
    }
}
