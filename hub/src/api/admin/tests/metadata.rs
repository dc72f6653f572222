//! Secrets' metadata over the API. The tests live in a file of their own beside those of values.

use std::time::Duration;

use super::*;
use crate::catalog::records::NewMeta;
use crate::managers::embedded::NewValue;
use crate::wire::{SecretEdited, SecretInfo, SecretSet};

impl World {
    async fn patch(&self, user: &str, reference: &str, body: &Value) -> Answer {
        let path = format!("secrets/{reference}");
        self.send(user, Method::PATCH, &path, body).await
    }

    /// Sets a value and whatever goes with it.
    async fn set_with(&self, user: &str, reference: &str, with: Value) -> Answer {
        let sealed = self.sealed(user, reference, "canary-4711");
        let mut body = serde_json::to_value(sealed).unwrap();
        let fields = body.as_object_mut().unwrap();
        fields.extend(with.as_object().unwrap().clone());
        self.put(user, &format!("secrets/{reference}"), &body).await
    }

    async fn info(&self, user: &str, reference: &str) -> Value {
        self.get(user, &format!("secrets/{reference}")).await.json()
    }

    /// The references that a list gives.
    async fn listed(&self, user: &str, query: &str) -> Vec<String> {
        let infos: Vec<SecretInfo> = self.get(user, &format!("secrets?{query}")).await.json();
        let names = infos.iter().map(|info| info.reference.to_string());
        names.collect()
    }

    /// Takes a secret to a time when its end has come.
    async fn outlive(&self, reference: &str) {
        let org = "myorg".parse().unwrap();
        let end = clock::now() - Duration::from_secs(1);
        let change = serde_json::from_value(json!({ "expires_at": end })).unwrap();
        let catalog = &self.hub.catalog;
        catalog
            .edit_secret(
                &org,
                &reference.parse().unwrap(),
                &change,
                None,
                setup(&org),
            )
            .await
            .unwrap();
    }
}

fn in_days(days: u64) -> Timestamp {
    clock::now() + Duration::from_secs(days * 86_400)
}

#[tokio::test]
async fn metadata_comes_with_a_value_and_is_edited_without_one() {
    let world = World::new().await;
    let end = in_days(30);
    let with = json!({
        "labels": ["prod", "team/db"], "description": "the database", "expires_at": end,
        "max_versions": 5, "rotate_every_seconds": 86_400,
    });
    world.set_with("root", "db", with.clone()).await.ok();
    let info = world.info("root", "db").await;
    for (name, value) in with.as_object().unwrap() {
        assert_eq!(&info[name], value, "{name}");
    }
    let set_at: Timestamp = info["updated_at"].as_str().unwrap().parse().unwrap();
    let due = set_at + Duration::from_secs(86_400);
    assert_eq!(info["rotation_due_at"], json!(due));
    assert_eq!(info["expired"], json!(false));

    let change = json!({"labels": ["dev"], "expires_at": null, "description": "another"});
    let edited: SecretEdited = world.patch("root", "db", &change).await.json();
    assert_eq!(
        (edited.nodes, edited.info.fields),
        (0, vec!["value".to_owned()])
    );
    let info = world.info("root", "db").await;
    assert_eq!(
        (&info["labels"], &info["version"]),
        (&json!(["dev"]), &json!("1"))
    );
    assert_eq!(
        (info.get("expires_at"), &info["max_versions"]),
        (None, &json!(5))
    );
    assert_eq!(
        info["updated_at"],
        json!(set_at),
        "the value is as old as it was"
    );
    // A value that says nothing of it leaves it.
    world.set("root", "db", "x").await.ok();
    assert_eq!(world.info("root", "db").await["labels"], json!(["dev"]));

    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let trail = world
        .hub
        .catalog
        .audit(&"myorg".parse().unwrap(), &query)
        .await;
    let trail: Vec<_> = trail.unwrap().into_iter().map(|r| r.entry).collect();
    let edit = trail
        .iter()
        .find(|entry| entry.action == "secret.edit")
        .unwrap();
    assert_eq!(
        edit.detail,
        "labels dev, another description, expires never"
    );
    let set = trail
        .iter()
        .find(|entry| entry.action == "secret.set")
        .unwrap();
    assert!(
        set.detail.starts_with("labels prod,team/db"),
        "{}",
        set.detail
    );
    assert!(set.detail.ends_with(", version 1"), "{}", set.detail);
    assert!(!format!("{trail:?}").contains("canary"));
}

