//! RMCP+ log-in and established sessions, without any input or output.
//!
//! [`Handshake`] turns answers into the next packet until a [`Session`] stands; [`Session`] protects and checks
//! packets. Time, sockets and retries belong to the caller. A packet that does not belong to the session is an
//! error value, never a state change: a stranger's datagram cannot end or alter a session.

use bessemer_model::secret::Secret;
use thiserror::Error;
use zeroize::Zeroizing;

use super::codec::{self, OpenResponse, Packet, PacketError, PayloadType, PlusPacket, Rakp2};
use super::crypto::{self, CipherSuite, Confidentiality, Integrity, SessionKeys};

/// Longest user name (13.20).
pub const MAX_USER: usize = 16;
/// Bit of the role byte: look the user up by name alone.
const NAME_ONLY: u8 = 0x10;
/// RAKP status "invalid integrity check value".
const STATUS_BAD_CODE: u8 = 0x0f;

/// Privilege levels that a session may ask for (6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Privilege {
    /// Call-back only.
    Callback = 1,
    /// Reading.
    User = 2,
    /// Power and boot, no configuration of the BMC.
    Operator = 3,
    /// Everything.
    #[default]
    Administrator = 4,
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Login {
    /// User name, at most [`MAX_USER`] bytes; empty for the NULL user.
    pub user: String,
    /// Password, at most 20 bytes.
    pub password: Secret<String>,
    /// BMC key (Kg), at most 20 bytes, when one is set in the BMC.
    pub kg: Option<Secret<Vec<u8>>>,
    /// Privilege asked for.
    pub privilege: Privilege,
    /// Look the user up by name alone, not by name and privilege (13.20). What every client does unless a BMC has two users of one name.
    pub name_only: bool,
}

/// Why a log-in failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The BMC does not speak this cipher suite.
    #[error("cipher suite {suite} refused (status {status:#04x})")]
    Suite {
        /// Suite that was asked for.
        suite: u8,
        /// Status of the BMC.
        status: u8,
    },
    /// The BMC says yes to algorithms that were not asked for. Not accepted: it would be a downgrade.
    #[error("cipher suite {suite} asked for, but the BMC chose algorithms {chosen:?}")]
    OtherSuite {
        /// Suite that was asked for.
        suite: u8,
        /// Authentication, integrity and confidentiality algorithm of the BMC.
        chosen: [u8; 3],
    },
    /// No free session in the BMC.
    #[error("the BMC has no free session")]
    NoResources,
    /// The BMC does not know the user.
    #[error("the BMC does not accept the user name")]
    User,
    /// The BMC proved a different password.
    #[error("the password does not fit the user")]
    Password,
    /// Key agreement failed after the password was right: the BMC key (Kg) is wrong or missing.
    #[error("the password fits but the BMC key (Kg) does not")]
    BmcKey,
    /// The user may not have the privilege.
    #[error("the user may not have the privilege level asked for")]
    Privilege,
    /// Any other status of the log-in (table 13-15).
    #[error("the BMC ended the log-in with status {0:#04x}")]
    Status(u8),
    /// The answer is malformed beyond use.
    #[error("malformed log-in answer: {0}")]
    Malformed(PacketError),
}

/// Where a log-in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Open session request sent.
    Open,
    /// RAKP 1 sent: the user name is looked up.
    User,
    /// RAKP 3 sent: keys are being agreed.
    Keys,
}

/// What a packet meant to a log-in.
pub enum Step {
    /// Not for this log-in, or an answer to an earlier try: go on waiting.
    Ignored,
    /// The next packet is due: call [`Handshake::packet`].
    Next,
    /// The session stands.
    Established(Box<Session>),
    /// The log-in failed. The packet, if any, tells the BMC so.
    Refused(Refusal, Option<Vec<u8>>),
}

enum State {
    Open,
    User { bmc_sid: u32 },
    Keys { bmc_sid: u32, random: [u8; 16], guid: [u8; 16] },
}

/// One attempt to log in with one cipher suite.
pub struct Handshake {
    suite: CipherSuite,
    user: Vec<u8>,
    user_key: Zeroizing<[u8; crypto::KEY_LEN]>,
    bmc_key: Zeroizing<[u8; crypto::KEY_LEN]>,
    role: u8,
    console_sid: u32,
    random: [u8; 16],
    tag: u8,
    sent: bool,
    state: State,
}

