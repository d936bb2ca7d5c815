//! What the forwarder does with the frames of local containers.

use weave_node::forward::{DropReason, FibSegment, Owner};
use weave_wire::ether::{ArpOp, ArpView, EthernetView, Ipv6View, NdView};
use weave_wire::{Mac, SealedHeader, SegmentId, Time};

use crate::bench::{
    ANYCAST, FAR, Host, LON, MAC, NOW, NYC, SEGMENT, STOP, Sent, arp, between, discovery, ethernet,
    ip_frame, station, v4, v6, who_has,
};

const STRANGER: Mac = Mac([2, 9, 9, 9, 9, 9]);

#[test]
fn unicast_goes_to_the_session_of_the_owner() {
    let mut nyc = Host::new(NYC);
    let sent = nyc.send(&between(NYC, MAC, b"hello"));
    assert_eq!(sent.datagrams.len(), 1);
    assert_eq!(sent.to(MAC).len(), 1);
    assert_eq!(nyc.dropped(), None);
}

#[test]
fn no_byte_of_a_frame_leaves_unsealed() {
    let mut nyc = Host::new(NYC);
    let frame = between(NYC, LON, b"a secret that nobody may see on the way");
    let sent = nyc.send(&frame);
    let sealed = &sent.single()[16..];
    assert_eq!(sealed.len(), 4 + frame.len() + 16);
    assert!(
        !sealed
            .windows(6)
            .any(|window| frame.windows(6).any(|plain| plain == window))
    );
}

#[test]
fn broadcast_and_multicast_go_to_every_member() {
    let mut nyc = Host::new(NYC);
    for dst in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 0xfb])] {
        let sent = nyc.send(&ip_frame(dst, station(NYC), v4(NYC), v4(LON), b"all"));
        assert_eq!((sent.to(LON).len(), sent.to(MAC).len()), (1, 1));
    }
    nyc.segment().members = vec![nyc.session(MAC)];
    let sent = nyc.send(&ip_frame(
        Mac::BROADCAST,
        station(NYC),
        v4(NYC),
        v4(LON),
        b"all",
    ));
    assert_eq!((sent.to(LON).len(), sent.to(MAC).len()), (0, 1));
}

#[test]
fn a_question_for_a_remote_address_is_answered_with_the_remote_station() {
    let mut nyc = Host::new(NYC);
    for target in [LON, FAR] {
        let sent = nyc.send(&who_has(NYC, v4(target)));
        assert!(sent.datagrams.is_empty());
        let frame = EthernetView::parse(&sent.replies[0]).expect("a frame");
        assert_eq!((frame.src(), frame.dst()), (station(target), station(NYC)));
        let reply = ArpView::of(&frame).expect("an ARP packet");
        assert_eq!(
            (reply.op, reply.sender_mac),
            (ArpOp::Reply, station(target))
        );
        assert_eq!((reply.sender_ip, reply.target_ip), (v4(target), v4(NYC)));
    }
    assert_eq!(nyc.dropped(), None);
}

#[test]
fn a_solicitation_for_a_remote_address_is_answered_with_the_remote_station() {
    let mut nyc = Host::new(NYC);
    let sent = nyc.send(&discovery(135, station(NYC), v6(NYC), v6(LON)));
    assert!(sent.datagrams.is_empty());
    let frame = EthernetView::parse(&sent.replies[0]).expect("a frame");
    assert_eq!((frame.src(), frame.dst()), (station(LON), station(NYC)));
    let packet = Ipv6View::of(&frame).expect("a packet");
    let expected = NdView::NeighbourAdvertisement { target: v6(LON) };
    assert_eq!(NdView::of(&packet), Some(expected));
    assert_eq!(packet.dst, v6(NYC));
}

