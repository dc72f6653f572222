//! Secrets that a manager outside the hub keeps, from there to the node's tmpfs: stand-ins over real
//! HTTPS, a real hub, real agents.

mod ibm;
mod leaks;
mod secret_server;
pub(crate) mod vault;

use std::fs;
use std::path::PathBuf;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{Operator, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vault::trials();
    trials.extend(ibm::trials());
    trials.extend(secret_server::trials());
    trials.extend(leaks::trials());
    trials
}

const URL: &str = "com.example.uplink";

/// Binds names of a service of its own, wherever its policy deploys it: everywhere.
fn bind(operator: &Operator, name: &str, url: &str, bindings: &[(&str, &str)]) {
    let names: Vec<_> = bindings.iter().map(|(name, _)| *name).collect();
    operator.publish_service(&plain_service(url, &names));
    operator.publish_policy(name, &policy(url, &[], bindings));
}

/// Binds names of the service by a policy that is called like the site where it deploys it. What the
/// command says.
fn bind_at(operator: &Operator, site: &str, bindings: &[(&str, &str)]) -> String {
    let names: Vec<_> = bindings.iter().map(|(name, _)| *name).collect();
    operator.publish_service(&plain_service(URL, &names));
    let constraint = format!("site == {site}");
    let policy = policy(URL, &[&constraint], bindings).to_string();
    let published = operator.run(&["policy", "publish", site, "-"], policy);
    assert_eq!(published.code, 0, "{published:?}");
    published.stdout + &published.stderr
}

/// A node that stands at this site.
fn node_at(hub: &TestHub, node: &str, site: &str) -> TestAgent {
    TestAgent::start(hub, node, &[("site", json!(site))])
}

/// Where the service reads.
fn file(agent: &TestAgent, name: &str) -> PathBuf {
    agent.consumer(URL, "main").join(name)
}

/// What the service reads, once it is there.
fn text(agent: &TestAgent, name: &str) -> String {
    String::from_utf8(wait::file(&file(agent, name))).expect("text")
}

/// Waits until the service reads something else, and says what.
fn another(agent: &TestAgent, name: &str, than: &str) -> String {
    let path = file(agent, name);
    let mut read = String::new();
    let dir = path.parent().expect("a directory");
    wait::until(dir, "another value is there", || {
        read = fs::read_to_string(&path).unwrap_or_default();
        !read.is_empty() && read != than
    });
    read
}

/// Waits until operators read this code where a policy with one binding stands.
fn await_trouble(hub: &TestHub, policy: &str, code: &str) {
    let what = format!("operators read {code}");
    hub.admin().await_rollout(policy, &what, |rollout| {
        rollout["nodes"][0]["secrets"][0]["trouble"]["fault"] == code
    });
}

/// Waits until operators read of no trouble where a policy stands, and all is applied.
fn await_well(hub: &TestHub, policy: &str) {
    let what = "all is applied and nothing in trouble";
    hub.admin().await_rollout(policy, what, |rollout| {
        let nodes = rollout["nodes"].as_array().expect("nodes");
        let secrets = nodes
            .iter()
            .flat_map(|node| node["secrets"].as_array().expect("secrets"));
        rollout["applied"] == rollout["total"]
            && secrets
                .into_iter()
                .all(|secret| secret["trouble"].is_null())
    });
}

/// The code that `explain` has for the one secret of a node's one deployment.
fn explained(operator: &Operator, node: &str) -> Value {
    let explained = operator.json(&["explain", node]);
    let verdicts = explained["verdicts"].as_array().expect("verdicts");
    let mut deployed = verdicts
        .iter()
        .filter(|verdict| verdict["deployed"] == true);
    let verdict = deployed.next().expect("a deployment");
    verdict["deployment"]["secrets"][0]["trouble"]["fault"].clone()
}
