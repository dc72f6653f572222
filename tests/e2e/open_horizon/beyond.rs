//! Cases that Open Horizon's tests lack, and what its code gets wrong: scopes, above all.

use edge_secrets_tests::samples::{plain_service, policy, service};
use edge_secrets_tests::{Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::secrets_manager::{add, sm_ok};
use crate::delivery::URL;

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        beyond_a_node_level_secret_is_followed_in_both_scopes,
        beyond_the_same_short_name_in_two_scopes_is_two_secrets,
        beyond_a_reference_to_one_nodes_secret_is_that_nodes_alone,
        beyond_a_users_secret_leaves_a_node_that_becomes_anothers,
        beyond_a_users_policy_is_nobody_elses_to_bind_with,
        beyond_every_containers_secrets_need_a_binding,
        beyond_one_secret_that_is_unbound_leaves_the_others,
        beyond_two_updates_in_one_second_are_two_versions,
        beyond_nobody_sees_into_another_organisation,
    ]
}

/// Puts one service with one secret everywhere, as `owner`.
fn bind(owner: &Operator, reference: &str, node_level: bool) {
    let mut policy = policy(URL, &[], &[("cred", reference)]);
    policy["secretBinding"][0]["enableNodeLevelSecrets"] = node_level.into();
    owner.publish_policy("uplink", &policy);
}

fn cred(agent: &TestAgent) -> std::path::PathBuf {
    agent.consumer(URL, "main").join("cred")
}

/// A running node that this user owns.
fn owned(hub: &TestHub, node: &str, owner: &str) -> TestAgent {
    let mut agent = TestAgent::new(hub, node, &[]);
    let ended = agent.enrol(&token_for(hub, node, owner));
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.run();
    agent
}

fn token_for(hub: &TestHub, node: &str, owner: &str) -> String {
    let answer = hub
        .operator()
        .json(&["node", "token", node, "--owner", owner]);
    answer["token"].as_str().expect("a token").to_owned()
}

fn await_blocked(hub: &TestHub, node: &str) {
    hub.admin()
        .await_rollout("uplink", "it is blocked there", |rollout| {
            let nodes = rollout["nodes"].as_array().expect("a list");
            let blocked = |one: &Value| one["node"] == node && one["state"] == "blocked";
            nodes.iter().any(blocked)
        });
}

fn beyond_a_node_level_secret_is_followed_in_both_scopes() {
    let hub = TestHub::start();
    let alice = hub.user("alice", "user");
    hub.operator()
        .publish_service(&plain_service(URL, &["cred"]));
    for (who, scope) in [(&hub.operator(), ""), (&alice, "user/alice/")] {
        let node = format!("n{}", scope.len());
        let agent = owned(&hub, &node, "alice");
        let general = format!("{scope}team/db");
        add(who, &general, "k", "general");
        bind(who, &general, true);
        let file = cred(&agent);
        wait::content(&file, b"general");
        // Made, replaced, and removed again, for this node and another.
        sm_ok(
            who,
            &["add", "--secretKey", "k", "-f-", "-n", "another", &general],
            "another's",
        );
        for value in ["first", "second"] {
            let args = [
                "add",
                "--secretKey",
                "k",
                "-O",
                "-f-",
                "-n",
                &node,
                &general,
            ];
            sm_ok(who, &args, value);
            wait::content(&file, value.as_bytes());
        }
        add(who, &general, "k", "newer");
        sm_ok(who, &["rm", "-f", "-n", &node, &general], "");
        wait::content(&file, b"newer");
        who.ok(&["policy", "rm", "uplink"], "");
        wait::gone(&file);
    }
}

fn beyond_the_same_short_name_in_two_scopes_is_two_secrets() {
    let hub = TestHub::start();
    let alice = hub.user("alice", "user");
    let agent = owned(&hub, "hers", "alice");
    add(&hub.operator(), "db", "k", "org one");
    add(&alice, "user/alice/db", "k", "hers one");
    hub.operator()
        .publish_service(&plain_service(URL, &["own", "shared"]));
    let bound = [("own", "user/alice/db"), ("shared", "db")];
    alice.publish_policy("uplink", &policy(URL, &[], &bound));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("own"), b"hers one");
    wait::content(&dir.join("shared"), b"org one");
    // A rotation of one is none of the other, and its removal neither.
    add(&alice, "user/alice/db", "k", "hers two");
    wait::content(&dir.join("own"), b"hers two");
    hub.await_rollout("uplink", 1);
    assert_eq!(
        std::fs::read(dir.join("shared")).expect("readable"),
        b"org one"
    );
    sm_ok(&alice, &["rm", "-f", "user/alice/db"], "");
    await_blocked(&hub, "hers");
    add(&hub.operator(), "db", "k", "org two");
    let told = hub.operator().json(&["explain", "hers", URL]);
    let secrets = told["verdicts"][0]["deployment"]["secrets"]
        .as_array()
        .expect("secrets");
    let state = |name: &str| {
        secrets
            .iter()
            .find(|secret| secret["name"] == name)
            .expect("a secret")["state"]
            .clone()
    };
    assert_eq!(
        (state("own"), state("shared")),
        (json!("missing"), json!("ready")),
        "{told}"
    );
}

