//! Just enough of rtnetlink (rtnetlink(7)): links up, addresses, routes, and word of link changes.
//!
//! Messages are built by hand over a safe socket: a library for this costs more than the whole DHCP client.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const RTMGRP_LINK: u32 = 1;

const IFF_UP: u32 = 1;
const IFF_ALLMULTI: u32 = 0x200;

/// Socket for requests. Each waits at most two seconds for the kernel's answer.
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

fn open(groups: u32) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

impl Netlink {
    /// Opens a socket.
    pub fn open() -> io::Result<Self> {
        let fd = open(0)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Brings a link up or down.
    pub fn set_link(&mut self, index: u32, up: bool) -> io::Result<()> {
        self.link_flags(index, if up { IFF_UP } else { 0 }, IFF_UP)
    }

    /// Lets all multicast frames through the card's filter (LLDP), or not.
    pub fn set_all_multicast(&mut self, index: u32, on: bool) -> io::Result<()> {
        self.link_flags(index, if on { IFF_ALLMULTI } else { 0 }, IFF_ALLMULTI)
    }

    fn link_flags(&mut self, index: u32, flags: u32, change: u32) -> io::Result<()> {
        let mut body = vec![0, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend(change.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, body)
    }

    /// Sets the MTU of a link.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut body = vec![0, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend([0; 8]);
        attribute(&mut body, 4, &mtu.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, body)
    }

    /// Adds an address, or replaces its settings when present.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut body = address_header(index, prefix);
        attribute(&mut body, 2, &address.octets()); // IFA_LOCAL
        attribute(&mut body, 1, &address.octets()); // IFA_ADDRESS
        if prefix < 31 {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            attribute(&mut body, 4, &(u32::from(address) | host).to_be_bytes()); // IFA_BROADCAST
        }
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body)
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut body = address_header(index, prefix);
        attribute(&mut body, 2, &address.octets());
        self.request(RTM_DELADDR, 0, body)
    }

    /// Adds a route, or replaces one of the same destination and metric. Without a gateway the destination is on the link.
    pub fn add_route(&mut self, index: u32, to: (Ipv4Addr, u8), gateway: Option<Ipv4Addr>, metric: u32) -> io::Result<()> {
        let (destination, prefix) = to;
        let scope = if gateway.is_some() { 0 } else { 253 };
        // family, destination and source prefix, tos, table main, protocol DHCP, scope, type unicast
        let mut body = vec![2, prefix, 0, 0, 254, 16, scope, 1];
        body.extend(0_u32.to_ne_bytes());
        if prefix > 0 {
            attribute(&mut body, 1, &destination.octets());
        }
        attribute(&mut body, 4, &index.to_ne_bytes());
        if let Some(gateway) = gateway {
            attribute(&mut body, 5, &gateway.octets());
        }
        attribute(&mut body, 6, &metric.to_ne_bytes());
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)
    }

    fn request(&mut self, kind: u16, flags: u16, body: Vec<u8>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(body.len() + 16).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(body.len() + 16);
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = [0; 8192];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let reply = buffer.get(..length).unwrap_or_default();
            let word = |at: usize| reply.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
            let kind = reply.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
            if kind == Some(NLMSG_ERROR) && word(8) == Some(self.sequence) {
                let code = word(16).map_or(0, u32::cast_signed);
                return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.wrapping_neg())) };
            }
        }
    }
}

fn address_header(index: u32, prefix: u8) -> Vec<u8> {
    let mut body = vec![2, prefix, 0, 0];
    body.extend(index.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX); // values here have at most four bytes
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    while !body.len().is_multiple_of(4) {
        body.push(0);
    }
}

/// Hears that some link has changed.
pub struct LinkEvents(OwnedFd);

impl LinkEvents {
    /// Subscribes.
    pub fn open() -> io::Result<Self> {
        Ok(Self(open(RTMGRP_LINK)?))
    }

    /// Waits for the next change. What has changed is read from sysfs, so the message itself is not looked at.
    pub fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            // A lost message still means "something changed".
            Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
