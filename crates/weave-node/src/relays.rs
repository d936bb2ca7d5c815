//! Circuits: how peers without a direct path reach each other through a third one.
//!
//! Owns the circuits that end here and those that pass here, and whom to ask for one. Does not
//! seal, and never sees what is inside: a circuit is an address ([`Circuit`]) at which a peer is
//! dialled like at any other, and sessions through it are sealed from end to end.
//!
//! ```text
//!     asker                     relay                      target
//!     CircuitRequest(slot a) ──▶ CircuitRequest(slot b) ──▶
//!                               ◀── CircuitReply(slot c) ──
//!     ◀── CircuitReply(slot d) ──
//!     what is sent to d arrives at the target as c, what is sent to b at the asker as a
//! ```
//!
//! Invariants: state is soft, and gone when nobody asks for it any more; only the peer that a
//! circuit was made with can use it; a relay has a direct session with the target, so that no
//! circuit leads over its own ends; what others can make us keep is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore as _;
use weave_wire::proto::circuit_reply::Outcome;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{CircuitReply, CircuitRequest};
use weave_wire::{Circuit, PeerId, ReceiverIndex, Time, peer_id_from_bytes};

mod wants;

use wants::Want;

/// A direct path is given this long before a relay is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// An unanswered request is repeated after this long.
const REPEAT: Duration = Duration::from_secs(1);
/// An open circuit is asked for again after this long.
const REFRESH: Duration = Duration::from_secs(5);
/// Circuits nobody has asked for are forgotten after this long.
const KEPT: Duration = Duration::from_secs(20);
/// Requests to one relay before another one is asked.
const TRIES: u32 = 3;
/// Circuits that end here at most.
const MOST_ENDS: usize = 4_096;
/// Circuits that pass here at most, of all peers and of one.
const MOST_PASSING: usize = 4_096;
const MOST_OF_ONE: usize = 512;

/// What the node is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum RelayAction {
    /// Send this to a peer; it may be lost.
    Send {
        /// The peer.
        to: PeerId,
        /// The message.
        body: Body,
    },
    /// The circuit leads to this peer: dial it there, unless it has a session that works.
    Dial {
        /// The peer.
        target: PeerId,
        /// The circuit.
        circuit: Circuit,
    },
    /// [`Relays::circuits`] or [`Relays::route`] have changed.
    Changed,
}

/// Where what comes by a circuit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// It ends here.
    Here(Circuit),
    /// To this peer, which knows the circuit by this slot.
    On(PeerId, u32),
}

/// All circuits that this peer knows of.
#[derive(Debug)]
pub(crate) struct Relays {
    me: PeerId,
    rng: ChaCha12Rng,
    ends: BTreeMap<u32, End>,
    passing: BTreeMap<(PeerId, u64), Passing>,
    wants: BTreeMap<PeerId, Want>,
    actions: VecDeque<RelayAction>,
}

/// A circuit that ends here.
#[derive(Debug)]
struct End {
    relay: PeerId,
    /// What the relay knows it by, once that is known.
    slot_there: Option<u32>,
    /// Of the request that made it.
    request_id: u64,
    until: Time,
}

/// A circuit that passes here.
#[derive(Debug)]
struct Passing {
    target: PeerId,
    /// Under which its datagrams reach the asker, and us from there.
    asker_slot: u32,
    slot_from_asker: u32,
    /// The same of the target, once it has answered.
    target_slot: Option<u32>,
    slot_from_target: u32,
    /// Of our own request to the target.
    request_id: u64,
    until: Time,
}

