//! The model mesh: peers, links, disks and logs, driven by one queue of events.

mod faults;
mod links;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use weave_wire::proto::{Founding, PeerRecord, SubnetRecord, control_message::Body, entry};
use weave_wire::{Cidr, PeerId, Time, ip_bytes};

use super::oracle::{Oracle, Others};
use crate::gossip::PEER_KEY;
use crate::ipam::pool::{Loan, Pick};
use crate::ipam::span::Span;
use crate::ipam::store::{self, Stored, Write, genesis_key, held_key, ip_bits};
use crate::ipam::{Ipam, IpamAction, IpamConfig, IpamError, TakeBack};

/// What a peer says of itself stands at the same place in all logs of all starts.
const PEER_SLOT: u64 = 1;
/// Founders are apart for this long.
const APART: Duration = Duration::from_secs(12);

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) peers: usize,
    pub(super) range: &'static str,
    /// Per cent of messages lost.
    pub(super) loss: u64,
    /// Per cent of writes that the disk refuses.
    pub(super) disk_errors: u64,
    /// Crashes and partitions happen.
    pub(super) faults: bool,
    /// So many peers were told of no others to connect to, and found the range at need. They are
    /// apart from each other at first.
    pub(super) founders: usize,
    /// Space is taken back from peers that are gone after this long, and faults last as long.
    pub(super) take_back: Option<Duration>,
    /// Now and then a peer is banned.
    pub(super) bans: bool,
    #[cfg(feature = "seeded-bugs")]
    pub(super) bug: Option<crate::seeded::SeededBug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peers: 5,
            range: "10.32.0.0/12",
            loss: 20,
            disk_errors: 0,
            faults: true,
            founders: 1,
            take_back: None,
            bans: false,
            #[cfg(feature = "seeded-bugs")]
            bug: None,
        }
    }
}

/// How often each fault happened.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) crashes: usize,
    pub(super) partitions: usize,
    pub(super) destroyed: usize,
    pub(super) bans: usize,
    /// Bans that several hosts said at once.
    pub(super) shared_bans: usize,
    /// Writes that were on disk although the peer died before it heard of it.
    pub(super) unacked: usize,
}

impl Faults {
    pub(super) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.crashes += other.crashes;
        self.partitions += other.partitions;
        self.destroyed += other.destroyed;
        self.bans += other.bans;
        self.shared_bans += other.shared_bans;
        self.unacked += other.unacked;
    }
}

/// How much of a log a peer holds: which start of its origin, and how many entries.
type Held = (u64, usize);

/// What happened to a slot of a log.
type Change = (u64, Option<entry::Body>);

pub(super) struct Peer {
    pub(super) id: PeerId,
    /// Counts starts; none while it is down.
    pub(super) ipam: Option<Ipam>,
    life: u64,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes on their way to the disk, oldest first.
    writing: Vec<(u64, Vec<Write>)>,
    slots: BTreeMap<String, u64>,
    /// The founding that its log says it takes part in.
    part: Option<Box<Founding>>,
    /// It never comes back.
    pub(super) is_gone: bool,
    /// Bans that it has heard of.
    bans: BTreeSet<PeerId>,
    pub(super) views: BTreeMap<usize, Held>,
    tables: BTreeMap<(usize, u64), entry::Body>,
    /// To whom, as it heard in any life, chunks were granted.
    told: BTreeSet<(PeerId, Span)>,
    /// Chunks that it ever took from a banned host.
    took: BTreeSet<Span>,
}

#[derive(Debug, Clone)]
enum Event {
    Message {
        from: usize,
        to: usize,
        lives: (u64, u64),
        body: Body,
    },
    Sync {
        from: usize,
        to: usize,
    },
    Gossip,
    Written {
        node: usize,
        life: u64,
    },
    Work,
    Fault,
    Restart {
        node: usize,
    },
    Heal,
}

