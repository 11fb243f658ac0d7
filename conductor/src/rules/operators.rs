//! The operators of conditions. Values compare as they do in Python: a number never equals a text, `true` equals 1, and what has no order
//! fails the rule.

use std::{cmp::Ordering, net::IpAddr};

use bessemer_model::{Json, JsonMap};
use regex::{Regex, RegexBuilder};

use super::format::plain;

/// Largest compiled expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

fn arg<'a>(args: &'a JsonMap, name: &str) -> &'a Json {
    args.get(name).unwrap_or(&Json::Null)
}

/// Whether the condition holds, negation aside.
pub(super) fn check(op: &str, args: &JsonMap) -> Result<bool, String> {
    let value = arg(args, "value");
    match op {
        "eq" => neighbours(args, |a, b| Ok(equal(a, b))),
        "lt" => neighbours(args, |a, b| Ok(order(a, b)? == Ordering::Less)),
        "gt" => neighbours(args, |a, b| Ok(order(a, b)? == Ordering::Greater)),
        "is-empty" => Ok(matches!(plain(value).as_str(), "" | "None" | "[]" | "{}")),
        "in-net" => in_net(&plain(arg(args, "address")), &plain(arg(args, "subnet"))),
        "matches" => {
            let pattern = pattern(args)?;
            if pattern.is_empty() {
                return Err("\"matches\" needs an expression".into());
            }
            let end = if pattern.ends_with('$') { "" } else { "$" };
            Ok(regex(&format!(r"\A(?:{pattern}{end})"))?.is_match(&plain(value)))
        }
        "contains" => Ok(regex(&pattern(args)?)?.is_match(&plain(value))),
        "one-of" => one_of(value, args.get("values").unwrap_or(&Json::Array(vec![]))),
        "is-none" => Ok(value.is_null()),
        "is-true" => Ok(match value {
            Json::Bool(b) => *b,
            Json::Number(n) => n.as_f64() != Some(0.0),
            Json::String(s) => matches!(s.to_lowercase().as_str(), "yes" | "true"),
            _ => false,
        }),
        "is-false" => Ok(match value {
            Json::Bool(b) => !b,
            Json::Number(n) => n.as_f64() == Some(0.0),
            Json::String(s) => matches!(s.to_lowercase().as_str(), "no" | "false"),
            other => other.is_null(),
        }),
        other => Err(format!("\"{other}\" is not an operator")),
    }
}

/// Every value against the next one. Fewer than two hold always.
fn neighbours(args: &JsonMap, holds: impl Fn(&Json, &Json) -> Result<bool, String>) -> Result<bool, String> {
    let list = arg(args, "values").as_array().ok_or("\"values\" must be a list")?;
    let strings = args.get("force_strings").is_some_and(truthy);
    let list: Vec<Json> = if strings { list.iter().map(|v| Json::String(plain(v))).collect() } else { list.clone() };
    for (a, b) in list.iter().zip(list.iter().skip(1)) {
        if !holds(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What counts as true.
pub(super) fn truthy(v: &Json) -> bool {
    match v {
        Json::Null => false,
        Json::Bool(b) => *b,
        Json::Number(n) => n.as_f64() != Some(0.0),
        Json::String(s) => !s.is_empty(),
        Json::Array(a) => !a.is_empty(),
        Json::Object(m) => !m.is_empty(),
    }
}

fn number(v: &Json) -> Option<f64> {
    match v {
        Json::Bool(b) => Some(f64::from(u8::from(*b))),
        Json::Number(n) => n.as_f64(),
        _ => None,
    }
}

/// Equality, in which `1`, `1.0` and `true` are one.
pub(super) fn equal(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(x), Json::Number(y)) if x == y => true,
        (Json::Array(x), Json::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| equal(a, b)),
        (Json::Object(x), Json::Object(y)) => x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| equal(v, w))),
        _ => match (number(a), number(b)) {
            (Some(x), Some(y)) => x.partial_cmp(&y) == Some(Ordering::Equal),
            _ => a == b,
        },
    }
}

fn order(a: &Json, b: &Json) -> Result<Ordering, String> {
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        return x.partial_cmp(&y).ok_or_else(|| "not a number".into());
    }
    match (a, b) {
        (Json::String(x), Json::String(y)) => Ok(x.cmp(y)),
        (Json::Array(x), Json::Array(y)) => {
            for (a, b) in x.iter().zip(y) {
                if !equal(a, b) {
                    return order(a, b);
                }
            }
            Ok(x.len().cmp(&y.len()))
        }
        _ => Err(format!("{} and {} have no order", plain(a), plain(b))),
    }
}

fn one_of(value: &Json, values: &Json) -> Result<bool, String> {
    match values {
        Json::Array(a) => Ok(a.iter().any(|v| equal(v, value))),
        Json::Object(m) => Ok(value.as_str().is_some_and(|s| m.contains_key(s))),
        Json::String(s) => value.as_str().map(|v| s.contains(v)).ok_or_else(|| "\"values\" is text and \"value\" is not".into()),
        _ => Err("\"values\" must be a list".into()),
    }
}

fn pattern(args: &JsonMap) -> Result<String, String> {
    arg(args, "regex").as_str().map(str::to_owned).ok_or_else(|| "\"regex\" must be text".into())
}

fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(REGEX_SIZE).build().map_err(|e| format!("invalid regular expression: {e}"))
}

/// Whether an address is within `net/bits`, `net/mask` or is the one named.
fn in_net(address: &str, subnet: &str) -> Result<bool, String> {
    let bad = |what: &str| format!("\"{what}\" is not an address or a subnet");
    let ip = |s: &str| s.trim().parse::<IpAddr>().map_err(|_| bad(s));
    let (net, bits) = match subnet.split_once('/') {
        None => (ip(subnet)?, None),
        Some((n, b)) => (ip(n)?, Some(b)),
    };
    let width: u32 = if net.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(b) => match (b.parse::<u32>(), b.parse::<IpAddr>()) {
            (Ok(n), _) if n <= width => n,
            (_, Ok(mask)) if mask.is_ipv4() == net.is_ipv4() => {
                let m = number_of(mask) << (128 - width);
                if m.leading_ones() + m.trailing_zeros() < 128 {
                    return Err(bad(subnet));
                }
                m.leading_ones()
            }
            _ => return Err(bad(subnet)),
        },
    };
    let address = ip(address)?;
    if address.is_ipv4() != net.is_ipv4() {
        return Ok(false);
    }
    let shift = width - bits;
    Ok(shift >= 128 || number_of(address) >> shift == number_of(net) >> shift)
}

fn number_of(a: IpAddr) -> u128 {
    match a {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}
