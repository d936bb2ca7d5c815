//! Three nodes on a network and disks in memory, for tests and fuzzing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weave_crypto::{Passwords, StretchedPassword};
use weave_node::forward::{DropCounters, Fib, Ingress, Receiver};
use weave_node::ipam::IpamError;
use weave_node::names::NameTable;
use weave_node::{
    Answer, Inquiry, Node, NodeConfig, NodeStatus, PersistToken, PostQuantum, Sink, Transmit,
    Writes, drain,
};
use weave_wire::offload::Checksum;
use weave_wire::{Cidr, DatagramType, Mac, PeerId, ReceiverIndex, SegmentId, Time};

pub(crate) const RANGE: &str = "10.32.0.0/12";
pub(crate) const NAME: &str = "web.weave.local";
pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 32, 0, 9));
pub(crate) const LATENCY: Duration = Duration::from_millis(10);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a node put out and what reached it.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) to_persist: VecDeque<(PersistToken, Writes)>,
    pub(crate) fib: Arc<Fib>,
    pub(crate) names: Arc<NameTable>,
    pub(crate) answers: BTreeMap<u64, Result<IpAddr, IpamError>>,
    pub(crate) sent: usize,
    pub(crate) conflicts: Vec<String>,
    pub(crate) inquired: Vec<Inquiry>,
    pub(crate) answered: Vec<(u64, Answer)>,
}

impl Sink for Outbox {
    fn transmit(&mut self, transmit: Transmit) {
        self.sent += 1;
        self.datagrams.push_back((transmit.to, transmit.datagram));
    }

    fn persist(&mut self, token: PersistToken, writes: Writes) {
        self.to_persist.push_back((token, writes));
    }

    fn fib(&mut self, fib: Arc<Fib>) {
        self.fib = fib;
    }

    fn names(&mut self, names: Arc<NameTable>) {
        self.names = names;
    }

    fn allocated(&mut self, ticket: u64, result: Result<IpAddr, IpamError>) {
        let before = self.answers.insert(ticket, result);
        assert!(before.is_none(), "ticket {ticket} is answered twice");
    }

    fn resolve(&mut self, target: String) {
        panic!("{target} is an address and needs no resolver");
    }

    fn conflict(&mut self, message: String) {
        self.conflicts.push(message);
    }

    fn inquired(&mut self, inquiry: Inquiry) {
        self.inquired.push(inquiry);
    }

    fn answered(&mut self, ticket: u64, answer: Answer) {
        self.answered.push((ticket, answer));
    }
}

/// What reaches a node by itself: what the receive path hands to it, and timers.
#[derive(Debug, Clone)]
pub(crate) enum Inbound {
    Handshake(SocketAddr, Vec<u8>),
    Control(ReceiverIndex, SocketAddr, Vec<u8>),
    Timeout,
}

#[derive(Default)]
struct Inbox {
    inbound: Vec<Inbound>,
    relayed: Vec<(SocketAddr, Vec<u8>)>,
}

impl Ingress<'_> for Inbox {
    fn deliver(&mut self, _: SegmentId, _: &mut [u8], _: Checksum) {
        panic!("nobody sends frames here");
    }

    fn relay(&mut self, to: SocketAddr, len: usize) -> Option<&mut [u8]> {
        self.relayed.push((to, vec![0; len]));
        self.relayed
            .last_mut()
            .map(|(_, datagram)| &mut datagram[..])
    }

    fn control(&mut self, receiver: ReceiverIndex, from: SocketAddr, plaintext: &[u8]) {
        self.inbound
            .push(Inbound::Control(receiver, from, plaintext.to_vec()));
    }

    fn handshake(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.inbound
            .push(Inbound::Handshake(from, datagram.to_vec()));
    }

    fn learned(&mut self, _: SegmentId, _: Mac, _: PeerId) {
        panic!("nobody sends frames here");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Works,
    /// Answers nothing for now.
    Stalls,
    Refuses,
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) receiver: Receiver,
    pub(crate) out: Outbox,
    pub(crate) disk: Disk,
    pub(crate) stored: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) is_running: bool,
    /// All inputs of the node but commands, oldest first.
    pub(crate) heard: Vec<(Time, Inbound)>,
}

impl Host {
    /// A router that begins with what its disk holds. All but the first dial that one.
    pub(crate) fn start(
        number: u8,
        seed: u8,
        disk: Disk,
        stored: BTreeMap<Vec<u8>, Vec<u8>>,
        now: Time,
    ) -> Self {
        let target = (number > 0).then(|| addr_of(0));
        Self::with_config(config(number, target), seed, disk, stored, now)
    }

