//! Three nodes on a network and disks in memory: what the parts do together.

#[path = "three_nodes/bans.rs"]
mod bans;
#[path = "three_nodes/disks.rs"]
mod disks;
#[path = "three_nodes/post_quantum.rs"]
mod post_quantum;
#[path = "three_nodes/relay.rs"]
mod relay;
#[path = "three_nodes/rotation.rs"]
mod rotation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use weave_crypto::{Passwords, StretchedPassword};
use weave_node::forward::{DropCounters, Fib, Ingress, Receiver};
use weave_node::ipam::IpamError;
use weave_node::names::NameTable;
use weave_node::{
    ConnectionState, Node, NodeConfig, NodeStatus, PersistToken, PostQuantum, Sink, Subnet,
    Transmit, Writes, drain,
};
use weave_wire::offload::Checksum;
use weave_wire::{Cidr, DatagramType, Mac, PeerId, ReceiverIndex, SegmentId, Time};

const RANGE: &str = "10.32.0.0/12";
const NAME: &str = "web.weave.local";
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 32, 0, 9));
const LATENCY: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// What a node put out and what reached it.
#[derive(Default)]
struct Outbox {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    to_persist: VecDeque<(PersistToken, Writes)>,
    fib: Arc<Fib>,
    names: Arc<NameTable>,
    answers: BTreeMap<u64, Result<IpAddr, IpamError>>,
    sent: usize,
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
        panic!("{message}");
    }
}

/// What the receive path hands to the node.
enum Inbound {
    Handshake(SocketAddr, Vec<u8>),
    Control(ReceiverIndex, SocketAddr, Vec<u8>),
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
enum Disk {
    Works,
    /// Answers nothing for now.
    Stalls,
    Refuses,
}

struct Host {
    node: Node,
    receiver: Receiver,
    out: Outbox,
    disk: Disk,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    is_running: bool,
}

impl Host {
    /// A router that begins with what its disk holds. All but the first dial that one.
    fn start(
        number: u8,
        seed: u8,
        disk: Disk,
        stored: BTreeMap<Vec<u8>, Vec<u8>>,
        now: Time,
    ) -> Self {
        let target = (number > 0).then(|| addr_of(0));
        Self::with_config(config(number, target), seed, disk, stored, now)
    }

    fn with_config(
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
        }
    }

    /// Carries out what the node asked for, until it asks for nothing more.
    fn settle(&mut self, now: Time) {
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

    fn receive(&mut self, from: SocketAddr, mut datagram: Vec<u8>, now: Time) {
        let (fib, mut inbox) = (Arc::clone(&self.out.fib), Inbox::default());
        self.receiver
            .receive_datagram(&fib, from, &mut datagram, now, &mut inbox);
        self.out.datagrams.extend(inbox.relayed);
        for inbound in inbox.inbound {
            match inbound {
                Inbound::Handshake(from, datagram) => {
                    self.node.handle_handshake(from, &datagram, now);
                }
                Inbound::Control(receiver, from, plaintext) => {
                    self.node.handle_control(receiver, from, &plaintext, now);
                }
            }
        }
        self.settle(now);
    }
}

struct Mesh {
    now: Time,
    hosts: Vec<Host>,
    in_flight: VecDeque<(Time, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Pairs of addresses that nothing passes between.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// What kinds of datagrams were sent.
    sent: Vec<DatagramType>,
    starts: u8,
}

impl Mesh {
    /// Three hosts, two of which dial the first.
    fn new(disks: [Disk; 3]) -> Self {
        let now = Time::from_secs(1);
        let hosts = (0..).zip(disks);
        let hosts =
            hosts.map(|(number, disk)| Host::start(number, number + 1, disk, BTreeMap::new(), now));
        Self::of(hosts.collect(), now)
    }

    /// The same, with other configurations.
    fn configured(change: impl Fn(u8, &mut NodeConfig)) -> Self {
        let now = Time::from_secs(1);
        let hosts = (0..3).map(|number| {
            let mut config = config(number, (number > 0).then(|| addr_of(0)));
            change(number, &mut config);
            Host::with_config(config, number + 1, Disk::Works, BTreeMap::new(), now)
        });
        Self::of(hosts.collect(), now)
    }

