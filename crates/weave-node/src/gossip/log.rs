//! What is held of one origin's log: a complete run with its table, and runs still incomplete.
//!
//! Invariant: the table shown is that of a run held completely up to its snapshot length. A newer
//! run replaces it in one step, when it is complete itself; nothing of the older run survives.

use std::collections::BTreeMap;

use weave_wire::proto::{SignedBatch, entry};

use super::batch::{MAX_TABLE, ParsedBatch};
use super::version::{Merge, RunId, Version};

/// Incomplete runs held of one log; more than one only when an origin vanished in between.
const MAX_INCOMING: usize = 2;
/// Entries of one run: an origin that compacts as it should never writes more.
const MAX_RUN_ENTRIES: u64 = 2 * MAX_TABLE as u64 + 64;

/// The table of one origin: its slots in use.
pub(crate) type Table = BTreeMap<u64, entry::Body>;

/// A slot that changed its content.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) slot: u64,
    pub(super) old: Option<entry::Body>,
    pub(super) new: Option<entry::Body>,
}

/// Where a batch belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// It continues a run, or begins a new one.
    Next,
    /// Entries before it are missing.
    Gap,
    /// Nothing in it is new.
    Known,
    /// It contradicts what is held, or grows without bound: its origin misbehaves.
    Wrong,
}

/// A batch held, with the sequence numbers of its first and last entry.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) signed: SignedBatch,
}

#[derive(Debug)]
struct Run {
    id: RunId,
    seq: u64,
    snapshot_len: u64,
    batches: Vec<Held>,
    table: Table,
    bytes: usize,
}

/// What is held of one log.
#[derive(Debug, Default)]
pub(super) struct OriginLog {
    complete: Option<Run>,
    /// The least recently extended first.
    incoming: Vec<Run>,
}

impl OriginLog {
    /// The state of the table shown.
    pub(super) fn version(&self) -> Version {
        self.complete.as_ref().map_or(Version::NONE, Run::version)
    }

    /// The table shown, if any run is complete.
    pub(super) fn table(&self) -> Option<&Table> {
        self.complete.as_ref().map(|run| &run.table)
    }

    /// All that is held: the complete state first, then those of incomplete runs.
    pub(super) fn versions(&self) -> Vec<Version> {
        let incoming = self.incoming.iter().map(Run::version);
        std::iter::once(self.version()).chain(incoming).collect()
    }

