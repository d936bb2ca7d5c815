//! The data threads: frames from the TAPs into datagrams, datagrams into frames.
//!
//! `weave-data` receives. As long as there is little to do it sends as well, so that an answer
//! finds it awake; beside a bulk transfer the sending side ([`TxPath`]) goes to `weave-tx`:
//!
//! ```text
//! weave-data: both sides ── bulk ──▶ weave-data: RxPath, weave-tx: TxPath
//!                 ▲                                 │
//!                 └──────── no bulk for 20 ms ──────┘
//! ```
//!
//! Each side loads the forwarding table once per batch, and is owned by one thread at a time.
//! Neither decides anything: what is not a frame goes to the control loop, which may drop it
//! under load.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc;
use weave_node::forward::{DropCounters, Fib, Traffic};
use weave_sys::Tap;
use weave_sys::poll::{Poller, Ready, Waker};
use weave_sys::udp::{UdpRx, Underlay};
use weave_wire::{Mac, PeerId, ReceiverIndex, SegmentId};

use super::clock::Clock;

mod backlog;
mod coalesce;
mod congestion;
mod handover;
mod linger;
mod load;
#[cfg(test)]
mod model;
mod parked;
mod receive;
mod strangers;
mod transmit;

use handover::{Borrower, Sides, Waiting, ends};
use linger::Linger;
use load::{LastBulk, Load};
pub(crate) use parked::Wanted;
use receive::RxPath;
use strangers::Strangers;
use transmit::TxPath;

/// What `handover` is built on; `model` builds it on something else.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::mpsc::{Receiver, Sender, channel};

    pub(super) use arc_swap::ArcSwap;
}

/// How often `weave-tx` looks whether it is needed still.
const SHIFT: Duration = Duration::from_millis(20);
/// Looks after which a thread asks whether something else is to be done.
const TURNS: usize = 256;
/// Tells the receiving thread that its socket has something.
const UDP: u64 = 0;
/// Tells it that a TAP has.
const TAPS: u64 = 1;
/// Messages of members that may wait for the control loop.
const CONTROL_QUEUE: usize = 1_024;
/// Handshakes that may wait for it. Whoever sends one sends it again.
const HANDSHAKE_QUEUE: usize = 256;

/// What members want of the control loop.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// An opened control message.
    Control(ReceiverIndex, SocketAddr, Bytes),
    /// An unannounced source MAC.
    Learned(SegmentId, Mac, PeerId),
    /// Frames for someone that there is no session with.
    Wanted(Wanted),
}

/// A datagram of a handshake, with its sender. Anybody can send one.
pub(crate) type Handshake = (SocketAddr, Bytes);

/// Where the data path puts what is for the control loop. Each queue is bounded: what does not
/// fit is lost, as any datagram may be.
#[derive(Debug, Clone)]
pub(crate) struct ToControl {
    members: mpsc::Sender<Incoming>,
    handshakes: mpsc::Sender<Handshake>,
}

/// The other end of [`ToControl`]. What strangers send waits in a queue of its own, so that it
/// takes no room from members.
#[derive(Debug)]
pub(crate) struct FromData {
    /// What members want.
    pub(crate) members: mpsc::Receiver<Incoming>,
    /// What anybody sent.
    pub(crate) handshakes: mpsc::Receiver<Handshake>,
}

/// Both ends of the queues between the data path and the control loop.
pub(crate) fn queues() -> (ToControl, FromData) {
    let (to_members, members) = mpsc::channel(CONTROL_QUEUE);
    let (to_handshakes, handshakes) = mpsc::channel(HANDSHAKE_QUEUE);
    let to = ToControl {
        members: to_members,
        handshakes: to_handshakes,
    };
    let from = FromData {
        members,
        handshakes,
    };
    (to, from)
}

impl ToControl {
    fn send(&self, incoming: Incoming) {
        let _ = self.members.try_send(incoming);
    }

    /// Answers whether there was room.
    fn send_handshake(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        let Ok(room) = self.handshakes.try_reserve() else {
            return false;
        };
        room.send((from, Bytes::copy_from_slice(datagram)));
        true
    }
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
    /// Frames that passed; a super-frame is one.
    pub(crate) traffic: Traffic,
    /// Frames wait for a session.
    parked: Waiting,
    sending: OnceLock<Waker>,
    udp_cuts: AtomicBool,
    udp_joins: bool,
    last_bulk: LastBulk,
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
    /// Puts another forwarding table in force.
    pub(crate) fn set_fib(&self, fib: Arc<Fib>) {
        self.parked.publish(&self.fib, fib, || self.wake_sending());
    }

