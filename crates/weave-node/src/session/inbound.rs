//! Handshakes that others began: what protects us from them, and the step to a session.
//!
//! Invariant: whatever strangers send, at most [`HALF_OPEN`] handshakes are kept, and at most a
//! fixed number of messages per second is computed for; established sessions and the handshakes that we
//! began do not depend on either.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;
use weave_crypto::{
    Admission as Cookies, CookieJar, ExpectFinish, HandshakeError, HelloContext, Passwords,
    RejectReason, initiator_ephemeral, respond,
};
use weave_wire::{Circuit, HandshakeHeader, Time};

use super::config::SessionConfig;
use super::hello;
use super::limits::{Admission, Backlog, LoadMeter, SourceBuckets};
use super::peer::Answer;
use super::{SessionDrop, Sessions};
use crate::pace::{Pace, source_of};

/// Half-open handshakes kept; beyond this the oldest goes.
const HALF_OPEN: usize = 128;
/// Half-open handshakes above which cookies are asked for.
const BUSY_HALF_OPEN: usize = 64;
/// First messages of one source.
const SOURCE_PACE: Pace = Pace::new(Duration::from_millis(50), 40);
/// Wrong passwords, and banned keys, of one source.
const GUESS_PACE: Pace = Pace::new(Duration::from_secs(3), 20);
/// First messages of all strangers together, and of all known addresses together.
const TOTAL_PACE: Pace = Pace::new(Duration::from_millis(5), 64);
/// Last messages of all strangers' handshakes, each some operations on curves: more than can be begun.
const FINISH_PACE: Pace = Pace::new(Duration::from_millis(4), 128);
/// A source is named in a warning once per this time.
const WARN_PACE: Pace = Pace::new(Duration::from_secs(60), 1);

/// Handshakes that others began, and what limits them.
#[derive(Debug)]
pub(super) struct Inbound {
    half_open: BTreeMap<u32, HalfOpen>,
    /// Which slot a first message was answered with, by the ephemeral key in it.
    answered: BTreeMap<[u8; 32], u32>,
    jar: CookieJar,
    load: LoadMeter,
    sources: SourceBuckets,
    guesses: SourceBuckets,
    warnings: SourceBuckets,
    strangers: Backlog,
    known: Backlog,
    finishes: Time,
    keep: Duration,
}

/// A first message that was answered.
#[derive(Debug)]
struct HalfOpen {
    ephemeral: [u8; 32],
    state: ExpectFinish,
    reply: Vec<u8>,
    until: Time,
    /// A third message that did not verify, and will not when it comes again.
    refused: Option<Vec<u8>>,
}

impl Inbound {
    /// Nothing begun.
    pub(super) fn new(config: &SessionConfig, rng: &mut impl RngCore) -> Self {
        Self {
            half_open: BTreeMap::new(),
            answered: BTreeMap::new(),
            jar: CookieJar::new(&config.handshake.mesh_name, Time::ZERO, rng),
            load: LoadMeter::default(),
            sources: SourceBuckets::new(SOURCE_PACE),
            guesses: SourceBuckets::new(GUESS_PACE),
            warnings: SourceBuckets::new(WARN_PACE),
            strangers: Backlog::new(TOTAL_PACE),
            known: Backlog::new(TOTAL_PACE),
            finishes: Time::ZERO,
            keep: config.timers.give_up,
        }
    }

    /// Whether a half-open handshake has this slot.
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.half_open.contains_key(&slot)
    }

    /// Number of half-open handshakes.
    #[cfg(test)]
    pub(super) fn half_open_count(&self) -> usize {
        self.half_open.len()
    }

    /// Forgets what was not completed in time.
    pub(super) fn expire(&mut self, now: Time) {
        self.half_open.retain(|_, one| one.until > now);
        let half_open = &self.half_open;
        self.answered.retain(|_, slot| half_open.contains_key(slot));
    }

    /// Gives up what was begun with a password that is held no more.
    pub(super) fn keep_generations(&mut self, held: &Passwords) {
        self.half_open
            .retain(|_, one| held.holds(one.state.generation()));
        let half_open = &self.half_open;
        self.answered.retain(|_, slot| half_open.contains_key(slot));
    }

    /// When there is something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let expiry = self.half_open.values().map(|one| one.until).min();
        let queued = [self.strangers.poll_timeout(), self.known.poll_timeout()];
        queued.into_iter().chain([expiry]).flatten().min()
    }

    /// The answer to a first message that was answered before.
    fn answer_again(&mut self, ephemeral: &[u8; 32], now: Time) -> Option<Vec<u8>> {
        let one = self.half_open.get_mut(self.answered.get(ephemeral)?)?;
        one.until = now + self.keep;
        Some(one.reply.clone())
    }

    /// Keeps a half-open handshake. Returns whether another one had to go for it.
    fn keep(&mut self, slot: u32, one: HalfOpen) -> bool {
        let mut evicted = false;
        if self.half_open.len() >= HALF_OPEN {
            let oldest = self.half_open.iter().min_by_key(|(_, one)| one.until);
            if let Some(oldest) = oldest.map(|(slot, _)| *slot) {
                self.remove(oldest);
                evicted = true;
            }
        }
        self.answered.insert(one.ephemeral, slot);
        self.half_open.insert(slot, one);
        evicted
    }

    fn remove(&mut self, slot: u32) -> Option<HalfOpen> {
        let one = self.half_open.remove(&slot)?;
        self.answered.remove(&one.ephemeral);
        Some(one)
    }
}

