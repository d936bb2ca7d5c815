//! What the receiver lets in.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weave_node::forward::{DropReason, Fib, FibSegment};
use weave_wire::{Lane, Mac, PayloadKind, PeerId, SegmentId, Time};

use crate::bench::{
    ANYCAST, FAR, Host, LON, MAC, NOW, NYC, Received, SEGMENT, addr, arp, between, discovery,
    ethernet, index, ip_frame, lane, station, v4, v6,
};

const STRANGER: Mac = Mac([2, 9, 9, 9, 9, 9]);

/// Seals a plaintext as `from` would for `to`, whatever it is.
fn sealed(from: &Host, to: PeerId, name: Lane, kind: PayloadKind, plaintext: &[u8]) -> Vec<u8> {
    let session = from.session(to);
    let mut datagram = [&[0; 16][..], plaintext, &[0; 16]].concat();
    match name {
        Lane::Data => from.fib.sessions[session]
            .data
            .seal(kind, NOW, &mut datagram),
        Lane::Control | Lane::Relay => from.control[session].seal(kind, NOW, &mut datagram),
    }
    .expect("an open lane");
    datagram
}

/// An ARP reply for hardware of another kind (IANA type 32).
fn infiniband_arp() -> Vec<u8> {
    let me = station(NYC);
    let mut frame = arp(2, station(LON), me, (me, v4(MAC)), v4(LON));
    frame[15] = 32;
    frame
}

/// A frame from `from` to `lon`, unhindered by what a forwarder would say.
fn forged(from: &Host, frame: &[u8]) -> Vec<u8> {
    let plaintext = [&SEGMENT.encode()[..], frame].concat();
    sealed(from, LON, Lane::Data, PayloadKind::Frame, &plaintext)
}

#[test]
fn what_the_announced_station_sends_is_delivered() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let frame = between(NYC, LON, b"hello");
    let received = lon.receive(&forged(&nyc, &frame));
    assert_eq!(
        received,
        Received {
            frames: vec![frame],
            ..Received::default()
        }
    );
    assert_eq!(lon.dropped(), None);
}

#[test]
fn nobody_speaks_with_the_station_of_another() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    for owner in [MAC, LON, FAR] {
        let frame = ip_frame(Mac::BROADCAST, station(owner), v4(NYC), v4(LON), b"hello");
        assert!(lon.receive(&forged(&nyc, &frame)).is_nothing());
        assert_eq!(lon.dropped(), Some(DropReason::SpoofedSource), "{owner:?}");
    }
}

#[test]
fn nobody_claims_the_address_of_another() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let me = station(NYC);
    for owner in [MAC, LON, FAR] {
        let frames = [
            ip_frame(station(LON), me, v4(owner), v4(LON), b"hello"),
            arp(2, station(LON), me, (me, v4(owner)), v4(LON)),
            arp(1, Mac::BROADCAST, me, (me, v4(owner)), v4(owner)),
            arp(
                2,
                station(LON),
                me,
                (station(owner), "10.32.9.9".parse().expect("ip")),
                v4(LON),
            ),
            discovery(136, me, v6(NYC), v6(owner)),
            discovery(135, me, v6(owner), v6(LON)),
            discovery(128, me, v6(owner), v6(LON)),
            discovery(128, me, station(owner).link_local(), v6(LON)),
            discovery(136, me, v6(NYC), station(owner).link_local()),
        ];
        for frame in frames {
            assert!(lon.receive(&forged(&nyc, &frame)).is_nothing());
            assert_eq!(lon.dropped(), Some(DropReason::SpoofedAddress), "{owner:?}");
        }
    }
}

#[test]
fn a_priority_tag_does_not_hide_a_forged_address() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let frame = ip_frame(station(LON), station(NYC), v4(MAC), v4(LON), b"hello");
    let tagged = [&frame[..12], &[0x81, 0, 0, 0], &frame[12..]].concat();
    assert!(lon.receive(&forged(&nyc, &tagged)).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::SpoofedAddress));
}

#[test]
fn unannounced_stations_and_addresses_are_accepted_and_learned() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let vip = "10.32.9.9".parse().expect("an address");
    let probe = arp(1, Mac::BROADCAST, STRANGER, (STRANGER, [0; 4].into()), vip);
    let frame = ip_frame(station(LON), STRANGER, vip, v4(LON), b"hello");
    let link_local = "fe80::1".parse().expect("an address");
    let solicitation = discovery(135, STRANGER, link_local, v6(LON));
    let received = lon.receive(&forged(&nyc, &probe));
    assert_eq!(
        (received.frames, received.learned),
        (vec![probe], vec![(STRANGER, NYC)])
    );
    for frame in [frame, solicitation] {
        let received = lon.receive(&forged(&nyc, &frame));
        assert_eq!((received.frames, received.learned), (vec![frame], vec![]));
    }
    assert_eq!(lon.dropped(), None);
}

