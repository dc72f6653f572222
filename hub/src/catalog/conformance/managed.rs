//! What managers outside keep, and leases.

use edge_secrets_protocol::OrgId;

use super::Place;
use super::world::{World, at, audit, node_id, placed, secret_ref};
use crate::catalog::records::{
    LeaseChange, LeaseId, LeasePlace, LeaseQuery, LeaseRecord, LeaseState, Observation, Trouble,
    Wish,
};
use crate::managers::{Effect, Fault, LeaseHandle};

fn version(text: &str) -> Observation {
    Observation {
        effect: Some(Effect::Pure),
        version: Some(text.parse().unwrap()),
        ..Observation::default()
    }
}

fn trouble(fault: Fault) -> Option<Trouble> {
    Some(Trouble {
        fault,
        detail: "in words".into(),
        since: at(3),
    })
}

/// Says how many nodes heard of it; none where nothing binds it.
async fn observe(world: &World, reference: &str, said: &Observation) -> Option<usize> {
    let (org, reference) = (&world.org, secret_ref(reference));
    let kept = world
        .catalog
        .observe(org, &reference, said, audit("secret.observe"));
    kept.await.unwrap().map(|committed| committed.touched.len())
}

async fn unasked(world: &World) -> Vec<String> {
    let found = world.catalog.observed(true).await.unwrap();
    found
        .iter()
        .map(|observed| observed.reference.to_string())
        .collect()
}

pub(crate) async fn a_managed_secret_is_asked_about_once_it_is_bound(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.enrol("m").await;
    assert!(unasked(&world).await.is_empty());
    let bound = placed(
        "d",
        &["a=v:node/n/db|v:db", "b=own", "c=!v:user/u/x", "e=v:db#f"],
    );
    world.place("n", vec![bound]).await;
    // The hub's own, and what the node may not have, are nobody's to ask.
    assert_eq!(unasked(&world).await, ["v:db", "v:node/n/db"]);
    let before = world.generation("n").await;
    assert_eq!(world.resolved("n").await["d/a"], "Pending");
    assert_eq!(observe(&world, "v:db", &version("7")).await, Some(1));
    assert_eq!(unasked(&world).await, ["v:node/n/db"]);
    assert!(world.generation("n").await > before);
    // The more specific one may be there: it is waited for.
    assert_eq!(world.resolved("n").await["d/a"], "Pending");
    let absent = Observation {
        trouble: trouble(Fault::Missing),
        ..Observation::default()
    };
    assert_eq!(observe(&world, "v:node/n/db", &absent).await, Some(1));
    assert_eq!(world.resolved("n").await["d/a"], "v:db@7");
    // Bound again, elsewhere: what is known stays known.
    world.place("m", vec![placed("d", &["a=v:db"])]).await;
    assert!(unasked(&world).await.is_empty());
    assert_eq!(world.resolved("m").await["d/a"], "v:db@7");
    let known = world
        .catalog
        .observation(&world.org, &secret_ref("v:node/n/db"))
        .await;
    assert_eq!(known.unwrap().unwrap().known, Some(absent));
}

pub(crate) async fn what_a_manager_says_reaches_the_nodes_that_bind_it_alone(
    place: &mut dyn Place,
) {
    let world = World::new(place).await;
    for node in ["n", "m", "other"] {
        world.enrol(node).await;
    }
    world
        .place(
            "n",
            vec![placed("d", &["a=v:db"]), placed("e", &["a=v:more"])],
        )
        .await;
    world.place("m", vec![placed("d", &["a=v:db"])]).await;
    world.place("other", vec![placed("d", &["a=v:more"])]).await;
    observe(&world, "v:more", &version("1")).await;
    let before = world.generation("n").await;
    let others = world.generation("other").await;
    assert_eq!(observe(&world, "v:db", &version("1")).await, Some(2));
    assert_eq!(world.generation("other").await, others);
    let changed = world.bindings("n", Some(before)).await;
    let ids: Vec<_> = changed
        .deployments
        .iter()
        .map(|d| d.placed.id.as_str())
        .collect();
    assert_eq!(ids, ["d"], "the other deployment is as it was");
    assert_eq!(observe(&world, "v:db", &version("2")).await, Some(2));
    assert_eq!(world.resolved("m").await["d/a"], "v:db@2");
}

pub(crate) async fn trouble_that_nodes_need_not_know_touches_nobody(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=v:db"])]).await;
    observe(&world, "v:db", &version("1")).await;
    let sealed = Observation {
        trouble: trouble(Fault::Sealed),
        ..version("1")
    };
    assert_eq!(observe(&world, "v:db", &sealed).await, Some(0));
    let bindings = world.bindings("n", None).await;
    let detail = bindings.deployments[0].details.values().next().unwrap();
    assert_eq!(detail.trouble, sealed.trouble, "operators read of it");
    assert_eq!(world.resolved("n").await["d/a"], "v:db@1");
    let ending = Observation {
        expires_at: Some(at(4_000_000_000_000)),
        ..version("1")
    };
    assert_eq!(observe(&world, "v:db", &ending).await, Some(1));
    let bindings = world.bindings("n", None).await;
    assert_eq!(
        bindings.deployments[0].secrets[0].expires_at,
        ending.expires_at
    );
}

