//! What a router takes for the time: nothing before it started, and a little fast or slow.

use std::time::Duration;

use weave_wire::Time;

/// Parts per million.
const MILLION: u64 = 1_000_000;

/// The clock of one router.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Time,
    /// What it counts in a million of true time.
    rate: u64,
}

impl Clock {
    /// A clock that starts now, and gains `rate` in a million.
    pub(crate) const fn start(now: Time, rate: u64) -> Self {
        Self { started: now, rate }
    }

    /// What it shows.
    pub(crate) fn shows(&self, now: Time) -> Time {
        let passed = now.saturating_sub(self.started);
        Time::ZERO + scale(passed, self.rate, MILLION, 0)
    }

    /// When it will first show this or more.
    pub(crate) fn reaches(&self, shown: Time) -> Time {
        let shown = shown.saturating_sub(Time::ZERO);
        self.started + scale(shown, MILLION, self.rate, self.rate.saturating_sub(1))
    }
}

/// `time * by / of`, with `more` added before the division.
fn scale(time: Duration, by: u64, of: u64, more: u64) -> Duration {
    let scaled = (time.as_nanos() * u128::from(by) + u128::from(more)) / u128::from(of.max(1));
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_a_time_at_the_first_moment_that_it_shows_it() {
        for rate in [999_800, 1_000_000, 1_000_200] {
            let clock = Clock::start(Time::from_secs(3), rate);
            for nanos in [0, 1, 2, 4_999, 5_000, 5_001, 999_999, 86_400_000_000_007] {
                let shown = Time::from_nanos(nanos);
                let at = clock.reaches(shown);
                assert!(clock.shows(at) >= shown);
                if at > Time::from_secs(3) {
                    let before = Time::from_nanos(at.as_nanos() - 1);
                    assert!(clock.shows(before) < shown, "{rate} {nanos}");
                }
            }
        }
    }
}
