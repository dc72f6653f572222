//! The main job: from a published policy to a readable secret to a wiped file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_published_policy_makes_the_secret_readable,
        a_rotation_swaps_one_generation_in,
        a_withdrawn_policy_is_wiped_and_the_directory_stays_for_the_next,
        a_node_that_no_longer_matches_is_wiped,
        a_changed_node_policy_file_is_followed,
        a_revoked_node_wipes_and_gets_nothing,
        a_removed_service_version_is_replaced_by_a_newer_one,
        a_missing_secret_blocks_its_deployment_alone,
        a_node_level_secret_comes_before_the_general_one_and_falls_back,
        an_agent_that_was_away_catches_up,
        a_node_that_was_killed_is_behind_until_it_has_come_back,
    ]
}

pub(crate) const URL: &str = "com.example.uplink";

/// One service with one secret, published.
pub(crate) fn publish_uplink(operator: &Operator, value: &str) {
    operator.set("cloudServiceXYZSecret", value);
    operator.publish_service(&plain_service(URL, &["myCloudServiceCred"]));
    operator.publish_policy("uplink", &uplink_policy());
}

pub(crate) fn uplink_policy() -> serde_json::Value {
    policy(
        URL,
        &["site == berlin"],
        &[("myCloudServiceCred", "cloudServiceXYZSecret")],
    )
}

/// A hub, and an agent that has delivered the one secret.
pub(crate) fn delivered(value: &str) -> (TestHub, TestAgent) {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[("site", json!("berlin"))]);
    publish_uplink(&hub.operator(), value);
    wait::content(
        &agent.consumer(URL, "main").join("myCloudServiceCred"),
        value.as_bytes(),
    );
    // It reports what it has also kept.
    hub.await_rollout("uplink", 1);
    (hub, agent)
}

fn a_published_policy_makes_the_secret_readable() {
    let (_hub, agent) = delivered("user:one");
    agent.await_service(URL);
    let status = agent.status().expect("a status");
    let service = &status["services"][0];
    assert_eq!(status["hub"]["state"], "connected");
    assert_eq!(service["state"], "applied", "{status}");
    assert_eq!(service["secrets"][0]["name"], "myCloudServiceCred");
    assert_eq!(
        service["secrets"][0]["version"],
        service["secrets"][0]["wanted"]
    );
    assert!(service["secrets"][0]["since"].is_string());
    let dir = agent.consumer(URL, "main");
    assert_eq!(
        service["consumers"][0]["directory"],
        dir.to_str().expect("a plain path")
    );
    // Nobody else can read it, and it is no program.
    let mode = fs::metadata(dir.join("myCloudServiceCred"))
        .expect("readable")
        .permissions()
        .mode();
    assert_eq!(mode & 0o137, 0, "mode {mode:o}");
    assert!(!status.to_string().contains("user:one"));
}

fn a_rotation_swaps_one_generation_in() {
    let (hub, agent) = delivered("one");
    let dir = agent.consumer(URL, "main");
    let generation = fs::read_link(dir.join("..data")).expect("a link");
    let swaps = Inotify::init(InitFlags::IN_NONBLOCK).expect("inotify");
    swaps
        .add_watch(&dir, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE)
        .expect("a watch");
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(&dir.join("myCloudServiceCred"), b"two");
    assert_ne!(
        fs::read_link(dir.join("..data")).expect("a link"),
        generation
    );
    hub.await_rollout("uplink", 1);
    // The old one is wiped when nobody reads it, and then nothing else has changed either.
    wait::until(&dir, "one generation is left", || {
        TestAgent::superseded(&dir).is_empty()
    });
    let events = swaps.read_events().expect("events");
    let swapped = events.iter().filter(|event| {
        event.mask.contains(AddWatchFlags::IN_MOVED_TO)
            && event.name.as_deref().is_some_and(|name| name == "..data")
    });
    assert_eq!(swapped.count(), 1, "{events:?}");
}

fn a_withdrawn_policy_is_wiped_and_the_directory_stays_for_the_next() {
    let (hub, agent) = delivered("one");
    let dir = agent.consumer(URL, "main");
    let mounted = fs::File::open(&dir).expect("the directory that a container has mounted");
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    wait::gone(&dir.join("myCloudServiceCred"));
    wait::empty(&dir);
    hub.operator().publish_policy("uplink", &uplink_policy());
    wait::content(&dir.join("myCloudServiceCred"), b"one");
    let path = format!(
        "/proc/self/fd/{}/myCloudServiceCred",
        std::os::fd::AsRawFd::as_raw_fd(&mounted)
    );
    assert_eq!(fs::read(path).expect("through the old mount"), b"one");
}

