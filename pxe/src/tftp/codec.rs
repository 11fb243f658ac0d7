//! TFTP packets. Sans I/O, bounded, never panics.

/// Longest request that is looked at (RFC 2347 limits requests to 512 bytes).
pub const MAX_REQUEST: usize = 512;
/// Bytes before the data in a DATA packet.
pub const DATA_HEADER: usize = 4;
/// Smallest and largest block size (RFC 2348).
pub const BLOCK_RANGE: std::ops::RangeInclusive<u16> = 8..=65464;
/// Block size without the option.
pub const DEFAULT_BLOCK: u16 = 512;

/// Error codes of RFC 1350 and RFC 2347.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    NotDefined = 0,
    /// File not found.
    NotFound = 1,
    /// Access violation.
    Access = 2,
    /// Illegal operation.
    Illegal = 4,
    /// Unknown transfer id.
    UnknownTransfer = 5,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file name as sent.
    pub name: String,
    /// Options that were given with usable values; others are ignored (RFC 2347).
    pub options: RequestOptions,
}

/// Options of a read request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// `blksize` in bytes, 8 to 65464.
    pub block: Option<u16>,
    /// `tsize` was given.
    pub size: bool,
    /// `timeout` in seconds, 1 to 255.
    pub timeout_secs: Option<u8>,
    /// `windowsize` in blocks, 1 to 65535.
    pub window: Option<u16>,
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// RRQ.
    Read(ReadRequest),
    /// ACK of this block number.
    Ack(u16),
    /// ERROR: the client ends the transfer.
    Error {
        /// Its code.
        code: u16,
        /// Its text with control characters replaced, at most 128 characters.
        message: String,
    },
}

/// A packet that is not answered with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// To be dropped without an answer.
    #[error("malformed packet")]
    Malformed,
    /// WRQ.
    #[error("this server is read-only")]
    Write,
    /// A request that cannot be read.
    #[error("malformed request")]
    Request,
    /// A mode other than octet and netascii.
    #[error("transfer mode not supported")]
    Mode,
    /// DATA or OACK.
    #[error("not a packet for a server")]
    NotForServer,
}

impl DecodeError {
    /// The ERROR to answer with, if the sender is to get one.
    pub fn answer(self) -> Option<(ErrorCode, &'static str)> {
        match self {
            Self::Malformed | Self::NotForServer => None,
            Self::Write => Some((ErrorCode::Access, "this server is read-only")),
            Self::Request => Some((ErrorCode::Illegal, "malformed request")),
            Self::Mode => Some((ErrorCode::Illegal, "transfer mode not supported, use octet")),
        }
    }
}

/// Reads a packet from a client (the payload of a UDP datagram).
pub fn decode(bytes: &[u8]) -> Result<Incoming, DecodeError> {
    let Some((opcode, rest)) = bytes.split_first_chunk::<2>() else {
        return Err(DecodeError::Malformed);
    };
    match u16::from_be_bytes(*opcode) {
        1 => decode_request(rest).map(Incoming::Read),
        2 => Err(DecodeError::Write),
        3 | 6 => Err(DecodeError::NotForServer),
        4 => rest.first_chunk::<2>().map(|block| Incoming::Ack(u16::from_be_bytes(*block))).ok_or(DecodeError::Malformed),
        5 => {
            // The code alone ends a transfer; the text need not even be ended.
            let (code, text) = rest.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let message = String::from_utf8_lossy(text).chars().take(128).map(|c| if c.is_control() { '.' } else { c }).collect();
            Ok(Incoming::Error { code: u16::from_be_bytes(*code), message })
        }
        _ => Err(DecodeError::Malformed),
    }
}

fn decode_request(bytes: &[u8]) -> Result<ReadRequest, DecodeError> {
    if bytes.len() > MAX_REQUEST - 2 {
        return Err(DecodeError::Request);
    }
    // Every string ends with NUL; what follows the last one is no string.
    let end = bytes.iter().rposition(|byte| *byte == 0).ok_or(DecodeError::Request)?;
    let mut strings = bytes.get(..end).unwrap_or_default().split(|byte| *byte == 0);
    let mut next = || strings.next().map(|raw| std::str::from_utf8(raw).ok());
    let name = next().flatten().ok_or(DecodeError::Request)?;
    let mode = next().flatten().ok_or(DecodeError::Request)?;
    if name.is_empty() {
        return Err(DecodeError::Request);
    }
    // netascii is served as octet: boot programs are binary, and clients that ask for text take bytes as they are.
    if !mode.eq_ignore_ascii_case("octet") && !mode.eq_ignore_ascii_case("netascii") {
        return Err(DecodeError::Mode);
    }
    let mut options = RequestOptions::default();
    while let (Some(option), Some(value)) = (next(), next()) {
        let (Some(option), Some(value)) = (option, value) else {
            continue;
        };
        options.read(option, value);
    }
    Ok(ReadRequest { name: name.to_owned(), options })
}

