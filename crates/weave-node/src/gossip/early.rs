//! Batches that came before those that they follow: datagrams overtake each other, or one is lost.
//!
//! They are kept until what is missing has come, which spares asking for them again.
//!
//! Invariant: only what its origin signed is kept; what one log, and all, can make us keep is
//! bounded. What is not kept is only asked for again.

use std::collections::BTreeMap;

use weave_wire::PeerId;
use weave_wire::proto::SignedBatch;

use super::batch::ParsedBatch;
use super::version::{RunId, Version};

/// Batches kept of one log: the answer to a pull overtaken by its last datagram, and another.
const MOST_OF_ONE: usize = 32;
/// Batches kept of all.
const MOST: usize = 4_096;

/// A batch, and who sent it.
#[derive(Debug)]
pub(super) struct EarlyBatch {
    pub(super) from: PeerId,
    pub(super) parsed: ParsedBatch,
    pub(super) signed: SignedBatch,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Early(BTreeMap<(PeerId, RunId, u64), EarlyBatch>);

impl Early {
    /// Whether another batch of this log could be kept.
    pub(super) fn has_room(&self, origin: &PeerId) -> bool {
        self.0.len() < MOST && self.of(origin).count() < MOST_OF_ONE
    }

    /// Whether this batch is kept.
    pub(super) fn contains(&self, parsed: &ParsedBatch) -> bool {
        self.0.contains_key(&key_of(parsed))
    }

    /// Keeps a batch whose signature was checked.
    pub(super) fn keep(&mut self, from: PeerId, parsed: ParsedBatch, signed: SignedBatch) {
        let batch = EarlyBatch {
            from,
            parsed,
            signed,
        };
        self.0.insert(key_of(&batch.parsed), batch);
    }

    /// Whether something of a log is kept.
    pub(super) fn holds(&self, origin: &PeerId) -> bool {
        self.of(origin).next().is_some()
    }

    fn of(&self, origin: &PeerId) -> impl Iterator<Item = &EarlyBatch> {
        let all = self.0.range((*origin, RunId::default(), 0)..);
        all.take_while(move |((of, ..), _)| of == origin)
            .map(|(_, batch)| batch)
    }

    /// What follows `held` in its log, if that is kept; what that makes old is dropped.
    pub(super) fn next(&mut self, origin: PeerId, held: Version) -> Option<EarlyBatch> {
        let old = (origin, RunId::default(), 0)..=(origin, held.run, held.seq);
        let old: Vec<_> = self.0.range(old).map(|(key, _)| *key).collect();
        for key in old {
            self.0.remove(&key);
        }
        self.0.remove(&(origin, held.run, held.seq + 1))
    }
}

fn key_of(parsed: &ParsedBatch) -> (PeerId, RunId, u64) {
    (parsed.origin, parsed.run, parsed.first_seq)
}
