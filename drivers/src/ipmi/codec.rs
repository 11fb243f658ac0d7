//! Bytes on the wire: RMCP framing, RMCP+ session headers and IPMI messages (IPMI 2.0 section 13).
//!
//! Decodes datagrams of strangers: every length is checked, nothing panics, nothing is allocated from a length
//! field. Knows no keys and no sessions; `session` does.

use thiserror::Error;

/// RMCP version 1.0, no acknowledgement asked for, class IPMI (13.1.3).
pub const RMCP_HEADER: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
/// Session header authentication type of RMCP+.
pub const FORMAT_RMCP_PLUS: u8 = 0x06;
/// Largest datagram that is looked at; IPMI messages over LAN are far smaller.
pub const MAX_DATAGRAM: usize = 2048;
/// Address of the BMC in IPMI messages.
pub const BMC_ADDRESS: u8 = 0x20;
/// Address of this console in IPMI messages.
pub const CONSOLE_ADDRESS: u8 = 0x81;

const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;
const TYPE_MASK: u8 = 0x3f;

/// Why a datagram cannot be used. Such datagrams are dropped: they may come from anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than the header says or than the message needs.
    #[error("packet is cut short")]
    Short,
    /// Another protocol or RMCP class.
    #[error("not an IPMI packet")]
    NotIpmi,
    /// An IPMI 1.5 session or an unknown session format.
    #[error("unsupported session format {0:#04x}")]
    Format(u8),
    /// A payload type without use here.
    #[error("unsupported payload type {0:#04x}")]
    PayloadType(u8),
    /// A checksum or length of an IPMI message is wrong.
    #[error("malformed IPMI message")]
    Message,
    /// Session id, protection or code do not fit the session.
    #[error("packet fails the session's protection")]
    Protection,
    /// Sequence number seen before, or too old.
    #[error("packet repeats an old sequence number")]
    Replay,
}

/// Payload types in use (table 13-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PayloadType {
    /// An IPMI message.
    Ipmi = 0x00,
    /// Serial over LAN.
    Sol = 0x01,
    /// Open session request.
    OpenRequest = 0x10,
    /// Open session response.
    OpenResponse = 0x11,
    /// RAKP message 1.
    Rakp1 = 0x12,
    /// RAKP message 2.
    Rakp2 = 0x13,
    /// RAKP message 3.
    Rakp3 = 0x14,
    /// RAKP message 4.
    Rakp4 = 0x15,
}

impl PayloadType {
    /// The type with this number.
    pub const fn from_wire(n: u8) -> Result<Self, PacketError> {
        Ok(match n {
            0x00 => Self::Ipmi,
            0x01 => Self::Sol,
            0x10 => Self::OpenRequest,
            0x11 => Self::OpenResponse,
            0x12 => Self::Rakp1,
            0x13 => Self::Rakp2,
            0x14 => Self::Rakp3,
            0x15 => Self::Rakp4,
            other => return Err(PacketError::PayloadType(other)),
        })
    }
}

/// A datagram taken apart, without any check of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// IPMI 1.5 format outside of a session: the message.
    Sessionless(&'a [u8]),
    /// RMCP+ format.
    Plus(PlusPacket<'a>),
}

/// An RMCP+ packet taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlusPacket<'a> {
    /// Kind of payload.
    pub payload_type: PayloadType,
    /// The payload claims to be encrypted.
    pub encrypted: bool,
    /// The packet claims to carry a code.
    pub authenticated: bool,
    /// Session the packet belongs to (0: none).
    pub session_id: u32,
    /// Sequence number within the session.
    pub sequence: u32,
    /// Payload as received.
    pub payload: &'a [u8],
    /// Everything from the session header on: what the code covers, then the code.
    pub covered: &'a [u8],
    /// Everything after the payload: padding, pad length, next header, code.
    pub trailer: &'a [u8],
}

impl PlusPacket<'_> {
    /// Session id of this console that the packet names, in the header or (before the session stands) in the payload.
    /// `None` for the two-byte refusals that some BMCs send.
    #[must_use]
    pub fn console_session(&self) -> Option<u32> {
        match self.payload_type {
            PayloadType::Ipmi | PayloadType::Sol => (self.session_id != 0).then_some(self.session_id),
            _ => read_u32(self.payload, 4),
        }
    }
}

pub(crate) fn read_u32(b: &[u8], at: usize) -> Option<u32> {
    let s = b.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(s.try_into().ok()?))
}

pub(crate) fn read_u16(b: &[u8], at: usize) -> Option<u16> {
    let s = b.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(s.try_into().ok()?))
}