#[test]
fn questions_for_local_addresses_and_the_anycast_are_left_to_the_bridge() {
    let mut nyc = Host::new(NYC);
    assert!(nyc.send(&who_has(NYC, v4(NYC))).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::LocalDestination));
    assert!(
        nyc.send(&discovery(135, station(NYC), v6(NYC), v6(NYC)))
            .is_nothing()
    );
    assert_eq!(nyc.dropped(), Some(DropReason::LocalDestination));
    assert!(nyc.send(&who_has(NYC, ANYCAST)).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::IgnoredAddress));
    for (from, to) in [(v4(NYC), ANYCAST), (ANYCAST, v4(LON))] {
        assert!(
            nyc.send(&ip_frame(station(LON), station(NYC), from, to, b"dns"))
                .is_nothing()
        );
        assert_eq!(nyc.dropped(), Some(DropReason::IgnoredAddress));
    }
}

#[test]
fn questions_for_unknown_addresses_are_replicated_within_a_limit() {
    let mut nyc = Host::new(NYC);
    let question = who_has(NYC, "10.32.9.9".parse().expect("an address"));
    for _ in 0..100 {
        let sent = nyc.send(&question);
        assert_eq!((sent.to(LON).len(), sent.to(MAC).len()), (1, 1));
    }
    assert_eq!(nyc.dropped(), None);
    assert!(nyc.send(&question).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::FloodLimited));
    assert!(
        !nyc.send_at(&question, NOW + std::time::Duration::from_millis(10))
            .is_nothing()
    );
}

#[test]
fn frames_for_unknown_stations_are_flooded_within_a_limit() {
    let mut nyc = Host::new(NYC);
    let frame = ip_frame(STRANGER, station(NYC), v4(NYC), v4(LON), b"hello");
    for _ in 0..100 {
        assert_eq!(nyc.send(&frame).datagrams.len(), 2);
    }
    assert!(nyc.send(&frame).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::FloodLimited));
    assert!(
        !nyc.send(&between(NYC, LON, b"known stations have no limit"))
            .is_nothing()
    );
}

#[test]
fn a_strict_segment_sends_only_between_announced_stations() {
    let mut nyc = Host::new(NYC);
    nyc.segment().strict = true;
    let from_stranger = ip_frame(station(LON), STRANGER, v4(NYC), v4(LON), b"hello");
    let to_stranger = ip_frame(STRANGER, station(NYC), v4(NYC), v4(LON), b"hello");
    for (frame, reason) in [
        (from_stranger, DropReason::UnannouncedSource),
        (to_stranger, DropReason::UnannouncedDestination),
    ] {
        assert!(nyc.send(&frame).is_nothing());
        assert_eq!(nyc.dropped(), Some(reason));
    }
    assert_eq!(nyc.send(&between(NYC, LON, b"hello")).datagrams.len(), 1);
    let question = who_has(NYC, "10.32.9.9".parse().expect("an address"));
    assert_eq!(nyc.send(&question).datagrams.len(), 2);
}

#[test]
fn broadcasts_are_replicated_within_a_limit_and_multicasts_without() {
    let mut nyc = Host::new(NYC);
    let to = |dst| ip_frame(dst, station(NYC), v4(NYC), v4(LON), b"hello");
    let (broadcast, multicast) = (to(Mac::BROADCAST), to(Mac([1, 0, 0x5e, 0, 0, 9])));
    for _ in 0..1_000 {
        assert_eq!(nyc.send(&broadcast).datagrams.len(), 2);
    }
    assert!(nyc.send(&broadcast).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::FloodLimited));
    for _ in 0..2_000 {
        assert_eq!(nyc.send(&multicast).datagrams.len(), 2);
    }
}

#[test]
fn a_tag_behind_a_tag_goes_nowhere() {
    let mut nyc = Host::new(NYC);
    let frame = between(NYC, LON, b"hello");
    let tagged = |tags: &[u8]| [&frame[..12], tags, &frame[12..]].concat();
    assert_eq!(nyc.send(&tagged(&[0x81, 0, 0, 5])).datagrams.len(), 1);
    for outer in [[0x81, 0], [0x88, 0xa8]] {
        let tags = [outer[0], outer[1], 0, 5, 0x81, 0, 0, 7];
        assert!(nyc.send(&tagged(&tags)).is_nothing());
        assert_eq!(nyc.dropped(), Some(DropReason::StackedVlan));
    }
}

