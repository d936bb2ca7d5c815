//! A few session layers on an in-memory network in virtual time, with seeded faults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use weave_crypto::{HandshakeConfig, Identity, Passwords, ReplayWindow, StretchedPassword};
use weave_wire::{DatagramType, Lane, PayloadKind, PeerId, SealedHeader, Time, Versions};

use crate::forward::OpenLane;
use crate::session::view::SessionFib;
use crate::session::{
    ConnectionState, ConnectionStatus, SessionAction, SessionConfig, Sessions, Transmit,
};

pub(super) const RIGHT: [u8; 32] = [1; 32];
pub(super) const WRONG: [u8; 32] = [2; 32];

/// A datagram on its way: from, to, bytes.
pub(super) type Packet = (SocketAddr, SocketAddr, Vec<u8>);

/// Answers whether a datagram is to be dropped.
type Filter = Box<dyn FnMut(&Packet) -> bool>;

/// Which faults a network has.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    /// Percent of datagrams that get lost.
    pub(super) loss: u32,
    /// Percent of datagrams that arrive twice.
    pub(super) duplicates: u32,
    /// Delay in milliseconds; those with a smaller one overtake others.
    pub(super) delay: Range<u64>,
}

impl Faults {
    pub(super) const NONE: Self = Self {
        loss: 0,
        duplicates: 0,
        delay: 10..11,
    };
    pub(super) const BAD: Self = Self {
        loss: 20,
        duplicates: 10,
        delay: 1..120,
    };
}

/// What a host saw, with the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Established(PeerId),
    Lost(PeerId),
    Observed(SocketAddr),
}

/// One session layer with a stand-in for the data path.
pub(super) struct Host {
    pub(super) sessions: Sessions,
    pub(super) id: PeerId,
    pub(super) addr: SocketAddr,
    pub(super) events: Vec<(Time, Event)>,
    pub(super) resolves: Vec<String>,
    /// Slots in which data arrived, newest last.
    pub(super) data_slots: Vec<(Time, u32)>,
    pub(super) fib: SessionFib,
    lanes: BTreeMap<u32, Arc<OpenLane>>,
    windows: BTreeMap<u32, ReplayWindow>,
    index: u8,
    boot: u64,
}

impl Host {
    fn new(index: u8, password: [u8; 32], boot: u64, seed: u64) -> Self {
        let identity = Arc::new(Identity::from_seed(&[index + 1; 32]));
        let id = identity.peer_id();
        let handshake = HandshakeConfig {
            identity,
            passwords: Passwords::new(0, StretchedPassword::from_bytes(password)),
            mesh_name: String::from("weave"),
            prefer_aes: false,
            versions: Versions::SPOKEN,
        };
        let mut config = SessionConfig::new(handshake, boot);
        config.nickname = format!("host{index}");
        config.version = String::from("test");
        let seed = seed ^ u64::from(index) << 32 ^ boot << 40;
        Self {
            sessions: Sessions::new(config, ChaCha12Rng::seed_from_u64(seed)),
            id,
            addr: addr_of(index),
            events: Vec::new(),
            resolves: Vec::new(),
            data_slots: Vec::new(),
            fib: SessionFib {
                sessions: Vec::new(),
                open: Vec::new(),
                known: Vec::new(),
            },
            lanes: BTreeMap::new(),
            windows: BTreeMap::new(),
            index,
            boot,
        }
    }

    /// Speaks these protocol versions from now on.
    pub(super) fn speak(&mut self, lowest: u8, highest: u8) {
        self.sessions.config.handshake.versions = Versions::new(lowest, highest);
    }

    /// Peers with a session that carries frames.
    pub(super) fn connected(&self) -> BTreeSet<PeerId> {
        self.fib
            .sessions
            .iter()
            .map(|session| session.peer)
            .collect()
    }

