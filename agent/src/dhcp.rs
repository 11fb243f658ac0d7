//! DHCPv4 messages of a client (RFC 2131, RFC 2132, RFC 3442): encoding, and decoding of hostile replies.
//!
//! The client id is the MAC, as firmware sends it, so that the lease is the one the firmware had.
//! This module does no I/O; [`crate::net`] drives it.

use std::net::Ipv4Addr;
use std::time::Duration;

const MAGIC: [u8; 4] = [99, 130, 83, 99];
const FIXED: usize = 236;
/// Most routes that are taken from one lease.
const MAX_ROUTES: usize = 64;

/// Kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A server offers an address.
    Offer,
    /// The address is ours.
    Ack,
    /// The address is refused.
    Nak,
}

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Length of the network prefix.
    pub prefix: u8,
    /// Default router; none when classless routes are given.
    pub router: Option<Ipv4Addr>,
    /// Classless static routes: destination, prefix, gateway (unspecified: on the link).
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Domain name, letters, digits, dots and dashes only.
    pub domain: Option<String>,
    /// MTU of the link.
    pub mtu: Option<u16>,
    /// Which server it was.
    pub server: Ipv4Addr,
    /// How long the address is ours.
    pub lease: Duration,
    /// When to ask the same server again.
    pub renew: Duration,
    /// When to ask any server.
    pub rebind: Duration,
}

/// What a client message asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// Who has an address for me?
    Discover,
    /// I take this offer.
    Request(&'a Lease),
    /// I keep the address that I use.
    Renew(&'a Lease),
}

/// Encodes a client message. `secs` counts since the first discover.
pub fn encode(ask: Ask<'_>, xid: u32, secs: u16, mac: [u8; 6]) -> Vec<u8> {
    let mut m = vec![0; FIXED];
    m.splice(0..4, [1, 1, 6, 0]);
    m.splice(4..8, xid.to_be_bytes());
    m.splice(8..10, secs.to_be_bytes());
    if let Ask::Renew(lease) = ask {
        m.splice(12..16, lease.address.octets());
    } else {
        // We have no address yet: ask for a broadcast answer, a plain socket cannot hear any other.
        m.splice(10..12, [0x80, 0]);
    }
    m.splice(28..34, mac);
    m.extend(MAGIC);
    let kind = if matches!(ask, Ask::Discover) { 1 } else { 3 };
    m.extend([53, 1, kind]);
    m.extend([61, 7, 1]);
    m.extend(mac);
    m.extend([57, 2, 5, 192]); // 1472 bytes fit
    if let Ask::Request(lease) = ask {
        m.extend([50, 4]);
        m.extend(lease.address.octets());
        m.extend([54, 4]);
        m.extend(lease.server.octets());
    }
    m.extend([55, 9, 1, 3, 6, 15, 26, 51, 58, 59, 121]);
    m.push(255);
    // Some relays drop messages shorter than a BOOTP message (RFC 951: 300 bytes).
    m.resize(m.len().max(300), 0);
    m
}

/// Decodes a reply to `(xid, mac)`. Anything else, or anything malformed, is none.
pub fn decode(m: &[u8], xid: u32, mac: [u8; 6]) -> Option<(Reply, Lease)> {
    let good = m.first() == Some(&2) && m.get(4..8)? == xid.to_be_bytes() && m.get(28..34)? == mac && m.get(FIXED..FIXED + 4)? == MAGIC;
    if !good {
        return None;
    }
    let options = Options(m.get(FIXED + 4..)?);
    let reply = match options.get(53).as_deref() {
        Some([2]) => Reply::Offer,
        Some([5]) => Reply::Ack,
        Some([6]) => Reply::Nak,
        _ => return None,
    };
    let address = ipv4(m.get(16..20)?)?;
    let prefix = match options.get(1) {
        Some(mask) => {
            let mask = u32::from(ipv4(&mask)?);
            // A mask with holes is no mask.
            (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones())?
        }
        None => 24,
    };
    let usable = !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback());
    if reply != Reply::Nak && !usable {
        return None;
    }
    let seconds = |code| options.get(code).and_then(|v| Some(u32::from_be_bytes(v.as_slice().try_into().ok()?)));
    // A server that names no time means for ever; one that names seconds is not asked more often than each minute.
    let lease = seconds(51).unwrap_or(u32::MAX).max(60);
    let renew = seconds(58).filter(|t| *t < lease).unwrap_or(lease / 2).max(30);
    let rebind = seconds(59).filter(|t| (renew..lease).contains(t)).unwrap_or(lease - lease / 8).max(renew);
    let routes = options.get(121).map(|v| classless(&v)).unwrap_or_default();
    let router = options.get(3).and_then(|v| ipv4(v.get(..4)?)).filter(|_| routes.is_empty());
    Some((
        reply,
        Lease {
            address,
            prefix: u8::try_from(prefix).ok()?,
            router,
            routes,
            dns: options.get(6).map(|v| v.chunks_exact(4).take(3).filter_map(ipv4).collect()).unwrap_or_default(),
            domain: options.get(15).and_then(|v| domain(&v)),
            mtu: options.get(26).and_then(|v| Some(u16::from_be_bytes(v.as_slice().try_into().ok()?))).filter(|mtu| *mtu >= 576),
            server: options.get(54).and_then(|v| ipv4(&v)).unwrap_or(Ipv4Addr::UNSPECIFIED),
            lease: Duration::from_secs(lease.into()),
            renew: Duration::from_secs(renew.into()),
            rebind: Duration::from_secs(rebind.into()),
        },
    ))
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn domain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    good.then(|| text.to_owned())
}

