//! One consumer's action as a state: what is wanted, and when it is to be tried. Pure but for the
//! time of day, which people are shown; the time that counts is an argument.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::profile::OnChange;
use super::{ActionError, describe};
use crate::hub::backoff::up_to;
use crate::status::{ActionState, ActionStatus};

/// What is wanted, when it is tried next, and how it went so far.
#[derive(Debug)]
pub(super) struct Work {
    generation: String,
    what: OnChange,
    next: Next,
    /// Failures in a row since the last change.
    failures: u32,
    /// Nobody carries it out: there was nothing left to do.
    rests: bool,
    status: ActionStatus,
}

/// What the one who carries it out does now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Try it, and then say how it [`ended`](Work::ended).
    Attempt(Attempt),
    /// Ask again then, or when something has changed.
    Wait(Instant),
    /// End. Whoever changes something must begin anew.
    Rest,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) generation: String,
    pub(super) what: OnChange,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Nothing that is known now: it is done, or is being tried.
    Nothing,
    /// The first try after a change, once its debounce is over.
    Changed(Instant),
    /// Another try of what has failed.
    Again(Instant),
}

impl Work {
    /// A change to begin with. Somebody carries it out from now on.
    pub(super) fn new(generation: &str, what: &OnChange, now: Instant) -> Self {
        Self {
            generation: generation.to_owned(),
            what: what.clone(),
            next: Next::Changed(after(now, what.debounce)),
            failures: 0,
            rests: false,
            status: ActionStatus {
                action: describe(&what.action),
                state: ActionState::Running,
                since: Timestamp::now(),
                failures: 0,
                error: None,
            },
        }
    }

    /// Takes a change; says whether there is something to do that was not there before.
    pub(super) fn changed(&mut self, generation: &str, what: &OnChange, now: Instant) -> bool {
        let same_action = what.action == self.what.action;
        if generation == self.generation {
            if same_action {
                // Edited time limits hold from the next attempt on.
                self.what = what.clone();
                return false;
            }
            if self.status.state == ActionState::Done {
                return false;
            }
        }
        let due = after(now, what.debounce);
        self.next = Next::Changed(match self.next {
            // Never later than after the first change: a steady stream must not starve it.
            Next::Changed(first) => first.min(due),
            Next::Nothing | Next::Again(_) => due,
        });
        self.generation = generation.to_owned();
        self.what = what.clone();
        self.failures = 0;
        if !same_action {
            // What another action did says nothing of this one.
            self.status.action = describe(&what.action);
            self.status.failures = 0;
            self.status.error = None;
        }
        self.unfinished();
        true
    }

    /// Whether it rested, which is over now: whoever asks begins to carry it out.
    pub(super) fn wake(&mut self) -> bool {
        std::mem::take(&mut self.rests)
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        match self.next {
            Next::Nothing => {
                self.rests = true;
                Step::Rest
            }
            Next::Changed(due) | Next::Again(due) if due > now => Step::Wait(due),
            Next::Changed(_) | Next::Again(_) => {
                self.next = Next::Nothing;
                Step::Attempt(Attempt {
                    generation: self.generation.clone(),
                    what: self.what.clone(),
                })
            }
        }
    }

    /// Takes how the attempt ended. Says how long to wait before it is tried again, if it is; what
    /// has changed during the attempt is next in any case.
    pub(super) fn ended(
        &mut self,
        attempt: &Attempt,
        result: &Result<(), ActionError>,
        now: Instant,
        random: u64,
    ) -> Option<Duration> {
        if attempt.what.action == self.what.action {
            self.count(result);
        }
        if matches!(self.next, Next::Changed(_)) {
            self.unfinished();
            return None;
        }
        if result.is_ok() {
            self.failures = 0;
            self.enter(ActionState::Done);
            return None;
        }
        let wait = wait(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        self.next = Next::Again(after(now, wait));
        self.unfinished();
        Some(wait)
    }

    /// How it stands, for people.
    pub(super) fn status(&self) -> &ActionStatus {
        &self.status
    }

    fn count(&mut self, result: &Result<(), ActionError>) {
        match result {
            Ok(()) => {
                self.status.failures = 0;
                self.status.error = None;
            }
            Err(error) => {
                self.status.failures = self.status.failures.saturating_add(1);
                self.status.error = Some(error.to_string());
            }
        }
    }

    /// It is not done yet. What has failed stays failing until it goes well, through every further
    /// attempt and change.
    fn unfinished(&mut self) {
        self.enter(match self.status.failures {
            0 => ActionState::Running,
            _ => ActionState::Failing,
        });
    }

    fn enter(&mut self, state: ActionState) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = Timestamp::now();
        }
    }
}

/// Exponential with equal jitter: at least half of what it could be, so that what fails at once is
/// not tried again at once.
fn wait(failures: u32, random: u64) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    let half = FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT) / 2;
    half + up_to(half, random)
}

/// `wait` after `now`; what lies beyond the clock's end does not wait.
fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
