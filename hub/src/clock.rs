//! The wall clock, read in one place, and whether somebody has set it back.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Now, to the millisecond that the catalog keeps.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Tells that the wall clock was set back, by the time since boot, which nobody sets. That it was set
/// forward is not told: a machine that was halted, and a clock that was wrong until now, look the same, and
/// what then has ended by the wall clock may have.
#[derive(Debug)]
pub(crate) struct Setback {
    seen: Seen,
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    wall: Timestamp,
    /// Since the machine was booted, suspend included; none where that cannot be told.
    boot: Option<Duration>,
}

impl Setback {
    /// Begins to look now.
    pub(crate) fn watch() -> Self {
        Self { seen: Seen::now() }
    }

    /// By how much it was set back since the look before, where it was.
    pub(crate) fn look(&mut self) -> Option<SignedDuration> {
        let before = std::mem::replace(&mut self.seen, Seen::now());
        self.seen.set_back_since(before)
    }
}

impl Seen {
    fn now() -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME);
        Self {
            wall: now(),
            boot: boot.ok().map(Duration::from),
        }
    }

    fn set_back_since(self, before: Self) -> Option<SignedDuration> {
        let passed = self.boot?.saturating_sub(before.boot?);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        let back = passed.saturating_sub(before.wall.duration_until(self.wall));
        (back > SLEWED).then_some(back)
    }
}

/// Clocks that are only corrected do not differ by as much between two looks.
pub(crate) const SLEWED: SignedDuration = SignedDuration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_told_and_one_that_goes_on_or_forward_is_not() {
        let seen = |wall: i64, boot: u64| Seen {
            wall: Timestamp::from_second(1_700_000_000 + wall).unwrap(),
            boot: Some(Duration::from_secs(boot)),
        };
        let before = seen(0, 100);
        for (wall, boot) in [
            (0, 100),
            (10, 110),
            (7, 110),
            (86_400, 100),
            (86_400, 86_500),
        ] {
            assert_eq!(
                seen(wall, boot).set_back_since(before),
                None,
                "{wall} {boot}"
            );
        }
        for (wall, boot, back) in [(0, 110, 10), (-86_400, 100, 86_400), (-86_390, 110, 86_400)] {
            let told = seen(wall, boot).set_back_since(before);
            assert_eq!(told, Some(SignedDuration::from_secs(back)));
        }
        let unknown = Seen {
            boot: None,
            ..seen(-100, 0)
        };
        assert_eq!(unknown.set_back_since(before), None);
    }
}
