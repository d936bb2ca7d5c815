//! How long a session's datagrams and their answers travel, smoothed as in RFC 6298.

use std::time::Duration;

/// Taken for the timeout before anything was measured.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);

/// The round trip time of a session.
#[derive(Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    /// Takes one measurement.
    pub(super) fn measured(&mut self, rtt: Duration) {
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.variation) = (Some(rtt), rtt / 2);
            return;
        };
        self.variation = self.variation * 3 / 4 + smoothed.abs_diff(rtt) / 4;
        self.smoothed = Some(smoothed * 7 / 8 + rtt / 8);
    }

    /// The smoothed time, once there was a measurement.
    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// What is not answered after this long is hardly answered any more.
    pub(super) fn timeout(&self) -> Duration {
        self.smoothed
            .map_or(FIRST_TIMEOUT, |smoothed| smoothed + self.variation * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_measurement_counts_at_once_and_later_ones_by_an_eighth() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.timeout()), (None, ms(500)));
        rtt.measured(ms(80));
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(ms(80)), ms(240)));
        rtt.measured(ms(160));
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(ms(90)), ms(290)));
    }

    #[test]
    fn a_steady_path_has_a_timeout_close_to_its_round_trip() {
        let mut rtt = Rtt::default();
        (0..100).for_each(|_| rtt.measured(ms(40)));
        assert!(rtt.timeout() < ms(41), "{:?}", rtt.timeout());
    }
}
