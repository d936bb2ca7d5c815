//! From the containers to the network.

use std::net::{IpAddr, Ipv6Addr};

use weave_wire::ether::{ArpOp, ArpView, NdView, arp_reply, neighbour_advertisement};
use weave_wire::offload::{Offload, VnetHeader};
use weave_wire::{Mac, PeerId, SegmentId, Time};

use super::encapsulate::{Encapsulator, Pack, Path, Ready};
use super::limits::{Flood, FloodLimits};
use super::policy::{self, Frame, Packet};
use super::{DropCounters, DropReason, Egress, Fib, FibSegment, Owner};

/// Decides about frames of local containers, and seals what leaves the host.
///
/// One for each thread that reads the containers' interfaces; the data lanes of a [`Fib`] must
/// not be used by two.
#[derive(Debug)]
pub struct Forwarder {
    drops: DropCounters,
    limits: FloodLimits,
    encapsulator: Encapsulator,
}

/// What becomes of a frame.
enum Verdict {
    Drop(DropReason),
    /// Goes to one session.
    Send(usize),
    /// Goes to a peer that there is no session with.
    Unreached(PeerId),
    /// Goes to all members of the segment.
    Replicate,
    /// Goes to all members, within the limit.
    Flood(Flood),
    /// The router answers: the station has the address.
    AnswerArp(ArpView, Mac),
    AnswerNeighbour {
        asker: Ipv6Addr,
        target: Ipv6Addr,
        mac: Mac,
    },
}

impl Forwarder {
    /// A forwarder that has sent nothing yet.
    pub fn new(drops: DropCounters) -> Self {
        Self {
            drops,
            limits: FloodLimits::default(),
            encapsulator: Encapsulator::default(),
        }
    }

    /// Takes a finished frame that a container of this host sent on `segment`.
    pub fn forward_frame(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        frame: &[u8],
        now: Time,
        egress: &mut impl Egress,
    ) {
        let frames = [(VnetHeader::default(), frame)];
        self.forward_frames(fib, segment, frames, now, egress);
    }

    /// Takes frames that containers of this host sent on `segment`, in order, each with what is
    /// left to do for it. Small ones that follow each other to the same peer share a datagram.
    pub fn forward_frames<'a>(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        frames: impl IntoIterator<Item = (VnetHeader, &'a [u8])>,
        now: Time,
        egress: &mut impl Egress,
    ) {
        let mut pack = Pack::new();
        for (header, bytes) in frames {
            let frame = match Unfinished::of(fib, segment, header, bytes) {
                Ok(frame) => frame,
                Err(reason) => {
                    self.drops.count(reason);
                    continue;
                }
            };
            self.forward(fib, segment, &frame, now, &mut pack, egress);
        }
        self.send_pack(fib, segment, &mut pack, now, egress);
    }

    fn forward<'a>(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        frame: &Unfinished<'a, '_>,
        now: Time,
        pack: &mut Pack<'a>,
        egress: &mut impl Egress,
    ) {
        let asker = frame.view.ethernet.src();
        match decide(fib, segment, frame.here.strict, &frame.view) {
            Verdict::Drop(reason) => self.drops.count(reason),
            Verdict::Send(index) => {
                if !share(fib, index, segment, frame, now, pack) {
                    self.send_pack(fib, segment, pack, now, egress);
                    if !share(fib, index, segment, frame, now, pack) {
                        self.send(fib, index, segment, frame, now, egress);
                    }
                }
            }
            Verdict::Unreached(peer) => {
                if !egress.unreached(peer, frame.header, frame.bytes) {
                    self.drops.count(DropReason::NoSession);
                }
            }
            Verdict::Replicate => {
                self.send_pack(fib, segment, pack, now, egress);
                self.replicate(fib, segment, frame, now, egress);
            }
            Verdict::Flood(flood) => {
                if !self.limits.take(segment, flood, now) {
                    return self.drops.count(DropReason::FloodLimited);
                }
                self.send_pack(fib, segment, pack, now, egress);
                self.replicate(fib, segment, frame, now, egress);
            }
            Verdict::AnswerArp(request, mac) => {
                egress.reply(segment, &arp_reply(&request, asker, mac));
            }
            Verdict::AnswerNeighbour {
                asker: ip,
                target,
                mac,
            } => {
                egress.reply(segment, &neighbour_advertisement(ip, asker, target, mac));
            }
        }
    }

    fn replicate(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        frame: &Unfinished<'_, '_>,
        now: Time,
        egress: &mut impl Egress,
    ) {
        for index in &frame.here.members {
            self.send(fib, *index, segment, frame, now, egress);
        }
        if frame.here.lacks_members && !frame.view.is_announcement() {
            egress.not_all_reached(segment);
        }
    }

    fn send(
        &mut self,
        fib: &Fib,
        index: usize,
        segment: SegmentId,
        frame: &Unfinished<'_, '_>,
        now: Time,
        egress: &mut impl Egress,
    ) {
        let sent = path(fib, index, segment, now).and_then(|path| {
            self.encapsulator
                .send(path, frame.bytes, frame.offload, egress)
        });
        if let Err(reason) = sent {
            self.drops.count(reason);
        }
    }

    /// Sends the frames that have waited for others.
    fn send_pack(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        pack: &mut Pack<'_>,
        now: Time,
        egress: &mut impl Egress,
    ) {
        let Some(index) = pack.session() else { return };
        let frames = pack.take();
        let count = frames.0.len();
        let sent = path(fib, index, segment, now)
            .and_then(|path| self.encapsulator.send_pack(path, frames, egress));
        if let Err(reason) = sent {
            (0..count).for_each(|_| self.drops.count(reason));
        }
    }
}

