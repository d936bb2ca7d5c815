//! A host's disk: what is on it, what is on its way there, and what was on it before.
//!
//! What was acknowledged is durable, in order. A crash decides for each write on its way whether
//! it is there: any of them may be, whatever became of those before it, but each wholly or not
//! at all. One that reached the medium in part counts as not there, which is what the
//! checksums of a transactional store are for. A disk may refuse writes for a while, full or
//! read-only, and it may come back as it was some time ago.

use std::collections::{BTreeMap, VecDeque};

use weave_node::{PersistToken, Writes};
use weave_wire::Time;

use crate::chance::Chance;
use crate::counters::Counters;

/// Earlier states that are kept, as in a rotation of backups.
const BACKUPS: usize = 6;
/// What a backup must hold: with nobody to ask, a router goes on with what it has.
const HAS_PEERS: &[u8] = b"peers";
/// What nodes of the newer version write, built with the feature `next-format`.
const NEWER_RECORD: &[u8] = b"next-format";

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// One host's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Contents,
    queue: VecDeque<(PersistToken, Writes)>,
    backups: VecDeque<Contents>,
    /// Nothing can be written before this time.
    pub(crate) refuses_until: Time,
}

/// What becomes of a write that a crash meets on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Torn,
    Survives,
}

impl Disk {
    /// Takes writes that will be durable later.
    pub(crate) fn submit(&mut self, token: PersistToken, writes: Writes) {
        self.queue.push_back((token, writes));
    }

    /// Makes the oldest writes durable.
    pub(crate) fn complete(&mut self) -> Option<PersistToken> {
        let (token, writes) = self.queue.pop_front()?;
        self.write(writes);
        Some(token)
    }

    /// Refuses the oldest writes.
    pub(crate) fn refuse(&mut self) -> Option<PersistToken> {
        self.queue.pop_front().map(|(token, _)| token)
    }

    /// Decides what becomes of everything that is on its way.
    pub(crate) fn crash(&mut self, chance: &mut Chance, counters: &mut Counters) {
        let mut is_gap = false;
        for (_, writes) in std::mem::take(&mut self.queue) {
            let fates = [Fate::Lost, Fate::Torn, Fate::Survives, Fate::Survives];
            match chance.pick(&fates) {
                Some(Fate::Survives) => {
                    counters.writes_reordered += u64::from(is_gap);
                    self.write(writes);
                }
                Some(Fate::Torn) => {
                    counters.writes_torn += 1;
                    is_gap = true;
                }
                Some(Fate::Lost) | None => {
                    counters.writes_lost += 1;
                    is_gap = true;
                }
            }
        }
    }

    /// Keeps what is on the disk now, to come back later.
    pub(crate) fn back_up(&mut self) {
        if !self.durable.contains_key(HAS_PEERS) {
            return;
        }
        self.backups.push_back(self.durable.clone());
        if self.backups.len() > BACKUPS {
            self.backups.pop_front();
        }
    }

    /// Goes back to one of the backups, whether there is one.
    pub(crate) fn set_back(&mut self, chance: &mut Chance) -> bool {
        let index = chance.index(self.backups.len());
        let Some(before) = self.backups.get(index) else {
            return false;
        };
        self.durable.clone_from(before);
        // later ones are of a time that never was
        self.backups.truncate(index + 1);
        true
    }

    /// What a new start finds.
    pub(crate) fn contents(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Whether something of the newer version is on it.
    pub(crate) fn has_newer_record(&self) -> bool {
        self.durable.contains_key(NEWER_RECORD)
    }

    fn write(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
    }
}
