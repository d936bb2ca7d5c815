//! A cipher that can be left out, for builds that count what the rest costs.
//!
//! Only with `--cfg weave_null_cipher`: a cfg of the compiler and no feature, so that no
//! dependency can turn it on. The binary of the router refuses to be built with it.

use super::{OpenError, Real, Suite, TAG_LEN};

pub(super) enum Cipher {
    Real(Real),
    /// Leaves the bytes as they are, and takes any tag.
    Null,
}

impl Cipher {
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self::Real(Real::new(suite, key))
    }

    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        match self {
            Self::Real(cipher) => cipher.seal(nonce, aad, buf),
            Self::Null => [0; TAG_LEN],
        }
    }

    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        match self {
            Self::Real(cipher) => cipher.open(nonce, aad, buf),
            Self::Null => buf.len().checked_sub(TAG_LEN).ok_or(OpenError),
        }
    }
}
