//! Our own log: keys and their slots, changes not yet written, and when to write anew.

use std::collections::{BTreeMap, BTreeSet};

use blake2::{Blake2s256, Digest};
use prost::Message as _;
use weave_wire::WireError;
use weave_wire::codec::check_entry;
use weave_wire::proto::{Entry, entry};

use super::batch::{MAX_ENTRY_LEN, MAX_TABLE, Writing};
use super::log::Table;
use super::version::{RunId, Version};

/// The key of our peer record, which has slot 1 in every log.
pub(crate) const PEER_KEY: &str = "peer";
/// The slot of the peer record.
pub(super) const PEER_SLOT: u64 = 1;

/// Why an entry of our own cannot be announced. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SetError {
    /// Longer than a batch.
    #[error("record `{key}` is {len} bytes long, at most {MAX_ENTRY_LEN} can be announced")]
    TooLong {
        /// Its key.
        key: String,
        /// Its length in bytes.
        len: usize,
    },
    /// Others would not accept it.
    #[error("record `{key}` cannot be announced")]
    Invalid {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: WireError,
    },
    /// The table is full.
    #[error("this host announces {MAX_TABLE} records, no more are possible; remove some first")]
    TooMany,
}

#[derive(Debug)]
struct Staged {
    order: u64,
    key: String,
    body: Option<entry::Body>,
}

/// What is to be written next, and where.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) at: Writing,
    pub(super) changes: Vec<(u64, Option<entry::Body>)>,
}

/// Writes our own log. The table itself is held with those of the other origins.
#[derive(Debug)]
pub(super) struct OwnLog {
    run: RunId,
    /// Entries written of this run.
    seq: u64,
    /// Of this run; 0 before its first batch.
    snapshot_len: u64,
    slots: BTreeMap<String, u64>,
    used: BTreeSet<u64>,
    staged: BTreeMap<u64, Staged>,
    order: u64,
}

impl OwnLog {
    pub(super) fn new(boot: u64) -> Self {
        Self {
            run: RunId { boot, snapshot: 0 },
            seq: 0,
            snapshot_len: 0,
            slots: BTreeMap::new(),
            used: BTreeSet::from([0, PEER_SLOT]),
            staged: BTreeMap::new(),
            order: 0,
        }
    }

    /// What `key` is set to, changes not yet written included.
    pub(super) fn body<'a>(&'a self, key: &str, table: &'a Table) -> Option<&'a entry::Body> {
        let slot = self.slots.get(key)?;
        match self.staged.get(slot) {
            Some(staged) => staged.body.as_ref(),
            None => table.get(slot),
        }
    }

    /// Whether anything is to be written.
    pub(super) fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// The run that is being written.
    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// How far our log is written.
    pub(super) fn version(&self) -> Version {
        Version {
            run: self.run,
            seq: self.seq,
        }
    }

    /// Notes a change to be written.
    pub(super) fn stage(
        &mut self,
        key: &str,
        body: Option<entry::Body>,
        table: &Table,
    ) -> Result<(), SetError> {
        if self.body(key, table) == body.as_ref() {
            return Ok(());
        }
        let known = self.slots.get(key).copied();
        if known.is_none() && self.slots.len() >= MAX_TABLE {
            return Err(SetError::TooMany);
        }
        let slot = known.unwrap_or_else(|| self.free_slot(key));
        let entry = Entry { slot, body };
        let len = entry.encoded_len();
        if len > MAX_ENTRY_LEN {
            return Err(SetError::TooLong {
                key: key.to_owned(),
                len,
            });
        }
        check_entry(&entry).map_err(|source| SetError::Invalid {
            key: key.to_owned(),
            source,
        })?;
        self.slots.insert(key.to_owned(), slot);
        self.used.insert(slot);
        if table.get(&slot) == entry.body.as_ref() {
            self.staged.remove(&slot);
            self.forget_if_removed(key.to_owned(), slot, entry.body.is_none());
            return Ok(());
        }
        self.order += 1;
        let staged = Staged {
            order: self.order,
            key: key.to_owned(),
            body: entry.body,
        };
        self.staged.insert(slot, staged);
        Ok(())
    }

    /// What is to be written now: the changes, or all anew when the log has grown too long.
    ///
    /// `table` is what the log says so far.
    pub(super) fn flush(&mut self, table: &Table) -> Option<Flush> {
        let staged = std::mem::take(&mut self.staged);
        let mut live_len = table.len();
        for (slot, staged) in &staged {
            match (table.contains_key(slot), staged.body.is_some()) {
                (true, false) => live_len -= 1,
                (false, true) => live_len += 1,
                (true, true) | (false, false) => {}
            }
            self.forget_if_removed(staged.key.clone(), *slot, staged.body.is_none());
        }
        if (self.snapshot_len == 0 || self.is_too_long(staged.len(), live_len))
            && let Some(flush) = self.snapshot(table, &staged)
        {
            return Some(flush);
        }
        if staged.is_empty() || self.snapshot_len == 0 {
            return None;
        }
        let mut staged: Vec<_> = staged.into_iter().collect();
        staged.sort_unstable_by_key(|(_, staged)| staged.order);
        Some(
            self.written(
                staged
                    .into_iter()
                    .map(|(slot, staged)| (slot, staged.body))
                    .collect(),
            ),
        )
    }

    /// Begins the log anew behind `seen`, a number of starts that others know of.
    pub(super) fn jump_beyond(&mut self, seen: u64) {
        self.run = RunId {
            boot: seen.max(self.run.boot).saturating_add(1),
            snapshot: 0,
        };
        self.seq = 0;
        self.snapshot_len = 0;
    }

    /// All of the table as a run of its own. An empty one cannot be told apart from none.
    fn snapshot(&mut self, table: &Table, staged: &BTreeMap<u64, Staged>) -> Option<Flush> {
        let mut live = table.clone();
        for (slot, staged) in staged {
            match staged.body.clone() {
                Some(body) => live.insert(*slot, body),
                None => live.remove(slot),
            };
        }
        if live.is_empty() {
            return None;
        }
        if self.snapshot_len > 0 {
            self.run.snapshot = self.run.snapshot.checked_add(1)?;
        }
        self.seq = 0;
        self.snapshot_len = count(live.len());
        Some(
            self.written(
                live.into_iter()
                    .map(|(slot, body)| (slot, Some(body)))
                    .collect(),
            ),
        )
    }

    fn written(&mut self, changes: Vec<(u64, Option<entry::Body>)>) -> Flush {
        let first_seq = self.seq + 1;
        self.seq += count(changes.len());
        let at = Writing {
            run: self.run,
            first_seq,
            snapshot_len: self.snapshot_len,
        };
        Flush { at, changes }
    }

    fn is_too_long(&self, changes: usize, live: usize) -> bool {
        self.seq.saturating_add(count(changes)) > 2 * count(live) + 64
    }

    fn forget_if_removed(&mut self, key: String, slot: u64, removed: bool) {
        if removed {
            self.slots.remove(&key);
            if slot != PEER_SLOT {
                self.used.remove(&slot);
            }
        }
    }

    /// The slot of a new key. It follows from the key, so that a restart, which writes the same
    /// records anew, changes nothing for those who compare the tables.
    fn free_slot(&self, key: &str) -> u64 {
        if key == PEER_KEY {
            return PEER_SLOT;
        }
        let hash: [u8; 32] = Blake2s256::digest(key).into();
        let [a, b, c, d, e, ..] = hash;
        let mut slot = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        while self.used.contains(&slot) {
            slot += 1;
        }
        slot
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
