//! The agent and its enrolment, killed at each change while keys and certificates come, are exchanged, and
//! are taken away.

use std::fs;
use std::path::PathBuf;

use edge_secrets_tests::cut::{Cut, Order};
use edge_secrets_tests::operator::{Ended, run};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use crate::changes::deployed;
use crate::node::{Node, URL, Whole, shows};
use crate::points::{Tally, kills};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_agent_killed_at_any_change_of_a_renewal_can_be_reached_and_opens_what_it_kept,
        an_agent_killed_at_any_change_of_its_revocation_wipes_hub_or_no_hub,
        an_enrolment_killed_at_any_change_is_none_or_a_whole_one,
        an_enrolment_anew_killed_at_any_change_takes_nothing_from_services,
    ]
}

/// A renewal is due whenever the sealing key is to be kept in another way: each start has one here. After
/// each kill the node also loses its power and boots without the hub: what it kept must open.
fn an_agent_killed_at_any_change_of_a_renewal_can_be_reached_and_opens_what_it_kept() {
    let mut node = deployed();
    node.give_credential();
    let whole = Whole::of(&node);
    node.kill();
    let dir = node.agent.consumer(URL, "main");
    let mut custody = Custody(false);
    custody.change(&node);
    node.run(Order::Count);
    custody.await_taken(&node, &whole, "without a kill");
    let acts = node.cut().acts();
    node.kill();
    let mut tally = Tally::new("renewal, keys and cache anew", acts.len(), "1 3 4 7 8 9 10");
    // What comes before is a start as any other.
    let begins = acts
        .iter()
        .position(|act| act.path.ends_with("sealing.next.new"));
    let begins = begins.expect("the next key is written first") + 1;
    for order in kills(&acts) {
        let (Order::Kill(at) | Order::Tear(at)) = order else {
            unreachable!("a kill")
        };
        if at < begins {
            continue;
        }
        custody.change(&node);
        let keys = Keys::of(&node.agent);
        node.run(order);
        let end = node.end();
        let what = format!("{order}: {end:?}");
        tally.count(end.is_some());
        if end.is_some() {
            node.assert_wanted(&what);
            node.assert_nothing_in_clear(&what);
            node.lose_memory();
            node.run_alone(Order::Count);
            let wanted = node.wanted.clone().expect("a value");
            wait::until(&dir, &what, || shows(&dir, &wanted));
            node.kill();
            node.run(Order::Count);
        }
        custody.await_taken(&node, &whole, &what);
        keys.assert_gone(&node.agent, &what);
        // The hub seals to a key that this node has.
        node.rotate();
        node.settle(&whole, &what);
        node.kill();
    }
    tally.finish();
}

/// What was heard is durable with its first change; before that it is as if it was not heard.
fn an_agent_killed_at_any_change_of_its_revocation_wipes_hub_or_no_hub() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let revoke = |node: &mut Node| {
        let revoked = node
            .admin
            .post("nodes/edge-01/revoke", &serde_json::json!({}));
        assert_eq!(revoked.status, 204, "{revoked}");
        node.before = node.wanted.take();
    };
    node.cut().order(Order::Count);
    revoke(&mut node);
    node.agent.await_hub("revoked");
    // A boot does not make empty directories.
    let bare = Whole::when_bare(&node).but_for("/services/");
    let acts = node.cut().acts();
    node.kill();
    let heard = node.agent.state_dir().join("heard");
    // A kill leaves this file as it was, or as it is to be.
    let is_noted = || {
        let note = fs::read_to_string(&heard).expect("a note");
        note.contains("\"revoked\":true")
    };
    assert!(is_noted());
    let mut tally = Tally::new("revocation", acts.len(), "1 3 4 8 9 12");
    for (round, order) in kills(&acts).into_iter().enumerate() {
        enrolled_anew(&node);
        node.run(Order::Count);
        node.bring_back();
        node.settle(&whole, "enrolled again");
        node.cut().order(order);
        revoke(&mut node);
        let end = node.end();
        let what = format!("{order}: {end:?}");
        tally.count(end.is_some());
        if end.is_some() {
            if !is_noted() {
                // Nothing is taken away before that.
                assert!(
                    node.agent.state_dir().join("cache/index").exists(),
                    "{what}"
                );
                node.assert_before(&what);
            } else {
                node.assert_readable(&what);
                if round % 2 == 0 {
                    node.lose_memory();
                }
                node.run_alone(Order::Count);
                node.settle_alone(&bare, &format!("{what}, without the hub"));
                nothing_left(&node, &what);
                node.kill();
            }
            node.run(Order::Count);
        }
        node.agent.await_hub("revoked");
        node.settle_alone(&bare, &what);
        nothing_left(&node, &what);
        node.kill();
    }
    tally.finish();
}

