//! Whom to connect to: targets that an operator named, addresses that gossip found, and where
//! the attempts at each address stand.
//!
//! Owns when an address is dialled, not how: handshakes belong to the facade. An address is
//! dialled once however many targets resolve to it, and not at all while its peer is connected.

mod dial;
mod lookup;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rand_core::RngCore;
use weave_crypto::RejectReason;
use weave_wire::{Circuit, PeerId, Time};

pub(super) use dial::{Dial, DialState, Failure, no_answer};
pub(super) use lookup::Lookup;
use lookup::Target;

use super::Haste;
use super::config::Timers;

/// Targets, dials, and who has just left.
#[derive(Debug)]
pub(super) struct Dials {
    timers: Timers,
    port: u16,
    targets: BTreeMap<String, Target>,
    dials: BTreeMap<SocketAddr, Dial>,
    /// Where peers were that took their leave, and when to dial there again.
    left: BTreeMap<SocketAddr, Time>,
}

impl Dials {
    /// Nothing to dial. `port` completes targets that name none.
    pub(super) const fn new(timers: Timers, port: u16) -> Self {
        Self {
            timers,
            port,
            targets: BTreeMap::new(),
            dials: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Adds a target, or tries a known one again at once. Returns whether its name is to be
    /// resolved.
    pub(super) fn add_target(&mut self, name: &str, now: Time) -> bool {
        let lookup = Lookup::begin(name, self.port, now + self.timers.resolve);
        let target = self.targets.entry(name.to_owned()).or_default();
        target.lookup = lookup.clone();
        for addr in &target.addresses {
            if let Some(dial) = self.dials.get_mut(addr) {
                dial.retry_now(now);
            }
        }
        match lookup {
            Lookup::Literal(addr) => {
                self.assign(name, &[addr], now);
                false
            }
            Lookup::Asked { .. } => true,
            Lookup::Known { .. } | Lookup::Failed { .. } => false,
        }
    }

    /// Replaces the addresses of a target; an empty list means that its name has none. Returns
    /// the slots of attempts at addresses that nobody wants any more.
    #[must_use]
    pub(super) fn set_target_addresses(
        &mut self,
        name: &str,
        addresses: &[SocketAddr],
        now: Time,
    ) -> Vec<u32> {
        let again = now + self.timers.resolve;
        let Some(target) = self.targets.get_mut(name) else {
            return Vec::new();
        };
        if matches!(target.lookup, Lookup::Literal(_)) {
            return Vec::new();
        }
        if addresses.is_empty() {
            // The addresses known so far stay: a name server may be down for a while.
            let why = format!("no address found for {name}");
            target.lookup = Lookup::Failed { why, again };
            return Vec::new();
        }
        target.lookup = Lookup::Known { again };
        self.assign(name, addresses, now)
    }

    /// Forgets a target. Returns the slots of attempts that are to be abandoned; a session
    /// that stands is not touched.
    #[must_use]
    pub(super) fn remove_target(&mut self, name: &str) -> Vec<u32> {
        self.targets.remove(name);
        for dial in self.dials.values_mut() {
            dial.targets.remove(name);
        }
        self.forget_unwanted()
    }

    /// Wants a connection to an address that gossip found.
    pub(super) fn dial(
        &mut self,
        addr: SocketAddr,
        haste: Haste,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        let held = self.left.get(&addr).copied().unwrap_or(now).max(now);
        let Haste {
            eagerly,
            after,
            within,
        } = haste;
        let dial = self.dials.entry(addr).or_insert_with(|| {
            let jitter = within.mul_f64(f64::from(rng.next_u32()) / f64::from(u32::MAX));
            Dial::new(&self.timers, held + after + jitter)
        });
        dial.discovered = true;
        dial.wake(held);
        if std::mem::replace(&mut dial.eager, eagerly) != eagerly {
            dial.wait_no_longer_than(now + self.timers.eager_cap);
        }
    }

    /// Wakes the dials of targets whose peer is not up.
    pub(super) fn wake_resting(&mut self, live: &BTreeSet<PeerId>, now: Time) {
        for dial in self.dials.values_mut() {
            if let DialState::Resting { peer } = dial.state
                && !live.contains(&peer)
            {
                dial.wake(now);
            }
        }
    }

    /// Takes back [`Dials::dial`]. Returns the slots of attempts that are to be abandoned.
    #[must_use]
    pub(super) fn undial(&mut self, addr: SocketAddr) -> Vec<u32> {
        if let Some(dial) = self.dials.get_mut(&addr) {
            dial.discovered = false;
        }
        self.forget_unwanted()
    }

    /// Addresses to attempt now.
    pub(super) fn due(&self, now: Time) -> Vec<SocketAddr> {
        self.waiting()
            .filter(|(_, at)| *at <= now)
            .map(|(addr, _)| addr)
            .collect()
    }

    /// Names to resolve now, each returned once until it is due again.
    pub(super) fn lookups_due(&mut self, now: Time) -> Vec<String> {
        let again = now + self.timers.resolve;
        let mut due = Vec::new();
        for (name, target) in &mut self.targets {
            if target.lookup.is_due(now) {
                let connected = target.addresses.iter().any(|addr| {
                    self.dials
                        .get(addr)
                        .is_some_and(|dial| dial.connected_to().is_some())
                });
                target.lookup.postpone(again);
                if !connected {
                    due.push(name.clone());
                }
            }
        }
        due
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let dials = self.waiting().map(|(_, at)| at);
        dials
            .chain(
                self.targets
                    .values()
                    .filter_map(|target| target.lookup.due_at()),
            )
            .min()
    }

    /// Notes that an attempt at `addr` is under way in `slot`.
    pub(super) fn attempting(&mut self, addr: SocketAddr, slot: u32) {
        if let Some(dial) = self.dials.get_mut(&addr) {
            dial.state = DialState::Attempting { slot };
        }
    }

    /// Notes that the peer at `addr` answered with a refusal; the attempt goes on. Returns
    /// whether that is news.
    pub(super) fn refused(&mut self, addr: SocketAddr, reason: RejectReason) -> bool {
        let refused = Some(Failure::Refused(reason));
        let Some(dial) = self.dials.get_mut(&addr) else {
            return false;
        };
        std::mem::replace(&mut dial.failure, refused.clone()) != refused
    }

    /// Whether the attempt in `slot` is the one that was made for `addr`.
    pub(super) fn is_attempting(&self, addr: SocketAddr, slot: u32) -> bool {
        self.dials
            .get(&addr)
            .is_some_and(|dial| dial.state == DialState::Attempting { slot })
    }

    /// Notes that the attempt at `addr` came to nothing.
    pub(super) fn failed(
        &mut self,
        addr: SocketAddr,
        failure: Failure,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        if let Some(dial) = self.dials.get_mut(&addr) {
            dial.transition_to_waiting(failure, &self.timers, now, rng);
        }
    }

    /// Notes that `peer` is connected and seen at `addr`. Returns the slots of attempts that
    /// have become needless; none when it is reached through a relay.
    #[must_use]
    pub(super) fn connected(&mut self, addr: SocketAddr, peer: PeerId) -> Vec<u32> {
        if Circuit::of(&addr).is_some() {
            return Vec::new();
        }
        self.left.remove(&addr);
        let of_peer = self
            .dials
            .iter_mut()
            .filter(|(at, dial)| **at == addr || dial.peer == Some(peer));
        of_peer
            .filter_map(|(_, dial)| dial.transition_to_connected(peer))
            .collect()
    }

    /// Notes that `peer`, last seen at `addr`, is connected no more.
    pub(super) fn lost(
        &mut self,
        addr: SocketAddr,
        peer: PeerId,
        failure: &Failure,
        now: Time,
        rng: &mut impl RngCore,
    ) {
        let left = *failure == Failure::Left;
        let hold = if left { now + self.timers.left } else { now };
        self.left.retain(|_, until| *until > now);
        if left {
            self.left.insert(addr, hold);
        }
        for (addr, dial) in &mut self.dials {
            if dial.connected_to() == Some(peer) {
                dial.transition_to_waiting(failure.clone(), &self.timers, now, rng);
                dial.hold_until(hold);
                if left {
                    self.left.insert(*addr, hold);
                }
            }
        }
    }

    /// Notes that `peer` is banned. Returns the slots of attempts at it.
    #[must_use]
    pub(super) fn banned(&mut self, peer: PeerId) -> Vec<u32> {
        let there = self.dials.values_mut();
        let there = there.filter(|dial| dial.peer == Some(peer));
        there
            .filter_map(|dial| dial.transition_to_never(Failure::Banned))
            .collect()
    }

    /// Whether `addr` is one that we dial, or would.
    pub(super) fn knows(&self, addr: SocketAddr) -> bool {
        let dial = self.dials.get(&addr);
        dial.is_some_and(|dial| dial.state != DialState::Never)
    }

    /// All addresses that we dial, or would.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let dials = self.dials.iter();
        let dialled = dials.filter(|(_, dial)| dial.state != DialState::Never);
        dialled.map(|(addr, _)| *addr)
    }

    /// The dial of an address.
    pub(super) fn get(&self, addr: SocketAddr) -> Option<&Dial> {
        self.dials.get(&addr)
    }

    /// The dials that someone wants, without those that another address of the same target has
    /// made needless.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (SocketAddr, &Dial)> {
        let wanted = self.dials.iter().filter(|(_, dial)| {
            dial.discovered || dial.targets.iter().any(|name| !self.is_served(name, dial))
        });
        wanted.map(|(addr, dial)| (*addr, dial))
    }

