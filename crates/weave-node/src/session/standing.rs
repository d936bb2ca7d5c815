//! Which of two sessions with the same peer is used for sending.
//!
//! Both sides must come to the same answer without asking each other. Where they do not, for
//! they saw things in another order, the side with the higher static key follows the other.

use std::time::Duration;

use weave_wire::Time;

/// What a session is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Number of the peer's start that it belongs to.
    pub(super) boot: u64,
    /// Static key of the side that sent the first handshake message.
    pub(super) initiator: [u8; 32],
    /// When the handshake was completed on this side.
    pub(super) since: Time,
    /// Whether something sealed by the peer was opened.
    pub(super) confirmed: bool,
    /// Whether it leads through a relay, or nowhere any more.
    pub(super) relayed: bool,
}

/// What becomes of a session that is added to, or confirmed beside, the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The other one belongs to an earlier start of the peer: it is of no use to anyone.
    ReplaceDead,
    /// It takes over, the other one stays receivable for a while.
    TakeOver,
    /// It takes over for now, and the other one may come back when it is confirmed.
    StandIn,
    /// It waits until the peer shows that it has it, too.
    Wait,
    /// It stays receivable for a while, and is not used.
    Yield,
}

impl Standing {
    /// Judges a new session against the one in use.
    pub(super) fn against(&self, in_use: &Self, simultaneous: Duration) -> Verdict {
        if self.boot > in_use.boot {
            return Verdict::ReplaceDead;
        }
        match (self.confirmed, in_use.confirmed) {
            (false, _) => Verdict::Wait,
            (true, false) => Verdict::StandIn,
            (true, true) if self.is_preferred_to(in_use, simultaneous) => Verdict::TakeOver,
            (true, true) => Verdict::Yield,
        }
    }

    fn is_preferred_to(&self, in_use: &Self, simultaneous: Duration) -> bool {
        if self.relayed != in_use.relayed {
            return in_use.relayed;
        }
        let (earlier, later) = (self.since.min(in_use.since), self.since.max(in_use.since));
        let together = later.saturating_sub(earlier) < simultaneous && self.boot == in_use.boot;
        if together && self.initiator != in_use.initiator {
            return self.initiator < in_use.initiator;
        }
        self.since >= in_use.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOGETHER: Duration = Duration::from_secs(10);

    fn standing(boot: u64, initiator: u8, since: u64, confirmed: bool) -> Standing {
        Standing {
            boot,
            initiator: [initiator; 32],
            since: Time::from_secs(since),
            confirmed,
            relayed: false,
        }
    }

    #[test]
    fn a_direct_session_is_used_whenever_it_was_made() {
        let direct = standing(1, 2, 10, true);
        let relayed = Standing {
            relayed: true,
            ..standing(1, 1, 30, true)
        };
        assert_eq!(direct.against(&relayed, TOGETHER), Verdict::TakeOver);
        assert_eq!(relayed.against(&direct, TOGETHER), Verdict::Yield);
        let silent = Standing {
            relayed: true,
            ..direct
        };
        assert_eq!(relayed.against(&silent, TOGETHER), Verdict::TakeOver);
    }

    #[test]
    fn of_simultaneous_sessions_the_one_of_the_lower_key_is_used() {
        let (low, high) = (standing(1, 1, 10, true), standing(1, 2, 12, true));
        assert_eq!(low.against(&high, TOGETHER), Verdict::TakeOver);
        assert_eq!(high.against(&low, TOGETHER), Verdict::Yield);
    }

    #[test]
    fn later_the_newest_is_used_whoever_made_it() {
        let (old, new) = (standing(1, 1, 10, true), standing(1, 2, 20, true));
        assert_eq!(new.against(&old, TOGETHER), Verdict::TakeOver);
        assert_eq!(old.against(&new, TOGETHER), Verdict::Yield);
        let again = standing(1, 1, 12, true);
        assert_eq!(again.against(&old, TOGETHER), Verdict::TakeOver);
    }

    #[test]
    fn a_newer_start_of_the_peer_wins_at_once_and_an_older_one_has_to_prove_itself() {
        let running = standing(5, 1, 10, true);
        assert_eq!(
            standing(6, 2, 11, false).against(&running, TOGETHER),
            Verdict::ReplaceDead
        );
        assert_eq!(
            standing(4, 0, 11, false).against(&running, TOGETHER),
            Verdict::Wait
        );
        assert_eq!(
            standing(4, 2, 11, true).against(&running, TOGETHER),
            Verdict::TakeOver
        );
    }

    #[test]
    fn a_session_the_peer_may_not_have_does_not_displace_one_it_has() {
        let running = standing(1, 2, 10, true);
        let candidate = standing(1, 1, 99, false);
        assert_eq!(candidate.against(&running, TOGETHER), Verdict::Wait);
        assert_eq!(running.against(&candidate, TOGETHER), Verdict::StandIn);
    }
}
