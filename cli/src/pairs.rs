//! `KEY=VALUE` arguments, secrets that are read from elsewhere, and the patches that are made of them.

use bessemer_model::secret::is_secret_key;
use serde_json::{Map, Value, json};

use crate::error::CliError;

/// Splits `KEY=VALUE`; a value that is JSON is taken as such, any other is text.
pub fn pair(text: &str) -> Result<(String, Value), CliError> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| CliError::Usage(format!("`{}` is no KEY=VALUE", shown(text))))?;
    Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))))
}

/// An object of them.
pub fn object(pairs: &[String]) -> Result<Map<String, Value>, CliError> {
    pairs.iter().map(|text| pair(text)).collect()
}

/// Members of driver_info: [`pair`], and secrets may be given from elsewhere.
pub fn driver_info(pairs: &[String]) -> Result<Map<String, Value>, CliError> {
    let mut members = Map::new();
    for text in pairs {
        let (key, value) = pair(text)?;
        let given = text.split_once('=').map(|(_, value)| value).unwrap_or_default();
        let value = if is_secret_key(&key) && given.starts_with('@') { Value::String(secret(given)?) } else { value };
        members.insert(key, value);
    }
    Ok(members)
}

/// Reads secrets from elsewhere in an object that came from an inventory.
pub fn resolve_secrets(members: &mut Map<String, Value>) -> Result<(), CliError> {
    for (key, value) in members {
        if let Value::String(text) = value
            && is_secret_key(key)
            && text.starts_with('@')
        {
            *text = secret(text)?;
        }
    }
    Ok(())
}

/// The secret meant by `@FILE`, `@env:NAME`, `@-` (standard input), or `@@TEXT` for text with `@` in front.
pub fn secret(given: &str) -> Result<String, CliError> {
    let Some(from) = given.strip_prefix('@') else { return Ok(given.to_owned()) };
    if from.starts_with('@') {
        return Ok(from.to_owned());
    }
    if let Some(name) = from.strip_prefix("env:") {
        return std::env::var(name).map_err(|_| CliError::Usage(format!("the environment has no {name}")));
    }
    let text = if from == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(|e| CliError::Usage(format!("standard input: {e}")))?
    } else {
        std::fs::read_to_string(from)
            .map_err(|e| CliError::File { path: from.into(), what: format!("{e} (write @@ for a secret that begins with @)") })?
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// What of an argument may be shown: nothing after `=`.
fn shown(text: &str) -> &str {
    text.split_once('=').map_or(text, |(key, _)| key)
}

/// A patch in the making.
#[derive(Debug, Default)]
pub struct Patch(Vec<Value>);

impl Patch {
    /// Sets a field or a member (`properties/cpus`).
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        self.0.push(json!({"op": "add", "path": format!("/{}", path.trim_start_matches('/')), "value": value.into()}));
    }

    /// Sets a field when there is a value.
    pub fn set_some(&mut self, path: &str, value: Option<&String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(path, value.clone());
        }
    }

    /// Sets members of a field.
    pub fn set_members(&mut self, field: &str, members: Map<String, Value>) {
        for (key, value) in members {
            self.set(&format!("{field}/{key}"), value);
        }
    }

    /// Empties a field or removes a member.
    pub fn remove(&mut self, path: &str) {
        self.0.push(json!({"op": "remove", "path": format!("/{}", path.trim_start_matches('/'))}));
    }

    /// Removes members of a field.
    pub fn remove_members(&mut self, field: &str, keys: &[String]) {
        for key in keys {
            self.remove(&format!("{field}/{key}"));
        }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a body.
    pub fn body(self) -> Value {
        Value::Array(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_where_it_is_json_and_text_elsewhere() {
        let of = |text: &str| pair(text).expect("a pair").1;
        assert_eq!(of("cpus=4"), json!(4));
        assert_eq!(of("a={\"b\": [1]}"), json!({"b": [1]}));
        assert_eq!(of("capabilities=boot_mode:uefi,x=y"), json!("boot_mode:uefi,x=y"));
        assert_eq!(of("name="), json!(""));
        assert_eq!(of("on=true"), json!(true));
        assert_eq!(of("on=True"), json!("True"));
        assert!(pair("nothing").is_err());
        assert!(pair("=x").is_err());
    }

    #[test]
    fn a_secret_comes_from_a_file_or_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "s3cret\n").expect("written");
        let given = format!("ipmi_password=@{}", file.display());
        assert_eq!(driver_info(&[given]).expect("read")["ipmi_password"], json!("s3cret"));
        assert_eq!(driver_info(&["ipmi_password=@@x".to_owned()]).expect("kept")["ipmi_password"], json!("@x"));
        assert_eq!(driver_info(&["ipmi_username=@x".to_owned()]).expect("kept")["ipmi_username"], json!("@x"));
        let error = driver_info(&["ipmi_password=@/nowhere/x".to_owned()]).expect_err("no such file");
        assert!(error.to_string().contains("/nowhere/x"), "{error}");
    }

    #[test]
    fn a_broken_pair_is_shown_without_its_value() {
        let error = pair("=hunter2").expect_err("no key").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
