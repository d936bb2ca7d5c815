//! The daemon's clock: nanoseconds since the process started, as [`weave_wire::Time`]; and the wall
//! clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use weave_wire::Time;

/// What the wall clock of this host says, in Unix milliseconds; 0 before 1970.
pub(crate) fn wall_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the time. Copies agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now, at zero.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant of a time, for timers.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + std::time::Duration::from_nanos(time.as_nanos())
    }
}
