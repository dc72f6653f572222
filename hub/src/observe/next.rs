//! What to believe of a secret after its manager was asked once more. Pure.

use jiff::Timestamp;

use crate::catalog::records::{Observation, Trouble};
use crate::managers::{Description, Fault, ManagerError};

/// What is believed, and whether it was already told to be absent once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Belief {
    /// What stands in the catalog.
    pub(super) known: Option<Observation>,
    /// The last answer said that what was known is absent. It is believed the second time: a manager
    /// that is being restored must not take secrets away.
    pub(super) doubted: bool,
}

impl Belief {
    /// Takes an answer. Says what to keep in the catalog, if that is something else than before.
    pub(super) fn learn(
        &mut self,
        answer: Result<Description, ManagerError>,
        now: Timestamp,
    ) -> Option<Observation> {
        let next = match answer {
            Ok(description) => {
                self.doubted = false;
                self.described(description, now)
            }
            Err(error) => self.failed(error, now)?,
        };
        if self.known.as_ref() == Some(&next) {
            return None;
        }
        self.known = Some(next.clone());
        Some(next)
    }

    fn described(&self, description: Description, now: Timestamp) -> Observation {
        let before = self.known.clone().unwrap_or_default();
        if before.version.is_some() && description.effect.is_for_one_node() {
            // It was shared: to read it now would end what all its nodes have.
            let error = ManagerError::new(
                Fault::Exclusive,
                "every read of it ends the one before since it was changed at its manager, and \
                 several nodes may share it: what they have stays; bind another secret, or change it \
                 back",
            );
            let trouble = Some(trouble(error, before.trouble.as_ref(), now));
            return Observation { trouble, ..before };
        }
        let leased = description.effect.is_leased();
        Observation {
            effect: Some(description.effect),
            version: description.version.filter(|_| !leased),
            expires_at: description.expires_at.filter(|_| !leased),
            identity: description.identity.filter(|_| leased),
            trouble: None,
        }
    }

    fn failed(&mut self, error: ManagerError, now: Timestamp) -> Option<Observation> {
        let before = self.known.clone().unwrap_or_default();
        let was_there = before.effect.is_some();
        let absent = error.fault.is_absence();
        if absent && was_there && !self.doubted {
            self.doubted = true;
            return None;
        }
        self.doubted = absent;
        let trouble = Some(trouble(error, before.trouble.as_ref(), now));
        let fault = trouble.as_ref().map(|trouble| trouble.fault);
        let over = |fault: Fault| {
            fault.is_absence() || matches!(fault, Fault::Expired | Fault::OutOfPolicy)
        };
        if fault.is_some_and(over) {
            return Some(Observation {
                trouble,
                ..Observation::default()
            });
        }
        Some(Observation { trouble, ..before })
    }
}

/// The same trouble as before lasts since then.
pub(crate) fn trouble(error: ManagerError, before: Option<&Trouble>, now: Timestamp) -> Trouble {
    let since = before
        .filter(|before| before.fault == error.fault)
        .map_or(now, |before| before.since);
    let mut detail = error.detail;
    if detail.len() > MAX_DETAIL {
        let cut = (0..=MAX_DETAIL)
            .rev()
            .find(|at| detail.is_char_boundary(*at));
        detail.truncate(cut.unwrap_or(0));
    }
    Trouble {
        fault: error.fault,
        detail,
        since,
    }
}