    /// Memory that the batches take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.complete
            .iter()
            .chain(&self.incoming)
            .map(|run| run.bytes)
            .sum()
    }

    /// The batches of the complete run that someone who holds `have` lacks.
    ///
    /// The lowest of `have` is what that peer holds completely.
    pub(super) fn missing(&self, have: &[Version], merge: Merge) -> &[Held] {
        let Some(run) = &self.complete else {
            return &[];
        };
        let same = have
            .iter()
            .filter(|version| version.run == run.id)
            .map(|version| version.seq);
        if let Some(seq) = same.max() {
            return run.after(seq);
        }
        let lowest = have.iter().min().copied().unwrap_or(Version::NONE);
        if merge.supersedes(lowest, run.version()) {
            run.after(0)
        } else {
            &[]
        }
    }

    /// The last batches of the complete run, at most `most` bytes of them.
    pub(super) fn tail(&self, most: usize) -> &[Held] {
        let batches = self.complete.as_ref().map_or(&[][..], |run| &run.batches);
        let mut len = 0;
        let count = batches.iter().rev().take_while(|held| {
            len += held.len();
            len <= most
        });
        batches
            .get(batches.len() - count.count()..)
            .unwrap_or_default()
    }

    /// The batch of the complete run of this id that begins at `first_seq`.
    pub(super) fn batch_at(&self, run: RunId, first_seq: u64) -> Option<&SignedBatch> {
        let complete = self
            .complete
            .as_ref()
            .filter(|complete| complete.id == run)?;
        let index = complete
            .batches
            .binary_search_by_key(&first_seq, |held| held.first_seq);
        complete.batches.get(index.ok()?).map(|held| &held.signed)
    }

    /// Where this batch belongs.
    pub(super) fn place(&self, batch: &ParsedBatch, merge: Merge) -> Placement {
        if !merge.supersedes(self.version(), batch.version()) {
            return Placement::Known;
        }
        let mut expected = 1;
        if let Some(run) = self.run(batch.run) {
            if run.snapshot_len != batch.snapshot_len {
                return Placement::Wrong;
            }
            if batch.last_seq <= run.seq {
                return Placement::Known;
            }
            expected = run.seq + 1;
        }
        if batch.first_seq < expected || batch.last_seq > MAX_RUN_ENTRIES {
            return Placement::Wrong;
        }
        if batch.first_seq > expected {
            return Placement::Gap;
        }
        Placement::Next
    }

    /// Applies a batch that [`Self::place`] found to be the next one. Gives what changed in the
    /// table shown.
    pub(super) fn apply(
        &mut self,
        batch: ParsedBatch,
        signed: SignedBatch,
        merge: Merge,
    ) -> Vec<Change> {
        if let Some(run) = self.complete.as_mut().filter(|run| run.id == batch.run) {
            return run.extend(batch, signed);
        }
        let known = self.incoming.iter().position(|run| run.id == batch.run);
        let mut run = match known {
            Some(index) => self.incoming.remove(index),
            None => Run::begin(batch.run, batch.snapshot_len),
        };
        run.extend(batch, signed);
        if run.seq < run.snapshot_len {
            self.incoming.push(run);
            let excess = self.incoming.len().saturating_sub(MAX_INCOMING);
            self.incoming.drain(..excess);
            return Vec::new();
        }
        self.replace(run, merge)
    }

    fn replace(&mut self, run: Run, merge: Merge) -> Vec<Change> {
        let version = run.version();
        let old = self
            .complete
            .take()
            .map(|run| run.table)
            .unwrap_or_default();
        let changes = difference(old, &run.table);
        self.complete = Some(run);
        self.incoming
            .retain(|run| merge.supersedes(version, run.version()));
        changes
    }

    fn run(&self, id: RunId) -> Option<&Run> {
        self.complete
            .iter()
            .chain(&self.incoming)
            .find(|run| run.id == id)
    }
}

impl Run {
    fn begin(id: RunId, snapshot_len: u64) -> Self {
        Self {
            id,
            seq: 0,
            snapshot_len,
            batches: Vec::new(),
            table: Table::new(),
            bytes: 0,
        }
    }

    fn version(&self) -> Version {
        Version {
            run: self.id,
            seq: self.seq,
        }
    }

    fn after(&self, seq: u64) -> &[Held] {
        let index = self.batches.partition_point(|held| held.last_seq <= seq);
        self.batches.get(index..).unwrap_or_default()
    }

    fn extend(&mut self, batch: ParsedBatch, signed: SignedBatch) -> Vec<Change> {
        let mut changes = Vec::new();
        for entry in batch.entries {
            let old = match entry.body.clone() {
                Some(body) => self.table.insert(entry.slot, body),
                None => self.table.remove(&entry.slot),
            };
            if old != entry.body {
                changes.push(Change {
                    slot: entry.slot,
                    old,
                    new: entry.body,
                });
            }
        }
        let held = Held {
            first_seq: batch.first_seq,
            last_seq: batch.last_seq,
            signed,
        };
        self.seq = batch.last_seq;
        self.bytes += held.len();
        self.batches.push(held);
        changes
    }
}

impl Held {
    /// Length on the wire, in bytes.
    pub(super) fn len(&self) -> usize {
        self.signed.payload.len() + self.signed.signature.len() + 12
    }
}

/// What leads from one table to another: removals first.
fn difference(old: Table, new: &Table) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut kept = Table::new();
    for (slot, body) in old {
        if new.contains_key(&slot) {
            kept.insert(slot, body);
        } else {
            changes.push(Change {
                slot,
                old: Some(body),
                new: None,
            });
        }
    }
    for (slot, body) in new {
        let old = kept.remove(slot);
        if old.as_ref() != Some(body) {
            changes.push(Change {
                slot: *slot,
                old,
                new: Some(body.clone()),
            });
        }
    }
    changes
}
