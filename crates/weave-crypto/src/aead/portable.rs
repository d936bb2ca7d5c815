//! ChaCha20-Poly1305 in Rust, for builds without AWS-LC and to check AWS-LC against.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

use super::{OpenError, Suite, TAG_LEN};

pub(super) struct Cipher(ChaCha20Poly1305);

impl Cipher {
    /// The handshake offers only suites that [`Suite::is_available`] names.
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        match suite {
            Suite::ChaCha20Poly1305 => Self(ChaCha20Poly1305::new(key.into())),
            Suite::Aes256Gcm => unreachable!("this build never agrees on AES"),
        }
    }

    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let Ok(tag) = self.0.encrypt_in_place_detached(&nonce.into(), aad, buf) else {
            unreachable!("no datagram reaches the length limit of the cipher")
        };
        tag.into()
    }

    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        let Some((ciphertext, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(OpenError);
        };
        let tag = *tag;
        self.0
            .decrypt_in_place_detached(&nonce.into(), aad, ciphertext, (&tag).into())
            .map_err(|_| OpenError)?;
        Ok(ciphertext.len())
    }
}
