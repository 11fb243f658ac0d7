//! Bytes and keys of RMCP+ from the side of the BMC, written from the IPMI 2.0 specification for this crate alone.

use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::NoPadding};
use hmac::{Hmac, Mac};

pub(super) const RMCP_IPMI: [u8; 4] = [6, 0, 0xff, 7];

/// The algorithm numbers of a suite: authentication, integrity, confidentiality.
pub(super) fn algorithms_of(suite: u8) -> Option<(u8, u8, u8)> {
    match suite {
        0 => Some((0, 0, 0)),
        1 => Some((1, 0, 0)),
        2 => Some((1, 1, 0)),
        3 => Some((1, 1, 1)),
        17 => Some((3, 4, 1)),
        _ => None,
    }
}

/// HMAC by the number of the authentication algorithm.
pub(super) fn keyed(auth: u8, key: &[u8], message: &[u8]) -> Vec<u8> {
    match auth {
        1 => {
            let mut h = Hmac::<sha1::Sha1>::new_from_slice(key).expect("any key length fits HMAC");
            h.update(message);
            h.finalize().into_bytes().to_vec()
        }
        3 => {
            let mut h = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any key length fits HMAC");
            h.update(message);
            h.finalize().into_bytes().to_vec()
        }
        _ => vec![],
    }
}

fn trailer_code(integrity: u8, k1: &[u8], data: &[u8]) -> Vec<u8> {
    match integrity {
        1 => keyed(1, k1, data)[..12].to_vec(),
        4 => keyed(3, k1, data)[..16].to_vec(),
        _ => vec![],
    }
}

/// Length of the check value that ends RAKP 4.
pub(super) fn rakp4_len(auth: u8) -> usize {
    match auth {
        1 => 12,
        3 => 16,
        _ => 0,
    }
}

/// Password or key filled up with zeroes to 20 bytes.
pub(super) fn twenty(secret: &[u8]) -> Vec<u8> {
    let mut v = secret.to_vec();
    v.resize(20, 0);
    v
}

pub(super) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |a, b| a.wrapping_add(*b))
}

/// Header fields of an incoming RMCP+ packet.
pub(super) struct Incoming<'a> {
    pub kind: u8,
    pub encrypted: bool,
    pub signed: bool,
    pub sid: u32,
    pub seq: u32,
    pub payload: &'a [u8],
    pub from_header: &'a [u8],
}

pub(super) enum Datagram<'a> {
    /// Presence ping with this message tag.
    Ping(u8),
    /// IPMI 1.5 message outside of a session.
    Lan15(&'a [u8]),
    Plus(Incoming<'a>),
}

pub(super) fn le32(b: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(..4)?.try_into().ok()?))
}

/// Takes a datagram apart; anything odd is `None`.
pub(super) fn read(d: &[u8]) -> Option<Datagram<'_>> {
    if d.first() != Some(&6) {
        return None;
    }
    if d.get(3) == Some(&6) {
        // ASF: IANA number 4542, type 80h presence ping
        return (d.get(4..9)? == [0, 0, 0x11, 0xbe, 0x80]).then(|| Datagram::Ping(d.get(9).copied().unwrap_or(0)));
    }
    if d.get(3) != Some(&7) {
        return None;
    }
    let s = d.get(4..)?;
    match s.first()? {
        0 => {
            if le32(s.get(5..)?)? != 0 {
                return None;
            }
            let n = usize::from(*s.get(9)?);
            Some(Datagram::Lan15(s.get(10..10 + n)?))
        }
        6 => {
            let kind = *s.get(1)?;
            let n = usize::from(u16::from_le_bytes(s.get(10..12)?.try_into().ok()?));
            Some(Datagram::Plus(Incoming {
                kind: kind & 0x3f,
                encrypted: kind & 0x80 != 0,
                signed: kind & 0x40 != 0,
                sid: le32(s.get(2..)?)?,
                seq: le32(s.get(6..)?)?,
                payload: s.get(12..12 + n)?,
                from_header: s,
            }))
        }
        _ => None,
    }
}

/// A packet outside of any session.
pub(super) fn unprotected(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = RMCP_IPMI.to_vec();
    p.extend([6, kind]);
    p.extend([0; 8]);
    p.extend(u16::try_from(payload.len()).unwrap_or(0).to_le_bytes());
    p.extend(payload);
    p
}

/// An IPMI 1.5 packet outside of any session.
pub(super) fn lan15(message: &[u8]) -> Vec<u8> {
    let mut p = RMCP_IPMI.to_vec();
    p.extend([0; 9]);
    p.push(u8::try_from(message.len()).unwrap_or(0));
    p.extend(message);
    p
}

/// Keys of an active session.
#[derive(Clone)]
pub(super) struct Keys {
    pub integrity: u8,
    pub confidentiality: u8,
    k1: Vec<u8>,
    aes: [u8; 16],
}

