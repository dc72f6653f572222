//! IBM Cloud Secrets Manager: values that all may share, and keys that a read ends.

use std::fs;
use std::time::Duration;

use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, Operator, TestAgent, TestHub, TestIbm, wait};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    URL, another, await_trouble, await_well, bind, bind_at, explained, file, node_at, text,
};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        values_of_each_type_reach_their_nodes_and_are_read_once_for_all,
        a_made_key_is_for_one_node_until_its_deployment_goes,
        a_reused_key_is_shared_where_that_was_chosen,
        a_reused_key_is_for_one_node_where_it_was_not,
        a_locked_secret_says_so_and_holds_up_nothing_else,
        a_shared_key_whose_reads_begin_to_end_it_is_not_read_any_more,
        a_key_for_one_node_becomes_one_for_all_and_works,
        the_engine_is_configured_from_our_side_and_its_key_stays_nowhere,
    ]
}

const KEY: &str = "ibm:default/iam_credentials/edge01-cos";

/// A hub over an instance of which the organisation may reach these paths.
fn hub_over(ibm: &TestIbm, paths: &[&str], share_reused: bool) -> TestHub {
    TestHub::configured(|config| {
        ibm.configure(config, paths);
        let kind = &mut config["managers"][0]["ibm_cloud"];
        kind["share_reused"] = share_reused.into();
    })
}

/// Has a secret made that makes keys; its id. With it IBM makes a first key, which nobody gets.
fn create(ibm: &TestIbm, operator: &Operator, more: &[&'static str]) -> String {
    let args = [
        &["secret", "create", KEY, "--type", "iam-credentials"][..],
        &["--access-group", "AccessGroupId-edge", "--ttl", "12h"],
        &["--label", "edge"],
        more,
    ]
    .concat();
    // For nothing that the hub's configuration does not list.
    let of_root = |word: &&'static str| match *word {
        "AccessGroupId-edge" => "AccessGroupId-root",
        word => word,
    };
    let other: Vec<_> = args.iter().map(of_root).collect();
    let refused = operator.run(&other, "");
    assert!(refused.stderr.contains("`access_groups`"), "{refused:?}");
    operator.ok(&args, "");
    assert_eq!(ibm.minted(), 1);
    ibm.newest()
}

/// Does everything that an operator can do to look.
fn look(operator: &Operator) {
    for args in [
        &["secret", "show", KEY][..],
        &["secret", "versions", KEY],
        &["secret", "list", "ibm:default/"],
        &[
            "secret",
            "list",
            "ibm:default/iam_credentials/",
            "--label",
            "edge",
        ],
        &["secret", "list", "ibm:default/", "--search", "cos"],
        &["manager", "check", "ibm"],
        &["manager", "list"],
        &["lease", "list"],
    ] {
        operator.ok(args, "");
    }
    let refused = operator.run(&["secret", "show", KEY, "--reveal"], "");
    assert_ne!(refused.code, 0, "{refused:?}");
}

