//! The shape of a target RAID configuration and the words for its keys (`PUT states/raid`, `GET …/raid/logical_disk_properties`).

use bessemer_model::{Json, JsonMap, fault::Fault};

const LEVELS: &[&str] = &["JBOD", "0", "1", "2", "5", "6", "1+0", "5+0", "6+0"];

/// Keys of a logical disk, with a description each.
pub(crate) const LOGICAL_DISK: &[(&str, &str)] = &[
    ("raid_level", "RAID level of the logical disk: JBOD, 0, 1, 2, 5, 6, 1+0, 5+0 or 6+0. Needed."),
    ("size_gb", "Size in GiB (whole number), or MAX for all the space that is left. Needed."),
    ("volume_name", "Name of the volume to create; one is made up when it is absent."),
    ("is_root_volume", "Whether the operating system goes onto this volume; at most one may have it."),
    ("share_physical_disks", "Whether other logical disks may share its physical disks."),
    ("disk_type", "Kind of the physical disks to use: hdd or ssd."),
    ("interface_type", "Interface of the physical disks to use: sata, scsi or sas."),
    ("number_of_physical_disks", "How many physical disks to use; the least that the level needs by default."),
    ("controller", "Name of the RAID controller to use."),
    ("physical_disks", "Which physical disks to use, as the controller names them."),
];

/// Checks a configuration; an empty object takes back the wish.
///
/// # Errors
/// `InvalidParameterValue`, naming what is wrong.
pub(crate) fn check(config: &JsonMap) -> Result<(), Fault> {
    if config.is_empty() {
        return Ok(());
    }
    if let Some(k) = config.keys().find(|k| *k != "logical_disks") {
        return Err(bad(&format!("\"{k}\" is not known")));
    }
    let disks = config.get("logical_disks").and_then(Json::as_array).filter(|d| !d.is_empty());
    let disks = disks.ok_or_else(|| bad("\"logical_disks\" must be a list that is not empty"))?;
    for d in disks {
        disk(d.as_object().ok_or_else(|| bad("a logical disk must be an object"))?)?;
    }
    if disks.iter().filter(|d| d.get("is_root_volume") == Some(&Json::Bool(true))).count() > 1 {
        return Err(bad("only one logical disk can be the root volume"));
    }
    Ok(())
}

fn bad(what: &str) -> Fault {
    Fault::invalid(format!("Invalid RAID configuration: {what}."))
}

fn disk(d: &JsonMap) -> Result<(), Fault> {
    for (key, v) in d {
        let positive = v.as_u64().is_some_and(|n| n > 0);
        let good = match key.as_str() {
            "raid_level" => v.as_str().is_some_and(|l| LEVELS.contains(&l)),
            "size_gb" => v.is_u64() || v == "MAX",
            "number_of_physical_disks" => positive,
            "volume_name" | "controller" => v.is_string(),
            "is_root_volume" | "share_physical_disks" => v.is_boolean(),
            "disk_type" => matches!(v.as_str(), Some("hdd" | "ssd")),
            "interface_type" => matches!(v.as_str(), Some("sata" | "scsi" | "sas")),
            // Names, or hints of at least two disks.
            "physical_disks" => {
                v.as_array().is_some_and(|a| a.iter().all(Json::is_string) || (a.len() > 1 && a.iter().all(Json::is_object)))
            }
            _ => return Err(bad(&format!("\"{key}\" of a logical disk is not known"))),
        };
        if !good {
            return Err(bad(&format!("\"{key}\" of a logical disk has a wrong value")));
        }
    }
    if d.contains_key("physical_disks") && !d.contains_key("controller") {
        return Err(bad("\"physical_disks\" of a logical disk needs \"controller\" beside it"));
    }
    match ["size_gb", "raid_level"].into_iter().find(|k| !d.contains_key(*k)) {
        Some(k) => Err(bad(&format!("a logical disk needs \"{k}\""))),
        None => Ok(()),
    }
}