impl Sessions {
    /// Takes message 1: answers it, asks for a cookie, puts it off, or drops it.
    pub(super) fn handle_init(&mut self, from: SocketAddr, datagram: &[u8], now: Time) {
        let Some(ephemeral) = initiator_ephemeral(datagram) else {
            return self.drops.count(SessionDrop::Malformed);
        };
        if let Some(reply) = self.inbound.answer_again(&ephemeral, now) {
            return self.transmit(from, reply);
        }
        let known = self.is_known(from);
        let inbound = &mut self.inbound;
        let busy = inbound.load.is_busy(now) || inbound.half_open.len() > BUSY_HALF_OPEN;
        match inbound.jar.admit(from, datagram, busy, now, &mut self.rng) {
            Cookies::Proceed => {}
            Cookies::Challenge(cookie) => {
                inbound.load.count(now);
                self.drops.count(SessionDrop::NoCookie);
                return self.transmit(from, cookie);
            }
            Cookies::Drop => return self.drops.count(SessionDrop::Stranger),
        }
        inbound.load.count(now);
        if !inbound.guesses.has_token(from, now) {
            return self.drops.count(SessionDrop::GuessRate);
        }
        if !inbound.sources.take(from, now) {
            return self.drops.count(SessionDrop::SourceRate);
        }
        let backlog = if known {
            &mut inbound.known
        } else {
            &mut inbound.strangers
        };
        match backlog.admit(from, datagram, now) {
            Admission::Now => self.respond(from, datagram, now),
            Admission::Queued => {}
            Admission::Full => self.drops.count(SessionDrop::BacklogFull),
        }
    }

    /// Works on first messages that were put off.
    pub(super) fn handle_backlog(&mut self, now: Time) {
        while let Some((from, datagram)) = self.inbound.known.next_due(now) {
            self.respond(from, &datagram, now);
        }
        while let Some((from, datagram)) = self.inbound.strangers.next_due(now) {
            self.respond(from, &datagram, now);
        }
    }

    /// Takes message 3: of a half-open handshake, or again because our `Hello` was lost.
    pub(super) fn handle_finish(
        &mut self,
        header: HandshakeHeader,
        from: SocketAddr,
        datagram: &[u8],
        now: Time,
    ) {
        let slot = header.receiver;
        let Some(half_open) = self.inbound.remove(slot) else {
            return self.answer_finish_again(slot, datagram, now);
        };
        if half_open.refused.as_deref() == Some(datagram) {
            self.reject(from, &half_open.state);
            self.inbound.keep(slot, half_open);
            return;
        }
        if !self.is_known(from) && !FINISH_PACE.take(&mut self.inbound.finishes, now) {
            self.inbound.keep(slot, half_open);
            return self.drops.count(SessionDrop::FinishRate);
        }
        let HalfOpen {
            state,
            ephemeral,
            reply,
            until,
            ..
        } = half_open;
        // the state ends with the handshake, and only then it is known who is there
        let banned = state.reject(&self.config.handshake, RejectReason::Banned);
        let unfit = state.reject(&self.config.handshake, self.config.pq.refusal());
        let completed = match state.handle_finish(&self.config.handshake, datagram) {
            Ok(completed) => completed,
            Err(failed) => {
                let (state, error) = *failed;
                self.refuse(from, &state, &error, now);
                let refused = Some(datagram.to_vec());
                self.inbound.keep(
                    slot,
                    HalfOpen {
                        ephemeral,
                        state,
                        reply,
                        until,
                        refused,
                    },
                );
                return;
            }
        };
        self.knocks.finished(from, now);
        if completed.remote_static == self.static_public() {
            return self.drops.count(SessionDrop::Ourself);
        }
        let context = HelloContext {
            role: completed.role.peer(),
            ..completed.hello_context(completed.remote_static)
        };
        let Some(who) = hello::check_encoded(&completed.payload, &context) else {
            return self.drops.count(SessionDrop::BadHello);
        };
        if self.banned.contains(&who.peer) {
            return self.refuse_banned(from, banned, now);
        }
        let Some(kem) = self.config.pq.with(who.pq) else {
            return self.refuse_unfit(from, unfit, now);
        };
        let own = completed.hello_context(self.static_public());
        let hello = hello::encode(hello::introduce(&self.config, &own, from));
        let mut session = self.new_session(completed, who, kem, from, now);
        session.answer = Some(Answer {
            finish: datagram.to_vec(),
            hello: hello.clone(),
        });
        if self.establish(slot, session, now) {
            self.send_encoded(slot, &hello, now);
            self.schedule(slot, now);
        }
    }

