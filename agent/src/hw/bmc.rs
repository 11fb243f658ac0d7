//! The BMC's own addresses, asked in band over `/dev/ipmi0` (IPMI 2.0, table 23-4).
//!
//! Only reads; never changes a setting of the BMC. A BMC that does not answer costs a second per question.

use ipmi_rs::connection::Channel;
use ipmi_rs::transport::{GetLanConfigParameters, LanConfigParameter};
use ipmi_rs::{File, Ipmi};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Longest search in all.
const SEARCH: Duration = Duration::from_secs(8);
/// LAN channels a BMC can have (IPMI 2.0, table 6-1).
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=11;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bmc {
    /// IPv4 address.
    pub address: Option<String>,
    /// IPv6 address.
    pub v6_address: Option<String>,
    /// MAC.
    pub mac: Option<String>,
}

/// Asks the BMC behind `device`; empty when there is none.
pub fn find(device: &Path) -> Bmc {
    let mut bmc = Bmc::default();
    if !device.exists() {
        return bmc;
    }
    let file = match File::new(device, ANSWER) {
        Ok(file) => file,
        Err(e) => {
            tracing::warn!("{}: {e}", device.display());
            return bmc;
        }
    };
    let mut ipmi = Ipmi::new(file);
    let deadline = Instant::now() + SEARCH;
    for number in CHANNELS {
        let Some(channel) = Channel::new(number) else { continue };
        let mut ask = |parameter: LanConfigParameter, set: u8| {
            if Instant::now() > deadline {
                return None;
            }
            let request = GetLanConfigParameters::new(channel, parameter).with_set_selector(set);
            ipmi.send_recv(request).ok().map(|answer| answer.data)
        };
        let Some(address) = ask(LanConfigParameter::IpAddress, 0) else { continue };
        if bmc.address.is_none() {
            bmc.address = ipv4(&address);
            if bmc.address.is_some() {
                bmc.mac = ask(LanConfigParameter::MacAddress, 0).as_deref().and_then(mac);
            }
        }
        if bmc.v6_address.is_none() {
            // Static address 0 and dynamic address 0: the first that is in use.
            bmc.v6_address = [LanConfigParameter::Ipv6StaticAddresses, LanConfigParameter::Ipv6DynamicAddress]
                .into_iter()
                .find_map(|parameter| ask(parameter, 0).as_deref().and_then(ipv6));
        }
        if bmc.address.is_some() {
            break;
        }
    }
    bmc
}

fn ipv4(data: &[u8]) -> Option<String> {
    let octets: [u8; 4] = data.get(..4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets)).filter(|ip| !ip.is_unspecified() && !ip.is_broadcast()).map(|ip| ip.to_string())
}

fn mac(data: &[u8]) -> Option<String> {
    let octets = data.get(..6)?;
    let text = octets.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
    octets.iter().any(|b| *b != 0).then_some(text)
}

/// Set selector, source, 16 bytes of address, prefix length, status (0: active).
fn ipv6(data: &[u8]) -> Option<String> {
    let octets: [u8; 16] = data.get(2..18)?.try_into().ok()?;
    let active = data.get(19).is_none_or(|status| *status == 0);
    Some(Ipv6Addr::from(octets)).filter(|ip| active && !ip.is_unspecified()).map(|ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_bmc_is_not_asked() {
        assert_eq!(find(Path::new("/nonexistent/ipmi0")), Bmc::default());
    }

    #[test]
    fn unset_addresses_are_no_addresses() {
        assert_eq!(ipv4(&[192, 0, 2, 9]).as_deref(), Some("192.0.2.9"));
        assert_eq!(ipv4(&[0, 0, 0, 0]), None);
        assert_eq!(ipv4(&[1, 2]), None);
        assert_eq!(mac(&[0x52, 0x54, 0, 1, 2, 0xff]).as_deref(), Some("52:54:00:01:02:ff"));
        assert_eq!(mac(&[0; 6]), None);
        let mut v6 = vec![0, 0x80];
        v6.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5).octets());
        v6.extend([64, 0]);
        assert_eq!(ipv6(&v6).as_deref(), Some("fd00::5"));
        assert_eq!(ipv6(&[0; 20]), None);
        assert_eq!(ipv6(&[0; 5]), None);
    }
}
