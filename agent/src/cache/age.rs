//! For how long nothing was heard of the hub: after `offline.max_age` whatever it said is too old. That it
//! has revoked this node is noted here too: then it is too old at once, in this life and the next ones,
//! until the hub says otherwise.
//!
//! While the agent runs, and over a mere restart of it, the time since boot counts, which nobody sets. Over
//! a reboot the wall clock tells how long the machine was off. A wall clock that is behind what was seen of it before
//! (no battery, set back), or years ahead, tells nothing: what was counted stays counted, and the rest is
//! added when the clock has become right.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::clock::{BootMark, BootTime, Now};
use crate::disk;

/// Since when there is no hub, in this life and before it.
#[derive(Debug)]
pub(crate) struct Age {
    file: PathBuf,
    boot: BootMark,
    max: Duration,
    /// How long it was when `since` came; none while the hub is there.
    before: Option<Duration>,
    since: BootTime,
    /// When this life began, and the wall clock's last words from before it, as long as it cannot be told
    /// how long the machine was off.
    doubt: Option<(BootTime, Note)>,
    /// Since when the note stands on disk, and for how long it may.
    noted: BootTime,
    step: Duration,
    /// The hub has revoked this node, and has not taken it back.
    revoked: bool,
    over: bool,
    not_before: Option<BootTime>,
}

/// What stands on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    /// When the hub was heard last, by the wall clock.
    heard: Timestamp,
    /// How much of the time since then the agent has counted itself.
    counted_ms: u64,
    /// What the wall clock said when this was written; a note of a time before this was written has none.
    #[serde(default)]
    seen: Option<Timestamp>,
    /// Whether the hub's last word was that this node is revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    revoked: bool,
    /// When, by the time since that boot.
    #[serde(default)]
    boot_ms: Option<BootTime>,
    /// In which boot.
    #[serde(default)]
    boot: Option<BootMark>,
    /// Whether it could not be told then how long the machine was off.
    #[serde(default)]
    doubted: bool,
}

impl Age {
    /// Takes over what stands in the state directory, of this boot or another one. Without a note nothing
    /// has passed yet.
    pub(crate) fn open(state_dir: &Path, max: Duration, now: Now, boot: &BootMark) -> Self {
        let file = state_dir.join(FILE);
        let note = match disk::read(&file, MAX_NOTE) {
            Ok(bytes) => serde_json::from_slice::<Note>(&bytes)
                .inspect_err(|_| {
                    warn!(file = %file.display(), "It cannot be told since when there is no hub.");
                })
                .ok(),
            Err(_) => None,
        };
        let counted = note.as_ref().map_or(0, |note| note.counted_ms);
        // No clock that was set meanwhile makes it longer or shorter.
        let restart = note
            .as_ref()
            .filter(|note| note.boot.as_ref() == Some(boot))
            .and_then(|note| note.boot_ms);
        let restarted = restart.map_or(Duration::ZERO, |noted| now.boot.since(noted));
        let mut age = Self {
            file,
            boot: boot.clone(),
            max,
            before: Some(Duration::from_millis(counted).saturating_add(restarted)),
            since: now.boot,
            revoked: note.as_ref().is_some_and(|note| note.revoked),
            doubt: note
                .filter(|note| restart.is_none() || note.doubted)
                .map(|note| (now.boot, note)),
            noted: now.boot,
            step: FIRST_STEP,
            over: false,
            not_before: None,
        };
        age.settle(now);
        if age.doubt.is_some() {
            warn!(
                clock = %now.wall,
                "The clock of this machine is wrong: how long it was off is not counted until it is right."
            );
        }
        age
    }

    /// The configuration says how long it may be.
    pub(crate) fn may_be(&mut self, max: Duration) {
        self.max = max;
    }

    /// Whether the hub's last word, in this life or one before it, was that this node is revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// The hub has revoked this node. That is durable when this returns, where the disk can be written:
    /// what follows from it may be done in another life.
    pub(crate) fn revoke(&mut self, now: Now) {
        self.revoked = true;
        // Whoever heard it does what follows.
        self.over = true;
        self.note(now);
    }

