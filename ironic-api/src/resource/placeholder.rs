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
const BY_UUID_ONLY: &[&str] = &["portgroups"];

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
        api.node_of_path(req).await?;
    }
    only(key)
}

/// One of a resource of which there are none.
pub(crate) fn absent(req: &Req, what: &str) -> Result<Reply, Fault> {
    let ident: String = req.params.last().map_or("", String::as_str).chars().take(255).collect();
    Err(Fault::new(FaultKind::NotFound, format!("{what} {ident} could not be found.")))
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

/// `POST /v1/events`: network events are noted and change nothing.
pub(crate) fn events(req: &Req) -> Result<Reply, Fault> {
    let args = req.body.args()?;
    args.only(&["events"])?;
    let list = args.get("events").and_then(Json::as_array).filter(|l| !l.is_empty());
    for e in list.ok_or_else(|| Fault::missing("Missing mandatory parameter: \"events\""))? {
        let kind = e.get("event").and_then(Json::as_str).unwrap_or_default();
        if !matches!(kind, "network.bind_port" | "network.unbind_port" | "network.delete_port") {
            return Err(Fault::invalid("An event must be network.bind_port, network.unbind_port or network.delete_port."));
        }
        for key in ["port_id", "mac_address", "status"] {
            if !e.get(key).is_some_and(Json::is_string) {
                return Err(Fault::missing(format!("An event needs \"{key}\".")));
            }
        }
        tracing::debug!(kind, "network event");
    }
    Ok(Reply::no_content())
}
