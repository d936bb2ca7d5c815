//! Refusals: why a responder will not have a session, so that the dialler's status can say it.
//!
//! Whoever saw the first datagram can forge one, so a refusal is a hint for people and ends
//! nothing. One for the generation of the password also makes the dialler try another generation
//! that it holds; a forged one gains nothing by that, for who knows the password of a generation
//! that is held here is admitted with it anyway, when he dials.

use std::fmt;

use subtle::ConstantTimeEq;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, Versions};

use super::HandshakeConfig;
use super::message::{self, REJECT_LEN, mesh_key};
use crate::kdf;
use crate::passwords::Generations;

const MAC_AT: usize = REJECT_LEN - 16;

/// Why a responder refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The third message did not decrypt.
    WrongPassword,
    /// The responder has no password of this generation.
    Generation {
        /// Those that it has.
        held: Generations,
    },
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
    /// The responder takes no peer without post-quantum key exchange.
    KemRequired,
    /// The responder has no post-quantum key exchange, which the dialler requires.
    KemOff,
    /// A reason that this version does not know.
    Other,
}

impl RejectReason {
    const fn code(self) -> u8 {
        match self {
            Self::WrongPassword => 1,
            Self::Generation { .. } => 2,
            Self::Version { .. } => 3,
            Self::Suite => 4,
            Self::Banned => 5,
            Self::KemRequired => 6,
            Self::KemOff => 7,
            Self::Other => 255,
        }
    }

    /// What follows the code: at most 7 bytes, zero to the end.
    fn details(self) -> Vec<u8> {
        match self {
            Self::Generation {
                held: Generations([_, others @ ..]),
            } => others.iter().flat_map(|one| one.to_le_bytes()).collect(),
            Self::Version { ours, .. } => vec![ours.lowest, ours.highest],
            Self::WrongPassword
            | Self::Suite
            | Self::Banned
            | Self::KemRequired
            | Self::KemOff
            | Self::Other => Vec::new(),
        }
    }

    /// `generation` stands in the header of the refusal, `ours` are our versions.
    fn decode(generation: u16, body: &[u8], ours: Versions) -> Option<Self> {
        let [code, a, b, c, d, e, f, ..] = *body else {
            return None;
        };
        let others = [[a, b], [c, d], [e, f]].map(u16::from_le_bytes);
        Some(match code {
            1 => Self::WrongPassword,
            2 => {
                let [x, y, z] = others;
                let held = Generations([generation, x, y, z]);
                Self::Generation { held }
            }
            3 => {
                let theirs = Versions::new(a, b);
                Self::Version { ours, theirs }
            }
            4 => Self::Suite,
            5 => Self::Banned,
            6 => Self::KemRequired,
            7 => Self::KemOff,
            _ => Self::Other,
        })
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
            Self::Generation { held } => {
                return write!(f, "password of another generation: it has {held}");
            }
            Self::WrongPassword => "wrong password?",
            Self::Suite => "no common cipher",
            Self::Banned => "banned from this mesh",
            Self::KemRequired => {
                "it requires the post-quantum key exchange, this router has --pq off"
            }
            Self::KemOff => {
                "it has no post-quantum key exchange, which this router requires (--pq require)"
            }
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
    let mut header = HandshakeHeader {
        ty: DatagramType::Reject,
        ..header
    };
    if let RejectReason::Generation { held } = reason {
        let Generations([in_use, ..]) = held;
        header.generation = in_use;
    }
    let mut datagram = header.encode().to_vec();
    datagram.push(reason.code());
    datagram.extend(reason.details());
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
    if !bool::from(given.ct_eq(&expected)) {
        return None;
    }
    let body = covered.get(HANDSHAKE_HEADER_LEN..)?;
    RejectReason::decode(header.generation, body, cfg.versions)
}

fn mac(mesh_name: &str, ephemeral: &[u8; 32], covered: &[u8]) -> [u8; 16] {
    kdf::authenticate(
        &mesh_key(mesh_name),
        "weave/v1 reject",
        &[ephemeral, covered],
    )
}