/// A command: `run` says what to do where there is no identity, and a token always helps.
fn an_enrolment_killed_at_any_change_is_none_or_a_whole_one() {
    let hub = TestHub::start();
    let (value, policy_for) = bound(&hub);
    let enrolled = |round: usize, order: Order| {
        let name = format!("edge-{round}");
        let agent = TestAgent::new(&hub, &name, &[]);
        let token = hub.token(&name);
        let (ended, end) = traced(&agent, order, &["enroll", "--token", "-"], &token);
        (agent, token, ended, end)
    };
    let served = |agent: &mut TestAgent, what: &str| {
        agent.run();
        let dir = agent.consumer(URL, "main");
        wait::until(&dir, what, || shows(&dir, &value));
        agent.await_hub("connected");
    };
    policy_for("pair");
    let (mut agent, _, ended, _) = enrolled(0, Order::Count);
    assert_eq!(ended.code, 0, "{ended:?}");
    let acts = Cut::all_acts(agent.place());
    served(&mut agent, "without a kill");
    // It reports what it has also kept.
    hub.await_rollout("pair", 1);
    let whole = identities(&agent);
    let mut tally = Tally::new("enrolment", acts.len(), "3 8 9");
    for (round, order) in kills(&acts).into_iter().enumerate() {
        let (mut agent, token, ended, end) = enrolled(round + 1, order);
        let what = format!("{order}: {end}: {ended:?}");
        tally.count(ended.code != 0);
        let name = format!("edge-{}", round + 1);
        if !agent.state_dir().join("identity").exists() {
            let told = agent.ended(&["run"]);
            assert_eq!(told.code, 64, "{what}: {told:?}");
            assert!(
                told.stderr.contains("edge-secrets-agent enroll --token -"),
                "{what}: {told:?}"
            );
            let again = agent.enrol(&token);
            if again.code != 0 {
                // The hub had taken it.
                assert_eq!(again.code, 77, "{what}: {again:?}");
                assert!(again.stderr.contains("node token"), "{what}: {again:?}");
                let anew = agent.enrol(&hub.token(&name));
                assert_eq!(anew.code, 0, "{what}: {anew:?}");
            }
        } else if ended.code != 0 {
            let again = agent.enrol(&hub.token(&name));
            assert_eq!(again.code, 64, "{what}: {again:?}");
            assert!(
                again.stderr.contains("enrolled already"),
                "{what}: {again:?}"
            );
        }
        served(&mut agent, &what);
        let state = agent.state_dir();
        wait::until(&state, &what, || identities(&agent) == whole);
    }
    tally.finish();
}

/// The same in the place of a former identity, on a node whose services have what they need: that stays,
/// whatever becomes of the enrolment.
fn an_enrolment_anew_killed_at_any_change_takes_nothing_from_services() {
    let mut node = deployed();
    node.kill();
    enrolled_anew(&node);
    let acts = Cut::all_acts(node.agent.place());
    node.run(Order::Count);
    node.rotate();
    node.await_wanted("enrolled again");
    // It reports what it has also kept.
    node.hub.await_rollout("pair", 1);
    // What the agent finds at its start of a former enrolment stays for people to look at.
    let whole = Whole::of(&node).but_for("/cache.set-aside");
    node.kill();
    let mut tally = Tally::new("enrolment anew", acts.len(), "1 3 4 6 7 8 9 10");
    for order in kills(&acts) {
        let token = node.hub.token("edge-01");
        let force = ["enroll", "--token", "-", "--force"];
        let (ended, end) = traced(&node.agent, order, &force, &token);
        let what = format!("{order}: {end}: {ended:?}");
        tally.count(ended.code != 0);
        node.assert_wanted(&what);
        node.run(Order::Count);
        let told = |node: &Node| {
            let log = node.agent.log_text();
            log.contains("enroll --force --token -")
                .then_some(false)
                .or_else(|| log.contains("Connected.").then_some(true))
        };
        let log = node.agent.log();
        wait::until(&log, &what, || told(&node).is_some());
        node.assert_wanted(&what);
        if told(&node) == Some(false) {
            // The hub has another identity of this node, which nobody holds.
            let anew = node.agent.enrol_anew(&node.hub.token("edge-01"));
            assert_eq!(anew.code, 0, "{what}: {anew:?}");
            node.agent.await_log("Connected.");
            node.assert_wanted(&what);
        }
        node.rotate();
        node.settle(&whole, &what);
        node.kill();
    }
    tally.finish();
}

