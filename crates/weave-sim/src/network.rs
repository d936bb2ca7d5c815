//! The network between the hosts: who can send to whom, and what happens on the way.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::chance::Chance;
use crate::counters::Counters;
use crate::plan::Plan;

/// Bytes of the headers of IPv4 and UDP.
const HEADERS: usize = 28;
/// MTUs of links.
const MTUS: [u64; 10] = [
    576, 700, 1_006, 1_280, 1_400, 1_420, 1_492, 1_500, 4_352, 9_000,
];

/// Links between all hosts.
#[derive(Debug)]
pub(crate) struct Network {
    chance: Chance,
    loss_permille: u64,
    double_permille: u64,
    reorder_permille: u64,
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
        let mut network = Self {
            chance,
            chance_of_mtu: Chance::new(plan.seed, 5),
            mtus: vec![1_500; plan.peers],
            widest: vec![1_500; plan.peers],
            loses_fragments: plan.loses_fragments,
            loss_permille: plan.loss_permille,
            double_permille: plan.double_permille,
            reorder_permille: plan.reorder_permille,
            lines,
            sides: vec![0; plan.peers],
            one_way: false,
        };
        for host in 0..plan.peers {
            network.change_mtu_of(host);
        }
        network
    }

    /// When copies of a datagram with so many bytes of UDP payload arrive, from now on; none if
    /// it is lost.
    pub(crate) fn carry(
        &mut self,
        from: usize,
        to: usize,
        (len, dont_fragment): (usize, bool),
        counters: &mut Counters,
    ) -> Vec<Duration> {
        counters.datagrams += 1;
        if len > self.longest(from, to) && (dont_fragment || self.loses_fragments) {
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
        let doubled = self.chance.permille(self.double_permille);
        counters.doubled += u64::from(doubled);
        (0..=u8::from(doubled))
            .map(|_| self.delay(from, to, counters))
            .collect()
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
    }

    /// Mends what is broken.
    pub(crate) fn mend(&mut self) {
        self.sides.fill(0);
    }

    /// Whether everybody reaches everybody.
    pub(crate) fn is_whole(&self) -> bool {
        self.sides.iter().all(|side| *side == 0)
    }

    /// Loses nothing any more. Doubling and reordering go on: they are no faults.
    pub(crate) const fn stop_losing(&mut self) {
        self.loss_permille = 0;
    }

    fn is_blocked(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.sides.get(from), self.sides.get(to));
        if self.one_way { from < to } else { from != to }
    }

    fn delay(&mut self, from: usize, to: usize, counters: &mut Counters) -> Duration {
        let line = |host: usize| self.lines.get(host).copied().unwrap_or_default();
        let mut delay = Duration::from_micros(50) + line(from) + line(to);
        delay += self.chance.millis(0, 2);
        if self.chance.permille(self.reorder_permille) {
            counters.reordered += 1;
            delay += self.chance.millis(1, 300);
        }
        delay
    }
}

fn longest(mtus: &[usize], from: usize, to: usize) -> usize {
    let ends = [from, to].into_iter().filter_map(|host| mtus.get(host));
    ends.min().map_or(0, |mtu| mtu - HEADERS)
}

/// Where a host's router listens.
pub(crate) fn address_of(host: usize) -> SocketAddr {
    let number = u32::try_from(host).unwrap_or(u32::MAX).saturating_add(1);
    let base = Ipv4Addr::new(172, 16, 0, 0).to_bits();
    SocketAddr::from((
        Ipv4Addr::from_bits(base.saturating_add(number)),
        weave_wire::PORT,
    ))
}

/// The host that listens there.
pub(crate) fn host_at(address: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let base = Ipv4Addr::new(172, 16, 0, 0).to_bits();
    let number = address.ip().to_bits().checked_sub(base)?.checked_sub(1)?;
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    const SMALL: (usize, bool) = (100, false);

    #[test]
    fn addresses_and_hosts_correspond() {
        for host in [0, 1, 255, 1000] {
            assert_eq!(host_at(address_of(host)), Some(host));
        }
        assert_eq!(host_at("10.0.0.1:6783".parse().expect("an address")), None);
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