#[test]
fn a_station_is_reported_again_after_a_while_and_when_it_moves() {
    let (nyc, mac, mut lon) = (Host::new(NYC), Host::new(MAC), Host::new(LON));
    let frame = ethernet(station(LON), STRANGER, 0x9000, b"hello");
    assert_eq!(
        lon.receive(&forged(&nyc, &frame)).learned,
        [(STRANGER, NYC)]
    );
    assert_eq!(lon.receive(&forged(&nyc, &frame)).learned, []);
    assert_eq!(
        lon.receive(&forged(&mac, &frame)).learned,
        [(STRANGER, MAC)]
    );
    let later = Time::from_secs(41);
    assert_eq!(
        lon.receive_at(&forged(&mac, &frame), later).learned,
        [(STRANGER, MAC)]
    );
}

#[test]
fn a_strict_segment_accepts_announced_stations_only() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    lon.segment().strict = true;
    let frame = ethernet(station(LON), STRANGER, 0x9000, b"hello");
    assert!(lon.receive(&forged(&nyc, &frame)).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::UnannouncedSource));
    assert_eq!(
        lon.receive(&forged(&nyc, &between(NYC, LON, b"hello")))
            .frames
            .len(),
        1
    );
}

#[test]
fn on_a_strict_segment_nobody_claims_an_address_that_was_not_announced() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    lon.segment().strict = true;
    let me = station(NYC);
    let (v4_vip, v6_vip) = (
        [10, 32, 9, 9].into(),
        "fd00::9".parse().expect("an address"),
    );
    for frame in [
        ip_frame(station(LON), me, v4_vip, v4(LON), b"hello"),
        arp(2, station(LON), me, (me, v4_vip), v4(LON)),
        arp(2, station(LON), me, (STRANGER, v4(NYC)), v4(LON)),
        discovery(128, me, v6_vip, v6(LON)),
        discovery(136, me, v6(NYC), v6_vip),
        discovery(135, me, STRANGER.link_local(), v6(LON)),
    ] {
        assert!(lon.receive(&forged(&nyc, &frame)).is_nothing());
        assert_eq!(lon.dropped(), Some(DropReason::UnannouncedAddress));
    }
    for frame in [
        arp(1, Mac::BROADCAST, me, (me, [0; 4].into()), v4_vip),
        discovery(135, me, [0; 16].into(), v6_vip),
        discovery(135, me, me.link_local(), v6(LON)),
        discovery(136, me, v6(NYC), me.link_local()),
    ] {
        let received = lon.receive(&forged(&nyc, &frame));
        assert_eq!((received.frames, received.learned), (vec![frame], vec![]));
    }
    assert_eq!(lon.dropped(), None);
}

#[test]
fn frames_for_other_hosts_and_segments_are_not_delivered() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    assert!(
        lon.receive(&forged(&nyc, &between(NYC, MAC, b"not here")))
            .is_nothing()
    );
    assert_eq!(lon.dropped(), Some(DropReason::RemoteDestination));
    lon.segment().local = false;
    assert!(
        lon.receive(&forged(&nyc, &between(NYC, LON, b"hello")))
            .is_nothing()
    );
    assert_eq!(lon.dropped(), Some(DropReason::UnknownSegment));
    lon.fib.segments.insert(
        SegmentId(5),
        FibSegment {
            local: true,
            ..FibSegment::default()
        },
    );
    let strange = [&SegmentId(6).encode()[..], &between(NYC, LON, b"hello")].concat();
    let datagram = sealed(&nyc, LON, Lane::Data, PayloadKind::Frame, &strange);
    assert!(lon.receive(&datagram).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::UnknownSegment));
}

#[test]
fn what_may_not_be_sent_may_not_arrive_either() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let me = station(NYC);
    let cases = [
        (
            ip_frame(station(LON), me, ANYCAST, v4(LON), b"dns"),
            DropReason::IgnoredAddress,
        ),
        (
            discovery(134, me, v6(NYC), v6(NYC)),
            DropReason::RouterAdvertisement,
        ),
        (
            ethernet(Mac([1, 0x80, 0xc2, 0, 0, 0]), me, 0x26, b""),
            DropReason::BridgeProtocol,
        ),
        (vec![1; 5], DropReason::MalformedFrame),
        (infiniband_arp(), DropReason::MalformedFrame),
    ];
    for (frame, reason) in cases {
        assert!(lon.receive(&forged(&nyc, &frame)).is_nothing());
        assert_eq!(lon.dropped(), Some(reason));
    }
}

