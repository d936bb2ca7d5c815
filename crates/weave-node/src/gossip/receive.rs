//! Taking in batches: from a flood, from the answer to a pull, or along with another message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::RngCore as _;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Delta, Digest, SignedBatch};
use weave_wire::{PeerId, Time};

use super::batch::ParsedBatch;
use super::log::{OriginLog, Placement};
use super::sync::{pack, split};
use super::version::{RunId, Version};
use super::{ALL_FOR_OTHERS, ALL_FOR_OWN, GossipAction, GossipDrop, Logs};

/// Logs held at most.
const MAX_LOGS: usize = 16_384;
/// Memory for the batches of all logs, in bytes.
const MAX_BYTES: usize = 256 << 20;
/// With many neighbours, the news of others wait before they are passed on, for so many
/// milliseconds at random: for more of them to share a message, and for neighbours that are faster
/// to show that they have them.
const PASS_DELAY_MS: (u64, u64) = (10, 60);
/// News that wait, in bytes, before they are passed on at once.
const MOST_WAITING: usize = 64 << 10;
/// So many neighbours get each batch of others, those counted from which it came and whose it is,
const EAGER: usize = 6;
/// and the rest is told of it after this long.
const TELL_DELAY: Duration = Duration::from_millis(250);
/// What was fetched is announced to neighbours after this long, all of it at once.
pub(super) const SPREAD_DELAY: Duration = Duration::from_millis(250);

/// Origin, run and first entry of a batch.
type Key = (PeerId, RunId, u64);

/// News of others on their way to the neighbours. With many of these, a few get each batch; the
/// others are told later that it is there, unless they have shown to have it by then
/// (compare Plumtree, Leitão et al. 2007).
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// To be passed on, each with the neighbours that have it.
    batches: BTreeMap<Key, (SignedBatch, BTreeSet<PeerId>)>,
    bytes: usize,
    at: Option<Time>,
    /// Passed on to some, to be told of.
    told: BTreeMap<Key, BTreeSet<PeerId>>,
    tell_at: Option<Time>,
}

impl Passed {
    /// When something is to be sent.
    pub(super) fn due_at(&self) -> Option<Time> {
        [self.at, self.tell_at].into_iter().flatten().min()
    }

    /// A neighbour has a batch.
    fn note(&mut self, key: Key, has: PeerId) {
        if let Some((_, have)) = self.batches.get_mut(&key) {
            have.insert(has);
        }
        if let Some(have) = self.told.get_mut(&key) {
            have.insert(has);
        }
    }

    /// A neighbour has a log up to some version.
    fn note_version(&mut self, origin: PeerId, version: Version, has: PeerId) {
        let all = (origin, RunId::default(), 0)..=(origin, version.run, version.seq);
        for (_, (_, have)) in self.batches.range_mut(all.clone()) {
            have.insert(has);
        }
        for (_, have) in self.told.range_mut(all) {
            have.insert(has);
        }
    }

    fn add(&mut self, key: Key, signed: &SignedBatch, from: PeerId, at: Time) {
        self.bytes += signed.payload.len() + signed.signature.len();
        let have = BTreeSet::from([from, key.0]);
        self.batches.insert(key, (signed.clone(), have));
        let at = self.at.get_or_insert(at);
        if self.bytes > MOST_WAITING {
            *at = Time::ZERO;
        }
    }
}

impl Logs {
    /// Takes in batches from a peer, news are passed on.
    pub(crate) fn handle_delta(&mut self, from: PeerId, delta: Delta, now: Time) {
        for signed in delta.batches {
            self.receive(from, &signed, now);
        }
        if self.neighbours.len() <= ALL_FOR_OTHERS {
            self.passed.at = self.passed.at.map(|_| now);
        }
        self.pass_on(now);
        self.send_pulls(now);
        self.drive_resync(now);
    }

