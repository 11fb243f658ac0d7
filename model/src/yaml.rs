//! Reads the YAML that people write by hand: clouds.yaml, inventories, steps, meta data.
//!
//! Block and flow collections, plain, quoted, literal and folded text, comments. Words mean what they mean to PyYAML
//! (YAML 1.1: `yes` is true), except that addresses of digits and colons and numbers with leading zeros stay text. Anchors,
//! aliases, tags, merge keys, explicit keys, several documents and plain text over several lines are refused by name, never
//! misread.

mod flow;

use serde_json::{Map, Number, Value};

use flow::{Flow, escape};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// Parses one document.
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { lines: text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect(), at: 0 };
    if let Some((0, "---")) = reader.peek()?.map(|(indent, text)| (indent, text.trim_end())) {
        reader.at += 1;
    }
    let value = match reader.peek()? {
        None => Value::Null,
        Some(_) => reader.block(0)?,
    };
    match reader.peek()? {
        None | Some((0, "...")) => Ok(value),
        Some((0, "---")) => Err(reader.bad("several documents in one file are not read")),
        Some(_) => Err(reader.bad("this does not fit to what stands above (look at the indentation)")),
    }
}

struct Reader {
    lines: Vec<String>,
    at: usize,
}

impl Reader {
    fn bad(&self, what: &str) -> String {
        format!("line {}: {what}", self.at + 1)
    }

    /// Goes to the next line that says something: its indentation and the rest of it.
    fn peek(&mut self) -> Result<Option<(usize, &str)>, String> {
        while let Some(line) = self.lines.get(self.at) {
            let text = line.trim_start_matches(' ');
            if text.trim().is_empty() || text.starts_with('#') {
                self.at += 1;
            } else if text.starts_with('\t') {
                return Err(self.bad("a tab cannot indent"));
            } else {
                break;
            }
        }
        Ok(self.lines.get(self.at).map(|line| {
            let text = line.trim_start_matches(' ');
            (line.len() - text.len(), text)
        }))
    }

    /// [`Self::peek`], for those that go on reading meanwhile.
    fn peek_owned(&mut self) -> Result<Option<(usize, String)>, String> {
        Ok(self.peek()?.map(|(indent, text)| (indent, text.to_owned())))
    }

