//! Which conductor should run a node. The lease says who may; the ring only spreads the work (`states.md` section 6).

use sha2::{Digest, Sha256};

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
        let h = hash(node);
        let i = self.points.partition_point(|(p, _)| *p < h);
        self.points.get(if i == self.points.len() { 0 } else { i }).map(|(_, h)| h.as_str())
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
}
