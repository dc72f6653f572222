//! What happens while a call for a lease is under way.

use super::*;

#[tokio::test]
async fn what_was_renewed_while_it_was_ended_is_tried_until_its_new_end() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.age(&first, Duration::from_secs(3_000)).await;
    scene.mint.hold(true);
    scene.restart();
    let _again = scene.connect("n");
    let mint = Arc::clone(&scene.mint);
    let renewing = scene.until(|_| mint.renewals.load(Ordering::SeqCst) == 1);
    let old_end = renewing.await[0].ends_at;
    // The manager says yes, and is away from then on.
    scene.place("n", false).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ending)
        .await;
    scene.mint.suffer(Some(Fault::Unreachable));
    scene.mint.hold(false);
    let ending = scene
        .until(|leases| leases[0].ends_at > old_end && leases[0].attempts > 0)
        .await;
    assert_eq!(ending[0].state, LeaseState::Ending);
    assert!(ending[0].ends_at > first.ends_at);
    scene.mint.suffer(None);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert!(scene.mint.alive().is_empty());
}

#[tokio::test]
async fn a_hub_killed_before_anybody_could_have_a_credential_ends_it() {
    for effect in [
        Effect::Mints,
        Effect::MintsAndInvalidates,
        Effect::Exclusive,
    ] {
        let mut scene = Scene::new(effect).await;
        // Its handle is durable, and its value goes to nobody yet.
        *scene.mint.usable_after.lock().unwrap() = Duration::from_secs(3_600);
        let _n = scene.connect("n");
        let making = scene
            .until(|leases| leases.iter().any(|lease| lease.handle.is_some()))
            .await;
        assert_eq!(making[0].state, LeaseState::Minting, "{effect:?}");
        *scene.mint.usable_after.lock().unwrap() = Duration::ZERO;
        scene.restart();
        let _again = scene.connect("n");
        let second = scene.live("n").await;
        assert!(second.id > making[0].id, "{effect:?}");
        scene
            .until(|leases| leases[0].state == LeaseState::Ended)
            .await;
        assert_eq!(scene.mint.alive(), ["c2"], "{effect:?}");
    }
}

#[tokio::test]
async fn a_deployment_that_goes_while_its_credential_is_made_leaves_none() {
    for effect in [
        Effect::Mints,
        Effect::MintsAndInvalidates,
        Effect::Exclusive,
    ] {
        let scene = Scene::new(effect).await;
        scene.mint.hold(true);
        let _n = scene.connect("n");
        let making = scene
            .until(|leases| leases.iter().any(|l| l.state == LeaseState::Minting))
            .await;
        assert_eq!(making[0].handle, None, "{effect:?}");
        scene.place("n", false).await;
        scene
            .until(|leases| leases[0].state == LeaseState::Dropped)
            .await;
        // And comes back before the manager has answered.
        scene.place("n", true).await;
        scene.mint.hold(false);
        let second = scene.live("n").await;
        assert!(second.id > making[0].id, "{effect:?}");
        scene
            .until(|leases| leases[0].state == LeaseState::Ended)
            .await;
        let handle = second.handle.unwrap();
        assert_eq!(scene.mint.alive(), [handle.as_str()], "{effect:?}");
        scene.place("n", false).await;
        scene
            .until(|leases| leases.iter().all(|l| l.state == LeaseState::Ended))
            .await;
        assert!(scene.mint.alive().is_empty(), "{effect:?}");
    }
}
