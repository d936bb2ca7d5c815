//! From the network to the containers.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weave_wire::ether::NdView;
use weave_wire::offload::Checksum;
use weave_wire::{
    Circuit, DatagramError, DatagramType, FragmentHeader, HandshakeHeader, Lane, Mac, PayloadKind,
    PeerId, RELAY_LEN, ReceiverIndex, RecordHeader, RelayHeader, SEALED_HEADER_LEN, SealedHeader,
    SegmentId, TAG_LEN, Time, decode_frame,
};

use super::encapsulate::{inner, wrap};
use super::fragments::Reassembly;
use super::gate::Gate;
use super::policy::{self, Frame, Packet};
use super::windows::Windows;
use super::{
    CircuitEnd, Count, DropCounters, DropReason, Fib, FibSegment, Ingress, OpenLane, Owner,
};

/// Relays on the longest way.
pub(crate) const MOST_HOPS: usize = 3;

/// Opens datagrams and decides about what is in them.
///
/// One for each thread that reads the network; it alone knows which datagrams were already
/// received, so a key must not be served by two.
#[derive(Debug)]
pub struct Receiver {
    drops: DropCounters,
    windows: Windows,
    reassembly: Reassembly,
    recent: Recent,
    gate: Gate,
}

impl Receiver {
    /// A receiver that has received nothing yet.
    pub fn new(drops: DropCounters) -> Self {
        Self {
            drops,
            windows: Windows::default(),
            reassembly: Reassembly::default(),
            recent: Recent::new(),
            gate: Gate::new(),
        }
    }

    /// Builds in a fault, for the simulator to find.
    #[cfg(feature = "seeded-bugs")]
    pub fn seed_bug(&mut self, bug: Option<crate::seeded::SeededBug>) {
        self.windows.never_refuse = bug == Some(crate::seeded::SeededBug::Replay);
    }

