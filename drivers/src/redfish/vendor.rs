//! Vendor methods named `redfish`: ejecting media, and event subscriptions (DSP0268 EventService, EventDestination).

use async_trait::async_trait;
use bessemer_model::{Json, JsonMap, node::Node};
use serde_json::json;

use super::client::ROOT;
use super::error::RedfishError;
use super::iface::{RedfishInterfaces, within};
use super::media::MediaKind;
use super::system::RedfishSystem;
use crate::iface::{DriverCx, DriverError, MethodDecl, Power, Result, Vendor};

/// What is told of a subscription. Not its headers: they may hold a secret.
const SHOWN: [&str; 5] = ["Id", "Context", "Protocol", "Destination", "EventTypes"];

const fn now(name: &'static str, http: &'static [&'static str], text: &'static str, args: &'static [(&'static str, bool)]) -> MethodDecl {
    // Headers of a subscription may hold a secret: these methods are carried out at once and never written down.
    MethodDecl { http, asynchronous: false, ..MethodDecl::post(name, text, args) }
}

const METHODS: &[MethodDecl] = &[
    now(
        "create_subscription",
        &["POST"],
        "Creates a subscription on a node. Required argument: a dictionary of {'Destination': 'destination_url'}",
        &[("Destination", true), ("Protocol", false), ("Context", false), ("EventTypes", false), ("HttpHeaders", false)],
    ),
    now(
        "delete_subscription",
        &["DELETE"],
        "Delete a subscription on a node. Required argument: a dictionary of {'id': 'subscription_bmc_id'}",
        &[("id", true)],
    ),
    MethodDecl::post(
        "eject_vmedia",
        "Eject a virtual media device. If no device is provided then all attached devices will be ejected. Optional arguments: \
         'boot_device' - the boot device to eject, either 'cd', 'dvd', 'usb', or 'floppy'",
        &[("boot_device", false)],
    ),
    MethodDecl { open: true, ..now("get_all_subscriptions", &["GET"], "Returns all subscriptions on the node.", &[]) },
    now(
        "get_subscription",
        &["GET"],
        "Get a subscription on the node. Required argument: a dictionary of {'id': 'subscription_bmc_id'}",
        &[("id", true)],
    ),
];

/// The drives that a name means; `None` = all.
fn drive(args: &JsonMap) -> Result<Option<MediaKind>> {
    let named = args.get("boot_device").filter(|v| !v.is_null() && *v != "");
    let Some(named) = named else { return Ok(None) };
    match named.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("cd" | "dvd") => Ok(Some(MediaKind::Cd)),
        Some("usb") => Ok(Some(MediaKind::Usb)),
        Some("floppy") => Ok(Some(MediaKind::Floppy)),
        _ => Err(DriverError::Invalid(format!("Boot device {named} is not a valid value: use cd, dvd, usb or floppy"))),
    }
}

fn text<'a>(args: &'a JsonMap, key: &str) -> Result<Option<&'a str>> {
    args.get(key)
        .filter(|v| !v.is_null())
        .map(|v| v.as_str().ok_or_else(|| DriverError::Invalid(format!("{key} of a subscription must be text"))))
        .transpose()
}

fn subscription(args: &JsonMap) -> Result<Json> {
    let destination = text(args, "Destination")?.unwrap_or_default();
    let (scheme, rest) = destination.split_once("://").unwrap_or_default();
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        || rest.is_empty()
        || rest.starts_with('/')
        || destination.contains(char::is_whitespace)
    {
        return Err(DriverError::Invalid(format!("Destination {destination} is not a valid URI: give scheme and host")));
    }
    let list = |key: &str| match args.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Array(a)) => Ok(Some(a.clone())),
        Some(_) => Err(DriverError::Invalid(format!("{key} of a subscription must be a list"))),
    };
    let mut body = json!({
        "Destination": destination,
        "Protocol": text(args, "Protocol")?.unwrap_or("Redfish"),
        "Context": text(args, "Context")?.unwrap_or_default(),
        "EventTypes": list("EventTypes")?.unwrap_or_else(|| vec!["Alert".into()]),
    });
    if let Some(headers) = list("HttpHeaders")?.filter(|h| !h.is_empty()) {
        body["HttpHeaders"] = headers.into();
    }
    Ok(body)
}

/// An identifier of a subscription, which becomes a part of a path.
fn identifier(args: &JsonMap) -> Result<&str> {
    let id = text(args, "id")?.unwrap_or_default();
    if id.is_empty() || id.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) || id.starts_with('.') {
        return Err(DriverError::Invalid("id must be the identifier of a subscription".into()));
    }
    Ok(id)
}

