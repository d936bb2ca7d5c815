//! Who owns which chunk: the founder's range with all grants applied in the order of their chain.
//!
//! The grant with serial n + 1 in the log of the owner at serial n moves a chunk on. So does one in
//! the log of a former owner that takes it back, and in anybody's that takes it from a banned one;
//! these come before the owner's own, and a taker that has it already keeps it. Any other grant of
//! it is without effect. Whoever a chunk came to says so in its own log, in a *receipt*: where the
//! grant is out of sight, for logs of hosts that are gone get lost, that counts. Every chunk has
//! exactly one owner.

use std::collections::BTreeMap;

use weave_wire::PeerId;

use super::span::Span;

/// A grant of a run of chunks, from wherever it is known; or a receipt, which says that they came to
/// its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Grant {
    pub(crate) serial: u32,
    /// The owner that the grantor takes the chunks from, which is not itself.
    pub(crate) taken_from: Option<PeerId>,
    pub(crate) grantor: PeerId,
    pub(crate) grantee: PeerId,
    pub(crate) chunks: Span,
    /// Counts the grants of the grantor.
    pub(crate) number: u32,
    /// In a receipt: at which place of the chain somebody took the chunks last, 0 if nobody did.
    pub(crate) taken_at: u32,
}

/// The owners of all chunks of a range, in runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkMap {
    runs: BTreeMap<u32, Run>,
}

/// Consecutive chunks with one owner and one length of chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) chunks: Span,
    pub(crate) owner: PeerId,
    pub(crate) serial: u32,
    /// At which serial somebody took them last, 0 if nobody did.
    pub(crate) taken_at: u32,
    /// Whose they were before, the founder first; not those that they were taken from.
    pub(crate) above: Vec<PeerId>,
}

impl Grant {
    /// Grants are applied in this order. Who was taken for gone has let its time pass, and so has
    /// whoever it gave chunks to that nobody had heard of: what was taken stays taken.
    fn place(&self) -> (u32, bool, bool, Self) {
        let is_take = self.taken_from.is_some();
        (self.serial, !is_take, self.is_receipt(), *self)
    }

    /// A receipt of these chunks, which came to `owner` at this place of their chain.
    pub(crate) const fn receipt(owner: PeerId, chunks: Span, serial: u32, taken_at: u32) -> Self {
        Self {
            serial,
            taken_from: None,
            grantor: owner,
            grantee: owner,
            chunks,
            number: 0,
            taken_at,
        }
    }

