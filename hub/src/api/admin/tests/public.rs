//! Public patterns of another organisation.

use super::*;
use crate::deploy::follow::{Failures, catch_up};
use crate::wire::{Elsewhere, Explanation, NodeDetail, PatternInfo, Published, Rollout};

const URL: &str = "com.example.uplink";

/// A service of `other`.
fn theirs(url: &str, public: bool) -> Value {
    let mut service = service("1.0.0", &["cred"]);
    service["org"] = json!("other");
    service["url"] = json!(url);
    service["public"] = json!(public);
    service
}

/// A pattern of `other` that deploys these services, the secret of each bound to `reference`.
fn pattern(public: bool, urls: &[&str], reference: &str) -> Value {
    let services = urls.iter().map(|url| {
        json!({"serviceUrl": url, "serviceOrgid": "other", "serviceArch": "*",
               "serviceVersions": [{"version": "1.0.0"}]})
    });
    let bindings = urls.iter().map(
        |url| json!({"serviceOrgid": "other", "serviceUrl": url, "secrets": [{"cred": reference}]}),
    );
    json!({"public": public, "services": services.collect::<Vec<_>>(),
           "secretBinding": bindings.collect::<Vec<_>>()})
}

impl World {
    /// A pattern of `other`'s, published by its administrator.
    async fn publish_theirs(&self, pattern: &Value, query: &str) -> Answer {
        let path = format!("/v1/orgs/other/patterns/edge?allow_missing=true{query}");
        self.put("mallory", &path, pattern).await
    }

    async fn publish_their_service(&self, service: &Value) -> Published {
        let published = self.post("mallory", "/v1/orgs/other/services", service);
        published.await.json()
    }

    /// What the background does.
    async fn follow(&self) {
        let behind = self.hub.catalog.behind().await.unwrap();
        catch_up(&self.hub, behind, &mut Failures::default()).await;
        assert_eq!(self.hub.catalog.behind().await.unwrap(), []);
    }

    /// `service: reference` of what `n1` has.
    async fn has(&self) -> Vec<String> {
        let node: NodeDetail = self.get("bob", "nodes/n1").await.json();
        let line = |one: &crate::wire::NodeDeployment| {
            let secret = &one.secrets[0];
            let reference = secret.reference.as_ref().map(ToString::to_string);
            format!("{}: {}", one.service, reference.unwrap_or_default())
        };
        node.deployments.iter().map(line).collect()
    }
}

/// `myorg`'s node `n1` is on `other/edge`, which binds the secret `db`.
async fn with_node() -> World {
    let world = World::new().await;
    world.publish_their_service(&theirs(URL, true)).await;
    let document = pattern(true, &[URL], "db");
    world.publish_theirs(&document, "").await.ok();
    world.set("root", "db", "ours").await.ok();
    let token = json!({"ttl_seconds": 3600, "pattern": "other/edge"});
    world.enrol_with("n1", "berlin", token).await;
    world
}

