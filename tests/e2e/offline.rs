//! Nodes that boot, or are left alone, without their hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use crate::delivery::{URL, delivered};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_node_that_boots_without_its_hub_has_everything_and_nothing_lies_in_clear,
        what_was_called_applied_survives_a_power_cut_at_any_moment,
        a_node_revoked_while_it_was_off_wipes_at_first_contact_and_for_good,
        a_node_that_hears_nothing_for_max_age_wipes_itself,
        wiping_by_hand_leaves_no_cache,
    ]
}

/// What a power cut leaves: nothing in memory.
pub(crate) fn power_cut(agent: &mut TestAgent) {
    agent.kill();
    for entry in fs::read_dir(agent.runtime_dir()).expect("the runtime directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).expect("removed"),
            false => fs::remove_file(path).expect("removed"),
        }
    }
}

fn cred(agent: &TestAgent) -> std::path::PathBuf {
    agent.consumer(URL, "main").join("myCloudServiceCred")
}

fn a_node_that_boots_without_its_hub_has_everything_and_nothing_lies_in_clear() {
    let (mut hub, mut agent) = delivered("one");
    let operator = hub.operator();
    let canary = Canary::new();
    operator.set("other", canary.value());
    operator.publish_service(&plain_service("com.example.other", &["key"]));
    let bound = policy("com.example.other", &[], &[("key", "other")]);
    operator.publish_policy("other", &bound);
    hub.await_rollout("other", 1);
    hub.kill();
    power_cut(&mut agent);
    let scanner = Scanner::new(&[&canary]);
    scanner
        .files(&agent.state_dir())
        .assert_clean("the state directory with the cache");
    agent.run();
    wait::content(&cred(&agent), b"one");
    let key = agent.consumer("com.example.other", "main").join("key");
    wait::content(&key, canary.value().as_bytes());
    agent.await_service(URL);
    let status = agent.status().expect("a status");
    assert_eq!(status["cache"]["values"], 2, "{status}");
    assert_ne!(status["hub"]["state"], "connected");

    // What happens meanwhile at the hub is caught up.
    hub.serve();
    hub.operator().set("cloudServiceXYZSecret", "two");
    hub.operator().ok(&["policy", "rm", "other"], "");
    wait::content(&cred(&agent), b"two");
    wait::gone(&key);
    hub.await_rollout("uplink", 1);
    hub.kill();
    power_cut(&mut agent);
    agent.forget_log();
    agent.run();
    wait::content(&cred(&agent), b"two");
    agent.await_log("Hub not reached");
    assert!(!key.exists(), "what was undeployed stays away");
}

fn what_was_called_applied_survives_a_power_cut_at_any_moment() {
    let (mut hub, mut agent) = delivered("0");
    let mut round = 0;
    for delay in [0, 300, 700, 1_000, 1_500, 2_000, 4_000, 8_000] {
        for _ in 0..3 {
            round += 1;
            hub.operator()
                .set("cloudServiceXYZSecret", round.to_string());
        }
        // Not a wait for something: the moment of the cut is what varies.
        sleep(Duration::from_micros(delay));
        power_cut(&mut agent);
        let applied = applied(&hub);
        hub.kill();
        agent.run();
        let file = cred(&agent);
        wait::there(&file);
        let value: i64 = fs::read_to_string(&file)
            .expect("readable")
            .parse()
            .expect("a number");
        assert!(
            value >= applied,
            "{value} after {applied} was called applied"
        );
        hub.serve();
        wait::content(&file, round.to_string().as_bytes());
        hub.await_rollout("uplink", 1);
    }
}

/// The value that the hub was told of; versions count from 1 and values from 0.
fn applied(hub: &TestHub) -> i64 {
    let rollout = hub.operator().json(&["rollout", "uplink"]);
    let secret = &rollout["nodes"][0]["secrets"][0];
    let applied = secret["applied"].as_str();
    let version = applied.and_then(|version| version.split('+').next());
    version.map_or(0, |version| version.parse::<i64>().expect("a number") - 1)
}

fn a_node_revoked_while_it_was_off_wipes_at_first_contact_and_for_good() {
    let (mut hub, mut agent) = delivered("one");
    power_cut(&mut agent);
    hub.operator().ok(&["node", "revoke", "edge-01"], "");
    agent.run();
    agent.await_hub("revoked");
    wait::gone(&cred(&agent));
    assert!(!agent.state_dir().join("cache").exists());
    hub.kill();
    power_cut(&mut agent);
    agent.forget_log();
    agent.run();
    agent.await_log("Hub not reached");
    assert!(!cred(&agent).exists());
}

fn a_node_that_hears_nothing_for_max_age_wipes_itself() {
    let (mut hub, mut agent) = delivered("one");
    agent.reconfigure(|config| {
        config["offline"] = serde_yaml::from_str("{ max_age: 2s }").expect("YAML");
    });
    hub.kill();
    wait::gone(&cred(&agent));
    let cache = agent.state_dir().join("cache");
    wait::until(&cache, "the cache is gone", || !cache.exists());
    // Neither a restart nor a reboot forgets how long it was.
    power_cut(&mut agent);
    agent.forget_log();
    agent.run();
    agent.await_log("Hub not reached");
    assert!(!cred(&agent).exists());
    hub.serve();
    wait::content(&cred(&agent), b"one");
}

fn wiping_by_hand_leaves_no_cache() {
    let (_hub, mut agent) = delivered("one");
    let files = names(&agent.state_dir().join("cache"));
    assert_eq!(files.len(), 2, "the index and one value: {files:?}");
    assert!(agent.stop().success());
    assert_eq!(agent.ended(&["wipe"]).code, 0);
    assert!(!agent.state_dir().join("cache").exists());
}

fn names(dir: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(dir).expect("a directory");
    let entries = entries.map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let len = entry.metadata().expect("metadata").len();
            (entry.file_name().to_string_lossy().into_owned(), len)
        })
        .collect()
}
