//! How long to wait before the next attempt.
//!
//! Waits grow by half each time up to a cap and are spread over 50 % to 150 % of their length,
//! so that peers which failed together do not come back together. No wait exceeds its cap.

use std::time::Duration;

use rand_core::RngCore;

/// Growing waits between attempts at one address.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with waits around `first`.
    pub(super) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// The next wait, at most `cap`.
    pub(super) fn wait(&mut self, cap: Duration, rng: &mut impl RngCore) -> Duration {
        let base = self.next.min(cap);
        self.next = (base * 3 / 2).min(cap);
        let shortest = base / 2;
        let longest = (base * 3 / 2).min(cap);
        shortest + jitter(longest.saturating_sub(shortest), rng)
    }

    /// Makes the next wait around this long.
    pub(super) const fn put_off(&mut self, wait: Duration) {
        self.next = wait;
    }

    /// Forgets all failures.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A duration drawn uniformly from zero to `most`.
pub(super) fn jitter(most: Duration, rng: &mut impl RngCore) -> Duration {
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    let scaled = (u128::from(rng.next_u64()) * u128::from(most)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_within_the_jitter_and_start_over_after_success() {
        let cap = Duration::from_secs(60);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let mut base = Duration::from_secs(1);
        for _ in 0..30 {
            let wait = backoff.wait(cap, &mut rng);
            assert!(
                wait >= base / 2 && wait <= (base * 3 / 2).min(cap),
                "{wait:?} of {base:?}"
            );
            base = (base * 3 / 2).min(cap);
        }
        assert_eq!(base, cap);
        backoff.reset();
        assert!(backoff.wait(cap, &mut rng) <= Duration::from_millis(1_500));
    }

    #[test]
    fn waits_are_spread() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let waits: Vec<_> = (0..100)
            .map(|_| Backoff::new(Duration::from_secs(1)).wait(Duration::from_secs(60), &mut rng))
            .collect();
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(700)));
        assert!(
            waits
                .iter()
                .any(|wait| *wait > Duration::from_millis(1_300))
        );
    }
}
