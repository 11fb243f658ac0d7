//! Somebody else's DHCP server on the lab's bridge: BusyBox's, on a host of its own, which knows nothing of booting.
//!
//! Beside it our daemon may only tell boot files (proxy-DHCP): [`Foreign::check`] reads that off the daemon's log.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::enter::Lab;
use crate::netns::BRIDGE;
use crate::tool::{Guarded, command, run};

const LIMIT: Duration = Duration::from_secs(20);
const SERVER: &str = "172.30.0.3";
const PREFIX: &str = "172.30.0.";
/// The last numbers of the addresses that it gives; ours gives others.
const RANGE: std::ops::RangeInclusive<u8> = 150..=159;

/// The running server.
#[derive(Debug)]
pub struct Foreign(Guarded);

impl Foreign {
    /// Starts it in a network namespace that hangs on the bridge.
    pub fn start(lab: &Lab) -> Result<Self> {
        for line in [
            "netns add foreign".to_owned(),
            "link add v0 type veth peer name v1 netns foreign".to_owned(),
            format!("link set v0 master {BRIDGE} up"),
            format!("-n foreign addr add {SERVER}/24 dev v1"),
            "-n foreign link set v1 up".to_owned(),
        ] {
            run(command("ip").args(line.split(' ')), LIMIT)?;
        }
        let dir = lab.dir("foreign")?;
        let (config, leases) = (dir.join("udhcpd.conf"), dir.join("leases"));
        std::fs::write(&leases, "")?;
        let text = format!(
            "interface v1\nstart {PREFIX}{}\nend {PREFIX}{}\nmax_leases 10\nlease_file {}\npidfile {}\n\
             option subnet 255.255.255.0\noption router {SERVER}\noption lease 3600\n",
            RANGE.start(),
            RANGE.end(),
            leases.display(),
            dir.join("pid").display(),
        );
        std::fs::write(&config, text)?;
        let mut server = command("ip");
        server.args(["netns", "exec", "foreign", "busybox", "udhcpd", "-f"]).arg(&config);
        Ok(Self(Guarded::start(&mut server, &lab.log("foreign.log")?)?))
    }

    /// That the machine of this MAC had its addresses from here, and its boot files from our daemon, whose log this is.
    pub fn check(&mut self, log: &Path, mac: &str, inventory: &Value) -> Result<()> {
        ensure!(self.0.alive(), "the foreign DHCP server ended by itself");
        let cards = inventory["interfaces"].as_array().into_iter().flatten();
        let addresses: Vec<&str> = cards.filter_map(|card| card["ipv4_address"].as_str()).collect();
        ensure!(addresses.iter().any(|a| is_foreign(a)), "the agent's addresses {addresses:?} are not the foreign server's");

        let log = std::fs::read_to_string(log)?;
        let of_machine: Vec<&str> = log.lines().filter(|line| line.contains(mac)).collect();
        let answers: Vec<&&str> = of_machine.iter().filter(|line| line.contains("dhcp: offer") || line.contains("dhcp: ack")).collect();
        ensure!(!answers.is_empty(), "our daemon answered no DHCP packet of {mac}");
        if let Some(wrong) = answers.iter().find(|line| !line.contains("addr=0.0.0.0")) {
            bail!("our daemon gave an address of its own: {wrong}");
        }
        let scripts: Vec<&&str> = of_machine.iter().filter(|line| line.contains("http: boot script")).collect();
        let from_here = |line: &str| RANGE.clone().any(|last| line.contains(&format!("peer={PREFIX}{last}:")));
        ensure!(scripts.iter().any(|line| from_here(line)), "no boot script went to an address of the foreign server: {scripts:?}");
        Ok(())
    }
}

fn is_foreign(address: &str) -> bool {
    address.strip_prefix(PREFIX).and_then(|last| last.parse().ok()).is_some_and(|last| RANGE.contains(&last))
}
