//! `nyc` and `mac` have no direct path: `lon` relays.

use std::sync::Arc;

use weave_node::forward::{CircuitEnd, Count, Counts, DropReason, FibCircuit, Hop};
use weave_wire::{Circuit, Lane, PeerId, RELAY_LEN};

use crate::bench::{Host, LON, MAC, NOW, NYC, addr, between, index, lane};

/// Names of the circuit at its end in `mac`, and in the relay.
const AT_MAC: Circuit = Circuit { slot: 77 };
const AT_LON: u32 = 0x1fff_ffff;

struct Three {
    nyc: Host,
    lon: Host,
    mac: Host,
}

fn hop(from: PeerId, to: PeerId, slot: u32) -> Hop {
    Hop {
        lane: Arc::new(lane(from, to, Lane::Relay, 0).0),
        slot,
    }
}

/// A circuit of what comes from a peer.
fn circuit(from: PeerId, here: PeerId, end: CircuitEnd) -> FibCircuit {
    let session = index(from, here, Lane::Relay).slot();
    FibCircuit { session, end }
}

impl Three {
    fn new() -> Self {
        let (mut nyc, mut lon, mut mac) = (Host::new(NYC), Host::new(LON), Host::new(MAC));
        let to_mac = nyc.session(MAC);
        nyc.fib.sessions[to_mac].addr = addr(LON);
        nyc.fib.sessions[to_mac].hops = vec![hop(NYC, LON, AT_LON)];
        let on = CircuitEnd::On(vec![hop(LON, MAC, AT_MAC.slot)], addr(MAC));
        lon.fib.circuits.insert(AT_LON, circuit(NYC, LON, on));
        let here = circuit(LON, MAC, CircuitEnd::Here(AT_MAC.addr()));
        mac.fib.circuits.insert(AT_MAC.slot, here);
        Self { nyc, lon, mac }
    }

    /// What the relay sends on of what `nyc` sends to `mac`.
    fn relayed(&mut self, frame: &[u8]) -> Vec<u8> {
        let sent = self.nyc.send(frame);
        assert_eq!(sent.to(LON).len(), 1);
        let mut received = self.lon.receive(sent.single());
        let (to, datagram) = received.relayed.pop().expect("it is sent on");
        assert_eq!(to, addr(MAC));
        assert!(received.is_nothing(), "and nothing else");
        datagram
    }
}

#[test]
fn a_frame_crosses_the_relay_and_the_relay_cannot_open_it() {
    let mut three = Three::new();
    let frame = between(NYC, MAC, b"hello through lon");
    let sent = three.nyc.send(&frame);
    let inner = &sent.single()[16..sent.single().len() - 16];
    assert!(three.lon.receive(inner).is_nothing());
    assert!(three.lon.dropped().is_some());
    let datagram = three.lon.receive(sent.single()).relayed.remove(0).1;
    assert_eq!(datagram.len(), sent.single().len(), "no longer than before");
    assert!(!datagram.windows(5).any(|bytes| bytes == b"hello"));
    assert_eq!(three.mac.receive(&datagram).frames, [frame]);
}

#[test]
fn a_frame_counts_for_the_peer_at_the_far_end_and_not_for_the_relay() {
    let mut three = Three::new();
    let frame = between(NYC, MAC, b"hello through lon");
    let datagram = three.relayed(&frame);
    three.mac.receive(&datagram);
    let once = Count::new(1, frame.len());
    assert_eq!(three.nyc.traffic(MAC).sent, once);
    assert_eq!(three.mac.traffic(NYC).received, once);
    for (host, peer) in [
        (&three.nyc, LON),
        (&three.mac, LON),
        (&three.lon, NYC),
        (&three.lon, MAC),
    ] {
        assert_eq!(host.traffic(peer), Counts::default(), "{peer:?}");
    }
}

#[test]
fn a_datagram_that_was_changed_repeated_or_sent_by_another_goes_nowhere() {
    let mut three = Three::new();
    let sent = three.nyc.send(&between(NYC, MAC, b"hello"));
    let whole = sent.single().to_vec();
    for byte in 0..whole.len() {
        let mut changed = whole.clone();
        changed[byte] ^= 1;
        let received = three.lon.receive(&changed);
        assert!(received.relayed.is_empty() && received.frames.is_empty());
        let _ = three.lon.dropped();
    }
    let relayed = three.lon.receive(&whole).relayed.remove(0).1;
    assert!(three.lon.receive(&whole).is_nothing());
    assert_eq!(three.lon.dropped(), Some(DropReason::Replayed));
    assert_eq!(three.mac.receive(&relayed).frames.len(), 1);
    assert!(three.mac.receive(&relayed).is_nothing());
    assert_eq!(three.mac.dropped(), Some(DropReason::Replayed));
}