    /// The slot of the receiver that frames to `peer` are sealed for.
    pub(super) fn sends_to_slot(&self, peer: PeerId) -> Option<u32> {
        let session = self
            .fib
            .sessions
            .iter()
            .find(|session| session.peer == peer)?;
        Some(session.data.receiver().slot())
    }

    /// The own slot of the session in use with `peer`.
    pub(super) fn slot_in_use(&self, peer: PeerId) -> Option<u32> {
        self.sessions.peers.get(&peer).map(|slots| slots.in_use)
    }

    pub(super) fn count(&self, event: Event) -> usize {
        self.events.iter().filter(|(_, one)| *one == event).count()
    }

    fn rebuild(&mut self) {
        self.fib = self.sessions.fib_view();
        self.lanes.clear();
        for lane in &self.fib.open {
            let taken = self.lanes.insert(lane.receiver.as_u32(), Arc::clone(lane));
            assert!(taken.is_none(), "two lanes with one index");
        }
        self.windows
            .retain(|index, _| self.lanes.contains_key(index));
    }
}

/// Hosts and what is between them.
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) hosts: Vec<Host>,
    pub(super) faults: Faults,
    /// Directions in which nothing passes.
    pub(super) cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Other addresses of hosts.
    pub(super) aliases: BTreeMap<SocketAddr, usize>,
    /// Drops the datagrams for which it answers true.
    pub(super) filter: Option<Filter>,
    /// Longest datagram that passes whole.
    pub(super) limit: usize,
    /// Every datagram that was sent.
    pub(super) sent: Vec<Packet>,
    /// Whether hosts send frames to each other all the time.
    pub(super) traffic: bool,
    next_traffic: Time,
    wire: BTreeMap<(Time, u64), Packet>,
    sequence: u64,
    rng: ChaCha12Rng,
    seed: u64,
}

impl Net {
    /// Hosts with the right password that do not know of each other.
    pub(super) fn new(hosts: u8, faults: Faults, seed: u64) -> Self {
        Self {
            now: Time::from_secs(1),
            hosts: (0..hosts)
                .map(|index| Host::new(index, RIGHT, 1, seed))
                .collect(),
            faults,
            cut: BTreeSet::new(),
            aliases: BTreeMap::new(),
            filter: None,
            limit: 1_472,
            sent: Vec::new(),
            traffic: false,
            next_traffic: Time::ZERO,
            wire: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha12Rng::seed_from_u64(seed),
            seed,
        }
    }

    /// Two connected hosts; the first dialled.
    pub(super) fn connected_pair() -> Self {
        let mut net = Self::new(2, Faults::NONE, 7);
        net.target(0, 1);
        net.run(Duration::from_millis(500));
        net.assert_pair(0, 1);
        net
    }

    /// Starts a host anew, with its keys and nothing else.
    pub(super) fn restart(&mut self, host: usize, password: [u8; 32]) {
        let old = &self.hosts[host];
        let (index, boot, seed) = (old.index, old.boot + 1, self.seed);
        let addr = old.addr;
        self.hosts[host] = Host::new(index, password, boot, seed);
        self.hosts[host].addr = addr;
    }

    /// Gives one host the address of another as a target.
    pub(super) fn target(&mut self, from: usize, to: usize) {
        let name = self.hosts[to].addr.to_string();
        self.hosts[from].sessions.add_target(&name, self.now);
        self.drain(from);
    }

    /// Cuts or mends both directions between two hosts.
    pub(super) fn set_cut(&mut self, a: usize, b: usize, cut: bool) {
        let (a, b) = (self.hosts[a].addr, self.hosts[b].addr);
        for direction in [(a, b), (b, a)] {
            if cut {
                self.cut.insert(direction);
            } else {
                self.cut.remove(&direction);
            }
        }
    }

    /// Does something with one host.
    pub(super) fn with<T>(&mut self, host: usize, act: impl FnOnce(&mut Sessions, Time) -> T) -> T {
        let answer = act(&mut self.hosts[host].sessions, self.now);
        self.drain(host);
        answer
    }

