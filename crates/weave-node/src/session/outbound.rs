//! Handshakes that we began: sending again, giving up, and the step to a session.

use std::net::SocketAddr;
use std::sync::Arc;

use weave_crypto::{
    Completed, ExpectConfirm, ExpectReply, HandshakeError, HelloContext, RejectReason, initiate,
    initiate_with,
};
use weave_wire::proto::Goodbye;
use weave_wire::proto::control_message::Body;
use weave_wire::{HandshakeHeader, Lane, PeerId, ReceiverIndex, Time};

use super::hello;
use super::peer::Session;
use super::targets::Failure;
use super::{SessionAction, SessionDrop, Sessions};
use crate::forward::OpenLane;
use crate::post_quantum::KemUse;

/// A handshake that we began.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Address that is dialled.
    to: SocketAddr,
    purpose: Purpose,
    stage: Stage,
    /// The datagram that waits for an answer.
    datagram: Vec<u8>,
    resend_at: Time,
    give_up_at: Time,
    /// What it failed of so far, if anything was said. It goes on: who said so is not proven.
    said: Option<Failure>,
}

/// What a handshake is begun for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A session, with whatever password both sides hold.
    Dial,
    /// The same, and another generation of the password was tried, too.
    FallenBack,
    /// To take the place of the session in this slot, with the password in use.
    Move {
        /// Our slot.
        slot: u32,
    },
}

#[derive(Debug)]
enum Stage {
    /// Message 1 was sent.
    ExpectReply(ExpectReply),
    /// Message 3 was sent; the lane opens the `Hello` of the responder.
    ExpectConfirm(ExpectConfirm, Arc<OpenLane>),
}

impl Outbound {
    /// When there is something to do.
    pub(super) fn due_at(&self) -> Time {
        self.resend_at.min(self.give_up_at)
    }

    /// Whether only the confirmation of the responder is missing.
    pub(super) const fn awaits_confirmation(&self) -> bool {
        match self.stage {
            Stage::ExpectReply(_) => false,
            Stage::ExpectConfirm(..) => true,
        }
    }

    /// What may be opened already.
    pub(super) fn open_lanes(&self) -> impl Iterator<Item = &Arc<OpenLane>> {
        let lane = match &self.stage {
            Stage::ExpectReply(_) => None,
            Stage::ExpectConfirm(_, lane) => Some(lane),
        };
        lane.into_iter()
    }

    /// Generation of the password that it is made with.
    fn generation(&self) -> u16 {
        match &self.stage {
            Stage::ExpectReply(state) => state.generation(),
            Stage::ExpectConfirm(state, _) => state.completed().generation,
        }
    }

    fn failure(&self) -> Failure {
        self.said.clone().unwrap_or(Failure::NoAnswer)
    }
}

impl Sessions {
    /// Dials every address that is due, unless its peer is connected.
    pub(super) fn dial_due(&mut self, now: Time) {
        let dialled = self.dials.addresses().count();
        if std::mem::replace(&mut self.dialled, dialled) != dialled {
            self.actions.push_back(SessionAction::FibDirty);
        }
        for addr in self.dials.due(now) {
            if let Some(peer) = self.connected_peer(addr) {
                let abandoned = self.dials.connected(addr, peer);
                self.abandon(&abandoned);
            } else {
                let slot = self.attempt(addr, now);
                self.dials.attempting(addr, slot);
            }
        }
    }

    /// Begins a handshake at an address that is not dialled, unless one is under way there.
    pub(crate) fn try_at(&mut self, addr: SocketAddr, now: Time) {
        if self.outbound.values().all(|outbound| outbound.to != addr) {
            self.attempt(addr, now);
        }
    }

    /// Begins a handshake for a session.
    pub(super) fn attempt(&mut self, to: SocketAddr, now: Time) -> u32 {
        self.attempt_for(Purpose::Dial, to, now)
    }

