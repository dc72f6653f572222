//! What a binding resolves to, from what is known of its candidates. Pure.
//!
//! The first candidate that exists decides. One that nobody has asked about yet, or whose manager
//! cannot say, might exist: it is waited for, so that a node never gets the common value for a moment
//! and its own afterwards. What was known good stays, whatever its manager says now short of its
//! absence.

use edge_secrets_protocol::SecretVersion;
use edge_secrets_protocol::binding::SecretState;
use jiff::Timestamp;

use super::records::{LeaseId, LeaseState, Observation, Trouble};
use crate::managers::{Effect, Fault};
use crate::reference::SecretRef;

/// One reference that a name is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The reference, with its field.
    pub reference: SecretRef,
    /// What is known of it.
    pub known: Known,
}

/// What is known of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// The hub's own secret: its version, and when it ends; none where there is no such secret.
    Own(Option<(SecretVersion, Option<Timestamp>)>),
    /// One of a manager's, and the binding's lease where it has one; no observation while nobody has
    /// asked.
    Managed(Option<Observation>, Option<CurrentLease>),
}

/// The lease that is current for a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentLease {
    /// Its number.
    pub id: LeaseId,
    /// Where it is in its life.
    pub state: LeaseState,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
}

/// What a name resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Where it stands, with the manager's version.
    pub state: SecretState,
    /// The reference that decided; absent when no candidate exists.
    pub reference: Option<SecretRef>,
    /// When the value ends.
    pub expires_at: Option<Timestamp>,
    /// What reading it does.
    pub effect: Option<Effect>,
    /// The manager's own name of it.
    pub identity: Option<String>,
    /// What is wrong with it, for operators.
    pub trouble: Option<Trouble>,
    /// The lease whose credential it is.
    pub lease: Option<LeaseId>,
}

impl Resolution {
    fn of(state: SecretState, reference: &SecretRef) -> Self {
        Self {
            state,
            reference: Some(reference.clone()),
            expires_at: None,
            effect: None,
            identity: None,
            trouble: None,
            lease: None,
        }
    }
}

/// Decides between the candidates, the most specific first.
#[must_use]
pub fn resolve(candidates: &[Candidate], now: Timestamp) -> Resolution {
    let mut absent = Resolution {
        state: SecretState::Missing,
        reference: None,
        expires_at: None,
        effect: None,
        identity: None,
        trouble: None,
        lease: None,
    };
    for (at, candidate) in candidates.iter().enumerate() {
        let decided = match &candidate.known {
            Known::Own(own) => own_secret(&candidate.reference, own.as_ref(), now),
            Known::Managed(known, lease) => {
                managed(&candidate.reference, known.as_ref(), lease.as_ref(), now)
            }
        };
        let more = at + 1 < candidates.len();
        match decided {
            // A node's own place that its manager cannot have, or that the hub may not look at: the
            // common one is meant.
            Ok(decided) if more && is_out_of_reach(&decided) => absent.trouble = decided.trouble,
            Ok(decided) => return decided,
            // Of several that are not there, people read of the last: the one that all nodes share.
            Err(trouble) => absent.trouble = trouble,
        }
    }
    if let Some(trouble) = &absent.trouble {
        absent.state = state_of(trouble.fault);
    }
    absent
}

fn is_out_of_reach(decided: &Resolution) -> bool {
    let fault = decided.trouble.as_ref().map(|trouble| trouble.fault);
    let ready = matches!(decided.state, SecretState::Ready { .. });
    !ready && matches!(fault, Some(Fault::Invalid | Fault::OutOfPolicy))
}

fn own_secret(
    reference: &SecretRef,
    own: Option<&(SecretVersion, Option<Timestamp>)>,
    now: Timestamp,
) -> Result<Resolution, Option<Trouble>> {
    let (version, expires_at) = own.ok_or(None)?;
    if let Some(ended) = expires_at.filter(|end| *end <= now) {
        return Ok(expired(reference, ended));
    }
    Ok(Resolution {
        expires_at: *expires_at,
        ..Resolution::of(
            SecretState::Ready {
                version: version.clone(),
            },
            reference,
        )
    })
}

