//! The DHCPv4 packet (RFC 2131 section 2): bytes to fields and back. Sans I/O, bounded, never panics.

use std::net::Ipv4Addr;

use uuid::Uuid;

pub use super::options::{Options, code};
use crate::mac::MacAddr;

/// Longest packet that is looked at. Real clients stay below 1500 bytes.
pub const MAX_PACKET: usize = 4096;
/// Smallest packet that is sent: some BOOTP-minded firmware drops shorter ones.
const MIN_PACKET: usize = 300;
/// Bytes before the options.
const HEADER: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Longest boot file name for the `file` field (128 bytes with its NUL).
pub const FILE_FIELD_MAX: usize = 127;
const BROADCAST_FLAG: u16 = 0x8000;

/// BOOTP operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request,
    /// From a server.
    Reply,
}

/// DHCP message type (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// Client looks for servers.
    Discover = 1,
    /// Server offers an address.
    Offer = 2,
    /// Client takes an offer, confirms or extends an address.
    Request = 3,
    /// Client found its address in use.
    Decline = 4,
    /// Server grants.
    Ack = 5,
    /// Server refuses.
    Nak = 6,
    /// Client gives its address back.
    Release = 7,
    /// Client has an address and wants the rest.
    Inform = 8,
}

impl MessageType {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

/// A DHCPv4 packet. Option overload is resolved on reading and never used on writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Direction.
    pub op: Op,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Hardware address length, at most 16.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags; only the broadcast bit is defined.
    pub flags: u16,
    /// Address that the client has and can be reached at.
    pub ciaddr: Ipv4Addr,
    /// Address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// Next server: where TFTP goes.
    pub siaddr: Ipv4Addr,
    /// Relay.
    pub giaddr: Ipv4Addr,
    /// Client hardware address, first `hlen` bytes count.
    pub chaddr: [u8; 16],
    /// Boot file name without NUL, at most 127 bytes.
    pub file: Vec<u8>,
    /// Options.
    pub options: Options,
}

/// Why bytes are not a DHCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short for header and cookie.
    #[error("shorter than a DHCP header")]
    Short,
    /// Longer than any client sends.
    #[error("longer than {MAX_PACKET} bytes")]
    Long,
    /// Not DHCP but plain BOOTP or garbage.
    #[error("no DHCP magic cookie")]
    Cookie,
    /// Operation is neither request nor reply.
    #[error("unknown operation {0}")]
    Op(u8),
    /// Hardware address longer than its field.
    #[error("hardware address of {0} bytes")]
    HardwareLength(u8),
}