    /// The hub is there, and this node is one of its own.
    pub(crate) fn heard(&mut self, now: Now) {
        let revoked = std::mem::take(&mut self.revoked);
        let first = self.before.take().is_some() || revoked;
        self.doubt = None;
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
            self.step = FIRST_STEP;
            self.note(now);
        }
    }

    /// The agent ends: what was counted is not lost.
    pub(crate) fn ends(&mut self, now: Now) {
        self.note(now);
    }

    /// Whether all that the hub said is too old now, which is said once.
    pub(crate) fn is_over(&mut self, now: Now) -> bool {
        self.settle(now);
        if now.boot >= self.noted.after(self.step()) {
            self.note(now);
            self.step = self.step.saturating_mul(2);
        }
        if self.not_before.is_some_and(|at| now.boot < at) {
            return false;
        }
        let too_long = self.passed(now).is_some_and(|passed| passed >= self.max);
        let over = self.revoked || too_long;
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
        let end = match self.revoked {
            true => Some(self.noted),
            false => self
                .before
                .map(|before| self.since.after(self.max.saturating_sub(before))),
        };
        let end = end.max(self.not_before.filter(|_| end.is_some()));
        Some(end.map_or(note, |end| end.min(note)))
    }

    fn passed(&self, now: Now) -> Option<Duration> {
        let before = self.before?;
        Some(before.saturating_add(now.boot.since(self.since)))
    }

    /// Adds how long the machine was off, as soon as the wall clock can tell.
    fn settle(&mut self, now: Now) {
        let Some((began, note)) = &self.doubt else {
            return;
        };
        let running = now.boot.since(*began);
        let then = now.wall.checked_sub(running).unwrap_or(Timestamp::MIN);
        let Some(passed) = note.passed(then) else {
            return;
        };
        self.doubt = None;
        self.before = self.before.map(|before| before.max(passed));
    }

    /// How much time a kill may lose: a small part of what there is, and less when this life, or the time
    /// without a hub, is young, so that no row of short lives goes on for ever.
    fn step(&self) -> Duration {
        let most = (self.max / 48).clamp(Duration::from_secs(1), Duration::from_secs(6 * 3600));
        self.step.min(most)
    }

    fn note(&mut self, now: Now) {
        self.noted = now.boot;
        let passed = self.passed(now).unwrap_or_default();
        let counted_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let note = match &self.doubt {
            // What a right clock said last is not overwritten with what a wrong one says.
            Some((_, note)) => Note {
                counted_ms,
                revoked: self.revoked,
                boot_ms: Some(now.boot),
                boot: Some(self.boot.clone()),
                doubted: true,
                ..note.clone()
            },
            None => Note {
                heard: now.wall.checked_sub(passed).unwrap_or(Timestamp::MIN),
                counted_ms,
                seen: Some(now.wall),
                revoked: self.revoked,
                boot_ms: Some(now.boot),
                boot: Some(self.boot.clone()),
                doubted: false,
            },
        };
        if let Err(error) = write(&self.file, &note) {
            warn!(file = %self.file.display(), %error, "It cannot be noted when the hub was heard.");
            self.step = FIRST_STEP;
        }
    }
}