    fn of(hosts: Vec<Host>, now: Time) -> Self {
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

    fn connected() -> Self {
        let mut mesh = Self::new([Disk::Works; 3]);
        mesh.run_until(10 * SECOND, Self::is_full);
        mesh
    }

    /// Does something with a node, and carries out what follows from it.
    fn with<T>(&mut self, host: usize, act: impl FnOnce(&mut Node, Time) -> T) -> T {
        let result = act(&mut self.hosts[host].node, self.now);
        self.hosts[host].settle(self.now);
        self.collect(host);
        result
    }

    /// Starts the router of a host anew, with what its disk holds.
    fn restart(&mut self, host: usize) {
        self.starts += 1;
        let number = u8::try_from(host).expect("three hosts");
        let stored = std::mem::take(&mut self.hosts[host].stored);
        let disk = self.hosts[host].disk;
        self.hosts[host] = Host::start(number, self.starts, disk, stored, self.now);
        self.with(host, |_, _| ());
    }

    /// Lets nothing pass between two hosts, or everything again.
    fn set_cut(&mut self, a: u8, b: u8, is_cut: bool) {
        for pair in [(addr_of(a), addr_of(b)), (addr_of(b), addr_of(a))] {
            if is_cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    fn set_disk(&mut self, host: usize, disk: Disk) {
        self.hosts[host].disk = disk;
        self.with(host, |_, _| ());
    }

    /// Puts on the network what a host has sent.
    fn collect(&mut self, host: usize) {
        let from = addr_of(u8::try_from(host).expect("three hosts"));
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
    fn step(&mut self, end: Time) -> bool {
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
            self.with(host, |node, now| node.handle_timeout(now));
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

    fn run(&mut self, for_: Duration) {
        let end = self.now + for_;
        while self.step(end) {}
    }

    /// Runs until `done`, and returns how long that took.
    #[track_caller]
    fn run_until(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let (start, end) = (self.now, self.now + within);
        while !done(self) {
            assert!(self.step(end), "not within {within:?}");
        }
        self.now.saturating_sub(start)
    }

    fn status(&self, host: usize) -> NodeStatus {
        self.hosts[host].node.status(self.now)
    }

    /// Every peer knows that every peer has two sessions.
    fn is_full(&self) -> bool {
        (0..3).all(|host| {
            let peers = self.status(host).peers;
            peers.len() == 3 && peers.iter().all(|peer| peer.sessions == 2)
        })
    }

    fn knows_name(&self, host: usize) -> bool {
        let names = &self.hosts[host].out.names;
        names.lookup(NAME).iter().any(|entry| entry.ip == HOST)
    }

    fn answer(&self, host: usize, ticket: u64) -> Option<&Result<IpAddr, IpamError>> {
        self.hosts[host].out.answers.get(&ticket)
    }
}

fn addr_of(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host + 1], 6783))
}

fn range() -> Cidr {
    RANGE.parse().expect("a range")
}

fn config(number: u8, target: Option<SocketAddr>) -> NodeConfig {
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
        port: 6783,
        range: Some(range()),
        default_subnet: Some(range()),
        targets: target.iter().map(ToString::to_string).collect(),
        anycast: Vec::new(),
        wall_ms: 1_700_000_000_000 + u64::from(number),
        #[cfg(feature = "seeded-bugs")]
        seeded_bug: None,
    }
}

fn with_a_name_of_the_last() -> Mesh {
    let mut mesh = Mesh::connected();
    mesh.with(2, |node, now| {
        node.set_names("c0ffee", &[(NAME.into(), HOST)], now);
    });
    mesh.run_until(SECOND, |mesh| (0..3).all(|host| mesh.knows_name(host)));
    mesh
}

#[test]
fn two_that_dial_the_first_find_each_other_too() {
    let mesh = Mesh::connected();
    for host in 0..3 {
        let status = mesh.status(host);
        assert_eq!(status.peer, mesh.hosts[host].node.id());
        assert_eq!(status.peers[0].peer, status.peer, "it names itself first");
        let mut names: Vec<_> = status.peers.iter().map(|peer| &*peer.nickname).collect();
        names.sort_unstable();
        assert_eq!(names, ["host0", "host1", "host2"]);
        let established: Vec<_> = status
            .connections
            .iter()
            .filter(|line| line.state == ConnectionState::Established)
            .collect();
        assert_eq!(established.len(), 2, "{:?}", status.connections);
    }
}

#[test]
fn a_connected_mesh_stays_connected() {
    let mut mesh = Mesh::connected();
    // several times the life of a key
    for _ in 0..60 {
        mesh.run(10 * SECOND);
        assert!(mesh.is_full(), "{:?}", mesh.status(0));
        for host in 0..3 {
            let connections = mesh.status(host).connections;
            assert!(connections.iter().all(|line| line.pq == Some(true)));
        }
    }
}

#[test]
fn a_name_is_visible_to_all_and_gone_soon_after_its_host_falls_silent() {
    let mut mesh = with_a_name_of_the_last();
    mesh.run(60 * SECOND);
    assert!((0..3).all(|host| mesh.knows_name(host)));
    mesh.hosts[2].is_running = false;
    mesh.run(5 * SECOND);
    assert!(mesh.knows_name(0) && mesh.knows_name(1), "it may come back");
    mesh.run(16 * SECOND);
    for host in 0..2 {
        assert!(!mesh.knows_name(host));
        assert_eq!(mesh.status(host).peers.len(), 2);
    }
}

#[test]
fn a_name_is_gone_at_once_when_its_host_says_goodbye() {
    let mut mesh = with_a_name_of_the_last();
    // records of sessions are written once a second at most
    mesh.run(10 * SECOND);
    mesh.with(2, |node, now| node.goodbye(now));
    mesh.hosts[2].is_running = false;
    let gone = |mesh: &Mesh| !mesh.knows_name(0) && !mesh.knows_name(1);
    let took = mesh.run_until(SECOND, gone);
    assert!(took <= 5 * LATENCY, "{took:?}");
}

#[test]
fn each_of_three_hosts_gets_an_address_of_its_own() {
    let mut mesh = Mesh::connected();
    for host in 0..3 {
        mesh.with(host, |node, now| {
            node.allocate(1, "c0ffee", range(), None, now);
        });
    }
    let answered = |mesh: &Mesh| (0..3).all(|host| mesh.answer(host, 1).is_some());
    mesh.run_until(5 * SECOND, answered);
    let mut given: Vec<_> = (0..3)
        .filter_map(|host| mesh.answer(host, 1).cloned())
        .map(|answer| answer.expect("there are plenty"))
        .collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 3);
}

#[test]
fn frames_are_taken_on_a_segment_from_the_moment_that_the_host_has_its_bridge() {
    let mut mesh = Mesh::connected();
    let cidr = range();
    let segment = SegmentId::of_subnet(cidr);
    let subnet = Subnet {
        cidr,
        segment,
        strict: false,
    };
    mesh.with(0, |node, now| node.add_subnet(subnet, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(fib.segments.get(&segment).is_some_and(|here| here.local));
    mesh.with(0, |node, now| node.remove_subnet(cidr, now));
    let fib = mesh.hosts[0].node.fib();
    assert!(!fib.segments.get(&segment).is_some_and(|here| here.local));
}