/// The way in which the sealing key is to be kept: encrypted, or not.
struct Custody(bool);

impl Custody {
    /// Wants the other one.
    fn change(&mut self, node: &Node) {
        self.0 = !self.0;
        let word = if self.0 { "credential" } else { "file" };
        node.agent.reconfigure(|config| {
            config["identity"] =
                serde_yaml::from_str(&format!("{{ sealing_key: {word} }}")).expect("YAML");
        });
    }

    /// Waits until there is one set of keys, kept as it should be.
    fn await_taken(&self, node: &Node, whole: &Whole, what: &str) {
        let state = node.agent.state_dir();
        wait::until(&state, what, || {
            let key = fs::read(state.join("identity/sealing.key")).unwrap_or_default();
            !key.is_empty() && (key.len() > 32) == self.0
        });
        node.agent.await_hub("connected");
        node.settle_listing(whole, what);
        node.assert_wanted(what);
    }
}

/// The private keys of a node.
struct Keys(Vec<Vec<u8>>);

impl Keys {
    fn of(agent: &TestAgent) -> Self {
        let names = ["node.key", "sealing.key"];
        let read = |name| fs::read(agent.state_dir().join("identity").join(name));
        Self(names.map(|name| read(name).expect("a key")).into())
    }

    /// No file of the state directory has one of them any more.
    fn assert_gone(&self, agent: &TestAgent, what: &str) {
        for file in files(&agent.state_dir()) {
            let content = fs::read(&file).unwrap_or_default();
            let is = self.0.contains(&content);
            assert!(!is, "{what}: {} is a former key", file.display());
        }
    }
}

fn files(dir: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() && !path.is_symlink() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// What of an enrolment stands in the state directory.
fn identities(agent: &TestAgent) -> Vec<String> {
    let mut names = crate::listing::listing(&agent.state_dir());
    names.retain(|name| name.starts_with("/identity") || name.contains("new"));
    names
}

/// A secret and a service on all nodes.
fn bound(hub: &TestHub) -> (Canary, impl Fn(&str)) {
    let operator = hub.operator();
    let value = Canary::new();
    operator.set("pair", value.value());
    operator.publish_service(&plain_service(URL, &["a", "b"]));
    let publish = move |name: &str| {
        operator.publish_policy(name, &policy(URL, &[], &[("a", "pair"), ("b", "pair")]));
    };
    (value, publish)
}

/// The agent's command with a token, under the tracer, to its end.
fn traced(agent: &TestAgent, order: Order, args: &[&str], token: &str) -> (Ended, String) {
    let state = agent.state_dir();
    let dirs = [state.as_path(), agent.runtime_dir()];
    let (cut, mut command) = Cut::command(agent.place(), &dirs, order, &agent.command(args));
    let ended = run(&mut command, token.as_bytes());
    (ended, cut.end(wait::DEADLINE).expect("its end"))
}

/// Enrols in the place of the identity that is there.
fn enrolled_anew(node: &Node) {
    let token = node.hub.token("edge-01");
    let force = ["enroll", "--token", "-", "--force"];
    let (ended, end) = traced(&node.agent, Order::Count, &force, &token);
    assert_eq!(ended.code, 0, "{end}: {ended:?}");
}

/// Nothing of any value is on tmpfs, and nothing that could bring one back in the state directory.
fn nothing_left(node: &Node, what: &str) {
    let canaries = node.all();
    let scan = Scanner::new(&canaries).files(node.agent.runtime_dir());
    assert!(scan.hits.is_empty(), "{what}: on tmpfs: {:#?}", scan.hits);
    node.assert_nothing_in_clear(what);
    let cache = node.agent.state_dir().join("cache");
    assert!(!cache.exists(), "{what}: the cache is there");
}
