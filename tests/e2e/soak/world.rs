//! A hub, two nodes and what befalls them.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use edge_secrets_tests::reader::{Reader, stamped};
use edge_secrets_tests::relay::{Direction, Fault, Relay};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{DEADLINE, TestAgent, TestHub, wait};
use http::Method;

use super::counts::{Counts, Sample};
use super::{LEN, NAMES, URL, in_step};

pub(super) struct World {
    // Ended in this order.
    pub(super) reader: Option<Reader>,
    pub(super) agent: TestAgent,
    second: TestAgent,
    relay: Relay,
    pub(super) hub: TestHub,
    random: Random,
    pub(super) round: u64,
    churned: u64,
}

/// What may befall them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Rotations,
    AgentKilled,
    HubKilled,
    Partition,
    Cut,
    BrokenBytes,
    Redeployed,
    SecretReplaced,
    RevokedAndBack,
}

impl Event {
    pub(super) const KILLS: [Self; 2] = [Self::AgentKilled, Self::HubKilled];
    const OTHERS: [Self; 7] = [
        Self::Rotations,
        Self::Partition,
        Self::Cut,
        Self::BrokenBytes,
        Self::Redeployed,
        Self::SecretReplaced,
        Self::RevokedAndBack,
    ];
}

impl World {
    /// Certificates live for five minutes, so that renewals are among it.
    pub(super) fn start(seed: u64) -> Self {
        let hub = TestHub::configured(|config| {
            // Hours of traces would fill the disk.
            config["log"]["level"] = "info".into();
            config["node_certificates"]["lifetime"] = "300s".into();
        });
        let relay = Relay::start(hub.port());
        let mut agent = TestAgent::new(&hub, "edge-01", &[]);
        let mut second = TestAgent::new(&hub, "edge-02", &[]);
        agent.reconfigure(|config| config["hub"]["url"] = relay.url().into());
        for (agent, node) in [(&mut agent, "edge-01"), (&mut second, "edge-02")] {
            agent.reconfigure(|config| config["log"]["level"] = "info".into());
            let enrolled = agent.enrol(&hub.token(node));
            assert_eq!(enrolled.code, 0, "{enrolled:?}");
            agent.run();
        }
        let operator = hub.operator();
        for name in NAMES {
            operator.set(name, stamped(0, LEN));
            let few = ["secret", "edit", name, "--max-versions", "3"];
            operator.ok(&few, "");
        }
        operator.publish_service(&plain_service(URL, &NAMES));
        operator.publish_policy("soak", &policy(URL, &[], &NAMES.map(|name| (name, name))));
        operator.set("churn", "churn-0");
        operator.publish_service(&plain_service(CHURN, &["key"]));
        operator.publish_policy("churn", &policy(CHURN, &[], &[("key", "churn")]));
        let mut world = Self {
            reader: None,
            agent,
            second,
            relay,
            hub,
            random: Random(seed),
            round: 0,
            churned: 0,
        };
        world.converged();
        let dir = world.agent.consumer(URL, "main");
        world.reader = Some(Reader::start(&dir, &NAMES, in_step));
        world
    }

    /// Draws what befalls them next, and lets it.
    pub(super) fn befall(&mut self, kills: bool) -> Event {
        let some = usize::from(kills) * Event::KILLS.len();
        let all: Vec<_> = Event::OTHERS
            .into_iter()
            .chain(Event::KILLS.into_iter().take(some))
            .collect();
        let event = all[self.random.below(all.len() as u64) as usize];
        // In the middle of something, whatever it is.
        self.rotate();
        match event {
            Event::Rotations => {
                for _ in 0..20 {
                    self.rotate();
                }
            }
            Event::AgentKilled => {
                self.agent.kill();
                self.rotate();
                self.agent.run();
            }
            Event::HubKilled => {
                self.hub.kill();
                self.hub.serve();
            }
            Event::Partition => {
                self.relay.part();
                self.rotate();
                self.relay.heal();
            }
            Event::Cut => self.relay.cut(),
            Event::BrokenBytes => {
                let faults = [
                    Fault::Close,
                    Fault::Reset,
                    Fault::Flip,
                    Fault::Repeat,
                    Fault::Reorder,
                ];
                let fault = faults[self.random.below(faults.len() as u64) as usize];
                let direction = match self.random.below(2) {
                    0 => Direction::Up,
                    _ => Direction::Down,
                };
                self.relay.plan(direction, self.random.below(2_000), fault);
                self.rotate();
            }
            Event::Redeployed => {
                self.withdraw();
                self.deploy();
            }
            Event::SecretReplaced => {
                self.withdraw();
                let operator = self.hub.operator();
                operator.ok(&["secret", "rm", "churn"], "");
                self.churned += 1;
                operator.set("churn", format!("churn-{}", self.churned));
                self.deploy();
            }
            Event::RevokedAndBack => {
                self.hub.operator().ok(&["node", "revoke", "edge-02"], "");
                wait::gone(&file(&self.second));
                let token = self.hub.token("edge-02");
                let enrolled = self.second.enrol_anew(&token);
                assert_eq!(enrolled.code, 0, "{enrolled:?}");
            }
        }
        self.rotate();
        self.converged();
        event
    }

