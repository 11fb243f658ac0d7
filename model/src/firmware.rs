//! What is known of a machine's own firmware: its settings and its versions (`api.md` section 3.7).

use serde::{Deserialize, Serialize};

use crate::{Json, clock::Timestamp};

/// A BIOS setting as a driver reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are those of api.md section 3.7, one to one")]
pub struct BiosSetting {
    pub name: String,
    /// As text, whatever the machine's own type is.
    pub value: Option<String>,
    /// `Enumeration`, `String`, `Integer`, `Boolean`, `Password`.
    pub attribute_type: Option<String>,
    pub allowable_values: Vec<Json>,
    pub lower_bound: Option<i64>,
    pub upper_bound: Option<i64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub read_only: Option<bool>,
    pub reset_required: Option<bool>,
    pub unique: Option<bool>,
}

impl BiosSetting {
    /// A setting of which nothing but its value is known.
    #[must_use]
    pub fn plain(name: &str, value: &Json) -> Self {
        Self { name: name.to_owned(), value: value_text(value), ..Self::default() }
    }
}

/// A value of a setting as text; `True` and `False` are written as everywhere in this API's settings.
#[must_use]
pub fn value_text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(s) => Some(s.clone()),
        Json::Bool(true) => Some("True".to_owned()),
        Json::Bool(false) => Some("False".to_owned()),
        other => Some(other.to_string()),
    }
}

/// A BIOS setting as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBiosSetting {
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
    /// The setting.
    pub setting: BiosSetting,
}

/// A part with a firmware of its own as a driver reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirmwareComponent {
    /// `bios`, `bmc` or `nic:<id>`.
    pub component: String,
    /// Version that runs.
    pub version: String,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial_number: Option<String>,
}

/// A part with a firmware of its own as stored.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 3.7, one to one")]
pub struct StoredFirmware {
    pub component: String,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    pub initial_version: String,
    pub current_version: Option<String>,
    pub last_version_flashed: Option<String>,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub serial_number: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_every_type_are_texts() {
        for (value, text) in [(json!("on"), Some("on")), (json!(true), Some("True")), (json!(5), Some("5")), (json!(null), None)] {
            assert_eq!(value_text(&value).as_deref(), text, "{value}");
        }
    }
}
