//! Revocation, removal, facts and reports.

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::status::{DeploymentState, DeploymentStatus, StatusReport};

use super::Place;
use super::world::{World, at, belongs, enrolment, item, node_id, placed, placement};
use crate::catalog::CatalogError;
use crate::catalog::records::{Belonging, Change, FeedEvent, Report, Unsettled};

pub(crate) async fn a_revoked_node_has_nothing_and_can_still_be_told(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.put("x", 1).await;
    let deployments = vec![placed("d", &["a=x"])];
    world.place("n", deployments.clone()).await;
    let before = world.generation("n").await;

    // Not even a placement that was computed wrongly gives it anything.
    let placements = vec![placement("n", deployments.clone())];
    let revoke = Change::RevokeNode(node_id("n"));
    let committed = world.commit(revoke, placements).await.unwrap();
    let generation = Generation(before + 1);
    assert_eq!(committed.touched, [(node_id("n"), generation)]);
    assert_eq!(world.bindings("n", None).await.deployments, []);
    assert_eq!(world.generation("n").await, generation.0);
    let fetched = world
        .catalog
        .bound(&world.org, &node_id("n"), &[item("d", "a")])
        .await;
    assert_eq!(fetched.unwrap(), None);
    let identity = world.catalog.node_identity("serial-of-n").await;
    assert!(identity.unwrap().unwrap().revoked);
    let last = world.feed().await.pop().unwrap();
    assert_eq!((last.node, last.event), (node_id("n"), FeedEvent::Revoked));

    assert_eq!(world.place("n", deployments).await.touched, []);
    assert_eq!(world.put("x", 2).await.touched, []);
    let unknown = world.commit(Change::RevokeNode(node_id("m")), vec![]).await;
    assert!(matches!(unknown, Err(CatalogError::NotFound(_))));
    let facts = Change::PutFacts {
        node: node_id("n"),
        facts: Box::default(),
    };
    let refused = world.commit(facts, vec![]).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
}

pub(crate) async fn a_revoked_node_is_a_node_again_after_enrolment(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let deployments = vec![placed("d", &["a=x"])];
    world.place("n", deployments.clone()).await;
    let revoke = Change::RevokeNode(node_id("n"));
    world.commit(revoke, vec![]).await.unwrap();
    let revoked_at = world.generation("n").await;

    world.token("n", 7, at(100)).await;
    let back = world
        .commit(
            enrolment("n", 7, "s2", at(1)),
            vec![placement("n", deployments.clone())],
        )
        .await;
    let touched = back.unwrap().touched;
    assert_eq!(touched, [(node_id("n"), Generation(revoked_at + 1))]);
    // What it knew before it was revoked is no base: everything has changed since.
    let bindings = world.bindings("n", Some(revoked_at)).await;
    assert_eq!(bindings.unchanged, []);
    assert_eq!(bindings.deployments[0].placed, deployments[0]);
    let old = world.catalog.node_identity("serial-of-n").await;
    assert_eq!(old.unwrap(), None);
}

pub(crate) async fn a_removed_node_is_forgotten_but_for_its_count(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.put("x", 1).await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    world.token("n", 7, at(100)).await;
    let (catalog, org, node) = (&world.catalog, &world.org, node_id("n"));
    let report = StatusReport::default();
    catalog
        .put_report(org, &node, &report, at(5))
        .await
        .unwrap();
    let before = world.generation("n").await;

    let remove = || {
        world.commit(
            Change::RemoveNode(node_id("n")),
            vec![placement("n", vec![])],
        )
    };
    assert_eq!(remove().await.unwrap().touched, []);
    assert_eq!(catalog.node(org, &node).await.unwrap(), None);
    assert_eq!(catalog.node_identity("serial-of-n").await.unwrap(), None);
    assert_eq!(catalog.reports(org, None).await.unwrap(), []);
    assert_eq!(world.feed().await.pop().unwrap().event, FeedEvent::Revoked);
    assert_eq!(world.put("x", 2).await.touched, []);
    let gone = catalog.bindings(org, &node, None).await;
    assert!(matches!(gone, Err(CatalogError::NotFound(_))));
    let reported = catalog.put_report(org, &node, &report, at(6)).await;
    assert!(matches!(reported, Err(CatalogError::NotFound(_))));
    let token = world.commit(enrolment("n", 7, "s", at(1)), vec![]).await;
    assert!(matches!(token, Err(CatalogError::Token(_))));
    assert!(matches!(remove().await, Err(CatalogError::NotFound(_))));

    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    assert!(world.generation("n").await > before);
    assert!(world.bindings("n", Some(before)).await.unchanged.is_empty());
    // It can go and come again.
    remove().await.unwrap();
}

