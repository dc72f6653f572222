//! Secrets' metadata, how many versions stay, and how secrets end.

use edge_secrets_protocol::{Generation, SecretVersion};
use jiff::Timestamp;
use serde_json::json;

use super::Place;
use super::world::{World, at, audit, encrypted, item, node_id, org, placed, secret_ref, version};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Actor, Committed, EncryptedVersion, Expiry, MAX_EXPIRING, NewMeta, SecretRecord,
};
use crate::generator::Generator;
use crate::metadata::{MetaChange, SecretMeta};

pub(crate) async fn metadata_comes_with_a_value_and_stays(place: &mut dyn Place) {
    let world = World::new(place).await;
    let all = MetaChange {
        max_versions: Some(Some("1000".parse().unwrap())),
        ..everything()
    };
    let new = NewMeta {
        change: all.clone(),
        generator: Some(Some(generator())),
    };
    world.put_with("x", &encrypted(1), new).await;
    let meta = all.applied_to(&SecretMeta::default());
    let kept = world.record("x").await;
    assert_eq!((&kept.meta, &kept.generator), (&meta, &Some(generator())));
    let listed = world.catalog.secrets(&world.org, "").await.unwrap();
    assert_eq!(listed, [kept]);

    world.put("x", 2).await;
    let kept = world.record("x").await;
    assert_eq!((kept.meta, kept.generator), (meta, Some(generator())));
    let by_hand = NewMeta {
        generator: Some(None),
        ..NewMeta::default()
    };
    world.put_with("x", &encrypted(3), by_hand).await;
    assert_eq!(world.record("x").await.generator, None);

    // Set again after it was removed, it begins anew.
    world.remove("x").await;
    world.put("x", 4).await;
    let kept = world.record("x").await;
    assert_eq!((kept.meta, kept.generator), (SecretMeta::default(), None));
}

pub(crate) async fn metadata_is_edited_without_a_new_version(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    world.put("x", 1).await;
    let generation = world.generation("n").await;
    let before = world.record("x").await;

    let labels = change(json!({"labels": ["prod", "db"], "max_versions": 2}));
    let (edited, committed) = world.edit("x", &labels, None).await.unwrap();
    assert_eq!(committed.touched, []);
    let meta = labels.applied_to(&SecretMeta::default());
    assert_eq!(edited, SecretRecord { meta, ..before });
    assert_eq!(world.record("x").await, edited);
    assert_eq!(world.generation("n").await, generation);

    // Another end is news to who has it bound; the same one is not.
    let ends = change(json!({"expires_at": at(500)}));
    let (edited, committed) = world.edit("x", &ends, None).await.unwrap();
    assert_eq!(edited.meta.expires_at, Some(at(500)));
    assert_eq!(edited.meta.labels.to_string(), "db,prod");
    let raised = Generation(generation + 1);
    assert_eq!(committed.touched, [(node_id("n"), raised)]);
    let again = world.edit("x", &ends, None).await.unwrap().1;
    assert_eq!(again.touched, []);

    let edits = world.trail().await;
    let edits = edits.iter().filter(|r| r.entry.action == "secret.edit");
    assert_eq!(edits.count(), 3);
}

pub(crate) async fn an_edit_needs_the_secret_and_the_expected_version(place: &mut dyn Place) {
    let world = World::new(place).await;
    let absent = |result| matches!(result, Err(CatalogError::NotFound(_)));
    let change = everything();
    assert!(absent(world.edit("x", &change, None).await));
    world.put("x", 1).await;
    world.put("x", 2).await;
    for other in [None, Some(version(1)), Some(version(3))] {
        let edit = world.edit("x", &change, Some(other)).await;
        assert!(matches!(edit, Err(CatalogError::Conflict)), "{edit:?}");
    }
    assert_eq!(world.record("x").await.meta, SecretMeta::default());
    let current = Some(Some(version(2)));
    let edited = world.edit("x", &change, current).await;
    assert_eq!(edited.unwrap().0.current, version(2));
    world.remove("x").await;
    assert!(absent(world.edit("x", &change, None).await));
    let edits = world.trail().await;
    let edits = edits.iter().filter(|r| r.entry.action == "secret.edit");
    assert_eq!(edits.count(), 1);
}

pub(crate) async fn the_oldest_versions_make_room(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, x) = (&world.catalog, secret_ref("x"));
    let kept = async || {
        let versions = catalog.versions(&world.org, &x).await.unwrap();
        let kept = versions.into_iter().map(|version| version.version);
        kept.collect::<Vec<_>>()
    };
    for number in 1..=4 {
        world.put("x", number).await;
    }
    world.put("y", 1).await;
    // To keep fewer is no reason to lose one now.
    let two = change(json!({"max_versions": 2}));
    world.edit("x", &two, None).await.unwrap();
    assert_eq!(kept().await.len(), 4);
    world.put("x", 7).await;
    assert_eq!(kept().await, [version(7), version(4)]);
    let pruned = catalog.encrypted(&world.org, &x, &version(3)).await;
    assert_eq!(pruned.unwrap(), None);
    assert_eq!(catalog.last_version(&world.org, &x).await.unwrap(), 7);

    let one = change(json!({"max_versions": 1})).into_meta();
    world.put_with("x", &encrypted(8), one).await;
    assert_eq!(kept().await, [version(8)]);
    assert_eq!(world.record("x").await.current, version(8));
    let all = change(json!({"max_versions": null})).into_meta();
    world.put_with("x", &encrypted(9), all).await;
    world.put("x", 10).await;
    assert_eq!(kept().await.len(), 3);
    let others = catalog.versions(&world.org, &secret_ref("y")).await;
    assert_eq!(others.unwrap().len(), 1);
}

