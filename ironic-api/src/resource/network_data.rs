//! The shape of `network_data` (`api.md` section 3.6).

use bessemer_model::{Json, JsonMap, fault::Fault};

const PHYSICAL: &[&str] = &["bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif", "phy"];
const BOND_MODES: &[&str] = &["802.3ad", "balance-rr", "active-backup", "balance-xor", "broadcast", "balance-tlb", "balance-alb"];
const NETWORKS: &[&str] = &["ipv4", "ipv4_dhcp", "ipv6", "ipv6_dhcp", "ipv6_slaac"];

/// Checks an object that is not empty.
///
/// # Errors
/// `InvalidParameterValue`, naming what is wrong.
pub(crate) fn check(data: &JsonMap) -> Result<(), Fault> {
    if let Some(key) = data.keys().find(|k| !matches!(k.as_str(), "links" | "networks" | "services")) {
        return Err(bad(&format!("\"{key}\" is not known")));
    }
    each(data, "links", link)?;
    each(data, "networks", network)?;
    each(data, "services", service)
}

fn bad(what: &str) -> Fault {
    Fault::invalid(format!("Invalid network_data: {what}."))
}

fn each(data: &JsonMap, key: &str, check: fn(&JsonMap) -> Result<(), Fault>) -> Result<(), Fault> {
    let Some(Json::Array(items)) = data.get(key) else { return Err(bad(&format!("a list \"{key}\" is needed"))) };
    for item in items {
        check(item.as_object().ok_or_else(|| bad(&format!("\"{key}\" holds something that is not an object")))?)?;
    }
    Ok(())
}

fn text<'a>(m: &'a JsonMap, key: &str) -> Result<&'a str, Fault> {
    m.get(key).and_then(Json::as_str).filter(|s| !s.is_empty()).ok_or_else(|| bad(&format!("\"{key}\" must be text")))
}

fn link(m: &JsonMap) -> Result<(), Fault> {
    text(m, "id")?;
    match m.get("mtu") {
        None | Some(Json::Null) => {}
        Some(v) if v.as_u64().is_some_and(|n| (1..=65_535).contains(&n)) => {}
        Some(_) => return Err(bad("\"mtu\" must be from 1 to 65535")),
    }
    match text(m, "type")? {
        "bond" => {
            text(m, "ethernet_mac_address")?;
            if !BOND_MODES.contains(&text(m, "bond_mode")?) {
                return Err(bad("\"bond_mode\" is not known"));
            }
            match m.get("bond_links") {
                Some(Json::Array(a)) if a.iter().all(Json::is_string) => Ok(()),
                _ => Err(bad("\"bond_links\" must be a list of link ids")),
            }
        }
        "vlan" => {
            text(m, "vlan_mac_address")?;
            text(m, "vlan_link")?;
            m.get("vlan_id").and_then(Json::as_u64).filter(|n| *n <= 4095).map(drop).ok_or_else(|| bad("\"vlan_id\" must be a number"))
        }
        t if PHYSICAL.contains(&t) => text(m, "ethernet_mac_address").map(drop),
        _ => Err(bad("the \"type\" of a link is not known")),
    }
}

fn network(m: &JsonMap) -> Result<(), Fault> {
    for key in ["id", "link"] {
        text(m, key)?;
    }
    if !NETWORKS.contains(&text(m, "type")?) {
        return Err(bad("the \"type\" of a network is not known"));
    }
    for key in ["routes", "services"] {
        if let Some(v) = m.get(key)
            && !v.as_array().is_some_and(|a| a.iter().all(Json::is_object))
        {
            return Err(bad(&format!("\"{key}\" of a network must be a list of objects")));
        }
    }
    Ok(())
}

fn service(m: &JsonMap) -> Result<(), Fault> {
    if text(m, "type")? != "dns" {
        return Err(bad("the \"type\" of a service must be dns"));
    }
    text(m, "address").map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shape_is_enforced() {
        let good = json!({
            "links": [{"id": "l", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01", "mtu": null}],
            "networks": [{"id": "n", "link": "l", "network_id": "x", "type": "ipv4_dhcp"}],
            "services": [{"type": "dns", "address": "192.0.2.1"}],
        });
        assert!(check(good.as_object().expect("object")).is_ok());
        for bad in [
            json!({"links": [], "networks": []}),
            json!({"links": [{"id": "l"}], "networks": [], "services": []}),
            json!({"links": {}, "networks": [], "services": []}),
            json!({"links": [], "networks": [], "services": [], "x": 1}),
        ] {
            assert!(check(bad.as_object().expect("object")).is_err(), "{bad}");
        }
    }
}
