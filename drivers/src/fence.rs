//! Until when this process may change anything at a BMC.
//!
//! A conductor works under a lease. When it cannot renew it (its database is away, the process was paused), another conductor takes its
//! nodes over; from then on no packet of the old one may reach a BMC, not even one whose call began earlier. The fence is asked right
//! before each packet or request goes out, so that it also holds for a process that wakes up in the middle of a call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a request needs to reach the BMC and take effect there, at least.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// See the module documentation. Clones share one state; a new fence is open for good until [`EffectFence::close_at`] is called.
#[derive(Clone, Debug, Default)]
pub struct EffectFence(Arc<Mutex<Option<Instant>>>);

impl EffectFence {
    /// Sets when the fence closes, in place of what was set before. Monotonic time: a changed clock changes nothing.
    pub fn close_at(&self, when: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(when);
    }

    /// Whether a request that leaves now takes effect while it may.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let closes = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        closes.is_none_or(|t| Instant::now() + ON_THE_WAY < t)
    }
}

/// The same fence, not the same time.
impl PartialEq for EffectFence {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for EffectFence {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_without_a_lease_is_open_and_one_near_its_end_is_closed_until_renewed() {
        let fence = EffectFence::default();
        assert!(fence.is_open());
        fence.close_at(Instant::now() + ON_THE_WAY / 2);
        assert!(!fence.clone().is_open());
        fence.close_at(Instant::now() + ON_THE_WAY * 20);
        assert!(fence.is_open());
    }
}
