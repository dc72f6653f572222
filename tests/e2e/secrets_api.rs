//! A service of Open Horizon asks its node for its secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use edge_secrets_tests::samples::{plain_service, policy, service};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::secrets_api::{ApiClient, SECRETS, answer};
use edge_secrets_tests::{Canary, ORG, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = crate::trials![
        a_change_is_listed_fetched_and_acknowledged_and_two_within_a_second_are_two,
        a_wait_is_answered_by_the_change_and_by_the_undeployment,
        another_services_credentials_are_refused,
        an_undeployment_ends_the_socket_and_leaves_nothing,
        an_agent_that_was_killed_is_not_noticed_by_what_a_client_knows,
        a_flood_of_connections_holds_up_neither_others_nor_deliveries,
        a_profile_switches_it_on_and_off_and_says_whose_it_is,
        what_a_container_mounts_is_written_for_its_engine,
    ];
    trials.push(crate::as_root(
        "secrets_api::the_agents_memory_holds_no_value_that_it_has_told",
        the_agents_memory_holds_no_value_that_it_has_told,
    ));
    trials
}

fn a_change_is_listed_fetched_and_acknowledged_and_two_within_a_second_are_two() {
    let hub = TestHub::start();
    let agent = node(&hub);
    let canaries: Vec<Canary> = (0..3).map(|_| Canary::new()).collect();
    let client = deploy(&hub, &agent, URL, &canaries[0].value());
    assert_eq!(client.updated(), [""; 0], "the service begins with it");
    for canary in &canaries[1..] {
        hub.admin().set("cred", canary.value().as_bytes());
        assert_eq!(client.await_updated(), ["cred"]);
        let told = client.secret("cred");
        assert_eq!(told.status, 200, "{}", told.head);
        let object: Value = serde_json::from_str(&told.body).expect("JSON");
        assert_eq!(object, json!({ "key": "", "value": canary.value() }));
        assert_eq!(client.receive("cred"), 201);
        assert_eq!(client.updated(), [""; 0]);
    }
    assert_eq!(client.secret("none").status, 404);
    assert_eq!(client.receive("none"), 404);
    // Neither what was told nor what was shown stands in a log at trace level.
    let scanner = Scanner::new(&canaries.iter().collect::<Vec<_>>());
    let log = agent.log_text();
    scanner.text(log.as_bytes(), "log").assert_clean("the log");
    assert!(!log.contains(&client.token));
    let environment = fs::read_to_string(door(&agent, URL).join("env")).expect("env");
    assert!(!environment.contains(&client.token), "{environment}");
}

