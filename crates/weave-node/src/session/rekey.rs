//! Exchanges of keys as control messages. When there is one, and what comes of it, is decided by
//! [`Epochs`](weave_crypto::Epochs).
//!
//! A request with an ML-KEM key is sent as two messages, the X25519 key first. What does not fit
//! is dropped and counted; the session goes on.

use weave_crypto::{OfferPart, RekeyAnswer, RekeyError, RekeyOffer};
use weave_wire::Time;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{RekeyReply, RekeyRequest};

use super::{SessionAction, SessionDrop, Sessions};

impl Sessions {
    /// Asks the peer for an exchange.
    pub(super) fn send_rekey_request(&mut self, slot: u32, offer: RekeyOffer, now: Time) {
        let epoch = offer.epoch;
        for part in offer.into_parts() {
            let (public_key, kem_key) = match part {
                OfferPart::PublicKey(key) => (key.to_vec(), Vec::new()),
                OfferPart::KemKey(key) => (Vec::new(), key.to_vec()),
            };
            let request = RekeyRequest {
                epoch,
                public_key,
                kem_key,
            };
            self.send_in(slot, Body::RekeyRequest(request), now);
        }
    }

    /// Takes a part of the peer's request, and answers the last one.
    pub(super) fn handle_rekey_request(&mut self, slot: u32, request: &RekeyRequest, now: Time) {
        let (Some(session), Some(part)) = (self.sessions.get_mut(&slot), offer_part(request))
        else {
            return self.drops.count(SessionDrop::BadRekey);
        };
        let taken = session
            .keys
            .handle_request(request.epoch, part, now, &mut self.rng);
        match taken {
            Ok(None) => {}
            Ok(Some(answer)) => {
                self.actions.push_back(SessionAction::FibDirty);
                let ciphertext = answer.kem_ciphertext.as_ref();
                let reply = RekeyReply {
                    epoch: answer.epoch,
                    public_key: answer.public_key.to_vec(),
                    kem_ciphertext: ciphertext.map(|bytes| bytes.to_vec()).unwrap_or_default(),
                };
                self.send_in(slot, Body::RekeyReply(reply), now);
            }
            Err(error) => self.drop_rekey(&error),
        }
    }

    /// Takes the answer to our request.
    pub(super) fn handle_rekey_reply(&mut self, slot: u32, reply: &RekeyReply, now: Time) {
        let (Some(session), Some(answer)) = (self.sessions.get_mut(&slot), answer(reply)) else {
            return self.drops.count(SessionDrop::BadRekey);
        };
        match session.keys.handle_reply(&answer, now, &mut self.rng) {
            Ok(()) => self.actions.push_back(SessionAction::FibDirty),
            Err(error) => self.drop_rekey(&error),
        }
    }

    fn drop_rekey(&mut self, error: &RekeyError) {
        tracing::debug!(%error, "rekey message dropped");
        self.drops.count(SessionDrop::BadRekey);
    }
}

/// What a request says; nothing when a length is wrong.
fn offer_part(request: &RekeyRequest) -> Option<OfferPart> {
    if request.kem_key.is_empty() {
        let key = request.public_key.as_slice().try_into().ok()?;
        return Some(OfferPart::PublicKey(key));
    }
    let key = request.kem_key.as_slice().try_into().ok()?;
    Some(OfferPart::KemKey(Box::new(key)))
}

/// What a reply says; nothing when a length is wrong.
fn answer(reply: &RekeyReply) -> Option<RekeyAnswer> {
    let kem_ciphertext = match reply.kem_ciphertext.as_slice() {
        [] => None,
        bytes => Some(Box::new(bytes.try_into().ok()?)),
    };
    Some(RekeyAnswer {
        epoch: reply.epoch,
        public_key: reply.public_key.as_slice().try_into().ok()?,
        kem_ciphertext,
    })
}
