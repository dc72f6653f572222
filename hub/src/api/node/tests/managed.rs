//! Fetching what managers outside the hub keep.

use std::time::Duration;

use edge_secrets_protocol::binding::{
    Bindings, BoundSecret, FetchItem, FetchRequest, FetchResponse, FetchResult, SecretState,
};
use edge_secrets_protocol::sealed::Place;

use super::*;
use crate::catalog::records::{LeaseQuery, LeaseRecord, LeaseState, Observation};
use crate::lease::Parts;
use crate::managers::shelf::{LONG, Shelf};
use crate::managers::{Effect, Fault};
use crate::observe::{Hint, observe};

const SERVICE: &str = "myorg/com.example.uplink";
const CANARY: &str = "canary-3be0-value";
const HOUR: Duration = Duration::from_secs(3600);
const A_MOMENT: Duration = Duration::from_millis(5);

/// A hub with the manager `v`, observed as a running hub does it, and a node.
pub(super) struct Scene {
    pub(super) world: World,
    node: Node,
    shelf: Arc<Shelf>,
    observer: tokio::task::JoinHandle<()>,
    keeper: Option<tokio::task::JoinHandle<()>>,
}

impl Scene {
    /// What the node's `cred` and `extra` are bound to.
    pub(super) async fn new(shelf: Arc<Shelf>, bindings: &[(&str, &str)]) -> Self {
        let registry = Registry::new([shelf.guarded("v", "{myorg: [team]}", HOUR)]);
        let (leases, desk) = Leases::new();
        let world = World::with(registry.clone(), leases.clone()).await;
        let node = world.deploy().await;
        let hub = Arc::clone(&world.hub);
        let parts = Parts {
            catalog: Arc::clone(&hub.catalog),
            registry: registry.clone(),
            feed: hub.feed.clone(),
        };
        let keeper = tokio::spawn(async move { leases.keep(desk, parts).await });
        let observing = observe(Arc::clone(&hub.catalog), registry, hub.hints.clone());
        let observer = tokio::spawn(observing);
        world.bind(bindings).await;
        Self {
            world,
            node,
            shelf,
            observer,
            keeper: Some(keeper),
        }
    }

