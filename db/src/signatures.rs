//! The store's methods, for callers to build against; bodies follow.
#![allow(missing_docs, unused_variables, clippy::unimplemented, clippy::too_many_arguments)]

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use bessemer_model::{
    Json,
    agent::AgentState,
    clock::Timestamp,
    conductor::{Claim, Conductor, DriverOffer},
    event::OutboxEvent,
    flow::{Flow, FlowLogEntry, Lane},
    history::HistoryEntry,
    ids::{HistoryId, NodeId},
    node::{Node, NodeSpec},
    port::Port,
    secret::Secret,
    state::ProvisionState,
};

use crate::{crash::CommitHook, error::Result, open::OpenOptions, types::*};

#[derive(Clone)]
pub struct Store(Arc<()>);

macro_rules! methods {
    ($($(#[$d:meta])* fn $n:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => { impl Store { $($(#[$d])* pub async fn $n(&self, $($a: $t),*) -> Result<$r> { unimplemented!() })* } };
}

impl Store {
    pub async fn open(url: &str, options: OpenOptions) -> Result<Self> {
        unimplemented!()
    }
    pub fn with_commit_hook(self, hook: Arc<dyn CommitHook>) -> Self {
        self
    }
    pub fn commits(&self) -> u64 {
        0
    }
}

methods! {
    fn migrate() -> ();
    fn ping() -> ();
    fn node_create(new: NodeNew) -> Node;
    fn node_get(id: NodeId) -> Node;
    fn node_get_by_ident(ident: &str) -> Node;
    /// driver_info in clear.
    fn node_get_with_secrets(id: NodeId) -> Node;
    fn node_list(filter: &NodeFilter, page: &NodePage) -> Vec<Node>;
    fn node_refs(filter: &NodeFilter) -> Vec<NodeRef>;
    fn node_count(filter: &NodeFilter) -> i64;
    /// Gives the new revision.
    fn node_update_spec(id: NodeId, revision: i64, spec: NodeSpec, expect: Option<ProvisionState>) -> i64;
    fn node_delete(id: NodeId) -> ();
    fn node_set_traits(id: NodeId, traits: Vec<String>) -> ();
    fn node_add_trait(id: NodeId, name: &str) -> ();
    fn node_remove_trait(id: NodeId, name: &str) -> ();
    fn node_by_macs(macs: &[String]) -> Vec<NodeId>;
    fn work_begin(work: WorkBegin) -> ();
    fn claim_take(node: NodeId, epoch: i64, host: &str, now: Timestamp) -> Option<Claim>;
    fn claims_due(now: Timestamp, limit: u32) -> Vec<NodeRef>;
    fn claim_release(claim: &Claim) -> ();
    fn claim_commit(claim: &Claim, commit: Commit) -> Committed;
    fn flow_get(node: NodeId, lane: Lane) -> Option<StoredFlow>;
    fn flow_wake(node: NodeId, lane: Lane, at: Timestamp) -> bool;
    fn flow_set_aborting(node: NodeId, at: Timestamp) -> bool;
    fn flow_log_list(node: NodeId, limit: u32) -> Vec<FlowLogEntry>;
    fn agent_heartbeat(node: NodeId, agent: AgentState, now: Timestamp) -> ();
    fn agent_get(node: NodeId) -> Option<AgentState>;
    fn agent_clear(node: NodeId) -> ();
    fn agent_token_mint(node: NodeId, token: &Secret<String>) -> bool;
    fn agent_token_get(node: NodeId) -> Option<Secret<String>>;
    fn conductor_take(hostname: &str, group: &str, drivers: BTreeMap<String, DriverOffer>, address: Option<&str>, now: Timestamp, lease: Duration) -> i64;
    fn conductor_renew(hostname: &str, epoch: i64, now: Timestamp, lease: Duration) -> bool;
    fn conductor_expire(hostname: &str, epoch: i64) -> ();
    fn conductor_list() -> Vec<Conductor>;
    fn conductor_get(hostname: &str) -> Conductor;
    fn port_create(port: Port) -> Port;
    fn port_get(ident: &str) -> Port;
    fn port_list(filter: &PortFilter, page: &PortPage) -> Vec<Port>;
    fn port_update(port: Port, revision: i64) -> Port;
    fn port_delete(id: bessemer_model::ids::PortId) -> ();
    fn history_add(entry: HistoryEntry) -> ();
    fn history_list(node: NodeId, page: &HistoryPage) -> Vec<HistoryEntry>;
    fn history_get(node: NodeId, id: HistoryId) -> HistoryEntry;
    fn history_purge(keep: u32, batch: u32) -> u64;
    fn inventory_put(node: NodeId, inventory: Inventory) -> ();
    fn inventory_get(node: NodeId) -> Option<Inventory>;
    fn boot_plan_put(plan: BootPlanRow) -> ();
    fn boot_plan_get_by_node(node: NodeId) -> Option<BootPlanRow>;
    fn boot_plan_get_by_nonce(nonce: &str) -> Option<BootPlanRow>;
    fn boot_plan_get_by_mac(mac: &str) -> Option<BootPlanRow>;
    fn boot_plan_delete(node: NodeId) -> ();
    fn lease_offer(request: LeaseRequest, now: Timestamp) -> Option<Ipv4Addr>;
    fn lease_commit(network: &str, mac: &str, address: Ipv4Addr, expires_at: Timestamp) -> bool;
    fn lease_release(network: &str, mac: &str, now: Timestamp) -> ();
    fn lease_mac_of(network: &str, address: Ipv4Addr, now: Timestamp) -> Option<String>;
    fn lease_of(network: &str, mac: &str) -> Option<Lease>;
    fn events_after(after: EventCursor, limit: u32) -> Vec<(EventCursor, OutboxEvent)>;
    fn secret_put(node: NodeId, kind: &str, secret: Option<&Secret<String>>) -> ();
    fn secret_get(node: NodeId, kind: &str) -> Option<Secret<String>>;
}
