//! When to lose something, so that senders slow down before a queue makes everybody wait.

use std::time::Duration;

use weave_wire::Time;

/// How long senders have to slow down before the next loss.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// One queue that is too long now and then.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    told_at: Option<Time>,
}

impl Congestion {
    /// Whether something is to be lost, the queue being too long; at most one thing in a while.
    pub(super) fn is_to_be_told(&mut self, now: Time) -> bool {
        let is_patient = |at| now.saturating_sub(at) < PATIENCE;
        if self.told_at.is_some_and(is_patient) {
            return false;
        }
        self.told_at = Some(now);
        true
    }
}
