use super::*;
use crate::wire::{Explanation, NodeDetail, PatternInfo, Published, Rollout};

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
    assert_eq!(
        (&infos[0].owner, infos[0].public),
        (&Some(user("alice")), false)
    );
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
        "pattern \"edge\" is refused: secretBinding[0].secrets[0]: secret \"nope\" does not exist (line 1, \
         column 31)"
    );
    let lenient: Published = put("patterns/edge?allow_missing=true", pattern("nope"))
        .await
        .json();
    let expected = "secretBinding[0].secrets[0]: secret \"nope\" does not exist";
    assert_eq!(lenient.warnings, [expected]);

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

async fn with_pattern() -> World {
    let world = with_service().await;
    let document = pattern("db");
    world.put("alice", "patterns/edge", &document).await.ok();
    let policy = policy("1.0.0", &[("cred", "db")]);
    world.put("alice", "policies/uplink", &policy).await.ok();
    world
}

fn changes(published: &Published) -> Vec<String> {
    let changes = published.changes.iter();
    let line =
        |c: &crate::wire::DeploymentChange| format!("{} {:?} {}", c.node, c.change, c.policy);
    let mut lines: Vec<_> = changes.map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_node_is_put_on_a_pattern_and_back_on_policies() {
    let world = with_pattern().await;
    world.enrol("n1", "berlin", None).await;
    let on = json!({"pattern": "edge"});
    let before = world.trail("myorg").await.len();
    let asked: Published = world
        .put("root", "nodes/n1/pattern?dry_run=true", &on)
        .await
        .json();
    let moves = ["n1 Deploy pattern:myorg/edge", "n1 Undeploy uplink"];
    assert_eq!(changes(&asked), moves);
    let node: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert_eq!(node.info.pattern, None);
    assert_eq!(node.deployments[0].policy.to_string(), "uplink");

    let done: Published = world.put("root", "nodes/n1/pattern", &on).await.json();
    assert_eq!(changes(&done), moves);
    let node: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert_eq!(node.info.pattern, Some("myorg/edge".parse().unwrap()));
    assert_eq!(node.deployments.len(), 1);
    assert_eq!(node.deployments[0].policy.to_string(), "pattern:myorg/edge");
    let infos: Vec<PatternInfo> = world.get("bob", "patterns").await.json();
    assert_eq!(infos[0].nodes, 1);
    // A policy is nothing to it any more.
    let gone: Published = world.delete("alice", "policies/uplink").await.json();
    assert_eq!((changes(&gone).len(), gone.untouched_nodes), (0, 1));

    let rollout: Rollout = world.get("bob", "patterns/edge/rollout").await.json();
    assert_eq!((rollout.applied, rollout.total), (0, 1));
    let service = rollout.nodes[0].service.as_ref().unwrap();
    assert_eq!(service.to_string(), "myorg/com.example.uplink");
    world.report_applied("n1").await;
    let path = "patterns/edge/rollout?of=myorg";
    let rollout: Rollout = world.get("bob", path).await.json();
    assert_eq!((rollout.applied, rollout.total), (1, 1));
    for path in ["patterns/nope/rollout", "patterns/edge/rollout?of=other"] {
        world.get("bob", path).await.refused(Code::NotFound);
    }

    let told: Explanation = world.get("bob", "nodes/n1/explain").await.json();
    let pattern = told.pattern.unwrap();
    assert_eq!(
        (pattern.name.to_string().as_str(), pattern.found),
        ("myorg/edge", true)
    );
    assert!(told.verdicts[0].deployed);
    assert_eq!(told.verdicts[0].policy.to_string(), "pattern:myorg/edge");

    // Withdrawn, it leaves the node with nothing, and still on it.
    let gone: Published = world.delete("alice", "patterns/edge").await.json();
    assert_eq!(changes(&gone), ["n1 Undeploy pattern:myorg/edge"]);
    let told: Explanation = world.get("bob", "nodes/n1/explain").await.json();
    assert!(!told.pattern.unwrap().found && told.verdicts.is_empty());
    let off = json!({"pattern": null});
    let off: Published = world.put("root", "nodes/n1/pattern", &off).await.json();
    assert_eq!(changes(&off).len(), 0);
    let trail = &world.trail("myorg").await[before..];
    let of_node = trail
        .iter()
        .filter(|record| record.starts_with("node.pattern"));
    assert_eq!(of_node.count(), 2);
}

#[tokio::test]
async fn who_administers_says_which_pattern_and_only_one_that_is_there() {
    let world = with_pattern().await;
    world.enrol("n1", "berlin", Some("alice")).await;
    let on = json!({"pattern": "edge"});
    let answer = world.put("alice", "nodes/n1/pattern", &on).await;
    answer.refused(Code::Denied);
    let unknown = world.put("root", "nodes/none/pattern", &on).await;
    unknown.refused(Code::NotFound);
    for (pattern, expected) in [
        ("nope", "There is no pattern \"nope\"."),
        ("other/edge", "There is no public pattern \"other/edge\"."),
    ] {
        let on = json!({"pattern": pattern});
        let answer = world.put("root", "nodes/n1/pattern", &on).await;
        assert_eq!(answer.refused(Code::Invalid), expected);
        let token = json!({"ttl_seconds": 60, "pattern": pattern});
        let answer = world.post("root", "nodes/n2/token", &token).await;
        assert_eq!(answer.refused(Code::Invalid), expected);
    }
    let token = json!({"ttl_seconds": 60, "pattern": "edge"});
    world.post("root", "nodes/n2/token", &token).await.ok();
}
