//! The two data threads: frames from the TAPs into datagrams, datagrams into frames.
//!
//! Each loads the forwarding table once per batch. Neither decides anything:
//! what is not a frame goes to the control loop, which may drop it under load.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc;
use weave_node::forward::{DropCounters, DropReason, Egress, Fib, Forwarder, Ingress, Receiver};
use weave_sys::Tap;
use weave_sys::poll::{Poller, Ready, Waker};
use weave_sys::udp::{UdpRx, UdpTx, Underlay};
use weave_wire::offload::{Checksum, VnetHeader};
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId};

use super::clock::Clock;

mod backlog;
mod coalesce;
mod congestion;
mod linger;

use backlog::{BATCHES, Backlog};
use coalesce::Run;
use congestion::Congestion;
use linger::Linger;

/// Times that one TAP gives something before the next has its turn.
const TURNS: usize = 16;
/// Bytes that were waiting in the socket beyond which there is a bulk transfer.
const BULK: usize = 16 << 10;
/// Bytes that were waiting in the socket beyond which senders are to slow down.
const TOO_MUCH: usize = 512 << 10;
/// Datagrams up to this length, in bytes, are not lost for that.
const SMALL: usize = 512;
/// Control datagrams that may wait for the control loop.
pub(crate) const CONTROL_QUEUE: usize = 1_024;

/// What the receive thread hands to the control loop.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A handshake datagram.
    Handshake(SocketAddr, Bytes),
    /// An opened control message.
    Control(ReceiverIndex, SocketAddr, Bytes),
    /// An unannounced source MAC.
    Learned(SegmentId, Mac, PeerId),
}

/// The TAP of each segment.
pub(crate) type Taps = BTreeMap<SegmentId, Arc<Tap>>;

/// What both threads share with the control loop.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The forwarding table in force.
    pub(crate) fib: ArcSwap<Fib>,
    /// The TAPs.
    pub(crate) taps: ArcSwap<Taps>,
    /// Frames and datagrams dropped, by reason.
    pub(crate) drops: DropCounters,
    udp_cuts: AtomicBool,
    udp_joins: bool,
    stop: AtomicBool,
}

/// What the datagrams between hosts leave to the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UdpOffloads {
    /// Runs are cut there (UDP_SEGMENT).
    pub(crate) cuts: bool,
    /// Runs are joined there (UDP_GRO).
    pub(crate) joins: bool,
}

impl Shared {
    /// What the datagrams leave to the kernel, as far as is known by now.
    pub(crate) fn udp_offloads(&self) -> UdpOffloads {
        UdpOffloads {
            cuts: self.udp_cuts.load(Ordering::Relaxed),
            joins: self.udp_joins,
        }
    }
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct DataPath {
    shared: Arc<Shared>,
    wakers: [Waker; 2],
}

impl DataPath {
    /// Starts both threads.
    ///
    /// # Errors
    /// When a thread or a descriptor cannot be had.
    pub(crate) fn start(
        underlay: &Underlay,
        clock: Clock,
        control: mpsc::Sender<Incoming>,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            fib: ArcSwap::default(),
            taps: ArcSwap::default(),
            drops: DropCounters::new(),
            udp_cuts: AtomicBool::new(underlay.cuts()),
            udp_joins: underlay.joins(),
            stop: AtomicBool::new(false),
        });
        let tx = TxThread {
            shared: Arc::clone(&shared),
            clock,
            poller: Poller::new()?,
            udp: underlay.sender(),
            forwarder: Forwarder::new(shared.drops.clone()),
        };
        let rx = RxThread {
            shared: Arc::clone(&shared),
            clock,
            poller: Poller::new()?,
            underlay: underlay.clone(),
            receiver: Receiver::new(shared.drops.clone()),
            control,
        };
        let wakers = [tx.poller.waker(), rx.poller.waker()];
        std::thread::Builder::new()
            .name("weave-tx".to_owned())
            .spawn(move || tx.run())?;
        std::thread::Builder::new()
            .name("weave-rx".to_owned())
            .spawn(move || rx.run())?;
        Ok(Self { shared, wakers })
    }

    /// What the threads share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Puts another set of TAPs in force.
    pub(crate) fn set_taps(&self, taps: Taps) {
        self.shared.taps.store(Arc::new(taps));
        self.wake();
    }

    fn wake(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }
}

