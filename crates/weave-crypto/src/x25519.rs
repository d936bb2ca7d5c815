//! X25519 with keys made from the generator that is passed in, and without weak results.

use std::fmt;

use rand_core::RngCore;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The other side's public key is of low order: the secret would be the same for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent a public key of low order; it is broken or hostile")]
pub struct WeakKey;

/// A key for one agreement, erased when dropped.
pub struct EphemeralKey(StaticSecret);

impl EphemeralKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl RngCore) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self::from_bytes(&bytes)
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// What the other side needs to know.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The secret that both sides arrive at.
    ///
    /// # Errors
    /// [`WeakKey`] when the secret would be all zero (RFC 7748, section 6.1).
    pub fn agree(&self, their_public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, WeakKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*their_public));
        if !shared.was_contributory() {
            return Err(WeakKey);
        }
        Ok(Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for EphemeralKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EphemeralKey(..)")
    }
}

#[cfg(test)]
mod tests;
