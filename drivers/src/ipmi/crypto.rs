//! Keyed hashes, payload encryption and key derivation of RMCP+ sessions (IPMI 2.0 sections 13.28 to 13.34).
//!
//! Pure functions over bytes. Keys are wiped when dropped; nothing here logs or formats them.

use aes::Aes128;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Length of the user key and of the BMC key: shorter ones are padded with zero bytes (13.28).
pub const KEY_LEN: usize = 20;
/// AES block and initialisation vector.
pub const BLOCK: usize = 16;

/// How the two sides prove that they know the password (table 13-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// No proof at all.
    None,
    /// RAKP-HMAC-SHA1.
    HmacSha1,
    /// RAKP-HMAC-MD5.
    HmacMd5,
    /// RAKP-HMAC-SHA256.
    HmacSha256,
}

/// Code at the end of each packet (table 13-18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// No code.
    None,
    /// HMAC-SHA1-96: 12 bytes.
    HmacSha1,
    /// HMAC-MD5-128: 16 bytes.
    HmacMd5,
    /// HMAC-SHA256-128: 16 bytes.
    HmacSha256,
}

/// Encryption of each payload (table 13-19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidentiality {
    /// Plain text.
    None,
    /// AES-CBC with a 128-bit key.
    AesCbc128,
}

/// A cipher suite: the three algorithms that go together under one number (table 22-20).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherSuite {
    /// Number of the suite.
    pub id: u8,
    /// Log-in proof.
    pub authentication: Authentication,
    /// Packet code.
    pub integrity: Integrity,
    /// Payload encryption.
    pub confidentiality: Confidentiality,
}

/// Every suite this client can speak.
pub const SUITES: &[CipherSuite] = &[
    suite(0, Authentication::None, Integrity::None, Confidentiality::None),
    suite(1, Authentication::HmacSha1, Integrity::None, Confidentiality::None),
    suite(2, Authentication::HmacSha1, Integrity::HmacSha1, Confidentiality::None),
    suite(3, Authentication::HmacSha1, Integrity::HmacSha1, Confidentiality::AesCbc128),
    suite(6, Authentication::HmacMd5, Integrity::None, Confidentiality::None),
    suite(7, Authentication::HmacMd5, Integrity::HmacMd5, Confidentiality::None),
    suite(8, Authentication::HmacMd5, Integrity::HmacMd5, Confidentiality::AesCbc128),
    suite(15, Authentication::HmacSha256, Integrity::None, Confidentiality::None),
    suite(16, Authentication::HmacSha256, Integrity::HmacSha256, Confidentiality::None),
    suite(17, Authentication::HmacSha256, Integrity::HmacSha256, Confidentiality::AesCbc128),
];

const fn suite(id: u8, authentication: Authentication, integrity: Integrity, confidentiality: Confidentiality) -> CipherSuite {
    CipherSuite { id, authentication, integrity, confidentiality }
}

impl CipherSuite {
    /// The suite with this number, if this client can speak it.
    #[must_use]
    pub fn by_id(id: u8) -> Option<Self> {
        SUITES.iter().copied().find(|s| s.id == id)
    }

    /// The three algorithm numbers as they stand in the open session messages.
    #[must_use]
    pub const fn wire(self) -> [u8; 3] {
        let a = match self.authentication {
            Authentication::None => 0,
            Authentication::HmacSha1 => 1,
            Authentication::HmacMd5 => 2,
            Authentication::HmacSha256 => 3,
        };
        let i = match self.integrity {
            Integrity::None => 0,
            Integrity::HmacSha1 => 1,
            Integrity::HmacMd5 => 2,
            Integrity::HmacSha256 => 4,
        };
        let c = match self.confidentiality {
            Confidentiality::None => 0,
            Confidentiality::AesCbc128 => 1,
        };
        [a, i, c]
    }
}

fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut m = <M as Mac>::new_from_slice(key).expect("an HMAC takes a key of any length");
    for p in parts {
        m.update(p);
    }
    m.finalize().into_bytes().to_vec()
}

impl Authentication {
    /// Keyed hash over the parts; empty when there is no authentication.
    #[must_use]
    pub fn hash(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::HmacSha1 => mac::<Hmac<Sha1>>(key, parts),
            Self::HmacMd5 => mac::<Hmac<Md5>>(key, parts),
            Self::HmacSha256 => mac::<Hmac<Sha256>>(key, parts),
        }
    }

    /// Bytes of the check value in RAKP message 4: the hash is cut (13.28.1, 13.28.1b).
    #[must_use]
    pub const fn check_value_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::HmacSha1 => 12,
            Self::HmacMd5 | Self::HmacSha256 => 16,
        }
    }
}

