//! From the containers to the network: frames of the TAPs into datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weave_node::forward::{Count, DropReason, Egress, Forwarder};
use weave_sys::Tap;
use weave_sys::poll::{Poller, Ready, Waker};
use weave_sys::udp::{UdpTx, Underlay};
use weave_wire::ether::EthernetView;
use weave_wire::offload::VnetHeader;
use weave_wire::{PeerId, SegmentId, Time};

use super::super::clock::Clock;
use super::backlog::{BATCHES, Backlog};
use super::linger::Linger;
use super::load::Load;
use super::parked::{Frame, Parked, Wanted};
use super::{Incoming, Shared, Taps, ToControl};

/// Times that one TAP gives something before the next has its turn.
const TURNS: usize = 16;

/// The sending side, with the send lanes of data.
pub(super) struct TxPath {
    shared: Arc<Shared>,
    clock: Clock,
    poller: Poller,
    ready: Ready,
    udp: UdpTx,
    forwarder: Forwarder,
    backlog: Backlog,
    parked: Parked,
    taps: Arc<Taps>,
    control: ToControl,
}

impl TxPath {
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        underlay: &Underlay,
        control: ToControl,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            clock,
            poller: Poller::new()?,
            ready: Ready::new(),
            udp: underlay.sender(),
            forwarder: Forwarder::new(shared.drops.clone()),
            backlog: Backlog::new(),
            parked: Parked::default(),
            control,
            taps: Arc::default(),
            shared,
        })
    }

    /// What can be read when a TAP can, or when [`Self::waker`] was used.
    pub(super) fn poller(&self) -> &Poller {
        &self.poller
    }

    /// To be used when the set of TAPs changed.
    pub(super) fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Waits until a TAP has something, and sends all that waits there.
    pub(super) fn wait(&mut self, timeout: Duration) -> Load {
        self.serve_ready(timeout, Self::serve)
    }

    /// Sends what waits now.
    pub(super) fn look(&mut self) -> Load {
        self.serve_ready(Duration::ZERO, |path, segment, tap| {
            let load = path.turn(segment, tap);
            path.send_all_bulk(segment, tap);
            load
        })
    }

    fn serve_ready(
        &mut self,
        timeout: Duration,
        mut serve: impl FnMut(&mut Self, SegmentId, &Tap) -> Load,
    ) -> Load {
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.poller.wait(&mut ready, Some(timeout)) {
            tracing::error!(%error, "cannot wait for the TAPs");
            std::thread::sleep(Duration::from_millis(100));
        }
        self.adopt();
        self.send_parked();
        let taps = Arc::clone(&self.taps);
        let mut load = Load::Nothing;
        for token in ready.tokens() {
            let segment = u32::try_from(*token).map(SegmentId);
            if let Ok(segment) = segment
                && let Some(tap) = taps.get(&segment)
            {
                load = load.max(serve(self, segment, tap));
            }
        }
        self.ready = ready;
        load
    }

    /// Sends the frames that waited for a session, when there is one.
    fn send_parked(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        let now = self.clock.now();
        let fib = self.shared.fib.load_full();
        let taps = Arc::clone(&self.taps);
        for frame in self.parked.take() {
            let to = EthernetView::parse(&frame.bytes).map(|ethernet| ethernet.dst());
            let waits = to.is_some_and(|to| fib.is_unreached(frame.segment, to));
            match taps.get(&frame.segment) {
                Some(_) if waits && !frame.is_late(now) => {
                    self.parked.keep(frame);
                }
                Some(tap) if !waits => {
                    let frames = [(frame.header, frame.bytes.as_slice())];
                    self.forward(frame.segment, tap, frames.into_iter());
                }
                Some(_) | None => self.shared.drops.count(DropReason::NoSession),
            }
        }
        self.shared.note_parked(!self.parked.is_empty(), &fib);
    }

    /// Watches new TAPs and lets go of those that are gone.
    fn adopt(&mut self) {
        let new = self.shared.taps.load_full();
        if Arc::ptr_eq(&new, &self.taps) {
            return;
        }
        for (segment, tap) in self.taps.iter() {
            if !new.get(segment).is_some_and(|kept| Arc::ptr_eq(kept, tap)) {
                let _ = self.poller.remove(&**tap);
            }
        }
        for (segment, tap) in new.iter() {
            let known = self.taps.get(segment);
            if !known.is_some_and(|known| Arc::ptr_eq(known, tap))
                && let Err(error) = self.poller.add(&**tap, u64::from(segment.0))
            {
                tracing::error!(%error, tap = tap.name(), "cannot watch the TAP");
            }
        }
        self.taps = new;
    }

    /// Sends what waits at a TAP, and what comes meanwhile.
    fn serve(&mut self, segment: SegmentId, tap: &Tap) -> Load {
        let mut linger = Linger::default();
        let mut most = Load::Nothing;
        let mut turns = 0;
        while turns < TURNS {
            let load = self.turn(segment, tap);
            most = most.max(load);
            turns += usize::from(load > Load::Nothing);
            if !linger.goes_on(load) {
                break;
            }
        }
        self.send_all_bulk(segment, tap);
        most
    }

    /// Sends what waits at a TAP: other flows at once, bulk one batch at a time.
    fn turn(&mut self, segment: SegmentId, tap: &Tap) -> Load {
        let load = self.take_in(segment, tap);
        match self.send_bulk(segment, tap) {
            true => Load::Bulk,
            false => load,
        }
    }

    /// Reads all that waits, as far as there is room, and sends what is not bulk.
    fn take_in(&mut self, segment: SegmentId, tap: &Tap) -> Load {
        let mut load = Load::Nothing;
        for _ in 0..BATCHES {
            let Some(mut frames) = self.backlog.take_free() else {
                if self.backlog.give_one_up(self.clock.now()) {
                    self.shared.drops.count(DropReason::Congested);
                }
                break;
            };
            if let Err(error) = tap.recv_batch(&mut frames) {
                // a TAP that is gone stays readable: do not spin on it, nor let the receiver wait
                tracing::debug!(%error, tap = tap.name(), "cannot read the TAP");
                std::thread::sleep(Duration::from_millis(50));
                load = Load::Bulk;
            }
            let is_all = !frames.is_full();
            if !frames.is_empty() {
                load = load.max(Load::of(!is_all));
            }
            let batch = self.backlog.sort(frames);
            self.forward(segment, tap, batch.others());
            self.backlog.keep(batch);
            if is_all {
                break;
            }
        }
        load
    }

    /// Sends the oldest bulk; answers whether there was some.
    fn send_bulk(&mut self, segment: SegmentId, tap: &Tap) -> bool {
        let Some(batch) = self.backlog.next() else {
            return false;
        };
        self.forward(segment, tap, batch.bulk());
        self.backlog.done(batch);
        true
    }

    /// Sends all bulk of a TAP: the next one begins with none.
    fn send_all_bulk(&mut self, segment: SegmentId, tap: &Tap) {
        while self.send_bulk(segment, tap) {}
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
            segment,
            now,
            parked: &mut self.parked,
            control: &self.control,
        };
        let mut batch = Count::default();
        let frames = frames.inspect(|(_, frame)| batch.note(frame.len()));
        self.forwarder
            .forward_frames(&fib, segment, frames, now, &mut egress);
        self.udp.flush();
        self.shared.traffic.sent.add(batch);
        self.shared.note_parked(!self.parked.is_empty(), &fib);
        if !self.udp.cuts() {
            self.shared.udp_cuts.store(false, Ordering::Relaxed);
        }
    }
}

struct Underlaid<'a> {
    udp: &'a mut UdpTx,
    tap: &'a Tap,
    segment: SegmentId,
    now: Time,
    parked: &'a mut Parked,
    control: &'a ToControl,
}

impl Underlaid<'_> {
    fn ask(&mut self, wanted: Wanted) {
        if self.parked.is_to_be_asked(wanted, self.now) {
            // when the control loop has too much to do, the next frame asks again
            self.control.send(Incoming::Wanted(wanted));
        }
    }
}

impl Egress for Underlaid<'_> {
    fn datagram(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.udp.datagram(to, len)
    }

    fn reply(&mut self, _segment: SegmentId, frame: &[u8]) {
        // a TAP that refuses the answer refuses the question's retry no more than this
        let _ = self.tap.send(frame);
    }

    fn unreached(&mut self, peer: PeerId, header: VnetHeader, frame: &[u8]) -> bool {
        self.ask(Wanted::Peer(peer));
        self.parked.keep(Frame {
            since: self.now,
            segment: self.segment,
            header,
            bytes: frame.to_vec(),
        })
    }

    fn not_all_reached(&mut self, segment: SegmentId) {
        self.ask(Wanted::Segment(segment));
    }
}