impl Drop for DataPath {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake();
    }
}

struct TxThread {
    shared: Arc<Shared>,
    clock: Clock,
    poller: Poller,
    udp: UdpTx,
    forwarder: Forwarder,
}

impl TxThread {
    fn run(mut self) {
        let mut ready = Ready::new();
        let mut backlog = Backlog::new();
        let mut taps: Arc<Taps> = Arc::default();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.adopt(&mut taps);
            if let Err(error) = self.poller.wait(&mut ready, None) {
                tracing::error!(%error, "the transmit thread cannot wait");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            for token in ready.tokens() {
                let segment = u32::try_from(*token).map(SegmentId);
                if let Some(tap) = segment.ok().and_then(|segment| taps.get(&segment)) {
                    let segment = SegmentId(u32::try_from(*token).unwrap_or(0));
                    self.serve(segment, tap, &mut backlog);
                }
            }
        }
    }

    /// Watches new TAPs and lets go of those that are gone.
    fn adopt(&self, taps: &mut Arc<Taps>) {
        let new = self.shared.taps.load_full();
        if Arc::ptr_eq(&new, taps) {
            return;
        }
        for (segment, tap) in taps.iter() {
            if !new.get(segment).is_some_and(|kept| Arc::ptr_eq(kept, tap)) {
                let _ = self.poller.remove(&**tap);
            }
        }
        for (segment, tap) in new.iter() {
            if !taps
                .get(segment)
                .is_some_and(|known| Arc::ptr_eq(known, tap))
                && let Err(error) = self.poller.add(&**tap, u64::from(segment.0))
            {
                tracing::error!(%error, tap = tap.name(), "cannot watch the TAP");
            }
        }
        *taps = new;
    }

    /// Sends what waits at a TAP: other flows at once, bulk one batch at a time.
    fn serve(&mut self, segment: SegmentId, tap: &Tap, backlog: &mut Backlog) {
        let mut linger = Linger::default();
        let mut turns = 0;
        while turns < TURNS {
            let had_something = self.take_in(segment, tap, backlog);
            let had_bulk = self.send_bulk(segment, tap, backlog);
            turns += usize::from(had_something);
            if !linger.goes_on(had_something || had_bulk, had_bulk) {
                break;
            }
        }
        // the next TAP begins with none
        while self.send_bulk(segment, tap, backlog) {}
    }

    /// Reads all that waits, as far as there is room, and sends what is not bulk; answers whether
    /// there was something.
    fn take_in(&mut self, segment: SegmentId, tap: &Tap, backlog: &mut Backlog) -> bool {
        let mut had_something = false;
        for _ in 0..BATCHES {
            let Some(mut frames) = backlog.take_free() else {
                if backlog.give_one_up(self.clock.now()) {
                    self.shared.drops.count(DropReason::Congested);
                }
                break;
            };
            if let Err(error) = tap.recv_batch(&mut frames) {
                // a TAP that is down or gone stays readable: do not spin on it
                tracing::debug!(%error, tap = tap.name(), "cannot read the TAP");
                std::thread::sleep(Duration::from_millis(50));
            }
            let is_all = !frames.is_full();
            had_something |= !frames.is_empty();
            let batch = backlog.sort(frames);
            self.forward(segment, tap, batch.others());
            backlog.keep(batch);
            if is_all {
                break;
            }
        }
        had_something
    }

    /// Sends the oldest bulk; answers whether there was some.
    fn send_bulk(&mut self, segment: SegmentId, tap: &Tap, backlog: &mut Backlog) -> bool {
        let Some(batch) = backlog.next() else {
            return false;
        };
        self.forward(segment, tap, batch.bulk());
        backlog.done(batch);
        true
    }

