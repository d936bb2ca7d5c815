//! Whom this peer wants to reach through relays, and which relay it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::rand_core::RngCore as _;
use weave_wire::proto::circuit_reply::Outcome;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{CircuitReply, CircuitRequest};
use weave_wire::{Circuit, PeerId, Time};

use super::{End, KEPT, PATIENCE, REFRESH, REPEAT, RelayAction, Relays, TRIES};

/// A peer that has no direct path, and who may relay, the best first.
#[derive(Debug)]
pub(super) struct Want {
    relays: Vec<PeerId>,
    asked: Option<Asked>,
    next_at: Time,
}

/// The relay that is asked.
#[derive(Debug)]
struct Asked {
    relay: PeerId,
    /// Of the circuit here.
    slot: u32,
    request_id: u64,
    /// Requests since the last answer.
    tries: u32,
}

impl Want {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.relays.is_empty()).then_some(self.next_at)
    }

    pub(super) fn relay_lost(&mut self, relay: &PeerId, now: Time) {
        self.relays.retain(|one| one != relay);
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| asked.relay == *relay)
        {
            self.asked = None;
            self.next_at = now;
        }
    }

    /// Asks the next relay from now on.
    fn give_up(&mut self, now: Time) {
        if let Some(asked) = self.asked.take() {
            // to the end: it may be the only one
            self.relays.retain(|one| *one != asked.relay);
            self.relays.push(asked.relay);
        }
        self.next_at = now;
    }
}

impl Relays {
    /// Replaces the peers to be reached, each with those that may relay, the best first. A
    /// circuit that is open stays as long as its relay is one of them. Who is not `connected` may
    /// be so in a moment.
    pub(crate) fn set_wanted(
        &mut self,
        wanted: BTreeMap<PeerId, Vec<PeerId>>,
        connected: &BTreeSet<PeerId>,
        now: Time,
    ) {
        self.wants.retain(|target, _| wanted.contains_key(target));
        for (target, relays) in wanted {
            let patience = match connected.contains(&target) {
                true => Duration::ZERO,
                false => PATIENCE,
            };
            let want = self.wants.entry(target).or_insert_with(|| Want {
                relays: Vec::new(),
                asked: None,
                next_at: now + patience,
            });
            if want
                .asked
                .as_ref()
                .is_some_and(|asked| !relays.contains(&asked.relay))
            {
                want.asked = None;
                want.next_at = now;
            }
            want.relays = relays;
        }
    }

    /// Sends the requests that are due.
    pub(super) fn ask(&mut self, now: Time) {
        let due = self
            .wants
            .iter()
            .filter(|(_, want)| want.poll_timeout().is_some_and(|at| at <= now));
        let due: Vec<_> = due.map(|(target, _)| *target).collect();
        for target in due {
            self.ask_for(target, now);
        }
    }

    fn ask_for(&mut self, target: PeerId, now: Time) {
        let Some(mut want) = self.wants.remove(&target) else {
            return;
        };
        if want
            .asked
            .as_ref()
            .is_some_and(|asked| asked.tries >= TRIES)
        {
            want.give_up(now);
        }
        let asked = want
            .asked
            .take()
            .filter(|asked| self.ends.contains_key(&asked.slot));
        let asked = asked.or_else(|| self.begin(*want.relays.first()?, now));
        if let Some(mut asked) = asked {
            asked.tries += 1;
            want.next_at = now + REPEAT;
            let request = CircuitRequest {
                request_id: asked.request_id,
                target: target.as_bytes().to_vec(),
                slot: asked.slot,
            };
            self.send(asked.relay, Body::CircuitRequest(request));
            want.asked = Some(asked);
        }
        self.wants.insert(target, want);
    }

    fn begin(&mut self, relay: PeerId, now: Time) -> Option<Asked> {
        let request_id = self.rng.next_u64();
        let end = End {
            relay,
            slot_there: None,
            request_id,
            until: now + KEPT,
        };
        Some(Asked {
            relay,
            slot: self.add_end(end),
            request_id,
            tries: 0,
        })
    }

    /// A relay that we asked has answered.
    pub(super) fn handle_own_reply(
        &mut self,
        from: PeerId,
        reply: &CircuitReply,
        outcome: Outcome,
        now: Time,
    ) {
        let mut wants = self.wants.iter_mut();
        let found = wants.find(|(_, want)| {
            let asked = want.asked.as_ref();
            asked.is_some_and(|asked| asked.relay == from && asked.request_id == reply.request_id)
        });
        let Some((target, want)) = found else {
            return;
        };
        let Some(asked) = want.asked.as_mut() else {
            return;
        };
        if outcome != Outcome::Open {
            let slot = asked.slot;
            want.give_up(now + REPEAT);
            self.ends.remove(&slot);
            return self.actions.push_back(RelayAction::Changed);
        }
        asked.tries = 0;
        want.next_at = now + REFRESH;
        let Some(end) = self.ends.get_mut(&asked.slot) else {
            return;
        };
        end.until = now + KEPT;
        if end.slot_there.replace(reply.slot) != Some(reply.slot) {
            self.actions.push_back(RelayAction::Changed);
        }
        let circuit = Circuit { slot: asked.slot };
        self.actions.push_back(RelayAction::Dial {
            target: *target,
            circuit,
        });
    }
}
