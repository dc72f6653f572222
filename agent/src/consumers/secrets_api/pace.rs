//! How often one consumer may connect: each handshake costs the agent's one thread half a millisecond or
//! so, which a service in a tight loop must not take from everybody else. Pure.

use std::time::{Duration, Instant};

/// A pace with some slack: who was quiet may be quick for a while.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the connections taken so far would have come one after the other.
    due: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Takes one more, and says how long to wait before the next.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.due = self.due.max(now) + STEP;
        self.due
            .saturating_duration_since(now)
            .saturating_sub(STEP * BURST)
    }
}

/// 50 a second.
const STEP: Duration = Duration::from_millis(20);
const BURST: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_through_and_then_a_pace_is_kept() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.take(start), Duration::ZERO);
        }
        let mut now = start;
        for _ in 0..100 {
            let wait = pace.take(now);
            assert_eq!(wait, STEP);
            now += wait;
        }
        // Rest gives the burst back, and no more than that.
        now += Duration::from_secs(3600);
        for _ in 0..BURST {
            assert_eq!(pace.take(now), Duration::ZERO);
        }
        assert_eq!(pace.take(now), STEP);
    }
}
