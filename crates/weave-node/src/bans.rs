//! Who is banned from the mesh: a set of keys that only grows.
//!
//! A key is banned when any log that was ever held says so, or when this host has stored that
//! one did. It does not matter who said it, or whether that peer is banned itself by now: the
//! order in which bans are heard of decides nothing. A ban that no log held says any more, since
//! whoever said it is gone, is passed on by those who have it on disk.
//!
//! Owns what is known, what of it is yet to be stored, and what is to be written into our own
//! log. Does not own the logs, the disk, or what a ban does.
//!
//! Invariant: one peer alone can neither fill the memory nor the disk of others, nor keep an
//! operator of this host from banning it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore as _;
use weave_wire::codec::{MAX_TEXT_LEN, check_entry};
use weave_wire::proto::{BanRecord, Entry, entry};
use weave_wire::{PeerId, Time, peer_id_from_bytes};

use crate::drain::Writes;

/// Keys of stored bans: this, and the banned key.
const PREFIX: &[u8] = b"ban/";
/// Bans that others said and that are stored, at most; further ones hold until a restart.
const MAX_STORED: usize = 4_096;
/// Bans that others said and that are known, at most; further ones are ignored.
const MAX_KNOWN: usize = 16_384;
/// As many count that one peer was the first to tell us.
const MAX_OF_ONE: usize = 1_024;
/// What could not be stored is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// A ban that no log says is passed on after this long, and up to [`JITTER_MS`] more: whoever
/// comes first spares the others the trouble.
const PASS_ON_AFTER: Duration = Duration::from_secs(10);
const JITTER_MS: u64 = 30_000;

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who is banned.
    pub peer: PeerId,
    /// Who banned it first, as far as is known.
    pub by: PeerId,
    /// Why, in words of whoever did. May be empty.
    pub reason: String,
}

/// How far a ban is that was asked for on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanProgress {
    /// On its way to the disk.
    Storing,
    /// Durable, in force here, and on its way to all peers.
    InForce,
    /// The disk refused; nothing has changed.
    Failed(String),
}

/// All bans that are known.
#[derive(Debug)]
pub(crate) struct Bans {
    me: PeerId,
    known: BTreeMap<PeerId, Ban>,
    /// Which ban each slot of each log says.
    said: BTreeMap<(PeerId, u64), PeerId>,
    /// How many slots say a ban; never 0.
    sayers: BTreeMap<PeerId, usize>,
    /// How many bans were first heard of in the log of each origin.
    heard_from: BTreeMap<PeerId, usize>,
    /// Known, and not on disk yet.
    unsaved: BTreeSet<PeerId>,
    /// Number of those on disk.
    stored: usize,
    /// On their way to the disk.
    saving: Vec<Ban>,
    /// Asked for on this host, and how far that is.
    asked: BTreeMap<PeerId, (Ban, Option<String>)>,
    retry_at: Option<Time>,
    pass_on_at: Option<Time>,
    rng: ChaCha12Rng,
}

impl Bans {
    /// The bans that `stored` holds: all keys of the store may be passed.
    pub(crate) fn new(me: PeerId, stored: &[(Vec<u8>, Vec<u8>)], rng: ChaCha12Rng) -> Self {
        let bans = stored.iter().filter(|(key, _)| key.starts_with(PREFIX));
        let bans = bans.filter_map(|(_, value)| BanRecord::decode(value.as_slice()).ok());
        let known: BTreeMap<_, _> = bans
            .filter_map(|record| read(me, &record))
            .map(|ban| (ban.peer, ban))
            .collect();
        Self {
            me,
            stored: known.len(),
            known,
            unsaved: BTreeSet::new(),
            said: BTreeMap::new(),
            sayers: BTreeMap::new(),
            heard_from: BTreeMap::new(),
            saving: Vec::new(),
            asked: BTreeMap::new(),
            retry_at: None,
            pass_on_at: None,
            rng,
        }
    }

