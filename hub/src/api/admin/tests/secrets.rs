use super::*;
use crate::wire::{SecretInfo, SecretRemoved, SecretRevealed, SecretSet, VersionInfo};

async fn reveal(world: &World, user: &str, reference: &str, version: Option<&str>) -> Answer {
    let body = json!({ "seal_to": SealingKey::generate().public(), "version": version });
    let path = format!("secret-reveal/{reference}");
    world.post(user, &path, &body).await
}

#[tokio::test]
async fn a_secret_is_set_listed_revealed_restored_and_removed() {
    let world = World::new().await;
    let first: SecretSet = world.set("root", "team/db", "old").await.json();
    let second: SecretSet = world.set("root", "team/db", "new").await.json();
    assert_ne!(first.version, second.version);
    let restore = json!({ "version": first.version });
    let path = "secret-restore/team/db";
    let third: SecretSet = world.post("root", path, &restore).await.json();

    let versions: Vec<VersionInfo> = world.get("root", "secret-versions/team/db").await.json();
    assert_eq!(versions.len(), 3);
    assert!(versions[0].current && versions[0].version == third.version);
    assert_eq!(versions[0].restored_from, Some(first.version));
    assert_eq!(versions[0].fields, ["value"]);

    let key = SealingKey::generate();
    let body = json!({ "seal_to": key.public() });
    let shown: SecretRevealed = world
        .post("root", "secret-reveal/team/db", &body)
        .await
        .json();
    let place = Place::Reveal {
        org: &"myorg".parse().unwrap(),
        user: &user("root"),
        reference: "team/db",
        version: &shown.version,
    };
    let payload = shown.sealed.open(&key, &place).unwrap();
    let fields = Fields::decode(payload.expose()).unwrap();
    assert_eq!(fields.expose_value(), Some(&b"old"[..]));

    let removed: SecretRemoved = world.delete("root", "secrets/team/db").await.json();
    assert_eq!(removed.nodes, 0);
    world
        .get("root", "secrets/team/db")
        .await
        .refused(Code::NotFound);
    world
        .delete("root", "secrets/team/db")
        .await
        .refused(Code::NotFound);
    let trail = world.trail("myorg").await;
    let actions = ["set", "set", "restore", "reveal", "remove"];
    let expected = actions.map(|action| format!("secret.{action} secret/team/db ok"));
    assert_eq!(trail, expected);
}

#[tokio::test]
async fn users_see_names_and_administrators_no_values_of_others() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.set("alice", "user/alice/key", "x").await.ok();
    world.set("bob", "user/bob/key", "x").await.ok();
    for (user, expected) in [
        ("root", vec!["db", "user/alice/key", "user/bob/key"]),
        ("alice", vec!["db", "user/alice/key"]),
        ("bob", vec!["db", "user/bob/key"]),
    ] {
        let infos: Vec<SecretInfo> = world.get(user, "secrets").await.json();
        let seen: Vec<_> = infos
            .iter()
            .map(|info| info.reference.to_string())
            .collect();
        assert_eq!(seen, expected, "{user}");
        let infos: Vec<SecretInfo> = world.get(user, "secrets?prefix=user/alice").await.json();
        assert_eq!(infos.len(), usize::from(user != "bob"));
    }
    // Metadata without the fields' names for who may not read it.
    let info: SecretInfo = world.get("alice", "secrets/db").await.json();
    assert!(info.fields.is_empty());
    let info: SecretInfo = world.get("root", "secrets/user/alice/key").await.json();
    assert!(info.fields.is_empty());
    let info: SecretInfo = world.get("alice", "secrets/user/alice/key").await.json();
    assert_eq!(info.fields, ["value"]);

    for (user, reference) in [
        ("alice", "db"),
        ("root", "user/alice/key"),
        ("bob", "user/alice/key"),
    ] {
        reveal(&world, user, reference, None)
            .await
            .refused(Code::Denied);
        world.set(user, reference, "y").await.refused(Code::Denied);
    }
    // Whether it exists makes no difference to who may not have it.
    let there = reveal(&world, "bob", "user/alice/key", None).await;
    let absent = reveal(&world, "bob", "user/alice/nil", None).await;
    let absent = absent.refused(Code::Denied).replace("nil", "key");
    assert_eq!(there.refused(Code::Denied), absent);
    world.delete("root", "secrets/user/alice/key").await.ok();
}

#[tokio::test]
async fn a_value_is_taken_only_as_it_was_sealed_and_only_if_it_is_one() {
    let world = World::new().await;
    let elsewhere = world.sealed("root", "other", "x");
    let answer = world.put("root", "secrets/db", &elsewhere).await;
    answer.refused(Code::Invalid);
    let others = world.sealed("deputy", "db", "x");
    world
        .put("root", "secrets/db", &others)
        .await
        .refused(Code::Invalid);

    let place = Place::Set {
        org: &"myorg".parse().unwrap(),
        user: &user("root"),
        reference: "db",
    };
    let payload = edge_secrets_protocol::Secret::new(b"canary-4711".to_vec());
    let sealed = world
        .hub
        .sealing_key
        .public()
        .seal(&place, &payload)
        .unwrap();
    let body = SetSecret {
        sealed,
        ..world.sealed("root", "db", "x")
    };
    let detail = world.put("root", "secrets/db", &body).await;
    assert!(!detail.refused(Code::Invalid).contains("canary"));
    world
        .put("root", "secrets/db", &json!({}))
        .await
        .refused(Code::BadRequest);
    world
        .get("root", "secrets/db")
        .await
        .refused(Code::NotFound);
}

#[tokio::test]
async fn an_unknown_manager_is_named() {
    let world = World::new().await;
    let answer = world.set("root", "vault:team/db", "x").await;
    let detail = answer.refused(Code::Invalid);
    assert!(
        detail.contains("no secrets manager \"vault\"") && detail.contains("manager list"),
        "{detail}"
    );
}

#[tokio::test]
async fn preconditions_guard_against_a_lost_update() {
    let world = World::new().await;
    let set = |name: header::HeaderName, tag: &'static str| {
        let body = serde_json::to_vec(&world.sealed("root", "db", "x")).unwrap();
        let request = Request::put(at("secrets/db"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(name, tag);
        world.request("root", request.body(Body::from(body)).unwrap())
    };
    set(header::IF_NONE_MATCH, "*").await.ok();
    set(header::IF_NONE_MATCH, "*")
        .await
        .refused(Code::Conflict);
    let info: SecretInfo = world.get("root", "secrets/db").await.json();
    assert_eq!(info.version.as_str(), "1");
    set(header::IF_MATCH, "\"1\"").await.ok();
    set(header::IF_MATCH, "\"1\"").await.refused(Code::Conflict);
    set(header::IF_MATCH, "1").await.refused(Code::BadRequest);
}

#[tokio::test]
async fn what_is_not_there_is_not_revealed_or_restored() {
    let world = World::new().await;
    reveal(&world, "root", "db", None)
        .await
        .refused(Code::NotFound);
    world.set("root", "db", "x").await.ok();
    let answer = reveal(&world, "root", "db", Some("9")).await;
    answer.refused(Code::Missing);
    let answer = world
        .post("root", "secret-restore/db", &json!({ "version": "9" }))
        .await;
    answer.refused(Code::NotFound);
}
