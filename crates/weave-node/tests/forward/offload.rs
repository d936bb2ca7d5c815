//! Frames that the kernel leaves unfinished, from the forwarder of one host to the receiver of
//! another.

use proptest::prelude::*;
use weave_node::forward::DropReason;
use weave_wire::offload::{Cutter, Gso, VnetHeader};
use weave_wire::{PayloadKind, SealedHeader};

use crate::bench::{Host, LON, MAC, NYC, Received, between, ethernet, station, v4};

pub(crate) const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where the TCP or UDP header is, behind Ethernet and IPv4.
const START: usize = 34;

/// A frame from nyc to lon with a TCP or UDP header, its checksum partial.
pub(crate) fn unsummed(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = vec![0; if protocol == TCP { 20 } else { 8 }];
    if protocol == TCP {
        transport[12] = 0x50;
    }
    transport.extend(payload);
    let transport_len = u16::try_from(transport.len()).expect("short enough");
    if protocol == UDP {
        transport[4..6].copy_from_slice(&transport_len.to_be_bytes());
    }
    let [high, low] = (transport_len + 20).to_be_bytes();
    let header = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    let (from, to) = (v4(NYC).octets(), v4(LON).octets());
    let packet = [&header[..], &from, &to, &transport].concat();
    ethernet(station(LON), station(NYC), 0x0800, &packet)
}

fn checksum(protocol: u8) -> VnetHeader {
    VnetHeader {
        flags: 1,
        csum_start: 34,
        csum_offset: if protocol == TCP { 16 } else { 6 },
        ..VnetHeader::default()
    }
}

pub(crate) fn cut(protocol: u8, size: u16) -> VnetHeader {
    VnetHeader {
        gso_type: if protocol == TCP { 1 } else { 5 },
        gso_size: size,
        ..checksum(protocol)
    }
}

fn segments(frame: &[u8], protocol: u8, size: usize) -> Vec<Vec<u8>> {
    let gso = if protocol == TCP { Gso::Tcp } else { Gso::Udp };
    let cutter = Cutter::new(frame, gso, size, START).expect("a super-frame");
    let write = |index| {
        let mut segment = vec![0; cutter.len_of(index)];
        cutter.write(index, &mut segment);
        segment
    };
    (0..cutter.count()).map(write).collect()
}

fn payload(len: usize) -> Vec<u8> {
    (0..251u8).cycle().take(len).collect()
}

fn narrow(host: &mut Host, max_datagram: usize) {
    for session in &mut host.fib.sessions {
        session.max_datagram = max_datagram;
    }
}

/// What arrives at lon when nyc sends this.
fn pass(nyc: &mut Host, frames: &[(VnetHeader, Vec<u8>)]) -> (usize, Received) {
    let mut lon = Host::new(LON);
    let sent = nyc.send_all(frames);
    let mut received = Received::default();
    for (_, datagram) in &sent.datagrams {
        let one = lon.receive(datagram);
        received.frames.extend(one.frames);
        received.unsummed += one.unsummed;
    }
    assert_eq!(lon.dropped(), None);
    (sent.datagrams.len(), received)
}

#[test]
fn small_frames_that_follow_each_other_share_a_datagram() {
    let frames: Vec<_> = (0..40u8)
        .map(|byte| (VnetHeader::default(), between(NYC, LON, &[byte; 50])))
        .collect();
    let (datagrams, received) = pass(&mut Host::new(NYC), &frames);
    let sent: Vec<_> = frames.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(received.frames, sent);
    assert!(datagrams <= 4, "{datagrams}");
}

#[test]
fn frames_for_another_peer_or_of_some_length_keep_their_order_and_travel_alone() {
    let mut nyc = Host::new(NYC);
    let frames = [
        between(NYC, LON, b"one"),
        between(NYC, MAC, b"two"),
        between(NYC, LON, &[3; 1000]),
        between(NYC, LON, b"four"),
    ];
    let frames = frames.map(|frame| (VnetHeader::default(), frame));
    let sent = nyc.send_all(&frames);
    let kinds: Vec<_> = sent
        .datagrams
        .iter()
        .map(|(_, datagram)| SealedHeader::decode(datagram).map(|header| header.kind))
        .collect();
    assert_eq!(kinds, [Ok(PayloadKind::Frame); 4]);
    let mut lon = Host::new(LON);
    let arrived: Vec<_> = sent
        .to(LON)
        .into_iter()
        .flat_map(|datagram| lon.receive(datagram).frames)
        .collect();
    let expected: Vec<_> = [0, 2, 3].map(|at: usize| frames[at].1.clone()).to_vec();
    assert_eq!(arrived, expected);
}

#[test]
fn a_shared_datagram_loses_what_may_not_pass_and_nothing_else() {
    let mut nyc = Host::new(NYC);
    nyc.fib.macs.clear();
    let spoofed = ethernet(station(LON), station(MAC), 0x88b5, b"from mac, it says");
    let honest = ethernet(station(LON), station(NYC), 0x88b5, b"hello");
    nyc.fib
        .learned
        .insert((crate::bench::SEGMENT, station(LON)), nyc.session(LON));
    let frames = [honest.clone(), spoofed, honest.clone()];
    let sent = nyc.send_all(&frames.map(|frame| (VnetHeader::default(), frame)));
    let mut lon = Host::new(LON);
    let received = lon.receive(sent.single());
    assert_eq!(received.frames, [honest.clone(), honest]);
    assert_eq!(lon.dropped(), Some(DropReason::SpoofedSource));
}