fn a_node_that_no_longer_matches_is_wiped() {
    let (hub, mut agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    assert!(agent.stop().success());
    assert!(file.exists(), "stopping the agent takes nothing away");
    agent.reconfigure(|config| config["node"]["properties"]["site"] = "paris".into());
    agent.run();
    wait::gone(&file);
    hub.await_rollout("uplink", 0);
}

fn a_changed_node_policy_file_is_followed() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let policy_file = agent.place().join("node.policy.json");
    let node_policy = |site: &str| json!({ "properties": [{ "name": "site", "value": site }] });
    fs::write(&policy_file, node_policy("berlin").to_string()).expect("written");
    let path = policy_file.to_str().expect("a plain path").to_owned();
    agent.reconfigure(|config| config["node"]["policy_file"] = path.into());
    publish_uplink(&hub.operator(), "one");
    agent.run();
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    wait::content(&file, b"one");
    assert!(agent.stop().success());
    fs::write(&policy_file, node_policy("paris").to_string()).expect("written");
    agent.run();
    wait::gone(&file);
}

fn a_revoked_node_wipes_and_gets_nothing() {
    let (hub, mut agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    let mut thief = hub.raw_node("edge-02", &[("site", json!("berlin"))]);
    let wanted = thief.bound(URL, "myCloudServiceCred");
    assert_eq!(
        thief.fetch_one(&wanted).expect("while it may").len(),
        PAYLOAD_OF_ONE
    );

    hub.operator().ok(&["node", "revoke", "edge-01"], "");
    wait::gone(&file);
    agent.await_hub("revoked");
    // Neither a restart nor a publication brings anything back.
    agent.kill();
    agent.run();
    hub.operator().set("cloudServiceXYZSecret", "two");
    agent.await_hub("revoked");
    assert!(!file.exists());

    hub.operator().ok(&["node", "revoke", "edge-02"], "");
    for again in [false, true] {
        if again {
            thief.reconnect(&hub);
        }
        assert_eq!(
            thief.fetch(std::slice::from_ref(&wanted)).code(),
            "node_revoked"
        );
        let bindings = thief.client.get(edge_secrets_protocol::routes::BINDINGS);
        assert_eq!(bindings.expect("an answer").code(), "node_revoked");
    }
    let denied = hub
        .operator()
        .audit(&[("actor", "node/edge-02"), ("result", "node_revoked")]);
    assert!(!denied.is_empty(), "a revoked node's fetch is audited");
}

fn a_removed_service_version_is_replaced_by_a_newer_one() {
    let (hub, agent) = delivered("one");
    let operator = hub.operator();
    operator.set("another", "two");
    let mut newer = plain_service(URL, &["myCloudServiceCred", "second"]);
    newer["version"] = "1.1.0".into();
    operator.publish_service(&newer);
    let mut both = policy(
        URL,
        &["site == berlin"],
        &[
            ("myCloudServiceCred", "cloudServiceXYZSecret"),
            ("second", "another"),
        ],
    );
    both["service"]["serviceVersions"][0]["version"] = "1.1.0".into();
    operator.publish_policy("uplink", &both);
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("second"), b"two");
    assert_eq!(
        fs::read(dir.join("myCloudServiceCred")).expect("still there"),
        b"one"
    );
}

fn a_missing_secret_blocks_its_deployment_alone() {
    let (hub, agent) = delivered("one");
    let operator = hub.operator();
    operator.set("other", "x");
    operator.publish_service(&plain_service("com.example.other", &["a"]));
    operator.publish_policy(
        "other",
        &policy("com.example.other", &[], &[("a", "other")]),
    );
    let other = agent.consumer("com.example.other", "main").join("a");
    wait::content(&other, b"x");

    operator.ok(&["secret", "rm", "other"], "");
    hub.admin()
        .await_rollout("other", "it is blocked", |rollout| {
            rollout["nodes"][0]["state"] == "blocked"
        });
    // Last known good stays, and the rest goes on.
    assert_eq!(fs::read(&other).expect("it stays"), b"x");
    operator.set("cloudServiceXYZSecret", "two");
    wait::content(
        &agent.consumer(URL, "main").join("myCloudServiceCred"),
        b"two",
    );
    let told = operator.json(&["rollout", "other"]);
    assert_eq!(told["nodes"][0]["error"]["code"], "missing", "{told}");

    operator.set("other", "y");
    wait::content(&other, b"y");
    hub.await_rollout("other", 1);
}

