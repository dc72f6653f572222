//! Nodes on patterns of other organisations: who is behind what these publish, and since when not.

use edge_secrets_protocol::{OrgId, PatternName};

use super::Place;
use super::placement::{pattern, service};
use super::world::{World, audit, org, placed, placement, policy};
use crate::catalog::CatalogError;
use crate::catalog::records::{Basis, Change, Committed, Followers, Revision, ServiceRecord};

/// `o` publishes; `b` has a node on its pattern `edge` (as every token of this world says), `c` has one
/// on a pattern of its own, `d` one on another pattern of `o`'s.
async fn world(place: &mut dyn Place) -> (World, World) {
    let o = World::new(place).await;
    let followers = ["b", "c", "d"].map(|name| World {
        catalog: o.catalog.clone(),
        org: org(name),
    });
    for follower in &followers {
        let made = o.catalog.create_org(&follower.org, audit("org.create"));
        made.await.unwrap();
        follower.enrol("n").await;
    }
    for (follower, pattern) in followers[1..].iter().zip(["c/edge", "o/other"]) {
        let change = Change::SetPattern {
            node: "n".parse().unwrap(),
            pattern: Some(pattern.parse().unwrap()),
        };
        follower.commit(change, vec![]).await.unwrap();
    }
    let [b, ..] = followers;
    (o, b)
}

/// Who is behind `o`, with the change that they must follow.
async fn behind(world: &World) -> Vec<(String, u64)> {
    let behind = world.catalog.behind().await.unwrap();
    let each = behind
        .iter()
        .inspect(|one| assert_eq!(one.publisher, org("o")));
    let each = each.map(|one| (one.org.to_string(), one.published.0));
    each.collect()
}

async fn published(world: &World) -> u64 {
    world.catalog.published(&world.org).await.unwrap().0
}

/// Commits placements that were computed when `o` had published `seen` changes.
async fn follow(world: &World, seen: u64, secret: &str) -> Result<Committed, CatalogError> {
    let basis = Basis {
        revision: world.catalog.revision(&world.org).await.unwrap(),
        published: [(org("o"), Revision(seen))].into(),
    };
    let binding = format!("a={secret}");
    let placements = vec![placement("n", vec![placed("d", &[&binding])])];
    let change = Change::Follow(org("o"));
    let audit = crate::catalog::records::NewAudit {
        org: world.org.clone(),
        ..audit("pattern.follow")
    };
    world
        .catalog
        .commit(&world.org, basis, change, placements, audit)
        .await
}

fn public_service(public: bool) -> ServiceRecord {
    ServiceRecord {
        public,
        ..service("1.0.0", "{}")
    }
}

pub(crate) async fn what_is_public_is_given_and_its_changes_are_counted(place: &mut dyn Place) {
    let (o, b) = world(place).await;
    assert_eq!(published(&o).await, 0);
    for change in [
        Change::PutPattern(pattern("own", false, "{}")),
        Change::PutService(public_service(false)),
        policy("p"),
    ] {
        o.commit(change, vec![]).await.unwrap();
    }
    assert_eq!(published(&o).await, 0);
    let nothing = o.catalog.public(&o.org).await.unwrap();
    assert_eq!((nothing.services, nothing.patterns), (vec![], vec![]));

    let (edge, uplink) = (pattern("edge", true, "{\"a\":1}"), public_service(true));
    let changes = [
        Change::PutPattern(edge.clone()),
        Change::PutService(uplink.clone()),
    ];
    for change in changes {
        o.commit(change, vec![]).await.unwrap();
    }
    let given = o.catalog.public(&o.org).await.unwrap();
    assert_eq!(given.published, Revision(2));
    assert_eq!((given.services, given.patterns), (vec![uplink], vec![edge]));

    // What stops being public counts, what is gone from the private does not.
    for (change, counted) in [
        (Change::PutService(public_service(false)), 3),
        (
            Change::RemoveService {
                url: public_service(false).url,
                version: "1.0.0".into(),
                arch: "*".into(),
            },
            3,
        ),
        (Change::RemovePattern("own".parse().unwrap()), 3),
        (Change::RemovePattern("edge".parse().unwrap()), 4),
    ] {
        o.commit(change, vec![]).await.unwrap();
        assert_eq!(published(&o).await, counted);
    }
    for nobody in ["b", "nowhere"] {
        let nothing = b.catalog.public(&org(nobody)).await.unwrap();
        assert_eq!(nothing, Default::default());
        let published = b.catalog.published(&org(nobody)).await.unwrap();
        assert_eq!(published, Revision(0));
    }
}

