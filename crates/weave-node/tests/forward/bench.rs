//! Three hosts, `nyc`, `lon` and `mac`, whose tables are built by hand, and frames to send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use weave_crypto::{Chain, Role, SendLane, Suite};
use weave_node::forward::{
    Counts, DropCounters, DropReason, Egress, Fib, FibSegment, FibSession, Forwarder, Ingress,
    OpenLane, Owner, Receiver, Traffic,
};
use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Lane, Mac, PeerId, ReceiverIndex, SegmentId, Time};

pub(crate) const SEGMENT: SegmentId = SegmentId(0x447a_b075);
pub(crate) const NYC: PeerId = PeerId([1; 32]);
pub(crate) const LON: PeerId = PeerId([2; 32]);
pub(crate) const MAC: PeerId = PeerId([3; 32]);
/// A peer that announces but has no session with anyone.
pub(crate) const FAR: PeerId = PeerId([4; 32]);
pub(crate) const ANYCAST: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);
pub(crate) const NOW: Time = Time::from_secs(10);
pub(crate) const STOP: Time = Time::from_secs(180);

/// The station, and with it the addresses, that each peer announces.
pub(crate) const fn station(peer: PeerId) -> Mac {
    Mac([2, 0x42, 0, 0, 0, peer.0[0]])
}

pub(crate) const fn v4(peer: PeerId) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, peer.0[0])
}

pub(crate) const fn v6(peer: PeerId) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, peer.0[0] as u16)
}

pub(crate) fn addr(peer: PeerId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, peer.0[0]], 6783))
}

/// The index under which `to` opens what `from` seals.
pub(crate) fn index(from: PeerId, to: PeerId, lane: Lane) -> ReceiverIndex {
    ReceiverIndex::new(u32::from(from.0[0]) * 16 + u32::from(to.0[0]), 0, lane)
}

/// Both ends of a lane; `generation` tells keys apart that share an index.
pub(crate) fn lane(from: PeerId, to: PeerId, lane: Lane, generation: u8) -> (SendLane, OpenLane) {
    let chain = Chain::first(&[from.0[0] * 16 + to.0[0] + generation * 64; 32]);
    let (seal, _) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Initiator, lane);
    let (_, key) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, lane);
    let receiver = index(from, to, lane);
    let heard = Arc::new(AtomicU64::new(0));
    (
        SendLane::new(seal, 1, receiver, STOP),
        OpenLane {
            version: 1,
            key,
            receiver,
            peer: from,
            lane,
            heard,
            traffic: Arc::default(),
        },
    )
}

pub(crate) struct Host {
    pub(crate) fib: Fib,
    pub(crate) forwarder: Forwarder,
    pub(crate) receiver: Receiver,
    pub(crate) drops: DropCounters,
    /// Index for index with `fib.sessions`.
    pub(crate) control: Vec<SendLane>,
    counted: Vec<(DropReason, u64)>,
}

impl Host {
    /// One of three hosts that know each other, with one announced station each.
    pub(crate) fn new(me: PeerId) -> Self {
        let others: Vec<PeerId> = [NYC, LON, MAC]
            .into_iter()
            .filter(|peer| *peer != me)
            .collect();
        let mut fib = Fib {
            ignored_ips: vec![ANYCAST.into()],
            ..Fib::default()
        };
        let mut control = Vec::new();
        for (session, peer) in others.iter().enumerate() {
            let traffic = Arc::new(Traffic::default());
            let data = Arc::new(lane(me, *peer, Lane::Data, 0).0);
            control.push(lane(me, *peer, Lane::Control, 0).0);
            fib.sessions.push(FibSession {
                peer: *peer,
                addr: addr(*peer),
                hops: Vec::new(),
                max_datagram: 1452,
                data,
                traffic: Arc::clone(&traffic),
            });
            announce(
                &mut fib,
                *peer,
                Owner::Remote {
                    peer: *peer,
                    session: Some(session),
                },
            );
            for name in [Lane::Data, Lane::Control, Lane::Relay] {
                let mut open = lane(*peer, me, name, 0).1;
                open.traffic = Arc::clone(&traffic);
                fib.open.insert(open.receiver.as_u32(), Arc::new(open));
            }
        }
        announce(&mut fib, me, Owner::Local);
        announce(
            &mut fib,
            FAR,
            Owner::Remote {
                peer: FAR,
                session: None,
            },
        );
        let members = (0..others.len()).collect();
        fib.segments.insert(
            SEGMENT,
            FibSegment {
                lacks_members: false,
                strict: false,
                local: true,
                members,
            },
        );
        let drops = DropCounters::new();
        let (forwarder, receiver) = (Forwarder::new(drops.clone()), Receiver::new(drops.clone()));
        Self {
            fib,
            forwarder,
            receiver,
            drops,
            control,
            counted: Vec::new(),
        }
    }

