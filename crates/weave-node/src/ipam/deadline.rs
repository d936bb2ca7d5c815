//! When the allocator wants to be called next.

use weave_wire::Time;

use super::Ipam;
use super::stage::Staged;

impl Ipam {
    /// When [`Ipam::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.stirred {
            return Some(self.now);
        }
        let pending = self
            .pending
            .iter()
            .map(|pending| pending.wake_at(self.now))
            .min();
        let storing = self.staged.values().filter_map(|staged| match staged {
            Staged::Hold {
                ticket: Some(_),
                deadline,
                ..
            } => Some(*deadline),
            Staged::Hold { .. }
            | Staged::Release { .. }
            | Staged::Grant { .. }
            | Staged::Lend { .. }
            | Staged::EndLoan { .. }
            | Staged::Found { .. }
            | Staged::Withdraw
            | Staged::Merge { .. }
            | Staged::Recovered { .. }
            | Staged::Owned { .. } => None,
        });
        [
            pending,
            storing.min(),
            self.ask_deadline().filter(|_| !self.recovery.is_awaited()),
            self.founding_deadline(),
            self.succession_deadline()
                .filter(|_| !self.recovery.is_awaited()),
            self.retry_storage_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