impl Handshake {
    /// A new attempt. `console_sid` must not be 0 nor in use; `random` must be unpredictable; `tag` should differ
    /// from attempt to attempt. `None` when a name or key is longer than the protocol allows.
    #[must_use]
    pub fn new(suite: CipherSuite, login: &Login, console_sid: u32, random: [u8; 16], tag: u8) -> Option<Self> {
        if login.user.len() > MAX_USER {
            return None;
        }
        let user_key = crypto::padded_key(login.password.reveal().as_bytes())?;
        let bmc_key = match &login.kg {
            Some(kg) if !kg.reveal().is_empty() => crypto::padded_key(kg.reveal())?,
            _ => user_key.clone(),
        };
        Some(Self {
            suite,
            user: login.user.as_bytes().to_vec(),
            user_key,
            bmc_key,
            role: if login.name_only { NAME_ONLY } else { 0 } | login.privilege as u8,
            console_sid,
            random,
            tag,
            sent: false,
            state: State::Open,
        })
    }

    /// Where the log-in is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self.state {
            State::Open => Stage::Open,
            State::User { .. } => Stage::User,
            State::Keys { .. } => Stage::Keys,
        }
    }

    /// The packet to send now. Each call within the first two steps uses a new message tag, so that only the answer to the last try is
    /// taken: a BMC may have chosen new numbers for it. In the last step every try is the same packet: the first one that arrives ends
    /// the log-in on the side of the BMC, and later ones may be refused.
    pub fn packet(&mut self) -> Vec<u8> {
        if self.sent && self.stage() != Stage::Keys {
            self.tag = self.tag.wrapping_add(1);
        }
        self.sent = true;
        let (kind, payload) = match &self.state {
            State::Open => (PayloadType::OpenRequest, codec::open_request(self.tag, self.console_sid, self.suite.wire())),
            State::User { bmc_sid } => (PayloadType::Rakp1, codec::rakp1(self.tag, *bmc_sid, &self.random, self.role, &self.user)),
            State::Keys { bmc_sid, random, guid: _ } => {
                let code = self.suite.authentication.hash(&*self.user_key, &[random, &self.console_sid.to_le_bytes(), &self.name_part()]);
                (PayloadType::Rakp3, codec::rakp3(self.tag, 0, *bmc_sid, &code))
            }
        };
        codec::plus_packet(kind, false, false, 0, 0, &payload)
    }

    /// Role byte, user name length, user name: part of every hash of the log-in.
    fn name_part(&self) -> Vec<u8> {
        let mut v = vec![self.role, self.user.len() as u8];
        v.extend_from_slice(&self.user);
        v
    }

    /// Takes a datagram. Strangers' and late packets give [`Step::Ignored`].
    pub fn receive(&mut self, datagram: &[u8]) -> Step {
        let Ok(Packet::Plus(p)) = codec::parse(datagram) else {
            return Step::Ignored;
        };
        let expected = match self.state {
            State::Open => PayloadType::OpenResponse,
            State::User { .. } => PayloadType::Rakp2,
            State::Keys { .. } => PayloadType::Rakp4,
        };
        if p.payload_type != expected || p.encrypted || p.authenticated {
            return Step::Ignored;
        }
        let Ok((tag, status)) = codec::login_status(p.payload) else {
            return Step::Ignored;
        };
        if tag != self.tag || !self.sent {
            return Step::Ignored;
        }
        // Refusals may be as short as two bytes; only then is a missing session id allowed.
        match p.console_session() {
            Some(sid) if sid == self.console_sid => {}
            None if status != 0 => {}
            _ => return Step::Ignored,
        }
        if status != 0 {
            return Step::Refused(self.refusal(status), None);
        }
        match self.state {
            State::Open => self.opened(&p),
            State::User { bmc_sid } => self.proved(&p, bmc_sid),
            State::Keys { bmc_sid, random, guid } => self.agreed(&p, bmc_sid, &random, &guid),
        }
    }

    fn refusal(&self, status: u8) -> Refusal {
        match (status, self.stage()) {
            (0x01 | 0x0b, _) => Refusal::NoResources,
            // Invalid algorithm of either kind, no suite match, and the "illegal parameter" that stands for them in some BMCs.
            (0x03..=0x05 | 0x10..=0x12, Stage::Open) => Refusal::Suite { suite: self.suite.id, status },
            (0x09 | 0x0a, _) => Refusal::Privilege,
            (0x0c | 0x0d, _) => Refusal::User,
            (STATUS_BAD_CODE, Stage::Keys) => Refusal::Password,
            _ => Refusal::Status(status),
        }
    }

    fn opened(&mut self, p: &PlusPacket<'_>) -> Step {
        match OpenResponse::decode(p.payload) {
            Err(e) => Step::Refused(Refusal::Malformed(e), None),
            Ok(r) if r.algorithms != self.suite.wire() => {
                Step::Refused(Refusal::OtherSuite { suite: self.suite.id, chosen: r.algorithms }, None)
            }
            Ok(r) if r.bmc_sid == 0 => Step::Refused(Refusal::Malformed(PacketError::Message), None),
            Ok(r) => {
                self.advance(State::User { bmc_sid: r.bmc_sid });
                Step::Next
            }
        }
    }

    fn advance(&mut self, state: State) {
        self.state = state;
        self.sent = false;
    }

    fn proved(&mut self, p: &PlusPacket<'_>, bmc_sid: u32) -> Step {
        let r = match Rakp2::decode(p.payload) {
            Ok(r) => r,
            Err(e) => return Step::Refused(Refusal::Malformed(e), None),
        };
        let expected = self.suite.authentication.hash(
            &*self.user_key,
            &[&self.console_sid.to_le_bytes(), &bmc_sid.to_le_bytes(), &self.random, r.random, r.guid, &self.name_part()],
        );
        if !crypto::same(&expected, r.code) {
            let farewell =
                codec::plus_packet(PayloadType::Rakp3, false, false, 0, 0, &codec::rakp3(self.tag, STATUS_BAD_CODE, bmc_sid, &[]));
            let why = if r.code.len() == expected.len() { Refusal::Password } else { Refusal::Malformed(PacketError::Short) };
            return Step::Refused(why, Some(farewell));
        }
        self.advance(State::Keys { bmc_sid, random: *r.random, guid: *r.guid });
        Step::Next
    }

    fn agreed(&mut self, p: &PlusPacket<'_>, bmc_sid: u32, random: &[u8; 16], guid: &[u8; 16]) -> Step {
        let auth = self.suite.authentication;
        let sik = Zeroizing::new(auth.hash(&*self.bmc_key, &[&self.random, random, &self.name_part()]));
        let mut expected = auth.hash(&sik, &[&self.random, &bmc_sid.to_le_bytes(), guid]);
        expected.truncate(auth.check_value_len());
        let got = p.payload.get(8..).unwrap_or_default();
        if !crypto::same(&expected, got) {
            let why = if got.len() == expected.len() { Refusal::BmcKey } else { Refusal::Malformed(PacketError::Short) };
            return Step::Refused(why, None);
        }
        Step::Established(Box::new(Session::new(self.suite, SessionKeys::derive(auth, &sik), self.console_sid, bmc_sid)))
    }
}