/// Reads a packet (the payload of a UDP datagram). Malformed options hide only what follows them.
pub fn decode(bytes: &[u8]) -> Result<Packet, DecodeError> {
    if bytes.len() > MAX_PACKET {
        return Err(DecodeError::Long);
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(DecodeError::Short);
    };
    let Some((cookie, options_area)) = rest.split_first_chunk::<4>() else {
        return Err(DecodeError::Short);
    };
    if *cookie != COOKIE {
        return Err(DecodeError::Cookie);
    }
    // All offsets below are constants inside the 236-byte array.
    let addr = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let op = match header[0] {
        1 => Op::Request,
        2 => Op::Reply,
        other => return Err(DecodeError::Op(other)),
    };
    let hlen = header[2];
    if hlen > 16 {
        return Err(DecodeError::HardwareLength(hlen));
    }
    let mut chaddr = [0; 16];
    chaddr.copy_from_slice(&header[28..44]);
    let (sname, file) = (&header[44..108], &header[108..236]);

    let mut options = Options::default();
    options.read(options_area);
    // Overload (RFC 2132 section 9.3): file, then sname, hold more options. Read once: an overload found inside the
    // fields changes nothing.
    let overload = options.byte(code::OVERLOAD).unwrap_or(0);
    if overload & 1 != 0 {
        options.read(file);
    }
    if overload & 2 != 0 {
        options.read(sname);
    }
    let file = if overload & 1 != 0 { &[] } else { until_nul(file) };
    Ok(Packet {
        op,
        htype: header[1],
        hlen,
        hops: header[3],
        xid: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        secs: u16::from_be_bytes([header[8], header[9]]),
        flags: u16::from_be_bytes([header[10], header[11]]),
        ciaddr: addr(12),
        yiaddr: addr(16),
        siaddr: addr(20),
        giaddr: addr(24),
        chaddr,
        file: file.get(..FILE_FIELD_MAX).unwrap_or(file).to_vec(),
        options,
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl Packet {
    /// An empty client packet of an Ethernet client.
    pub fn request(xid: u32, mac: MacAddr) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        Self {
            op: Op::Request,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            file: Vec::new(),
            options: Options::default(),
        }
    }

    /// An answer to this packet, with the fields that a server copies (RFC 2131 table 3) and the options that it must
    /// return: relay information (RFC 3046), client id (RFC 6842).
    pub fn reply(&self, message: MessageType) -> Self {
        let mut options = Options::default();
        options.set(code::MESSAGE_TYPE, &[message as u8]);
        for echoed in [code::RELAY_INFO, code::CLIENT_ID] {
            if let Some(value) = self.options.get(echoed) {
                options.set(echoed, value);
            }
        }
        Self {
            op: Op::Reply,
            htype: self.htype,
            hlen: self.hlen,
            hops: 0,
            xid: self.xid,
            secs: 0,
            flags: self.flags & BROADCAST_FLAG,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: self.giaddr,
            chaddr: self.chaddr,
            file: Vec::new(),
            options,
        }
    }

    /// Writes the packet in at most `limit` bytes (never below 548, which every client takes): options that do not fit
    /// are left out, the least needed first.
    pub fn encode(&self, limit: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(576);
        out.push(match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        });
        out.extend([self.htype, self.hlen, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for addr in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(addr.octets());
        }
        out.extend(self.chaddr);
        out.extend([0; 64]);
        out.extend(self.file.iter().take(FILE_FIELD_MAX));
        out.resize(HEADER, 0);
        out.extend(COOKIE);
        self.options.write(&mut out, limit.clamp(548, MAX_PACKET));
        if out.len() < MIN_PACKET {
            out.resize(MIN_PACKET, 0);
        }
        out
    }

    /// The message type, if there is exactly one.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_byte(self.options.byte(code::MESSAGE_TYPE)?)
    }

    /// The client's Ethernet address; none for other hardware and for addresses that cannot be one machine's.
    pub fn mac(&self) -> Option<MacAddr> {
        let bytes = self.chaddr.first_chunk::<6>()?;
        Some(MacAddr(*bytes)).filter(|mac| self.htype == 1 && self.hlen == 6 && mac.is_unicast())
    }

    /// Whether the client cannot take a unicast reply before it has its address.
    pub fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST_FLAG != 0
    }

    /// Vendor class (option 60), empty if absent.
    pub fn vendor_class(&self) -> &[u8] {
        self.options.get(code::VENDOR_CLASS).unwrap_or_default()
    }

    /// Whether the client says that it is iPXE: user class `iPXE` (bare or in RFC 3004's form) or iPXE's own options.
    pub fn is_ipxe(&self) -> bool {
        self.options.get(code::IPXE).is_some() || matches!(self.options.get(code::USER_CLASS), Some(b"iPXE" | [4, b'i', b'P', b'X', b'E']))
    }

    /// All client architectures (option 93); a trailing odd byte is ignored.
    pub fn architectures(&self) -> Vec<u16> {
        let raw = self.options.get(code::ARCHITECTURE).unwrap_or_default();
        raw.chunks_exact(2).take(16).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// SMBIOS UUID (option 97, type 0) in text order: its first three fields travel little-endian. The zero UUID of
    /// firmware that has none counts as absent.
    pub fn uuid(&self) -> Option<Uuid> {
        match self.options.get(code::MACHINE_ID)?.split_first()? {
            (0, rest) => Some(Uuid::from_bytes_le(rest.try_into().ok()?)).filter(|uuid| !uuid.is_nil() && !uuid.is_max()),
            _ => None,
        }
    }

    /// The server that the client speaks to (option 54).
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.options.addr(code::SERVER_ID)
    }

    /// The address that the client asks for (option 50).
    pub fn requested_addr(&self) -> Option<Ipv4Addr> {
        self.options.addr(code::REQUESTED_ADDRESS).filter(|addr| !addr.is_unspecified())
    }

    /// Whether the client's parameter list (option 55) names the option. 0 and 255 are never options.
    pub fn asks_for(&self, code: u8) -> bool {
        !matches!(code, code::PAD | code::END) && self.options.get(code::PARAMETER_LIST).is_some_and(|list| list.contains(&code))
    }

    /// Longest packet in bytes of UDP payload that the client takes: option 57 counts the IP datagram and is at least
    /// 576; what firmware says there above an Ethernet frame is not believed.
    pub fn max_reply(&self) -> usize {
        let datagram = match self.options.get(code::MAX_SIZE) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]).clamp(576, 1500),
            _ => 576,
        };
        usize::from(datagram) - 28
    }
}
