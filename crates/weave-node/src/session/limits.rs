//! What keeps a flood of handshakes from hurting anyone: rates, load and a bounded backlog.
//!
//! Owns the decision whether a first message is answered now, later or never. Everything here
//! is bounded; when in doubt it is the newcomer that waits, never an established session.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use weave_wire::Time;

use crate::pace::{Pace, source_of};

/// First messages waiting for a free moment, at most.
const BACKLOG: usize = 64;
/// Sources that are told apart, at most.
const SOURCES: usize = 4_096;
/// First messages per second above which cookies are asked for.
const BUSY_RATE: u32 = 100;

/// One bucket per source: per IPv4 address, per IPv6 /64.
#[derive(Debug)]
pub(super) struct SourceBuckets {
    pace: Pace,
    buckets: BTreeMap<IpAddr, Time>,
}

impl SourceBuckets {
    /// Buckets that are all full.
    pub(super) const fn new(pace: Pace) -> Self {
        Self {
            pace,
            buckets: BTreeMap::new(),
        }
    }

    /// Takes one token of the source of `from`. With more sources about than can be told apart
    /// a new one is let through: what follows is bounded by other means.
    pub(super) fn take(&mut self, from: SocketAddr, now: Time) -> bool {
        let source = source_of(from);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= SOURCES {
            self.buckets.retain(|_, bucket| *bucket > now);
            if self.buckets.len() >= SOURCES {
                return true;
            }
        }
        self.pace
            .take(self.buckets.entry(source).or_insert(Time::ZERO), now)
    }

    /// Whether the source of `from` has a token left.
    pub(super) fn has_token(&self, from: SocketAddr, now: Time) -> bool {
        self.buckets
            .get(&source_of(from))
            .is_none_or(|bucket| self.pace.has_token(*bucket, now))
    }
}

/// Counts first messages, to tell normal times from a flood.
#[derive(Debug, Default)]
pub(super) struct LoadMeter {
    second: u64,
    count: u32,
    previous: u32,
}

impl LoadMeter {
    /// Counts one.
    pub(super) fn count(&mut self, now: Time) {
        self.advance(now);
        self.count = self.count.saturating_add(1);
    }

    /// Whether this second or the one before saw too many.
    pub(super) fn is_busy(&mut self, now: Time) -> bool {
        self.advance(now);
        self.count.max(self.previous) > BUSY_RATE
    }

    fn advance(&mut self, now: Time) {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            self.previous = if second == self.second + 1 {
                self.count
            } else {
                0
            };
            self.count = 0;
            self.second = second;
        }
    }
}

/// A budget for work that strangers can cause, and what waits for it.
#[derive(Debug)]
pub(super) struct Backlog {
    pace: Pace,
    bucket: Time,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// What becomes of a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Work on it at once.
    Now,
    /// It waits.
    Queued,
    /// The backlog is full: it is dropped.
    Full,
}

impl Backlog {
    /// An empty backlog with a full budget.
    pub(super) const fn new(pace: Pace) -> Self {
        Self {
            pace,
            bucket: Time::ZERO,
            waiting: VecDeque::new(),
        }
    }

    /// Spends budget on a datagram, or keeps it for later.
    pub(super) fn admit(&mut self, from: SocketAddr, datagram: &[u8], now: Time) -> Admission {
        if self.waiting.is_empty() && self.pace.take(&mut self.bucket, now) {
            return Admission::Now;
        }
        if self.waiting.len() >= BACKLOG {
            return Admission::Full;
        }
        self.waiting.push_back((from, datagram.to_vec()));
        Admission::Queued
    }

    /// The next datagram that there is budget for again.
    pub(super) fn next_due(&mut self, now: Time) -> Option<(SocketAddr, Vec<u8>)> {
        if self.waiting.is_empty() || !self.pace.take(&mut self.bucket, now) {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When the next datagram is due; nothing while none waits.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let ready = self.pace.next_token(self.bucket, Time::ZERO);
        (!self.waiting.is_empty()).then_some(Time::ZERO + ready)
    }
}

/// The same address in the form that is shown and compared: no IPv4 mapped into IPv6.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn sources_do_not_share_a_bucket_but_hosts_of_one_ipv6_network_do() {
        let mut buckets = SourceBuckets::new(Pace::new(Duration::from_secs(1), 1));
        let [a, b, c, d] = ["10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1", "[fd00::2]:2"]
            .map(|text| text.parse().expect("an address"));
        assert!(buckets.take(a, at(1)));
        assert!(!buckets.take(a, at(1)) && !buckets.has_token(a, at(1)));
        assert!(buckets.has_token(b, at(1)) && buckets.take(b, at(1)));
        assert!(buckets.take(c, at(1)));
        assert!(!buckets.take(d, at(1)));
    }

    #[test]
    fn the_number_of_sources_remembered_is_bounded() {
        let mut buckets = SourceBuckets::new(Pace::new(Duration::from_secs(1), 1));
        for bits in 0..3 * 4_096_u32 {
            let from = SocketAddr::new(IpAddr::V4(bits.into()), 1);
            assert!(buckets.take(from, at(1)));
        }
        assert_eq!(buckets.buckets.len(), SOURCES);
        assert!(buckets.take("[fd00::1]:1".parse().expect("an address"), at(5_000)));
        assert_eq!(buckets.buckets.len(), 1, "full buckets need no memory");
    }

    #[test]
    fn load_lasts_through_the_second_after_a_flood() {
        let mut meter = LoadMeter::default();
        for _ in 0..=BUSY_RATE {
            meter.count(at(500));
        }
        assert!(meter.is_busy(at(999)) && meter.is_busy(at(1_999)));
        assert!(!meter.is_busy(at(2_000)));
        meter.count(at(9_000));
        assert!(!meter.is_busy(at(9_000)));
    }

    #[test]
    fn the_backlog_is_bounded_and_worked_off_in_order() {
        let from: SocketAddr = "10.0.0.1:1".parse().expect("an address");
        let mut backlog = Backlog::new(Pace::new(Duration::from_millis(10), 2));
        assert_eq!(backlog.poll_timeout(), None);
        let outcomes: Vec<_> = (0..=255_u8)
            .map(|byte| backlog.admit(from, &[byte], at(100)))
            .collect();
        assert_eq!(
            outcomes
                .iter()
                .filter(|one| **one == Admission::Now)
                .count(),
            2
        );
        assert_eq!(
            outcomes
                .iter()
                .filter(|one| **one == Admission::Queued)
                .count(),
            BACKLOG
        );
        assert_eq!(backlog.next_due(at(100)), None);
        assert_eq!(backlog.poll_timeout(), Some(at(110)));
        assert_eq!(backlog.next_due(at(110)), Some((from, vec![2])));
        assert_eq!(backlog.next_due(at(110)), None);
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:6783".parse().expect("an address");
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:6783");
    }
}
