//! Links to the volumes of everything and of a node (`api.md` section 9).

use bessemer_model::{Json, fault::Fault};
use serde_json::json;

use crate::{
    links::Links,
    reply::Reply,
    request::{Api, Req},
};

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