impl RequestOptions {
    /// Takes an option with a usable value, once; ignores everything else.
    fn read(&mut self, option: &str, value: &str) {
        // `parse` would accept a sign.
        if value.is_empty() || !value.bytes().all(|c| c.is_ascii_digit()) {
            return;
        }
        let number: u64 = value.parse().unwrap_or(u64::MAX);
        let is = |name: &str| option.eq_ignore_ascii_case(name);
        if is("blksize") && self.block.is_none() {
            // Larger than the largest: the largest is granted (a server may always grant less).
            self.block =
                (number >= u64::from(*BLOCK_RANGE.start())).then(|| u16::try_from(number).unwrap_or(u16::MAX).min(*BLOCK_RANGE.end()));
        } else if is("tsize") {
            self.size = true;
        } else if is("timeout") && self.timeout_secs.is_none() {
            self.timeout_secs = u8::try_from(number).ok().filter(|secs| *secs > 0);
        } else if is("windowsize") && self.window.is_none() {
            self.window = u16::try_from(number).ok().filter(|blocks| *blocks > 0);
        }
    }
}

/// What an OACK grants; only what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Granted {
    /// `blksize`.
    pub block: Option<u16>,
    /// `tsize`: length of the file.
    pub size: Option<u64>,
    /// `timeout`, as asked.
    pub timeout_secs: Option<u8>,
    /// `windowsize`.
    pub window: Option<u16>,
}

impl Granted {
    /// Whether nothing was granted, so that no OACK is sent.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The OACK packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0, 6];
        let mut put = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                out.extend(name.as_bytes());
                out.push(0);
                out.extend(value.to_string().into_bytes());
                out.push(0);
            }
        };
        put("blksize", self.block.map(u64::from));
        put("tsize", self.size);
        put("timeout", self.timeout_secs.map(u64::from));
        put("windowsize", self.window.map(u64::from));
        out
    }
}

/// The head of a DATA packet.
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// An ERROR packet.
pub fn encode_error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut out = vec![0, 5];
    out.extend((code as u16).to_be_bytes());
    out.extend(message.bytes().filter(|byte| *byte != 0));
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<ReadRequest, DecodeError> {
        let mut bytes = vec![0, 1];
        bytes.extend(text.bytes());
        match decode(&bytes)? {
            Incoming::Read(request) => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_firmware_are_read() {
        let got = request("snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0").unwrap();
        assert_eq!(got.name, "snponly.efi");
        assert_eq!(got.options, RequestOptions { block: Some(1468), size: true, timeout_secs: None, window: Some(4) });
    }

    #[test]
    fn unusable_option_values_are_ignored_not_fatal() {
        for option in [
            "blksize\x000",
            "blksize\0-1",
            "blksize\0+512",
            "blksize\0",
            "timeout\x000",
            "timeout\x00256",
            "windowsize\x000",
            "windowsize\x0070000",
            "blksize",
            "multicast\0",
        ] {
            let got = request(&format!("f\0octet\0{option}\0")).unwrap();
            assert_eq!(got.options, RequestOptions::default(), "{option:?}");
        }
        let got = request("f\0octet\0blksize\x004294967297\0").unwrap();
        assert_eq!(got.options.block, Some(65464));
    }

    #[test]
    fn requests_that_cannot_be_served_say_why() {
        assert_eq!(request("f\0mail\0"), Err(DecodeError::Mode));
        assert_eq!(request("f\0"), Err(DecodeError::Request));
        assert_eq!(request("\0octet\0"), Err(DecodeError::Request));
        assert_eq!(request("f"), Err(DecodeError::Request));
        assert_eq!(request(&format!("{}\0octet\0", "A".repeat(8192))), Err(DecodeError::Request));
        assert!(request("f\0oCteT\0").is_ok());
        assert_eq!(decode(&[0, 2, b'f', 0]), Err(DecodeError::Write));
    }

    #[test]
    fn an_error_without_its_nul_still_ends_the_transfer() {
        assert_eq!(decode(b"\0\x05\0\0user\nabort"), Ok(Incoming::Error { code: 0, message: "user.abort".into() }));
    }

    #[test]
    fn an_oack_names_only_what_is_granted() {
        let granted = Granted { block: Some(1468), size: Some(173_792), ..Granted::default() };
        assert_eq!(granted.encode(), b"\0\x06blksize\x001468\0tsize\x00173792\0");
    }
}
