//! The whole agent but its process, against a hub over real sockets, delivering on real tmpfs.

mod custody;
mod keys;
mod lives;
mod node;
mod offline;
mod trust;

use std::fs;
use std::sync::Arc;

use edge_secrets_protocol::binding::Bindings;
use edge_secrets_protocol::status::DeploymentState;
use edge_secrets_protocol::watch::WatchEvent;
use edge_secrets_protocol::{Code, Generation, Problem, routes};

use super::*;
use crate::hub::fake::{FakeHub, Seen, deployment, now};
use crate::local_api;
use crate::status::{AgentStatus, HubState};

use node::{Node, delivered, push, set, settled, value};

#[tokio::test]
async fn what_is_bound_is_delivered_rotated_and_wiped() {
    let (mut hub, mut node) = delivered().await;
    node.until(|status| status.hub.state == HubState::Connected)
        .await;

    let both = [("cred", "2"), ("key", "1")];
    value(&hub, "cred", "two");
    value(&hub, "key", "k");
    set(&hub, 2, vec![deployment("d1", "svc", &both)]);
    push(&hub, 2);
    settled(&mut hub, 2).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
    assert_eq!(node.read("svc", "key").as_deref(), Some("k"));

    // Only what changed is fetched.
    set(
        &hub,
        3,
        vec![deployment("d1", "svc", &[("cred", "3"), ("key", "1")])],
    );
    value(&hub, "cred", "three");
    push(&hub, 3);
    let fetched = hub.asked(|seen| match seen {
        Seen::Fetch(items) => Some(items),
        _ => None,
    });
    let names: Vec<_> = fetched
        .await
        .iter()
        .map(|item| item.name.to_string())
        .collect();
    assert_eq!(names, ["cred"]);
    settled(&mut hub, 3).await;

    set(&hub, 4, vec![]);
    push(&hub, 4);
    let report = settled(&mut hub, 4).await;
    assert_eq!(report.deployments[0].state, DeploymentState::Wiped);
    assert_eq!(node.read("svc", "cred"), None);
    node.stop().await;
}

#[tokio::test]
async fn the_local_socket_tells_how_things_stand() {
    let (_hub, mut node) = delivered().await;
    let socket = node.dir.path().join("run/agent.sock");
    let answer = local_api::wait(&socket, "svc", std::time::Duration::ZERO)
        .await
        .unwrap();
    assert!(answer.applied);
    let status = local_api::status(&socket).await.unwrap();
    assert_eq!(status.hub.state, HubState::Connected);
    assert_eq!(
        status.services[0].secrets[0]
            .version
            .as_ref()
            .unwrap()
            .as_str(),
        "1"
    );
    assert!(status.protection.len() >= 2);
    node.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn many_hints_make_few_pulls() {
    let (mut hub, _node) = delivered().await;
    hub.asked_so_far();
    set(&hub, 100, vec![deployment("d1", "svc", &[("cred", "2")])]);
    for generation in 2..=100 {
        push(&hub, if generation > 60 { 100 } else { generation });
    }
    let mut pulls = 0;
    hub.asked(|seen| match seen {
        Seen::Pull(_) => {
            pulls += 1;
            None
        }
        Seen::Report(report) => (report.generation == Generation(100)).then_some(()),
        _ => None,
    })
    .await;
    assert!((1..10).contains(&pulls), "{pulls} pulls for 99 hints");
}

#[tokio::test]
async fn a_lost_hub_changes_nothing_and_what_was_missed_is_caught_up() {
    let (mut hub, mut node) = delivered().await;
    hub.stop().await;
    let status = node
        .until(|status| status.hub.state == HubState::Disconnected)
        .await;
    assert!(status.hub.error.is_some());
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));

    set(&hub, 5, vec![deployment("d1", "svc", &[("cred", "2")])]);
    value(&hub, "cred", "two");
    hub.asked_so_far();
    hub.restart().await;
    let since = hub.asked(|seen| match seen {
        Seen::Pull(since) => Some(since),
        _ => None,
    });
    assert_eq!(
        since.await,
        Some(Generation(1)),
        "from what was really applied"
    );
    settled(&mut hub, 5).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
    let status = node
        .until(|status| status.hub.state == HubState::Connected)
        .await;
    assert_eq!(status.hub.error, None);
}

