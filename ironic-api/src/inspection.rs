//! `POST /v1/continue_inspection`: a ramdisk delivers what it found (`api.md` section 15).

use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    ids::NodeId,
};
use serde_json::json;

use crate::{
    lookup::{RamdiskView, check_enabled},
    reply::Reply,
    request::{Api, Req},
    version::Behaviour,
};

/// See the module documentation. Which node it is, and whether it waits for this, is the conductor's business.
pub(crate) async fn continue_inspection(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_enabled(api)?;
    let new = req.version.has(Behaviour::InspectionLookup);
    req.query.only(&["node_uuid"])?;
    let node = req.query.uuid("node_uuid")?.map(NodeId);
    let data = req.body.object()?;
    check_inventory(data.get("inventory"))?;
    if node.is_some() && !new {
        return Err(Fault::new(FaultKind::NotFound, "\"node_uuid\" needs a newer API version."));
    }
    let node = api.conductor.continue_inspection(node, Json::Object(data)).await?;
    if new {
        let view = RamdiskView { node: &node, base: &req.base };
        let view = serde_json::to_value(view).map_err(|e| Fault::internal(e.to_string()))?;
        Reply::accepted_with(&json!({ "node": view, "config": {} }))
    } else {
        Reply::accepted_with(&json!({ "uuid": node.id }))
    }
}

/// An inventory has at least one interface, each with the text of an address; that of the BMC may be there. What is no address finds
/// no node.
fn check_inventory(inventory: Option<&Json>) -> Result<(), Fault> {
    let bad = |what: &str| Fault::invalid(format!("Invalid inspection data: {what}."));
    let inventory = inventory.and_then(Json::as_object).ok_or_else(|| bad("\"inventory\" must be an object"))?;
    let interfaces = inventory.get("interfaces").and_then(Json::as_array).filter(|i| !i.is_empty());
    for i in interfaces.ok_or_else(|| bad("\"inventory.interfaces\" must be a list that is not empty"))? {
        if !i.get("mac_address").is_some_and(Json::is_string) {
            return Err(bad("every interface needs a \"mac_address\" that is text"));
        }
    }
    for key in ["bmc_address", "bmc_v6address"] {
        if !matches!(inventory.get(key), None | Some(Json::Null | Json::String(_))) {
            return Err(bad(&format!("\"{key}\" must be text or null")));
        }
    }
    Ok(())
}
