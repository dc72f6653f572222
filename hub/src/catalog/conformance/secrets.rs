//! Secrets, what they resolve to, and whom a change of them touches.

use edge_secrets_protocol::Generation;

use super::Place;
use super::world::{
    World, at, audit, belongs, certificate, encrypted, enrolment, item, node_id, org, placed,
    placement, policy, sealing_key, secret_ref, texts, version,
};
use crate::catalog::CatalogError;
use crate::catalog::records::{
    Bound, EncryptedVersion, NewMeta, NewToken, Revision, SecretRecord, VersionRecord,
};
use crate::metadata::SecretMeta;

pub(crate) async fn a_rotation_touches_bound_nodes_alone_and_once(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["a", "b", "c"] {
        world.enrol(node).await;
    }
    world.put("x", 1).await;
    // Two bindings in each of two deployments are still one touch.
    let twice = vec![placed("d1", &["n1=x", "n2=x"]), placed("d2", &["n1=x"])];
    world.place("a", twice).await;
    world.place("b", vec![placed("d1", &["n1=other"])]).await;
    let deployments = vec![placed("d1", &["n1=other"]), placed("d2", &["n1=x"])];
    world.place("c", deployments).await;
    let feed = world.feed().await.len();

    let committed = world.put("x", 2).await;
    let two = Generation(2);
    assert_eq!(
        committed.touched,
        [(node_id("a"), two), (node_id("c"), two)]
    );
    assert_eq!(world.feed().await.len(), feed + 2);
    assert_eq!(world.generation("b").await, 1);
    let of_c = world.bindings("c", Some(1)).await;
    assert_eq!(of_c.unchanged, ["d1".parse().unwrap()]);
    assert_eq!(of_c.deployments.len(), 1);
    assert_eq!(of_c.deployments[0].placed.id.as_str(), "d2");
    // A secret that nobody binds touches nobody, and no definition changed.
    let revision = world.catalog.revision(&world.org).await.unwrap();
    let unbound = world.put("y", 1).await;
    assert_eq!((unbound.touched, unbound.revision), (vec![], revision));
}

pub(crate) async fn the_most_specific_candidate_that_exists_wins(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    let deployments = vec![placed("d", &["a=node/n/x|x"]), placed("e", &["a=x"])];
    world.place("n", deployments).await;
    world.put("x", 1).await;
    let of = |specific: &str, general: &str| texts(&[("d/a", specific), ("e/a", general)]);
    assert_eq!(world.resolved("n").await, of("x@1", "x@1"));

    // The node's own secret appears: the binding that prefers it turns to it.
    let before = world.generation("n").await;
    let came = world.put("node/n/x", 1).await;
    assert_eq!(came.touched, [(node_id("n"), Generation(before + 1))]);
    assert_eq!(world.resolved("n").await, of("node/n/x@1", "x@1"));
    let unchanged = world.bindings("n", Some(before)).await.unchanged;
    assert_eq!(unchanged, ["e".parse().unwrap()]);

    // The general one rotates: only the other binding sees it.
    let before = world.generation("n").await;
    world.put("x", 2).await;
    assert_eq!(world.resolved("n").await, of("node/n/x@1", "x@2"));
    let unchanged = world.bindings("n", Some(before)).await.unchanged;
    assert_eq!(unchanged, ["d".parse().unwrap()]);

    let before = world.generation("n").await;
    let went = world.remove("node/n/x").await;
    assert_eq!(went.touched, [(node_id("n"), Generation(before + 1))]);
    assert_eq!(world.resolved("n").await, of("x@2", "x@2"));

    // While the general one changes out of sight, nothing moves.
    world.place("n", vec![placed("d", &["a=node/n/x|x"])]).await;
    world.put("node/n/x", 2).await;
    assert_eq!(world.put("x", 3).await.touched, []);
    assert_eq!(world.remove("x").await.touched, []);
}

pub(crate) async fn a_denied_binding_is_never_resolved_nor_touched(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.put("user/bob/x", 1).await;
    let deployments = vec![placed("d", &["a=!user/bob/x", "b=!", "c="])];
    world.place("n", deployments).await;
    let expected = [("d/a", "denied"), ("d/b", "denied"), ("d/c", "missing")];
    assert_eq!(world.resolved("n").await, texts(&expected));
    assert_eq!(world.put("user/bob/x", 2).await.touched, []);
    assert_eq!(world.remove("user/bob/x").await.touched, []);
    let items = [item("d", "a"), item("d", "b"), item("d", "c")];
    let bound = world.catalog.bound(&world.org, &node_id("n"), &items).await;
    let answer = |denied| {
        Some(Bound {
            expires_at: None,
            trouble: None,
            pending: false,
            lease: None,
            deployment: "d".parse().unwrap(),
            resolved: None,
            denied,
        })
    };
    let (_, answers) = bound.unwrap().unwrap();
    assert_eq!(answers, [answer(true), answer(true), answer(false)]);
}