    pub(crate) fn with_config(
        config: NodeConfig,
        seed: u8,
        disk: Disk,
        stored: BTreeMap<Vec<u8>, Vec<u8>>,
        now: Time,
    ) -> Self {
        let records: Vec<_> = stored.clone().into_iter().collect();
        Self {
            node: Node::new(config, [seed; 32], &records, now),
            receiver: Receiver::new(DropCounters::new()),
            out: Outbox::default(),
            disk,
            stored,
            is_running: true,
            heard: Vec::new(),
        }
    }

    /// Carries out what the node asked for, until it asks for nothing more.
    pub(crate) fn settle(&mut self, now: Time) {
        drain(&mut self.node, now, &mut self.out);
        while self.disk != Disk::Stalls
            && let Some((token, writes)) = self.out.to_persist.pop_front()
        {
            if self.disk == Disk::Works {
                for (key, value) in writes {
                    match value {
                        Some(value) => self.stored.insert(key, value),
                        None => self.stored.remove(&key),
                    };
                }
                self.node.handle_persisted(token, now);
            } else {
                self.node.handle_persist_failed(token, "disk full", now);
            }
            drain(&mut self.node, now, &mut self.out);
        }
    }

    pub(crate) fn receive(&mut self, from: SocketAddr, mut datagram: Vec<u8>, now: Time) {
        let (fib, mut inbox) = (Arc::clone(&self.out.fib), Inbox::default());
        self.receiver
            .receive_datagram(&fib, from, &mut datagram, now, &mut inbox);
        self.out.datagrams.extend(inbox.relayed);
        for inbound in inbox.inbound {
            self.take(inbound, now);
        }
        self.settle(now);
    }

    /// Gives the node one input.
    pub(crate) fn take(&mut self, inbound: Inbound, now: Time) {
        self.heard.push((now, inbound.clone()));
        match inbound {
            Inbound::Handshake(from, datagram) => {
                self.node.handle_handshake(from, &datagram, now);
            }
            Inbound::Control(receiver, from, plaintext) => {
                self.node.handle_control(receiver, from, &plaintext, now);
            }
            Inbound::Timeout => self.node.handle_timeout(now),
        }
        self.settle(now);
    }
}

pub(crate) struct Mesh {
    pub(crate) now: Time,
    pub(crate) hosts: Vec<Host>,
    pub(crate) in_flight: VecDeque<(Time, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Pairs of addresses that nothing passes between.
    pub(crate) cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// What kinds of datagrams were sent.
    pub(crate) sent: Vec<DatagramType>,
    pub(crate) starts: u8,
}

impl Mesh {
    /// Three hosts, two of which dial the first.
    pub(crate) fn new(disks: [Disk; 3]) -> Self {
        let now = Time::from_secs(1);
        let hosts = (0..).zip(disks);
        let hosts =
            hosts.map(|(number, disk)| Host::start(number, number + 1, disk, BTreeMap::new(), now));
        Self::of(hosts.collect(), now)
    }

    /// The same, with other configurations.
    pub(crate) fn configured(change: impl Fn(u8, &mut NodeConfig)) -> Self {
        let now = Time::from_secs(1);
        let hosts = (0..3).map(|number| {
            let mut config = config(number, (number > 0).then(|| addr_of(0)));
            change(number, &mut config);
            Host::with_config(config, number + 1, Disk::Works, BTreeMap::new(), now)
        });
        Self::of(hosts.collect(), now)
    }

    pub(crate) fn of(hosts: Vec<Host>, now: Time) -> Self {
        let mut mesh = Self {
            now,
            hosts,
            in_flight: VecDeque::new(),
            cut: BTreeSet::new(),
            sent: Vec::new(),
            starts: 3,
        };
        (0..3).for_each(|host| mesh.with(host, |_, _| ()));
        mesh
    }

    pub(crate) fn connected() -> Self {
        let mut mesh = Self::new([Disk::Works; 3]);
        mesh.run_until(10 * SECOND, Self::is_full);
        mesh
    }

    /// Does something with a node, and carries out what follows from it.
    pub(crate) fn with<T>(&mut self, host: usize, act: impl FnOnce(&mut Node, Time) -> T) -> T {
        let result = act(&mut self.hosts[host].node, self.now);
        self.hosts[host].settle(self.now);
        self.collect(host);
        result
    }

    /// Starts the router of a host anew, with what its disk holds.
    pub(crate) fn restart(&mut self, host: usize) {
        self.starts += 1;
        let number = u8::try_from(host).expect("three hosts");
        let stored = std::mem::take(&mut self.hosts[host].stored);
        let disk = self.hosts[host].disk;
        self.hosts[host] = Host::start(number, self.starts, disk, stored, self.now);
        self.with(host, |_, _| ());
    }

