//! Adding, preferring and losing established sessions.

use std::net::SocketAddr;

use weave_wire::{PeerId, Time};

use super::peer::{Session, Slots};
use super::standing::Verdict;
use super::targets::Failure;
use super::{SessionAction, SessionDrop, Sessions};

/// Sessions of one peer that are kept beside the one in use.
const MAX_OTHERS: usize = 4;

impl Sessions {
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
        self.actions.push_back(SessionAction::FibDirty);
        let Some(slots) = self.peers.get_mut(&peer) else {
            self.transition_to_established(slot, peer, addr);
            return true;
        };
        let Some(in_use) = self.sessions.get(&slots.in_use) else {
            return true;
        };
        match standing.against(&in_use.standing, self.config.timers.simultaneous) {
            Verdict::ReplaceDead => {
                self.transition_to_gone(peer, "the peer has restarted");
                self.transition_to_established(slot, peer, addr);
            }
            verdict @ (Verdict::TakeOver | Verdict::StandIn | Verdict::Wait | Verdict::Yield) => {
                slots.others.push(slot);
                let oldest = (slots.others.len() > MAX_OTHERS).then(|| slots.others.remove(0));
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
        let (peer, standing) = (session.peer(), session.standing);
        let Some(slots) = self.peers.get(&peer).filter(|slots| slots.in_use != slot) else {
            return;
        };
        if let Some(in_use) = self.sessions.get(&slots.in_use) {
            let verdict = standing.against(&in_use.standing, self.config.timers.simultaneous);
            self.settle(slot, peer, verdict, now);
        }
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
        self.transition_to_gone(peer, &failure.text(addr));
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
        let Some(observed) = observed.map(super::canonical) else {
            return;
        };
        if self.observed.insert(peer, observed) != Some(observed) {
            self.actions.push_back(SessionAction::Observed(observed));
        }
    }

    /// Carries out a verdict on a session that was added or confirmed beside the one in use.
    fn settle(&mut self, slot: u32, peer: PeerId, verdict: Verdict, now: Time) {
        match verdict {
            Verdict::TakeOver => self.transition_to_in_use(slot, peer, Some(now)),
            Verdict::StandIn => self.transition_to_in_use(slot, peer, None),
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
    fn transition_to_in_use(&mut self, slot: u32, peer: PeerId, replaced_at: Option<Time>) {
        let (Some(slots), Some(session)) =
            (self.peers.get_mut(&peer), self.sessions.get_mut(&slot))
        else {
            return;
        };
        let former = std::mem::replace(&mut slots.in_use, slot);
        slots.others.retain(|other| *other != slot);
        slots.others.push(former);
        session.replaced_at = None;
        let addr = session.addr;
        if let Some(former) = self.sessions.get_mut(&former) {
            former.replaced_at = replaced_at;
        }
        let abandoned = self.dials.connected(addr, peer);
        self.abandon(&abandoned);
        tracing::info!(peer = %peer.name(), %addr, "another session is used");
        self.actions.push_back(SessionAction::FibDirty);
    }

    fn transition_to_gone(&mut self, peer: PeerId, why: &str) {
        let Some(slots) = self.peers.remove(&peer) else {
            return;
        };
        for slot in slots.all() {
            self.sessions.remove(&slot);
        }
        self.observed.remove(&peer);
        tracing::info!(peer = %peer.name(), why, "session lost");
        self.actions.push_back(SessionAction::Lost { peer });
        self.actions.push_back(SessionAction::FibDirty);
    }
}
