//! The replay windows of all keys that datagrams may arrive under.

use std::sync::Arc;

use weave_crypto::ReplayWindow;

use super::fib::Lookup;
use super::{Fib, OpenLane};

/// One window for each key, from its first authentic datagram on.
///
/// A window belongs to a key, not to a receiver index: two epochs later the index comes again
/// with another key. Windows of keys that left the table go when the next one comes.
#[derive(Debug, Default)]
pub(super) struct Windows {
    by_index: Lookup<u32, Window>,
    #[cfg(feature = "seeded-bugs")]
    pub(super) never_refuse: bool,
}

#[derive(Debug)]
struct Window {
    lane: Arc<OpenLane>,
    seen: Box<ReplayWindow>,
}

impl Windows {
    /// Whether this counter may be accepted under the key of `lane`.
    pub(super) fn check(&self, lane: &Arc<OpenLane>, counter: u64) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if self.never_refuse {
            return true;
        }
        match self.by_index.get(&lane.receiver.as_u32()) {
            Some(window) if Arc::ptr_eq(&window.lane, lane) => window.seen.check(counter),
            Some(_) | None => counter < ReplayWindow::COUNTER_LIMIT,
        }
    }

    /// Marks the counter of an authentic datagram; answers false when it was there already.
    pub(super) fn commit(&mut self, fib: &Fib, lane: &Arc<OpenLane>, counter: u64) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if self.never_refuse {
            return true;
        }
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use weave_crypto::{Chain, Role, Suite};
    use weave_wire::{Lane, PeerId, ReceiverIndex};

    use super::*;

    fn lane(slot: u32) -> Arc<OpenLane> {
        let chain = Chain::first(&[1; 32]);
        let (_, key) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, Lane::Data);
        Arc::new(OpenLane {
            version: 1,
            key,
            receiver: ReceiverIndex::new(slot, 0, Lane::Data),
            peer: PeerId([1; 32]),
            lane: Lane::Data,
            heard: Arc::new(AtomicU64::new(0)),
            traffic: Arc::default(),
        })
    }

    fn table(lanes: &[&Arc<OpenLane>]) -> Fib {
        let open = lanes
            .iter()
            .map(|lane| (lane.receiver.as_u32(), Arc::clone(lane)));
        Fib {
            open: open.collect(),
            ..Fib::default()
        }
    }

    #[test]
    fn windows_of_keys_that_left_the_table_go_when_the_next_comes() {
        let (one, two, three) = (lane(1), lane(2), lane(3));
        let mut windows = Windows::default();
        let fib = table(&[&one, &two]);
        assert!(windows.commit(&fib, &one, 0) && windows.commit(&fib, &two, 0));
        assert!(windows.commit(&table(&[&two, &three]), &three, 0));
        assert!(!windows.check(&two, 0) && !windows.check(&three, 0));
        assert_eq!(windows.by_index.len(), 2);
    }

    #[test]
    fn a_key_is_told_by_its_lane_and_not_by_its_index() {
        let (old, new) = (lane(1), lane(1));
        let mut windows = Windows::default();
        assert!(windows.commit(&table(&[&old]), &old, 5));
        assert!(windows.check(&new, 5));
        assert!(windows.commit(&table(&[&new]), &new, 5));
        assert!(!windows.commit(&table(&[&new]), &new, 5));
        assert_eq!(windows.by_index.len(), 1);
    }

    #[test]
    fn counters_that_are_never_sent_are_refused_without_a_window() {
        assert!(!Windows::default().check(&lane(1), ReplayWindow::COUNTER_LIMIT));
    }
}