/// A frame as a container sent it.
struct Unfinished<'a, 'f> {
    header: VnetHeader,
    bytes: &'a [u8],
    view: Frame<'a>,
    offload: Offload,
    here: &'f FibSegment,
}

impl<'a, 'f> Unfinished<'a, 'f> {
    fn of(
        fib: &'f Fib,
        segment: SegmentId,
        header: VnetHeader,
        bytes: &'a [u8],
    ) -> Result<Self, DropReason> {
        let here = fib.segments.get(&segment);
        Ok(Self {
            header,
            bytes,
            here: here.ok_or(DropReason::UnknownSegment)?,
            view: policy::admit(fib, bytes)?,
            offload: header.offload().map_err(|_| DropReason::MalformedFrame)?,
        })
    }
}

fn path(fib: &Fib, index: usize, segment: SegmentId, now: Time) -> Result<Path<'_>, DropReason> {
    let session = fib.sessions.get(index).ok_or(DropReason::NoSession)?;
    Ok(Path {
        session,
        segment,
        now,
    })
}

/// Lets a frame wait for those that follow it, when it is small.
fn share<'a>(
    fib: &Fib,
    index: usize,
    segment: SegmentId,
    frame: &Unfinished<'a, '_>,
    now: Time,
    pack: &mut Pack<'a>,
) -> bool {
    let (Ok(path), Some(ready)) = (
        path(fib, index, segment, now),
        Ready::new(frame.bytes, frame.offload),
    ) else {
        return false;
    };
    pack.add(index, path, ready)
}

fn decide(fib: &Fib, segment: SegmentId, strict: bool, frame: &Frame<'_>) -> Verdict {
    let (src, dst) = (frame.ethernet.src(), frame.ethernet.dst());
    if let Some(Owner::Remote { .. }) = fib.macs.get(&(segment, src)) {
        return Verdict::Drop(DropReason::SourceIsRemote);
    }
    if strict && !fib.macs.contains_key(&(segment, src)) {
        return Verdict::Drop(DropReason::UnannouncedSource);
    }
    if let Some(verdict) = answer(fib, segment, frame) {
        return verdict;
    }
    if dst == Mac::BROADCAST {
        return Verdict::Flood(Flood::Broadcast);
    }
    if dst.is_multicast() {
        return Verdict::Replicate;
    }
    match fib.macs.get(&(segment, dst)) {
        Some(Owner::Local) => Verdict::Drop(DropReason::LocalDestination),
        Some(Owner::Remote {
            session: Some(index),
            ..
        }) => Verdict::Send(*index),
        Some(Owner::Remote {
            session: None,
            peer,
        }) => Verdict::Unreached(*peer),
        None if strict => Verdict::Drop(DropReason::UnannouncedDestination),
        None => fib
            .learned
            .get(&(segment, dst))
            .map_or(Verdict::Flood(Flood::Station), |index| {
                Verdict::Send(*index)
            }),
    }
}

/// What becomes of a question for an address; `None` when the frame is none, or goes the way of
/// all frames. Behind a VLAN tag are other networks than those we know the addresses of.
fn answer(fib: &Fib, segment: SegmentId, frame: &Frame<'_>) -> Option<Verdict> {
    if frame.ethernet.is_tagged() {
        return None;
    }
    let (target, yes): (IpAddr, _) = match frame.packet {
        Packet::Arp(arp) if arp.op == ArpOp::Request => (arp.target_ip.into(), Question::Arp(arp)),
        Packet::Neighbour {
            src: IpAddr::V6(asker),
            message: NdView::NeighbourSolicitation { target },
        } => (target.into(), Question::Neighbour { asker, target }),
        Packet::Arp(_) | Packet::Neighbour { .. } | Packet::Ip { .. } | Packet::Other => {
            return None;
        }
    };
    match fib.ips.get(&(segment, target)) {
        Some((_, Owner::Local)) => Some(Verdict::Drop(DropReason::LocalDestination)),
        Some((mac, Owner::Remote { .. })) => Some(yes.answered_with(*mac)),
        None if frame.ethernet.dst().is_multicast() => Some(Verdict::Flood(Flood::Address)),
        None => None,
    }
}

enum Question {
    Arp(ArpView),
    Neighbour { asker: Ipv6Addr, target: Ipv6Addr },
}

impl Question {
    const fn answered_with(self, mac: Mac) -> Verdict {
        match self {
            Self::Arp(request) => Verdict::AnswerArp(request, mac),
            Self::Neighbour { asker, target } => Verdict::AnswerNeighbour { asker, target, mac },
        }
    }
}
