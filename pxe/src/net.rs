//! The system calls that the boot services need beyond the standard library: sockets bound to an interface, the address
//! on which a datagram arrived, frames to clients without an address, the neighbour table.
//!
//! All `unsafe` of this crate is here.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{self as nix_socket, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::mac::MacAddr;

/// A socket that cannot be had, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {what}: {source}; {remedy}")]
pub struct SocketError {
    /// Which socket, in words: protocol, address, interface.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl SocketError {
    /// Finds the remedy by the error.
    pub fn new(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another program has it: stop that one (dnsmasq, dhcpd, tftpd-hpa, another daemon; `ss -lunp`) or take \
                 this network out of the configuration"
            }
            io::ErrorKind::PermissionDenied => "run the daemon as root or give it CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_NET_ADMIN",
            io::ErrorKind::AddrNotAvailable => {
                "this address is on no interface here: correct `server` of the network or give the interface the address"
            }
            _ if source.raw_os_error() == Some(libc::ENODEV) => {
                "there is no such interface: correct `interface` of the network or create it first (`ip link`)"
            }
            _ => "see the error; `ip addr` and `ss -lunp` show what is there",
        };
        Self { what, remedy: remedy.to_owned(), source }
    }
}

/// Index of an interface, for control messages and multicast.
pub fn interface_index(name: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(io::Error::from)
}

/// Hardware address of an interface; none if it has no Ethernet address (loopback).
pub fn interface_mac(name: &str) -> Option<MacAddr> {
    nix::ifaddrs::getifaddrs()
        .ok()?
        .filter(|entry| entry.interface_name == name)
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .map(MacAddr)
        .filter(MacAddr::is_unicast)
}

/// A UDP socket on one interface that reports the address each datagram was sent to.
pub fn bind_udp(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    // 10 to 1000 machines powered on at once send their first packets within a second.
    let _ = socket.set_recv_buffer_size(1 << 20);
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes used of the buffer.
    pub len: usize,
    /// Sender.
    pub from: SocketAddrV4,
    /// Destination in the packet: our address, or a broadcast address.
    pub to: Ipv4Addr,
    /// Our address on the interface as the kernel would choose it for answering.
    pub local: Ipv4Addr,
}

/// Receives one datagram. A datagram longer than the buffer comes as `len` 0 (nobody wants part of one).
pub async fn recv(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket
        .async_io(Interest::READABLE, || {
            let mut iov = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::in_pktinfo);
            let message = nix_socket::recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
            let mut received = Received {
                len: message.bytes,
                from: SocketAddrV4::new(from.ip(), from.port()),
                to: Ipv4Addr::UNSPECIFIED,
                local: Ipv4Addr::UNSPECIFIED,
            };
            if message.flags.contains(MsgFlags::MSG_TRUNC) {
                received.len = 0;
            }
            for control in message.cmsgs()? {
                if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
                    received.to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                    received.local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
                }
            }
            Ok(received)
        })
        .await
}

/// Sends a datagram from `source` through the interface with this index.
pub async fn send_from(socket: &UdpSocket, payload: &[u8], source: Ipv4Addr, interface: u32, to: SocketAddrV4) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: libc::c_int::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(source).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    socket
        .async_io(Interest::WRITABLE, || {
            nix_socket::sendmsg(
                socket.as_raw_fd(),
                &[IoSlice::new(payload)],
                &[ControlMessage::Ipv4PacketInfo(&info)],
                MsgFlags::MSG_DONTWAIT,
                Some(&SockaddrIn::from(to)),
            )
            .map(drop)
            .map_err(io::Error::from)
        })
        .await
}

/// Sends `bytes` on a connected socket as datagrams of `segment` bytes, the last one shorter, with one system call
/// (UDP segmentation offload, Linux 4.18).
pub fn try_send_segments(socket: &UdpSocket, bytes: &[u8], segment: u16) -> io::Result<()> {
    socket.try_io(Interest::WRITABLE, || {
        nix_socket::sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[ControlMessage::UdpGsoSegments(&segment)],
            MsgFlags::MSG_DONTWAIT,
            None,
        )
        .map(drop)
        .map_err(io::Error::from)
    })
}

/// A UDP socket for one TFTP transfer: own port, fixed peer, fixed source address and interface.
pub fn connect_udp(interface: &str, local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((local, 0)).into())?;
    socket.connect(&SocketAddr::from(peer).into())?;
    UdpSocket::from_std(socket.into())
}

/// Sends UDP datagrams to a hardware address whose IP address does not answer ARP yet (RFC 2131 section 4.1).
#[derive(Debug)]
pub struct FrameSender {
    socket: Socket,
    interface: u32,
}

impl FrameSender {
    /// A packet socket on the interface that receives nothing. Needs CAP_NET_RAW.
    pub fn open(interface: u32) -> io::Result<Self> {
        // Protocol 0: the kernel delivers no frames to it, so its buffer never fills.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, interface })
    }

    /// Sends one datagram in an IP packet of our making. Does not wait: a full device queue is an error, and the client
    /// asks again.
    pub fn send(&self, mac: MacAddr, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        let packet = udp_packet(from, to, payload).ok_or(io::ErrorKind::InvalidInput)?;
        self.socket.send_to(&packet, &self.link_address(mac)?).map(drop)
    }