impl Keys {
    pub(super) fn new((auth, integrity, confidentiality): (u8, u8, u8), sik: &[u8]) -> Self {
        let k2 = keyed(auth, sik, &[2; 20]);
        let mut aes = [0; 16];
        if k2.len() >= 16 {
            aes.copy_from_slice(&k2[..16]);
        }
        Self { integrity, confidentiality, k1: keyed(auth, sik, &[1; 20]), aes }
    }

    /// Checks and decrypts.
    pub(super) fn admit(&self, p: &Incoming<'_>) -> Option<Vec<u8>> {
        if p.encrypted != (self.confidentiality != 0) || p.signed != (self.integrity != 0) {
            return None;
        }
        if p.signed {
            let n = if self.integrity == 1 { 12 } else { 16 };
            let cut = p.from_header.len().checked_sub(n)?;
            let (data, code) = p.from_header.split_at(cut);
            if trailer_code(self.integrity, &self.k1, data) != code {
                return None;
            }
            // The covered part is a multiple of four bytes and ends with pad length and next header 07h.
            if !data.len().is_multiple_of(4) || data.last() != Some(&7) {
                return None;
            }
            let pad = usize::from(*data.get(data.len().checked_sub(2)?)?);
            if 12 + p.payload.len() + pad + 2 != data.len() {
                return None;
            }
        }
        if !p.encrypted {
            return Some(p.payload.to_vec());
        }
        let (iv, body) = p.payload.split_at_checked(16)?;
        if body.is_empty() || !body.len().is_multiple_of(16) {
            return None;
        }
        let mut text = cbc::Decryptor::<aes::Aes128>::new((&self.aes).into(), iv.into()).decrypt_padded_vec_mut::<NoPadding>(body).ok()?;
        let pad = usize::from(text.pop()?);
        let keep = text.len().checked_sub(pad)?;
        // Strict on purpose: the padding must count up from 1.
        if pad > 15 || !text[keep..].iter().zip(1u8..).all(|(a, b)| *a == b) {
            return None;
        }
        text.truncate(keep);
        Some(text)
    }

    /// Encrypts and signs.
    pub(super) fn protect(&self, kind: u8, sid: u32, seq: u32, plain: &[u8]) -> Vec<u8> {
        let body = if self.confidentiality == 0 {
            plain.to_vec()
        } else {
            let iv: [u8; 16] = rand::random();
            let mut text = plain.to_vec();
            let mut n = 0u8;
            while !(text.len() + 1).is_multiple_of(16) {
                n += 1;
                text.push(n);
            }
            text.push(n);
            let mut b = iv.to_vec();
            b.extend(cbc::Encryptor::<aes::Aes128>::new((&self.aes).into(), (&iv).into()).encrypt_padded_vec_mut::<NoPadding>(&text));
            b
        };
        let mut flags = kind;
        if self.confidentiality != 0 {
            flags |= 0x80;
        }
        if self.integrity != 0 {
            flags |= 0x40;
        }
        let mut s = vec![6, flags];
        s.extend(sid.to_le_bytes());
        s.extend(seq.to_le_bytes());
        s.extend(u16::try_from(body.len()).unwrap_or(0).to_le_bytes());
        s.extend(body);
        if self.integrity != 0 {
            let mut pad = 0;
            while !(s.len() + 2).is_multiple_of(4) {
                s.push(0xff);
                pad += 1;
            }
            s.extend([pad, 7]);
            let code = trailer_code(self.integrity, &self.k1, &s);
            s.extend(code);
        }
        let mut p = RMCP_IPMI.to_vec();
        p.extend(s);
        p
    }
}

/// A request message taken apart.
pub(super) struct Command {
    pub netfn: u8,
    pub lun: u8,
    pub cmd: u8,
    pub data: Vec<u8>,
    requester: u8,
    seq_lun: u8,
    responder: u8,
}

impl Command {
    /// Reads a request; bad checksums and odd network functions are `None`.
    pub(super) fn read(m: &[u8]) -> Option<Self> {
        if m.len() < 7 || sum(&m[..3]) != 0 || sum(&m[3..]) != 0 || m[1] >> 2 & 1 == 1 {
            return None;
        }
        Some(Self {
            responder: m[0],
            netfn: m[1] >> 2,
            lun: m[1] & 3,
            requester: m[3],
            seq_lun: m[4],
            cmd: m[5],
            data: m[6..m.len() - 1].to_vec(),
        })
    }

    /// Request sequence number.
    pub(super) fn rq_seq(&self) -> u8 {
        self.seq_lun >> 2
    }

    /// The response message.
    pub(super) fn answer(&self, completion: u8, data: &[u8]) -> Vec<u8> {
        let mut m = vec![self.requester, ((self.netfn + 1) << 2) | (self.seq_lun & 3)];
        m.push(0u8.wrapping_sub(sum(&m)));
        m.extend([self.responder, (self.seq_lun & 0xfc) | self.lun, self.cmd, completion]);
        m.extend(data);
        m.push(0u8.wrapping_sub(sum(&m[3..])));
        m
    }
}
