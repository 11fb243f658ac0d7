//! Prints results: one thing or a list, in any of the formats, with the choice of columns.
//!
//! Texts outside JSON and YAML are those of Python (`None`, `True`, `{'cpus': 4}`), because scripts compare them.

use std::fmt::Write as _;

use comfy_table::presets::ASCII_FULL_CONDENSED;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::Value;

use crate::args::output::{Format, Output, Quote};
use crate::error::CliError;
use crate::record::Record;
use crate::structured;

/// Borders of + and -, rows without lines between them.
const BORDERS: TableStyle = ASCII_FULL_CONDENSED.header_separator(LineStyle::new('+', '-', '+', '+'));

/// One thing: a field per line.
pub fn one(record: &Record, output: &Output) -> Result<String, CliError> {
    let names: Vec<&String> = record.0.iter().map(|(name, _)| name).collect();
    let members: Vec<(&str, &Value)> =
        chosen(&names, output)?.into_iter().filter_map(|at| record.0.get(at)).map(|(name, value)| (name.as_str(), value)).collect();
    let mut text = String::new();
    match output.format {
        Format::Json => text = json_object(&members, output.shape.noindent, 0) + "\n",
        Format::Yaml => {
            for (name, value) in members {
                structured::write_yaml_member(&mut text, name, value, 0);
            }
        }
        Format::Value => {
            for (_, value) in members {
                let _ = writeln!(text, "{}", python(value));
            }
        }
        Format::Shell => {
            for (name, value) in members {
                let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
                let value = python(value).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
                let _ = writeln!(text, "{}{name}=\"{value}\"", output.shape.prefix);
            }
        }
        Format::Table => {
            let mut table = table(output);
            table.set_header(["Field", "Value"]);
            for (name, value) in members {
                table.add_row([name.to_owned(), python(value)]);
            }
            let _ = writeln!(text, "{table}");
        }
        Format::Csv => return Err(CliError::Usage("one thing cannot be printed as csv; choose table, json, value, yaml or shell".into())),
    }
    Ok(text)
}

/// A list: a thing per row. Columns that a row lacks are empty.
pub fn list(columns: &[&str], rows: &[Record], output: &Output) -> Result<String, CliError> {
    let names: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
    let names: Vec<&String> = names.iter().collect();
    let chosen: Vec<&str> = chosen(&names, output)?.into_iter().filter_map(|at| columns.get(at).copied()).collect();
    let mut rows: Vec<&Record> = rows.iter().collect();
    sort_columns(&mut rows, columns, output)?;
    let empty = Value::String(String::new());
    let cells: Vec<Vec<(&str, &Value)>> =
        rows.iter().map(|row| chosen.iter().map(|&name| (name, row.get(name).unwrap_or(&empty))).collect()).collect();
    let mut text = String::new();
    match output.format {
        Format::Json if cells.is_empty() => text.push_str("[]\n"),
        Format::Json => {
            let (between, outer) = if output.shape.noindent { (", ", "") } else { (",\n  ", "\n") };
            let rows: Vec<String> = cells.iter().map(|row| json_object(row, output.shape.noindent, 1)).collect();
            let _ = writeln!(text, "[{outer}{}{}{outer}]", if outer.is_empty() { "" } else { "  " }, rows.join(between));
        }
        Format::Yaml if cells.is_empty() => text.push_str("[]\n"),
        Format::Yaml => {
            for row in cells {
                let mut item = String::new();
                for (name, value) in row {
                    structured::write_yaml_member(&mut item, name, value, 2);
                }
                let _ = write!(text, "- {}", item.trim_start());
            }
        }
        Format::Value => {
            for row in cells {
                let row: Vec<String> = row.into_iter().map(|(_, value)| python(value)).collect();
                let _ = writeln!(text, "{}", row.join(" "));
            }
        }
        Format::Csv => {
            let header: Vec<String> = chosen.iter().map(|name| csv(&Value::from(*name), output.shape.quote)).collect();
            let _ = writeln!(text, "{}", header.join(","));
            for row in cells {
                let row: Vec<String> = row.into_iter().map(|(_, value)| csv(value, output.shape.quote)).collect();
                let _ = writeln!(text, "{}", row.join(","));
            }
        }
        Format::Table if cells.is_empty() && !output.shape.print_empty => text.push('\n'),
        Format::Table => {
            let mut table = table(output);
            table.set_header(&chosen);
            for row in cells {
                table.add_row(row.into_iter().map(|(_, value)| python(value)));
            }
            let _ = writeln!(text, "{table}");
        }
        Format::Shell => return Err(CliError::Usage("a list cannot be printed as shell; choose table, json, value, yaml or csv".into())),
    }
    Ok(text)
}