    /// The collection or text that begins at the next line.
    fn block(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.bad("it is nested too deeply"));
        }
        let Some((indent, text)) = self.peek_owned()? else { return Ok(Value::Null) };
        let text = text.as_str();
        if is_item(text) {
            return self.sequence(indent, depth);
        }
        if key(text).map_err(|what| self.bad(what))?.is_some() {
            return self.mapping(indent, depth);
        }
        self.inline(indent, indent, depth)
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        while let Some((here, text)) = self.peek_owned()? {
            let text = text.as_str();
            if here != indent || !is_item(text) {
                if here > indent {
                    return Err(self.bad("this is indented more than the list it stands in"));
                }
                break;
            }
            let rest = text.get(1..).unwrap_or_default();
            let inner = rest.trim_start_matches(' ');
            if inner.is_empty() || inner.starts_with('#') {
                self.at += 1;
                items.push(self.below(indent, false, depth)?);
                continue;
            }
            let column = indent + 1 + rest.len() - inner.len();
            let collection = is_item(inner) || key(inner).map_err(|what| self.bad(what))?.is_some();
            if collection {
                // The dash becomes a blank: what follows it is a block of its own.
                let line = format!("{:column$}{inner}", "");
                if let Some(place) = self.lines.get_mut(self.at) {
                    *place = line;
                }
                items.push(self.block(depth + 1)?);
            } else {
                items.push(self.inline(column, indent, depth)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut members = Map::new();
        while let Some((here, text)) = self.peek_owned()? {
            let text = text.as_str();
            if here < indent || (here == indent && (is_item(text) || text == "---" || text == "...")) {
                break;
            }
            if here > indent {
                return Err(self.bad("this is indented more than its neighbours (plain text over several lines must be quoted)"));
            }
            let Some((name, after)) = key(text).map_err(|what| self.bad(what))? else {
                return Err(self.bad("a `key: value` is missing here"));
            };
            if name == "<<" {
                return Err(self.bad("merge keys are not read"));
            }
            if members.contains_key(&name) {
                return Err(self.bad(&format!("`{name}` stands here a second time")));
            }
            let rest = text.get(after..).unwrap_or_default();
            let inner = rest.trim_start();
            let value = if inner.is_empty() || inner.starts_with('#') {
                self.at += 1;
                self.below(indent, true, depth)?
            } else {
                let column = indent + after + rest.len() - inner.len();
                self.inline(column, indent, depth)?
            };
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }

    /// What stands below a key or a dash: a block that is indented more, or nothing. A list may stand right under its key.
    fn below(&mut self, indent: usize, list_may_align: bool, depth: usize) -> Result<Value, String> {
        match self.peek()? {
            Some((here, _)) if here > indent => self.block(depth + 1),
            Some((here, text)) if here == indent && list_may_align && is_item(text) => self.sequence(indent, depth + 1),
            _ => Ok(Value::Null),
        }
    }

    /// A value that begins within the present line, at that column; the block around it is indented by `indent`.
    fn inline(&mut self, column: usize, indent: usize, depth: usize) -> Result<Value, String> {
        let line = self.lines.get(self.at).cloned().unwrap_or_default();
        let text = line.get(column..).unwrap_or_default();
        match text.chars().next() {
            Some('|' | '>') => self.block_text(text, indent),
            Some('{' | '[' | '"' | '\'') => {
                let (value, rest) = Flow::read(self, text, depth)?;
                if !rest.is_empty() && !rest.starts_with('#') {
                    return Err(self.bad("there is more after the end of the value"));
                }
                self.at += 1;
                Ok(value)
            }
            Some('&' | '*') => Err(self.bad("anchors and aliases are not read")),
            Some('!') => Err(self.bad("tags are not read")),
            Some('%' | '@' | '`') => Err(self.bad("plain text cannot begin with this character; quote it")),
            _ => {
                let plain = without_comment(text);
                if plain.contains(": ") || plain.ends_with(':') {
                    return Err(self.bad("a value with a colon in it must be quoted"));
                }
                let value = scalar(plain);
                self.at += 1;
                if let Some((here, _)) = self.peek()?
                    && here > indent
                {
                    return Err(self.bad("plain text over several lines must be quoted, or written with |"));
                }
                Ok(value)
            }
        }
    }

    /// Literal (`|`) and folded (`>`) text.
    fn block_text(&mut self, header: &str, indent: usize) -> Result<Value, String> {
        let folded = header.starts_with('>');
        let (mut chomp, mut given) = (' ', None);
        for c in without_comment(header.get(1..).unwrap_or_default()).trim().chars() {
            match c {
                '-' | '+' => chomp = c,
                '1'..='9' => given = c.to_digit(10).map(|digit| digit as usize),
                _ => return Err(self.bad("after | or > only -, + and an indentation can stand")),
            }
        }
        self.at += 1;
        let mut width = given.map(|given| indent + given);
        let mut lines: Vec<&str> = Vec::new();
        while let Some(line) = self.lines.get(self.at) {
            let blanks = line.len() - line.trim_start_matches(' ').len();
            if line.trim().is_empty() {
                lines.push(width.and_then(|width| line.get(width..)).unwrap_or_default());
            } else {
                let top_level_text = indent == 0 && width == Some(0);
                if blanks < width.unwrap_or(indent + 1) && !top_level_text {
                    break;
                }
                let width = *width.get_or_insert(blanks);
                lines.push(line.get(width..).unwrap_or_default());
            }
            self.at += 1;
        }
        let content = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
        let (body, trailing) = lines.split_at(content);
        let mut text = String::new();
        if folded {
            let mut blank_lines = 0;
            for (at, line) in body.iter().enumerate() {
                let indented = line.starts_with([' ', '\t']);
                let before_indented = at.checked_sub(1).and_then(|at| body.get(at)).is_some_and(|line| line.starts_with([' ', '\t']));
                if line.is_empty() {
                    blank_lines += 1;
                    continue;
                }
                if at > 0 {
                    if blank_lines > 0 {
                        text.push_str(&"\n".repeat(blank_lines + usize::from(indented || before_indented)));
                    } else {
                        text.push(if indented || before_indented { '\n' } else { ' ' });
                    }
                }
                blank_lines = 0;
                text.push_str(line);
            }
        } else {
            text = body.join("\n");
        }
        match chomp {
            '-' => {}
            '+' => {
                if !body.is_empty() {
                    text.push('\n');
                }
                text.push_str(&"\n".repeat(trailing.len()));
            }
            _ if !body.is_empty() => text.push('\n'),
            _ => {}
        }
        Ok(Value::String(text))
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// Text up to a comment.
fn without_comment(text: &str) -> &str {
    let end = text.match_indices('#').find(|(at, _)| *at == 0 || text.get(..*at).is_some_and(|before| before.ends_with([' ', '\t'])));
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or(text).trim_end()
}

/// The key that a line begins with, and where its value begins.
fn key(text: &str) -> Result<Option<(String, usize)>, &'static str> {
    if text == "?" || text.starts_with("? ") {
        return Err("keys marked by ? are not read");
    }
    if text.starts_with(['"', '\'']) {
        let Some((name, end)) = quoted_on_one_line(text) else { return Ok(None) };
        let rest = text.get(end..).unwrap_or_default();
        let colon = rest.trim_start();
        let at = end + rest.len() - colon.len();
        return Ok((colon == ":" || colon.starts_with(": ")).then_some((name, at + 1)));
    }
    if text.starts_with(['{', '[', '|', '>', '#']) {
        return Ok(None);
    }
    let plain = without_comment(text);
    let colon =
        plain.match_indices(':').find(|(at, _)| plain.get(at + 1..).is_none_or(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])));
    let Some((at, _)) = colon else { return Ok(None) };
    let name = plain.get(..at).unwrap_or_default().trim_end();
    if name.starts_with(['&', '*', '!']) {
        return Err("anchors, aliases and tags are not read");
    }
    Ok(Some((name.to_owned(), at + 1)))
}

/// Quoted text that ends on its line, and where it ends.
fn quoted_on_one_line(text: &str) -> Option<(String, usize)> {
    let quote = text.chars().next()?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => out.push(escape(&mut || chars.next().map(|(_, c)| c)).ok()?),
            c if c == quote => {
                if quote == '\'' && chars.peek().is_some_and(|(_, c)| *c == '\'') {
                    chars.next();
                    out.push('\'');
                } else {
                    return Some((out, at + c.len_utf8()));
                }
            }
            c => out.push(c),
        }
    }
    None
}

/// What plain text means.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = text.strip_prefix('+').unwrap_or(text);
    let leading_zero = unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    if unsigned.starts_with(|c: char| c.is_ascii_digit()) && !leading_zero {
        if let Some(value) = unsigned.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()).filter(|_| unsigned == text) {
            return value.into();
        }
        if let Ok(value) = number.parse::<i64>() {
            return value.into();
        }
        if let Ok(value) = number.parse::<u64>() {
            return value.into();
        }
        let decimal = unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
        // `1e5` is text to PyYAML: a number needs its point.
        if decimal
            && unsigned.contains('.')
            && let Some(value) = number.parse::<f64>().ok().and_then(Number::from_f64)
        {
            return Value::Number(value);
        }
    }
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests;
