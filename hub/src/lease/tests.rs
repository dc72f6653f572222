//! Leases over a real catalog, with a manager that counts.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::status::{DeploymentState, DeploymentStatus, StatusReport};
use edge_secrets_protocol::{Fields, Generation, Secret, SecretVersion};

use super::*;
use crate::catalog::conformance::world::{World, audit, node_id, placed};
use crate::catalog::records::{Change, LeaseQuery, LeaseRecord, LeaseState, Observation};
use crate::catalog::sqlite::SqliteCatalog;
use crate::clock;
use crate::feed::Watcher;
use crate::managers::guarded::{Guarded, Settings};
use crate::managers::{
    Description, Effect, Fault, Health, Kind, LeaseHandle, ListQuery, ManagerError, Minted, Page,
    SecretManager, Target, Term, Version,
};

/// A manager that makes credentials `c1`, `c2`, … and knows which of them live.
struct Mint {
    made: AtomicUsize,
    alive: Mutex<BTreeSet<String>>,
    fault: Mutex<Option<Fault>>,
    term: Mutex<Term>,
    epoch: Mutex<String>,
    usable_after: Mutex<Duration>,
}

impl Mint {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            made: AtomicUsize::new(0),
            alive: Mutex::default(),
            fault: Mutex::default(),
            term: Mutex::new(Term {
                duration: Duration::from_secs(3600),
                renewable: true,
            }),
            epoch: Mutex::new("one".into()),
            usable_after: Mutex::default(),
        })
    }

    fn alive(&self) -> Vec<String> {
        self.alive.lock().unwrap().iter().cloned().collect()
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    fn suffer(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn well(&self) -> Result<(), ManagerError> {
        match *self.fault.lock().unwrap() {
            Some(fault) => Err(ManagerError::new(fault, "on purpose")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl SecretManager for Mint {
    fn kind(&self) -> Kind {
        Kind::Vault
    }

    fn place(&self, target: Target<'_>) -> Result<String, ManagerError> {
        Ok(target.reference.path())
    }

    async fn health(&self) -> Result<Health, ManagerError> {
        unreachable!("nobody asks")
    }

    async fn describe(&self, _: Target<'_>) -> Result<Description, ManagerError> {
        Ok(Description::new(Effect::Mints, None))
    }

    async fn list(&self, _: &OrgId, _: &ListQuery) -> Result<Page, ManagerError> {
        unreachable!("nobody asks")
    }

    async fn versions(&self, _: Target<'_>) -> Result<Vec<Version>, ManagerError> {
        unreachable!("nobody asks")
    }

    async fn read(&self, _: Target<'_>, _: &SecretVersion) -> Result<Secret, ManagerError> {
        unreachable!("it is never read")
    }

    async fn mint(&self, _: Target<'_>) -> Result<Minted, ManagerError> {
        self.well()?;
        let name = format!("c{}", self.made.fetch_add(1, Ordering::SeqCst) + 1);
        self.alive.lock().unwrap().insert(name.clone());
        let payload = Fields::encode(&[("password".parse().unwrap(), name.as_bytes())]);
        Ok(Minted {
            payload: payload.unwrap(),
            handle: LeaseHandle::new(name)?,
            term: *self.term.lock().unwrap(),
            usable_after: *self.usable_after.lock().unwrap(),
        })
    }

    async fn renew(&self, handle: &LeaseHandle, want: Duration) -> Result<Term, ManagerError> {
        self.well()?;
        if !self.alive.lock().unwrap().contains(handle.as_str()) {
            return Err(ManagerError::new(Fault::LeaseGone, "it is gone"));
        }
        Ok(Term {
            duration: want,
            renewable: true,
        })
    }

    async fn revoke(&self, handle: &LeaseHandle) -> Result<(), ManagerError> {
        self.well()?;
        self.alive.lock().unwrap().remove(handle.as_str());
        Ok(())
    }

    fn epoch(&self) -> Option<String> {
        Some(self.epoch.lock().unwrap().clone())
    }
}

/// A hub's catalog, feed and keeper, and nodes that come and go.
struct Scene {
    world: World,
    mint: Arc<Mint>,
    feed: Feed,
    leases: Leases,
    keeper: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

const SECRET: &str = "v:database/creds/x";

impl Scene {
    /// Nodes `n` and `m` are enrolled; what they bind has this effect.
    async fn new(effect: Effect) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await;
        let catalog: Arc<dyn Catalog> = Arc::new(catalog.unwrap());
        let org: OrgId = "o".parse().unwrap();
        catalog.create_org(&org, audit("org.create")).await.unwrap();
        let world = World { catalog, org };
        world.enrol("n").await;
        world.enrol("m").await;
        world
            .place("n", vec![placed("d", &["a=v:database/creds/x"])])
            .await;
        let observation = Observation {
            effect: Some(effect),
            ..Observation::default()
        };
        let secret = SECRET.parse().unwrap();
        let observed =
            world
                .catalog
                .observe(&world.org, &secret, &observation, audit("secret.observe"));
        observed.await.unwrap().unwrap();
        let (mint, feed) = (Mint::new(), Feed::new());
        let (leases, keeper) = keep(&world, &mint, &feed);
        Self {
            world,
            mint,
            feed,
            leases,
            keeper,
            _dir: dir,
        }
    }

    /// The hub's process ends without a word, and another one begins.
    fn restart(&mut self) {
        self.keeper.abort();
        self.feed = Feed::new();
        (self.leases, self.keeper) = keep(&self.world, &self.mint, &self.feed);
    }

    fn connect(&self, node: &str) -> Watcher {
        let node = node_id(node);
        let watcher = self.feed.watch(&self.world.org, &node);
        self.leases.arrived(&self.world.org, &node);
        watcher
    }

    /// The leases, once they are as wanted.
    async fn until(&self, wanted: impl Fn(&[LeaseRecord]) -> bool) -> Vec<LeaseRecord> {
        let query = LeaseQuery {
            ended: true,
            ..LeaseQuery::default()
        };
        let waiting = async {
            loop {
                let leases = self.world.catalog.leases(&query).await.unwrap();
                if wanted(&leases) {
                    return leases;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(leases) => leases,
            Err(_) => panic!("never: {:#?}", self.world.catalog.leases(&query).await),
        }
    }

    async fn live(&self, node: &str) -> LeaseRecord {
        let node = node_id(node);
        let live = |lease: &&LeaseRecord| {
            lease.place.node == node && lease.current && lease.state == LeaseState::Live
        };
        let leases = self
            .until(|leases| leases.iter().any(|lease| live(&lease)))
            .await;
        leases.iter().find(live).unwrap().clone()
    }

    async fn place(&self, node: &str, bound: bool) {
        let placed = bound.then(|| placed("d", &["a=v:database/creds/x"]));
        self.world.place(node, placed.into_iter().collect()).await;
    }

    /// The node says that it has applied this lease's credential.
    async fn report(&self, node: &str, lease: &LeaseRecord) {
        let version = lease.place.reference.version_at_nodes(&lease.id.version());
        let status = DeploymentStatus {
            id: "d".parse().unwrap(),
            service: "o/s".parse().unwrap(),
            state: DeploymentState::Applied,
            applied: [("a".parse().unwrap(), version)].into(),
            error: None,
        };
        let report = StatusReport {
            generation: Generation(1),
            deployments: vec![status],
        };
        let node = node_id(node);
        let put = self
            .world
            .catalog
            .put_report(&self.world.org, &node, &report, clock::now());
        put.await.unwrap();
    }

    async fn state(&self, node: &str) -> SecretState {
        let bindings = self.world.bindings(node, None).await;
        bindings.deployments[0].secrets[0].state.clone()
    }

    /// The lease as if its life had begun so long ago.
    async fn age(&self, lease: &LeaseRecord, by: Duration) {
        let by = jiff::SignedDuration::try_from(by).unwrap();
        let mut old = lease.clone();
        old.granted_at = old.granted_at.map(|at| at - by);
        old.ends_at = old.ends_at.map(|at| at - by);
        let change = [crate::catalog::records::LeaseChange::Set(Box::new(old))];
        self.world
            .catalog
            .change_leases(&change, vec![])
            .await
            .unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn keep(world: &World, mint: &Arc<Mint>, feed: &Feed) -> (Leases, tokio::task::JoinHandle<()>) {
    let settings = Settings {
        paths: serde_yaml::from_str("{o: ['*']}").unwrap(),
        limits: crate::managers::gate::Limits {
            concurrent: 8,
            per_second: 10_000,
        },
        ..Settings::default()
    };
    let guarded = Guarded::new("v".parse().unwrap(), Arc::clone(mint) as _, settings);
    let parts = Parts {
        catalog: Arc::clone(&world.catalog),
        registry: Registry::new([guarded]),
        feed: feed.clone(),
    };
    let (leases, desk) = Leases::new();
    let keeper = leases.clone();
    let task = tokio::spawn(async move { keeper.keep(desk, parts).await });
    (leases, task)
}

#[tokio::test]
async fn every_node_gets_a_credential_of_its_own_once_it_is_there() {
    let scene = Scene::new(Effect::Mints).await;
    scene.until(|leases| leases.len() == 1).await;
    assert_eq!(
        (scene.mint.made(), scene.state("n").await),
        (0, SecretState::Pending)
    );
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    assert_eq!(
        scene.state("n").await,
        SecretState::Ready {
            version: first.id.version()
        }
    );
    let value = scene.leases.values().get(first.id).unwrap();
    let fields = Fields::decode(value.expose()).unwrap();
    assert_eq!(fields.expose_value(), Some(&b"c1"[..]));
    let _m = scene.connect("m");
    scene.place("m", true).await;
    let second = scene.live("m").await;
    assert_ne!(second.handle, first.handle);
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
}

#[tokio::test]
async fn the_credential_dies_with_its_deployment_and_comes_anew_with_the_next() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.place("n", false).await;
    scene
        .until(|leases| leases.iter().all(|l| l.state == LeaseState::Ended))
        .await;
    assert!(scene.mint.alive().is_empty());
    assert!(scene.leases.values().get(first.id).is_none());
    scene.place("n", true).await;
    let second = scene.live("n").await;
    assert!(second.id > first.id, "a version never comes again");
}

#[tokio::test]
async fn a_revoked_node_loses_its_credentials() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    let revoke = Change::RevokeNode(node_id("n"));
    scene.world.commit(revoke, vec![]).await.unwrap();
    scene
        .until(|leases| leases.iter().all(|l| l.state == LeaseState::Ended))
        .await;
    assert!(scene.mint.alive().is_empty());
}

#[tokio::test]
async fn revoking_is_tried_until_it_is_done_also_after_a_restart() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    scene.mint.suffer(Some(Fault::Unreachable));
    scene.place("n", false).await;
    scene
        .until(|leases| {
            !leases.is_empty() && leases[0].state == LeaseState::Ending && leases[0].attempts > 0
        })
        .await;
    scene.restart();
    scene.mint.suffer(None);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert!(scene.mint.alive().is_empty());
}

#[tokio::test]
async fn a_restarted_hub_renews_what_lives_and_replaces_what_it_cannot_give() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.age(&first, Duration::from_secs(3_000)).await;
    scene.restart();
    let _again = scene.connect("n");
    let renewed = scene
        .until(|leases| leases[0].granted_at > first.granted_at)
        .await;
    assert_eq!((renewed.len(), scene.mint.made()), (1, 1));
    // The node asks for a value that the hub has no more.
    scene.leases.lost(first.id);
    let second = scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
    let second = second.last().unwrap();
    assert!(scene.leases.values().get(second.id).is_some());
    // The old one lives until the node says that it has the new one.
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
    scene.report("n", second).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn near_the_managers_maximum_another_one_is_made_before_the_old_one_goes() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    scene.mint.term.lock().unwrap().renewable = false;
    let mut capped = first.clone();
    capped.renewable = false;
    scene.age(&capped, Duration::from_secs(3_000)).await;
    scene.restart();
    let _again = scene.connect("n");
    let next = scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
    assert_eq!(scene.mint.alive(), ["c1", "c2"]);
    // A report of before says nothing; one of the old version keeps the old one.
    scene.report("n", &first).await;
    scene.report("n", next.last().unwrap()).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn another_token_at_the_manager_is_another_credential() {
    let mut scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    *scene.mint.epoch.lock().unwrap() = "two".into();
    scene.restart();
    let _again = scene.connect("n");
    scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
}

#[tokio::test]
async fn a_lease_that_ended_is_replaced_when_its_node_is_back() {
    let mut scene = Scene::new(Effect::Mints).await;
    let first = {
        let _n = scene.connect("n");
        scene.live("n").await
    };
    scene.age(&first, Duration::from_secs(3_601)).await;
    scene.restart();
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    assert_eq!(scene.state("n").await, SecretState::Pending);
    let _n = scene.connect("n");
    let second = scene.live("n").await;
    assert!(second.id > first.id);
}

#[tokio::test]
async fn what_was_cut_off_is_counted_as_unknown_and_made_anew() {
    let mut scene = Scene::new(Effect::Mints).await;
    let wanted = scene.until(|leases| leases.len() == 1).await;
    scene.keeper.abort();
    let mut minting = wanted[0].clone();
    minting.state = LeaseState::Minting;
    let change = [crate::catalog::records::LeaseChange::Set(Box::new(minting))];
    scene
        .world
        .catalog
        .change_leases(&change, vec![])
        .await
        .unwrap();
    scene.restart();
    let unknown = scene.until(|leases| leases[0].attempts == 1).await;
    assert_eq!(
        unknown[0].trouble.as_ref().unwrap().fault,
        Fault::OutcomeUnknown
    );
    let _n = scene.connect("n");
    scene.live("n").await;
}

#[tokio::test]
async fn a_mint_that_fails_blocks_its_binding_alone_and_says_why() {
    let scene = Scene::new(Effect::Mints).await;
    scene.mint.suffer(Some(Fault::Denied));
    let _n = scene.connect("n");
    scene
        .until(|leases| !leases.is_empty() && leases[0].attempts > 0)
        .await;
    let bindings = scene.world.bindings("n", None).await;
    let detail = bindings.deployments[0].details.values().next().unwrap();
    assert_eq!(detail.trouble.as_ref().unwrap().fault, Fault::Denied);
    scene.mint.suffer(None);
    scene.live("n").await;
}

#[tokio::test]
async fn a_secret_for_one_node_is_given_to_one_node() {
    let scene = Scene::new(Effect::MintsAndInvalidates).await;
    let (_n, _m) = (scene.connect("n"), scene.connect("m"));
    scene.live("n").await;
    scene.place("m", true).await;
    let leases = scene.until(|leases| leases.len() == 2).await;
    assert_eq!(leases[1].state, LeaseState::Refused);
    assert_eq!(scene.state("m").await, SecretState::Denied);
    assert_eq!(scene.mint.made(), 1);
    // The next in the line gets it once it is free.
    scene.place("n", false).await;
    scene.live("m").await;
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn an_operator_ends_a_lease_of_the_own_organisation() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    assert!(
        !scene
            .leases
            .revoke(&"other".parse().unwrap(), first.id)
            .await
    );
    assert!(!scene.leases.revoke(&scene.world.org, LeaseId(999)).await);
    assert!(scene.leases.revoke(&scene.world.org, first.id).await);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let second = scene.live("n").await;
    assert!(second.id > first.id);
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn the_one_credential_stays_with_its_node_when_it_is_made_anew() {
    let scene = Scene::new(Effect::MintsAndInvalidates).await;
    let (_n, _m) = (scene.connect("n"), scene.connect("m"));
    let first = scene.live("n").await;
    scene.place("m", true).await;
    scene.until(|leases| leases.len() == 2).await;
    assert!(scene.leases.revoke(&scene.world.org, first.id).await);
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let second = scene.live("n").await;
    let leases = scene.until(|leases| leases.len() == 3).await;
    assert_eq!(leases[1].state, LeaseState::Refused, "{leases:#?}");
    assert_eq!((scene.mint.made(), second.current), (2, true));
    assert_eq!(scene.mint.alive(), ["c2"]);
}

#[tokio::test]
async fn what_is_let_go_while_it_is_made_dies_and_takes_nobodys_place() {
    for effect in [Effect::Mints, Effect::MintsAndInvalidates] {
        let scene = Scene::new(effect).await;
        *scene.mint.usable_after.lock().unwrap() = Duration::from_millis(300);
        let _n = scene.connect("n");
        let making = scene
            .until(|leases| leases.iter().any(|lease| lease.handle.is_some()))
            .await;
        assert_eq!(making[0].state, LeaseState::Minting);
        assert!(scene.leases.revoke(&scene.world.org, making[0].id).await);
        let second = scene.live("n").await;
        assert!(second.id > making[0].id, "{effect:?}");
        let leases = scene
            .until(|leases| leases[0].state == LeaseState::Ended)
            .await;
        assert_eq!(leases.len(), 2, "{effect:?}: {leases:#?}");
        let handle = second.handle.unwrap();
        assert_eq!(scene.mint.alive(), [handle.as_str()], "{effect:?}");
        assert!(scene.leases.values().get(making[0].id).is_none());
    }
}

#[tokio::test]
async fn another_session_is_noticed_while_the_hub_serves() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    let first = scene.live("n").await;
    *scene.mint.epoch.lock().unwrap() = "two".into();
    scene
        .until(|leases| leases.iter().any(|l| l.current && l.id > first.id))
        .await;
}

#[tokio::test]
async fn the_trail_says_what_became_of_a_lease_and_no_value() {
    let scene = Scene::new(Effect::Mints).await;
    let _n = scene.connect("n");
    scene.live("n").await;
    scene.place("n", false).await;
    scene
        .until(|leases| leases[0].state == LeaseState::Ended)
        .await;
    let trail = scene.world.trail().await;
    let actions: Vec<_> = trail
        .iter()
        .map(|record| record.entry.action.as_str())
        .collect();
    for action in ["lease.mint", "lease.end", "lease.ended"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    assert!(!format!("{trail:?}").contains("c1"));
}