    fn forward<'a>(
        &mut self,
        segment: SegmentId,
        tap: &Tap,
        frames: impl Iterator<Item = (VnetHeader, &'a [u8])>,
    ) {
        let fib = self.shared.fib.load();
        let now = self.clock.now();
        let mut egress = Underlaid {
            udp: &mut self.udp,
            tap,
        };
        self.forwarder
            .forward_frames(&fib, segment, frames, now, &mut egress);
        self.udp.flush();
        if !self.udp.cuts() {
            self.shared.udp_cuts.store(false, Ordering::Relaxed);
        }
    }
}

struct Underlaid<'a> {
    udp: &'a mut UdpTx,
    tap: &'a Tap,
}

impl Egress for Underlaid<'_> {
    fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.udp.datagram(to, len)
    }

    fn reply(&mut self, _segment: SegmentId, frame: &[u8]) {
        // a TAP that refuses the answer refuses the question's retry no more than this
        let _ = self.tap.send(frame);
    }
}

struct RxThread {
    shared: Arc<Shared>,
    clock: Clock,
    poller: Poller,
    underlay: Underlay,
    receiver: Receiver,
    control: mpsc::Sender<Incoming>,
}

impl RxThread {
    fn run(mut self) {
        let mut udp = self.underlay.receiver();
        if let Err(error) = self.poller.add(&self.underlay, 0) {
            tracing::error!(%error, "cannot watch the UDP socket");
            return;
        }
        let mut ready = Ready::new();
        let mut congestion = Congestion::default();
        while !self.shared.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.poller.wait(&mut ready, None) {
                tracing::error!(%error, "the receive thread cannot wait");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            let mut linger = Linger::default();
            loop {
                let had_something = matches!(udp.recv_batch(), Ok(count) if count > 0);
                if had_something {
                    self.take_in(&mut udp, &mut congestion);
                }
                if !linger.goes_on(had_something, udp.bytes() > BULK) {
                    break;
                }
            }
        }
    }

    /// Opens what was received and hands it on.
    fn take_in(&mut self, udp: &mut UdpRx, congestion: &mut Congestion) {
        let fib = self.shared.fib.load();
        let taps = self.shared.taps.load();
        let now = self.clock.now();
        let mut ingress = Delivery {
            taps: &taps,
            control: &self.control,
            drops: &self.shared.drops,
            run: None,
        };
        let mut is_too_much = udp.bytes() > TOO_MUCH && congestion.is_to_be_told(now);
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
    }
}

/// Puts frames on their TAPs. Neighbours that were cut from one super-frame become one again.
struct Delivery<'a, 'd> {
    taps: &'a Taps,
    control: &'a mpsc::Sender<Incoming>,
    drops: &'a DropCounters,
    run: Option<(&'a Tap, Run<'d>)>,
}

impl<'a, 'd> Delivery<'a, 'd> {
    /// The queue is bounded: what does not fit is lost, as any datagram may be.
    fn hand_over(&self, incoming: Incoming) {
        let _ = self.control.try_send(incoming);
    }

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
            self.note(coalesce::write(tap, frame, checksum));
        }
    }

    fn deliver_lent(&mut self, segment: SegmentId, frame: &'d mut [u8], checksum: Checksum) {
        let Some(tap) = self.tap(segment) else { return };
        if checksum == Checksum::Complete || !tap.has_headers() {
            return self.deliver(segment, frame, checksum);
        }
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

    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]) {
        self.hand_over(Incoming::Control(
            receiver,
            from,
            Bytes::copy_from_slice(plaintext),
        ));
    }

    fn handshake(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.hand_over(Incoming::Handshake(from, Bytes::copy_from_slice(datagram)));
    }

    fn learned(&mut self, segment: SegmentId, mac: Mac, peer: PeerId) {
        self.hand_over(Incoming::Learned(segment, mac, peer));
    }
}