    /// What leaves when a container of this host sends a frame.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Sent {
        self.send_at(frame, NOW)
    }

    pub(crate) fn send_at(&mut self, frame: &[u8], now: Time) -> Sent {
        let mut sent = Sent::default();
        self.forwarder
            .forward_frame(&self.fib, SEGMENT, frame, now, &mut sent);
        sent
    }

    /// What leaves when a container of this host sends frames that are read together.
    pub(crate) fn send_all(&mut self, frames: &[(VnetHeader, Vec<u8>)]) -> Sent {
        let mut sent = Sent::default();
        let frames = frames.iter().map(|(header, frame)| (*header, &frame[..]));
        self.forwarder
            .forward_frames(&self.fib, SEGMENT, frames, NOW, &mut sent);
        sent
    }

    /// What arrives when a datagram comes from the network.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Received {
        self.receive_at(datagram, NOW)
    }

    pub(crate) fn receive_at(&mut self, datagram: &[u8], now: Time) -> Received {
        self.receive_from(addr(NYC), datagram, now)
    }

    pub(crate) fn receive_from(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Time,
    ) -> Received {
        let mut received = Received::default();
        let mut bytes = datagram.to_vec();
        self.receiver
            .receive_datagram(&self.fib, from, &mut bytes, now, &mut received);
        received
    }

    /// Session with this peer.
    pub(crate) fn session(&self, peer: PeerId) -> usize {
        self.fib
            .sessions
            .iter()
            .position(|session| session.peer == peer)
            .expect("a session")
    }

    /// Frames that passed between here and this peer.
    pub(crate) fn traffic(&self, peer: PeerId) -> Counts {
        self.fib.sessions[self.session(peer)].traffic.read()
    }

    pub(crate) fn segment(&mut self) -> &mut FibSegment {
        self.fib.segments.get_mut(&SEGMENT).expect("the segment")
    }

    /// The reason of the only drop since this was asked last.
    pub(crate) fn dropped(&mut self) -> Option<DropReason> {
        let counted: Vec<(DropReason, u64)> = self.drops.snapshot().collect();
        let before = std::mem::replace(&mut self.counted, counted.clone());
        let new: Vec<DropReason> = counted
            .iter()
            .enumerate()
            .flat_map(|(at, (reason, count))| {
                let old = before.get(at).map_or(0, |(_, old)| *old);
                (old..*count).map(|_| *reason)
            })
            .collect();
        assert!(new.len() <= 1, "{new:?}");
        new.first().copied()
    }
}

fn announce(fib: &mut Fib, peer: PeerId, owner: Owner) {
    fib.macs.insert((SEGMENT, station(peer)), owner);
    for ip in [IpAddr::V4(v4(peer)), IpAddr::V6(v6(peer))] {
        fib.ips.insert((SEGMENT, ip), (station(peer), owner));
    }
}

/// What a forwarder put out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) is_full: bool,
}

impl Sent {
    /// The datagrams for one peer.
    pub(crate) fn to(&self, peer: PeerId) -> Vec<&[u8]> {
        let here = self.datagrams.iter().filter(|(to, _)| *to == addr(peer));
        here.map(|(_, datagram)| datagram.as_slice()).collect()
    }

