//! Which datagrams of a lane were already received (RFC 6479).

/// Words of the ring; one of them is always partly ahead of the window.
const WORDS: usize = 128;
const WORD_BITS: u64 = 64;

/// How far behind the newest datagram an older one may arrive.
const REACH: u64 = (WORDS as u64 - 1) * WORD_BITS;

/// Remembers the last 8,192 counters of one lane, in a ring of words that are cleared as the
/// window moves over them.
///
/// Order of use: [`Self::check`], open the seal, [`Self::commit`]. A counter is marked only when
/// its seal was good, so a forger cannot push the window away.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// One above the highest counter seen.
    next: u64,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Counters from here on are never sent, see [`crate::SendLane`].
    pub const COUNTER_LIMIT: u64 = 1 << 60;

    /// A window that has seen nothing.
    pub const fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    /// Whether a datagram with this counter is new enough, and was not yet received.
    pub fn check(&self, counter: u64) -> bool {
        if counter >= Self::COUNTER_LIMIT {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        self.next - 1 - counter < REACH && self.seen[slot(counter)] & bit(counter) == 0
    }

    /// Marks this counter as received. Answers false, and changes nothing, when
    /// [`Self::check`] says no.
    pub fn commit(&mut self, counter: u64) -> bool {
        if !self.check(counter) {
            return false;
        }
        if counter >= self.next {
            self.advance(counter);
        }
        self.seen[slot(counter)] |= bit(counter);
        true
    }

    /// Moves the window up to `counter`, forgetting the words that it takes over.
    fn advance(&mut self, counter: u64) {
        let first_new = self.next.div_ceil(WORD_BITS);
        let last_new = counter / WORD_BITS;
        if last_new >= first_new {
            let words = (last_new - first_new + 1).min(WORDS as u64);
            for word in 0..words {
                self.seen[slot((last_new - word) * WORD_BITS)] = 0;
            }
        }
        self.next = counter + 1;
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

const fn slot(counter: u64) -> usize {
    (counter / WORD_BITS % WORDS as u64) as usize
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The law, without the ring: everything within reach and not seen is accepted, once.
    #[derive(Default)]
    struct Model {
        highest: Option<u64>,
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn commit(&mut self, counter: u64) -> bool {
            let fresh = match self.highest {
                Some(highest) if counter <= highest => highest - counter < REACH,
                Some(_) | None => true,
            };
            if counter >= ReplayWindow::COUNTER_LIMIT || !fresh || !self.seen.insert(counter) {
                return false;
            }
            self.highest = self.highest.max(Some(counter));
            true
        }
    }

    #[test]
    fn each_counter_is_accepted_once_in_any_order_within_reach() {
        let mut window = ReplayWindow::new();
        let order: Vec<u64> = (0..REACH).rev().collect();
        assert!(order.iter().all(|&counter| window.commit(counter)));
        assert!(order.iter().all(|&counter| !window.check(counter)));
        assert!(order.iter().all(|&counter| !window.commit(counter)));
    }

    #[test]
    fn what_is_out_of_reach_is_refused() {
        let mut window = ReplayWindow::new();
        assert!(window.commit(REACH));
        assert!(window.check(1));
        assert!(!window.check(0));
        assert!(window.commit(1 << 40));
        assert!(!window.check(REACH + 1));
        assert!(window.check((1 << 40) - 1));
    }

    #[test]
    fn counters_at_the_limit_are_refused() {
        let mut window = ReplayWindow::new();
        assert!(window.commit(ReplayWindow::COUNTER_LIMIT - 1));
        assert!(!window.commit(ReplayWindow::COUNTER_LIMIT));
        assert!(!window.commit(u64::MAX));
    }

    #[test]
    fn a_failed_check_leaves_the_window_where_it_was() {
        let mut window = ReplayWindow::new();
        assert!(window.commit(5));
        assert!(window.check(1 << 50));
        assert!(window.check(4));
        assert!(!window.commit(5));
        assert!(window.commit(4));
    }

    proptest! {
        #[test]
        fn the_ring_agrees_with_a_set(
            steps in proptest::collection::vec(
                prop_oneof![
                    4 => (0u64..200).prop_map(Step::Back),
                    4 => (0u64..70).prop_map(Step::Ahead),
                    1 => (REACH - 130..REACH + 130).prop_map(Step::Back),
                    1 => (REACH - 130..REACH + 130).prop_map(Step::Ahead),
                    1 => any::<u64>().prop_map(Step::To),
                ],
                0..400,
            ),
        ) {
            let (mut window, mut model) = (ReplayWindow::new(), Model::default());
            for step in steps {
                let at = model.highest.unwrap_or(0);
                let counter = match step {
                    Step::Back(by) => at.saturating_sub(by),
                    Step::Ahead(by) => at + by,
                    Step::To(counter) => counter,
                };
                let accepted = model.commit(counter);
                prop_assert_eq!(window.check(counter), accepted);
                prop_assert_eq!(window.commit(counter), accepted);
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Back(u64),
        Ahead(u64),
        To(u64),
    }
}