impl Note {
    /// How long it was by `wall`; none when that clock is wrong.
    fn passed(&self, wall: Timestamp) -> Option<Duration> {
        let seen = self.seen.unwrap_or(self.heard);
        let off = Duration::try_from(seen.duration_until(wall)).ok()?;
        if off > FAR {
            return None;
        }
        Duration::try_from(self.heard.duration_until(wall)).ok()
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
const FIRST_STEP: Duration = Duration::from_secs(60);
/// No machine that was off for longer is believed to have been: its clock is wrong.
const FAR: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
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

    fn booted(dir: &tempfile::TempDir, max: Duration, now: Now) -> Age {
        Age::open(dir.path(), max, now, &BootMark::new())
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_time_without_a_hub_is_counted_and_is_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut age = booted(&dir, HOUR, at(10, 0));
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
        let mut age = booted(&dir, HOUR, at(10, 0));
        age.heard(at(10, 0));
        age.lost(at(20, 10));
        assert!(!age.is_over(at(1_820, 1_810)), "half of it, noted");
        // Off for ten minutes.
        let mut age = booted(&dir, HOUR, at(5, 2_410));
        assert_eq!(
            age.next(),
            Some(at(5 + 1_200, 0).boot.min(at(5 + 60, 0).boot))
        );
        assert!(!age.is_over(at(1_204, 3_609)));
        assert!(age.is_over(at(1_205, 3_610)));
        // Set back by years: what was counted stays counted.
        let mut age = booted(&dir, HOUR, at(5, -100_000_000));
        assert!(age.is_over(at(5 + 3_600 - 1_199, -99_997_000)));
    }

    const YEAR: i64 = 365 * 24 * 3600;

    #[test]
    fn a_clock_that_is_wrong_at_boot_counts_when_it_has_become_right() {
        for wrong in [-1_700_000_000, -1, 6 * YEAR, 73 * YEAR] {
            let dir = tempfile::tempdir().unwrap();
            let mut age = booted(&dir, HOUR, at(10, 0));
            age.heard(at(10, 0));
            age.lost(at(20, 10));
            assert!(!age.is_over(at(620, 610)), "ten minutes, noted");
            // Off for half an hour, and booted with a clock that is wrong: what was counted counts.
            let mut age = booted(&dir, HOUR, at(5, wrong));
            assert!(
                !age.is_over(at(605, wrong + 600)),
                "{wrong}: twenty minutes"
            );
            // Another boot in between forgets neither.
            let mut age = booted(&dir, HOUR, at(3, wrong));
            assert!(!age.is_over(at(4, wrong + 1)), "{wrong}");
            // The clock is set right: with the time off it is more than an hour.
            assert!(age.is_over(at(5, 610 + 1_800 + 600 + 600)), "{wrong}");

            // It never becomes right: the time that is counted ends it all the same.
            let mut age = booted(&dir, HOUR, at(5, wrong));
            assert!(!age.is_over(at(5 + 2_300, wrong + 2_300)), "{wrong}");
            assert!(age.is_over(at(5 + 2_400, wrong + 2_400)), "{wrong}");
        }
    }

    #[test]
    fn steps_of_the_clock_while_the_agent_runs_change_nothing() {
        for step in [-50 * YEAR, -1, 1, 50 * YEAR] {
            let dir = tempfile::tempdir().unwrap();
            let mut age = booted(&dir, HOUR, at(10, 0));
            age.heard(at(10, 0));
            age.lost(at(20, 10));
            assert!(!age.is_over(at(1_220, step + 1_210)), "{step}");
            // Nor do they afterwards, when the machine was off for ten minutes by that clock.
            let mut age = booted(&dir, HOUR, at(5, step + 1_810));
            assert!(!age.is_over(at(5 + 1_799, step + 1_810 + 1_799)), "{step}");
            assert!(age.is_over(at(5 + 1_800, step + 1_810 + 1_800)), "{step}");
        }
    }

    #[test]
    fn no_row_of_short_lives_goes_on_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let month = Duration::from_secs(30 * 24 * 3600);
        let mut age = booted(&dir, month, at(10, 0));
        age.heard(at(10, 0));
        age.lost(at(11, 1));
        // Cut off after five hours each time, with a clock that begins in 1970.
        let mut lives = 0;
        loop {
            lives += 1;
            assert!(lives < 1_000, "it never ends");
            let boot = |seconds: u64| at(seconds, seconds as i64 - 1_700_000_000);
            let mut age = booted(&dir, month, boot(5));
            let mut over = false;
            while let Some(next) = age.next()
                && next <= boot(5 * 3600).boot
                && !over
            {
                let seconds = next.since(BootTime::LONG_AGO).as_secs() + 1;
                over = age.is_over(boot(seconds));
            }
            if over {
                break;
            }
        }
        assert!(lives >= 30 * 24 / 5, "{lives}");
        // Told to stop, it loses nothing at all.
        let mut age = booted(&dir, month, at(5, -1));
        let before = age.passed(at(5, -1)).unwrap();
        age.ends(at(45, 39));
        let age = booted(&dir, month, at(5, -1));
        assert_eq!(
            age.passed(at(5, -1)),
            Some(before + Duration::from_secs(40))
        );
    }

