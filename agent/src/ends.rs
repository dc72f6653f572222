//! When values end. The hub says how long each still has to live, and its answer may be slow: a life
//! is counted from when the answer was asked for, so that it is never longer here than the hub meant.

use std::collections::BTreeMap;
use std::time::Duration;

use edge_secrets_protocol::binding::{Bindings, BoundSecret, DifferenceError, SecretState};
use edge_secrets_protocol::{DeploymentId, Generation, SecretName, SecretVersion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{BootTime, Now};

/// When a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// By the clock that counts.
    #[serde(rename = "boot_ms")]
    pub(crate) at: BootTime,
    /// By the wall clock, for people.
    pub(crate) until: Timestamp,
}

/// The ends of a deployment's values; those that are not named have none.
pub(crate) type Ends = BTreeMap<SecretName, End>;

/// What a node should have, with moments of its own clock in place of the lives that stood there: kept
/// and compared, it says the same at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    bindings: Bindings,
    ends: BTreeMap<DeploymentId, Ends>,
}

impl Desired {
    /// Takes an answer that was asked for at `asked`.
    #[must_use]
    pub fn new(mut bindings: Bindings, asked: Now) -> Self {
        let mut ends = BTreeMap::new();
        for deployment in &mut bindings.deployments {
            let mut own = Ends::new();
            for secret in &mut deployment.secrets {
                if let Some(end) = End::of(secret, asked) {
                    own.insert(secret.name.clone(), end);
                }
                (secret.expires_in_ms, secret.expires_at) = (None, None);
            }
            if !own.is_empty() {
                ends.insert(deployment.id.clone(), own);
            }
        }
        Self { bindings, ends }
    }

    /// The deployments, without a word of when their values end.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    pub(crate) fn ends(&self) -> &BTreeMap<DeploymentId, Ends> {
        &self.ends
    }

    /// As a hub would tell it at `now`: with the lives that values still have.
    pub(crate) fn told_at(&self, now: Now) -> Bindings {
        let mut bindings = self.bindings.clone();
        for deployment in &mut bindings.deployments {
            let Some(ends) = self.ends.get(&deployment.id) else {
                continue;
            };
            for secret in &mut deployment.secrets {
                if let Some(end) = ends.get(&secret.name) {
                    let left = end.at.since(now.boot).as_millis();
                    secret.expires_in_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
                    secret.expires_at = Some(end.until);
                }
            }
        }
        bindings
    }

    /// Lets a name have the version, and the end, that it had in a deployment of `before`.
    pub(crate) fn keep_version(
        &mut self,
        id: &DeploymentId,
        name: &SecretName,
        version: &SecretVersion,
        before: (&Self, &DeploymentId),
    ) {
        let deployments = self.bindings.deployments.iter_mut().filter(|d| d.id == *id);
        for secret in deployments.flat_map(|deployment| &mut deployment.secrets) {
            if secret.name == *name {
                let version = version.clone();
                secret.state = SecretState::Ready { version };
            }
        }
        let (before, former) = before;
        let end = before.ends.get(former).and_then(|ends| ends.get(name));
        let own = self.ends.entry(id.clone()).or_default();
        match end {
            Some(end) => own.insert(name.clone(), *end),
            None => own.remove(name),
        };
        self.ends.retain(|_, ends| !ends.is_empty());
    }

    /// Calls it another generation.
    pub(crate) fn is_of(&mut self, generation: Generation) {
        self.bindings.generation = generation;
    }

    /// As [`Bindings::onto`]: what is unchanged ends when it was to end.
    ///
    /// # Errors
    /// When this is a difference to something else than `base`.
    pub fn onto(self, base: &Self) -> Result<Self, DifferenceError> {
        let mut ends = self.ends;
        for id in &self.bindings.unchanged {
            if let Some(own) = base.ends.get(id) {
                ends.insert(id.clone(), own.clone());
            }
        }
        let bindings = self.bindings.onto(&base.bindings)?;
        Ok(Self { bindings, ends })
    }
}

impl End {
    /// Whether it is reached.
    pub(crate) fn is_over(self, now: BootTime) -> bool {
        self.at <= now
    }

    /// Whether both are one end that was told twice: answers take longer or shorter.
    pub(crate) fn is_about(self, other: Self) -> bool {
        let (early, late) = (self.at.min(other.at), self.at.max(other.at));
        late.since(early) <= TOLERANCE
    }

    fn of(secret: &BoundSecret, asked: Now) -> Option<Self> {
        if !matches!(secret.state, SecretState::Ready { .. }) {
            return None;
        }
        let life = match (secret.expires_in_ms, secret.expires_at) {
            (Some(millis), _) => Duration::from_millis(millis),
            // What has passed has no positive duration.
            (None, Some(until)) => asked
                .wall
                .duration_until(until)
                .try_into()
                .unwrap_or_default(),
            (None, None) => return None,
        };
        let until = || asked.wall.checked_add(life).unwrap_or(Timestamp::MAX);
        Some(Self {
            at: asked.boot.after(life),
            until: secret.expires_at.unwrap_or_else(until),
        })
    }
}

