//! Vault: its KV store, its database engine, and what becomes of leases.

use std::fs;
use std::sync::{Arc, Mutex};

use edge_secrets_fakes::vault::{Event, Role};
use edge_secrets_tests::samples::{plain_service, policy, service};
use edge_secrets_tests::{Postgres, TestAgent, TestHub, TestVault, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{URL, bind, file};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = crate::trials![
        a_secret_of_vault_reaches_its_nodes_and_is_read_once_for_all,
        an_open_horizon_installation_is_adopted_as_it_is,
        every_node_gets_a_credential_of_its_own_that_dies_with_its_deployment,
        a_killed_hub_goes_on_with_its_leases,
        a_lease_that_nobody_renews_ends_on_the_node_without_the_hub,
        a_manager_in_trouble_takes_nothing_away_and_blocks_nothing_else,
        a_path_of_another_organisation_is_refused,
        a_webhook_is_heard_at_once,
        the_default_manager_is_meant_where_none_is_named,
        an_operator_looks_at_managers_and_leases,
    ];
    let name = "managers::vault::a_database_user_lives_as_long_as_its_deployment";
    trials.push(
        crate::trial(name, a_database_user_lives_as_long_as_its_deployment)
            .with_kind("needs PostgreSQL")
            .with_ignored_flag(Postgres::programs().is_none()),
    );
    trials
}

/// A hub over a Vault of which the organisation may reach these paths.
fn hub_over(vault: &TestVault, paths: &[&str]) -> TestHub {
    TestHub::configured(|config| vault.configure(config, paths))
}

fn a_secret_of_vault_reaches_its_nodes_and_is_read_once_for_all() {
    let vault = TestVault::start();
    vault.put(
        "team/db",
        &json!({ "username": "uplink", "password": "one" }),
    );
    let hub = hub_over(&vault, &["secret/team"]);
    let agents: Vec<_> = ["edge-01", "edge-02", "edge-03"]
        .iter()
        .map(|node| TestAgent::start(&hub, node, &[]))
        .collect();
    let bindings = [
        ("password", "vault:team/db#password"),
        ("username", "vault:team/db#username"),
    ];
    bind(&hub.operator(), "uplink", URL, &bindings);
    for agent in &agents {
        wait::content(&file(agent, "password"), b"one");
        wait::content(&file(agent, "username"), b"uplink");
    }
    assert_eq!(
        vault.counted().0,
        1,
        "one read for three nodes and two fields"
    );
    vault.put(
        "team/db",
        &json!({ "username": "uplink", "password": "two" }),
    );
    for agent in &agents {
        wait::content(&file(agent, "password"), b"two");
    }
    hub.await_rollout("uplink", 3);
    assert_eq!(vault.counted().0, 2, "and one for the next version");
    // Written from our side, where the manager's policy lets the hub.
    let set = json!({ "username": "uplink", "password": "three" }).to_string();
    let args = ["secret", "set", "vault:team/db", "--from-file", "-"];
    hub.operator().ok(&args, set);
    for agent in &agents {
        wait::content(&file(agent, "password"), b"three");
    }
    // Deleted at its manager: nothing that is delivered goes away.
    vault.act("DELETE", "secret/metadata/team/db", &Value::Null);
    hub.admin()
        .await_rollout("uplink", "it is missing", |rollout| {
            rollout["nodes"][0]["error"]["code"] == "missing"
        });
    assert_eq!(
        fs::read(file(&agents[0], "password")).expect("it stays"),
        b"three"
    );
}

/// Open Horizon keeps `{"key", "value"}` at `openhorizon/data/<org>/<name>`.
fn an_open_horizon_installation_is_adopted_as_it_is() {
    let vault = TestVault::start();
    let kept = json!({ "data": { "key": "basicauth", "value": "user:pw" } });
    vault.act(
        "POST",
        "openhorizon/data/myorg/cloudServiceXYZSecret",
        &kept,
    );
    let hub = TestHub::configured(|config| {
        vault.configure(config, &["openhorizon/myorg"]);
        let mounts = json!([{ "path": "openhorizon", "type": "kv2", "root": "{org}" }]);
        config["managers"][0]["vault"]["mounts"] = serde_yaml::to_value(mounts).expect("YAML");
        config["default_managers"] =
            serde_yaml::to_value(json!({ "myorg": "vault" })).expect("YAML");
    });
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.publish_service(&service(
        URL,
        "1.0.0",
        &[("main", &[("myCloudServiceCred", None)])],
    ));
    let bindings = [("myCloudServiceCred", "cloudServiceXYZSecret")];
    operator.publish_policy("uplink", &policy(URL, &[], &bindings));
    let delivered: Value =
        serde_json::from_slice(&wait::file(&file(&agent, "myCloudServiceCred"))).expect("JSON");
    assert_eq!(delivered, json!({ "key": "basicauth", "value": "user:pw" }));
}

