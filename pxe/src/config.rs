//! Settings of the boot services, as they stand in the daemon's configuration file.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Everything that the boot services are told at start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootConfig {
    /// The networks to serve. Several may share an interface if all but one of them are reached through a relay.
    pub networks: Vec<NetworkConfig>,
    /// TCP port of the HTTP boot service on each network's server address. Default 8088.
    pub http_port: u16,
    /// UDP port of the TFTP service. Default 69; firmware asks no other.
    pub tftp_port: u16,
    /// Folders searched in this order for boot programs (`snponly.efi`, `undionly.kpxe`…), by TFTP and by HTTP.
    /// Default `/usr/lib/ipxe`. Links inside are followed: the folders are the operator's.
    pub program_dirs: Vec<PathBuf>,
    /// Most TFTP transfers at once; requests beyond are dropped (the client asks again). Default 1024.
    pub tftp_transfers: usize,
    /// Most HTTP connections at once; more wait in the kernel's queue. Default 1024.
    pub http_connections: usize,
    /// Largest TFTP block in bytes that is granted. Default 1468: one Ethernet frame.
    pub tftp_block_bytes: u16,
    /// Most TFTP blocks in flight (RFC 7440). Default 64.
    pub tftp_window_blocks: u16,
}

impl Default for BootConfig {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            http_port: 8088,
            tftp_port: 69,
            program_dirs: vec![PathBuf::from("/usr/lib/ipxe")],
            tftp_transfers: 1024,
            http_connections: 1024,
            tftp_block_bytes: 1468,
            tftp_window_blocks: 64,
        }
    }
}

/// One network on which machines boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Name, as leases are filed under it. Never change it while leases exist.
    pub name: String,
    /// Interface on which its packets arrive.
    pub interface: String,
    /// Address of this daemon that the machines use; it must be on the interface.
    pub server: Ipv4Addr,
    /// Network and prefix length, for example `172.30.0.0/24`.
    pub subnet: Subnet,
    /// Whether this daemon gives the addresses or only the boot information. Default `full`.
    #[serde(default)]
    pub mode: DhcpMode,
    /// Addresses to hand out, `FIRST-LAST`. Without it only reserved addresses are given.
    #[serde(default)]
    pub range: Option<AddressRange>,
    /// Default gateway to tell. None: none is told.
    #[serde(default)]
    pub router: Option<Ipv4Addr>,
    /// Name servers to tell. Default none.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// Domain name to tell. Default none.
    #[serde(default)]
    pub domain: Option<String>,
    /// Time servers to tell (a ramdisk without a clock battery wants them). Default none.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// Interface MTU in bytes to tell. Default none.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Life of a lease in seconds. Default 600.
    #[serde(default = "default_lease_secs")]
    pub lease_secs: u32,
    /// How long an offer is held for its client, in seconds. Default 60: firmware collects offers for seconds.
    #[serde(default = "default_offer_secs")]
    pub offer_secs: u32,
    /// The machines are behind a DHCP relay, not on the interface's own link. Default false.
    #[serde(default)]
    pub relayed: bool,
    /// Answer IPv6 router solicitations (with nothing to configure) so that iPXE need not wait for its IPv6 time-out.
    /// Default true; has no effect on a relayed network.
    #[serde(default = "default_true")]
    pub router_advertisements: bool,
}

fn default_lease_secs() -> u32 {
    600
}

fn default_offer_secs() -> u32 {
    60
}

fn default_true() -> bool {
    true
}

/// Who gives addresses on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpMode {
    /// This daemon: addresses and boot information.
    #[default]
    Full,
    /// Somebody else's server; this daemon adds boot information on ports 67 and 4011 (PXE 2.1 proxyDHCP).
    Proxy,
    /// Somebody else does all of DHCP, boot information included; only TFTP and HTTP are served.
    Off,
}

/// An IPv4 network with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// The text is not an IPv4 network such as `172.30.0.0/24`, or not a range such as `172.30.0.100-172.30.0.199`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressTextError {
    /// Not a network.
    #[error("{0:?} is not an IPv4 network; write it like 172.30.0.0/24")]
    Subnet(String),
    /// Not a range.
    #[error("{0:?} is not a range of IPv4 addresses; write it like 172.30.0.100-172.30.0.199, first not after last")]
    Range(String),
}

impl Subnet {
    /// The network that contains `addr`; a prefix above 30 leaves no room for a server and a client.
    pub fn new(addr: Ipv4Addr, prefix: u8) -> Option<Self> {
        if !(1..=30).contains(&prefix) {
            return None;
        }
        let mask = u32::MAX << (32 - u32::from(prefix));
        Some(Self { network: Ipv4Addr::from(u32::from(addr) & mask), prefix })
    }

    /// The subnet mask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX << (32 - u32::from(self.prefix)))
    }

    /// The directed broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !u32::from(self.mask()))
    }

    /// Whether the address lies in the network.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        u32::from(addr) & u32::from(self.mask()) == u32::from(self.network)
    }

    /// Whether the address can be a host's: in the network, neither its first nor its last address.
    pub fn is_host(&self, addr: Ipv4Addr) -> bool {
        self.contains(addr) && addr != self.network && addr != self.broadcast()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = AddressTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressTextError::Subnet(text.to_owned());
        let (addr, prefix) = text.split_once('/').ok_or_else(error)?;
        Self::new(addr.parse().map_err(|_| error())?, prefix.parse().map_err(|_| error())?).ok_or_else(error)
    }
}

