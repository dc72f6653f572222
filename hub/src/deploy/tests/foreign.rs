//! Nodes on another organisation's public pattern, over a real catalog: what the other changes reaches
//! them, whoever is at work at the same time.

use std::sync::Arc;

use edge_secrets_protocol::PatternId;

use super::catalog::{Place, audit, enrol_as, place_with_org};
use super::*;
use crate::catalog::CatalogError;
use crate::catalog::records::{Behind, Committed};
use crate::deploy::{Models, apply_to};

/// Whose patterns nodes of `myorg` are on.
fn publisher() -> OrgId {
    "other".parse().unwrap()
}

/// What the publisher publishes is made of what the other tests publish.
fn public(change: Change) -> Change {
    let other = |document: &str| document.replace("\"myorg\"", "\"other\"");
    match change {
        Change::PutService(record) => Change::PutService(ServiceRecord {
            public: true,
            document: other(&record.document),
            ..record
        }),
        Change::PutPattern(record) => Change::PutPattern(PatternRecord {
            public: true,
            document: other(&record.document),
            ..record
        }),
        change => change,
    }
}

fn private(change: Change) -> Change {
    match public(change) {
        Change::PutService(record) => Change::PutService(ServiceRecord {
            public: false,
            ..record
        }),
        Change::PutPattern(record) => Change::PutPattern(PatternRecord {
            public: false,
            ..record
        }),
        change => change,
    }
}

fn uplink(version: &str) -> Change {
    Change::PutService(service("uplink", version, "cred"))
}

fn edge(services: &[(&str, &str)], secret: &str) -> Change {
    Change::PutPattern(pattern("edge", services, secret))
}

fn remove(version: &str) -> Change {
    Change::RemoveService {
        url: "uplink".parse().unwrap(),
        version: version.into(),
        arch: "*".into(),
    }
}

async fn world() -> Place {
    let place = place_with_org().await;
    place
        .catalog
        .create_org(&publisher(), audit())
        .await
        .unwrap();
    place
}

async fn apply_in(
    place: &Place,
    models: &Models,
    org: &OrgId,
    change: Change,
) -> Result<Committed, CatalogError> {
    apply_to(&*place.catalog, models, org, change, audit()).await
}

async fn publish(place: &Place, models: &Models, change: Change) {
    let published = apply_in(place, models, &publisher(), change).await;
    published.unwrap();
}

async fn enrol_on(place: &Place, models: &Models, node: &str, pattern: &str) {
    let belongs = Belonging {
        owner: None,
        pattern: Some(pattern.parse().unwrap()),
    };
    enrol_as(place, models, &org(), node, belongs).await;
}

/// What the task in the background does, until there is nothing left to do.
async fn catch_up(place: &Place, models: &Models) -> usize {
    let mut nodes = 0;
    for Behind { org, publisher, .. } in place.catalog.behind().await.unwrap() {
        let change = Change::Follow(publisher);
        let followed = apply_in(place, models, &org, change).await.unwrap();
        nodes += followed.touched.len();
    }
    nodes
}

/// `service version: reference` of everything that a node of `myorg` has.
async fn has(place: &Place, node: &str) -> Vec<String> {
    let node = node.parse().unwrap();
    let bindings = place.catalog.bindings(&org(), &node, None).await.unwrap();
    let line = |one: &Placed| {
        let bound = one.bindings.values().flat_map(|one| &one.candidates);
        let bound: Vec<_> = bound.map(ToString::to_string).collect();
        let (service, version) = (&one.service, &one.service_version);
        format!("{service} {version}: {}", bound.join(", "))
    };
    let placed = bindings.deployments.iter().map(|one| line(&one.placed));
    placed.collect()
}

