//! The key epochs of one session: which keys seal now, which still open, and how two peers step
//! to the next epoch without ever losing a datagram or using a counter twice.
//!
//! Owns the lanes of all epochs; each is made once and handed out shared. Does not send: the
//! session carries the messages and tells when something was opened. One side starts (the
//! initiator of the handshake first, the other only if that fails), so an exchange is
//! request, answer, and any datagram in the new epoch. Where both sides have it, every exchange
//! has an ML-KEM-768 half beside the X25519 half, the first one at the start of the session:
//!
//! ```text
//!             start                     handle_reply
//!     Idle ───────────► Requested ───────────────────────► Idle, new epoch, unconfirmed
//!      │ handle_request     │ handle_request, we are the responder
//!      ▼                    ▼
//!     Answered ◄────────────┘
//!      │ opened(new epoch)
//!      └────────────────────────────────────────────────► Idle, new epoch
//! ```
//!
//! Invariants: at most one next epoch exists, and once it does nothing replaces it; the side that
//! answers seals in it only after it opened a datagram of it; two epochs of one parity are never
//! receivable at once; a lane stops 180 s after its epoch was made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;
use weave_wire::{Lane, ReceiverIndex, Time};

use crate::aead::Suite;
use crate::chain::{Chain, Role};
use crate::kem::InvalidKemKey;
use crate::lane::SendLane;
use crate::x25519::{EphemeralKey, WeakKey};

mod epoch;
mod exchange;

pub use epoch::{Epoch, SessionShape};
use epoch::{Held, STOP_AFTER};
use exchange::{Agreed, Asking, Parts};
pub use exchange::{KeyAgreement, OfferPart, RekeyAnswer, RekeyOffer};

/// The initiator of the handshake starts a rekey this long after the last one.
const REKEY_AFTER: Duration = Duration::from_secs(110);
/// The responder does if the initiator has not.
const BACKSTOP_AFTER: Duration = Duration::from_secs(155);
/// Up to this much is added, so that the sessions of a big mesh do not rekey at once.
const JITTER: Duration = Duration::from_secs(20);
/// The keys of the epoch before open this long after the step to a new one.
const PREVIOUS_FOR: Duration = Duration::from_secs(60);
/// Requests and confirmations are repeated this often.
const REPEAT_EVERY: Duration = Duration::from_secs(1);

/// Why a message of the exchange had no effect. The keys are what they were, and the session
/// goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// Late, early, or repeated after the step was made.
    #[error("a rekey to epoch {asked} does not fit epoch {current}")]
    Stale {
        /// The epoch that the message is about.
        asked: u32,
        /// The epoch that seals now.
        current: u32,
    },
    /// Both sides started; the initiator's request goes on, so this one waits.
    #[error("both sides asked for a rekey; ours goes first")]
    Crossed,
    /// The peer asks with a second key for an epoch that is already agreed on.
    #[error("the peer asked twice for epoch {0} with different keys")]
    Conflict(u32),
    /// A KEM key or ciphertext in a session without, or none in an answer that needs one.
    #[error("the KEM part of the exchange does not fit what the peers announced")]
    Kem,
    /// The peer's key is of low order.
    #[error(transparent)]
    WeakKey(#[from] WeakKey),
    /// The peer's KEM key is none.
    #[error(transparent)]
    InvalidKemKey(#[from] InvalidKemKey),
}

/// What has to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochAction {
    /// Send the parts of this request on the control lane.
    SendRequest(RekeyOffer),
    /// Send anything on the control lane, for example a ping: the peer seals in the new epoch
    /// only after it opened something of it.
    SendConfirmation,
    /// An old epoch opens no more; receivers must forget its keys.
    Forgot(u32),
    /// No key may seal any more. The session is over.
    Expired,
}

enum Exchange<K> {
    Idle {
        due: Time,
    },
    Requested {
        asking: Asking<K>,
        repeat_at: Time,
    },
    Answered {
        offer: RekeyOffer,
        answer: RekeyAnswer,
        next: Held,
    },
}

/// See the module.
pub struct Epochs<K = EphemeralKey> {
    shape: SessionShape,
    current: Held,
    previous: Option<(Arc<Epoch>, Time)>,
    exchange: Exchange<K>,
    /// What has arrived of the peer's request for the next epoch, until it is answered.
    parts: Parts,
    /// Set while the peer may not yet know that we seal in the current epoch.
    confirm_at: Option<Time>,
    expired: bool,
}

impl<K: KeyAgreement> Epochs<K> {
    /// The epochs of a session whose handshake just ended.
    pub fn new(shape: SessionShape, chain: Chain, now: Time, rng: &mut impl RngCore) -> Self {
        let current = Held::new(shape, chain, false, now);
        let mut due = due(shape.role, now, rng);
        if shape.kem && shape.role == Role::Initiator {
            // The handshake has no KEM: its keys are to be replaced as soon as possible.
            due = now;
        }
        Self {
            shape,
            current,
            previous: None,
            exchange: Exchange::Idle { due },
            parts: Parts::default(),
            confirm_at: None,
            expired: false,
        }
    }

