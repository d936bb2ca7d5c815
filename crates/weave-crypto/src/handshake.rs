//! The handshake: three datagrams after which two peers that know the same password share a
//! secret, and have proved their long-lived keys to each other.
//!
//! ```text
//!     dialler                                            listener
//!     initiate ──────── Init: e, share ────────────────► respond
//!     ExpectReply                                        ExpectFinish
//!     handle_reply ◄─── Reply: e, ee, s, es, share ─────
//!     ExpectConfirm                                      handle_finish
//!          │      ───── Finish: s, se, psk, hello ─────► Completed
//!          ▼
//!     into_completed, once something of the listener was opened in epoch 0
//! ```
//!
//! Owns the bytes of these datagrams (`proto/wire.md`), not their timing: sending again, giving
//! up and choosing between two handshakes is the session's. Invariants: no datagram before the
//! third depends on the password in a way that a guess can be tested against; everything offered,
//! chosen or sent in clear is bound by the transcript; a state is left as it was by whatever does
//! not belong to it.

use std::sync::Arc;

use weave_wire::{DatagramError, Versions};
use zeroize::Zeroizing;

use crate::aead::Suite;
use crate::chain::{Chain, Role};
use crate::cpace::Isk;
use crate::identity::{HelloContext, Identity};
use crate::kdf;
use crate::noise;
use crate::passwords::Passwords;

mod initiator;
mod message;
mod reject;
mod responder;

pub use initiator::{ExpectConfirm, ExpectReply, initiate, initiate_with};
pub use message::{
    COOKIE_REPLY_LEN, INIT_LEN, MAX_HELLO_LEN, REJECT_LEN, REPLY_LEN, initiator_ephemeral,
    message_len,
};
pub(crate) use message::{Init, MAC1_RANGE, MAC2_RANGE, header, mesh_key};
pub use reject::RejectReason;
pub use responder::{ExpectFinish, respond};

/// What this peer brings to every handshake.
#[derive(Debug, Clone)]
pub struct HandshakeConfig {
    /// Our long-lived keys.
    pub identity: Arc<Identity>,
    /// The passwords of the mesh: any is accepted, one is dialled with.
    pub passwords: Passwords,
    /// Name of the mesh. Meshes of different names do not hear each other.
    pub mesh_name: String,
    /// Whether this processor does AES-256-GCM faster. Used only if the other side says so too.
    pub prefer_aes: bool,
    /// Protocol versions spoken here.
    pub versions: Versions,
}

impl HandshakeConfig {
    /// The suites to offer, as bits.
    fn offered_suites(&self) -> u8 {
        let aes = self.prefer_aes && Suite::Aes256Gcm.is_available();
        let aes = if aes { Suite::Aes256Gcm.bit() } else { 0 };
        Suite::ChaCha20Poly1305.bit() | aes
    }

    /// The best of the suites that were offered.
    fn choose_suite(&self, offered: u8) -> Option<Suite> {
        let common = self.offered_suites() & offered;
        [Suite::Aes256Gcm, Suite::ChaCha20Poly1305]
            .into_iter()
            .find(|suite| common & suite.bit() != 0)
    }

    /// What both sides must agree on before anything else: goes into the transcript, and into
    /// the generator of the password exchange.
    fn context(&self, clear: &[u8]) -> Vec<u8> {
        kdf::join("weave/v1 handshake", &[self.mesh_name.as_bytes(), clear])
    }
}

/// What two peers share after the handshake.
#[derive(Debug)]
pub struct Completed {
    /// The secret of epoch 0.
    pub chain: Chain,
    /// Our role.
    pub role: Role,
    /// The cipher that was chosen.
    pub suite: Suite,
    /// The protocol version that was chosen.
    pub version: u8,
    /// Generation of the password that both have shown to know.
    pub generation: u16,
    /// X25519 key of the other side.
    pub remote_static: [u8; 32],
    /// Slot under which datagrams reach the other side.
    pub remote_slot: u32,
    /// Slot under which datagrams reach us.
    pub local_slot: u32,
    /// Hash over the first two messages, to which both `Hello`s are bound.
    pub handshake_hash: [u8; 32],
    /// For the listener, the bytes of the dialler's `Hello`; empty for the dialler.
    pub payload: Vec<u8>,
}

