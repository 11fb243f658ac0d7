//! What a DHCP packet asks and what the answer holds: pure functions of packet, machine and configuration.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::codec::{FILE_FIELD_MAX, MessageType, Op, Packet, code};
use crate::arch::{Client, Transport};
use crate::config::{DhcpMode, NetworkConfig};
use crate::mac::MacAddr;
use crate::source::{Machine, MachineKind};

/// UDP port of DHCP servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;
/// UDP port of PXE boot servers (PXE 2.1 section 2.2.3).
pub const PXE_PORT: u16 = 4011;
/// PXE option 43: boot discovery control 8, "take the file that I named and ask nobody else".
const PXE_NO_DISCOVERY: [u8; 4] = [6, 1, 8, 255];
/// Boot file for firmware of a machine that shall boot from its disk: one that is never there. Firmware that gets an
/// address but no boot file takes that for no answer and goes on asking (EDK2 for 60 s); a missing file sends it to its
/// next boot entry at once.
pub const NO_BOOT_FILE: &str = "boot-from-disk";
/// iPXE option 175 with sub-option 176 (no-pxedhcp): do not wait 3 s for a proxyDHCP offer.
const IPXE_NO_PROXY_WAIT: [u8; 3] = [176, 1, 1];

/// What a packet asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing, or nothing that is ours to answer. The text says why, for the log.
    Nothing(&'static str),
    /// An address (and boot information).
    Offer {
        /// The address it had before, if it says so.
        wanted: Option<Ipv4Addr>,
    },
    /// To take, keep or extend this address.
    Confirm {
        /// The address.
        addr: Ipv4Addr,
    },
    /// To give this address back.
    Release {
        /// The address.
        addr: Ipv4Addr,
    },
    /// This address is in use by somebody else.
    Decline {
        /// The address.
        addr: Ipv4Addr,
    },
    /// Everything but an address.
    Inform,
    /// Boot information beside another server's offer.
    ProxyOffer,
    /// Boot information, asked on port 4011.
    ProxyBoot,
}

/// On which of our ports a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67.
    Dhcp,
    /// 4011.
    Pxe,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// OFFER of an address.
    Offer(Ipv4Addr),
    /// ACK of an address.
    Ack(Ipv4Addr),
    /// NAK: start again.
    Nak,
    /// ACK without an address.
    Inform,
    /// OFFER of boot information only.
    ProxyOffer,
    /// ACK of boot information on port 4011.
    ProxyBoot,
}

/// The link on which a packet of this gateway address belongs, if it is one that we serve.
pub fn network_of<'a>(packet: &Packet, mut networks: impl Iterator<Item = &'a NetworkConfig>) -> Option<&'a NetworkConfig> {
    if packet.giaddr.is_unspecified() {
        networks.find(|network| !network.relayed)
    } else {
        networks.find(|network| network.subnet.is_host(packet.giaddr))
    }
}

/// Reads what a packet asks on this network.
pub fn ask(packet: &Packet, network: &NetworkConfig, port: Port) -> Ask {
    if packet.op != Op::Request {
        return Ask::Nothing("a server's packet");
    }
    if packet.hops > 16 {
        return Ask::Nothing("passed more than 16 relays");
    }
    if packet.mac().is_none() {
        return Ask::Nothing("no Ethernet address of one machine");
    }
    let Some(message) = packet.message_type() else {
        return Ask::Nothing("no valid message type");
    };
    let to_other = packet.server_id().is_some_and(|server| server != network.server);
    match (port, network.mode) {
        (_, DhcpMode::Off) => Ask::Nothing("DHCP is off on this network"),
        (Port::Pxe, DhcpMode::Full) => Ask::Nothing("port 4011 on a network with full DHCP"),
        (Port::Pxe, DhcpMode::Proxy) => match message {
            _ if to_other => Ask::Nothing("speaks to another server"),
            MessageType::Request | MessageType::Inform if !boots(packet) => Ask::Nothing("not a boot client"),
            MessageType::Request | MessageType::Inform if has_malformed_boot_item(packet) => Ask::Nothing("malformed boot item"),
            MessageType::Request | MessageType::Inform => Ask::ProxyBoot,
            _ => Ask::Nothing("not a boot request"),
        },
        (Port::Dhcp, DhcpMode::Proxy) => match message {
            MessageType::Discover if boots(packet) => Ask::ProxyOffer,
            MessageType::Discover => Ask::Nothing("not a boot client, and addresses are another server's"),
            _ => Ask::Nothing("addresses are another server's"),
        },
        (Port::Dhcp, DhcpMode::Full) => match message {
            MessageType::Discover => Ask::Offer { wanted: packet.requested_addr() },
            MessageType::Request if to_other => Ask::Nothing("took another server's offer"),
            // RFC 2131 section 4.3.2: SELECTING and INIT-REBOOT name the address in option 50, RENEWING and REBINDING
            // have it in ciaddr.
            MessageType::Request => match packet.requested_addr() {
                Some(addr) if !packet.ciaddr.is_unspecified() && packet.ciaddr != addr => Ask::Nothing("request for two addresses"),
                Some(addr) => Ask::Confirm { addr },
                None if !packet.ciaddr.is_unspecified() => Ask::Confirm { addr: packet.ciaddr },
                None => Ask::Nothing("request without an address"),
            },
            MessageType::Release | MessageType::Decline if to_other => Ask::Nothing("speaks to another server"),
            MessageType::Release => Ask::Release { addr: packet.ciaddr },
            MessageType::Decline => match packet.requested_addr() {
                Some(addr) => Ask::Decline { addr },
                None => Ask::Nothing("decline without an address"),
            },
            MessageType::Inform if !network.subnet.is_host(packet.ciaddr) => Ask::Nothing("inform from another network"),
            MessageType::Inform => Ask::Inform,
            MessageType::Offer | MessageType::Ack | MessageType::Nak => Ask::Nothing("a server's message"),
        },
    }
}