    /// All bans, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.known.values()
    }

    /// Whether this peer is banned.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.known.contains_key(peer)
    }

    /// Those that this host was the first to say: its log says them again after a restart.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Ban> {
        self.known.values().filter(|ban| ban.by == self.me)
    }

    /// Asks for a ban; in force once it is durable. Known already, nothing changes.
    pub(crate) fn ask(&mut self, peer: PeerId, reason: &str) {
        if self.contains(&peer) {
            return;
        }
        let cut = reason.floor_char_boundary(MAX_TEXT_LEN);
        let ban = Ban {
            peer,
            by: self.me,
            reason: reason.get(..cut).unwrap_or_default().to_owned(),
        };
        self.asked.insert(peer, (ban, None));
    }

    /// How far a ban is that was asked for; none when it was not.
    pub(crate) fn progress(&self, peer: &PeerId) -> Option<BanProgress> {
        if self.contains(peer) {
            return Some(BanProgress::InForce);
        }
        let (_, failed) = self.asked.get(peer)?;
        let failed = failed.clone().map(BanProgress::Failed);
        Some(failed.unwrap_or(BanProgress::Storing))
    }

    /// A slot of an origin's table holds this now. Returns who has become banned by it.
    pub(crate) fn apply(
        &mut self,
        origin: PeerId,
        slot: u64,
        new: Option<&entry::Body>,
        now: Time,
    ) -> Option<PeerId> {
        self.unsay(&(origin, slot), now);
        let mut ban = of_body(origin, new?)?;
        // only our own log and our disk tell us what we said
        if ban.by == self.me {
            ban.by = origin;
        }
        if !self.contains(&ban.peer) && !self.may_tell(origin) {
            return None;
        }
        self.said.insert((origin, slot), ban.peer);
        *self.sayers.entry(ban.peer).or_default() += 1;
        self.learn(ban)
    }

    /// Takes in a ban. Returns who has become banned by it.
    pub(crate) fn learn(&mut self, ban: Ban) -> Option<PeerId> {
        let peer = ban.peer;
        match self.known.get_mut(&peer) {
            // several say it: all peers come to show the same one
            Some(known) => {
                if (ban.by, &ban.reason) < (known.by, &known.reason) {
                    *known = ban;
                }
                None
            }
            None => {
                self.known.insert(peer, ban);
                self.unsaved.insert(peer);
                Some(peer)
            }
        }
    }

    /// What is to be made durable now, if anything; one batch at a time.
    pub(crate) fn take_unsaved(&mut self, now: Time) -> Option<Writes> {
        if !self.saving.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        let asked = self.asked.values().filter(|(_, failed)| failed.is_none());
        let asked = asked.map(|(ban, _)| ban);
        let unsaved = self.unsaved.iter();
        // one that was given up here may have been heard of since
        let is_asked = |peer: &&PeerId| matches!(self.asked.get(peer), Some((_, None)));
        let unsaved = unsaved.filter(|peer| !is_asked(peer));
        let unsaved = unsaved.filter_map(|peer| self.known.get(peer));
        let room = MAX_STORED.saturating_sub(self.stored);
        self.saving = asked.chain(unsaved.take(room)).cloned().collect();
        (!self.saving.is_empty()).then(|| self.saving.iter().map(write).collect())
    }

    /// What was on its way is durable. Returns the bans among it that this host was asked for.
    pub(crate) fn saved(&mut self) -> Vec<Ban> {
        let saved = std::mem::take(&mut self.saving);
        self.stored += saved.len();
        let mut asked = Vec::new();
        for ban in saved {
            self.unsaved.remove(&ban.peer);
            if let Some((_, None)) = self.asked.remove(&ban.peer) {
                self.known.entry(ban.peer).or_insert_with(|| ban.clone());
                asked.push(ban);
            }
        }
        asked
    }

    /// Nothing of what was on its way is durable. What this host was asked for is given up; the
    /// rest is tried again.
    pub(crate) fn save_failed(&mut self, why: &str, now: Time) {
        for ban in std::mem::take(&mut self.saving) {
            if let Some((_, failed)) = self.asked.get_mut(&ban.peer) {
                *failed = Some(why.to_owned());
            }
        }
        self.retry_at = Some(now + RETRY);
    }

    /// Has bans passed on that no log held says, if there are any, some time from now.
    pub(crate) fn look_for_orphans(&mut self, now: Time) {
        let jitter = Duration::from_millis(self.rng.next_u64() % JITTER_MS);
        let is_any = self.sayers.len() < self.known.len();
        self.pass_on_at = is_any.then(|| now + PASS_ON_AFTER + jitter);
    }

    /// The bans that are to be passed on now.
    pub(crate) fn take_orphans(&mut self, now: Time) -> Vec<Ban> {
        if self.pass_on_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.pass_on_at = None;
        self.orphans().cloned().collect()
    }

    /// When something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.retry_at.into_iter().chain(self.pass_on_at).min()
    }

    fn orphans(&self) -> impl Iterator<Item = &Ban> {
        let known = self.known.values();
        known.filter(|ban| !self.sayers.contains_key(&ban.peer))
    }

    /// A slot no longer says what it did.
    fn unsay(&mut self, place: &(PeerId, u64), now: Time) {
        let Some(peer) = self.said.remove(place) else {
            return;
        };
        if let Some(count) = self.sayers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.sayers.remove(&peer);
                if self.pass_on_at.is_none() {
                    self.look_for_orphans(now);
                }
            }
        }
    }

    /// Whether one more ban counts that is not known yet.
    fn may_tell(&mut self, origin: PeerId) -> bool {
        let told = self.heard_from.entry(origin).or_default();
        if origin != self.me && (*told >= MAX_OF_ONE || self.known.len() >= MAX_KNOWN) {
            tracing::debug!(peer = %origin.name(), "says more bans than are listened to");
            return false;
        }
        *told += 1;
        true
    }
}

/// The key and the entry of our own log that say a ban.
pub(crate) fn ban_entry(me: &PeerId, ban: &Ban) -> (String, entry::Body) {
    let mut record = record(ban);
    if ban.by == *me {
        record.by.clear();
    }
    (format!("ban/{}", ban.peer), entry::Body::Ban(record))
}

/// The ban that this record of `origin` says.
pub(crate) fn of_body(origin: PeerId, body: &entry::Body) -> Option<Ban> {
    match body {
        entry::Body::Ban(record) => read(origin, record),
        entry::Body::Peer(_)
        | entry::Body::Subnet(_)
        | entry::Body::Endpoint(_)
        | entry::Body::Name(_)
        | entry::Body::Genesis(_)
        | entry::Body::Grant(_)
        | entry::Body::Loan(_) => None,
    }
}

fn read(origin: PeerId, record: &BanRecord) -> Option<Ban> {
    let body = Some(entry::Body::Ban(record.clone()));
    check_entry(&Entry { slot: 0, body }).ok()?;
    Some(Ban {
        peer: peer_id_from_bytes(&record.peer).ok()?,
        by: peer_id_from_bytes(&record.by).unwrap_or(origin),
        reason: record.reason.clone(),
    })
}

fn record(ban: &Ban) -> BanRecord {
    BanRecord {
        peer: ban.peer.as_bytes().to_vec(),
        reason: ban.reason.clone(),
        by: ban.by.as_bytes().to_vec(),
    }
}

fn write(ban: &Ban) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = [PREFIX, ban.peer.to_string().as_bytes()].concat();
    (key, Some(record(ban).encode_to_vec()))
}

#[cfg(test)]
mod tests;
