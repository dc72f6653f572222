//! The observer over a real catalog, with managers that count.

use std::time::Duration;

use edge_secrets_protocol::binding::SecretState;

use super::*;
use crate::catalog::conformance::world::{World, audit as setup, placed, placement, policy};
use crate::catalog::sqlite::SqliteCatalog;
use crate::managers::shelf::{LONG, Shelf};

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);
const A_MOMENT: Duration = Duration::from_millis(5);

/// The managers `v` and `w` beside an observer.
struct Scene {
    world: World,
    v: Arc<Shelf>,
    w: Arc<Shelf>,
    registry: Registry,
    hints: Hints,
    observer: Option<tokio::task::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new(poll: Duration) -> Self {
        let mut scene = Self::before(poll).await;
        scene.start();
        scene
    }

    /// Before the hub observes anything. The node `n` is enrolled.
    async fn before(poll: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await;
        let catalog: Arc<dyn Catalog> = Arc::new(catalog.unwrap());
        let org: OrgId = "o".parse().unwrap();
        catalog.create_org(&org, setup("org.create")).await.unwrap();
        let world = World { catalog, org };
        world.enrol("n").await;
        let (v, w) = (Shelf::new(), Shelf::new());
        let orgs = "{o: ['*']}";
        let registry = Registry::new([v.guarded("v", orgs, poll), w.guarded("w", orgs, poll)]);
        Self {
            world,
            v,
            w,
            registry,
            hints: Hints::default(),
            observer: None,
            _dir: dir,
        }
    }

    fn start(&mut self) {
        let catalog = Arc::clone(&self.world.catalog);
        let observing = observe(catalog, self.registry.clone(), self.hints.clone());
        self.observer = Some(tokio::spawn(observing));
    }

    /// Has node `n` bind exactly these.
    async fn bind(&self, references: &[&str]) {
        let bindings: Vec<_> = references
            .iter()
            .enumerate()
            .map(|(at, reference)| format!("s{at}={reference}"))
            .collect();
        let bindings: Vec<_> = bindings.iter().map(String::as_str).collect();
        self.world.place("n", vec![placed("d", &bindings)]).await;
    }

    async fn known(&self, reference: &str) -> Option<Observation> {
        let reference = reference.parse().unwrap();
        let observed = self.world.catalog.observation(&self.world.org, &reference);
        observed.await.unwrap().and_then(|observed| observed.known)
    }

