//! For how long nothing was heard of the hub: after `offline.max_age` whatever it said is too old.
//!
//! While the agent runs, the time since boot counts, which nobody sets. Over a restart or a reboot the
//! wall clock tells how long the machine was off; time that was counted before is never lost by a wall
//! clock that is set back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock::{BootTime, Now};
use crate::disk;

/// Since when there is no hub, in this life and before it.
#[derive(Debug)]
pub(crate) struct Age {
    file: PathBuf,
    max: Duration,
    /// How long it was when `since` came; none while the hub is there.
    before: Option<Duration>,
    since: BootTime,
    /// What stands on disk, and since when.
    noted: BootTime,
    over: bool,
    not_before: Option<BootTime>,
}

/// What stands on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// When the hub was heard last, by the wall clock.
    heard: Timestamp,
    /// How much of the time since then the agent has counted itself.
    counted_ms: u64,
}

impl Age {
    /// Takes over what stands in the state directory. Without a note nothing has passed yet.
    pub(crate) fn open(state_dir: &Path, max: Duration, now: Now) -> Self {
        let file = state_dir.join(FILE);
        let before = match disk::read(&file, MAX_NOTE) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_or_else(
                |_| {
                    warn!(file = %file.display(), "It cannot be told since when there is no hub.");
                    Duration::ZERO
                },
                |note: Note| note.passed(now.wall),
            ),
            Err(_) => Duration::ZERO,
        };
        Self {
            file,
            max,
            before: Some(before),
            since: now.boot,
            noted: now.boot,
            over: false,
            not_before: None,
        }
    }

    /// The configuration says how long it may be.
    pub(crate) fn may_be(&mut self, max: Duration) {
        self.max = max;
    }

    /// The hub is there.
    pub(crate) fn heard(&mut self, now: Now) {
        let first = self.before.take().is_some();
        self.over = false;
        if first {
            self.note(now);
        }
    }

    /// The hub is not there any more.
    pub(crate) fn lost(&mut self, now: Now) {
        if self.before.is_none() {
            self.before = Some(Duration::ZERO);
            self.since = now.boot;
            self.note(now);
        }
    }

    /// Whether all that the hub said is too old now, which is said once.
    pub(crate) fn is_over(&mut self, now: Now) -> bool {
        if now.boot >= self.noted.after(self.step()) {
            self.note(now);
        }
        if self.not_before.is_some_and(|at| now.boot < at) {
            return false;
        }
        let over = self.passed(now).is_some_and(|passed| passed >= self.max);
        let first = over && !self.over;
        self.over = over;
        first
    }

    /// Not all that follows from it could be done: it is over once more in a while.
    pub(crate) fn again(&mut self, now: Now) {
        self.over = false;
        self.not_before = Some(now.boot.after(AGAIN));
    }

    /// When to ask [`is_over`](Self::is_over) again.
    pub(crate) fn next(&self) -> Option<BootTime> {
        if self.over {
            return None;
        }
        let note = self.noted.after(self.step());
        let end = self
            .before
            .map(|before| self.since.after(self.max.saturating_sub(before)));
        let end = end.max(self.not_before.filter(|_| end.is_some()));
        Some(end.map_or(note, |end| end.min(note)))
    }

    fn passed(&self, now: Now) -> Option<Duration> {
        let before = self.before?;
        Some(before.saturating_add(now.boot.since(self.since)))
    }

    /// How much time a kill may lose: a small part of what there is.
    fn step(&self) -> Duration {
        (self.max / 48).clamp(Duration::from_secs(1), Duration::from_secs(6 * 3600))
    }

    fn note(&mut self, now: Now) {
        self.noted = now.boot;
        let passed = self.passed(now).unwrap_or_default();
        let note = Note {
            heard: now.wall.checked_sub(passed).unwrap_or(Timestamp::MIN),
            counted_ms: u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
        };
        if let Err(error) = write(&self.file, &note) {
            warn!(file = %self.file.display(), %error, "It cannot be noted when the hub was heard.");
        }
    }
}

impl Note {
    fn passed(&self, wall: Timestamp) -> Duration {
        let by_wall = Duration::try_from(self.heard.duration_until(wall)).unwrap_or_default();
        by_wall.max(Duration::from_millis(self.counted_ms))
    }
}

fn write(file: &Path, note: &Note) -> io::Result<()> {
    let bytes = serde_json::to_vec(note).map_err(io::Error::other)?;
    let dir = file.parent().unwrap_or_else(|| Path::new("/"));
    disk::replace(dir, FILE, &bytes)?;
    disk::sync(dir)
}

const FILE: &str = "heard";
const MAX_NOTE: usize = 4096;
/// What could not be wiped is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(boot: u64, wall: i64) -> Now {
        Now {
            wall: Timestamp::from_second(1_700_000_000 + wall).unwrap(),
            boot: BootTime::LONG_AGO.after(Duration::from_secs(boot)),
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_time_without_a_hub_is_counted_and_is_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut age = Age::open(dir.path(), HOUR, at(10, 0));
        age.heard(at(10, 0));
        assert!(
            !age.is_over(at(10_000, 9_990)),
            "the hub was there all the time"
        );
        age.lost(at(10_000, 9_990));
        assert!(!age.is_over(at(13_599, 13_589)));
        assert_eq!(age.next(), Some(at(13_600, 0).boot));
        assert!(age.is_over(at(13_600, 13_590)));
        assert!(!age.is_over(at(13_700, 13_690)), "said once");
        age.heard(at(13_800, 13_790));
        age.lost(at(13_800, 13_790));
        assert!(!age.is_over(at(13_900, 13_890)));
    }

    #[test]
    fn a_reboot_goes_on_counting_whatever_the_wall_clock_was_set_to() {
        let dir = tempfile::tempdir().unwrap();
        let mut age = Age::open(dir.path(), HOUR, at(10, 0));
        age.heard(at(10, 0));
        age.lost(at(20, 10));
        assert!(!age.is_over(at(1_820, 1_810)), "half of it, noted");
        // Off for ten minutes.
        let mut age = Age::open(dir.path(), HOUR, at(5, 2_410));
        assert_eq!(
            age.next(),
            Some(at(5 + 1_200, 0).boot.min(at(5 + 75, 0).boot))
        );
        assert!(!age.is_over(at(1_204, 3_609)));
        assert!(age.is_over(at(1_205, 3_610)));
        // Set back by years: what was counted stays counted.
        let mut age = Age::open(dir.path(), HOUR, at(5, -100_000_000));
        assert!(age.is_over(at(5 + 3_600 - 1_199, -99_997_000)));
    }

    #[test]
    fn a_damaged_note_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let mut age = Age::open(dir.path(), HOUR, at(0, 0));
        assert!(!age.is_over(at(3_599, 0)));
        assert!(age.is_over(at(3_600, 0)));
    }
}
