//! Callers known by a file of users and bcrypt digests.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::{Caller, Denied};

/// A file of users, read again for each request, and the pairs verified lately.
#[derive(Clone)]
pub struct BasicAuth {
    file: PathBuf,
    verified: Arc<Mutex<HashMap<[u8; 32], ()>>>,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("file", &self.file).finish_non_exhaustive()
    }
}

/// So many verified pairs are remembered.
const REMEMBERED: usize = 256;
/// A users file is never larger.
const MAX_FILE: u64 = 1 << 20;

pub(super) const fn denied(message: &'static str) -> Denied {
    Denied::Basic { message, parsable: true }
}

/// User and password of a header.
pub(super) fn parse(header: &str) -> Result<(String, String), Denied> {
    let unparsable = || Denied::Basic { message: "Could not parse the Authorization header", parsable: false };
    let (scheme, token) = header.trim().split_once(' ').ok_or_else(unparsable)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unparsable());
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(token.trim()).map_err(|_| unparsable())?;
    let text = String::from_utf8(bytes).map_err(|_| unparsable())?;
    let (user, password) = text.split_once(':').ok_or_else(unparsable)?;
    Ok((user.to_owned(), password.to_owned()))
}

impl BasicAuth {
    /// Users of this file.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), verified: Arc::default() }
    }

    /// The caller, if the password is the user's.
    pub(super) async fn verify(&self, user: String, password: String) -> Result<Caller, Denied> {
        let digest = self.digest_of(&user).await.ok_or_else(|| denied("Incorrect username or password"))?;
        let key: [u8; 32] = Sha256::new()
            .chain_update(user.as_bytes())
            .chain_update([0])
            .chain_update(password.as_bytes())
            .chain_update([0])
            .chain_update(digest.as_bytes())
            .finalize()
            .into();
        let known = self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
        if !known {
            // bcrypt is slow on purpose: not on the threads that serve requests.
            let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &digest).unwrap_or(false));
            if !checked.await.unwrap_or(false) {
                return Err(denied("Incorrect username or password"));
            }
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
            verified.insert(key, ());
        }
        Ok(Caller { user_id: Some(user.clone()), user_name: Some(user), ..Caller::default() })
    }

    /// The bcrypt digest of the first line that starts with the user's name.
    async fn digest_of(&self, user: &str) -> Option<String> {
        let size = tokio::fs::metadata(&self.file).await.map(|m| m.len()).unwrap_or(0);
        if size > MAX_FILE {
            tracing::error!(file = %self.file.display(), "the users file is too large");
            return None;
        }
        let text = match tokio::fs::read_to_string(&self.file).await {
            Ok(t) => t,
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "the users file cannot be read");
                return None;
            }
        };
        let digest = text.lines().find_map(|l| l.split_once(':').filter(|(u, _)| *u == user).map(|(_, d)| d.trim().to_owned()))?;
        ["$2y$", "$2a$", "$2b$"].iter().any(|p| digest.starts_with(p)).then_some(digest)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::{
        super::{AuthStrategy, UnknownStrategy, authenticate},
        *,
    };

    #[test]
    fn an_unknown_strategy_is_refused_by_name() {
        let none = AuthStrategy::from_option::<UnknownStrategy>("none", Path::new("x"), || unreachable!("not asked for"));
        assert!(none.is_err_and(|e| e.to_string().contains("\"none\"")));
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_passes() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("htpasswd");
        let digest = bcrypt::hash("secret", 4).expect("hash").replacen("$2b$", "$2y$", 1);
        std::fs::write(&file, format!("other:$apr1$x\nadmin:{digest}\n")).expect("write");
        let strategy = AuthStrategy::HttpBasic(BasicAuth::new(&file));
        let ask = async |value: Option<&str>| {
            let mut h = HeaderMap::new();
            if let Some(v) = value {
                h.insert(header::AUTHORIZATION, v.parse().expect("header"));
            }
            authenticate(&strategy, &h).await
        };
        let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        for _ in 0..2 {
            assert_eq!(ask(Some(&basic("admin:secret"))).await.expect("passes").user_name.as_deref(), Some("admin"));
        }
        for bad in ["admin:wrong", "nobody:secret", "other:x"] {
            assert!(ask(Some(&basic(bad))).await.is_err_and(|d| matches!(d, Denied::Basic { parsable: true, .. })), "{bad}");
        }
        assert!(ask(None).await.is_err_and(|d| matches!(d, Denied::Basic { parsable: true, .. })));
        for bad in ["Bearer x", "Basic !!!", "Basic"] {
            assert!(ask(Some(bad)).await.is_err_and(|d| matches!(d, Denied::Basic { parsable: false, .. })), "{bad}");
        }
    }
}
