//! Cryptography of the mesh: passwords, the handshake, session keys and their epochs.
//!
//! **Unaudited.** The handshake is a Noise pattern whose pre-shared key comes from the password
//! exchange CPace (`docs/adr/0002-handshake.md`); both are published, their combination here was
//! reviewed by nobody outside this project.
//!
//! Owns every secret of a session and every byte of the handshake datagrams (`proto/wire.md`).
//! Does no input or output, reads no clock and no system randomness: time and generator are
//! passed in. Invariants: no counter is used twice under a key; nothing sealed under a password
//! leaves a peer before the other side has committed to one guess of it; bad input gives the
//! state back, unchanged; secrets are erased when dropped and never shown by `Debug`.

#![forbid(unsafe_code)]

mod aead;
mod chain;
mod cookie;
mod cpace;
mod epochs;
mod handshake;
mod identity;
mod kdf;
mod kem;
mod lane;
mod noise;
mod password;
mod passwords;
mod replay;
#[cfg(test)]
mod testing;
mod x25519;

pub use aead::{OpenError, OpenKey, SealKey, Suite};
pub use chain::{Chain, Role};
pub use cookie::{Admission, Cookie, CookieJar};
pub use epochs::{
    Epoch, EpochAction, Epochs, KeyAgreement, OfferPart, RekeyAnswer, RekeyError, RekeyOffer,
    SessionShape,
};
pub use handshake::{
    COOKIE_REPLY_LEN, Completed, ExpectConfirm, ExpectFinish, ExpectReply, GivenBack,
    HandshakeConfig, HandshakeError, INIT_LEN, MAX_HELLO_LEN, REJECT_LEN, REPLY_LEN, RejectReason,
    initiate, initiate_with, initiator_ephemeral, message_len, respond,
};
pub use identity::{HelloContext, Identity, SignatureError, sign_hello, verify, verify_hello};
pub use kem::{InvalidKemKey, KemCiphertext, KemKey};
pub use lane::{LaneClosed, SendLane};
pub use password::{StretchError, StretchedPassword};
pub use passwords::{Generations, Passwords};
pub use replay::ReplayWindow;
pub use x25519::{EphemeralKey, WeakKey};
