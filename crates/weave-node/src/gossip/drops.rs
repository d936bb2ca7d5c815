//! Why gossip was not taken in, counted.

/// Why a message, batch or entry was dropped. None of these ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum GossipDrop {
    /// Not valid, or beyond a limit of the format.
    Malformed,
    /// The origin has not signed it.
    Signature,
    /// All of it was held already.
    Known,
    /// Entries before it are missing; they are asked for.
    Gap,
    /// It contradicts other batches of its origin, or its log grows without bound.
    Contradiction,
    /// A log entry without valid content; its slot counts as removed.
    BadEntry,
    /// Our own log, as we know it.
    OwnEcho,
    /// Too many logs, or too many bytes of them.
    Full,
    /// A digest or pull of a peer without session.
    Stranger,
    /// The peer asks for more than its share.
    Budget,
    /// News that were announced but never arrived.
    Unanswered,
}

impl GossipDrop {
    /// All reasons, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::Malformed,
        Self::Signature,
        Self::Known,
        Self::Gap,
        Self::Contradiction,
        Self::BadEntry,
        Self::OwnEcho,
        Self::Full,
        Self::Stranger,
        Self::Budget,
        Self::Unanswered,
    ];

    /// Name for metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Known => "known",
            Self::Gap => "gap",
            Self::Contradiction => "contradiction",
            Self::BadEntry => "bad_entry",
            Self::OwnEcho => "own_echo",
            Self::Full => "full",
            Self::Stranger => "stranger",
            Self::Budget => "budget",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Number of drops by reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GossipDrops([u64; GossipDrop::ALL.len()]);

impl GossipDrops {
    pub(super) fn count(&mut self, reason: GossipDrop) {
        self.add(reason, 1);
    }

    pub(super) fn add(&mut self, reason: GossipDrop, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(sum) = self.0.get_mut(reason as usize) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Number of drops for this reason.
    pub(crate) fn of(&self, reason: GossipDrop) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// All reasons with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (GossipDrop, u64)> {
        GossipDrop::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
    }
}
