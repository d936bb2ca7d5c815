//! Frames are counted for the peer that they go to or come from.

use weave_node::forward::{Count, Counts};
use weave_wire::offload::VnetHeader;
use weave_wire::{Lane, Mac, PayloadKind};

use crate::bench::{Host, LON, MAC, NOW, NYC, between, ip_frame, station, v4};
use crate::offload::{TCP, cut, unsummed};

/// What two hosts count when one sends this to the other; `max_datagram` is what fits the path.
fn counted(max_datagram: usize, frames: &[(VnetHeader, Vec<u8>)]) -> (Count, Count, Count) {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    for session in &mut nyc.fib.sessions {
        session.max_datagram = max_datagram;
    }
    let sent = nyc.send_all(frames);
    let mut arrived = Count::default();
    for (_, datagram) in &sent.datagrams {
        for frame in lon.receive(datagram).frames {
            arrived.note(frame.len());
        }
    }
    assert_eq!((nyc.dropped(), lon.dropped()), (None, None));
    assert_eq!(nyc.traffic(MAC), Counts::default());
    assert_eq!(nyc.traffic(LON).received, Count::default());
    assert_eq!(lon.traffic(NYC).sent, Count::default());
    (nyc.traffic(LON).sent, lon.traffic(NYC).received, arrived)
}

#[test]
fn both_ends_count_what_is_delivered_however_it_travels() {
    let plain = |len: usize| (VnetHeader::default(), between(NYC, LON, &vec![7; len]));
    let bulk = (cut(TCP, 1000), unsummed(TCP, &[7; 20_500]));
    for (what, max_datagram, frames, expected) in [
        ("a datagram for it alone", 1452, vec![plain(1300)], 1),
        ("one for several", 1452, vec![plain(60); 40], 40),
        ("several for one", 1452, vec![plain(4000)], 1),
        ("in segments", 1452, vec![bulk.clone()], 21),
        ("in shorter segments", 700, vec![bulk.clone()], 34),
        ("several segments in each", 8972, vec![bulk.clone()], 21),
        (
            "all of it",
            1452,
            vec![plain(60), plain(60), bulk, plain(4000)],
            24,
        ),
    ] {
        let (sent, received, arrived) = counted(max_datagram, &frames);
        assert_eq!((sent, received), (arrived, arrived), "{what}");
        assert_eq!(arrived.frames, expected, "{what}");
    }
}

#[test]
fn a_broadcast_counts_for_each_peer_that_it_goes_to() {
    let mut nyc = Host::new(NYC);
    let frame = ip_frame(Mac::BROADCAST, station(NYC), v4(NYC), v4(LON), b"all");
    nyc.send(&frame);
    for peer in [LON, MAC] {
        assert_eq!(nyc.traffic(peer).sent, Count::new(1, frame.len()));
    }
}

#[test]
fn what_goes_nowhere_and_what_is_no_frame_does_not_count() {
    let (mut nyc, mut lon) = (Host::new(NYC), Host::new(LON));
    let sent = nyc.send(&between(NYC, LON, b"hello"));
    let before = nyc.traffic(LON);
    let mut full = crate::bench::Sent {
        is_full: true,
        ..crate::bench::Sent::default()
    };
    let frame = between(NYC, LON, b"hello");
    nyc.forwarder
        .forward_frame(&nyc.fib, crate::bench::SEGMENT, &frame, NOW, &mut full);
    assert!(nyc.dropped().is_some());
    assert_eq!(nyc.traffic(LON), before, "there was no room");

    lon.receive(sent.single());
    let before = lon.traffic(NYC);
    assert_eq!(before.received.frames, 1);
    lon.receive(sent.single());
    assert!(lon.dropped().is_some());
    assert_eq!(lon.traffic(NYC), before, "it came twice");

    nyc.fib.macs.clear();
    let spoofed = ip_frame(station(LON), station(MAC), v4(MAC), v4(LON), b"hello");
    lon.receive(nyc.send(&spoofed).to(LON)[0]);
    assert!(lon.dropped().is_some());
    assert_eq!(lon.traffic(NYC), before, "the station is another's");

    let mut control = [&[0; 16][..], b"a control message", &[0; 16]].concat();
    let session = nyc.session(LON);
    nyc.control[session]
        .seal(PayloadKind::Control, NOW, &mut control)
        .expect("an open lane");
    assert_eq!(
        lon.receive(&control).control.len(),
        1,
        "{:?}",
        Lane::Control
    );
    assert_eq!(lon.traffic(NYC), before, "it was a control message");
}