/// Whoever is not behind has exactly what a computation from nothing gives.
async fn assert_settled(place: &Place) {
    let snapshot = place.catalog.snapshot(&org()).await.unwrap();
    let public = place.catalog.public(&publisher()).await.unwrap();
    let mut model = Model::load(&org(), snapshot, None);
    model.meet(shelves(&Arc::new(Shelf::load(&publisher(), public, None))));
    for (node, wanted) in whole(&model) {
        let bindings = place.catalog.bindings(&org(), &node, None).await.unwrap();
        let stored: Vec<_> = bindings.deployments.into_iter().map(|d| d.placed).collect();
        assert_eq!(stored, wanted, "{node}");
    }
}

#[tokio::test]
async fn nodes_follow_what_another_organisation_publishes() {
    let (place, models) = (world().await, Models::default());
    // The same service in the nodes' own organisation is another one.
    apply_in(&place, &models, &org(), uplink("9.0.0"))
        .await
        .unwrap();
    publish(&place, &models, public(uplink("1.0.0"))).await;
    publish(&place, &models, public(edge(&[("uplink", "1.0.0")], "x"))).await;
    enrol_on(&place, &models, "n", "other/edge").await;
    enrol_on(&place, &models, "bystander", "myorg/edge").await;
    assert_eq!(has(&place, "n").await, ["other/uplink 1.0.0: edge"]);
    assert_eq!(place.catalog.behind().await.unwrap(), []);

    // A new version of the pattern, and a service that it names already.
    let both = edge(&[("uplink", "2.0.0"), ("gps", "1.0.0")], "x");
    publish(&place, &models, public(both)).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await, [""; 0]);
    publish(&place, &models, public(uplink("2.0.0"))).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await, ["other/uplink 2.0.0: edge"]);
    let gps = service("gps", "1.0.0", "key");
    publish(&place, &models, private(Change::PutService(gps.clone()))).await;
    assert_eq!(catch_up(&place, &models).await, 0);
    assert_eq!(has(&place, "n").await.len(), 1);
    publish(&place, &models, public(Change::PutService(gps))).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await.len(), 2);
    assert_settled(&place).await;

    // A service, and then the pattern, is nobody else's business any more; and is it again.
    publish(&place, &models, remove("2.0.0")).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await, ["other/gps 1.0.0: x"]);
    let hidden = edge(&[("gps", "1.0.0")], "x");
    publish(&place, &models, private(hidden.clone())).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await, [""; 0]);
    publish(&place, &models, public(hidden)).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    let gone = Change::RemovePattern("edge".parse().unwrap());
    publish(&place, &models, gone).await;
    assert_eq!(catch_up(&place, &models).await, 1);
    assert_eq!(has(&place, "n").await, [""; 0]);
    let node = place.catalog.node(&org(), &"n".parse().unwrap()).await;
    let on: PatternId = "other/edge".parse().unwrap();
    assert_eq!(node.unwrap().unwrap().belongs.pattern, Some(on));
    assert_settled(&place).await;
}

/// What the pattern's services require must be public too, and of the same organisation.
#[tokio::test]
async fn what_is_required_is_looked_for_among_the_public_alone() {
    let (place, models) = (world().await, Models::default());
    let mut app = service("app", "1.0.0", "cred");
    let mut document: serde_json::Value = serde_json::from_str(&app.document).unwrap();
    document["requiredServices"] = json!([{"url": "dep", "org": "myorg"}]);
    app.document = document.to_string();
    let dep = || Change::PutService(service("dep", "1.0.0", "key"));
    apply_in(&place, &models, &org(), dep()).await.unwrap();
    publish(&place, &models, public(Change::PutService(app))).await;
    publish(&place, &models, private(dep())).await;
    let mut offered = pattern("edge", &[("app", "1.0.0")], "x");
    offered.document = offered.document.replace("\"uplink\"", "\"app\"");
    publish(&place, &models, public(Change::PutPattern(offered))).await;
    enrol_on(&place, &models, "n", "other/edge").await;
    assert_eq!(has(&place, "n").await, [""; 0]);
    publish(&place, &models, public(dep())).await;
    catch_up(&place, &models).await;
    let mut both = has(&place, "n").await;
    both.sort();
    assert_eq!(both, ["other/app 1.0.0: edge", "other/dep 1.0.0: x"]);
    assert_settled(&place).await;
}

