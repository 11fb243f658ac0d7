//! What the boot services ask, answered from the store.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bessemer_db::{DbError, LeaseRequest};
use bessemer_pxe::{
    mac::MacAddr,
    plan::{BootPlan, Nonce},
    source::{BootSource, Machine, MachineKind, Pool, SourceError, Wish},
};
use uuid::Uuid;

use crate::{core::Core, discovery};

/// How long an address that a client found in use is given to nobody.
const DECLINED_REST: Duration = Duration::from_secs(600);

/// [`BootSource`] over the store: every daemon on it gives the same answers.
pub struct StoreBootSource {
    core: Arc<Core>,
    /// Never handed out: the server's own addresses.
    reserved: Vec<Ipv4Addr>,
    discoverable: bool,
    /// Names the files that unknown machines boot; they hold nothing about any node.
    discovery_nonce: Nonce,
}

impl StoreBootSource {
    /// A source over `core`'s store. `discoverable` = answer machines that nobody enrolled.
    #[must_use]
    pub fn new(core: Arc<Core>, reserved: Vec<Ipv4Addr>, discoverable: bool) -> Self {
        Self { core, reserved, discoverable, discovery_nonce: Nonce::random() }
    }

    fn request(&self, pool: &Pool, mac: MacAddr, wish: Wish, hold: Duration) -> LeaseRequest {
        let (wanted, fixed) = match wish {
            Wish::Any => (None, None),
            Wish::Prefer(a) => (Some(a), None),
            Wish::Exactly(a) => (None, Some(a)),
        };
        // An empty pool: the last address before the first.
        let range = pool.range.map_or(Ipv4Addr::BROADCAST..=Ipv4Addr::UNSPECIFIED, |r| r.first()..=r.last());
        LeaseRequest {
            network: pool.network.clone(),
            mac: mac.to_string(),
            wanted,
            fixed,
            pool: range,
            reserved: self.reserved.clone(),
            hold,
        }
    }
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    SourceError { reason: e.to_string(), source: Some(Box::new(e)) }
}

#[async_trait]
impl BootSource for StoreBootSource {
    async fn machine(&self, mac: MacAddr, _uuid: Option<Uuid>) -> Result<Option<Machine>, SourceError> {
        let found = self.core.store.node_by_macs(&[mac.to_string()]).await.map_err(failed)?;
        let Some(id) = found.first().copied() else {
            return Ok(self.discoverable.then_some(Machine { kind: MachineKind::Discoverable, netboot: true, reserved: None }));
        };
        let node = self.core.store.node_get(id).await.map_err(failed)?;
        let plan = self.core.store.boot_plan_get_by_mac(&mac.to_string()).await.map_err(failed)?;
        let port = match self.core.store.port_get(&mac.to_string()).await {
            Ok(p) => Some(p),
            Err(DbError::NotFound { .. }) => None,
            Err(e) => return Err(failed(e)),
        };
        let reserved = port.and_then(|p| p.extra.get("provisioning_ip")?.as_str()?.parse().ok());
        let hostname = node.spec.name.clone();
        Ok(Some(Machine { kind: MachineKind::Known { node: id.0, hostname }, netboot: plan.is_some(), reserved }))
    }

    async fn offer(&self, pool: &Pool, mac: MacAddr, wish: Wish, hold_secs: u32) -> Result<Option<Ipv4Addr>, SourceError> {
        let request = self.request(pool, mac, wish, Duration::from_secs(u64::from(hold_secs)));
        self.core.store.lease_offer(request, self.core.now()).await.map_err(failed)
    }

    async fn commit(&self, pool: &Pool, mac: MacAddr, wish: Wish, addr: Ipv4Addr, lease_secs: u32) -> Result<bool, SourceError> {
        let lease = Duration::from_secs(u64::from(lease_secs));
        let until = self.core.now().after(lease);
        if self.core.store.lease_commit(&pool.network, &mac.to_string(), addr, until).await.map_err(failed)? {
            return Ok(true);
        }
        // A client that kept its address over a reboot confirms it without an offer.
        let wish = match wish {
            Wish::Exactly(a) if a != addr => return Ok(false),
            Wish::Exactly(a) => Wish::Exactly(a),
            _ => Wish::Prefer(addr),
        };
        let held = self.core.store.lease_offer(self.request(pool, mac, wish, lease), self.core.now()).await.map_err(failed)?;
        if held != Some(addr) {
            return Ok(false);
        }
        self.core.store.lease_commit(&pool.network, &mac.to_string(), addr, until).await.map_err(failed)
    }

    async fn release(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError> {
        let held = self.core.store.lease_of(network, &mac.to_string()).await.map_err(failed)?;
        if held.is_some_and(|l| l.address == addr) {
            self.core.store.lease_release(network, &mac.to_string(), self.core.now()).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn decline(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError> {
        let held = self.core.store.lease_of(network, &mac.to_string()).await.map_err(failed)?;
        if held.is_none_or(|l| l.address != addr) {
            return Ok(());
        }
        self.core.store.lease_release(network, &mac.to_string(), self.core.now()).await.map_err(failed)?;
        // Somebody unknown uses the address: it is filed under a name that no machine has until it has rested.
        let rest = LeaseRequest {
            network: network.to_owned(),
            mac: format!("declined-{addr}"),
            wanted: None,
            fixed: Some(addr),
            pool: addr..=addr,
            reserved: Vec::new(),
            hold: DECLINED_REST,
        };
        self.core.store.lease_offer(rest, self.core.now()).await.map_err(failed)?;
        Ok(())
    }

    async fn mac_of(&self, network: &str, addr: Ipv4Addr) -> Result<Option<MacAddr>, SourceError> {
        let mac = self.core.store.lease_mac_of(network, addr, self.core.now()).await.map_err(failed)?;
        Ok(mac.and_then(|m| m.parse().ok()))
    }

    async fn plan_for(&self, mac: MacAddr) -> Result<Option<BootPlan>, SourceError> {
        let row = self.core.store.boot_plan_get_by_mac(&mac.to_string()).await.map_err(failed)?;
        if row.is_none() && self.discoverable && self.core.store.node_by_macs(&[mac.to_string()]).await.map_err(failed)?.is_empty() {
            return discovery::plan(&self.core, &self.discovery_nonce).await.map(Some).map_err(|e| SourceError::new(e.0));
        }
        row.map(|r| serde_json::from_value(r.plan).map_err(failed)).transpose()
    }

    async fn plan_by_nonce(&self, nonce: &str) -> Result<Option<BootPlan>, SourceError> {
        if self.discoverable && nonce == self.discovery_nonce.reveal() {
            return discovery::plan(&self.core, &self.discovery_nonce).await.map(Some).map_err(|e| SourceError::new(e.0));
        }
        let row = self.core.store.boot_plan_get_by_nonce(nonce).await.map_err(failed)?;
        row.map(|r| serde_json::from_value(r.plan).map_err(failed)).transpose()
    }
}
