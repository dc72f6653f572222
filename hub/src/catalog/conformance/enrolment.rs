//! Tokens, enrolment and renewal.

use std::sync::Arc;

use edge_secrets_protocol::SealingKey;
use edge_secrets_protocol::status::StatusReport;

use super::Place;
use super::world::{
    World, at, audit, belongs, certificate, enrolment, item, node_id, placed, sealing_key,
};
use crate::catalog::CatalogError;
use crate::catalog::records::{Change, Revision};

pub(crate) async fn a_token_works_once(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.token("n", 1, at(100)).await;
    let first = world.commit(enrolment("n", 1, "s1", at(99)), vec![]).await;
    first.unwrap();
    let record = world.catalog.node(&world.org, &node_id("n")).await;
    let record = record.unwrap().unwrap();
    assert_eq!(record.belongs, belongs());
    assert_eq!((record.revoked, record.enrolled_at), (false, at(99)));

    let second = world.commit(enrolment("n", 1, "s2", at(99)), vec![]).await;
    assert!(matches!(second, Err(CatalogError::Token(_))), "{second:?}");
    assert_eq!(world.catalog.node_identity("s2").await.unwrap(), None);
    let identity = world.catalog.node_identity("s1").await.unwrap().unwrap();
    assert_eq!(identity.node, node_id("n"));
    let unknown = world.commit(enrolment("n", 9, "s3", at(99)), vec![]).await;
    assert!(matches!(unknown, Err(CatalogError::Token(_))));
}

pub(crate) async fn a_token_stops_at_its_end(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.token("n", 1, at(100)).await;
    let late = world.commit(enrolment("n", 1, "s", at(100)), vec![]).await;
    assert!(matches!(late, Err(CatalogError::Token(_))));
    let node = world.catalog.node(&world.org, &node_id("n")).await;
    assert_eq!(node.unwrap(), None);
}

pub(crate) async fn a_token_is_for_its_node_alone(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.token("n", 1, at(100)).await;
    let other = world.commit(enrolment("m", 1, "s", at(1)), vec![]).await;
    assert!(matches!(other, Err(CatalogError::Token(_))));

    let elsewhere = super::world::org("elsewhere");
    let made = world
        .catalog
        .create_org(&elsewhere, audit("org.create"))
        .await;
    made.unwrap();
    let other = world
        .catalog
        .commit(
            &elsewhere,
            Revision(0).into(),
            enrolment("n", 1, "s", at(1)),
            vec![],
            audit("node.enrol"),
        )
        .await;
    assert!(matches!(other, Err(CatalogError::Token(_))));
    // The refusals have not used it up.
    let own = world.commit(enrolment("n", 1, "s", at(1)), vec![]).await;
    own.unwrap();
}

pub(crate) async fn a_newer_token_replaces_the_unused_one(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.token("n", 1, at(100)).await;
    world.token("m", 3, at(100)).await;
    world.token("n", 2, at(100)).await;
    let old = world.commit(enrolment("n", 1, "s1", at(1)), vec![]).await;
    assert!(matches!(old, Err(CatalogError::Token(_))));
    for (node, hash) in [("n", 2), ("m", 3)] {
        let change = enrolment(node, hash, node, at(1));
        world.commit(change, vec![]).await.unwrap();
    }
}