    fn link_address(&self, mac: MacAddr) -> io::Result<SockAddr> {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: sockaddr_ll is one of the address types that sockaddr_storage is made to hold, and all-zero bytes are
        // a valid value of it.
        #[allow(unsafe_code)]
        let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        link.sll_family = libc::AF_PACKET as libc::sa_family_t;
        link.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        link.sll_ifindex = libc::c_int::try_from(self.interface).map_err(|_| io::ErrorKind::InvalidInput)?;
        link.sll_halen = 6;
        link.sll_addr[..6].copy_from_slice(&mac.0);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the storage was filled above as a sockaddr_ll of exactly this length.
        #[allow(unsafe_code)]
        Ok(unsafe { SockAddr::new(storage, length) })
    }
}

/// An IPv4 packet with a UDP datagram and both checksums; none if the payload is too long for one.
fn udp_packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(payload.len() + 8).ok()?;
    let length = udp_length.checked_add(20)?;
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend([0x45, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let header_sum = checksum(packet.iter().copied());
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());

    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend_from_slice(payload);
    let pseudo = [from.ip().octets(), to.ip().octets()].concat().into_iter();
    let pseudo = pseudo.chain([0, 17]).chain(udp_length.to_be_bytes());
    let sum = checksum(pseudo.chain(udp.iter().copied()));
    // Zero would mean "no checksum" (RFC 768).
    udp[6..8].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    packet.extend(udp);
    Some(packet)
}

/// The Internet checksum (RFC 1071).
fn checksum(mut bytes: impl Iterator<Item = u8>) -> u16 {
    let mut sum = 0u32;
    while let Some(high) = bytes.next() {
        sum += u32::from(u16::from_be_bytes([high, bytes.next().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A raw ICMPv6 socket on the interface that hears router solicitations only and sends with hop limit 255. Its type says
/// UDP because the runtime has no other type for a datagram socket; the kernel knows what it is.
pub fn bind_router_socket(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    let index = interface_index(interface)?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.set_multicast_if_v6(NonZeroU32::new(index).map_or(0, NonZeroU32::get))?;
    socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), index)?;
    setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    // ICMP6_FILTER (RFC 3542 section 3.2): a set bit blocks; all but type 133, router solicitation.
    let mut filter = [u32::MAX; 8];
    filter[133 / 32] &= !(1 << (133 % 32));
    // SAFETY: the option takes a struct icmp6_filter, which is eight 32-bit words; pointer and length describe `filter`,
    // which lives through the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            1, // ICMP6_FILTER
            filter.as_ptr().cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    UdpSocket::from_std(socket.into())
}

/// Receives one ICMPv6 message: length, sender, hop limit with which it arrived.
pub async fn recv_icmp6(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddrV6, u8)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut iov = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(libc::c_int);
            let message =
                nix_socket::recvmsg::<nix_socket::SockaddrIn6>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
            let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
            let mut hops = 0;
            for control in message.cmsgs()? {
                if let ControlMessageOwned::Ipv6HopLimit(limit) = control {
                    hops = u8::try_from(limit).unwrap_or(0);
                }
            }
            let from = SocketAddrV6::new(from.ip(), 0, 0, from.scope_id());
            Ok((message.bytes, from, hops))
        })
        .await
}

/// The hardware address that the kernel has for a neighbour on an interface; none if it has no complete entry (not on
/// this link, or loopback).
pub fn neighbour(interface: &str, addr: Ipv4Addr) -> Option<MacAddr> {
    parse_neighbours(&std::fs::read_to_string("/proc/thread-self/net/arp").ok()?, interface, addr)
}

fn parse_neighbours(table: &str, interface: &str, addr: Ipv4Addr) -> Option<MacAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (ip, _kind, flags, mac, _mask, device) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let complete = u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok()? & 2 != 0;
        (complete && device == interface && ip.parse() == Ok(addr)).then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_correct_checksums() {
        let from = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 1), 67);
        let to = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 185), 68);
        let packet = udp_packet(from, to, b"odd").expect("short payload");
        assert_eq!(checksum(packet[..20].iter().copied()), 0);
        let pseudo = packet[12..20].iter().copied().chain([0, 17, 0, 11]);
        assert_eq!(checksum(pseudo.chain(packet[20..].iter().copied())), 0);
        assert!(udp_packet(from, to, &vec![0; 65_520]).is_none());
    }

    #[test]
    fn only_complete_neighbours_of_the_same_interface_count() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     172.30.0.185     0x1         0x2         52:54:00:aa:00:01     *        br0\n\
                     172.30.0.186     0x1         0x0         00:00:00:00:00:00     *        br0\n";
        let ask = |device, last| parse_neighbours(table, device, Ipv4Addr::new(172, 30, 0, last));
        assert_eq!(ask("br0", 185), Some(MacAddr([0x52, 0x54, 0, 0xaa, 0, 1])));
        assert_eq!(ask("br1", 185), None);
        assert_eq!(ask("br0", 186), None);
    }
}
