//! Check-outs.

use std::time::Duration;

use edge_secrets_fakes::secret_server::{HUB_USER, OTHER_USER, Stored};
use edge_secrets_fakes::{Fault as Trick, Request};

use super::{Allow, PASSWORD, Pim, fault, field, login, with_one};
use crate::{Effect, Fault, SecretManager};

const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

async fn exclusive(change: impl FnOnce(&mut Stored)) -> (Pim, u64) {
    let (mut fake, id) = with_one(&login());
    fake.secret(id).checkout = Some(HALF_AN_HOUR);
    change(fake.secret(id));
    let allow = Allow {
        comment: Some("edge delivery"),
        checkout: true,
    };
    (Pim::allowing(fake, allow).await, id)
}

fn holder(pim: &Pim, id: u64) -> Option<i64> {
    pim.server
        .with(|fake| fake.secret(id).checked_out.map(|(user, _)| user))
}

#[tokio::test]
async fn a_secret_is_taken_read_and_given_back() {
    let (pim, id) = exclusive(|secret| secret.changes_at_check_in = true).await;
    let described = pim.describe("Team/db").await.unwrap();
    assert_eq!(
        (described.effect, described.version),
        (Effect::Exclusive, None)
    );
    assert_eq!(described.ttl, Some(HALF_AN_HOUR));
    let minted = pim.mint("Team/db").await.unwrap();
    assert_eq!(field(&minted.payload, "password"), PASSWORD);
    // The manager counts whole minutes.
    let minutes = |count: u64| Duration::from_secs(count * 60 - 30);
    assert!(
        (minutes(29)..=minutes(30)).contains(&minted.term.duration),
        "{:?}",
        minted.term
    );
    assert_eq!(holder(&pim, id), Some(HUB_USER));
    assert!(minted.handle.as_str().contains(&format!("\"id\":{id}")));
    pim.manager.revoke(&minted.handle).await.unwrap();
    assert_eq!(holder(&pim, id), None);
    // The value is dead from here on.
    let current = pim.server.with(|fake| fake.secret(id).items[1].shown());
    assert_ne!(current, PASSWORD);
    assert_eq!(pim.calls("/check-in"), 1);
    pim.manager.revoke(&minted.handle).await.unwrap();
    assert_eq!(pim.calls("/check-in"), 1);
}

#[tokio::test]
async fn a_comment_comes_before_the_check_out() {
    let (pim, _) = exclusive(|secret| secret.wants_comment = true).await;
    let minted = pim.mint("Team/db").await.unwrap();
    assert_eq!(field(&minted.payload, "password"), PASSWORD);
    let order: Vec<_> = pim.server.log.calls();
    let at = |end: &str| {
        order
            .iter()
            .position(|call| call.path.ends_with(end))
            .unwrap()
    };
    assert!(at("/view-comment") < at("/check-out") && at("/check-out") < at("/restricted"));
}

#[tokio::test]
async fn what_is_not_checked_out_is_read_and_the_other_way_round() {
    let (fake, _) = with_one(&login());
    let pim = Pim::start(fake).await;
    assert_eq!(fault(pim.mint("Team/db").await), Fault::Unsupported);
    assert_eq!(pim.calls("/check-out"), 0);
    let (pim, _) = exclusive(|_| {}).await;
    let reference = super::reference("Team/db");
    let read = pim
        .manager
        .read(pim.target(&reference), &"s0".parse().unwrap())
        .await;
    assert_eq!(fault(read), Fault::NeedsCheckout);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_next_one_finds_the_secret_taken() {
    let (pim, id) = exclusive(|_| {}).await;
    let taking = |request: &Request| request.path.ends_with("/check-out");
    for trick in [Trick::LoseAnswer, Trick::Html, Trick::Truncated] {
        let before = pim.server.with(|fake| {
            fake.secret(id).checked_out = None;
            fake.checkouts
        });
        pim.server.faults.next(1, taking, trick.clone());
        assert_eq!(
            fault(pim.mint("Team/db").await),
            Fault::OutcomeUnknown,
            "{trick:?}"
        );
        pim.mint("Team/db").await.unwrap();
        assert_eq!(
            pim.server.with(|fake| fake.checkouts),
            before + 1,
            "{trick:?}"
        );
    }
}

#[tokio::test]
async fn what_was_taken_and_cannot_be_read_is_given_back() {
    let (pim, id) = exclusive(|_| {}).await;
    let path = format!("/secrets/{id}");
    let reading = move |request: &Request| request.path.ends_with(&path);
    pim.server.faults.when(reading, Trick::WrongTypes);
    assert_eq!(fault(pim.mint("Team/db").await), Fault::Malformed);
    assert_eq!((holder(&pim, id), pim.calls("/check-in")), (None, 1));
    // And where that cannot be done either, nobody knows.
    let giving = |request: &Request| request.path.ends_with("/check-in");
    pim.server.faults.when(giving, Trick::Drop);
    assert_eq!(fault(pim.mint("Team/db").await), Fault::OutcomeUnknown);
}

#[tokio::test]
async fn an_old_lease_does_not_end_a_new_one() {
    let (pim, id) = exclusive(|_| {}).await;
    let old = pim.mint("Team/db").await.unwrap();
    pim.server.clock.advance(HALF_AN_HOUR);
    let new = pim.mint("Team/db").await.unwrap();
    pim.manager.revoke(&old.handle).await.unwrap();
    assert_eq!(holder(&pim, id), Some(HUB_USER));
    let renewed = pim.manager.renew(&old.handle, HALF_AN_HOUR).await;
    assert_eq!(fault(renewed), Fault::LeaseGone);
    pim.manager.revoke(&new.handle).await.unwrap();
    assert_eq!(holder(&pim, id), None);
}

#[tokio::test]
async fn what_somebody_else_has_now_is_left_alone() {
    let (pim, id) = exclusive(|_| {}).await;
    let minted = pim.mint("Team/db").await.unwrap();
    let until = pim.server.clock.now() + HALF_AN_HOUR;
    pim.server
        .with(|fake| fake.secret(id).checked_out = Some((OTHER_USER, until)));
    let renewed = pim.manager.renew(&minted.handle, HALF_AN_HOUR).await;
    assert_eq!(fault(renewed), Fault::LeaseGone);
    pim.manager.revoke(&minted.handle).await.unwrap();
    assert_eq!(
        (holder(&pim, id), pim.calls("/check-in")),
        (Some(OTHER_USER), 0)
    );
}

#[tokio::test]
async fn a_check_out_that_cannot_be_extended_keeps_its_end() {
    let (pim, _) = exclusive(|_| {}).await;
    pim.server.with(|fake| fake.extendable = false);
    let minted = pim.mint("Team/db").await.unwrap();
    pim.server.clock.advance(Duration::from_secs(10 * 60));
    let term = pim
        .manager
        .renew(&minted.handle, HALF_AN_HOUR)
        .await
        .unwrap();
    assert!(
        !term.renewable && term.duration < Duration::from_secs(20 * 60),
        "{term:?}"
    );
}

#[tokio::test]
async fn handles_of_others_are_refused() {
    let (pim, _) = exclusive(|_| {}).await;
    let handle = crate::LeaseHandle::new("database/creds/x/1").unwrap();
    assert_eq!(fault(pim.manager.revoke(&handle).await), Fault::Invalid);
    assert_eq!(
        fault(pim.manager.renew(&handle, HALF_AN_HOUR).await),
        Fault::Invalid
    );
}