impl Integrity {
    /// Bytes of the code at the end of a packet.
    #[must_use]
    pub const fn code_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::HmacSha1 => 12,
            Self::HmacMd5 | Self::HmacSha256 => 16,
        }
    }

    /// The code of a packet under key K1.
    #[must_use]
    pub fn code(self, k1: &[u8], packet: &[u8]) -> Vec<u8> {
        let mut full = match self {
            Self::None => Vec::new(),
            Self::HmacSha1 => mac::<Hmac<Sha1>>(k1, &[packet]),
            Self::HmacMd5 => mac::<Hmac<Md5>>(k1, &[packet]),
            Self::HmacSha256 => mac::<Hmac<Sha256>>(k1, &[packet]),
        };
        full.truncate(self.code_len());
        full
    }
}

/// Compares two codes in constant time; codes of different length are different.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && bool::from(a.ct_eq(b))
}

/// Encrypts a payload: padding 1, 2, 3…, a pad length byte, AES-CBC; the vector goes in front (13.29.2).
#[must_use]
pub fn encrypt(key: &[u8; BLOCK], iv: &[u8; BLOCK], plain: &[u8]) -> Vec<u8> {
    let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + pad + 1));
    text.extend_from_slice(plain);
    text.extend((1..=BLOCK as u8).take(pad));
    text.push(pad as u8);
    let body = cbc::Encryptor::<Aes128>::new(key.into(), iv.into()).encrypt_padded_vec_mut::<NoPadding>(&text);
    let mut out = Vec::with_capacity(BLOCK + body.len());
    out.extend_from_slice(iv);
    out.extend_from_slice(&body);
    out
}

/// Decrypts a payload; `None` when the length, the blocks or the padding are not as the specification says.
#[must_use]
pub fn decrypt(key: &[u8; BLOCK], data: &[u8]) -> Option<Vec<u8>> {
    let (iv, body) = data.split_at_checked(BLOCK)?;
    if body.is_empty() || !body.len().is_multiple_of(BLOCK) {
        return None;
    }
    let iv: &[u8; BLOCK] = iv.try_into().ok()?;
    let mut plain = cbc::Decryptor::<Aes128>::new(key.into(), iv.into()).decrypt_padded_vec_mut::<NoPadding>(body).ok()?;
    let pad = usize::from(plain.pop()?);
    if pad >= BLOCK {
        return None;
    }
    let padding = plain.split_off(plain.len().checked_sub(pad)?);
    // Some BMCs fill the padding with other values; the code of the packet has proved it unchanged, and nothing reads it.
    drop(padding);
    Some(plain)
}

/// The user key: the password padded with zero bytes. `None` when it is longer than [`KEY_LEN`].
#[must_use]
pub fn padded_key(secret: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let mut key = Zeroizing::new([0u8; KEY_LEN]);
    key.get_mut(..secret.len())?.copy_from_slice(secret);
    Some(key)
}

/// Keys of an established session.
pub struct SessionKeys {
    k1: Zeroizing<Vec<u8>>,
    aes: Zeroizing<[u8; BLOCK]>,
}

impl SessionKeys {
    /// Derives K1 and K2 from the session integrity key (13.32). The constants are 20 bytes long with every hash.
    #[must_use]
    pub fn derive(authentication: Authentication, sik: &[u8]) -> Self {
        let k1 = Zeroizing::new(authentication.hash(sik, &[&[1; KEY_LEN]]));
        let k2 = Zeroizing::new(authentication.hash(sik, &[&[2; KEY_LEN]]));
        let mut aes = Zeroizing::new([0u8; BLOCK]);
        for (to, from) in aes.iter_mut().zip(k2.iter()) {
            *to = *from;
        }
        Self { k1, aes }
    }

    /// Key of the packet codes.
    #[must_use]
    pub fn k1(&self) -> &[u8] {
        &self.k1
    }

    /// Key of the payload encryption: the first 16 bytes of K2.
    #[must_use]
    pub fn aes(&self) -> &[u8; BLOCK] {
        &self.aes
    }
}