    /// What is known of a secret, once it is as wanted.
    async fn until(&self, reference: &str, wanted: impl Fn(&Observation) -> bool) -> Observation {
        // The bell rings for what nodes see alone.
        let waiting = async {
            loop {
                if let Some(known) = self.known(reference).await.filter(&wanted) {
                    return known;
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        match tokio::time::timeout(LONG, waiting).await {
            Ok(known) => known,
            Err(_) => panic!("never: {:?}", self.known(reference).await),
        }
    }

    async fn until_version(&self, reference: &str, version: &str) {
        self.until(reference, |known| is_at(known, version)).await;
    }

    async fn until_fault(&self, reference: &str, fault: Fault) -> Observation {
        let is = |known: &Observation| known.trouble.as_ref().is_some_and(|t| t.fault == fault);
        self.until(reference, is).await
    }

    /// Everything that the observer was told before this is done when it returns.
    async fn settled(&self, bound: &[&str], mark: &str) {
        self.v.put(mark, &[("value", "x")]);
        let mark = format!("v:{mark}");
        let mut all = bound.to_vec();
        all.push(&mark);
        self.bind(&all).await;
        self.until_version(&mark, "1").await;
    }

    fn hint(&self) {
        assert!(self.hints.give(&"v".parse().unwrap(), Hint::All));
    }

    /// Results of `secret.observe` for a secret, oldest first.
    async fn trail(&self, reference: &str) -> Vec<String> {
        let object = format!("secret/{reference}");
        let records = self.world.trail().await.into_iter();
        let records = records.map(|record| record.entry);
        records
            .filter(|entry| entry.action == "secret.observe" && entry.object == object)
            .map(|entry| format!("{} {}", entry.result, entry.detail))
            .collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.abort();
        }
    }
}

fn is_at(known: &Observation, version: &str) -> bool {
    known
        .version
        .as_ref()
        .is_some_and(|known| known.as_str() == version)
}

#[tokio::test]
async fn many_nodes_that_bind_a_secret_are_one_call_and_so_is_its_rotation() {
    let mut scene = Scene::before(HOUR).await;
    let nodes: Vec<_> = (0..NODES).map(|number| format!("n{number}")).collect();
    for node in &nodes {
        scene.world.enrol(node).await;
    }
    scene.start();
    scene.v.put("team/db", &[("value", "x")]);
    let binding = || vec![placed("d", &["a=v:team/db#value"])];
    let placements = nodes.iter().map(|node| placement(node, binding()));
    let placed = scene.world.commit(policy("p"), placements.collect()).await;
    assert_eq!(placed.unwrap().touched.len(), NODES);
    scene.until_version("v:team/db", "1").await;
    scene.settled(&[], "mark1").await;
    assert_eq!(scene.v.count("describe team/db"), 1);

    let before = scene.world.generation("n7").await;
    scene.v.put("team/db", &[("value", "y")]);
    scene.hint();
    scene.until_version("v:team/db", "2").await;
    scene.settled(&["v:mark1"], "mark2").await;
    assert_eq!(scene.v.count("describe team/db"), 2);
    assert!(scene.world.generation("n7").await > before);
    assert!(!scene.v.calls().iter().any(|call| call.starts_with("read")));
    assert_eq!(
        scene.trail("v:team/db").await,
        ["ok version 1", "ok version 2"]
    );
}

const NODES: usize = 150;

#[tokio::test]
async fn what_changes_while_a_secret_is_asked_about_does_not_have_it_asked_again() {
    let scene = Scene::new(HOUR).await;
    scene.v.put("team/db", &[("value", "x")]);
    scene.v.hang(true);
    scene.bind(&["v:team/db"]).await;
    scene.v.until(|v| v.count("describe team/db") == 1).await;
    // The bell rings for whatever changes.
    for name in ["w:a", "w:b", "w:c"] {
        scene.w.put(&name[2..], &[("value", "x")]);
        scene.bind(&["v:team/db", name]).await;
        scene.until_version(name, "1").await;
    }
    scene.v.hang(false);
    scene.until_version("v:team/db", "1").await;
    scene.settled(&["v:team/db"], "mark").await;
    assert_eq!(scene.v.count("describe team/db"), 1);
    assert_eq!(scene.trail("v:team/db").await, ["ok version 1"]);
}

#[tokio::test]
async fn trouble_keeps_the_version_and_is_over_when_it_is() {
    let scene = Scene::new(SOON).await;
    scene.v.put("db", &[("value", "x")]);
    scene.bind(&["v:db"]).await;
    scene.until_version("v:db", "1").await;
    scene.v.fail("db", Fault::Denied, None);
    let known = scene.until_fault("v:db", Fault::Denied).await;
    assert!(is_at(&known, "1"));
    let bindings = scene.world.bindings("n", None).await;
    assert!(matches!(
        bindings.deployments[0].secrets[0].state,
        SecretState::Ready { .. }
    ));
    scene.v.heal("db");
    scene.until("v:db", |known| known.trouble.is_none()).await;
    let trail = scene.trail("v:db").await;
    assert_eq!(trail, ["ok version 1", "denied on purpose", "ok version 1"]);
}

#[tokio::test]
async fn absence_is_believed_the_second_time() {
    let scene = Scene::new(HOUR).await;
    scene.v.put("db", &[("value", "x")]);
    scene.bind(&["v:db"]).await;
    scene.until_version("v:db", "1").await;
    // Once: it is looked at again, and is there.
    scene.v.fail("db", Fault::Missing, Some(1));
    scene.hint();
    scene.v.until(|v| v.count("describe db") == 2).await;
    scene.hint();
    scene.v.until(|v| v.count("describe db") == 3).await;
    scene.settled(&["v:db"], "mark").await;
    assert_eq!(scene.trail("v:db").await, ["ok version 1"]);
    // Twice.
    scene.v.remove("db");
    scene.hint();
    scene.v.until(|v| v.count("describe db") == 4).await;
    scene.hint();
    let known = scene.until_fault("v:db", Fault::Missing).await;
    assert_eq!((known.version, known.effect), (None, None));
    assert_eq!(scene.v.count("describe db"), 5);
}

#[tokio::test]
async fn what_nothing_binds_is_forgotten_and_asked_about_no_more() {
    let mut scene = Scene::new(HOUR).await;
    scene.v.put("db", &[("value", "x")]);
    scene.bind(&["v:db"]).await;
    scene.until_version("v:db", "1").await;
    scene.bind(&[]).await;
    scene.v.put("db", &[("value", "y")]);
    scene.hint();
    scene.v.until(|v| v.count("describe db") == 2).await;
    scene.settled(&[], "mark").await;
    assert_eq!(scene.known("v:db").await, None);
    scene.hint();
    scene.settled(&["v:mark"], "mark2").await;
    assert_eq!(scene.v.count("describe db"), 2);
    // Bound anew, it is asked about at once.
    scene.bind(&["v:db"]).await;
    scene.until_version("v:db", "2").await;
    // What was left behind when the hub stopped goes when it starts.
    scene.observer.take().unwrap().abort();
    scene.bind(&[]).await;
    scene.start();
    let forgotten = async {
        while scene.known("v:db").await.is_some() {
            tokio::time::sleep(A_MOMENT).await;
        }
    };
    tokio::time::timeout(LONG, forgotten).await.unwrap();
}

#[tokio::test]
async fn a_hint_has_it_looked_at_once_and_names_what() {
    let scene = Scene::new(HOUR).await;
    for path in ["a", "b"] {
        scene.v.put(path, &[("value", "x")]);
    }
    scene.bind(&["v:a", "v:b"]).await;
    for reference in ["v:a", "v:b"] {
        scene.until_version(reference, "1").await;
    }
    scene.v.put("a", &[("value", "y")]);
    let these = Hint::These(vec!["v:a".parse().unwrap()]);
    assert!(scene.hints.give(&"v".parse().unwrap(), these));
    scene.until_version("v:a", "2").await;
    assert_eq!(scene.v.count("describe b"), 1);
    assert!(!scene.hints.give(&"x".parse().unwrap(), Hint::All));
}

#[tokio::test]
async fn a_manager_that_the_hub_does_not_have_is_named() {
    let scene = Scene::new(HOUR).await;
    scene.bind(&["x:db"]).await;
    let known = scene.until_fault("x:db", Fault::UnknownManager).await;
    assert!(known.trouble.unwrap().detail.contains("\"x\""));
}

#[tokio::test]
async fn a_manager_in_trouble_is_left_alone_and_all_its_secrets_say_why() {
    let scene = Scene::new(SOON).await;
    scene.v.put("a", &[("value", "x")]);
    scene.v.put("b", &[("value", "x")]);
    scene.bind(&["v:a"]).await;
    scene.until_version("v:a", "1").await;
    scene.v.suffer(Some(Fault::Sealed), Some(HOUR));
    scene.until_fault("v:a", Fault::Sealed).await;
    let calls = scene.v.calls().len();
    scene.bind(&["v:a", "v:b", "v:c"]).await;
    for reference in ["v:b", "v:c"] {
        scene.until_fault(reference, Fault::Sealed).await;
    }
    assert_eq!(scene.v.calls().len(), calls, "nobody was asked");
}

#[tokio::test]
async fn a_manager_that_hangs_holds_up_no_other() {
    let scene = Scene::new(SOON).await;
    scene.v.put("a", &[("value", "x")]);
    scene.w.put("a", &[("value", "x")]);
    scene.v.hang(true);
    scene.bind(&["v:a", "w:a"]).await;
    scene.v.until(|v| v.count("describe a") == 1).await;
    scene.until_version("w:a", "1").await;
    scene.w.put("a", &[("value", "y")]);
    scene.until_version("w:a", "2").await;
    assert_eq!(scene.known("v:a").await, None);
    scene.v.hang(false);
    scene.until_version("v:a", "1").await;
}
