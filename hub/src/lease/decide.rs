//! What is to be done with one lease now. Pure: what it depends on is said.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::catalog::records::{LeaseRecord, LeaseState};
use crate::clock::SLEWED;
use crate::managers::gate::MAX_PAUSE;
use crate::managers::{Effect, Fault};

/// A lease and all that decides over it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) lease: &'a LeaseRecord,
    /// What reading the secret does, as far as it is known now.
    pub(super) effect: Effect,
    pub(super) now: Timestamp,
    /// The node watches this hub.
    pub(super) present: bool,
    /// What leases hang on at the manager now, where they do.
    pub(super) epoch: Option<&'a str>,
    /// Another lease of the same place that is wanted, being made or live.
    pub(super) successor: Option<&'a LeaseRecord>,
    /// The node may still read this credential, as far as its reports say.
    pub(super) in_use: bool,
    /// There is one credential at a time, and another one has not died yet.
    pub(super) taken: bool,
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until then or until something happens.
    Wait(Option<Timestamp>),
    /// Make the credential.
    Mint,
    /// Make it live longer.
    Renew,
    /// Have another one made beside it.
    Supersede,
    /// It cannot be used any more: have another one made, and see that it is dead.
    Replace,
    /// End it at its manager.
    Revoke,
    /// It is dead: nothing is to be done at its manager.
    Bury,
}

/// Decides. Failures in a row are waited out, longer each time.
pub(super) fn decide(situation: Situation<'_>) -> Step {
    let Situation { lease, now, .. } = situation;
    let over = lease.ends_at.is_some_and(|end| end <= now);
    match lease.state {
        LeaseState::Wanted => match patience(lease) {
            _ if !situation.present || situation.taken => Step::Wait(None),
            Some(until) if until > now => Step::Wait(Some(until)),
            _ => Step::Mint,
        },
        // Being made: whoever makes it says how it went.
        LeaseState::Minting | LeaseState::Dropped | LeaseState::Refused | LeaseState::Ended => {
            Step::Wait(None)
        }
        LeaseState::Live if lease.current && over => Step::Replace,
        LeaseState::Live if lease.current => current(situation),
        // Once more to its manager, also past its end: the clock may have been set.
        LeaseState::Live if over => Step::Revoke,
        LeaseState::Live => superseded(situation),
        // It was tried, or its manager is left alone.
        LeaseState::Ending if is_dead(lease, now) && lease.trouble.is_some() => Step::Bury,
        LeaseState::Ending => match patience(lease) {
            Some(until) if until > now => Step::Wait(Some(until)),
            _ => Step::Revoke,
        },
    }
}

/// After a failure: when to try again.
pub(super) fn patience(lease: &LeaseRecord) -> Option<Timestamp> {
    let trouble = lease.trouble.as_ref()?;
    let last = trouble.since;
    let doubled = lease.attempts.saturating_sub(1).min(9);
    let most = match trouble.fault.is_of_the_manager() {
        // Its gate keeps calls from it for all: a lease need not wait longer than that.
        true => MAX_PAUSE,
        false => MAX_WAIT,
    };
    let mut wait = Duration::from_secs(1 << doubled).min(most);
    if trouble.fault == Fault::OutcomeUnknown && lease.attempts > 1 {
        // Each try may leave a credential behind that nobody has.
        wait = MAX_WAIT;
    }
    (lease.attempts > 0).then(|| after(last, wait.mul_f64(1.0 + spread(lease))))
}

/// The credential that the node is to use, while it lives.
fn current(situation: Situation<'_>) -> Step {
    let Situation { lease, now, .. } = situation;
    if situation.successor.is_some() {
        // Its successor takes its place, or its end comes.
        return Step::Wait(lease.ends_at);
    }
    let foreign = lease.epoch.as_deref().zip(situation.epoch);
    if foreign.is_some_and(|(own, present)| own != present) && situation.present {
        return Step::Supersede;
    }
    let Some(due) = due(lease, situation.effect) else {
        return Step::Wait(None);
    };
    // It began in the future: the clock was set back, and nobody knows how old it is.
    let unknown = lease
        .granted_at
        .is_some_and(|at| at.duration_since(now) > SLEWED);
    if now < due && !unknown {
        return Step::Wait(Some(due));
    }
    // Nobody reports in: what it has, it has until its end.
    if !situation.present {
        return Step::Wait(lease.ends_at);
    }
    match patience(lease) {
        Some(until) if until > now => Step::Wait(Some(until)),
        _ if lease.renewable => Step::Renew,
        _ if situation.effect == Effect::Exclusive && unknown => Step::Replace,
        // To take once more what is taken gives nothing: it is given back at its end, and taken then.
        _ if situation.effect == Effect::Exclusive => Step::Wait(lease.ends_at),
        _ => Step::Supersede,
    }
}

/// A credential that has a successor, or that nobody wants any more.
fn superseded(situation: Situation<'_>) -> Step {
    let Situation { lease, .. } = situation;
    match situation.successor {
        // Make before break: until the node has the new one it keeps the old one.
        Some(next) if next.state != LeaseState::Live => Step::Wait(lease.ends_at),
        Some(_) if situation.in_use => Step::Wait(lease.ends_at),
        _ => Step::Revoke,
    }
}

/// When a live credential is to be renewed or replaced: after two thirds of its life; where the old
/// one dies with the new one's making, after four fifths.
fn due(lease: &LeaseRecord, effect: Effect) -> Option<Timestamp> {
    let (granted, ends) = (lease.granted_at?, lease.ends_at?);
    let life = Duration::try_from(ends.duration_since(granted)).unwrap_or_default();
    let share = if effect.makes_before_breaking() || lease.renewable {
        2.0 / 3.0
    } else {
        0.8
    };
    // Not all at once that were made at once; the same for one lease however often it is asked.
    Some(after(granted, life.mul_f64(share * (1.0 - spread(lease)))))
}

/// Whether a credential is dead of itself, as its manager may see it: a renewal whose answer was lost
/// may have made it live once more as long.
fn is_dead(lease: &LeaseRecord, now: Timestamp) -> bool {
    let Some(ends) = lease.ends_at else {
        return false;
    };
    let life = lease
        .granted_at
        .filter(|_| lease.renewable)
        .map(|granted| Duration::try_from(ends.duration_since(granted)).unwrap_or_default());
    after(ends, life.unwrap_or_default()) <= now
}

/// Up to a tenth: the same for one lease however often it is asked, and another for each.
fn spread(lease: &LeaseRecord) -> f64 {
    (lease.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as f64 / 256.0 * 0.1
}

/// So long after `start`; the end of time at the latest.
pub(super) fn after(start: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    start.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Longest time between two tries.
const MAX_WAIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
