//! Layout of the handshake datagrams, see `proto/wire.md`.

use std::ops::Range;

use subtle::ConstantTimeEq;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, ReceiverIndex, Versions};

use super::HandshakeError;
use crate::aead::Suite;
use crate::cpace::SHARE_LEN;
use crate::kdf;
use crate::noise;

/// The offer follows the header; behind it lies room for later versions, which they find bound
/// by the transcript already.
const OFFER_LEN: usize = 8;
pub(super) const CLEAR_LEN: usize = HANDSHAKE_HEADER_LEN + OFFER_LEN + 56;
const SID_LEN: usize = 16;
const MAC_LEN: usize = 16;

const NOISE_RANGE: Range<usize> = CLEAR_LEN..CLEAR_LEN + noise::OVERHEAD[0] + SID_LEN + SHARE_LEN;
pub(crate) const MAC1_RANGE: Range<usize> = NOISE_RANGE.end..NOISE_RANGE.end + MAC_LEN;
pub(crate) const MAC2_RANGE: Range<usize> = MAC1_RANGE.end..MAC1_RANGE.end + MAC_LEN;

/// Length of the first datagram of a handshake: at least that of every answer to it.
pub const INIT_LEN: usize = MAC2_RANGE.end;

const CHOICE_LEN: usize = 8;

/// Length of the second datagram of a handshake.
pub const REPLY_LEN: usize = HANDSHAKE_HEADER_LEN + noise::OVERHEAD[1] + CHOICE_LEN + SHARE_LEN;

/// The longest `Hello` that the third datagram carries.
pub const MAX_HELLO_LEN: usize = 1024;

/// Length of the answer of a responder under load.
pub const COOKIE_REPLY_LEN: usize = HANDSHAKE_HEADER_LEN + 24 + 16 + MAC_LEN;

/// Length of a refusal.
pub const REJECT_LEN: usize = HANDSHAKE_HEADER_LEN + 8 + MAC_LEN;

/// The only length in bytes that a message of a handshake may have; `None` for the last one, which
/// ends in a `Hello`, and for what is no such message.
pub const fn message_len(ty: DatagramType) -> Option<usize> {
    match ty {
        DatagramType::HandshakeInit => Some(INIT_LEN),
        DatagramType::HandshakeReply => Some(REPLY_LEN),
        DatagramType::CookieReply => Some(COOKIE_REPLY_LEN),
        DatagramType::Reject => Some(REJECT_LEN),
        DatagramType::HandshakeFinish | DatagramType::Sealed | DatagramType::Relay => None,
    }
}

/// The clear payload of the first message.
pub(super) struct InitPayload {
    pub(super) sid: [u8; SID_LEN],
    pub(super) share: [u8; SHARE_LEN],
}

impl InitPayload {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.sid[..], &self.share].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let (sid, rest) = take(bytes)?;
        let (share, []) = take(rest)? else {
            return Err(HandshakeError::Malformed("length"));
        };
        Ok(Self { sid, share })
    }
}

/// What the responder chose, sealed in the second message.
pub(super) struct ReplyPayload {
    pub(super) version: u8,
    pub(super) suite: Suite,
    pub(super) slot: u32,
    pub(super) share: [u8; SHARE_LEN],
}

impl ReplyPayload {
    pub(super) fn encode(&self) -> Vec<u8> {
        let choice = [self.version, self.suite.bit(), 0, 0];
        [&choice[..], &self.slot.to_le_bytes(), &self.share].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let ([version, suite, _, _], rest) = take(bytes)?;
        let (slot, rest) = take(rest)?;
        let (share, []) = take(rest)? else {
            return Err(HandshakeError::Malformed("length"));
        };
        let suite = Suite::from_bit(suite).ok_or(HandshakeError::NotOffered)?;
        Ok(Self {
            version,
            suite,
            slot: u32::from_le_bytes(slot),
            share,
        })
    }
}