#[test]
fn a_learned_station_is_no_longer_flooded() {
    let mut nyc = Host::new(NYC);
    let session = nyc.session(MAC);
    nyc.fib.learned.insert((SEGMENT, STRANGER), session);
    let sent = nyc.send(&ip_frame(
        STRANGER,
        station(NYC),
        v4(NYC),
        v4(LON),
        b"hello",
    ));
    assert_eq!((sent.to(LON).len(), sent.to(MAC).len()), (0, 1));
    let from_here = ip_frame(station(LON), STRANGER, v4(NYC), v4(LON), b"it moved here");
    assert_eq!(nyc.send(&from_here).datagrams.len(), 1);
}

#[test]
fn frames_that_have_no_business_on_the_overlay_are_dropped() {
    let mut nyc = Host::new(NYC);
    let me = station(NYC);
    let dhcp = ip_frame(
        Mac::BROADCAST,
        me,
        v4(NYC),
        v4(LON),
        &[0, 67, 0, 68, 0, 8, 0, 0],
    );
    let udp = [&dhcp[..23], &[17], &dhcp[24..]].concat();
    let cases = [
        (vec![0; 13], DropReason::MalformedFrame),
        (
            ethernet(station(LON), Mac::BROADCAST, 0x0800, b""),
            DropReason::MalformedFrame,
        ),
        (
            ethernet(station(LON), me, 0x0800, b"short"),
            DropReason::MalformedFrame,
        ),
        (
            ethernet(Mac([1, 0x80, 0xc2, 0, 0, 0]), me, 0x26, b"stp"),
            DropReason::BridgeProtocol,
        ),
        (
            ethernet(Mac([1, 0x80, 0xc2, 0, 0, 14]), me, 0x88cc, b"lldp"),
            DropReason::BridgeProtocol,
        ),
        (
            discovery(134, me, v6(NYC), v6(NYC)),
            DropReason::RouterAdvertisement,
        ),
        (
            ethernet(station(LON), me, 0x0806, &[0, 32, 8, 0, 6, 4, 0, 2]),
            DropReason::MalformedFrame,
        ),
        (udp, DropReason::DhcpServer),
        (between(LON, MAC, b"loop"), DropReason::SourceIsRemote),
        (who_has(LON, v4(MAC)), DropReason::SourceIsRemote),
        (
            between(NYC, NYC, b"stays here"),
            DropReason::LocalDestination,
        ),
        (between(NYC, FAR, b"no way"), DropReason::NoSession),
    ];
    for (frame, reason) in cases {
        assert!(nyc.send(&frame).is_nothing(), "{reason:?}");
        assert_eq!(nyc.dropped(), Some(reason));
    }
}

#[test]
fn an_unknown_segment_goes_nowhere() {
    let mut nyc = Host::new(NYC);
    let mut sent = Sent::default();
    let frame = between(NYC, LON, b"hello");
    nyc.forwarder
        .forward_frame(&nyc.fib, SegmentId(1), &frame, NOW, &mut sent);
    assert!(sent.is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::UnknownSegment));
}

#[test]
fn flood_limits_are_kept_by_segment() {
    let mut nyc = Host::new(NYC);
    let other = FibSegment {
        strict: false,
        local: true,
        members: vec![0],
        lacks_members: false,
    };
    nyc.fib.segments.insert(SegmentId(5), other);
    let frame = ip_frame(STRANGER, station(NYC), v4(NYC), v4(LON), b"hello");
    (0..200).for_each(|_| drop(nyc.send(&frame)));
    let mut sent = Sent::default();
    nyc.forwarder
        .forward_frame(&nyc.fib, SegmentId(5), &frame, NOW, &mut sent);
    assert_eq!(sent.datagrams.len(), 1);
}