    /// The cipher of all epochs.
    pub const fn suite(&self) -> Suite {
        self.shape.suite
    }

    /// The epoch that seals.
    pub const fn current(&self) -> &Arc<Epoch> {
        &self.current.lanes
    }

    /// The sending end of a lane, as of now.
    pub fn current_send(&self, lane: Lane) -> &Arc<SendLane> {
        self.current.lanes.send(lane)
    }

    /// All epochs that may be opened, the oldest first: one or two.
    pub fn receivable(&self) -> impl Iterator<Item = &Arc<Epoch>> {
        let next = match &self.exchange {
            Exchange::Answered { next, .. } => Some(&next.lanes),
            Exchange::Idle { .. } | Exchange::Requested { .. } => None,
        };
        let previous = self.previous.as_ref().map(|(lanes, _)| lanes);
        previous
            .into_iter()
            .chain([&self.current.lanes])
            .chain(next)
    }

    /// The number of the receivable epoch that an index of ours belongs to.
    pub fn epoch_of(&self, receiver: ReceiverIndex) -> Option<u32> {
        self.receivable()
            .find(|epoch| epoch.number() & 1 == receiver.epoch_parity())
            .filter(|_| receiver.slot() == self.shape.local_slot)
            .map(|epoch| epoch.number())
    }

    /// Begins an exchange before it is due: now, or as soon as the previous epoch is forgotten,
    /// because the next one takes over its indices. The request follows from
    /// [`Self::handle_timeout`]. Does nothing while an exchange is under way.
    pub fn start(&mut self, now: Time) {
        let free = self.previous.as_ref().map_or(now, |(_, until)| *until);
        if let Exchange::Idle { due } = &mut self.exchange {
            *due = now.max(free).min(*due);
        }
    }

