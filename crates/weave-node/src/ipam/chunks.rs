//! Who owns which chunk: the founder's range with all grants applied in the order of their chain.
//!
//! The grant with serial n + 1 in the log of the owner at serial n moves a chunk on; any other
//! grant of it is without effect. Every chunk has exactly one owner.

use std::collections::BTreeMap;

use weave_wire::PeerId;

use super::span::Span;

/// A grant of a run of chunks, from wherever it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) serial: u32,
    pub(crate) grantor: PeerId,
    pub(crate) grantee: PeerId,
    pub(crate) chunks: Span,
}

/// The owners of all chunks of a range, in runs.
#[derive(Debug, Default)]
pub(crate) struct ChunkMap {
    runs: BTreeMap<u32, Run>,
}

/// Consecutive chunks with one owner and one length of chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) chunks: Span,
    pub(crate) owner: PeerId,
    pub(crate) serial: u32,
}

impl ChunkMap {
    /// All of `chunks` chunks in the hands of the founder.
    pub(crate) fn founded(chunks: u32, founder: PeerId) -> Self {
        let all = Span {
            first: 0,
            last: chunks.saturating_sub(1),
        };
        Self {
            runs: BTreeMap::from([(
                0,
                Run {
                    chunks: all,
                    owner: founder,
                    serial: 0,
                },
            )]),
        }
    }

    /// Applies a grant where its grantor is the owner it must be; says how many chunks moved.
    pub(crate) fn apply(&mut self, grant: &Grant) -> u64 {
        let Some(before) = grant.serial.checked_sub(1) else {
            return 0;
        };
        self.change(grant.chunks, grant.grantee, grant.serial, |run| {
            run.owner == grant.grantor && run.serial == before
        })
    }

    /// Notes chunks that are known to have come to `owner` at this serial, by a chain whose
    /// earlier parts may be out of sight.
    pub(crate) fn assert(&mut self, chunks: Span, owner: PeerId, serial: u32) {
        self.change(chunks, owner, serial, |run| run.serial < serial);
    }

    /// The run that holds a chunk.
    pub(crate) fn run_of(&self, chunk: u32) -> Option<Run> {
        let (_, run) = self.runs.range(..=chunk).next_back()?;
        run.chunks.contains(chunk).then_some(*run)
    }

    /// All runs in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.values().copied()
    }

    /// The chunks of one owner.
    pub(crate) fn owned_by(&self, owner: PeerId) -> Vec<Span> {
        self.runs()
            .filter(|run| run.owner == owner)
            .map(|run| run.chunks)
            .collect()
    }

    fn change(
        &mut self,
        chunks: Span,
        owner: PeerId,
        serial: u32,
        may: impl Fn(&Run) -> bool,
    ) -> u64 {
        self.split_before(chunks.first);
        if let Some(after) = chunks.last.checked_add(1) {
            self.split_before(after);
        }
        let mut moved = 0;
        for (_, run) in self.runs.range_mut(chunks.first..=chunks.last) {
            if may(run) {
                run.owner = owner;
                run.serial = serial;
                moved += run.chunks.len();
            }
        }
        moved
    }

    fn split_before(&mut self, chunk: u32) {
        let Some((_, run)) = self.runs.range_mut(..chunk).next_back() else {
            return;
        };
        if !run.chunks.contains(chunk) {
            return;
        }
        let tail = Run {
            chunks: Span {
                first: chunk,
                last: run.chunks.last,
            },
            ..*run
        };
        run.chunks.last = chunk - 1;
        self.runs.insert(chunk, tail);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    const fn grant(serial: u32, from: u8, to: u8, first: u32, last: u32) -> Grant {
        Grant {
            serial,
            grantor: peer(from),
            grantee: peer(to),
            chunks: Span { first, last },
        }
    }

    #[test]
    fn a_chain_moves_chunks_on() {
        let mut map = ChunkMap::founded(16, peer(0));
        assert_eq!(map.apply(&grant(1, 0, 1, 4, 7)), 4);
        assert_eq!(map.apply(&grant(2, 1, 2, 5, 5)), 1);
        assert_eq!(map.owned_by(peer(2)), [Span::one(5)]);
        assert_eq!(map.run_of(6).map(|run| run.owner), Some(peer(1)));
        assert_eq!(map.run_of(15).map(|run| run.serial), Some(0));
        assert_eq!(map.run_of(16), None);
    }

    #[test]
    fn a_grant_by_anyone_but_the_owner_has_no_effect() {
        let mut map = ChunkMap::founded(16, peer(0));
        assert_eq!(map.apply(&grant(1, 1, 1, 0, 15)), 0);
        assert_eq!(map.apply(&grant(2, 0, 1, 0, 15)), 0);
        assert_eq!(map.apply(&grant(0, 0, 1, 0, 15)), 0);
        assert_eq!(map.apply(&grant(1, 0, 1, 0, 3)), 4);
        assert_eq!(
            map.apply(&grant(1, 0, 2, 0, 15)),
            12,
            "the first four have moved on"
        );
        assert_eq!(map.run_of(0).map(|run| run.owner), Some(peer(1)));
    }

    #[test]
    fn what_is_known_to_have_come_to_us_needs_no_chain() {
        let mut map = ChunkMap::founded(8, peer(0));
        map.assert(Span { first: 2, last: 3 }, peer(5), 4);
        assert_eq!(
            map.run_of(2).map(|run| (run.owner, run.serial)),
            Some((peer(5), 4))
        );
        assert_eq!(map.apply(&grant(5, 5, 6, 2, 2)), 1);
        map.assert(Span { first: 2, last: 3 }, peer(5), 4);
        assert_eq!(
            map.run_of(2).map(|run| run.owner),
            Some(peer(6)),
            "it has been passed on since"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_grants_every_chunk_has_one_owner(
            grants in proptest::collection::vec((0..4u32, 0..4u8, 0..4u8, 0..40u32, 0..40u32), 0..40)
        ) {
            let mut map = ChunkMap::founded(32, peer(0));
            for (serial, from, to, first, more) in grants {
                map.apply(&grant(serial, from, to, first, first + more));
            }
            let mut next = 0;
            for run in map.runs() {
                prop_assert_eq!(run.chunks.first, next);
                next = run.chunks.last + 1;
            }
            prop_assert_eq!(next, 32);
        }
    }
}
