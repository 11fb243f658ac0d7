//! Callers known by their Keystone tokens: the headers `X-Auth-Token` and `X-Service-Token`, as Keystone's middleware reads them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bessemer_clients::keystone::{Keystone, KeystoneError, Scope, Token};
use bessemer_model::secret::Secret;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::{Caller, Denied};

/// What the operator can set. Names follow the options of `[keystone_authtoken]`.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// Told to callers without a valid token.
    pub www_authenticate_uri: String,
    /// How long an answer of Keystone is believed; no longer than the token lives.
    pub token_cache_time: Duration,
    /// How many answers are remembered.
    pub token_cache_size: usize,
    /// Roles one of which a service needs to vouch for a caller.
    pub service_token_roles: Vec<String>,
    /// Whether it needs one at all.
    pub service_token_roles_required: bool,
}

/// See the module documentation.
#[derive(Debug)]
pub struct TokenAuth {
    keystone: Keystone,
    options: TokenOptions,
    known: Mutex<HashMap<Key, Known>>,
    asking: Semaphore,
}

/// Digest of a token, and whether it may have expired.
type Key = ([u8; 32], bool);

#[derive(Clone, Debug)]
struct Known {
    until: Instant,
    /// Not set: Keystone does not know the token.
    token: Option<Token>,
}

/// Keystone is asked about so many tokens at a time.
const ASKING: usize = 32;
/// A refusal is remembered for at most so long: the token may be created in the meantime.
const REFUSED_FOR: Duration = Duration::from_secs(10);

impl TokenAuth {
    /// Callers of this Keystone.
    #[must_use]
    pub fn new(keystone: Keystone, options: TokenOptions) -> Self {
        Self { keystone, options, known: Mutex::default(), asking: Semaphore::new(ASKING) }
    }

    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let header = |name: &str| headers.get(name).map(|v| Secret::new(v.to_str().unwrap_or_default().trim().to_owned()));
        let Some(subject) = header("x-auth-token") else { return Err(self.refused()) };
        let (mut service_roles, mut vouched) = (vec![], false);
        if let Some(service) = header("x-service-token") {
            let service = self.token(&service, false).await?;
            vouched = !self.options.service_token_roles_required || self.options.service_token_roles.iter().any(|r| service.has_role(r));
            service_roles = service.roles;
        }
        let token = self.token(&subject, vouched).await?;
        Ok(Caller { service_roles, ..caller(token) })
    }

    fn refused(&self) -> Denied {
        Denied::Token { authenticate_at: self.options.www_authenticate_uri.clone() }
    }

    async fn token(&self, id: &Secret<String>, allow_expired: bool) -> Result<Token, Denied> {
        let key = (Sha256::digest(id.reveal().as_bytes()).into(), allow_expired);
        if let Some(known) = self.remembered(&key) {
            return known.ok_or_else(|| self.refused());
        }
        let _turn = self.asking.acquire().await.map_err(|_| Denied::Unavailable)?;
        // Those that waited behind the same token find its answer.
        if let Some(known) = self.remembered(&key) {
            return known.ok_or_else(|| self.refused());
        }
        match self.keystone.validate(id, allow_expired).await {
            Ok(token) if allow_expired || token.lasts(SystemTime::now(), Duration::ZERO) => {
                let token = token.without_catalogue();
                let life = token.expires_at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
                let life = if allow_expired { self.options.token_cache_time } else { life };
                self.remember(key, self.options.token_cache_time.min(life), Some(token.clone()));
                Ok(token)
            }
            Ok(_) | Err(KeystoneError::InvalidToken) => {
                self.remember(key, self.options.token_cache_time.min(REFUSED_FOR), None);
                Err(self.refused())
            }
            Err(error) => {
                tracing::error!(%error, "callers cannot be authenticated");
                Err(Denied::Unavailable)
            }
        }
    }

    /// What is known about a token: nothing, that it is good, or that it is not.
    fn remembered(&self, key: &Key) -> Option<Option<Token>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let k = known.get(key).filter(|k| k.until > Instant::now())?;
        // The clock of the wall may have been set meanwhile.
        Some(k.token.clone().filter(|t| key.1 || t.lasts(SystemTime::now(), Duration::ZERO)))
    }

    fn remember(&self, key: Key, life: Duration, token: Option<Token>) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.options.token_cache_size.max(1) {
            known.retain(|_, k| k.until > now);
        }
        if known.len() >= self.options.token_cache_size.max(1) {
            // Strangers' refusals go first: they must not drive out those who are known.
            known.retain(|_, k| k.token.is_some());
        }
        if known.len() >= self.options.token_cache_size.max(1) {
            known.clear();
        }
        known.insert(key, Known { until: now + life, token });
    }
}

fn caller(t: Token) -> Caller {
    let mut c = Caller {
        user_id: Some(t.user_id),
        user_name: Some(t.user_name),
        user_domain_id: Some(t.user_domain_id),
        roles: t.roles,
        is_admin_project: t.is_admin_project,
        ..Caller::default()
    };
    match t.scope {
        Scope::None => {}
        Scope::System => c.system_scope = Some("all".to_owned()),
        Scope::Domain(id) => c.domain_id = Some(id),
        Scope::Project { id, name, domain_id } => {
            c.project_id = Some(id);
            c.project_name = Some(name);
            c.project_domain_id = Some(domain_id);
        }
    }
    c
}