#[tokio::test]
async fn only_who_may_set_a_secret_edits_it() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.set("alice", "user/alice/key", "x").await.ok();
    let change = json!({"labels": ["mine"]});
    for (user, reference) in [
        ("alice", "db"),
        ("root", "user/alice/key"),
        ("bob", "user/alice/key"),
        ("mallory", "db"),
        ("alice", "nothing-there"),
    ] {
        let answer = world.patch(user, reference, &change).await;
        answer.refused(Code::Denied);
    }
    world.patch("alice", "user/alice/key", &change).await.ok();
    world.patch("deputy", "db", &change).await.ok();
    let trail = world.trail("myorg").await;
    assert!(
        trail.contains(&"secret.edit secret/db denied".to_owned()),
        "{trail:?}"
    );
    assert!(
        trail.contains(&"secret.edit secret/db ok".to_owned()),
        "{trail:?}"
    );

    // How values are made is for who may see them; the rest is for who may know of the secret.
    let generator = json!({"kind": "password", "field": "value", "length": 9, "charset": "hex"});
    world
        .set_with("root", "db", json!({ "generator": generator }))
        .await
        .ok();
    let info = world.info("root", "db").await;
    assert_eq!(info["generator"]["length"], json!(9));
    let change = json!({"labels": ["mine"]});
    let edited: Value = world.patch("root", "db", &change).await.json();
    assert_eq!(edited["generator"], info["generator"]);
    let info = world.info("alice", "db").await;
    assert_eq!(
        (info.get("generator"), &info["labels"]),
        (None, &json!(["mine"]))
    );
    let listed: Value = world.get("root", "secrets").await.json();
    assert_eq!(listed[0].get("generator"), None);
    // What was set by hand is made by nobody's rule.
    world.set("root", "db", "x").await.ok();
    assert_eq!(world.info("root", "db").await.get("generator"), None);
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_and_changes_nothing() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    let before = world.info("root", "db").await;
    let many: Vec<_> = (0..31).map(|n| format!("label-{n}")).collect();
    for change in [
        json!({"labels": many}),
        json!({"labels": ["a"]}),
        json!({"labels": ["a,b"]}),
        json!({"labels": null, "description": "x".repeat(1025)}),
        json!({"description": "a\u{1b}[2J"}),
        json!({"max_versions": 0}),
        json!({"max_versions": 1001}),
        json!({"rotate_every_seconds": 59}),
        json!({"expires_at": "soon"}),
    ] {
        world
            .patch("root", "db", &change)
            .await
            .refused(Code::BadRequest);
        let set = world.set_with("root", "db", change).await;
        set.refused(Code::BadRequest);
    }
    let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
    for answer in [
        world.patch("root", "db", &past).await,
        world.set_with("root", "db", past).await,
    ] {
        let detail = answer.refused(Code::Invalid);
        assert!(detail.contains("2020-01-01T00:00:00Z has come"), "{detail}");
    }
    let empty = world.patch("root", "db", &json!({})).await;
    assert!(empty.refused(Code::Invalid).contains("max_versions"));
    let bad = json!({"generator": {"kind": "password", "field": "value", "length": 0}});
    let set = world.set_with("root", "db", bad).await;
    assert!(!set.refused(Code::BadRequest).contains("canary"));
    let unknown = world.patch("root", "nil", &json!({"labels": []})).await;
    unknown.refused(Code::NotFound);
    let foreign = world.patch("root", "vault:x", &json!({"labels": []})).await;
    foreign.refused(Code::Invalid);
    let query = world.get("root", "secrets?labels=a").await;
    assert!(query.refused(Code::BadRequest).contains("2 to 64"));
    assert_eq!(world.info("root", "db").await, before);
}

