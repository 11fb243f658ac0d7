//! `POST /v1/heartbeat/{ident}`: a ramdisk says that it lives (`api.md` section 15). Without `{ident}`, `node_ident` in the body names the
//! node; such a request needs a token.

use bessemer_model::{
    fault::{Fault, FaultKind},
    secret::Secret,
};
use bessemer_rpc::Heartbeat;
use url::Url;

use crate::{
    lookup::check_enabled,
    reply::Reply,
    request::{Api, Req},
    version::Behaviour,
};

/// See the module documentation. The token and everything about the node's state is checked by the conductor.
pub(crate) async fn heartbeat(api: &Api, req: &Req) -> Result<Reply, Fault> {
    check_enabled(api)?;
    let mut names = vec!["callback_url", "agent_version", "agent_token", "agent_verify_ca", "agent_status", "agent_status_message"];
    if req.params.is_empty() {
        names.push("node_ident");
    }
    let args = req.args(&names)?;
    let ident = match req.params.first() {
        Some(ident) => ident.as_str(),
        None => args.required_text("node_ident")?,
    };
    let callback_url = args.required_text("callback_url")?.to_owned();
    let v = req.version;
    for (name, since) in [
        ("agent_version", Behaviour::HeartbeatVersion),
        ("agent_token", Behaviour::AgentToken),
        ("agent_verify_ca", Behaviour::HeartbeatVerifyCa),
        ("agent_status", Behaviour::HeartbeatStatus),
        ("agent_status_message", Behaviour::HeartbeatStatus),
    ] {
        if args.get(name).is_some() && !v.has(since) {
            return Err(Fault::invalid(format!("\"{name}\" needs a newer API version.")));
        }
    }
    let status = args.text("agent_status")?;
    if !matches!(status, None | Some("start" | "end" | "error")) {
        return Err(Fault::invalid("\"agent_status\" must be start, end or error."));
    }
    let node = api.node(req, ident).await?;
    let usable = Url::parse(&callback_url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    if !usable || callback_url.len() > 2048 {
        return Err(Fault::invalid("\"callback_url\" must be an http or https address."));
    }
    let token = args.text("agent_token")?.filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| Fault::new(FaultKind::InvalidParameterValue, "A heartbeat needs the agent's token."))?;
    let text = |name: &str| Ok::<_, Fault>(args.text(name)?.map(str::to_owned));
    let heartbeat = Heartbeat {
        callback_url,
        agent_token: Some(Secret::new(token.to_owned())),
        agent_version: text("agent_version")?,
        agent_verify_ca: text("agent_verify_ca")?,
        agent_status: status.map(str::to_owned),
        agent_status_message: text("agent_status_message")?,
    };
    api.conductor.heartbeat(node.id, heartbeat).await?;
    Ok(Reply::accepted())
}