/// The user and password that a node has, once both are there.
pub(crate) fn credential(agent: &TestAgent) -> (String, String) {
    let read = |name| String::from_utf8(wait::file(&file(agent, name))).expect("text");
    let both = (read("username"), read("password"));
    // Both are of one generation only if neither was swapped in between.
    if both == (read("username"), read("password")) {
        both
    } else {
        credential(agent)
    }
}

pub(crate) const CREDENTIAL: [(&str, &str); 2] = [
    ("password", "vault:database/creds/app#password"),
    ("username", "vault:database/creds/app#username"),
];

fn every_node_gets_a_credential_of_its_own_that_dies_with_its_deployment() {
    let vault = TestVault::start();
    let hub = hub_over(&vault, &["database/creds/app"]);
    let (one, two) = (
        TestAgent::start(&hub, "edge-01", &[]),
        TestAgent::start(&hub, "edge-02", &[]),
    );
    bind(&hub.operator(), "uplink", URL, &CREDENTIAL);
    hub.await_rollout("uplink", 2);
    let (first, second) = (credential(&one), credential(&two));
    assert_ne!(first, second);
    for (user, password) in [&first, &second] {
        assert!(vault.user_works(user, password));
    }
    assert_eq!(
        vault.counted().1,
        2,
        "one for each node, both fields of it together"
    );
    // A revoked node loses its own, and no other's.
    hub.operator().ok(&["node", "revoke", "edge-02"], "");
    vault.until(&hub.log(), "the revoked node's is dead", |vault| {
        !vault.user_works(&second.0, &second.1)
    });
    assert!(vault.user_works(&first.0, &first.1));
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    wait::gone(&file(&one, "password"));
    vault.until(&hub.log(), "all of them are dead", |vault| {
        vault.live() == 0
    });
    assert!(!vault.user_works(&first.0, &first.1));
}