const MAX_DETAIL: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::managers::Effect;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn version(text: &str) -> Result<Description, ManagerError> {
        Ok(Description::new(Effect::Pure, Some(text.parse().unwrap())))
    }

    fn fault(fault: Fault) -> Result<Description, ManagerError> {
        Err(ManagerError::new(fault, "…"))
    }

    #[test]
    fn a_new_version_is_kept_and_the_same_one_is_no_news() {
        let mut belief = Belief::default();
        assert!(belief.learn(version("1"), at(1)).is_some());
        assert_eq!(belief.learn(version("1"), at(2)), None);
        let next = belief.learn(version("2"), at(3)).unwrap();
        assert_eq!(next.version.unwrap().as_str(), "2");
    }

    #[test]
    fn trouble_keeps_what_was_known_and_since_when() {
        let mut belief = Belief::default();
        belief.learn(version("1"), at(1));
        let sealed = belief.learn(fault(Fault::Sealed), at(2)).unwrap();
        assert_eq!(sealed.version.as_ref().unwrap().as_str(), "1");
        assert_eq!(sealed.trouble.unwrap().since, at(2));
        assert_eq!(belief.learn(fault(Fault::Sealed), at(3)), None);
        let denied = belief.learn(fault(Fault::Denied), at(4)).unwrap();
        assert_eq!(denied.trouble.unwrap().since, at(4));
        let healed = belief.learn(version("1"), at(5)).unwrap();
        assert_eq!(healed.trouble, None);
    }

    #[test]
    fn absence_is_believed_the_second_time_and_denial_never_is_absence() {
        for gone in [Fault::Missing, Fault::Deleted] {
            let mut belief = Belief::default();
            belief.learn(version("1"), at(1));
            assert_eq!(belief.learn(fault(gone), at(2)), None);
            assert_eq!(belief.learn(version("1"), at(3)), None);
            assert_eq!(belief.learn(fault(gone), at(4)), None);
            let absent = belief.learn(fault(gone), at(5)).unwrap();
            assert_eq!((absent.version, absent.effect), (None, None));
        }
        let mut belief = Belief::default();
        belief.learn(version("1"), at(1));
        for second in 2..9 {
            belief.learn(fault(Fault::NotFoundOrDenied), at(second));
        }
        assert!(belief.known.unwrap().version.is_some());
        // What was never there need not be asked twice.
        assert!(
            Belief::default()
                .learn(fault(Fault::Missing), at(1))
                .is_some()
        );
    }

    #[test]
    fn a_secret_whose_reads_have_a_lease_has_no_version() {
        let mut belief = Belief::default();
        let mut description = Description::new(Effect::Mints, Some("1".parse().unwrap()));
        description.expires_at = Some(at(9));
        let known = belief.learn(Ok(description), at(1)).unwrap();
        assert_eq!((known.version, known.expires_at), (None, None));
        assert_eq!(known.effect, Some(Effect::Mints));
    }

    #[test]
    fn what_was_shared_is_not_read_once_reading_ends_what_is_shared() {
        let mut belief = Belief::default();
        belief.learn(version("1"), at(1));
        let flipped = || Ok(Description::new(Effect::MintsAndInvalidates, None));
        let kept = belief.learn(flipped(), at(2)).unwrap();
        assert_eq!(kept.version.unwrap().as_str(), "1");
        assert_eq!(kept.effect, Some(Effect::Pure));
        assert_eq!(kept.trouble.unwrap().fault, Fault::Exclusive);
        assert_eq!(belief.learn(flipped(), at(3)), None);
        let back = belief.learn(version("2"), at(4)).unwrap();
        assert_eq!(back.trouble, None);
        // What nobody shared yet is for one node from the beginning.
        let fresh = Belief::default().learn(flipped(), at(1)).unwrap();
        assert_eq!(fresh.effect, Some(Effect::MintsAndInvalidates));
    }

    proptest! {
        /// Whatever a manager answers, a version that was known good is given up only for its absence,
        /// its end or the policy, and what is kept is what is believed.
        #[test]
        fn nothing_is_lost_by_trouble(
            answers in prop::collection::vec(prop::option::of(0_usize..FAULTS.len()), 1..40)
        ) {
            let mut belief = Belief::default();
            let mut known = false;
            for (second, answer) in (1..).zip(answers) {
                let result = match answer {
                    None => version("1"),
                    Some(at) => fault(FAULTS[at]),
                };
                let kept = belief.learn(result, at(second));
                if let Some(kept) = &kept {
                    prop_assert_eq!(Some(kept), belief.known.as_ref());
                }
                let now_known = belief.known.as_ref().is_some_and(|known| known.version.is_some());
                if known && !now_known {
                    let fault = FAULTS[answer.unwrap()];
                    prop_assert!(
                        fault.is_absence() || matches!(fault, Fault::Expired | Fault::OutOfPolicy)
                    );
                }
                known = now_known;
            }
        }
    }

    const FAULTS: [Fault; 9] = [
        Fault::Deleted,
        Fault::Denied,
        Fault::Expired,
        Fault::Locked,
        Fault::Malformed,
        Fault::Missing,
        Fault::NotFoundOrDenied,
        Fault::OutOfPolicy,
        Fault::Sealed,
    ];
}
