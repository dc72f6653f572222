//! A node with a hub, an agent and a podman of its own, and one service on it.

use std::fs;
use std::path::PathBuf;

use edge_secrets_tests::samples::{policy, service};
use edge_secrets_tests::{Podman, TestAgent, TestHub, wait};
use serde_json::json;

/// All of it. Fields are dropped in order: containers first, as their mounts are of the agent's files.
pub(crate) struct Edge {
    pub(crate) podman: Podman,
    pub(crate) agent: TestAgent,
    pub(crate) hub: TestHub,
}

impl Edge {
    /// Nothing is published yet. The agent runs, follows podman's API, which is not served yet, and
    /// has this profile.
    pub(crate) fn with_profile(profile: Option<&str>) -> Self {
        let podman = Podman::new();
        let hub = TestHub::start();
        let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
        agent.reconfigure(|config| {
            let socket = podman.socket().display().to_string();
            config["containers"]["socket"] = socket.into();
        });
        if let Some(profile) = profile {
            let config = agent.config();
            let dir = config.parent().expect("a directory").join("services.d");
            fs::create_dir(&dir).expect("a directory");
            fs::write(dir.join("uplink.yaml"), profile).expect("a profile");
        }
        agent.run();
        Self { podman, agent, hub }
    }

    /// The secret is set and the service published, in one format; nothing is deployed.
    pub(crate) fn publish(&self, value: &str, format: &str) {
        let operator = self.hub.operator();
        operator.set(REFERENCE, value);
        let declared = [(NAME, Some(format))];
        operator.publish_service(&service(URL, "1.0.0", &[(CONSUMER, &declared)]));
    }

    /// Publishes the policy.
    pub(crate) fn deploy(&self) {
        let policy = policy(URL, &[], &[(NAME, REFERENCE)]);
        self.hub.operator().publish_policy(POLICY, &policy);
    }

    /// Withdraws the policy.
    pub(crate) fn undeploy(&self) {
        self.hub.operator().ok(&["policy", "rm", POLICY], "");
    }

    /// Sets another value.
    pub(crate) fn rotate(&self, value: &str) {
        self.hub.operator().set(REFERENCE, value);
    }

    /// A node on which the raw value is delivered.
    pub(crate) fn delivered(profile: Option<&str>, value: &str) -> Self {
        let edge = Self::with_profile(profile);
        edge.publish(value, "value_only");
        edge.deploy();
        wait::content(&edge.file(), value.as_bytes());
        edge
    }

    /// What is mounted.
    pub(crate) fn dir(&self) -> PathBuf {
        self.agent.consumer(URL, CONSUMER)
    }

    /// The delivered file, on the host.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir().join(NAME)
    }

    /// The option that mounts it, read-only.
    pub(crate) fn mount(&self) -> String {
        format!("--volume={}:{MOUNT}:ro", self.dir().display())
    }

    /// Waits until the hub has this state for the node.
    pub(crate) fn await_reported(&self, state: &str) {
        let what = format!("the hub sees {state}");
        self.hub.admin().await_rollout(POLICY, &what, |rollout| {
            rollout["nodes"][0]["state"] == json!(state)
        });
    }

    /// Waits until the agent sees the container so.
    pub(crate) fn await_presence(&self, presence: &str) {
        self.agent
            .await_status(&format!("the container is {presence}"), |status| {
                status["services"][0]["consumers"][0]["lifecycle"]["presence"] == json!(presence)
            });
    }
}

pub(crate) const URL: &str = "com.example.uplink";
pub(crate) const CONSUMER: &str = "uplink";
pub(crate) const NAME: &str = "myCloudServiceCred";
pub(crate) const REFERENCE: &str = "cloudServiceXYZSecret";
pub(crate) const MOUNT: &str = "/run/secrets";
/// The secret in the container.
pub(crate) const FILE: &str = "/run/secrets/myCloudServiceCred";
const POLICY: &str = "uplink";
