//! CPace, the balanced password exchange: suite CPACE-RISTR255-SHA512 of
//! draft-irtf-cfrg-cpace-21, in the initiator-responder setting.
//!
//! Each side sends one share, an element of a prime-order group that says nothing about the
//! password. Both arrive at the same key only if their passwords are the same, and who took part
//! with a wrong guess holds nothing against which he could test another one.

use std::fmt;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// `G.DSI` of section 8.3.
const DSI: &[u8] = b"CPaceRistretto255";
/// `G.DSI || "_ISK"` of section 7.2.
const DSI_ISK: &[u8] = b"CPaceRistretto255_ISK";
/// Input block of SHA-512, in bytes.
const HASH_BLOCK: usize = 128;

/// Associated data of the two sides.
const AD_INITIATOR: &[u8] = b"initiator";
const AD_RESPONDER: &[u8] = b"responder";

/// Length of an encoded share, in bytes.
pub(crate) const SHARE_LEN: usize = 32;

/// The other side sent no element of the group, or the neutral one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidShare;

/// A share that was checked: an element of the group other than the neutral one.
#[derive(Clone, Copy)]
pub(crate) struct Share(RistrettoPoint);

impl Share {
    pub(crate) fn decode(bytes: &[u8; SHARE_LEN]) -> Result<Self, InvalidShare> {
        let point = CompressedRistretto(*bytes)
            .decompress()
            .ok_or(InvalidShare)?;
        if point.is_identity() {
            return Err(InvalidShare);
        }
        Ok(Self(point))
    }

    fn encode(&self) -> [u8; SHARE_LEN] {
        self.0.compress().to_bytes()
    }
}

/// Our half of one exchange.
pub(crate) struct Half {
    scalar: Scalar,
    share: Share,
    sid: [u8; 16],
}

impl Half {
    /// Section 7.2: hashes password, channel and session to a generator, and multiplies it.
    /// `random` is masked to a scalar as section 8.3 recommends.
    pub(crate) fn new(
        password: &[u8; 32],
        channel: &[u8],
        sid: [u8; 16],
        random: &[u8; 32],
    ) -> Self {
        let scalar = sample_scalar(random);
        let generator = Zeroizing::new(calculate_generator(password, channel, &sid));
        Self {
            scalar,
            share: Share(*generator * scalar),
            sid,
        }
    }

    pub(crate) fn share(&self) -> [u8; SHARE_LEN] {
        self.share.encode()
    }

    /// The key, for the side that sent the first share.
    pub(crate) fn finish_initiator(&self, theirs: &Share) -> Result<Isk, InvalidShare> {
        let secret = scalar_mult_vfy(&self.scalar, theirs)?;
        Ok(isk_of(&self.sid, &secret, &self.share(), &theirs.encode()))
    }

    /// The key, for the side that answered.
    pub(crate) fn finish_responder(&self, theirs: &Share) -> Result<Isk, InvalidShare> {
        let secret = scalar_mult_vfy(&self.scalar, theirs)?;
        Ok(isk_of(&self.sid, &secret, &theirs.encode(), &self.share()))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.scalar.zeroize();
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Half(..)")
    }
}

/// The intermediate session key.
pub(crate) type Isk = Zeroizing<[u8; 64]>;

/// Clears the bits above the size of the group.
pub(crate) fn sample_scalar(random: &[u8; 32]) -> Scalar {
    let mut bytes = Zeroizing::new(*random);
    bytes[31] &= 0x0f;
    Scalar::from_bytes_mod_order(*bytes)
}

pub(crate) fn calculate_generator(password: &[u8], channel: &[u8], sid: &[u8]) -> RistrettoPoint {
    let string = Zeroizing::new(generator_string(password, channel, sid));
    let hash: Zeroizing<[u8; 64]> = Zeroizing::new(Sha512::digest(string.as_slice()).into());
    RistrettoPoint::from_uniform_bytes(&hash)
}

/// Section 8.1: the padding keeps password and session in different blocks of the hash.
fn generator_string(password: &[u8], channel: &[u8], sid: &[u8]) -> Vec<u8> {
    let front =
        length_prefix(password).len() + password.len() + length_prefix(DSI).len() + DSI.len();
    let padding = vec![0; HASH_BLOCK.saturating_sub(front + 1)];
    lv_cat(&[DSI, password, &padding, channel, sid])
}

/// The shared point. Neutral only for a scalar of zero, which nobody draws; checked all the same,
/// as the draft demands.
fn scalar_mult_vfy(scalar: &Scalar, theirs: &Share) -> Result<Zeroizing<[u8; 32]>, InvalidShare> {
    let product = Zeroizing::new((theirs.0 * scalar).compress().to_bytes());
    let neutral = RistrettoPoint::identity().compress().to_bytes();
    if bool::from(product.as_slice().ct_eq(&neutral)) {
        return Err(InvalidShare);
    }
    Ok(product)
}

/// The key of an exchange in which the initiator sent `ya` and the responder `yb`.
pub(crate) fn isk_of(sid: &[u8; 16], secret: &[u8; 32], ya: &[u8], yb: &[u8]) -> Isk {
    isk(
        sid,
        secret,
        &transcript_ir(ya, AD_INITIATOR, yb, AD_RESPONDER),
    )
}

fn transcript_ir(ya: &[u8], ada: &[u8], yb: &[u8], adb: &[u8]) -> Vec<u8> {
    lv_cat(&[ya, ada, yb, adb])
}

fn isk(sid: &[u8], secret: &[u8; 32], transcript: &[u8]) -> Isk {
    let mut hash = Sha512::new();
    hash.update(Zeroizing::new(lv_cat(&[DSI_ISK, sid, secret])).as_slice());
    hash.update(transcript);
    Zeroizing::new(hash.finalize().into())
}

fn lv_cat(parts: &[&[u8]]) -> Vec<u8> {
    let room = parts.iter().map(|part| part.len() + 10).sum();
    let mut joined = Vec::with_capacity(room);
    for part in parts {
        joined.extend_from_slice(&length_prefix(part));
        joined.extend_from_slice(part);
    }
    joined
}

/// The length of a part in LEB128.
fn length_prefix(part: &[u8]) -> Vec<u8> {
    let mut length = part.len();
    let mut prefix = Vec::new();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            prefix.push(low & 0x7f);
            return prefix;
        }
        prefix.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