    /// How a name of the service stands at the node, once it is as wanted.
    pub(super) async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&SecretState) -> bool,
    ) -> BoundSecret {
        let waiting = async {
            loop {
                let answer = self.world.get(&self.node.connected, routes::BINDINGS).await;
                let bindings: Bindings = answer.ok().json();
                let mut secrets = bindings.deployments.into_iter().flat_map(|d| d.secrets);
                let found = secrets.find(|secret| secret.name.as_str() == name);
                if let Some(found) = found.filter(|found| wanted(&found.state)) {
                    return found;
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap()
    }

    /// The version of a name, as the node knows it, once there is one.
    pub(super) async fn version(&self, name: &str) -> SecretVersion {
        let ready = |state: &SecretState| matches!(state, SecretState::Ready { .. });
        match self.until(name, ready).await.state {
            SecretState::Ready { version } => version,
            other => panic!("{other:?}"),
        }
    }

    async fn fetch(&self, wanted: &[(&str, &SecretVersion)]) -> Vec<FetchResult> {
        let items = wanted.iter().map(|(name, version)| item(name, version));
        let request = FetchRequest {
            items: items.collect(),
        };
        let connected = &self.node.connected;
        let answer = self
            .world
            .send(connected, "POST", routes::SECRETS, &request);
        let answer = answer.await.ok();
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
        answer.json::<FetchResponse>().items
    }

    /// The fields of a value, opened as the node would.
    #[track_caller]
    fn open(&self, name: &str, version: &SecretVersion, result: &FetchResult) -> Value {
        let FetchResult::Sealed(sealed) = result else {
            panic!("{result:?}");
        };
        let item = item(name, version);
        let place = Place::Node {
            org: &self.node.identity.org,
            node: &self.node.identity.node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        let payload = sealed.open(&self.node.sealing, &place).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        let fields = fields.expose().map(|(name, value)| {
            let value = String::from_utf8(value.to_vec()).unwrap();
            (name.to_owned(), Value::String(value))
        });
        Value::Object(fields.collect())
    }

    async fn leases(&self) -> Vec<LeaseRecord> {
        let catalog = &self.world.hub.catalog;
        catalog.leases(&LeaseQuery::default()).await.unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.observer.abort();
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

pub(super) fn item(name: &str, version: &SecretVersion) -> FetchItem {
    FetchItem {
        service: SERVICE.parse().unwrap(),
        name: name.parse().unwrap(),
        version: version.clone(),
    }
}

#[track_caller]
fn code(result: &FetchResult) -> Code {
    match result {
        FetchResult::Problem(problem) => problem.code,
        FetchResult::Sealed(_) => panic!("a value was given"),
    }
}

#[tokio::test]
async fn a_field_alone_or_all_of_them_are_one_read() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("password", CANARY), ("user", "u")]);
    let bindings = [("cred", "v:team/db#user"), ("extra", "v:team/db")];
    let scene = Scene::new(shelf, &bindings).await;
    let (cred, extra) = (scene.version("cred").await, scene.version("extra").await);
    assert_ne!(cred, extra, "another reference is another version");
    let got = scene.fetch(&[("cred", &cred), ("extra", &extra)]).await;
    assert_eq!(scene.open("cred", &cred, &got[0]), json!({ "user": "u" }));
    let all = json!({ "password": CANARY, "user": "u" });
    assert_eq!(scene.open("extra", &extra, &got[1]), all);
    assert_eq!(scene.shelf.count("read team/db"), 1);
    let trail = scene.world.trail("secret.fetch").await;
    assert_eq!(
        trail,
        [
            format!("node/edge-01 {SERVICE}/cred -> v:team/db#user@1 ok "),
            format!("node/edge-01 {SERVICE}/extra -> v:team/db@1 ok "),
        ]
    );
}

#[tokio::test]
async fn a_field_that_is_not_there_and_a_place_out_of_policy_are_told_apart() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("password", CANARY)]);
    shelf.put("other/db", &[("password", CANARY)]);
    let bindings = [("cred", "v:team/db#none"), ("extra", "v:other/db")];
    let scene = Scene::new(shelf, &bindings).await;
    let cred = scene.version("cred").await;
    scene
        .until("extra", |state| *state == SecretState::Denied)
        .await;
    let some = "1".parse().unwrap();
    let got = scene.fetch(&[("cred", &cred), ("extra", &some)]).await;
    assert_eq!(
        (code(&got[0]), code(&got[1])),
        (Code::Missing, Code::Denied)
    );
    assert_eq!(scene.shelf.count("describe other/db"), 0);
    assert_eq!(scene.shelf.count("read other/db"), 0);
    let trail = scene.world.trail("secret.fetch").await;
    assert!(!format!("{trail:?}").contains("canary"), "{trail:?}");
}

#[tokio::test]
async fn a_manager_that_hangs_holds_up_its_own_item_alone() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", CANARY)]);
    let bindings = [("cred", "v:team/db"), ("extra", "more")];
    let scene = Scene::new(shelf, &bindings).await;
    let (cred, extra) = (scene.version("cred").await, scene.version("extra").await);
    scene.shelf.hang(true);
    let got = scene.fetch(&[("cred", &cred), ("extra", &extra)]).await;
    assert_eq!(code(&got[0]), Code::Pending);
    assert_eq!(
        scene.open("extra", &extra, &got[1]),
        json!({ "value": "s3cr3t" })
    );
    // The read goes on, and is there for the next try.
    scene.shelf.hang(false);
    let got = scene.fetch(&[("cred", &cred)]).await;
    assert_eq!(
        scene.open("cred", &cred, &got[0]),
        json!({ "value": CANARY })
    );
    assert_eq!(scene.shelf.count("read team/db"), 1);
}

