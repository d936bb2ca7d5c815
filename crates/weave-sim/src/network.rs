//! The network between the hosts: who can send to whom, and what happens on the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::bandwidth::Bandwidth;
use crate::bursts::Links;
use crate::chance::Chance;
use crate::counters::Counters;
use crate::nat::{Nat, NatKind};
use crate::plan::Plan;

use weave_wire::Time;

/// Bytes of the headers of IPv4 and UDP.
const HEADERS: usize = 28;
/// MTUs of links.
const MTUS: [u64; 10] = [
    576, 700, 1_006, 1_280, 1_400, 1_420, 1_492, 1_500, 4_352, 9_000,
];

/// Longest time that a datagram is held back where nothing is at fault, in milliseconds.
const CALM_REORDER_MS: u64 = 300;

/// One copy of a datagram that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// From now on.
    pub(crate) delay: Duration,
    /// Bits that are flipped on the way.
    pub(crate) flips: u64,
}

/// Links between all hosts.
#[derive(Debug)]
pub(crate) struct Network {
    chance: Chance,
    loss_permille: u64,
    links: Links,
    corrupt_permille: u64,
    corrupt_bits: u64,
    double_permille: u64,
    double_ms: u64,
    reorder_permille: u64,
    reorder_ms: u64,
    /// Where each host's router is reached.
    addresses: Vec<SocketAddr>,
    hosts: BTreeMap<SocketAddr, usize>,
    /// What hosts are behind, and which host is behind each.
    nats: BTreeMap<usize, Nat>,
    behind: BTreeMap<IpAddr, usize>,
    /// Addresses given out so far.
    next_address: usize,
    bandwidth: Bandwidth,
    /// One-way delay of each host's own line.
    lines: Vec<Duration>,
    chance_of_mtu: Chance,
    /// MTU of each host's own line.
    mtus: Vec<usize>,
    /// The largest that each has ever had.
    widest: Vec<usize>,
    /// Datagrams that are longer than a link's MTU get lost, also where they may be fragmented.
    loses_fragments: bool,
    /// The side of a partition that a host is on.
    sides: Vec<u64>,
    /// Only datagrams from side 0 to side 1 are blocked.
    one_way: bool,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut chance = Chance::new(plan.seed, 2);
        let half = (plan.delay_ms / 2).max(1);
        let lines = (0..plan.peers).map(|_| chance.millis(0, half)).collect();
        let addresses: Vec<_> = (0..plan.peers)
            .map(|host| address(host, weave_wire::PORT))
            .collect();
        let hosts = addresses.iter().copied().zip(0..).collect();
        let mut network = Self {
            chance,
            addresses,
            hosts,
            nats: BTreeMap::new(),
            behind: BTreeMap::new(),
            next_address: plan.peers,
            chance_of_mtu: Chance::new(plan.seed, 5),
            mtus: vec![1_500; plan.peers],
            widest: vec![1_500; plan.peers],
            loses_fragments: plan.loses_fragments,
            loss_permille: plan.loss_permille,
            links: Links::new(plan),
            corrupt_permille: plan.corrupt_permille,
            corrupt_bits: plan.corrupt_bits,
            double_permille: plan.double_permille,
            double_ms: plan.double_ms,
            reorder_permille: plan.reorder_permille,
            reorder_ms: plan.reorder_ms,
            bandwidth: Bandwidth::default(),
            lines,
            sides: vec![0; plan.peers],
            one_way: false,
        };
        for host in 0..plan.peers {
            network.change_mtu_of(host);
        }
        for (host, kind) in &plan.nats {
            network.hide(*host, *kind);
        }
        network
    }

    /// Where a host's router is reached, or its NAT was last seen.
    pub(crate) fn address_of(&self, host: usize) -> Option<SocketAddr> {
        match self.nats.get(&host) {
            Some(nat) => Some(nat.newest()),
            None => self.addresses.get(host).copied(),
        }
    }

    /// The address that a host itself sees as its own.
    pub(crate) fn local_ip(&self, host: usize) -> Option<IpAddr> {
        self.addresses.get(host).map(SocketAddr::ip)
    }

    /// The host that is reached there without a NAT in between.
    pub(crate) fn host_at(&self, address: SocketAddr) -> Option<usize> {
        self.hosts.get(&address).copied()
    }

    /// What the receiver of a datagram sees as its source.
    pub(crate) fn source_of(
        &mut self,
        host: usize,
        to: SocketAddr,
        now: Time,
        counters: &mut Counters,
    ) -> Option<SocketAddr> {
        let Some(nat) = self.nats.get_mut(&host) else {
            return self.addresses.get(host).copied();
        };
        let (outside, is_new) = nat.send(to, now);
        counters.nat_mappings += u64::from(is_new);
        Some(outside)
    }

    /// The host that a datagram reaches, if a NAT in front of it lets it in.
    pub(crate) fn receiver_of(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        now: Time,
        counters: &mut Counters,
    ) -> Option<usize> {
        let Some(host) = self.behind.get(&to.ip()) else {
            return self.host_at(to);
        };
        let is_let_in = self
            .nats
            .get(host)
            .is_some_and(|nat| nat.admits(from, to.port(), now));
        counters.nat_refusals += u64::from(!is_let_in);
        is_let_in.then_some(*host)
    }

    /// Whether a host is behind a NAT.
    pub(crate) fn is_hidden(&self, host: usize) -> bool {
        self.nats.contains_key(&host)
    }

    /// Puts a host behind a NAT.
    fn hide(&mut self, host: usize, kind: NatKind) {
        let outside = self.unused_address().ip();
        let IpAddr::V4(ip) = outside else {
            return;
        };
        if let Some(address) = self.addresses.get(host) {
            self.hosts.remove(address);
        }
        self.nats.insert(host, Nat::new(kind, ip));
        self.behind.insert(outside, host);
    }

    /// Gives a host, or its NAT, another address, or only another port. Nobody has the old one any
    /// more.
    pub(crate) fn roam(&mut self, host: usize, keeps_ip: bool) -> SocketAddr {
        let new = self.unused_address();
        if let (Some(nat), IpAddr::V4(ip)) = (self.nats.get_mut(&host), new.ip()) {
            let ip = if keeps_ip { nat.ip() } else { ip };
            self.behind.remove(&IpAddr::from(nat.ip()));
            self.behind.insert(ip.into(), host);
            nat.renew(ip);
            return nat.newest();
        }
        let Some(old) = self.addresses.get_mut(host) else {
            return new;
        };
        self.hosts.remove(old);
        *old = match keeps_ip {
            true => SocketAddr::new(old.ip(), old.port().wrapping_add(1).max(1024)),
            false => new,
        };
        self.hosts.insert(*old, host);
        *old
    }

    /// An address that no host has.
    fn unused_address(&mut self) -> SocketAddr {
        let number = self.next_address;
        self.next_address += 1;
        address(number, weave_wire::PORT)
    }

    /// The copies that arrive of a datagram with so many bytes of UDP payload; none if it is lost.
    pub(crate) fn carry(
        &mut self,
        from: usize,
        to: usize,
        shape: (usize, bool),
        counters: &mut Counters,
    ) -> Vec<Arrival> {
        counters.datagrams += 1;
        counters.bytes += (shape.0 + HEADERS) as u64;
        if !self.fits(from, to, shape) {
            counters.too_long += 1;
            return Vec::new();
        }
        if self.is_blocked(from, to) {
            counters.blocked += 1;
            return Vec::new();
        }
        if self.chance.permille(self.loss_permille) {
            counters.lost += 1;
            return Vec::new();
        }
        if self.links.loses(from, to, counters) {
            return Vec::new();
        }
        let mut arrivals = vec![self.arrival(from, to, counters)];
        if self.chance.permille(self.double_permille) {
            counters.doubled += 1;
            let mut second = self.arrival(from, to, counters);
            second.delay += self.chance.millis(0, self.double_ms);
            arrivals.push(second);
        }
        arrivals
    }

    /// Whether the path takes a datagram with so many bytes of UDP payload, which may be fragmented
    /// or not.
    pub(crate) fn fits(&self, from: usize, to: usize, (len, dont_fragment): (usize, bool)) -> bool {
        len <= self.longest(from, to) || !(dont_fragment || self.loses_fragments)
    }

    /// Flips so many bits.
    pub(crate) fn corrupt(&mut self, bytes: &mut [u8], flips: u64) {
        for _ in 0..flips {
            let index = self.chance.index(bytes.len());
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << self.chance.below(8);
            }
        }
    }

    /// The longest UDP payload that gets from one host to the other whole.
    pub(crate) fn longest(&self, from: usize, to: usize) -> usize {
        longest(&self.mtus, from, to)
    }

    /// The longest that ever did.
    pub(crate) fn longest_ever(&self, from: usize, to: usize) -> usize {
        longest(&self.widest, from, to)
    }

    /// Gives some link another MTU.
    pub(crate) fn change_mtu(&mut self) {
        let host = self.chance_of_mtu.index(self.mtus.len());
        self.change_mtu_of(host);
    }

    fn change_mtu_of(&mut self, host: usize) {
        let common = self.chance_of_mtu.pick(&MTUS).copied().unwrap_or(1_500);
        let odd = 576 + self.chance_of_mtu.below(8_425);
        let mtu = if self.chance_of_mtu.permille(700) {
            common
        } else {
            odd
        };
        // without fragments, no handshake passes where IPv6 would not
        let least = if self.loses_fragments { 1_280 } else { 576 };
        let mtu = usize::try_from(mtu.max(least)).unwrap_or(1_500);
        if let (Some(now), Some(widest)) = (self.mtus.get_mut(host), self.widest.get_mut(host)) {
            *now = mtu;
            *widest = mtu.max(*widest);
        }
    }

    /// Breaks the network in two; `one_way`: only from one part to the other.
    pub(crate) fn split(&mut self, one_way: bool) {
        self.one_way = one_way;
        for side in &mut self.sides {
            *side = self.chance.below(2);
        }
        tracing::info!(one_way, sides = ?self.sides, "the network breaks");
    }

    /// Breaks the network in two halves.
    pub(crate) fn halve(&mut self) {
        self.one_way = false;
        for (side, half) in self.sides.iter_mut().zip([0, 1].into_iter().cycle()) {
            *side = half;
        }
    }

    /// Breaks the network as the bits of this number say: the side of each host, and from the
    /// eighth on whether only one way is broken.
    pub(crate) fn part(&mut self, bits: usize) {
        self.one_way = bits >> 7 & 1 == 1;
        for (index, side) in self.sides.iter_mut().enumerate() {
            *side = (bits >> (index % 7) & 1) as u64;
        }
    }

    /// Loses so many datagrams of a thousand from now on.
    pub(crate) const fn lose(&mut self, permille: u64) {
        self.loss_permille = permille;
    }

    /// Gives every path this one-way delay, about, and links of an MTU of 1,500 bytes.
    pub(crate) fn level(&mut self, delay: Duration) {
        self.lines.fill(delay / 2);
        self.mtus.fill(1_500);
        self.widest.fill(1_500);
    }

    /// Gives every line this many bits per second.
    pub(crate) fn lines_carry(&mut self, rate: u64) {
        self.bandwidth.limit(self.lines.len(), rate);
    }

    /// How long a datagram with so many bytes of UDP payload waits for the lines, and takes on
    /// them; none if a queue is full.
    pub(crate) fn queue(
        &mut self,
        from: usize,
        to: usize,
        len: usize,
        now: Time,
    ) -> Option<Duration> {
        self.bandwidth.take(from, to, len + HEADERS, now)
    }

    /// Mends what is broken.
    pub(crate) fn mend(&mut self) {
        self.sides.fill(0);
    }

    /// Whether everybody reaches everybody.
    pub(crate) fn is_whole(&self) -> bool {
        self.sides.iter().all(|side| *side == 0)
    }

    /// Loses and spoils nothing any more. Doubling and reordering go on within limits: they are
    /// no faults.
    pub(crate) fn stop_losing(&mut self) {
        self.loss_permille = 0;
        self.links.stop_losing();
        self.corrupt_permille = 0;
        self.double_ms = 0;
        self.reorder_ms = self.reorder_ms.min(CALM_REORDER_MS);
    }

    /// Whether a break lies in this direction.
    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.sides.get(from), self.sides.get(to));
        if self.one_way { from < to } else { from != to }
    }

    fn arrival(&mut self, from: usize, to: usize, counters: &mut Counters) -> Arrival {
        let line = |host: usize| self.lines.get(host).copied().unwrap_or_default();
        let mut delay = Duration::from_micros(50) + line(from) + line(to);
        delay += self.chance.millis(0, 2);
        if self.chance.permille(self.reorder_permille) {
            let held = self.chance.millis(1, self.reorder_ms);
            counters.reordered += 1;
            counters.held_long += u64::from(held > Duration::from_millis(CALM_REORDER_MS));
            delay += held;
        }
        let mut flips = 0;
        if self.chance.permille(self.corrupt_permille) {
            flips = 1 + self.chance.below(self.corrupt_bits);
            counters.corrupted += 1;
        }
        Arrival { delay, flips }
    }
}