#[tokio::test]
async fn a_node_has_what_another_organisations_pattern_says_and_its_own_secrets() {
    let world = with_node().await;
    let node: NodeDetail = world.get("bob", "nodes/n1").await.json();
    assert_eq!(node.info.pattern, Some("other/edge".parse().unwrap()));
    let placed = &node.deployments[0];
    assert_eq!(placed.policy.to_string(), "pattern:other/edge");
    assert_eq!(placed.service.to_string(), "other/com.example.uplink");
    let secret = &placed.secrets[0];
    assert_eq!(secret.reference, Some("db".parse().unwrap()));

    let told: Explanation = world.get("bob", "nodes/n1/explain").await.json();
    let on = told.pattern.unwrap();
    assert_eq!(
        (on.name.to_string(), on.found),
        ("other/edge".to_owned(), true)
    );
    assert!(told.verdicts[0].deployed);
    let rollout: Rollout = world
        .get("bob", "patterns/edge/rollout?of=other")
        .await
        .json();
    assert_eq!((rollout.applied, rollout.total), (0, 1));

    // It follows, and so does the other organisation's second service.
    world.publish_their_service(&theirs("gps", true)).await;
    world.set("root", "db2", "ours").await.ok();
    let document = pattern(true, &[URL, "gps"], "db2");
    world.publish_theirs(&document, "").await.ok();
    assert_eq!(world.has().await.len(), 1);
    world.follow().await;
    assert_eq!(world.has().await.len(), 2);
    assert!(world.has().await.iter().all(|line| line.ends_with(": db2")));
    let records = world.get("root", "audit?limit=100").await.text();
    assert!(records.contains("pattern.follow"), "{records}");

    // No secret of the publisher's user of that name, nor one of the node's owner.
    let document = pattern(true, &[URL], "user/mallory/db");
    world.publish_theirs(&document, "").await.ok();
    world.follow().await;
    let denied = world.get("bob", "nodes/n1").await.text();
    assert!(denied.contains("denied"), "{denied}");

    // Taken back, it leaves the node with nothing.
    let document = pattern(false, &[URL], "db");
    world.publish_theirs(&document, "").await.ok();
    world.follow().await;
    assert_eq!(world.has().await, [""; 0]);
    let told: Explanation = world.get("bob", "nodes/n1/explain").await.json();
    assert!(!told.pattern.unwrap().found && told.verdicts.is_empty());
}

/// Whether something is there and private, or not there, or its organisation is not, reads the same.
#[tokio::test]
async fn what_is_not_public_is_not_there() {
    let world = World::new().await;
    world.publish_their_service(&theirs(URL, false)).await;
    let document = pattern(false, &[URL], "db");
    world.publish_theirs(&document, "").await.ok();
    world.enrol("n1", "berlin", None).await;
    let mut answers = Vec::new();
    for (of, name) in [("other", "edge"), ("other", "nope"), ("nowhere", "edge")] {
        let public = format!("{of}/{name}");
        let on = json!({"pattern": public});
        let token = json!({"ttl_seconds": 3600, "pattern": public});
        let answer = [
            world.get("bob", &format!("patterns/{name}?of={of}")).await,
            world
                .get("bob", &format!("patterns/{name}/rollout?of={of}"))
                .await,
            world.put("root", "nodes/n1/pattern", &on).await,
            world
                .put("root", "nodes/n1/pattern?dry_run=true", &on)
                .await,
            world.post("root", "nodes/n2/token", &token).await,
            world.get("bob", &format!("patterns?of={of}")).await,
        ];
        let answer = answer.map(|one| format!("{} {}", one.status, one.text()));
        assert!(answer[0].contains(&format!("There is no public pattern \\\"{public}\\\".")));
        answers.push(answer.map(|one| one.replace(&public, "X")));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);

    // A public pattern of a private service: the pattern is seen, the service is not there.
    let document = pattern(true, &[URL], "db");
    let published: Published = world.publish_theirs(&document, "").await.json();
    let warned = published.warnings.iter();
    let warned: Vec<_> = warned.filter(|one| one.starts_with("public: ")).collect();
    assert_eq!(warned.len(), 1, "{:?}", published.warnings);
    let on = json!({"pattern": "other/edge"});
    world.put("root", "nodes/n1/pattern", &on).await.ok();
    assert_eq!(world.has().await, [""; 0]);
    let told = world.get("bob", "nodes/n1/explain").await.text();
    assert!(told.contains("other"), "{told}");
    let hidden = told.clone();
    world
        .delete("mallory", "/v1/orgs/other/patterns/edge")
        .await
        .ok();
    let path = format!("/v1/orgs/other/service?url={URL}");
    world.delete("mallory", &path).await.ok();
    // Published again without it: the hub itself would not, so that it is put there.
    let record = crate::catalog::records::PatternRecord {
        name: "edge".parse().unwrap(),
        owner: user("mallory"),
        public: true,
        document: document.to_string(),
        updated_at: clock::now(),
    };
    let other = "other".parse().unwrap();
    let change = Change::PutPattern(record);
    let put = deploy::apply(&world.hub, &other, change, setup(&other));
    put.await.unwrap();
    let told = world.get("bob", "nodes/n1/explain").await.text();
    assert_eq!(told, hidden);
}