pub(crate) async fn nodes_that_bind_a_secret_are_counted_once_each(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["n", "m", "other"] {
        world.enrol(node).await;
    }
    let count_of = async |org: &OrgId, reference: &str| {
        let reference = secret_ref(reference);
        world.catalog.binding_nodes(org, &reference).await.unwrap()
    };
    let count = async |reference: &str| count_of(&world.org, reference).await;
    assert_eq!(count("v:db").await, 0);
    let twice = vec![
        placed("d", &["a=v:db#user", "b=v:db#password"]),
        placed("e", &["a=v:node/n/db|v:db"]),
    ];
    world.place("n", twice).await;
    world.place("m", vec![placed("d", &["a=v:db"])]).await;
    // What a node may not have is none of its bindings.
    let denied = placed("d", &["a=!v:db", "b=v:more"]);
    world.place("other", vec![denied]).await;
    assert_eq!(count("v:db").await, 2);
    assert_eq!(count("v:node/n/db").await, 1);
    assert_eq!(count("v:more").await, 1);
    world.place("n", vec![]).await;
    assert_eq!(count("v:db").await, 1);
    let other = "elsewhere".parse().unwrap();
    assert_eq!(count_of(&other, "v:db").await, 0);
}

pub(crate) async fn a_field_and_its_secret_share_what_is_known(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let bound = placed("d", &["a=v:db#user", "b=v:db#password", "c=own#x"]);
    world.place("n", vec![bound]).await;
    world.put("own", 1).await;
    observe(&world, "v:db", &version("1")).await;
    let resolved = world.resolved("n").await;
    assert_eq!(resolved["d/a"], "v:db#user@1");
    assert_eq!(resolved["d/b"], "v:db#password@1");
    assert_eq!(resolved["d/c"], "own#x@1");
}

pub(crate) async fn what_nothing_binds_is_forgotten(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world
        .place("n", vec![placed("d", &["a=v:db", "b=v:more"])])
        .await;
    observe(&world, "v:db", &version("1")).await;
    assert!(world.catalog.forget_unbound().await.unwrap().is_empty());
    world.place("n", vec![placed("d", &["b=v:more"])]).await;
    let gone = world.catalog.forget_unbound().await.unwrap();
    assert_eq!(gone, [(world.org.clone(), secret_ref("v:db"))]);
    assert_eq!(observe(&world, "v:db", &version("2")).await, None);
    world.place("n", vec![placed("d", &["a=v:db"])]).await;
    assert!(
        unasked(&world).await.contains(&"v:db".to_owned()),
        "asked anew"
    );
}

fn lease_place(node: &str) -> LeasePlace {
    LeasePlace {
        org: "o".parse().unwrap(),
        node: node_id(node),
        deployment: "d".parse().unwrap(),
        reference: secret_ref("v:db"),
    }
}

fn want(node: &str, beside: bool) -> LeaseChange {
    LeaseChange::Want(Box::new(Wish {
        place: lease_place(node),
        identity: None,
        refused: None,
        beside,
    }))
}

async fn change(world: &World, changes: Vec<LeaseChange>) -> Vec<LeaseRecord> {
    let changed = world.catalog.change_leases(&changes, vec![audit("lease")]);
    changed.await.unwrap()
}

fn live(mut lease: LeaseRecord) -> LeaseChange {
    lease.state = LeaseState::Live;
    lease.current = true;
    lease.handle = Some(LeaseHandle::new("database/creds/x/1").unwrap());
    lease.epoch = Some("accessor".into());
    lease.granted_at = Some(at(5));
    lease.ends_at = Some(at(4_000_000_000_000));
    lease.renewable = true;
    LeaseChange::Set(Box::new(lease))
}