    /// Notes whether frames wait for another table than `fib`.
    fn note_parked(&self, parked: bool, fib: &Arc<Fib>) {
        self.parked
            .note(parked, &self.fib, fib, || self.wake_sending());
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn wake_sending(&self) {
        if let Some(sending) = self.sending.get() {
            sending.wake();
        }
    }

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
        control: ToControl,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            fib: ArcSwap::default(),
            taps: ArcSwap::default(),
            drops: DropCounters::new(),
            traffic: Traffic::default(),
            parked: Waiting::default(),
            sending: OnceLock::new(),
            udp_cuts: AtomicBool::new(underlay.cuts()),
            udp_joins: underlay.joins(),
            last_bulk: LastBulk::default(),
            stop: AtomicBool::new(false),
        });
        let tx = TxPath::new(Arc::clone(&shared), clock, underlay, control.clone())?;
        let _ = shared.sending.set(tx.waker());
        let poller = Poller::new()?;
        poller.add(underlay, UDP)?;
        let wakers = [tx.waker(), poller.waker()];
        let (lender, borrower) = ends();
        let helper = Helper {
            shared: Arc::clone(&shared),
            clock,
            waker: poller.waker(),
        };
        let mut main = Main {
            rx: RxPath::new(Arc::clone(&shared), clock, underlay, control),
            udp: underlay.receiver(),
            strangers: Strangers::new(underlay),
            shared: Arc::clone(&shared),
            clock,
            poller,
            ready: Ready::new(),
        };
        let stopping = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("weave-tx".to_owned())
            .spawn(move || helper.run(borrower))?;
        std::thread::Builder::new()
            .name("weave-data".to_owned())
            .spawn(move || lender.run(&mut main, tx, || stopping.stops()))?;
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

/// The thread that receives, and sends as well while there is little to do.
struct Main {
    shared: Arc<Shared>,
    clock: Clock,
    poller: Poller,
    ready: Ready,
    rx: RxPath,
    udp: UdpRx,
    strangers: Option<Strangers>,
}

impl Sides for Main {
    type Tx = TxPath;

    fn watch(&mut self, tx: &TxPath) {
        if let Err(error) = self.poller.add(tx.poller(), TAPS) {
            tracing::error!(%error, "cannot watch the TAPs");
        }
    }

    fn let_go(&mut self, tx: &TxPath) {
        let _ = self.poller.remove(tx.poller());
    }

    fn serve_both(&mut self, tx: &mut TxPath) -> bool {
        self.wait();
        let mut linger = Linger::default();
        for _ in 0..TURNS {
            // what is received may be answered at once
            let received = self.look();
            let load = received.max(tx.look());
            if load == Load::Bulk {
                self.shared.last_bulk.note(load, self.clock.now());
                return true;
            }
            if !linger.goes_on(load) {
                break;
            }
        }
        false
    }

    fn serve_receiving(&mut self) -> bool {
        let mut linger = Linger::default();
        let _ = (0..TURNS).find(|_| !linger.goes_on(self.look()));
        self.wait();
        self.ready.woken()
    }
}

impl Main {
    fn look(&mut self) -> Load {
        let load = self.rx.look(&mut self.udp);
        let now = self.clock.now();
        self.shared.last_bulk.note(load, now);
        let strangers = self.strangers.as_mut();
        if let Some(udp) = strangers.and_then(|strangers| strangers.read(now)) {
            self.rx.take_in(udp);
        }
        load
    }

    fn wait(&mut self) {
        let now = self.clock.now();
        let strangers = self.strangers.as_mut();
        let timeout = strangers.and_then(|strangers| strangers.watch(&self.poller, now));
        if let Err(error) = self.poller.wait(&mut self.ready, timeout) {
            tracing::error!(%error, "the data thread cannot wait");
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Some(strangers) = &mut self.strangers {
            strangers.note(&self.ready);
        }
    }
}

/// The thread that sends beside a bulk transfer.
struct Helper {
    shared: Arc<Shared>,
    clock: Clock,
    waker: Waker,
}

impl Helper {
    fn run(&self, borrower: Borrower<TxPath>) {
        let serve = |tx: &mut TxPath| {
            let load = tx.wait(SHIFT);
            self.shared.last_bulk.note(load, self.clock.now());
        };
        borrower.run(|| self.is_needed(), serve, || self.waker.wake());
    }

    fn is_needed(&self) -> bool {
        !self.shared.stops() && self.shared.last_bulk.is_recent(self.clock.now())
    }
}
