//! Forwarder of one host to receiver of another, through a network that does its worst.

use proptest::prelude::*;
use weave_node::forward::DropReason;
use weave_wire::Mac;

use crate::bench::{Host, LON, MAC, NYC, Received, between, ip_frame, station, v4, who_has};

#[test]
fn a_frame_arrives_as_it_was_sent() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let frame = between(NYC, LON, b"hello from nyc");
    let received = lon.receive(nyc.send(&frame).single());
    assert_eq!(
        received,
        Received {
            frames: vec![frame],
            ..Received::default()
        }
    );
}

#[test]
fn a_broadcast_arrives_once_at_each_host_and_goes_no_further() {
    let (mut nyc, mut lon, mut mac) = (Host::new(NYC), Host::new(LON), Host::new(MAC));
    let frame = ip_frame(Mac::BROADCAST, station(NYC), v4(NYC), v4(LON), b"all");
    let sent = nyc.send(&frame);
    for (host, me) in [(&mut lon, LON), (&mut mac, MAC)] {
        for datagram in sent.to(me) {
            assert_eq!(host.receive(datagram).frames, std::slice::from_ref(&frame));
        }
        // Even if the bridge reflected it, the overlay would not have it again.
        assert!(host.send(&frame).is_nothing());
        assert_eq!(host.dropped(), Some(DropReason::SourceIsRemote));
    }
}

#[test]
fn a_replayed_datagram_is_dropped() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let sent: Vec<_> = (0..100u8)
        .map(|byte| nyc.send(&between(NYC, LON, &[byte])))
        .collect();
    for one in sent.iter().rev() {
        assert_eq!(lon.receive(one.single()).frames.len(), 1);
    }
    for one in &sent {
        assert!(lon.receive(one.single()).is_nothing());
        assert_eq!(lon.dropped(), Some(DropReason::Replayed));
    }
}

#[test]
fn a_datagram_for_another_host_is_of_no_use() {
    let (mut nyc, mut mac) = (Host::new(NYC), Host::new(MAC));
    let sent = nyc.send(&between(NYC, LON, b"hello"));
    assert!(mac.receive(sent.single()).is_nothing());
    assert_eq!(mac.dropped(), Some(DropReason::UnknownReceiver));
}

#[test]
fn no_changed_bit_goes_unnoticed() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let sent = nyc.send(&between(NYC, LON, b"hello"));
    let datagram = sent.single();
    for bit in 0..datagram.len() * 8 {
        let mut changed = datagram.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let received = lon.receive(&changed);
        assert_eq!(
            (received.frames.len(), received.control.len()),
            (0, 0),
            "bit {bit}"
        );
        let reason = lon.dropped();
        // Some changes of the first byte make something that looks like a handshake.
        assert!(
            reason.is_some() || !received.handshakes.is_empty(),
            "bit {bit}"
        );
    }
    assert_eq!(lon.receive(datagram).frames.len(), 1);
}

#[test]
fn every_shorter_datagram_is_dropped() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let sent = nyc.send(&between(NYC, LON, b"hello"));
    for len in 0..sent.single().len() {
        assert!(lon.receive(&sent.single()[..len]).is_nothing());
        let expected = if len < 32 {
            DropReason::TooShort
        } else {
            DropReason::OpenFailed
        };
        assert_eq!(lon.dropped(), Some(expected), "{len}");
    }
}

#[test]
fn an_answered_question_leads_to_the_right_host() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let answer = nyc.send(&who_has(NYC, v4(LON))).replies.remove(0);
    let mac = Mac(answer[6..12].try_into().expect("six bytes"));
    let frame = ip_frame(mac, station(NYC), v4(NYC), v4(LON), b"ping");
    assert_eq!(lon.receive(nyc.send(&frame).single()).frames, [frame]);
}

proptest! {
    #[test]
    fn fragments_arrive_in_any_order_and_a_second_copy_changes_nothing(
        len in 1100..3900usize,
        room in 1000..1400usize,
        seed in any::<u8>(),
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
        let session = nyc.session(LON);
        nyc.fib.sessions[session].max_datagram = room + 44;
        let payload: Vec<u8> = (0..=255u8).cycle().skip(seed.into()).take(len).collect();
        let frame = between(NYC, LON, &payload);
        let sent = nyc.send(&frame);
        let parts = sent.to(LON);
        prop_assert!(parts.iter().all(|part| part.len() <= room + 44));
        let mut frames = Vec::new();
        for at in order {
            if let Some(part) = parts.get(at / 2) {
                frames.extend(lon.receive(part).frames);
            }
        }
        prop_assert_eq!(frames, vec![frame]);
    }

    #[test]
    fn arbitrary_frames_are_forwarded_or_dropped_and_never_come_back(
        known in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
        let mut frame = bytes;
        if known && frame.len() >= 12 {
            frame[..6].copy_from_slice(&station(LON).0);
            frame[6..12].copy_from_slice(&station(NYC).0);
        }
        for datagram in nyc.send(&frame).to(LON) {
            let received = lon.receive(datagram);
            prop_assert!(received.frames.iter().all(|delivered| *delivered == frame));
        }
    }

    #[test]
    fn arbitrary_datagrams_deliver_nothing(
        first in prop_oneof![Just(0x81u8), any::<u8>()],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut lon = Host::new(LON);
        let received = lon.receive(&[&[first], &rest[..]].concat());
        prop_assert!(received.frames.is_empty() && received.control.is_empty());
    }
}