#[tokio::test]
async fn an_edit_keeps_its_precondition() {
    let world = World::new().await;
    world.set("root", "db", "x").await.ok();
    world.set("root", "db", "y").await.ok();
    let edit = |name: header::HeaderName, tag: &'static str| {
        let request = Request::patch(at("secrets/db"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(name, tag);
        let body = Body::from(r#"{"labels": ["prod"]}"#);
        world.request("root", request.body(body).unwrap())
    };
    let conflict = edit(header::IF_MATCH, "\"1\"").await;
    assert!(
        conflict
            .refused(Code::Conflict)
            .contains("changed meanwhile")
    );
    edit(header::IF_NONE_MATCH, "*")
        .await
        .refused(Code::Conflict);
    edit(header::IF_MATCH, "2").await.refused(Code::BadRequest);
    edit(header::IF_MATCH, "\"2\"").await.ok();
}

#[tokio::test]
async fn secrets_are_found_by_labels_and_by_what_is_due() {
    let world = World::new().await;
    let set = async |name, with| world.set_with("root", name, with).await.ok();
    set("a", json!({"labels": ["prod", "db"]})).await;
    set("b", json!({"labels": ["prod"], "expires_at": in_days(6)})).await;
    set("c", json!({"labels": ["db"], "expires_at": in_days(8)})).await;
    set("d", json!({"labels": ["db"], "expires_at": in_days(30)})).await;
    set("e", json!({"rotate_every_seconds": 60})).await;
    world
        .set_with("bob", "user/bob/a", json!({"labels": ["db"]}))
        .await
        .ok();
    world.outlive("d").await;
    assert_eq!(world.listed("root", "labels=prod").await, ["a", "b"]);
    assert_eq!(world.listed("root", "labels=prod,db").await, ["a"]);
    assert_eq!(world.listed("root", "labels=pro").await, [""; 0]);
    assert_eq!(world.listed("alice", "labels=db").await, ["a", "c", "d"]);
    assert_eq!(
        world.listed("root", "labels=db&prefix=user/").await,
        ["user/bob/a"]
    );
    assert_eq!(world.listed("root", "due=true").await, ["b", "d"]);
    assert_eq!(world.listed("root", "due=true&labels=db").await, ["d"]);

    // A value as old as its reminder.
    let mut hour_ago = setup(&"myorg".parse().unwrap());
    hour_ago.at = clock::now() - Duration::from_secs(3600);
    let payload = Fields::encode(&[("value".parse().unwrap(), b"old")]).unwrap();
    let value = NewValue {
        org: &"myorg".parse().unwrap(),
        reference: &"e".parse().unwrap(),
        payload: &payload,
        by: &user("root"),
        meta: NewMeta::default(),
    };
    world.hub.secrets.set(value, None, hour_ago).await.unwrap();
    assert_eq!(world.listed("root", "due=true").await, ["b", "d", "e"]);
}

#[tokio::test]
async fn an_ended_secret_says_so_until_it_gets_a_value() {
    let world = World::new().await;
    world.publish_samples().await;
    world.enrol("edge-01", "berlin", None).await;
    // Who has it bound hears of an end, and of nothing else.
    let edited: SecretEdited = world
        .patch("root", "db", &json!({"labels": ["prod"]}))
        .await
        .json();
    assert_eq!(edited.nodes, 0);
    let edited: SecretEdited = world
        .patch("root", "db", &json!({ "expires_at": in_days(1) }))
        .await
        .json();
    assert_eq!((edited.nodes, edited.info.expired), (1, false));
    world.outlive("db").await;
    assert_eq!(world.info("root", "db").await["expired"], json!(true));
    let set: SecretSet = world.set("root", "db", "canary").await.json();
    assert_eq!(set.nodes, 1);
    let [warning] = set.warnings.as_slice() else {
        panic!("{set:?}");
    };
    assert!(
        warning.contains("--expires") && !warning.contains("canary"),
        "{warning}"
    );
    let info = world.info("root", "db").await;
    assert_eq!(
        (&info["expired"], info.get("expires_at")),
        (&json!(false), None)
    );
    let set: SecretSet = world.set("root", "db", "x").await.json();
    assert!(set.warnings.is_empty());
}

#[tokio::test]
async fn a_version_beyond_those_kept_is_not_restored() {
    let world = World::new().await;
    for value in ["1", "2", "3"] {
        world.set("root", "db", value).await.ok();
    }
    world
        .patch("root", "db", &json!({"max_versions": 2}))
        .await
        .ok();
    let restore = json!({"version": "2"});
    let restored: SecretSet = world
        .post("root", "secret-restore/db", &restore)
        .await
        .json();
    assert_eq!(restored.version.as_str(), "4");
    let versions: Value = world.get("root", "secret-versions/db").await.json();
    assert_eq!(versions.as_array().unwrap().len(), 2);
    let gone = world.post("root", "secret-restore/db", &restore).await;
    assert!(gone.refused(Code::NotFound).contains("no version 2"));
}
