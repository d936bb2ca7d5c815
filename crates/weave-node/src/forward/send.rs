//! From the containers to the network.

use std::net::{IpAddr, Ipv6Addr};

use weave_crypto::ReplayWindow;
use weave_wire::ether::{ArpOp, ArpView, NdView, arp_reply, neighbour_advertisement};
use weave_wire::{FRAME_HEADER_LEN, Mac, PayloadKind, SEALED_HEADER_LEN, SegmentId, TAG_LEN, Time};

use super::fragments::{self, Cuts};
use super::limits::{Flood, FloodLimits};
use super::policy::{self, Frame, Packet};
use super::{DropCounters, DropReason, Egress, Fib, FibSegment, FibSession, Owner};

/// Decides about frames of local containers, and seals what leaves the host.
///
/// One for each thread that reads the containers' interfaces; the data lanes of a [`Fib`] must
/// not be used by two.
#[derive(Debug)]
pub struct Forwarder {
    drops: DropCounters,
    limits: FloodLimits,
    next_fragment_id: u32,
}

/// What becomes of a frame.
enum Verdict {
    Drop(DropReason),
    /// Goes to one session.
    Send(usize),
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
            next_fragment_id: 0,
        }
    }

    /// Takes a frame that a container of this host sent on `segment`.
    pub fn forward_frame(
        &mut self,
        fib: &Fib,
        segment: SegmentId,
        frame: &[u8],
        now: Time,
        egress: &mut impl Egress,
    ) {
        let Some(here) = fib.segments.get(&segment) else {
            return self.drops.count(DropReason::UnknownSegment);
        };
        let view = match policy::admit(fib, frame) {
            Ok(view) => view,
            Err(reason) => return self.drops.count(reason),
        };
        let verdict = decide(fib, segment, &view);
        let asker = view.ethernet.src();
        match verdict {
            Verdict::Drop(reason) => self.drops.count(reason),
            Verdict::Send(index) => self.send(fib, index, segment, frame, now, egress),
            Verdict::Replicate => self.replicate(fib, here, segment, frame, now, egress),
            Verdict::Flood(flood) => {
                if !self.limits.take(segment, flood, now) {
                    return self.drops.count(DropReason::FloodLimited);
                }
                self.replicate(fib, here, segment, frame, now, egress);
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
        here: &FibSegment,
        segment: SegmentId,
        frame: &[u8],
        now: Time,
        egress: &mut impl Egress,
    ) {
        for index in &here.members {
            self.send(fib, *index, segment, frame, now, egress);
        }
    }

    /// Seals a frame for one session, in fragments when it does not fit.
    fn send(
        &mut self,
        fib: &Fib,
        index: usize,
        segment: SegmentId,
        frame: &[u8],
        now: Time,
        egress: &mut impl Egress,
    ) {
        let Some(session) = fib.sessions.get(index) else {
            return self.drops.count(DropReason::NoSession);
        };
        let sent = if SEALED_HEADER_LEN + FRAME_HEADER_LEN + frame.len() + TAG_LEN
            <= session.max_datagram
        {
            seal(
                session,
                PayloadKind::Frame,
                [&segment.encode(), frame],
                now,
                egress,
            )
        } else {
            self.send_cut(session, segment, frame, now, egress)
        };
        if let Err(reason) = sent {
            self.drops.count(reason);
        }
    }

    fn send_cut(
        &mut self,
        session: &FibSession,
        segment: SegmentId,
        frame: &[u8],
        now: Time,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let room = session.max_datagram.saturating_sub(fragments::OVERHEAD);
        let cuts =
            Cuts::new(segment, self.next_fragment_id, frame, room).ok_or(DropReason::TooBig)?;
        self.next_fragment_id = self.next_fragment_id.wrapping_add(1);
        for (header, part) in cuts {
            seal(
                session,
                PayloadKind::Fragment,
                [&header.encode(), part],
                now,
                egress,
            )?;
        }
        Ok(())
    }
}

fn decide(fib: &Fib, segment: SegmentId, frame: &Frame<'_>) -> Verdict {
    let (src, dst) = (frame.ethernet.src(), frame.ethernet.dst());
    if let Some(Owner::Remote { .. }) = fib.macs.get(&(segment, src)) {
        return Verdict::Drop(DropReason::SourceIsRemote);
    }
    if let Some(verdict) = answer(fib, segment, frame) {
        return verdict;
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
        Some(Owner::Remote { session: None, .. }) => Verdict::Drop(DropReason::NoSession),
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

/// Copies the parts into room for a datagram and seals them there.
fn seal(
    session: &FibSession,
    kind: PayloadKind,
    parts: [&[u8]; 2],
    now: Time,
    egress: &mut impl Egress,
) -> Result<(), DropReason> {
    // Room that was taken is sent, so whether the lane still seals is asked before.
    let lane = &session.data;
    if now >= lane.stop_at() || lane.sealed() >= ReplayWindow::COUNTER_LIMIT {
        return Err(DropReason::LaneClosed);
    }
    let [header, body] = parts;
    let len = SEALED_HEADER_LEN + header.len() + body.len() + TAG_LEN;
    let datagram = egress
        .datagram(session.addr, len)
        .ok_or(DropReason::EgressFull)?;
    let plaintext = datagram.get_mut(SEALED_HEADER_LEN..).and_then(|rest| {
        let (head, rest) = rest.split_at_mut_checked(header.len())?;
        let (tail, _) = rest.split_at_mut_checked(body.len())?;
        Some((head, tail))
    });
    let Some((head, tail)) = plaintext else {
        datagram.fill(0);
        return Err(DropReason::EgressFull);
    };
    head.copy_from_slice(header);
    tail.copy_from_slice(body);
    lane.seal(kind, now, datagram).map_err(|_| {
        datagram.fill(0);
        DropReason::LaneClosed
    })
}
