//! From the containers to the network: frames of the TAPs into datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weave_node::forward::{DropReason, Egress, Forwarder};
use weave_sys::Tap;
use weave_sys::poll::{Poller, Ready, Waker};
use weave_sys::udp::{UdpTx, Underlay};
use weave_wire::SegmentId;
use weave_wire::offload::VnetHeader;

use super::super::clock::Clock;
use super::backlog::{BATCHES, Backlog};
use super::linger::Linger;
use super::load::Load;
use super::{Shared, Taps};

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
    taps: Arc<Taps>,
}

impl TxPath {
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        underlay: &Underlay,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            clock,
            poller: Poller::new()?,
            ready: Ready::new(),
            udp: underlay.sender(),
            forwarder: Forwarder::new(shared.drops.clone()),
            backlog: Backlog::new(),
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
