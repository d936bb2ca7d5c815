//! Wire formats of the mesh: identifiers, datagram headers, control messages, and views of the
//! Ethernet frames that containers send.
//!
//! Owns how bytes are laid out, and nothing of what they mean to a node: no state, no clock, no
//! sockets, no keys. Every parser here is total: arbitrary input gives a value or an error, never
//! a panic. `proto/wire.md` describes the same layouts for people, with vectors that a test reads.

#![forbid(unsafe_code)]

mod cidr;
mod circuit;
pub mod codec;
mod error;
pub mod ether;
mod header;
mod ids;
mod mac;
pub mod offload;
mod payload;
mod time;
mod versions;

pub use cidr::{Cidr, InterfaceAddr, number_of};
pub use circuit::Circuit;
pub use codec::{
    decode_batch, decode_control, from_proto_addr, ip_bytes, ip_from_bytes, mac_from_bytes,
    peer_id_from_bytes, proto_addr,
};
pub use error::{DatagramError, WireError};
pub use header::{
    DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, Lane, PayloadKind, ReceiverIndex,
    RelayHeader, SEALED_HEADER_LEN, SealedHeader,
};
pub use ids::{PeerId, PeerName, SegmentId};
pub use mac::Mac;
pub use payload::{
    FRAGMENT_HEADER_LEN, FRAME_HEADER_LEN, FragmentHeader, MAX_FRAGMENTS, MAX_RECORD,
    RECORD_HEADER_LEN, RecordHeader, decode_frame,
};
pub use time::Time;
pub use versions::Versions;

/// UDP port of the mesh, when no other is configured.
pub const PORT: u16 = 6783;

/// MTU of container interfaces: their full frames, sealed and relayed, fit an underlay whose
/// MTU is 1500 also over IPv6.
pub const CONTAINER_MTU: usize = 1370;

/// Length of the authentication tag behind every sealed payload, in bytes.
pub const TAG_LEN: usize = 16;

/// What a relay adds to a datagram, in bytes: a header and a tag.
pub const RELAY_LEN: usize = SEALED_HEADER_LEN + TAG_LEN;

/// Layout of handshake datagrams, the low nibble of their first byte. It is older than any choice of
/// a version: peers of all versions must be able to read it.
pub const HANDSHAKE_LAYOUT: u8 = 1;

/// The messages of `proto/weave/v1`, as generated.
#[allow(
    missing_docs,
    clippy::all,
    clippy::use_self,
    rustdoc::all,
    reason = "generated code; the proto files document it"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/weave.v1.rs"));
}