pub(crate) async fn an_end_is_announced_once_to_who_is_bound(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["a", "b"] {
        world.enrol(node).await;
    }
    world.place("a", vec![placed("d", &["n1=x", "n2=x"])]).await;
    world.place("b", vec![placed("d", &["n1=y"])]).await;
    world.put_until("x", 1, at(100)).await;
    world.put_until("y", 1, at(300)).await;
    world.put("z", 1).await;
    let (feed, trail) = (world.feed().await.len(), world.trail().await.len());

    let (early, generation) = (world.expire(at(99)).await, world.generation("a").await);
    assert_eq!((early.ended, early.next), (vec![], Some(at(100))));
    let there = world.expire(at(100)).await;
    assert_eq!(there.next, Some(at(300)));
    let [ended] = there.ended.as_slice() else {
        panic!("{there:?}");
    };
    assert_eq!(
        (&ended.org, &ended.reference),
        (&world.org, &secret_ref("x"))
    );
    assert_eq!(ended.expires_at, at(100));
    let raised = Generation(generation + 1);
    assert_eq!(ended.touched, [(node_id("a"), raised)]);
    assert_eq!(world.feed().await.len(), feed + 1);
    let told = world.bindings("a", Some(generation)).await;
    assert_eq!((told.deployments.len(), told.generation), (1, raised));
    let records = world.trail().await.split_off(trail);
    let [record] = records.as_slice() else {
        panic!("{records:?}");
    };
    let entry = &record.entry;
    assert_eq!((&entry.actor, entry.at), (&Actor::Hub, at(100)));
    let said = (entry.action.as_str(), entry.object.as_str());
    assert_eq!(said, ("secret.expire", "secret/x"));

    let again = world.expire(at(200)).await;
    assert_eq!((again.ended, again.next), (vec![], Some(at(300))));
    assert_eq!(world.feed().await.len(), feed + 1);
    // The secret is still there, for its owner to see and to set.
    assert_eq!(world.record("x").await.current, version(1));
    world.remove("y").await;
    let nothing = world.expire(at(1_000)).await;
    assert_eq!((nothing.ended, nothing.next), (vec![], None));
}

pub(crate) async fn another_end_is_announced_again(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    world.put_until("x", 1, at(100)).await;
    assert_eq!(world.expire(at(100)).await.ended.len(), 1);
    // Labels do not bring it back.
    let labels = change(json!({"labels": ["prod"]}));
    assert_eq!(world.edit("x", &labels, None).await.unwrap().1.touched, []);
    assert_eq!(world.expire(at(150)).await.ended, []);
    let later = change(json!({"expires_at": at(200)}));
    let touched = world.edit("x", &later, None).await.unwrap().1.touched;
    assert_eq!(touched.len(), 1);
    let ended = world.expire(at(200)).await.ended;
    assert_eq!((ended.len(), ended[0].touched.len()), (1, 1));
    // And with a value.
    world.put_until("x", 2, at(300)).await;
    assert_eq!(world.expire(at(250)).await.next, Some(at(300)));
    assert_eq!(world.expire(at(300)).await.ended.len(), 1);
}

pub(crate) async fn an_end_that_a_wrong_clock_announced_is_taken_back(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let secrets = ["a=x", "b=y", "c=z"];
    world.place("n", vec![placed("d", &secrets)]).await;
    world.put_until("x", 1, at(100)).await;
    world.put_until("y", 1, at(200)).await;
    world.put("z", 1).await;
    assert_eq!(world.expire(at(1_000)).await.ended.len(), 2);
    let (generation, trail) = (world.generation("n").await, world.trail().await.len());
    // It is 150: the one has not ended, the other has.
    let revived = world.catalog.revive_secrets(at(150)).await.unwrap();
    let [revived] = revived.as_slice() else {
        panic!("{revived:?}");
    };
    assert_eq!(revived.reference, secret_ref("y"));
    let raised = Generation(generation + 1);
    assert_eq!(revived.touched, [(node_id("n"), raised)]);
    let records = world.trail().await.split_off(trail);
    let said: Vec<_> = records.iter().map(|r| r.entry.action.as_str()).collect();
    assert_eq!(said, ["secret.revive"]);
    // Once; and its end is announced when it comes.
    assert_eq!(world.catalog.revive_secrets(at(150)).await.unwrap(), []);
    assert_eq!(world.expire(at(199)).await.next, Some(at(200)));
    assert_eq!(world.expire(at(200)).await.ended.len(), 1);
}