    /// The only datagram.
    pub(crate) fn single(&self) -> &[u8] {
        let [(_, datagram)] = self.datagrams.as_slice() else {
            panic!("{} datagrams", self.datagrams.len());
        };
        datagram
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.datagrams.is_empty() && self.replies.is_empty()
    }
}

impl Egress for Sent {
    fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        if self.is_full {
            return None;
        }
        self.datagrams.push((to, vec![0xaa; len]));
        self.datagrams
            .last_mut()
            .map(|(_, datagram)| datagram.as_mut_slice())
    }

    fn reply(&mut self, segment: SegmentId, frame: &[u8]) {
        assert_eq!(segment, SEGMENT);
        self.replies.push(frame.to_vec());
    }

    fn unreached(&mut self, _peer: PeerId, _header: VnetHeader, _frame: &[u8]) -> bool {
        false
    }

    fn not_all_reached(&mut self, _segment: SegmentId) {}
}

/// What a receiver put out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) frames: Vec<Vec<u8>>,
    /// How many of them have a partial checksum.
    pub(crate) unsummed: usize,
    pub(crate) control: Vec<(ReceiverIndex, SocketAddr, Vec<u8>)>,
    pub(crate) handshakes: Vec<Vec<u8>>,
    pub(crate) learned: Vec<(Mac, PeerId)>,
    pub(crate) relayed: Vec<(SocketAddr, Vec<u8>)>,
}

impl Received {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Ingress<'_> for Received {
    fn deliver(&mut self, segment: SegmentId, frame: &mut [u8], checksum: Checksum) {
        assert_eq!(segment, SEGMENT);
        self.frames.push(frame.to_vec());
        self.unsummed += usize::from(checksum == Checksum::Partial);
    }

    fn relay(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.relayed.push((to, vec![0xaa; len]));
        self.relayed
            .last_mut()
            .map(|(_, datagram)| &mut datagram[..])
    }

    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]) {
        self.control.push((receiver, from, plaintext.to_vec()));
    }

    fn handshake(&mut self, _: SocketAddr, datagram: &[u8]) {
        self.handshakes.push(datagram.to_vec());
    }

    fn learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId) {
        assert_eq!(segment, SEGMENT);
        self.learned.push((mac, peer));
    }
}

pub(crate) fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet in a frame, from one station to another.
pub(crate) fn ip_frame(
    dst: Mac,
    src: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
    payload: &[u8],
) -> Vec<u8> {
    let header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
    let packet = [&header[..], &from.octets(), &to.octets(), payload].concat();
    ethernet(dst, src, 0x0800, &packet)
}

/// A packet from the container of one peer to that of another.
pub(crate) fn between(from: PeerId, to: PeerId, payload: &[u8]) -> Vec<u8> {
    ip_frame(station(to), station(from), v4(from), v4(to), payload)
}

pub(crate) fn arp(
    op: u8,
    dst: Mac,
    src: Mac,
    sender: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, op];
    let parts: [&[u8]; 5] = [
        &fixed,
        &sender.0.0,
        &sender.1.octets(),
        &[0; 6],
        &target.octets(),
    ];
    ethernet(dst, src, 0x0806, &parts.concat())
}

/// An ARP request of a peer's container.
pub(crate) fn who_has(asker: PeerId, target: Ipv4Addr) -> Vec<u8> {
    arp(
        1,
        Mac::BROADCAST,
        station(asker),
        (station(asker), v4(asker)),
        target,
    )
}

/// A message of neighbour discovery: 134 advertisement of a router, 135 solicitation, 136
/// advertisement.
pub(crate) fn discovery(ty: u8, src_mac: Mac, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = Mac([0x33, 0x33, 0xff, 0, 0, target.octets()[15]]);
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let header = [0x60, 0, 0, 0, 0, 24, 58, 255];
    let icmp = [&[ty, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    let packet = [&header[..], &src.octets(), &all.octets(), &icmp].concat();
    ethernet(group, src_mac, 0x86dd, &packet)
}
