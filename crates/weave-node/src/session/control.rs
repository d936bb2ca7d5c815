//! Control messages of established sessions.

use std::net::SocketAddr;

use rand_core::RngCore as _;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{PathProbe, PathProbeAck, Ping, Pong};
use weave_wire::{PeerId, ReceiverIndex, Time, decode_control, from_proto_addr, proto_addr};

use super::hello::{self, shown};
use super::peer::{Challenge, Session};
use super::targets::Failure;
use super::{SessionAction, SessionDrop, Sessions};
use crate::next_format;

impl Sessions {
    /// Takes what was opened in an established session, and returns what is not for us.
    pub(super) fn handle_session_control(
        &mut self,
        index: ReceiverIndex,
        from: SocketAddr,
        plaintext: &[u8],
        now: Time,
    ) -> Option<(PeerId, Body)> {
        let slot = index.slot();
        let Some(session) = self.sessions.get_mut(&slot) else {
            self.drops.count(SessionDrop::UnknownSlot);
            return None;
        };
        let peer = session.peer();
        let is_elsewhere = session.addr != from;
        if session.keys.opened(index, now, &mut self.rng) {
            self.actions.push_back(SessionAction::FibDirty);
        }
        self.confirm(slot, now);
        let Ok(message) = decode_control(plaintext) else {
            self.drops.count(SessionDrop::BadControl);
            return None;
        };
        if is_elsewhere && !is_probe(message.body.as_ref()) {
            self.challenge(slot, from, now);
        }
        // A message of a kind that this version does not know has no body: no error.
        let body = message.body?;
        let rest = self.handle_body(slot, peer, from, body, now);
        self.schedule(slot, now);
        rest.map(|body| (peer, body))
    }

    /// Asks whoever is at an address that the peer seems to have moved to: anyone can send on
    /// what the peer sent, and frames must not follow (RFC 9000, section 9.3). Its answer must come
    /// from there, too. Through a NAT with a port for each way the question itself comes from
    /// elsewhere, so that no question is asked about it.
    fn challenge(&mut self, slot: u32, at: SocketAddr, now: Time) {
        let nonce = self.rng.next_u64();
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        let insist = self.config.timers.insist;
        let waits = |asked: &Challenge| now < asked.sent_at + insist;
        if session.challenge.as_ref().is_some_and(waits) {
            return;
        }
        session.challenge = Some(Challenge {
            addr: at,
            nonce,
            sent_at: now,
        });
        let probe = PathProbe {
            nonce,
            padding: Vec::new(),
        };
        self.send_to(slot, at, &hello::encode(Body::PathProbe(probe)), now);
    }

    /// A peer answers from where it seemed to have moved to.
    fn handle_challenge_ack(
        &mut self,
        peer: PeerId,
        from: SocketAddr,
        ack: &PathProbeAck,
        now: Time,
    ) {
        let slots = self.peers.get(&peer).into_iter();
        for slot in slots.flat_map(super::Slots::all) {
            let session = self.sessions.get_mut(&slot);
            let asked = |it: &Challenge| it.addr == from && it.nonce == ack.nonce;
            let is_there = |it: &&mut Session| it.challenge.as_ref().is_some_and(asked);
            if let Some(session) = session.filter(is_there) {
                let peer = peer.name();
                tracing::info!(%peer, was = %session.addr, %from, "peer has moved");
                session.challenge = None;
                session.addr = from;
                session.path.moved(from, now);
                self.actions.push_back(SessionAction::FibDirty);
            }
        }
    }

    /// Sends a control message in one session.
    pub(super) fn send_in(&mut self, slot: u32, body: Body, now: Time) -> bool {
        let mut message = hello::encode(body);
        if next_format::is_spoken(self.config.handshake.versions) {
            next_format::extend(&mut message);
        }
        self.send_encoded(slot, &message, now)
    }

    /// Sends an encoded control message in one session.
    pub(super) fn send_encoded(&mut self, slot: u32, message: &[u8], now: Time) -> bool {
        let session = self.sessions.get(&slot);
        session
            .map(|session| session.addr)
            .is_some_and(|to| self.send_to(slot, to, message, now))
    }

