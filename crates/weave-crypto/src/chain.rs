//! The chain of secrets of a session: one per key epoch, each made from the one before and a
//! fresh key agreement, so that a stolen one opens neither older nor newer epochs.

use std::fmt;

use weave_wire::Lane;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::aead::{OpenKey, SealKey, Suite};
use crate::kdf;

/// Which side of the handshake a peer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Sent the first message.
    Initiator = 0,
    /// Answered it.
    Responder = 1,
}

impl Role {
    /// The other side.
    pub const fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// The secret of one key epoch of a session.
///
/// Making the same lane keys twice is how counters get used twice: keep the keys, do not derive
/// them again. [`crate::Epochs`] does so.
#[derive(ZeroizeOnDrop)]
pub struct Chain {
    secret: [u8; 32],
    #[zeroize(skip)]
    epoch: u32,
}

impl Chain {
    /// The first epoch, from the secret that a handshake agreed on.
    pub fn first(secret: &[u8; 32]) -> Self {
        Self {
            secret: *secret,
            epoch: 0,
        }
    }

    /// Number of the epoch, counted from 0.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The keys of one lane, for the side that had this role in the handshake.
    pub fn lane_keys(&self, suite: Suite, role: Role, lane: Lane) -> (SealKey, OpenKey) {
        let seal = self.lane_secret(suite, role, lane);
        let open = self.lane_secret(suite, role.peer(), lane);
        (SealKey::new(suite, &seal), OpenKey::new(suite, &open))
    }

    /// The next epoch: this secret, a fresh X25519 secret and, where both sides have it, a
    /// post-quantum one. `transcript` is what was exchanged to agree on them.
    pub fn next(&self, dh: &[u8; 32], kem: Option<&[u8]>, transcript: &[u8]) -> Self {
        let epoch = self.epoch.wrapping_add(1);
        let parts: [&[u8]; 4] = [
            &epoch.to_le_bytes(),
            dh,
            kem.unwrap_or_default(),
            transcript,
        ];
        let secret = kdf::derive(&self.secret, "weave/v1 rekey", &parts);
        Self {
            secret: *secret,
            epoch,
        }
    }

    fn lane_secret(&self, suite: Suite, sender: Role, lane: Lane) -> Zeroizing<[u8; 32]> {
        let names = [suite.bit(), sender as u8, lane as u8];
        kdf::derive(
            &self.secret,
            "weave/v1 lane",
            &[&names, &self.epoch.to_le_bytes()],
        )
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_epoch_direction_lane_and_suite_has_its_own_key() {
        let mut secrets = BTreeSet::new();
        let first = Chain::first(&[3; 32]);
        let second = first.next(&[4; 32], None, b"");
        for chain in [first, second] {
            for suite in [Suite::ChaCha20Poly1305, Suite::Aes256Gcm] {
                for role in [Role::Initiator, Role::Responder] {
                    for lane in [Lane::Data, Lane::Control, Lane::Relay] {
                        assert!(secrets.insert(*chain.lane_secret(suite, role, lane)));
                    }
                }
            }
        }
        assert_eq!(secrets.len(), 24);
    }

    #[test]
    fn the_next_epoch_depends_on_everything_it_is_made_of() {
        let chain = Chain::first(&[3; 32]);
        let next = chain.next(&[4; 32], None, b"t");
        assert_eq!(next.epoch(), 1);
        assert_ne!(next.secret, chain.secret);
        assert_ne!(
            next.secret,
            Chain::first(&[5; 32]).next(&[4; 32], None, b"t").secret
        );
        assert_ne!(next.secret, chain.next(&[5; 32], None, b"t").secret);
        assert_ne!(
            next.secret,
            chain.next(&[4; 32], Some(&[0; 32]), b"t").secret
        );
        assert_ne!(next.secret, chain.next(&[4; 32], None, b"u").secret);
        assert_eq!(next.secret, chain.next(&[4; 32], None, b"t").secret);
    }

    #[test]
    fn what_one_role_seals_the_other_opens() {
        let chain = Chain::first(&[3; 32]);
        let (seal, own) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Initiator, Lane::Data);
        let (_, open) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, Lane::Data);
        let (_, other) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, Lane::Control);
        let mut sealed = *b"payload-and-room-for-tag.........";
        let (text, tag) = sealed.split_last_chunk_mut::<16>().expect("long enough");
        *tag = seal.seal_in_place(9, b"header", text);
        assert!(
            own.open_in_place(9, b"header", &mut sealed.clone())
                .is_err()
        );
        assert!(
            other
                .open_in_place(9, b"header", &mut sealed.clone())
                .is_err()
        );
        assert_eq!(open.open_in_place(9, b"header", &mut sealed), Ok(17));
        assert_eq!(&sealed[..17], b"payload-and-room-");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let shown = format!("{:?}", Chain::first(&[0xab; 32]));
        assert_eq!(shown, "Chain { epoch: 0, .. }");
    }
}