pub(crate) async fn a_secret_that_comes_and_goes_is_missing_in_between(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "missing")]));
    assert_eq!(world.put("x", 1).await.touched.len(), 1);
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "x@1")]));
    assert_eq!(world.remove("x").await.touched.len(), 1);
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "missing")]));
    let again = world
        .catalog
        .remove_secret(&world.org, &secret_ref("x"), audit("secret.remove"))
        .await;
    assert!(matches!(again, Err(CatalogError::NotFound(_))));
    assert_eq!(world.put("x", 2).await.touched.len(), 1);
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "x@2")]));
}

pub(crate) async fn numbers_never_come_back(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, x) = (&world.catalog, secret_ref("x"));
    let last = || catalog.last_version(&world.org, &x);
    assert_eq!(last().await.unwrap(), 0);
    world.put("x", 1).await;
    world.put("x", 2).await;
    world.remove("x").await;
    assert_eq!(last().await.unwrap(), 2);
    assert_eq!(catalog.secret(&world.org, &x).await.unwrap(), None);
    assert_eq!(catalog.versions(&world.org, &x).await.unwrap(), []);
    assert_eq!(
        catalog
            .encrypted(&world.org, &x, &version(2))
            .await
            .unwrap(),
        None
    );
    let trail = world.trail().await.len();
    for old in [1, 2] {
        let put = catalog
            .put_secret(
                &world.org,
                &x,
                &encrypted(old),
                &NewMeta::default(),
                None,
                audit("secret.set"),
            )
            .await;
        assert!(matches!(put, Err(CatalogError::Conflict)));
    }
    assert_eq!(world.trail().await.len(), trail);
    for odd in ["0", "03", "+4", "v5", "99999999999999999999"] {
        let version = EncryptedVersion {
            version: odd.parse().unwrap(),
            ..encrypted(1)
        };
        let put = catalog
            .put_secret(
                &world.org,
                &x,
                &version,
                &NewMeta::default(),
                None,
                audit("secret.set"),
            )
            .await;
        assert!(put.is_err(), "{odd}");
        let read = catalog.encrypted(&world.org, &x, &version.version).await;
        assert_eq!(read.unwrap(), None);
    }
    world.put("x", 3).await;
    let record = catalog.secret(&world.org, &x).await.unwrap().unwrap();
    assert_eq!(record.current, version(3));
}

pub(crate) async fn an_expected_version_is_compared(place: &mut dyn Place) {
    let world = World::new(place).await;
    let x = secret_ref("x");
    let put = |number, expected| {
        let (catalog, org, x) = (&world.catalog, &world.org, &x);
        async move {
            let version = encrypted(number);
            catalog
                .put_secret(
                    org,
                    x,
                    &version,
                    &NewMeta::default(),
                    Some(expected),
                    audit("secret.set"),
                )
                .await
        }
    };
    let conflict = |result| matches!(result, Err(CatalogError::Conflict));
    assert!(conflict(put(1, Some(version(1))).await));
    put(1, None).await.unwrap();
    assert!(conflict(put(2, None).await));
    put(2, Some(version(1))).await.unwrap();
    assert!(conflict(put(3, Some(version(1))).await));
    world.remove("x").await;
    assert!(conflict(put(3, Some(version(2))).await));
    put(3, None).await.unwrap();
    let sets = world.trail().await;
    let sets = sets.iter().filter(|r| r.entry.action == "secret.set");
    assert_eq!(sets.count(), 3);
}

pub(crate) async fn two_rotations_in_one_millisecond_are_two_versions(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    world.put("x", 1).await;
    world.put("x", 2).await;
    let versions = world.catalog.versions(&world.org, &secret_ref("x")).await;
    let kept: Vec<_> = versions
        .unwrap()
        .into_iter()
        .map(|v| (v.version, v.created_at))
        .collect();
    assert_eq!(kept, [(version(2), at(20)), (version(1), at(20))]);
    assert_eq!(world.generation("n").await, 3);
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "x@2")]));
}

pub(crate) async fn metadata_is_listed_by_prefix(place: &mut dyn Place) {
    let world = World::new(place).await;
    for reference in ["team/db", "team/api", "team", "teams", "user/bob/team/db"] {
        world.put(reference, 1).await;
    }
    world.remove("teams").await;
    let list = |prefix: &'static str| {
        let world = &world;
        async move {
            let found = world.catalog.secrets(&world.org, prefix).await.unwrap();
            let names = found.into_iter().map(|s| s.reference.to_string());
            names.collect::<Vec<_>>()
        }
    };
    assert_eq!(
        list("").await,
        ["team", "team/api", "team/db", "user/bob/team/db"]
    );
    assert_eq!(list("team").await, ["team", "team/api", "team/db"]);
    assert_eq!(list("team/").await, ["team/api", "team/db"]);
    assert_eq!(list("Team").await, [""; 0]);
    assert_eq!(list("%").await, [""; 0]);
}

