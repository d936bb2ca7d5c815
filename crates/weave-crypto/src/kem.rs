//! ML-KEM-768 (FIPS 203), drawing only from the generator that is passed in.

use std::fmt;

use ml_kem::array::Array;
use ml_kem::{Decapsulate as _, DecapsulationKey, EncapsulationKey, KeyExport as _, MlKem768};
use rand_core::RngCore;
use zeroize::{Zeroize as _, Zeroizing};

/// Length of an encapsulation key in bytes.
const KEY_LEN: usize = 1184;
/// Length of a ciphertext in bytes.
const CIPHERTEXT_LEN: usize = 1088;

/// An encapsulation key, encoded: what its owner sends.
pub type KemKey = Box<[u8; KEY_LEN]>;
/// A ciphertext: what the other side answers.
pub type KemCiphertext = Box<[u8; CIPHERTEXT_LEN]>;

/// What both sides arrive at.
type Secret = Zeroizing<[u8; 32]>;

/// An encapsulation key with a coefficient out of range: not one that an honest peer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent an invalid ML-KEM key; it is broken or hostile")]
pub struct InvalidKemKey;

/// The secret half of a key pair, erased when dropped.
pub(crate) struct KemSecretKey(DecapsulationKey<MlKem768>);

impl KemSecretKey {
    /// A fresh key pair.
    pub(crate) fn generate(rng: &mut impl RngCore) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        rng.fill_bytes(seed.as_mut());
        Self(DecapsulationKey::from_seed(Array(*seed)))
    }

    /// The other half.
    pub(crate) fn public(&self) -> KemKey {
        Box::new(self.0.encapsulation_key().to_bytes().0)
    }

    /// The secret in a ciphertext. One that was not made for this key gives a secret that nobody
    /// else knows: FIPS 203 rejects implicitly.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> Secret {
        erased(self.0.decapsulate(&Array(*ciphertext)))
    }
}

impl fmt::Debug for KemSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KemSecretKey(..)")
    }
}

/// A fresh secret for the owner of `key`, and the ciphertext that tells it.
///
/// # Errors
/// [`InvalidKemKey`] when the key does not pass the check of FIPS 203, section 7.2.
pub(crate) fn encapsulate(
    key: &[u8; KEY_LEN],
    rng: &mut impl RngCore,
) -> Result<(KemCiphertext, Secret), InvalidKemKey> {
    let key = EncapsulationKey::<MlKem768>::new(&Array(*key)).map_err(|_| InvalidKemKey)?;
    let mut message = Zeroizing::new([0; 32]);
    rng.fill_bytes(message.as_mut());
    let (ciphertext, secret) = key.encapsulate_deterministic(&Array(*message));
    Ok((Box::new(ciphertext.0), erased(secret)))
}

fn erased(mut secret: Array<u8, ml_kem::array::sizes::U32>) -> Secret {
    let kept = Zeroizing::new(secret.0);
    secret.zeroize();
    kept
}

#[cfg(test)]
mod tests;
