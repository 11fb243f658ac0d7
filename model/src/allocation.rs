//! Allocations (`api.md` section 9): a request for any node that fits, and the node that it got.

use crate::{
    clock::Timestamp,
    ids::{AllocationId, NodeId},
    node::{Node, NodeSpec},
    state::ProvisionState,
};

/// How far an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationState {
    /// A conductor looks for a node.
    Allocating,
    /// It has one.
    Active,
    /// None fits; `last_error` tells why.
    Error,
}

impl AllocationState {
    /// Every state.
    pub const ALL: &'static [Self] = &[Self::Allocating, Self::Active, Self::Error];
    /// The string on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allocating => "allocating",
            Self::Active => "active",
            Self::Error => "error",
        }
    }
    /// The state with this wire name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.as_str() == s)
    }
}

/// An allocation as stored.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of api.md section 9, one to one")]
pub struct Allocation {
    pub id: AllocationId,
    /// Order of creation; the default sort key.
    pub seq: i64,
    /// Grows with every write.
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    pub name: Option<String>,
    /// The node that it got; at most one allocation has a node.
    pub node: Option<NodeId>,
    pub state: AllocationState,
    pub last_error: Option<String>,
    /// `None` only when it was made for a node without one.
    pub resource_class: Option<String>,
    /// In the order given.
    pub traits: Vec<String>,
    /// In the order given; empty = any node.
    pub candidates: Vec<NodeId>,
    pub extra: crate::JsonMap,
    pub owner: Option<String>,
}

impl Allocation {
    /// Whether the node has every trait asked for.
    #[must_use]
    pub fn traits_fit(&self, node: &Node) -> bool {
        self.traits.iter().all(|t| node.traits.contains(t))
    }

    /// Whether the node may be given to this allocation as it is now: free, powered as known, and what was asked for.
    #[must_use]
    pub fn fits(&self, node: &Node) -> bool {
        let (spec, status) = (&node.spec, &node.status);
        let owned = self.owner.is_none() || spec.owner == self.owner || spec.lessee == self.owner;
        status.provision_state == ProvisionState::Available
            && status.power_state.is_some()
            && !spec.maintenance
            && spec.instance_uuid.is_none()
            && spec.resource_class == self.resource_class
            && owned
            && (self.candidates.is_empty() || self.candidates.contains(&node.id))
            && self.traits_fit(node)
    }

    /// What the node's owner columns become when it gets the node.
    pub fn mark(&self, spec: &mut NodeSpec) {
        spec.instance_uuid = Some(self.id.0);
        spec.instance_info.insert("traits".into(), self.traits.clone().into());
    }

    /// Why the allocation may not be taken off its node as that is now; `None` when it may.
    #[must_use]
    pub fn refuses_removal(&self, node: &Node) -> Option<String> {
        if node.spec.maintenance {
            return None;
        }
        let state = node.status.provision_state;
        let moving = node.status.target_provision_state.is_some() && !state.update_allowed();
        (moving || state == ProvisionState::Active).then(|| {
            format!("Cannot remove allocation {} of node {}: the node is in state \"{state}\" and not in maintenance", self.id, node.id)
        })
    }