/// Of a pattern those who are on it; of a service, which any of the patterns may deploy, those who are
/// on any; never those who are on none, nor the publisher.
pub(crate) async fn a_change_of_what_is_public_leaves_behind_who_uses_it(place: &mut dyn Place) {
    let (o, _) = world(place).await;
    o.enrol("own").await;
    let bell = o.catalog.behind_bell();
    for change in [
        Change::PutPattern(pattern("edge", false, "{}")),
        Change::PutPattern(pattern("unused", true, "{}")),
        Change::PutService(public_service(false)),
    ] {
        o.commit(change, vec![]).await.unwrap();
    }
    assert_eq!(behind(&o).await, []);
    assert!(!bell.has_changed().unwrap());

    let edge = Change::PutPattern(pattern("edge", true, "{}"));
    o.commit(edge, vec![]).await.unwrap();
    assert_eq!(behind(&o).await, [("b".to_owned(), 2)]);
    assert!(bell.has_changed().unwrap());
    let since = o.catalog.behind().await.unwrap()[0].since;
    let service = Change::PutService(public_service(true));
    o.commit(service, vec![]).await.unwrap();
    let both = [("b".to_owned(), 3), ("d".to_owned(), 3)];
    assert_eq!(behind(&o).await, both);
    assert_eq!(o.catalog.behind().await.unwrap()[0].since, since);
    let gone = Change::RemovePattern("edge".parse().unwrap());
    o.commit(gone, vec![]).await.unwrap();
    let b_alone = [("b".to_owned(), 4), ("d".to_owned(), 3)];
    assert_eq!(behind(&o).await, b_alone);
}

pub(crate) async fn who_follows_is_behind_no_more_and_does_it_once(place: &mut dyn Place) {
    let (o, b) = world(place).await;
    let edge = Change::PutPattern(pattern("edge", true, "{}"));
    o.commit(edge, vec![]).await.unwrap();
    let before = b.catalog.revision(&b.org).await.unwrap();
    let followed = follow(&b, 1, "x").await.unwrap();
    assert_eq!(
        (followed.touched.len(), followed.revision.0),
        (1, before.0 + 1)
    );
    assert_eq!(behind(&b).await, []);
    assert_eq!(b.bindings("n", None).await.deployments.len(), 1);
    let (trail, feed) = (b.trail().await, b.feed().await);
    assert_eq!(trail.last().unwrap().entry.action, "pattern.follow");

    // Another hub was quicker: not even a difference is placed.
    let again = follow(&b, 1, "y").await.unwrap();
    assert_eq!((again.touched, again.revision), (vec![], followed.revision));
    assert_eq!((b.trail().await, b.feed().await), (trail.clone(), feed));
    // What nobody's node sees is crossed off without a record.
    let same = Change::PutPattern(pattern("edge", true, "{} "));
    o.commit(same, vec![]).await.unwrap();
    let seen = follow(&b, 2, "x").await.unwrap();
    assert_eq!((seen.touched, seen.revision), (vec![], followed.revision));
    assert_eq!((behind(&b).await, b.trail().await), (vec![], trail));
}

/// What was computed from older documents of the publisher is written by nobody, whatever the change;
/// nor does it end being behind.
pub(crate) async fn a_basis_that_others_left_is_a_conflict(place: &mut dyn Place) {
    let (o, b) = world(place).await;
    let edge = || Change::PutPattern(pattern("edge", true, "{}"));
    o.commit(edge(), vec![]).await.unwrap();
    o.commit(edge(), vec![]).await.unwrap();
    for seen in [0, 1, 3] {
        let refused = follow(&b, seen, "x").await;
        assert!(matches!(refused, Err(CatalogError::Conflict)), "{seen}");
        let basis = Basis {
            revision: b.catalog.revision(&b.org).await.unwrap(),
            published: [(org("o"), Revision(seen))].into(),
        };
        let change = Change::SetPattern {
            node: "n".parse().unwrap(),
            pattern: Some("o/edge".parse().unwrap()),
        };
        let refused = b.catalog.commit(&b.org, basis, change, vec![], audit("x"));
        assert!(matches!(refused.await, Err(CatalogError::Conflict)));
    }
    // Placements that looked at nothing of the publisher's follow nothing.
    let blind = b.commit(Change::Follow(org("o")), vec![]).await;
    assert!(matches!(blind, Err(CatalogError::Conflict)));
    assert_eq!(behind(&b).await, [("b".to_owned(), 2)]);
    assert_eq!(b.bindings("n", None).await.deployments, []);
    follow(&b, 2, "x").await.unwrap();
}

pub(crate) async fn who_is_behind_stays_so_over_a_restart(place: &mut dyn Place) {
    let (o, b) = world(place).await;
    let edge = Change::PutPattern(pattern("edge", true, "{}"));
    o.commit(edge, vec![]).await.unwrap();
    let behind_before = o.catalog.behind().await.unwrap();
    drop(o);
    let b = World {
        catalog: place.open().await,
        org: b.org,
    };
    assert_eq!(b.catalog.behind().await.unwrap(), behind_before);
    follow(&b, 1, "x").await.unwrap();
    assert_eq!(behind(&b).await, []);
}

pub(crate) async fn followers_are_counted_and_not_named(place: &mut dyn Place) {
    let (o, b) = world(place).await;
    o.enrol("own").await;
    b.enrol("m").await;
    let count = |names: &[&str]| {
        let names: Vec<PatternName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let (catalog, org): (_, OrgId) = (o.catalog.clone(), o.org.clone());
        async move { catalog.followers(&org, &names).await.unwrap() }
    };
    let of = |orgs, nodes| Followers { orgs, nodes };
    assert_eq!(count(&["edge"]).await, of(1, 2));
    assert_eq!(count(&["edge", "other"]).await, of(2, 3));
    assert_eq!(count(&["unused"]).await, of(0, 0));
    assert_eq!(count(&[]).await, of(0, 0));
}
