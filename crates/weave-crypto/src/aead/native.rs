//! Both ciphers by AWS-LC, the fast path.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{OpenError, Suite, TAG_LEN};

pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        let Ok(key) = UnboundKey::new(algorithm, key) else {
            unreachable!("32 bytes are a key of either algorithm")
        };
        Self(LessSafeKey::new(key))
    }

    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let Ok(tag) = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), buf)
        else {
            unreachable!("no datagram reaches the length limit of the cipher")
        };
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        buf: &mut [u8],
    ) -> Result<usize, OpenError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        match self.0.open_in_place(nonce, Aad::from(aad), buf) {
            Ok(plaintext) => Ok(plaintext.len()),
            Err(_) => Err(OpenError),
        }
    }
}
