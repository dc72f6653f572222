//! When a consumer may have its secrets: while its unit or container runs or starts, and a little
//! longer. Pure: what is seen and the time are arguments.

use std::collections::BTreeSet;
use std::time::Instant;

use super::profile::Workload;
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

/// What follows for a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It gets what the bindings give it.
    Deliver,
    /// It has nothing.
    Withhold,
    /// Nobody knows: what it has stays, and it gets nothing new.
    Leave,
}

/// What was seen of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) workload: Workload,
    pub(crate) presence: Presence,
    /// Why it is unknown, and what to do.
    pub(crate) reason: Option<String>,
}

/// What is known of every workload that a profile names.
#[derive(Debug, Default)]
pub(crate) struct Lifecycles {}

impl Lifecycles {
    /// Keeps what is known of the workloads that `profiles` name, and forgets the others.
    pub(crate) fn follow(&mut self, profiles: &Profiles) {
        let _ = profiles;
    }

    /// Takes what was seen.
    pub(crate) fn observe(&mut self, observed: Observed, now: Instant) {
        let _ = (observed, now);
    }

    /// A unit has asked for a credential of this workload's: it starts, whatever was seen last.
    pub(crate) fn starts(&mut self, workload: &Workload, now: Instant) {
        let _ = (workload, now);
    }

    /// The workloads whose consumers may have nothing now: absent for longer than their linger, or
    /// never seen. When to ask again is [`next`](Self::next).
    pub(crate) fn stopped(&self, now: Instant) -> BTreeSet<Workload> {
        let _ = now;
        BTreeSet::new()
    }

    /// When [`stopped`](Self::stopped) changes by time alone.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// How the consumer's life stands, for people.
    pub(crate) fn status(
        &self,
        profiles: &Profiles,
        consumer: &ConsumerId,
    ) -> Option<LifecycleStatus> {
        let _ = (profiles, consumer);
        None
    }
}
