//! The single addresses this peer answers for: held by its own containers, lent to other peers,
//! and freed a while ago.
//!
//! An address is in at most one of the three tables, save that after a disk came back older than
//! it was an address can be held and lent; it stays busy until both have ended. What is on its way to the disk counts as
//! busy in both directions: an address is given to nobody before it is surely free.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_wire::{Cidr, PeerId, Time};

use super::span::{Span, any_contains};

/// How long a freed address rests before it is given out again: ARP caches and resolvers forget.
pub(crate) const QUARANTINE: Duration = Duration::from_secs(30);

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Being written to disk for the first time.
    Storing,
    /// On disk.
    Kept,
    /// Being removed from disk.
    Leaving,
}

/// A loan to us: who made it, and which request of ours it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loan {
    pub(crate) lender: PeerId,
    pub(crate) request_id: u64,
}

/// An address of a container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) owner: String,
    pub(crate) subnet: Cidr,
    /// The loan it comes from; nothing when it lies in a chunk of our own.
    pub(crate) loan: Option<Loan>,
    /// The request of this run of the program that it answers.
    pub(crate) ticket: Option<u64>,
    pub(crate) phase: Phase,
}

/// An address of ours that another peer uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) borrower: PeerId,
    pub(crate) request_id: u64,
    pub(crate) since: Time,
    pub(crate) phase: Phase,
}

/// An address that may be given out, by preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Free, and not in quarantine.
    Free(u32),
    /// Freed less than [`QUARANTINE`] ago, longest of all.
    Quarantined(u32),
}

/// All addresses this peer answers for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    pub(crate) held: BTreeMap<u32, Held>,
    pub(crate) lent: BTreeMap<u32, Lent>,
    freed: BTreeMap<u32, Time>,
    by_age: BTreeSet<(Time, u32)>,
}

impl Pool {
    /// Whether somebody uses this address.
    pub(crate) fn is_busy(&self, ip: u32) -> bool {
        self.held.contains_key(&ip) || self.lent.contains_key(&ip)
    }

    /// Whether nothing at all is given out.
    pub(crate) fn is_unused(&self) -> bool {
        self.held.is_empty() && self.lent.is_empty()
    }

    /// The best free address within these spans that others do not use: the lowest never used,
    /// else the one freed longest ago.
    pub(crate) fn pick(
        &self,
        spans: &[Span],
        others_use: impl Fn(u32) -> bool,
        now: Time,
    ) -> Option<Pick> {
        let fresh = spans
            .iter()
            .flat_map(|span| span.first..=span.last)
            .find(|ip| !self.is_busy(*ip) && !self.freed.contains_key(ip) && !others_use(*ip));
        if let Some(ip) = fresh {
            return Some(Pick::Free(ip));
        }
        let (freed, ip) = self
            .by_age
            .iter()
            .find(|(_, ip)| any_contains(spans, *ip) && !others_use(*ip))
            .copied()?;
        let rested = now.saturating_sub(freed) >= QUARANTINE;
        Some(if rested {
            Pick::Free(ip)
        } else {
            Pick::Quarantined(ip)
        })
    }

    /// Number of addresses in use within these spans.
    pub(crate) fn busy_within(&self, spans: &[Span]) -> u64 {
        let count = |span: &Span| {
            self.held.range(span.first..=span.last).count()
                + self.lent.range(span.first..=span.last).count()
        };
        spans
            .iter()
            .map(|span| u64::try_from(count(span)).unwrap_or(u64::MAX))
            .sum()
    }

    /// Every address that is in use or in quarantine: what keeps a chunk from being given away.
    pub(crate) fn occupied(&self, now: Time) -> impl Iterator<Item = u32> + '_ {
        let resting = self.by_age.iter().rev();
        let resting = resting.take_while(move |(freed, _)| now.saturating_sub(*freed) < QUARANTINE);
        self.held
            .keys()
            .chain(self.lent.keys())
            .copied()
            .chain(resting.map(|(_, ip)| *ip))
    }

    /// Notes that an address is in use now, no longer freed.
    pub(crate) fn take(&mut self, ip: u32) {
        if let Some(freed) = self.freed.remove(&ip) {
            self.by_age.remove(&(freed, ip));
        }
    }

    /// Notes that an address has become free.
    /// It stays in use when another table has it, which happens after a disk came back older.
    pub(crate) fn free(&mut self, ip: u32, now: Time) {
        self.take(ip);
        if self.is_busy(ip) {
            return;
        }
        self.freed.insert(ip, now);
        self.by_age.insert((now, ip));
    }

    /// Forgets what was freed.
    pub(crate) fn forget_freed(&mut self) {
        self.freed.clear();
        self.by_age.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(ip: u32) -> (u32, Held) {
        let subnet = "10.0.0.0/24".parse().expect("a subnet");
        let held = Held {
            owner: "c1".into(),
            subnet,
            loan: None,
            ticket: None,
            phase: Phase::Kept,
        };
        (ip, held)
    }

    #[test]
    fn the_lowest_never_used_address_comes_first_then_the_longest_freed() {
        let spans = [Span { first: 1, last: 3 }, Span::one(9)];
        let mut pool = Pool::default();
        pool.held.extend([held(1)]);
        let pick = |pool: &Pool, at| pool.pick(&spans, |_| false, Time::from_secs(at));
        assert_eq!(pick(&pool, 0), Some(Pick::Free(2)));
        let others_use = |ip| ip == 2;
        let besides = pool.pick(&spans, others_use, Time::ZERO);
        assert_eq!(besides, Some(Pick::Free(3)));
        pool.held.extend([held(9)]);
        pool.free(3, Time::from_secs(1));
        pool.free(2, Time::from_secs(2));
        assert_eq!(pick(&pool, 10), Some(Pick::Quarantined(3)));
        assert_eq!(pick(&pool, 31), Some(Pick::Free(3)));
        pool.take(3);
        pool.held.extend([held(3)]);
        assert_eq!(pick(&pool, 31), Some(Pick::Quarantined(2)));
        pool.take(2);
        pool.held.extend([held(2)]);
        assert_eq!(pick(&pool, 99), None);
    }

    #[test]
    fn addresses_in_use_or_at_rest_occupy_their_chunk() {
        let mut pool = Pool::default();
        pool.held.extend([held(1)]);
        pool.free(5, Time::from_secs(1));
        pool.free(6, Time::from_secs(20));
        let occupied: Vec<u32> = pool.occupied(Time::from_secs(40)).collect();
        assert_eq!(occupied, [1, 6]);
        assert_eq!(pool.busy_within(&[Span { first: 0, last: 10 }]), 1);
    }
}
