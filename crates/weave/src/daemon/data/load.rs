//! How much there is to do on the data path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weave_wire::Time;

/// How long after the last bulk there is a load still.
const MEMORY: Duration = Duration::from_millis(20);

/// What a look at a TAP or a socket found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// Nothing waited.
    Nothing,
    /// Something waited.
    Some,
    /// So much waited that it is part of a bulk transfer.
    Bulk,
}

impl Load {
    /// The load of a look that found something.
    pub(super) const fn of(is_bulk: bool) -> Self {
        if is_bulk { Self::Bulk } else { Self::Some }
    }
}

/// When there was bulk last, as all data threads tell.
#[derive(Debug, Default)]
pub(super) struct LastBulk(AtomicU64);

impl LastBulk {
    /// Takes note of a look.
    pub(super) fn note(&self, load: Load, now: Time) {
        if load == Load::Bulk {
            self.0.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Whether there was bulk a moment ago.
    pub(super) fn is_recent(&self, now: Time) -> bool {
        let last = Time::from_nanos(self.0.load(Ordering::Relaxed));
        now.saturating_sub(last) < MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_remembered_for_a_moment() {
        let (last, now) = (LastBulk::default(), Time::from_secs(1));
        last.note(Load::Some, now);
        assert!(!last.is_recent(now));
        last.note(Load::Bulk, now);
        last.note(Load::Nothing, now + MEMORY / 2);
        assert!(last.is_recent(now + MEMORY / 2));
        assert!(!last.is_recent(now + MEMORY));
    }
}
