use super::*;
use crate::wire::{PatternInfo, Published};

/// The sample service on a pattern, `cred` bound to `reference`.
fn pattern(reference: &str) -> Value {
    json!({
        "services": [{"serviceUrl": "com.example.uplink", "serviceOrgid": "myorg",
                      "serviceArch": "*", "serviceVersions": [{"version": "1.0.0"}]}],
        "secretBinding": [{"serviceOrgid": "myorg", "serviceUrl": "com.example.uplink",
                           "secrets": [{"cred": reference}]}],
    })
}

async fn with_service() -> World {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    let service = service("1.0.0", &["cred"]);
    world.post("alice", "services", &service).await.ok();
    world
}

#[tokio::test]
async fn a_pattern_is_published_listed_shown_and_withdrawn() {
    let world = with_service().await;
    let before = world.trail("myorg").await;
    let pattern = pattern("db");
    let path = "patterns/edge?dry_run=true";
    let asked: Published = world.put("alice", path, &pattern).await.json();
    assert!(asked.dry_run && asked.at.is_none());
    assert_eq!(world.trail("myorg").await, before);
    let absent = world.get("alice", "patterns/edge").await;
    assert_eq!(
        absent.refused(Code::NotFound),
        "There is no pattern \"edge\"."
    );

    let done: Published = world.put("alice", "patterns/edge", &pattern).await.json();
    assert!(!done.dry_run && done.at.is_some());
    let infos: Vec<PatternInfo> = world.get("bob", "patterns").await.json();
    assert_eq!((infos.len(), infos[0].name.as_str()), (1, "edge"));
    assert_eq!(infos[0].services[0].to_string(), "myorg/com.example.uplink");
    assert_eq!((&infos[0].owner, infos[0].public), (&user("alice"), false));
    // Open Horizon's own copy forgets the bindings.
    let shown: Value = world.get("bob", "patterns/edge").await.json();
    assert_eq!(shown, pattern);

    world.delete("alice", path).await.ok();
    world.get("alice", "patterns/edge").await.ok();
    world.delete("alice", "patterns/edge").await.ok();
    let gone = world.delete("alice", "patterns/edge").await;
    gone.refused(Code::NotFound);
    let expected = [
        "pattern.publish pattern/edge ok",
        "pattern.remove pattern/edge ok",
    ];
    assert_eq!(world.trail("myorg").await[before.len()..], expected);
}

#[tokio::test]
async fn a_pattern_is_refused_like_a_policy() {
    let world = with_service().await;
    let put = |path: &'static str, document: Value| {
        let world = &world;
        async move { world.put("alice", path, &document).await }
    };
    let missing = put("patterns/edge", pattern("nope")).await;
    assert_eq!(
        missing.refused(Code::Invalid),
        "pattern \"edge\" is refused: secret \"nope\" does not exist"
    );
    let lenient: Published = put("patterns/edge?allow_missing=true", pattern("nope"))
        .await
        .json();
    assert_eq!(lenient.warnings, ["secret \"nope\" does not exist"]);

    world.set("bob", "user/bob/key", "x").await.ok();
    // The words are the same whether it is there or not, and no lenience helps.
    let there = put("patterns/other?allow_missing=true", pattern("user/bob/key")).await;
    let absent = put("patterns/other?allow_missing=true", pattern("user/bob/nil")).await;
    let (there, absent) = (there.refused(Code::Invalid), absent.refused(Code::Invalid));
    assert_eq!(there.replace("bob/key", "bob/nil"), absent);

    let mut document = pattern("db");
    document["org"] = json!("other");
    let detail = put("patterns/edge", document).await.refused(Code::Invalid);
    assert!(detail.contains("refused at org"), "{detail}");
    let mut document = pattern("db");
    document["services"][0]["serviceVersion"] = document["services"][0]
        .as_object_mut()
        .unwrap()
        .remove("serviceVersions")
        .unwrap();
    let detail = put("patterns/edge", document).await.refused(Code::Invalid);
    assert!(
        detail.contains("services[0]: needs the field `serviceVersions`; found `serviceVersion`"),
        "{detail}"
    );
    let mut document = pattern("db");
    document["name"] = json!("else");
    let published: Published = put("patterns/edge", document).await.json();
    assert!(
        published.warnings[0].starts_with("name: "),
        "{:?}",
        published.warnings
    );
}

#[tokio::test]
async fn patterns_are_replaced_and_removed_by_their_publisher_or_an_administrator() {
    let world = with_service().await;
    let document = pattern("db");
    world.put("alice", "patterns/edge", &document).await.ok();
    let before = world.trail("myorg").await.len();
    for answer in [
        world.put("bob", "patterns/edge", &document).await,
        world.delete("bob", "patterns/edge").await,
    ] {
        answer.refused(Code::Denied);
    }
    let denied = &world.trail("myorg").await[before..];
    assert_eq!(denied.len(), 2);
    assert!(denied.iter().all(|record| record.ends_with(" denied")));
    // A policy of the same name is another thing.
    let policy = policy("1.0.0", &[("cred", "db")]);
    world.put("bob", "policies/edge", &policy).await.ok();
    world.put("root", "patterns/edge", &document).await.ok();
    world.delete("root", "patterns/edge").await.ok();
    world.get("bob", "policies/edge").await.ok();
}

#[tokio::test]
async fn a_definition_that_a_pattern_needs_stays() {
    let world = with_service().await;
    world
        .put("alice", "patterns/edge", &pattern("db"))
        .await
        .ok();
    let named = "service?url=com.example.uplink";
    let detail = world.delete("alice", named).await.refused(Code::Conflict);
    assert!(detail.contains("pattern \"edge\""), "{detail}");
    let wider = service("1.0.0", &["cred", "more"]);
    let published: Published = world.post("alice", "services", &wider).await.json();
    assert!(
        published.warnings[0].starts_with("pattern \"edge\" could not be deployed"),
        "{:?}",
        published.warnings
    );
    world.delete("alice", "patterns/edge").await.ok();
    world.delete("alice", named).await.ok();
}
