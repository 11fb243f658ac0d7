//! Structured text: reading JSON, YAML and TOML, and writing YAML.

use std::fmt::Write as _;
use std::path::Path;

use bessemer_model::yaml;
use serde_json::Value;

use crate::error::CliError;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Reads a file of at most 64 MiB.
pub fn bytes(path: &Path) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    let bad = |what: String| CliError::File { path: path.to_owned(), what };
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| bad(e.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Reads a JSON, YAML or TOML file; its name tells which (YAML, of which JSON is a part, when it does not).
pub fn read(path: &Path) -> Result<Value, CliError> {
    let bad = |what: String| CliError::File { path: path.to_owned(), what };
    let text = String::from_utf8(bytes(path)?).map_err(|_| bad("it is no UTF-8 text".to_owned()))?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return toml::from_str(&text).map_err(|e| bad(e.to_string()));
    }
    parse(&text).map_err(bad)
}

/// Parses JSON or YAML.
pub fn parse(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(json) if text.trim_start().starts_with(['{', '[']) => yaml::parse(text).map_err(|_| format!("no JSON: {json}")),
        Err(_) => yaml::parse(text),
    }
}

/// An argument that is JSON itself, the path of a JSON or YAML file, or `-` for standard input.
pub fn argument(given: &str, what: &str) -> Result<Value, CliError> {
    if given == "-" {
        let text = std::io::read_to_string(std::io::stdin()).map_err(|e| CliError::Usage(format!("{what}: standard input: {e}")))?;
        return parse(&text).map_err(|e| CliError::Usage(format!("{what}: standard input: {e}")));
    }
    if Path::new(given).is_file() {
        return read(Path::new(given));
    }
    serde_json::from_str(given).map_err(|e| CliError::Usage(format!("{what}: it is neither a file that exists nor JSON: {e}")))
}

/// Writes `name: value` as YAML, indented by so many spaces.
pub fn write_yaml_member(out: &mut String, name: &str, value: &Value, indent: usize) {
    let _ = write!(out, "{:indent$}{}:", "", yaml_scalar(name));
    write_yaml_value(out, value, indent);
}

fn write_yaml_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            for (name, value) in members {
                write_yaml_member(out, name, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                let mut text = String::new();
                // Members of an object in a list stand right of the dash, and so do the dashes of a list in a list.
                let inner = if item.is_array() { indent + 2 } else { indent };
                write_yaml_value(&mut text, item, inner);
                let text = text.trim_start();
                let _ = write!(out, "{:indent$}- {text}", "");
            }
        }
        Value::Object(_) => out.push_str(" {}\n"),
        Value::Array(_) => out.push_str(" []\n"),
        Value::String(text) => {
            let _ = writeln!(out, " {}", yaml_scalar(text));
        }
        plain => {
            let _ = writeln!(out, " {plain}");
        }
    }
}

/// Text as YAML: plain where that is safe, else as JSON, which is a part of YAML.
fn yaml_scalar(text: &str) -> String {
    let first_is_safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/');
    let all_safe = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ +@".contains(c)) && !text.ends_with(' ');
    let word = matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if first_is_safe && all_safe && !word { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_as_yaml_is_read_back_the_same() {
        let value = json!({
            "name": "n-1", "state": "no", "time": "2026-01-01T00:00:00+00:00", "empty": "", "none": null, "on": true, "count": 3,
            "list": ["a", {"b": 1, "c": [1, 2]}, []], "object": {"x": {"y": "z: #1"}}, "lines": "a\nb\n", "nothing": {}
        });
        let mut text = String::new();
        for (name, member) in value.as_object().expect("an object") {
            write_yaml_member(&mut text, name, member, 0);
        }
        assert_eq!(parse(&text), Ok(value), "{text}");
    }
}
