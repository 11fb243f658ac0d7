//! Flow collections (`{a: [1, 2]}`) and quoted text, which may go on over several lines.

use serde_json::{Map, Value};

use super::{MAX_DEPTH, Reader, scalar};

/// The character that an escape stands for; `next` gives what follows the backslash.
pub(super) fn escape(next: &mut dyn FnMut() -> Option<char>) -> Result<char, &'static str> {
    const BAD: &str = "this escape is not known";
    let digits = match next().ok_or(BAD)? {
        'n' => return Ok('\n'),
        't' | '\t' => return Ok('\t'),
        'r' => return Ok('\r'),
        '0' => return Ok('\0'),
        'a' => return Ok('\u{7}'),
        'b' => return Ok('\u{8}'),
        'e' => return Ok('\u{1b}'),
        'f' => return Ok('\u{c}'),
        'v' => return Ok('\u{b}'),
        c @ ('"' | '\\' | '/' | ' ') => return Ok(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return Err(BAD),
    };
    let mut code: u32 = 0;
    for _ in 0..digits {
        let digit = next().and_then(|c| c.to_digit(16)).ok_or(BAD)?;
        code = code.checked_mul(16).and_then(|code| code.checked_add(digit)).ok_or(BAD)?;
    }
    char::from_u32(code).ok_or(BAD)
}

/// Reads flow collections and quoted text, over as many lines as they take.
pub(super) struct Flow<'a> {
    chars: Vec<char>,
    pos: usize,
    reader: &'a mut Reader,
}

impl<'a> Flow<'a> {
    /// Reads a value that begins with `text`, within the reader's present line; the value, and the rest of the line it ends in.
    pub(super) fn read(reader: &'a mut Reader, text: &str, depth: usize) -> Result<(Value, String), String> {
        let mut flow = Self { chars: text.chars().collect(), pos: 0, reader };
        let value = flow.value(depth)?;
        flow.skip_blanks();
        Ok((value, flow.rest()))
    }

    fn bad(&self, what: &str) -> String {
        self.reader.bad(what)
    }

    fn look(&self) -> Option<char> {
        self.chars.get(self.pos).copied()
    }

    fn rest(&self) -> String {
        self.chars.get(self.pos..).unwrap_or_default().iter().collect()
    }

    /// The next character; the end of a line is a line feed, and the next line follows it.
    fn next(&mut self) -> Option<char> {
        if let Some(c) = self.look() {
            self.pos += 1;
            return Some(c);
        }
        let line = self.reader.lines.get(self.reader.at + 1)?;
        self.chars = line.chars().collect();
        self.pos = 0;
        self.reader.at += 1;
        Some('\n')
    }

    fn skip_blanks(&mut self) {
        while self.look().is_some_and(|c| c == ' ' || c == '\t') {
            self.pos += 1;
        }
    }

    /// Over blanks, line ends and comments.
    fn skip_space(&mut self) -> Result<char, String> {
        loop {
            self.skip_blanks();
            match self.look() {
                Some('#') => self.pos = self.chars.len(),
                Some(c) => return Ok(c),
                None => {
                    if self.next().is_none() {
                        return Err(self.bad("it ends within a collection or quoted text"));
                    }
                }
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(self.bad("it is nested too deeply"));
        }
        match self.skip_space()? {
            '{' => self.object(depth),
            '[' => self.array(depth),
            '"' | '\'' => Ok(Value::String(self.quoted()?)),
            '&' | '*' | '!' => Err(self.bad("anchors, aliases and tags are not read")),
            _ => Ok(scalar(&self.plain())),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        self.pos += 1;
        let mut items = Vec::new();
        loop {
            if self.skip_space()? == ']' {
                self.pos += 1;
                return Ok(Value::Array(items));
            }
            items.push(self.value(depth + 1)?);
            match self.skip_space()? {
                ',' => self.pos += 1,
                ']' => {}
                _ => return Err(self.bad("a comma or ] is missing")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        self.pos += 1;
        let mut members = Map::new();
        loop {
            let name = match self.skip_space()? {
                '}' => {
                    self.pos += 1;
                    return Ok(Value::Object(members));
                }
                '"' | '\'' => self.quoted()?,
                _ => self.plain(),
            };
            let value = match self.skip_space()? {
                ':' => {
                    self.pos += 1;
                    match self.skip_space()? {
                        ',' | '}' => Value::Null,
                        _ => self.value(depth + 1)?,
                    }
                }
                ',' | '}' if !name.is_empty() => Value::Null,
                _ => return Err(self.bad("a : is missing")),
            };
            if members.insert(name, value).is_some() {
                return Err(self.bad("a key stands here a second time"));
            }
            match self.skip_space()? {
                ',' => self.pos += 1,
                '}' => {}
                _ => return Err(self.bad("a comma or } is missing")),
            }
        }
    }

    /// Plain text up to what can end it.
    fn plain(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.look() {
            let after = self.chars.get(self.pos + 1).copied();
            let ends = match c {
                ',' | '[' | ']' | '{' | '}' => true,
                ':' => after.is_none_or(|c| " \t,[]{}".contains(c)),
                '#' => out.ends_with([' ', '\t']),
                _ => false,
            };
            if ends {
                break;
            }
            out.push(c);
            self.pos += 1;
        }
        out.trim_end().to_owned()
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.next().unwrap_or('"');
        let mut out = String::new();
        loop {
            let Some(c) = self.next() else { return Err(self.bad("quoted text does not end")) };
            match c {
                '\\' if quote == '"' && self.look().is_none() => {
                    // An escaped line end joins the lines.
                    self.next();
                    self.skip_blanks();
                }
                '\\' if quote == '"' => {
                    let mut next = || {
                        let c = self.chars.get(self.pos).copied();
                        self.pos += 1;
                        c
                    };
                    let c = escape(&mut next);
                    out.push(c.map_err(|what| self.bad(what))?);
                }
                c if c == quote => {
                    if quote == '\'' && self.look() == Some('\'') {
                        self.pos += 1;
                        out.push('\'');
                    } else {
                        return Ok(out);
                    }
                }
                '\n' => {
                    // One line end is a space, more are that many less one.
                    out.truncate(out.trim_end_matches([' ', '\t']).len());
                    let mut ends = 1;
                    self.skip_blanks();
                    while self.look().is_none() {
                        if self.next().is_none() {
                            return Err(self.bad("quoted text does not end"));
                        }
                        ends += 1;
                        self.skip_blanks();
                    }
                    out.push_str(&if ends == 1 { " ".to_owned() } else { "\n".repeat(ends - 1) });
                }
                c => out.push(c),
            }
        }
    }
}
