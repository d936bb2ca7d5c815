//! The replay windows of all keys that datagrams may arrive under.

use std::collections::HashMap;
use std::sync::Arc;

use weave_crypto::ReplayWindow;

use super::{Fib, OpenLane};

/// One window for each key, from its first authentic datagram on.
///
/// A window belongs to a key, not to a receiver index: two epochs later the index comes again
/// with another key. Windows of keys that left the table go when the next one comes.
#[derive(Debug, Default)]
pub(super) struct Windows {
    by_index: HashMap<u32, Window>,
}

#[derive(Debug)]
struct Window {
    lane: Arc<OpenLane>,
    seen: Box<ReplayWindow>,
}

impl Windows {
    /// Whether this counter may be accepted under the key of `lane`.
    pub(super) fn check(&self, lane: &Arc<OpenLane>, counter: u64) -> bool {
        match self.by_index.get(&lane.receiver.as_u32()) {
            Some(window) if Arc::ptr_eq(&window.lane, lane) => window.seen.check(counter),
            Some(_) | None => ReplayWindow::new().check(counter),
        }
    }

    /// Marks the counter of an authentic datagram; answers false when it was there already.
    pub(super) fn commit(&mut self, fib: &Fib, lane: &Arc<OpenLane>, counter: u64) -> bool {
        let index = lane.receiver.as_u32();
        if let Some(window) = self.by_index.get_mut(&index)
            && Arc::ptr_eq(&window.lane, lane)
        {
            return window.seen.commit(counter);
        }
        self.by_index.retain(|index, window| {
            fib.open
                .get(index)
                .is_some_and(|lane| Arc::ptr_eq(lane, &window.lane))
        });
        let mut seen = Box::new(ReplayWindow::new());
        let fresh = seen.commit(counter);
        self.by_index.insert(
            index,
            Window {
                lane: Arc::clone(lane),
                seen,
            },
        );
        fresh
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_index.len()
    }
}