/// Takes a datagram apart.
pub fn parse(datagram: &[u8]) -> Result<Packet<'_>, PacketError> {
    let (rmcp, rest) = datagram.split_first_chunk::<4>().ok_or(PacketError::Short)?;
    // Bit 7 of the class marks an acknowledgement, which carries nothing. The sequence byte does not matter.
    if rmcp[0] != RMCP_HEADER[0] || rmcp[3] != RMCP_HEADER[3] {
        return Err(PacketError::NotIpmi);
    }
    match rest.first().copied().ok_or(PacketError::Short)? {
        0 => {
            // authentication type none: sequence 4, session 4, length 1, message
            let session = read_u32(rest, 5).ok_or(PacketError::Short)?;
            if session != 0 {
                return Err(PacketError::Format(0));
            }
            let len = usize::from(*rest.get(9).ok_or(PacketError::Short)?);
            let message = rest.get(10..10 + len).ok_or(PacketError::Short)?;
            Ok(Packet::Sessionless(message))
        }
        FORMAT_RMCP_PLUS => {
            let kind = *rest.get(1).ok_or(PacketError::Short)?;
            let payload_type = PayloadType::from_wire(kind & TYPE_MASK)?;
            let session_id = read_u32(rest, 2).ok_or(PacketError::Short)?;
            let sequence = read_u32(rest, 6).ok_or(PacketError::Short)?;
            let len = usize::from(read_u16(rest, 10).ok_or(PacketError::Short)?);
            let body = rest.get(12..).ok_or(PacketError::Short)?;
            let (payload, trailer) = body.split_at_checked(len).ok_or(PacketError::Short)?;
            Ok(Packet::Plus(PlusPacket {
                payload_type,
                encrypted: kind & ENCRYPTED != 0,
                authenticated: kind & AUTHENTICATED != 0,
                session_id,
                sequence,
                payload,
                covered: rest,
                trailer,
            }))
        }
        other => Err(PacketError::Format(other)),
    }
}

/// An RMCP+ packet up to the end of the payload (no code yet). `payload` is already encrypted when `encrypted` is set.
#[must_use]
pub fn plus_packet(
    payload_type: PayloadType,
    encrypted: bool,
    authenticated: bool,
    session_id: u32,
    sequence: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut kind = payload_type as u8;
    if encrypted {
        kind |= ENCRYPTED;
    }
    if authenticated {
        kind |= AUTHENTICATED;
    }
    let mut p = Vec::with_capacity(16 + payload.len() + 20);
    p.extend_from_slice(&RMCP_HEADER);
    p.extend_from_slice(&[FORMAT_RMCP_PLUS, kind]);
    p.extend_from_slice(&session_id.to_le_bytes());
    p.extend_from_slice(&sequence.to_le_bytes());
    // Payloads come from this crate and are far below 64 KiB.
    p.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    p.extend_from_slice(payload);
    p
}

/// An IPMI 1.5 packet outside of a session around an IPMI message.
#[must_use]
pub fn sessionless_packet(message: &[u8]) -> Vec<u8> {
    let mut p = Vec::with_capacity(14 + message.len());
    p.extend_from_slice(&RMCP_HEADER);
    p.extend_from_slice(&[0; 9]);
    p.push(message.len() as u8);
    p.extend_from_slice(message);
    p
}

/// Two's complement checksum: sum of the bytes and the checksum is 0 modulo 256 (13.8).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg()
}

/// A command to a management controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Network function (even).
    pub netfn: u8,
    /// Logical unit.
    pub lun: u8,
    /// Command number.
    pub cmd: u8,
    /// Command data.
    pub data: Vec<u8>,
}

impl Request {
    /// A request to logical unit 0.
    #[must_use]
    pub fn new(netfn: u8, cmd: u8, data: &[u8]) -> Self {
        Self { netfn, lun: 0, cmd, data: data.to_vec() }
    }