/// How far two tellings of one end lie apart at most.
const TOLERANCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::Generation;
    use proptest::prelude::*;

    use super::*;
    use crate::hub::fake::deployment;

    fn asked() -> Now {
        Now {
            wall: "2026-01-01T00:00:00Z".parse().unwrap(),
            boot: BootTime::LONG_AGO.after(Duration::from_secs(1000)),
        }
    }

    fn end(expires_in_ms: Option<u64>, expires_at: Option<&str>) -> Option<End> {
        let mut secret = deployment("d1", "svc", &[("cred", "1")]).secrets.remove(0);
        secret.expires_in_ms = expires_in_ms;
        secret.expires_at = expires_at.map(|at| at.parse().unwrap());
        End::of(&secret, asked())
    }

    #[test]
    fn what_is_left_counts_whatever_the_wall_clocks_say() {
        let wrong = "1999-01-01T00:00:00Z";
        let end = end(Some(5_000), Some(wrong)).unwrap();
        assert_eq!(end.at.since(asked().boot), Duration::from_secs(5));
        assert_eq!(
            end.until,
            wrong.parse().unwrap(),
            "people are told the hub's"
        );
        assert!(!end.is_over(asked().boot.after(Duration::from_millis(4_999))));
        assert!(end.is_over(end.at));
    }

    #[test]
    fn a_hub_that_says_a_time_alone_is_taken_by_the_wall_clock() {
        let soon = end(None, Some("2026-01-01T00:00:07Z")).unwrap();
        assert_eq!(soon.at.since(asked().boot), Duration::from_secs(7));
        let past = end(None, Some("2025-12-31T23:59:59Z")).unwrap();
        assert!(past.is_over(asked().boot));
        assert_eq!(end(None, None), None);
    }

    #[test]
    fn people_are_told_a_time_in_any_case() {
        let end = end(Some(90_000), None).unwrap();
        assert_eq!(end.until, "2026-01-01T00:01:30Z".parse().unwrap());
    }

    #[test]
    fn what_is_not_there_has_no_end() {
        let mut secret = deployment("d1", "svc", &[("cred", "1")]).secrets.remove(0);
        secret.expires_in_ms = Some(1);
        secret.state = SecretState::Pending;
        assert_eq!(End::of(&secret, asked()), None);
    }

    #[test]
    fn the_same_end_told_twice_is_one() {
        let one = |seconds| End {
            at: BootTime::LONG_AGO.after(Duration::from_secs(seconds)),
            until: Timestamp::UNIX_EPOCH,
        };
        assert!(one(10).is_about(one(12)) && one(12).is_about(one(10)));
        assert!(!one(10).is_about(one(13)) && !one(13).is_about(one(10)));
    }

    #[test]
    fn what_is_unchanged_ends_when_it_was_to_end() {
        let lease = |id: &str, ms| {
            let mut deployment = deployment(id, id, &[("cred", "1")]);
            deployment.secrets[0].expires_in_ms = Some(ms);
            deployment
        };
        let whole = Bindings {
            generation: Generation(1),
            deployments: vec![lease("a", 1_000), lease("b", 1_000), lease("c", 1_000)],
            ..Bindings::default()
        };
        let base = Desired::new(whole, asked());
        let difference = Bindings {
            generation: Generation(2),
            deployments: vec![lease("b", 1_000)],
            since: Some(Generation(1)),
            unchanged: vec!["a".parse().unwrap()],
        };
        let mut later = asked();
        later.boot = later.boot.after(Duration::from_secs(60));
        let next = Desired::new(difference.clone(), later).onto(&base).unwrap();
        let left: Vec<_> = next
            .ends()
            .iter()
            .map(|(id, ends)| {
                let end = ends.values().next().unwrap();
                (id.as_str(), end.at.since(asked().boot).as_secs())
            })
            .collect();
        assert_eq!(left, [("a", 1), ("b", 61)]);
        assert!(Desired::new(difference, later).onto(&next).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_has_an_end_that_is_not_before_it_was_asked_for(
            life in any::<u64>(),
            at in any::<bool>(),
            wall in any::<i32>(),
        ) {
            let mut secret = deployment("d1", "svc", &[("cred", "1")]).secrets.remove(0);
            let until = Timestamp::from_second(wall.into()).unwrap();
            secret.expires_at = at.then_some(until);
            secret.expires_in_ms = Some(life);
            let end = End::of(&secret, asked()).unwrap();
            prop_assert!(end.at >= asked().boot);
            secret.expires_in_ms = None;
            if let Some(end) = End::of(&secret, asked()) {
                prop_assert_eq!(end.is_over(asked().boot), until <= asked().wall);
            }
        }
    }
}