fn shown(body: &Json) -> Json {
    body.as_object()
        .map_or(Json::Null, |m| m.iter().filter(|(k, _)| SHOWN.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect())
}

impl RedfishSystem {
    async fn subscriptions(&self) -> Result<String, RedfishError> {
        let root = self.client().get(ROOT).await?;
        let service = root.link(&["EventService"]).ok_or_else(|| self.unsupported("event subscriptions"))?;
        let service = self.client().get(service).await?;
        let path = service.link(&["Subscriptions"]).ok_or_else(|| self.unsupported("event subscriptions"))?;
        Ok(path.trim_end_matches('/').to_owned())
    }

    async fn subscribe(&self, body: &Json) -> Result<Json, RedfishError> {
        let path = self.subscriptions().await?;
        let written = self.client().post(&path, body).await?;
        let made = written.body.get("@odata.id").and_then(Json::as_str).map(str::to_owned);
        match made {
            _ if written.body.get("Id").is_some() => Ok(shown(&written.body)),
            Some(at) => Ok(shown(&self.client().get_fresh(&at).await?.body)),
            None => Ok(shown(body)),
        }
    }
}

#[async_trait]
impl Vendor for RedfishInterfaces {
    fn validate(&self, node: &Node) -> Result<()> {
        Power::validate(self, node)
    }

    fn methods(&self) -> &'static [MethodDecl] {
        METHODS
    }

    fn check(&self, method: &MethodDecl, args: &JsonMap) -> Result<()> {
        match method.name {
            "eject_vmedia" => drive(args).map(drop),
            "create_subscription" => subscription(args).map(drop),
            "delete_subscription" | "get_subscription" => identifier(args).map(drop),
            _ => Ok(()),
        }
    }

    async fn call(&self, cx: &DriverCx<'_>, method: &MethodDecl, args: &JsonMap) -> Result<Json> {
        let system = self.system(cx.node)?;
        match method.name {
            "eject_vmedia" => {
                let kind = drive(args)?;
                within(cx.deadline, "ejecting virtual media", system.eject_media(kind)).await?;
                Ok(Json::Null)
            }
            "create_subscription" => {
                let body = subscription(args)?;
                within(cx.deadline, "subscribing to events", system.subscribe(&body)).await
            }
            "delete_subscription" => {
                let id = identifier(args)?;
                within(cx.deadline, "ending a subscription", async {
                    system.client().delete(&format!("{}/{id}", system.subscriptions().await?)).await.map(|_| Json::Null)
                })
                .await
            }
            "get_all_subscriptions" => {
                within(cx.deadline, "listing subscriptions", async {
                    Ok(system.client().get_fresh(&system.subscriptions().await?).await?.body)
                })
                .await
            }
            "get_subscription" => {
                let id = identifier(args)?;
                within(cx.deadline, "reading a subscription", async {
                    Ok(shown(&system.client().get_fresh(&format!("{}/{id}", system.subscriptions().await?)).await?.body))
                })
                .await
            }
            other => Err(DriverError::Unsupported(format!("the redfish vendor interface has no method '{other}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(v: Json) -> JsonMap {
        v.as_object().cloned().expect("an object")
    }

    #[test]
    fn a_subscription_has_the_usual_values_where_none_are_given() {
        let body = subscription(&args(json!({"Destination": "https://h/x"}))).expect("good");
        assert_eq!(body, json!({"Destination": "https://h/x", "Protocol": "Redfish", "Context": "", "EventTypes": ["Alert"]}));
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused_before_the_bmc_is_asked() {
        for bad in [
            json!({"Destination": "h/x"}),
            json!({"Destination": 5}),
            json!({"Destination": "https:///x"}),
            json!({"Destination": "https://h", "HttpHeaders": 5}),
            json!({"Destination": "https://h", "EventTypes": "Alert"}),
            json!({"Destination": "https://h", "Context": 1}),
        ] {
            assert!(matches!(subscription(&args(bad.clone())), Err(DriverError::Invalid(_))), "{bad}");
        }
        for bad in ["", "../../Systems", "a/b", "a b"] {
            assert!(identifier(&args(json!({ "id": bad }))).is_err(), "{bad}");
        }
        assert!(drive(&args(json!({"boot_device": "tape"}))).is_err());
        assert_eq!(drive(&args(json!({"boot_device": null}))), Ok(None));
    }
}
