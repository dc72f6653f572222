//! What operators see and are refused.

use std::fs;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::delivery::{URL, delivered, publish_uplink, uplink_policy};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_dry_run_shows_who_gets_what_and_changes_nothing,
        explain_names_the_rule_that_fails_with_its_values,
        rollout_tells_applied_from_away,
        versions_are_listed_and_an_old_one_comes_back,
        a_policy_that_leaves_a_secret_unbound_is_refused,
        malformed_documents_are_refused_with_line_and_reason,
        documents_of_open_horizon_are_accepted_unchanged,
        an_absent_hub_and_wrong_usage_have_their_exit_codes,
        lists_come_as_tables_json_and_yaml,
    ]
}

fn a_dry_run_shows_who_gets_what_and_changes_nothing() {
    let hub = TestHub::start();
    let _berlin = hub.raw_node("edge-01", &[("site", json!("berlin"))]);
    let _paris = hub.raw_node("edge-02", &[("site", json!("paris"))]);
    let operator = hub.operator();
    operator.set("cloudServiceXYZSecret", "one");
    operator.publish_service(&plain_service(URL, &["myCloudServiceCred"]));
    let before = operator.json(&["node", "list"]);
    let args = [
        "policy",
        "publish",
        "uplink",
        "-",
        "--dry-run",
        "-o",
        "json",
    ];
    let told: Value =
        serde_json::from_str(&operator.ok(&args, uplink_policy().to_string())).expect("JSON");
    assert_eq!(told["dry_run"], true, "{told}");
    assert_eq!(told["untouched_nodes"], 1, "{told}");
    let changes = told["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 1, "{told}");
    assert_eq!(changes[0]["node"], "edge-01");
    assert_eq!(changes[0]["change"], "deploy");
    assert_eq!(changes[0]["secrets"][0]["name"], "myCloudServiceCred");
    assert_eq!(
        changes[0]["secrets"][0]["references"],
        json!(["cloudServiceXYZSecret"])
    );
    assert_eq!(operator.json(&["policy", "list"]), json!([]));
    let after = operator.json(&["node", "list"]);
    assert_eq!(generations(&before), generations(&after));
}

fn explain_names_the_rule_that_fails_with_its_values() {
    let hub = TestHub::start();
    let _node = hub.raw_node("edge-02", &[("site", json!("paris"))]);
    publish_uplink(&hub.operator(), "one");
    let told = hub.operator().json(&["explain", "edge-02"]);
    let verdict = &told["verdicts"][0];
    assert_eq!(verdict["deployed"], false, "{told}");
    let failing: Vec<&Value> = verdict["rules"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|rule| rule["holds"] == false)
        .collect();
    let detail = failing[0]["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("site == berlin") && detail.contains("paris"),
        "{told}"
    );
    let table = hub.operator().ok(&["explain", "edge-02", URL], "");
    assert!(table.contains("paris"), "{table}");
}

fn rollout_tells_applied_from_away() {
    let (hub, mut agent) = delivered("one");
    agent.kill();
    let _away = hub.raw_node("edge-02", &[("site", json!("berlin"))]);
    let operator = hub.operator();
    operator.set("cloudServiceXYZSecret", "two");
    let told = operator.json(&["rollout", "uplink"]);
    assert_eq!(
        (&told["applied"], &told["total"]),
        (&json!(0), &json!(2)),
        "{told}"
    );
    let nodes = told["nodes"].as_array().expect("a list");
    assert_eq!(nodes[0]["node"], "edge-01");
    assert_eq!(nodes[0]["secrets"][0]["applied"], "1", "{told}");
    assert_eq!(nodes[0]["secrets"][0]["version"], "2", "{told}");
    assert!(nodes[1]["secrets"][0]["applied"].is_null(), "{told}");
    agent.run();
    hub.admin()
        .await_rollout("uplink", "one of two", |rollout| rollout["applied"] == 1);
    let table = operator.ok(&["rollout", "uplink"], "");
    assert!(
        table.contains("edge-01") && table.contains("edge-02"),
        "{table}"
    );
}

fn versions_are_listed_and_an_old_one_comes_back() {
    let (hub, agent) = delivered("one");
    let operator = hub.operator();
    let file = agent.consumer(URL, "main").join("myCloudServiceCred");
    operator.set("cloudServiceXYZSecret", "two");
    wait::content(&file, b"two");
    let versions = operator.json(&["secret", "versions", "cloudServiceXYZSecret"]);
    let versions = versions.as_array().expect("a list");
    assert_eq!(versions.len(), 2);
    assert_eq!(
        (&versions[0]["version"], &versions[0]["current"]),
        (&json!("2"), &json!(true))
    );
    let restore = ["secret", "restore", "cloudServiceXYZSecret", "--version"];
    let told = operator.json(&[&restore[..], &["1"]].concat());
    assert_eq!(told["version"], "3", "{told}");
    wait::content(&file, b"one");
    let versions = operator.json(&["secret", "versions", "cloudServiceXYZSecret"]);
    assert_eq!(versions[0]["restored_from"], "1", "{versions}");
    let ended = operator.run(&[&restore[..], &["9"]].concat(), "");
    assert_eq!(ended.code, 1, "{ended:?}");
}

fn a_policy_that_leaves_a_secret_unbound_is_refused() {
    let hub = TestHub::start();
    let operator = hub.operator();
    operator.set("there", "x");
    operator.publish_service(&plain_service(URL, &["first", "second", "third"]));
    let refused = |policy: Value| {
        let ended = operator.run(&["policy", "publish", "p", "-"], policy.to_string());
        assert_eq!(ended.code, 1, "{ended:?}");
        ended.stderr
    };
    let said = refused(policy(URL, &[], &[("first", "there")]));
    assert!(
        said.contains("second") && said.contains("third"),
        "every name: {said}"
    );
    let bound = [
        ("first", "there"),
        ("second", "absent1"),
        ("third", "absent2"),
    ];
    let said = refused(policy(URL, &[], &bound));
    assert!(
        said.contains("absent1") && said.contains("absent2"),
        "every reference: {said}"
    );
    let said = refused(policy("com.example.unknown", &[], &[]));
    assert!(said.contains("com.example.unknown"), "{said}");
    assert_eq!(operator.json(&["policy", "list"]), json!([]));
    // An extra binding is odd, but allowed.
    let bound = [
        ("first", "there"),
        ("second", "there"),
        ("third", "there"),
        ("extra", "there"),
    ];
    let ended = operator.run(
        &["policy", "publish", "p", "-"],
        policy(URL, &[], &bound).to_string(),
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!((ended.stdout + &ended.stderr).contains("extra"));
}

fn malformed_documents_are_refused_with_line_and_reason() {
    let hub = TestHub::start();
    let operator = hub.operator();
    operator.set("s", "x");
    operator.publish_service(&plain_service(URL, &["a"]));
    let place = tempfile::tempdir().expect("a place");
    let refused = |kind: &str, text: &str| {
        let file = place.path().join("document.json");
        fs::write(&file, text).expect("written");
        let path = file.to_str().expect("a plain path");
        let ended = match kind {
            "service" => operator.run(&["service", "publish", path], ""),
            _ => operator.run(&["policy", "publish", "p", path], ""),
        };
        assert!(matches!(ended.code, 1 | 64), "{ended:?}");
        assert!(
            ended.stderr.contains("document.json"),
            "it names the file: {ended:?}"
        );
        ended.stderr
    };
    let said = refused(
        "policy",
        "{\n  \"service\": {\n    \"name\": oops\n  }\n}\n",
    );
    assert!(said.contains('3'), "the line: {said}");
    let said = refused("service", "url: x\nversion: [\n");
    assert!(said.contains('2') || said.contains('3'), "the line: {said}");
    let mut bad = policy(URL, &["site == berlin AND (tier = prod"], &[("a", "s")]);
    let said = refused("policy", &bad.to_string());
    assert!(said.contains("constraints[0]"), "the place: {said}");
    bad["constraints"] = json!([]);
    bad["secretBinding"][0]["serviceVersionRange"] = "[1.0".into();
    let said = refused("policy", &bad.to_string());
    assert!(said.contains("secretBinding[0]"), "the place: {said}");
    bad["secretBinding"][0]["serviceVersionRange"] = "".into();
    bad["secretBinding"][0]["secrets"] = json!([{ "a": "s", "b": "s" }]);
    let said = refused("policy", &bad.to_string());
    assert!(
        said.contains("secretBinding[0].secrets[0]"),
        "the place: {said}"
    );
    refused("service", "");
    refused("policy", "just text");
    assert_eq!(operator.json(&["policy", "list"]), json!([]));
}

fn documents_of_open_horizon_are_accepted_unchanged() {
    let hub = TestHub::start();
    let operator = hub.operator();
    operator.set("cloudServiceXYZSecret", "one");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/uplink");
    let path = |name: &str| format!("{root}/{name}");
    operator.ok(&["service", "publish", &path("service.json")], "");
    operator.ok(&["policy", "publish", "uplink", &path("policy.json")], "");
    // The same as YAML.
    let text = fs::read_to_string(path("policy.json")).expect("readable");
    let value: Value = serde_json::from_str(&text).expect("JSON");
    operator.ok(
        &["policy", "publish", "again", "-"],
        serde_yaml::to_string(&value).expect("YAML"),
    );
    let kept = operator.json(&["policy", "show", "uplink"]);
    assert_eq!(
        kept["service"]["nodeHealth"], value["service"]["nodeHealth"],
        "{kept}"
    );
    assert_eq!(kept["userInput"], value["userInput"], "{kept}");
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let policy_file = path("node.policy.json");
    agent.reconfigure(|config| config["node"]["policy_file"] = policy_file.clone().into());
    agent.run();
    let dir = agent.consumer(URL, "uplink");
    let read: Value =
        serde_json::from_slice(&wait::file(&dir.join("myCloudServiceCred"))).expect("JSON");
    assert_eq!(read, json!({ "value": "one" }));
}

fn an_absent_hub_and_wrong_usage_have_their_exit_codes() {
    let mut hub = TestHub::start();
    let operator = hub.operator();
    for args in [
        &["nonsense"][..],
        &["secret", "set"],
        &["secret", "set", "x", "--value", "hunter2"],
        &["node", "token", "edge-01", "--ttl", "soon"],
        &["secret", "set", "a b", "--value-file", "-"],
    ] {
        let ended = operator.run(args, "x");
        assert_eq!(ended.code, 64, "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty());
    }
    let denied = hub
        .user("bob", "user")
        .run(&["node", "revoke", "edge-01"], "");
    assert_eq!(denied.code, 77, "{denied:?}");
    hub.kill();
    let ended = operator.run(&["node", "list"], "");
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(
        ended.stderr.contains(&hub.port().to_string()),
        "it says where: {ended:?}"
    );
    let nowhere = edge_secrets_tests::Operator::new(&hub.place().join("nowhere.yaml"));
    let ended = nowhere.run(&["node", "list"], "");
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(ended.stderr.contains("nowhere.yaml"), "{ended:?}");
}

fn lists_come_as_tables_json_and_yaml() {
    let (hub, _agent) = delivered("one");
    let operator = hub.operator();
    for list in [
        &["secret", "list"][..],
        &["service", "list"],
        &["policy", "list"],
        &["node", "list"],
        &["user", "list"],
        &["audit"],
    ] {
        let json = operator.json(list);
        assert!(
            json.as_array().is_some_and(|list| !list.is_empty()),
            "{list:?}: {json}"
        );
        let yaml = operator.ok(&[list, &["-o", "yaml"]].concat(), "");
        let yaml: Value = serde_yaml::from_str(&yaml).expect("YAML");
        if list != ["audit"] {
            assert_eq!(json, yaml, "{list:?}");
        }
        let table = operator.ok(list, "");
        assert!(
            table.lines().count() > 1 && !table.contains('\u{1b}'),
            "{list:?}: {table}"
        );
    }
    let prefix = operator.json(&["secret", "list", "cloud"]);
    assert_eq!(prefix.as_array().map(Vec::len), Some(1));
    assert_eq!(operator.json(&["secret", "list", "nothing"]), json!([]));
}

fn generations(nodes: &Value) -> Vec<Value> {
    let nodes = nodes.as_array().expect("a list");
    nodes
        .iter()
        .map(|node| node["generation"].clone())
        .collect()
}
