use proptest::prelude::*;

use super::*;
use crate::catalog::records::{LeaseId, LeasePlace, Trouble};
use crate::managers::{Fault, LeaseHandle};

const START: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn lease(state: LeaseState) -> LeaseRecord {
    let made = !matches!(state, LeaseState::Wanted | LeaseState::Refused);
    LeaseRecord {
        id: LeaseId(1),
        place: LeasePlace {
            org: "o".parse().unwrap(),
            node: "n".parse().unwrap(),
            deployment: "d".parse().unwrap(),
            reference: "v:database/creds/x".parse().unwrap(),
        },
        identity: None,
        enrolled_at: None,
        current: true,
        state,
        handle: made.then(|| LeaseHandle::new("h").unwrap()),
        epoch: Some("one".into()),
        renewable: true,
        granted_at: made.then(|| at(0)),
        ends_at: made.then(|| at(300)),
        attempts: 0,
        trouble: None,
        created_at: at(0),
    }
}

fn situation(lease: &LeaseRecord, second: i64) -> Situation<'_> {
    Situation {
        lease,
        effect: Effect::Mints,
        now: at(second),
        present: true,
        epoch: Some("one"),
        successor: None,
        in_use: false,
        taken: false,
    }
}

/// What is done at each of these seconds.
fn steps(lease: &LeaseRecord, seconds: &[i64]) -> Vec<Step> {
    let step = |second| decide(situation(lease, second));
    seconds.iter().copied().map(step).collect()
}

#[test]
fn a_credential_is_made_when_its_node_is_there() {
    let wanted = lease(LeaseState::Wanted);
    assert_eq!(decide(situation(&wanted, 0)), Step::Mint);
    let absent = Situation {
        present: false,
        ..situation(&wanted, 0)
    };
    assert_eq!(decide(absent), Step::Wait(None));
    // Where there is one at a time, the old one dies first: else its end would be the new one's.
    let taken = Situation {
        taken: true,
        ..situation(&wanted, 0)
    };
    assert_eq!(decide(taken), Step::Wait(None));
}

#[test]
fn what_is_taken_is_made_longer_or_given_back_and_never_taken_twice() {
    let mut taken = lease(LeaseState::Live);
    let at_its_due = |taken: &LeaseRecord| {
        decide(Situation {
            effect: Effect::Exclusive,
            ..situation(taken, 299)
        })
    };
    assert_eq!(at_its_due(&taken), Step::Renew);
    taken.renewable = false;
    assert_eq!(at_its_due(&taken), Step::Wait(Some(at(300))));
    let over = Situation {
        effect: Effect::Exclusive,
        ..situation(&taken, 300)
    };
    assert_eq!(decide(over), Step::Replace);
}

#[test]
fn one_that_began_in_the_future_is_of_unknown_age_and_seen_to_at_once() {
    let live = lease(LeaseState::Live);
    assert_eq!(decide(situation(&live, -6)), Step::Renew);
    assert_eq!(decide(situation(&live, -86_400)), Step::Renew);
    assert!(matches!(decide(situation(&live, -4)), Step::Wait(Some(_))));
    let fixed = LeaseRecord {
        renewable: false,
        ..live.clone()
    };
    assert_eq!(decide(situation(&fixed, -86_400)), Step::Supersede);
    let taken = Situation {
        effect: Effect::Exclusive,
        ..situation(&fixed, -86_400)
    };
    assert_eq!(decide(taken), Step::Replace);
    // Whoever is away asks anew when it is back.
    let absent = Situation {
        present: false,
        ..situation(&live, -86_400)
    };
    assert_eq!(decide(absent), Step::Wait(live.ends_at));
}

#[test]
fn a_live_one_is_renewed_after_two_thirds_while_its_node_is_there() {
    let live = lease(LeaseState::Live);
    let [early, due, over] = steps(&live, &[100, 201, 300])[..] else {
        unreachable!()
    };
    let Step::Wait(Some(when)) = early else {
        panic!("{early:?}")
    };
    assert!(when > at(170) && when <= at(200), "{when}");
    assert_eq!((due, over), (Step::Renew, Step::Replace));
    let absent = Situation {
        present: false,
        ..situation(&live, 201)
    };
    assert_eq!(decide(absent), Step::Wait(Some(at(300))));
}

#[test]
fn one_that_cannot_be_renewed_is_followed_by_another() {
    let mut live = lease(LeaseState::Live);
    live.renewable = false;
    assert_eq!(decide(situation(&live, 201)), Step::Supersede);
    // Where the new one's making ends the old one, it is left for longer.
    let breaking = |second| {
        decide(Situation {
            effect: Effect::MintsAndInvalidates,
            ..situation(&live, second)
        })
    };
    assert!(matches!(breaking(201), Step::Wait(Some(_))));
    assert_eq!(breaking(241), Step::Supersede);
}

#[test]
fn what_hung_on_another_token_is_replaced_at_once() {
    let live = lease(LeaseState::Live);
    let other = Situation {
        epoch: Some("two"),
        ..situation(&live, 10)
    };
    assert_eq!(decide(other), Step::Supersede);
}

