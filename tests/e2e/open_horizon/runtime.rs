//! 27 to 32: what services on a node see, with the services, names and bindings of the original's test.

use std::fs;
use std::path::{Path, PathBuf};

use edge_secrets_protocol::ServiceUrl;
use edge_secrets_tests::samples::{policy, service};
use edge_secrets_tests::{ORG, Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::secrets_manager::add;

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        oh_27_one_container_reads_a_bare_value_and_a_key_with_its_value,
        oh_28_a_singleton_that_two_policies_bind_has_its_secret_once,
        oh_29_one_update_reaches_a_secret_under_two_names_in_two_services,
        oh_30_a_shared_singleton_keeps_its_secret_when_one_of_two_services_goes,
        oh_31_a_node_that_is_unregistered_has_nothing_left,
        oh_32_a_node_that_is_registered_again_has_everything_back,
    ]
}

const NETSPEED: &str = "https://bluehorizon.network/services/netspeed";
const LOCATION: &str = "https://bluehorizon.network/services/location";
const CPU: &str = "https://bluehorizon.network/service-cpu";

/// Where a container reads.
fn dir(agent: &TestAgent, url: &str, container: &str) -> PathBuf {
    let url: ServiceUrl = url.parse().expect("a url");
    agent.consumer(&url.dir_name(), container)
}

fn requires_cpu(mut definition: Value) -> Value {
    definition["requiredServices"] = json!([
        { "url": CPU, "org": ORG, "versionRange": "1.0.0", "arch": "*" },
    ]);
    definition
}

/// A policy of the top's own bindings and the singleton's.
fn policy_with_cpu(url: &str, bindings: &[(&str, &str)]) -> Value {
    let mut policy = policy(url, &["purpose == network-testing"], bindings);
    policy["secretBinding"].as_array_mut().expect("a list").push(json!({
        "serviceOrgid": ORG, "serviceUrl": CPU, "serviceArch": "", "serviceVersionRange": "1.0.0",
        "secrets": [{ "secret-dep1": "netspeed-secret1" }], "enableNodeLevelSecrets": true,
    }));
    policy
}

/// The original's scene: two services that share a singleton, on one node.
fn scene() -> (TestHub, Operator, TestAgent) {
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, "netspeed-secret1", "test", "netspeed-password");
    add(
        &admin,
        "netspeed-secret2",
        "test",
        "netspeed-other-password",
    );
    let mut cpu = service(CPU, "1.2.2", &[("cpu", &[("secret-dep1", None)])]);
    cpu["sharable"] = "singleton".into();
    admin.publish_service(&cpu);
    let declared = [("sec1", Some("value_only")), ("sec2", None)];
    admin.publish_service(&requires_cpu(service(
        NETSPEED,
        "1.0.0",
        &[("netspeed", &declared)],
    )));
    admin.publish_service(&requires_cpu(service(
        LOCATION,
        "1.0.0",
        &[("location", &[])],
    )));
    let bound = [("sec1", "netspeed-secret1"), ("sec2", "netspeed-secret2")];
    admin.publish_policy("netspeed", &policy_with_cpu(NETSPEED, &bound));
    admin.publish_policy("location", &policy_with_cpu(LOCATION, &[]));
    let agent = TestAgent::start(&hub, "an12345", &[("purpose", json!("network-testing"))]);
    let dep1 = dir(&agent, CPU, "cpu").join("secret-dep1");
    wait::until(&dep1, "the singleton's secret is there", || dep1.exists());
    // The last of its names.
    let sec2 = dir(&agent, NETSPEED, "netspeed").join("sec2");
    await_details(&sec2, "test", "netspeed-other-password");
    (hub, admin, agent)
}

/// A file with a key and its value, once it has this value.
fn await_details(file: &Path, key: &str, value: &str) {
    wait::until(file, &format!("{value} is there"), || {
        details(file) == json!({ "key": key, "value": value })
    });
}