/// Sorts rows as `--sort` asks: FIELD[:asc|:desc], several with commas. Rows without a value come last.
pub fn sort(rows: &mut [Record], order: Option<&str>) -> Result<(), CliError> {
    for key in order.unwrap_or_default().split(',').map(str::trim).filter(|key| !key.is_empty()).rev() {
        let (field, down) = match key.rsplit_once(':') {
            Some((field, "asc")) => (field, false),
            Some((field, "desc")) => (field, true),
            Some((_, other)) => return Err(CliError::Usage(format!("--sort: `{other}` is neither asc nor desc"))),
            None => (key, false),
        };
        rows.sort_by(|a, b| compare(a.get(field), b.get(field), down));
    }
    Ok(())
}

fn sort_columns(rows: &mut [&Record], columns: &[&str], output: &Output) -> Result<(), CliError> {
    for name in output.shape.sort_columns.iter().rev() {
        let column = columns.iter().copied().find(|column| column.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| no_such_column(name, columns))?;
        rows.sort_by(|a, b| compare(a.get(column), b.get(column), output.shape.sort_descending));
    }
    Ok(())
}

fn compare(a: Option<&Value>, b: Option<&Value>, down: bool) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let there = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    match (there(a), there(b)) {
        (false, false) => return Ordering::Equal,
        (false, true) => return Ordering::Greater,
        (true, false) => return Ordering::Less,
        (true, true) => {}
    }
    let order = match (a.and_then(Value::as_f64), b.and_then(Value::as_f64)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.map(python).cmp(&b.map(python)),
    };
    if down { order.reverse() } else { order }
}

/// Places of the columns that `-c` chooses, in the order of the columns as they are.
fn chosen(names: &[&String], output: &Output) -> Result<Vec<usize>, CliError> {
    if output.shape.columns.is_empty() {
        return Ok((0..names.len()).collect());
    }
    let same = |a: &str, b: &str| a.replace(' ', "_").eq_ignore_ascii_case(&b.replace(' ', "_"));
    let places: Vec<usize> =
        (0..names.len()).filter(|&at| names.get(at).is_some_and(|name| output.shape.columns.iter().any(|c| same(c, name)))).collect();
    match output.shape.columns.iter().find(|column| !names.iter().any(|name| same(column, name))) {
        Some(column) if places.is_empty() => Err(no_such_column(column, &names.iter().map(|n| n.as_str()).collect::<Vec<_>>())),
        _ => Ok(places),
    }
}

fn no_such_column(name: &str, columns: &[&str]) -> CliError {
    CliError::Usage(format!("there is no column `{name}`; there are: {}", columns.join(", ")))
}

fn table(output: &Output) -> Table {
    let mut table = Table::new();
    table.load_style(BORDERS);
    if output.shape.max_width > 0 {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(output.shape.max_width);
    } else if output.shape.fit_width {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = columns.unwrap_or_else(|| console::Term::stdout().size().1);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(20));
    }
    table
}

/// JSON of members, in their order, indented by two.
fn json_object(members: &[(&str, &Value)], noindent: bool, depth: usize) -> String {
    if members.is_empty() {
        return "{}".to_owned();
    }
    let items: Vec<String> =
        members.iter().map(|(name, value)| format!("{}: {}", Value::from(*name), json(value, noindent, depth + 1))).collect();
    wrap('{', &items, '}', noindent, depth)
}

fn json(value: &Value, noindent: bool, depth: usize) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<(&str, &Value)> = members.iter().map(|(name, value)| (name.as_str(), value)).collect();
            json_object(&members, noindent, depth)
        }
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| json(item, noindent, depth + 1)).collect();
            wrap('[', &items, ']', noindent, depth)
        }
        plain => plain.to_string(),
    }
}

fn wrap(open: char, items: &[String], close: char, noindent: bool, depth: usize) -> String {
    if noindent {
        return format!("{open}{}{close}", items.join(", "));
    }
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", items.join(&format!(",\n{inner}")))
}

