//! Resources that are not built: their lists are empty because none can exist, and everything that would make one says so (501).

use bessemer_model::{
    Json, JsonMap,
    fault::{Fault, FaultKind},
};
use serde_json::json;

use crate::{
    links::Links,
    reply::Reply,
    request::{Api, Req},
};

/// Below a node, these are found by UUID only.
const BY_UUID_ONLY: &[&str] = &["connectors", "targets"];

fn only(key: &str) -> Result<Reply, Fault> {
    let mut m = JsonMap::new();
    m.insert(key.to_owned(), json!([]));
    Reply::ok(&m)
}

/// The empty list of a resource.
pub(crate) fn empty(key: &str) -> Result<Reply, Fault> {
    only(key)
}

/// The empty list of a resource of a node.
pub(crate) async fn empty_of_node(api: &Api, req: &Req, key: &str) -> Result<Reply, Fault> {
    if BY_UUID_ONLY.contains(&key) {
        api.node_by_uuid_only(req.param(0)).await?;
    } else {
        // History of Ironic: this list alone knows no `detail`.
        if key == "firmware" {
            req.query.only(&["fields"])?;
        }
        api.node_of_path(req).await?;
    }
    only(key)
}

/// One of a resource of which there are none.
pub(crate) fn absent(req: &Req, what: &str) -> Result<Reply, Fault> {
    let ident: String = req.params.last().map_or("", String::as_str).chars().take(255).collect();
    Err(Fault::new(FaultKind::NotFound, format!("{what} {ident} could not be found.")))
}

/// `allocation` of a node: none has one.
pub(crate) async fn allocation_of_node(api: &Api, req: &Req) -> Result<Reply, Fault> {
    let node = api.node_of_path(req).await?;
    Err(Fault::new(FaultKind::NotFound, format!("Node {} has no allocation.", node.id)))
}

fn volume_links(base: &str, below: &str) -> Result<Reply, Fault> {
    let pair = |what: &str| -> Result<Json, Fault> {
        serde_json::to_value(Links { base, path: format_args!("{below}volume/{what}") }).map_err(|e| Fault::internal(e.to_string()))
    };
    let own = serde_json::to_value(Links { base, path: format_args!("{below}volume/") }).map_err(|e| Fault::internal(e.to_string()))?;
    Reply::ok(&json!({ "connectors": pair("connectors")?, "targets": pair("targets")?, "links": own }))
}

/// `GET /v1/volume`.
pub(crate) fn volume(req: &Req) -> Result<Reply, Fault> {
    volume_links(&req.base, "")
}

/// `GET /v1/nodes/{ident}/volume`.
pub(crate) async fn volume_of_node(api: &Api, req: &Req) -> Result<Reply, Fault> {
    api.node_of_path(req).await?;
    volume_links(&req.base, &format!("nodes/{}/", req.param(0)))
}