/// Another hub's model knows nothing of it: the catalog refuses what it computed, and it looks again.
#[tokio::test]
async fn a_placement_of_documents_that_changed_meanwhile_does_not_survive() {
    let place = world().await;
    let (here, there) = (Models::default(), Models::default());
    publish(&place, &here, public(uplink("1.0.0"))).await;
    publish(&place, &here, public(uplink("2.0.0"))).await;
    let version = |version| public(edge(&[("uplink", version)], "x"));
    publish(&place, &here, version("1.0.0")).await;
    enrol_on(&place, &there, "first", "other/edge").await;
    // Both models of the nodes' organisation are as old as can be.
    here.current(&*place.catalog, &org()).await.unwrap();
    let stale = there.current(&*place.catalog, &org()).await.unwrap();
    publish(&place, &here, version("2.0.0")).await;

    // The commit of what was computed before.
    let change = Change::SetPattern {
        node: "first".parse().unwrap(),
        pattern: Some("other/edge".parse().unwrap()),
    };
    let computed = plan(&stale, &change);
    let node = computed.node.as_ref().map(|(_, node)| node);
    let (org, basis) = (org(), stale.basis(&change, node));
    let committed = place
        .catalog
        .commit(&org, basis, change, computed.placements, audit());
    assert!(matches!(committed.await, Err(CatalogError::Conflict)));
    enrol_on(&place, &there, "second", "other/edge").await;
    assert_eq!(has(&place, "second").await, ["other/uplink 2.0.0: edge"]);
    // Whoever was there is behind until it is placed, by either.
    assert_eq!(has(&place, "first").await, ["other/uplink 1.0.0: edge"]);
    assert_eq!(catch_up(&place, &there).await, 1);
    assert_eq!(catch_up(&place, &here).await, 0);
    assert_settled(&place).await;
}

