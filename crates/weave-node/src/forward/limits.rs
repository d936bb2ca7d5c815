//! How much each segment may flood: broadcasts, unknown stations and unknown addresses cost every
//! member a datagram, so a bucket of tokens stands before them.

use std::time::Duration;

use weave_wire::{SegmentId, Time};

use super::fib::Lookup;

/// What is flooded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// A frame for a station that nobody has announced.
    Station,
    /// A question for an address that nobody has announced.
    Address,
    /// A frame for all stations.
    Broadcast,
}

impl Flood {
    /// How long one token takes: 100 or 1,000 come in a second.
    const fn token(self) -> Duration {
        match self {
            Self::Station | Self::Address => Duration::from_millis(10),
            Self::Broadcast => Duration::from_millis(1),
        }
    }
}

/// Allows one event per token, and as many at once as come in a second, after a second of rest.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When the bucket will be full. Up to a second ahead of now: the tokens taken.
    full_at: Time,
}

impl Bucket {
    const FULL: Self = Self {
        full_at: Time::ZERO,
    };

    fn take(&mut self, token: Duration, now: Time) -> bool {
        let full_at = self.full_at.max(now) + token;
        let allowed = full_at.saturating_sub(now) <= Duration::from_secs(1);
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

/// The buckets of all segments. Holds an entry for each segment that has flooded.
#[derive(Debug, Default)]
pub(super) struct FloodLimits {
    segments: Lookup<SegmentId, [Bucket; 3]>,
}

impl FloodLimits {
    /// Whether one more may be flooded; takes the token.
    pub(super) fn take(&mut self, segment: SegmentId, flood: Flood, now: Time) -> bool {
        let [stations, addresses, broadcasts] =
            self.segments.entry(segment).or_insert([Bucket::FULL; 3]);
        let bucket = match flood {
            Flood::Station => stations,
            Flood::Address => addresses,
            Flood::Broadcast => broadcasts,
        };
        bucket.take(flood.token(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentId = SegmentId(1);

    fn burst(limits: &mut FloodLimits, flood: Flood, now: Time) -> usize {
        (0..5000)
            .filter(|_| limits.take(SEGMENT, flood, now))
            .count()
    }

    #[test]
    fn a_hundred_a_second_pass_however_long_it_lasts() {
        let mut limits = FloodLimits::default();
        let mut passed = 0;
        for millisecond in 0..10_000 {
            let now = Time::from_millis(millisecond);
            passed += usize::from(limits.take(SEGMENT, Flood::Station, now));
        }
        assert!((1_000..=1_100).contains(&passed), "{passed}");
    }

    #[test]
    fn a_rested_bucket_holds_a_second_and_no_more() {
        let mut limits = FloodLimits::default();
        assert_eq!(burst(&mut limits, Flood::Station, Time::from_secs(5)), 100);
        assert_eq!(burst(&mut limits, Flood::Station, Time::from_secs(5)), 0);
        assert_eq!(
            burst(&mut limits, Flood::Station, Time::from_secs(500)),
            100
        );
    }

    #[test]
    fn kinds_and_segments_do_not_share() {
        let mut limits = FloodLimits::default();
        assert_eq!(burst(&mut limits, Flood::Station, Time::ZERO), 100);
        assert_eq!(burst(&mut limits, Flood::Address, Time::ZERO), 100);
        assert_eq!(burst(&mut limits, Flood::Broadcast, Time::ZERO), 1_000);
        assert!(limits.take(SegmentId(2), Flood::Station, Time::ZERO));
    }
}