#[tokio::test]
async fn a_version_that_is_no_more_is_superseded() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", "old")]);
    let scene = Scene::new(shelf, &[("cred", "v:team/db"), ("extra", "more")]).await;
    let first = scene.version("cred").await;
    // The hub has not heard of it yet: the manager says it.
    scene.shelf.put("team/db", &[("value", CANARY)]);
    let got = scene.fetch(&[("cred", &first)]).await;
    assert_eq!(code(&got[0]), Code::Superseded);
    assert!(scene.world.hub.hints.give(&"v".parse().unwrap(), Hint::All));
    let newer =
        |state: &SecretState| matches!(state, SecretState::Ready { version } if *version != first);
    scene.until("cred", newer).await;
    let second = scene.version("cred").await;
    let got = scene.fetch(&[("cred", &first), ("cred", &second)]).await;
    assert_eq!(code(&got[0]), Code::Superseded);
    assert_eq!(
        scene.open("cred", &second, &got[1]),
        json!({ "value": CANARY })
    );
}

#[tokio::test]
async fn trouble_of_the_manager_is_pending_and_of_the_secret_failed() {
    let shelf = Shelf::new();
    shelf.put("team/a", &[("value", CANARY)]);
    shelf.put("team/b", &[("value", CANARY)]);
    let scene = Scene::new(shelf, &[("cred", "v:team/a"), ("extra", "v:team/b")]).await;
    let (cred, extra) = (scene.version("cred").await, scene.version("extra").await);
    scene.shelf.fail("team/a", Fault::Locked, None);
    scene.shelf.fail("team/b", Fault::Sealed, None);
    let got = scene.fetch(&[("cred", &cred), ("extra", &extra)]).await;
    assert_eq!(
        (code(&got[0]), code(&got[1])),
        (Code::Failed, Code::Pending)
    );
    let trail = scene.world.trail("secret.fetch").await;
    assert!(
        trail[0].contains("failed") && trail[0].contains("locked"),
        "{trail:?}"
    );
    assert!(
        trail[1].contains("pending") && trail[1].contains("sealed"),
        "{trail:?}"
    );
}

