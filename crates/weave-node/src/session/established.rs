//! Making, adding, preferring and losing established sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::rand_core::RngCore as _;
use weave_crypto::{Completed, Role, SendLane, SessionShape};
use weave_wire::{Circuit, PeerId, Time};

use super::hello::Introduction;
use super::keys::Keys;
use super::path_mtu::PathMtu;
use super::peer::{Ping, Session, Slots};
use super::rotation::Rotation;
use super::rtt::Rtt;
use super::standing::{Standing, Verdict};
use super::targets::Failure;
use super::{SessionAction, SessionDrop, Sessions};
use crate::ClonedIdentity;
use crate::post_quantum::KemUse;

/// Sessions of one peer that are kept beside the one in use.
const MAX_OTHERS: usize = 4;

/// How a peer relays for us.
#[derive(Debug)]
pub(crate) struct Relaying {
    /// Seals what it is to relay.
    pub(crate) lane: Arc<SendLane>,
    /// Where it is.
    pub(crate) addr: SocketAddr,
    /// Slot of the session here.
    pub(crate) slot: u32,
}

impl Sessions {
    /// A session out of a completed handshake.
    pub(super) fn new_session(
        &mut self,
        completed: Completed,
        who: Introduction,
        kem: KemUse,
        addr: SocketAddr,
        now: Time,
    ) -> Session {
        let shape = SessionShape {
            version: completed.version,
            suite: completed.suite,
            kem: kem != KemUse::Never,
            role: completed.role,
            local_slot: completed.local_slot,
            remote_slot: completed.remote_slot,
        };
        let outbound = completed.role == Role::Initiator;
        let remote_static = completed.remote_static;
        let initiator = if outbound {
            self.static_public()
        } else {
            remote_static
        };
        let standing = Standing {
            boot: who.boot,
            initiator,
            since: now,
            confirmed: outbound,
            relayed: Circuit::of(&addr).is_some(),
        };
        let rotation = Rotation::new(completed.generation, now);
        let first = kem == KemUse::First;
        let traffic = Arc::clone(self.traffic.entry(who.peer).or_default());
        let rng = &mut self.rng;
        let keys = Keys::new(shape, completed.chain, who.peer, traffic, first, now, rng);
        let nonce = self.rng.next_u64();
        Session {
            addr,
            outbound,
            who,
            remote_static,
            standing,
            rotation,
            keys,
            answer: None,
            replaced_at: None,
            ping: Ping {
                nonce,
                sent_at: now,
                is_open: false,
                insist: false,
            },
            challenge: None,
            rtt: Rtt::default(),
            path: PathMtu::new(addr, now),
            probed_at: now,
            outlived_by: None,
            next_check: now,
        }
    }

    /// Adds a session that a handshake ended in. Returns whether it was kept.
    pub(super) fn establish(&mut self, slot: u32, session: Session, now: Time) -> bool {
        let (peer, addr) = (session.peer(), session.addr);
        if self.banned.contains(&peer) {
            self.drops.count(SessionDrop::Banned);
            return false;
        }
        self.note_observed(peer, session.who.observed);
        let standing = session.standing;
        self.sessions.insert(slot, session);
        self.check_at = Some(now);
        self.counts.made += 1;
        self.actions.push_back(SessionAction::FibDirty);
        let Some(in_use) = self.session_in_use(&peer) else {
            self.transition_to_established(slot, peer, addr);
            return true;
        };
        let held = self.held_against(in_use, standing, now);
        let was_at = in_use.addr;
        let is_heard = now.saturating_sub(in_use.alive_at()) < self.config.timers.probe;
        let is_elsewhere =
            [was_at, addr].iter().all(|at| Circuit::of(at).is_none()) && was_at != addr;
        if held.boot != standing.boot && is_heard && is_elsewhere {
            self.clones.note(peer, Some([was_at, addr]), now);
        }
        match standing.against(&held, self.config.timers.simultaneous) {
            Verdict::ReplaceDead => {
                self.transition_to_gone(peer, "the peer has restarted", false);
                self.transition_to_established(slot, peer, addr);
            }
            verdict @ (Verdict::TakeOver | Verdict::StandIn | Verdict::Wait | Verdict::Yield) => {
                let oldest = self.peers.get_mut(&peer).and_then(|slots| {
                    slots.others.push(slot);
                    (slots.others.len() > MAX_OTHERS).then(|| slots.others.remove(0))
                });
                self.settle(slot, peer, verdict, now);
                if let Some(oldest) = oldest {
                    self.forget(oldest);
                }
            }
        }
        true
    }

    /// Notes that the peer has shown to have this session.
    pub(super) fn confirm(&mut self, slot: u32, now: Time) {
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        if session.standing.confirmed {
            return;
        }
        session.standing.confirmed = true;
        session.answer = None;
        self.actions.push_back(SessionAction::FibDirty);
        let (peer, standing) = (session.peer(), session.standing);
        let Some(slots) = self.peers.get(&peer).filter(|slots| slots.in_use != slot) else {
            return;
        };
        if let Some(in_use) = self.sessions.get(&slots.in_use) {
            let held = self.held_against(in_use, standing, now);
            let verdict = standing.against(&held, self.config.timers.simultaneous);
            self.settle(slot, peer, verdict, now);
        }
    }

