//! Turns: requests of one process that want to write the same node stand in line instead of disturbing each other.
//!
//! Nothing depends on them for correctness: revisions, claims and lanes guard every write, also against other processes. They make
//! the waiting fair and cheap, so that with many clients on one node each gets its turn within a bounded time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bessemer_model::ids::NodeId;
use tokio::sync::OwnedMutexGuard;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Writing the owner's columns: short.
    Spec,
    /// Starting work on the machine: as long as the work that is in the way.
    Work,
}

type Key = (NodeId, Queue);

/// The lines of a process.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// A turn; the next one begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits in line, first come first served; `None` when the turn did not come within `patience`.
    pub(crate) async fn wait(self: &Arc<Self>, node: NodeId, queue: Queue, patience: Duration) -> Option<Turn> {
        let key = (node, queue);
        let line = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        // Made before waiting: whoever gives up or goes away tidies up as well.
        let mut turn = Turn { turns: Arc::clone(self), key, guard: None };
        turn.guard = Some(tokio::time::timeout(patience, line.lock_owned()).await.ok()?);
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut lines = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the map knows the line: nobody stands in it.
        if lines.get(&self.key).is_some_and(|l| Arc::strong_count(l) == 1) {
            lines.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn turns_come_in_the_order_of_asking_and_leave_nothing_behind() {
        let turns = Arc::new(Turns::default());
        let node = NodeId::random();
        let first = turns.wait(node, Queue::Spec, LONG).await.expect("a free line");
        assert!(turns.wait(node, Queue::Spec, Duration::from_millis(10)).await.is_none());
        assert!(turns.wait(node, Queue::Work, LONG).await.is_some(), "another line");
        assert!(turns.wait(NodeId::random(), Queue::Spec, LONG).await.is_some(), "another node");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for i in 0..5 {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let _turn = turns.wait(node, Queue::Spec, LONG).await.expect("its turn");
                order.lock().unwrap_or_else(PoisonError::into_inner).push(i);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for w in waiting {
            w.await.expect("no panic");
        }
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), [0, 1, 2, 3, 4]);
        assert!(turns.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
