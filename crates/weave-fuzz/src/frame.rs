//! Frames that containers send, through the sending side of one host and the receiving side of
//! another: what arrives was sent, and nothing is longer than the path allows.
//!
//! The first byte chooses the length of datagrams. A step is a byte of flags, 10 bytes of virtio
//! header if it says so, then the frame with its length before it.

use std::cell::RefCell;

use weave_node::forward::{Forwarder, Receiver};
use weave_wire::ether::EthernetView;
use weave_wire::offload::{VNET_HEADER_LEN, VnetHeader};

use crate::bench::{Host, LON, MAC, NYC, addr, station};
use crate::input::Input;

/// Most frames of one input.
const MAX_STEPS: usize = 32;
/// Longest datagrams, in bytes.
const ROOMS: [usize; 4] = [1452, 1232, 548, 9216 - 28];

/// Flags of a step.
const UNFINISHED: u8 = 1;
const FROM_ME: u8 = 2;
const TO_LON: u8 = 4;
const TO_MAC: u8 = 8;
const LONG: u8 = 16;

thread_local! {
    /// Their tables stay, what they remember of frames does not.
    static HOSTS: RefCell<[Host; 3]> = RefCell::new([NYC, LON, MAC].map(Host::new));
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let room = ROOMS[usize::from(input.byte()) % ROOMS.len()];
    let mut frames = Vec::new();
    while frames.len() < MAX_STEPS {
        let Some(flags) = input.next() else { break };
        frames.push(frame(flags, &mut input));
    }
    HOSTS.with_borrow_mut(|[nyc, lon, mac]| {
        nyc.forwarder = Forwarder::new(nyc.drops.clone());
        for session in &mut nyc.fib.sessions {
            session.max_datagram = room;
        }
        pass(nyc, &mut [(LON, lon), (MAC, mac)], &frames, room);
    });
}

fn frame(flags: u8, input: &mut Input<'_>) -> (VnetHeader, Vec<u8>) {
    let mut header = VnetHeader::default();
    if flags & UNFINISHED != 0 {
        let bytes: [u8; VNET_HEADER_LEN] = std::array::from_fn(|_| input.byte());
        header = VnetHeader::decode(&bytes);
        assert_eq!(header.encode(), bytes);
    }
    let mut frame = input.bytes().to_vec();
    if flags & LONG != 0 {
        // bytes of input are dear: the rest is filled up
        frame.resize(frame.len() * 16, 0xa5);
    }
    if let Some((macs, _)) = frame.split_first_chunk_mut::<12>() {
        let (dst, src) = macs.split_at_mut(6);
        if flags & FROM_ME != 0 {
            src.copy_from_slice(&station(NYC).0);
        }
        if flags & TO_LON != 0 {
            dst.copy_from_slice(&station(LON).0);
        } else if flags & TO_MAC != 0 {
            dst.copy_from_slice(&station(MAC).0);
        }
    }
    (header, frame)
}

fn pass(
    nyc: &mut Host,
    others: &mut [(weave_wire::PeerId, &mut Host)],
    frames: &[(VnetHeader, Vec<u8>)],
    room: usize,
) {
    let sent = nyc.send_all(frames);
    for reply in &sent.replies {
        let view = EthernetView::parse(reply).expect("an answer is a frame");
        assert!(!view.payload().is_empty());
    }
    let is_finished = |(header, _): &&(VnetHeader, Vec<u8>)| *header == VnetHeader::default();
    let all_are = frames.iter().all(|frame| is_finished(&frame));
    for (peer, host) in others {
        host.receiver = Receiver::new(host.drops.clone());
        for datagram in sent.to(*peer) {
            assert!(datagram.len() <= room, "{} bytes", datagram.len());
            let received = host.receive_from(addr(NYC), datagram, crate::bench::NOW);
            assert!(received.control.is_empty() && received.handshakes.is_empty());
            for arrived in received.frames {
                let view = EthernetView::parse(&arrived).expect("what arrives is a frame");
                assert_ne!(view.src(), station(*peer), "its own station");
                let was_sent = frames.iter().any(|(_, frame)| *frame == arrived);
                assert!(was_sent || !all_are, "a frame that nobody sent");
            }
        }
    }
}
