//! A whole life of one machine: enroll, inspect, clean, deploy, boot from its own disk, undeploy,
//! clean, retire; each phase timed and watched, and what it claims checked from the host.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::disks::{self, Deployed};
use crate::inventory;
use crate::machines::{Firmware, Machine};
use crate::operator::{NodeSpec, Operator};
use crate::serial::Mark;

/// Which BMC a node is driven by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// IPMI, by virtualbmc.
    Ipmi,
    /// Redfish, by sushy-emulator.
    Redfish,
}

/// What a life deploys and expects.
#[derive(Debug, Clone)]
pub struct Order {
    /// Members of `instance_info`: `image_source`, checksum, format.
    pub instance_info: Value,
    /// Raw bytes that the disk must hold afterwards; `None` checks no bytes.
    pub raw: Option<PathBuf>,
    /// Text on the serial console that tells that the deployed system runs.
    pub expect: String,
    /// Check that the console also shows the config drive's content (our test image does).
    pub shows_config_drive: bool,
}

/// A machine's life in progress.
#[derive(Debug)]
pub struct Life<'a> {
    bench: &'a Bench,
    machine: &'a Machine,
    operator: &'a Operator,
    driver: Driver,
    begin: Instant,
    /// Limit of each phase.
    pub limit: Duration,
    /// Name of the boot interface.
    pub boot_interface: String,
    /// Name of the node.
    pub node: String,
    /// Seconds of each finished phase.
    pub phases: Vec<(&'static str, f64)>,
    /// The lines of the deployed system's console.
    pub banner: String,
    /// What inspection found.
    pub inventory: Value,
}

impl<'a> Life<'a> {
    /// A life of that machine; nothing is done yet.
    #[must_use]
    pub fn new(bench: &'a Bench, machine: &'a Machine, operator: &'a Operator, driver: Driver) -> Self {
        Self {
            bench,
            machine,
            operator,
            driver,
            begin: Instant::now(),
            limit: Duration::from_secs(300),
            boot_interface: "ipxe".to_owned(),
            node: machine.spec.name.clone(),
            phases: Vec::new(),
            banner: String::new(),
            inventory: Value::Null,
        }
    }

    /// The whole life.
    pub fn whole(&mut self, order: &Order) -> Result<()> {
        let decoy = self.decoy()?.to_path_buf();
        self.enroll()?;
        self.inspect()?;
        self.clean()?;
        let before = disks::digest(&decoy)?;
        self.deploy(order)?;
        ensure!(disks::digest(&decoy)? == before, "{}: the deployment changed the other disk", self.node);
        self.say("host check: the other disk is unchanged");
        self.undeploy()?;
        self.retire()?;
        self.check_boot_path()
    }

    /// The console tells by which way the ramdisk came.
    fn check_boot_path(&self) -> Result<()> {
        let console = self.machine.serial.since(Mark::default());
        let by_network = console.contains("iPXE initialising devices");
        let wanted = self.boot_interface == "ipxe";
        ensure!(by_network == wanted, "{}: the ramdisk came by {}", self.node, if by_network { "iPXE" } else { "another way than iPXE" });
        Ok(())
    }

    /// Creates the node and verifies its BMC.
    pub fn enroll(&mut self) -> Result<()> {
        self.phase("enroll", |life| {
            life.operator.enroll(&life.node_spec())?;
            life.operator.verb(&life.node, "manage")?;
            life.wait_state("manageable")
        })
    }

    /// Inspects in band and compares the inventory with what the machine was given.
    pub fn inspect(&mut self) -> Result<()> {
        self.phase("inspect", |life| {
            life.operator.verb(&life.node, "inspect")?;
            life.wait_state("manageable")
        })?;
        self.inventory = self.operator.api().inventory(&self.node)?;
        for line in inventory::lines(&self.inventory) {
            self.say(&format!("inventory: {line}"));
        }
        inventory::check(&self.inventory, &self.machine.spec)
            .with_context(|| format!("{}: the inventory is not what the machine was given", self.node))
    }

    /// Automated cleaning on the way to available.
    pub fn clean(&mut self) -> Result<()> {
        self.phase("clean", |life| {
            life.operator.verb(&life.node, "provide")?;
            life.wait_state("available")
        })?;
        self.check_blank()
    }

