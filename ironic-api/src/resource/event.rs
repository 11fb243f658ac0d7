//! Events that other services report (`api.md` section 14). They are checked, logged and change nothing.

use bessemer_model::{Json, JsonMap, fault::Fault};

use super::port::parse_address;
use crate::{reply::Reply, request::Req};

const KINDS: &[&str] = &["network.bind_port", "network.unbind_port", "network.delete_port"];

/// What the value of a key must be.
#[derive(Clone, Copy)]
enum Is {
    Kind,
    Uuid,
    Mac,
    Text,
}

/// Keys of an event: name, value, whether it must be there (else it may be null).
const KEYS: &[(&str, Is, bool)] = &[
    ("event", Is::Kind, true),
    ("port_id", Is::Uuid, true),
    ("mac_address", Is::Mac, true),
    ("status", Is::Text, true),
    ("device_id", Is::Uuid, false),
    ("binding:host_id", Is::Uuid, false),
    ("binding:vnic_type", Is::Text, false),
];

fn check(event: &Json) -> Result<&JsonMap, Fault> {
    let event = event.as_object().ok_or_else(|| Fault::invalid("An event must be an object."))?;
    if let Some(k) = event.keys().find(|k| !KEYS.iter().any(|(name, ..)| name == k)) {
        return Err(Fault::invalid(format!("\"{k}\" is not known in an event.")));
    }
    for (name, is, required) in KEYS {
        let value = match event.get(*name) {
            Some(Json::Null) | None if !required => continue,
            None => return Err(Fault::missing(format!("An event needs \"{name}\"."))),
            Some(v) => v,
        };
        let text = value.as_str().ok_or_else(|| Fault::invalid(format!("\"{name}\" of an event must be text.")))?;
        let (good, wanted) = match is {
            Is::Kind => (KINDS.contains(&text), "network.bind_port, network.unbind_port or network.delete_port"),
            Is::Uuid => (uuid::Uuid::try_parse(text).is_ok(), "a UUID"),
            Is::Mac => (parse_address(text).is_ok(), "a MAC address"),
            Is::Text => (true, "text"),
        };
        if !good {
            return Err(Fault::invalid(format!("\"{name}\" of an event must be {wanted}.")));
        }
    }
    Ok(event)
}

/// `POST /v1/events`.
pub(crate) fn post(req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let args = req.body.args()?;
    args.only(&["events"])?;
    let list = args.get("events").ok_or_else(|| Fault::missing("Missing mandatory parameter: \"events\""))?;
    let list = list.as_array().filter(|l| !l.is_empty()).ok_or_else(|| Fault::invalid("\"events\" must be a list of at least one."))?;
    let events = list.iter().map(check).collect::<Result<Vec<_>, _>>()?;
    for e in events {
        let text = |k: &str| e.get(k).and_then(Json::as_str).unwrap_or_default();
        tracing::debug!(event = text("event"), port = text("port_id"), mac = text("mac_address"), status = text("status"), "network event");
    }
    Ok(Reply::no_content())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(key: &str, value: Json) -> Json {
        let mut e = json!({
            "event": "network.bind_port", "port_id": "11111111-0000-4000-8000-000000000001",
            "mac_address": "52:54:00:00:00:01", "status": "ACTIVE",
        });
        e[key] = value;
        e
    }

    #[test]
    fn optional_keys_may_be_null_and_status_may_be_any_text() {
        for good in [
            with("status", json!("")),
            with("device_id", Json::Null),
            with("device_id", json!("11111111-0000-4000-8000-000000000002")),
            with("binding:vnic_type", json!("normal")),
            with("mac_address", json!("52:54:00:AA:BB:CC")),
        ] {
            assert!(check(&good).is_ok(), "{good}");
        }
    }

    #[test]
    fn unknown_keys_missing_keys_and_wrong_values_are_refused() {
        for bad in [
            json!({}),
            json!("a"),
            with("bogus", Json::Null),
            with("event", json!("compute.ping")),
            with("event", json!(5)),
            with("port_id", json!("x")),
            with("port_id", Json::Null),
            with("mac_address", json!("52-54-00-00-00-01")),
            with("status", Json::Null),
            with("device_id", json!("")),
            with("binding:host_id", json!("host")),
            with("binding:vnic_type", json!({})),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}
