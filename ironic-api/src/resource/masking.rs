//! Free-form objects with their secrets hidden while they are rendered; nothing is copied (`security.md` section 4).

use bessemer_model::{
    Json, JsonMap,
    secret::{MASK, is_secret_key},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// An object whose values under secret keys, at any depth, render as [`MASK`].
pub(crate) struct Masked<'a> {
    /// The object.
    pub map: &'a JsonMap,
    /// Keys of the object itself whose whole value is hidden.
    pub hidden: &'a [&'a str],
}

impl<'a> Masked<'a> {
    pub const fn new(map: &'a JsonMap) -> Self {
        Self { map, hidden: &[] }
    }
    /// `instance_info`: the config drive and image address are hidden whatever they are.
    pub const fn instance_info(map: &'a JsonMap) -> Self {
        Self { map, hidden: &["configdrive", "image_url"] }
    }
}

impl Serialize for Masked<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(Some(self.map.len()))?;
        for (k, v) in self.map {
            if self.hidden.contains(&k.as_str()) {
                m.serialize_entry(k, MASK)?;
            } else {
                m.serialize_entry(k, &MaskedValue { value: v, secret: is_secret_key(k) })?;
            }
        }
        m.end()
    }
}

/// A value, secret as a whole or looked through for secrets.
pub(crate) struct MaskedValue<'a> {
    pub value: &'a Json,
    pub secret: bool,
}

impl Serialize for MaskedValue<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Json::Object(map) => Masked::new(map).serialize(s),
            Json::Array(a) => s.collect_seq(a.iter().map(|value| MaskedValue { value, secret: self.secret })),
            Json::Null => s.serialize_unit(),
            _ if self.secret => s.serialize_str(MASK),
            v => v.serialize(s),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rendering_hides_the_same_as_the_model_does() {
        let v = json!({"ipmi_password": "x", "n": null, "a": {"b": [{"auth_token": "y", "plain": 1}]}, "password": ["p", null, {"q": 1}]});
        let map = v.as_object().expect("object");
        let ours = serde_json::to_value(Masked::new(map)).expect("renders");
        assert_eq!(ours, Json::Object(bessemer_model::secret::masked(map)));
    }

    #[test]
    fn config_drives_are_hidden_whatever_they_are() {
        let v = json!({"configdrive": {"meta_data": {}}, "image_source": "s"});
        let got = serde_json::to_value(Masked::instance_info(v.as_object().expect("object"))).expect("renders");
        assert_eq!(got, json!({"configdrive": MASK, "image_source": "s"}));
    }
}
