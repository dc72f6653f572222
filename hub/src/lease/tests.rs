//! Leases over a real catalog, with a manager that counts.

mod races;
mod scene;
mod single;

use std::sync::atomic::Ordering;
use std::time::Duration;

use edge_secrets_protocol::Fields;
use edge_secrets_protocol::binding::SecretState;

use super::*;
use crate::catalog::conformance::world::{at, enrolment, node_id, placed};
use crate::catalog::records::{Change, LeaseRecord, LeaseState};
use crate::managers::{Effect, Fault, Term};
use scene::{SECRET, Scene};

#[tokio::test]
async fn every_node_gets_a_credential_of_its_own_once_it_is_there() {
    let scene = Scene::new(Effect::Mints).await;
    scene.until(|leases| leases.len() == 1).await;
    assert_eq!(
        (scene.mint.made(), scene.state("n").await),
        (0, SecretState::Pending)
    );
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    assert_eq!(
        scene.state("n").await,
        SecretState::Ready {
            version: first.id.version()
        }
    );
    let value = scene.leases.values().get(first.id).unwrap();
    let fields = Fields::decode(value.expose()).unwrap();
    assert_eq!(fields.expose_value(), Some(&b"c1"[..]));
    let _m = scene.connect("m");
    scene.place("m", true).await;
    let second = scene.live("m").await;
    assert_ne!(second.handle, first.handle);
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
}

#[tokio::test]
async fn the_credential_dies_with_its_deployment_and_comes_anew_with_the_next() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.place("n", false).await;
    scene
        .until(|leases| leases.iter().all(|l| l.state == LeaseState::Ended))
        .await;
    assert!(scene.mint.alive().is_empty());
    assert!(scene.leases.values().get(first.id).is_none());
    scene.place("n", true).await;
    let second = scene.live("n").await;
    assert!(second.id > first.id, "a version never comes again");
}

#[tokio::test]
async fn a_revoked_node_loses_its_credentials() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    let revoke = Change::RevokeNode(node_id("n"));
    scene.world.commit(revoke, vec![]).await.unwrap();
    scene
        .until(|leases| leases.iter().all(|l| l.state == LeaseState::Ended))
        .await;
    assert!(scene.mint.alive().is_empty());
}

#[tokio::test]
async fn revoking_is_tried_until_it_is_done_also_after_a_restart() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    scene.mint.suffer(Some(Fault::Unreachable));
    scene.place("n", false).await;
    scene
        .until(|leases| {
            !leases.is_empty() && leases[0].state == LeaseState::Ending && leases[0].attempts > 0
        })
        .await;
    scene.restart();
    scene.mint.suffer(None);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert!(scene.mint.alive().is_empty());
}

#[tokio::test]
async fn a_restarted_hub_renews_what_lives_and_replaces_what_it_cannot_give() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.age(&first, Duration::from_secs(3_000)).await;
    scene.restart();
    let _again = scene.connect("n");
    let renewed = scene
        .until(|leases| leases[0].granted_at > first.granted_at)
        .await;
    assert_eq!((renewed.len(), scene.mint.made()), (1, 1));
    // The node asks for a value that the hub has no more.
    scene.leases.lost(first.id);
    let second = scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
    let second = second.last().unwrap();
    assert!(scene.leases.values().get(second.id).is_some());
    // The old one lives until the node says that it has the new one.
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
    scene.report("n", second).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn near_the_managers_maximum_another_one_is_made_before_the_old_one_goes() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.mint.term.lock().unwrap().renewable = false;
    let mut capped = first.clone();
    capped.renewable = false;
    scene.age(&capped, Duration::from_secs(3_000)).await;
    scene.restart();
    let _again = scene.connect("n");
    let next = scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
    // A report of before says nothing; one of the old version keeps the old one.
    scene.report("n", &first).await;
    scene.report("n", next.last().unwrap()).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn another_token_at_the_manager_is_another_credential() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    *scene.mint.epoch.lock().unwrap() = "two".into();
    scene.restart();
    let _again = scene.connect("n");
    scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
}

#[tokio::test]
async fn a_lease_that_ended_is_replaced_when_its_node_is_back() {
    let mut scene = Scene::new(Effect::Mints).await;
    let first = {
        let _n = scene.connect("n");
        scene.live("n").await
    };
    scene.age(&first, Duration::from_secs(3_601)).await;
    scene.restart();
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.state("n").await, SecretState::Pending);
    let _n = scene.connect("n");
    let second = scene.live("n").await;
    assert!(second.id > first.id);
}

