//! Whose address asks: the lease in full mode, the neighbour table besides.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{DhcpMode, NetworkConfig};
use crate::mac::MacAddr;
use crate::net;
use crate::source::{BootSource, SourceError};

/// The network that an address belongs to.
pub fn network_of(networks: &[NetworkConfig], peer: IpAddr) -> Option<(&NetworkConfig, Ipv4Addr)> {
    let addr = match peer {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(addr) => addr.to_ipv4_mapped()?,
    };
    networks.iter().find(|network| network.subnet.contains(addr)).map(|network| (network, addr))
}

/// The machine behind an address of this network; none if that cannot be known.
///
/// Where this daemon gives the addresses, the lease says it; a neighbour entry of the kernel for this very connection
/// that names another hardware address wins, so that taking over a machine's IP address by hand is not enough. Beside
/// somebody else's DHCP server the neighbour entry is all there is.
pub async fn machine_at(source: &dyn BootSource, network: &NetworkConfig, addr: Ipv4Addr) -> Result<Option<MacAddr>, SourceError> {
    let seen = if network.relayed { None } else { net::neighbour(&network.interface, addr) };
    match network.mode {
        DhcpMode::Full => {
            let leased = source.mac_of(&network.name, addr).await?;
            Ok(match (leased, seen) {
                (Some(_), Some(seen)) => Some(seen),
                (leased, _) => leased,
            })
        }
        DhcpMode::Proxy | DhcpMode::Off => Ok(seen),
    }
}
