//! Inspection reports that no sane agent sends: the hooks take what they can and refuse the rest, and never make a port of
//! something that is no hardware address.
#![allow(clippy::unwrap_used, reason = "tests")]

use bessemer_conductor::ConductorConfig;
use bessemer_conductor::hooks;
use bessemer_model::clock::Timestamp;
use bessemer_model::ids::NodeId;
use bessemer_model::node::{Node, NodeSpec, NodeStatus};
use bessemer_model::state::ProvisionState;
use serde_json::{Value, json};

/// Numbers that are the same on each run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn junk(&mut self) -> Value {
        match self.roll(10) {
            0 => Value::Null,
            1 => json!(-1),
            2 => json!(u64::MAX),
            3 => json!(1.0e300),
            4 => json!("52:54:00:aa:00:01"),
            5 => json!("x".repeat(5000)),
            6 => json!("\u{0}\u{202e}ü"),
            7 => json!([null, {"mac_address": 7}, "x"]),
            8 => json!({"mac_address": "", "name": {}}),
            _ => json!([]),
        }
    }

    /// Replaces one value somewhere below `value`.
    fn spoil(&mut self, value: &mut Value) {
        let members = match value {
            Value::Object(map) => map.len(),
            Value::Array(list) => list.len(),
            _ => 0,
        };
        if members == 0 || self.roll(4) == 0 {
            *value = self.junk();
            return;
        }
        let at = self.roll(members);
        let inner = match value {
            Value::Object(map) => map.values_mut().nth(at),
            Value::Array(list) => list.get_mut(at),
            _ => None,
        };
        self.spoil(inner.unwrap());
    }
}

fn report() -> Value {
    json!({
        "inventory": {
            "interfaces": [
                {"name": "eth0", "mac_address": "52:54:00:aa:00:01", "ipv4_address": "172.30.0.9", "has_carrier": true},
                {"name": "eth1", "mac_address": "52:54:00:aa:00:02", "has_carrier": false},
            ],
            "cpu": {"architecture": "x86_64", "count": 2},
            "memory": {"physical_mb": 512},
            "boot": {"pxe_interface": "52:54:00:aa:00:01"},
        },
        "plugin_data": {"boot_interface": "52:54:00:aa:00:01", "root_disk": {"size": 8_589_934_592_u64}},
    })
}

fn node() -> Node {
    Node {
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
    }
}

#[test]
fn a_spoilt_report_makes_no_port_that_is_none() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let node = node();
    let mut taken = 0;
    for round in 0..5000 {
        let add_ports = ["pxe", "active", "all", "disabled"][round % 4];
        let config = ConductorConfig { inspect_add_ports: add_ports.into(), ..ConductorConfig::default() };
        let mut report = report();
        for _ in 0..=dice.roll(3) {
            dice.spoil(&mut report);
        }
        let (inventory, plugin_data) = (&report["inventory"], &report["plugin_data"]);
        let Ok(outcome) = hooks::run(&config, &node, inventory, plugin_data, &[]) else { continue };
        taken += 1;
        for (address, _) in &outcome.ports {
            let octets: Vec<&str> = address.split(':').collect();
            let good = octets.len() == 6 && octets.iter().all(|o| o.len() == 2 && u8::from_str_radix(o, 16).is_ok());
            assert!(good, "a port was made of {address:?} in {report}");
        }
    }
    assert!(taken > 500, "only {taken} reports were taken: the test has lost its teeth");
}
