//! Nodes on patterns.

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{ORG, Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::delivery::{URL, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_node_on_a_pattern_gets_its_secrets_and_loses_them_when_it_leaves,
        a_node_goes_from_policies_to_a_pattern_and_back,
        a_pattern_and_a_node_policy_are_refused_with_both_places,
        a_node_follows_another_organisations_public_pattern,
        a_hub_that_is_killed_after_a_change_still_lets_nodes_follow_it,
    ]
}

/// A pattern of the test's organisation that deploys these services, each with its one secret.
fn pattern(services: &[(&str, &str, &str)]) -> Value {
    pattern_of(ORG, false, services)
}

/// The same of any organisation.
fn pattern_of(org: &str, public: bool, services: &[(&str, &str, &str)]) -> Value {
    let offers = services.iter().map(|(url, ..)| {
        json!({ "serviceOrgid": org, "serviceUrl": url, "serviceArch": "*",
            "serviceVersions": [{ "version": "1.0.0", "priority": {} }],
            "dataVerification": {}, "nodeHealth": { "missing_heartbeat_interval": 600,
            "check_agreement_status": 120 } })
    });
    let bindings = services.iter().map(|(url, name, to)| {
        json!({ "serviceOrgid": org, "serviceUrl": url, "serviceArch": "*",
            "serviceVersionRange": "", "secrets": [{ *name: *to }] })
    });
    json!({ "label": "", "description": "", "public": public,
        "services": offers.collect::<Vec<_>>(), "agreementProtocols": [{ "name": "Basic" }],
        "userInput": [], "secretBinding": bindings.collect::<Vec<_>>() })
}

fn publish(operator: &Operator, name: &str, pattern: &Value) {
    operator.ok(&["pattern", "publish", name, "-"], pattern.to_string());
}

fn on_pattern(hub: &TestHub, node: &str, pattern: &str) -> TestAgent {
    let mut agent = TestAgent::new(hub, node, &[("site", json!("berlin"))]);
    let args = ["node", "token", node, "--pattern", pattern];
    let issued = hub.operator().json(&args);
    let enrolled = agent.enrol(issued["token"].as_str().expect("a token"));
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    agent.run();
    agent
}

fn a_node_on_a_pattern_gets_its_secrets_and_loses_them_when_it_leaves() {
    let hub = TestHub::start();
    let operator = hub.operator();
    operator.set("db", "one");
    operator.set("gps", "here");
    operator.publish_service(&plain_service(URL, &["cred"]));
    operator.publish_service(&plain_service("com.example.gps", &["token"]));
    let services = [(URL, "cred", "db"), ("com.example.gps", "token", "gps")];
    publish(&operator, "edge", &pattern(&services));
    // A policy that would match it is nothing to it.
    operator.publish_service(&plain_service("com.example.other", &["cred"]));
    let other = policy("com.example.other", &[], &[("cred", "db")]);
    operator.publish_policy("other", &other);

    let agent = on_pattern(&hub, "edge-01", "edge");
    let file = agent.consumer(URL, "main").join("cred");
    let token = agent.consumer("com.example.gps", "main").join("token");
    wait::content(&file, b"one");
    wait::content(&token, b"here");
    agent.await_status("both are applied, and nothing else is there", |status| {
        let services = status["services"].as_array().expect("a list");
        let applied =
            |one: &Value| one["state"] == "applied" && one["policy"] == "pattern:myorg/edge";
        services.len() == 2 && services.iter().all(applied)
    });
    operator.set("db", "two");
    wait::content(&file, b"two");
    let watched = ["rollout", "--pattern", "edge", "--watch"];
    let told = operator.ok(&watched, "");
    assert!(told.contains("Pattern myorg/edge: applied 2/2"), "{told}");
    let told = operator.ok(&["explain", "edge-01"], "");
    assert!(
        told.starts_with("Node edge-01 is on pattern myorg/edge.\n"),
        "{told}"
    );
    assert!(
        told.contains("is deployed on edge-01 by pattern myorg/edge"),
        "{told}"
    );
    let never = "Service myorg/com.example.other is not deployed on edge-01 by policy other";
    assert!(told.contains(never), "{told}");

    // One service leaves the pattern, and then the node.
    publish(&operator, "edge", &pattern(&services[..1]));
    wait::gone(&token);
    assert!(file.exists());
    let told = operator.ok(&["node", "pattern", "edge-01", "--none"], "");
    assert!(
        told.contains("edge-01  loses  myorg/com.example.uplink"),
        "{told}"
    );
    assert!(
        told.contains("edge-01  gains  myorg/com.example.other"),
        "{told}"
    );
    wait::gone(&file);
    wait::content(
        &agent.consumer("com.example.other", "main").join("cred"),
        b"two",
    );
    let moved = operator.audit(&[("action", "node.pattern"), ("result", "ok")]);
    assert_eq!(moved.len(), 1, "{moved:?}");
}

