//! What is sent: values of attributes, whole bodies and patches, as JSON texts (some of which are none).

/// In every secret that is planted or sent. It must come back in no answer and stand in no log line.
pub const SECRET: &str = "hunter2-planted";

/// Values by name: each in place of each attribute.
pub fn values(attribute: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = VALUES.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    for n in [33, 65, 81, 256, 4097, 10_000, 70_000] {
        all.push((format!("{n} characters"), format!("\"{}\"", "a".repeat(n))));
    }
    all.push(("300 characters of three bytes".into(), format!("\"{}\"", "€".repeat(300))));
    for n in [40, 500] {
        all.push((format!("nested {n} deep"), format!("{}{}", "[".repeat(n), "]".repeat(n))));
    }
    // Of the wrong type, and with what must not be repeated.
    if KEEPS_SECRETS.contains(&attribute) {
        let secret = format!("\"{SECRET}\"");
        for shape in ["[@]", "{\"password\":[@]}", "{\"x\":{\"auth_password\":@}}", "@"] {
            all.push((format!("secret {shape}"), shape.replace('@', &secret)));
        }
    }
    let mut dice = Dice::of(attribute);
    all.extend((0..3).map(|i| (format!("random {i}"), dice.value(0))));
    all
}

/// Attributes whose values may hold secrets.
const KEEPS_SECRETS: &[&str] = &["driver_info", "instance_info", "rescue_password", "agent_token", "configdrive", "agent_verify_ca"];

const VALUES: &[(&str, &str)] = &[
    ("null", "null"),
    ("true", "true"),
    ("zero", "0"),
    ("a number", "5"),
    ("a negative number", "-1"),
    ("a fraction", "1.5"),
    ("a whole float", "1.0"),
    ("one more than fits", "9223372036854775808"),
    ("a huge number", "1e300"),
    ("no number", "1e999"),
    ("a long number", "10000000000000000000000000000000000000000"),
    ("text", "\"x\""),
    ("empty text", "\"\""),
    ("a space", "\" \""),
    ("empty list", "[]"),
    ("list of text", "[\"a\"]"),
    ("list of null", "[null]"),
    ("list of numbers", "[1]"),
    ("empty object", "{}"),
    ("object", "{\"a\":1}"),
    ("object with an empty key", "{\"\":{\"\":null}}"),
    ("a key twice", "{\"a\":1,\"a\":{}}"),
    ("combining", "\"e\u{301}\""),
    ("emoji", "\"\u{1f600}\""),
    ("right to left", "\"a\u{202e}b\""),
    ("lone surrogate", "\"\\ud800\""),
    ("lone low surrogate in a list", "[\"a\\udfff\"]"),
    ("NUL", "\"a\\u0000b\""),
    ("NUL in an object", "{\"a\\u0000\":\"b\\u0000\"}"),
    ("NUL in a list", "[\"\\u0000\"]"),
    ("line break", "\"a\\nb\\tc\""),
    ("SQL", "\"x'; DROP TABLE nodes; --\""),
    ("SQL or", "\"' OR ''='\""),
    ("a format", "\"%s%n{{x}}${y}\""),
    ("true as text", "\"true\""),
    ("a number as text", "\"5\""),
    ("a UUID of nothing", "\"ffffffff-0000-4000-8000-0000000000ff\""),
    ("a MAC address", "\"52:54:00:FA:FA:01\""),
    ("a path", "\"../../etc/passwd\""),
    ("an address", "\"http://192.0.2.1/x\""),
    ("NaN", "NaN"),
    ("cut off", "{\"a\":"),
];

/// Whole bodies.
pub fn bodies() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = BODIES.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = if open == "[" { "" } else { "1" };
        for n in [100, 5000] {
            all.push((format!("{open} {n} deep"), format!("{}{inner}{}", open.repeat(n), close.repeat(n)).into_bytes()));
        }
    }
    all.push(("much".into(), format!("{{\"a\":\"{}\"}}", "a".repeat(300_000)).into_bytes()));
    all
}

const BODIES: &[(&str, &[u8])] = &[
    ("empty", b""),
    ("a space", b" "),
    ("no JSON", b"not json"),
    ("list", b"[]"),
    ("list of a number", b"[1]"),
    ("text", b"\"x\""),
    ("number", b"5"),
    ("null", b"null"),
    ("true", b"true"),
    ("empty object", b"{}"),
    ("more after the end", b"{} x"),
    ("byte order mark", b"\xef\xbb\xbf{}"),
    ("not UTF-8", b"{\"extra\":{\"a\":\"\xff\"}}"),
    ("encoded surrogate", b"{\"extra\":{\"a\":\"\xed\xa0\x80\"}}"),
    ("cut off", b"{\"a\":1"),
    ("a raw NUL", b"{\"a\":\"\x00\"}"),
    ("unknown attribute", b"{\"bogus\":1}"),
    ("empty attribute", b"{\"\":1}"),
    ("attribute with NUL", b"{\"a\\u0000\":1}"),
    ("attribute beyond ASCII", b"{\"\xc3\xbc\":1}"),
];

