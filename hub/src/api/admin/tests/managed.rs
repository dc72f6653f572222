//! What managers outside the hub keep, as operators see and change it.

use std::time::Duration;

use edge_secrets_protocol::SecretVersion;

use super::*;
use crate::catalog::records::LeaseState;
use crate::lease::{Leases, Parts};
use crate::managers::registry::Registry;
use crate::managers::shelf::{LONG, Shelf};
use crate::managers::{Effect, Fault, Kind};
use crate::observe::observe;
use crate::wire::{
    EngineSet, HubInfo, LeaseInfo, LeasePage, ManagedInfo, ManagedPage, ManagedVersion,
    ManagerCheck, ManagerInfo, Published, SecretRevealed, SecretSet, SetEngine,
};

const HOUR: Duration = Duration::from_secs(3600);
pub(super) const A_MOMENT: Duration = Duration::from_millis(5);
pub(super) const CANARY: &str = "canary-91c4-value";
/// What the configuration says; the shelf stands for it.
const MANAGERS: &str = "\
managers:
- name: vault
  orgs: {myorg: [team, user]}
  webhook_token: hook-token
  vault: {address: 'https://127.0.0.1:1', auth: {token: token}}
- name: silent
  orgs: {}
  vault: {address: 'https://127.0.0.1:1', auth: {token: token}}
";

/// A hub with the manager `vault`, where `myorg` may reach `team` and `user` alone, and which is
/// observed as a running hub does it; and with the manager `hidden`, which is for `other` alone.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) vault: Arc<Shelf>,
    pub(super) hidden: Arc<Shelf>,
    said: std::sync::Mutex<String>,
}

impl Scene {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    async fn with(config: &str) -> Self {
        Self::over("{myorg: [team, user], other: [theirs]}", config).await
    }

    /// With this path policy of `vault`.
    async fn over(orgs: &str, config: &str) -> Self {
        let (vault, hidden) = (Shelf::new(), Shelf::new());
        let registry = Registry::new([
            vault.guarded("vault", orgs, HOUR),
            hidden.guarded("hidden", "{other: ['*'], myorg: []}", HOUR),
        ]);
        let (leases, desk) = Leases::new();
        let config = format!("{MANAGERS}{config}");
        let mut world = World::with(&config, registry.clone(), leases.clone()).await;
        let hub = Arc::clone(&world.hub);
        let parts = Parts {
            catalog: Arc::clone(&hub.catalog),
            registry: registry.clone(),
            feed: hub.feed.clone(),
        };
        let keeping = async move { leases.keep(desk, parts).await };
        world.background.push(tokio::spawn(keeping));
        let observing = observe(Arc::clone(&hub.catalog), registry, hub.hints.clone());
        world.background.push(tokio::spawn(observing));
        Self {
            world,
            vault,
            hidden,
            said: std::sync::Mutex::default(),
        }
    }

    /// Remembers what was answered.
    fn heard(&self, answer: Answer) -> Answer {
        self.said.lock().unwrap().push_str(&answer.text());
        answer
    }

    pub(super) async fn get(&self, user: &str, path: &str) -> Answer {
        self.heard(self.world.get(user, path).await)
    }

    async fn post(&self, user: &str, path: &str, body: &Value) -> Answer {
        self.heard(self.world.post(user, path, body).await)
    }

    async fn set(&self, user: &str, reference: &str, value: &str) -> Answer {
        self.heard(self.world.set(user, reference, value).await)
    }

    pub(super) async fn publish(&self, user: &str, name: &str, reference: &str) -> Answer {
        let policy = policy("1.0.0", &[("cred", reference)]);
        let path = format!("policies/{name}");
        self.heard(self.world.put(user, &path, &policy).await)
    }

