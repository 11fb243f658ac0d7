//! Sealing of secrets: ChaCha20-Poly1305 (RFC 8439) with a random nonce, bound to the node and the kind so that a sealed value moved
//! to another row does not open. The key lives in a file outside the database.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use bessemer_model::ids::NodeId;
use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use rand::RngCore as _;
use zeroize::Zeroizing;

use crate::error::{DbError, Result};

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;

/// The key that secrets are sealed with. Cheap to clone; never shown.
#[derive(Clone)]
pub struct SealKey(Arc<ChaCha20Poly1305>);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(******)")
    }
}

impl SealKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Self {
        Self(Arc::new(ChaCha20Poly1305::new(Key::from_slice(bytes))))
    }

    /// A fresh key that nothing else knows.
    #[must_use]
    pub fn random() -> Self {
        let mut b = Zeroizing::new([0u8; KEY_LEN]);
        rand::rng().fill_bytes(&mut b[..]);
        Self::from_bytes(&b)
    }

    /// Reads the key file, or makes one (mode 0600) when there is none.
    ///
    /// # Errors
    /// [`DbError::SealKey`] when the file is unreadable, has not 32 bytes or may be read by others.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let fail = |reason: String| DbError::SealKey { path: path.display().to_string(), reason };
        match fs::File::open(path) {
            Ok(mut f) => {
                let meta = f.metadata().map_err(|e| fail(e.to_string()))?;
                if meta.permissions().mode() & 0o077 != 0 {
                    return Err(fail("others may read it; run chmod 600 on it".to_owned()));
                }
                let mut b = Zeroizing::new([0u8; KEY_LEN]);
                if meta.len() != KEY_LEN as u64 {
                    return Err(fail(format!("expected {KEY_LEN} bytes, found {}", meta.len())));
                }
                f.read_exact(&mut b[..]).map_err(|e| fail(e.to_string()))?;
                Ok(Self::from_bytes(&b))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::create(path).map_err(|e| fail(e.to_string())),
            Err(e) => Err(fail(e.to_string())),
        }
    }

    /// Written aside and linked into place: a crash leaves no short key file, and of two that create at once both read the same key.
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut b = Zeroizing::new([0u8; KEY_LEN]);
        rand::rng().fill_bytes(&mut b[..]);
        let aside = path.with_extension(format!("new-{}", uuid::Uuid::new_v4()));
        let mut f = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        f.write_all(&b[..])?;
        f.sync_all()?;
        let linked = fs::hard_link(&aside, path);
        fs::remove_file(&aside)?;
        match linked {
            Ok(()) => Ok(Self::from_bytes(&b)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut other = Zeroizing::new([0u8; KEY_LEN]);
                fs::File::open(path)?.read_exact(&mut other[..])?;
                Ok(Self::from_bytes(&other))
            }
            Err(e) => Err(e),
        }
    }

    /// Seals a secret of a node: nonce, then ciphertext with its tag.
    pub(crate) fn seal(&self, node: NodeId, kind: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0u8; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let aad = associated(node, kind);
        let sealed = self
            .0
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: plain, aad: &aad })
            .map_err(|_| DbError::corrupt("secret", "too long to seal"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`SealKey::seal`] made.
    pub(crate) fn unseal(&self, node: NodeId, kind: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let fail = || DbError::Unsealable { kind: kind.to_owned() };
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fail)?;
        let aad = associated(node, kind);
        self.0.decrypt(Nonce::from_slice(nonce), Payload { msg: rest, aad: &aad }).map(Zeroizing::new).map_err(|_| fail())
    }
}

fn associated(node: NodeId, kind: &str) -> Vec<u8> {
    format!("{node}/{kind}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_for_its_node_and_kind() {
        let (k, n) = (SealKey::random(), NodeId::random());
        let s = k.seal(n, "agent_token", b"hunter2").unwrap();
        assert!(!s.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(&k.unseal(n, "agent_token", &s).unwrap()[..], b"hunter2");
        assert!(k.unseal(NodeId::random(), "agent_token", &s).is_err());
        assert!(k.unseal(n, "driver_info", &s).is_err());
        assert!(SealKey::random().unseal(n, "agent_token", &s).is_err());
        assert!(k.unseal(n, "agent_token", b"short").is_err());
    }

    #[test]
    fn the_key_file_is_private_and_stays_the_same() {
        let d = tempfile::tempdir().unwrap();
        let p = d.path().join("seal.key");
        let n = NodeId::random();
        let s = SealKey::load_or_create(&p).unwrap().seal(n, "x", b"y").unwrap();
        assert_eq!(fs::metadata(&p).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(&SealKey::load_or_create(&p).unwrap().unseal(n, "x", &s).unwrap()[..], b"y");
        fs::set_permissions(&p, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SealKey::load_or_create(&p), Err(DbError::SealKey { .. })));
    }
}