    /// Lets a datagram arrive that no host sent.
    pub(super) fn inject(&mut self, from: SocketAddr, to: usize, datagram: Vec<u8>) {
        self.deliver((from, self.hosts[to].addr, datagram));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds; answers how long that took, if it did in time.
    pub(super) fn run_until(
        &mut self,
        most: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        while !holds(self) {
            if !self.step(begin + most) {
                return None;
            }
        }
        Some(self.now.saturating_sub(begin))
    }

    /// The one connection of a host to an address, as it is shown.
    pub(super) fn status(&self, host: usize, addr: SocketAddr) -> ConnectionStatus {
        let all = self.hosts[host].sessions.connections(self.now);
        let mut lines = all.iter().filter(|line| line.address == addr.to_string());
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no line for {addr} in {all:?}"));
        assert!(lines.next().is_none(), "two lines for {addr} in {all:?}");
        line.clone()
    }

    /// Checks that two hosts are connected and both use the same session for sending.
    pub(super) fn assert_pair(&self, a: usize, b: usize) {
        let events = [a, b].map(|host| &self.hosts[host].events);
        assert!(self.is_pair(a, b), "seed {}: {events:?}", self.seed);
    }

    /// The same, for a network so bad that one of them may just be looking after the other.
    pub(super) fn settle_pair(&mut self, a: usize, b: usize) {
        self.run_until(Duration::from_secs(15), |net| net.is_pair(a, b));
        self.assert_pair(a, b);
    }

    /// Whether two hosts are connected and both use the same session for sending.
    pub(super) fn is_pair(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.hosts[a], &self.hosts[b]);
        a.slot_in_use(b.id).is_some()
            && a.sends_to_slot(b.id) == b.slot_in_use(a.id)
            && b.sends_to_slot(a.id) == a.slot_in_use(b.id)
    }

    /// Whether all hosts are connected with all others.
    pub(super) fn is_full_mesh(&self) -> bool {
        self.hosts
            .iter()
            .all(|host| host.connected().len() + 1 == self.hosts.len())
    }

    /// Whether a host shows a connection to this address as established.
    pub(super) fn is_established(&self, host: usize, addr: SocketAddr) -> bool {
        let lines = self.hosts[host].sessions.connections(self.now);
        lines.iter().any(|line| {
            line.address == addr.to_string() && line.state == ConnectionState::Established
        })
    }

