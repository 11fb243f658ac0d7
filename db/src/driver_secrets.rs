//! Taking the secret values out of `driver_info` and putting them back.
//!
//! The stored object holds [`MASK`] where a secret was; the secrets themselves are one sealed object from JSON pointer (RFC 6901) to
//! value. A value that arrives as [`MASK`] means "as it was".

use bessemer_model::{
    Json, JsonMap,
    secret::{MASK, is_secret_key},
};

/// `info` without its secrets, and the secrets by pointer. Masked values take what `old` holds at their place.
pub(crate) fn split(info: &JsonMap, old: &JsonMap) -> (JsonMap, JsonMap) {
    let mut secrets = JsonMap::new();
    let masked = split_map("", info, old, &mut secrets);
    (masked, secrets)
}

fn split_map(at: &str, map: &JsonMap, old: &JsonMap, out: &mut JsonMap) -> JsonMap {
    map.iter().map(|(k, v)| (k.clone(), split_value(&format!("{at}/{}", escape(k)), k, v, old, out))).collect()
}

fn split_value(at: &str, key: &str, v: &Json, old: &JsonMap, out: &mut JsonMap) -> Json {
    match v {
        Json::Object(m) => Json::Object(split_map(at, m, old, out)),
        Json::Array(a) => Json::Array(a.iter().enumerate().map(|(i, x)| split_value(&format!("{at}/{i}"), key, x, old, out)).collect()),
        Json::Null => Json::Null,
        _ if !is_secret_key(key) => v.clone(),
        Json::String(s) if s == MASK => {
            if let Some(kept) = old.get(at) {
                out.insert(at.to_owned(), kept.clone());
            }
            Json::String(MASK.to_owned())
        }
        _ => {
            out.insert(at.to_owned(), v.clone());
            Json::String(MASK.to_owned())
        }
    }
}

/// Whether a masked value stands anywhere, that is, whether the old secrets are needed.
pub(crate) fn holds_mask(map: &JsonMap) -> bool {
    fn masked(v: &Json) -> bool {
        match v {
            Json::String(s) => s == MASK,
            Json::Array(a) => a.iter().any(masked),
            Json::Object(m) => m.values().any(masked),
            _ => false,
        }
    }
    map.values().any(masked)
}

/// Puts the secrets back into a masked object.
pub(crate) fn join(info: &mut JsonMap, secrets: JsonMap) {
    let mut whole = Json::Object(std::mem::take(info));
    for (at, secret) in secrets {
        if let Some(v) = whole.pointer_mut(&at) {
            *v = secret;
        }
    }
    if let Json::Object(m) = whole {
        *info = m;
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(v: Json) -> JsonMap {
        v.as_object().cloned().unwrap()
    }

    #[test]
    fn secrets_come_out_and_go_back_in_at_any_depth() {
        let info = map(serde_json::json!({
            "redfish_password": "p", "redfish_address": "a", "x/y~z": {"list": [{"auth_token": 7}]}, "secret": null
        }));
        let (mut masked, secrets) = split(&info, &JsonMap::new());
        assert_eq!(masked, bessemer_model::secret::masked(&info));
        assert_eq!(secrets.len(), 2);
        assert!(holds_mask(&masked));
        join(&mut masked, secrets);
        assert_eq!(masked, info);
    }

    #[test]
    fn a_masked_value_keeps_the_old_secret_and_a_removed_key_loses_it() {
        let (masked, old) = split(&map(serde_json::json!({"a_password": "1", "b_password": "2", "c_password": "3"})), &JsonMap::new());
        let mut next = masked;
        next.remove("b_password");
        next.insert("c_password".into(), "4".into());
        let (mut masked, secrets) = split(&next, &old);
        join(&mut masked, secrets);
        assert_eq!(masked, map(serde_json::json!({"a_password": "1", "c_password": "4"})));
    }
}
