//! When a consumer may have its secrets: while its unit or container runs or starts, and a little
//! longer. Pure: what is seen and the time are arguments.
//!
//! | standing                       | seen present, starts | seen absent | unknown    | linger over |
//! |--------------------------------|----------------------|-------------|------------|-------------|
//! | never seen                     | present              | absent      |            |             |
//! | absent, and never seen present | present              |             | never seen | stopped     |
//! | present                        |                      | lingering   |            |             |
//! | lingering                      | present              |             | present    | stopped     |
//! | stopped                        | present              |             |            |             |
//!
//! - *present* and *lingering*: the consumer has its secrets ([`Verdict::Deliver`]). That it comes and
//!   goes within its linger changes nothing.
//! - *stopped*: it has none ([`Verdict::Withhold`]), until it is seen again.
//! - *never seen*, and *absent* before it was ever seen: nothing changes ([`Verdict::Leave`]). An agent
//!   that starts wipes nothing before it knows, and gives nothing to what has long stopped.
//! - Unknown: all stays as it is. What lingers does not run out meanwhile, and lingers from the start
//!   when it is seen absent again, since it may have been there; what is stopped stays stopped.
//!
//! What starts although it was last seen absent lingers, a minute longer than else.
//!
//! A workload lingers for as long as the longest of the profiles that name it says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::profile::{Lifecycle, Profile, Workload};
use super::profiles::Profiles;
use crate::delivery::ConsumerId;
use crate::status::LifecycleStatus;

/// Whether a workload lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It runs, starts, reloads, or waits to be restarted.
    Present,
    /// It does not run, or is not there.
    Absent,
    /// Whoever knows cannot be asked: everything stays as it is.
    Unknown,
}

/// What was seen of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) workload: Workload,
    pub(crate) presence: Presence,
    /// Why it is unknown, and what to do.
    pub(crate) reason: Option<String>,
}

/// What follows for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may have its secrets.
    Deliver,
    /// It may have none: what it has is wiped.
    Withhold,
    /// Nobody can tell yet: what it has stays, and what it lacks is not given.
    Leave,
}

/// What is known of every workload that a profile names.
#[derive(Debug, Default)]
pub(crate) struct Lifecycles {
    known: BTreeMap<Workload, Known>,
}

impl Lifecycles {
    /// Keeps what is known of the workloads that `profiles` name, and forgets the others. What has
    /// stopped stays stopped when its linger becomes longer.
    pub(crate) fn follow(&mut self, profiles: &Profiles, now: Instant) {
        self.follow_each(profiles.iter().map(|profile| &**profile), now);
    }

    /// Takes what was seen; of a workload that no profile names, nothing.
    pub(crate) fn observe(&mut self, observed: Observed, now: Instant) {
        if let Some(known) = self.known.get_mut(&observed.workload) {
            known.see(observed.presence, observed.reason, now);
        }
    }

    /// A unit has asked for a credential of this workload's: it starts, whatever was seen last. Where
    /// it was seen absent it has a minute to be seen present, and then its linger: it may be over
    /// already, and nobody would say so again.
    pub(crate) fn starts(&mut self, workload: &Workload, now: Instant) {
        if let Some(known) = self.known.get_mut(workload) {
            known.start(now);
        }
    }

    /// Whether the consumers of a profile may have their secrets: yes where it ties them to no
    /// workload. When to ask again is [`next`](Self::next).
    pub(crate) fn of_profile(&self, profile: &Profile, now: Instant) -> Verdict {
        self.judge(Some(profile), now)
    }