/// Before it happens, and with what the node's organisation does not have.
#[tokio::test]
async fn a_dry_run_says_what_a_node_would_get_of_it() {
    let world = with_node().await;
    world.enrol("n2", "berlin", None).await;
    let on = json!({"pattern": "other/edge"});
    let path = "nodes/n2/pattern?dry_run=true";
    let asked: Published = world.put("root", path, &on).await.json();
    assert_eq!((asked.changes.len(), asked.warnings.len()), (1, 0));
    let change = &asked.changes[0];
    assert_eq!(change.service.to_string(), "other/com.example.uplink");
    assert_eq!(change.secrets[0].references, ["db".parse().unwrap()]);
    assert_eq!(asked.elsewhere, None);

    let document = pattern(true, &[URL], "nope");
    world.publish_theirs(&document, "").await.ok();
    for path in [path, "nodes/n2/pattern"] {
        let told: Published = world.put("root", path, &on).await.json();
        assert_eq!(told.warnings, ["secret \"nope\" does not exist"]);
        assert_eq!(
            told.changes[0].secrets[0].references,
            ["nope".parse().unwrap()]
        );
    }
    // Private ones are denied, so that it is not said whether they are there.
    let document = pattern(true, &[URL], "user/mallory/key");
    world.publish_theirs(&document, "").await.ok();
    let told: Published = world.put("root", path, &on).await.json();
    assert_eq!(told.warnings, [""; 0]);
}

/// One organisation's trouble is not the others', and is tried again.
#[tokio::test]
async fn who_cannot_be_placed_holds_up_nobody_and_is_not_lost() {
    let world = with_node().await;
    let broken: OrgId = "broken".parse().unwrap();
    let catalog = &world.hub.catalog;
    catalog.create_org(&broken, setup(&broken)).await.unwrap();
    let database = world.dir.path().join("hub.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let spoil = sqlx::sqlite::SqlitePool::connect_with(options)
        .await
        .unwrap();
    let run = async |statement: &'static str| {
        sqlx::query(statement).execute(&spoil).await.unwrap();
    };
    run("INSERT INTO nodes (org, node, pattern, revoked, facts, sealing_key, generation, enrolled_at)
         SELECT 'broken', node, pattern, revoked, '{', sealing_key, 0, enrolled_at FROM nodes
         WHERE org = 'myorg'")
    .await;
    world.set("root", "db2", "ours").await.ok();
    let document = pattern(true, &[URL], "db2");
    let done: Published = world.publish_theirs(&document, "").await.json();
    assert_eq!(done.elsewhere, Some(Elsewhere { orgs: 2, nodes: 2 }));
    let behind = catalog.behind().await.unwrap();
    assert_eq!(behind.len(), 2);
    let mut failures = Failures::default();
    catch_up(&world.hub, behind, &mut failures).await;
    assert_eq!(world.has().await, ["other/com.example.uplink: db2"]);
    let behind = catalog.behind().await.unwrap();
    let orgs: Vec<_> = behind.iter().map(|one| &one.org).collect();
    assert_eq!(orgs, [&broken]);

    assert!(failures.next().is_some());

    run(
        "UPDATE nodes SET facts = (SELECT facts FROM nodes WHERE org = 'myorg')
         WHERE org = 'broken'",
    )
    .await;
    world.follow().await;
    let node = "n1".parse().unwrap();
    let bindings = catalog.bindings(&broken, &node, None).await.unwrap();
    assert_eq!(bindings.deployments.len(), 1);
}

#[tokio::test]
async fn whoever_puts_a_node_on_it_may_read_it_first() {
    let world = with_node().await;
    let shown: Value = world.get("bob", "patterns/edge?of=other").await.json();
    assert_eq!(shown, pattern(true, &[URL], "db"));
    let hidden = theirs("gps", true);
    world.publish_their_service(&hidden).await;
    let document = pattern(false, &["gps"], "x");
    let path = "/v1/orgs/other/patterns/own?allow_missing=true";
    world.put("mallory", path, &document).await.ok();
    let listed: Vec<PatternInfo> = world.get("bob", "patterns?of=other").await.json();
    let names: Vec<_> = listed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["edge"]);
    assert_eq!((listed[0].nodes, &listed[0].owner), (1, &None));
    let own: Vec<PatternInfo> = world.get("bob", "patterns?of=myorg").await.json();
    assert_eq!(own.len(), 0);
    // Its name there does not make it one here.
    world
        .get("bob", "patterns/edge")
        .await
        .refused(Code::NotFound);
    // Nor may anybody look, write or remove there themselves.
    for answer in [
        world.get("bob", "/v1/orgs/other/patterns/edge").await,
        world.get("root", "/v1/orgs/other/patterns").await,
        world
            .put("root", "/v1/orgs/other/patterns/edge", &document)
            .await,
        world.delete("root", "/v1/orgs/other/patterns/edge").await,
    ] {
        answer.refused(Code::Denied);
    }
}