    /// The standing of a session in use beside a new one. When nothing arrives in it, it is worth
    /// no more than one through a relay.
    fn held_against(&self, in_use: &Session, new: Standing, now: Time) -> Standing {
        let is_broken = new.relayed && self.is_silent_in(in_use, now);
        Standing {
            relayed: in_use.standing.relayed || is_broken || in_use.is_outlived(),
            ..in_use.standing
        }
    }

    /// Whether nothing was heard of a peer for so long, in the session in use, that the path of
    /// that may be broken.
    pub(crate) fn is_silent(&self, peer: &PeerId, now: Time) -> bool {
        let session = self.session_in_use(peer);
        session.is_none_or(|session| self.is_silent_in(session, now))
    }

    fn is_silent_in(&self, session: &Session, now: Time) -> bool {
        now.saturating_sub(session.alive_at()) >= self.config.timers.probe
    }

    /// Whether a peer has a session that leads through no relay, and most likely still has it.
    pub(crate) fn is_direct(&self, peer: &PeerId) -> bool {
        let session = self.session_in_use(peer);
        session.is_some_and(|session| !session.standing.relayed && !session.is_outlived())
    }

    /// We count as started so often from now on.
    pub(crate) fn set_boot(&mut self, boot: u64) {
        self.config.boot = boot;
    }

    /// A peer says that it has started as `boot`. A session with an earlier start is most likely
    /// dead: frames wait for another, or for an answer in it, and the peer is dialled as if it had
    /// none.
    pub(crate) fn note_boot(&mut self, peer: PeerId, boot: u64, now: Time) {
        let Some(slots) = self.peers.get(&peer) else {
            return;
        };
        let slot = slots.in_use;
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        if session.standing.boot < boot && !session.is_outlived() {
            session.outlived_by = Some(boot);
            let addr = session.addr;
            self.ping(slot, true, now);
            self.schedule(slot, now);
            let no_answer = Failure::NoAnswer;
            self.dials.lost(addr, peer, &no_answer, now, &mut self.rng);
            self.try_at(addr, now);
            self.actions.push_back(SessionAction::FibDirty);
        }
    }

    /// The start of a peer that there is a session with; 0 when there is none.
    pub(crate) fn boot_of(&self, peer: &PeerId) -> u64 {
        let session = self.session_in_use(peer);
        session.map_or(0, |session| session.standing.boot)
    }

    /// Since when there is the session with a peer.
    pub(crate) fn established_at(&self, peer: &PeerId) -> Option<Time> {
        Some(self.session_in_use(peer)?.standing.since)
    }

    pub(super) fn session_in_use(&self, peer: &PeerId) -> Option<&Session> {
        self.sessions.get(&self.peers.get(peer)?.in_use)
    }

    /// Our own identity is in use elsewhere, too, as it seems.
    pub(crate) fn note_clone(&mut self, me: PeerId, now: Time) {
        self.clones.note(me, None, now);
    }

    /// The identities that more than one host uses.
    pub(crate) fn clones(&self, now: Time) -> Vec<ClonedIdentity> {
        self.clones.found(now)
    }

    /// How long answers of a peer take.
    pub(crate) fn rtt(&self, peer: &PeerId) -> Option<Duration> {
        self.session_in_use(peer)?.rtt.smoothed()
    }

    /// What datagrams are sealed with that a peer is to relay, where they go, and the slot in
    /// which those that it relays come.
    pub(crate) fn relaying(&self, peer: &PeerId) -> Option<Relaying> {
        let slot = self.peers.get(peer)?.in_use;
        let session = self.sessions.get(&slot)?;
        Some(Relaying {
            lane: Arc::clone(session.keys.relay()),
            addr: session.addr,
            slot,
        })
    }

    /// Lets the session be used that the peer uses, when ours is not: the side with the lower
    /// key decides, this one follows.
    pub(super) fn follow(&mut self, slot: u32, now: Time) {
        let timers = &self.config.timers;
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let (Some(replaced_at), Some(heard)) = (session.replaced_at, session.keys.heard()) else {
            return;
        };
        let peer = session.peer();
        let Some(in_use) = self
            .peers
            .get(&peer)
            .and_then(|one| self.sessions.get(&one.in_use))
        else {
            return;
        };
        let same_life = in_use.standing.boot == session.standing.boot;
        let settled = heard >= replaced_at + timers.keepalive;
        let silent = heard >= in_use.alive_at() + timers.keepalive;
        if self.static_public() > session.remote_static && same_life && settled && silent {
            self.settle(slot, peer, Verdict::TakeOver, now);
        }
    }