impl Completed {
    /// What our own `Hello` signs; `static_public` is our X25519 key.
    pub const fn hello_context(&self, static_public: [u8; 32]) -> HelloContext {
        HelloContext {
            handshake_hash: self.handshake_hash,
            role: self.role,
            static_public,
        }
    }
}

/// A state, given back with what was wrong with a datagram.
pub type GivenBack<S> = Box<(S, HandshakeError)>;

/// Why a datagram did not advance a handshake. The state it was given to is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Not a handshake datagram, or of an unknown shape.
    #[error("malformed handshake datagram: {0}")]
    Malformed(&'static str),
    /// The header does not parse.
    #[error(transparent)]
    Header(#[from] DatagramError),
    /// The sender does not know the name of this mesh.
    #[error("a handshake of another mesh")]
    OtherMesh,
    /// Belongs to no handshake, or to another one.
    #[error("belongs to another handshake")]
    OtherHandshake,
    /// The peers cannot talk to each other. The reply tells the dialler why.
    #[error("refused: {reason}")]
    Refused {
        /// What does not fit.
        reason: RejectReason,
        /// A datagram to send back.
        reply: Vec<u8>,
    },
    /// Does not decrypt. In the third message: a wrong password, or a forgery.
    #[error("does not decrypt: a wrong password, or not from the peer of this handshake")]
    Authentication,
    /// A public key or share of low order, or none at all.
    #[error("the peer sent an invalid public key; it is broken or hostile")]
    InvalidKey,
    /// Our own answer to ourselves: the address is ours, or somebody sent our message back.
    #[error("answered by ourself")]
    Ourself,
    /// The peer chose what was not offered.
    #[error("the peer chose a version or suite that was not offered")]
    NotOffered,
    /// Our own `Hello` is over [`MAX_HELLO_LEN`]. A bug of the caller.
    #[error("a Hello of {0} bytes is too long; the limit is {MAX_HELLO_LEN}")]
    HelloTooLong(usize),
}

impl HandshakeError {
    /// The datagram to send back, if any.
    pub fn reply(&self) -> Option<&[u8]> {
        match self {
            Self::Refused { reply, .. } => Some(reply),
            Self::Malformed(_)
            | Self::Header(_)
            | Self::OtherMesh
            | Self::OtherHandshake
            | Self::Authentication
            | Self::InvalidKey
            | Self::Ourself
            | Self::NotOffered
            | Self::HelloTooLong(_) => None,
        }
    }

    fn from_noise(error: snow::Error) -> Self {
        // snow's errors are not ours to match without a wildcard.
        if error == snow::Error::Dh {
            Self::InvalidKey
        } else {
            Self::Authentication
        }
    }
}

/// The key that goes into the Noise pattern.
fn psk(isk: &Isk) -> Zeroizing<[u8; 32]> {
    let ([key, rest], []) = isk.as_chunks() else {
        unreachable!("64 bytes are twice 32");
    };
    kdf::derive(key, "weave/v1 psk", &[rest])
}

/// The secret of epoch 0, from both keys that Noise ends with, and all that was said.
fn first_chain(state: &mut snow::HandshakeState) -> Chain {
    let (one, two) = state.dangerously_get_raw_split();
    let (one, two) = (Zeroizing::new(one), Zeroizing::new(two));
    let hash = noise::transcript_hash(state);
    Chain::first(&kdf::derive(
        &one,
        "weave/v1 chain",
        &[two.as_slice(), &hash],
    ))
}

#[cfg(test)]
mod tests;