/// As its token says at first, and then as the operator says.
pub(crate) async fn a_node_goes_on_a_pattern_and_off_it(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, org) = (&world.catalog, &world.org);
    world.token("n", 1, at(100)).await;
    assert_eq!(catalog.promised(&[1; 32]).await.unwrap(), Some(belongs()));
    assert_eq!(catalog.promised(&[9; 32]).await.unwrap(), None);
    let Change::Enrol(mut otherwise) = enrolment("n", 1, "s", at(1)) else {
        panic!("an enrolment");
    };
    otherwise.belongs.pattern = None;
    let refused = world.commit(Change::Enrol(otherwise), vec![]).await;
    assert!(matches!(refused, Err(CatalogError::Token(_))));
    let enrolled = world.commit(enrolment("n", 1, "s", at(1)), vec![]).await;
    enrolled.unwrap();
    let node = node_id("n");
    let now = || async { catalog.node(org, &node).await.unwrap().unwrap().belongs };
    assert_eq!(now().await, belongs());
    for pattern in [None, Some("other/edge".parse().unwrap())] {
        let before = catalog.revision(org).await.unwrap();
        let change = Change::SetPattern {
            node: node.clone(),
            pattern: pattern.clone(),
        };
        let committed = world.commit(change, vec![]).await.unwrap();
        assert!(committed.revision > before);
        let owner = belongs().owner;
        assert_eq!(now().await, Belonging { owner, pattern });
    }
    let nobody = Change::SetPattern {
        node: node_id("m"),
        pattern: None,
    };
    let refused = world.commit(nobody, vec![]).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
}

pub(crate) async fn facts_are_replaced_and_equal_ones_change_nothing(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let facts = NodeFacts {
        properties: vec![Property {
            name: "site — größe".into(),
            value: serde_json::json!(["a", "b"]),
            kind: None,
        }],
        policy: Some(serde_json::json!({"constraints": ["x == 1"]})),
        agent_version: "1.2.3".into(),
        ..NodeFacts::default()
    };
    let put = || Change::PutFacts {
        node: node_id("n"),
        facts: Box::new(facts.clone()),
    };
    let before = world.catalog.revision(&world.org).await.unwrap();
    let first = world.commit(put(), vec![]).await.unwrap();
    assert!(first.revision > before);
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.revision, first.revision);
    assert_eq!(snapshot.nodes[0].facts, facts);
    assert_eq!(
        snapshot.nodes,
        world.catalog.nodes(&world.org).await.unwrap()
    );

    let again = world.commit(put(), vec![]).await.unwrap();
    assert_eq!((again.revision, again.touched), (first.revision, vec![]));
    // Equal facts with another outcome are a change all the same.
    let placements = vec![placement("n", vec![placed("d", &["a=x"])])];
    let moved = world.commit(put(), placements).await.unwrap();
    assert!(moved.revision > first.revision);
}

pub(crate) async fn a_report_replaces_the_one_before(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.enrol("m").await;
    let (catalog, org) = (&world.catalog, &world.org);
    let report = |generation| StatusReport {
        generation: Generation(generation),
        deployments: vec![],
    };
    for (node, generation, time) in [("n", 1, 5), ("m", 4, 6), ("n", 2, 7)] {
        catalog
            .put_report(org, &node_id(node), &report(generation), at(time))
            .await
            .unwrap();
    }
    let of = |node, generation, time| Report {
        node: node_id(node),
        status: report(generation),
        at: at(time),
    };
    let all = catalog.reports(org, None).await.unwrap();
    assert_eq!(all, [of("m", 4, 6), of("n", 2, 7)]);
    let one = catalog.reports(org, Some(&node_id("n"))).await.unwrap();
    assert_eq!(one, [of("n", 2, 7)]);
    let record = catalog.node(org, &node_id("n")).await.unwrap().unwrap();
    assert_eq!(record.seen_at, Some(at(7)));
    let events: Vec<_> = world.feed().await.into_iter().map(|e| e.event).collect();
    assert_eq!(events, [FeedEvent::Status; 3]);
    let unknown = catalog
        .put_report(org, &node_id("x"), &report(1), at(8))
        .await;
    assert!(matches!(unknown, Err(CatalogError::NotFound(_))));
    assert_eq!(world.feed().await.len(), 3);
}