/// Sequence numbers seen lately; tells new from repeated.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    fn accept(&mut self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.highest);
        if ahead != 0 && ahead < 1 << 31 {
            // Jumps are fine however long: the packets between were lost on the way.
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest.wrapping_sub(sequence)).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

/// An established session.
pub struct Session {
    suite: CipherSuite,
    keys: SessionKeys,
    console_sid: u32,
    bmc_sid: u32,
    out_sequence: u32,
    window: Window,
}

/// A payload from the BMC that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Kind of payload.
    pub payload_type: PayloadType,
    /// Plain payload.
    pub payload: Vec<u8>,
}

impl Session {
    /// A session from agreed keys; the first packet sent has sequence number 1.
    #[must_use]
    pub fn new(suite: CipherSuite, keys: SessionKeys, console_sid: u32, bmc_sid: u32) -> Self {
        Self {
            suite,
            keys,
            console_sid,
            bmc_sid,
            out_sequence: 0,
            // Bit 0 set: sequence number 0 is never valid in a session.
            window: Window { highest: 0, seen: 1 },
        }
    }

    /// Cipher suite in use.
    #[must_use]
    pub const fn suite(&self) -> CipherSuite {
        self.suite
    }

    /// Session id of this side.
    #[must_use]
    pub const fn console_sid(&self) -> u32 {
        self.console_sid
    }

    /// Session id of the BMC.
    #[must_use]
    pub const fn bmc_sid(&self) -> u32 {
        self.bmc_sid
    }

