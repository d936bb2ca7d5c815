//! Whether keys are to withstand quantum computers, and what two peers make of that.
//!
//! Owns the announcement, the same in `Hello` and in the record of a peer. The exchange itself is
//! that of [`Epochs`](weave_crypto::Epochs).

use weave_crypto::RejectReason;

/// Bit of the capabilities: exchanges of keys have an ML-KEM-768 half where both peers say so.
const HAS: u64 = 1;
/// Bit beside it: no session without, and no frame before the first such exchange.
const REQUIRES: u64 = 2;

/// Whether exchanges of keys have an ML-KEM-768 half, so that who records the traffic of today
/// cannot open it with a quantum computer later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostQuantum {
    /// None has.
    Off,
    /// With peers that have it too, from the start of a session on.
    #[default]
    Prefer,
    /// Other peers get no session, and no frame is sent or taken before the first such exchange.
    Require,
}

/// What a session of two peers does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KemUse {
    /// No exchange of keys has an ML-KEM half.
    Never,
    /// Every one has; frames do not wait for the first.
    Beside,
    /// Every one has, and on both sides frames wait for the first.
    First,
}

impl PostQuantum {
    /// As it is announced.
    pub(crate) const fn capabilities(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Prefer => HAS,
            Self::Require => HAS | REQUIRES,
        }
    }

    /// As a peer announced it.
    pub(crate) const fn announced(capabilities: u64) -> Self {
        match (capabilities & HAS != 0, capabilities & REQUIRES != 0) {
            (false, _) => Self::Off,
            (true, false) => Self::Prefer,
            (true, true) => Self::Require,
        }
    }

    /// What a session with such a peer does; none when there can be no session.
    pub(crate) const fn with(self, theirs: Self) -> Option<KemUse> {
        match (self, theirs) {
            (Self::Off, Self::Require) | (Self::Require, Self::Off) => None,
            (Self::Off, Self::Off | Self::Prefer) | (Self::Prefer, Self::Off) => {
                Some(KemUse::Never)
            }
            (Self::Prefer, Self::Prefer) => Some(KemUse::Beside),
            (Self::Require, Self::Prefer | Self::Require) | (Self::Prefer, Self::Require) => {
                Some(KemUse::First)
            }
        }
    }

    /// What a peer is told that this one can have no session with.
    pub(crate) const fn refusal(self) -> RejectReason {
        match self {
            Self::Off => RejectReason::KemOff,
            Self::Prefer | Self::Require => RejectReason::KemRequired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PostQuantum::{Off, Prefer, Require};
    use super::*;

    #[test]
    fn what_is_announced_is_understood_and_bits_of_later_versions_change_nothing() {
        for one in [Off, Prefer, Require] {
            assert_eq!(PostQuantum::announced(one.capabilities()), one);
            assert_eq!(PostQuantum::announced(one.capabilities() | !3), one);
        }
        assert_eq!(PostQuantum::announced(REQUIRES), Off);
    }

    #[test]
    fn both_sides_come_to_the_same_and_only_who_requires_it_has_no_session_without() {
        for one in [Off, Prefer, Require] {
            for other in [Off, Prefer, Require] {
                let both = [one, other];
                let expected = match both.contains(&Off) {
                    true if both.contains(&Require) => None,
                    true => Some(KemUse::Never),
                    false if both.contains(&Require) => Some(KemUse::First),
                    false => Some(KemUse::Beside),
                };
                assert_eq!(one.with(other), expected, "{both:?}");
                assert_eq!(other.with(one), expected, "{both:?}");
            }
        }
    }
}
