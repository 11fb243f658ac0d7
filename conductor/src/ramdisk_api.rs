//! What a ramdisk may say to any daemon: who am I, I live, here is my inventory. One write and a hint each.

use bessemer_db::{Inventory, PortFilter, PortPage};
use bessemer_model::{
    Json, JsonMap,
    agent::AgentState,
    fault::{Fault, FaultKind},
    flow::Lane,
    ids::NodeId,
    interface::InterfaceKind,
    node::Node,
    port::Mac,
    secret::Secret,
    state::ProvisionState,
};
use bessemer_rpc::{Heartbeat, LookupAnswer, LookupQuery};
use serde_json::json;

use crate::{core::Core, discovery, exec::REPORT_MARK};

fn not_found() -> Fault {
    // One text for every reason: a stranger learns nothing about which nodes exist.
    Fault::new(FaultKind::NodeNotFound, "Node could not be found: no node with these addresses waits for a ramdisk.")
}

/// `GET /v1/lookup`.
///
/// # Errors
/// `NodeNotFound`.
pub async fn lookup(core: &Core, query: LookupQuery) -> Result<LookupAnswer, Fault> {
    let node = if let Some(id) = query.node {
        core.store.node_get(id).await.map_err(|_| not_found())?
    } else {
        by_macs(core, &query.addresses).await?
    };
    if core.config.restrict_lookup && !node.status.provision_state.lookup_allowed() {
        return Err(not_found());
    }
    let token: String = hex::encode(rand::random::<[u8; 32]>());
    let token = Secret::new(token);
    let minted = core.store.agent_token_mint(node.id, &token).await?;
    let node = core.store.node_get(node.id).await?;
    let config = agent_config(core, &node);
    Ok(LookupAnswer { node, config, token: minted.then_some(token) })
}

async fn by_macs(core: &Core, addresses: &[String]) -> Result<Node, Fault> {
    let macs: Vec<String> = addresses.iter().filter_map(|a| a.parse::<Mac>().ok()).map(|m| m.to_string()).collect();
    if macs.is_empty() {
        return Err(not_found());
    }
    match core.store.node_by_macs(&macs).await?.as_slice() {
        [one] => Ok(core.store.node_get(*one).await?),
        _ => Err(not_found()),
    }
}

/// The `config` object of a lookup (`api.md` section 15), without the token.
fn agent_config(core: &Core, node: &Node) -> JsonMap {
    let redfish = node.spec.interfaces.get(InterfaceKind::Management).contains("redfish");
    let v = json!({
        "metrics": {"backend": "noop", "prepend_host": false, "prepend_uuid": false, "prepend_host_reverse": true, "global_prefix": null},
        "metrics_statsd": {"statsd_host": "localhost", "statsd_port": 8125},
        "heartbeat_timeout": core.config.ramdisk_heartbeat_timeout.as_secs(),
        "agent_containers": {
            "allow_arbitrary_containers": false, "allowed_containers": [], "container_steps_file": "/etc/ironic-python-agent.d/mysteps.yaml",
            "runner": "podman", "pull_options": [], "run_options": ["--rm", "--network=host"],
        },
        "agent_token_required": true,
        "agent_md5_checksum_enable": core.config.allow_md5_checksum,
        "disable_deep_image_inspection": false,
        "permitted_image_formats": ["raw", "gpt", "qcow2", "iso"],
        "agent_skip_bmc_detect": redfish,
        "enable_bios_bootloader_install": false,
        "tls_min_version": "1.3",
        "tls_cipher_suites": null,
    });
    v.as_object().cloned().unwrap_or_default()
}

fn same(a: &str, b: &str) -> bool {
    // Constant time in the length of the given text: a token is not to be guessed byte by byte.
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0u8, |d, (x, y)| d | (x ^ y)) == 0
}

