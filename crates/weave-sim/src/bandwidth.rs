//! How fast hosts' lines are: datagrams queue at both ends, and are lost where a queue is full.

use std::time::Duration;

use weave_wire::Time;

/// What a line holds back at most: that much time's worth of what it carries.
const QUEUE: Duration = Duration::from_millis(100);

/// The lines of all hosts, each with a queue in either direction.
#[derive(Debug, Default)]
pub(crate) struct Bandwidth {
    /// Bits per second of every line; none: no limit.
    rate: Option<u64>,
    /// When a line is free again: of what its host sends, and of what it is sent.
    up: Vec<Time>,
    down: Vec<Time>,
}

impl Bandwidth {
    /// Gives the lines of so many hosts this rate, in bits per second.
    pub(crate) fn limit(&mut self, hosts: usize, rate: u64) {
        self.rate = Some(rate.max(1));
        self.up = vec![Time::ZERO; hosts];
        self.down = vec![Time::ZERO; hosts];
    }

    /// How long a datagram of so many bytes takes beside what is on the way already; none if a
    /// queue is full.
    pub(crate) fn take(
        &mut self,
        from: usize,
        to: usize,
        len: usize,
        now: Time,
    ) -> Option<Duration> {
        let Some(rate) = self.rate else {
            return Some(Duration::ZERO);
        };
        let nanos = u64::try_from(len)
            .unwrap_or(u64::MAX)
            .saturating_mul(8_000_000_000)
            / rate;
        let time = Duration::from_nanos(nanos);
        let sent = pass(self.up.get_mut(from)?, now, time)?;
        let received = pass(self.down.get_mut(to)?, sent, time)?;
        Some(received.saturating_sub(now))
    }
}

/// When what comes to a line at `at` is through.
fn pass(free: &mut Time, at: Time, time: Duration) -> Option<Time> {
    let begins = at.max(*free);
    if begins.saturating_sub(at) > QUEUE {
        return None;
    }
    *free = begins + time;
    Some(*free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_what_it_can_and_loses_what_waits_too_long() {
        let mut lines = Bandwidth::default();
        assert_eq!(lines.take(0, 1, 9_000, Time::ZERO), Some(Duration::ZERO));
        lines.limit(3, 8_000_000);
        let (mut passed, mut last) = (0_u32, Duration::ZERO);
        for _ in 0..1_000 {
            if let Some(took) = lines.take(0, 1, 1_000, Time::ZERO) {
                passed += 1;
                last = took;
            }
        }
        // 1 ms each, and as much at the other end
        assert_eq!((passed, last), (101, Duration::from_millis(102)));
        let back = lines.take(1, 0, 1_000, Time::ZERO);
        assert_eq!(back, Some(Duration::from_millis(2)), "the other direction");
        let shared = lines.take(2, 1, 1_000, Time::ZERO);
        assert_eq!(shared, None, "the receiver's line is the same for all");
        let later = Time::ZERO + Duration::from_secs(1);
        assert_eq!(
            lines.take(0, 1, 1_000, later),
            Some(Duration::from_millis(2))
        );
    }
}