    /// Takes a datagram from the network. Its bytes are opened where they lie.
    pub fn receive_datagram<'d>(
        &mut self,
        fib: &Fib,
        from: SocketAddr,
        datagram: &'d mut [u8],
        now: Time,
        ingress: &mut impl Ingress<'d>,
    ) {
        // nobody on the network has the address of a circuit
        let received = match Circuit::of(&from) {
            Some(_) => Err(DropReason::BadSource),
            None => self.receive(fib, from, datagram, now, MOST_HOPS, ingress),
        };
        if let Err(reason) = received {
            self.drops.count(reason);
        }
    }

    /// Takes a datagram from the network or out of another one; `hops` may follow.
    fn receive<'d>(
        &mut self,
        fib: &Fib,
        from: SocketAddr,
        datagram: &'d mut [u8],
        now: Time,
        hops: usize,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        match DatagramType::of(datagram).map_err(reason_of)? {
            DatagramType::Sealed => self.receive_sealed(fib, from, datagram, now, ingress),
            DatagramType::Relay => self.receive_relayed(fib, datagram, now, hops, ingress),
            DatagramType::HandshakeInit
            | DatagramType::HandshakeReply
            | DatagramType::HandshakeFinish
            | DatagramType::CookieReply
            | DatagramType::Reject => {
                let header = HandshakeHeader::decode(datagram).map_err(reason_of)?;
                self.gate.pass(fib, from, header.ty, datagram.len(), now)?;
                ingress.handshake(from, datagram);
                Ok(())
            }
        }
    }

    /// Takes another datagram out of this one, or sends it on, sealed for the next hop.
    fn receive_relayed<'d>(
        &mut self,
        fib: &Fib,
        datagram: &'d mut [u8],
        now: Time,
        hops: usize,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let header = RelayHeader::decode(datagram).map_err(reason_of)?;
        let index = header.circuit;
        let circuit = fib.circuits.get(&index.slot()).filter(|_| hops > 0);
        let circuit = circuit.ok_or(DropReason::NoCircuit)?;
        let key = ReceiverIndex::new(circuit.session, index.epoch_parity(), Lane::Relay);
        let sealed = Sealed {
            version: header.version,
            receiver: key,
            counter: header.counter,
        };
        let (_, plaintext) = self.open(fib, sealed, datagram, now)?;
        match &circuit.end {
            CircuitEnd::Here(from) => {
                let inner = datagram.get_mut(plaintext).ok_or(DropReason::BadPayload)?;
                self.receive(fib, *from, inner, now, hops - 1, ingress)
            }
            CircuitEnd::On(hops, to) => {
                // the room that this hop took serves for the next
                let more = hops.len().saturating_sub(1);
                let room = ingress
                    .relay(*to, datagram.len() + more * RELAY_LEN)
                    .ok_or(DropReason::EgressFull)?;
                inner(room, more).copy_from_slice(datagram);
                wrap(hops, now, room).map_err(|_| {
                    room.fill(0);
                    DropReason::LaneClosed
                })
            }
        }
    }

    fn receive_sealed<'d>(
        &mut self,
        fib: &Fib,
        from: SocketAddr,
        datagram: &'d mut [u8],
        now: Time,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let header = SealedHeader::decode(datagram).map_err(reason_of)?;
        let sealed = Sealed {
            version: header.version,
            receiver: header.receiver,
            counter: header.counter,
        };
        let (lane, plaintext) = self.open(fib, sealed, datagram, now)?;
        let plaintext = datagram.get_mut(plaintext).ok_or(DropReason::BadPayload)?;
        if lane.lane == Lane::Control && header.kind == PayloadKind::Control {
            ingress.control(header.receiver, from, plaintext);
            return Ok(());
        }
        if lane.lane != Lane::Data {
            return Err(DropReason::WrongLane);
        }
        let source = Source { lane, now };
        match header.kind {
            PayloadKind::Frame => {
                self.receive_frame(fib, source, plaintext, Checksum::Complete, ingress)
            }
            PayloadKind::UnsummedFrame => {
                self.receive_frame(fib, source, plaintext, Checksum::Partial, ingress)
            }
            PayloadKind::Frames => self.receive_frames(fib, source, plaintext, ingress),
            PayloadKind::Fragment => {
                self.receive_fragment(fib, source, plaintext, Checksum::Complete, ingress)
            }
            PayloadKind::UnsummedFragment => {
                self.receive_fragment(fib, source, plaintext, Checksum::Partial, ingress)
            }
            PayloadKind::Control => Err(DropReason::WrongLane),
        }
    }

    /// Opens a datagram whose counter is new, marks it as received, and tells where in it the
    /// plaintext lies.
    fn open<'f>(
        &mut self,
        fib: &'f Fib,
        sealed: Sealed,
        datagram: &mut [u8],
        now: Time,
    ) -> Result<(&'f Arc<OpenLane>, Range<usize>), DropReason> {
        if datagram.len() < SEALED_HEADER_LEN + TAG_LEN {
            return Err(DropReason::TooShort);
        }
        let lane = fib
            .open
            .get(&sealed.receiver.as_u32())
            .ok_or(DropReason::UnknownReceiver)?;
        if sealed.version != lane.version {
            return Err(DropReason::BadVersion);
        }
        if !self.windows.check(lane, sealed.counter) {
            return Err(DropReason::Replayed);
        }
        let (aad, rest) = datagram.split_at_mut(SEALED_HEADER_LEN);
        let len = lane
            .key
            .open_in_place(sealed.counter, aad, rest)
            .map_err(|_| DropReason::OpenFailed)?;
        if !self.windows.commit(fib, lane, sealed.counter) {
            return Err(DropReason::Replayed);
        }
        lane.heard.store(now.as_nanos(), Ordering::Relaxed);
        Ok((lane, SEALED_HEADER_LEN..SEALED_HEADER_LEN + len))
    }

    fn receive_fragment<'d>(
        &mut self,
        fib: &Fib,
        source: Source<'_>,
        plaintext: &[u8],
        checksum: Checksum,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let (header, part) = FragmentHeader::decode(plaintext).map_err(payload_reason)?;
        if part.is_empty() {
            return Err(DropReason::BadPayload);
        }
        let segment = header.segment;
        local_segment(fib, segment)?;
        let session = source.lane.receiver.slot();
        let whole = self
            .reassembly
            .add(session, header, part, source.now, &self.drops);
        let Some(frame) = whole else {
            return Ok(());
        };
        let heard = accept(fib, source.lane.peer, segment, frame)?;
        source.note_received(frame);
        ingress.deliver(segment, frame, checksum);
        self.learn(heard, source, segment, ingress);
        Ok(())
    }

    fn receive_frame<'d>(
        &mut self,
        fib: &Fib,
        source: Source<'_>,
        plaintext: &'d mut [u8],
        checksum: Checksum,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let (segment, frame) = decode_frame(plaintext).map_err(payload_reason)?;
        self.take_frame(fib, source, segment, frame, checksum, ingress)
    }

    /// Several frames of one segment. One that may not pass does not keep the others.
    fn receive_frames<'d>(
        &mut self,
        fib: &Fib,
        source: Source<'_>,
        plaintext: &'d mut [u8],
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let (segment, mut rest) = decode_frame(plaintext).map_err(payload_reason)?;
        if rest.is_empty() {
            return Err(DropReason::BadPayload);
        }
        while !rest.is_empty() {
            let (record, frame, left) = RecordHeader::take(rest).map_err(payload_reason)?;
            let checksum = record.checksum;
            if let Err(reason) = self.take_frame(fib, source, segment, frame, checksum, ingress) {
                self.drops.count(reason);
            }
            rest = left;
        }
        Ok(())
    }

    fn take_frame<'d>(
        &mut self,
        fib: &Fib,
        source: Source<'_>,
        segment: SegmentId,
        frame: &'d mut [u8],
        checksum: Checksum,
        ingress: &mut impl Ingress<'d>,
    ) -> Result<(), DropReason> {
        let heard = accept(fib, source.lane.peer, segment, frame)?;
        source.note_received(frame);
        ingress.deliver_lent(segment, frame, checksum);
        self.learn(heard, source, segment, ingress);
        Ok(())
    }

    fn learn<'d>(
        &mut self,
        heard: Option<Mac>,
        source: Source<'_>,
        segment: SegmentId,
        ingress: &mut impl Ingress<'d>,
    ) {
        let peer = source.lane.peer;
        if let Some(mac) = heard
            && self.recent.is_news(segment, mac, peer, source.now)
        {
            ingress.learned(segment, mac, peer);
        }
    }
}