    /// Begins a handshake with the password in use.
    pub(super) fn attempt_for(&mut self, purpose: Purpose, to: SocketAddr, now: Time) -> u32 {
        let slot = self.free_slot();
        let begun = initiate(&self.config.handshake, slot, None, &mut self.rng);
        self.begin(slot, begun, purpose, to, now);
        slot
    }

    /// Begins a handshake with the highest generation that the peer holds, too, beside one that it
    /// refused for want of the password. That one goes on: the refusal may be forged. Forging it
    /// gains nothing, for who knows a password that is held here is admitted with it anyway.
    fn fall_back(&mut self, refused: u32, reason: RejectReason, now: Time) -> bool {
        let RejectReason::Generation { held } = reason else {
            return false;
        };
        let common = held.highest_common(&self.config.handshake.passwords);
        let refusable = self
            .outbound
            .get_mut(&refused)
            .filter(|outbound| !outbound.awaits_confirmation());
        let (Some(generation), Some(outbound)) = (common, refusable) else {
            return false;
        };
        outbound.purpose = Purpose::FallenBack;
        let to = outbound.to;
        let slot = self.free_slot();
        let (config, rng) = (&self.config.handshake, &mut self.rng);
        let Some(begun) = initiate_with(config, generation, slot, rng) else {
            return false;
        };
        self.begin(slot, begun, Purpose::FallenBack, to, now);
        if self.dials.is_attempting(to, refused) {
            self.dials.attempting(to, slot);
        }
        true
    }

    fn begin(
        &mut self,
        slot: u32,
        (state, datagram): (ExpectReply, Vec<u8>),
        purpose: Purpose,
        to: SocketAddr,
        now: Time,
    ) {
        self.transmit(to, datagram.clone());
        let timers = &self.config.timers;
        let outbound = Outbound {
            to,
            purpose,
            stage: Stage::ExpectReply(state),
            datagram,
            resend_at: now + timers.resend,
            give_up_at: now + timers.give_up,
            said: None,
        };
        self.outbound.insert(slot, outbound);
    }

    /// Gives up handshakes that nobody wants any more. One whose last message was sent goes on:
    /// the other side may have a session already.
    pub(super) fn abandon(&mut self, slots: &[u32]) {
        for slot in slots {
            if self
                .outbound
                .get(slot)
                .is_some_and(|one| !one.awaits_confirmation())
            {
                self.outbound.remove(slot);
            }
        }
    }

    /// Takes message 2.
    pub(super) fn handle_reply(
        &mut self,
        header: HandshakeHeader,
        from: SocketAddr,
        datagram: &[u8],
        now: Time,
    ) {
        let slot = header.receiver;
        let Some(mut outbound) = self.outbound.remove(&slot) else {
            return self.drops.count(SessionDrop::UnknownSlot);
        };
        let state = match outbound.stage {
            Stage::ExpectReply(state) => state,
            Stage::ExpectConfirm(..) => {
                self.outbound.insert(slot, outbound);
                return self.drops.count(SessionDrop::Unexpected);
            }
        };
        let config = &self.config;
        let hello = |context: &HelloContext| hello::encode(hello::introduce(config, context, from));
        match state.handle_reply(&config.handshake, datagram, hello) {
            Ok((confirm, finish)) => {
                // Before the datagram leaves: its answer must be opened.
                self.actions.push_back(SessionAction::FibDirty);
                self.transmit(outbound.to, finish.clone());
                let lane = hello_lane(confirm.completed());
                outbound.stage = Stage::ExpectConfirm(confirm, lane);
                outbound.datagram = finish;
                outbound.resend_at = now + self.config.timers.resend;
                outbound.give_up_at = now + self.config.timers.give_up;
                self.outbound.insert(slot, outbound);
            }
            Err(failed) => {
                let (state, error) = *failed;
                tracing::debug!(%from, %error, "handshake reply dropped");
                if let HandshakeError::Ourself = error {
                    // anyone can send our message back to us: whoever is there may yet answer
                    outbound.said = Some(Failure::Ourself);
                    self.drops.count(SessionDrop::Ourself);
                } else {
                    self.drops.count(SessionDrop::HandshakeInvalid);
                }
                outbound.stage = Stage::ExpectReply(state);
                self.outbound.insert(slot, outbound);
            }
        }
    }

