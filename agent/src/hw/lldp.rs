//! Which switch port each card is plugged into (IEEE 802.1AB): listens, never speaks.
//!
//! Frames are a stranger's: every length is checked, and at most one frame per card is kept.

use crate::net::Card;
use crate::netlink::Netlink;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const ETHERTYPE: [u8; 2] = [0x88, 0xcc];
/// Most type-length-values of one frame.
const MAX_TLVS: usize = 256;

/// Type and value in hexadecimal, as the inventory has them.
pub type Tlvs = Vec<(u8, String)>;

/// Listens on all cards at once for at most `patience`; ends early when every card has heard a switch. Blocking.
pub fn listen(cards: &[Card], patience: Duration) -> BTreeMap<String, Tlvs> {
    let mut heard = BTreeMap::new();
    if cards.is_empty() || patience.is_zero() {
        return heard;
    }
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .and_then(|fd| setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(250)).map(|()| fd));
    let fd = match opened {
        Ok(fd) => fd,
        Err(e) => {
            tracing::warn!("LLDP cannot be heard: {e}");
            return heard;
        }
    };
    // LLDP goes to a group address that cards filter out.
    all_multicast(cards, true);
    let deadline = Instant::now() + patience;
    let mut frame = vec![0; 9216];
    while Instant::now() < deadline && heard.len() < cards.len() {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut frame) else { continue };
        let Some(card) = cards.iter().find(|card| usize::try_from(card.index).ok() == Some(from.ifindex())) else { continue };
        if let Some(tlvs) = frame.get(..length).and_then(decode) {
            heard.insert(card.name.clone(), tlvs);
        }
    }
    all_multicast(cards, false);
    heard
}

fn all_multicast(cards: &[Card], on: bool) {
    match Netlink::open() {
        Ok(mut netlink) => {
            for card in cards {
                if let Err(e) = netlink.set_all_multicast(card.index, on) {
                    tracing::debug!("{}: {e}", card.name);
                }
            }
        }
        Err(e) => tracing::debug!("netlink: {e}"),
    }
}

/// The type-length-values of an LLDP frame; none when it is another kind of frame.
pub fn decode(frame: &[u8]) -> Option<Tlvs> {
    let mut rest = match frame.get(12..14)? {
        // One VLAN tag may stand before the type.
        [0x81, 0x00] if frame.get(16..18)? == ETHERTYPE => frame.get(18..)?,
        kind if kind == ETHERTYPE => frame.get(14..)?,
        _ => return None,
    };
    let mut tlvs = Vec::new();
    while let (Some(&high), Some(&low)) = (rest.first(), rest.get(1)) {
        let kind = high >> 1;
        let length = usize::from(high & 1) << 8 | usize::from(low);
        let Some(value) = rest.get(2..2 + length) else { break };
        if kind == 0 || tlvs.len() == MAX_TLVS {
            break;
        }
        tlvs.push((kind, hex::encode(value)));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    (!tlvs.is_empty()).then_some(tlvs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut f = vec![1, 0x80, 0xc2, 0, 0, 0x0e, 0x52, 0x54, 0, 0, 0, 1, 0x88, 0xcc];
        f.extend([2, 7, 4, 0x52, 0x54, 0, 0, 0, 1]); // chassis: MAC
        f.extend([4, 5, 5, b's', b'w', b'p', b'1']); // port: interface name
        f.extend([6, 2, 0, 120]); // time to live
        f.extend([0, 0, 9, 9, 9]);
        f
    }

    #[test]
    fn values_end_at_the_end_marker() {
        assert_eq!(decode(&frame()), Some(vec![(1, "04525400000001".into()), (2, "0573777031".into()), (3, "0078".into())]));
    }

    #[test]
    fn other_and_damaged_frames_are_harmless() {
        let full = frame();
        for length in 0..full.len() {
            drop(decode(&full[..length]));
        }
        let mut other = full.clone();
        other[12] = 8;
        assert_eq!(decode(&other), None);
    }

    proptest::proptest! {
        #[test]
        fn no_frame_makes_the_agent_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            drop(decode(&bytes));
            drop(decode(&[&frame()[..14], &bytes[..]].concat()));
        }
    }
}