/// The deployment is another, and its directory the same.
fn a_node_goes_from_policies_to_a_pattern_and_back() {
    let hub = TestHub::start();
    let operator = hub.operator();
    publish_uplink(&operator, "one");
    let agent = TestAgent::start(&hub, "edge-01", &[("site", json!("berlin"))]);
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    wait::content(&file, b"one");
    operator.set("other", "two");
    publish(
        &operator,
        "edge",
        &pattern(&[(URL, "myCloudServiceCred", "other")]),
    );
    let asked = operator.ok(&["node", "pattern", "edge-01", "edge", "--dry-run"], "");
    assert!(
        asked.starts_with("Dry run: nothing has changed."),
        "{asked}"
    );
    operator.ok(&["node", "pattern", "edge-01", "edge"], "");
    wait::content(&file, b"two");
    operator.ok(&["pattern", "rm", "edge"], "");
    wait::gone(&file);
    let told = operator.ok(&["explain", "edge-01"], "");
    assert!(told.contains("which is not there, or not public"), "{told}");
    operator.ok(&["node", "pattern", "edge-01", "--none"], "");
    wait::content(&file, b"one");
}

fn a_pattern_and_a_node_policy_are_refused_with_both_places() {
    let hub = TestHub::start();
    let operator = hub.operator();
    publish_uplink(&operator, "one");
    let to = "cloudServiceXYZSecret";
    publish(
        &operator,
        "edge",
        &pattern(&[(URL, "myCloudServiceCred", to)]),
    );
    let mut agent = TestAgent::new(&hub, "edge-01", &[]);
    let file = agent.place().join("node.policy.json");
    let stated = json!({ "properties": [{ "name": "site", "value": "berlin" }] });
    std::fs::write(&file, stated.to_string()).expect("written");
    agent.reconfigure(|config| {
        config["node"]["policy_file"] = file.to_str().expect("a plain path").into();
    });
    let issued = operator.json(&["node", "token", "edge-01", "--pattern", "edge"]);
    let refused = agent.enrol(issued["token"].as_str().expect("a token"));
    assert_ne!(refused.code, 0);
    let both =
        |text: &str| text.contains("pattern myorg/edge") && text.contains("`policy.properties`");
    assert!(both(&refused.stderr), "{refused:?}");
    // On policies, with the policy.
    assert_eq!(agent.enrol(&hub.token("edge-01")).code, 0);
    agent.run();
    wait::content(
        &agent.consumer(URL, "main").join("myCloudServiceCred"),
        b"one",
    );
    let refused = operator.run(&["node", "pattern", "edge-01", "edge"], "");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(both(&refused.stderr), "{refused:?}");
}

/// `acme` publishes the service and the pattern that binds its secret to `to`, both public, and holds no
/// secret of that name.
fn publish_as_acme(acme: &Operator, to: &str) {
    let mut service = plain_service(URL, &["cred"]);
    service["org"] = "acme".into();
    service["public"] = true.into();
    acme.publish_service(&service);
    publish_of_acme(acme, true, to);
}

fn publish_of_acme(acme: &Operator, public: bool, to: &str) -> String {
    let document = pattern_of("acme", public, &[(URL, "cred", to)]);
    acme.ok(
        &["pattern", "publish", "edge", "-", "--allow-missing"],
        document.to_string(),
    )
}