    /// What is seen of a secret with `value`, opened as `user` would.
    async fn reveal(&self, user: &str, reference: &str) -> Result<(SecretVersion, Value), Answer> {
        let key = SealingKey::generate();
        let body = json!({ "seal_to": key.public() });
        let path = format!("secret-reveal/{reference}").replace('#', "%23");
        let answer = self.post(user, &path, &body).await;
        if !answer.status.is_success() {
            return Err(answer);
        }
        let revealed: SecretRevealed = answer.json();
        let SecretRevealed { version, sealed } = revealed;
        let place = Place::Reveal {
            org: &"myorg".parse().unwrap(),
            user: &self::user(user),
            reference,
            version: &version,
        };
        let payload = sealed.open(&key, &place).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        let fields: serde_json::Map<_, _> = fields
            .expose()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into()))
            .collect();
        Ok((version, Value::Object(fields)))
    }

    pub(super) async fn service(&self) {
        let service = service("1.0.0", &["cred"]);
        self.world.post("alice", "services", &service).await.ok();
    }

    /// The leases, once one is as wanted.
    async fn lease(&self, wanted: impl Fn(&LeaseInfo) -> bool) -> LeaseInfo {
        let waiting = async {
            loop {
                let page: LeasePage = self.get("root", "leases?ended=true").await.json();
                if let Some(lease) = page.leases.into_iter().find(&wanted) {
                    return lease;
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap()
    }

    /// Nothing that was answered or written down has a value in it.
    pub(super) async fn expect_no_value(&self) {
        let query = AuditQuery {
            limit: 1000,
            ..AuditQuery::default()
        };
        let org = "myorg".parse().unwrap();
        let trail = self.world.hub.catalog.audit(&org, &query).await.unwrap();
        let said = format!("{}{trail:?}", self.said.lock().unwrap());
        assert!(!said.contains("canary"), "{said}");
    }
}

fn names(page: ManagedPage) -> Vec<String> {
    page.entries.into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn managers_are_listed_for_all_and_checked_by_administrators() {
    let scene = Scene::new().await;
    scene.vault.put("team/db", &[("value", CANARY)]);
    let list: Vec<ManagerInfo> = scene.get("alice", "managers").await.json();
    assert_eq!(
        list.len(),
        1,
        "what is for another organisation is not shown"
    );
    let vault = &list[0];
    assert_eq!((vault.name.as_str(), vault.kind), ("vault", Kind::Vault));
    assert_eq!(
        vault.paths,
        ["team", "user"],
        "its own organisation's alone"
    );
    assert!(!vault.default && vault.trouble.is_none() && vault.calls.is_empty());

    let check = "managers/vault/check";
    scene
        .post("alice", check, &json!({}))
        .await
        .refused(Code::Denied);
    assert!(scene.vault.calls().is_empty());
    let checked: ManagerCheck = scene.post("root", check, &json!({})).await.json();
    assert!(checked.healthy && checked.version.as_deref() == Some("shelf 1"));
    scene.vault.suffer(Some(Fault::Unauthenticated), None);
    let checked: ManagerCheck = scene.post("root", check, &json!({})).await.json();
    assert!(!checked.healthy);
    assert_eq!(checked.trouble.unwrap().fault, Fault::Unauthenticated);
    let list: Vec<ManagerInfo> = scene.get("root", "managers").await.json();
    let trouble = list[0].trouble.as_ref().unwrap();
    assert_eq!(trouble.fault, Fault::Unauthenticated);
    let calls: Vec<_> = list[0]
        .calls
        .iter()
        .map(|c| (&*c.result, c.count))
        .collect();
    assert_eq!(calls, [("ok", 1), ("unauthenticated", 1)]);

    let said = scene
        .post("root", "managers/nowhere/check", &json!({}))
        .await
        .refused(Code::Invalid);
    assert!(said.contains("nowhere") && said.contains("vault"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
    scene.get("mallory", "managers").await.refused(Code::Denied);
    let trail = scene.world.trail("myorg").await;
    assert!(
        trail.contains(&"manager.check manager/vault denied".to_owned()),
        "{trail:?}"
    );
}

#[tokio::test]
async fn an_organisation_sees_the_managers_that_it_may_use_alone() {
    let scene = Scene::new().await;
    let check = scene
        .post("root", "managers/hidden/check", &json!({}))
        .await;
    let nowhere = scene
        .post("root", "managers/nowhere/check", &json!({}))
        .await;
    let said = check.refused(Code::Invalid);
    assert_eq!(
        said.replace("hidden", "nowhere"),
        nowhere.refused(Code::Invalid),
        "one that is not for them is none"
    );
    let published = scene.publish("root", "p", "nowhere:x").await;
    let said = published.text();
    assert!(
        !said.contains("hidden") && !said.contains("vault"),
        "{said}"
    );
    assert!(scene.hidden.calls().is_empty());
    let list = "/v1/orgs/other/managers";
    let list: Vec<ManagerInfo> = scene.get("mallory", list).await.json();
    let names: Vec<_> = list.iter().map(|manager| manager.name.as_str()).collect();
    assert_eq!(names, ["hidden", "vault"]);
    assert_eq!(list[1].paths, ["theirs"]);
    let check = "/v1/orgs/other/managers/hidden/check";
    let checked: ManagerCheck = scene.post("mallory", check, &json!({})).await.json();
    assert!(checked.healthy);
}

#[tokio::test]
async fn a_check_that_goes_well_ends_the_pause() {
    let scene = Scene::new().await;
    scene.vault.put("team/db", &[("value", CANARY)]);
    scene.vault.suffer(Some(Fault::Unreachable), Some(HOUR));
    let show = "managed/vault:team/db";
    scene.get("root", show).await.refused(Code::Unavailable);
    scene.vault.suffer(None, None);
    // It is well again, and still left alone.
    scene.get("root", show).await.refused(Code::Unavailable);
    let check = "managers/vault/check";
    let checked: ManagerCheck = scene.post("root", check, &json!({})).await.json();
    assert!(checked.healthy);
    let list: Vec<ManagerInfo> = scene.get("root", "managers").await.json();
    assert_eq!(list[0].left_alone_seconds, None);
    scene.get("root", show).await.ok();
}

/// A key for an engine, as an operator's command sends it.
fn engine(scene: &Scene, user: &str, name: &str, key: &str) -> SetEngine {
    let place = Place::Engine {
        org: &"myorg".parse().unwrap(),
        user: &self::user(user),
        manager: "vault",
        name,
    };
    let public = scene.world.hub.sealing_key.public();
    let key = edge_secrets_protocol::Secret::new(key.as_bytes().to_vec());
    SetEngine {
        name: name.to_owned(),
        sealed: public.seal(&place, &key).unwrap(),
    }
}

#[tokio::test]
async fn an_engine_gets_its_key_from_an_administrator_of_the_whole_manager() {
    let scene = Scene::over("{myorg: ['*'], other: [theirs]}", "").await;
    let path = "managers/vault/engine";
    let put =
        async |user: &str, body: &SetEngine| scene.heard(scene.world.put(user, path, body).await);
    let body = |user: &str| engine(&scene, user, "iam", CANARY);
    put("alice", &body("alice")).await.refused(Code::Denied);
    put("mallory", &body("mallory")).await.refused(Code::Denied);
    // Sealed by another, for another engine, or no key: nothing is asked.
    put("root", &body("deputy")).await.refused(Code::Invalid);
    let moved = SetEngine {
        name: "else".into(),
        ..body("root")
    };
    put("root", &moved).await.refused(Code::Invalid);
    for key in ["", "canary two", "canary\n"] {
        let refused = put("root", &engine(&scene, "root", "iam", key)).await;
        let said = refused.refused(Code::Invalid);
        assert!(said.contains("printable"), "{said}");
    }
    for name in ["", "a\nb", &"x".repeat(129)] {
        let refused = put("root", &engine(&scene, "root", name, CANARY)).await;
        refused.refused(Code::Invalid);
    }
    let elsewhere = scene
        .world
        .put("root", "managers/hidden/engine", &body("root"))
        .await;
    elsewhere.refused(Code::Invalid);
    assert!(scene.vault.calls().is_empty(), "{:?}", scene.vault.calls());

    let made: EngineSet = put("root", &body("root")).await.json();
    assert_eq!(
        (made.manager.as_str(), made.name.as_str()),
        ("vault", "iam")
    );
    assert_eq!((made.kind.as_str(), made.replaced), ("shelf_engine", false));
    assert_eq!(scene.vault.engine("iam").unwrap(), CANARY.as_bytes());
    let made: EngineSet = put("root", &body("root")).await.json();
    assert!(made.replaced);
    scene.vault.suffer(Some(Fault::Denied), None);
    put("root", &body("root")).await.refused(Code::Denied);
    let trail = scene.world.trail("myorg").await;
    let of_engines = trail
        .iter()
        .filter(|line| line.starts_with("manager.engine"));
    assert_eq!(
        of_engines.collect::<Vec<_>>(),
        [
            "manager.engine manager/vault denied",
            "manager.engine manager/vault ok",
            "manager.engine manager/vault ok",
            "manager.engine manager/vault denied",
        ]
    );
    scene.expect_no_value().await;
}

#[tokio::test]
async fn an_engine_that_others_share_is_not_one_organisations_to_configure() {
    let scene = Scene::new().await;
    let body = engine(&scene, "root", "iam", CANARY);
    let shared = scene
        .world
        .put("root", "managers/vault/engine", &body)
        .await;
    shared.refused(Code::Denied);
    assert!(scene.vault.calls().is_empty());
    let trail = scene.world.trail("myorg").await;
    let line = "manager.engine manager/vault out_of_policy".to_owned();
    assert!(trail.contains(&line), "{trail:?}");
}

#[tokio::test]
async fn what_is_set_at_a_manager_is_said_with_the_nodes_that_bind_it() {
    let scene = Scene::new().await;
    let set: SecretSet = scene.set("root", "vault:team/db", CANARY).await.json();
    assert_eq!((set.nodes, set.at_next_look), (0, true));
    scene.service().await;
    let bound = scene.publish("alice", "p", "vault:team/db#value").await;
    bound.ok();
    for node in ["edge-01", "edge-02"] {
        scene.world.enrol(node, "berlin", None).await;
    }
    scene.world.enrol("edge-03", "munich", None).await;
    let set: SecretSet = scene.set("root", "vault:team/db", CANARY).await.json();
    assert_eq!((set.nodes, set.at_next_look), (2, true));
    let own: SecretSet = scene.set("root", "db", CANARY).await.json();
    assert!(!own.at_next_look);
}

#[tokio::test]
async fn a_listing_by_labels_is_refused_where_it_tells_none() {
    let scene = Scene::new().await;
    let list = "managers/vault/secrets?prefix=team/&labels=";
    let said = scene.get("root", &format!("{list}prod")).await;
    assert!(said.refused(Code::Invalid).contains("labels"));
    assert!(scene.vault.calls().is_empty());
    let many = vec!["xx"; 31].join(",");
    let many = scene.get("root", &format!("{list}{many}")).await;
    many.refused(Code::TooLarge);
    scene.vault.tells_labels();
    scene.get("root", &format!("{list}prod,eu")).await.ok();
    assert_eq!(scene.vault.calls(), ["list team/ by prod,eu"]);
}

#[tokio::test]
async fn a_listing_names_nothing_that_is_another_users_or_out_of_policy() {
    let scene = Scene::new().await;
    for path in [
        "team/db",
        "team/sub/x",
        "theirs/customer/x",
        "user/alice/x",
        "user/bob/deep/x",
        "user/bob/x",
    ] {
        scene.vault.put(path, &[("value", CANARY)]);
    }
    let list = async |user: &str, prefix: &str| {
        let path = format!("managers/vault/secrets?prefix={prefix}");
        names(scene.get(user, &path).await.json())
    };
    assert_eq!(list("alice", "").await, ["vault:team/", "vault:user/"]);
    assert_eq!(
        list("alice", "team/").await,
        ["vault:team/db", "vault:team/sub/"]
    );
    assert_eq!(list("alice", "user/").await, ["vault:user/alice/"]);
    assert_eq!(list("alice", "user/alice/").await, ["vault:user/alice/x"]);
    assert!(list("alice", "user/bob/").await.is_empty());
    assert_eq!(
        list("bob", "user/bob/").await,
        ["vault:user/bob/deep/", "vault:user/bob/x"]
    );
    assert_eq!(
        list("root", "user/").await,
        ["vault:user/alice/", "vault:user/bob/"]
    );
    let out = "managers/vault/secrets?prefix=theirs/";
    scene.get("root", out).await.refused(Code::Denied);
    let trail = scene.world.trail("myorg").await;
    let refused = "secret.list secrets/vault:theirs/ out_of_policy".to_owned();
    assert!(trail.contains(&refused), "{trail:?}");
    let long = format!("managers/vault/secrets?prefix={}", "x".repeat(1025));
    scene.get("root", &long).await.refused(Code::TooLarge);
    scene
        .get("root", "managers/none/secrets")
        .await
        .refused(Code::Invalid);
    scene
        .get("mallory", "managers/vault/secrets")
        .await
        .refused(Code::Denied);
    scene.expect_no_value().await;
}

#[tokio::test]
async fn a_managed_secret_is_looked_at_without_its_value() {
    let scene = Scene::new().await;
    scene
        .vault
        .put("team/db", &[("password", "old"), ("user", "u")]);
    scene
        .vault
        .put("team/db", &[("password", CANARY), ("user", "u")]);
    scene.vault.put("user/bob/x", &[("value", CANARY)]);
    let info: ManagedInfo = scene.get("alice", "managed/vault:team/db").await.json();
    assert_eq!(info.version.unwrap().as_str(), "2");
    // What it is made of is for who may read it.
    assert!(info.fields.is_empty());
    let info: ManagedInfo = scene.get("root", "managed/vault:team/db").await.json();
    assert_eq!(info.fields, ["password", "user"]);
    let versions = "managed-versions/vault:team/db";
    let versions: Vec<ManagedVersion> = scene.get("root", versions).await.json();
    let gone: Vec<_> = versions.iter().map(|v| v.gone.as_deref()).collect();
    assert_eq!(gone, [None, Some("destroyed")]);
    assert!(
        !scene
            .vault
            .calls()
            .iter()
            .any(|call| call.starts_with("read"))
    );

    let calls = scene.vault.calls().len();
    for (user, path) in [
        ("alice", "managed-versions/vault:team/db"),
        ("alice", "managed/vault:user/bob/x"),
        ("root", "managed-versions/vault:user/bob/x"),
        ("root", "managed/vault:theirs/x"),
        ("root", "managed-versions/vault:theirs/x"),
        ("mallory", "managed/vault:team/db"),
    ] {
        scene.get(user, path).await.refused(Code::Denied);
    }
    assert_eq!(scene.vault.calls().len(), calls, "nobody was asked");
    scene.get("bob", "managed/vault:user/bob/x").await.ok();
    scene
        .get("root", "managed/vault:team/none")
        .await
        .refused(Code::Missing);
    scene
        .get("root", "managed/none:team/db")
        .await
        .refused(Code::Invalid);
    // What the hub keeps itself is elsewhere, and what a manager keeps is not there.
    scene.get("root", "managed/db").await.refused(Code::Invalid);
    scene
        .get("root", "secrets/vault:team/db")
        .await
        .refused(Code::Invalid);
    scene
        .world
        .delete("root", "secrets/vault:team/db")
        .await
        .refused(Code::Invalid);
    let trail = scene.world.trail("myorg").await;
    for line in [
        "secret.versions secret/vault:team/db denied",
        "secret.show secret/vault:user/bob/x denied",
        "secret.versions secret/vault:user/bob/x denied",
        "secret.show secret/vault:theirs/x out_of_policy",
        "secret.versions secret/vault:theirs/x out_of_policy",
    ] {
        assert!(
            trail.iter().any(|record| record == line),
            "{line}: {trail:?}"
        );
    }
    scene.expect_no_value().await;
}

#[tokio::test]
async fn a_value_is_revealed_to_who_may_read_it_and_the_trail_says_so() {
    let scene = Scene::new().await;
    scene
        .vault
        .put("team/db", &[("password", CANARY), ("user", "u")]);
    scene.vault.put("user/bob/x", &[("value", CANARY)]);
    for (user, reference) in [
        ("alice", "vault:team/db"),
        ("alice", "vault:user/bob/x"),
        ("root", "vault:user/bob/x"),
        ("root", "vault:theirs/x"),
    ] {
        let refused = scene.reveal(user, reference).await.err().unwrap();
        refused.refused(Code::Denied);
    }
    assert!(scene.vault.calls().is_empty(), "{:?}", scene.vault.calls());
    let (version, value) = scene.reveal("root", "vault:team/db").await.ok().unwrap();
    assert_eq!(version.as_str(), "1");
    assert_eq!(value, json!({ "password": CANARY, "user": "u" }));
    let (_, value) = scene
        .reveal("root", "vault:team/db#user")
        .await
        .ok()
        .unwrap();
    assert_eq!(value, json!({ "user": "u" }));
    let none = scene
        .reveal("root", "vault:team/db#none")
        .await
        .err()
        .unwrap();
    let said = none.refused(Code::Missing);
    assert!(said.contains("password, user"), "{said}");
    scene.reveal("bob", "vault:user/bob/x").await.ok().unwrap();
    let trail = scene.world.trail("myorg").await;
    for line in [
        "secret.reveal secret/vault:team/db denied",
        "secret.reveal secret/vault:team/db ok",
        "secret.reveal secret/vault:team/db#user ok",
        "secret.reveal secret/vault:user/bob/x ok",
        "secret.reveal secret/vault:user/bob/x denied",
        "secret.reveal secret/vault:theirs/x out_of_policy",
    ] {
        assert!(
            trail.iter().any(|record| record == line),
            "{line}: {trail:?}"
        );
    }
    scene.expect_no_value().await;
}

#[tokio::test]
async fn what_a_read_has_an_effect_on_is_not_read_to_be_looked_at() {
    let scene = Scene::new().await;
    for (path, effect) in [
        ("team/a", Effect::Mints),
        ("team/b", Effect::MintsAndInvalidates),
        ("team/c", Effect::Exclusive),
    ] {
        scene.vault.leased(path, effect);
        let refused = scene
            .reveal("root", &format!("vault:{path}"))
            .await
            .err()
            .unwrap();
        let said = refused.refused(Code::Invalid);
        assert!(said.contains(effect.as_str()), "{said}");
    }
    let calls = scene.vault.calls();
    assert!(
        calls.iter().all(|call| call.starts_with("describe")),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_value_is_set_at_its_manager_and_only_where_it_was_expected() {
    let scene = Scene::new().await;
    let set: SecretSet = scene.set("root", "vault:team/db", CANARY).await.json();
    assert_eq!(set.version.as_str(), "1");
    let (_, value) = scene.reveal("root", "vault:team/db").await.ok().unwrap();
    assert_eq!(value, json!({ "value": CANARY }));
    let with = async |header, value: &str| {
        let body = scene.world.sealed("root", "vault:team/db", CANARY);
        let request = Request::put(at("secrets/vault:team/db"))
            .header(header::CONTENT_TYPE, "application/json")
            .header::<_, &str>(header, value)
            .body(Body::from(serde_json::to_vec(&body).unwrap()));
        scene.heard(scene.world.request("root", request.unwrap()).await)
    };
    with(header::IF_MATCH, "\"7\"")
        .await
        .refused(Code::Conflict);
    with(header::IF_NONE_MATCH, "*")
        .await
        .refused(Code::Conflict);
    let set: SecretSet = with(header::IF_MATCH, "\"1\"").await.json();
    assert_eq!(set.version.as_str(), "2");

    // What the manager keeps beside the value is set there.
    let mut body = scene.world.sealed("root", "vault:team/db", CANARY);
    body.meta = serde_json::from_value(json!({ "description": "x" })).unwrap();
    let path = "secrets/vault:team/db";
    let labelled = scene.world.put("root", path, &body).await;
    let said = labelled.refused(Code::Invalid);
    assert!(said.contains("manager"), "{said}");
    let calls = scene.vault.calls().len();
    scene
        .set("alice", "vault:team/db", CANARY)
        .await
        .refused(Code::Denied);
    scene
        .set("root", "vault:user/bob/x", CANARY)
        .await
        .refused(Code::Denied);
    scene
        .set("root", "vault:theirs/x", CANARY)
        .await
        .refused(Code::Denied);
    scene
        .set("root", "none:x", CANARY)
        .await
        .refused(Code::Invalid);
    assert_eq!(scene.vault.calls().len(), calls, "nobody was asked");
    scene.vault.suffer(Some(Fault::Sealed), None);
    scene
        .set("root", "vault:team/db", CANARY)
        .await
        .refused(Code::Unavailable);
    let trail = scene.world.trail("myorg").await;
    for line in [
        "secret.set secret/vault:team/db ok",
        "secret.set secret/vault:team/db conflict",
        "secret.set secret/vault:team/db denied",
        "secret.set secret/vault:team/db sealed",
        "secret.set secret/vault:user/bob/x denied",
        "secret.set secret/vault:theirs/x out_of_policy",
    ] {
        assert!(
            trail.iter().any(|record| record == line),
            "{line}: {trail:?}"
        );
    }
    scene.expect_no_value().await;
}

#[tokio::test]
async fn a_secret_whose_values_its_manager_makes_is_made_within_bounds() {
    let scene = Scene::new().await;
    let path = "managed/vault:team/key";
    let new = |ttl: u64, groups: &[&str]| json!({ "ttl_seconds": ttl, "access_groups": groups });
    for body in [
        new(59, &["g"]),
        new(90 * 86_400 + 1, &["g"]),
        new(60, &[]),
        new(60, &[""]),
    ] {
        scene.post("root", path, &body).await.refused(Code::Invalid);
    }
    let both = json!({ "ttl_seconds": 60, "access_groups": ["g"], "service_id": "s" });
    scene.post("root", path, &both).await.refused(Code::Invalid);
    scene
        .post("alice", path, &new(60, &["g"]))
        .await
        .refused(Code::Denied);
    let out = "managed/vault:theirs/key";
    scene
        .post("root", out, &new(60, &["g"]))
        .await
        .refused(Code::Denied);
    assert!(scene.vault.calls().is_empty(), "{:?}", scene.vault.calls());
    let made: ManagedInfo = scene.post("root", path, &new(60, &["g"])).await.json();
    assert_eq!(made.effect, Effect::MintsAndInvalidates);
    assert_eq!(made.version, None);
    let trail = scene.world.trail("myorg").await;
    for line in [
        "secret.create secret/vault:team/key denied",
        "secret.create secret/vault:theirs/key out_of_policy",
        "secret.create secret/vault:team/key ok",
    ] {
        assert!(
            trail.iter().any(|record| record == line),
            "{line}: {trail:?}"
        );
    }
}

#[tokio::test]
async fn a_policy_is_refused_for_what_cannot_be_bound_and_warned_of_what_is_odd() {
    let scene = Scene::new().await;
    scene.service().await;
    scene.vault.put("team/db", &[("password", CANARY)]);
    scene.vault.put("user/bob/x", &[("value", CANARY)]);
    scene.vault.leased("team/one", Effect::Exclusive);
    for (reference, why) in [
        ("vault:theirs/x", "out_of_policy"),
        ("vault:team/none", "does not exist"),
        ("vault:team/db#none", "has no field none"),
        ("none:team/db", "unknown_manager"),
        ("vault:user/bob/x", "bob"),
    ] {
        let said = scene
            .publish("root", "p", reference)
            .await
            .refused(Code::Invalid);
        assert!(
            said.contains(why) && said.contains("policy \"p\""),
            "{reference}: {said}"
        );
    }
    assert_eq!(scene.vault.count("describe user/bob/x"), 0);
    // Whether another's private secret is there or not reads the same.
    let there = scene.publish("alice", "p", "vault:user/bob/x").await;
    let not_there = scene.publish("alice", "p", "vault:user/bob/y").await;
    let (there, not_there) = (
        there.refused(Code::Invalid),
        not_there.refused(Code::Invalid),
    );
    assert_eq!(there.replace("bob/x", "bob/y"), not_there);

    let fine: Published = scene
        .publish("alice", "p", "vault:team/db#password")
        .await
        .json();
    assert!(fine.warnings.is_empty(), "{:?}", fine.warnings);
    let one: Published = scene.publish("alice", "p", "vault:team/one").await.json();
    assert!(one.warnings[0].contains("one node"), "{:?}", one.warnings);
    scene.vault.suffer(Some(Fault::Unreachable), None);
    let down: Published = scene.publish("alice", "p", "vault:team/later").await.json();
    let warning = &down.warnings[0];
    assert!(
        warning.contains("unreachable") && warning.contains("all the same"),
        "{warning}"
    );
    scene.get("alice", "policies/p").await.ok();
    scene.expect_no_value().await;
}

#[tokio::test]
async fn references_without_a_manager_mean_the_default_one() {
    let scene = Scene::with("default_managers: {myorg: vault}\n").await;
    scene.service().await;
    let info: HubInfo = scene.get("alice", "/v1/hub").await.json();
    assert_eq!(info.default_manager.unwrap().as_str(), "vault");
    scene.set("root", "team/db", CANARY).await.ok();
    assert_eq!(scene.vault.count("write team/db"), 1);
    let info: ManagedInfo = scene.get("root", "managed/team/db").await.json();
    assert_eq!(info.reference.to_string(), "vault:team/db");
    let (_, value) = scene.reveal("root", "team/db").await.ok().unwrap();
    assert_eq!(value, json!({ "value": CANARY }));
    scene.publish("alice", "p", "team/db").await.ok();
    scene
        .publish("alice", "p", "team/none")
        .await
        .refused(Code::Invalid);
    // `embedded:` is the hub's own.
    scene
        .publish("alice", "p", "embedded:db")
        .await
        .refused(Code::Invalid);
    let calls = scene.vault.calls().len();
    scene.set("root", "embedded:db", CANARY).await.ok();
    let (_, value) = scene.reveal("root", "embedded:db").await.ok().unwrap();
    assert_eq!(value, json!({ "value": CANARY }));
    scene.get("root", "secrets/embedded:db").await.ok();
    scene.publish("alice", "q", "embedded:db").await.ok();
    assert_eq!(scene.vault.calls().len(), calls);
    let list: Vec<ManagerInfo> = scene.get("alice", "managers").await.json();
    assert!(list[0].default);
    let trail = scene.world.trail("myorg").await;
    assert!(
        trail.contains(&"secret.set secret/vault:team/db ok".to_owned()),
        "{trail:?}"
    );
    assert!(
        trail.contains(&"secret.set secret/db ok".to_owned()),
        "{trail:?}"
    );
    scene.expect_no_value().await;
}

#[tokio::test]
async fn leases_are_seen_by_all_and_ended_by_administrators() {
    let scene = Scene::new().await;
    scene.service().await;
    scene.vault.leased("team/creds", Effect::Mints);
    scene.publish("alice", "p", "vault:team/creds").await.ok();
    scene.world.enrol("edge-01", "berlin", None).await;
    let org: OrgId = "myorg".parse().unwrap();
    let node: NodeId = "edge-01".parse().unwrap();
    let _watcher = scene.world.hub.feed.watch(&org, &node);
    scene.world.hub.leases.arrived(&org, &node);
    let live = |lease: &LeaseInfo| lease.state == LeaseState::Live;
    let first = scene.lease(live).await;
    assert_eq!(first.reference.to_string(), "vault:team/creds");
    let seen: LeasePage = scene.get("alice", "leases?node=edge-01").await.json();
    assert_eq!((seen.leases.len(), seen.next), (1, None));
    let none: LeasePage = scene.get("alice", "leases?node=edge-02").await.json();
    assert!(none.leases.is_empty());
    let elsewhere = "/v1/orgs/other/leases?ended=true";
    let elsewhere: LeasePage = scene.get("mallory", elsewhere).await.json();
    assert!(
        elsewhere.leases.is_empty(),
        "another organisation's are not seen"
    );

    let revoke = format!("leases/{}/revoke", first.id);
    scene
        .post("alice", &revoke, &json!({}))
        .await
        .refused(Code::Denied);
    scene
        .post("mallory", &revoke, &json!({}))
        .await
        .refused(Code::Denied);
    scene
        .post("root", "leases/x/revoke", &json!({}))
        .await
        .refused(Code::BadRequest);
    let said = scene
        .post("root", "leases/99/revoke", &json!({}))
        .await
        .refused(Code::NotFound);
    assert!(said.contains("99"), "{said}");
    assert_eq!(scene.vault.count("revoke lease/1"), 0);
    scene.post("root", &revoke, &json!({})).await.ok();
    scene
        .lease(|lease| lease.id == first.id && lease.state == LeaseState::Ended)
        .await;
    assert_eq!(scene.vault.count("revoke lease/1"), 1);
    let second = scene
        .lease(|lease| live(lease) && lease.id > first.id)
        .await;
    // Part by part, the newest first.
    let list = "leases?ended=true&limit=1";
    let part: LeasePage = scene.get("alice", list).await.json();
    assert_eq!((part.leases[0].id, part.next), (second.id, Some(second.id)));
    let older = format!("{list}&before={}", second.id);
    let part: LeasePage = scene.get("alice", &older).await.json();
    assert_eq!(part.leases[0].id, first.id);
    let trail = scene.world.trail("myorg").await;
    for line in [
        format!("lease.revoke lease/{} denied", first.id),
        format!("lease.revoke lease/{} ok", first.id),
        "lease.revoke lease/99 not_found".to_owned(),
    ] {
        assert!(trail.contains(&line), "{line}: {trail:?}");
    }
    scene.expect_no_value().await;
}