#[test]
fn nothing_is_sealed_after_the_last_use_of_a_key() {
    let mut nyc = Host::new(NYC);
    assert!(
        nyc.send_at(&between(NYC, LON, b"too late"), STOP)
            .is_nothing()
    );
    assert_eq!(nyc.dropped(), Some(DropReason::LaneClosed));
    let before = Time::from_nanos(STOP.as_nanos() - 1);
    assert!(
        !nyc.send_at(&between(NYC, LON, b"just so"), before)
            .is_nothing()
    );
}

#[test]
fn without_room_to_send_no_counter_is_used() {
    let mut nyc = Host::new(NYC);
    let frame = between(NYC, LON, b"hello");
    let mut full = Sent {
        is_full: true,
        ..Sent::default()
    };
    nyc.forwarder
        .forward_frame(&nyc.fib, SEGMENT, &frame, NOW, &mut full);
    assert_eq!(nyc.dropped(), Some(DropReason::EgressFull));
    let header = SealedHeader::decode(nyc.send(&frame).single()).expect("a header");
    assert_eq!(header.counter, 0);
}

#[test]
fn no_counter_comes_twice_however_frames_leave() {
    let mut nyc = Host::new(NYC);
    let mut counters = Vec::new();
    for round in 0..50 {
        let dst = if round % 2 == 0 {
            Mac::BROADCAST
        } else {
            station(LON)
        };
        let payload = vec![0; if round % 3 == 0 { 3000 } else { 100 }];
        let sent = nyc.send(&ip_frame(dst, station(NYC), v4(NYC), v4(LON), &payload));
        let headers = sent.to(LON).into_iter().map(SealedHeader::decode);
        counters.extend(headers.map(|header| header.expect("a header").counter));
    }
    assert!(counters.len() > 50);
    assert!(
        counters.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{counters:?}"
    );
}

#[test]
fn a_frame_too_big_for_four_fragments_is_dropped_whole() {
    let mut nyc = Host::new(NYC);
    let session = nyc.session(LON);
    nyc.fib.sessions[session].max_datagram = 44 + 500;
    assert_eq!(
        nyc.send(&between(NYC, LON, &[0; 2000 - 34]))
            .datagrams
            .len(),
        4
    );
    assert!(nyc.send(&between(NYC, LON, &[0; 2001 - 34])).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::TooBig));
    for useless in [0, 43, 44] {
        nyc.fib.sessions[session].max_datagram = useless;
        assert!(nyc.send(&between(NYC, LON, b"hello")).is_nothing());
        assert_eq!(nyc.dropped(), Some(DropReason::TooBig));
    }
}

#[test]
fn a_table_that_names_a_session_it_does_not_have_does_no_harm() {
    let mut nyc = Host::new(NYC);
    nyc.fib.macs.insert(
        (SEGMENT, STRANGER),
        Owner::Remote {
            peer: LON,
            session: Some(99),
        },
    );
    let frame = ip_frame(STRANGER, station(NYC), v4(NYC), v4(LON), b"hello");
    assert!(nyc.send(&frame).is_nothing());
    assert_eq!(nyc.dropped(), Some(DropReason::NoSession));
}

#[test]
fn answers_and_tagged_questions_go_the_way_of_all_frames() {
    let mut nyc = Host::new(NYC);
    let reply = arp(
        2,
        station(LON),
        station(NYC),
        (station(NYC), v4(NYC)),
        v4(LON),
    );
    assert_eq!(nyc.send(&reply).to(LON).len(), 1);
    let question = who_has(NYC, v4(LON));
    let tagged = [&question[..12], &[0x81, 0, 0, 5], &question[12..]].concat();
    let sent = nyc.send(&tagged);
    assert_eq!((sent.replies.len(), sent.datagrams.len()), (0, 2));
}
