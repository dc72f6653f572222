//! How often secrets are looked at.

use std::time::Duration;

/// What decides it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// As often as this, while the manager's limits allow it.
    pub(super) poll: Duration,
    /// How many calls a second the manager takes.
    pub(super) per_second: u32,
    /// How many secrets are watched.
    pub(super) watched: usize,
}

impl Pace {
    /// Until the next look at a secret: with many of them longer, so that looking takes half of what
    /// the manager takes at the most; not before it wants to be asked, within an hour; after a while of
    /// its own where what it said is to be confirmed. Not the same for all secrets.
    pub(super) fn wait(self, retry_after: Option<Duration>, doubted: bool) -> Duration {
        let crowded =
            Duration::from_secs_f64(self.watched as f64 * 2.0 / f64::from(self.per_second.max(1)));
        let poll = if doubted {
            CONFIRM
        } else {
            self.poll.max(crowded)
        };
        let share = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        let jittered = poll.mul_f64(0.8 + share * 0.2);
        jittered.max(retry_after.unwrap_or_default().min(MAX_WAIT))
    }
}

/// When absence is looked at once more: a manager that is being restored has its secrets back by then.
const CONFIRM: Duration = Duration::from_secs(20);
/// Whatever a manager wants, it is looked at after this.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Hints are followed once in so long at most.
pub(super) const HINTS: Duration = Duration::from_secs(1);
/// When something inside the hub failed.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How often backends do what is due by itself.
pub(super) const TEND: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_keeps_to_the_limits_and_to_what_the_manager_wants() {
        let pace = |watched| Pace {
            poll: Duration::from_secs(10),
            per_second: 20,
            watched,
        };
        for _ in 0..100 {
            let few = pace(10).wait(None, false);
            assert!((8.0..=10.0).contains(&few.as_secs_f64()), "{few:?}");
            // 10,000 secrets at 20 calls a second, half of them for looking.
            let many = pace(10_000).wait(None, false);
            assert!((800.0..=1_000.0).contains(&many.as_secs_f64()), "{many:?}");
            let asked = pace(10).wait(Some(Duration::from_secs(40)), false);
            assert_eq!(asked, Duration::from_secs(40));
            assert!(pace(10).wait(None, true) >= CONFIRM.mul_f64(0.8));
            let foolish = pace(10).wait(Some(Duration::MAX), false);
            assert_eq!(foolish, MAX_WAIT);
        }
    }
}