#[test]
fn the_old_one_lives_until_its_node_has_the_new_one() {
    let mut old = lease(LeaseState::Live);
    old.current = false;
    let mut next = lease(LeaseState::Wanted);
    next.id = LeaseId(2);
    let with = |next: &LeaseRecord, in_use| {
        decide(Situation {
            successor: Some(next),
            in_use,
            ..situation(&old, 210)
        })
    };
    assert_eq!(with(&next, true), Step::Wait(Some(at(300))));
    let next = LeaseRecord {
        id: LeaseId(2),
        ..lease(LeaseState::Live)
    };
    assert_eq!(with(&next, true), Step::Wait(Some(at(300))));
    assert_eq!(with(&next, false), Step::Revoke);
    assert_eq!(decide(situation(&old, 300)), Step::Revoke);
}

#[test]
fn what_fails_is_tried_again_later_and_later_until_its_end() {
    let mut ending = lease(LeaseState::Ending);
    ending.ends_at = Some(at(10_000));
    for (fault, attempts, wait) in [
        (Fault::Failed, 1, 1),
        (Fault::Failed, 2, 2),
        (Fault::Failed, 3, 4),
        (Fault::Failed, 9, 256),
        (Fault::Failed, 10, 300),
        (Fault::Failed, 40, 300),
        // Of the manager as a whole: its gate keeps calls from it already.
        (Fault::Unreachable, 3, 4),
        (Fault::Unreachable, 9, 60),
        (Fault::RateLimited, 40, 60),
    ] {
        ending.attempts = attempts;
        ending.trouble = Some(Trouble {
            fault,
            detail: "…".into(),
            since: at(100),
        });
        // And up to a tenth longer, not the same for all.
        let [early, late] = steps(&ending, &[100 + wait - 1, 100 + wait + wait / 10 + 1])[..]
        else {
            unreachable!()
        };
        assert!(
            matches!(early, Step::Wait(Some(_))),
            "{attempts}: {early:?}"
        );
        assert_eq!(late, Step::Revoke, "{attempts}");
    }
    ending.renewable = false;
    assert_eq!(decide(situation(&ending, 10_000)), Step::Bury);
    // Also when its manager was left alone all the time; and not without a try, should the clock lie.
    ending.attempts = 0;
    assert_eq!(decide(situation(&ending, 10_000)), Step::Bury);
    ending.trouble = None;
    assert_eq!(decide(situation(&ending, 10_000)), Step::Revoke);
}

#[test]
fn what_may_have_been_renewed_is_tried_until_it_must_be_dead() {
    let mut ending = lease(LeaseState::Ending);
    ending.attempts = 1;
    ending.trouble = Some(Trouble {
        fault: Fault::Unreachable,
        detail: "…".into(),
        since: at(290),
    });
    // It was to end at 300, and lives to 600 if the answer to a renewal was lost just before that.
    assert_eq!(
        steps(&ending, &[300, 599, 600]),
        [Step::Revoke, Step::Revoke, Step::Bury]
    );
}

proptest! {
    /// Whatever the situation: nothing is made for an absent node, nothing is left alone past its end,
    /// a wait is never for the past, and a current credential within its first half is not touched
    /// while its token is the same.
    #[test]
    fn decisions_are_safe(
        state in prop::sample::select(vec![
            LeaseState::Wanted, LeaseState::Live, LeaseState::Ending, LeaseState::Refused,
        ]),
        current: bool, present: bool, renewable: bool, in_use: bool, same: bool, followed: bool,
        attempts in 0_u32..20, second in 0_i64..700, failed in 0_i64..400, id in 0_u64..1_000,
    ) {
        let mut lease = lease(state);
        lease.id = LeaseId(id);
        lease.current = current;
        lease.renewable = renewable;
        lease.attempts = attempts;
        lease.trouble = (attempts > 0).then(|| Trouble {
            fault: Fault::TimedOut,
            detail: String::new(),
            since: at(failed.min(second)),
        });
        let next = LeaseRecord { id: LeaseId(id + 1), ..super::tests::lease(LeaseState::Live) };
        let step = decide(Situation {
            present,
            in_use,
            epoch: Some(if same { "one" } else { "two" }),
            successor: followed.then_some(&next),
            ..situation(&lease, second)
        });
        if step == Step::Mint {
            prop_assert!(present && state == LeaseState::Wanted);
        }
        if let Step::Wait(Some(until)) = step {
            prop_assert!(until > at(second), "{step:?}");
        }
        let over = second >= 300;
        let tried_again = state == LeaseState::Ending && renewable && attempts > 0;
        if over && matches!(state, LeaseState::Live | LeaseState::Ending) && !tried_again {
            prop_assert!(
                matches!(step, Step::Replace | Step::Bury | Step::Revoke),
                "{step:?}"
            );
        }
        if step == Step::Bury {
            prop_assert!(second >= if renewable { 600 } else { 300 }, "{step:?}");
        }
        if state == LeaseState::Live && current && second < 150 && same {
            prop_assert!(matches!(step, Step::Wait(Some(_))), "{step:?}");
        }
    }
}
