//! How long to wait before trying again: exponential with full jitter, so that many agents that lost
//! one hub do not come back together.

use std::time::Duration;

/// Waits that grow with each failure in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits up to `first` after the first failure, twice that after the second, never above `cap`.
    #[must_use]
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            failures: 0,
        }
    }

    /// What connecting uses: up to 200 ms, then more, up to 30 s.
    #[must_use]
    pub const fn connecting() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(30))
    }

    /// What one refused call or item uses: up to 1 s, then more, up to 5 min.
    #[must_use]
    pub const fn retrying() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(300))
    }

    /// Counts a failure and gives the wait before the next try.
    pub fn failed(&mut self) -> Duration {
        self.failed_within(self.cap)
    }

    /// As [`failed`](Self::failed), with a wait that is never above `cap` either.
    pub fn failed_within(&mut self, cap: Duration) -> Duration {
        let wait = up_to(self.ceiling().min(cap), random());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Forgets the failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

/// A part of `limit` that `random`, any number, picks: from nothing up to all of it.
#[must_use]
pub fn up_to(limit: Duration, random: u64) -> Duration {
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    // The upper half of the product is uniform over `0..=limit`.
    let picked = (u128::from(random) * (u128::from(limit) + 1)) >> 64;
    Duration::from_nanos(u64::try_from(picked).unwrap_or(limit))
}

/// A random number; the middle when the system has none, which only costs the jitter.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut ceilings = Vec::new();
        for _ in 0..100 {
            ceilings.push(backoff.ceiling().as_secs());
            assert!(backoff.failed() <= Duration::from_secs(30));
            assert!(
                backoff
                    .clone()
                    .failed_within(Duration::from_secs(5))
                    .as_secs()
                    <= 5
            );
        }
        assert_eq!(ceilings[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(ceilings[99], 30);
        backoff.succeeded();
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let limit = Duration::from_secs(8);
        assert_eq!(up_to(limit, 0), Duration::ZERO);
        assert_eq!(up_to(limit, u64::MAX), limit);
        assert_eq!(up_to(limit, 1 << 63).as_secs(), 4);
        assert_eq!(up_to(Duration::ZERO, u64::MAX), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn jitter_stays_within(limit in any::<u64>(), random in any::<u64>()) {
            let limit = Duration::from_nanos(limit);
            prop_assert!(up_to(limit, random) <= limit);
        }
    }
}