    /// Sends our own news to neighbours. With many only some get them, and pass them on.
    pub(super) fn flood(&mut self, fresh: &[SignedBatch]) {
        for to in self.flood_targets(ALL_FOR_OWN) {
            for delta in pack(fresh.iter()) {
                self.send(to, Body::Delta(delta));
            }
        }
    }

    /// Passes on the news of others that have waited, to neighbours that do not have them.
    pub(super) fn pass_on(&mut self, now: Time) {
        if self.passed.tell_at.is_some_and(|at| at <= now) {
            self.tell_of_news();
        }
        if self.passed.at.is_none_or(|at| at > now) {
            return;
        }
        self.passed.at = None;
        self.passed.bytes = 0;
        let batches = std::mem::take(&mut self.passed.batches);
        let targets = self.flood_targets(ALL_FOR_OTHERS);
        let is_for_all = targets.len() <= ALL_FOR_OTHERS;
        let mut chosen: BTreeMap<PeerId, Vec<&SignedBatch>> = BTreeMap::new();
        for (key, (signed, have)) in &batches {
            let mut have = have.clone();
            let mut lacking: Vec<_> = targets.iter().filter(|to| !have.contains(*to)).collect();
            while !lacking.is_empty() && (is_for_all || have.len() < EAGER) {
                let index = self.rng.next_u64() % u64::try_from(lacking.len()).unwrap_or(1);
                let to = lacking.swap_remove(usize::try_from(index).unwrap_or(0));
                have.insert(*to);
                chosen.entry(*to).or_default().push(signed);
            }
            if !lacking.is_empty() {
                self.passed.tell_at.get_or_insert(now + TELL_DELAY);
                self.passed.told.insert(*key, have);
            }
        }
        for (to, batches) in chosen {
            for delta in pack(batches.into_iter()) {
                self.send(to, Body::Delta(delta));
            }
        }
    }

    /// Tells the other neighbours which news there are.
    fn tell_of_news(&mut self) {
        self.passed.tell_at = None;
        let told = std::mem::take(&mut self.passed.told);
        for to in self.flood_targets(ALL_FOR_OTHERS) {
            let lacking = told.iter().filter(|(_, have)| !have.contains(&to));
            let origins: BTreeSet<PeerId> = lacking.map(|((origin, ..), _)| *origin).collect();
            let versions = origins
                .iter()
                .map(|origin| self.version(origin).to_proto(origin));
            for logs in split(versions.collect()) {
                let digest = Digest {
                    logs,
                    news: true,
                    ..Digest::default()
                };
                self.send(to, Body::Digest(digest));
            }
        }
    }

    /// A neighbour tells of news: what is lacking is asked for.
    pub(super) fn handle_news(&mut self, from: PeerId, digest: &Digest, now: Time) {
        for log in &digest.logs {
            let Ok((origin, version)) = Version::from_proto(log) else {
                return self.drops.count(GossipDrop::Malformed);
            };
            self.passed.note_version(origin, version, from);
            if origin != self.me && self.merge.supersedes(self.version(&origin), version) {
                self.want(origin, version, from, false, now);
            }
        }
        self.send_pulls(now);
    }

    /// The neighbours that news are sent to. A peer with few sessions is always among them:
    /// hardly anyone else would tell it.
    pub(super) fn flood_targets(&self, all: usize) -> Vec<PeerId> {
        self.neighbours.targets(all, |peer| {
            let sessions = self.peer_record(peer).map_or(0, |record| record.sessions);
            usize::try_from(sessions).is_ok_and(|sessions| sessions <= ALL_FOR_OTHERS)
        })
    }

