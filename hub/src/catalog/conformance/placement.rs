//! Definitions, placements and the generations that follow from them.

use edge_secrets_protocol::Generation;

use super::Place;
use super::world::{World, at, audit, node_id, placed, placement, policy};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Change, NodePlacement, PatternRecord, PolicyRecord, Revision, ServiceRecord,
};

pub(crate) fn service(version: &str, document: &str) -> ServiceRecord {
    ServiceRecord {
        url: "com.example.uplink".parse().unwrap(),
        version: version.into(),
        arch: "*".into(),
        owner: "alice".parse().unwrap(),
        public: false,
        document: document.into(),
        updated_at: at(5),
    }
}

pub(crate) async fn definitions_are_published_replaced_and_removed(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (one, two) = (service("1.0.0", "{\"a\":1}"), service("2.0.0", "{}"));
    for record in [&two, &one] {
        let change = Change::PutService(record.clone());
        world.commit(change, vec![]).await.unwrap();
    }
    world.commit(policy("p"), vec![]).await.unwrap();
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.services, [one.clone(), two.clone()]);
    assert_eq!(snapshot.revision, Revision(3));
    assert_eq!(snapshot.policies.len(), 1);

    let newer = ServiceRecord {
        document: "{\"b\":2}".into(),
        owner: "bob".parse().unwrap(),
        updated_at: at(6),
        ..one.clone()
    };
    let change = Change::PutService(newer.clone());
    world.commit(change, vec![]).await.unwrap();
    let renewed = PolicyRecord {
        name: "p".parse().unwrap(),
        owner: "bob".parse().unwrap(),
        document: "{\"c\":3}".into(),
        updated_at: at(7),
    };
    let change = Change::PutPolicy(renewed.clone());
    world.commit(change, vec![]).await.unwrap();
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.services, [newer, two]);
    assert_eq!(snapshot.policies, [renewed]);

    let no_service = || Change::RemoveService {
        url: one.url.clone(),
        version: one.version.clone(),
        arch: one.arch.clone(),
    };
    let no_policy = || Change::RemovePolicy("p".parse().unwrap());
    world.commit(no_service(), vec![]).await.unwrap();
    world.commit(no_policy(), vec![]).await.unwrap();
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!((snapshot.services.len(), snapshot.policies.len()), (1, 0));
    for change in [no_service(), no_policy()] {
        let again = world.commit(change, vec![]).await;
        assert!(matches!(again, Err(CatalogError::NotFound(_))));
    }
    assert_eq!(
        world.catalog.revision(&world.org).await.unwrap(),
        snapshot.revision
    );
}

pub(crate) fn pattern(name: &str, public: bool, document: &str) -> PatternRecord {
    PatternRecord {
        name: name.parse().unwrap(),
        owner: "alice".parse().unwrap(),
        public,
        document: document.into(),
        updated_at: at(5),
    }
}

/// Byte for byte: Open Horizon's own copy of a pattern forgets its bindings.
pub(crate) async fn patterns_are_published_replaced_and_removed(place: &mut dyn Place) {
    let world = World::new(place).await;
    let document = r#"{"services":[],"secretBinding":[{"secrets":[{"a":"b"}]}]}"#;
    let (edge, other) = (pattern("edge", true, document), pattern("a", false, "{}"));
    for record in [&edge, &other] {
        let change = Change::PutPattern(record.clone());
        world.commit(change, vec![]).await.unwrap();
    }
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.patterns, [other.clone(), edge.clone()]);
    let newer = PatternRecord {
        owner: "bob".parse().unwrap(),
        public: false,
        updated_at: at(6),
        ..edge
    };
    let change = Change::PutPattern(newer.clone());
    world.commit(change, vec![]).await.unwrap();
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.patterns, [other, newer]);
    assert_eq!(snapshot.revision, Revision(3));
    let removal = || Change::RemovePattern("edge".parse().unwrap());
    world.commit(removal(), vec![]).await.unwrap();
    let again = world.commit(removal(), vec![]).await;
    assert!(matches!(again, Err(CatalogError::NotFound(_))));
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(
        (snapshot.patterns.len(), snapshot.revision),
        (1, Revision(4))
    );
}

pub(crate) async fn a_stale_revision_is_a_conflict_and_writes_nothing(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let stale = world.catalog.revision(&world.org).await.unwrap();
    world.commit(policy("p"), vec![]).await.unwrap();
    let (trail, feed) = (world.trail().await, world.feed().await);
    for wrong in [stale, Revision(stale.0 + 2), Revision(0)] {
        let placements = vec![placement("n", vec![placed("d", &["a=x"])])];
        let refused = world
            .catalog
            .commit(
                &world.org,
                wrong.into(),
                policy("q"),
                placements,
                audit("policy.publish"),
            )
            .await;
        assert!(matches!(refused, Err(CatalogError::Conflict)));
    }
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.policies.len(), 1);
    assert_eq!(world.generation("n").await, 0);
    assert_eq!((world.trail().await, world.feed().await), (trail, feed));
}

