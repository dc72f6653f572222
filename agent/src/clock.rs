//! What time it is: by the wall clock for people, who may set it wrong; by the time since boot for
//! lives, which nobody sets and which goes on while the machine is suspended.

mod alarm;
mod sleep;

use std::fs;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub(crate) use self::alarm::Alarm;
pub(crate) use self::sleep::KernelSleep;

/// Milliseconds since the machine booted, suspend included (`CLOCK_BOOTTIME`).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BootTime(u64);

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For people.
    pub wall: Timestamp,
    /// For lives.
    pub boot: BootTime,
}

/// Tells this boot's notes from those of others: what the runtime directory is marked with, for as long as
/// it lives. Where two are the same, the machine has run all the time between, and the time since boot
/// tells how long that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BootMark([u8; 32]);

impl BootMark {
    /// Another one than any other.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        // Where the system has no random bytes, a time in nanoseconds does not come twice either.
        if getrandom::fill(&mut bytes).is_err() {
            bytes = Timestamp::now().as_nanosecond().to_be_bytes();
        }
        let mut digits = [0; 32];
        HEXLOWER.encode_mut(&bytes, &mut digits);
        Self(digits)
    }

    /// As it is written.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for BootMark {
    type Error = &'static str;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        match <[u8; 32]>::try_from(bytes) {
            Ok(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(Self(digits)),
            _ => Err("it is no mark of a boot"),
        }
    }
}

impl TryFrom<String> for BootMark {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.as_bytes().try_into()
    }
}

impl From<BootMark> for String {
    fn from(mark: BootMark) -> Self {
        mark.0.map(char::from).iter().collect()
    }
}

impl Now {
    /// Looks at both clocks. A boot-time clock that cannot be read gives the end of time: what has an
    /// end is over then, as nobody can tell how long it may stay.
    #[must_use]
    pub fn read() -> Self {
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        Self {
            wall: Timestamp::now(),
            boot: since.map_or(BootTime(u64::MAX), |since| BootTime(0).after(since)),
        }
    }
}

impl Now {
    /// Whether the wall clock was set since `earlier`, by more than clocks are slewed.
    pub(crate) fn was_set_since(self, earlier: Self) -> bool {
        let passed = SignedDuration::try_from(self.boot.since(earlier.boot));
        let passed = passed.unwrap_or(SignedDuration::MAX);
        let seen = earlier.wall.duration_until(self.wall);
        seen.saturating_sub(passed).unsigned_abs() > SLEWED
    }
}

impl BootTime {
    /// As long after; never past the end of time.
    pub(crate) fn after(self, life: Duration) -> Self {
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long from `earlier` to this; nothing when it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Before every other moment of this boot.
    pub(crate) const LONG_AGO: Self = Self(0);
}

/// What tells this boot from others. None where `/proc/sys` is hidden, as a service with
/// `ProcSubset=pid` has it.
pub(crate) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    let fits = |c: char| c.is_ascii_hexdigit() || c == '-';
    (id.len() == UUID && id.chars().all(fits)).then(|| id.to_owned())
}

const UUID: usize = 36;
const SLEWED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_moments_do_not_overflow() {
        let before = Now::read();
        let after = Now::read();
        assert!(before.boot <= after.boot && before.boot > BootTime::LONG_AGO);
        let far = before.boot.after(Duration::MAX);
        assert!(far > after.boot && far.after(Duration::MAX) == far);
        assert_eq!(before.boot.since(far), Duration::ZERO);
        let later = before.boot.after(Duration::from_millis(1500));
        assert_eq!(later.since(before.boot), Duration::from_millis(1500));
    }

    #[test]
    fn a_clock_that_is_set_is_told_from_time_that_passes() {
        let now = |wall: i64, boot: u64| Now {
            wall: Timestamp::from_second(wall).unwrap(),
            boot: BootTime(boot * 1000),
        };
        let before = now(1_700_000_000, 50);
        for passed in [0, 1, 60, 86_400] {
            let wall = 1_700_000_000 + passed;
            let boot = 50 + passed as u64;
            assert!(!now(wall, boot).was_set_since(before));
            assert!(!now(wall + 4, boot).was_set_since(before));
            assert!(now(wall + 10, boot).was_set_since(before));
            assert!(now(wall - 10, boot).was_set_since(before));
        }
        assert!(now(0, 51).was_set_since(before));
        assert!(before.was_set_since(now(0, 49)));
    }
}
