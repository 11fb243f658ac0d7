//! Shards (`api.md` section 14): how many nodes each has.

use bessemer_model::fault::Fault;
use serde_json::json;

use crate::{
    reply::Reply,
    request::{Api, Req},
};

/// `GET /v1/shards`. Nodes that are in no shard count under the name `None`.
pub(crate) async fn list(api: &Api, req: &Req) -> Result<Reply, Fault> {
    req.query.only(&[])?;
    let shards = api.store.node_shards().await?;
    let shown: Vec<_> = shards.iter().map(|(name, count)| json!({ "name": name.as_deref().unwrap_or("None"), "count": count })).collect();
    Reply::ok(&json!({ "shards": shown }))
}