    #[test]
    fn a_revocation_is_over_at_once_in_every_life_until_the_hub_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut age = booted(&dir, HOUR, at(10, 0));
        age.heard(at(10, 0));
        age.revoke(at(11, 1));
        assert!(!age.is_over(at(12, 2)), "whoever heard it knows");
        age.again(at(12, 2));
        assert_eq!(age.next(), Some(at(22, 0).boot), "not all could be done");
        assert!(age.is_over(at(22, 12)));
        // Lives without a hub, however their clock is.
        for wrong in [0, -1_700_000_000, 6 * YEAR] {
            let mut age = booted(&dir, HOUR, at(5, wrong));
            assert!(age.is_revoked());
            age.lost(at(6, wrong));
            assert!(age.is_over(at(6, wrong)) && !age.is_over(at(7, wrong)));
            age.ends(at(8, wrong));
        }
        // Taken back.
        let mut age = booted(&dir, HOUR, at(5, 100));
        age.heard(at(6, 101));
        assert!(!age.is_over(at(7, 102)));
        let mut age = booted(&dir, HOUR, at(5, 200));
        assert!(!age.is_revoked() && !age.is_over(at(6, 201)));
    }

    #[test]
    fn a_damaged_note_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let mut age = booted(&dir, HOUR, at(0, 0));
        assert!(!age.is_over(at(3_599, 0)));
        assert!(age.is_over(at(3_600, 0)));
    }

    #[test]
    fn over_a_mere_restart_no_clock_that_was_set_counts() {
        for step in [-50 * YEAR, -1_000_000, 30 * 86_400, 4 * YEAR, 50 * YEAR] {
            let dir = tempfile::tempdir().unwrap();
            let mark = BootMark::new();
            let mut age = Age::open(dir.path(), HOUR, at(10, 0), &mark);
            age.heard(at(10, 0));
            age.ends(at(1_000, 990));
            // Half an hour passes until it runs again; the hub is not there.
            let again = |boot: u64| at(boot, boot as i64 - 10 + step);
            let mut age = Age::open(dir.path(), HOUR, again(2_800), &mark);
            assert!(!age.is_over(again(2_801)), "{step}");
            assert!(!age.is_over(again(1_000 + 3_599)), "{step}");
            assert!(age.is_over(again(1_000 + 3_600)), "{step}");
        }
    }

    #[test]
    fn a_restart_settles_no_doubt_and_forgets_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut age = booted(&dir, HOUR, at(10, 0));
        age.heard(at(10, 0));
        age.ends(at(20, 10));
        // Off for half an hour, booted in 1970, and started twice.
        let boot = |seconds: u64| at(seconds, seconds as i64 - 1_700_000_000);
        let mark = BootMark::new();
        Age::open(dir.path(), HOUR, boot(5), &mark).ends(boot(65));
        let mut age = Age::open(dir.path(), HOUR, boot(125), &mark);
        assert_eq!(age.passed(boot(125)), Some(Duration::from_secs(120)));
        assert!(!age.is_over(boot(126)));
        // The clock is set right: the half hour counts.
        let right = |seconds: u64| at(seconds, 10 + 1_800 + seconds as i64);
        assert!(!age.is_over(right(130)));
        assert_eq!(age.passed(right(130)), Some(Duration::from_secs(1_930)));
    }
}