    /// Deploys, checks the disk's bytes from the host, and waits for the deployed system.
    pub fn deploy(&mut self, order: &Order) -> Result<()> {
        let token = format!("{}-{}", self.node, std::process::id());
        let mark = self.machine.serial.mark();
        self.phase("deploy", |life| {
            life.operator.instance_info(&life.node, &order.instance_info)?;
            life.operator.deploy(&life.node, &config_drive(&token))?;
            life.wait_state("active")
        })?;
        let seen = self.phase("first boot", |life| life.bench.wait_for(life.machine, &order.expect, mark, life.limit))?;
        let at = seen.find(&order.expect).unwrap_or(0);
        let at = seen.get(..at).and_then(|before| before.rfind('\n')).unwrap_or(0);
        self.banner = seen.get(at..).unwrap_or_default().trim().to_owned();
        if order.shows_config_drive {
            let ready = self.bench.wait_for(self.machine, "TEST-IMAGE READY", mark, self.limit)?;
            let text = ready.get(at..).unwrap_or_default();
            let end = text.find("TEST-IMAGE READY").and_then(|end| Some(end + text.get(end..)?.find('\n')?));
            self.banner = text.get(..end.unwrap_or(text.len())).unwrap_or_default().trim().to_owned();
            for wanted in ["CONFIG-DRIVE found", &token, "#!/bin/sh"] {
                ensure!(ready.contains(wanted), "the console does not show `{wanted}`:\n{}", self.banner);
            }
        }
        for line in self.banner.lines() {
            self.say(&format!("console: {line}"));
        }
        if let Some(raw) = &order.raw {
            let Deployed { compared, config_drive } = disks::holds_image(&self.machine.disks[0], raw)?;
            self.say(&format!("host check: {compared} bytes of the disk equal the image"));
            let drive = config_drive.context("no partition was added for the config drive")?;
            let bytes = disks::read_partition(&self.machine.disks[0], &drive)?;
            ensure!(bytes.windows(token.len()).any(|part| part == token.as_bytes()), "the config drive lacks {token}");
            self.say(&format!("host check: config drive in partition `{}`", drive.name));
        }
        Ok(())
    }

    /// Takes the instance away; ends when the node was cleaned.
    pub fn undeploy(&mut self) -> Result<()> {
        self.phase("undeploy and clean", |life| {
            life.operator.verb(&life.node, "undeploy")?;
            life.wait_state("available")
        })?;
        self.check_blank()
    }

    /// Retires the node.
    pub fn retire(&mut self) -> Result<()> {
        self.phase("retire", |life| {
            // A node that is available cannot be retired: it could be taken at any moment.
            life.operator.verb(&life.node, "manage")?;
            life.wait_state("manageable")?;
            life.operator.retire(&life.node, "end of its life")?;
            let node = life.operator.api().node(&life.node)?;
            ensure!(node["retired"] == json!(true), "the node is not marked as retired");
            Ok(())
        })
    }