#[tokio::test]
async fn a_report_is_sent_until_it_is_taken_and_again_after_a_reconnect() {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    let busy = Problem::new(Code::Unavailable, "later");
    hub.answers().refuse.insert(routes::STATUS, busy);
    let node = Node::started(&hub).await;
    let first = settled(&mut hub, 1).await;
    hub.answers().refuse.clear();
    assert_eq!(settled(&mut hub, 1).await, first);
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));

    hub.stop().await;
    hub.asked_so_far();
    hub.restart().await;
    assert_eq!(settled(&mut hub, 1).await, first);
}

#[tokio::test]
async fn a_changed_property_is_told_and_a_malformed_configuration_changes_nothing() {
    let (mut hub, mut node) = delivered().await;
    let told = |seen| match seen {
        Seen::Facts(facts) => Some(facts.properties.iter().map(|p| p.value.clone()).collect()),
        _ => None,
    };
    node.configure(&hub, "node: { properties: { site: berlin } }\n");
    let values: Vec<serde_json::Value> = hub.asked(told).await;
    assert_eq!(values, ["berlin"]);

    // Malformed, then right again: the hub hears of the second alone.
    fs::write(node.config_path(), "hub: [").unwrap();
    node.configure(&hub, "nodes: {}\n");
    node.configure(&hub, "node: { properties: { site: paris } }\n");
    let values: Vec<serde_json::Value> = hub.asked(told).await;
    assert_eq!(values, ["paris"]);
    assert_eq!(node.until(|_| true).await.hub.state, HubState::Connected);
}

#[tokio::test]
async fn a_malformed_node_policy_keeps_facts_back_and_nothing_else() {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    let mut node = Node::new(&hub);
    node.extra = "node: { policy_file: policy.json }\n".into();
    let policy = node.dir.path().join("policy.json");
    fs::write(&policy, "{ broken").unwrap();
    node.start(&hub);
    settled(&mut hub, 1).await;
    assert!(
        !hub.asked_so_far()
            .iter()
            .any(|seen| matches!(seen, Seen::Facts(_)))
    );

    let text = r#"{"properties":[{"name":"a","value":1}]}"#;
    fs::write(&policy, text).unwrap();
    let told = hub.asked(|seen| match seen {
        Seen::Facts(facts) => facts.policy,
        _ => None,
    });
    assert_eq!(told.await, text);
}

#[tokio::test]
async fn old_bindings_are_refused_on_every_connection_and_in_every_life() {
    let (mut hub, mut node) = delivered().await;
    set(&hub, 9, vec![deployment("d1", "svc", &[("cred", "9")])]);
    value(&hub, "cred", "nine");
    push(&hub, 9);
    settled(&mut hub, 9).await;

    // An older answer, once and again.
    hub.asked_so_far();
    set(&hub, 4, vec![]);
    push(&hub, 10);
    for _ in 0..2 {
        hub.asked(|seen| matches!(seen, Seen::Pull(_)).then_some(()))
            .await;
    }
    node.until(|status| {
        let error = status.hub.error.as_ref();
        error.is_some_and(|error| error.contains("older than what this node has followed"))
    })
    .await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("nine"));

    node.stop().await;
    hub.asked_so_far();
    node.start(&hub);
    // The rest goes on: by its report operators know that it is behind.
    hub.asked(|seen| matches!(seen, Seen::Report(_)).then_some(()))
        .await;
    let status = node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(status.hub.state, HubState::Connected);
    hub.asked(|seen| matches!(seen, Seen::Pull(_)).then_some(()))
        .await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("nine"));

    // What is as new is followed: it is the same hub, or one that has gone on beyond it.
    set(&hub, 10, vec![]);
    let report = settled(&mut hub, 10).await;
    assert_eq!(report.deployments[0].state, DeploymentState::Wiped);
    assert_eq!(node.read("svc", "cred"), None);
}