fn a_killed_hub_goes_on_with_its_leases() {
    let vault = TestVault::start();
    let mut hub = hub_over(&vault, &["database/creds/app"]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    bind(&hub.operator(), "uplink", URL, &CREDENTIAL);
    hub.await_rollout("uplink", 1);
    let (user, password) = credential(&agent);
    let logins = vault.server().with(|vault| vault.counted.logins);
    hub.kill();
    hub.serve();
    agent.await_hub("connected");
    // The same token at Vault, of which the leases are children; and the same credential.
    let listed = hub.operator().json(&["lease", "list"]);
    assert_eq!(listed[0]["state"], "live", "{listed}");
    assert!(vault.user_works(&user, &password));
    assert_eq!(vault.server().with(|vault| vault.counted.logins), logins);
    // A node that lost what it had gets another one, and the old one dies.
    let mut agent = agent;
    agent.stop();
    assert_eq!(agent.ended(&["wipe"]).code, 0);
    agent.run();
    let again = credential(&agent);
    assert_ne!(again.0, user);
    assert!(vault.user_works(&again.0, &again.1));
    vault.until(&hub.log(), "the old one is dead", |vault| vault.live() == 1);
    hub.kill();
    // Undeployed while the hub's process is gone: it is heard of once it is back.
    hub.serve();
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    vault.until(&hub.log(), "it is dead", |vault| vault.live() == 0);
}

fn a_lease_that_nobody_renews_ends_on_the_node_without_the_hub() {
    let vault = TestVault::start();
    let short = Role {
        ttl: 40,
        max_ttl: 40,
        ..Role::default()
    };
    vault
        .server()
        .with(|vault| vault.database_role("database", "app", short));
    let mut hub = hub_over(&vault, &["database/creds/app"]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    bind(&hub.operator(), "uplink", URL, &CREDENTIAL);
    hub.await_rollout("uplink", 1);
    credential(&agent);
    hub.kill();
    wait::gone(&file(&agent, "password"));
    agent.await_status("it says why", |status| {
        status["services"][0]["error"]["code"] == "expired"
    });
    // The hub is back, and so is a credential.
    hub.serve();
    let (user, password) = credential(&agent);
    assert!(vault.user_works(&user, &password));
}

fn a_manager_in_trouble_takes_nothing_away_and_blocks_nothing_else() {
    let vault = TestVault::start();
    vault.put("team/db", &json!({ "value": "one" }));
    let hub = hub_over(&vault, &["secret/team", "database/creds/app"]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    bind(&operator, "uplink", URL, &[("cred", "vault:team/db")]);
    wait::content(&file(&agent, "cred"), b"one");
    vault.server().with(|vault| vault.sealed = true);
    hub.admin()
        .await_rollout("uplink", "operators read of it", |rollout| {
            rollout["nodes"][0]["secrets"][0]["trouble"]["fault"] == "sealed"
        });
    // What is there stays, what is the hub's own goes on, and policies are published.
    operator.set("own", "of the hub");
    let other = "com.example.other";
    bind(&operator, "other", other, &[("own", "own")]);
    wait::content(&agent.consumer(other, "main").join("own"), b"of the hub");
    assert_eq!(fs::read(file(&agent, "cred")).expect("it stays"), b"one");
    let waiting = "com.example.waiting";
    bind(
        &operator,
        "waiting",
        waiting,
        &[("late", "vault:team/late")],
    );
    let checked = operator.run(&["manager", "check", "vault"], "");
    assert_ne!(checked.code, 0);
    assert!(checked.stderr.contains("sealed"), "{checked:?}");
    // Everything comes when it is over.
    vault.put("team/db", &json!({ "value": "two" }));
    vault.put("team/late", &json!({ "value": "late" }));
    vault.server().with(|vault| vault.sealed = false);
    wait::content(&file(&agent, "cred"), b"two");
    wait::content(&agent.consumer(waiting, "main").join("late"), b"late");
}

fn a_path_of_another_organisation_is_refused() {
    let vault = TestVault::start();
    vault.put("others/db", &json!({ "value": "theirs" }));
    let hub = hub_over(&vault, &["secret/team"]);
    let operator = hub.operator();
    operator.publish_service(&plain_service(URL, &["cred"]));
    for (reference, word) in [
        ("vault:others/db", "out_of_policy"),
        ("vault:team2/db", "out_of_policy"),
        ("vault:database/creds/app", "out_of_policy"),
        ("vault:secret/team/db", "invalid"),
        ("vault:team/absent", "does not exist"),
        ("elsewhere:db", "no secrets manager"),
    ] {
        let policy = policy(URL, &[], &[("cred", reference)]);
        let args = ["policy", "publish", "uplink", "-"];
        let refused = operator.run(&args, policy.to_string());
        assert_ne!(refused.code, 0, "{reference}");
        assert!(
            refused.stderr.contains(word),
            "{reference}: {}",
            refused.stderr
        );
    }
    for args in [
        ["secret", "show", "vault:others/db"],
        ["secret", "versions", "vault:others/db"],
    ] {
        let refused = operator.run(&args, "");
        assert_eq!(refused.code, 77, "{refused:?}");
    }
    assert_eq!(vault.counted().0, 0, "nothing was read");
}

fn a_webhook_is_heard_at_once() {
    let vault = TestVault::start();
    vault.put("team/db", &json!({ "value": "one" }));
    let hub = TestHub::configured(|config| {
        vault.configure(config, &["secret/team"]);
        config["managers"][0]["poll"] = "1h".into();
        config["managers"][0]["webhook_token"] = "hook-token".into();
    });
    let token = hub.data_dir().join("hook-token");
    fs::write(&token, "a-token-of-some-length").expect("a file");
    set_private(&token);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    bind(&hub.operator(), "uplink", URL, &[("cred", "vault:team/db")]);
    wait::content(&file(&agent, "cred"), b"one");
    vault.put("team/db", &json!({ "value": "two" }));
    let mut stranger = hub.stranger();
    let mut call = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        stranger
            .send(http::Method::POST, "/v1/hooks/vault", &headers, "")
            .expect("an answer")
    };
    assert_eq!(call("a-token-of-another-length").status, 403);
    assert_eq!(call("a-token-of-some-length").status, 202);
    wait::content(&file(&agent, "cred"), b"two");
}

fn set_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("private");
}

fn the_default_manager_is_meant_where_none_is_named() {
    let vault = TestVault::start();
    vault.put("team/db", &json!({ "value": "of vault" }));
    let mut hub = hub_over(&vault, &["secret/team"]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("team/db", "of the hub");
    bind(&operator, "uplink", URL, &[("cred", "team/db")]);
    wait::content(&file(&agent, "cred"), b"of the hub");
    hub.stop();
    let mut config = edge_secrets_tests::hub::read_yaml(&hub.config());
    config["default_managers"] = serde_yaml::to_value(json!({ "myorg": "vault" })).expect("YAML");
    edge_secrets_tests::hub::write_yaml(&hub.config(), &config);
    hub.serve();
    wait::content(&file(&agent, "cred"), b"of vault");
    let operator = hub.operator();
    operator.set("embedded:team/db", "of the hub again");
    bind(&operator, "uplink", URL, &[("cred", "embedded:team/db")]);
    wait::content(&file(&agent, "cred"), b"of the hub again");
}

fn an_operator_looks_at_managers_and_leases() {
    let vault = TestVault::start();
    vault.put("team/db", &json!({ "value": "one" }));
    vault.put("team/sub/more", &json!({ "value": "more" }));
    let hub = hub_over(&vault, &["secret/team", "database/creds/app"]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    let checked = operator.ok(&["manager", "check", "vault"], "");
    assert!(checked.contains("answers and knows the hub"), "{checked}");
    let managers = operator.json(&["manager", "list"]);
    assert_eq!(managers[0]["kind"], "vault");
    let listed = operator.json(&["secret", "list", "vault:team/"]);
    let names: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["vault:team/db", "vault:team/sub/"]);
    assert_eq!(
        operator.json(&["secret", "show", "vault:team/db"])["effect"],
        "pure"
    );
    let leased = operator.json(&["secret", "show", "vault:database/creds/app"]);
    assert_eq!(leased["effect"], "mints");
    let refused = operator.run(
        &["secret", "show", "vault:database/creds/app", "--reveal"],
        "",
    );
    assert_ne!(refused.code, 0);
    assert_eq!(
        vault.counted(),
        (0, 0),
        "looking reads nothing and makes nothing"
    );
    assert_eq!(
        operator.ok(&["secret", "show", "vault:team/db", "--reveal"], ""),
        "one"
    );
    bind(&operator, "uplink", URL, &CREDENTIAL);
    let (user, password) = credential(&agent);
    let leases = operator.json(&["lease", "list", "--node", "edge-01"]);
    let id = leases[0]["id"].to_string();
    operator.ok(&["lease", "revoke", &id], "");
    vault.until(&hub.log(), "the operator's word is done", |vault| {
        !vault.user_works(&user, &password)
    });
    hub.admin()
        .await_rollout("uplink", "another one is applied", |rollout| {
            let applied = &rollout["nodes"][0]["secrets"][0]["applied"];
            rollout["applied"] == 1 && *applied != format!("lease-{id}").as_str()
        });
    let trail = operator.audit(&[("action", "lease.revoke")]);
    assert_eq!(trail.len(), 1);
}

/// Vault's database engine over a real PostgreSQL: each user logs in while its deployment stands, and
/// is refused after it.
fn a_database_user_lives_as_long_as_its_deployment() {
    let postgres = Postgres::start();
    let vault = TestVault::start();
    let made = Arc::new(Mutex::new(Vec::new()));
    let (act, seen) = (postgres.actor(), Arc::clone(&made));
    vault.on_user(move |event| match event {
        Event::Created {
            username, password, ..
        } => {
            act(&format!(
                "CREATE ROLE \"{username}\" LOGIN PASSWORD '{password}'"
            ));
            seen.lock()
                .expect("nobody panicked")
                .push((username, password));
        }
        Event::Renewed { .. } => {}
        Event::Revoked { username, .. } => act(&format!("DROP ROLE \"{username}\"")),
    });
    let hub = hub_over(&vault, &["database/creds/app"]);
    let agents = [
        TestAgent::start(&hub, "edge-01", &[]),
        TestAgent::start(&hub, "edge-02", &[]),
    ];
    bind(&hub.operator(), "uplink", URL, &CREDENTIAL);
    hub.await_rollout("uplink", 2);
    let credentials: Vec<_> = agents.iter().map(credential).collect();
    assert_ne!(credentials[0], credentials[1]);
    for (user, password) in &credentials {
        assert!(postgres.can_log_in(user, password), "{user}");
        assert!(!postgres.can_log_in(user, "another"), "{user}");
    }
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    for agent in &agents {
        wait::gone(&file(agent, "password"));
    }
    vault.until(&hub.log(), "all of them are dead", |vault| {
        vault.live() == 0
    });
    for (user, password) in made.lock().expect("nobody panicked").iter() {
        assert!(!postgres.can_log_in(user, password), "{user}");
    }
}