    /// Handles the next thing that happens until `end`; false when there is none.
    fn step(&mut self, end: Time) -> bool {
        let datagram = self.wire.keys().next().map(|(at, _)| *at);
        let timer = self
            .hosts
            .iter()
            .filter_map(|host| host.sessions.poll_timeout())
            .min();
        let traffic = self.traffic.then_some(self.next_traffic);
        let next = [datagram, timer, traffic].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        if traffic == Some(next) {
            self.send_frames();
        } else if datagram == Some(next) {
            if let Some((_, packet)) = self.wire.pop_first() {
                self.deliver(packet);
            }
        } else {
            for host in 0..self.hosts.len() {
                if self.hosts[host]
                    .sessions
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.with(host, |sessions, now| sessions.handle_timeout(now));
                    let again = self.hosts[host].sessions.poll_timeout();
                    assert!(
                        again.is_none_or(|at| at > self.now),
                        "a timer that is due forever"
                    );
                }
            }
        }
        true
    }

    fn send_frames(&mut self) {
        self.next_traffic = self.now + Duration::from_millis(100);
        for host in 0..self.hosts.len() {
            let from = self.hosts[host].addr;
            let mut frames = Vec::new();
            for session in &self.hosts[host].fib.sessions {
                let mut datagram = vec![0; 16 + 20 + 16];
                assert!(
                    self.now < session.data.stop_at(),
                    "a key is used for too long"
                );
                session
                    .data
                    .seal(PayloadKind::Frame, self.now, &mut datagram)
                    .expect("sealed");
                frames.push((from, session.addr, datagram));
            }
            frames.into_iter().for_each(|frame| self.send(frame));
        }
    }

    fn drain(&mut self, host: usize) {
        let now = self.now;
        let one = &mut self.hosts[host];
        let mut dirty = false;
        while let Some(action) = one.sessions.poll_action() {
            match action {
                SessionAction::Resolve { target } => one.resolves.push(target),
                SessionAction::Established { peer } => {
                    one.events.push((now, Event::Established(peer)));
                }
                SessionAction::Lost { peer, .. } => one.events.push((now, Event::Lost(peer))),
                SessionAction::Observed(addr) => one.events.push((now, Event::Observed(addr))),
                SessionAction::Silent { .. } | SessionAction::Rerouted { .. } => {}
                SessionAction::FibDirty => dirty = true,
            }
        }
        if dirty {
            one.rebuild();
        }
        let from = one.addr;
        let mut packets = Vec::new();
        while let Some(transmit) = one.sessions.poll_transmit() {
            let Transmit {
                to,
                datagram,
                dont_fragment,
            } = transmit;
            if !dont_fragment || datagram.len() <= self.limit {
                packets.push((from, to, datagram));
            }
        }
        packets.into_iter().for_each(|packet| self.send(packet));
    }

    fn send(&mut self, packet: Packet) {
        self.sent.push(packet.clone());
        let cut = self.cut.contains(&(packet.0, packet.1));
        let filtered = self.filter.as_mut().is_some_and(|filter| filter(&packet));
        if cut || filtered || self.chance(self.faults.loss) {
            return;
        }
        let copies = if self.chance(self.faults.duplicates) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let Range { start, end } = self.faults.delay;
            let delay = start + self.rng.next_u64() % (end - start);
            self.sequence += 1;
            let at = self.now + Duration::from_millis(delay);
            self.wire.insert((at, self.sequence), packet.clone());
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.next_u32() % 100 < percent
    }

    fn deliver(&mut self, (from, to, mut datagram): Packet) {
        let now = self.now;
        let by_addr = self.hosts.iter().position(|host| host.addr == to);
        let Some(host) = by_addr.or_else(|| self.aliases.get(&to).copied()) else {
            return;
        };
        match DatagramType::of(&datagram) {
            Ok(ty) if ty.is_handshake() => {
                self.with(host, |sessions, now| {
                    sessions.handle_handshake(from, &datagram, now)
                });
            }
            Ok(DatagramType::Sealed) => {
                let one = &mut self.hosts[host];
                let Some((lane, plaintext)) = open(one, &mut datagram, now) else {
                    return;
                };
                if lane.lane == Lane::Control {
                    self.with(host, |sessions, now| {
                        sessions.handle_control(lane.receiver, from, plaintext, now);
                    });
                } else {
                    one.data_slots.push((now, lane.receiver.slot()));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// What the receive path does with a sealed datagram.
fn open<'a>(
    host: &mut Host,
    datagram: &'a mut [u8],
    now: Time,
) -> Option<(Arc<OpenLane>, &'a [u8])> {
    let header = SealedHeader::decode(datagram).ok()?;
    let index = header.receiver.as_u32();
    let lane = Arc::clone(host.lanes.get(&index)?);
    if lane.version != header.version {
        return None;
    }
    let window = host.windows.entry(index).or_default();
    if !window.check(header.counter) {
        return None;
    }
    let (aad, sealed) = datagram.split_at_mut(16);
    let length = lane.key.open_in_place(header.counter, aad, sealed).ok()?;
    window.commit(header.counter);
    lane.heard.fetch_max(now.as_nanos(), Ordering::Relaxed);
    Some((lane, &sealed[..length]))
}

/// The address of a host.
pub(super) fn addr_of(index: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index + 1], 6783))
}
