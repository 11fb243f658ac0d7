//! Choosing the disk to install on: root device hints, the default, and disks to leave alone (`agent.md` section 9).
//!
//! Pure: works on a listing and never looks at a device. A hint that cannot be understood is an error, never
//! a hint that matches everything.

use bessemer_agent_types::inventory::Disk;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::DiskError;

/// Smallest disk that is chosen without hints, in bytes.
pub const MIN_ROOT: u64 = 4 << 30;
const GIB: f64 = (1_u64 << 30) as f64;

/// Hints by name.
pub type Hints = Map<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    NumberEqual,
    NumberNot,
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
    Not,
    TextBelow,
    TextAbove,
    TextAtMost,
    TextAtLeast,
    Contains,
    AnyOf,
    AllIn,
}

/// Longest spelling first: `s>=` before `s>`.
const OPERATORS: [(&str, Operator); 15] = [
    ("<all-in>", Operator::AllIn),
    ("<in>", Operator::Contains),
    ("<or>", Operator::AnyOf),
    ("s==", Operator::Equal),
    ("s!=", Operator::Not),
    ("s<=", Operator::TextAtMost),
    ("s>=", Operator::TextAtLeast),
    ("s<", Operator::TextBelow),
    ("s>", Operator::TextAbove),
    ("==", Operator::NumberEqual),
    ("!=", Operator::NumberNot),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
];

/// One hint, understood.
#[derive(Clone, Debug, PartialEq)]
struct Hint {
    name: String,
    shown: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Size(Operator, Vec<f64>),
    Rotational(bool),
    Text(Operator, Vec<String>),
}

const TEXT_HINTS: [&str; 10] =
    ["model", "wwn", "serial", "vendor", "wwn_with_extension", "wwn_vendor_extension", "name", "hctl", "by_path", "tran"];

fn parse(hints: &Hints) -> Result<Vec<Hint>, DiskError> {
    hints.iter().map(|(name, value)| Hint::parse(name, value)).collect()
}

