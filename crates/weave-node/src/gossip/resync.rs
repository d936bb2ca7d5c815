//! After a start: our own former log, as the neighbours hold it.
//!
//! A disk can come back older than what others heard of it. So a start first asks every live
//! peer how far it holds our log, and fetches that log like any other. Until then nothing is
//! written: our first words replace the former log everywhere, and with it the only proof.
//!
//! The question is a digest of one log, our own, held not at all; its answer is a digest of
//! that log, also when nothing of it is held. Who does not answer is asked again.
//!
//! ```text
//!   asking ──(all told and fetched, or patience over, or 10 s of silence)──▶ over ──(resume)──▶ none
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Digest, SignedBatch};
use weave_wire::{PeerId, Time};

use super::batch::ParsedBatch;
use super::log::{OriginLog, Placement};
use super::sync::Window;
use super::version::Version;
use super::{GossipAction, GossipDrop, Logs};

/// Whoever has not answered is asked again this often.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// From the first answer on, others are waited for at least this long.
const SETTLE: Duration = Duration::from_millis(300);
/// The same, when nobody holds anything of our last life: perhaps someone who does comes yet.
const IGNORANT: Duration = Duration::from_secs(2);
/// Live peers that do not answer are waited for this long after the first answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// After so long without anything new we go on with what we know.
const SILENCE: Duration = Duration::from_secs(10);

/// How far asking has come.
#[derive(Debug)]
pub(super) struct Resync {
    /// Number of the last start that our disk knows of.
    known: u64,
    /// What was fetched.
    pub(super) log: OriginLog,
    /// How far each peer holds our former log.
    told: BTreeMap<PeerId, Version>,
    /// Peers that are up, as far as we can tell.
    live: BTreeSet<PeerId>,
    first_told: Option<Time>,
    heard_at: Time,
    ask_at: Time,
    is_over: bool,
}

impl Resync {
    pub(super) fn new(known: u64, now: Time) -> Self {
        Self {
            known,
            log: OriginLog::default(),
            told: BTreeMap::new(),
            live: BTreeSet::new(),
            first_told: None,
            heard_at: now,
            ask_at: now,
            is_over: false,
        }
    }

    /// When it needs attention next.
    pub(super) fn deadline(&self) -> Option<Time> {
        (!self.is_over).then_some(self.ask_at)
    }

    fn newest(&self) -> Version {
        let told = self.told.values().max().copied();
        told.unwrap_or(Version::NONE)
    }

    fn note(&mut self, from: PeerId, held: Version, now: Time) {
        self.first_told.get_or_insert(now);
        if self.told.get(&from).is_none_or(|before| *before < held) {
            self.told.insert(from, held);
            self.heard_at = now;
        }
    }

    /// Whether enough was heard. `is_quiet`: nothing is being fetched.
    fn is_settled(
        &self,
        mut peers: impl Iterator<Item = PeerId>,
        is_quiet: bool,
        now: Time,
    ) -> bool {
        if now >= self.heard_at + SILENCE {
            return true;
        }
        let Some(first) = self.first_told else {
            return false;
        };
        let newest = self.newest();
        if self.log.version() < newest {
            return false;
        }
        let waited = now.saturating_sub(first);
        let is_known = newest.run.boot >= self.known;
        let enough = if is_known { SETTLE } else { IGNORANT };
        let all_told = peers.all(|peer| self.told.contains_key(&peer));
        waited >= PATIENCE || (is_quiet && all_told && waited >= enough)
    }
}

impl Logs {
    /// Begins to ask for our former log; nothing is written until [`Self::resume`].
    /// `known` is the number of the last start that our disk knows of.
    pub(crate) fn resync(&mut self, known: u64, now: Time) {
        self.resync = Some(Resync::new(known, now));
    }

