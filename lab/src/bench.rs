//! A test bench: machines with both kinds of BMC in front of each.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bmc::{self, Ipmi, Redfish};
use crate::enter::Lab;
use crate::libvirt::Libvirt;
use crate::machines::{Machine, MachineSpec};
use crate::netns::{ADDRESS, BRIDGE};
use crate::serial::Mark;

/// Machines, powered off, each reachable by Redfish and by IPMI. Dropping it ends the emulators
/// and libvirtd; machines end with the lab.
#[derive(Debug)]
pub struct Bench {
    /// The machines, in the order of their specifications.
    pub machines: Vec<Machine>,
    /// The Redfish service.
    pub redfish: Redfish,
    /// The IPMI BMCs.
    pub ipmi: Ipmi,
    /// The private libvirtd.
    pub libvirt: Libvirt,
}

impl Bench {
    /// Builds the bench; about 5 s.
    pub fn start(lab: &Lab, specs: &[MachineSpec]) -> Result<Self> {
        let libvirt = Libvirt::start(lab)?;
        let machines = specs.iter().map(|spec| Machine::define(lab, &libvirt, spec)).collect::<Result<Vec<_>>>()?;
        let ((redfish, ipmi), _) = std::thread::scope(|scope| {
            let redfish = scope.spawn(|| Redfish::start(lab));
            let ipmi = Ipmi::start(lab, &machines);
            ((redfish.join(), ipmi), ())
        });
        let redfish = redfish.ok().context("starting sushy-emulator panicked")??;
        Ok(Self { machines, redfish, ipmi: ipmi?, libvirt })
    }

    /// The machine of that name.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        self.machines.iter().find(|machine| machine.spec.name == name).with_context(|| format!("no machine {name}"))
    }

    /// The IPMI port of a machine.
    #[must_use]
    pub fn ipmi_port(&self, machine: &Machine) -> u16 {
        let all = (bmc::IPMI_PORT..).zip(&self.machines);
        all.filter(|(_, m)| m.spec.name == machine.spec.name).map(|(port, _)| port).next().unwrap_or(0)
    }

    /// `driver_info` for a node that reaches this machine by Redfish.
    #[must_use]
    pub fn redfish_info(&self, machine: &Machine) -> Value {
        json!({
            "redfish_address": self.redfish.url(),
            "redfish_system_id": Redfish::system(machine),
            "redfish_username": bmc::USER,
            "redfish_password": bmc::PASSWORD,
        })
    }

    /// `driver_info` for a node that reaches this machine by IPMI. The cipher suite is 3: the
    /// emulator has no other.
    #[must_use]
    pub fn ipmi_info(&self, machine: &Machine) -> Value {
        json!({
            "ipmi_address": ADDRESS,
            "ipmi_port": self.ipmi_port(machine),
            "ipmi_username": bmc::USER,
            "ipmi_password": bmc::PASSWORD,
            "ipmi_cipher_suite": "3",
        })
    }

    /// Everything a person or a script needs to use the bench.
    #[must_use]
    pub fn describe(&self) -> Value {
        let machines: Vec<Value> = self
            .machines
            .iter()
            .map(|machine| {
                json!({
                    "spec": machine.spec,
                    "disks": machine.disks,
                    "serial": machine.serial.path(),
                    "redfish": self.redfish_info(machine),
                    "ipmi": self.ipmi_info(machine),
                })
            })
            .collect();
        json!({ "address": ADDRESS, "bridge": BRIDGE, "machines": machines })
    }

    /// Waits for `text` on a machine's console; power-cycles the machine once when half of the
    /// time is over, as a guest on a busy computer hangs about once in fifty boots.
    /// Only for machines that boot from their own disk: it must not disturb a running flow.
    pub fn wait_for(&self, machine: &Machine, text: &str, mark: Mark, limit: Duration) -> Result<String> {
        if let Ok(seen) = machine.serial.wait_for(text, mark, limit / 2) {
            return Ok(seen);
        }
        self.libvirt.power_off(&machine.spec.name)?;
        self.libvirt.power_on(&machine.spec.name)?;
        machine.serial.wait_for(text, mark, limit / 2)
    }
}
