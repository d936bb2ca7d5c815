//! Rates with a burst, and whom they are counted for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use weave_wire::Time;

/// A rate with a burst: the generic cell rate algorithm, one point in time per bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Time between two admissions at the sustained rate.
    interval: Duration,
    /// How far a bucket may run ahead of the clock.
    slack: Duration,
}

impl Pace {
    /// `burst` at once, then one every `interval`.
    pub(crate) const fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            slack: interval.saturating_mul(burst.saturating_sub(1)),
        }
    }

    /// Takes one token out of `bucket`, if it has one.
    pub(crate) fn take(self, bucket: &mut Time, now: Time) -> bool {
        if !self.has_token(*bucket, now) {
            return false;
        }
        *bucket = (*bucket).max(now) + self.interval;
        true
    }

    /// Whether `bucket` has a token.
    pub(crate) fn has_token(self, bucket: Time, now: Time) -> bool {
        bucket.saturating_sub(now) <= self.slack
    }

    /// How long from `now` until `bucket` has a token.
    pub(crate) fn next_token(self, bucket: Time, now: Time) -> Duration {
        bucket.saturating_sub(now).saturating_sub(self.slack)
    }
}

/// What one party is assumed to hold: one IPv4 address, or one IPv6 /64.
pub(crate) fn source_of(from: SocketAddr) -> IpAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let pace = Pace::new(Duration::from_millis(50), 3);
        let mut bucket = Time::ZERO;
        let taken = (0..10)
            .filter(|_| pace.take(&mut bucket, at(1_000)))
            .count();
        assert_eq!(taken, 3);
        assert!(!pace.take(&mut bucket, at(1_049)));
        assert_eq!(pace.next_token(bucket, at(1_049)), Duration::from_millis(1));
        assert!(pace.take(&mut bucket, at(1_050)));
        let later = (0..10)
            .filter(|_| pace.take(&mut bucket, at(9_000)))
            .count();
        assert_eq!(later, 3, "an idle bucket holds no more than its burst");
    }
}