    /// A protected packet for the BMC under the next sequence number. `iv` must be unpredictable and new for each packet.
    pub fn seal(&mut self, payload_type: PayloadType, plain: &[u8], iv: &[u8; 16]) -> Vec<u8> {
        // 0 stands for "outside of a session" (13.11.4) and is skipped on wrap.
        self.out_sequence = self.out_sequence.wrapping_add(1).max(1);
        seal(self.suite, &self.keys, payload_type, self.out_sequence, self.bmc_sid, plain, iv)
    }

    /// Checks a packet from the BMC and gives its payload. A failed check changes nothing.
    pub fn open(&mut self, p: &PlusPacket<'_>) -> Result<Received, PacketError> {
        if p.session_id != self.console_sid || !matches!(p.payload_type, PayloadType::Ipmi | PayloadType::Sol) {
            return Err(PacketError::Protection);
        }
        let payload = unseal(self.suite, &self.keys, p)?;
        if !self.window.accept(p.sequence) {
            return Err(PacketError::Replay);
        }
        Ok(Received { payload_type: p.payload_type, payload })
    }
}

/// A protected packet: encryption, padding to four bytes, code (13.28.4).
#[must_use]
pub fn seal(
    suite: CipherSuite,
    keys: &SessionKeys,
    payload_type: PayloadType,
    sequence: u32,
    session_id: u32,
    plain: &[u8],
    iv: &[u8; 16],
) -> Vec<u8> {
    let encrypted = suite.confidentiality == Confidentiality::AesCbc128;
    let authenticated = suite.integrity != Integrity::None;
    let body = if encrypted { crypto::encrypt(keys.aes(), iv, plain) } else { plain.to_vec() };
    let mut p = codec::plus_packet(payload_type, encrypted, authenticated, session_id, sequence, &body);
    if authenticated {
        // The pad length and next header bytes count; the four RMCP bytes in front do not change the remainder.
        let pad = (4 - (p.len() + 2) % 4) % 4;
        p.extend(std::iter::repeat_n(0xff, pad));
        p.extend_from_slice(&[pad as u8, codec::RMCP_HEADER[3]]);
        let code = suite.integrity.code(keys.k1(), p.get(codec::RMCP_HEADER.len()..).unwrap_or_default());
        p.extend_from_slice(&code);
    }
    p
}

/// Checks code and protection flags of a packet and decrypts it. The flags must be those of the suite: a packet
/// without code or encryption in a session that has them is refused.
pub fn unseal(suite: CipherSuite, keys: &SessionKeys, p: &PlusPacket<'_>) -> Result<Vec<u8>, PacketError> {
    let encrypted = suite.confidentiality == Confidentiality::AesCbc128;
    let authenticated = suite.integrity != Integrity::None;
    if p.encrypted != encrypted || p.authenticated != authenticated {
        return Err(PacketError::Protection);
    }
    if authenticated {
        let split = p.covered.len().checked_sub(suite.integrity.code_len()).ok_or(PacketError::Short)?;
        let (signed, code) = p.covered.split_at(split);
        if !crypto::same(&suite.integrity.code(keys.k1(), signed), code) {
            return Err(PacketError::Protection);
        }
        // padding, pad length, next header: nothing may hide between payload and code
        let rest = p.trailer.len().checked_sub(code.len()).and_then(|n| p.trailer.get(..n));
        match rest {
            Some([pad @ .., len, _]) if pad.len() == usize::from(*len) => {}
            _ => return Err(PacketError::Protection),
        }
    }
    if encrypted { crypto::decrypt(keys.aes(), p.payload).ok_or(PacketError::Protection) } else { Ok(p.payload.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_takes_each_number_once_and_old_ones_never() {
        let mut w = Window { highest: 0, seen: 1 };
        assert!(!w.accept(0));
        assert!(w.accept(1));
        assert!(!w.accept(1));
        assert!(w.accept(5));
        assert!(w.accept(3));
        assert!(!w.accept(3));
        assert!(w.accept(200));
        assert!(!w.accept(5));
        assert!(w.accept(199));
        assert!(w.accept(u32::MAX / 2));
    }

    #[test]
    fn the_window_goes_on_past_the_end_of_the_numbers() {
        let mut w = Window { highest: u32::MAX, seen: 1 };
        assert!(w.accept(1));
        assert!(!w.accept(u32::MAX));
    }
}