pub(crate) async fn of_many_concurrent_uses_one_wins(place: &mut dyn Place) {
    let world = Arc::new(World::new(place).await);
    world.token("n", 1, at(100)).await;
    let uses: Vec<_> = (0..8)
        .map(|n| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                loop {
                    let change = enrolment("n", 1, &format!("s{n}"), at(1));
                    match world.commit(change, vec![]).await {
                        Err(CatalogError::Conflict) => {}
                        result => return result,
                    }
                }
            })
        })
        .collect();
    let mut won = 0;
    for one in uses {
        match one.await.unwrap() {
            Ok(_) => won += 1,
            Err(CatalogError::Token(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    let mut known = 0;
    for n in 0..8 {
        let identity = world.catalog.node_identity(&format!("s{n}")).await;
        known += usize::from(identity.unwrap().is_some());
    }
    assert_eq!(known, 1);
}

pub(crate) async fn enrolling_again_replaces_the_identity(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    let (catalog, org, node) = (&world.catalog, &world.org, node_id("n"));
    let report = StatusReport::default();
    catalog
        .put_report(org, &node, &report, at(5))
        .await
        .unwrap();
    let before = world.generation("n").await;

    world.token("n", 7, at(100)).await;
    let Change::Enrol(mut second) = enrolment("n", 7, "s2", at(50)) else {
        unreachable!("that is an enrolment")
    };
    let key = SealingKey::generate().public();
    second.sealing_key = key.clone();
    world.commit(Change::Enrol(second), vec![]).await.unwrap();

    assert_eq!(catalog.node_identity("serial-of-n").await.unwrap(), None);
    assert!(catalog.node_identity("s2").await.unwrap().is_some());
    assert!(catalog.reports(org, Some(&node)).await.unwrap().is_empty());
    let record = catalog.node(org, &node).await.unwrap().unwrap();
    assert_eq!((record.enrolled_at, record.seen_at), (at(50), None));
    assert!(record.generation.0 >= before);
    let (bound_key, _) = catalog.bound(org, &node, &[]).await.unwrap().unwrap();
    assert_eq!(bound_key, key);
}

pub(crate) async fn a_refused_enrolment_leaves_no_trace(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.token("n", 1, at(100)).await;
    let records = world.trail().await.len();
    let stale = Revision(world.catalog.revision(&world.org).await.unwrap().0 + 1);
    let refused = world
        .catalog
        .commit(
            &world.org,
            stale.into(),
            enrolment("n", 1, "s", at(1)),
            vec![],
            audit("node.enrol"),
        )
        .await;
    assert!(matches!(refused, Err(CatalogError::Conflict)));
    assert_eq!(world.trail().await.len(), records);
    let now = world.commit(enrolment("n", 1, "s", at(1)), vec![]).await;
    now.unwrap();
}

pub(crate) async fn renewal_keeps_the_certificate_it_is_over(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let (catalog, org, node) = (&world.catalog, &world.org, node_id("n"));
    let renew = |old: &'static str, new: &'static str, key| {
        let certificate = certificate(new);
        let node = node.clone();
        async move {
            catalog
                .renew_node(org, &node, old, &certificate, key, audit("node.renew"))
                .await
        }
    };
    renew("serial-of-n", "s2", None).await.unwrap();
    let (key, _) = catalog.bound(org, &node, &[]).await.unwrap().unwrap();
    assert_eq!(key, sealing_key());
    let new_key = SealingKey::generate().public();
    renew("s2", "s3", Some(&new_key)).await.unwrap();
    let (key, _) = catalog.bound(org, &node, &[]).await.unwrap().unwrap();
    assert_eq!(key, new_key);
    // The one before the last may be all that the node has; the one before that is nobody's.
    for (serial, good) in [("serial-of-n", false), ("s2", true), ("s3", true)] {
        let known = catalog.node_identity(serial).await.unwrap();
        assert_eq!(known.is_some(), good, "{serial}");
    }
    let refused = renew("serial-of-n", "s4", None).await;
    assert!(matches!(refused, Err(CatalogError::Conflict)));
    for (serial, good) in [("s2", true), ("s3", true), ("s4", false)] {
        let known = catalog.node_identity(serial).await.unwrap();
        assert_eq!(known.is_some(), good, "{serial}");
    }

    world
        .commit(Change::RevokeNode(node.clone()), vec![])
        .await
        .unwrap();
    let refused = renew("s3", "s4", None).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
    assert_eq!(catalog.node_identity("s4").await.unwrap(), None);
    let none = catalog.bound(org, &node, &[item("d", "a")]).await;
    assert_eq!(none.unwrap(), None);
}