    /// Waits until the node is in that state with nothing going on. Says each change. A failed
    /// state is an error with the node's own words.
    ///
    /// A guest that shows no sign of life for long while it boots is power-cycled once: under
    /// software emulation about one boot in fifty hangs.
    pub fn wait_state(&self, wanted: &str) -> Result<()> {
        const SILENCE: Duration = Duration::from_secs(120);
        let end = Instant::now() + self.limit;
        let mut told = String::new();
        let mut alive: (Instant, Mark) = (Instant::now(), self.machine.serial.mark());
        let mut cycled = false;
        loop {
            let node = self.operator.api().node(&self.node)?;
            let state = node["provision_state"].as_str().unwrap_or_default();
            let line = describe(&node);
            let mark = self.machine.serial.mark();
            if line != told || mark != alive.1 {
                alive = (Instant::now(), mark);
            }
            if line != told {
                self.say(&line);
                told = line;
            }
            if state == wanted && node["target_provision_state"].is_null() {
                return Ok(());
            }
            let failed = state.ends_with(" failed") || state == "error" || (state == "enroll" && wanted != "enroll");
            if failed || Instant::now() >= end {
                let why = node["last_error"].as_str().unwrap_or("no error is told");
                let console = self.machine.serial.since(Mark::default());
                let lines: Vec<&str> = console.lines().collect();
                let tail = lines[lines.len().saturating_sub(25)..].join("\n  | ");
                let word = if failed { "ended" } else { "still is" };
                bail!("{}: {word} in `{state}` on the way to `{wanted}`: {why}\n  | {tail}", self.node);
            }
            if alive.0.elapsed() > SILENCE && !cycled && state.contains("wait") && may_hang(&told) {
                cycled = true;
                alive.0 = Instant::now();
                self.say("the guest shows no sign of life: power-cycled");
                self.bench.libvirt.power_off(&self.machine.spec.name)?;
                self.bench.libvirt.power_on(&self.machine.spec.name)?;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Prints one line of progress, with the time since this life began.
    pub fn say(&self, text: &str) {
        println!("[{:6.1} s] {:<6} {text}", self.begin.elapsed().as_secs_f64(), self.node);
    }

    fn phase<T>(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.say(&format!("--- {name}"));
        let start = Instant::now();
        let result = work(self).with_context(|| format!("{}: {name}", self.node))?;
        self.phases.push((name, start.elapsed().as_secs_f64()));
        Ok(result)
    }

    fn decoy(&self) -> Result<&std::path::Path> {
        let second = self.machine.disks.get(1).context("the machine has one disk only")?;
        Ok(second)
    }

    fn check_blank(&self) -> Result<()> {
        for disk in &self.machine.disks {
            disks::has_no_partition_table(disk)?;
        }
        self.say("host check: no disk holds a partition table at either end");
        Ok(())
    }

    /// Memory of the machine in MiB.
    #[must_use]
    pub fn memory_mib(&self) -> u64 {
        self.machine.spec.memory_mib
    }

    /// The node for this machine: the root device is named by serial number.
    #[must_use]
    pub fn node_spec(&self) -> NodeSpec {
        let spec = &self.machine.spec;
        let (driver, driver_info) = match self.driver {
            Driver::Ipmi => ("ipmi", self.bench.ipmi_info(self.machine)),
            Driver::Redfish => ("redfish", self.bench.redfish_info(self.machine)),
        };
        let mode = if spec.firmware == Firmware::Bios { "bios" } else { "uefi" };
        let root = spec.disks.first().map(|disk| disk.serial.clone()).unwrap_or_default();
        let interfaces = [("boot", self.boot_interface.as_str()), ("deploy", "direct"), ("inspect", "agent"), ("network", "noop")];
        NodeSpec {
            name: self.node.clone(),
            driver: driver.to_owned(),
            interfaces: interfaces.map(|(kind, name)| (kind.to_owned(), name.to_owned())).to_vec(),
            driver_info,
            properties: json!({
                "root_device": {"serial": root},
                "capabilities": format!("boot_mode:{mode}"),
            }),
            macs: vec![spec.mac.clone()],
        }
    }
}

/// The config drive that lives are deployed with: `token` in the meta data and the user data.
#[must_use]
pub fn config_drive(token: &str) -> Value {
    json!({
        "meta_data": {"uuid": token, "hostname": token, "public_keys": {"lab": "ssh-ed25519 AAAA lab"}},
        "user_data": format!("#!/bin/sh\necho {token}\n"),
        "network_data": {"links": [], "networks": [], "services": []},
    })
}

/// Whether a node described so may stand in a boot that hangs. While its ramdisk is at a step (overwriting a disk takes minutes) it has booted.
fn may_hang(described: &str) -> bool {
    !described.contains(", step ") || described.contains(", step deploy.deploy")
}

/// State, step and power of a node in one line.
fn describe(node: &Value) -> String {
    let text = |name: &str| node[name].as_str().unwrap_or("-").to_owned();
    let mut line = text("provision_state");
    for name in ["clean_step", "deploy_step", "service_step"] {
        if let (Some(interface), Some(step)) = (node[name]["interface"].as_str(), node[name]["step"].as_str()) {
            let _ = write!(line, ", step {interface}.{step}");
        }
    }
    let _ = write!(line, ", {}", text("power_state"));
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{describe, may_hang};

    #[test]
    fn a_guest_at_a_step_is_left_alone_and_one_that_only_boots_may_hang() {
        let at = |field: &str, step: &str| {
            let (interface, step) = step.split_once('.').unwrap_or_default();
            may_hang(&describe(&json!({"provision_state": "x wait", field: {"interface": interface, "step": step}})))
        };
        assert!(may_hang(&describe(&json!({"provision_state": "inspect wait", "power_state": "power on"}))));
        assert!(at("deploy_step", "deploy.deploy"), "the core step boots the ramdisk");
        assert!(!at("clean_step", "deploy.erase_devices"));
        assert!(!at("deploy_step", "deploy.write_image"));
    }
}