/// How a datagram was sealed.
#[derive(Clone, Copy)]
struct Sealed {
    version: u8,
    /// Leads to the key.
    receiver: ReceiverIndex,
    counter: u64,
}

/// Where an opened datagram came from, and when.
#[derive(Clone, Copy)]
struct Source<'f> {
    lane: &'f OpenLane,
    now: Time,
}

impl Source<'_> {
    /// Counts a frame of the peer.
    fn note_received(&self, frame: &[u8]) {
        self.lane.traffic.received.add(Count::new(1, frame.len()));
    }
}

/// The receive rule: whether a frame from this peer may reach our containers. Answers its source
/// when nobody has announced that.
fn accept(
    fib: &Fib,
    peer: PeerId,
    segment: SegmentId,
    frame: &[u8],
) -> Result<Option<Mac>, DropReason> {
    let here = local_segment(fib, segment)?;
    let frame = policy::admit(fib, frame)?;
    let src = frame.ethernet.src();
    let owner = fib.macs.get(&(segment, src));
    match owner {
        Some(owner) if !owner.is(&peer) => return Err(DropReason::SpoofedSource),
        None if here.strict => return Err(DropReason::UnannouncedSource),
        Some(_) | None => {}
    }
    if claims_anothers_address(fib, segment, &peer, &frame) {
        return Err(DropReason::SpoofedAddress);
    }
    if here.strict && claims_unannounced_address(fib, segment, &frame) {
        return Err(DropReason::UnannouncedAddress);
    }
    if let Some(Owner::Remote { .. }) = fib.macs.get(&(segment, frame.ethernet.dst())) {
        return Err(DropReason::RemoteDestination);
    }
    Ok(owner.is_none().then_some(src))
}

