//! Answers IPv6 router solicitations with an advertisement that configures nothing.
//!
//! iPXE has IPv6 built in and waits about 13 s for a router before it goes on with what DHCPv4 gave it; an answer with
//! router lifetime 0 and neither the managed nor the other flag ends the wait (RFC 4861 section 6.2.3). No machine
//! gets a route, a prefix or an address from this.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::mac::MacAddr;
use crate::net::{self, SocketError};

/// A router solicitation that may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// Hardware address that the sender names (source link-layer address option).
    pub source: Option<MacAddr>,
}

/// Reads a router solicitation (ICMPv6 message, type first). RFC 4861 section 6.1.1: `None` for anything malformed.
pub fn decode_solicitation(message: &[u8]) -> Option<Solicitation> {
    let [133, 0, _, _, _, _, _, _, options @ ..] = message else {
        return None;
    };
    let mut options = options;
    let mut source = None;
    while let [kind, units, ..] = options {
        let length = usize::from(*units) * 8;
        if length == 0 {
            return None;
        }
        let (option, rest) = options.split_at_checked(length)?;
        if *kind == 1
            && let [1, 1, mac @ ..] = option
        {
            source = mac.try_into().ok().map(MacAddr);
        }
        options = rest;
    }
    options.is_empty().then_some(Solicitation { source })
}

/// The advertisement. The kernel fills in the checksum.
pub fn encode_advertisement(own: Option<MacAddr>) -> Vec<u8> {
    // Type 134, code, checksum; hop limit 0 = unspecified; no flags; router lifetime 0 = not a default router; reachable
    // and retransmission times 0 = unspecified.
    let mut message = vec![134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(mac) = own {
        message.extend([1, 1]);
        message.extend(mac.0);
    }
    message
}

/// The responder of one interface.
pub struct RaService {
    interface: String,
    socket: UdpSocket,
    own: Option<MacAddr>,
}

/// An advertisement to all nodes is sent at most this often (RFC 4861 section 10: MIN_DELAY_BETWEEN_RAS).
const MULTICAST_PAUSE: Duration = Duration::from_secs(3);

impl RaService {
    /// Opens the raw socket. Needs CAP_NET_RAW, IPv6 on the interface, and a tokio runtime.
    pub fn bind(interface: &str) -> Result<Self, SocketError> {
        let socket = net::bind_router_socket(interface)
            .map_err(|error| SocketError::new(format!("ICMPv6 (router advertisements) on interface {interface}"), error))?;
        Ok(Self { interface: interface.to_owned(), socket, own: net::interface_mac(interface) })
    }

    /// Answers until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let advertisement = encode_advertisement(self.own);
        let mut last_multicast: Option<Instant> = None;
        let mut buffer = [0; 1500];
        loop {
            let received = tokio::select! {
                () = cancel.cancelled() => return,
                received = net::recv_icmp6(&self.socket, &mut buffer) => received,
            };
            let (length, from, hops) = match received {
                Ok(received) => received,
                Err(error) => {
                    warn!(interface = self.interface, %error, "ra: cannot receive");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            // 255 proves that no router forwarded it.
            if hops != 255 || decode_solicitation(buffer.get(..length).unwrap_or_default()).is_none() {
                continue;
            }
            let to = if from.ip().is_unspecified() {
                let now = Instant::now();
                if last_multicast.is_some_and(|last| now.duration_since(last) < MULTICAST_PAUSE) {
                    continue;
                }
                last_multicast = Some(now);
                SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, from.scope_id())
            } else {
                from
            };
            match self.socket.try_send_to(&advertisement, to.into()) {
                Ok(_) => debug!(interface = self.interface, %to, "ra: advertised"),
                // The client asks again; an interface without a link-local address yet is the usual reason.
                Err(error) => debug!(interface = self.interface, %to, %error, "ra: not sent"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipxe_s_solicitation_is_understood() {
        let message = [133, 0, 0xd9, 0x2f, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xaa, 0, 1];
        assert_eq!(decode_solicitation(&message), Some(Solicitation { source: Some(MacAddr([0x52, 0x54, 0, 0xaa, 0, 1])) }));
        assert_eq!(decode_solicitation(&message[..8]), Some(Solicitation { source: None }));
    }

    #[test]
    fn malformed_solicitations_are_not_answered() {
        assert_eq!(decode_solicitation(&[]), None);
        assert_eq!(decode_solicitation(&[133, 0, 0, 0]), None);
        assert_eq!(decode_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(decode_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0]), None, "an option of length 0");
        assert_eq!(decode_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0]), None);
    }

    #[test]
    fn an_advertisement_configures_nothing() {
        let message = encode_advertisement(Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!(message.len(), 24);
        assert_eq!(message[5], 0, "neither managed nor other");
        assert_eq!(message[6..8], [0, 0], "not a default router");
    }
}