pub(crate) async fn leases_are_changed_together_and_numbers_never_come_back(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=v:db"])]).await;
    let before = world.generation("n").await;
    let first = change(&world, vec![want("n", false)]).await.remove(0);
    assert_eq!((first.state, first.current), (LeaseState::Wanted, true));
    let enrolled = world.catalog.node(&world.org, &node_id("n")).await.unwrap();
    assert_eq!(first.enrolled_at, Some(enrolled.unwrap().enrolled_at));
    assert_eq!(
        world.generation("n").await,
        before,
        "there is nothing to see yet"
    );
    let made = change(&world, vec![live(first.clone())]).await.remove(0);
    assert!(world.generation("n").await > before);
    let beside = change(&world, vec![want("n", true)]).await.remove(0);
    assert!(!beside.current && beside.id > first.id);
    // The unknown one makes all of it fail.
    let mut unknown = made.clone();
    unknown.id = LeaseId(999);
    let mut old = made.clone();
    old.current = false;
    let changes = [LeaseChange::Set(Box::new(old.clone())), live(unknown)];
    assert!(world.catalog.change_leases(&changes, vec![]).await.is_err());
    let kept = world.catalog.leases(&LeaseQuery::default()).await.unwrap();
    assert_eq!(kept, [made.clone(), beside.clone()]);
    old.state = LeaseState::Ended;
    change(
        &world,
        vec![LeaseChange::Set(Box::new(old)), live(beside.clone())],
    )
    .await;
    let open = world.catalog.leases(&LeaseQuery::default()).await.unwrap();
    assert_eq!(open.iter().map(|l| l.id).collect::<Vec<_>>(), [beside.id]);
    let counted = world.catalog.count_leases(&world.org).await.unwrap();
    assert_eq!(counted, [(LeaseState::Live, 1)].into());
    let elsewhere = world.catalog.count_leases(&"other".parse().unwrap()).await;
    assert_eq!(elsewhere.unwrap(), [].into());
    let query = LeaseQuery {
        org: Some(world.org.clone()),
        node: Some(node_id("n")),
        ended: true,
        ..LeaseQuery::default()
    };
    assert_eq!(world.catalog.leases(&query).await.unwrap().len(), 2);
    // A part of them: the newest, then what is older.
    let newest = LeaseQuery {
        limit: Some(1),
        ..query.clone()
    };
    let part = world.catalog.leases(&newest).await.unwrap();
    assert_eq!(part.iter().map(|l| l.id).collect::<Vec<_>>(), [beside.id]);
    let older = LeaseQuery {
        before: Some(beside.id),
        ..newest
    };
    let part = world.catalog.leases(&older).await.unwrap();
    assert_eq!(part.iter().map(|l| l.id).collect::<Vec<_>>(), [made.id]);
    let third = change(&world, vec![want("n", false)]).await.remove(0);
    assert!(third.id > beside.id);
    let open = world.catalog.leases(&LeaseQuery::default()).await.unwrap();
    assert_eq!(open.iter().filter(|lease| lease.current).count(), 1);
    // What is dead is remembered for a while, and no other.
    let forget = world.catalog.forget_ended_leases(at(0)).await.unwrap();
    assert_eq!(forget, 0);
    let forgotten = world
        .catalog
        .forget_ended_leases(at(4_000_000_000_000))
        .await;
    assert_eq!(forgotten.unwrap(), 1);
    let left = world.catalog.leases(&query).await.unwrap();
    assert_eq!(
        left.iter().map(|l| l.id).collect::<Vec<_>>(),
        [beside.id, third.id]
    );
    // Of a node that is gone: it is kept until it is dead, and nobody hears of it.
    change(&world, vec![want("gone", false)]).await;
    let nodes = world.catalog.leasing_nodes().await.unwrap();
    assert!(nodes.contains(&(world.org.clone(), node_id("gone"))));
}

pub(crate) async fn a_lease_resolves_its_binding_alone(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["n", "m"] {
        world.enrol(node).await;
        world
            .place(node, vec![placed("d", &["a=v:db#user", "b=v:db#password"])])
            .await;
    }
    assert!(
        !world
            .catalog
            .binds_leased(&world.org, &node_id("n"))
            .await
            .unwrap()
    );
    let mints = Observation {
        effect: Some(Effect::Mints),
        ..Observation::default()
    };
    assert_eq!(observe(&world, "v:db", &mints).await, Some(2));
    assert!(
        world
            .catalog
            .binds_leased(&world.org, &node_id("n"))
            .await
            .unwrap()
    );
    assert_eq!(world.resolved("n").await["d/a"], "Pending");
    let lease = change(&world, vec![want("n", false)]).await.remove(0);
    assert_eq!(world.resolved("n").await["d/a"], "Pending");
    let lease = change(&world, vec![live(lease)]).await.remove(0);
    let resolved = world.resolved("n").await;
    assert_eq!(resolved["d/a"], format!("v:db#user@{}", lease.id.version()));
    assert_eq!(
        resolved["d/b"],
        format!("v:db#password@{}", lease.id.version())
    );
    assert_eq!(world.resolved("m").await["d/a"], "Pending");
}

pub(crate) async fn sessions_are_kept_by_manager(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    let catalog = &world.catalog;
    assert_eq!(catalog.manager_session(&one).await.unwrap(), None);
    catalog
        .put_manager_session(&one, b"k", b"c", at(1))
        .await
        .unwrap();
    catalog
        .put_manager_session(&one, b"k2", b"c2", at(2))
        .await
        .unwrap();
    let kept = catalog.manager_session(&one).await.unwrap();
    assert_eq!(kept, Some((b"k2".to_vec(), b"c2".to_vec())));
    assert_eq!(catalog.manager_session(&two).await.unwrap(), None);
}
