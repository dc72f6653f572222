//! A clock of a test's own, that real programs take for the machine's (`tests/clock`).

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tempfile::NamedTempFile;

use crate::agent::TMPFS;
use crate::binaries::test_clock;

/// Goes on as the machine's clock does, from where it is set. May be set at any time; whoever goes by it
/// follows at once.
#[derive(Debug)]
pub struct Clock {
    file: NamedTempFile,
    /// What is added to the machine's clocks.
    wall: SignedDuration,
    boot: SignedDuration,
    count: u64,
}

/// By which clock a program goes: the machine's by default.
#[derive(Debug, Clone, Default)]
pub struct Rule(Vec<(&'static str, PathBuf)>);

impl Rule {
    /// For a program that is not started yet.
    pub fn apply(&self, command: &mut Command) {
        command.envs(self.0.iter().cloned());
    }
}

impl Clock {
    /// Why there can be none here; `None` where there can.
    #[must_use]
    pub fn missing() -> Option<&'static str> {
        static MISSING: OnceLock<bool> = OnceLock::new();
        // Seen to work: a loader that does not preload, or a program that does not ask libc, would let a
        // test pass that shows nothing.
        let missing = MISSING.get_or_init(|| {
            let mut clock = Self::right();
            clock.set(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24));
            let mut date = Command::new("date");
            clock.rule().apply(date.args(["-u", "+%Y"]));
            !date.output().is_ok_and(|said| said.stdout == b"1970\n")
        });
        missing.then_some("needs LD_PRELOAD and date(1)")
    }

    /// A clock that is as the machine's.
    ///
    /// # Panics
    /// When there is no place for it; so for all that sets it.
    #[must_use]
    pub fn right() -> Self {
        let mut clock = Self {
            file: NamedTempFile::with_prefix_in("edge-secrets-clock-", TMPFS).expect("a file"),
            wall: SignedDuration::ZERO,
            boot: SignedDuration::ZERO,
            count: 0,
        };
        clock.write();
        clock
    }

    /// What lets a program go by this clock.
    #[must_use]
    pub fn rule(&self) -> Rule {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let library = LIBRARY.get_or_init(test_clock).clone();
        Rule(vec![
            ("LD_PRELOAD", library),
            ("EDGE_SECRETS_TEST_CLOCK", self.file.path().to_owned()),
        ])
    }

    /// What time it is by it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.wall
    }

    /// Somebody sets the wall clock.
    pub fn set(&mut self, to: Timestamp) {
        self.wall = to.duration_since(Timestamp::now());
        self.write();
    }

    /// The wall clock is set by this much, forward or back.
    pub fn step(&mut self, by: SignedDuration) {
        self.wall += by;
        self.write();
    }

    /// The wall clock is set right.
    pub fn set_right(&mut self) {
        self.wall = SignedDuration::ZERO;
        self.write();
    }

    /// The machine sleeps for so long: the wall clock and the time since boot go on, and nothing else.
    pub fn sleep(&mut self, time: Duration) {
        let time = SignedDuration::try_from(time).expect("a time");
        self.wall += time;
        self.boot += time;
        self.write();
    }

    /// The machine has just been booted, for whoever is started from now on.
    pub fn boot(&mut self) {
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
        let since = SignedDuration::try_from(Duration::from(since)).expect("a time");
        self.boot = SignedDuration::from_secs(1) - since;
        self.write();
    }

    /// The count is odd while the two do not belong together.
    fn write(&mut self) {
        self.count += 1;
        self.put(16, self.count.to_ne_bytes());
        self.put(0, nanos(self.wall).to_ne_bytes());
        self.put(8, nanos(self.boot).to_ne_bytes());
        self.count += 1;
        self.put(16, self.count.to_ne_bytes());
    }

    fn put(&self, at: u64, number: [u8; 8]) {
        let written = self.file.as_file().write_all_at(&number, at);
        written.expect("the clock's file is written");
    }
}

fn nanos(time: SignedDuration) -> i64 {
    i64::try_from(time.as_nanos()).expect("some centuries at most")
}

/// So many days, for steps.
#[must_use]
pub fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}