    fn send_to(&mut self, slot: u32, to: SocketAddr, message: &[u8], now: Time) -> bool {
        let Some(session) = self.sessions.get(&slot) else {
            return false;
        };
        let sealed = session.keys.seal(message, now);
        if let Some(datagram) = sealed {
            #[cfg(feature = "seeded-bugs")]
            if self.seeded_bug == Some(crate::seeded::SeededBug::Plaintext) {
                self.transmit(to, message.to_vec());
            }
            self.transmit(to, datagram);
            return true;
        }
        tracing::debug!(peer = %session.peer().name(), len = message.len(), "message not sent");
        false
    }

    fn handle_body(
        &mut self,
        slot: u32,
        peer: PeerId,
        from: SocketAddr,
        body: Body,
        now: Time,
    ) -> Option<Body> {
        match body {
            // Our peer repeats it when it thinks that we have not got it.
            Body::Hello(_) => None,
            Body::Ping(Ping { nonce, observed }) => {
                let seen = observed.as_ref();
                self.note_observed(peer, seen.and_then(|addr| from_proto_addr(addr).ok()));
                let pong = Pong {
                    nonce,
                    observed: Some(proto_addr(from)),
                };
                self.send(&peer, Body::Pong(pong), now);
                None
            }
            Body::Pong(pong) => {
                self.handle_pong(peer, &pong, now);
                None
            }
            Body::PathProbe(probe) => {
                self.acknowledge(peer, probe.nonce, now);
                None
            }
            Body::PathProbeAck(ack) => {
                self.handle_challenge_ack(peer, from, &ack, now);
                self.handle_probe_ack(peer, &ack, now);
                None
            }
            Body::Goodbye(goodbye) => {
                let reason = shown(&goodbye.reason);
                tracing::info!(peer = %peer.name(), reason, "peer takes its leave");
                let failure = match goodbye.stays {
                    true => Failure::Parted,
                    false => Failure::Left,
                };
                self.lose(peer, &failure, now);
                None
            }
            Body::RekeyRequest(request) => {
                self.handle_rekey_request(slot, &request, now);
                None
            }
            Body::RekeyReply(reply) => {
                self.handle_rekey_reply(slot, &reply, now);
                None
            }
            other @ (Body::Delta(_)
            | Body::Digest(_)
            | Body::Summary(_)
            | Body::Pull(_)
            | Body::FoundRequest(_)
            | Body::SpaceRequest(_)
            | Body::SpaceReply(_)
            | Body::LoanReturn(_)
            | Body::CircuitRequest(_)
            | Body::CircuitReply(_)
            | Body::Inquiry(_)
            | Body::InquiryReply(_)) => Some(other),
        }
    }

    /// The answer may come in another session with the peer than the question was sent in.
    fn handle_pong(&mut self, peer: PeerId, pong: &Pong, now: Time) {
        let observed = pong
            .observed
            .as_ref()
            .and_then(|addr| from_proto_addr(addr).ok());
        self.note_observed(peer, observed);
        let slots = self.peers.get(&peer).into_iter();
        let slots: Vec<_> = slots.flat_map(super::Slots::all).collect();
        for slot in slots {
            if let Some(session) = self.sessions.get_mut(&slot)
                && session.ping.nonce == pong.nonce
            {
                session.ping.insist = false;
                if std::mem::take(&mut session.ping.is_open) {
                    session
                        .rtt
                        .measured(now.saturating_sub(session.ping.sent_at));
                }
                if session.note_answer() {
                    let addr = session.addr;
                    let abandoned = self.dials.connected(addr, peer);
                    self.abandon(&abandoned);
                    self.actions.push_back(SessionAction::FibDirty);
                }
            }
        }
    }
}

fn is_probe(body: Option<&Body>) -> bool {
    matches!(body, Some(Body::PathProbe(_) | Body::PathProbeAck(_)))
}