fn values_of_each_type_reach_their_nodes_and_are_read_once_for_all() {
    let ibm = TestIbm::start();
    let cos = json!({ "secret_type": "arbitrary", "name": "cos", "payload": "one" });
    let cos = ibm.seed(&cos);
    let data = json!({ "region": "eu-de", "limits": { "objects": 7 } });
    ibm.seed(&json!({ "secret_type": "kv", "name": "settings", "data": data }));
    let user = json!({ "username": "uplink", "password": "first" });
    let named = json!({ "secret_type": "username_password", "name": "db" });
    let (mut db, user) = (named, user);
    for (name, value) in user.as_object().expect("members") {
        db[name] = value.clone();
    }
    let db = ibm.seed(&db);
    let paths = [
        "default/arbitrary",
        "default/kv",
        "default/username_password",
    ];
    let hub = hub_over(&ibm, &paths, false);
    let agents = ["edge-01", "edge-02"].map(|node| TestAgent::start(&hub, node, &[]));
    let operator = hub.operator();
    let bindings = [
        ("cos", "ibm:default/arbitrary/cos"),
        ("region", "ibm:default/kv/settings#region"),
        ("limits", "ibm:default/kv/settings#limits"),
        ("username", "ibm:default/username_password/db#username"),
        ("password", "ibm:default/username_password/db#password"),
    ];
    bind(&operator, "uplink", URL, &bindings);
    for agent in &agents {
        wait::content(&file(agent, "cos"), b"one");
        wait::content(&file(agent, "region"), b"eu-de");
        wait::content(&file(agent, "limits"), br#"{"objects":7}"#);
        wait::content(&file(agent, "username"), b"uplink");
        wait::content(&file(agent, "password"), b"first");
    }
    assert_eq!(ibm.given(), 3, "each once, for two nodes and all fields");
    // Changed there: seen here.
    ibm.rotate(&cos, &json!({ "payload": "two" }));
    ibm.rotate(&db, &json!({ "username": "uplink", "password": "second" }));
    for agent in &agents {
        wait::content(&file(agent, "cos"), b"two");
        wait::content(&file(agent, "password"), b"second");
    }
    hub.await_rollout("uplink", 2);
    assert_eq!(ibm.given(), 5, "and once again what changed");
    // Set from our side, where the hub may write.
    let args = [
        "secret",
        "set",
        "ibm:default/arbitrary/cos",
        "--value-file",
        "-",
    ];
    operator.ok(&args, "three");
    for agent in &agents {
        wait::content(&file(agent, "cos"), b"three");
    }
}

fn a_made_key_is_for_one_node_until_its_deployment_goes() {
    let ibm = TestIbm::start();
    let hub = hub_over(&ibm, &["default/iam_credentials"], false);
    let (one, two) = (
        node_at(&hub, "edge-01", "one"),
        node_at(&hub, "edge-02", "two"),
    );
    let operator = hub.operator();
    let id = create(&ibm, &operator, &[]);
    let made = ibm.with(|ibm| ibm.secret(&id).clone());
    assert_eq!((made.reuse, made.ttl.as_deref()), (false, Some("43200")));
    assert_eq!(made.labels, ["edge"]);
    assert_eq!(made.access_groups, ["AccessGroupId-edge"]);
    look(&operator);
    let shown = operator.json(&["secret", "show", KEY]);
    assert_eq!(shown["effect"], "mints_and_invalidates");
    let said = bind_at(&operator, "one", &[("key", KEY)]);
    assert!(said.contains("for one node alone"), "{said}");
    let key = text(&one, "key");
    assert!(ibm.key_works(&key));
    assert_eq!(ibm.minted(), 2, "the one that came with it, and the node's");
    // Whoever else is bound to it is told, and nothing that anybody does to look makes another one.
    bind_at(&operator, "two", &[("key", KEY)]);
    await_trouble(&hub, "two", "exclusive");
    assert_eq!(explained(&operator, "edge-02"), "exclusive");
    let rollout = operator.json(&["rollout", "two"]);
    assert_eq!(rollout["nodes"][0]["secrets"][0]["state"], "denied");
    let error = rollout["nodes"][0]["error"]["detail"].as_str();
    assert!(error.expect("a reason").contains("exclusive"), "{rollout}");
    look(&operator);
    ibm.asked_again(&hub.log(), 3);
    assert_eq!(ibm.minted(), 2);
    assert!(ibm.key_works(&key));
    assert!(!file(&two, "key").exists());
    assert_eq!(ibm.given(), 2, "with the secret's making, and to deliver");
    // It dies with its deployment, and who waits for it has its turn.
    operator.ok(&["policy", "rm", "one"], "");
    wait::gone(&file(&one, "key"));
    ibm.until(&hub.log(), "the key is dead", |ibm| !ibm.key_works(&key));
    let own = text(&two, "key");
    assert_ne!(own, key);
    assert!(ibm.key_works(&own));
    assert_eq!(ibm.minted(), 3);
    await_well(&hub, "two");
    operator.ok(&["policy", "rm", "two"], "");
    ibm.until(&hub.log(), "its key is dead", |ibm| !ibm.key_works(&own));
    assert_eq!(ibm.minted(), 3);
}

fn a_reused_key_is_shared_where_that_was_chosen() {
    let ibm = TestIbm::start();
    let hub = hub_over(&ibm, &["default/iam_credentials"], true);
    let agents = ["edge-01", "edge-02"].map(|node| TestAgent::start(&hub, node, &[]));
    let operator = hub.operator();
    let id = create(&ibm, &operator, &["--reuse"]);
    assert!(ibm.with(|ibm| ibm.secret(&id).reuse));
    assert_eq!(operator.json(&["secret", "show", KEY])["effect"], "pure");
    bind(&operator, "uplink", URL, &[("key", KEY)]);
    hub.await_rollout("uplink", 2);
    let key = text(&agents[0], "key");
    assert_eq!(text(&agents[1], "key"), key);
    assert!(ibm.key_works(&key));
    assert_eq!(ibm.minted(), 1, "one key for both");
    // Rotated there: both change over, and the old one lives until then.
    ibm.rotate(&id, &json!({}));
    let next = another(&agents[0], "key", &key);
    assert_eq!(another(&agents[1], "key", &key), next);
    assert!(ibm.key_works(&next));
    assert_eq!(ibm.minted(), 2);
    // It is not one node's to end.
    operator.ok(&["node", "revoke", "edge-01"], "");
    wait::gone(&file(&agents[0], "key"));
    operator.ok(&["policy", "rm", "uplink"], "");
    wait::gone(&file(&agents[1], "key"));
    assert_eq!(operator.json(&["lease", "list", "--ended"]), json!([]));
    assert!(ibm.key_works(&next));
}

fn a_reused_key_is_for_one_node_where_it_was_not() {
    let ibm = TestIbm::start();
    let hub = hub_over(&ibm, &["default/iam_credentials"], false);
    let agents = ["edge-01", "edge-02"].map(|node| TestAgent::start(&hub, node, &[]));
    let operator = hub.operator();
    create(&ibm, &operator, &["--reuse"]);
    let shown = operator.json(&["secret", "show", KEY]);
    assert_eq!(shown["effect"], "mints_and_invalidates");
    let note = shown["notes"][0].as_str().expect("a note");
    assert!(note.contains("share_reused"), "{shown}");
    bind(&operator, "uplink", URL, &[("key", KEY)]);
    let what = "one has it, the other is told why it has not";
    hub.admin().await_rollout("uplink", what, |rollout| {
        let nodes = rollout["nodes"].as_array().expect("nodes");
        let refused =
            |node: &&serde_json::Value| node["secrets"][0]["trouble"]["fault"] == "exclusive";
        rollout["total"] == 2
            && rollout["applied"] == 1
            && nodes.iter().filter(refused).count() == 1
    });
    let there = agents.iter().filter(|agent| file(agent, "key").exists());
    assert_eq!(there.count(), 1);
}

fn a_locked_secret_says_so_and_holds_up_nothing_else() {
    let ibm = TestIbm::start();
    let paths = ["default/iam_credentials", "default/arbitrary"];
    let hub = hub_over(&ibm, &paths, false);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    let cos = ibm.seed(&json!({ "secret_type": "arbitrary", "name": "cos", "payload": "one" }));
    let id = {
        let id = create(&ibm, &operator, &[]);
        ibm.with(|ibm| ibm.secret(&id).locks.push("audit".into()));
        id
    };
    bind(&operator, "uplink", URL, &[("key", KEY)]);
    wait::until(&hub.log(), "operators read that it is locked", || {
        explained(&operator, "edge-01") == "locked"
    });
    let shown = operator.json(&["secret", "show", KEY]);
    let note = shown["notes"][0].as_str().expect("a note");
    assert!(note.contains("locked"), "{shown}");
    let leases = operator.json(&["lease", "list"]);
    assert_eq!(leases[0]["trouble"]["fault"], "locked", "{leases}");
    let other = "com.example.other";
    bind(
        &operator,
        "other",
        other,
        &[("cos", "ibm:default/arbitrary/cos")],
    );
    let cos_file = agent.consumer(other, "main").join("cos");
    wait::content(&cos_file, b"one");
    assert_eq!(ibm.minted(), 1, "nothing was made of what is locked");
    assert!(!file(&agent, "key").exists());
    let unlock = |ibm: &TestIbm| ibm.with(|ibm| ibm.secret(&id).locks.clear());
    unlock(&ibm);
    let key = text(&agent, "key");
    await_well(&hub, "uplink");
    // Locked while a node has its key: that cannot be ended now, and stays until it can.
    ibm.with(|ibm| ibm.secret(&id).locks.push("audit".into()));
    let leases = operator.json(&["lease", "list"]);
    operator.ok(&["lease", "revoke", &leases[0]["id"].to_string()], "");
    wait::until(&hub.log(), "the end is refused", || {
        let leases = operator.json(&["lease", "list"]);
        let mut leases = leases.as_array().expect("leases").iter();
        leases.any(|lease| lease["state"] == "ending" && lease["trouble"]["fault"] == "locked")
    });
    ibm.rotate(&cos, &json!({ "payload": "two" }));
    wait::content(&cos_file, b"two");
    assert_eq!(
        fs::read_to_string(file(&agent, "key")).expect("it stays"),
        key
    );
    assert!(ibm.key_works(&key));
    assert_eq!(ibm.minted(), 2);
    unlock(&ibm);
    let next = another(&agent, "key", &key);
    assert!(ibm.key_works(&next) && !ibm.key_works(&key));
    assert_eq!(ibm.minted(), 3);
}

fn a_shared_key_whose_reads_begin_to_end_it_is_not_read_any_more() {
    let ibm = TestIbm::start();
    let hub = TestHub::configured(|config| {
        ibm.configure(config, &["default/iam_credentials"]);
        config["managers"][0]["ibm_cloud"]["share_reused"] = true.into();
        // Whoever comes has to have it read.
        config["managers"][0]["cache"] = "0s".into();
    });
    let agents = ["edge-01", "edge-02"].map(|node| TestAgent::start(&hub, node, &[]));
    let operator = hub.operator();
    let id = create(&ibm, &operator, &["--reuse"]);
    bind(&operator, "uplink", URL, &[("key", KEY)]);
    hub.await_rollout("uplink", 2);
    let key = text(&agents[0], "key");
    ibm.set_reuse(&id, false);
    await_trouble(&hub, "uplink", "exclusive");
    assert_eq!(explained(&operator, "edge-01"), "exclusive");
    let late = TestAgent::start(&hub, "edge-03", &[]);
    let refused = [("action", "secret.fetch"), ("result", "denied")];
    wait::until(&hub.log(), "the third is refused", || {
        !operator.audit(&refused).is_empty()
    });
    ibm.asked_again(&hub.log(), 2);
    assert_eq!(ibm.minted(), 1);
    assert!(ibm.key_works(&key));
    assert!(!file(&late, "key").exists());
    for agent in &agents {
        assert_eq!(
            fs::read_to_string(file(agent, "key")).expect("it stays"),
            key
        );
    }
    // Changed back: it is the same key for all three.
    ibm.set_reuse(&id, true);
    // By itself it asks less and less often, in the end every five minutes.
    let there = file(&late, "key");
    for _ in 0..6 {
        late.signal(Signal::SIGHUP);
        if wait::within(&there, Duration::from_secs(20), &mut || there.exists()) {
            break;
        }
    }
    assert_eq!(text(&late, "key"), key);
    await_well(&hub, "uplink");
    assert_eq!(ibm.minted(), 1);
}

fn a_key_for_one_node_becomes_one_for_all_and_works() {
    let ibm = TestIbm::start();
    let hub = hub_over(&ibm, &["default/iam_credentials"], true);
    let (one, two) = (
        node_at(&hub, "edge-01", "one"),
        node_at(&hub, "edge-02", "two"),
    );
    let operator = hub.operator();
    let id = create(&ibm, &operator, &[]);
    bind_at(&operator, "one", &[("key", KEY)]);
    text(&one, "key");
    bind_at(&operator, "two", &[("key", KEY)]);
    await_trouble(&hub, "two", "exclusive");
    ibm.set_reuse(&id, true);
    text(&two, "key");
    for policy in ["one", "two"] {
        await_well(&hub, policy);
    }
    wait::until(&hub.log(), "the lease is over", || {
        operator.json(&["lease", "list"]) == json!([])
    });
    let (first, second) = (text(&one, "key"), text(&two, "key"));
    assert_eq!(first, second);
    assert!(
        ibm.key_works(&first),
        "what nodes share was not ended with a lease"
    );
}

fn the_engine_is_configured_from_our_side_and_its_key_stays_nowhere() {
    let ibm = TestIbm::start();
    let hub = hub_over(&ibm, &["*"], false);
    let (canary, operator) = (Canary::new(), hub.operator());
    let args = ["manager", "engine", "ibm", "--api-key-file", "-"];
    let said = operator.ok(&args, canary.word());
    let set = ibm.with(|ibm| ibm.configurations.get("edge-secrets").cloned());
    let set = set.expect("the instance has an engine").to_string();
    assert!(set.contains(canary.word()), "it is the key that was given");
    let scanner = Scanner::new(&[&canary]);
    let told = format!("{said}{}", operator.ok(&["audit"], ""));
    scanner
        .text(told.as_bytes(), "the commands' output")
        .assert_clean("commands");
    scanner
        .files(hub.place())
        .assert_clean("the hub's files and log");
}