/// First and last address of a pool, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl AddressRange {
    /// None if the first comes after the last.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The first address.
    pub fn first(&self) -> Ipv4Addr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> Ipv4Addr {
        self.last
    }

    /// Whether the address lies in the range.
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&addr)
    }

    /// All addresses in order.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = AddressTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || AddressTextError::Range(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(error)?;
        Self::new(first.trim().parse().map_err(|_| error())?, last.trim().parse().map_err(|_| error())?).ok_or_else(error)
    }
}

macro_rules! serde_by_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_by_text!(Subnet);
serde_by_text!(AddressRange);

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Two networks of one name.
    #[error("boot network {0:?} is configured twice; leases are filed by name, so each needs its own")]
    DuplicateName(String),
    /// An address of a network is outside it.
    #[error("boot network {network:?}: {what} {addr} is not a host address of {subnet}")]
    Outside {
        /// The network.
        network: String,
        /// Which setting.
        what: &'static str,
        /// Its value.
        addr: Ipv4Addr,
        /// The network's addresses.
        subnet: Subnet,
    },
    /// The pool would hand out our own address.
    #[error("boot network {network:?}: range {range} contains the server's own address {server}")]
    ServerInRange {
        /// The network.
        network: String,
        /// The pool.
        range: AddressRange,
        /// The server.
        server: Ipv4Addr,
    },
    /// Two networks claim the same link.
    #[error(
        "boot networks {first:?} and {second:?} are both directly on interface {interface}; set relayed = true for the one behind a relay"
    )]
    TwoOnLink {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The interface.
        interface: String,
    },
    /// A name is empty or a duration is zero.
    #[error("boot network {network:?}: {what}")]
    Invalid {
        /// The network.
        network: String,
        /// What is wrong and what to write instead.
        what: &'static str,
    },
}

impl BootConfig {
    /// Checks what the types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (index, network) in self.networks.iter().enumerate() {
            network.check()?;
            for other in self.networks.iter().take(index) {
                if other.name == network.name {
                    return Err(ConfigError::DuplicateName(network.name.clone()));
                }
                if other.interface == network.interface && !other.relayed && !network.relayed {
                    return Err(ConfigError::TwoOnLink {
                        first: other.name.clone(),
                        second: network.name.clone(),
                        interface: network.interface.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl NetworkConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |what| ConfigError::Invalid { network: self.name.clone(), what };
        if self.name.is_empty() {
            return Err(invalid("the name is empty; give each network one"));
        }
        if self.interface.is_empty() || self.interface.len() > 15 || self.interface.contains('/') {
            return Err(invalid("the interface is not an interface name of 1 to 15 bytes"));
        }
        if self.lease_secs < 60 {
            return Err(invalid("lease_secs is below 60: firmware would lose its address while it loads"));
        }
        if self.offer_secs < 10 {
            return Err(invalid("offer_secs is below 10: firmware collects offers for seconds before it answers"));
        }
        let outside = |what, addr| ConfigError::Outside { network: self.name.clone(), what, addr, subnet: self.subnet };
        // The server of a relayed network is on the link of the relay's choice, not in the machines' network.
        if !self.relayed && !self.subnet.is_host(self.server) {
            return Err(outside("server", self.server));
        }
        if let Some(router) = self.router.filter(|router| !self.subnet.is_host(*router)) {
            return Err(outside("router", router));
        }
        if let Some(range) = self.range {
            for (what, addr) in [("first of range", range.first), ("last of range", range.last)] {
                if !self.subnet.is_host(addr) {
                    return Err(outside(what, addr));
                }
            }
            if range.contains(self.server) {
                return Err(ConfigError::ServerInRange { network: self.name.clone(), range, server: self.server });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NetworkConfig {
        serde_json::from_str(
            r#"{"name":"prov","interface":"br0","server":"172.30.0.1","subnet":"172.30.0.0/24","range":"172.30.0.100-172.30.0.199"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_short_network_gets_the_documented_defaults() {
        let network = network();
        assert_eq!(network.mode, DhcpMode::Full);
        assert_eq!((network.lease_secs, network.offer_secs), (600, 60));
        assert!(network.router_advertisements && !network.relayed);
        assert_eq!(network.subnet.mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(network.subnet.broadcast(), Ipv4Addr::new(172, 30, 0, 255));
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(serde_json::from_str::<BootConfig>(r#"{"http_prot":80}"#).is_err());
    }

    #[test]
    fn addresses_outside_their_network_are_refused() {
        let mut config = BootConfig { networks: vec![network()], ..BootConfig::default() };
        assert_eq!(config.check(), Ok(()));
        config.networks[0].range = AddressRange::new(Ipv4Addr::new(172, 30, 0, 1), Ipv4Addr::new(172, 30, 0, 9));
        assert!(matches!(config.check(), Err(ConfigError::ServerInRange { .. })));
        config.networks[0].range = AddressRange::new(Ipv4Addr::new(172, 30, 0, 9), Ipv4Addr::new(172, 30, 0, 255));
        assert!(matches!(config.check(), Err(ConfigError::Outside { .. })));
    }

    #[test]
    fn two_networks_on_one_link_are_refused_unless_one_is_relayed() {
        let mut second = network();
        second.name = "other".into();
        let mut config = BootConfig { networks: vec![network(), second], ..BootConfig::default() };
        assert!(matches!(config.check(), Err(ConfigError::TwoOnLink { .. })));
        config.networks[1].relayed = true;
        assert_eq!(config.check(), Ok(()));
    }
}