#[tokio::test]
async fn what_was_cut_off_is_counted_as_unknown_and_made_anew() {
    let mut scene = Scene::new(Effect::Mints).await;
    let wanted = scene.until(|leases| leases.len() == 1).await;
    scene.keeper.abort();
    let mut minting = wanted[0].clone();
    minting.state = LeaseState::Minting;
    let change = [crate::catalog::records::LeaseChange::Set(Box::new(minting))];
    scene
        .world
        .catalog
        .change_leases(&change, vec![])
        .await
        .unwrap();
    scene.restart();
    let unknown = scene.until(|leases| leases[0].attempts == 1).await;
    assert_eq!(
        unknown[0].trouble.as_ref().unwrap().fault,
        Fault::OutcomeUnknown
    );
    let _n = scene.connect("n");
    scene.live("n").await;
}

#[tokio::test]
async fn a_mint_that_fails_blocks_its_binding_alone_and_says_why() {
    for fault in [
        Fault::Denied,
        Fault::Locked,
        // Its answer was lost: nobody knows whether one was made.
        Fault::OutcomeUnknown,
        Fault::TimedOut,
    ] {
        let scene = Scene::new(Effect::Mints).await;
        scene.world.put("x", 1).await;
        let both = ["a=v:database/creds/x", "own=x"];
        scene.world.place("n", vec![placed("d", &both)]).await;
        // It fails once, and what is tried again is under way for as long as is looked.
        scene.mint.suffer(Some(fault));
        scene.mint.hold(true);
        let _n = scene.connect("n");
        scene
            .until(|leases| !leases.is_empty() && leases[0].attempts > 0)
            .await;
        scene.mint.suffer(None);
        let bindings = scene.world.bindings("n", None).await;
        let details = &bindings.deployments[0].details;
        let detail = &details[&"a".parse().unwrap()];
        assert_eq!(detail.trouble.as_ref().unwrap().fault, fault);
        let own = bindings.deployments[0].secrets.iter();
        let own = own.filter(|secret| secret.name.as_str() == "own");
        assert!(own.count() == 1 && !details.contains_key(&"own".parse().unwrap()));
        let trail = scene.world.trail().await;
        let said = |record: &&crate::catalog::records::AuditRecord| {
            record.entry.action == "lease.mint" && record.entry.result == fault.as_str()
        };
        assert_eq!(trail.iter().filter(said).count(), 1, "{fault}");
        scene.mint.hold(false);
        scene.live("n").await;
    }
}

#[tokio::test]
async fn an_operator_ends_a_lease_of_the_own_organisation() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    assert!(
        !scene
            .leases
            .revoke(&"other".parse().unwrap(), first.id)
            .await
    );
    assert!(!scene.leases.revoke(&scene.world.org, LeaseId(999)).await);
    assert!(scene.leases.revoke(&scene.world.org, first.id).await);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let second = scene.live("n").await;
    assert!(second.id > first.id);
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn what_is_let_go_while_it_is_made_dies_and_takes_nobodys_place() {
    for effect in [Effect::Mints, Effect::MintsAndInvalidates] {
        let scene = Scene::new(effect).await;
        *scene.mint.usable_after.lock().unwrap() = Duration::from_secs(10);
        let _n = scene.connect("n");
        let making = scene
            .until(|leases| leases.iter().any(|lease| lease.handle.is_some()))
            .await;
        assert_eq!(making[0].state, LeaseState::Minting);
        *scene.mint.usable_after.lock().unwrap() = Duration::ZERO;
        assert!(scene.leases.revoke(&scene.world.org, making[0].id).await);
        let second = scene.live("n").await;
        assert!(second.id > making[0].id, "{effect:?}");
        let leases = scene
            .until(|leases| leases[0].state == LeaseState::Ended)
            .await;
        assert_eq!(leases.len(), 2, "{effect:?}: {leases:#?}");
        let handle = second.handle.unwrap();
        assert_eq!(scene.mint.alive(), [handle.as_str()], "{effect:?}");
        assert!(scene.leases.values().get(making[0].id).is_none());
    }
}

#[tokio::test]
async fn another_session_is_noticed_while_the_hub_serves() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    *scene.mint.epoch.lock().unwrap() = "two".into();
    scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
}

#[tokio::test]
async fn the_trail_says_what_became_of_a_lease_and_no_value() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    scene.place("n", false).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let trail = scene.world.trail().await;
    let actions: Vec<_> = trail
        .iter()
        .map(|record| record.entry.action.as_str())
        .collect();
    for action in ["lease.mint", "lease.end", "lease.ended"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    assert!(!format!("{trail:?}").contains("c1"));
}