fn boots(packet: &Packet) -> bool {
    !matches!(Client::of(packet), Client::Plain)
}

/// PXE 2.1 boot item (option 43, sub-option 71) is 4 bytes; none is fine.
fn has_malformed_boot_item(packet: &Packet) -> bool {
    boot_item(packet).is_some_and(|item| item.len() != 4)
}

fn boot_item(packet: &Packet) -> Option<Vec<u8>> {
    let mut inner = super::options::Options::default();
    inner.read(packet.options.get(code::VENDOR_OPTIONS)?);
    inner.get(71).map(<[u8]>::to_vec)
}

/// The packet that answers; none where this machine gets no such answer.
pub fn answer(packet: &Packet, mac: MacAddr, machine: &Machine, network: &NetworkConfig, http_port: u16, answer: Answer) -> Option<Packet> {
    let mut reply = packet.reply(match answer {
        Answer::Offer(_) | Answer::ProxyOffer => MessageType::Offer,
        Answer::Ack(_) | Answer::Inform | Answer::ProxyBoot => MessageType::Ack,
        Answer::Nak => MessageType::Nak,
    });
    reply.options.set(code::SERVER_ID, &network.server.octets());
    match answer {
        Answer::Nak => {
            // A NAK is broadcast on the client's link, also by a relay (RFC 2131 section 4.1).
            reply.flags |= 0x8000;
            return Some(reply);
        }
        Answer::Offer(addr) | Answer::Ack(addr) => {
            reply.yiaddr = addr;
            if matches!(answer, Answer::Ack(_)) {
                reply.ciaddr = packet.ciaddr;
            }
            let lease = network.lease_secs;
            reply.options.set(code::LEASE_SECS, &lease.to_be_bytes());
            reply.options.set(code::RENEWAL_SECS, &(lease / 2).to_be_bytes());
            reply.options.set(code::REBINDING_SECS, &(lease / 8 * 7).to_be_bytes());
            set_network_options(&mut reply, machine, network);
        }
        Answer::Inform => {
            reply.ciaddr = packet.ciaddr;
            set_network_options(&mut reply, machine, network);
        }
        Answer::ProxyOffer => {}
        Answer::ProxyBoot => reply.ciaddr = packet.ciaddr,
    }
    if Client::of(packet) == Client::Ipxe {
        // Also for a machine with nothing to boot: it goes on to its own disk 3 s sooner.
        reply.options.set(code::IPXE, &IPXE_NO_PROXY_WAIT);
    }
    let proxy = matches!(answer, Answer::ProxyOffer | Answer::ProxyBoot);
    let named = match machine.netboot {
        true => set_boot_file(packet, &mut reply, mac, network, http_port, proxy),
        // What another server's machine boots from is the other server's business.
        false => !proxy && set_no_boot_file(packet, &mut reply, network, http_port),
    };
    // A proxy with nothing to say would only make the client wait for it.
    (named || !proxy).then_some(reply)
}