    /// Whether this says only that chunks came to its author.
    pub(crate) fn is_receipt(&self) -> bool {
        self.taken_from.is_none() && self.grantee == self.grantor
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
                    taken_at: 0,
                    above: Vec::new(),
                },
            )]),
        }
    }

    /// Applies all grants and receipts; says how many grants have no effect on some of their chunks.
    pub(crate) fn apply_all(
        &mut self,
        mut grants: Vec<Grant>,
        is_banned: impl Fn(&PeerId) -> bool,
    ) -> usize {
        grants.sort_unstable_by_key(Grant::place);
        let mut heard: BTreeMap<(u32, PeerId), Vec<Span>> = BTreeMap::new();
        for grant in grants.iter().filter(|grant| !grant.is_receipt()) {
            let to_it = heard.entry((grant.serial, grant.grantee)).or_default();
            to_it.push(grant.chunks);
        }
        let mut void = 0;
        for grant in &grants {
            if grant.is_receipt() {
                let to_it = heard.get(&(grant.serial, grant.grantee));
                self.believe(grant, to_it.map_or(&[], Vec::as_slice));
            } else {
                let moved = self.apply(grant, &is_banned);
                void += usize::from(moved < grant.chunks.len() && grant.taken_from.is_none());
            }
        }
        void
    }

    /// Applies a grant where its grantor is the owner it must be; says how many chunks moved.
    fn apply(&mut self, grant: &Grant, is_banned: impl Fn(&PeerId) -> bool) -> u64 {
        let Some(before) = grant.serial.checked_sub(1) else {
            return 0;
        };
        self.change(grant, |run| {
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

    /// Believes a receipt whose chain is out of sight, in part. Where it is not, and the last grant
    /// is heard, that is of these chunks, that counts alone; and what somebody has taken, and its
    /// author did not know of, is that one's.
    fn believe(&mut self, receipt: &Grant, heard: &[Span]) {
        let serial = receipt.serial;
        self.change(receipt, |run| {
            let is_heard = || heard.iter().any(|chunks| chunks.contains(run.chunks.first));
            let follows = run.serial.saturating_add(1) == serial;
            run.serial < serial && run.taken_at <= receipt.taken_at && !(follows && is_heard())
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

    /// The runs that hold any of these chunks.
    pub(crate) fn runs_within(&self, chunks: Span) -> impl Iterator<Item = &Run> + '_ {
        let first = self.run_of(chunks.first).map(|run| run.chunks.first);
        let range = first.unwrap_or(chunks.first)..=chunks.last;
        self.runs.range(range).map(|(_, run)| run)
    }

    /// The chunks of one owner.
    pub(crate) fn owned_by(&self, owner: PeerId) -> Vec<Span> {
        self.runs()
            .filter(|run| run.owner == owner)
            .map(|run| run.chunks)
            .collect()
    }

    fn change(&mut self, grant: &Grant, may: impl Fn(&Run) -> bool) -> u64 {
        let Grant { chunks, serial, .. } = *grant;
        self.split_before(chunks.first);
        if let Some(after) = chunks.last.checked_add(1) {
            self.split_before(after);
        }
        let mut moved = 0;
        for (_, run) in self.runs.range_mut(chunks.first..=chunks.last) {
            if may(run) {
                run.pass_to(grant.grantee);
                run.serial = serial;
                run.taken_at = match grant.taken_from {
                    Some(_) => serial,
                    None => run.taken_at.max(grant.taken_at),
                };
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
            taken_at: 0,
        }
    }

    const fn receipt(serial: u32, owner: u8, first: u32, last: u32, taken_at: u32) -> Grant {
        Grant::receipt(peer(owner), Span { first, last }, serial, taken_at)
    }

    fn owner(map: &ChunkMap, chunk: u32) -> PeerId {
        map.run_of(chunk).expect("in the range").owner
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
    fn a_receipt_counts_where_the_chain_is_out_of_sight() {
        let mut map = ChunkMap::founded(8, peer(0));
        let known = vec![receipt(4, 5, 2, 3, 0), grant(5, 5, 6, 2, 2)];
        assert_eq!(map.apply_all(known, |_| false), 0);
        assert_eq!(owner(&map, 2), peer(6), "it has been passed on since");
        assert_eq!(
            map.run_of(3).map(|run| (run.owner, run.serial)),
            Some((peer(5), 4))
        );
    }

    #[test]
    fn a_receipt_of_a_grant_that_is_heard_and_has_no_effect_has_none() {
        let mut map = ChunkMap::founded(8, peer(0));
        let known = vec![grant(1, 0, 4, 2, 3), grant(2, 9, 5, 2, 3)];
        let known = [known, vec![receipt(2, 5, 2, 3, 0)]].concat();
        assert_eq!(map.apply_all(known.clone(), |_| false), 1);
        assert_eq!(map.owned_by(peer(5)), []);
        let mut map = ChunkMap::founded(8, peer(0));
        map.apply_all(known[1..].to_vec(), |_| false);
        let chunks = Span { first: 2, last: 3 };
        assert_eq!(
            map.owned_by(peer(5)),
            [chunks],
            "what it rests on is not heard"
        );
    }

    #[test]
    fn the_owners_own_grant_comes_before_the_receipt_of_another() {
        let mut map = ChunkMap::founded(8, peer(0));
        let known = vec![receipt(1, 5, 2, 3, 0), grant(1, 0, 9, 2, 2)];
        map.apply_all(known, |_| false);
        assert_eq!((owner(&map, 2), owner(&map, 3)), (peer(9), peer(5)));
    }

    #[test]
    fn what_was_taken_stays_taken_whatever_receipts_from_before_say() {
        let mut known = vec![
            grant(1, 0, 1, 2, 3),
            take(2, 0, 1, 2, 2),
            receipt(4, 5, 2, 3, 0),
        ];
        let folded = |known: &Vec<Grant>| {
            let mut map = ChunkMap::founded(8, peer(0));
            map.apply_all(known.clone(), |_| false);
            (owner(&map, 2), owner(&map, 3))
        };
        assert_eq!(folded(&known), (peer(0), peer(5)));
        known.push(grant(3, 0, 7, 2, 2));
        assert_eq!(folded(&known).0, peer(7), "also what was given on since");
        known.push(receipt(5, 8, 2, 2, 2));
        assert_eq!(folded(&known).0, peer(8), "by a chain that knows of it");
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
        let grants = [
            take(1, 2, 0, 0, 15),
            grant(1, 0, 1, 0, 3),
            take(1, 1, 0, 8, 15),
        ];
        map.apply_all(grants.to_vec(), banned);
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
            let grants = grants.into_iter().map(|(serial, from, to, first, more, taken_from)| {
                let taken_at = serial / 2;
                let taken_from = taken_from.map(peer);
                Grant { taken_from, taken_at, ..grant(serial, from, to, first, first + more) }
            });
            map.apply_all(grants.collect(), |of| *of == peer(1));
            let mut next = 0;
            for run in map.runs() {
                prop_assert_eq!(run.chunks.first, next);
                next = run.chunks.last + 1;
            }
            prop_assert_eq!(next, 32);
        }
    }
}
