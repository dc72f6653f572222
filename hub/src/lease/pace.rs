//! How often credentials of one place may be made: a manager whose credentials live for seconds must
//! not be asked without end. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::catalog::records::LeasePlace;

/// When each place's makings would be through at the steady pace. One in [`EVERY`] in the long run,
/// and [`BURST`] at once: an operator's word and a wiped node are followed without delay.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<LeasePlace, Timestamp>);

impl Pace {
    /// When the next one may be made, where that is later than now.
    pub(super) fn earliest(&self, place: &LeasePlace, now: Timestamp) -> Option<Timestamp> {
        let earliest = self.through(place, now) - EVERY * (BURST - 1);
        (earliest > now).then_some(earliest)
    }

    /// One was made now.
    pub(super) fn made(&mut self, place: &LeasePlace, now: Timestamp) {
        let through = self.through(place, now) + EVERY;
        self.0.insert(place.clone(), through);
    }

    fn through(&self, place: &LeasePlace, now: Timestamp) -> Timestamp {
        let through = self.0.get(place).copied().unwrap_or(now);
        // A clock that was set back must not stop what is due.
        through.clamp(now, now + EVERY * BURST)
    }

    /// Forgets places that nothing was made for lately.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, through| *through > now);
    }

    /// How many places are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One in so long.
const EVERY: SignedDuration = SignedDuration::from_secs(30);
/// So many at once.
const BURST: i32 = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(node: &str) -> LeasePlace {
        LeasePlace {
            org: "o".parse().unwrap(),
            node: node.parse().unwrap(),
            deployment: "d".parse().unwrap(),
            reference: "v:database/creds/x".parse().unwrap(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn some_at_once_then_one_in_a_while_and_each_place_for_itself() {
        let mut pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.earliest(&place("n"), at(0)), None);
            pace.made(&place("n"), at(0));
        }
        assert_eq!(pace.earliest(&place("n"), at(0)), Some(at(30)));
        assert_eq!(pace.earliest(&place("m"), at(0)), None);
        pace.made(&place("m"), at(0));
        assert_eq!(pace.earliest(&place("n"), at(30)), None);
        pace.made(&place("n"), at(30));
        assert_eq!(pace.earliest(&place("n"), at(31)), Some(at(60)));
        pace.forget(at(31));
        assert_eq!(pace.len(), 1, "m's is over");
        // A clock that went back by a day: it waits as after a burst, not for a day.
        assert_eq!(pace.earliest(&place("n"), at(-86_400)), Some(at(-86_370)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_pace_allows(waits in prop::collection::vec(0_i64..40, 1..200)) {
            let mut pace = Pace::default();
            let mut made = Vec::new();
            let mut now = 0;
            for wait in waits {
                now += wait;
                if let Some(then) = pace.earliest(&place("n"), at(now)) {
                    prop_assert!(then <= at(now) + EVERY);
                    prop_assert_eq!(pace.earliest(&place("n"), then), None, "then it may");
                    now = then.as_second() - 1_000_000;
                }
                pace.made(&place("n"), at(now));
                made.push(now);
            }
            for (first, start) in made.iter().enumerate() {
                for (last, end) in made.iter().enumerate().skip(first) {
                    let most = (end - start) / EVERY.as_secs() + i64::from(BURST);
                    prop_assert!((last - first + 1) as i64 <= most);
                }
            }
        }
    }
}
