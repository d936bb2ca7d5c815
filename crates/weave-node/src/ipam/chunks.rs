//! Who owns which chunk: the founder's range with all grants applied in the order of their chain.
//!
//! The grant with serial n + 1 in the log of the owner at serial n moves a chunk on. So does one in
//! the log of a former owner that takes it back, and in anybody's that takes it from a banned one;
//! these come before the owner's own, and a taker that has it already keeps it. Any other grant of
//! it is without effect. Every chunk has exactly one owner.

use std::collections::BTreeMap;

use weave_wire::PeerId;

use super::span::Span;

/// A grant of a run of chunks, from wherever it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) serial: u32,
    /// The owner that the grantor takes the chunks from, which is not itself.
    pub(crate) taken_from: Option<PeerId>,
    pub(crate) grantor: PeerId,
    pub(crate) grantee: PeerId,
    pub(crate) chunks: Span,
    /// Counts the grants of the grantor.
    pub(crate) number: u32,
}

/// The owners of all chunks of a range, in runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkMap {
    runs: BTreeMap<u32, Run>,
}

/// Consecutive chunks with one owner and one length of chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) chunks: Span,
    pub(crate) owner: PeerId,
    pub(crate) serial: u32,
    /// Length of the chain when they came to the owner: one less, or what is between is out of
    /// sight.
    pub(crate) after: u32,
    /// Who had them last.
    pub(crate) from: Option<PeerId>,
    /// The owner had them before that one.
    pub(crate) came_back: bool,
    /// The owner took them.
    pub(crate) is_taken: bool,
    /// Whose they were before, the founder first; not those that they were taken from.
    pub(crate) above: Vec<PeerId>,
}

impl Grant {
    /// Grants are applied in this order. Who was taken for gone has let its time pass, and so has
    /// whoever it gave chunks to that nobody had heard of: what was taken stays taken.
    pub(crate) fn place(&self) -> (u32, bool, Self) {
        (self.serial, self.taken_from.is_none(), *self)
    }
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
                    after: 0,
                    from: None,
                    came_back: false,
                    is_taken: false,
                    above: Vec::new(),
                },
            )]),
        }
    }

    /// Applies a grant where its grantor is the owner it must be; says how many chunks moved.
    pub(crate) fn apply(&mut self, grant: &Grant, is_banned: impl Fn(&PeerId) -> bool) -> u64 {
        let Some(before) = grant.serial.checked_sub(1) else {
            return 0;
        };
        let is_taken = grant.taken_from.is_some();
        self.change(grant.chunks, grant.grantee, grant.serial, is_taken, |run| {
            run.serial == before
                && match &grant.taken_from {
                    None => run.owner == grant.grantor,
                    // it has them by another chain: that by which it took them is out of sight
                    Some(_) if run.owner == grant.grantor => grant.grantee == grant.grantor,
                    Some(loser) => {
                        let may = run.above.contains(&grant.grantor) || is_banned(loser);
                        run.owner == *loser && may
                    }
                }
        })
    }

    /// Notes chunks that are known to have come to `owner` at this serial, by a chain whose
    /// earlier parts may be out of sight: logs of hosts that are gone get lost. Where they are
    /// not, and the last grant `is_heard`, that counts alone; and what somebody has taken since is
    /// its.
    pub(crate) fn assert(
        &mut self,
        chunks: Span,
        owner: PeerId,
        serial: u32,
        is_heard: impl Fn(&Run) -> bool,
    ) {
        self.change(chunks, owner, serial, false, |run| {
            let follows = run.serial.saturating_add(1) == serial;
            run.serial < serial && !run.is_taken && !(follows && is_heard(run))
        });
    }

    /// The run that holds a chunk.
    pub(crate) fn run_of(&self, chunk: u32) -> Option<&Run> {
        let (_, run) = self.runs.range(..=chunk).next_back()?;
        run.chunks.contains(chunk).then_some(run)
    }

    /// All runs in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> + '_ {
        self.runs.values()
    }

    /// The runs that begin within these chunks.
    pub(crate) fn within(&self, chunks: Span) -> impl Iterator<Item = &Run> + '_ {
        self.runs
            .range(chunks.first..=chunks.last)
            .map(|(_, run)| run)
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
        is_taken: bool,
        may: impl Fn(&Run) -> bool,
    ) -> u64 {
        self.split_before(chunks.first);
        if let Some(after) = chunks.last.checked_add(1) {
            self.split_before(after);
        }
        let mut moved = 0;
        for (_, run) in self.runs.range_mut(chunks.first..=chunks.last) {
            if may(run) {
                run.from = Some(run.owner);
                run.came_back = run.above.contains(&owner);
                run.pass_to(owner);
                run.after = run.serial;
                run.serial = serial;
                run.is_taken = is_taken;
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
            ..run.clone()
        };
        run.chunks.last = chunk - 1;
        self.runs.insert(chunk, tail);
    }
}

