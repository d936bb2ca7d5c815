//! How far a log is held, and which of two states of a log is the newer one.

use weave_wire::proto::LogVersion;
use weave_wire::{PeerId, WireError, peer_id_from_bytes};

/// One run of a log: a start of its origin, and a compaction within that start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct RunId {
    /// Number of the start.
    pub(crate) boot: u64,
    /// Number of the compaction.
    pub(crate) snapshot: u32,
}

/// A state of a log: all entries of this run up to `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Version {
    /// The run.
    pub(crate) run: RunId,
    /// Sequence number of the last entry; 0 before the first.
    pub(crate) seq: u64,
}

impl Version {
    /// Nothing is held.
    pub(crate) const NONE: Self = Self {
        run: RunId {
            boot: 0,
            snapshot: 0,
        },
        seq: 0,
    };

    /// The form of digests and pulls.
    pub(super) fn to_proto(self, origin: &PeerId) -> LogVersion {
        LogVersion {
            origin: origin.0.to_vec(),
            boot: self.run.boot,
            snapshot: self.run.snapshot,
            seq: self.seq,
        }
    }

    /// Reads what a digest or pull says about one log.
    ///
    /// # Errors
    /// When the origin is not a key.
    pub(super) fn from_proto(log: &LogVersion) -> Result<(PeerId, Self), WireError> {
        let origin = peer_id_from_bytes(&log.origin)?;
        let run = RunId {
            boot: log.boot,
            snapshot: log.snapshot,
        };
        Ok((origin, Self { run, seq: log.seq }))
    }
}

/// Whether `got` holds news for someone at `have`: a newer start wins over everything of an older
/// one, then a newer compaction, then more entries.
pub(crate) fn supersedes(have: Version, got: Version) -> bool {
    got > have
}

/// The merge decision as configured.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Merge {
    #[cfg(feature = "seeded-bugs")]
    pub(super) older_boot_accepted: bool,
}

impl Merge {
    /// [`supersedes`], unless a fault is built in.
    #[cfg_attr(
        not(feature = "seeded-bugs"),
        expect(
            clippy::unused_self,
            reason = "holds the fault when one can be built in"
        )
    )]
    pub(super) fn supersedes(self, have: Version, got: Version) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if self.older_boot_accepted && got.seq > 0 && got.run.boot < have.run.boot {
            return true;
        }
        supersedes(have, got)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version() -> impl Strategy<Value = Version> {
        (0..4u64, 0..4u32, 0..4u64).prop_map(|(boot, snapshot, seq)| Version {
            run: RunId { boot, snapshot },
            seq,
        })
    }

    #[test]
    fn a_newer_start_wins_over_any_number_of_entries() {
        let old = Version {
            run: RunId {
                boot: 1,
                snapshot: 9,
            },
            seq: 1_000,
        };
        let new = Version {
            run: RunId {
                boot: 2,
                snapshot: 0,
            },
            seq: 1,
        };
        assert!(supersedes(old, new) && !supersedes(new, old));
        assert!(supersedes(Version::NONE, old));
    }

    proptest! {
        #[test]
        fn of_two_different_states_exactly_one_is_newer(a in version(), b in version()) {
            prop_assert_eq!(supersedes(a, b), a != b && !supersedes(b, a));
        }

        #[test]
        fn being_newer_is_transitive(a in version(), b in version(), c in version()) {
            prop_assert!(!(supersedes(a, b) && supersedes(b, c)) || supersedes(a, c));
        }
    }
}