    /// Why the node may not be taken as the one that this allocation has had all along (`node` of a creation); `None` when it may.
    #[must_use]
    pub fn refuses_backfill(&self, node: &Node) -> Option<String> {
        let mut why = Vec::new();
        if node.status.provision_state != ProvisionState::Active {
            why.push(format!("the node must be in state \"active\" but is \"{}\"", node.status.provision_state));
        }
        if self.resource_class.is_some() && self.resource_class != node.spec.resource_class {
            why.push(format!(
                "the node's resource class is {}, not {}",
                node.spec.resource_class.as_deref().unwrap_or("not set"),
                self.resource_class.as_deref().unwrap_or_default()
            ));
        }
        if !self.traits_fit(node) {
            why.push(format!("the node's traits [{}] lack some of [{}]", node.traits.join(", "), self.traits.join(", ")));
        }
        if !self.candidates.is_empty() && !self.candidates.contains(&node.id) {
            why.push("candidate_nodes must be empty or contain the node".to_owned());
        }
        (!why.is_empty()).then(|| format!("Cannot backfill an allocation for node {}: {}", node.id, why.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        JsonMap,
        node::NodeStatus,
        state::{PowerState, ProvisionState as P},
    };

    fn node() -> Node {
        let mut status = NodeStatus::new(P::Available);
        status.power_state = Some(PowerState::Off);
        Node {
            id: NodeId::random(),
            seq: 1,
            revision: 1,
            created_at: Timestamp(0),
            updated_at: None,
            spec: NodeSpec { resource_class: Some("gold".into()), lessee: Some("me".into()), ..NodeSpec::default() },
            status,
            traits: vec!["CUSTOM_A".into(), "CUSTOM_B".into()],
            allocation: None,
            reservation: None,
            conductor_affinity: None,
            agent: None,
            has_agent_token: false,
            flow: None,
        }
    }

    fn wish() -> Allocation {
        Allocation {
            id: AllocationId::random(),
            seq: 1,
            revision: 1,
            created_at: Timestamp(0),
            updated_at: None,
            name: None,
            node: None,
            state: AllocationState::Allocating,
            last_error: None,
            resource_class: Some("gold".into()),
            traits: vec!["CUSTOM_A".into()],
            candidates: vec![],
            extra: JsonMap::new(),
            owner: None,
        }
    }

    #[test]
    fn a_node_fits_only_while_it_is_free_and_is_what_was_asked_for() {
        assert!(wish().fits(&node()));
        assert!(Allocation { owner: Some("me".into()), ..wish() }.fits(&node()));
        let spoils: &[fn(&mut Node, &mut Allocation)] = &[
            |n, _| n.status.provision_state = P::Manageable,
            |n, _| n.status.power_state = None,
            |n, _| n.spec.maintenance = true,
            |n, _| n.spec.instance_uuid = Some(uuid::Uuid::nil()),
            |n, _| n.spec.resource_class = None,
            |n, _| n.traits = vec!["CUSTOM_B".into()],
            |_, a| a.owner = Some("you".into()),
            |_, a| a.candidates = vec![NodeId::random()],
        ];
        for (i, spoil) in spoils.iter().enumerate() {
            let (mut n, mut a) = (node(), wish());
            spoil(&mut n, &mut a);
            assert!(!a.fits(&n), "{i}");
        }
    }

    #[test]
    fn an_allocation_stays_on_a_node_that_is_active_or_on_its_way_unless_it_is_in_maintenance() {
        let (mut n, a) = (node(), wish());
        assert_eq!(a.refuses_removal(&n), None);
        for (state, target, stays) in [
            (P::Active, None, true),
            (P::Deploying, Some(P::Active), true),
            (P::DeployFailed, Some(P::Active), false),
            (P::Manageable, None, false),
        ] {
            (n.status.provision_state, n.status.target_provision_state) = (state, target);
            n.spec.maintenance = false;
            assert_eq!(a.refuses_removal(&n).is_some(), stays, "{state}");
            n.spec.maintenance = true;
            assert_eq!(a.refuses_removal(&n), None, "{state}");
        }
    }

    #[test]
    fn a_backfill_names_everything_that_does_not_match() {
        let (mut n, mut a) = (node(), wish());
        a.traits = vec!["CUSTOM_C".into()];
        a.candidates = vec![NodeId::random()];
        let why = a.refuses_backfill(&n).unwrap_or_default();
        for part in ["active", "CUSTOM_C", "candidate_nodes"] {
            assert!(why.contains(part), "{why}");
        }
        n.status.provision_state = P::Active;
        assert_eq!(wish().refuses_backfill(&n), None);
    }
}