/// `POST /v1/heartbeat/{node}`.
///
/// # Errors
/// `InvalidParameterValue`; `InvalidState` never: a heartbeat in a state without a flow is only written down.
pub async fn heartbeat(core: &Core, id: NodeId, h: Heartbeat) -> Result<(), Fault> {
    let node = core.store.node_get(id).await?;
    let expected = core.store.agent_token_get(id).await?;
    let given = h.agent_token.as_ref().map(|t| t.reveal().as_str()).filter(|t| !t.is_empty());
    match (expected, given) {
        (Some(e), Some(g)) if same(e.reveal(), g) => {}
        (_, None) => return Err(Fault::invalid("Agent token is required for heartbeat processing.")),
        _ => return Err(Fault::invalid("Invalid or missing agent token received.")),
    }
    let before = node.agent.clone().unwrap_or_default();
    if before.url.as_ref().is_some_and(|u| *u != h.callback_url) {
        return Err(Fault::invalid("callback_url differs from the one that this ramdisk gave first; it may not change during a boot"));
    }
    if before.verify_ca.is_some() && h.agent_verify_ca.is_some() && before.verify_ca != h.agent_verify_ca {
        return Err(Fault::invalid("agent_verify_ca differs from the one that this ramdisk gave first; it may not change during a boot"));
    }
    if core.config.agent_require_tls && !h.callback_url.starts_with("https://") {
        return Err(Fault::invalid("callback_url must be https: [agent] require_tls is set"));
    }
    if h.agent_version.is_none() && h.agent_status.is_none() {
        return Err(Fault::missing("agent_version is missing: the ramdisk is too old"));
    }
    if !node.status.provision_state.fasttrack_lookup_allowed() && !node.status.provision_state.heartbeat_allowed() {
        tracing::debug!(node = %id, state = %node.status.provision_state, "heartbeat in a state that expects none");
        return Err(Fault::new(
            FaultKind::InvalidState,
            format!("node {id} is in state '{}', which expects no ramdisk", node.status.provision_state),
        ));
    }
    let now = core.now();
    let state = AgentState {
        url: Some(h.callback_url),
        version: h.agent_version.or(before.version),
        last_heartbeat: Some(now),
        verify_ca: h.agent_verify_ca.or(before.verify_ca),
        status: h.agent_status,
        status_message: h.agent_status_message,
    };
    core.store.agent_heartbeat(id, state, now).await?;
    if !node.spec.maintenance {
        core.hint(id);
    }
    Ok(())
}

/// `POST /v1/continue_inspection`.
///
/// # Errors
/// `NodeNotFound` when no node waits for these data; `InvalidParameterValue` when they are of no use.
pub async fn continue_inspection(core: &Core, given: Option<NodeId>, data: Json) -> Result<Node, Fault> {
    let Json::Object(mut data) = data else { return Err(Fault::invalid("the body must be an object with 'inventory'")) };
    let Some(inventory) = data.remove("inventory").filter(Json::is_object) else {
        return Err(Fault::invalid("inventory is missing or not an object"));
    };
    let macs: Vec<String> = inventory
        .get("interfaces")
        .and_then(Json::as_array)
        .map(|l| l.iter().filter_map(|i| i.get("mac_address")?.as_str()?.parse::<Mac>().ok()).map(|m| m.to_string()).collect())
        .unwrap_or_default();
    // Addresses of a BMC find no node here, but they are something to look for.
    let of_bmc = |key: &str| inventory.get(key).and_then(Json::as_str).is_some_and(|a| !a.is_empty());
    if macs.is_empty() && given.is_none() {
        let sought = of_bmc("bmc_address") || of_bmc("bmc_v6address");
        return Err(if sought { not_found() } else { Fault::invalid("inventory/interfaces names no MAC address") });
    }
    let found = if macs.is_empty() { vec![] } else { core.store.node_by_macs(&macs).await? };
    let id = match (given, found.as_slice()) {
        (Some(g), []) => g,
        (Some(g), [one]) if *one == g => g,
        (None, [one]) => *one,
        (None, []) if core.config.auto_discovery => return discovery::enroll(core, inventory, data).await,
        (None, []) => return Err(not_found()),
        _ => {
            return Err(Fault::new(
                FaultKind::NodeNotFound,
                "Node could not be found: the report's addresses belong to another node or to several.",
            ));
        }
    };
    let node = core.store.node_get(id).await.map_err(|_| not_found())?;
    if !matches!(node.status.provision_state, ProvisionState::InspectWait | ProvisionState::Inspecting) {
        return Err(not_found());
    }
    if given.is_some() && found.is_empty() && !owns_no_ports(core, id).await? {
        return Err(not_found());
    }
    let Some(flow) = core.store.flow_get(id, Lane::Provision).await? else { return Err(not_found()) };
    data.insert(REPORT_MARK.into(), json!(flow.flow.id));
    core.store.inventory_put(id, Inventory { inventory, plugin_data: Json::Object(data) }).await?;
    core.store.flow_wake(id, Lane::Provision, core.now()).await?;
    core.hint(id);
    Ok(node)
}

async fn owns_no_ports(core: &Core, id: NodeId) -> Result<bool, Fault> {
    let filter = PortFilter { node: Some(id), ..Default::default() };
    Ok(core.store.port_list(&filter, &PortPage::first(1)).await?.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_compare_whole() {
        assert!(super::same("abc", "abc"));
        assert!(!super::same("abc", "abd"));
        assert!(!super::same("abc", "ab"));
    }
}