#[test]
fn a_super_frame_arrives_as_its_segments() {
    for protocol in [TCP, UDP] {
        let frame = unsummed(protocol, &payload(10_000));
        let frames = [(cut(protocol, 1300), frame.clone())];
        let (datagrams, received) = pass(&mut Host::new(NYC), &frames);
        assert_eq!(received.frames, segments(&frame, protocol, 1300));
        assert_eq!((datagrams, received.unsummed), (8, 8));
    }
}

#[test]
fn on_a_wide_path_several_segments_share_a_datagram() {
    let mut nyc = Host::new(NYC);
    narrow(&mut nyc, 8972);
    let frame = unsummed(TCP, &payload(60_000));
    let (datagrams, received) = pass(&mut nyc, &[(cut(TCP, 1316), frame.clone())]);
    assert_eq!(received.frames, segments(&frame, TCP, 1316));
    assert_eq!(datagrams, 60_000_usize.div_ceil(1316).div_ceil(6));
}

#[test]
fn on_a_narrow_path_tcp_is_cut_shorter_and_udp_travels_in_fragments() {
    let mut nyc = Host::new(NYC);
    narrow(&mut nyc, 672);
    let frame = unsummed(TCP, &payload(5000));
    let (datagrams, received) = pass(&mut nyc, &[(cut(TCP, 1316), frame.clone())]);
    let size = 672 - 32 - 4 - 54;
    assert_eq!(received.frames, segments(&frame, TCP, size));
    assert_eq!(datagrams, 5000_usize.div_ceil(size));
    let frame = unsummed(UDP, &payload(5000));
    let (_, received) = pass(&mut nyc, &[(cut(UDP, 1300), frame.clone())]);
    assert_eq!(received.frames, segments(&frame, UDP, 1300));
    assert_eq!(received.unsummed, 4);
}

#[test]
fn a_checksum_inside_a_tunnel_is_complete_when_it_travels() {
    let inner = unsummed(TCP, &payload(101));
    let mut frame = unsummed(UDP, &inner);
    frame[START + 6..START + 8].fill(0);
    let header = VnetHeader {
        flags: 1,
        csum_start: 34 + 8 + 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let (_, received) = pass(&mut Host::new(NYC), &[(header, frame.clone())]);
    assert_eq!(received.unsummed, 0);
    let arrived = &received.frames[0];
    assert_ne!(*arrived, frame);
    // The sum over a complete checksum is all ones (RFC 1071).
    let sum = arrived[34 + 8 + 34..].chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(pair[0]) * 256 + pair.get(1).map_or(0, |low| u32::from(*low))
    });
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn a_virtio_header_that_contradicts_its_frame_is_dropped() {
    let mut nyc = Host::new(NYC);
    let frame = unsummed(TCP, &payload(3000));
    let headers = [
        VnetHeader {
            csum_start: 9000,
            ..checksum(TCP)
        },
        VnetHeader {
            csum_start: 20,
            ..cut(TCP, 1300)
        },
        VnetHeader {
            gso_type: 3,
            ..cut(TCP, 1300)
        },
        cut(TCP, 0),
    ];
    for header in headers {
        assert!(nyc.send_all(&[(header, frame.clone())]).is_nothing());
        assert_eq!(
            nyc.dropped(),
            Some(DropReason::MalformedFrame),
            "{header:?}"
        );
    }
}

/// A frame, what is left to do for it, and the frames that it is for its receiver.
fn any_frame() -> impl Strategy<Value = (VnetHeader, Vec<u8>, Vec<Vec<u8>>)> {
    let protocol = prop_oneof![Just(TCP), Just(UDP)];
    (protocol, 1..4000usize, 0..4u8, 300..1500u16).prop_map(
        |(protocol, len, what, size)| match what {
            0 => {
                let frame = between(NYC, LON, &payload(len.min(1300)));
                (VnetHeader::default(), frame.clone(), vec![frame])
            }
            1 => {
                let frame = unsummed(protocol, &payload(len.min(60)));
                (checksum(protocol), frame.clone(), vec![frame])
            }
            2 => {
                let frame = unsummed(protocol, &payload(len.min(1300)));
                (checksum(protocol), frame.clone(), vec![frame])
            }
            _ => {
                let frame = unsummed(UDP, &payload(len));
                let cuts = segments(&frame, UDP, size.into());
                (cut(UDP, size), frame, cuts)
            }
        },
    )
}

proptest! {
    #[test]
    fn any_frames_arrive_whole_and_in_order_on_any_path(
        frames in proptest::collection::vec(any_frame(), 1..30), max_datagram in 500..9000usize,
    ) {
        let mut nyc = Host::new(NYC);
        narrow(&mut nyc, max_datagram);
        let expected: Vec<_> = frames.iter().flat_map(|(.., cuts)| cuts.clone()).collect();
        let sent: Vec<_> = frames.into_iter().map(|(header, frame, _)| (header, frame)).collect();
        let longest = nyc.send_all(&sent).datagrams.iter().map(|(_, one)| one.len()).max();
        prop_assert!(longest.is_some_and(|longest| longest <= max_datagram));
        let (_, received) = pass(&mut nyc, &sent);
        prop_assert_eq!(received.frames, expected);
    }
}
