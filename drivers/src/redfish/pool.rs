//! All Redfish clients of a process: one per (BMC, credential), with one limit per BMC.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::client::RedfishClient;
use super::config::PoolConfig;
use super::endpoint::RedfishEndpoint;
use super::error::RedfishError;
use super::system::RedfishSystem;
use super::wire::{Http, TlsKey};

struct Entry {
    client: Arc<RedfishClient>,
    tls: TlsKey,
    used: Instant,
}

#[derive(Default)]
struct Inner {
    /// By endpoint without the system: another password is another client, so a changed one never meets an old session.
    clients: HashMap<RedfishEndpoint, Entry>,
    limits: HashMap<String, Arc<Semaphore>>,
    http: HashMap<TlsKey, Http>,
    /// Dropped from the cache; their sessions still have to be ended.
    leaving: Vec<Arc<RedfishClient>>,
}

/// Gives out clients and keeps their sessions.
pub struct RedfishPool {
    config: Arc<PoolConfig>,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for RedfishPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedfishPool").finish_non_exhaustive()
    }
}

impl RedfishPool {
    /// An empty pool. Nothing is connected before the first request.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self { config: Arc::new(config), inner: Mutex::default() }
    }

    /// Settings in force.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The system that `endpoint` means, through the client of its BMC and credential. Sends nothing yet.
    pub fn client(&self, endpoint: &RedfishEndpoint) -> Result<RedfishSystem, RedfishError> {
        let key = RedfishEndpoint { system: None, ..endpoint.clone() };
        let tls = TlsKey::of(endpoint, &self.config.verify_ca);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(e) = inner.clients.get_mut(&key)
            && e.tls == tls
        {
            e.used = Instant::now();
            return Ok(RedfishSystem::new(e.client.clone(), endpoint.system.clone()));
        }
        let http = match inner.http.get(&tls) {
            Some(h) => h.clone(),
            None => {
                let made = Http::new(&tls, &self.config)?;
                // Only replaced CA files make more than a handful.
                let in_use: HashSet<TlsKey> = inner.clients.values().map(|e| e.tls.clone()).collect();
                inner.http.retain(|k, _| in_use.contains(k));
                inner.http.insert(tls.clone(), made.clone());
                made
            }
        };
        let limit = inner.limits.entry(endpoint.origin()).or_insert_with(|| Arc::new(Semaphore::new(self.config.per_bmc.max(1)))).clone();
        let client = Arc::new(RedfishClient::new(&key, http, self.config.clone(), limit));
        let out = match inner.clients.remove(&key) {
            Some(old) => Some(old),
            None if inner.clients.len() >= self.config.cache_size.max(1) => {
                let oldest = inner.clients.iter().min_by_key(|(_, e)| e.used).map(|(k, _)| k.clone());
                oldest.and_then(|k| inner.clients.remove(&k))
            }
            None => None,
        };
        if let Some(old) = out {
            inner.leaving.push(old.client);
            // A limit in use is also held by the clients that use it.
            inner.limits.retain(|_, l| Arc::strong_count(l) > 1);
        }
        inner.clients.insert(key, Entry { client: client.clone(), tls, used: Instant::now() });
        Ok(RedfishSystem::new(client, endpoint.system.clone()))
    }

    /// Checks an endpoint without connecting: whether the certificates that it names can be read.
    pub fn check(&self, endpoint: &RedfishEndpoint) -> Result<(), RedfishError> {
        let tls = TlsKey::of(endpoint, &self.config.verify_ca);
        let known = self.inner.lock().unwrap_or_else(PoisonError::into_inner).http.contains_key(&tls);
        if known { Ok(()) } else { Http::new(&tls, &self.config).map(drop) }
    }

    /// Forgets clients unused for `idle` and ends their sessions. Call it every few minutes.
    pub async fn close_idle(&self, idle: std::time::Duration) {
        let leaving = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let mut leaving = std::mem::take(&mut inner.leaving);
            inner.clients.retain(|_, e| {
                let keep = now.saturating_duration_since(e.used) < idle || Arc::strong_count(&e.client) > 1;
                if !keep {
                    leaving.push(e.client.clone());
                }
                keep
            });
            inner.limits.retain(|_, l| Arc::strong_count(l) > 1);
            leaving
        };
        futures::future::join_all(leaving.iter().map(|c| c.close())).await;
    }

    /// Ends all sessions. The pool stays usable.
    pub async fn close(&self) {
        let leaving: Vec<_> = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all = std::mem::take(&mut inner.leaving);
            all.extend(inner.clients.drain().map(|(_, e)| e.client));
            all
        };
        futures::future::join_all(leaving.iter().map(|c| c.close())).await;
    }
}
