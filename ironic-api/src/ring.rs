//! Which conductor a node belongs to, from the registered conductors (`states.md` section 6). Read from the store at most every two
//! seconds, and again at once when a driver has no host.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bessemer_db::Store;
use bessemer_model::{
    clock::{Clock, SystemClock},
    conductor::{Conductor, DriverOffer},
    fault::Fault,
    hashring::Rings,
    ids::NodeId,
    node::Node,
};
use tokio::sync::RwLock;

const FRESH: Duration = Duration::from_secs(2);

/// The conductors at one moment.
pub(crate) struct Conductors {
    read_at: Instant,
    /// Those whose lease holds.
    alive: Vec<Conductor>,
    rings: Rings,
}

impl Conductors {
    fn new(alive: Vec<Conductor>, partition_exponent: u32) -> Self {
        let rings = Rings::new(&alive, partition_exponent);
        Self { read_at: Instant::now(), alive, rings }
    }

    /// The host that should run a node.
    pub fn host_of(&self, node: &Node) -> Option<&str> {
        self.host(&node.spec.conductor_group, &node.spec.driver, node.id)
    }

    /// The host that would run such a node.
    pub fn host(&self, group: &str, driver: &str, id: NodeId) -> Option<&str> {
        self.rings.host(group, driver, id)
    }

    /// What a driver offers in a group.
    pub fn offer(&self, group: &str, driver: &str) -> Option<&DriverOffer> {
        self.alive.iter().filter(|c| c.conductor_group == group).find_map(|c| c.drivers.get(driver))
    }

    /// Every driver that a living conductor offers: name, hosts, offer.
    pub fn drivers(&self) -> Vec<(&str, Vec<&str>, &DriverOffer)> {
        let names: BTreeSet<&str> = self.alive.iter().flat_map(|c| c.drivers.keys().map(String::as_str)).collect();
        names
            .into_iter()
            .filter_map(|n| {
                let hosts = self.alive.iter().filter(|c| c.drivers.contains_key(n)).map(|c| c.hostname.as_str()).collect();
                Some((n, hosts, self.alive.iter().find_map(|c| c.drivers.get(n))?))
            })
            .collect()
    }
}

/// Keeps the last reading.
pub(crate) struct Ring {
    store: Store,
    partition_exponent: u32,
    last: RwLock<Option<Arc<Conductors>>>,
}

impl Ring {
    pub fn new(store: Store, partition_exponent: u32) -> Self {
        Self { store, partition_exponent, last: RwLock::new(None) }
    }

    /// The conductors, not older than two seconds.
    pub async fn conductors(&self) -> Result<Arc<Conductors>, Fault> {
        if let Some(c) = self.last.read().await.as_ref()
            && c.read_at.elapsed() < FRESH
        {
            return Ok(c.clone());
        }
        self.read_again().await
    }

    /// The conductors as they are now.
    pub async fn read_again(&self) -> Result<Arc<Conductors>, Fault> {
        let fresh = Arc::new(Conductors::new(self.store.conductor_list_alive(SystemClock.now()).await?, self.partition_exponent));
        *self.last.write().await = Some(fresh.clone());
        Ok(fresh)
    }

    /// The conductors, read again when none serves this driver and group.
    pub async fn serving(&self, group: &str, driver: &str) -> Result<Arc<Conductors>, Fault> {
        let c = self.conductors().await?;
        if c.offer(group, driver).is_some() { Ok(c) } else { self.read_again().await }
    }
}