    /// The message with this request sequence number (6 bits), as it goes to the BMC (13.8).
    #[must_use]
    pub fn message(&self, rq_seq: u8) -> Vec<u8> {
        let head = [BMC_ADDRESS, (self.netfn << 2) | (self.lun & 3)];
        let mut m = Vec::with_capacity(7 + self.data.len());
        m.extend_from_slice(&head);
        m.push(checksum(&head));
        m.extend_from_slice(&[CONSOLE_ADDRESS, rq_seq << 2, self.cmd]);
        m.extend_from_slice(&self.data);
        m.push(checksum(m.get(3..).unwrap_or_default()));
        m
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Network function (odd: that of the request plus 1).
    pub netfn: u8,
    /// Request sequence number that is answered.
    pub rq_seq: u8,
    /// Command that is answered.
    pub cmd: u8,
    /// Completion code, 0 for success.
    pub completion: u8,
    /// Response data after the completion code.
    pub data: Vec<u8>,
}

impl Response {
    /// Decodes a message from the BMC; both checksums must hold.
    pub fn decode(m: &[u8]) -> Result<Self, PacketError> {
        let [_, netfn, _, _, seq, cmd, completion, rest @ ..] = m else {
            return Err(PacketError::Message);
        };
        let (head, tail) = m.split_at_checked(3).ok_or(PacketError::Message)?;
        let Some((_, data)) = rest.split_last() else {
            return Err(PacketError::Message);
        };
        if checksum(head) != 0 || checksum(tail) != 0 || netfn >> 2 & 1 == 0 {
            return Err(PacketError::Message);
        }
        Ok(Self { netfn: netfn >> 2, rq_seq: seq >> 2, cmd: *cmd, completion: *completion, data: data.to_vec() })
    }

    /// Whether this answers `request` under this sequence number.
    #[must_use]
    pub fn answers(&self, request: &Request, rq_seq: u8) -> bool {
        self.netfn == request.netfn | 1 && self.cmd == request.cmd && self.rq_seq == rq_seq
    }
}

/// Open session request (13.17): any privilege, one algorithm each.
#[must_use]
pub fn open_request(tag: u8, console_sid: u32, algorithms: [u8; 3]) -> Vec<u8> {
    let mut p = vec![tag, 0, 0, 0];
    p.extend_from_slice(&console_sid.to_le_bytes());
    for (kind, algorithm) in (0u8..).zip(algorithms) {
        p.extend_from_slice(&[kind, 0, 0, 8, algorithm, 0, 0, 0]);
    }
    p
}

/// What a BMC said to an open session request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenResponse {
    /// Session id chosen by the BMC.
    pub bmc_sid: u32,
    /// Algorithms chosen by the BMC.
    pub algorithms: [u8; 3],
}

/// Status and tag that every answer of the log-in starts with.
pub fn login_status(payload: &[u8]) -> Result<(u8, u8), PacketError> {
    match payload {
        [tag, status, ..] => Ok((*tag, *status)),
        _ => Err(PacketError::Short),
    }
}

impl OpenResponse {
    /// Decodes a response with status 0 (13.18).
    pub fn decode(p: &[u8]) -> Result<Self, PacketError> {
        let bmc_sid = read_u32(p, 8).ok_or(PacketError::Short)?;
        let mut algorithms = [0; 3];
        for (i, a) in algorithms.iter_mut().enumerate() {
            let record = p.get(12 + 8 * i..20 + 8 * i).ok_or(PacketError::Short)?;
            match record {
                [kind, _, _, _, algorithm, ..] if usize::from(*kind) == i => *a = algorithm & 0x3f,
                _ => return Err(PacketError::Message),
            }
        }
        Ok(Self { bmc_sid, algorithms })
    }
}

/// RAKP message 1 (13.20).
#[must_use]
pub fn rakp1(tag: u8, bmc_sid: u32, random: &[u8; 16], role: u8, user: &[u8]) -> Vec<u8> {
    let mut p = vec![tag, 0, 0, 0];
    p.extend_from_slice(&bmc_sid.to_le_bytes());
    p.extend_from_slice(random);
    p.extend_from_slice(&[role, 0, 0, user.len() as u8]);
    p.extend_from_slice(user);
    p
}

/// RAKP message 2 with status 0 (13.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rakp2<'a> {
    /// Random number of the BMC.
    pub random: &'a [u8; 16],
    /// GUID of the BMC.
    pub guid: &'a [u8; 16],
    /// Proof that the BMC knows the password.
    pub code: &'a [u8],
}

impl<'a> Rakp2<'a> {
    /// Decodes the message.
    pub fn decode(p: &'a [u8]) -> Result<Self, PacketError> {
        let rest = p.get(8..).ok_or(PacketError::Short)?;
        let (random, rest) = rest.split_first_chunk().ok_or(PacketError::Short)?;
        let (guid, code) = rest.split_first_chunk().ok_or(PacketError::Short)?;
        Ok(Self { random, guid, code })
    }
}

/// RAKP message 3 (13.22); a status other than 0 tells the BMC that the log-in ends here.
#[must_use]
pub fn rakp3(tag: u8, status: u8, bmc_sid: u32, code: &[u8]) -> Vec<u8> {
    let mut p = vec![tag, status, 0, 0];
    p.extend_from_slice(&bmc_sid.to_le_bytes());
    p.extend_from_slice(code);
    p
}