impl Hint {
    fn parse(name: &str, value: &Value) -> Result<Self, DiskError> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => String::new(),
        };
        let shown = format!("{name} {text:?}");
        let bad = |reason: String| DiskError::Hint { hint: shown.clone(), reason };
        if text.is_empty() {
            return Err(bad("give a text, a number or a boolean".into()));
        }
        let test = match name {
            "rotational" => Test::Rotational(Self::boolean(&text).ok_or_else(|| bad("give true or false".into()))?),
            "size" => {
                let (operator, operands) = split(&text, Operator::NumberEqual);
                let numbers: Option<Vec<f64>> = operands.iter().map(|word| word.parse().ok()).collect();
                let numbers = numbers.filter(|all: &Vec<f64>| !all.is_empty() && all.iter().all(|n| n.is_finite() && *n >= 0.0));
                Test::Size(operator, numbers.ok_or_else(|| bad("give a size in GiB, with one of == != >= <= > < <or>".into()))?)
            }
            _ if TEXT_HINTS.contains(&name) => {
                let (operator, operands) = split(&text, Operator::Equal);
                if operands.is_empty() {
                    return Err(bad("the operator has nothing to compare with".into()));
                }
                Test::Text(operator, operands.into_iter().map(|word| normal(&word)).collect())
            }
            _ => {
                let known = format!("size, rotational, {}", TEXT_HINTS.join(", "));
                return Err(bad(format!("there is no such hint: use {known}")));
            }
        };
        Ok(Self { name: name.to_owned(), shown, test })
    }

    fn boolean(text: &str) -> Option<bool> {
        match text.trim_start_matches(['s', '=']).trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        }
    }

    fn matches(&self, disk: &Disk) -> bool {
        match &self.test {
            Test::Rotational(want) => disk.rotational == *want,
            Test::Size(operator, sizes) => {
                #[allow(clippy::cast_precision_loss, reason = "sizes in GiB need no more than 53 bits")]
                let size = disk.size as f64 / GIB;
                match (operator, sizes.as_slice()) {
                    (Operator::AnyOf, any) => any.iter().any(|want| same_size(size, *want)),
                    (_, [want]) => compare_size(*operator, size, *want),
                    _ => false,
                }
            }
            Test::Text(operator, words) => {
                let values: Vec<String> = self.values(disk).into_iter().map(|value| value.to_lowercase()).collect();
                match operator {
                    // A negative hint speaks of all names that the disk has.
                    Operator::Not | Operator::NumberNot => {
                        !values.is_empty() && values.iter().all(|value| compare_text(*operator, value, words))
                    }
                    _ => values.iter().any(|value| compare_text(*operator, value, words)),
                }
            }
        }
    }

    /// All values that the disk is known by under this hint's name.
    fn values(&self, disk: &Disk) -> Vec<String> {
        let one = |value: &Option<String>| value.iter().cloned().collect();
        match self.name.as_str() {
            "model" => one(&disk.model),
            "serial" => one(&disk.serial),
            "vendor" => one(&disk.vendor),
            "wwn" => disk.wwn.iter().chain(disk.wwn_with_extension.iter().filter(|w| Some(*w) != disk.wwn.as_ref())).cloned().collect(),
            "wwn_with_extension" => one(&disk.wwn_with_extension),
            "wwn_vendor_extension" => one(&disk.wwn_vendor_extension),
            "hctl" => one(&disk.hctl),
            "by_path" => one(&disk.by_path),
            "tran" => one(&disk.tran),
            "name" => std::iter::once(disk.name.clone()).chain(disk.by_path.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

/// Operator and operands; without an operator, `default` and the whole text.
fn split(text: &str, default: Operator) -> (Operator, Vec<String>) {
    let found = OPERATORS.iter().find_map(|(spelling, operator)| Some((spelling, operator, text.strip_prefix(spelling)?)));
    let Some((spelling, operator, rest)) = found else { return (default, vec![text.to_owned()]) };
    let words = match operator {
        Operator::AnyOf => rest.split(spelling).map(|word| word.trim().to_owned()).collect::<Vec<_>>(),
        Operator::AllIn => rest.split_whitespace().map(str::to_owned).collect(),
        _ => vec![rest.trim().to_owned()],
    };
    (*operator, words.into_iter().filter(|word| !word.is_empty()).collect())
}

/// Lower case; a value that was given URL-quoted is the same as the plain one.
fn normal(word: &str) -> String {
    percent_decode_str(word).decode_utf8().map_or_else(|_| word.to_lowercase(), |plain| plain.to_lowercase())
}

fn same_size(size: f64, want: f64) -> bool {
    // A disk of 10.2 GiB is a 10 GiB disk for people.
    size == want || size.floor() == want
}

fn compare_size(operator: Operator, size: f64, want: f64) -> bool {
    match operator {
        Operator::NumberEqual | Operator::Equal => same_size(size, want),
        Operator::NumberNot | Operator::Not => !same_size(size, want),
        Operator::AtLeast => size >= want,
        Operator::AtMost => size <= want,
        Operator::Above => size > want,
        Operator::Below => size < want,
        _ => false,
    }
}

fn compare_text(operator: Operator, value: &str, words: &[String]) -> bool {
    let numbers = |compare: fn(f64, f64) -> bool| {
        let want = words.first().and_then(|word| word.parse().ok());
        value.parse().ok().zip(want).is_some_and(|(value, want)| compare(value, want))
    };
    let texts = |compare: fn(&str, &str) -> bool| words.first().is_some_and(|want| compare(value, want));
    match operator {
        Operator::Equal => texts(|a, b| a == b),
        Operator::Not => texts(|a, b| a != b),
        Operator::TextBelow => texts(|a, b| a < b),
        Operator::TextAbove => texts(|a, b| a > b),
        Operator::TextAtMost => texts(|a, b| a <= b),
        Operator::TextAtLeast => texts(|a, b| a >= b),
        Operator::Contains => texts(|a, b| a.contains(b)),
        Operator::AnyOf => words.iter().any(|word| word == value),
        Operator::AllIn => words.iter().all(|word| value.contains(word.as_str())),
        // Numeric operators on text that is no number: equality of the text still means something.
        Operator::NumberEqual => texts(|a, b| a == b) || numbers(|a, b| a == b),
        Operator::NumberNot => !(texts(|a, b| a == b) || numbers(|a, b| a == b)),
        Operator::AtLeast => numbers(|a, b| a >= b),
        Operator::AtMost => numbers(|a, b| a <= b),
        Operator::Above => numbers(|a, b| a > b),
        Operator::Below => numbers(|a, b| a < b),
    }
}

/// The root device hints of a node document: `instance_info.root_device`, else `properties.root_device`.
pub fn root_hints(node: &Value) -> Option<Hints> {
    ["/instance_info/root_device", "/properties/root_device"].into_iter().find_map(|path| {
        let found = match node.pointer(path)? {
            Value::Object(hints) => hints.clone(),
            // Some clients store the object as text.
            Value::String(text) => serde_json::from_str(text).ok()?,
            _ => return None,
        };
        (!found.is_empty()).then_some(found)
    })
}

/// `properties.skip_block_devices` of a node document: hints of disks that are left alone. Entries that name a
/// software RAID volume describe no disk.
pub fn skip_hints(node: &Value) -> Vec<Hints> {
    let list = node.pointer("/properties/skip_block_devices").and_then(Value::as_array);
    let hints = list.into_iter().flatten().filter_map(Value::as_object);
    hints.filter(|hints| !hints.contains_key("volume_name")).cloned().collect()
}

/// Splits a listing into the disks to use and those to leave alone.
///
/// # Errors
/// When a hint cannot be understood; then nothing may be touched.
pub fn split_skipped(disks: &[Disk], skip: &[Hints]) -> Result<(Vec<Disk>, Vec<Disk>), DiskError> {
    let skip: Vec<Vec<Hint>> = skip.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(disks.iter().cloned().partition(|disk| !skip.iter().any(|hints| !hints.is_empty() && hints.iter().all(|hint| hint.matches(disk)))))
}

/// Chooses the disk to install on: the first (by name) that matches all hints; without hints the smallest of at
/// least [`MIN_ROOT`], ties by name. Disks matched by `skip` are never chosen.
///
/// # Errors
/// When a hint cannot be understood, or no disk fits; the text lists hints and disks.
pub fn pick_root(disks: &[Disk], hints: Option<&Hints>, skip: &[Hints]) -> Result<Disk, DiskError> {
    let (usable, skipped) = split_skipped(disks, skip)?;
    let hints = match hints {
        Some(hints) if !hints.is_empty() => parse(hints)?,
        _ => {
            let smallest = usable.iter().filter(|disk| disk.size >= MIN_ROOT).min_by_key(|disk| (disk.size, disk.name.clone()));
            return smallest.cloned().ok_or_else(|| {
                DiskError::NotFound(format!(
                    "no disk of at least 4 GiB to install on; {}. Add a disk, or name one by root device hints",
                    describe(&usable, &skipped)
                ))
            });
        }
    };
    if let Some(found) = usable.iter().find(|disk| hints.iter().all(|hint| hint.matches(disk))) {
        return Ok(found.clone());
    }
    let alone: Vec<&str> =
        hints.iter().filter(|hint| !usable.iter().any(|disk| hint.matches(disk))).map(|hint| hint.shown.as_str()).collect();
    let cause = if alone.is_empty() {
        let all: Vec<&str> = hints.iter().map(|hint| hint.shown.as_str()).collect();
        format!("each hint matches some disk but no disk matches all of them ({})", all.join(", "))
    } else {
        format!("no disk matches the hint{} {}", if alone.len() == 1 { "" } else { "s" }, alone.join(", "))
    };
    Err(DiskError::NotFound(format!(
        "no disk matches the root device hints: {cause}; {}. Correct root_device of the node",
        describe(&usable, &skipped)
    )))
}

fn describe(usable: &[Disk], skipped: &[Disk]) -> String {
    let one = |disk: &Disk| {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let size = disk.size as f64 / GIB;
        format!("{} ({size:.1} GiB, serial {}, model {})", disk.name, or_none(&disk.serial), or_none(&disk.model))
    };
    let list = |disks: &[Disk]| disks.iter().map(one).collect::<Vec<_>>().join(", ");
    let mut text = if usable.is_empty() { "the machine has no usable disk".to_owned() } else { format!("disks: {}", list(usable)) };
    if !skipped.is_empty() {
        text += &format!("; left alone by skip_block_devices: {}", list(skipped));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn disk(name: &str, gib: u64) -> Disk {
        Disk { name: format!("/dev/{name}"), size: gib << 30, ..Disk::default() }
    }

    fn rich() -> Disk {
        Disk {
            model: Some("Super Fast Disk 9000".into()),
            rotational: true,
            wwn: Some("0x5000C500A1B2C3D4".into()),
            wwn_with_extension: Some("0x5000C500A1B2C3D4EEEE".into()),
            wwn_vendor_extension: Some("0xEEEE".into()),
            serial: Some("SN-42".into()),
            vendor: Some("ACME".into()),
            hctl: Some("2:0:0:0".into()),
            by_path: Some("/dev/disk/by-path/pci-0000:00:1f.2-ata-1".into()),
            tran: Some("sata".into()),
            size: (100 << 30) + (1 << 29),
            ..disk("sda", 0)
        }
    }

    fn hit(hints: Value) -> bool {
        pick_root(&[rich()], hints.as_object(), &[]).is_ok()
    }

    #[test]
    fn every_operator_does_what_it_says() {
        let cases = [
            // size, in GiB: the disk has 100.5
            (json!({"size": 100}), true),
            (json!({"size": "100"}), true),
            (json!({"size": "== 100"}), true),
            (json!({"size": "== 101"}), false),
            (json!({"size": "!= 100"}), false),
            (json!({"size": "!= 50"}), true),
            (json!({"size": ">= 100"}), true),
            (json!({"size": ">=101"}), false),
            (json!({"size": "<= 101"}), true),
            (json!({"size": "<= 100"}), false),
            (json!({"size": "> 100"}), true),
            (json!({"size": "< 100"}), false),
            (json!({"size": "<or> 50 <or> 100"}), true),
            (json!({"size": "<or> 50 <or> 60"}), false),
            // text
            (json!({"serial": "SN-42"}), true),
            (json!({"serial": "sn-42"}), true),
            (json!({"serial": "s== sn-42"}), true),
            (json!({"serial": "s== sn-4"}), false),
            (json!({"serial": "s!= sn-42"}), false),
            (json!({"serial": "s!= other"}), true),
            (json!({"serial": "s< sz"}), true),
            (json!({"serial": "s< sa"}), false),
            (json!({"serial": "s> sa"}), true),
            (json!({"serial": "s<= sn-42"}), true),
            (json!({"serial": "s>= sn-42"}), true),
            (json!({"serial": "s>= t"}), false),
            (json!({"model": "<in> fast"}), true),
            (json!({"model": "<in> slow"}), false),
            (json!({"model": "<or> x <or> super fast disk 9000"}), true),
            (json!({"model": "<or> x <or> super"}), false),
            (json!({"model": "<all-in> disk super"}), true),
            (json!({"model": "<all-in> disk slow"}), false),
            (json!({"model": "super%20fast%20disk%209000"}), true),
            (json!({"vendor": "acme"}), true),
            (json!({"wwn": "0x5000c500a1b2c3d4"}), true),
            (json!({"wwn": "0x5000c500a1b2c3d4eeee"}), true),
            (json!({"wwn": "s!= 0x5000c500a1b2c3d4eeee"}), false),
            (json!({"wwn_with_extension": "0x5000c500a1b2c3d4eeee"}), true),
            (json!({"wwn_vendor_extension": "0xeeee"}), true),
            (json!({"hctl": "2:0:0:0"}), true),
            (json!({"tran": "sata"}), true),
            (json!({"name": "/dev/sda"}), true),
            (json!({"name": "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}), true),
            (json!({"by_path": "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}), true),
            (json!({"rotational": true}), true),
            (json!({"rotational": "no"}), false),
            // all must match
            (json!({"size": ">= 10", "rotational": true, "serial": "SN-42"}), true),
            (json!({"size": ">= 10", "rotational": false, "serial": "SN-42"}), false),
        ];
        for (hints, want) in cases {
            assert_eq!(hit(hints.clone()), want, "{hints}");
        }
    }

    #[test]
    fn a_disk_without_a_value_matches_no_hint_on_it() {
        let plain = [disk("sda", 10)];
        for hints in [json!({"serial": "s!= x"}), json!({"serial": "x"}), json!({"model": "<in> "})] {
            assert!(pick_root(&plain, hints.as_object(), &[]).is_err(), "{hints}");
        }
    }

    #[test]
    fn a_hint_that_cannot_be_understood_is_an_error() {
        for hints in [
            json!({"size": "big"}),
            json!({"size": ">= "}),
            json!({"size": []}),
            json!({"rotational": "perhaps"}),
            json!({"colour": "red"}),
            json!({"serial": ""}),
            json!({"serial": null}),
            json!({"model": "<or>"}),
        ] {
            let error = pick_root(&[rich()], hints.as_object(), &[]).unwrap_err();
            assert!(matches!(error, DiskError::Hint { .. }), "{hints}: {error}");
        }
    }

    #[test]
    fn without_hints_the_smallest_disk_of_four_gib_wins_and_ties_go_by_name() {
        let disks = [disk("sdc", 8), disk("sdb", 8), disk("sda", 500), disk("sdd", 3)];
        assert_eq!(pick_root(&disks, None, &[]).unwrap().name, "/dev/sdb");
        assert_eq!(pick_root(&disks, Some(&Hints::new()), &[]).unwrap().name, "/dev/sdb");
        assert!(pick_root(&disks[3..], None, &[]).is_err());
        assert!(pick_root(&[], None, &[]).is_err());
    }

    #[test]
    fn an_error_names_the_failing_hint_and_the_disks() {
        let hints = json!({"size": ">= 1", "serial": "NOPE"});
        let error = pick_root(&[rich()], hints.as_object(), &[]).unwrap_err().to_string();
        assert!(error.contains("serial \"NOPE\""), "{error}");
        assert!(!error.contains("hint size") && !error.contains("size \">= 1\""), "{error}");
        assert!(error.contains("/dev/sda (100.5 GiB, serial SN-42, model Super Fast Disk 9000)"), "{error}");
    }

    #[test]
    fn skipped_disks_are_never_chosen() {
        let disks = [disk("sda", 8), rich()];
        let node = json!({"properties": {"skip_block_devices": [{"size": 8}, {"volume_name": "v"}]}});
        let skip = skip_hints(&node);
        assert_eq!(skip.len(), 1);
        assert_eq!(pick_root(&disks, None, &skip).unwrap().serial.as_deref(), Some("SN-42"));
        let error = pick_root(&disks[..1], json!({"size": 8}).as_object(), &skip).unwrap_err().to_string();
        assert!(error.contains("left alone"), "{error}");
        let bad = skip_hints(&json!({"properties": {"skip_block_devices": [{"nonsense": 1}]}}));
        assert!(pick_root(&disks, None, &bad).is_err(), "an unreadable skip entry stops everything");
    }

    #[test]
    fn hints_of_the_instance_go_before_those_of_the_node() {
        let node = json!({"instance_info": {"root_device": {"size": 1}}, "properties": {"root_device": {"size": 2}}});
        assert_eq!(root_hints(&node).unwrap()["size"], 1);
        let node = json!({"instance_info": {}, "properties": {"root_device": "{\"size\": 2}"}});
        assert_eq!(root_hints(&node).unwrap()["size"], 2);
        assert_eq!(root_hints(&json!({})), None);
    }
}