/// Classless routes (RFC 3442). Stops at the first malformed one.
fn classless(mut bytes: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        if prefix > 32 || routes.len() == MAX_ROUTES {
            break;
        }
        let significant = usize::from(prefix.div_ceil(8));
        let (Some(head), Some(gateway)) = (rest.get(..significant), rest.get(significant..significant + 4).and_then(ipv4)) else {
            break;
        };
        let mut octets = [0; 4];
        octets.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
        routes.push((Ipv4Addr::from(octets), prefix, gateway));
        bytes = rest.get(significant + 4..).unwrap_or_default();
    }
    routes
}

/// The option area of a message.
struct Options<'a>(&'a [u8]);

impl Options<'_> {
    /// All parts of an option joined (RFC 3396). Malformed rest of the area is left out.
    fn get(&self, wanted: u8) -> Option<Vec<u8>> {
        let mut found: Option<Vec<u8>> = None;
        let mut rest = self.0;
        while let Some((&code, after)) = rest.split_first() {
            match code {
                0 => rest = after,
                255 => break,
                _ => {
                    let Some((&length, body)) = after.split_first() else { break };
                    let Some(value) = body.get(..length.into()) else { break };
                    if code == wanted {
                        found.get_or_insert_default().extend(value);
                    }
                    rest = body.get(length.into()..).unwrap_or_default();
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 1];

    fn reply(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut m = vec![0; FIXED];
        m[0] = 2;
        m[4..8].copy_from_slice(&7_u32.to_be_bytes());
        m[16..20].copy_from_slice(&[172, 30, 0, 9]);
        m[28..34].copy_from_slice(&MAC);
        m.extend(MAGIC);
        m.extend([53, 1, kind]);
        m.extend(options);
        m.push(255);
        m
    }

    #[test]
    fn the_client_id_is_the_mac_as_firmware_sends_it() {
        let m = encode(Ask::Discover, 1, 0, MAC);
        let id = Options(&m[FIXED + 4..]).get(61).unwrap();
        assert_eq!(id, [1, 0x52, 0x54, 0, 0xaa, 0, 1]);
        assert!(m.len() >= 300);
        assert_eq!(m[10], 0x80, "a client without an address asks for a broadcast answer");
    }

    #[test]
    fn an_offer_gives_address_router_and_times() {
        let m = reply(
            2,
            &[
                1, 4, 255, 255, 255, 0, 3, 4, 172, 30, 0, 1, 6, 8, 1, 1, 1, 1, 8, 8, 8, 8, 51, 4, 0, 0, 14, 16, 54, 4, 172, 30, 0, 1, 26,
                2, 5, 220,
            ],
        );
        let (kind, lease) = decode(&m, 7, MAC).unwrap();
        assert_eq!(kind, Reply::Offer);
        assert_eq!(lease.address, Ipv4Addr::new(172, 30, 0, 9));
        assert_eq!((lease.prefix, lease.router), (24, Some(Ipv4Addr::new(172, 30, 0, 1))));
        assert_eq!(lease.dns.len(), 2);
        assert_eq!(lease.mtu, Some(1500));
        assert_eq!((lease.lease.as_secs(), lease.renew.as_secs(), lease.rebind.as_secs()), (3600, 1800, 3150));
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let m = reply(5, &[3, 4, 1, 1, 1, 1, 121, 13, 0, 10, 0, 0, 1, 24, 192, 0, 2, 10, 0, 0, 2]);
        let (_, lease) = decode(&m, 7, MAC).unwrap();
        assert_eq!(lease.router, None);
        assert_eq!(
            lease.routes,
            [(Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 0, 1)), (Ipv4Addr::new(192, 0, 2, 0), 24, Ipv4Addr::new(10, 0, 0, 2))]
        );
    }

    #[test]
    fn replies_to_others_are_not_ours() {
        let m = reply(5, &[]);
        assert!(decode(&m, 8, MAC).is_none());
        assert!(decode(&m, 7, [0; 6]).is_none());
    }

    #[test]
    fn malformed_replies_are_refused_without_panic() {
        let full = reply(5, &[1, 4, 255, 0, 255, 0, 121, 200, 33]);
        for length in 0..full.len() {
            drop(decode(&full[..length], 7, MAC));
        }
        assert!(decode(&reply(5, &[1, 4, 255, 0, 255, 0]), 7, MAC).is_none(), "mask with holes");
        assert!(decode(&reply(5, &[15, 3, b'a', b' ', b'b']), 7, MAC).unwrap().1.domain.is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_reply_makes_the_client_panic(tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            drop(decode(&reply(5, &tail), 7, MAC));
            drop(decode(&tail, 7, MAC));
        }
    }
}
