//! The receiving side of the data path (`weave_node::forward::Receiver`) with live sessions:
//! datagrams as strangers forge them, and whatever peers seal.
//!
//! A step is a byte that says what happens, a second one for details, then bytes with their length
//! before them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weave_crypto::SendLane;
use weave_node::forward::{CircuitEnd, FibCircuit, Hop, Owner, Receiver};
use weave_wire::ether::EthernetView;
use weave_wire::{Circuit, Lane, PayloadKind, PeerId, Time};

use crate::bench::{Host, LON, MAC, NOW, NYC, Received, SEGMENT, addr, index, lane, station};
use crate::input::Input;

/// Most datagrams of one input.
const MAX_STEPS: usize = 64;
/// The circuit by which datagrams of `mac` come from `nyc`, and one that leads on from `nyc`.
const HERE: Circuit = Circuit { slot: 77 };
const ON: u32 = 78;

const KINDS: [PayloadKind; 6] = [
    PayloadKind::Frame,
    PayloadKind::Fragment,
    PayloadKind::Control,
    PayloadKind::Frames,
    PayloadKind::UnsummedFrame,
    PayloadKind::UnsummedFragment,
];

thread_local! {
    /// The host that receives. Its tables stay, what it remembers of datagrams does not.
    static LONDON: RefCell<Host> = RefCell::new(london());
}

fn london() -> Host {
    let mut lon = Host::new(LON);
    let session = index(NYC, LON, Lane::Relay).slot();
    let here = CircuitEnd::Here(HERE.addr());
    let hop = Hop {
        lane: Arc::new(lane(LON, MAC, Lane::Relay, 0).0),
        slot: 5,
    };
    let on = CircuitEnd::On(vec![hop], addr(MAC));
    for (slot, end) in [(HERE.slot, here), (ON, on)] {
        lon.fib.circuits.insert(slot, FibCircuit { session, end });
    }
    lon
}

pub(crate) fn run(data: &[u8]) {
    LONDON.with_borrow_mut(|lon| {
        lon.receiver = Receiver::new(lon.drops.clone());
        let mut input = Input::new(data);
        if input.byte() % 2 == 1 {
            lon.segment().strict = true;
        }
        let mut scene = Scene {
            lon,
            lanes: BTreeMap::new(),
            now: NOW,
            last: Vec::new(),
        };
        for _ in 0..MAX_STEPS {
            let Some(what) = input.next() else { break };
            let detail = input.byte();
            scene.step(what, detail, input.bytes());
        }
        scene.lon.segment().strict = false;
    });
}

struct Scene<'a> {
    lon: &'a mut Host,
    /// Lanes to `lon`; a key is used by one, so that no counter comes twice.
    lanes: BTreeMap<(PeerId, Lane), SendLane>,
    now: Time,
    /// What arrived last, as it was on the way.
    last: Vec<u8>,
}

impl Scene<'_> {
    fn step(&mut self, what: u8, detail: u8, bytes: &[u8]) {
        let kind = KINDS[usize::from(detail) % KINDS.len()];
        match what % 8 {
            0 => {
                let received = self.arrive(addr(NYC), bytes.to_vec());
                assert_unauthentic(&received);
            }
            1 => self.frames(NYC, kind, bytes),
            2 => self.frames(MAC, kind, bytes),
            3 => self.control(kind, bytes),
            4 => {
                let slot = [HERE.slot, ON, u32::from(detail)][usize::from(detail) % 3];
                let relayed = self.relayed(slot, bytes);
                let received = self.arrive(addr(NYC), relayed);
                assert_unauthentic(&received);
                assert!(received.relayed.len() <= 1, "sent on more than once");
            }
            5 => {
                let inner = self.sealed(MAC, Lane::Data, kind, bytes);
                let relayed = self.relayed(HERE.slot, &inner);
                let received = self.arrive(addr(NYC), relayed);
                self.assert_of(MAC, &received);
            }
            6 => self.repeat(detail, bytes),
            _ => self.now += Duration::from_millis(u64::from(detail)),
        }
    }

    fn frames(&mut self, from: PeerId, kind: PayloadKind, plaintext: &[u8]) {
        let datagram = self.sealed(from, Lane::Data, kind, plaintext);
        let received = self.arrive(addr(from), datagram);
        self.assert_of(from, &received);
    }

    fn control(&mut self, kind: PayloadKind, plaintext: &[u8]) {
        let datagram = self.sealed(NYC, Lane::Control, kind, plaintext);
        let received = self.arrive(addr(NYC), datagram);
        assert!(received.frames.is_empty(), "a frame on the control lane");
        let expected = (kind == PayloadKind::Control).then(|| {
            let receiver = index(NYC, LON, Lane::Control);
            (receiver, addr(NYC), plaintext.to_vec())
        });
        assert_eq!(received.control.first(), expected.as_ref());
    }

    /// What arrived last arrives again, as it was or changed.
    fn repeat(&mut self, flip: u8, place: &[u8]) {
        let mut datagram = self.last.clone();
        let place = place.iter().map(|byte| usize::from(*byte)).sum::<usize>();
        if let Some(at) = place.checked_rem(datagram.len()) {
            datagram[at] ^= flip;
        }
        let received = self.arrive(addr(NYC), datagram);
        assert_unauthentic(&received);
        assert!(received.relayed.is_empty(), "relayed twice");
    }

    fn lane(&mut self, from: PeerId, name: Lane) -> &SendLane {
        self.lanes
            .entry((from, name))
            .or_insert_with(|| lane(from, LON, name, 0).0)
    }

    fn sealed(&mut self, from: PeerId, name: Lane, kind: PayloadKind, bytes: &[u8]) -> Vec<u8> {
        let mut datagram = [&[0; 16][..], bytes, &[0; 16]].concat();
        self.lane(from, name)
            .seal(kind, NOW, &mut datagram)
            .expect("the lane is open");
        datagram
    }

    fn relayed(&mut self, slot: u32, bytes: &[u8]) -> Vec<u8> {
        let mut datagram = [&[0; 16][..], bytes, &[0; 16]].concat();
        self.lane(NYC, Lane::Relay)
            .seal_relayed(slot, NOW, &mut datagram)
            .expect("the lane is open");
        datagram
    }

    fn arrive(&mut self, from: SocketAddr, datagram: Vec<u8>) -> Received {
        let received = self.lon.receive_from(from, &datagram, self.now);
        self.last = datagram;
        received
    }

    /// What `peer` sealed is either dropped or frames that it may send.
    fn assert_of(&self, peer: PeerId, received: &Received) {
        assert!(received.control.is_empty(), "control on the data lane");
        assert!(received.handshakes.is_empty() && received.relayed.is_empty());
        for frame in &received.frames {
            let view = EthernetView::parse(frame).expect("a frame");
            let (src, dst) = (view.src(), view.dst());
            match self.lon.fib.macs.get(&(SEGMENT, src)) {
                Some(Owner::Remote { peer: owner, .. }) => assert_eq!(*owner, peer, "spoofed"),
                Some(Owner::Local) => panic!("a station of ours came from elsewhere"),
                None => assert!(!self.lon.fib.segments[&SEGMENT].strict, "unannounced"),
            }
            assert!(dst != station(NYC) && dst != station(MAC), "sent back");
        }
    }
}

/// Nobody with a key made it.
fn assert_unauthentic(received: &Received) {
    assert!(received.frames.is_empty(), "forged or repeated frames");
    assert!(received.control.is_empty(), "forged or repeated control");
    assert!(received.learned.is_empty(), "learned from nobody");
}