/// An object as `a='1', b.c='2'`, which is how the Python client shows some of them to people.
pub fn pairs(members: &serde_json::Map<String, Value>, prefix: &str) -> String {
    let mut names: Vec<&String> = members.keys().collect();
    names.sort();
    let pair = |name: &String| {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match members.get(name) {
            Some(Value::Object(inner)) => pairs(inner, &path),
            None | Some(Value::Null) => format!("{path}="),
            Some(value) => format!("{path}='{}'", python(value)),
        }
    };
    names.into_iter().map(pair).collect::<Vec<_>>().join(", ")
}

/// A value as Python's `str` writes it.
pub fn python(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_inner(other),
    }
}

fn python_inner(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut out = String::from(quote);
            for c in text.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c if c == quote => out.extend(['\\', c]),
                    c if c.is_control() => {
                        let _ = write!(out, "\\x{:02x}", u32::from(c));
                    }
                    c => out.push(c),
                }
            }
            out.push(quote);
            out
        }
        Value::Array(items) => format!("[{}]", items.iter().map(python_inner).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, value)| format!("{}: {}", python_inner(&Value::from(name.as_str())), python_inner(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

fn csv(value: &Value, quote: Quote) -> String {
    let text = if value.is_null() { String::new() } else { python(value) };
    let needs = text.contains([',', '"', '\n', '\r']);
    let quoted = match quote {
        Quote::All => true,
        Quote::Minimal => needs,
        Quote::None => false,
        // Truth is a number to Python.
        Quote::Nonnumeric => !value.is_number() && !value.is_boolean(),
    };
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::output::Shape;
    use serde_json::json;

    fn rows() -> Vec<Record> {
        serde_json::from_value(json!([
            {"uuid": "u1", "name": null, "maintenance": false, "cpus": 10, "properties": {"a": [1, "x'y"]}},
            {"uuid": "u2", "name": "n", "maintenance": true, "cpus": 9, "properties": {}}
        ]))
        .expect("rows")
    }

    fn output(format: Format) -> Output {
        Output { format, shape: Shape::default() }
    }

    #[test]
    fn plain_texts_are_those_of_python() {
        let text = list(&["uuid", "name", "maintenance", "properties"], &rows(), &output(Format::Value)).expect("printed");
        assert_eq!(text, "u1 None False {'a': [1, \"x'y\"]}\nu2 n True {}\n");
    }

    #[test]
    fn json_keeps_the_order_of_columns() {
        let text = list(&["uuid", "name"], &rows(), &output(Format::Json)).expect("printed");
        assert_eq!(
            text,
            "[\n  {\n    \"uuid\": \"u1\",\n    \"name\": null\n  },\n  {\n    \"uuid\": \"u2\",\n    \"name\": \"n\"\n  }\n]\n"
        );
        let mut output = output(Format::Json);
        output.shape.noindent = true;
        assert_eq!(list(&["name"], &rows(), &output).expect("printed"), "[{\"name\": null}, {\"name\": \"n\"}]\n");
        assert_eq!(list(&["name"], &[], &output).expect("printed"), "[]\n");
    }

    #[test]
    fn a_table_has_borders_and_no_lines_between_rows() {
        let text = list(&["uuid", "name"], &rows(), &output(Format::Table)).expect("printed");
        let expected = "+------+------+\n| uuid | name |\n+------+------+\n| u1   | None |\n| u2   | n    |\n+------+------+\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn columns_are_chosen_and_rows_sorted() {
        let mut sorted = rows();
        sort(&mut sorted, Some("cpus")).expect("sorted");
        assert_eq!(sorted[0].text("uuid"), Some("u2"));
        let mut only = output(Format::Value);
        only.shape.columns = vec!["UUID".into()];
        only.shape.sort_columns = vec!["uuid".into()];
        only.shape.sort_descending = true;
        assert_eq!(list(&["uuid", "name"], &rows(), &only).expect("printed"), "u2\nu1\n");
        only.shape.columns = vec!["uid".into()];
        assert!(list(&["uuid"], &rows(), &only).is_err());
        assert!(sort(&mut rows(), Some("cpus:up")).is_err());
    }

    #[test]
    fn shell_values_cannot_run_anything() {
        let record = Record(vec![("a b".into(), json!("$(x) `y` \"z\" \\"))]);
        let text = one(&record, &output(Format::Shell)).expect("printed");
        assert_eq!(text, "a_b=\"\\$(x) \\`y\\` \\\"z\\\" \\\\\"\n");
    }
}
