//! Both ends of one session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use weave_crypto::{Chain, OpenKey, Role, SealKey, SendLane, Suite};
use weave_node::forward::{
    DropCounters, Egress, Fib, FibSegment, FibSession, Forwarder, Ingress, OpenLane, Owner,
    Receiver,
};
use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Lane, Mac, PeerId, ReceiverIndex, SegmentId, Time};

use super::Batch;
use super::frames::{FROM, TO};

pub(super) const NOW: Time = Time::from_secs(1);
const SEGMENT: SegmentId = SegmentId(7);
const SENDER: PeerId = PeerId([1; 32]);
const RECEIVER: PeerId = PeerId([2; 32]);
/// What an underlay with an MTU of 1,500 carries.
const MAX_DATAGRAM: usize = 1472;

pub(super) struct Ends {
    sender: Fib,
    forwarder: Forwarder,
    receiver: Fib,
    opener: Receiver,
}

impl Ends {
    pub(super) fn new(suite: Suite) -> Self {
        let chain = Chain::first(&[5; 32]);
        let (seal, _) = chain.lane_keys(suite, Role::Initiator, Lane::Data);
        let (_, open) = chain.lane_keys(suite, Role::Responder, Lane::Data);
        Self::with_keys(seal, open)
    }

    /// For what is not about the cipher: without one, in builds that can.
    pub(super) fn without_cipher() -> Self {
        #[cfg(weave_null_cipher)]
        return Self::with_keys(SealKey::null(), OpenKey::null());
        #[cfg(not(weave_null_cipher))]
        Self::new(Suite::ChaCha20Poly1305)
    }

    fn with_keys(seal: SealKey, open: OpenKey) -> Self {
        let index = ReceiverIndex::new(9, 0, Lane::Data);
        let lane = SendLane::new(seal, 1, index, Time::from_secs(180));
        let drops = DropCounters::new();
        Self {
            sender: sender(lane),
            forwarder: Forwarder::new(drops.clone()),
            receiver: receiver(index, open),
            opener: Receiver::new(drops),
        }
    }

    /// What seals.
    pub(super) fn lane(&self) -> &SendLane {
        &self.sender.sessions[0].data
    }

    pub(super) fn forward(&mut self, frames: &[(VnetHeader, Vec<u8>)], egress: &mut Batch) {
        let frames = frames.iter().map(|(header, frame)| (*header, &frame[..]));
        self.forwarder
            .forward_frames(&self.sender, SEGMENT, frames, NOW, egress);
    }

    /// Opens all datagrams; answers how many frames were delivered.
    pub(super) fn receive(&mut self, datagrams: &mut Batch) -> usize {
        let from = SocketAddr::from(([192, 0, 2, 1], 6783));
        let mut ingress = Delivered(0);
        for datagram in datagrams.parts() {
            self.opener
                .receive_datagram(&self.receiver, from, datagram, NOW, &mut ingress);
        }
        ingress.0
    }
}

fn sender(lane: SendLane) -> Fib {
    let mut fib = table();
    fib.sessions.push(FibSession {
        peer: RECEIVER,
        addr: SocketAddr::from(([192, 0, 2, 2], 6783)),
        hops: Vec::new(),
        max_datagram: MAX_DATAGRAM,
        data: Arc::new(lane),
        traffic: Arc::default(),
    });
    let remote = Owner::Remote {
        peer: RECEIVER,
        session: Some(0),
    };
    fib.macs.insert((SEGMENT, FROM), Owner::Local);
    fib.macs.insert((SEGMENT, TO), remote);
    fib
}

fn receiver(index: ReceiverIndex, key: OpenKey) -> Fib {
    let mut fib = table();
    let lane = OpenLane {
        version: 1,
        key,
        receiver: index,
        peer: SENDER,
        lane: Lane::Data,
        heard: Arc::new(AtomicU64::new(0)),
        traffic: Arc::default(),
    };
    fib.open.insert(index.as_u32(), Arc::new(lane));
    let remote = Owner::Remote {
        peer: SENDER,
        session: None,
    };
    fib.macs.insert((SEGMENT, FROM), remote);
    fib.macs.insert((SEGMENT, TO), Owner::Local);
    fib
}

fn table() -> Fib {
    let mut fib = Fib::default();
    let segment = FibSegment {
        lacks_members: false,
        strict: false,
        local: true,
        members: vec![0],
    };
    fib.segments.insert(SEGMENT, segment);
    fib
}

impl Egress for Batch {
    fn datagram(&mut self, _: SocketAddr, len: usize) -> Option<&mut [u8]> {
        Some(self.add(len))
    }

    fn reply(&mut self, _: SegmentId, _: &[u8]) {}

    fn unreached(&mut self, _peer: PeerId, _header: VnetHeader, _frame: &[u8]) -> bool {
        false
    }

    fn not_all_reached(&mut self, _segment: SegmentId) {}
}

/// Counts the frames that arrive.
struct Delivered(usize);

impl Ingress<'_> for Delivered {
    fn deliver(&mut self, _: SegmentId, _: &mut [u8], _: Checksum) {
        self.0 += 1;
    }

    fn relay(&mut self, _to: SocketAddr, _len: usize) -> Option<&mut [u8]> {
        None
    }

    fn control(&mut self, _: ReceiverIndex, _: SocketAddr, _: &[u8]) {}

    fn handshake(&mut self, _: SocketAddr, _: &[u8]) {}

    fn learned(&mut self, _: SegmentId, _: Mac, _: PeerId) {}
}