pub(super) struct Mesh {
    options: Options,
    rng: ChaCha12Rng,
    pub(super) now: Time,
    pub(super) peers: Vec<Peer>,
    /// Entries of each start of each peer's log.
    logs: BTreeMap<(usize, u64), Vec<Change>>,
    side: Vec<u32>,
    queue: BTreeMap<(Time, u64), Event>,
    pub(super) next_event: u64,
    next_ticket: u64,
    pub(super) subnets: Vec<Cidr>,
    tickets: BTreeMap<u64, Cidr>,
    churning: bool,
    /// When each pair that has no link now had contact last, as far as that counts.
    contact: BTreeMap<(usize, usize), Time>,
    linked_since: BTreeMap<(usize, usize), Time>,
    pub(super) oracle: Oracle,
    pub(super) faults: Faults,
}

impl Mesh {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        let range: Cidr = options.range.parse().expect("a range");
        let mut mesh = Self {
            options,
            rng: ChaCha12Rng::seed_from_u64(seed),
            now: Time::from_secs(1),
            peers: Vec::new(),
            logs: BTreeMap::new(),
            side: vec![0; options.peers],
            queue: BTreeMap::new(),
            next_event: 0,
            next_ticket: 0,
            subnets: subnets_of(range),
            tickets: BTreeMap::new(),
            churning: false,
            contact: BTreeMap::new(),
            linked_since: BTreeMap::new(),
            oracle: Oracle::default(),
            faults: Faults::default(),
        };
        for node in 0..options.peers {
            let mut key = [0; 32];
            mesh.rng.fill_bytes(&mut key);
            mesh.peers.push(Peer {
                id: PeerId(key),
                ipam: None,
                life: 0,
                disk: BTreeMap::new(),
                writing: Vec::new(),
                slots: BTreeMap::new(),
                part: None,
                is_gone: false,
                bans: BTreeSet::new(),
                views: BTreeMap::new(),
                tables: BTreeMap::new(),
                told: BTreeSet::new(),
                took: BTreeSet::new(),
            });
            mesh.boot(node);
        }
        if options.founders > 1 {
            for (node, side) in mesh.side.iter_mut().enumerate() {
                *side = u32::try_from(node % options.founders).expect("a small number");
            }
            mesh.at(APART, Event::Heal);
        }
        mesh.relink();
        mesh.at(Duration::from_millis(100), Event::Gossip);
        mesh
    }

    /// Work and faults for this long.
    pub(super) fn churn(&mut self, time: Duration) {
        self.churning = true;
        self.at(Duration::from_millis(500), Event::Work);
        self.run_for(Duration::from_secs(20));
        if self.options.faults {
            self.at(Duration::from_secs(1), Event::Fault);
        }
        self.run_for(time);
        self.churning = false;
    }

    /// No message gets lost any more.
    pub(super) const fn lose_nothing(&mut self) {
        self.options.loss = 0;
    }

    /// All links up, all peers up.
    pub(super) fn heal(&mut self) {
        self.side.fill(0);
        self.options.disk_errors = 0;
        for node in 0..self.peers.len() {
            if self.peers[node].ipam.is_none() && !self.peers[node].is_gone {
                self.boot(node);
            }
        }
        self.relink();
        // whom chance would not repair for long hears all now
        for (from, to) in self.all_links() {
            self.at(Duration::from_secs(10), Event::Sync { from, to });
        }
        // where a founder is banned the other hosts that are gone must be, too
        if self.faults.bans > 0 {
            let gone = self.peers.iter().filter(|peer| peer.is_gone);
            let gone: BTreeSet<PeerId> = gone.map(|peer| peer.id).collect();
            let by = self.peers.iter().position(|peer| !peer.is_gone);
            self.hear_bans(by.expect("somebody is left"), gone);
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timers = self
                .peers
                .iter()
                .filter_map(|peer| peer.ipam.as_ref()?.poll_timeout());
            let Some(next) = timers.chain(event).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if event == Some(next) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.handle(event);
                }
            } else {
                self.fire_timers();
            }
            self.oracle.overdue(self.now);
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Message {
                from,
                to,
                lives,
                body,
            } => self.deliver(from, to, lives, body),
            Event::Sync { from, to } => {
                if self.linked(from, to) {
                    self.sync(from, to);
                }
            }
            Event::Gossip => self.gossip(),
            Event::Written { node, life } => self.written(node, life),
            Event::Work if self.churning => self.work(),
            Event::Fault if self.churning => self.fault(),
            Event::Restart { node } => {
                if self.peers[node].ipam.is_none() && !self.peers[node].is_gone {
                    self.boot(node);
                    self.relink();
                }
            }
            Event::Heal => {
                self.side.fill(0);
                self.relink();
            }
            Event::Work | Event::Fault => {}
        }
        self.check_chunks();
    }

    fn work(&mut self) {
        self.at(Duration::from_millis(20), Event::Work);
        let node = self.index(self.peers.len());
        if self.peers[node].ipam.is_none() {
            return;
        }
        match self.below(10) {
            0..=4 => {
                let subnet = self.pick_subnet();
                self.allocate(node, subnet, None);
            }
            5 => {
                let subnet = self.pick_subnet();
                let (network, len) = subnet.v4().expect("IPv4");
                let size = (1 << (32 - len).min(20)).min(40);
                let ip = Ipv4Addr::from_bits(network.to_bits() + self.low(size));
                self.allocate(node, subnet, Some(ip));
            }
            6 => self.toggle_subnet(node),
            _ => self.release_one(node),
        }
    }

    pub(super) fn allocate(&mut self, node: usize, subnet: Cidr, wanted: Option<Ipv4Addr>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let is_alone = wanted.is_none() && self.serves_alone(node, subnet);
        let genesis = self.peers[node].ipam.as_ref().and_then(Ipam::genesis_id);
        let alone_in = genesis.filter(|_| is_alone);
        self.oracle.asked(node, ticket, alone_in, self.now);
        self.tickets.insert(ticket, subnet);
        let now = self.now;
        if let Some(ipam) = &mut self.peers[node].ipam {
            ipam.allocate(ticket, &format!("c{ticket}"), subnet, wanted, now);
        }
        self.drain(node);
    }

    /// Whether a host has space of its own for one more, and may use it.
    fn serves_alone(&mut self, node: usize, subnet: Cidr) -> bool {
        let errors = self.options.disk_errors;
        let Some(ipam) = &mut self.peers[node].ipam else {
            return false;
        };
        ipam.now = self.now;
        ipam.refresh_map();
        if errors > 0 || ipam.recovery.is_awaited() || ipam.is_unsettled() {
            return false;
        }
        let space = ipam.own_space(subnet);
        let is_used = |ip| ipam.user_of(ip).is_some();
        // what was freed a moment ago is the last that is given out
        let free = ipam.pool.pick(&space, is_used, ipam.now);
        let waits = !ipam.pending.is_empty() || ipam.deferred.is_some_waiting();
        matches!(free, Some(Pick::Free(_))) && !waits
    }

    fn release_one(&mut self, node: usize) {
        let held = self.oracle.held_by(node);
        if held.is_empty() {
            return;
        }
        let (ip, subnet) = held[self.index(held.len())];
        self.oracle.released(node, ip);
        let now = self.now;
        if let Some(ipam) = &mut self.peers[node].ipam {
            ipam.release(subnet, ip, now);
        }
        self.drain(node);
    }

    fn toggle_subnet(&mut self, node: usize) {
        let subnet = self.pick_subnet();
        let key = format!("subnet/{subnet}");
        let slot = self.slot(node, key);
        let present = self.peers[node].tables.contains_key(&(node, slot));
        let record = SubnetRecord {
            ip: ip_bytes(subnet.first()),
            prefix_len: u32::from(subnet.prefix_len()),
            segment: 1,
            strict: false,
            ..Default::default()
        };
        self.write_log(
            node,
            slot,
            (!present).then_some(entry::Body::Subnet(record)),
        );
        self.drain(node);
    }

    fn boot(&mut self, node: usize) {
        let peer = &mut self.peers[node];
        peer.life += 1;
        self.logs.insert((node, peer.life), Vec::new());
        let stored: Vec<(Vec<u8>, Vec<u8>)> = peer.disk.clone().into_iter().collect();
        let config = IpamConfig {
            range: Some(self.options.range.parse().expect("a range")),
            boot: peer.life,
            wall_ms: 1_700_000_000_000
                + node as u64
                + u64::try_from(Duration::from_nanos(self.now.as_nanos()).as_millis())
                    .expect("minutes"),
            take_back: self
                .options
                .take_back
                .map(TakeBack::after)
                .unwrap_or_default(),
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: self.options.bug,
            ..IpamConfig::default()
        };
        let mut ipam = Ipam::new(peer.id, config, &stored, self.now);
        for banned in &peer.bans {
            ipam.ban(*banned, self.now);
        }
        let targets = usize::from(node >= self.options.founders);
        ipam.set_targets(targets, targets, self.now);
        peer.ipam = Some(ipam);
        // addresses that the disk had although nobody was told: their containers never started
        let promised: BTreeSet<Ipv4Addr> = self
            .oracle
            .held_by(node)
            .into_iter()
            .map(|(ip, _)| ip)
            .collect();
        let ipam = self.peers[node].ipam.as_mut().expect("just started");
        let held: Vec<_> = ipam.allocated().collect();
        for stray in held.iter().filter(|held| !promised.contains(&held.ip)) {
            ipam.release(stray.subnet, stray.ip, self.now);
        }
        for ip in promised {
            if !held.iter().any(|held| held.ip == ip) {
                self.oracle
                    .violation(format!("{node} forgot {ip} in a restart"));
            }
        }
        self.drain(node);
    }

    fn fire_timers(&mut self) {
        for node in 0..self.peers.len() {
            let now = self.now;
            if let Some(ipam) = &mut self.peers[node].ipam
                && ipam.poll_timeout().is_some_and(|at| at <= now)
            {
                ipam.handle_timeout(now);
                self.drain(node);
                let still = self.peers[node].ipam.as_ref().and_then(Ipam::poll_timeout);
                if still.is_some_and(|at| at <= now) {
                    self.oracle
                        .violation(format!("{node} wants to be called at once, again"));
                    self.now += Duration::from_millis(1);
                }
            }
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(action) = self.peers[node].ipam.as_mut().and_then(Ipam::poll_action) {
            match action {
                IpamAction::SetEntry { key, body } => {
                    let slot = self.slot(node, key);
                    self.write_log(node, slot, body);
                }
                IpamAction::Send { to, body } => self.transmit(node, to, body),
                IpamAction::Persist { token, writes } => {
                    let delay = Duration::from_millis(1 + self.below(40));
                    let life = self.peers[node].life;
                    self.peers[node].writing.push((token, writes));
                    self.at(delay, Event::Written { node, life });
                }
                IpamAction::Answer { ticket, result } => self.answer(node, ticket, &result),
            }
        }
        self.tell_part(node);
    }

    /// Says in a peer's log which founding it takes part in.
    fn tell_part(&mut self, node: usize) {
        let peer = &self.peers[node];
        let Some(part) = peer.ipam.as_ref().map(Ipam::part_in) else {
            return;
        };
        let has_said = peer.slots.contains_key(PEER_KEY);
        if has_said && peer.part == part {
            return;
        }
        self.peers[node].part.clone_from(&part);
        let slot = self.slot(node, PEER_KEY.to_owned());
        let record = PeerRecord {
            founding: part,
            ..Default::default()
        };
        self.write_log(node, slot, Some(entry::Body::Peer(record)));
    }

    fn answer(&mut self, node: usize, ticket: u64, result: &Result<Ipv4Addr, IpamError>) {
        let genesis = self.peers[node].ipam.as_ref().and_then(Ipam::genesis_id);
        let subnet = self.tickets[&ticket];
        let rightful = |peer: &Peer| {
            let ipam = peer.ipam.as_ref()?;
            let ip = result.as_ref().ok()?.to_bits();
            let held = ipam.pool.held.contains_key(&ip) && !ipam.foundlings.contains_key(&ip);
            (held && ipam.genesis_id() == genesis).then_some(())
        };
        let rightful: Vec<usize> = (0..self.peers.len())
            .filter(|other| *other != node && rightful(&self.peers[*other]).is_some())
            .collect();
        // of peers that do not hear each other, one has been taken for gone
        let giver = result
            .as_ref()
            .ok()
            .and_then(|ip| self.giver(node, ip.to_bits()));
        let apart: Vec<usize> = (0..self.peers.len())
            .filter(|other| giver.is_some_and(|giver| self.are_apart(giver, *other)))
            .collect();
        let excused: Vec<usize> = (0..self.peers.len())
            .filter(|other| {
                let given = result.as_ref().ok().zip(giver);
                given.is_some_and(|(ip, giver)| {
                    let chunk = self.chunk_of(giver, *ip);
                    self.is_unheard_loan(ip.to_bits(), *other, giver)
                        || chunk.is_some_and(|it| self.is_unheard_grant(it, *other))
                        || self.has_gone_over(*other, genesis)
                })
            })
            .collect();
        let others = Others {
            rightful,
            apart,
            excused,
        };
        if let Err(why) = result
            && self.serves_alone(node, subnet)
        {
            self.oracle.refused_alone(ticket, why);
        }
        self.oracle
            .answered(ticket, genesis, subnet, result, &others, self.now);
    }

    /// Whether a peer takes part in another founding than this.
    fn has_gone_over(&self, node: usize, genesis: Option<[u8; 16]>) -> bool {
        let stored = self.peers[node].disk.get(&genesis_key());
        match stored.and_then(|value| store::read(&genesis_key(), value)) {
            Some(Stored::Genesis(other)) => Some(other.id) != genesis,
            Some(_) | None => false,
        }
    }

    /// Whether a peer has an address from a host that is banned, and `giver` holds nothing of that
    /// host's log that says so: a price of bans that is known (docs/adr/0012).
    fn is_unheard_loan(&self, ip: u32, holder: usize, giver: usize) -> bool {
        let key = held_key(ip);
        let stored = self.peers[holder].disk.get(&key);
        let Some(Stored::Held(_, held)) = stored.and_then(|value| store::read(&key, value)) else {
            return false;
        };
        let giver = &self.peers[giver];
        let of_banned = |loan: &Loan| giver.bans.contains(&loan.lender);
        held.loan.filter(of_banned).is_some_and(|loan| {
            let is_it = |body: &entry::Body| {
                matches!(body, entry::Body::Loan(record)
                    if ip_bits(&record.ip) == Some(ip) && record.request_id == loan.request_id)
            };
            let mut log = giver.tables.iter();
            !log.any(|((of, _), body)| self.peers[*of].id == loan.lender && is_it(body))
        })
    }

    fn chunk_of(&self, node: usize, ip: Ipv4Addr) -> Option<u32> {
        let genesis = self.peers[node].ipam.as_ref()?.genesis.as_ref()?;
        genesis.chunk_of(ip.to_bits())
    }

    /// Whether a peer has a chunk from a host that is banned, and whoever took that over from it had
    /// heard nothing that says so; or took it itself on one side of a cut, as somebody else did on
    /// the other: a price of bans that is known (docs/adr/0012).
    pub(super) fn is_unheard_grant(&self, chunk: u32, owner: usize) -> bool {
        let peer = &self.peers[owner];
        let took = |peer: &Peer| peer.took.iter().any(|chunks| chunks.contains(chunk));
        let is_it =
            |(grantee, chunks): &(PeerId, Span)| *grantee == peer.id && chunks.contains(chunk);
        let others = self.peers.iter().filter(|other| other.id != peer.id);
        let mut takers = others.filter(|other| took(other));
        takers.any(|taker| took(peer) || !taker.told.iter().any(is_it))
    }

    /// Who owns the chunk of an address that a peer was just given.
    fn giver(&self, node: usize, ip: u32) -> Option<usize> {
        let ipam = self.peers[node].ipam.as_ref()?;
        let lender = ipam.pool.held.get(&ip)?.loan.map(|loan| loan.lender);
        let giver = lender.unwrap_or(ipam.me);
        self.peers.iter().position(|peer| peer.id == giver)
    }

    fn transmit(&mut self, from: usize, to: PeerId, body: Body) {
        let Some(to) = self.peers.iter().position(|peer| peer.id == to) else {
            return;
        };
        if !self.linked(from, to) {
            return;
        }
        let lives = (self.peers[from].life, self.peers[to].life);
        let copies = if self.below(20) == 0 { 2 } else { 1 };
        self.faults.doubled += copies - 1;
        for _ in 0..copies {
            if self.below(100) < self.options.loss {
                self.faults.lost += 1;
                continue;
            }
            let slow = self.below(30) == 0;
            let delay = 1 + self.below(if slow { 1800 } else { 60 });
            let body = body.clone();
            self.at(
                Duration::from_millis(delay),
                Event::Message {
                    from,
                    to,
                    lives,
                    body,
                },
            );
        }
    }

    fn deliver(&mut self, from: usize, to: usize, lives: (u64, u64), body: Body) {
        let same_session = lives == (self.peers[from].life, self.peers[to].life);
        if !same_session || self.side[from] != self.side[to] || self.peers[to].ipam.is_none() {
            return;
        }
        let (sender, now) = (self.peers[from].id, self.now);
        let comes_along = matches!(body, Body::SpaceReply(_)) && self.below(3) > 0;
        if comes_along && self.peers[from].ipam.is_some() {
            // a reply carries the records that it is about, mostly
            self.sync(from, to);
        }
        let Some(ipam) = &mut self.peers[to].ipam else {
            return;
        };
        match body {
            Body::FoundRequest(_) => ipam.handle_found_request(sender, now),
            Body::SpaceRequest(request) => ipam.handle_space_request(sender, request, now),
            Body::SpaceReply(reply) => ipam.handle_space_reply(sender, reply, now),
            Body::LoanReturn(message) => ipam.handle_loan_return(sender, message, now),
            Body::Hello(_)
            | Body::Ping(_)
            | Body::Pong(_)
            | Body::Goodbye(_)
            | Body::RekeyRequest(_)
            | Body::RekeyReply(_)
            | Body::PathProbe(_)
            | Body::PathProbeAck(_)
            | Body::CircuitRequest(_)
            | Body::CircuitReply(_)
            | Body::Inquiry(_)
            | Body::InquiryReply(_)
            | Body::Delta(_)
            | Body::Digest(_)
            | Body::Summary(_)
            | Body::Pull(_) => panic!("an allocator sends no {body:?}"),
        }
        self.drain(to);
    }

    fn written(&mut self, node: usize, life: u64) {
        let refused = self.below(100) < self.options.disk_errors;
        let peer = &mut self.peers[node];
        if peer.life != life || peer.writing.is_empty() {
            return;
        }
        let Some(ipam) = &mut peer.ipam else { return };
        let (token, writes) = peer.writing.remove(0);
        if refused {
            ipam.handle_persist_failed(token, "the disk is full", self.now);
        } else {
            write_all(&mut peer.disk, writes);
            ipam.handle_persisted(token, self.now);
        }
        self.drain(node);
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.queue
            .insert((self.now + delay, self.next_event), event);
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }

    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    fn low(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(bound.into())).expect("below a small number")
    }

    fn pick_subnet(&mut self) -> Cidr {
        let index = self.index(self.subnets.len());
        self.subnets[index]
    }
}

/// The range, and smaller and smaller networks inside it.
fn subnets_of(range: Cidr) -> Vec<Cidr> {
    let (network, len) = range.v4().expect("IPv4");
    let mut subnets = vec![range];
    for (more, place) in [(4, 3), (8, 50), (16, 9000)] {
        if len + more <= 29 {
            let ip = Ipv4Addr::from_bits(network.to_bits() + (place << (32 - len - more)));
            subnets.push(Cidr::new(ip.into(), len + more).expect("inside the range"));
        }
    }
    subnets
}

fn write_all(disk: &mut BTreeMap<Vec<u8>, Vec<u8>>, writes: Vec<Write>) {
    for (key, value) in writes {
        match value {
            Some(value) => disk.insert(key, value),
            None => disk.remove(&key),
        };
    }
}