fn longest(mtus: &[usize], from: usize, to: usize) -> usize {
    let ends = [from, to].into_iter().filter_map(|host| mtus.get(host));
    ends.min().map_or(0, |mtu| mtu - HEADERS)
}

/// An address that no other number has.
fn address(number: usize, port: u16) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
    let base = Ipv4Addr::new(172, 16, 0, 0).to_bits();
    SocketAddr::from((Ipv4Addr::from_bits(base.saturating_add(number)), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    const SMALL: (usize, bool) = (100, false);

    #[test]
    fn a_host_that_moves_is_reached_at_its_new_address_only() {
        let mut network = Network::new(&Plan::of(&Options::new(3, 7)));
        for keeps_ip in [true, false, true, true] {
            let old = network.address_of(1).expect("a host");
            let new = network.roam(1, keeps_ip);
            assert_eq!(old.ip() == new.ip(), keeps_ip);
            assert_eq!(network.host_at(new), Some(1));
            assert_eq!(network.host_at(old), None);
        }
        let hosts = [0, 2].map(|host| network.address_of(host).expect("a host"));
        assert_eq!(hosts.map(|at| network.host_at(at)), [Some(0), Some(2)]);
    }

    #[test]
    fn a_one_way_break_lets_answers_through() {
        let mut network = Network::new(&Plan::of(&Options::new(20, 7)));
        network.stop_losing();
        network.split(true);
        let mut counters = Counters::default();
        let mut pairs = (0..20).flat_map(|a| (0..20).map(move |b| (a, b)));
        let asymmetric = pairs.any(|(a, b)| {
            network.carry(a, b, SMALL, &mut counters).is_empty()
                && !network.carry(b, a, SMALL, &mut counters).is_empty()
        });
        assert!(asymmetric);
        network.mend();
        assert!(!network.carry(0, 1, SMALL, &mut counters).is_empty());
    }

    #[test]
    fn what_is_longer_than_the_path_passes_only_in_fragments() {
        let plan = Plan {
            loses_fragments: false,
            ..Plan::of(&Options::new(2, 7))
        };
        let mut counters = Counters::default();
        for loses_fragments in [false, true] {
            let mut network = Network::new(&Plan {
                loses_fragments,
                ..plan.clone()
            });
            network.stop_losing();
            let most = network.longest(0, 1);
            let mut passes =
                |len, whole| !network.carry(0, 1, (len, whole), &mut counters).is_empty();
            assert!(passes(most, true) && !passes(most + 1, true));
            assert_eq!(passes(most + 1, false), !loses_fragments);
        }
    }
}