    /// Sets all of them once more.
    pub(super) fn rotate(&mut self) {
        self.round += 1;
        let mut admin = self.hub.admin();
        for name in NAMES {
            admin.set(name, &stamped(self.round, LEN));
        }
    }

    /// Waits until every reader has the last values and the hub knows it.
    pub(super) fn converged(&mut self) {
        let last = stamped(self.round, LEN);
        for agent in [&self.agent, &self.second] {
            for name in NAMES {
                wait::content(&agent.consumer(URL, "main").join(name), &last);
            }
            wait::content(&file(agent), format!("churn-{}", self.churned).as_bytes());
        }
        for policy in ["soak", "churn"] {
            self.hub.await_rollout(policy, 2);
        }
    }

    fn withdraw(&self) {
        let mut admin = self.hub.admin();
        let path = admin.path("policies/churn");
        let answer = admin.client.send(Method::DELETE, &path, &[], "");
        assert_eq!(answer.expect("an answer").status, 200);
        for agent in [&self.agent, &self.second] {
            wait::gone(&file(agent));
        }
    }

    fn deploy(&self) {
        let policy = policy(CHURN, &[], &[("key", "churn")]);
        assert_eq!(self.hub.admin().put("policies/churn", &policy).status, 200);
    }

    /// Both programs anew, in order.
    pub(super) fn restart(&mut self) {
        self.agent.stop();
        self.hub.stop();
        self.hub.serve();
        self.agent.run();
        self.rotate();
        self.converged();
    }

    /// A sample at rest: what is held has to become what it was at `base`, where there is one. Nobody tells
    /// when descriptors are closed and files are wiped, so it is looked at again and again.
    pub(super) fn at_rest(&self, base: Option<&Counts>) -> Sample {
        let start = Instant::now();
        let mut before = None;
        loop {
            let sample = Sample::take(&self.agent, &self.hub);
            let held = sample.held();
            // Without a base: what is the same for a while.
            let rests = match base {
                Some(base) => is_as(base, &held),
                None => before == Some(held.clone()) && start.elapsed() > QUIET && self.is_wiped(),
            };
            if rests {
                return sample;
            }
            if start.elapsed() > DEADLINE {
                panic!("not as it was: {}", difference(base, &held));
            }
            before = Some(held);
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_wiped(&self) -> bool {
        let trash = fs::read_dir(self.agent.runtime_dir().join("trash"));
        trash.map_or(0, Iterator::count) == 0
            && TestAgent::superseded(&self.agent.consumer(URL, "main")).is_empty()
    }
}

/// Threads that write wait a while for more to do: there may be fewer.
fn is_as(base: &Counts, held: &Counts) -> bool {
    base.len() == held.len()
        && base.iter().all(|(what, before)| match held.get(what) {
            Some(now) if what.ends_with("threads") => now <= before,
            now => now == Some(before),
        })
}

fn file(agent: &TestAgent) -> PathBuf {
    agent.consumer(CHURN, "main").join("key")
}

fn difference(base: Option<&Counts>, held: &Counts) -> String {
    let base = base.cloned().unwrap_or_default();
    let what = base.keys().chain(held.keys());
    let mut lines: Vec<_> = what
        .filter(|what| base.get(*what) != held.get(*what))
        .map(|what| {
            let of = |counts: &Counts| counts.get(what).copied().unwrap_or(0);
            format!("{what}: {} and now {}", of(&base), of(held))
        })
        .collect();
    lines.dedup();
    lines.join("; ")
}

/// Splitmix64.
pub(super) struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

const CHURN: &str = "com.example.churn";
/// Longer than superseded values linger.
const QUIET: Duration = Duration::from_secs(2);