#[tokio::test]
async fn a_fault_has_one_code_in_bindings_and_fetches() {
    let some = "1".parse().unwrap();
    for (fault, state, answered) in [
        (Fault::Missing, SecretState::Missing, Code::Missing),
        (Fault::Expired, SecretState::Missing, Code::Missing),
        (Fault::Denied, SecretState::Denied, Code::Denied),
        // Nobody knows which: the node is to let go of nothing for it.
        (Fault::NotFoundOrDenied, SecretState::Failed, Code::Failed),
        (Fault::Locked, SecretState::Failed, Code::Failed),
        (Fault::Busy, SecretState::Pending, Code::Pending),
    ] {
        let shelf = Shelf::new();
        shelf.put("team/b", &[("value", CANARY)]);
        shelf.fail("team/a", fault, None);
        let scene = Scene::new(shelf, &[("cred", "v:team/a"), ("extra", "v:team/b")]).await;
        let extra = scene.version("extra").await;
        scene
            .shelf
            .until(|shelf| shelf.count("describe team/a") > 0)
            .await;
        scene.until("cred", |found| *found == state).await;
        // What is known to fail, and what the manager says only when it is read.
        scene.shelf.fail("team/b", fault, None);
        let got = scene.fetch(&[("cred", &some), ("extra", &extra)]).await;
        assert_eq!(
            (code(&got[0]), code(&got[1])),
            (answered, answered),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn a_credential_whose_value_is_lost_is_pending_until_another_is_made() {
    let shelf = Shelf::new();
    shelf.leased("team/creds", Effect::Mints);
    let bindings = [("cred", "v:team/creds#password"), ("extra", "more")];
    let mut scene = Scene::new(shelf, &bindings).await;
    let waits = scene
        .until("cred", |state| *state == SecretState::Pending)
        .await;
    assert_eq!((waits.expires_in_ms, waits.expires_at), (None, None));
    let identity = &scene.node.identity;
    let (org, node) = (identity.org.clone(), identity.node.clone());
    let hub = Arc::clone(&scene.world.hub);
    let _watcher = hub.feed.watch(&org, &node);
    hub.leases.arrived(&org, &node);
    let first = scene.version("cred").await;
    let ready = scene
        .until("cred", |state| *state != SecretState::Pending)
        .await;
    let left = ready.expires_in_ms.unwrap();
    assert!((1..=3_600_000).contains(&left), "{left}");
    let own = scene.until("extra", |_| true).await;
    assert_eq!(own.expires_in_ms, None, "it does not end");
    let got = scene.fetch(&[("cred", &first)]).await;
    let value = scene.open("cred", &first, &got[0]);
    assert_eq!(value, json!({ "password": "minted-1-canary" }));

    // Another process: it keeps the lease and does not have the value.
    scene.keeper.take().unwrap().abort();
    let (leases, desk) = Leases::new();
    let parts = Parts {
        catalog: Arc::clone(&hub.catalog),
        registry: hub.managers.clone(),
        feed: hub.feed.clone(),
    };
    let restarted = Hub {
        config: hub.config.clone(),
        catalog: Arc::clone(&hub.catalog),
        secrets: Arc::clone(&hub.secrets),
        managers: hub.managers.clone(),
        hints: hub.hints.clone(),
        leases: leases.clone(),
        pki: Pki::create(hub.config.trust_domain.clone()).unwrap().0,
        feed: hub.feed.clone(),
        sealing_key: SealingKey::generate(),
        models: Models::default(),
    };
    scene.world.hub = Arc::new(restarted);
    scene.keeper = Some(tokio::spawn(async move { leases.keep(desk, parts).await }));
    assert_eq!(scene.version("cred").await, first);
    let got = scene.fetch(&[("cred", &first)]).await;
    assert_eq!(code(&got[0]), Code::Pending);
    let newer =
        |state: &SecretState| matches!(state, SecretState::Ready { version } if *version != first);
    scene.until("cred", newer).await;
    let second = scene.version("cred").await;
    let got = scene.fetch(&[("cred", &second), ("cred", &first)]).await;
    let value = scene.open("cred", &second, &got[0]);
    assert_eq!(value, json!({ "password": "minted-2-canary" }));
    assert_eq!(code(&got[1]), Code::Superseded);
    let live = |lease: &LeaseRecord| lease.state == LeaseState::Live;
    let leases = scene.leases().await;
    assert_eq!(leases.iter().filter(|lease| live(lease)).count(), 2);
    let trail = scene.world.trail("secret.fetch").await;
    assert!(!format!("{trail:?}").contains("canary"), "{trail:?}");
}

#[tokio::test]
async fn how_long_a_value_lives_is_said_with_the_value_alone() {
    let shelf = Shelf::new();
    shelf.put("team/db", &[("value", CANARY)]);
    let scene = Scene::new(shelf, &[("cred", "v:team/db"), ("extra", "more")]).await;
    scene.version("cred").await;
    let (org, reference) = (org(), "v:team/db".parse().unwrap());
    for (lives_for, ready) in [(60_i64, true), (-60, false)] {
        let observed = Observation {
            effect: Some(Effect::Pure),
            version: Some("1".parse().unwrap()),
            expires_at: Some(clock::now() + jiff::SignedDuration::from_secs(lives_for)),
            ..Observation::default()
        };
        let catalog = &scene.world.hub.catalog;
        let kept = catalog.observe(&org, &reference, &observed, audit("secret.observe"));
        kept.await.unwrap();
        let is = |state: &SecretState| matches!(state, SecretState::Ready { .. }) == ready;
        let secret = scene.until("cred", is).await;
        match secret.expires_in_ms {
            Some(left) => assert!(ready && left <= 60_000, "{left}"),
            None => assert!(!ready),
        }
    }
}
