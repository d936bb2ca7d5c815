//! From the network to the containers: datagrams into frames for the TAPs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use weave_node::forward::{Count, DropCounters, DropReason, Ingress, Receiver};
use weave_sys::Tap;
use weave_sys::udp::{UdpRx, UdpTx, Underlay};
use weave_wire::offload::Checksum;
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId};

use super::super::clock::Clock;
use super::coalesce::{self, Run};
use super::congestion::Congestion;
use super::load::Load;
use super::{Incoming, Shared, Taps, ToControl};

/// Bytes that were waiting in the socket beyond which there is a bulk transfer.
const BULK: usize = 16 << 10;
/// Bytes that were waiting in the socket beyond which senders are to slow down.
const TOO_MUCH: usize = 512 << 10;
/// Datagrams up to this length, in bytes, are not lost for that.
const SMALL: usize = 512;

/// The receiving side, with every replay window.
pub(super) struct RxPath {
    shared: Arc<Shared>,
    clock: Clock,
    /// Sends what goes on to other peers.
    onward: UdpTx,
    receiver: Receiver,
    congestion: Congestion,
    control: ToControl,
}

impl RxPath {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        underlay: &Underlay,
        control: ToControl,
    ) -> Self {
        Self {
            clock,
            onward: underlay.sender(),
            receiver: Receiver::new(shared.drops.clone()),
            congestion: Congestion::default(),
            control,
            shared,
        }
    }

    /// Receives what waits in the socket, and hands it on.
    pub(super) fn look(&mut self, udp: &mut UdpRx) -> Load {
        match udp.recv_batch() {
            Ok(0) | Err(_) => Load::Nothing,
            Ok(_) => {
                self.take_in(udp);
                Load::of(udp.bytes() > BULK)
            }
        }
    }

    /// Opens what was received and hands it on.
    pub(super) fn take_in(&mut self, udp: &mut UdpRx) {
        let fib = self.shared.fib.load();
        let taps = self.shared.taps.load();
        let now = self.clock.now();
        let mut ingress = Delivery {
            taps: &taps,
            control: &self.control,
            drops: &self.shared.drops,
            onward: &mut self.onward,
            run: None,
            batch: Count::default(),
        };
        let mut is_too_much = udp.bytes() > TOO_MUCH && self.congestion.is_to_be_told(now);
        for (from, datagram) in udp.datagrams() {
            if is_too_much && datagram.len() > SMALL {
                is_too_much = false;
                self.shared.drops.count(DropReason::Congested);
                continue;
            }
            self.receiver
                .receive_datagram(&fib, from, datagram, now, &mut ingress);
        }
        ingress.flush();
        self.shared.traffic.received.add(ingress.batch);
        if self.onward.pending() > 0 {
            self.onward.flush();
        }
    }
}

/// Puts frames on their TAPs. Neighbours that were cut from one super-frame become one again.
struct Delivery<'a, 'd> {
    taps: &'a Taps,
    control: &'a ToControl,
    drops: &'a DropCounters,
    onward: &'a mut UdpTx,
    run: Option<(&'a Tap, Run<'d>)>,
    batch: Count,
}

impl<'a, 'd> Delivery<'a, 'd> {
    /// Writes what has waited for its neighbours.
    fn flush(&mut self) {
        if let Some((tap, run)) = self.run.take() {
            self.note(run.write_to(tap));
        }
    }

    fn note(&self, written: io::Result<()>) {
        if written.is_err() {
            self.drops.count(DropReason::TapRefused);
        }
    }

    fn tap(&self, segment: SegmentId) -> Option<&'a Tap> {
        let tap = self.taps.get(&segment);
        if tap.is_none() {
            self.drops.count(DropReason::UnknownSegment);
        }
        tap.map(|tap| &**tap)
    }
}

impl<'d> Ingress<'d> for Delivery<'_, 'd> {
    fn deliver(&mut self, segment: SegmentId, frame: &mut [u8], checksum: Checksum) {
        self.flush();
        if let Some(tap) = self.tap(segment) {
            self.batch.note(frame.len());
            self.note(coalesce::write(tap, frame, checksum));
        }
    }

    fn deliver_lent(&mut self, segment: SegmentId, frame: &'d mut [u8], checksum: Checksum) {
        let Some(tap) = self.tap(segment) else { return };
        if checksum == Checksum::Complete || !tap.has_headers() {
            return self.deliver(segment, frame, checksum);
        }
        self.batch.note(frame.len());
        let frame = match &mut self.run {
            Some((of, run)) if std::ptr::eq(*of, tap) => match run.add(frame) {
                Ok(()) => return,
                Err(frame) => frame,
            },
            Some(_) | None => frame,
        };
        self.flush();
        match Run::begin(frame) {
            Ok(run) => self.run = Some((tap, run)),
            Err(frame) => self.note(coalesce::write(tap, frame, checksum)),
        }
    }

    fn relay(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.onward.datagram(to, len)
    }

    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]) {
        self.control.send(Incoming::Control(
            receiver,
            from,
            Bytes::copy_from_slice(plaintext),
        ));
    }

    fn handshake(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !self.control.send_handshake(from, datagram) {
            self.drops.count(DropReason::HandshakeRate);
        }
    }

    fn learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId) {
        self.control.send(Incoming::Learned(segment, mac, peer));
    }
}