    fn receive(&mut self, from: PeerId, signed: &SignedBatch, now: Time) {
        let Ok(parsed) = ParsedBatch::read(signed) else {
            return self.drops.count(GossipDrop::Malformed);
        };
        let origin = parsed.origin;
        if origin == self.me {
            return self.receive_own(from, parsed, signed, now);
        }
        let unknown = OriginLog::default();
        let log = self.logs.get(&origin).unwrap_or(&unknown);
        match log.place(&parsed, self.merge) {
            Placement::Known => {
                self.passed.note(key_of(&parsed), from);
                self.drops.count(GossipDrop::Known);
            }
            Placement::Wrong => self.drops.count(GossipDrop::Contradiction),
            Placement::Gap if self.early.contains(&parsed) => {
                self.drops.count(GossipDrop::Known);
            }
            Placement::Gap => {
                let version = parsed.version();
                if !self.early.has_room(&origin) {
                    self.drops.count(GossipDrop::Gap);
                } else if !parsed.is_signed(signed) {
                    return self.drops.count(GossipDrop::Signature);
                } else {
                    self.early.keep(from, parsed, signed.clone());
                }
                self.want(origin, version, from, false, now);
            }
            Placement::Next if self.is_full(&origin, signed) => {
                self.drops.count(GossipDrop::Full);
            }
            Placement::Next if !parsed.is_signed(signed) => {
                self.drops.count(GossipDrop::Signature);
            }
            Placement::Next => {
                self.accept(from, parsed, signed.clone(), now);
                self.accept_early(origin, now);
            }
        }
    }

    /// Takes in a batch that is the next one of its log.
    fn accept(&mut self, from: PeerId, parsed: ParsedBatch, signed: SignedBatch, now: Time) {
        self.drops.add(GossipDrop::BadEntry, parsed.bad_entries);
        let (origin, key) = (parsed.origin, key_of(&parsed));
        self.take(parsed, signed.clone());
        self.taken += 1;
        if self.note_progress(&origin, now) {
            // most likely others have it: a digest tells those who have not
            self.spread_at.get_or_insert(now + SPREAD_DELAY);
        } else {
            let (least, most) = PASS_DELAY_MS;
            let delay = least + self.rng.next_u64() % (most - least);
            let at = now + Duration::from_millis(delay);
            self.passed.add(key, &signed, from, at);
        }
    }

    /// Takes in what came early and is the next now.
    fn accept_early(&mut self, origin: PeerId, now: Time) {
        loop {
            let log = self.logs.get(&origin);
            let reached = log.map(OriginLog::versions).unwrap_or_default();
            let next = reached
                .into_iter()
                .find_map(|held| self.early.next(origin, held));
            let Some(early) = next else {
                return;
            };
            let log = self.logs.get(&origin);
            let is_next =
                log.is_some_and(|log| log.place(&early.parsed, self.merge) == Placement::Next);
            if is_next && !self.is_full(&origin, &early.signed) {
                self.accept(early.from, early.parsed, early.signed, now);
            }
        }
    }

    /// Our own log comes back: as asked for; or else, if it holds what this start never wrote,
    /// because an earlier state of our disk was brought back.
    fn receive_own(&mut self, from: PeerId, parsed: ParsedBatch, signed: &SignedBatch, now: Time) {
        if self.resync.is_some() {
            self.receive_former(from, parsed, signed, now);
            return;
        }
        let run = self.own.run();
        let ours = self
            .logs
            .get(&self.me)
            .and_then(|log| log.batch_at(run, parsed.first_seq));
        let same = ours.is_some_and(|ours| ours.payload == signed.payload);
        if parsed.run < run || same {
            self.drops.count(GossipDrop::OwnEcho);
            return;
        }
        if !parsed.is_signed(signed) {
            self.drops.count(GossipDrop::Signature);
            return;
        }
        self.resync(self.boot(), now);
        self.actions.push_back(GossipAction::Resyncing);
        self.receive_former(from, parsed, signed, now);
    }

    fn is_full(&self, origin: &PeerId, signed: &SignedBatch) -> bool {
        let unknown = !self.logs.contains_key(origin);
        let len = signed.payload.len() + signed.signature.len();
        (unknown && self.logs.len() >= MAX_LOGS) || self.bytes + len > MAX_BYTES
    }
}

fn key_of(batch: &ParsedBatch) -> Key {
    (batch.origin, batch.run, batch.first_seq)
}
