//! The data path: what happens to each frame between the containers and the network.
//!
//! Owns the forwarding table ([`Fib`], built by the control side and only read here), the sending
//! half ([`Forwarder`], one per thread that reads the containers' interfaces) and the receiving
//! half ([`Receiver`], one per thread that reads the network), with what each must remember:
//! flood limits, replay windows, incomplete frames, who sent handshakes. Does no input or output: bytes come in as
//! slices and leave through [`Egress`] and [`Ingress`].
//!
//! Invariants: in steady state a frame costs no lock and no allocation; nothing leaves unsealed;
//! no frame that arrived from the network goes back to it; every frame or datagram that goes
//! nowhere is counted under one [`DropReason`], and every frame that passes in the [`Traffic`] with
//! its peer.

mod drops;
mod encapsulate;
mod fib;
mod fragments;
mod gate;
mod limits;
mod policy;
mod receive;
mod send;
mod traffic;
mod windows;

use std::net::SocketAddr;

use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId};

pub use drops::{DropCounters, DropReason};
pub(crate) use encapsulate::{inner, wrap};
pub use fib::{CircuitEnd, Fib, FibCircuit, FibSegment, FibSession, Hop, Lookup, OpenLane, Owner};
pub(crate) use receive::MOST_HOPS;
pub use receive::Receiver;
pub use send::Forwarder;
pub use traffic::{Count, Counts, Tally, Traffic};

/// Where a [`Forwarder`] puts what it makes.
pub trait Egress {
    /// Room for a datagram of `len` bytes to this address, which is sent as it is left. `None`
    /// when there is no room; the datagram is then dropped.
    fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]>;
    /// A frame back to the containers of this host, on the segment it came from.
    fn reply(&mut self, segment: SegmentId, frame: &[u8]);
    /// There is no session with the peer that a frame is for, so that one is to be made. Whether
    /// the frame is kept until then; else it is dropped.
    fn unreached(&mut self, peer: PeerId, header: VnetHeader, frame: &[u8]) -> bool;
    /// A frame went to those members of the segment that there are sessions with, which are not
    /// all.
    fn not_all_reached(&mut self, segment: SegmentId);
}

/// Where a [`Receiver`] puts what it opens: datagrams that live as long as `'d`.
pub trait Ingress<'d> {
    /// A frame for the containers of this host, in order. Its bytes may be changed.
    fn deliver(&mut self, segment: SegmentId, frame: &mut [u8], checksum: Checksum);
    /// The same, of a frame that lies in its datagram, so that it can be kept beyond the call.
    fn deliver_lent(&mut self, segment: SegmentId, frame: &'d mut [u8], checksum: Checksum) {
        self.deliver(segment, frame, checksum);
    }
    /// Room for a datagram of `len` bytes that goes on to another peer, as [`Egress::datagram`].
    fn relay(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]>;
    /// A control message that was sealed for this index.
    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]);
    /// A datagram that belongs to a handshake. Nothing of it is authentic yet.
    fn handshake(&mut self, from: SocketAddr, datagram: &[u8]);
    /// A station without announcement was heard behind this peer. Repeated while it is heard,
    /// but not for each frame.
    fn learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId);
}
