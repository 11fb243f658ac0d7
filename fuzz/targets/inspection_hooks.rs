//! An inspection report of any content, through the hooks that take properties and ports from it.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_conductor::config::ConductorConfig;
use bessemer_conductor::hooks;
use bessemer_model::clock::Timestamp;
use bessemer_model::ids::NodeId;
use bessemer_model::node::{Node, NodeSpec, NodeStatus};
use bessemer_model::state::ProvisionState;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(report) = serde_json::from_slice::<Value>(data) else { return };
    let config = ConductorConfig { inspect_add_ports: "all".into(), ..ConductorConfig::default() };
    let node = Node {
        id: NodeId::random(),
        seq: 1,
        revision: 1,
        created_at: Timestamp::default(),
        updated_at: None,
        spec: NodeSpec::default(),
        status: NodeStatus::new(ProvisionState::Inspecting),
        traits: Vec::new(),
        allocation: None,
        reservation: None,
        conductor_affinity: None,
        agent: None,
        has_agent_token: false,
        flow: None,
    };
    let inventory = report.get("inventory").unwrap_or(&report);
    let plugin_data = report.get("plugin_data").unwrap_or(&report);
    let _ = hooks::run(&config, &node, inventory, plugin_data, &["52:54:00:aa:00:01".into()]);
});
