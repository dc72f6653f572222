//! A manager in trouble: each trouble has its own code, shows no value, and is over when it is over.

use std::time::Duration;

use super::{CANARY, Trouble, World, expect_no_value, value_of};
use crate::{Fault, ManagerError, Target};

pub(super) async fn run<W: World, F: AsyncFn() -> W>(make: &F) {
    for (trouble, faults) in TROUBLES {
        trouble_is_told_apart(&make().await, trouble, faults).await;
    }
    a_token_that_died_is_replaced(&make().await).await;
}

async fn trouble_is_told_apart(world: &impl World, trouble: Trouble, faults: &[Fault]) {
    let (org, reference, manager) = (world.org(), world.pure(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let described = manager.describe(target).await.expect("a description");
    let version = described.version.expect("a version");
    if !world.trouble(trouble) {
        return;
    }
    let expect = |what: &str, error: ManagerError| {
        assert!(
            faults.contains(&error.fault),
            "{trouble:?}: {what}: {error}"
        );
        expect_no_value(&format!("{error} {error:?}"));
        assert!(
            error.fault.is_transient()
                || error.fault == Fault::TooLarge
                || error.fault == Fault::Failed
        );
        if trouble == Trouble::RateLimited {
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        }
    };
    expect(
        "describe",
        manager.describe(target).await.expect_err("trouble"),
    );
    expect(
        "read",
        manager.read(target, &version).await.err().expect("trouble"),
    );
    let listed = manager.list(&org, &crate::ListQuery::default()).await;
    expect("list", listed.expect_err("trouble"));
    if let Some((reference, _)) = world.leased() {
        let target = Target {
            org: &org,
            reference: &reference,
        };
        let error = manager.mint(target).await.err().expect("trouble");
        // Where the call may have been done, nobody may believe that it was not.
        if error.fault != Fault::OutcomeUnknown {
            expect("mint", error);
        }
    }
    world.heal();
    let value = manager.read(target, &version).await.expect("healed");
    assert_eq!(value_of(&value), CANARY);
}

async fn a_token_that_died_is_replaced(world: &impl World) {
    let (org, reference, manager) = (world.org(), world.pure(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let described = manager.describe(target).await.expect("a description");
    let version = described.version.expect("a version");
    let epoch = manager.epoch();
    if !world.trouble(Trouble::TokenDied) {
        return;
    }
    let value = manager
        .read(target, &version)
        .await
        .expect("logged in anew");
    assert_eq!(value_of(&value), CANARY);
    if let Some(epoch) = epoch {
        assert_ne!(
            manager.epoch(),
            Some(epoch),
            "its leases are another epoch's"
        );
    }
}

const TROUBLES: [(Trouble, &[Fault]); 10] = [
    (Trouble::Drop, &[Fault::Unreachable, Fault::TimedOut]),
    (Trouble::Hang, &[Fault::TimedOut]),
    (Trouble::Html, &[Fault::Malformed]),
    (Trouble::Truncated, &[Fault::TimedOut, Fault::Malformed]),
    (Trouble::Huge, &[Fault::TooLarge]),
    (Trouble::WrongTypes, &[Fault::Malformed]),
    (Trouble::RateLimited, &[Fault::RateLimited]),
    (Trouble::Broken, &[Fault::Failed, Fault::Unavailable]),
    (Trouble::Closed, &[Fault::Sealed, Fault::Unavailable]),
    (Trouble::LockedOut, &[Fault::Unauthenticated]),
];