    fn respond(&mut self, from: SocketAddr, datagram: &[u8], now: Time) {
        let Some(ephemeral) = initiator_ephemeral(datagram) else {
            return;
        };
        if self.inbound.answered.contains_key(&ephemeral) {
            // Sent again while it waited.
            return;
        }
        let slot = self.free_slot();
        match respond(&self.config.handshake, slot, datagram, &mut self.rng) {
            Ok((state, reply)) => {
                let until = now + self.inbound.keep;
                let one = HalfOpen {
                    ephemeral,
                    state,
                    reply: reply.clone(),
                    until,
                    refused: None,
                };
                if self.inbound.keep(slot, one) {
                    self.drops.count(SessionDrop::HalfOpenEvicted);
                }
                self.knocks.answered(from, now);
                self.transmit(from, reply);
            }
            Err(error) => {
                self.drops.count(SessionDrop::HandshakeInvalid);
                if let Some(reply) = error.reply() {
                    self.transmit(from, reply.to_vec());
                }
                tracing::debug!(%from, %error, "handshake dropped");
            }
        }
    }

    /// Message 3 did not verify: the handshake stays as it is, and the dialler is told.
    fn refuse(
        &mut self,
        from: SocketAddr,
        state: &ExpectFinish,
        error: &HandshakeError,
        now: Time,
    ) {
        if *error != HandshakeError::Authentication {
            tracing::debug!(%from, %error, "handshake dropped");
            return self.drops.count(SessionDrop::HandshakeInvalid);
        }
        self.drops.count(SessionDrop::WrongPassword);
        self.knocks.refused(from, now);
        if self.inbound.warnings.take(from, now) {
            let source = source_of(from);
            tracing::warn!(%source, "a peer has another password and was refused");
        }
        if self.inbound.guesses.take(from, now) {
            self.reject(from, state);
        }
    }

    /// The dialler is banned: it is told, and the source is heard less and less.
    fn refuse_banned(&mut self, from: SocketAddr, refusal: Vec<u8>, now: Time) {
        self.drops.count(SessionDrop::Banned);
        if self.inbound.guesses.take(from, now) {
            self.transmit(from, refusal);
        }
    }

    /// The dialler has the password, and one side requires ML-KEM, which the other has not.
    fn refuse_unfit(&mut self, from: SocketAddr, refusal: Vec<u8>, now: Time) {
        self.drops.count(SessionDrop::PqUnfit);
        if self.inbound.warnings.take(from, now) {
            let (source, pq) = (source_of(from), self.config.pq);
            tracing::warn!(%source, ?pq, "a peer was refused: the post-quantum key exchange is required by one side only");
        }
        self.transmit(from, refusal);
    }

    fn reject(&mut self, from: SocketAddr, state: &ExpectFinish) {
        let reject = state.reject(&self.config.handshake, RejectReason::WrongPassword);
        self.transmit(from, reject);
    }

    /// Repeats our `Hello` to a peer that repeats the message which established the session.
    fn answer_finish_again(&mut self, slot: u32, finish: &[u8], now: Time) {
        let answer = self
            .sessions
            .get(&slot)
            .and_then(|session| session.answer.as_ref());
        match answer {
            Some(answer) if answer.finish == finish => {
                let hello = answer.hello.clone();
                self.send_encoded(slot, &hello, now);
            }
            Some(_) | None => self.drops.count(SessionDrop::UnknownSlot),
        }
    }

    /// Whether a member was seen there or is expected there: it does not compete with strangers.
    fn is_known(&self, from: SocketAddr) -> bool {
        // a circuit was made by a member
        let is_relayed = Circuit::of(&from).is_some();
        is_relayed
            || self.dials.knows(from)
            || self.sessions.values().any(|session| session.addr == from)
    }
}