impl Run {
    /// Whoever takes chunks back stands where it stood before.
    fn pass_to(&mut self, owner: PeerId) {
        match self.above.iter().position(|peer| *peer == owner) {
            Some(at) => self.above.truncate(at),
            None if self.owner != owner => self.above.push(self.owner),
            None => {}
        }
        self.owner = owner;
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
            taken_from: None,
            grantor: peer(from),
            grantee: peer(to),
            chunks: Span { first, last },
            number: 0,
        }
    }

    #[test]
    fn a_chain_moves_chunks_on() {
        let mut map = ChunkMap::founded(16, peer(0));
        assert_eq!(map.apply(&grant(1, 0, 1, 4, 7), |_| false), 4);
        assert_eq!(map.apply(&grant(2, 1, 2, 5, 5), |_| false), 1);
        assert_eq!(map.owned_by(peer(2)), [Span::one(5)]);
        assert_eq!(map.run_of(6).map(|run| run.owner), Some(peer(1)));
        assert_eq!(map.run_of(15).map(|run| run.serial), Some(0));
        assert_eq!(map.run_of(16), None);
    }

    #[test]
    fn a_grant_by_anyone_but_the_owner_has_no_effect() {
        let mut map = ChunkMap::founded(16, peer(0));
        assert_eq!(map.apply(&grant(1, 1, 1, 0, 15), |_| false), 0);
        assert_eq!(map.apply(&grant(2, 0, 1, 0, 15), |_| false), 0);
        assert_eq!(map.apply(&grant(0, 0, 1, 0, 15), |_| false), 0);
        assert_eq!(map.apply(&grant(1, 0, 1, 0, 3), |_| false), 4);
        assert_eq!(
            map.apply(&grant(1, 0, 2, 0, 15), |_| false),
            12,
            "the first four have moved on"
        );
        assert_eq!(map.run_of(0).map(|run| run.owner), Some(peer(1)));
    }

    #[test]
    fn what_is_known_to_have_come_to_us_needs_no_chain() {
        let mut map = ChunkMap::founded(8, peer(0));
        map.assert(Span { first: 2, last: 3 }, peer(5), 4, |_| false);
        assert_eq!(
            map.run_of(2).map(|run| (run.owner, run.serial)),
            Some((peer(5), 4))
        );
        assert_eq!(map.apply(&grant(5, 5, 6, 2, 2), |_| false), 1);
        map.assert(Span { first: 2, last: 3 }, peer(5), 4, |_| false);
        assert_eq!(
            map.run_of(2).map(|run| run.owner),
            Some(peer(6)),
            "it has been passed on since"
        );
    }

    #[test]
    fn a_grant_that_is_heard_and_has_no_effect_is_not_known_better() {
        let chunks = Span { first: 2, last: 3 };
        let mut map = ChunkMap::founded(8, peer(0));
        map.assert(chunks, peer(5), 1, |_| true);
        assert_eq!(map.owned_by(peer(5)), []);
        map.assert(chunks, peer(5), 2, |_| true);
        assert_eq!(map.owned_by(peer(5)), [chunks], "what it rests on is not");
    }

    #[test]
    fn what_was_taken_back_is_not_known_better_by_whoever_had_it_later() {
        let chunks = Span { first: 2, last: 3 };
        let mut map = ChunkMap::founded(8, peer(0));
        map.apply(&grant(1, 0, 1, 2, 3), |_| false);
        map.apply(&take(2, 0, 1, 2, 2), |_| false);
        map.assert(chunks, peer(5), 4, |_| false);
        assert_eq!(map.owned_by(peer(5)), [Span::one(3)]);
    }

    const fn take(serial: u32, by: u8, from: u8, first: u32, last: u32) -> Grant {
        Grant {
            taken_from: Some(peer(from)),
            ..grant(serial, by, by, first, last)
        }
    }

    #[test]
    fn a_former_owner_takes_back_and_stands_where_it_stood() {
        let mut map = ChunkMap::founded(16, peer(0));
        map.apply(&grant(1, 0, 1, 0, 7), |_| false);
        map.apply(&grant(2, 1, 2, 0, 3), |_| false);
        assert_eq!(map.apply(&take(3, 5, 2, 0, 3), |_| false), 0, "a stranger");
        assert_eq!(
            map.apply(&take(3, 1, 3, 0, 3), |_| false),
            0,
            "not the owner"
        );
        assert_eq!(map.apply(&take(3, 0, 2, 0, 0), |_| false), 1);
        assert_eq!(map.run_of(0).map(|run| run.above.clone()), Some(vec![]));
        assert_eq!(map.apply(&take(3, 1, 2, 0, 3), |_| false), 3, "of the rest");
        let run = map.run_of(1).expect("a run");
        assert_eq!((run.owner, run.above.clone()), (peer(1), vec![peer(0)]));
    }

    #[test]
    fn what_anybody_takes_from_a_banned_owner_stays_taken_whatever_that_gave_away() {
        let banned = |of: &PeerId| *of == peer(0);
        let mut map = ChunkMap::founded(16, peer(0));
        let mut grants = [
            take(1, 2, 0, 0, 15),
            grant(1, 0, 1, 0, 3),
            take(1, 1, 0, 8, 15),
        ];
        grants.sort_unstable_by_key(Grant::place);
        for grant in &grants {
            map.apply(grant, banned);
        }
        assert_eq!(map.owned_by(peer(1)), [Span { first: 8, last: 15 }]);
        let taken = [Span { first: 0, last: 3 }, Span { first: 4, last: 7 }];
        assert_eq!(map.owned_by(peer(2)), taken);
    }

    #[test]
    fn who_takes_what_it_has_keeps_it_and_may_give_it_on() {
        let mut map = ChunkMap::founded(16, peer(0));
        map.apply(&grant(1, 0, 1, 0, 7), |_| false);
        map.apply(&take(2, 0, 1, 0, 7), |_| false);
        assert_eq!(map.apply(&take(3, 0, 5, 0, 7), |_| false), 8);
        assert_eq!(map.apply(&grant(4, 0, 6, 0, 3), |_| false), 4);
        let to_another = Grant {
            taken_from: Some(peer(5)),
            ..grant(4, 0, 6, 4, 7)
        };
        assert_eq!(map.apply(&to_another, |_| false), 0, "it takes for itself");
    }

    proptest! {
        #[test]
        fn whatever_the_grants_every_chunk_has_one_owner(
            grants in proptest::collection::vec((0..4u32, 0..4u8, 0..4u8, 0..40u32, 0..40u32, proptest::option::of(0..4u8)), 0..40)
        ) {
            let mut map = ChunkMap::founded(32, peer(0));
            for (serial, from, to, first, more, taken_from) in grants {
                let taken_from = taken_from.map(peer);
                let grant = Grant { taken_from, ..grant(serial, from, to, first, first + more) };
                map.apply(&grant, |of| *of == peer(1));
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