/// Behind from the change on, until a report of the generation that counts then; and what could not be done
/// of it afterwards.
pub(crate) async fn who_lacks_what_it_should_have_is_told(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, org) = (&world.catalog, &world.org);
    let report = async |node: &str, generation, states: &[DeploymentState], time| {
        let deployments = states.iter().map(|state| DeploymentStatus {
            id: "d".parse().unwrap(),
            service: "o/s".parse().unwrap(),
            state: *state,
            applied: [].into(),
            error: None,
        });
        let report = StatusReport {
            generation: Generation(generation),
            deployments: deployments.collect(),
        };
        let node = node_id(node);
        let put = catalog.put_report(org, &node, &report, at(time));
        put.await.unwrap();
    };
    let lagging = async || {
        let lagging = catalog.lagging(org).await.unwrap();
        let told = lagging.into_iter().map(|lag| {
            let reported = lag.reported.map(|generation| generation.0);
            (
                lag.node.to_string(),
                lag.since.is_some(),
                reported,
                lag.unsettled,
            )
        });
        told.collect::<Vec<_>>()
    };
    let behind = |node: &str, reported| (node.to_owned(), true, reported, None);
    let (applied, failed) = (DeploymentState::Applied, DeploymentState::Failed);
    assert_eq!(lagging().await, []);
    // Who has enrolled has nothing until it says otherwise.
    world.enrol("a").await;
    assert_eq!(lagging().await, [behind("a", None)]);
    assert_eq!(catalog.lagging(org).await.unwrap()[0].since, Some(at(10)));
    world.enrol("b").await;
    world.put("x", 1).await;
    for node in ["a", "b"] {
        world.place(node, vec![placed("d", &["a=x"])]).await;
        report(node, world.generation(node).await, &[applied], 20).await;
    }
    assert_eq!(lagging().await, []);
    assert_eq!(
        catalog
            .node(org, &node_id("a"))
            .await
            .unwrap()
            .unwrap()
            .behind_since,
        None
    );

    // A rotation; one has worked it through, the other says what it said before.
    world.put("x", 2).await;
    let generation = world.generation("a").await;
    report("a", generation, &[applied], 30).await;
    report("b", generation - 1, &[applied], 31).await;
    assert_eq!(lagging().await, [behind("b", Some(generation - 1))]);
    let since = catalog.lagging(org).await.unwrap()[0].since;
    // It stays so from the first change that it has missed.
    world.put("x", 3).await;
    let told = catalog.lagging(org).await.unwrap();
    assert_eq!(
        told.iter()
            .find(|lag| lag.node == node_id("b"))
            .unwrap()
            .since,
        since
    );
    // A report of another history says nothing of this one.
    report("b", generation + 100, &[applied], 32).await;
    assert!(
        lagging()
            .await
            .contains(&behind("b", Some(generation + 100)))
    );

    let generation = world.generation("a").await;
    report(
        "a",
        generation,
        &[applied, DeploymentState::Pending, failed],
        40,
    )
    .await;
    report("b", generation, &[applied, DeploymentState::Blocked], 40).await;
    let told = |node: &str, worst| (node.to_owned(), false, Some(generation), Some(worst));
    let unsettled = [told("a", Unsettled::Failed), told("b", Unsettled::Blocked)];
    assert_eq!(lagging().await, unsettled);
    report("b", generation, &[DeploymentState::Stopped], 41).await;
    assert_eq!(lagging().await, unsettled[..1]);
    // Who is revoked should have nothing.
    world
        .commit(Change::RevokeNode(node_id("a")), vec![])
        .await
        .unwrap();
    assert_eq!(lagging().await, []);
    world.token("a", 7, at(100)).await;
    let back = world.commit(enrolment("a", 7, "s2", at(50)), vec![]).await;
    back.unwrap();
    assert_eq!(lagging().await, [behind("a", None)]);
    assert_eq!(catalog.lagging(org).await.unwrap()[0].since, Some(at(50)));
}
