//! In steady state a frame costs no allocation, in either direction: whole, in fragments, in
//! segments, or in a datagram with others.
//!
//! A file of its own: it replaces the allocator by one that counts.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use weave_crypto::{Chain, Role, SendLane, Suite};
use weave_node::forward::{
    DropCounters, Egress, Fib, FibSegment, FibSession, Forwarder, Ingress, OpenLane, Owner,
    Receiver,
};
use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Lane, Mac, PeerId, ReceiverIndex, SegmentId, Time};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SEGMENT: SegmentId = SegmentId(7);
const SENDER: PeerId = PeerId([1; 32]);
const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TO: Mac = Mac([2, 0, 0, 0, 0, 2]);
const UNANNOUNCED: Mac = Mac([2, 0, 0, 0, 0, 3]);
const NOW: Time = Time::from_secs(1);

/// Sends and receives in buffers that are there from the start.
struct Wire {
    buffer: Vec<u8>,
    ends: Vec<usize>,
    delivered: usize,
    learned: usize,
}

impl Egress for Wire {
    fn datagram(&mut self, _: SocketAddr, len: usize) -> Option<&mut [u8]> {
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(start + len);
        self.buffer.get_mut(start..start + len)
    }

    fn reply(&mut self, _: SegmentId, _: &[u8]) {}

    fn unreached(&mut self, _peer: PeerId, _header: VnetHeader, _frame: &[u8]) -> bool {
        false
    }

    fn not_all_reached(&mut self, _segment: SegmentId) {}
}

impl Ingress<'_> for Wire {
    fn deliver(&mut self, _: SegmentId, _: &mut [u8], _: Checksum) {
        self.delivered += 1;
    }

    fn relay(&mut self, _to: SocketAddr, _len: usize) -> Option<&mut [u8]> {
        None
    }

    fn control(&mut self, _: ReceiverIndex, _: SocketAddr, _: &[u8]) {}

    fn handshake(&mut self, _: SocketAddr, _: &[u8]) {}

    fn learned(&mut self, _: SegmentId, _: Mac, _: PeerId) {
        self.learned += 1;
    }
}

fn segment() -> FibSegment {
    FibSegment {
        strict: false,
        local: true,
        members: vec![0],
        lacks_members: false,
    }
}

/// The tables of a sender and a receiver with one session.
fn tables() -> (Fib, Fib) {
    let chain = Chain::first(&[5; 32]);
    let (seal, _) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Initiator, Lane::Data);
    let (_, key) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, Lane::Data);
    let receiver = ReceiverIndex::new(9, 0, Lane::Data);
    let data = Arc::new(SendLane::new(seal, 1, receiver, Time::from_secs(180)));
    let peer = PeerId([2; 32]);
    let addr = SocketAddr::from(([192, 0, 2, 2], 6783));
    let mut sender = Fib::default();
    sender.sessions.push(FibSession {
        peer,
        addr,
        hops: Vec::new(),
        max_datagram: 1452,
        data,
        traffic: Arc::default(),
    });
    sender.segments.insert(SEGMENT, segment());
    sender.macs.insert((SEGMENT, FROM), Owner::Local);
    sender.macs.insert(
        (SEGMENT, TO),
        Owner::Remote {
            peer,
            session: Some(0),
        },
    );
    let heard = Arc::new(AtomicU64::new(0));
    let open = OpenLane {
        version: 1,
        key,
        receiver,
        peer: SENDER,
        lane: Lane::Data,
        heard,
        traffic: Arc::default(),
    };
    let mut receiver = Fib::default();
    receiver.open.insert(open.receiver.as_u32(), Arc::new(open));
    receiver.segments.insert(SEGMENT, segment());
    receiver.macs.insert(
        (SEGMENT, FROM),
        Owner::Remote {
            peer: SENDER,
            session: None,
        },
    );
    receiver.macs.insert((SEGMENT, TO), Owner::Local);
    (sender, receiver)
}

fn frame(src: Mac, len: usize) -> Vec<u8> {
    let header = [
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let mut frame = [&TO.0[..], &src.0, &[8, 0], &header].concat();
    frame.resize(len, 0x5a);
    let [high, low] = u16::try_from(len - 14).expect("short").to_be_bytes();
    frame[16..18].copy_from_slice(&[high, low]);
    frame[46] = 0x50;
    frame
}

/// Says that a TCP frame is to be cut, and its checksum is partial.
fn to_be_cut() -> VnetHeader {
    VnetHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1316,
        csum_start: 34,
        csum_offset: 16,
    }
}

#[test]
fn frames_cost_no_allocation_in_steady_state() {
    let (sender, receiver) = tables();
    let drops = DropCounters::new();
    let (mut tx, mut rx) = (Forwarder::new(drops.clone()), Receiver::new(drops.clone()));
    let frames = [
        frame(FROM, 100),
        frame(FROM, 1384),
        frame(FROM, 4000),
        frame(UNANNOUNCED, 100),
    ];
    let super_frame = frame(FROM, 20_000);
    let segments = (20_000_usize - 54).div_ceil(1316);
    let mut wire = Wire {
        buffer: vec![0; 65_536],
        ends: Vec::with_capacity(64),
        delivered: 0,
        learned: 0,
    };
    let from = SocketAddr::from(([192, 0, 2, 1], 6783));
    let mut round = |wire: &mut Wire| {
        for batch in 0..=frames.len() {
            wire.ends.clear();
            let whole = frames
                .iter()
                .map(|frame| (VnetHeader::default(), &frame[..]));
            match frames.get(batch) {
                Some(frame) => tx.forward_frame(&sender, SEGMENT, frame, NOW, wire),
                None => {
                    let unfinished = [(to_be_cut(), &super_frame[..])].into_iter();
                    let all = whole.clone().chain(unfinished).chain(whole);
                    tx.forward_frames(&sender, SEGMENT, all, NOW, wire);
                }
            }
            let mut start = 0;
            for at in 0..wire.ends.len() {
                let end = wire.ends[at];
                let mut datagram = [0; 1500];
                let datagram = &mut datagram[..end - start];
                datagram.copy_from_slice(&wire.buffer[start..end]);
                rx.receive_datagram(&receiver, from, datagram, NOW, wire);
                start = end;
            }
        }
    };
    round(&mut wire);
    assert!(ALLOCATIONS.with(Cell::get) > 0, "the allocator counts");
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..1000 {
        round(&mut wire);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert_eq!(
        (wire.delivered, wire.learned),
        ((3 * 4 + segments) * 1001, 1)
    );
    assert!(drops.snapshot().all(|(_, count)| count == 0), "{drops:?}");
}
