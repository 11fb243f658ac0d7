//! What the unit tests of this crate share.

use bessemer_model::{
    clock::Timestamp,
    ids::NodeId,
    node::{Node, NodeSpec, NodeStatus},
    state::ProvisionState,
};

/// A node that no store knows.
pub(crate) fn node(state: ProvisionState) -> Node {
    Node {
        allocation: None,
        id: NodeId::random(),
        seq: 1,
        revision: 1,
        created_at: Timestamp(0),
        updated_at: None,
        spec: NodeSpec { driver: "ipmi".into(), ..NodeSpec::default() },
        status: NodeStatus::new(state),
        traits: vec![],
        reservation: None,
        conductor_affinity: None,
        agent: None,
        has_agent_token: false,
        flow: None,
    }
}
