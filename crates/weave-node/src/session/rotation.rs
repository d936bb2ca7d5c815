//! Rotation of the password: sessions move to the generation in use, and end with a generation
//! that was removed.
//!
//! A session rests on the password that its handshake was made with. It moves by a new full
//! handshake beside it, and goes on until the peer has shown to have the new session, too
//! (`standing`): no frame ever waits for a handshake.
//!
//! It is moved up, to a higher generation in use, as long as that takes. To a lower one it is
//! moved once, when an operator puts that in use: two peers that use different generations would
//! move it to and fro without end. A session whose password was removed is moved in any case,
//! and after the grace it ends: who knows no other password is out by then.

use std::collections::BTreeMap;

use weave_crypto::{Passwords, RejectReason};
use weave_wire::Time;

use super::Sessions;
use super::config::Timers;
use super::outbound::Purpose;
use super::status::GenerationStatus;
use super::targets::Failure;

/// How a session stands towards the passwords.
#[derive(Debug)]
pub(super) struct Rotation {
    /// Generation of the password that its handshake was made with.
    pub(super) generation: u16,
    /// Why the peer did not let it move, the last time that it refused.
    pub(super) refused: Option<RejectReason>,
    /// Whether another generation was put in use since.
    asked: bool,
    /// When moving it was last tried, or else when it began; not at all since it was asked for.
    tried_at: Option<Time>,
    /// When it ends: its password was removed.
    ends_at: Option<Time>,
}

impl Rotation {
    /// Of a session that begins.
    pub(super) const fn new(generation: u16, now: Time) -> Self {
        Self {
            generation,
            refused: None,
            asked: false,
            tried_at: Some(now),
            ends_at: None,
        }
    }

    /// When there is something to do for a session; one `is_movable` that is in use and confirmed.
    pub(super) fn due_at(
        &self,
        is_movable: bool,
        passwords: &Passwords,
        timers: &Timers,
    ) -> Option<Time> {
        let moves = is_movable && self.is_to_move(passwords);
        let again = |tried_at: Time| tried_at + timers.move_again;
        let next = moves.then(|| self.tried_at.map_or(Time::ZERO, again));
        [next, self.ends_at].into_iter().flatten().min()
    }

    fn is_to_move(&self, passwords: &Passwords) -> bool {
        let in_use = passwords.in_use();
        let rests_elsewhere = self.generation != in_use;
        self.ends_at.is_some() || rests_elsewhere && (self.asked || self.generation < in_use)
    }

    /// Takes note of a change of the passwords.
    fn changed(&mut self, passwords: &Passwords, another_in_use: bool, ends_at: Time) {
        if !passwords.holds(self.generation) {
            self.ends_at.get_or_insert(ends_at);
        }
        self.asked |= another_in_use;
        self.tried_at = None;
        self.refused = None;
    }
}

impl Sessions {
    /// Accepts these passwords from now on and dials with the one in use. Sessions move to it;
    /// those that rest on one that is left out end after the grace at the latest.
    pub(crate) fn set_passwords(&mut self, passwords: Passwords, now: Time) {
        let former = std::mem::replace(&mut self.config.handshake.passwords, passwords);
        let passwords = &self.config.handshake.passwords;
        let another_in_use = former.in_use() != passwords.in_use();
        tracing::info!(in_use = passwords.in_use(), "passwords changed");
        let ends_at = now + self.config.timers.grace;
        for session in self.sessions.values_mut() {
            session.rotation.changed(passwords, another_in_use, ends_at);
        }
        self.inbound.keep_generations(passwords);
        self.give_up_removed(now);
        let slots: Vec<_> = self.sessions.keys().copied().collect();
        for slot in slots {
            self.check_generation(slot, now);
            self.schedule(slot, now);
        }
        self.dial_due(now);
    }

    /// The generations that are held or that sessions in use rest on, the lowest first.
    pub(crate) fn generations(&self) -> Vec<GenerationStatus> {
        let passwords = &self.config.handshake.passwords;
        let held = passwords.all().map(|(generation, _)| (generation, 0));
        let mut sessions: BTreeMap<u16, usize> = held.collect();
        for session in self.in_use() {
            *sessions.entry(session.rotation.generation).or_default() += 1;
        }
        let status = |(generation, sessions)| GenerationStatus {
            generation,
            held: passwords.holds(generation),
            in_use: generation == passwords.in_use(),
            sessions,
        };
        sessions.into_iter().map(status).collect()
    }

    /// Moves a session that is to move, and ends one that is to end.
    pub(super) fn check_generation(&mut self, slot: u32, now: Time) {
        let (passwords, timers) = (&self.config.handshake.passwords, &self.config.timers);
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let (peer, addr, rotation) = (session.peer(), session.addr, &session.rotation);
        let slots = self.peers.get(&peer);
        let is_in_use = slots.is_some_and(|slots| slots.in_use == slot);
        let is_movable = is_in_use && session.standing.confirmed;
        let due = rotation.due_at(is_movable, passwords, timers);
        if due.is_none_or(|due| due > now) {
            return;
        }
        if rotation.ends_at.is_none_or(|at| at > now) {
            if let Some(session) = self.sessions.get_mut(&slot) {
                session.rotation.tried_at = Some(now);
            }
            self.attempt_for(Purpose::Move { slot }, addr, now);
        } else if is_in_use {
            let failure = rotation.refused.map_or(Failure::NoAnswer, Failure::Refused);
            self.lose(peer, &failure, now);
        } else {
            self.forget(slot);
        }
    }

    /// The peer of a session does not let it move, for this reason.
    pub(super) fn move_refused(&mut self, slot: u32, reason: RejectReason) {
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        if session.rotation.refused.replace(reason) != Some(reason) {
            let (peer, generation) = (session.peer().name(), session.rotation.generation);
            tracing::warn!(%peer, generation, %reason, "the session stays on its password");
        }
    }
}