/// However often another organisation publishes: changes that look at nothing of it are not computed anew,
/// so that it cannot keep them from being made. Those that do look at it are.
#[tokio::test]
async fn what_others_publish_meanwhile_holds_up_only_what_looks_at_it() {
    let (place, models) = (world().await, Models::default());
    publish(&place, &models, public(uplink("1.0.0"))).await;
    publish(&place, &models, public(edge(&[("uplink", "1.0.0")], "x"))).await;
    enrol_on(&place, &models, "follower", "other/edge").await;
    enrol_on(&place, &models, "own", "myorg/edge").await;
    let node = |name: &str| name.parse().unwrap();
    let moved = |name| Change::PutFacts {
        node: node(name),
        facts: Box::new(facts("paris")),
    };
    let own = policy("p", "uplink", "1.0.0", "berlin", "db");
    for (change, goes_through) in [
        (uplink("1.0.0"), true),
        (edge(&[("uplink", "1.0.0")], "y"), true),
        (Change::PutPolicy(own), true),
        (moved("own"), true),
        (moved("follower"), false),
        (Change::Follow(publisher()), false),
        (Change::SetDefaultManager(None), false),
    ] {
        let current = models.current(&*place.catalog, &org()).await.unwrap();
        let computed = plan(&current, &change);
        publish(&place, &models, public(uplink("2.0.0"))).await;
        let basis = current.basis(&change, computed.node.as_ref().map(|(_, node)| node));
        let what = format!("{change:?}");
        let committed = place
            .catalog
            .commit(&org(), basis, change, computed.placements, audit())
            .await;
        match committed {
            Ok(_) => assert!(goes_through, "{what}"),
            Err(CatalogError::Conflict) => assert!(!goes_through, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
    catch_up(&place, &models).await;
    assert_settled(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hubs_over_one_catalog_lose_no_change_of_another_organisation() {
    let place = Arc::new(world().await);
    let hubs = [Arc::new(Models::default()), Arc::new(Models::default())];
    for version in ["1.0.0", "2.0.0"] {
        publish(&place, &hubs[0], public(uplink(version))).await;
    }
    publish(&place, &hubs[0], public(edge(&[("uplink", "1.0.0")], "x"))).await;
    let publishing = {
        let (place, models) = (Arc::clone(&place), Arc::clone(&hubs[0]));
        tokio::spawn(async move {
            // With the enrolments below fewer changes than attempts: whatever the order, none can fail
            // for ever.
            for round in 0..5 {
                let version = ["2.0.0", "1.0.0"][round % 2];
                let change = edge(&[("uplink", version)], "x");
                let change = match round % 3 {
                    2 => private(change),
                    _ => public(change),
                };
                publish(&place, &models, change).await;
            }
        })
    };
    let work = hubs.iter().enumerate().map(|(at, models)| {
        let (place, models) = (Arc::clone(&place), Arc::clone(models));
        tokio::spawn(async move {
            for round in 0..4 {
                let node = format!("n{at}{round}");
                enrol_on(&place, &models, &node, "other/edge").await;
                for Behind { org, publisher, .. } in place.catalog.behind().await.unwrap() {
                    let change = Change::Follow(publisher);
                    match apply_in(&place, &models, &org, change).await {
                        Ok(_) | Err(CatalogError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for work in work.collect::<Vec<_>>().into_iter().chain([publishing]) {
        work.await.unwrap();
    }
    catch_up(&place, &hubs[1]).await;
    assert_eq!(place.catalog.behind().await.unwrap(), []);
    assert_settled(&place).await;
}

/// The hub was killed between the two: a new one finds who is behind.
#[tokio::test]
async fn who_is_behind_is_found_after_a_restart() {
    let mut place = world().await;
    let models = Models::default();
    publish(&place, &models, public(uplink("1.0.0"))).await;
    publish(&place, &models, public(edge(&[("uplink", "1.0.0")], "x"))).await;
    enrol_on(&place, &models, "n", "other/edge").await;
    let gone = Change::RemovePattern("edge".parse().unwrap());
    publish(&place, &models, gone).await;
    drop(models);
    let path = place._dir.path().join("hub.db");
    let reopened = crate::catalog::sqlite::SqliteCatalog::open(&path).await;
    place.catalog = Arc::new(reopened.unwrap());
    assert_eq!(has(&place, "n").await.len(), 1);
    assert_eq!(catch_up(&place, &Models::default()).await, 1);
    assert_eq!(has(&place, "n").await, [""; 0]);
    assert_settled(&place).await;
}

/// Nothing is kept of organisations that are only asked about, and a model that knows of one that no
/// node is on any more still moves on.
#[tokio::test]
async fn what_is_only_asked_about_leaves_no_trace_and_nothing_stuck() {
    let (place, models) = (world().await, Models::default());
    publish(&place, &models, public(uplink("1.0.0"))).await;
    publish(&place, &models, public(edge(&[("uplink", "1.0.0")], "x"))).await;
    for publisher in ["other", "nowhere", "myorg"] {
        let publisher = publisher.parse().unwrap();
        let org = org();
        let asked = models.current_with(&*place.catalog, &org, Some(&publisher));
        let knows = asked.await.unwrap().shelves.len();
        assert_eq!(knows, usize::from(publisher.as_str() != "myorg"));
    }
    let model = models.current(&*place.catalog, &org()).await.unwrap();
    assert_eq!(model.shelves.len(), 0);

    enrol_on(&place, &models, "n", "other/edge").await;
    publish(&place, &models, public(uplink("2.0.0"))).await;
    let off = Change::RemoveNode("n".parse().unwrap());
    apply_in(&place, &models, &org(), off).await.unwrap();
    assert_eq!(catch_up(&place, &models).await, 0);
    assert_eq!(place.catalog.behind().await.unwrap(), []);
    publish(&place, &models, public(uplink("3.0.0"))).await;
    apply_in(&place, &models, &org(), uplink("1.0.0"))
        .await
        .unwrap();
}