pub(crate) async fn only_nodes_that_differ_get_a_new_generation(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["a", "b", "c"] {
        world.enrol(node).await;
    }
    let both = || vec![placed("d1", &["a=x"]), placed("d2", &["a=y"])];
    let placements = vec![placement("b", both()), placement("a", both())];
    let first = world.commit(policy("p"), placements).await.unwrap();
    let one = Generation(1);
    assert_eq!(first.touched, [(node_id("a"), one), (node_id("b"), one)]);

    // Given again in another order, with one real difference.
    let mut turned = both();
    turned.reverse();
    let mut other = both();
    other[1].service_version = "1.0.1".into();
    let placements = vec![
        placement("a", turned),
        placement("b", other),
        placement("c", vec![]),
    ];
    let second = world.commit(policy("p"), placements).await.unwrap();
    assert_eq!(second.touched, [(node_id("b"), Generation(2))]);
    assert_eq!(world.generation("a").await, 1);
    assert_eq!(world.generation("c").await, 0);
    let fed: Vec<_> = world.feed().await.into_iter().map(|e| e.node).collect();
    assert_eq!(fed, ["a", "b", "b"].map(node_id));
}

pub(crate) async fn only_what_changed_comes_after_since(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let (d1, d2, d3) = (
        placed("d1", &["a=x"]),
        placed("d2", &["a=y", "b=x"]),
        placed("d3", &[]),
    );
    world.put("x", 1).await;
    world
        .place("n", vec![d1.clone(), d2.clone(), d3.clone()])
        .await;
    let all = world.bindings("n", None).await;
    assert_eq!(all.generation, Generation(1));
    let ids: Vec<_> = all.deployments.iter().map(|d| d.placed.clone()).collect();
    assert_eq!(ids, [d1.clone(), d2.clone(), d3.clone()]);
    assert_eq!(all.unchanged, []);

    let nothing = world.bindings("n", Some(1)).await;
    assert_eq!(nothing.deployments, []);
    assert_eq!(
        nothing.unchanged,
        ["d1", "d2", "d3"].map(|d| d.parse().unwrap())
    );

    // One deployment becomes another, one goes, one stays.
    let d2 = placed("d2", &["a=z"]);
    world.place("n", vec![d1, d2.clone()]).await;
    let difference = world.bindings("n", Some(1)).await;
    assert_eq!(difference.generation, Generation(2));
    assert_eq!(difference.deployments.len(), 1);
    assert_eq!(difference.deployments[0].placed, d2);
    assert_eq!(difference.deployments[0].secrets.len(), 1);
    assert_eq!(difference.unchanged, ["d1".parse().unwrap()]);

    // The old binding of d2 to x is gone with its old form: only d1 changes now.
    world.put("x", 2).await;
    let difference = world.bindings("n", Some(2)).await;
    assert_eq!(difference.deployments.len(), 1);
    assert_eq!(difference.deployments[0].placed.id.as_str(), "d1");
    assert_eq!(difference.unchanged, ["d2".parse().unwrap()]);
}

pub(crate) async fn a_generation_that_never_was_gives_everything(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    for since in [2, u64::MAX] {
        let bindings = world.bindings("n", Some(since)).await;
        assert_eq!(
            (bindings.deployments.len(), bindings.unchanged.len()),
            (1, 0)
        );
    }
}

pub(crate) async fn a_placement_of_hundreds_of_nodes_is_whole(place: &mut dyn Place) {
    let world = World::new(place).await;
    let names: Vec<_> = (0..150).map(|n| format!("n{n:03}")).collect();
    for name in &names {
        world.enrol(name).await;
    }
    world.put("x", 1).await;
    let everywhere = || -> Vec<NodePlacement> {
        let each = || vec![placed("d1", &["a=x"]), placed("d2", &["a=x", "b=y"])];
        names.iter().map(|name| placement(name, each())).collect()
    };
    let first = world.commit(policy("p"), everywhere()).await.unwrap();
    let expected: Vec<_> = names.iter().map(|n| (node_id(n), Generation(1))).collect();
    assert_eq!(first.touched, expected);
    let same = world.commit(policy("p"), everywhere()).await.unwrap();
    assert_eq!(same.touched, []);
    assert_eq!(world.put("x", 2).await.touched.len(), 150);
    for name in [&names[0], &names[63], &names[64], &names[149]] {
        let bindings = world.bindings(name, Some(1)).await;
        assert_eq!(bindings.generation, Generation(2));
        assert_eq!(bindings.deployments.len(), 2);
        assert_eq!(bindings.deployments[1].secrets.len(), 2);
    }
    assert_eq!(world.feed().await.len(), 300);

    let nowhere = names.iter().map(|name| placement(name, vec![])).collect();
    let gone = world.commit(policy("p"), nowhere).await.unwrap();
    assert_eq!(gone.touched.len(), 150);
    assert_eq!(world.bindings("n149", None).await.deployments, []);
}

pub(crate) async fn an_unknown_node_is_refused(place: &mut dyn Place) {
    let world = World::new(place).await;
    let placements = vec![placement("ghost", vec![placed("d", &["a=x"])])];
    let refused = world.commit(policy("p"), placements).await;
    assert!(matches!(refused, Err(CatalogError::NotFound(_))));
    let snapshot = world.catalog.snapshot(&world.org).await.unwrap();
    assert_eq!(snapshot.policies, []);
}