/// Patches that say nothing of a certain attribute.
pub fn patches() -> Vec<String> {
    let mut all: Vec<String> = PATCHES.iter().map(|p| (*p).to_owned()).collect();
    for (op, path) in [
        ("add", format!("/extra/{}", "a".repeat(300))),
        ("add", format!("/extra{}", "/a".repeat(300))),
        ("remove", format!("/{}", "x".repeat(10_000))),
    ] {
        all.push(format!(r#"[{{"op":"{op}","path":"{path}","value":1}}]"#));
    }
    let mut dice = Dice::of("patches");
    all.extend((0..60).map(|_| {
        let op = dice.pick(&["add", "replace", "remove", "test", "move", "copy", ""]);
        let root = dice.pick(&["extra", "uuid", "name", "properties", "links", "steps", "description", "", "~1", "driver_info"]);
        let rest = dice.pick(&["", "/a", "/-", "/0", "/99999999999999999999", "/~", "/~01", "/a/b/c", "//"]);
        format!(r#"[{{"op":"{op}","path":"/{root}{rest}","value":{}}}]"#, dice.value(0))
    }));
    all
}

const PATCHES: &[&str] = &[
    "[null]",
    "[[]]",
    "[{}]",
    r#"{"op":"add","path":"/extra/a","value":1}"#,
    r#"[{"op":"add"}]"#,
    r#"[{"path":"/extra"}]"#,
    r#"[{"op":"add","path":"/extra/a"}]"#,
    r#"[{"op":"bogus","path":"/extra/a","value":1}]"#,
    r#"[{"op":null,"path":"/extra/a","value":1}]"#,
    r#"[{"op":["add"],"path":"/extra/a","value":1}]"#,
    r#"[{"op":"test","path":"/extra","value":{}}]"#,
    r#"[{"op":"move","path":"/extra/a","from":"/extra/b"}]"#,
    r#"[{"op":"copy","path":"/extra/a","from":"/driver_info","value":1}]"#,
    r#"[{"op":"replace","path":"","value":{}}]"#,
    r#"[{"op":"replace","path":"/","value":{}}]"#,
    r#"[{"op":"add","path":null,"value":1}]"#,
    r#"[{"op":"add","path":5,"value":1}]"#,
    r#"[{"op":"add","path":"extra/a","value":1}]"#,
    r#"[{"op":"add","path":"/extra/","value":1}]"#,
    r#"[{"op":"add","path":"/extra//a","value":1}]"#,
    r#"[{"op":"add","path":"/extra/a b","value":1}]"#,
    r#"[{"op":"add","path":"/extra/~","value":1}]"#,
    r#"[{"op":"add","path":"/extra/~2","value":1}]"#,
    r#"[{"op":"add","path":"/ex~0tra","value":1}]"#,
    r#"[{"op":"add","path":"/extra/a\u0000","value":1}]"#,
    r#"[{"op":"add","path":"/extra/\ud800","value":1}]"#,
    r#"[{"op":"add","path":"/extra/a","value":"\u0000"}]"#,
    r#"[{"op":"remove","path":"/extra/none"}]"#,
    r#"[{"op":"remove","path":"/extra/none/deeper"}]"#,
    r#"[{"op":"replace","path":"/extra/none","value":1}]"#,
    r#"[{"op":"add","path":"/extra/l","value":[1]},{"op":"add","path":"/extra/l/5","value":1}]"#,
    r#"[{"op":"add","path":"/extra/l","value":[1]},{"op":"remove","path":"/extra/l/1"}]"#,
    r#"[{"op":"add","path":"/extra/l","value":[1]},{"op":"remove","path":"/extra/l/-"}]"#,
    r#"[{"op":"add","path":"/extra/l","value":[1]},{"op":"add","path":"/extra/l/01","value":1}]"#,
    r#"[{"op":"add","path":"/extra/s","value":"text"},{"op":"add","path":"/extra/s/0","value":1}]"#,
    r#"[{"op":"add","path":"/extra/a","value":1,"from":"/x"}]"#,
    r#"[{"op":"add","path":"/extra/a","value":1},{"op":"remove","path":"/extra/b"}]"#,
    r#"[{"op":"add","path":"/extra/a","value":1},5]"#,
    r#"[{"op":"remove","path":"/uuid"}]"#,
    r#"[{"op":"replace","path":"/links","value":[]}]"#,
];

/// Numbers that are the same on each run (xorshift).
pub struct Dice(u64);

impl Dice {
    /// Its own series for each text.
    pub fn of(text: &str) -> Self {
        Self(text.bytes().fold(0x9e37_79b9_7f4a_7c15, |s, b| (s ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3) | 1))
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap_or(0)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    /// A JSON text: a value of the table, or lists and objects of such.
    fn value(&mut self, depth: usize) -> String {
        match self.roll(if depth > 3 { 1 } else { 3 }) {
            1 => format!("[{},{}]", self.value(depth + 1), self.value(depth + 1)),
            2 => {
                let key = self.pick(&["a", "", "op", "args", "uuid", "password", "interface", "~0", "a\\u0000"]);
                format!("{{\"{key}\":{},\"b\":{}}}", self.value(depth + 1), self.value(depth + 1))
            }
            _ => VALUES[self.roll(VALUES.len())].1.to_owned(),
        }
    }
}
