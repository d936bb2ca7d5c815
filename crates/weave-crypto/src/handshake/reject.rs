//! Refusals: why a responder will not have a session, so that the dialler's status can say it.
//!
//! Whoever saw the first datagram can forge one, so a refusal is a hint for people and ends
//! nothing.

use std::fmt;

use subtle::ConstantTimeEq;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, Versions};

use super::HandshakeConfig;
use super::message::{self, REJECT_LEN, mesh_key};
use crate::kdf;

const MAC_AT: usize = REJECT_LEN - 16;

/// Why a responder refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The third message did not decrypt.
    WrongPassword,
    /// The responder has a password of another generation only.
    Generation,
    /// No protocol version in common.
    Version {
        /// Those spoken here.
        ours: Versions,
        /// Those that the other side speaks.
        theirs: Versions,
    },
    /// No cipher in common.
    Suite,
    /// The key of the dialler is banned.
    Banned,
    /// A reason that this version does not know.
    Other,
}

impl RejectReason {
    const fn code(self) -> u8 {
        match self {
            Self::WrongPassword => 1,
            Self::Generation => 2,
            Self::Version { .. } => 3,
            Self::Suite => 4,
            Self::Banned => 5,
            Self::Other => 255,
        }
    }

    /// `theirs` are the versions that the refusal names; it does for a want of one only.
    const fn from_code(code: u8, ours: Versions, theirs: Versions) -> Self {
        match code {
            1 => Self::WrongPassword,
            2 => Self::Generation,
            3 => Self::Version { ours, theirs },
            4 => Self::Suite,
            5 => Self::Banned,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version { ours, theirs } => {
                return write!(
                    f,
                    "no common protocol version: it speaks {theirs}, this router {ours}"
                );
            }
            Self::WrongPassword => "wrong password?",
            Self::Generation => "password of another generation",
            Self::Suite => "no common cipher",
            Self::Banned => "banned from this mesh",
            Self::Other => "for a reason that only a newer version knows",
        })
    }
}

/// A refusal of the handshake that began with this ephemeral key. `header` addresses it.
pub(super) fn encode(
    cfg: &HandshakeConfig,
    ephemeral: &[u8; 32],
    header: HandshakeHeader,
    reason: RejectReason,
) -> Vec<u8> {
    let mut datagram = HandshakeHeader {
        ty: DatagramType::Reject,
        ..header
    }
    .encode()
    .to_vec();
    datagram.push(reason.code());
    if let RejectReason::Version { ours, .. } = reason {
        datagram.extend_from_slice(&[ours.lowest, ours.highest]);
    }
    datagram.resize(MAC_AT, 0);
    let mac = mac(&cfg.mesh_name, ephemeral, &datagram);
    datagram.extend_from_slice(&mac);
    datagram
}

/// The reason, if this refuses the handshake that we began with this slot and ephemeral key.
pub(super) fn decode(
    cfg: &HandshakeConfig,
    ephemeral: &[u8; 32],
    local_slot: u32,
    datagram: &[u8],
) -> Option<RejectReason> {
    let header = message::header(datagram, DatagramType::Reject).ok()?;
    if datagram.len() != REJECT_LEN || header.receiver != local_slot {
        return None;
    }
    let (covered, given) = datagram.split_at(MAC_AT);
    let expected = mac(&cfg.mesh_name, ephemeral, covered);
    let [code, lowest, highest, ..] = *covered.get(HANDSHAKE_HEADER_LEN..)? else {
        return None;
    };
    let theirs = Versions::new(lowest, highest);
    bool::from(given.ct_eq(&expected)).then(|| RejectReason::from_code(code, cfg.versions, theirs))
}

fn mac(mesh_name: &str, ephemeral: &[u8; 32], covered: &[u8]) -> [u8; 16] {
    kdf::authenticate(
        &mesh_key(mesh_name),
        "weave/v1 reject",
        &[ephemeral, covered],
    )
}
