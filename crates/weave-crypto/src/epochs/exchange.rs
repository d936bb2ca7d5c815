//! One key exchange: what the two sides send each other, and the secrets they arrive at.
//!
//! A request has a KEM key exactly if its session has one in every exchange; it then travels in
//! two parts, for both together are longer than a control message. Owns no epoch and no timer.

use rand_core::RngCore;
use zeroize::Zeroizing;

use super::RekeyError;
use crate::kem::{self, KemCiphertext, KemKey, KemSecretKey};
use crate::x25519::{EphemeralKey, WeakKey};

/// How two peers agree on a fresh secret. [`EphemeralKey`] in every real session; tests that need
/// millions of agreements bring a cheaper one.
pub trait KeyAgreement: Sized {
    /// A fresh key.
    fn generate(rng: &mut impl RngCore) -> Self;
    /// What the other side needs to know.
    fn public(&self) -> [u8; 32];
    /// The secret that both sides arrive at.
    ///
    /// # Errors
    /// [`WeakKey`] when the other side's key is not acceptable.
    fn agree(&self, their_public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey>;
}

impl KeyAgreement for EphemeralKey {
    fn generate(rng: &mut impl RngCore) -> Self {
        Self::generate(rng)
    }

    fn public(&self) -> [u8; 32] {
        Self::public(self)
    }

    fn agree(&self, their_public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        Self::agree(self, their_public)
    }
}

/// A request for an exchange: content of one `RekeyRequest`, or of two where it has a KEM key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RekeyOffer {
    /// The epoch that is agreed on.
    pub epoch: u32,
    /// The asking side's fresh X25519 key.
    pub public_key: [u8; 32],
    /// Its fresh ML-KEM-768 key.
    pub kem_key: Option<KemKey>,
}

/// Content of one `RekeyRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferPart {
    /// X25519 key.
    PublicKey([u8; 32]),
    /// ML-KEM-768 key.
    KemKey(KemKey),
}

/// The answer to an offer: content of a `RekeyReply`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RekeyAnswer {
    /// The epoch that is agreed on.
    pub epoch: u32,
    /// The answering side's fresh X25519 key.
    pub public_key: [u8; 32],
    /// The secret made for the KEM key of the offer, if it has one.
    pub kem_ciphertext: Option<KemCiphertext>,
}

impl RekeyOffer {
    /// What the offer is sent as, one message each.
    pub fn into_parts(self) -> impl Iterator<Item = OfferPart> {
        let kem_key = self.kem_key.map(OfferPart::KemKey);
        [OfferPart::PublicKey(self.public_key)]
            .into_iter()
            .chain(kem_key)
    }

    /// Whether `part` is one of this offer.
    pub(super) fn has(&self, part: &OfferPart) -> bool {
        match part {
            OfferPart::PublicKey(key) => *key == self.public_key,
            OfferPart::KemKey(key) => Some(key) == self.kem_key.as_ref(),
        }
    }
}

/// The parts of an offer that have arrived.
#[derive(Debug, Default)]
pub(super) struct Parts {
    public_key: Option<[u8; 32]>,
    kem_key: Option<KemKey>,
}

impl Parts {
    /// Adds a part. Returns false when there is another one in its place.
    pub(super) fn add(&mut self, part: OfferPart) -> bool {
        match part {
            OfferPart::PublicKey(key) => *self.public_key.get_or_insert(key) == key,
            OfferPart::KemKey(key) => match &self.kem_key {
                Some(held) => *held == key,
                None => {
                    self.kem_key = Some(key);
                    true
                }
            },
        }
    }

    /// The offer, once all its parts are there; they are then taken out.
    pub(super) fn take_offer(&mut self, epoch: u32, kem: bool) -> Option<RekeyOffer> {
        let public_key = self.public_key?;
        if kem && self.kem_key.is_none() {
            return None;
        }
        let kem_key = std::mem::take(self).kem_key;
        Some(RekeyOffer {
            epoch,
            public_key,
            kem_key,
        })
    }
}

/// What both sides arrive at.
pub(super) struct Agreed {
    pub(super) dh: Zeroizing<[u8; 32]>,
    pub(super) kem: Option<Zeroizing<[u8; 32]>>,
    /// All that was sent.
    pub(super) transcript: Vec<u8>,
}

/// The secrets behind an offer of ours.
pub(super) struct Asking<K> {
    key: K,
    kem: Option<KemSecretKey>,
}

impl<K: KeyAgreement> Asking<K> {
    /// Fresh ones.
    pub(super) fn generate(kem: bool, rng: &mut impl RngCore) -> Self {
        Self {
            key: K::generate(rng),
            kem: kem.then(|| KemSecretKey::generate(rng)),
        }
    }

    /// The offer; the same every time.
    pub(super) fn offer(&self, epoch: u32) -> RekeyOffer {
        RekeyOffer {
            epoch,
            public_key: self.key.public(),
            kem_key: self.kem.as_ref().map(KemSecretKey::public),
        }
    }

    /// What the answer to our offer leads to.
    pub(super) fn complete(&self, answer: &RekeyAnswer) -> Result<Agreed, RekeyError> {
        let dh = self.key.agree(&answer.public_key)?;
        let kem = match (&self.kem, &answer.kem_ciphertext) {
            (Some(key), Some(ciphertext)) => Some(key.decapsulate(ciphertext)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(RekeyError::Kem),
        };
        let transcript = transcript(&self.offer(answer.epoch), answer);
        Ok(Agreed {
            dh,
            kem,
            transcript,
        })
    }
}

/// Answers an offer of the peer.
pub(super) fn answer<K: KeyAgreement>(
    offer: &RekeyOffer,
    rng: &mut impl RngCore,
) -> Result<(RekeyAnswer, Agreed), RekeyError> {
    let key = K::generate(rng);
    let dh = key.agree(&offer.public_key)?;
    let kem = offer.kem_key.as_ref();
    let kem = kem.map(|key| kem::encapsulate(key, rng)).transpose()?;
    let (kem_ciphertext, kem) = kem.unzip();
    let answer = RekeyAnswer {
        epoch: offer.epoch,
        public_key: key.public(),
        kem_ciphertext,
    };
    let transcript = transcript(offer, &answer);
    Ok((
        answer,
        Agreed {
            dh,
            kem,
            transcript,
        },
    ))
}

fn transcript(offer: &RekeyOffer, answer: &RekeyAnswer) -> Vec<u8> {
    let mut transcript = [offer.public_key, answer.public_key].concat();
    if let (Some(key), Some(ciphertext)) = (&offer.kem_key, &answer.kem_ciphertext) {
        transcript.extend_from_slice(&key[..]);
        transcript.extend_from_slice(&ciphertext[..]);
    }
    transcript
}