impl Relays {
    /// No circuits.
    pub(crate) const fn new(me: PeerId, rng: ChaCha12Rng) -> Self {
        Self {
            me,
            rng,
            ends: BTreeMap::new(),
            passing: BTreeMap::new(),
            wants: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// A peer asks for a circuit; `direct` are the peers with a direct session.
    pub(crate) fn handle_request(
        &mut self,
        from: PeerId,
        request: &CircuitRequest,
        direct: &BTreeSet<PeerId>,
        now: Time,
    ) {
        let Ok(target) = peer_id_from_bytes(&request.target) else {
            return;
        };
        if target == self.me {
            return self.end_here(from, request, now);
        }
        if target == from || !direct.contains(&target) {
            self.passing.remove(&(from, request.request_id));
            return self.reply(from, request.request_id, Outcome::NotReached, 0);
        }
        self.pass(from, target, request, now);
    }

    /// A peer answers a request of ours.
    pub(crate) fn handle_reply(&mut self, from: PeerId, reply: &CircuitReply, now: Time) {
        let outcome = Outcome::try_from(reply.outcome).unwrap_or(Outcome::NotReached);
        let mut passing = self.passing.iter_mut();
        let asked = passing
            .find(|(_, one)| one.target == from && one.request_id == reply.request_id)
            .map(|(key, one)| (*key, one));
        let Some(((asker, request_id), one)) = asked else {
            return self.handle_own_reply(from, reply, outcome, now);
        };
        let slot = one.slot_from_asker;
        if outcome == Outcome::Open {
            if one.target_slot.replace(reply.slot) != Some(reply.slot) {
                self.actions.push_back(RelayAction::Changed);
            }
        } else {
            self.passing.remove(&(asker, request_id));
            self.actions.push_back(RelayAction::Changed);
        }
        self.reply(asker, request_id, outcome, slot);
    }

    /// The session with this peer is gone, and with it every circuit over it.
    pub(crate) fn lost(&mut self, peer: &PeerId, now: Time) {
        let before = (self.ends.len(), self.passing.len());
        self.ends.retain(|_, end| end.relay != *peer);
        self.passing
            .retain(|(asker, _), one| asker != peer && one.target != *peer);
        for want in self.wants.values_mut() {
            want.relay_lost(peer, now);
        }
        if before != (self.ends.len(), self.passing.len()) {
            self.actions.push_back(RelayAction::Changed);
        }
    }

    /// Every circuit with its slot here and the peer that may use it.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = (u32, PeerId, Lead)> + '_ {
        let ends = self
            .ends
            .iter()
            .map(|(slot, end)| (*slot, end.relay, Lead::Here(Circuit { slot: *slot })));
        let passing = self.passing.iter().filter_map(|((asker, _), one)| {
            let target_slot = one.target_slot?;
            let there = (
                one.slot_from_asker,
                *asker,
                Lead::On(one.target, target_slot),
            );
            let back = (
                one.slot_from_target,
                one.target,
                Lead::On(*asker, one.asker_slot),
            );
            Some([there, back])
        });
        ends.chain(passing.flatten())
    }

    /// The relay to hand a datagram to, and what it knows the circuit by.
    pub(crate) fn route(&self, circuit: Circuit) -> Option<(PeerId, u32)> {
        let end = self.ends.get(&circuit.slot)?;
        Some((end.relay, end.slot_there?))
    }

    /// The relay through which a circuit leads.
    pub(crate) fn relay_of(&self, circuit: Circuit) -> Option<PeerId> {
        self.ends.get(&circuit.slot).map(|end| end.relay)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let wants = self.wants.values().filter_map(Want::poll_timeout);
        let ends = self.ends.values().map(|end| end.until);
        let passing = self.passing.values().map(|one| one.until);
        wants.chain(ends).chain(passing).min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.ask(now);
        let before = (self.ends.len(), self.passing.len());
        self.ends.retain(|_, end| end.until > now);
        self.passing.retain(|_, one| one.until > now);
        if before != (self.ends.len(), self.passing.len()) {
            self.actions.push_back(RelayAction::Changed);
        }
    }

    /// What to do next.
    pub(crate) fn poll_action(&mut self) -> Option<RelayAction> {
        self.actions.pop_front()
    }

    /// A relay makes a circuit to us, or goes on with it.
    fn end_here(&mut self, relay: PeerId, request: &CircuitRequest, now: Time) {
        let mut ends = self.ends.iter_mut();
        let known =
            ends.find(|(_, end)| end.relay == relay && end.request_id == request.request_id);
        let slot_there = Some(request.slot);
        let slot = if let Some((slot, end)) = known {
            end.until = now + KEPT;
            if end.slot_there != slot_there {
                end.slot_there = slot_there;
                self.actions.push_back(RelayAction::Changed);
            }
            *slot
        } else if self.ends.len() < MOST_ENDS {
            let end = End {
                relay,
                slot_there,
                request_id: request.request_id,
                until: now + KEPT,
            };
            self.add_end(end)
        } else {
            return self.reply(relay, request.request_id, Outcome::Full, 0);
        };
        self.reply(relay, request.request_id, Outcome::Open, slot);
    }

    /// Makes a circuit between two others, or goes on with it.
    fn pass(&mut self, asker: PeerId, target: PeerId, request: &CircuitRequest, now: Time) {
        let key = (asker, request.request_id);
        if self
            .passing
            .get(&key)
            .is_some_and(|one| one.target != target)
        {
            self.passing.remove(&key);
        }
        if !self.passing.contains_key(&key) {
            let of_asker = self.passing.keys().filter(|(one, _)| *one == asker);
            if self.passing.len() >= MOST_PASSING || of_asker.count() >= MOST_OF_ONE {
                return self.reply(asker, request.request_id, Outcome::Full, 0);
            }
            let one = Passing {
                target,
                asker_slot: request.slot,
                slot_from_asker: self.free_slot(),
                target_slot: None,
                slot_from_target: self.free_slot(),
                request_id: self.rng.next_u64(),
                until: now + KEPT,
            };
            self.passing.insert(key, one);
        }
        let Some(one) = self.passing.get_mut(&key) else {
            return;
        };
        one.until = now + KEPT;
        if std::mem::replace(&mut one.asker_slot, request.slot) != request.slot {
            self.actions.push_back(RelayAction::Changed);
        }
        let onward = CircuitRequest {
            request_id: one.request_id,
            target: target.as_bytes().to_vec(),
            slot: one.slot_from_target,
        };
        let (open, slot) = (one.target_slot.is_some(), one.slot_from_asker);
        self.send(target, Body::CircuitRequest(onward));
        if open {
            self.reply(asker, request.request_id, Outcome::Open, slot);
        }
    }

    fn add_end(&mut self, end: End) -> u32 {
        let slot = self.free_slot();
        self.ends.insert(slot, end);
        self.actions.push_back(RelayAction::Changed);
        slot
    }

    /// A slot of no circuit, not to be guessed.
    fn free_slot(&mut self) -> u32 {
        loop {
            let slot = self.rng.next_u32() % ReceiverIndex::SLOT_LIMIT;
            let mut passing = self.passing.values();
            let is_passing =
                passing.any(|one| one.slot_from_asker == slot || one.slot_from_target == slot);
            if !is_passing && !self.ends.contains_key(&slot) {
                return slot;
            }
        }
    }

    fn reply(&mut self, to: PeerId, request_id: u64, outcome: Outcome, slot: u32) {
        let reply = CircuitReply {
            request_id,
            outcome: outcome.into(),
            slot,
        };
        self.send(to, Body::CircuitReply(reply));
    }

    fn send(&mut self, to: PeerId, body: Body) {
        self.actions.push_back(RelayAction::Send { to, body });
    }
}
