//! What the boot services ask, answered from the store.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bessemer_db::LeaseRequest;
use bessemer_pxe::{
    mac::MacAddr,
    plan::BootPlan,
    source::{BootSource, Machine, MachineKind, Pool, SourceError, Wish},
};
use uuid::Uuid;

use crate::core::Core;

/// [`BootSource`] over the store: every daemon on it gives the same answers.
pub struct StoreBootSource {
    core: Arc<Core>,
    /// Never handed out: the server's own addresses.
    reserved: Vec<Ipv4Addr>,
    discoverable: bool,
}

impl StoreBootSource {
    /// A source over `core`'s store. `discoverable` = answer machines that nobody enrolled.
    #[must_use]
    pub const fn new(core: Arc<Core>, reserved: Vec<Ipv4Addr>, discoverable: bool) -> Self {
        Self { core, reserved, discoverable }
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
        let port = self.core.store.port_get(&mac.to_string()).await.ok();
        let reserved = port.and_then(|p| {
            let v = p.extra.get("provisioning_ip").or_else(|| p.internal_info.get("provisioning_ip"))?.as_str()?.parse().ok()?;
            Some(v)
        });
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
        self.release(network, mac, addr).await
    }

    async fn mac_of(&self, network: &str, addr: Ipv4Addr) -> Result<Option<MacAddr>, SourceError> {
        let mac = self.core.store.lease_mac_of(network, addr, self.core.now()).await.map_err(failed)?;
        Ok(mac.and_then(|m| m.parse().ok()))
    }

    async fn plan_for(&self, mac: MacAddr) -> Result<Option<BootPlan>, SourceError> {
        let row = self.core.store.boot_plan_get_by_mac(&mac.to_string()).await.map_err(failed)?;
        row.map(|r| serde_json::from_value(r.plan).map_err(failed)).transpose()
    }

    async fn plan_by_nonce(&self, nonce: &str) -> Result<Option<BootPlan>, SourceError> {
        let row = self.core.store.boot_plan_get_by_nonce(nonce).await.map_err(failed)?;
        row.map(|r| serde_json::from_value(r.plan).map_err(failed)).transpose()
    }
}
