//! `GET /v1/lookup`: a ramdisk asks who it is (`api.md` section 15).

use bessemer_model::{
    Json,
    fault::{Fault, FaultKind},
    ids::NodeId,
    node::Node,
    port::Mac,
    secret::MASK,
};
use bessemer_rpc::LookupQuery;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    links::Links,
    reply::Reply,
    request::{Api, Req},
    resource::{masking::Masked, node_view::InternalInfo},
    version::Behaviour,
};

/// Nobody has more network cards than this.
const MAX_ADDRESSES: usize = 256;

/// Refuses ramdisks where the operator switched their endpoints off.
pub(crate) fn check_enabled(api: &Api) -> Result<(), Fault> {
    if api.config.enable_ramdisk_endpoints {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Forbidden, "The endpoints for ramdisks are disabled here."))
}

/// The part of a node that its ramdisk may see.
pub(crate) struct RamdiskView<'a> {
    pub node: &'a Node,
    pub base: &'a str,
}

impl Serialize for RamdiskView<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let n = self.node;
        let mut m = s.serialize_map(None)?;
        m.serialize_entry("uuid", &n.id)?;
        m.serialize_entry("properties", &n.spec.properties)?;
        m.serialize_entry("instance_info", &Masked::instance_info(&n.spec.instance_info))?;
        m.serialize_entry("driver_internal_info", &InternalInfo(n))?;
        m.serialize_entry("links", &Links { base: self.base, path: format_args!("nodes/{}", n.id) })?;
        m.end()
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    node: RamdiskView<'a>,
    config: &'a bessemer_model::JsonMap,
}

/// See the module documentation. Addresses that are no MAC addresses are passed over while one is.
pub(crate) async fn lookup(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_enabled(api)?;
    let q = &req.query;
    q.only(&["addresses", "node_uuid"])?;
    let given = q.list("addresses").unwrap_or_default();
    let addresses: Vec<String> = given.iter().take(MAX_ADDRESSES).filter_map(|a| a.parse::<Mac>().ok()).map(|m| m.to_string()).collect();
    let node = q.uuid("node_uuid")?.map(NodeId);
    if !req.version.has(Behaviour::Lookup) {
        return Err(Fault::new(FaultKind::NotFound, "Lookup needs a newer API version."));
    }
    if addresses.is_empty() && node.is_none() {
        return Err(Fault::new(FaultKind::Invalid, "Lookup needs \"node_uuid\" or \"addresses\" with a MAC address."));
    }
    let query = LookupQuery { addresses, node, mint_token: req.version.has(Behaviour::AgentToken) };
    let mut answer = api.conductor.lookup(query).await?;
    let token = match &answer.token {
        Some(t) => Some(t.reveal().clone()),
        None if answer.node.has_agent_token => Some(MASK.to_owned()),
        None => None,
    };
    answer.node.has_agent_token |= token.is_some();
    answer.config.insert("agent_token".into(), token.map_or(Json::Null, Json::String));
    Reply::ok(&Answer { node: RamdiskView { node: &answer.node, base: &req.base }, config: &answer.config })
}