fn details(file: &Path) -> Value {
    let text = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Every regular file below.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

fn oh_27_one_container_reads_a_bare_value_and_a_key_with_its_value() {
    let (_hub, _admin, agent) = scene();
    let netspeed = dir(&agent, NETSPEED, "netspeed");
    assert_eq!(
        fs::read(netspeed.join("sec1")).expect("readable"),
        b"netspeed-password"
    );
    assert_eq!(
        details(&netspeed.join("sec2")),
        json!({ "key": "test", "value": "netspeed-other-password" })
    );
    assert!(
        !netspeed.join("secret-dep1").exists(),
        "that is the singleton's"
    );
}

fn oh_28_a_singleton_that_two_policies_bind_has_its_secret_once() {
    let (hub, admin, agent) = scene();
    let dep1 = dir(&agent, CPU, "cpu").join("secret-dep1");
    await_details(&dep1, "test", "netspeed-password");
    let node = admin.json(&["node", "show", "an12345"]);
    let deployments = node["deployments"].as_array().expect("deployments");
    let of_cpu: Vec<_> = deployments
        .iter()
        .filter(|d| d["service"]["url"] == CPU)
        .collect();
    assert_eq!(of_cpu.len(), 1, "{node}");
    let required_by = of_cpu[0]["required_by"]
        .as_array()
        .expect("who requires it");
    assert_eq!(required_by.len(), 2, "{node}");
    hub.await_rollout("netspeed", 1);
    hub.await_rollout("location", 1);
}

fn oh_29_one_update_reaches_a_secret_under_two_names_in_two_services() {
    let (_hub, admin, agent) = scene();
    add(&admin, "netspeed-secret1", "test1", "updatedSecret1");
    await_details(
        &dir(&agent, CPU, "cpu").join("secret-dep1"),
        "test1",
        "updatedSecret1",
    );
    wait::content(
        &dir(&agent, NETSPEED, "netspeed").join("sec1"),
        b"updatedSecret1",
    );
}

fn oh_30_a_shared_singleton_keeps_its_secret_when_one_of_two_services_goes() {
    let (hub, admin, agent) = scene();
    let dep1 = dir(&agent, CPU, "cpu").join("secret-dep1");
    hub.await_rollout("location", 1);
    admin.ok(&["policy", "rm", "location"], "");
    agent.await_status("the other service has gone", |status| {
        let services = status["services"].as_array();
        services.is_some_and(|services| {
            let mut here = services.iter().filter(|one| one["state"] != "wiped");
            here.all(|one| !one["service"].to_string().contains(LOCATION))
        })
    });
    assert_eq!(details(&dep1)["value"], "netspeed-password");
    add(&admin, "netspeed-secret1", "test1", "updatedSecret1");
    await_details(&dep1, "test1", "updatedSecret1");
    // With the last service that requires it, it goes.
    admin.ok(&["policy", "rm", "netspeed"], "");
    wait::gone(&dep1);
}

fn oh_31_a_node_that_is_unregistered_has_nothing_left() {
    let (_hub, admin, agent) = scene();
    admin.ok(&["node", "revoke", "an12345"], "");
    let services = agent.runtime_dir().join("services");
    wait::until(&services, "no file is left", || files(&services).is_empty());
}

fn oh_32_a_node_that_is_registered_again_has_everything_back() {
    let (hub, admin, mut agent) = scene();
    admin.ok(&["node", "revoke", "an12345"], "");
    let sec1 = dir(&agent, NETSPEED, "netspeed").join("sec1");
    wait::gone(&sec1);
    agent.await_hub("revoked");
    agent.stop();
    let ended = agent.enrol_anew(&hub.token("an12345"));
    assert_eq!(ended.code, 0, "{ended:?}");
    agent.run();
    wait::content(&sec1, b"netspeed-password");
    await_details(
        &dir(&agent, CPU, "cpu").join("secret-dep1"),
        "test",
        "netspeed-password",
    );
    hub.await_rollout("netspeed", 1);
}