    /// Takes the cookie of a responder under load: message 1 is sent again with it.
    pub(super) fn handle_cookie(&mut self, header: HandshakeHeader, datagram: &[u8], now: Time) {
        let Some(outbound) = self.outbound.get_mut(&header.receiver) else {
            return self.drops.count(SessionDrop::UnknownSlot);
        };
        let state = match &outbound.stage {
            Stage::ExpectReply(state) => state,
            Stage::ExpectConfirm(..) => return self.drops.count(SessionDrop::Unexpected),
        };
        match state.handle_cookie_reply(&self.config.handshake, datagram, now) {
            Ok(cookie) => {
                let stamped = state.datagram(Some(&cookie));
                // The same cookie again needs no answer: ours is on its way.
                if stamped != outbound.datagram {
                    outbound.datagram = stamped.clone();
                    outbound.resend_at = now + self.config.timers.resend;
                    let to = outbound.to;
                    self.transmit(to, stamped);
                }
            }
            Err(_) => self.drops.count(SessionDrop::HandshakeInvalid),
        }
    }

    /// Takes a refusal. It may be forged by anyone who saw message 1, so that it ends nothing.
    pub(super) fn handle_reject(&mut self, header: HandshakeHeader, datagram: &[u8], now: Time) {
        let slot = header.receiver;
        let Some(outbound) = self.outbound.get_mut(&slot) else {
            return self.drops.count(SessionDrop::UnknownSlot);
        };
        let config = &self.config.handshake;
        let reason = match &outbound.stage {
            Stage::ExpectReply(state) => state.check_reject(config, datagram),
            Stage::ExpectConfirm(state, _) => state.check_reject(config, datagram),
        };
        let Some(reason) = reason else {
            return self.drops.count(SessionDrop::HandshakeInvalid);
        };
        let refused = Some(Failure::Refused(reason));
        if std::mem::replace(&mut outbound.said, refused.clone()) == refused {
            return;
        }
        let (to, purpose) = (outbound.to, outbound.purpose);
        let falls_back = match purpose {
            Purpose::Move { slot } => return self.move_refused(slot, reason),
            Purpose::Dial => self.fall_back(slot, reason, now),
            Purpose::FallenBack => false,
        };
        if !falls_back && self.dials.refused(to, reason) {
            tracing::warn!(%to, %reason, "refused by the peer");
        }
    }

    /// Gives up handshakes with passwords that are held no more.
    pub(super) fn give_up_removed(&mut self, now: Time) {
        let held = &self.config.handshake.passwords;
        let removed = self
            .outbound
            .iter()
            .filter(|(_, outbound)| !held.holds(outbound.generation()));
        let removed: Vec<_> = removed.map(|(slot, _)| *slot).collect();
        for slot in removed {
            self.give_up(slot, now);
        }
    }

