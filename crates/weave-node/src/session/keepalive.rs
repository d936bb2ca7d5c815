//! Signs of life, and what follows from their absence; also the timers of keys.

use rand_chacha::rand_core::RngCore as _;
use weave_crypto::EpochAction;
use weave_wire::proto::Ping;
use weave_wire::proto::control_message::Body;
use weave_wire::{Time, proto_addr};

use super::peer::Session;
use super::targets::Failure;
use super::{SessionAction, Sessions};

impl Sessions {
    /// Looks at every session that is due.
    pub(super) fn handle_session_timeouts(&mut self, now: Time) {
        if self.check_at.is_none_or(|at| at > now) {
            return;
        }
        let due = self
            .sessions
            .iter()
            .filter(|(_, session)| session.next_check <= now);
        let due: Vec<_> = due.map(|(slot, _)| *slot).collect();
        for slot in due {
            self.check(slot, now);
            self.schedule(slot, now);
        }
        self.check_at = self.first_check();
    }

    fn first_check(&self) -> Option<Time> {
        let sessions = self.sessions.values();
        sessions.map(|session| session.next_check).min()
    }

    /// Sends a `Ping` in a session; if `insist`, until it is answered.
    pub(super) fn ping(&mut self, slot: u32, insist: bool, now: Time) {
        let nonce = self.rng.next_u64();
        if let Some(session) = self.sessions.get_mut(&slot) {
            session.ping.nonce = nonce;
            session.ping.sent_at = now;
            session.ping.is_open = true;
            session.ping.insist |= insist;
            let observed = Some(proto_addr(session.addr));
            self.send_in(slot, Body::Ping(Ping { nonce, observed }), now);
        }
    }

    /// Sets when a session is looked at again.
    pub(super) fn schedule(&mut self, slot: u32, now: Time) {
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let next = self.next_check(slot, session, now);
        // Whatever is due has just been done: never spin.
        let soonest = now + std::time::Duration::from_millis(1);
        let next = next.max(soonest);
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        let former = std::mem::replace(&mut session.next_check, next);
        self.check_at = match self.check_at {
            Some(at) if at < former.min(next) => Some(at),
            Some(_) if next > former => self.first_check(),
            Some(_) | None => Some(next),
        };
    }

    fn next_check(&self, slot: u32, session: &Session, now: Time) -> Time {
        let timers = &self.config.timers;
        let peer = session.peer();
        let insisted = session
            .ping
            .insist
            .then(|| session.ping.sent_at + timers.resend);
        let is_in_use = self
            .peers
            .get(&peer)
            .is_some_and(|slots| slots.in_use == slot);
        let is_movable = is_in_use && session.standing.confirmed;
        let passwords = &self.config.handshake.passwords;
        let moves = session.rotation.due_at(is_movable, passwords, timers);
        let times = if is_in_use {
            let alive_at = self.peer_alive_at(&peer);
            let again = timers.ping_again(session.ping.sent_at.saturating_sub(alive_at));
            let pinged = (alive_at + timers.keepalive_of(session.outbound))
                .max(session.ping.sent_at + again);
            let probed = (alive_at + timers.probe).max(session.probed_at + timers.give_up);
            let path = session
                .standing
                .confirmed
                .then(|| session.path.poll_timeout());
            [
                Some(pinged),
                Some(probed),
                Some(alive_at + timers.lost),
                path,
            ]
        } else {
            let scheduled = Some(session.next_check).filter(|at| *at > now);
            [
                Some(session.forget_at(timers)),
                scheduled.or(Some(now + timers.resend)),
                None,
                None,
            ]
        };
        let keys = session.keys_due_at();
        let others = [insisted, keys, moves];
        let all = times.into_iter().chain(others).flatten().min();
        all.unwrap_or(Time::MAX)
    }

    fn check(&mut self, slot: u32, now: Time) {
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        if session.keys.heard().is_some() {
            self.confirm(slot, now);
        }
        self.check_keys(slot, now);
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let peer = session.peer();
        let due = session.ping.sent_at + self.config.timers.resend;
        if session.ping.insist && due <= now {
            self.ping(slot, true, now);
        }
        self.check_generation(slot, now);
        if self
            .peers
            .get(&peer)
            .is_some_and(|slots| slots.in_use == slot)
        {
            self.check_alive(slot, now);
            self.check_path(slot, now);
        } else {
            self.check_unused(slot, now);
        }
    }

    fn check_alive(&mut self, slot: u32, now: Time) {
        let timers = self.config.timers.clone();
        let Some(session) = self.sessions.get_mut(&slot) else {
            return;
        };
        let (peer, addr) = (session.peer(), session.addr);
        let (pinged_at, probed_at) = (session.ping.sent_at, session.probed_at);
        let keepalive = timers.keepalive_of(session.outbound);
        let silence = now.saturating_sub(self.peer_alive_at(&peer));
        if silence >= timers.lost {
            return self.lose(peer, &Failure::NoAnswer, now);
        }
        let again = timers.ping_again(pinged_at.saturating_sub(self.peer_alive_at(&peer)));
        if silence >= keepalive && pinged_at + again <= now {
            self.ping(slot, false, now);
        }
        if silence >= timers.probe && probed_at + timers.give_up <= now {
            if let Some(session) = self.sessions.get_mut(&slot) {
                session.probed_at = now;
            }
            self.actions.push_back(SessionAction::Silent { peer });
            self.attempt(addr, now);
        }
    }

    fn check_unused(&mut self, slot: u32, now: Time) {
        self.follow(slot, now);
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let unused = self
            .peers
            .get(&session.peer())
            .is_none_or(|slots| slots.in_use != slot);
        if unused && session.forget_at(&self.config.timers) <= now {
            self.forget(slot);
        }
    }

    fn check_keys(&mut self, slot: u32, now: Time) {
        while let Some(session) = self.sessions.get_mut(&slot)
            && session.keys_due_at().is_some_and(|due| due <= now)
            && let Some(action) = session.keys.handle_timeout(now, &mut self.rng)
        {
            match action {
                EpochAction::SendRequest(offer) => self.send_rekey_request(slot, offer, now),
                EpochAction::SendConfirmation => self.ping(slot, false, now),
                EpochAction::Forgot(_) => self.actions.push_back(SessionAction::FibDirty),
                EpochAction::Expired => self.expire_session(slot, now),
            }
        }
    }

    /// No key of the session may seal any more.
    fn expire_session(&mut self, slot: u32, now: Time) {
        let Some(session) = self.sessions.get(&slot) else {
            return;
        };
        let peer = session.peer();
        if self
            .peers
            .get(&peer)
            .is_some_and(|slots| slots.in_use == slot)
        {
            self.lose(peer, &Failure::NoAnswer, now);
        } else {
            self.forget(slot);
        }
    }
}
