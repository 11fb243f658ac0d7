//! Names of traits (`operations.md` section 13).

use std::{collections::HashSet, sync::LazyLock};

use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
};

use crate::body::Body;

/// The standard names, one per line.
static STANDARD: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("standard_traits.txt").lines().collect());

/// Whether `name` may be a trait.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn check_trait(name: &str) -> Result<(), Fault> {
    let custom = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if name.len() <= 255 && (STANDARD.contains(name) || name.strip_prefix("CUSTOM_").is_some_and(custom)) {
        return Ok(());
    }
    Err(Fault::invalid("A trait is a standard trait or CUSTOM_ followed by capital letters, digits and underscores, at most 255."))
}

/// A list of traits, sorted, each once.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn read_traits(v: &Json) -> Result<Vec<String>, Fault> {
    let bad = || Fault::invalid("\"traits\" must be a list of traits.");
    let list = v.as_array().ok_or_else(bad)?;
    let mut names = list.iter().map(|t| t.as_str().map(str::to_owned).ok_or_else(bad)).collect::<Result<Vec<_>, _>>()?;
    names.iter().try_for_each(|t| check_trait(t))?;
    names.sort();
    names.dedup();
    Ok(names)
}

pub(super) const ONE_OR_ALL: &str = "Give either one trait in the path and no body, or all traits as \"traits\" in the body.";

/// Checks that a request whose path names one trait does not name others in its body, which may be there.
///
/// # Errors
/// `Invalid` for a list of traits, `InvalidParameterValue` for anything else.
pub(super) fn names_one(body: &Body) -> Result<(), Fault> {
    let args = body.args()?;
    args.only(&["traits"])?;
    if args.get("traits").is_some() {
        return Err(Fault::new(FaultKind::Invalid, ONE_OR_ALL));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_beside_one_trait_names_no_other() {
        let with = |text: &'static [u8]| names_one(&Body { bytes: text.into(), media_type: Some("application/json".to_owned()) });
        for fine in ["", "{}", "null"] {
            assert!(with(fine.as_bytes()).is_ok(), "{fine}");
        }
        for bad in ["[]", "{\"a\":1}", "{\"traits\":[]}", "{\"trait\":\"CUSTOM_A\"}"] {
            assert!(with(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn standard_names_are_taken_as_they_are_and_others_need_a_prefix() {
        for good in ["HW_CPU_X86_VMX", "CUSTOM_A_1", "COMPUTE_NODE"] {
            assert!(check_trait(good).is_ok(), "{good}");
        }
        for bad in ["", "HW_FOO", "CUSTOM_", "CUSTOM_a", "custom_A", " CUSTOM_A"] {
            assert!(check_trait(bad).is_err(), "{bad}");
        }
        assert!(check_trait(&format!("CUSTOM_{}", "A".repeat(249))).is_err());
    }
}
