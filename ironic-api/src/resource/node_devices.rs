//! What stands around a node: virtual interfaces, console, indicators, virtual media (`api.md` section 3.1).

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
};
use bessemer_rpc::devices::VifRequest;
use serde_json::json;

use crate::{
    links::Links,
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req, is_loose_name},
    version::Behaviour,
};

fn vif_id(id: &str) -> Result<&str, Fault> {
    if parse_uuid(id).is_some() || is_loose_name(id) {
        return Ok(id);
    }
    Err(Fault::invalid(format!("Expected UUID or name for the VIF: {}", id.chars().take(255).collect::<String>())))
}

/// `GET vifs`.
pub(crate) async fn vifs(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let ids: Vec<Json> = api.conductor.vifs(node.id).await?.into_iter().map(|id| json!({ "id": id })).collect();
    Reply::ok(&json!({ "vifs": ids }))
}

/// `POST vifs`. Other keys than these may be there and mean nothing.
pub(crate) async fn vif_attach(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let args = req.body.args()?;
    let text = |key: &str| args.get(key).and_then(Json::as_str).map(str::to_owned);
    let id = vif_id(args.required_text("id")?)?.to_owned();
    let vif = VifRequest { id, port_uuid: text("port_uuid"), portgroup_uuid: text("portgroup_uuid") };
    if req.version.has(Behaviour::VifPort) && args.0.contains_key("port_uuid") && args.0.contains_key("portgroup_uuid") {
        return Err(Fault::invalid("Cannot specify both port_uuid and portgroup_uuid"));
    }
    let node = api.node_of_path(req).await?;
    api.conductor.attach_vif(node.id, &vif).await?;
    Ok(Reply::no_content())
}

/// `DELETE vifs/{vif}`.
pub(crate) async fn vif_detach(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let vif = vif_id(req.param(1))?;
    let node = api.node_of_path(req).await?;
    api.conductor.detach_vif(node.id, vif).await?;
    Ok(Reply::no_content())
}

/// `GET states/console`.
pub(crate) async fn console(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let (enabled, info) = match api.conductor.console(node.id).await {
        Ok(info) => (true, info),
        Err(f) if f.kind == FaultKind::NodeConsoleNotEnabled => (false, Json::Null),
        Err(f) => return Err(f),
    };
    Reply::ok(&json!({ "console_enabled": enabled, "console_info": info }))
}

/// `PUT states/console`. What it shall be may be in the body or the query.
pub(crate) async fn console_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["enabled"])?;
    if !args.0.contains_key("enabled") {
        return Err(Fault::missing("Missing mandatory parameter: \"enabled\""));
    }
    let enabled = args.bool("enabled")?;
    let node = api.node_of_path(req).await?;
    api.conductor.set_console(&req.cx, node.id, enabled).await?;
    Ok(Reply::accepted().at(format!("{}/v1/nodes/{}/states/console", req.base, req.param(0))))
}

/// `name@component`.
fn indicator_of(req: &Req) -> Result<(&str, &str), Fault> {
    let given = req.param(1);
    given
        .split_once('@')
        .ok_or_else(|| Fault::invalid(format!("Malformed indicator name \"{}\"", given.chars().take(255).collect::<String>())))
}

/// `GET management/indicators`. Other query parameters mean nothing.
pub(crate) async fn indicators(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let node = api.node_of_path(req).await?;
    let mut rows = Vec::new();
    for i in api.conductor.indicators(node.id).await? {
        let name = format!("{}@{}", i.name, i.component);
        let path = format!("nodes/{}/management/indicators/{name}", req.param(0));
        let links = serde_json::to_value(Links { base: &req.base, path }).map_err(|e| Fault::internal(e.to_string()))?;
        rows.push(json!({ "name": name, "component": i.component, "readonly": i.readonly, "states": i.states, "links": links }));
    }
    Reply::ok(&json!({ "indicators": rows }))
}

/// `GET management/indicators/{name@component}`.
pub(crate) async fn indicator(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let (name, component) = indicator_of(req)?;
    Reply::ok(&json!({ "state": api.conductor.indicator(node.id, component, name).await? }))
}

/// `PUT management/indicators/{name@component}`.
pub(crate) async fn indicator_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["state"])?;
    let state = args.required_text("state")?;
    let node = api.node_of_path(req).await?;
    let (name, component) = indicator_of(req)?;
    api.conductor.set_indicator(node.id, component, name, state).await?;
    Ok(Reply::no_content())
}

/// Kinds of virtual media.
const MEDIA: &[&str] = &["disk", "cdrom", "floppy"];
/// Schemes that a BMC may fetch an image by.
const SCHEMES: &[&str] = &["http", "https", "nfs", "cifs"];

/// `GET vmedia`.
pub(crate) async fn media(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    Reply::ok(&api.conductor.media(node.id).await?)
}

fn one_of<'a>(args: &'a JsonMap, key: &str, allowed: &[&str]) -> Result<Option<&'a str>, Fault> {
    let Some(v) = args.get(key) else { return Ok(None) };
    v.as_str()
        .filter(|v| allowed.contains(v))
        .map(Some)
        .ok_or_else(|| Fault::invalid(format!("\"{key}\" must be one of: {}", allowed.join(", "))))
}

/// `POST vmedia`.
pub(crate) async fn media_attach(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["device_type", "image_url", "image_download_source"])?;
    let missing = |key: &str| Fault::missing(format!("Missing mandatory parameter: \"{key}\""));
    let device = one_of(&args.0, "device_type", MEDIA)?.ok_or_else(|| missing("device_type"))?;
    let source = one_of(&args.0, "image_download_source", &["http", "local", "swift"])?.unwrap_or("local");
    let url = args.required_text("image_url")?;
    let scheme = url.split_once(':').map(|(s, _)| s.to_ascii_lowercase()).unwrap_or_default();
    if !SCHEMES.contains(&scheme.as_str()) {
        return Err(Fault::invalid(format!("\"image_url\" must begin with one of: {}", SCHEMES.join(", "))));
    }
    if source == "swift" {
        return Err(Fault::not_built("image_download_source \"swift\""));
    }
    let node = api.node_of_path(req).await?;
    api.conductor.insert_media(&req.cx, node.id, device, url, source == "local").await?;
    Ok(Reply::no_content())
}

/// `DELETE vmedia`.
pub(crate) async fn media_detach(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["device_types"])?;
    let devices = req.query.list("device_types");
    if let Some(bad) = devices.iter().flatten().find(|d| !MEDIA.contains(&d.as_str())) {
        return Err(Fault::invalid(format!("Invalid device type {bad}: use {}", MEDIA.join(", "))));
    }
    let node = api.node_of_path(req).await?;
    api.conductor.eject_media(&req.cx, node.id, devices).await?;
    Ok(Reply::no_content())
}