#[tokio::test]
async fn its_publisher_learns_how_many_follow_and_not_who() {
    let world = with_node().await;
    let token = json!({"ttl_seconds": 3600, "pattern": "other/edge"});
    world.enrol_with("n2", "berlin", token).await;
    let elsewhere = Some(Elsewhere { orgs: 1, nodes: 2 });
    let document = pattern(true, &[URL], "db2");
    let answers = [
        world.publish_theirs(&document, "&dry_run=true").await,
        world
            .delete("mallory", "/v1/orgs/other/patterns/edge?dry_run=true")
            .await,
        world
            .publish_theirs(&pattern(false, &[URL], "db"), "&dry_run=true")
            .await,
        world
            .post(
                "mallory",
                "/v1/orgs/other/services?dry_run=true",
                &theirs(URL, false),
            )
            .await,
        world.publish_theirs(&document, "").await,
    ];
    for answer in answers {
        let text = answer.ok().text();
        let names = ["n1", "n2", "myorg", "\"nodes\":[", "berlin"];
        assert!(names.iter().all(|name| !text.contains(name)), "{text}");
        let published: Published = serde_json::from_str(&text).unwrap();
        assert_eq!(published.elsewhere, elsewhere, "{text}");
        assert_eq!((published.changes.len(), published.untouched_nodes), (0, 0));
    }
    let listed = world.get("mallory", "/v1/orgs/other/patterns").await.text();
    assert!(listed.contains("\"nodes\":0"), "{listed}");
    // What no public pattern deploys concerns nobody else.
    let published = world.publish_their_service(&theirs("gps", true)).await;
    assert_eq!(published.elsewhere, None);
}

/// A user's own pattern stays theirs for as long as it is the organisation's alone.
#[tokio::test]
async fn public_patterns_are_the_administrators() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    let service = service("1.0.0", &["cred"]);
    world.post("alice", "services", &service).await.ok();
    let ours = |public: bool| {
        let text = pattern(public, &[URL], "db").to_string();
        let document: Value = serde_json::from_str(&text.replace("other", "myorg")).unwrap();
        document
    };
    let path = "patterns/edge";
    world.put("alice", path, &ours(false)).await.ok();
    let before = world.trail("myorg").await.len();
    for path in [path, "patterns/fresh", "patterns/edge?dry_run=true"] {
        let answer = world.put("alice", path, &ours(true)).await;
        answer.refused(Code::Denied);
    }
    assert_eq!(world.trail("myorg").await.len(), before + 3);
    world.put("root", path, &ours(true)).await.ok();
    // Not even the one who published it before takes it back.
    for answer in [
        world.put("alice", path, &ours(false)).await,
        world.delete("alice", path).await,
    ] {
        answer.refused(Code::Denied);
    }
    world.put("deputy", path, &ours(false)).await.ok();
    world.put("root", path, &ours(true)).await.ok();
    world.delete("deputy", path).await.ok();
}
