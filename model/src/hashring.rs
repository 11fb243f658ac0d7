//! Which conductor should run a node. The lease says who may; the ring only spreads the work (`states.md` section 6).

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::{conductor::Conductor, ids::NodeId};

/// A consistent-hash ring over host names.
#[derive(Clone, Debug, Default)]
pub struct HashRing {
    points: Vec<(u64, String)>,
}

fn hash(s: &str) -> u64 {
    let d = Sha256::digest(s.as_bytes());
    let mut b = [0u8; 8];
    b.copy_from_slice(&d[..8]);
    u64::from_be_bytes(b)
}

impl HashRing {
    /// A ring in which each host owns `2^partition_exponent` arcs.
    #[must_use]
    pub fn new<S: AsRef<str>>(hosts: &[S], partition_exponent: u32) -> Self {
        let n = 1u32 << partition_exponent.min(12);
        let mut points: Vec<_> =
            hosts.iter().flat_map(|h| (0..n).map(move |i| (hash(&format!("{}-{i}", h.as_ref())), h.as_ref().to_owned()))).collect();
        points.sort();
        Self { points }
    }

    /// The host for a node, or `None` when the ring is empty.
    #[must_use]
    pub fn host(&self, node: &str) -> Option<&str> {
        self.hosts(node).next()
    }

    /// The host for a node, then the one that would be it if the first were not there, and so on; each once.
    pub fn hosts<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let h = hash(node);
        let (before, from) = self.points.split_at(self.points.partition_point(|(p, _)| *p < h));
        let mut seen: Vec<&'a str> = Vec::new();
        from.iter().chain(before).map(|(_, h)| h.as_str()).filter(move |h| {
            let new = !seen.contains(h);
            if new {
                seen.push(*h);
            }
            new
        })
    }
}

/// The rings of all conductors: one for each conductor group and hardware type that somebody serves.
#[derive(Clone, Debug, Default)]
pub struct Rings {
    rings: HashMap<(String, String), HashRing>,
}

impl Rings {
    /// The rings over these conductors, each of which owns `2^partition_exponent` arcs of every ring that it is on.
    #[must_use]
    pub fn new(conductors: &[Conductor], partition_exponent: u32) -> Self {
        let mut hosts: HashMap<(String, String), Vec<&str>> = HashMap::new();
        for c in conductors {
            for driver in c.drivers.keys() {
                hosts.entry((c.conductor_group.clone(), driver.clone())).or_default().push(&c.hostname);
            }
        }
        Self { rings: hosts.into_iter().map(|(k, h)| (k, HashRing::new(&h, partition_exponent))).collect() }
    }

    /// The host that should run a node, or `None` when nobody serves such nodes.
    #[must_use]
    pub fn host(&self, group: &str, driver: &str, node: NodeId) -> Option<&str> {
        self.hosts(group, driver, node).next()
    }

    /// The host that should run a node, then those that come after it ([`HashRing::hosts`]).
    pub fn hosts<'a>(&'a self, group: &str, driver: &str, node: NodeId) -> impl Iterator<Item = &'a str> + use<'a> {
        let ring = self.rings.get(&(group.to_owned(), driver.to_owned()));
        let node = node.to_string();
        ring.into_iter().flat_map(move |r| r.hosts(&node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losing_a_host_moves_only_its_nodes() {
        let three = HashRing::new(&["a", "b", "c"], 5);
        let two = HashRing::new(&["a", "b"], 5);
        for i in 0..500 {
            let n = i.to_string();
            let before = three.host(&n);
            if before != Some("c") {
                assert_eq!(before, two.host(&n));
            }
        }
        assert_eq!(HashRing::new::<&str>(&[], 5).host("x"), None);
    }

    #[test]
    fn the_next_host_is_the_one_that_takes_over_when_the_first_is_gone() {
        let all = ["a", "b", "c"];
        let three = HashRing::new(&all, 5);
        for i in 0..100 {
            let n = i.to_string();
            let order: Vec<&str> = three.hosts(&n).collect();
            assert_eq!(order.len(), 3, "{order:?}");
            let rest: Vec<&str> = all.into_iter().filter(|h| *h != order[0]).collect();
            assert_eq!(HashRing::new(&rest, 5).host(&n), Some(order[1]));
        }
    }
}