    /// Goes on writing our log, after what was found in the former one has been set again.
    pub(crate) fn resume(&mut self, now: Time) {
        if self.resync.take().is_some() {
            self.wants.remove(&self.me);
            self.flush_at = Some(now.max(self.hold_until));
        }
    }

    /// The peers that are up: these are waited for.
    pub(crate) fn set_live(&mut self, live: &BTreeSet<PeerId>) {
        if let Some(resync) = &mut self.resync {
            resync.live.clone_from(live);
            resync.live.remove(&self.me);
        }
    }

    /// Asks again, and ends asking when enough was heard.
    pub(super) fn drive_resync(&mut self, now: Time) {
        let is_quiet = self.wants.is_empty();
        let Some(resync) = &mut self.resync else {
            return;
        };
        if resync.is_over {
            return;
        }
        let peers = self.neighbours.peers().chain(resync.live.iter().copied());
        if resync.is_settled(peers, is_quiet, now) {
            self.end_resync();
            return;
        }
        if resync.ask_at > now {
            return;
        }
        resync.ask_at = now + ASK_EVERY;
        let silent = self.neighbours.peers();
        let silent: Vec<PeerId> = silent
            .filter(|peer| !resync.told.contains_key(peer))
            .collect();
        let question = about(&self.me, vec![Version::NONE]);
        for peer in silent {
            self.send(peer, Body::Digest(question.clone()));
        }
    }

    /// Notes what a peer says about our own log, and answers when it asks for its own.
    pub(super) fn note_digest(&mut self, from: PeerId, window: &Window, now: Time) {
        if let Some(resync) = &mut self.resync
            && window.covers(&self.me)
        {
            let told = window.logs.get(&self.me);
            let held = told.and_then(|versions| versions.iter().min().copied());
            resync.note(from, held.unwrap_or(Version::NONE), now);
        }
        let asks = window.logs.get(&from);
        if asks.is_some_and(|versions| versions.contains(&Version::NONE)) {
            let held = self.have(&from);
            self.send(from, Body::Digest(about(&from, held)));
        }
    }

    /// Takes in a batch of our former log.
    pub(super) fn receive_former(
        &mut self,
        from: PeerId,
        parsed: ParsedBatch,
        signed: &SignedBatch,
        now: Time,
    ) {
        let Some(resync) = &mut self.resync else {
            return;
        };
        match resync.log.place(&parsed, self.merge) {
            Placement::Known => self.drops.count(GossipDrop::OwnEcho),
            Placement::Wrong => self.drops.count(GossipDrop::Contradiction),
            Placement::Gap => {
                self.drops.count(GossipDrop::Gap);
                self.want(self.me, parsed.version(), from, false, now);
            }
            Placement::Next if !parsed.is_signed(signed) => {
                self.drops.count(GossipDrop::Signature);
            }
            Placement::Next => {
                let _ = resync.log.apply(parsed, signed.clone(), self.merge);
                resync.heard_at = now;
                self.note_progress(&self.me.clone(), now);
            }
        }
    }

    fn end_resync(&mut self) {
        let Some(resync) = &mut self.resync else {
            return;
        };
        resync.is_over = true;
        // what we signed ourselves counts, not what peers only say that they hold
        let held = resync.log.versions().into_iter().max();
        let seen = held.unwrap_or(Version::NONE).run.boot;
        let table = resync.log.table();
        let former = table.map_or_else(Vec::new, |table| table.values().cloned().collect());
        if seen >= self.boot() {
            self.own.jump_beyond(seen);
            let boot = self.boot();
            self.actions
                .push_back(GossipAction::BootBehind { seen, boot });
        }
        self.actions.push_back(GossipAction::Former(former));
    }
}

/// A digest of this one log.
fn about(origin: &PeerId, versions: Vec<Version>) -> Digest {
    Digest {
        from: origin.0.to_vec(),
        logs: versions
            .into_iter()
            .map(|version| version.to_proto(origin))
            .collect(),
        more: true,
        last: Vec::new(),
        news: false,
    }
}