#[test]
fn control_messages_are_handed_on_with_index_and_sender() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let datagram = sealed(&nyc, LON, Lane::Control, PayloadKind::Control, b"message");
    let received = lon.receive(&datagram);
    let expected = vec![(
        index(NYC, LON, Lane::Control),
        addr(NYC),
        b"message".to_vec(),
    )];
    assert_eq!(
        received,
        Received {
            control: expected,
            ..Received::default()
        }
    );
}

#[test]
fn a_payload_on_the_wrong_lane_is_dropped() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let frame = [&SEGMENT.encode()[..], &between(NYC, LON, b"hello")].concat();
    let cases = [
        (Lane::Control, PayloadKind::Frame, DropReason::WrongLane),
        (Lane::Control, PayloadKind::Fragment, DropReason::WrongLane),
        (Lane::Data, PayloadKind::Control, DropReason::WrongLane),
        (Lane::Control, PayloadKind::Frames, DropReason::WrongLane),
        (Lane::Data, PayloadKind::Frames, DropReason::BadPayload),
        (Lane::Data, PayloadKind::Fragment, DropReason::BadPayload),
    ];
    for (name, kind, reason) in cases {
        assert!(
            lon.receive(&sealed(&nyc, LON, name, kind, &frame))
                .is_nothing()
        );
        assert_eq!(lon.dropped(), Some(reason));
    }
    assert!(
        lon.receive(&sealed(&nyc, LON, Lane::Data, PayloadKind::Frame, b""))
            .is_nothing()
    );
    assert_eq!(lon.dropped(), Some(DropReason::BadPayload));
}

#[test]
fn a_session_takes_datagrams_of_its_own_version_only() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let datagram = forged(&nyc, &between(NYC, LON, b"hello"));
    for version in (0..16).filter(|version| *version != datagram[0] & 0x0f) {
        let mut other = datagram.clone();
        other[0] = datagram[0] & 0xf0 | version;
        assert_eq!(lon.receive(&other), Received::default());
        assert_eq!(lon.dropped(), Some(DropReason::BadVersion), "{version}");
    }
    assert_eq!(lon.receive(&datagram).frames.len(), 1);
}

#[test]
fn hearing_a_peer_is_noted_only_for_authentic_datagrams() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let heard = |lon: &Host| {
        let open = &lon.fib.open[&index(NYC, LON, Lane::Data).as_u32()];
        open.heard.load(Ordering::Relaxed)
    };
    let datagram = forged(&nyc, &between(NYC, LON, b"hello"));
    let mut tampered = datagram.clone();
    tampered[30] ^= 1;
    lon.receive(&tampered);
    assert_eq!(
        (heard(&lon), lon.dropped()),
        (0, Some(DropReason::OpenFailed))
    );
    lon.receive(&datagram);
    assert_eq!(heard(&lon), NOW.as_nanos());
    lon.receive_at(&datagram, Time::from_secs(20));
    assert_eq!(
        (heard(&lon), lon.dropped()),
        (NOW.as_nanos(), Some(DropReason::Replayed))
    );
}

/// Puts the data lane of `from` under another key that has the same index.
fn rekey(fib: &mut Fib, from: PeerId, to: PeerId) -> weave_crypto::SendLane {
    let (send, open) = lane(from, to, Lane::Data, 1);
    fib.open.insert(open.receiver.as_u32(), Arc::new(open));
    send
}

#[test]
fn a_new_key_under_an_old_index_has_its_own_window() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let frame = between(NYC, LON, b"hello");
    let old = forged(&nyc, &frame);
    assert_eq!(lon.receive(&old).frames.len(), 1);
    let session = nyc.session(LON);
    nyc.fib.sessions[session].data = Arc::new(rekey(&mut lon.fib, NYC, LON));
    assert!(lon.receive(&old).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::OpenFailed));
    let new = forged(&nyc, &frame);
    assert_eq!(lon.receive(&new).frames.len(), 1);
    assert!(lon.receive(&new).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::Replayed));
}

#[test]
fn windows_outlive_the_table_they_were_made_under() {
    let (nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let datagram = forged(&nyc, &between(NYC, LON, b"hello"));
    assert_eq!(lon.receive(&datagram).frames.len(), 1);
    let (mut next, open) = (Host::new(LON), lon.fib.open.clone());
    next.fib.open = open;
    lon.fib = next.fib;
    assert!(lon.receive(&datagram).is_nothing());
    assert_eq!(lon.dropped(), Some(DropReason::Replayed));
}