    /// Takes a part of the peer's request, and answers when it has all. The keys of the new epoch
    /// open from then on, see [`Self::receivable`]. Repeated, the part with the X25519 key gets
    /// the same answer; the other one none, so that a repeated request gets one.
    ///
    /// # Errors
    /// See [`RekeyError`]. The parts of a request that cannot be answered are forgotten.
    pub fn handle_request(
        &mut self,
        epoch: u32,
        part: OfferPart,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Result<Option<RekeyAnswer>, RekeyError> {
        self.expect_next(epoch)?;
        if matches!(part, OfferPart::KemKey(_)) && !self.shape.kem {
            return Err(RekeyError::Kem);
        }
        match &self.exchange {
            Exchange::Answered { offer, .. } if !offer.has(&part) => {
                return Err(RekeyError::Conflict(epoch));
            }
            Exchange::Answered { answer, .. } => {
                let is_first = matches!(part, OfferPart::PublicKey(_));
                return Ok(is_first.then(|| answer.clone()));
            }
            Exchange::Requested { .. } if self.shape.role == Role::Initiator => {
                return Err(RekeyError::Crossed);
            }
            Exchange::Requested { .. } | Exchange::Idle { .. } => {}
        }
        if !self.parts.add(part) {
            return Err(RekeyError::Conflict(epoch));
        }
        let Some(offer) = self.parts.take_offer(epoch, self.shape.kem) else {
            return Ok(None);
        };
        let (answer, agreed) = exchange::answer::<K>(&offer, rng)?;
        let next = self.step(&agreed, now);
        self.forget_parity_of(epoch);
        self.exchange = Exchange::Answered {
            offer,
            answer: answer.clone(),
            next,
        };
        Ok(Some(answer))
    }

    /// Takes the peer's answer to our request. From now on the new epoch seals.
    ///
    /// # Errors
    /// See [`RekeyError`]; the request goes on being repeated.
    pub fn handle_reply(
        &mut self,
        answer: &RekeyAnswer,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Result<(), RekeyError> {
        self.expect_next(answer.epoch)?;
        let Exchange::Requested { asking, .. } = &self.exchange else {
            return Err(RekeyError::Stale {
                asked: answer.epoch,
                current: self.current.lanes.number(),
            });
        };
        let next = self.step(&asking.complete(answer)?, now);
        self.transition_to_idle(next, now, rng);
        self.confirm_at = Some(now);
        Ok(())
    }

    /// Something that the peer sealed in this epoch was opened. Answers whether our lanes changed.
    ///
    /// Call it for each control message, before the message is handled, and for data as far as
    /// the receiving thread tells.
    pub fn opened(&mut self, epoch: u32, now: Time, rng: &mut impl RngCore) -> bool {
        if epoch == self.current.lanes.number() {
            self.confirm_at = None;
            return false;
        }
        let idle = Exchange::Idle { due: now };
        match std::mem::replace(&mut self.exchange, idle) {
            Exchange::Answered { next, .. } if next.lanes.number() == epoch => {
                self.transition_to_idle(next, now, rng);
                true
            }
            other @ (Exchange::Answered { .. }
            | Exchange::Idle { .. }
            | Exchange::Requested { .. }) => {
                self.exchange = other;
                false
            }
        }
    }

    /// When [`Self::handle_timeout`] has something to do; [`None`] once expired.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.expired {
            return None;
        }
        let exchange = match &self.exchange {
            Exchange::Idle { due } => Some(*due),
            Exchange::Requested { repeat_at, .. } => Some(*repeat_at),
            Exchange::Answered { .. } => None,
        };
        let previous = self.previous.as_ref().map(|(_, until)| *until);
        let stop = Some(self.stop_at());
        [exchange, previous, stop, self.confirm_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due, one thing per call; call it until it answers [`None`].
    pub fn handle_timeout(&mut self, now: Time, rng: &mut impl RngCore) -> Option<EpochAction> {
        if self.expired {
            return None;
        }
        if now >= self.stop_at() {
            self.expired = true;
            return Some(EpochAction::Expired);
        }
        if let Some((previous, _)) = self.previous.take_if(|(_, until)| now >= *until) {
            return Some(EpochAction::Forgot(previous.number()));
        }
        if self.confirm_at.is_some_and(|at| now >= at) {
            self.confirm_at = Some(now + REPEAT_EVERY);
            return Some(EpochAction::SendConfirmation);
        }
        self.request_if_due(now, rng)
    }

    fn request_if_due(&mut self, now: Time, rng: &mut impl RngCore) -> Option<EpochAction> {
        match &mut self.exchange {
            Exchange::Idle { due } if now >= *due => self.transition_to_requested(now, rng),
            Exchange::Requested { repeat_at, .. } if now >= *repeat_at => {
                *repeat_at = now + REPEAT_EVERY;
            }
            Exchange::Idle { .. } | Exchange::Requested { .. } | Exchange::Answered { .. } => {
                return None;
            }
        }
        let Exchange::Requested { asking, .. } = &self.exchange else {
            return None;
        };
        let epoch = self.current.chain.epoch().wrapping_add(1);
        Some(EpochAction::SendRequest(asking.offer(epoch)))
    }

    fn transition_to_requested(&mut self, now: Time, rng: &mut impl RngCore) {
        self.exchange = Exchange::Requested {
            asking: Asking::generate(self.shape.kem, rng),
            repeat_at: now + REPEAT_EVERY,
        };
    }

    fn transition_to_idle(&mut self, next: Held, now: Time, rng: &mut impl RngCore) {
        let old = std::mem::replace(&mut self.current, next);
        self.previous = Some((old.lanes, now + PREVIOUS_FOR));
        self.confirm_at = None;
        self.parts = Parts::default();
        self.exchange = Exchange::Idle {
            due: due(self.shape.role, now, rng),
        };
    }

    fn step(&self, agreed: &Agreed, now: Time) -> Held {
        let kem = agreed.kem.as_ref().map(|secret| &secret[..]);
        let chain = self.current.chain.next(&agreed.dh, kem, &agreed.transcript);
        Held::new(self.shape, chain, kem.is_some(), now)
    }

    /// The index of a new epoch is that of the epoch two before it.
    fn forget_parity_of(&mut self, epoch: u32) {
        self.previous
            .take_if(|(lanes, _)| lanes.number() & 1 == epoch & 1);
    }

    fn expect_next(&self, asked: u32) -> Result<(), RekeyError> {
        let current = self.current.lanes.number();
        if asked != current.wrapping_add(1) {
            return Err(RekeyError::Stale { asked, current });
        }
        Ok(())
    }

    fn stop_at(&self) -> Time {
        self.current.lanes.created() + STOP_AFTER
    }
}

impl<K> fmt::Debug for Epochs<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = match &self.exchange {
            Exchange::Idle { .. } => "idle",
            Exchange::Requested { .. } => "requested",
            Exchange::Answered { .. } => "answered",
        };
        f.debug_struct("Epochs")
            .field("shape", &self.shape)
            .field("current", &self.current.lanes.number())
            .field("exchange", &exchange)
            .finish_non_exhaustive()
    }
}

fn due(role: Role, now: Time, rng: &mut impl RngCore) -> Time {
    let after = match role {
        Role::Initiator => REKEY_AFTER,
        Role::Responder => BACKSTOP_AFTER,
    };
    let jitter = rng.next_u64() % JITTER.as_millis().try_into().unwrap_or(u64::MAX);
    now + after + Duration::from_millis(jitter)
}

#[cfg(test)]
mod tests;