fn set_network_options(reply: &mut Packet, machine: &Machine, network: &NetworkConfig) {
    let options = &mut reply.options;
    options.set(code::SUBNET_MASK, &network.subnet.mask().octets());
    options.set(code::BROADCAST, &network.subnet.broadcast().octets());
    options.set_addrs(code::ROUTER, network.router.as_slice());
    options.set_addrs(code::DNS, &network.dns);
    options.set_addrs(code::NTP, &network.ntp);
    if let Some(domain) = &network.domain {
        options.set(code::DOMAIN_NAME, domain.as_bytes());
    }
    if let Some(mtu) = network.mtu {
        options.set(code::INTERFACE_MTU, &mtu.to_be_bytes());
    }
    if let MachineKind::Known { hostname: Some(name), .. } = &machine.kind {
        options.set(code::HOST_NAME, name.as_bytes());
    }
}

/// Names the boot file for this client; false if there is none for it.
fn set_boot_file(packet: &Packet, reply: &mut Packet, mac: MacAddr, network: &NetworkConfig, http_port: u16, proxy: bool) -> bool {
    match Client::of(packet) {
        Client::Plain | Client::Unsupported => return false,
        Client::Ipxe => {
            set_file(packet, reply, network, format!("http://{}:{http_port}/boot/ipxe/{mac}", network.server));
        }
        Client::Firmware(row) => set_program(packet, reply, network, http_port, row.transport, row.program),
    }
    if proxy && reply.vendor_class().is_empty() {
        reply.options.set(code::VENDOR_CLASS, b"PXEClient");
        reply.options.set(code::VENDOR_OPTIONS, &vendor_options(packet));
    }
    true
}

/// Sends firmware on to its next boot entry. iPXE needs no file for that: without one it ends by itself.
fn set_no_boot_file(packet: &Packet, reply: &mut Packet, network: &NetworkConfig, http_port: u16) -> bool {
    if let Client::Firmware(row) = Client::of(packet) {
        set_program(packet, reply, network, http_port, row.transport, NO_BOOT_FILE);
    }
    true
}

fn set_program(packet: &Packet, reply: &mut Packet, network: &NetworkConfig, http_port: u16, transport: Transport, name: &str) {
    match transport {
        Transport::Tftp => set_file(packet, reply, network, name.to_owned()),
        Transport::Http => {
            // HTTP boot firmware takes only answers that say so.
            reply.options.set(code::VENDOR_CLASS, b"HTTPClient");
            set_file(packet, reply, network, format!("http://{}:{http_port}/files/{name}", network.server));
        }
    }
}

fn set_file(packet: &Packet, reply: &mut Packet, network: &NetworkConfig, file: String) {
    // The PXE specification wants the machine id returned; some ROMs drop answers without it.
    if let Some(id) = packet.options.get(code::MACHINE_ID) {
        reply.options.set(code::MACHINE_ID, id);
    }
    reply.siaddr = network.server;
    if file.len() > FILE_FIELD_MAX {
        reply.options.set(code::BOOT_FILE, file.as_bytes());
    } else {
        reply.file = file.into_bytes();
    }
}

/// PXE options of a proxy answer: no discovery, and the boot item that was asked for returned.
fn vendor_options(packet: &Packet) -> Vec<u8> {
    match boot_item(packet) {
        Some(item) if item.len() == 4 => {
            let mut options = vec![6, 1, 8, 71, 4];
            options.extend(item);
            options.push(code::END);
            options
        }
        _ => PXE_NO_DISCOVERY.to_vec(),
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// By ordinary routing.
    Address(SocketAddrV4),
    /// To the whole link.
    Broadcast,
    /// To a client that has no address yet and so cannot answer ARP: straight to its hardware address.
    Hardware {
        /// The client.
        mac: MacAddr,
        /// The address that it is being given.
        addr: Ipv4Addr,
    },
}

/// Where to send an answer to a packet that came from `from` (RFC 2131 section 4.1; PXE clients are answered at the
/// port they asked from).
pub fn destination(packet: &Packet, reply: &Packet, from: SocketAddrV4, port: Port) -> Option<Destination> {
    if port == Port::Pxe {
        // A client without an address cannot have asked by unicast.
        return (!from.ip().is_unspecified() && !from.ip().is_broadcast() && !from.ip().is_multicast())
            .then_some(Destination::Address(from));
    }
    if !packet.giaddr.is_unspecified() {
        return Some(Destination::Address(SocketAddrV4::new(packet.giaddr, SERVER_PORT)));
    }
    // Only an answer about this very address goes to it: a packet cannot aim our answer at a third party.
    if reply.message_type() == Some(MessageType::Ack) && !reply.ciaddr.is_unspecified() {
        return Some(Destination::Address(SocketAddrV4::new(reply.ciaddr, CLIENT_PORT)));
    }
    match packet.mac() {
        Some(mac) if !packet.wants_broadcast() && !reply.yiaddr.is_unspecified() => Some(Destination::Hardware { mac, addr: reply.yiaddr }),
        _ => Some(Destination::Broadcast),
    }
}
