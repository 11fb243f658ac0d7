//! A [`BootSource`] that keeps everything in memory: for tests, demonstrations and machines configured by hand.
//! It forgets its leases when it is dropped.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;

use crate::mac::MacAddr;
use crate::plan::BootPlan;
use crate::source::{BootSource, Machine, MachineKind, Pool, SourceError, Wish};

/// How long an address rests after its client released or declined it, and how long it still counts as its client's.
const REST: Duration = Duration::from_secs(300);

/// Machines, leases and plans in memory. All methods take `&self`; share it in an `Arc`.
#[derive(Debug, Default)]
pub struct MemorySource {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    machines: HashMap<MacAddr, Machine>,
    discover: bool,
    plans: HashMap<MacAddr, BootPlan>,
    leases: BTreeMap<(String, Ipv4Addr), Lease>,
}

#[derive(Debug)]
struct Lease {
    mac: MacAddr,
    until: Instant,
    declined: bool,
}

impl MemorySource {
    /// Knows nobody and answers nobody.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves maps that are still whole: every change is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enrolls a machine or replaces what is known of it.
    pub fn set_machine(&self, mac: MacAddr, machine: Machine) {
        self.lock().machines.insert(mac, machine);
    }

    /// Enrolls a node that may boot from the network.
    pub fn add_node(&self, mac: MacAddr, node: Uuid) {
        self.set_machine(mac, Machine { kind: MachineKind::Known { node, hostname: None }, netboot: true, reserved: None });
    }

    /// Whether unknown machines are discoverable. Default no.
    pub fn set_discovery(&self, on: bool) {
        self.lock().discover = on;
    }

    /// Sets a machine's next boot; the files of its last plan are void from now on.
    pub fn set_plan(&self, mac: MacAddr, plan: BootPlan) {
        self.lock().plans.insert(mac, plan);
    }

    /// Takes a machine's plan away.
    pub fn clear_plan(&self, mac: MacAddr) {
        self.lock().plans.remove(&mac);
    }

    /// Files a lease as if the machine had asked for it by DHCP.
    pub fn set_lease(&self, network: &str, mac: MacAddr, addr: Ipv4Addr, life: Duration) {
        self.lock().leases.insert((network.to_owned(), addr), Lease { mac, until: Instant::now() + life, declined: false });
    }
}

impl State {
    fn address_of(&self, network: &str, mac: MacAddr) -> Option<Ipv4Addr> {
        self.leases.iter().find(|((net, _), lease)| net == network && lease.mac == mac && !lease.declined).map(|((_, addr), _)| *addr)
    }

    /// Whether `mac` may take `addr`: nobody else holds it, and it is not resting.
    fn is_free_for(&self, network: &str, mac: MacAddr, addr: Ipv4Addr, now: Instant) -> bool {
        self.leases.get(&(network.to_owned(), addr)).is_none_or(|lease| lease.until <= now || (lease.mac == mac && !lease.declined))
    }

    fn hold(&mut self, network: &str, mac: MacAddr, addr: Ipv4Addr, until: Instant) {
        // One row per (network, MAC): a changed reservation moves the machine.
        if let Some(old) = self.address_of(network, mac).filter(|old| *old != addr) {
            self.leases.remove(&(network.to_owned(), old));
        }
        let lease = self.leases.entry((network.to_owned(), addr)).or_insert(Lease { mac, until, declined: false });
        if lease.mac != mac || lease.declined || lease.until < until {
            *lease = Lease { mac, until, declined: false };
        }
    }

    /// Whether the wish and the pool allow this address.
    fn allows(&self, pool: &Pool, wish: Wish, addr: Ipv4Addr) -> bool {
        match wish {
            Wish::Exactly(reserved) => addr == reserved,
            Wish::Any | Wish::Prefer(_) => pool.range.is_some_and(|range| range.contains(addr)),
        }
    }

    /// An address that a machine has reserved is not for the pool.
    fn is_reserved_for_other(&self, mac: MacAddr, addr: Ipv4Addr) -> bool {
        self.machines.iter().any(|(other, machine)| *other != mac && machine.reserved == Some(addr))
    }
}

#[async_trait]
impl BootSource for MemorySource {
    async fn machine(&self, mac: MacAddr, _uuid: Option<Uuid>) -> Result<Option<Machine>, SourceError> {
        let state = self.lock();
        Ok(state
            .machines
            .get(&mac)
            .cloned()
            .or_else(|| state.discover.then_some(Machine { kind: MachineKind::Discoverable, netboot: true, reserved: None })))
    }

    async fn offer(&self, pool: &Pool, mac: MacAddr, wish: Wish, hold_secs: u32) -> Result<Option<Ipv4Addr>, SourceError> {
        let mut state = self.lock();
        let now = Instant::now();
        let until = now + Duration::from_secs(u64::from(hold_secs));
        let fits = |state: &State, addr: Ipv4Addr| {
            state.allows(pool, wish, addr) && state.is_free_for(&pool.network, mac, addr, now) && !state.is_reserved_for_other(mac, addr)
        };
        let own = state.address_of(&pool.network, mac).filter(|addr| fits(&state, *addr));
        let wished = match wish {
            Wish::Any => None,
            Wish::Prefer(addr) | Wish::Exactly(addr) => Some(addr).filter(|addr| fits(&state, *addr)),
        };
        let found = own.or(wished).or_else(|| {
            // An address that never belonged to anybody before one that did: machines keep theirs as long as possible.
            let range = pool.range?;
            range
                .iter()
                .find(|addr| fits(&state, *addr) && !state.leases.contains_key(&(pool.network.clone(), *addr)))
                .or_else(|| range.iter().find(|addr| fits(&state, *addr)))
        });
        if let Some(addr) = found {
            state.hold(&pool.network, mac, addr, until);
        }
        Ok(found)
    }

