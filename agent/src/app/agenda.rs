//! What is to be done, and when. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::hub::backoff::Backoff;

/// One thing to do, once or again.
#[derive(Debug)]
pub(super) struct Due {
    at: Option<Instant>,
    backoff: Backoff,
}

impl Due {
    pub(super) const fn never() -> Self {
        Self {
            at: None,
            backoff: Backoff::retrying(),
        }
    }

    /// To be done at `at`, or before when it was to be done before; failures are forgotten.
    pub(super) fn by(&mut self, at: Instant) {
        self.backoff.succeeded();
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// To be done at `at` and not before.
    pub(super) fn at(&mut self, at: Instant) {
        self.backoff.succeeded();
        self.at = Some(at);
    }

    /// Not before `at`, if at all.
    pub(super) fn not_before(&mut self, at: Instant) {
        self.at = self.at.map(|due| due.max(at));
    }

    /// It has failed: to be done again, later with each time.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.backoff.failed();
        self.at = Some(now + wait);
        wait
    }

    /// As [`failed`](Self::failed), after `cap` at the latest.
    pub(super) fn failed_within(&mut self, now: Instant, cap: Duration) -> Duration {
        let wait = self.backoff.failed_within(cap);
        self.at = Some(now + wait);
        wait
    }

    /// Nothing is to be done now; should it be again, then as after the failures before.
    pub(super) fn rest(&mut self) {
        self.at = None;
    }

    pub(super) fn done(&mut self) {
        self.backoff.succeeded();
        self.at = None;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

/// All that the agent does by itself.
#[derive(Debug)]
pub(super) struct Agenda {
    /// Tell the hub what this node is.
    pub(super) facts: Due,
    /// Pull, plan, fetch, deliver.
    pub(super) converge: Due,
    /// Tell the hub what is applied.
    pub(super) report: Due,
    /// Keep what could not be kept.
    pub(super) keep: Due,
    /// Seal what is kept to the key in use, and end the identities before it.
    pub(super) retire: Due,
    /// Renew the certificate.
    pub(super) renew: Due,
    /// Check and pull without being asked to.
    pub(super) resync: Due,
}

impl Agenda {
    pub(super) const fn new() -> Self {
        Self {
            facts: Due::never(),
            converge: Due::never(),
            report: Due::never(),
            keep: Due::never(),
            retire: Due::never(),
            renew: Due::never(),
            resync: Due::never(),
        }
    }

    /// After connecting, nothing that was said or heard before counts.
    pub(super) fn connected(&mut self, now: Instant, resync: Duration) {
        self.facts.at(now);
        self.converge.at(now);
        self.report.at(now);
        self.resync.at(now + resync);
    }

    /// When the next thing is to be done.
    pub(super) fn next(&self) -> Option<Instant> {
        [
            &self.facts,
            &self.converge,
            &self.report,
            &self.keep,
            &self.retire,
            &self.renew,
            &self.resync,
        ]
        .into_iter()
        .filter_map(|due| due.at)
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_time_wins_and_a_later_one_does_not_push_back() {
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        let mut due = Due::never();
        assert!(!due.is_due(late));
        due.by(late);
        due.by(soon);
        due.by(late);
        assert!(!due.is_due(now));
        assert!(due.is_due(soon));
        due.done();
        assert!(!due.is_due(late));
    }

    #[test]
    fn a_failure_is_tried_again_and_a_new_reason_does_not_wait_for_it() {
        let now = Instant::now();
        let mut due = Due::never();
        for _ in 0..20 {
            let wait = due.failed(now);
            assert!(wait <= Duration::from_secs(300));
            assert!(due.is_due(now + wait));
        }
        due.by(now);
        assert!(due.is_due(now));
        for ceiling in [1, 2, 4, 8, 10, 10] {
            let wait = due.failed_within(now, Duration::from_secs(10));
            assert!(wait <= Duration::from_secs(ceiling), "{wait:?}");
            assert!(due.is_due(now + wait));
        }
        due.by(now);
        assert!(due.is_due(now));
    }

    #[test]
    fn connecting_makes_everything_due() {
        let now = Instant::now();
        let mut agenda = Agenda::new();
        assert_eq!(agenda.next(), None);
        agenda.converge.failed(now + Duration::from_secs(100));
        agenda.connected(now, Duration::from_secs(600));
        assert!(
            agenda.facts.is_due(now) && agenda.converge.is_due(now) && agenda.report.is_due(now)
        );
        assert!(!agenda.resync.is_due(now));
        assert_eq!(agenda.next(), Some(now));
    }
}
