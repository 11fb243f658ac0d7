//! DHCP options as code → bytes: a reader that survives anything and a writer that keeps to a size.
//!
//! The reader walks the raw code-length-value list itself. Libraries that decode every option into types give up at the
//! first malformed one (a bad host name would hide the architecture behind it) or keep only part of a list; here an
//! option is bytes until somebody asks for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Option codes used here. RFC 2132 unless said.
pub mod code {
    #![allow(missing_docs)]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const INTERFACE_MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const NTP: u8 = 42;
    pub const VENDOR_OPTIONS: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_SECS: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL_SECS: u8 = 58;
    pub const REBINDING_SECS: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const BOOT_FILE: u8 = 67;
    /// RFC 3004.
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY_INFO: u8 = 82;
    /// RFC 4578.
    pub const ARCHITECTURE: u8 = 93;
    /// RFC 4578.
    pub const MACHINE_ID: u8 = 97;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;
}

/// Bytes kept for message type, server, lease and mask beside relay information, and the end mark.
const ROOM_BESIDE_RELAY: usize = 32;

/// Options of one packet. Pieces of one code are joined (RFC 3396).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// The value of an option.
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    /// Sets an option, replacing what was there.
    pub fn set(&mut self, code: u8, value: &[u8]) {
        self.0.insert(code, value.to_vec());
    }

    /// Sets an option to a list of addresses; an empty list sets nothing.
    pub fn set_addrs(&mut self, code: u8, addrs: &[Ipv4Addr]) {
        if !addrs.is_empty() {
            self.0.insert(code, addrs.iter().flat_map(Ipv4Addr::octets).collect());
        }
    }

    /// An option that must be exactly one address; any other length counts as absent.
    pub fn addr(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.get(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    }

    /// An option that must be exactly one byte; any other length counts as absent.
    pub fn byte(&self, code: u8) -> Option<u8> {
        match self.get(code)? {
            [byte] => Some(*byte),
            _ => None,
        }
    }

    /// Number of different options.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads one list of options into this set. What stands before a malformed option is kept, what follows is ignored:
    /// lengths after the fault mean nothing. Never fails, reads each byte once.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        loop {
            match bytes {
                [] | [code::END, ..] => return,
                [code::PAD, rest @ ..] => bytes = rest,
                [code, length, rest @ ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
                        return;
                    };
                    self.0.entry(*code).or_default().extend_from_slice(value);
                    bytes = rest;
                }
                [_] => return,
            }
        }
    }

    /// Writes the options: message type and server first, relay information last (RFC 3046), long values in pieces, the
    /// end mark. An option that would make `out` longer than `limit` is left out; the small ones that a client cannot do
    /// without come first.
    pub(super) fn write(&self, out: &mut Vec<u8>, limit: usize) {
        const FIRST: [u8; 7] = [
            code::MESSAGE_TYPE,
            code::SERVER_ID,
            code::LEASE_SECS,
            code::SUBNET_MASK,
            code::VENDOR_CLASS,
            code::VENDOR_OPTIONS,
            code::BOOT_FILE,
        ];
        let rest = self.0.keys().copied().filter(|code| !FIRST.contains(code) && *code != code::RELAY_INFO);
        // The relay gets its own information back unchanged or not at all: room for it is kept, as long as what the client
        // cannot do without fits beside it.
        let relay = self.get(code::RELAY_INFO).filter(|value| out.len() + ROOM_BESIDE_RELAY + encoded_len(value) < limit);
        let limit_before_relay = limit.saturating_sub(1 + relay.map_or(0, encoded_len));
        for code in FIRST.into_iter().chain(rest) {
            if let Some(value) = self.get(code)
                && out.len() + encoded_len(value) <= limit_before_relay
            {
                write_option(out, code, value);
            }
        }
        if let Some(value) = relay {
            write_option(out, code::RELAY_INFO, value);
        }
        out.push(code::END);
    }
}

fn encoded_len(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(255).max(1)
}

fn write_option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        out.extend([code, 0]);
    }
    for piece in value.chunks(255) {
        let length = u8::try_from(piece.len()).expect("chunks of at most 255 bytes");
        out.push(code);
        out.push(length);
        out.extend_from_slice(piece);
    }
}
