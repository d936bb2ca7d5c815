//! Taking in batches: from a flood, from the answer to a pull, or along with another message.

use std::time::Duration;

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Delta, SignedBatch};
use weave_wire::{PeerId, Time};

use super::batch::ParsedBatch;
use super::log::{OriginLog, Placement};
use super::sync::pack;
use super::{ALL_FOR_OTHERS, GossipAction, GossipDrop, Logs};

/// Logs held at most.
const MAX_LOGS: usize = 16_384;
/// Memory for the batches of all logs, in bytes.
const MAX_BYTES: usize = 256 << 20;
/// What was fetched is announced to neighbours after this long, all of it at once.
const SPREAD_DELAY: Duration = Duration::from_millis(250);

/// What to do with a batch that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// It is news: pass it on.
    On,
    /// It was fetched, most likely others have it: a digest tells those who have not.
    Announce,
}

impl Logs {
    /// Takes in batches from a peer, news are passed on.
    pub(crate) fn handle_delta(&mut self, from: PeerId, delta: Delta, now: Time) {
        let mut fresh = Vec::new();
        for signed in delta.batches {
            match self.receive(from, &signed, now) {
                Some((origin, Passing::On)) => fresh.push((origin, signed)),
                Some((_, Passing::Announce)) => {
                    self.spread_at.get_or_insert(now + SPREAD_DELAY);
                }
                None => {}
            }
        }
        self.flood(fresh, Some(from), ALL_FOR_OTHERS);
        self.send_pulls(now);
        self.drive_resync(now);
    }

    /// Sends batches to neighbours, but not back to where they came from. With more than `all`
    /// neighbours only some get them, and pass them on.
    pub(super) fn flood(
        &mut self,
        fresh: Vec<(PeerId, SignedBatch)>,
        from: Option<PeerId>,
        all: usize,
    ) {
        if fresh.is_empty() {
            return;
        }
        for to in self.flood_targets(all) {
            if Some(to) == from {
                continue;
            }
            let others = fresh.iter().filter(|(origin, _)| *origin != to);
            for delta in pack(others.map(|(_, signed)| signed)) {
                self.send(to, Body::Delta(delta));
            }
        }
    }

    /// The neighbours that news are sent to. A peer with few sessions is always among them:
    /// hardly anyone else would tell it.
    pub(super) fn flood_targets(&self, all: usize) -> Vec<PeerId> {
        self.neighbours.targets(all, |peer| {
            let sessions = self.peer_record(peer).map_or(0, |record| record.sessions);
            usize::try_from(sessions).is_ok_and(|sessions| sessions <= ALL_FOR_OTHERS)
        })
    }

    fn receive(
        &mut self,
        from: PeerId,
        signed: &SignedBatch,
        now: Time,
    ) -> Option<(PeerId, Passing)> {
        let Ok(parsed) = ParsedBatch::read(signed) else {
            self.drops.count(GossipDrop::Malformed);
            return None;
        };
        let origin = parsed.origin;
        if origin == self.me {
            self.receive_own(from, parsed, signed, now);
            return None;
        }
        let unknown = OriginLog::default();
        let log = self.logs.get(&origin).unwrap_or(&unknown);
        match log.place(&parsed, self.merge) {
            Placement::Known => self.drops.count(GossipDrop::Known),
            Placement::Wrong => self.drops.count(GossipDrop::Contradiction),
            Placement::Gap => {
                self.drops.count(GossipDrop::Gap);
                self.want(origin, parsed.version(), from, false, now);
            }
            Placement::Next if self.is_full(&origin, signed) => {
                self.drops.count(GossipDrop::Full);
            }
            Placement::Next if !parsed.is_signed(signed) => {
                self.drops.count(GossipDrop::Signature);
            }
            Placement::Next => {
                self.drops.add(GossipDrop::BadEntry, parsed.bad_entries);
                self.take(parsed, signed.clone());
                let fetched = self.note_progress(&origin, now);
                return Some((
                    origin,
                    if fetched {
                        Passing::Announce
                    } else {
                        Passing::On
                    },
                ));
            }
        }
        None
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
