use serde_json::json;

use super::*;

#[test]
fn an_inventory_as_people_write_it_is_read() {
    let text = r#"
# our rack
defaults:
  driver: ipmi   # all of them
  driver_info: {ipmi_username: admin, "ipmi_password": '@env:PW', ipmi_port: 623}
nodes:
- name: a
  driver_info:
    ipmi_address: 192.0.2.1
  macs: [ "52:54:00:00:00:01", 52:54:00:00:00:02 ]
  description: |
    first line
      second: line # kept

- name: 'it''s b'
  ports:
    - address: 12:34:56:12:34:56
      pxe_enabled: no
    -
      address: "52:54:00:00:00:04\t"
  extra: {}
  properties:
  nothing: ~
  list:
  - - 1
    - 2.5
  -
  folded: >-
    one
    two

    three
"#;
    let expected = json!({
        "defaults": {"driver": "ipmi", "driver_info": {"ipmi_username": "admin", "ipmi_password": "@env:PW", "ipmi_port": 623}},
        "nodes": [
            {
                "name": "a", "driver_info": {"ipmi_address": "192.0.2.1"}, "macs": ["52:54:00:00:00:01", "52:54:00:00:00:02"],
                "description": "first line\n  second: line # kept\n"
            },
            {
                "name": "it's b",
                "ports": [{"address": "12:34:56:12:34:56", "pxe_enabled": false}, {"address": "52:54:00:00:00:04\t"}],
                "extra": {}, "properties": null, "nothing": null, "list": [[1, 2.5], null], "folded": "one two\nthree"
            }
        ]
    });
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn words_and_numbers_mean_what_they_mean_elsewhere() {
    for (text, value) in [
        ("4", json!(4)),
        ("-4", json!(-4)),
        ("0x1F", json!(31)),
        ("1.50", json!(1.5)),
        ("007", json!("007")),
        ("1e5", json!("1e5")),
        ("1.2.3.4", json!("1.2.3.4")),
        ("yes", json!(true)),
        ("yesterday", json!("yesterday")),
        ("http://h:80/x#y", json!("http://h:80/x#y")),
        ("a b # c", json!("a b")),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("99999999999999999999", json!("99999999999999999999")),
        ("-", json!([null])),
        ("", json!(null)),
        ("--- \na: 1\n...\n", json!({"a": 1})),
        ("\"a\\u00e9\\n\\\"\"", json!("aé\n\"")),
        ("'a\n  b\n\n  c'", json!("a b\nc")),
        ("[a, {b: c, d: [1,\n 2], }, 'e' # x\n ]", json!(["a", {"b": "c", "d": [1, 2]}, "e"])),
        ("\"a b\": 1", json!({"a b": 1})),
        ("a: |+\n  x\n\n", json!({"a": "x\n\n"})),
    ] {
        assert_eq!(parse(text), Ok(value), "{text:?}");
    }
}

#[test]
fn what_is_not_read_is_refused_and_never_misread() {
    for text in [
        "a: &x 1",
        "a: *x",
        "a: !!int 1",
        "<<: {a: 1}",
        "? a",
        "a: 1\na: 2",
        "a: b\n  c",
        "a: 1\n  b: 2",
        "a:\n\tb: 1",
        "a: 1\n---\nb: 2",
        "[a, b",
        "{a: 1",
        "\"x",
        "'x",
        "a: [1] 2",
        "a: b: c",
        "\"\\q\"",
        "a: @x",
        "- a\nb: 1",
        "a: 1\n- b",
        "{a b}c",
    ] {
        let result = parse(text);
        assert!(result.is_err(), "{text:?} was read as {result:?}");
    }
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&"- ".repeat(100_000)).is_err());
    assert!(parse(&(0..5000).map(|depth| format!("{:depth$}a:\n", "")).collect::<String>()).is_err());
}

#[test]
fn hostile_bytes_end_in_an_answer() {
    let pieces =
        ["- ", ": ", "{", "[", "\"", "'", "|", ">", "\n", " ", "a", "é", "#", ",", "}", "]", "\\", "\t", "&", "-", "?", "\u{feff}"];
    let mut state: u64 = 7;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        let _ = parse(&text);
    }
}
