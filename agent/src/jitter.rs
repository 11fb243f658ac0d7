//! Random pauses and transaction numbers: values that must differ between machines but guard no secret.
//!
//! Never waits for the kernel's random generator, which takes a second on a machine without a hardware source;
//! keys and ids come from that generator, not from here.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// 64 bits that are unlikely to be the same on two machines, or twice on one.
pub fn bits() -> u64 {
    // The standard library seeds its maps from the kernel without waiting, and changes the seed with each use.
    RandomState::new().build_hasher().finish()
}

/// 32 such bits.
pub fn word() -> u32 {
    (bits() >> 32) as u32
}

/// A number between `low` and `high`.
pub fn between(low: f64, high: f64) -> f64 {
    let unit = f64::from(word()) / f64::from(u32::MAX);
    low + unit * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_stay_within_their_bounds() {
        let numbers: Vec<f64> = (0..1000).map(|_| between(0.3, 0.6)).collect();
        assert!(numbers.iter().all(|n| (0.3..=0.6).contains(n)));
        assert!(numbers.iter().any(|n| *n < 0.35) && numbers.iter().any(|n| *n > 0.55));
        assert_ne!(bits(), bits());
    }
}
