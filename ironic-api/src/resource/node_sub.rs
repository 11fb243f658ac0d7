//! Smaller resources below a node: validation, boot device, NMI, traits, inventory, children.

use std::collections::BTreeMap;

use bessemer_db::{Children, NodeFilter};
use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
    ids::NodeId,
    interface::InterfaceKind,
};
use serde_json::json;

use super::traits::{check_trait, names_one, read_traits};
use crate::{
    query::parse_uuid,
    reply::Reply,
    request::{Api, Req},
    version::Behaviour,
};

/// `GET validate`.
pub(crate) async fn validate(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    validated(api, req, req.param(0)).await
}

/// `GET /v1/nodes/validate?node=`.
pub(crate) async fn validate_by_query(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&["node", "node_uuid"])?;
    let ident = req.query.get("node").or(req.query.get("node_uuid"));
    validated(api, req, ident.ok_or_else(|| Fault::missing("Missing mandatory parameter: \"node\""))?).await
}

async fn validated(api: &Api, req: &Req, ident: &str) -> Result<Reply, Fault> {
    if parse_uuid(ident).is_none() && !req.version.has(Behaviour::NodeNames) {
        return Err(Fault::new(FaultKind::NotAcceptable, "Names of nodes need a newer API version."));
    }
    let node = api.node(req, ident).await?;
    let outcome = api.conductor.validate(node.id).await?;
    let body: BTreeMap<&str, Json> = outcome
        .into_iter()
        .filter(|(kind, _)| *kind != InterfaceKind::Vendor)
        .map(|(kind, v)| {
            let mut m = JsonMap::new();
            m.insert("result".into(), json!(v.result));
            if let Some(reason) = v.reason {
                m.insert("reason".into(), reason.into());
            }
            (kind.as_str(), Json::Object(m))
        })
        .collect();
    Reply::ok(&body)
}

/// `GET management/boot_device`.
pub(crate) async fn boot_device(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let b = api.conductor.boot_device(node.id).await?;
    Reply::ok(&json!({ "boot_device": b.device, "persistent": b.persistent }))
}

/// `GET management/boot_device/supported`.
pub(crate) async fn boot_device_supported(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    Reply::ok(&json!({ "supported_boot_devices": api.conductor.supported_boot_devices(node.id).await? }))
}

/// `PUT management/boot_device`.
pub(crate) async fn boot_device_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["boot_device", "persistent"])?;
    let device = args.required_text("boot_device")?;
    let persistent = args.bool("persistent")?.unwrap_or(false);
    let node = api.node_of_path(req).await?;
    api.conductor.set_boot_device(node.id, device, persistent).await?;
    Ok(Reply::no_content())
}

/// `PUT management/inject_nmi`.
pub(crate) async fn inject_nmi(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.args(&[])?;
    let node = api.node_of_path(req).await?;
    api.conductor.inject_nmi(node.id).await?;
    Ok(Reply::no_content())
}

/// At most so many traits on a node.
const MAX_TRAITS: usize = 50;

/// `GET traits`.
pub(crate) async fn traits(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    Reply::ok(&json!({ "traits": node.traits }))
}

/// `PUT traits`: all of them.
pub(crate) async fn traits_set(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let args = req.args(&["traits"])?;
    let node = api.node_of_path(req).await?;
    let list = args.get("traits").ok_or_else(|| Fault::invalid("\"traits\" must be a list of traits."))?;
    let names = read_traits(list)?;
    if names.len() > MAX_TRAITS {
        return Err(Fault::invalid(format!("A node has at most {MAX_TRAITS} traits.")));
    }
    api.store.node_set_traits(node.id, names).await?;
    api.conductor.node_changed(node.id);
    Ok(Reply::no_content())
}

/// `PUT traits/{trait}`.
pub(crate) async fn trait_add(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let name = req.param(1);
    check_trait(name)?;
    names_one(&req.body)?;
    let node = api.node_of_path(req).await?;
    if node.traits.len() >= MAX_TRAITS && !node.traits.iter().any(|t| t == name) {
        return Err(Fault::invalid(format!("A node has at most {MAX_TRAITS} traits.")));
    }
    api.store.node_add_trait(node.id, name).await?;
    api.conductor.node_changed(node.id);
    Ok(Reply::no_content().at(format!("{}/v1/nodes/{}/traits/{name}", req.base, req.param(0))))
}

/// `DELETE traits`.
pub(crate) async fn traits_clear(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    api.store.node_set_traits(node.id, vec![]).await?;
    api.conductor.node_changed(node.id);
    Ok(Reply::no_content())
}

/// `DELETE traits/{trait}`.
pub(crate) async fn trait_remove(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    api.store.node_remove_trait(node.id, req.param(1)).await?;
    api.conductor.node_changed(node.id);
    Ok(Reply::no_content())
}

/// `GET inventory`.
pub(crate) async fn inventory(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let none = || Fault::new(FaultKind::NotFound, format!("Node {} has no inventory; inspect it.", node.id));
    let i = api.store.inventory_get(node.id).await?.ok_or_else(none)?;
    Reply::ok(&json!({ "inventory": i.inventory, "plugin_data": i.plugin_data }))
}

/// `GET children`.
pub(crate) async fn children(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let node = api.node_of_path(req).await?;
    let filter = NodeFilter { children: Children::Of(node.id), project: req.narrow.project().map(str::to_owned), ..NodeFilter::default() };
    let ids: Vec<NodeId> = api.store.node_refs(&filter).await?.into_iter().map(|r| r.id).collect();
    let href = format!("{}/v1/nodes?parent_node={}", req.base, node.id);
    Reply::ok(&json!({ "children": ids, "links": { "href": href, "rel": "children" } }))
}