    /// When a verdict changes by time alone: after `now`, and before that none does.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let ends = self.known.values().filter_map(Known::linger_ends);
        ends.filter(|end| *end > now).min()
    }

    /// How the consumer's life stands, for people.
    pub(crate) fn status(
        &self,
        profiles: &Profiles,
        consumer: &ConsumerId,
    ) -> Option<LifecycleStatus> {
        self.describe(profiles.of(consumer).map(|profile| &**profile))
    }

    fn follow_each<'a>(&mut self, profiles: impl Iterator<Item = &'a Profile>, now: Instant) {
        let mut followed = BTreeMap::new();
        for life in profiles.filter_map(|profile| profile.lifecycle.as_ref()) {
            let Lifecycle { workload, linger } = life;
            let known: &mut Known = followed.entry(workload.clone()).or_insert_with(|| {
                let mut known = self.known.remove(workload).unwrap_or_default();
                known.settle(now);
                known.linger = Duration::ZERO;
                known
            });
            known.linger = known.linger.max(*linger);
        }
        self.known = followed;
    }

    fn judge(&self, profile: Option<&Profile>, now: Instant) -> Verdict {
        let Some(life) = profile.and_then(|profile| profile.lifecycle.as_ref()) else {
            return Verdict::Deliver;
        };
        let known = self.known.get(&life.workload);
        known.map_or(Verdict::Leave, |known| known.verdict(now))
    }

    fn describe(&self, profile: Option<&Profile>) -> Option<LifecycleStatus> {
        let workload = &profile?.lifecycle.as_ref()?.workload;
        let known = self.known.get(workload);
        let presence = known.map_or(Presence::Unknown, |known| known.presence);
        let reason = known.and_then(|known| known.reason.clone());
        Some(LifecycleStatus {
            workload: match workload {
                Workload::Unit(unit) => format!("unit {unit}"),
                Workload::Container(container) => format!("container {container}"),
            },
            presence: match presence {
                Presence::Present => "present",
                Presence::Absent => "absent",
                Presence::Unknown => "unknown",
            }
            .to_owned(),
            reason,
        })
    }
}

/// What is known of one workload.
#[derive(Debug)]
struct Known {
    linger: Duration,
    standing: Standing,
    /// What was seen last, and what was said to it.
    presence: Presence,
    reason: Option<String>,
}

/// What follows from all that was seen of a workload.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Unseen,
    Present,
    /// Absent since then, which lies ahead for what starts. Whether it was ever there before decides what holds until its linger ends.
    Absent {
        since: Instant,
        seen: bool,
    },
    Stopped,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            linger: Duration::ZERO,
            standing: Standing::Unseen,
            presence: Presence::Unknown,
            reason: Some("it was not asked for yet".to_owned()),
        }
    }
}

impl Known {
    fn see(&mut self, presence: Presence, reason: Option<String>, now: Instant) {
        self.settle(now);
        self.standing = match (presence, self.standing) {
            (Presence::Present, _) => Standing::Present,
            (Presence::Absent, Standing::Present) => Standing::Absent {
                since: now,
                seen: true,
            },
            (Presence::Absent, Standing::Unseen) => Standing::Absent {
                since: now,
                seen: false,
            },
            (Presence::Unknown, Standing::Absent { seen: true, .. }) => Standing::Present,
            (Presence::Unknown, Standing::Absent { seen: false, .. }) => Standing::Unseen,
            (Presence::Absent, Standing::Absent { since, seen }) => Standing::Absent {
                since: since.min(now),
                seen,
            },
            (Presence::Absent, standing @ Standing::Stopped)
            | (
                Presence::Unknown,
                standing @ (Standing::Unseen | Standing::Present | Standing::Stopped),
            ) => standing,
        };
        self.presence = presence;
        self.reason = reason;
        self.settle(now);
    }

    fn start(&mut self, now: Instant) {
        self.standing = match self.presence {
            Presence::Absent => Standing::Absent {
                since: now.checked_add(STARTS).unwrap_or(now),
                seen: true,
            },
            Presence::Present | Presence::Unknown => Standing::Present,
        };
    }

    /// Makes final what has come by time alone.
    fn settle(&mut self, now: Instant) {
        if self.linger_ends().is_some_and(|end| end <= now) {
            self.standing = Standing::Stopped;
        }
    }

    /// When it counts as stopped unless something is seen before. Never where that lies beyond the
    /// clock's end.
    fn linger_ends(&self) -> Option<Instant> {
        match self.standing {
            Standing::Absent { since, .. } => since.checked_add(self.linger),
            Standing::Unseen | Standing::Present | Standing::Stopped => None,
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match self.standing {
            Standing::Stopped => Verdict::Withhold,
            _ if self.linger_ends().is_some_and(|end| end <= now) => Verdict::Withhold,
            Standing::Present | Standing::Absent { seen: true, .. } => Verdict::Deliver,
            Standing::Unseen | Standing::Absent { seen: false, .. } => Verdict::Leave,
        }
    }
}

/// How long what starts may take to be seen.
const STARTS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