pub(crate) async fn a_version_is_kept_byte_for_byte(place: &mut dyn Place) {
    let world = World::new(place).await;
    let (catalog, org, x) = (&world.catalog, &world.org, secret_ref("x"));
    world.put("x", 1).await;
    let second = EncryptedVersion {
        wrapped_key: (0..=255).collect(),
        ciphertext: vec![0; 100_000],
        fields: vec!["password".into(), "user".into()],
        created_by: "bob".parse().unwrap(),
        created_at: at(1_234_567_890_123),
        restored_from: Some(version(1)),
        ..encrypted(2)
    };
    let put = catalog
        .put_secret(
            org,
            &x,
            &second,
            &NewMeta::default(),
            None,
            audit("secret.restore"),
        )
        .await;
    put.unwrap();
    for kept in [encrypted(1), second.clone()] {
        let read = catalog.encrypted(org, &x, &kept.version).await.unwrap();
        assert_eq!(read, Some(kept));
    }
    let record = catalog.secret(org, &x).await.unwrap().unwrap();
    let expected = SecretRecord {
        reference: x.clone(),
        current: version(2),
        created_at: at(20),
        updated_at: second.created_at,
        updated_by: second.created_by.clone(),
        meta: SecretMeta::default(),
        generator: None,
    };
    assert_eq!(record, expected);
    let newest = catalog.versions(org, &x).await.unwrap().swap_remove(0);
    let expected = VersionRecord {
        version: version(2),
        fields: second.fields,
        created_by: second.created_by,
        created_at: second.created_at,
        restored_from: second.restored_from,
    };
    assert_eq!(newest, expected);
    let none = catalog.encrypted(org, &x, &version(3)).await.unwrap();
    assert_eq!(none, None);
    assert_eq!(catalog.secret(org, &secret_ref("y")).await.unwrap(), None);
}

pub(crate) async fn organisations_are_apart(place: &mut dyn Place) {
    let world = World::new(place).await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    let (catalog, other) = (&world.catalog, org("other"));
    catalog
        .create_org(&other, audit("org.create"))
        .await
        .unwrap();
    let put = catalog
        .put_secret(
            &other,
            &secret_ref("x"),
            &encrypted(1),
            &NewMeta::default(),
            None,
            audit("secret.set"),
        )
        .await;
    assert_eq!(put.unwrap().committed.touched, []);
    assert_eq!(world.resolved("n").await, texts(&[("d/a", "missing")]));

    // The same node name, the same deployment, another organisation.
    let token = NewToken {
        org: other.clone(),
        node: node_id("n"),
        belongs: belongs(),
        hash: [9; 32],
        expires_at: at(100),
    };
    catalog
        .add_token(&token, audit("node.token"))
        .await
        .unwrap();
    let enrolled = catalog
        .commit(
            &other,
            Revision(0).into(),
            enrolment("n", 9, "s9", at(1)),
            vec![placement("n", vec![placed("d", &["a=x"])])],
            audit("node.enrol"),
        )
        .await;
    assert_eq!(enrolled.unwrap().touched.len(), 1);
    assert_eq!(world.generation("n").await, 1);
    let renewed = catalog
        .renew_node(
            &other,
            &node_id("n"),
            "s9",
            &certificate("s10"),
            None,
            audit("node.renew"),
        )
        .await;
    renewed.unwrap();
    let identity = catalog.node_identity("s10").await.unwrap().unwrap();
    assert_eq!(identity.org, other);
    let items = [item("d", "a")];
    let (_, theirs) = catalog
        .bound(&other, &node_id("n"), &items)
        .await
        .unwrap()
        .unwrap();
    let theirs = theirs[0].clone().unwrap();
    assert_eq!(theirs.resolved, Some((secret_ref("x"), version(1))));
    let (_, ours) = catalog
        .bound(&world.org, &node_id("n"), &items)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ours[0].clone().unwrap().resolved, None);
}

pub(crate) async fn fetches_are_answered_item_by_item(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in ["n", "m"] {
        world.enrol(node).await;
    }
    let names: Vec<_> = (0..256).map(|n| format!("s{n}=x{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let placements = vec![
        placement("n", vec![placed("d", &names)]),
        placement("m", vec![placed("e", &["own=x0"])]),
    ];
    world.commit(policy("p"), placements).await.unwrap();
    for n in (0..256).step_by(2) {
        world.put(&format!("x{n}"), 1).await;
    }
    // Every second one is another node's, or of a service that is not here, or not bound.
    let mut items = Vec::new();
    for n in 0..256 {
        items.push(item("d", &format!("s{n}")));
        items.push(item("e", if n % 2 == 0 { "own" } else { "s1" }));
    }
    let bound = world.catalog.bound(&world.org, &node_id("n"), &items).await;
    let (key, answers) = bound.unwrap().unwrap();
    assert_eq!(key, sealing_key());
    assert_eq!(answers.len(), items.len());
    for (n, pair) in answers.chunks(2).enumerate() {
        let own = pair[0].as_ref().unwrap();
        let reference = secret_ref(&format!("x{n}"));
        let expected = (n % 2 == 0).then(|| (reference, version(1)));
        assert_eq!(own.resolved, expected);
        assert_eq!((own.deployment.as_str(), own.denied), ("d", false));
        assert_eq!(pair[1], None);
    }
    let ghost = world
        .catalog
        .bound(&world.org, &node_id("ghost"), &items)
        .await;
    assert_eq!(ghost.unwrap(), None);
}