fn beyond_a_reference_to_one_nodes_secret_is_that_nodes_alone() {
    let hub = TestHub::start();
    let admin = hub.operator();
    let one = TestAgent::start(&hub, "edge-01", &[]);
    let two = TestAgent::start(&hub, "edge-02", &[]);
    add(&admin, "db", "k", "general");
    add(&admin, "node/edge-01/db", "k", "of edge-01");
    admin.publish_service(&plain_service(URL, &["cred"]));
    bind(&admin, "node/edge-01/db", false);
    wait::content(&cred(&one), b"of edge-01");
    await_blocked(&hub, "edge-02");
    assert!(
        !cred(&two).exists(),
        "neither the other node's nor the organisation's"
    );
    // Nor by asking for it.
    let mut thief = hub.raw_node("edge-03", &[]);
    let item = edge_secrets_tests::node::item(URL, "cred", "1");
    let refused = thief.fetch_one(&item).err().expect("denied");
    assert_eq!(refused["code"], "denied", "{refused}");
}

fn beyond_a_users_secret_leaves_a_node_that_becomes_anothers() {
    let hub = TestHub::start();
    let alice = hub.user("alice", "user");
    let _bob = hub.user("bob", "user");
    let mut agent = owned(&hub, "edge-01", "alice");
    add(&alice, "user/alice/db", "k", "hers");
    hub.operator()
        .publish_service(&plain_service(URL, &["cred"]));
    bind(&alice, "user/alice/db", false);
    wait::content(&cred(&agent), b"hers");
    agent.stop();
    // The rights are looked at with every pull and fetch: the files are the former owner's still, and
    // the next start takes them away.
    let ended = agent.enrol_anew(&token_for(&hub, "edge-01", "bob"));
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.run();
    wait::gone(&cred(&agent));
    await_blocked(&hub, "edge-01");
}

fn beyond_a_users_policy_is_nobody_elses_to_bind_with() {
    let hub = TestHub::start();
    let (alice, bob) = (hub.user("alice", "user"), hub.user("bob", "user"));
    add(&alice, "user/alice/db", "k", "hers");
    hub.operator()
        .publish_service(&plain_service(URL, &["cred"]));
    for reference in ["user/alice/db", "user/alice/node/edge-01/db"] {
        let text = policy(URL, &[], &[("cred", reference)]).to_string();
        for other in [&bob, &hub.operator()] {
            for args in [
                &["policy", "publish", "steal", "-"][..],
                &["policy", "publish", "steal", "-", "--allow-missing"],
                &["policy", "publish", "steal", "-", "--dry-run"],
            ] {
                let ended = other.run(args, &text);
                assert_ne!(ended.code, 0, "{ended:?}");
                assert!(ended.stderr.contains("private to user alice"), "{ended:?}");
            }
        }
    }
}

fn beyond_every_containers_secrets_need_a_binding() {
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, "db", "k", "v");
    let last = [("bound", Some("value_only")), ("unbound2", None)];
    admin.publish_service(&service(
        URL,
        "1.0.0",
        &[
            ("front", &[("bound", None)]),
            ("middle", &[("unbound1", None)]),
            ("zback", &last),
        ],
    ));
    let text = policy(URL, &[], &[("bound", "db")]).to_string();
    let ended = admin.run(&["policy", "publish", "uplink", "-"], text);
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("[unbound1, unbound2]"), "{ended:?}");
}

fn beyond_one_secret_that_is_unbound_leaves_the_others() {
    let hub = TestHub::start();
    let admin = hub.operator();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    add(&admin, "one", "k", "1");
    add(&admin, "two", "k", "2");
    let both = [("first", "one"), ("second", "two")];
    admin.publish_service(&plain_service(URL, &["first", "second"]));
    admin.publish_policy("uplink", &policy(URL, &[], &both));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("second"), b"2");
    admin.publish_service(&plain_service(URL, &["first"]));
    wait::gone(&dir.join("second"));
    assert_eq!(std::fs::read(dir.join("first")).expect("it stays"), b"1");
}

fn beyond_two_updates_in_one_second_are_two_versions() {
    let hub = TestHub::start();
    let admin = hub.operator();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    add(&admin, "db", "k", "0");
    admin.publish_service(&plain_service(URL, &["cred"]));
    bind(&admin, "db", false);
    wait::content(&cred(&agent), b"0");
    // Over one connection: far more of them than one in a second.
    let mut api = hub.admin();
    for round in 1..=20 {
        api.set("db", format!("{round}").as_bytes());
    }
    wait::content(&cred(&agent), b"20");
    let versions = admin.json(&["secret", "versions", "db"]);
    assert_eq!(versions.as_array().map(Vec::len), Some(21));
}

fn beyond_nobody_sees_into_another_organisation() {
    let hub = TestHub::start();
    let mut admin = hub.admin();
    for path in [
        "secrets", "services", "policies", "nodes", "users", "audit", "leases",
    ] {
        let answer = admin
            .client
            .get(&format!("/v1/orgs/other/{path}"))
            .expect("an answer");
        assert_eq!(answer.status, 403, "{path}");
    }
    let mut node = hub.raw_node("edge-01", &[]);
    let answer = node
        .client
        .get("/v1/orgs/myorg/secrets")
        .expect("an answer");
    assert_eq!(answer.status, 403, "nodes are no operators");
}
