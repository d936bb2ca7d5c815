//! Our own notion of time: nanoseconds since an arbitrary start, always passed in, never read.

use std::ops::{Add, AddAssign};
use std::time::Duration;

/// A point in time, in nanoseconds since the process or simulation began.
///
/// Additions saturate, so the end of time is a value like any other ("never").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The start.
    pub const ZERO: Self = Self(0);
    /// A point that is never reached.
    pub const MAX: Self = Self(u64::MAX);

    /// The point this many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point this many milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The point this many seconds after the start.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    pub const fn saturating_sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_subtracting_saturate() {
        let second = Duration::from_secs(1);
        assert_eq!(Time::ZERO + second, Time::from_secs(1));
        assert_eq!(
            Time::from_secs(3).saturating_sub(Time::from_secs(1)),
            Duration::from_secs(2)
        );
        assert_eq!(
            Time::ZERO.saturating_sub(Time::from_secs(1)),
            Duration::ZERO
        );
        assert_eq!(Time::MAX + second, Time::MAX);
        assert_eq!(Time::ZERO + Duration::MAX, Time::MAX);
        assert_eq!(Time::from_millis(1500).as_nanos(), 1_500_000_000);
    }
}
