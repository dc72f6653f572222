//! A keeper over a real catalog, and a manager that counts.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::binding::SecretState;
use edge_secrets_protocol::status::{DeploymentState, DeploymentStatus, StatusReport};
use edge_secrets_protocol::{Fields, Generation, Secret, SecretVersion};
use tokio::sync::watch;

use crate::catalog::conformance::world::{World, audit, node_id, placed};
use crate::catalog::records::{LeaseQuery, LeaseRecord, LeaseState, Observation};
use crate::catalog::sqlite::SqliteCatalog;
use crate::clock;
use crate::feed::Watcher;
use crate::lease::*;
use crate::managers::guarded::{Guarded, Settings};
use crate::managers::{
    Description, Effect, Fault, Health, Kind, LeaseHandle, ListQuery, ManagerError, Minted, Page,
    SecretManager, Target, Term, Version,
};

/// A manager that makes credentials `c1`, `c2`, … and knows which of them live.
pub(super) struct Mint {
    pub(super) made: AtomicUsize,
    pub(super) alive: Mutex<BTreeSet<String>>,
    pub(super) fault: Mutex<Option<Fault>>,
    pub(super) term: Mutex<Term>,
    pub(super) epoch: Mutex<String>,
    pub(super) usable_after: Mutex<Duration>,
    /// Every mint gives the first one again.
    pub(super) reused: Mutex<bool>,
    /// How long a mint or a renewal takes, how many are under way, and how many were at most.
    pub(super) takes: Mutex<Duration>,
    /// While it is held, none comes to its end.
    held: watch::Sender<bool>,
    under_way: AtomicUsize,
    /// How often a longer life was asked for.
    pub(super) renewals: AtomicUsize,
    /// How often it was asked for one.
    pub(super) asked: AtomicUsize,
    pub(super) at_once: AtomicUsize,
}

impl Mint {
    pub(super) fn new() -> Arc<Self> {
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
            reused: Mutex::default(),
            takes: Mutex::default(),
            held: watch::Sender::new(false),
            under_way: AtomicUsize::new(0),
            renewals: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
        })
    }

    pub(super) fn alive(&self) -> Vec<String> {
        self.alive.lock().unwrap().iter().cloned().collect()
    }

    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    pub(super) fn suffer(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Holds every mint and renewal just before its end, or lets them go.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn take_time(&self) {
        let takes = *self.takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.expect("it is ours");
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.well()?;
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once.fetch_max(under_way, Ordering::SeqCst);
        self.take_time().await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let number = match *self.reused.lock().unwrap() {
            true => 1,
            false => self.made.fetch_add(1, Ordering::SeqCst) + 1,
        };
        let name = format!("c{number}");
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
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.take_time().await;
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
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) mint: Arc<Mint>,
    pub(super) feed: Feed,
    pub(super) leases: Leases,
    pub(super) keeper: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// Longer than any pause of the keeper's.
const DEADLINE: Duration = Duration::from_secs(180);

pub(super) const SECRET: &str = "v:database/creds/x";

impl Scene {
    /// Nodes `n` and `m` are enrolled; what they bind has this effect.
    pub(super) async fn new(effect: Effect) -> Self {
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
        observe(&world, SECRET, effect, None).await;
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

    /// The manager says this of a secret.
    pub(super) async fn observe(&self, reference: &str, effect: Effect, identity: Option<&str>) {
        observe(&self.world, reference, effect, identity).await;
    }

    /// The hub's process ends without a word, and another one begins.
    pub(super) fn restart(&mut self) {
        self.keeper.abort();
        self.feed = Feed::new();
        (self.leases, self.keeper) = keep(&self.world, &self.mint, &self.feed);
    }

    pub(super) fn connect(&self, node: &str) -> Watcher {
        let node = node_id(node);
        let watcher = self.feed.watch(&self.world.org, &node);
        self.leases.arrived(&self.world.org, &node);
        watcher
    }

    /// The leases, once they are as wanted.
    pub(super) async fn until(&self, wanted: impl Fn(&[LeaseRecord]) -> bool) -> Vec<LeaseRecord> {
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
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(leases) => leases,
            Err(_) => panic!("never: {:#?}", self.world.catalog.leases(&query).await),
        }
    }

    pub(super) async fn live(&self, node: &str) -> LeaseRecord {
        let node = node_id(node);
        let live = |lease: &&LeaseRecord| {
            lease.place.node == node && lease.current && lease.state == LeaseState::Live
        };
        let leases = self
            .until(|leases| leases.iter().any(|lease| live(&lease)))
            .await;
        leases.iter().find(live).unwrap().clone()
    }

    pub(super) async fn place(&self, node: &str, bound: bool) {
        let placed = bound.then(|| placed("d", &["a=v:database/creds/x"]));
        self.world.place(node, placed.into_iter().collect()).await;
    }

    /// The node says that it has applied this lease's credential.
    pub(super) async fn report(&self, node: &str, lease: &LeaseRecord) {
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

    pub(super) async fn state(&self, node: &str) -> SecretState {
        let bindings = self.world.bindings(node, None).await;
        bindings.deployments[0].secrets[0].state.clone()
    }

    /// The lease as if its life had begun so long ago.
    pub(super) async fn age(&self, lease: &LeaseRecord, by: Duration) {
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

async fn observe(world: &World, reference: &str, effect: Effect, identity: Option<&str>) {
    let observation = Observation {
        effect: Some(effect),
        identity: identity.map(str::to_owned),
        ..Observation::default()
    };
    let secret = reference.parse().unwrap();
    let audit = audit("secret.observe");
    let observed = world
        .catalog
        .observe(&world.org, &secret, &observation, audit);
    observed.await.unwrap().unwrap();
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

pub(super) fn keep(
    world: &World,
    mint: &Arc<Mint>,
    feed: &Feed,
) -> (Leases, tokio::task::JoinHandle<()>) {
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
