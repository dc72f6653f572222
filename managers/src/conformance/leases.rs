//! Leases: made once, renewed, and dead when they are revoked.

use std::time::Duration;

use super::World;
use crate::{Fault, Target};

pub(super) async fn run<W: World, F: AsyncFn() -> W>(make: &F) {
    if make().await.leased().is_none() {
        return;
    }
    every_mint_is_its_own(&make().await).await;
    a_revoked_lease_is_dead_for_good(&make().await).await;
    a_renewal_reaches_further_or_says_that_it_cannot(&make().await).await;
    an_unknown_outcome_is_said(&make().await).await;
}

async fn every_mint_is_its_own(world: &impl World) {
    let (reference, effect) = world.leased().expect("a leased secret");
    let (org, manager) = (world.org(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let before = world.minted();
    let first = manager.mint(target).await.expect("a credential");
    assert!(first.term.duration > Duration::ZERO);
    assert_eq!(world.minted(), before.map(|count| count + 1));
    assert_ne!(world.works(&first.payload).await, Some(false));
    if effect == crate::Effect::Exclusive {
        return;
    }
    let second = manager.mint(target).await.expect("another one");
    assert!(first.payload.expose() != second.payload.expose());
    assert_ne!(first.handle, second.handle);
    assert_ne!(world.works(&second.payload).await, Some(false));
    if !effect.makes_before_breaking() {
        assert_ne!(world.works(&first.payload).await, Some(true));
    } else {
        assert_ne!(world.works(&first.payload).await, Some(false));
    }
}

async fn a_revoked_lease_is_dead_for_good(world: &impl World) {
    let (reference, _) = world.leased().expect("a leased secret");
    let (org, manager) = (world.org(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let minted = manager.mint(target).await.expect("a credential");
    manager.revoke(&minted.handle).await.expect("revoked");
    assert_ne!(world.works(&minted.payload).await, Some(true));
    manager.revoke(&minted.handle).await.expect("again");
    let renewed = manager.renew(&minted.handle, Duration::from_secs(60)).await;
    let fault = renewed.expect_err("nothing to renew").fault;
    assert!(matches!(fault, Fault::LeaseGone | Fault::Unsupported));
}

async fn a_renewal_reaches_further_or_says_that_it_cannot(world: &impl World) {
    let (reference, _) = world.leased().expect("a leased secret");
    let (org, manager) = (world.org(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let minted = manager.mint(target).await.expect("a credential");
    if !world.advance(minted.term.duration / 2) {
        return;
    }
    let renewed = manager.renew(&minted.handle, minted.term.duration).await;
    match renewed {
        Ok(term) => assert!(minted.term.renewable && term.duration > minted.term.duration / 2),
        Err(error) => {
            assert_eq!(error.fault, Fault::Unsupported, "{error}");
            assert!(!minted.term.renewable);
        }
    }
}

/// An answer that is lost after the credential was made.
async fn an_unknown_outcome_is_said(world: &impl World) {
    let (reference, _) = world.leased().expect("a leased secret");
    let (org, manager) = (world.org(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    manager.mint(target).await.map(drop).expect("a credential");
    if !world.lose_mint() {
        return;
    }
    let error = manager.mint(target).await.err().expect("no answer");
    assert_eq!(error.fault, Fault::OutcomeUnknown, "{error}");
}