fn local_segment(fib: &Fib, segment: SegmentId) -> Result<&FibSegment, DropReason> {
    fib.segments
        .get(&segment)
        .filter(|here| here.local)
        .ok_or(DropReason::UnknownSegment)
}

/// Whether the frame says that its sender has an address, or is a station, that someone else
/// announced.
fn claims_anothers_address(
    fib: &Fib,
    segment: SegmentId,
    peer: &PeerId,
    frame: &Frame<'_>,
) -> bool {
    match frame.packet {
        Packet::Arp(arp) => {
            fib.is_anothers_ip(segment, arp.sender_ip.into(), peer)
                || fib.is_anothers_mac(segment, arp.sender_mac, peer)
        }
        Packet::Ip { src } => fib.is_anothers_ip(segment, src, peer),
        Packet::Neighbour { src, message } => {
            fib.is_anothers_ip(segment, src, peer)
                || advertised(message).is_some_and(|ip| fib.is_anothers_ip(segment, ip, peer))
        }
        Packet::Other => false,
    }
}

/// Whether the frame says that its sender has an address that nobody announced, or is another
/// station than it is.
fn claims_unannounced_address(fib: &Fib, segment: SegmentId, frame: &Frame<'_>) -> bool {
    let station = frame.ethernet.src();
    let is_unannounced =
        |ip| !fib.ips.contains_key(&(segment, ip)) && !needs_no_announcement(ip, station);
    match frame.packet {
        Packet::Arp(arp) => arp.sender_mac != station || is_unannounced(arp.sender_ip.into()),
        Packet::Ip { src } => is_unannounced(src),
        Packet::Neighbour { src, message } => {
            is_unannounced(src) || advertised(message).is_some_and(is_unannounced)
        }
        Packet::Other => false,
    }
}

/// The address that a message says its sender has.
fn advertised(message: NdView) -> Option<IpAddr> {
    match message {
        NdView::NeighbourAdvertisement { target } => Some(target.into()),
        NdView::NeighbourSolicitation { .. } | NdView::RouterAdvertisement | NdView::Redirect => {
            None
        }
    }
}

/// Addresses of those who have none yet, and the link-local one that goes with a station (RFC 4291,
/// appendix A).
fn needs_no_announcement(ip: IpAddr, src: Mac) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip == src.link_local(),
    }
}

const fn reason_of(error: DatagramError) -> DropReason {
    match error {
        DatagramError::TooShort => DropReason::TooShort,
        DatagramError::Version => DropReason::BadVersion,
        DatagramError::Type
        | DatagramError::Kind
        | DatagramError::Reserved
        | DatagramError::Fragment => DropReason::BadHeader,
        _ => DropReason::BadHeader,
    }
}

const fn payload_reason(_: DatagramError) -> DropReason {
    DropReason::BadPayload
}

/// How often a station without announcement is reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(30);
const RECENT: usize = 256;

/// Stations that were reported lately, so that not every frame is news. Two that share a place
/// take turns, which costs reports and nothing else.
#[derive(Debug)]
struct Recent {
    places: Vec<Option<(SegmentId, Mac, PeerId, Time)>>,
}

impl Recent {
    fn new() -> Self {
        Self {
            places: vec![None; RECENT],
        }
    }

    fn is_news(&mut self, segment: SegmentId, mac: Mac, peer: PeerId, now: Time) -> bool {
        let hash = mac.0.iter().fold(segment.0, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let Some(place) = self.places.get_mut((hash >> 8) as usize % RECENT) else {
            return true;
        };
        if let Some((known_segment, known_mac, known_peer, since)) = place
            && (*known_segment, *known_mac, *known_peer) == (segment, mac, peer)
            && now.saturating_sub(*since) < REPORT_AGAIN
        {
            return false;
        }
        *place = Some((segment, mac, peer, now));
        true
    }
}