fn a_node_follows_another_organisations_public_pattern() {
    let mut hub = TestHub::start();
    let acme = hub.add_org("acme");
    let operator = hub.operator();
    operator.set("db", "ours");
    acme.set("db", "theirs");
    publish_as_acme(&acme, "db");
    let shown = operator.ok(&["pattern", "show", "acme/edge"], "");
    assert!(shown.contains("cred: db"), "{shown}");
    let listed = operator.json(&["pattern", "list", "--of", "acme"]);
    assert_eq!(listed[0]["name"], "edge");

    let agent = on_pattern(&hub, "edge-01", "acme/edge");
    let dir = agent.consumer_of("acme", URL, "main");
    let file = dir.join("cred");
    wait::content(&file, b"ours");
    // The secret of the node's own organisation, and no other, is followed.
    acme.set("db", "theirs again");
    operator.set("db", "ours again");
    wait::content(&file, b"ours again");
    let told = operator.ok(&["explain", "edge-01"], "");
    assert!(
        told.starts_with("Node edge-01 is on pattern acme/edge.\n"),
        "{told}"
    );
    let deployed = "Service acme/com.example.uplink is deployed on edge-01 by pattern acme/edge";
    assert!(told.contains(deployed), "{told}");

    // What its publisher changes reaches the node; of whose it is they learn nothing.
    operator.set("other", "another of ours");
    let dry_run = ["pattern", "rm", "edge", "--dry-run"];
    for told in [publish_of_acme(&acme, true, "other"), acme.ok(&dry_run, "")] {
        assert!(told.contains("follow it: 1, of 1 organisation."), "{told}");
        assert!(!told.contains("edge-01") && !told.contains(ORG), "{told}");
    }
    wait::content(&file, b"another of ours");
    let watched = ["rollout", "--pattern", "acme/edge", "--watch"];
    let told = operator.ok(&watched, "");
    assert!(told.contains("Pattern acme/edge: applied 1/1"), "{told}");
    let followed = operator.audit(&[("action", "pattern.follow"), ("object", "org/acme")]);
    assert_eq!(followed.len(), 1, "{followed:?}");

    // Taken back, it is as if it were not there, and nothing of it is left on the node.
    publish_of_acme(&acme, false, "other");
    wait::gone(&file);
    agent.await_status("nothing is deployed", |status| {
        status["services"].as_array().is_some_and(Vec::is_empty)
    });
    let refused = |name: &str| {
        let shown = operator.run(&["pattern", "show", name], "");
        let on = operator.run(&["node", "token", "edge-02", "--pattern", name], "");
        [shown, on].map(|ended| {
            assert_ne!(ended.code, 0, "{ended:?}");
            (ended.code, ended.stderr.replace(name, "X"))
        })
    };
    assert_eq!(refused("acme/edge"), refused("acme/nope"));
    assert_eq!(refused("acme/edge"), refused("nowhere/edge"));
    publish_of_acme(&acme, true, "db");
    wait::content(&file, b"ours again");
    acme.ok(&["pattern", "rm", "edge"], "");
    wait::gone(&file);
}

/// Wherever between the two it dies: what was changed is not lost, nor done to half.
fn a_hub_that_is_killed_after_a_change_still_lets_nodes_follow_it() {
    let mut hub = TestHub::start();
    let acme = hub.add_org("acme");
    let operator = hub.operator();
    for name in ["one", "two"] {
        operator.set(name, name);
    }
    publish_as_acme(&acme, "one");
    let agent = on_pattern(&hub, "edge-01", "acme/edge");
    let file = agent.consumer_of("acme", URL, "main").join("cred");
    wait::content(&file, b"one");
    for to in ["two", "one", "two"] {
        publish_of_acme(&acme, true, to);
        hub.kill();
        hub.serve();
        wait::content(&file, to.as_bytes());
    }
    publish_of_acme(&acme, false, "two");
    hub.kill();
    hub.serve();
    wait::gone(&file);
}