pub(crate) async fn a_value_lifts_the_end_that_has_come(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    let set = async |number, created_at: Timestamp, meta: NewMeta| {
        let version = EncryptedVersion {
            created_at,
            ..encrypted(number)
        };
        world.put_with("x", &version, meta).await
    };
    world.put_until("x", 1, at(100)).await;
    // Before its end it stays, whether or not the nodes were told.
    let put = set(2, at(99), NewMeta::default()).await;
    assert_eq!(put.lifted_end, None);
    assert_eq!(world.record("x").await.meta.expires_at, Some(at(100)));
    let put = set(3, at(100), NewMeta::default()).await;
    assert_eq!(
        (put.lifted_end, put.committed.touched.len()),
        (Some(at(100)), 1)
    );
    assert_eq!(world.record("x").await.meta.expires_at, None);
    assert_eq!(world.expire(at(500)).await.next, None);
    let trail = world.trail().await;
    assert!(trail.last().unwrap().entry.detail.contains("lifted"));

    world.put_until("x", 4, at(600)).await;
    world.expire(at(600)).await;
    let put = set(5, at(700), ends(at(800))).await;
    assert_eq!(put.lifted_end, None);
    assert_eq!(world.record("x").await.meta.expires_at, Some(at(800)));
    let put = set(6, at(900), change(json!({"expires_at": null})).into_meta()).await;
    assert_eq!(put.lifted_end, None, "it was asked for");
}

pub(crate) async fn an_ended_candidate_hides_no_change_of_the_next(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=node/n/x|x"])]).await;
    world.put("x", 1).await;
    world.put_until("node/n/x", 1, at(100)).await;
    assert_eq!(world.put("x", 2).await.touched, []);
    assert_eq!(world.expire(at(100)).await.ended[0].touched.len(), 1);
    assert_eq!(world.put("x", 3).await.touched.len(), 1);
    // Both at once: neither hides the other.
    world.put_until("node/n/x", 2, at(200)).await;
    world.put_until("x", 4, at(150)).await;
    let ended = world.expire(at(200)).await.ended;
    let names: Vec<_> = ended.iter().map(|e| e.reference.to_string()).collect();
    assert_eq!(names, ["x", "node/n/x"], "by their ends");
    assert!(ended.iter().all(|secret| secret.touched.len() == 1));
    // A fetch still finds what is bound; whether it has ended is the reader's to see.
    let items = [item("d", "a")];
    let bound = world.catalog.bound(&world.org, &node_id("n"), &items).await;
    assert!(bound.unwrap().is_some());
}

pub(crate) async fn many_ends_are_announced_in_turns(place: &mut dyn Place) {
    let world = World::new(place).await;
    let other = org("other");
    let created = world.catalog.create_org(&other, audit("org.create")).await;
    created.unwrap();
    let put = world
        .catalog
        .put_secret(
            &other,
            &secret_ref("x"),
            &encrypted(1),
            &ends(at(50)),
            None,
            audit("secret.set"),
        )
        .await;
    put.unwrap();
    for number in 0..MAX_EXPIRING {
        world.put_until(&format!("s{number}"), 1, at(100)).await;
    }
    let first = world.expire(at(100)).await;
    assert_eq!(
        (first.ended.len(), first.next),
        (MAX_EXPIRING, Some(at(100)))
    );
    assert_eq!(first.ended[0].org, other);
    let second = world.expire(at(100)).await;
    assert_eq!((second.ended.len(), second.next), (1, None));
}

impl World {
    async fn record(&self, reference: &str) -> SecretRecord {
        let record = self.catalog.secret(&self.org, &secret_ref(reference)).await;
        record.unwrap().unwrap()
    }

    async fn edit(
        &self,
        reference: &str,
        change: &MetaChange,
        expected: Option<Option<SecretVersion>>,
    ) -> Result<(SecretRecord, Committed), CatalogError> {
        let (reference, audit) = (secret_ref(reference), audit("secret.edit"));
        self.catalog
            .edit_secret(&self.org, &reference, change, expected, audit)
            .await
    }

    async fn put_until(&self, reference: &str, number: u64, end: Timestamp) {
        self.put_with(reference, &encrypted(number), ends(end))
            .await;
    }

    async fn expire(&self, now: Timestamp) -> Expiry {
        self.catalog.expire_secrets(now).await.unwrap()
    }
}

impl MetaChange {
    fn into_meta(self) -> NewMeta {
        NewMeta {
            change: self,
            generator: None,
        }
    }
}

fn change(json: serde_json::Value) -> MetaChange {
    serde_json::from_value(json).unwrap()
}

fn ends(end: Timestamp) -> NewMeta {
    change(json!({"expires_at": end})).into_meta()
}

fn everything() -> MetaChange {
    change(json!({
        "labels": ["a/b:c-1", "two words"], "description": "the \"database\" ü", "max_versions": 7,
        "expires_at": at(1_234_567_890_123), "rotate_every_seconds": 90 * 86_400,
    }))
}

fn generator() -> Generator {
    serde_json::from_value(json!({"kind": "key_pair", "algorithm": "ed25519"})).unwrap()
}