fn managed(
    reference: &SecretRef,
    known: Option<&Observation>,
    lease: Option<&CurrentLease>,
    now: Timestamp,
) -> Result<Resolution, Option<Trouble>> {
    let pending = Resolution::of(SecretState::Pending, reference);
    let Some(known) = known else {
        return Ok(pending);
    };
    let effect = known.effect;
    let trouble = known.trouble.clone();
    if effect.is_some_and(Effect::is_leased) && !gone(known) {
        return Ok(Resolution {
            effect,
            identity: known.identity.clone(),
            ..leased(reference, trouble, lease, now)
        });
    }
    if let Some(version) = &known.version {
        if let Some(ended) = known.expires_at.filter(|end| *end <= now) {
            return Ok(expired(reference, ended));
        }
        return Ok(Resolution {
            expires_at: known.expires_at,
            effect,
            trouble,
            ..Resolution::of(
                SecretState::Ready {
                    version: version.clone(),
                },
                reference,
            )
        });
    }
    let Some(fault) = trouble.as_ref().map(|trouble| trouble.fault) else {
        return Ok(pending);
    };
    if fault.is_absence() || fault == Fault::NotFoundOrDenied {
        return Err(trouble);
    }
    Ok(Resolution {
        trouble,
        ..Resolution::of(state_of(fault), reference)
    })
}

/// Whether the manager said that there is no such secret any more.
fn gone(known: &Observation) -> bool {
    let trouble = known.trouble.as_ref();
    trouble.is_some_and(|trouble| trouble.fault.is_absence())
}

/// A credential is there from the time when it was made until its end.
fn leased(
    reference: &SecretRef,
    trouble: Option<Trouble>,
    lease: Option<&CurrentLease>,
    now: Timestamp,
) -> Resolution {
    let Some(lease) = lease else {
        return Resolution {
            trouble,
            ..Resolution::of(SecretState::Pending, reference)
        };
    };
    let alive = lease.ends_at.is_none_or(|end| end > now);
    let state = match lease.state {
        LeaseState::Live if alive => SecretState::Ready {
            version: lease.id.version(),
        },
        LeaseState::Refused => SecretState::Denied,
        LeaseState::Wanted
        | LeaseState::Minting
        | LeaseState::Dropped
        | LeaseState::Live
        | LeaseState::Ending
        | LeaseState::Ended => SecretState::Pending,
    };
    Resolution {
        expires_at: lease.ends_at.filter(|_| alive),
        lease: Some(lease.id),
        trouble: lease.trouble.clone().or(trouble),
        ..Resolution::of(state, reference)
    }
}

fn expired(reference: &SecretRef, ended: Timestamp) -> Resolution {
    Resolution {
        trouble: Some(Trouble {
            fault: Fault::Expired,
            detail: "it has ended: set a new value".into(),
            since: ended,
        }),
        ..Resolution::of(SecretState::Missing, reference)
    }
}