/// The first datagram, checked as far as its name for the mesh goes.
pub(crate) struct Init<'a> {
    pub(crate) header: HandshakeHeader,
    pub(super) versions: Versions,
    pub(super) suites: u8,
    pub(super) clear: &'a [u8],
    pub(super) noise: &'a [u8],
    pub(super) ephemeral: &'a [u8; 32],
    pub(crate) mac1: &'a [u8],
    pub(crate) mac2: &'a [u8],
    /// All that the second authenticator covers.
    pub(crate) before_mac2: &'a [u8],
}

impl<'a> Init<'a> {
    /// Reads the datagram and checks that its sender knows the name of the mesh.
    pub(crate) fn parse(mesh_name: &str, datagram: &'a [u8]) -> Result<Self, HandshakeError> {
        let header = header(datagram, DatagramType::HandshakeInit)?;
        if datagram.len() != INIT_LEN || header.receiver != 0 {
            return Err(HandshakeError::Malformed("length or receiver"));
        }
        if header.sender >= ReceiverIndex::SLOT_LIMIT {
            return Err(HandshakeError::Malformed("slot"));
        }
        let (covered, mac1) = (&datagram[..MAC1_RANGE.start], &datagram[MAC1_RANGE]);
        if !bool::from(mac1.ct_eq(&self::mac1(mesh_name, covered))) {
            return Err(HandshakeError::OtherMesh);
        }
        let noise = &datagram[NOISE_RANGE];
        let Some(ephemeral) = noise.first_chunk() else {
            return Err(HandshakeError::Malformed("length"));
        };
        let offer = &datagram[HANDSHAKE_HEADER_LEN..];
        Ok(Self {
            header,
            versions: Versions::new(offer[0], offer[1]),
            suites: offer[2],
            clear: &datagram[..CLEAR_LEN],
            noise,
            ephemeral,
            mac1,
            mac2: &datagram[MAC2_RANGE],
            before_mac2: &datagram[..MAC2_RANGE.start],
        })
    }
}

/// The part of the first datagram that is sent in clear.
pub(super) fn clear(header: HandshakeHeader, versions: Versions, suites: u8) -> Vec<u8> {
    let mut clear = header.encode().to_vec();
    clear.extend_from_slice(&[versions.lowest, versions.highest, suites]);
    clear.resize(CLEAR_LEN, 0);
    clear
}

/// The first datagram, still without a cookie.
pub(super) fn init(mesh_name: &str, clear: &[u8], noise: &[u8]) -> Vec<u8> {
    let mut datagram = [clear, noise].concat();
    let mac1 = mac1(mesh_name, &datagram);
    datagram.extend_from_slice(&mac1);
    datagram.resize(INIT_LEN, 0);
    datagram
}

/// Shows that the sender knows the name of the mesh, and nothing else.
pub(super) fn mac1(mesh_name: &str, covered: &[u8]) -> [u8; MAC_LEN] {
    kdf::authenticate(&mesh_key(mesh_name), "weave/v1 mac1", &[covered])
}

/// A key that everybody has who knows the name of the mesh.
pub(crate) fn mesh_key(mesh_name: &str) -> [u8; 32] {
    kdf::public_key("weave/v1 mesh", &[mesh_name.as_bytes()])
}

/// Reads the header of a datagram that must be of this type.
pub(crate) fn header(
    datagram: &[u8],
    expected: DatagramType,
) -> Result<HandshakeHeader, HandshakeError> {
    let header = HandshakeHeader::decode(datagram)?;
    if header.ty != expected {
        return Err(HandshakeError::Malformed("type"));
    }
    Ok(header)
}

/// The dialler's ephemeral key in a first datagram: the same for each copy of it, and for no other
/// handshake. [`None`] for any other datagram.
pub fn initiator_ephemeral(datagram: &[u8]) -> Option<[u8; 32]> {
    header(datagram, DatagramType::HandshakeInit).ok()?;
    datagram.get(NOISE_RANGE)?.first_chunk().copied()
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), HandshakeError> {
    let (taken, rest) = bytes
        .split_first_chunk()
        .ok_or(HandshakeError::Malformed("length"))?;
    Ok((*taken, rest))
}
