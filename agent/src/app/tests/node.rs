//! A node under test, and what tests say to its hub.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::binding::{Bindings, Deployment};
use edge_secrets_protocol::status::{DeploymentState, StatusReport};
use edge_secrets_protocol::watch::{BindingsEvent, WatchEvent};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::build_with;
use crate::config::Config;
use crate::hub::fake::{FakeHub, Seen, deployment};
use crate::identity::{Custody, Store};
use crate::status::AgentStatus;

/// A node with an identity, a configuration and a place on tmpfs.
pub(super) struct Node {
    pub(super) dir: tempfile::TempDir,
    /// More lines for the configuration.
    pub(super) extra: String,
    /// Where the service manager gives credentials to the agent.
    pub(super) credentials: Option<PathBuf>,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    status: watch::Receiver<Arc<AgentStatus>>,
}

impl Node {
    pub(super) fn new(hub: &FakeHub) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let node = Self {
            dir,
            extra: String::new(),
            credentials: None,
            running: None,
        };
        node.store()
            .install(&hub.issue("myorg", "edge-01"))
            .unwrap();
        node
    }

    /// A node that runs already.
    pub(super) async fn started(hub: &FakeHub) -> Self {
        let mut node = Self::new(hub);
        node.start(hub);
        node
    }

    /// Stops it and empties its memory.
    pub(super) async fn power_off(&mut self) {
        self.stop().await;
        fs::remove_dir_all(self.dir.path().join("run")).unwrap();
    }

    /// Boots it without its hub, and gives what its service reads then.
    pub(super) async fn boot_alone(&mut self, hub: &mut FakeHub) -> Option<String> {
        hub.stop().await;
        self.power_off().await;
        self.start(hub);
        self.until(|status| status.hub.error.is_some()).await;
        self.read("svc", "cred")
    }

    pub(super) fn store(&self) -> Store {
        Store::new(&self.dir.path().join("state"))
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.dir.path().join("agent.yaml")
    }

    pub(super) fn configure(&self, hub: &FakeHub, rest: &str) {
        let (dir, url, extra) = (self.dir.path().display(), hub.url(), &self.extra);
        let text = format!(
            "hub: {{ url: \"{url}\" }}\nstate_dir: {dir}/state\nruntime_dir: {dir}/run\n\
             tmpfs: {{ mount: never }}\nwipe: {{ grace: 0s }}\n{extra}{rest}"
        );
        let fresh = self.dir.path().join("agent.yaml.new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.config_path()).unwrap();
    }

    pub(super) fn start(&mut self, hub: &FakeHub) {
        self.configure(hub, "");
        fs::create_dir_all(self.dir.path().join("run")).unwrap();
        let config = Config::load(&self.config_path()).unwrap();
        let wanted = config.identity.sealing_key;
        let custody = Custody::of(wanted, self.credentials.as_deref()).unwrap();
        let bound = build_with(config, &self.config_path(), vec![], custody).unwrap();
        self.running = Some(Running {
            stop: bound.stopper(),
            status: bound.agent.board.watch(),
            task: tokio::spawn(bound.run()),
        });
    }

    pub(super) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        running.task.await.unwrap();
    }

    pub(super) fn read(&self, url: &str, name: &str) -> Option<String> {
        let path = format!("run/services/myorg/{url}/main/{name}");
        fs::read_to_string(self.dir.path().join(path)).ok()
    }

    pub(super) async fn until(
        &mut self,
        what: impl FnMut(&Arc<AgentStatus>) -> bool,
    ) -> Arc<AgentStatus> {
        let status = &mut self.running.as_mut().unwrap().status;
        status.wait_for(what).await.unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

pub(super) fn set(hub: &FakeHub, generation: u64, deployments: Vec<Deployment>) {
    hub.answers().bindings = Bindings {
        generation: Generation(generation),
        deployments,
        ..Bindings::default()
    };
}

pub(super) fn value(hub: &FakeHub, name: &str, value: &str) {
    hub.answers().values.insert(name.into(), value.into());
}

pub(super) fn push(hub: &FakeHub, generation: u64) {
    hub.push(WatchEvent::Bindings(BindingsEvent {
        generation: Generation(generation),
        spread_ms: 0,
    }));
}

/// Waits for a report over that generation in which everything is applied or wiped.
pub(super) async fn settled(hub: &mut FakeHub, generation: u64) -> StatusReport {
    hub.asked(|seen| match seen {
        Seen::Report(report) => Some(report).filter(|report| {
            let done = |s| matches!(s, DeploymentState::Applied | DeploymentState::Wiped);
            report.generation == Generation(generation)
                && report.deployments.iter().all(|d| done(d.state))
        }),
        _ => None,
    })
    .await
}

/// A hub with one secret bound in generation 1, and a node that has applied it.
pub(super) async fn delivered() -> (FakeHub, Node) {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    let node = Node::started(&hub).await;
    settled(&mut hub, 1).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    (hub, node)
}