/// What a node hears of a fault, in its bindings and where it fetches alike.
///
/// That a secret is absent or denied without the manager saying which is a failure: a node that is told
/// `denied` or `missing` lets go of what the deployment before this one delivered, and nobody knows
/// whether it should.
#[must_use]
pub fn state_of(fault: Fault) -> SecretState {
    match fault {
        fault if fault.is_absence() => SecretState::Missing,
        Fault::Expired => SecretState::Missing,
        Fault::Denied | Fault::OutOfPolicy | Fault::Exclusive => SecretState::Denied,
        // Another one is made.
        Fault::LeaseGone => SecretState::Pending,
        fault if fault.is_transient() => SecretState::Pending,
        _ => SecretState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn candidate(reference: &str, known: Known) -> Candidate {
        Candidate {
            reference: reference.parse().unwrap(),
            known,
        }
    }

    fn observed(version: Option<&str>, fault: Option<Fault>) -> Known {
        let observation = Observation {
            effect: version.map(|_| Effect::Pure),
            version: version.map(|version| version.parse().unwrap()),
            trouble: fault.map(trouble),
            ..Observation::default()
        };
        Known::Managed(Some(observation), None)
    }

    fn trouble(fault: Fault) -> Trouble {
        Trouble {
            fault,
            detail: "…".into(),
            since: at(1),
        }
    }

    fn state(candidates: &[Candidate]) -> (SecretState, Option<String>) {
        let resolution = resolve(candidates, at(NOW));
        let reference = resolution.reference.map(|reference| reference.to_string());
        (resolution.state, reference)
    }

    fn ready(version: &str) -> SecretState {
        SecretState::Ready {
            version: version.parse().unwrap(),
        }
    }

    #[test]
    fn the_first_that_exists_decides_and_one_that_may_exist_is_waited_for() {
        let common = || candidate("v:db", observed(Some("7"), None));
        let own = |known| candidate("v:node/n/db", known);
        for (known, expected) in [
            (observed(Some("3"), None), (ready("3"), "v:node/n/db")),
            (observed(None, Some(Fault::Missing)), (ready("7"), "v:db")),
            (observed(None, Some(Fault::Deleted)), (ready("7"), "v:db")),
            (
                observed(None, Some(Fault::NotFoundOrDenied)),
                (ready("7"), "v:db"),
            ),
            (
                Known::Managed(None, None),
                (SecretState::Pending, "v:node/n/db"),
            ),
            (
                observed(None, Some(Fault::Sealed)),
                (SecretState::Pending, "v:node/n/db"),
            ),
            (
                observed(None, Some(Fault::Denied)),
                (SecretState::Denied, "v:node/n/db"),
            ),
            (
                observed(None, Some(Fault::Locked)),
                (SecretState::Failed, "v:node/n/db"),
            ),
            (observed(None, Some(Fault::Invalid)), (ready("7"), "v:db")),
            (
                observed(None, Some(Fault::OutOfPolicy)),
                (ready("7"), "v:db"),
            ),
        ] {
            let (state, reference) = state(&[own(known.clone()), common()]);
            assert_eq!(
                (state, reference.as_deref().unwrap()),
                expected,
                "{known:?}"
            );
        }
    }

    #[test]
    fn what_was_known_good_stays_short_of_its_absence() {
        for fault in [
            Fault::Sealed,
            Fault::Denied,
            Fault::NotFoundOrDenied,
            Fault::Locked,
        ] {
            let known = observed(Some("7"), Some(fault));
            let resolution = resolve(&[candidate("v:db", known)], at(NOW));
            assert_eq!(resolution.state, ready("7"), "{fault}");
            assert_eq!(resolution.trouble.unwrap().fault, fault);
        }
        let absent = [candidate("v:db", observed(None, Some(Fault::Missing)))];
        assert_eq!(state(&absent), (SecretState::Missing, None));
        // Absent or denied, nobody knows: it is called neither.
        let unsaid = [candidate(
            "v:db",
            observed(None, Some(Fault::NotFoundOrDenied)),
        )];
        assert_eq!(state(&unsaid), (SecretState::Failed, None));
    }

    #[test]
    fn what_has_ended_at_its_manager_is_missing() {
        let ended = [candidate("v:db", observed(None, Some(Fault::Expired)))];
        assert_eq!(state(&ended).0, SecretState::Missing);
    }

    #[test]
    fn what_has_ended_is_not_delivered() {
        for (end, expected) in [
            (NOW + 1, ready("1")),
            (NOW, SecretState::Missing),
            (NOW - 1, SecretState::Missing),
        ] {
            let own = Known::Own(Some(("1".parse().unwrap(), Some(at(end)))));
            assert_eq!(state(&[candidate("db", own)]).0, expected);
            let managed = Observation {
                effect: Some(Effect::Pure),
                version: Some("1".parse().unwrap()),
                expires_at: Some(at(end)),
                ..Observation::default()
            };
            let managed = Known::Managed(Some(managed), None);
            assert_eq!(state(&[candidate("v:db", managed)]).0, expected);
        }
    }

    #[test]
    fn a_credential_is_there_from_its_making_to_its_end() {
        let with = |state, ends_at| {
            let observation = Observation {
                effect: Some(Effect::Mints),
                ..Observation::default()
            };
            let lease = CurrentLease {
                id: LeaseId(17),
                state,
                ends_at,
                trouble: None,
            };
            [candidate(
                "v:database/creds/x#password",
                Known::Managed(Some(observation), Some(lease)),
            )]
        };
        for (lease, ends_at, expected) in [
            (LeaseState::Wanted, None, SecretState::Pending),
            (LeaseState::Minting, None, SecretState::Pending),
            (LeaseState::Live, Some(NOW + 1), ready("lease-17")),
            (LeaseState::Live, Some(NOW), SecretState::Pending),
            (LeaseState::Ending, Some(NOW + 1), SecretState::Pending),
            (LeaseState::Refused, None, SecretState::Denied),
        ] {
            assert_eq!(
                state(&with(lease, ends_at.map(at))).0,
                expected,
                "{lease:?}"
            );
        }
    }
}