fn a_wait_is_answered_by_the_change_and_by_the_undeployment() {
    let hub = TestHub::start();
    let agent = node(&hub);
    let client = deploy(&hub, &agent, URL, "one");
    let wait = format!("{SECRETS}?wait=300");
    let waiting = client.send("GET", &wait).expect("sent");
    // Answered after it, so that it waits by then.
    assert_eq!(client.updated(), [""; 0]);
    hub.operator().set("cred", "two");
    let told = answer(waiting).expect("an answer");
    assert_eq!((told.status, &*told.body), (200, r#"["cred"]"#));
    assert_eq!(client.receive("cred"), 201);
    let waiting = client.send("GET", &wait).expect("sent");
    assert_eq!(client.updated(), [""; 0]);
    hub.operator().ok(&["policy", "rm", URL], "");
    assert_eq!(answer(waiting).expect("an answer").status, 404);
}

fn another_services_credentials_are_refused() {
    let hub = TestHub::start();
    let agent = node(&hub);
    let own = deploy(&hub, &agent, URL, "one");
    let other = deploy(&hub, &agent, OTHER, "one");
    let with = |id: &str, token: &str| {
        let mut client = own.clone();
        (client.id, client.token) = (id.to_owned(), token.to_owned());
        client
    };
    for wrong in [
        with(&other.id, &other.token),
        with(&own.id, &other.token),
        with(&other.id, &own.token),
        with(&own.id, "wrong"),
        with("", ""),
    ] {
        for path in [SECRETS, "/api/v1/secrets/cred", "/api/v1/secrets/none"] {
            let told = wrong.call("GET", path).expect("an answer");
            assert_eq!((told.status, &*told.body), (403, "Unauthorized\n"));
        }
        assert_eq!(wrong.receive("cred"), 403);
    }
    assert_eq!(own.secret("cred").status, 200);
    let metrics = agent.ended(&["metrics"]).stdout;
    let refused = "edge_secrets_secrets_api_refused_total 20";
    assert!(metrics.contains(refused), "{metrics}");
}

fn an_undeployment_ends_the_socket_and_leaves_nothing() {
    let hub = TestHub::start();
    let agent = node(&hub);
    let canary = Canary::new();
    let client = deploy(&hub, &agent, URL, &canary.value());
    let dir = door(&agent, URL);
    assert_eq!(client.secret("cred").status, 200);
    hub.operator().ok(&["policy", "rm", URL], "");
    wait::empty(&dir);
    assert!(client.call("GET", SECRETS).is_err());
    agent.await_status("nothing is deployed", |status| {
        let services = status["services"].as_array().expect("a list");
        services.iter().all(|service| service["state"] == "wiped")
    });
    Scanner::new(&[&canary])
        .files(agent.runtime_dir())
        .assert_clean("the runtime directory");
    // In the same directory, which a container may have mounted all the while, and with other
    // credentials.
    let again = deploy(&hub, &agent, URL, "two");
    assert_eq!(client.socket, again.socket);
    assert_ne!(client.token, again.token);
    assert_eq!(again.secret("cred").status, 200);
}

fn an_agent_that_was_killed_is_not_noticed_by_what_a_client_knows() {
    let hub = TestHub::start();
    let mut agent = node(&hub);
    let client = deploy(&hub, &agent, URL, "one");
    hub.operator().set("cred", "two");
    assert_eq!(client.await_updated(), ["cred"]);
    assert_eq!(client.receive("cred"), 201);
    hub.operator().set("cred", "three");
    assert_eq!(client.await_updated(), ["cred"]);
    let waiting = client.send("GET", &format!("{SECRETS}/none?wait=300"));
    agent.kill();
    drop(waiting);
    assert!(client.call("GET", SECRETS).is_err(), "nobody listens");
    agent.run();
    wait::until(&client.socket, "the client is answered again", || {
        client.call("GET", SECRETS).is_ok()
    });
    // It has read no file anew. What it had acknowledged is, and what it had not is not.
    assert_eq!(client.updated(), ["cred"]);
    assert_eq!(client.receive("cred"), 201);
    agent.kill();
    hub.operator().set("cred", "four");
    agent.run();
    wait::until(&client.socket, "the client is answered again", || {
        client.call("GET", SECRETS).is_ok()
    });
    assert_eq!(client.await_updated(), ["cred"]);
    let told = client.secret("cred");
    assert_eq!(told.body, r#"{"key":"","value":"four"}"#);
    // An orderly end is none for services either.
    assert_eq!(client.receive("cred"), 201);
    assert!(agent.stop().success());
    agent.run();
    wait::until(&client.socket, "the client is answered again", || {
        client.call("GET", SECRETS).is_ok()
    });
    assert_eq!(client.updated(), [""; 0]);
}

fn a_flood_of_connections_holds_up_neither_others_nor_deliveries() {
    let hub = TestHub::start();
    let agent = node(&hub);
    let hostile = deploy(&hub, &agent, URL, "one");
    let other = deploy(&hub, &agent, OTHER, "one");
    // What is not accepted yet stands in the socket's queue, and what is has to make room.
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(UnixStream::connect(&hostile.socket).expect("connected"));
    }
    hub.operator().set("cred", "two");
    assert_eq!(other.await_updated(), ["cred"]);
    assert_eq!(other.secret("cred").body, r#"{"key":"","value":"two"}"#);
    wait::content(&agent.consumer(OTHER, "main").join("cred"), b"two");
    assert_eq!(hostile.secret("cred").status, 200, "who asks is answered");
    assert!(agent.status().is_some());
}

fn a_profile_switches_it_on_and_off_and_says_whose_it_is() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("cred", "one");
    operator.publish_service(&plain_service(URL, &["cred"]));
    operator.publish_policy(URL, &policy(URL, &[], &[("cred", "cred")]));
    let file = agent.consumer(URL, "main").join("cred");
    wait::content(&file, b"one");
    let dir = door(&agent, URL);
    assert!(!agent.runtime_dir().join("ess").exists());
    profile(&agent, "secrets_api: true\nmode: \"0440\"\n");
    wait::there(&dir.join("essapi.sock"));
    assert_eq!(mode(&dir.join("essapi.sock")), 0o660);
    assert_eq!(mode(&dir.join("auth.json")), 0o440);
    let client = ApiClient::of(&dir);
    wait::until(&file, "all fields lie there", || {
        client.secret("cred").status == 200
    });
    profile(&agent, "secrets_api: true\nmode: \"0400\"\n");
    wait::until(&dir, "its mode has followed", || {
        mode(&dir.join("essapi.sock")) == 0o600
    });
    assert_eq!(client.secret("cred").status, 200, "with what it knows");
    profile(&agent, "mode: \"0400\"\n");
    wait::gone(&dir.join("essapi.sock"));
    wait::gone(&dir.join("auth.json"));
    wait::content(&file, b"one");
}

fn what_a_container_mounts_is_written_for_its_engine() {
    let hub = TestHub::start();
    let agent = node(&hub);
    deploy(&hub, &agent, URL, "one");
    let (files, ess) = (agent.consumer(URL, "main"), door(&agent, URL));
    let (files, ess) = (files.display(), ess.display());
    let written = |args: &[&str]| {
        let ended = agent.ended(&[&["mounts"], args].concat());
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.stdout.trim_end().to_owned()
    };
    assert_eq!(
        written(&[URL]),
        format!(
            "--env-file={ess}/env --volume={files}:/open-horizon-secrets:ro --volume={ess}:/ess-auth:ro \
             --volume={ess}:/ess-cert:ro --volume={ess}:/var/run/horizon:ro"
        )
    );
    let docker = written(&[&format!("{ORG}/{URL}"), "main", "--for", "docker"]);
    let mount = format!("--mount=type=bind,source={ess},target=/ess-cert,readonly");
    assert!(docker.contains(&mount), "{docker}");
    let compose = written(&[URL, "--for", "compose"]);
    let compose: Value = serde_yaml::from_str(&compose).expect("YAML");
    assert_eq!(compose["volumes"][0]["source"], files.to_string());
    let data: Value = serde_json::from_str(&written(&[URL, "-o", "json"])).expect("JSON");
    assert_eq!(data["env_file"], format!("{ess}/env"));
    assert_eq!(data["mounts"][0]["target"], "/open-horizon-secrets");
    assert_eq!(agent.ended(&["mounts", "com.example.none"]).code, 1);
    assert_eq!(agent.ended(&["mounts", URL, "none"]).code, 1);
    assert_eq!(agent.ended(&["mounts", URL, "../main"]).code, 64);
}

fn the_agents_memory_holds_no_value_that_it_has_told() {
    let hub = TestHub::start();
    let agent = node(&hub);
    // Through small buffers and large ones.
    let canaries = [Canary::new(), Canary::new()];
    let operator = hub.operator();
    operator.set("small", canaries[0].value());
    operator.set("large", canaries[1].value().repeat(2000));
    let declared = [("small", None), ("large", Some("value_only"))];
    operator.publish_service(&service(URL, "1.0.0", &[("main", &declared)]));
    let bound = [("small", "small"), ("large", "large")];
    operator.publish_policy(URL, &policy(URL, &[], &bound));
    let dir = door(&agent, URL);
    wait::there(&dir.join("essapi.sock"));
    agent.await_service(URL);
    let client = ApiClient::of(&dir);
    let scanner = Scanner::new(&[&canaries[0], &canaries[1]]);
    for name in ["small", "large"] {
        let told = client.secret(name);
        assert_eq!(told.status, 200, "{}", told.head);
        let found = scanner.text(told.body.as_bytes(), name);
        assert!(!found.hits.is_empty(), "the scanner sees what was told");
    }
    // One that goes away while it is answered.
    drop(client.send("GET", "/api/v1/secrets/large").expect("sent"));
    // Answered after it: what was made for it is gone by then.
    assert_eq!(client.updated(), [""; 0]);
    agent.await_status("the agent goes on", |_| true);
    scanner
        .memory(agent.pid())
        .assert_clean("the agent's memory after it has told its values");
}

/// A node on which every consumer has an API.
fn node(hub: &TestHub) -> TestAgent {
    let mut agent = TestAgent::enrolled(hub, "edge-01", &[]);
    agent.reconfigure(|config| config["open_horizon"]["secrets_api"] = true.into());
    agent.run();
    agent
}

/// Deploys the service with its raw value, and gives what it reads when it starts.
fn deploy(hub: &TestHub, agent: &TestAgent, url: &str, value: &str) -> ApiClient {
    let operator = hub.operator();
    operator.set("cred", value);
    operator.publish_service(&plain_service(url, &["cred"]));
    operator.publish_policy(url, &policy(url, &[], &[("cred", "cred")]));
    wait::content(&agent.consumer(url, "main").join("cred"), value.as_bytes());
    let dir = door(agent, url);
    wait::there(&dir.join("essapi.sock"));
    ApiClient::of(&dir)
}

/// What a consumer's container mounts for its API.
fn door(agent: &TestAgent, url: &str) -> PathBuf {
    let dir = agent.runtime_dir().join("ess").join(ORG);
    dir.join(url).join("main")
}

fn profile(agent: &TestAgent, rest: &str) {
    let dir = agent.config().with_file_name("services.d");
    fs::create_dir_all(&dir).expect("a directory");
    let fresh = dir.join(".new");
    fs::write(&fresh, format!("service: {ORG}/{URL}\n{rest}")).expect("written");
    fs::rename(&fresh, dir.join("uplink.yaml")).expect("renamed");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o7777)
}

const URL: &str = "com.example.uplink";
const OTHER: &str = "com.example.other";
