//! Who a peer is: two long-lived keys from one seed, and the signatures that tie them together.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use weave_wire::PeerId;
use zeroize::Zeroizing;

use crate::chain::Role;
use crate::kdf;
use crate::x25519::EphemeralKey;

/// Domain of the signature that opens a session.
const HELLO: &str = "weave/v1 hello";

/// Someone else wrote this, or it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the key")]
pub struct SignatureError;

/// The long-lived keys of this router, made from a stored seed.
///
/// The X25519 key takes part in handshakes, the Ed25519 key is the name of the peer and signs
/// what it publishes.
pub struct Identity {
    signing: SigningKey,
    agreement: Zeroizing<[u8; 32]>,
    agreement_public: [u8; 32],
}

impl Identity {
    /// The keys that belong to this seed, always the same.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = kdf::derive(seed, "weave/v1 identity ed25519", &[]);
        let agreement = kdf::derive(seed, "weave/v1 identity x25519", &[]);
        let agreement_public = EphemeralKey::from_bytes(&agreement).public();
        Self {
            signing: SigningKey::from_bytes(&signing),
            agreement,
            agreement_public,
        }
    }

    /// The name that other peers know this one by.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.signing.verifying_key().to_bytes())
    }

    /// The X25519 public key, which a handshake shows to the other side.
    pub const fn static_public(&self) -> [u8; 32] {
        self.agreement_public
    }

    pub(crate) const fn static_private(&self) -> &Zeroizing<[u8; 32]> {
        &self.agreement
    }

    /// Signs the domain followed by the message. No domain may be the beginning of another.
    pub fn sign(&self, domain: &str, message: &[u8]) -> [u8; 64] {
        self.signing
            .sign(&[domain.as_bytes(), message].concat())
            .to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("peer", &self.peer_id())
            .finish_non_exhaustive()
    }
}

/// Checks a signature of [`Identity::sign`], strictly: no weak keys, no second form of a
/// signature.
///
/// # Errors
/// [`SignatureError`] when the peer did not sign this message for this domain.
pub fn verify(
    peer: &PeerId,
    domain: &str,
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| SignatureError)?;
    let signed = [domain.as_bytes(), message].concat();
    key.verify_strict(&signed, &Signature::from_bytes(signature))
        .map_err(|_| SignatureError)
}

/// What the two `Hello` messages of one handshake are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloContext {
    /// Hash over the first two handshake messages; no other handshake has it.
    pub handshake_hash: [u8; 32],
    /// Role of the peer that says hello.
    pub role: Role,
    /// X25519 key that this peer showed in the handshake.
    pub static_public: [u8; 32],
}

impl HelloContext {
    fn message(&self) -> Vec<u8> {
        [
            &[self.role as u8][..],
            &self.handshake_hash,
            &self.static_public,
        ]
        .concat()
    }
}

/// Signs the binding of our name to one handshake.
pub fn sign_hello(identity: &Identity, context: &HelloContext) -> [u8; 64] {
    identity.sign(HELLO, &context.message())
}

/// Checks that a peer named itself in this very handshake, in this role, with this X25519 key.
///
/// # Errors
/// [`SignatureError`] when it did not: the session belongs to someone else.
pub fn verify_hello(
    peer: &PeerId,
    signature: &[u8; 64],
    handshake_hash: &[u8; 32],
    role: Role,
    remote_static: &[u8; 32],
) -> Result<(), SignatureError> {
    let context = HelloContext {
        handshake_hash: *handshake_hash,
        role,
        static_public: *remote_static,
    };
    verify(peer, HELLO, &context.message(), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_two_different_keys() {
        let (one, same) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[1; 32]));
        let other = Identity::from_seed(&[2; 32]);
        assert_eq!(one.peer_id(), same.peer_id());
        assert_eq!(one.static_public(), same.static_public());
        assert_ne!(one.peer_id(), other.peer_id());
        assert_ne!(one.static_public(), other.static_public());
        assert_ne!(one.peer_id().0, one.static_public());
    }

    #[test]
    fn a_signature_fits_one_peer_one_domain_and_one_message() {
        let (me, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let signature = me.sign("weave/v1 test", b"message");
        assert_eq!(
            verify(&me.peer_id(), "weave/v1 test", b"message", &signature),
            Ok(())
        );
        assert!(verify(&other.peer_id(), "weave/v1 test", b"message", &signature).is_err());
        assert!(verify(&me.peer_id(), "weave/v1 text", b"message", &signature).is_err());
        assert!(verify(&me.peer_id(), "weave/v1 test", b"massage", &signature).is_err());
    }

    #[test]
    fn weak_keys_and_second_forms_of_signatures_are_refused() {
        // The identity point as key, with R the identity and s zero: fits every message unless
        // the check is strict.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&identity);
        assert!(verify(&PeerId(identity), "d", b"m", &signature).is_err());
        // s + L in place of s.
        let me = Identity::from_seed(&[1; 32]);
        let mut signature = me.sign("d", b"m");
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert!(verify(&me.peer_id(), "d", b"m", &signature).is_err());
    }

    #[test]
    fn a_hello_is_bound_to_handshake_role_and_static_key() {
        let me = Identity::from_seed(&[1; 32]);
        let context = HelloContext {
            handshake_hash: [7; 32],
            role: Role::Initiator,
            static_public: me.static_public(),
        };
        let signature = sign_hello(&me, &context);
        let check = |hash: [u8; 32], role, key: [u8; 32]| {
            verify_hello(&me.peer_id(), &signature, &hash, role, &key)
        };
        assert_eq!(check([7; 32], Role::Initiator, me.static_public()), Ok(()));
        assert!(check([8; 32], Role::Initiator, me.static_public()).is_err());
        assert!(check([7; 32], Role::Responder, me.static_public()).is_err());
        assert!(check([7; 32], Role::Initiator, [9; 32]).is_err());
    }

    #[test]
    fn debug_output_names_the_peer_only() {
        let me = Identity::from_seed(&[1; 32]);
        assert_eq!(
            format!("{me:?}"),
            format!("Identity {{ peer: {:?}, .. }}", me.peer_id())
        );
    }
}