fn a_node_level_secret_comes_before_the_general_one_and_falls_back() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("db", "general");
    operator.publish_service(&plain_service("com.example.db", &["cred"]));
    let mut policy = policy("com.example.db", &[], &[("cred", "db")]);
    policy["secretBinding"][0]["enableNodeLevelSecrets"] = true.into();
    operator.publish_policy("db", &policy);
    let file = agent.consumer("com.example.db", "main").join("cred");
    wait::content(&file, b"general");
    operator.set("node/edge-02/db", "another's");
    operator.set("node/edge-01/db", "own");
    wait::content(&file, b"own");
    operator.ok(&["secret", "rm", "node/edge-01/db"], "");
    wait::content(&file, b"general");
}

fn an_agent_that_was_away_catches_up() {
    let (hub, mut agent) = delivered("one");
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    agent.kill();
    for value in ["two", "three", "four"] {
        hub.operator().set("cloudServiceXYZSecret", value);
    }
    assert_eq!(fs::read(&file).expect("it stays"), b"one");
    agent.run();
    wait::content(&file, b"four");
    hub.await_rollout("uplink", 1);
    agent.kill();
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    agent.run();
    wait::gone(&file);
}

/// By the hub's metrics and by the operator's command; the other node is not.
fn a_node_that_was_killed_is_behind_until_it_has_come_back() {
    type Values<'a> = &'a dyn Fn(&str, &str) -> f64;
    let (hub, mut agent) = delivered("one");
    let other = TestAgent::start(&hub, "edge-02", &[("site", json!("berlin"))]);
    hub.await_rollout("uplink", 2);
    let series = |name: &str, connected: &str| {
        format!("edge_secrets_hub_nodes_{name}{{connected=\"{connected}\"}} ")
    };
    let metrics = |what: &str, done: &dyn Fn(Values<'_>) -> bool| {
        let mut admin = hub.admin();
        wait::until(&hub.log(), what, || {
            let answer = admin.client.get("/v1/metrics").expect("an answer");
            assert_eq!(answer.status, 200, "{answer}");
            let text = String::from_utf8(answer.body).expect("text");
            let value = |name: &str, connected: &str| {
                let series = series(name, connected);
                let value = text.lines().find_map(|line| line.strip_prefix(&series));
                value
                    .and_then(|value| value.parse().ok())
                    .expect("a number")
            };
            done(&value)
        });
    };
    let nobody = |value: Values<'_>| {
        ["yes", "no"].iter().all(|connected| {
            value("behind", connected) == 0.0 && value("behind_longest_seconds", connected) == 0.0
        })
    };
    metrics("nobody is behind", &nobody);
    agent.kill();
    metrics("nobody is behind who has no news", &nobody);
    hub.operator().set("cloudServiceXYZSecret", "two");
    wait::content(
        &other.consumer(URL, "main").join("myCloudServiceCred"),
        b"two",
    );
    metrics("the one that is away is behind", &|value| {
        (value("behind", "yes"), value("behind", "no")) == (0.0, 1.0)
            && value("behind_longest_seconds", "no") > 0.0
    });
    let listed = hub.operator().json(&["node", "list", "--behind"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["node"], "edge-01");
    assert_eq!(listed[0]["connected"], false);
    assert!(
        listed[0]["applied"].as_u64() < listed[0]["generation"].as_u64(),
        "{listed}"
    );
    let shown = hub.operator().ok(&["node", "list", "--behind"], "");
    assert!(
        shown.contains("edge-01") && shown.contains("since "),
        "{shown}"
    );
    agent.run();
    hub.await_rollout("uplink", 2);
    metrics("nobody is behind any more", &nobody);
    let listed = hub.operator().json(&["node", "list", "--behind"]);
    assert_eq!(listed, json!([]));
}

/// Header, one field name with its length, and the value with its length.
const PAYLOAD_OF_ONE: usize = 2 + 1 + "value".len() + 4 + "one".len();
