//! A host's disk: what is on it, and what is on its way there.
//!
//! Writes become durable in order. A crash loses those that were not acknowledged, save perhaps
//! the first few: a write may be on the disk before anybody hears of it.

use std::collections::{BTreeMap, VecDeque};

use weave_node::{PersistToken, Writes};

/// One host's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    queue: VecDeque<(PersistToken, Writes)>,
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

    /// Loses what is on its way, except the first `survivors`; says how many writes were lost.
    pub(crate) fn crash(&mut self, survivors: usize) -> u64 {
        for (_, writes) in self
            .queue
            .drain(..survivors.min(self.queue.len()))
            .collect::<Vec<_>>()
        {
            self.write(writes);
        }
        let lost = self.queue.len() as u64;
        self.queue.clear();
        lost
    }

    /// What a new start finds.
    pub(crate) fn contents(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
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