    async fn commit(&self, pool: &Pool, mac: MacAddr, wish: Wish, addr: Ipv4Addr, lease_secs: u32) -> Result<bool, SourceError> {
        let mut state = self.lock();
        let now = Instant::now();
        let allowed =
            state.allows(pool, wish, addr) && state.is_free_for(&pool.network, mac, addr, now) && !state.is_reserved_for_other(mac, addr);
        if allowed {
            let until = now + Duration::from_secs(u64::from(lease_secs));
            state.hold(&pool.network, mac, addr, until);
        }
        Ok(allowed)
    }

    async fn release(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError> {
        if let Some(lease) = self.lock().leases.get_mut(&(network.to_owned(), addr))
            && lease.mac == mac
            && !lease.declined
        {
            lease.until = lease.until.min(Instant::now() + REST);
        }
        Ok(())
    }

    async fn decline(&self, network: &str, mac: MacAddr, addr: Ipv4Addr) -> Result<(), SourceError> {
        if let Some(lease) = self.lock().leases.get_mut(&(network.to_owned(), addr))
            && lease.mac == mac
        {
            lease.declined = true;
            lease.until = Instant::now() + REST;
        }
        Ok(())
    }

    async fn mac_of(&self, network: &str, addr: Ipv4Addr) -> Result<Option<MacAddr>, SourceError> {
        Ok(self
            .lock()
            .leases
            .get(&(network.to_owned(), addr))
            .filter(|lease| lease.until > Instant::now() && !lease.declined)
            .map(|lease| lease.mac))
    }

    async fn plan_for(&self, mac: MacAddr) -> Result<Option<BootPlan>, SourceError> {
        Ok(self.lock().plans.get(&mac).cloned())
    }

    async fn plan_by_nonce(&self, nonce: &str) -> Result<Option<BootPlan>, SourceError> {
        Ok(self.lock().plans.values().find(|plan| plan.nonce.reveal() == nonce).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AddressRange;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn pool() -> Pool {
        Pool { network: "n".into(), range: AddressRange::new(ip(10), ip(11)) }
    }

    #[tokio::test]
    async fn an_offer_is_held_for_its_client_and_a_full_pool_offers_nothing() {
        let source = MemorySource::new();
        let first = source.offer(&pool(), A, Wish::Any, 60).await.unwrap();
        assert_eq!(first, Some(ip(10)));
        assert_eq!(source.offer(&pool(), B, Wish::Prefer(ip(10)), 60).await.unwrap(), Some(ip(11)));
        assert_eq!(source.offer(&pool(), A, Wish::Any, 60).await.unwrap(), first, "the same answer again");
        assert_eq!(source.offer(&pool(), C, Wish::Any, 60).await.unwrap(), None);
        assert!(!source.commit(&pool(), C, Wish::Any, ip(10), 60).await.unwrap());
        assert!(source.commit(&pool(), A, Wish::Any, ip(10), 60).await.unwrap());
    }

    #[tokio::test]
    async fn a_reservation_may_lie_outside_the_pool_and_nobody_else_gets_it() {
        let source = MemorySource::new();
        let reserve = |mac, addr| source.set_machine(mac, Machine { kind: MachineKind::Discoverable, netboot: true, reserved: Some(addr) });
        reserve(A, ip(200));
        reserve(B, ip(10));
        let wish = Wish::Exactly(ip(200));
        assert_eq!(source.offer(&pool(), A, wish, 60).await.unwrap(), Some(ip(200)));
        assert!(!source.commit(&pool(), A, wish, ip(10), 60).await.unwrap());
        assert_eq!(source.offer(&pool(), C, Wish::Any, 60).await.unwrap(), Some(ip(11)));
    }

    #[tokio::test]
    async fn releasing_or_declining_anothers_address_changes_nothing() {
        let source = MemorySource::new();
        assert!(source.commit(&pool(), A, Wish::Any, ip(10), 600).await.unwrap());
        source.release("n", B, ip(10)).await.unwrap();
        source.decline("n", B, ip(10)).await.unwrap();
        assert_eq!(source.mac_of("n", ip(10)).await.unwrap(), Some(A));
    }

    #[tokio::test]
    async fn a_released_address_rests_and_a_declined_one_moves_its_client() {
        let source = MemorySource::new();
        assert!(source.commit(&pool(), A, Wish::Any, ip(10), 600).await.unwrap());
        source.release("n", A, ip(10)).await.unwrap();
        assert_eq!(source.offer(&pool(), B, Wish::Any, 60).await.unwrap(), Some(ip(11)));
        assert_eq!(source.mac_of("n", ip(10)).await.unwrap(), Some(A), "firmware goes on using it");
        source.decline("n", B, ip(11)).await.unwrap();
        assert_eq!(source.offer(&pool(), B, Wish::Any, 60).await.unwrap(), None);
    }
}
