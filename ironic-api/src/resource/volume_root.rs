//! The roots below which volume connectors and targets are (`api.md` section 10).

use bessemer_model::{Json, fault::Fault};
use serde_json::json;

use crate::{links::Links, reply::Reply, request::Req, resource::node_link::check_ident};

fn volume_links(base: &str, below: &str) -> Result<Reply, Fault> {
    let pair = |what: &str| -> Result<Json, Fault> {
        serde_json::to_value(Links { base, path: format_args!("{below}volume/{what}") }).map_err(|e| Fault::internal(e.to_string()))
    };
    let own = serde_json::to_value(Links { base, path: format_args!("{below}volume/") }).map_err(|e| Fault::internal(e.to_string()))?;
    Reply::ok(&json!({ "connectors": pair("connectors")?, "targets": pair("targets")?, "links": own }))
}

/// `GET /v1/volume`.
pub(crate) fn show(req: &Req) -> Result<Reply, Fault> {
    volume_links(&req.base, "")
}

/// `GET /v1/nodes/{ident}/volume`. The same whether there is such a node.
pub(crate) fn of_node(req: &Req) -> Result<Reply, Fault> {
    check_ident(req.param(0))?;
    volume_links(&req.base, &format!("nodes/{}/", req.param(0)))
}