    /// Takes the first thing that was opened after message 3: the `Hello` of the responder, or
    /// something that overtook it.
    pub(super) fn handle_first_control(
        &mut self,
        slot: u32,
        from: SocketAddr,
        plaintext: &[u8],
        now: Time,
    ) {
        let Some(outbound) = self.outbound.get(&slot) else {
            return;
        };
        let Stage::ExpectConfirm(confirm, _) = &outbound.stage else {
            return self.drops.count(SessionDrop::UnknownSlot);
        };
        let completed = confirm.completed();
        let context = HelloContext {
            role: completed.role.peer(),
            ..completed.hello_context(completed.remote_static)
        };
        let Some(who) = hello::check_encoded(plaintext, &context) else {
            return self.drops.count(SessionDrop::Unconfirmed);
        };
        let Some(outbound) = self.outbound.remove(&slot) else {
            return;
        };
        let Stage::ExpectConfirm(confirm, _) = outbound.stage else {
            return;
        };
        let (to, peer, theirs) = (outbound.to, who.peer, who.pq);
        let agreed = self.config.pq.with(theirs);
        let kem = agreed.unwrap_or(KemUse::Never);
        let session = self.new_session(confirm.into_completed(), who, kem, from, now);
        if agreed.is_none() {
            // a peer that does not know what we require has let us in
            self.drops.count(SessionDrop::PqUnfit);
            self.take_leave(&session, now);
            self.actions.push_back(SessionAction::FibDirty);
            let failure = Failure::Refused(theirs.refusal());
            return self.attempt_failed(slot, to, failure, now);
        }
        if !self.establish(slot, session, now) {
            self.actions.push_back(SessionAction::FibDirty);
            return self.attempt_failed(slot, to, Failure::Banned, now);
        }
        let abandoned = self.dials.connected(to, peer);
        self.abandon(&abandoned);
        // The responder waits for a sign that its `Hello` arrived.
        self.ping(slot, true, now);
        self.schedule(slot, now);
    }

    /// Tells a peer that there will be no session with it.
    fn take_leave(&mut self, session: &Session, now: Time) {
        let reason = String::from("no post-quantum key exchange");
        let goodbye = hello::encode(Body::Goodbye(Goodbye {
            reason,
            stays: false,
        }));
        if let Some(datagram) = session.keys.seal(&goodbye, now) {
            self.transmit(session.addr, datagram);
        }
    }

    /// Sends again what was not answered, or gives up.
    pub(super) fn handle_outbound_timeout(&mut self, now: Time) {
        let due = self
            .outbound
            .iter()
            .filter(|(_, outbound)| outbound.due_at() <= now);
        let due: Vec<_> = due.map(|(slot, _)| *slot).collect();
        for slot in due {
            let Some(outbound) = self.outbound.get_mut(&slot) else {
                continue;
            };
            if outbound.give_up_at > now {
                outbound.resend_at = now + self.config.timers.resend;
                let (to, datagram) = (outbound.to, outbound.datagram.clone());
                self.transmit(to, datagram);
                continue;
            }
            self.give_up(slot, now);
        }
    }

    fn give_up(&mut self, slot: u32, now: Time) {
        let Some(outbound) = self.outbound.remove(&slot) else {
            return;
        };
        if outbound.awaits_confirmation() {
            self.actions.push_back(SessionAction::FibDirty);
        }
        self.attempt_failed(slot, outbound.to, outbound.failure(), now);
    }

    fn attempt_failed(&mut self, slot: u32, to: SocketAddr, failure: Failure, now: Time) {
        if self.dials.is_attempting(to, slot) {
            self.dials.failed(to, failure, now, &mut self.rng);
        }
    }

    /// Who is connected and seen at `addr`.
    fn connected_peer(&self, addr: SocketAddr) -> Option<PeerId> {
        let expected = self.dials.get(addr).and_then(|dial| dial.peer);
        if let Some(peer) = expected
            && self.is_direct(&peer)
        {
            return Some(peer);
        }
        let mut in_use = self.peers.iter();
        let found = in_use.find(|(_, slots)| {
            self.sessions
                .get(&slots.in_use)
                .is_some_and(|session| session.addr == addr)
        });
        found.map(|(peer, _)| *peer)
    }
}

/// The lane on which the `Hello` of the responder comes. Whose it is that `Hello` tells, so that
/// the session has another one for the same key: what came before it was dropped, and the `Hello`
/// itself may come again without effect.
fn hello_lane(completed: &Completed) -> Arc<OpenLane> {
    let (_, key) = completed
        .chain
        .lane_keys(completed.suite, completed.role, Lane::Control);
    Arc::new(OpenLane {
        version: completed.version,
        key,
        receiver: ReceiverIndex::new(completed.local_slot, 0, Lane::Control),
        peer: PeerId([0; 32]),
        lane: Lane::Control,
        heard: Arc::default(),
        traffic: Arc::default(),
    })
}