#[test]
fn a_circuit_serves_only_the_peer_that_asked_for_it() {
    let mut three = Three::new();
    let mut foreign = vec![0; 60];
    let key = lane(MAC, LON, Lane::Relay, 0).0;
    key.seal_relayed(AT_LON, NOW, &mut foreign).expect("sealed");
    assert!(three.lon.receive(&foreign).is_nothing());
    assert_eq!(three.lon.dropped(), Some(DropReason::OpenFailed));
}

#[test]
fn a_circuit_that_nobody_made_leads_nowhere() {
    let mut three = Three::new();
    three.lon.fib.circuits.clear();
    let sent = three.nyc.send(&between(NYC, MAC, b"hello"));
    assert!(three.lon.receive(sent.single()).is_nothing());
    assert_eq!(three.lon.dropped(), Some(DropReason::NoCircuit));
}

#[test]
fn what_comes_by_a_circuit_comes_from_its_address_and_nobody_else_has_that() {
    let mut three = Three::new();
    let mut control = vec![0; 16];
    control.extend_from_slice(b"control");
    control.extend_from_slice(&[0; 16]);
    let to_mac = three.nyc.session(MAC);
    three.nyc.control[to_mac]
        .seal(weave_wire::PayloadKind::Control, NOW, &mut control)
        .expect("sealed");
    let mut wrapped = [&[0; 16][..], &control, &[0; 16]].concat();
    let key = lane(LON, MAC, Lane::Relay, 0).0;
    key.seal_relayed(AT_MAC.slot, NOW, &mut wrapped)
        .expect("sealed");
    let received = three.mac.receive(&wrapped);
    assert_eq!(received.control[0].1, AT_MAC.addr());
    assert!(
        three
            .mac
            .receive_from(AT_MAC.addr(), &control, NOW)
            .is_nothing()
    );
    assert_eq!(three.mac.dropped(), Some(DropReason::BadSource));
}

#[test]
fn a_datagram_is_unwrapped_a_few_times_at_most() {
    let mut three = Three::new();
    let key = lane(LON, MAC, Lane::Relay, 0).0;
    let wrap = |times: usize| {
        let mut datagram = vec![0x21; 16];
        for _ in 0..times {
            datagram = [&[0; 16][..], &datagram, &[0; 16]].concat();
            key.seal_relayed(AT_MAC.slot, NOW, &mut datagram)
                .expect("sealed");
        }
        datagram
    };
    let (three_times, four_times) = (wrap(3), wrap(4));
    assert_eq!(four_times.len(), 16 + 4 * RELAY_LEN);
    assert!(three.mac.receive(&three_times).handshakes.len() <= 1);
    let _ = three.mac.dropped();
    assert!(three.mac.receive(&four_times).is_nothing());
    assert_eq!(three.mac.dropped(), Some(DropReason::NoCircuit));
}

#[test]
fn an_asker_behind_another_relay_gets_its_datagrams_wrapped_twice() {
    let mut three = Three::new();
    // what mac sends back to nyc goes by lon, and from there by mac again
    let hops = vec![hop(LON, NYC, 5), hop(LON, MAC, AT_MAC.slot)];
    let on = CircuitEnd::On(hops, addr(MAC));
    three.lon.fib.circuits.insert(9, circuit(MAC, LON, on));
    let mut datagram = [&[0; 16][..], b"0123456789", &[0; 16]].concat();
    let key = lane(MAC, LON, Lane::Relay, 0).0;
    key.seal_relayed(9, NOW, &mut datagram).expect("sealed");
    let (to, relayed) = three.lon.receive(&datagram).relayed.remove(0);
    assert_eq!((to, relayed.len()), (addr(MAC), datagram.len() + RELAY_LEN));
}

#[test]
fn frames_of_any_length_cross() {
    let mut three = Three::new();
    for len in [0, 1, 600, 1_350] {
        let frame = between(NYC, MAC, &vec![7; len]);
        let datagram = three.relayed(&frame);
        assert_eq!(three.mac.receive(&datagram).frames, [frame]);
    }
}
