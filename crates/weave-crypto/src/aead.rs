//! Authenticated encryption under one key: the only two ciphers there are. A null cipher exists in
//! no build that carries traffic: only under `--cfg weave_null_cipher`, to count what the rest of
//! the data path costs, and `weave` does not compile with it.
//!
//! Owns the mapping from counter to nonce. Does not count: [`crate::SendLane`] makes sure that no
//! counter is used twice, [`crate::ReplayWindow`] that none is accepted twice.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "aws-lc")]
mod native;
#[cfg(weave_null_cipher)]
mod null;
#[cfg(any(test, not(feature = "aws-lc")))]
mod portable;

#[cfg(feature = "aws-lc")]
use native::Cipher as Real;
#[cfg(not(feature = "aws-lc"))]
use portable::Cipher as Real;

#[cfg(not(weave_null_cipher))]
use Real as Cipher;
#[cfg(weave_null_cipher)]
use null::Cipher;

/// Length of the tag behind every sealed payload, in bytes.
const TAG_LEN: usize = weave_wire::TAG_LEN;

/// A cipher that two peers may agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20-Poly1305, RFC 8439: fast on every processor.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM: faster where the processor has instructions for it.
    Aes256Gcm = 2,
}

impl Suite {
    /// Whether this build can use the suite.
    pub const fn is_available(self) -> bool {
        match self {
            Self::ChaCha20Poly1305 => true,
            Self::Aes256Gcm => cfg!(feature = "aws-lc"),
        }
    }

    /// The bit of this suite in an offer.
    pub(crate) const fn bit(self) -> u8 {
        self as u8
    }

    pub(crate) const fn from_bit(bit: u8) -> Option<Self> {
        match bit {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Self::Aes256Gcm => "AES-256-GCM",
        })
    }
}

/// The bytes did not come from the holder of the key, or were changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not fit: changed on the way, or sealed under another key")]
pub struct OpenError;

/// Seals under one key. Who holds it must never repeat a counter; see [`crate::SendLane`].
pub struct SealKey(Cipher);

impl SealKey {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self(Cipher::new(suite, key))
    }

    /// Seals nothing: for counting what is around the cipher.
    #[cfg(weave_null_cipher)]
    pub const fn null() -> Self {
        Self(Cipher::Null)
    }

    /// Encrypts `buf` where it lies and answers the tag, which covers `aad` too.
    ///
    /// A buffer beyond the limit of the cipher (64 GiB) is a bug of the caller.
    pub fn seal_in_place(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        self.0.seal(nonce(counter), aad, buf)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// Opens what the other side sealed. Cheap to clone: clones share the key.
#[derive(Clone)]
pub struct OpenKey(Arc<Cipher>);

impl OpenKey {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self(Arc::new(Cipher::new(suite, key)))
    }

    /// Opens whatever comes: for counting what is around the cipher.
    #[cfg(weave_null_cipher)]
    pub fn null() -> Self {
        Self(Arc::new(Cipher::Null))
    }

    /// Decrypts where it lies. `buf` is ciphertext and tag; the answer is the length of the
    /// plaintext at its start.
    ///
    /// # Errors
    /// [`OpenError`] when the tag does not fit; `buf` then holds nothing meaningful.
    pub fn open_in_place(
        &self,
        counter: u64,
        aad: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        if buf.len() < TAG_LEN {
            return Err(OpenError);
        }
        self.0.open(nonce(counter), aad, buf)
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenKey(..)")
    }
}

/// Four zero bytes, then the counter, least significant byte first.
const fn nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
