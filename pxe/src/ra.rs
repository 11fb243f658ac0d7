//! Answers IPv6 router solicitations with an advertisement that configures nothing.
//!
//! iPXE has IPv6 built in and waits about 13 s for a router before it goes on with what DHCPv4 gave it; an answer with
//! router lifetime 0 and neither the managed nor the other flag ends the wait (RFC 4861 section 6.2.3). No machine
//! gets a route, a prefix or an address from this, and strangers are not answered at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::mac::MacAddr;
use crate::net::{self, SocketError};
use crate::source::BootSource;

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
    source: Arc<dyn BootSource>,
}

/// How long the store may take to say who solicits; the client solicits again after 4 s.
const SOURCE_PATIENCE: Duration = Duration::from_secs(1);

impl RaService {
    /// Opens the raw socket. Needs CAP_NET_RAW, IPv6 on the interface, and a tokio runtime.
    pub fn bind(interface: &str, source: Arc<dyn BootSource>) -> Result<Self, SocketError> {
        let socket = net::bind_router_socket(interface)
            .map_err(|error| SocketError::new(format!("ICMPv6 (router advertisements) on interface {interface}"), error))?;
        Ok(Self { interface: interface.to_owned(), socket, own: net::interface_mac(interface), source })
    }

    /// Answers until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let advertisement = encode_advertisement(self.own);
        let mut buffer = [0; 1500];
        loop {
            let received = tokio::select! {
                () = cancel.cancelled() => return,
                received = net::recv_icmp6(&self.socket, &mut buffer) => received,
            };
            let (length, to, hops) = match received {
                Ok(received) => received,
                Err(error) => {
                    warn!(interface = self.interface, %error, "ra: cannot receive");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            // 255 proves that no router forwarded it.
            let solicitation = decode_solicitation(buffer.get(..length).unwrap_or_default()).filter(|_| hops == 255);
            // Without a hardware address in it (or from no address yet) nobody knows who asks; iPXE says both.
            let Some(mac) = solicitation.and_then(|solicitation| solicitation.source) else { continue };
            if to.ip().is_unspecified() || !self.is_ours(mac).await {
                continue;
            }
            match self.socket.try_send_to(&advertisement, to.into()) {
                Ok(_) => debug!(interface = self.interface, %to, "ra: advertised"),
                // The client asks again; an interface without a link-local address yet is the usual reason.
                Err(error) => debug!(interface = self.interface, %to, %error, "ra: not sent"),
            }
        }
    }

    async fn is_ours(&self, mac: MacAddr) -> bool {
        match tokio::time::timeout(SOURCE_PATIENCE, self.source.machine(mac, None)).await {
            Ok(Ok(machine)) => machine.is_some(),
            Ok(Err(error)) => {
                debug!(%mac, %error, "ra: not answered");
                false
            }
            Err(_) => false,
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