    /// Ends all sessions with a peer.
    pub(super) fn lose(&mut self, peer: PeerId, failure: &Failure, now: Time) {
        let Some(session) = self
            .peers
            .get(&peer)
            .and_then(|one| self.sessions.get(&one.in_use))
        else {
            return;
        };
        let addr = session.addr;
        self.transition_to_gone(peer, &failure.text(addr), *failure == Failure::Parted);
        self.dials.lost(addr, peer, failure, now, &mut self.rng);
    }

    /// Drops a session that is not in use.
    pub(super) fn forget(&mut self, slot: u32) {
        let Some(session) = self.sessions.remove(&slot) else {
            return;
        };
        if let Some(slots) = self.peers.get_mut(&session.peer()) {
            slots.others.retain(|other| *other != slot);
        }
        self.actions.push_back(SessionAction::FibDirty);
    }

    /// When a peer was last heard, in whichever session.
    pub(super) fn peer_alive_at(&self, peer: &PeerId) -> Time {
        let slots = self.peers.get(peer).into_iter().flat_map(Slots::all);
        let alive = slots
            .filter_map(|slot| self.sessions.get(&slot))
            .map(Session::alive_at);
        alive.max().unwrap_or(Time::ZERO)
    }

    /// Tells where a peer sees us, if that is news.
    pub(super) fn note_observed(&mut self, peer: PeerId, observed: Option<SocketAddr>) {
        let observed = observed.map(super::canonical);
        // through a relay nobody sees where we are
        let Some(observed) = observed.filter(|addr| Circuit::of(addr).is_none()) else {
            return;
        };
        if self.observed.insert(peer, observed) != Some(observed) {
            self.actions.push_back(SessionAction::Observed(observed));
        }
    }

    /// Carries out a verdict on a session that was added or confirmed beside the one in use.
    fn settle(&mut self, slot: u32, peer: PeerId, verdict: Verdict, now: Time) {
        match verdict {
            Verdict::TakeOver => self.transition_to_in_use(slot, peer, Some(now), now),
            Verdict::StandIn => self.transition_to_in_use(slot, peer, None, now),
            Verdict::Yield => {
                if let Some(session) = self.sessions.get_mut(&slot) {
                    session.replaced_at = Some(now);
                }
            }
            Verdict::Wait | Verdict::ReplaceDead => {}
        }
        self.schedule(slot, now);
    }

    /// Changes the session in use as if the peers had seen another order of things.
    #[cfg(test)]
    pub(super) fn settle_for_test(&mut self, slot: u32, peer: PeerId, now: Time) {
        self.settle(slot, peer, Verdict::TakeOver, now);
    }

    fn transition_to_established(&mut self, slot: u32, peer: PeerId, addr: SocketAddr) {
        self.peers.insert(
            peer,
            Slots {
                in_use: slot,
                others: Vec::new(),
            },
        );
        let abandoned = self.dials.connected(addr, peer);
        self.abandon(&abandoned);
        if let Some(session) = self.sessions.get(&slot) {
            let (nickname, outbound) = (&session.who.nickname, session.outbound);
            tracing::info!(peer = %peer.name(), nickname, %addr, outbound, "session established");
        }
        self.actions.push_back(SessionAction::Established { peer });
    }

    /// Uses another session of a connected peer. With `replaced_at` the former one counts as
    /// replaced, else as not yet confirmed.
    fn transition_to_in_use(
        &mut self,
        slot: u32,
        peer: PeerId,
        replaced_at: Option<Time>,
        now: Time,
    ) {
        let (Some(slots), Some(session)) =
            (self.peers.get_mut(&peer), self.sessions.get_mut(&slot))
        else {
            return;
        };
        let former = std::mem::replace(&mut slots.in_use, slot);
        slots.others.retain(|other| *other != slot);
        slots.others.push(former);
        session.replaced_at = None;
        let (addr, relayed) = (session.addr, session.standing.relayed);
        let generation = session.rotation.generation;
        if let Some(former) = self.sessions.get_mut(&former) {
            former.replaced_at = replaced_at;
            let was_at = former.addr;
            if former.standing.relayed != relayed {
                self.actions.push_back(SessionAction::Rerouted { peer });
            }
            if relayed {
                // the direct path is looked for as if there were no session
                let no_answer = Failure::NoAnswer;
                self.dials
                    .lost(was_at, peer, &no_answer, now, &mut self.rng);
            }
        }
        let abandoned = self.dials.connected(addr, peer);
        self.abandon(&abandoned);
        tracing::info!(peer = %peer.name(), %addr, generation, "another session is used");
        self.actions.push_back(SessionAction::FibDirty);
    }

    fn transition_to_gone(&mut self, peer: PeerId, why: &str, stays: bool) {
        let Some(slots) = self.peers.remove(&peer) else {
            return;
        };
        for slot in slots.all() {
            self.sessions.remove(&slot);
        }
        self.observed.remove(&peer);
        self.counts.lost += 1;
        tracing::info!(peer = %peer.name(), why, "session lost");
        self.actions.push_back(SessionAction::Lost { peer, stays });
        self.actions.push_back(SessionAction::FibDirty);
    }
}