#[tokio::test]
async fn one_secret_that_does_not_come_blocks_no_other_and_is_asked_for_again() {
    let mut hub = FakeHub::start().await;
    let pending = Problem::new(Code::Pending, "the manager has not answered");
    hub.answers().item_problems.insert("late".into(), pending);
    value(&hub, "cred", "one");
    value(&hub, "late", "l");
    let deployments = vec![
        deployment("d1", "svc", &[("cred", "1")]),
        deployment("d2", "slow", &[("late", "1")]),
    ];
    set(&hub, 1, deployments);
    let mut node = Node::started(&hub).await;
    node.until(|status| status.of_service("svc").any(|s| s.is_applied()))
        .await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    assert_eq!(node.read("slow", "late"), None);

    hub.answers().item_problems.clear();
    settled(&mut hub, 1).await;
    assert_eq!(node.read("slow", "late").as_deref(), Some("l"));
}

#[tokio::test]
async fn answers_that_are_full_are_asked_on_until_all_is_there() {
    let mut hub = FakeHub::start().await;
    hub.answers().batch = Some(2);
    let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
    let secrets: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    for name in &names {
        value(&hub, name, name);
    }
    set(&hub, 1, vec![deployment("d1", "svc", &secrets)]);
    let node = Node::started(&hub).await;
    settled(&mut hub, 1).await;
    for name in &names {
        assert_eq!(node.read("svc", name).as_ref(), Some(name));
    }
}

#[tokio::test]
async fn an_undeployment_is_heeded_between_batches_of_a_slow_fetch() {
    let mut hub = FakeHub::start().await;
    let names = ["a", "b", "c"];
    for name in names {
        value(&hub, name, name);
    }
    hub.answers().batch = Some(1);
    hub.answers().slow = Duration::from_secs(1);
    set(
        &hub,
        1,
        vec![deployment("d1", "svc", &names.map(|name| (name, "1")))],
    );
    let _node = Node::started(&hub).await;
    hub.asked(|seen| matches!(seen, Seen::Fetch(_)).then_some(()))
        .await;
    // While the first one is on its way.
    set(&hub, 2, vec![]);
    push(&hub, 2);
    let next = hub.asked(|seen| matches!(seen, Seen::Fetch(_) | Seen::Pull(_)).then_some(seen));
    assert!(matches!(next.await, Seen::Pull(_)));
    settled(&mut hub, 2).await;
}

#[tokio::test]
async fn a_difference_is_put_onto_what_is_there_and_else_the_whole_is_pulled() {
    let (mut hub, node) = delivered().await;
    value(&hub, "key", "k");
    let difference = |since, generation| Bindings {
        generation: Generation(generation),
        deployments: vec![deployment("d2", "new", &[("key", "1")])],
        since: Some(Generation(since)),
        unchanged: vec!["d1".parse().unwrap()],
    };
    hub.answers().difference = Some(difference(1, 2));
    hub.answers().bindings.generation = Generation(2);
    push(&hub, 2);
    let report = settled(&mut hub, 2).await;
    assert_eq!(report.deployments.len(), 2);
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    assert_eq!(node.read("new", "key").as_deref(), Some("k"));

    // A difference that names what is not there.
    let mut wrong = difference(2, 3);
    wrong.unchanged.push("unknown".parse().unwrap());
    hub.answers().difference = Some(wrong);
    set(&hub, 3, vec![deployment("d1", "svc", &[("cred", "1")])]);
    hub.asked_so_far();
    push(&hub, 3);
    let report = settled(&mut hub, 3).await;
    assert_eq!(
        report
            .deployments
            .iter()
            .filter(|d| d.state == DeploymentState::Applied)
            .count(),
        1
    );
    assert_eq!(node.read("new", "key"), None);
}

#[tokio::test]
async fn a_restart_without_a_hub_changes_nothing_that_services_read() {
    let (mut hub, mut node) = delivered().await;
    node.stop().await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));

    hub.asked_so_far();
    hub.restart().await;
    settled(&mut hub, 1).await;
    let asked = hub.asked_so_far();
    assert!(
        !asked.iter().any(|seen| matches!(seen, Seen::Fetch(_))),
        "{asked:?}"
    );
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
}