    /// Lets nothing pass between two hosts, or everything again.
    pub(crate) fn set_cut(&mut self, a: u8, b: u8, is_cut: bool) {
        for pair in [(addr_of(a), addr_of(b)), (addr_of(b), addr_of(a))] {
            if is_cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    pub(crate) fn set_disk(&mut self, host: usize, disk: Disk) {
        self.hosts[host].disk = disk;
        self.with(host, |_, _| ());
    }

    /// Puts on the network what a host has sent.
    pub(crate) fn collect(&mut self, host: usize) {
        let from = addr_of(u8::try_from(host).expect("three hosts"));
        let conflicts = &self.hosts[host].out.conflicts;
        assert!(conflicts.is_empty(), "{conflicts:?}");
        for (to, datagram) in self.hosts[host].out.datagrams.drain(..) {
            self.sent.extend(DatagramType::of(&datagram));
            if self.cut.contains(&(from, to)) {
                continue;
            }
            self.in_flight
                .push_back((self.now + LATENCY, from, to, datagram));
        }
    }

    /// Does what is due first, if that is before `end`.
    pub(crate) fn step(&mut self, end: Time) -> bool {
        let arrival = self.in_flight.front().map(|(at, ..)| *at);
        let timers = (0..).zip(&self.hosts);
        let timer = timers
            .filter(|(_, host)| host.is_running)
            .filter_map(|(index, host)| Some((host.node.poll_timeout()?, index)))
            .min();
        let arrives_first = match (arrival, timer) {
            (Some(arrival), Some((timer, _))) => arrival <= timer,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let due = if arrives_first {
            arrival
        } else {
            timer.map(|(at, _)| at)
        };
        let Some(at) = due.filter(|at| *at < end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(at);
        if !arrives_first {
            let (_, host) = timer.expect("it is due");
            self.hosts[host].take(Inbound::Timeout, self.now);
            self.collect(host);
            return true;
        }
        let (_, from, to, datagram) = self.in_flight.pop_front().expect("it is due");
        let to = (0..3).find(|host| addr_of(*host) == to).map(usize::from);
        if let Some(to) = to.filter(|to| self.hosts[*to].is_running) {
            self.hosts[to].receive(from, datagram, self.now);
            self.collect(to);
        }
        true
    }

    pub(crate) fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        while self.step(end) {}
    }

    /// Runs until `done`, and returns how long that took.
    #[track_caller]
    pub(crate) fn run_until(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + within);
        while !done(self) {
            assert!(self.step(end), "not within {within:?}");
        }
        self.now.saturating_sub(start)
    }

    pub(crate) fn status(&self, host: usize) -> NodeStatus {
        self.hosts[host].node.status(self.now)
    }

    /// Every peer knows that every peer has two sessions.
    pub(crate) fn is_full(&self) -> bool {
        (0..3).all(|host| {
            let peers = self.status(host).peers;
            peers.len() == 3 && peers.iter().all(|peer| peer.sessions == 2)
        })
    }

    pub(crate) fn knows_name(&self, host: usize) -> bool {
        let names = &self.hosts[host].out.names;
        names.lookup(NAME).any(|ip| ip == HOST)
    }

    pub(crate) fn answer(&self, host: usize, ticket: u64) -> Option<&Result<IpAddr, IpamError>> {
        self.hosts[host].out.answers.get(&ticket)
    }
}

pub(crate) fn addr_of(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host + 1], 6783))
}

pub(crate) fn range() -> Cidr {
    RANGE.parse().expect("a range")
}

pub(crate) fn config(number: u8, target: Option<SocketAddr>) -> NodeConfig {
    NodeConfig {
        nickname: format!("host{number}"),
        version: "test".into(),
        versions: weave_wire::Versions::SPOKEN,
        mesh_name: "test".into(),
        passwords: Passwords::new(0, StretchedPassword::from_bytes([7; 32])),
        prefer_aes: false,
        discovery: true,
        pq: match number {
            1 => PostQuantum::Require,
            _ => PostQuantum::Prefer,
        },
        conn_limit: weave_node::CONN_LIMIT,
        take_back: weave_node::ipam::TakeBack::default(),
        port: 6783,
        range: Some(range()),
        default_subnet: Some(range()),
        targets: target.iter().map(ToString::to_string).collect(),
        awaits_names: false,
        local: Vec::new(),
        anycast: Vec::new(),
        wall_ms: 1_700_000_000_000 + u64::from(number),
        #[cfg(feature = "seeded-bugs")]
        seeded_bug: None,
    }
}
