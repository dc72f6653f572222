//! Clocks that are wrong, are set, and sleep, under real programs (`tests/clock`): agent, hub and operator's
//! command go by a clock of the test's.
//!
//! What this does not show: that the kernel wakes timers on `CLOCK_BOOTTIME` after a suspend (its own word,
//! timerfd_create(2)), and what devices and networks do meanwhile.

mod hub;
mod node;

use std::fs;
use std::path::PathBuf;

use edge_secrets_tests::clock::Clock;
use edge_secrets_tests::reader::Reader;
use edge_secrets_tests::relay::Relay;
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::json;

use crate::delivery::{URL, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    let missing = Clock::missing();
    let trials = [node::trials(), hub::trials()];
    let trials = trials.into_iter().flatten().map(|trial| match missing {
        // The reason stands where a kind stands: it is shown with the trial's name.
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    });
    trials.collect()
}

/// A hub, a relay before it, and a node that has the one secret, each by a clock of its own.
struct Scene {
    agent: TestAgent,
    relay: Relay,
    hub: TestHub,
    /// The node's.
    node_clock: Clock,
    hub_clock: Clock,
}

impl Scene {
    fn start() -> Self {
        Self::configured(|_| ())
    }

    /// With a hub whose `hub.yaml` was changed.
    fn configured(change: impl FnOnce(&mut serde_yaml::Value)) -> Self {
        let mut hub = TestHub::configured(change);
        let relay = Relay::start(hub.port());
        let mut agent = TestAgent::new(&hub, "edge-01", &[("site", json!("berlin"))]);
        agent.reconfigure(|config| config["hub"]["url"] = relay.url().into());
        let (node_clock, hub_clock) = (Clock::right(), Clock::right());
        let token = hub.token("edge-01");
        // Served anew, by its clock.
        hub.stop();
        hub.go_by(&hub_clock);
        hub.serve();
        agent.go_by(&node_clock);
        let enrolled = agent.enrol(&token);
        assert_eq!(enrolled.code, 0, "{enrolled:?}");
        agent.run();
        publish_uplink(&hub.operator(), "value-0");
        let scene = Self {
            agent,
            relay,
            hub,
            node_clock,
            hub_clock,
        };
        scene.has(0);
        scene.hub.await_rollout("uplink", 1);
        scene
    }

    fn file(&self) -> PathBuf {
        self.agent.consumer(URL, "main").join("myCloudServiceCred")
    }

    /// Waits until the service has this value.
    fn has(&self, number: usize) {
        wait::content(&self.file(), format!("value-{number}").as_bytes());
    }

    /// Sets the next value, by a clock that the hub's certificate was made by.
    fn set(&self, number: usize) {
        let operator = self.hub.operator();
        operator.set("cloudServiceXYZSecret", format!("value-{number}"));
    }

    /// Ends the connection. The next one begins as the clocks are now.
    fn cut(&self) {
        self.relay.part();
        self.agent.await_hub("disconnected");
        self.relay.heal();
    }

    /// Waits until the agent says this of why it has no hub.
    fn says(&self, reason: &str) {
        self.agent
            .await_status(&format!("it says {reason:?}"), |status| {
                let error = status["hub"]["error"].as_str();
                error.is_some_and(|error| error.contains(reason))
            });
    }

    /// The node's certificate.
    fn certificate(&self) -> String {
        let path = self.agent.state_dir().join("identity/node.crt");
        fs::read_to_string(path).expect("a certificate")
    }

    /// How often the node's certificate was renewed.
    fn renewals(&self) -> usize {
        self.agent.times_logged("Certificate renewed.")
    }

    /// A service that reads all the time, and never sees anything but a whole value, and none that is older
    /// than one before.
    fn reader(&self) -> Reader {
        crate::network::reader(&self.agent)
    }

    /// Both clocks.
    fn both(&mut self, mut change: impl FnMut(&mut Clock)) {
        change(&mut self.node_clock);
        change(&mut self.hub_clock);
    }
}