    /// How many targets there are that are not ourselves, and how many of them are connected to a
    /// peer that `is_heard`. An address where only we answered is ours if it `is_own`: anyone can
    /// send back what we send.
    pub(super) fn count_targets(
        &self,
        is_own: impl Fn(&SocketAddr) -> bool,
        is_heard: impl Fn(&PeerId) -> bool,
    ) -> (usize, usize) {
        let of = |target: &Target| {
            let dials = target
                .addresses
                .iter()
                .filter_map(|addr| Some((addr, self.dials.get(addr)?)));
            dials.fold((false, false), |(me, connected), (addr, dial)| {
                let is_ourself = dial.failure == Some(Failure::Ourself) && is_own(addr);
                let no_other = dial.state == DialState::Never || is_ourself;
                let peer = dial.connected_to().filter(&is_heard);
                (me || no_other, connected || peer.is_some())
            })
        };
        let others = self.targets.values().map(of).filter(|(me, _)| !me);
        others.fold((0, 0), |(all, connected), (_, is_connected)| {
            (all + 1, connected + usize::from(is_connected))
        })
    }

    /// Targets whose name has no address.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = (&str, &Lookup)> {
        let without = self
            .targets
            .iter()
            .filter(|(_, target)| target.addresses.is_empty());
        without.map(|(name, target)| (name.as_str(), &target.lookup))
    }

    fn assign(&mut self, name: &str, addresses: &[SocketAddr], now: Time) -> Vec<u32> {
        let Some(target) = self.targets.get_mut(name) else {
            return Vec::new();
        };
        target.addresses = addresses.iter().copied().collect();
        for (addr, dial) in &mut self.dials {
            if !addresses.contains(addr) {
                dial.targets.remove(name);
            }
        }
        for addr in addresses {
            let dial = self
                .dials
                .entry(*addr)
                .or_insert_with(|| Dial::new(&self.timers, now));
            dial.targets.insert(name.to_owned());
        }
        self.forget_unwanted()
    }

    fn forget_unwanted(&mut self) -> Vec<u32> {
        let mut abandoned = Vec::new();
        self.dials.retain(|_, dial| {
            let wanted = dial.discovered || !dial.targets.is_empty();
            if let (false, DialState::Attempting { slot }) = (wanted, &dial.state) {
                abandoned.push(*slot);
            }
            wanted
        });
        abandoned
    }

    /// Whether another address of the target is connected already.
    fn is_served(&self, name: &str, dial: &Dial) -> bool {
        let Some(target) = self.targets.get(name) else {
            return false;
        };
        dial.connected_to().is_none()
            && target.addresses.iter().any(|addr| {
                self.dials
                    .get(addr)
                    .is_some_and(|other| other.connected_to().is_some())
            })
    }

    fn waiting(&self) -> impl Iterator<Item = (SocketAddr, Time)> {
        self.wanted().filter_map(|(addr, dial)| match dial.state {
            DialState::Waiting { at } => Some((addr, at)),
            DialState::Attempting { .. }
            | DialState::Connected { .. }
            | DialState::Resting { .. }
            | DialState::Never => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    const PEER: PeerId = PeerId([7; 32]);

    fn dials() -> (Dials, ChaCha12Rng) {
        (
            Dials::new(Timers::default(), 6783),
            ChaCha12Rng::seed_from_u64(3),
        )
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn a_target_that_is_an_address_needs_no_resolver() {
        let (mut dials, _) = dials();
        for name in [
            "10.0.0.1",
            "10.0.0.1:6783",
            "::ffff:10.0.0.1",
            "[::ffff:10.0.0.1]:6783",
        ] {
            assert!(!dials.add_target(name, at(1)), "{name}");
        }
        assert!(!dials.add_target("[fd00::1]", at(1)) && !dials.add_target("fd00::2", at(1)));
        let due: Vec<_> = dials.due(at(1)).iter().map(ToString::to_string).collect();
        assert_eq!(due, ["10.0.0.1:6783", "[fd00::1]:6783", "[fd00::2]:6783"]);
        assert!(dials.add_target("nyc.example", at(1)));
        assert_eq!(dials.targets.len(), 7);
    }

    #[test]
    fn a_name_is_resolved_again_until_one_of_its_addresses_is_connected() {
        let (mut dials, mut rng) = dials();
        assert!(dials.add_target("nyc", at(1)));
        assert!(dials.lookups_due(at(1)).is_empty());
        assert_eq!(dials.lookups_due(at(31)), ["nyc"]);
        assert!(dials.set_target_addresses("nyc", &[], at(32)).is_empty());
        let (name, lookup) = dials.unresolved().next().expect("it has no address");
        assert_eq!(name, "nyc");
        assert!(matches!(lookup, Lookup::Failed { why, .. } if why == "no address found for nyc"));
        assert_eq!(dials.lookups_due(at(62)), ["nyc"]);
        assert!(
            dials
                .set_target_addresses("nyc", &[addr("10.0.0.1:6783")], at(62))
                .is_empty()
        );
        assert!(dials.connected(addr("10.0.0.1:6783"), PEER).is_empty());
        assert!(dials.lookups_due(at(92)).is_empty());
        dials.lost(
            addr("10.0.0.1:6783"),
            PEER,
            &Failure::NoAnswer,
            at(93),
            &mut rng,
        );
        assert_eq!(dials.lookups_due(at(122)), ["nyc"]);
    }

    #[test]
    fn one_connected_address_serves_a_target_with_several() {
        let (mut dials, mut rng) = dials();
        let (first, second) = (addr("10.0.0.1:6783"), addr("[fd00::1]:6783"));
        dials.add_target("nyc", at(1));
        assert!(
            dials
                .set_target_addresses("nyc", &[first, second], at(1))
                .is_empty()
        );
        assert_eq!(dials.due(at(1)), [first, second]);
        assert!(dials.connected(first, PEER).is_empty());
        assert!(dials.due(at(99)).is_empty());
        assert_eq!(
            dials.poll_timeout(),
            Some(at(31)),
            "only the name is looked up again"
        );
        dials.lost(first, PEER, &Failure::NoAnswer, at(100), &mut rng);
        assert_eq!(dials.due(at(100)), [second]);
        assert_eq!(dials.due(at(102)), [first, second]);
    }

    #[test]
    fn an_address_nobody_wants_any_more_is_forgotten_with_its_attempt() {
        let (mut dials, mut rng) = dials();
        let there = addr("10.0.0.1:6783");
        dials.add_target("10.0.0.1", at(1));
        dials.dial(there, Haste::default(), at(1), &mut rng);
        dials.attempting(there, 5);
        assert!(dials.remove_target("10.0.0.1").is_empty());
        assert_eq!(dials.undial(there), [5]);
        assert!(!dials.knows(there));
    }

    #[test]
    fn new_addresses_of_a_name_replace_the_old_ones() {
        let (mut dials, _) = dials();
        dials.add_target("nyc", at(1));
        let (old, new) = (addr("10.0.0.1:6783"), addr("10.0.0.2:6783"));
        assert!(dials.set_target_addresses("nyc", &[old], at(1)).is_empty());
        dials.attempting(old, 9);
        assert_eq!(dials.set_target_addresses("nyc", &[new], at(2)), [9]);
        assert_eq!(dials.due(at(2)), [new]);
        assert!(
            dials
                .set_target_addresses("unknown", &[old], at(2))
                .is_empty()
        );
        assert_eq!(dials.due(at(2)), [new]);
    }

    #[test]
    fn ourself_is_seldom_tried_again_and_no_target_unless_an_operator_asks() {
        let (mut dials, mut rng) = dials();
        dials.add_target("10.0.0.1", at(1));
        assert_eq!(dials.count_targets(|_| true, |_| true), (1, 0));
        dials.failed(addr("10.0.0.1:6783"), Failure::Ourself, at(2), &mut rng);
        assert!(dials.due(at(301)).is_empty());
        assert_eq!(dials.count_targets(|_| true, |_| true), (0, 0));
        let elsewhere = dials.count_targets(|_| false, |_| true);
        assert_eq!(elsewhere, (1, 0), "somebody sends back what we send there");
        assert_eq!(dials.due(at(602)), [addr("10.0.0.1:6783")]);
        dials.attempting(addr("10.0.0.1:6783"), 5);
        assert_eq!(dials.count_targets(|_| true, |_| true), (0, 0));
        dials.failed(addr("10.0.0.1:6783"), Failure::NoAnswer, at(607), &mut rng);
        assert_eq!(dials.count_targets(|_| true, |_| true), (1, 0));
        assert!(!dials.add_target("10.0.0.1", at(3)));
        assert_eq!(dials.due(at(3)), [addr("10.0.0.1:6783")]);
    }

    #[test]
    fn where_a_banned_peer_was_nobody_is_dialled_or_expected() {
        let (mut dials, mut rng) = dials();
        let there = addr("10.0.0.1:6783");
        dials.add_target("10.0.0.1", at(1));
        assert!(dials.connected(there, PEER).is_empty());
        dials.lost(there, PEER, &Failure::NoAnswer, at(2), &mut rng);
        dials.attempting(there, 5);
        assert_eq!(dials.banned(PEER), [5]);
        assert_eq!((dials.poll_timeout(), dials.knows(there)), (None, false));
        assert_eq!(dials.count_targets(|_| false, |_| true), (0, 0));
        assert_eq!(dials.wanted().count(), 1, "it is shown all the same");
    }

    #[test]
    fn a_refused_dial_is_tried_again_within_thirty_seconds() {
        let (mut dials, mut rng) = dials();
        let there = addr("10.0.0.1:6783");
        dials.add_target("10.0.0.1", at(1));
        for _ in 0..50 {
            dials.failed(
                there,
                Failure::Refused(RejectReason::WrongPassword),
                at(100),
                &mut rng,
            );
            assert_eq!(dials.due(at(130)), [there]);
        }
    }

    #[test]
    fn a_peer_that_left_is_dialled_after_two_seconds_if_it_was_discovered() {
        let (mut dials, mut rng) = dials();
        let (found, seen) = (addr("10.0.0.1:6783"), addr("10.0.0.2:6783"));
        dials.dial(found, Haste::default(), at(1), &mut rng);
        assert!(dials.connected(found, PEER).is_empty());
        dials.lost(seen, PEER, &Failure::Left, at(10), &mut rng);
        dials.dial(seen, Haste::default(), at(10), &mut rng);
        assert!(
            dials
                .due(at(10) + std::time::Duration::from_millis(1_999))
                .is_empty()
        );
        assert_eq!(dials.due(at(12)), [found, seen]);
    }
}
