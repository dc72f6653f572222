//! The whole agent but its process, against a hub over real sockets, delivering on real tmpfs.

mod node;

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
async fn a_revoked_node_wipes_at_once_and_comes_back_when_enrolled_again() {
    let (mut hub, mut node) = delivered().await;
    hub.push(WatchEvent::Revoked);
    let revoked = Problem::new(Code::NodeRevoked, "node edge-01 is revoked");
    hub.answers().refuse.insert(routes::NODE, revoked);
    let status = node
        .until(|status| status.hub.state == HubState::Revoked)
        .await;
    assert!(status.hub.error.as_ref().unwrap().contains("enrol"));
    node.until(|status| {
        status
            .services
            .iter()
            .all(|s| s.state == DeploymentState::Wiped)
    })
    .await;
    assert_eq!(node.read("svc", "cred"), None);

    hub.answers().refuse.clear();
    let material = hub.issue("myorg", "edge-01");
    node.store().install(&material).unwrap();
    node.until(|status| status.hub.state == HubState::Connected)
        .await;
    settled(&mut hub, 1).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
}

#[tokio::test]
async fn a_revoked_node_wipes_even_while_a_call_hangs() {
    let (mut hub, mut node) = delivered().await;
    hub.answers().hang = Some(routes::SECRETS);
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    push(&hub, 2);
    hub.asked(|seen| matches!(seen, Seen::Fetch(_)).then_some(()))
        .await;
    // Whoever is at fault, the calls go on hanging for longer than the test.
    hub.answers().hang = Some(routes::NODE);
    hub.push(WatchEvent::Revoked);
    let wiped = node.until(|status| status.hub.state == HubState::Revoked);
    tokio::select! {
        _ = wiped => {}
        _ = hub.asked(|seen| matches!(seen, Seen::Facts(_)).then_some(())) => {
            panic!("the call was waited for");
        }
    }
    node.until(|status| {
        status
            .services
            .iter()
            .all(|s| s.state == DeploymentState::Wiped)
    })
    .await;
    assert_eq!(node.read("svc", "cred"), None);
}

#[tokio::test]
async fn a_node_that_learns_of_its_revocation_by_a_problem_wipes_too() {
    let (mut hub, mut node) = delivered().await;
    hub.stop().await;
    let revoked = Problem::new(Code::NodeRevoked, "node edge-01 is revoked");
    hub.answers().refuse.insert(routes::NODE, revoked);
    hub.restart().await;
    node.until(|status| status.hub.state == HubState::Revoked)
        .await;
    assert_eq!(node.read("svc", "cred"), None);
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

    fs::write(&policy, r#"{"properties":[{"name":"a","value":1}]}"#).unwrap();
    let told = hub.asked(|seen| match seen {
        Seen::Facts(facts) => facts.policy,
        _ => None,
    });
    assert_eq!(told.await["properties"][0]["name"], "a");
}

#[tokio::test]
async fn old_bindings_are_refused_unless_the_hub_insists_on_a_new_connection() {
    let (mut hub, node) = delivered().await;
    set(&hub, 9, vec![deployment("d1", "svc", &[("cred", "9")])]);
    value(&hub, "cred", "nine");
    push(&hub, 9);
    settled(&mut hub, 9).await;

    // A stale answer once: the connection is given up, and on the next the truth comes.
    hub.asked_so_far();
    set(&hub, 4, vec![]);
    push(&hub, 10);
    hub.asked(|seen| matches!(seen, Seen::Pull(_)).then_some(()))
        .await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("nine"));

    // It stays so, as after a restored backup.
    let report = settled(&mut hub, 4).await;
    assert_eq!(report.deployments[0].state, DeploymentState::Wiped);
    assert_eq!(node.read("svc", "cred"), None);
}

#[tokio::test]
async fn another_hub_is_believed_whatever_generation_it_is_at() {
    let (mut hub, mut node) = delivered().await;
    set(&hub, 9, vec![deployment("d1", "svc", &[("cred", "9")])]);
    value(&hub, "cred", "nine");
    push(&hub, 9);
    settled(&mut hub, 9).await;

    // Enrolled at another hub, which is younger; what the first one placed here must go.
    let mut other = FakeHub::start().await;
    set(&other, 2, vec![deployment("e1", "new", &[("cred", "1")])]);
    value(&other, "cred", "other");
    node.store()
        .install(&other.issue("myorg", "edge-01"))
        .unwrap();
    node.configure(&other, "");
    settled(&mut other, 2).await;
    assert_eq!(node.read("new", "cred").as_deref(), Some("other"));
    assert_eq!(node.read("svc", "cred"), None);
    node.stop().await;
}

#[tokio::test]
async fn another_identity_starts_from_nothing_that_the_former_one_knew() {
    let (mut hub, node) = delivered().await;
    set(&hub, 9, vec![deployment("d1", "svc", &[("cred", "9")])]);
    push(&hub, 9);
    settled(&mut hub, 9).await;
    set(&hub, 2, vec![deployment("e1", "new", &[("cred", "1")])]);
    value(&hub, "cred", "other");
    let material = hub.issue("myorg", "edge-02");
    node.store().install(&material).unwrap();
    settled(&mut hub, 2).await;
    assert_eq!(node.read("new", "cred").as_deref(), Some("other"));
    assert_eq!(node.read("svc", "cred"), None);

    // Enrolled anew as the same node, where another history has reached the same generation and
    // the same version with another value.
    value(&hub, "cred", "newer");
    hub.asked_so_far();
    let material = hub.issue("myorg", "edge-02");
    node.store().install(&material).unwrap();
    hub.asked(|seen| matches!(seen, Seen::Fetch(_)).then_some(()))
        .await;
    settled(&mut hub, 2).await;
    assert_eq!(node.read("new", "cred").as_deref(), Some("newer"));
}

#[tokio::test]
async fn another_enrolment_while_the_agent_is_stopped_trusts_nothing_delivered_before() {
    let (_hub, mut node) = delivered().await;
    node.stop().await;
    // A hub that was set up anew counts generations and versions as the former one did.
    let mut other = FakeHub::start().await;
    set(&other, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&other, "cred", "other");
    node.store()
        .install(&other.issue("myorg", "edge-01"))
        .unwrap();
    node.start(&other);
    settled(&mut other, 1).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("other"));
    node.stop().await;

    // A mere restart fetches nothing.
    other.asked_so_far();
    node.start(&other);
    let fetched = other.asked(|seen| match seen {
        Seen::Fetch(_) => Some(true),
        Seen::Report(_) => Some(false),
        _ => None,
    });
    assert!(!fetched.await);
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

#[tokio::test]
async fn a_certificate_is_renewed_before_anything_else_when_that_is_due() {
    let mut hub = FakeHub::start().await;
    hub.answers().validity = Some((now() - 1000, now() + 100));
    let mut node = Node::new(&hub);
    let before = node.store().current().unwrap();
    hub.answers().validity = None;
    node.start(&hub);
    let first = hub.asked(|seen| matches!(seen, Seen::Renew | Seen::Facts(_)).then_some(seen));
    assert_eq!(first.await, Seen::Renew);
    // With the new certificate, and the old one is gone once that was taken.
    node.until(|status| status.hub.state == HubState::Connected)
        .await;
    assert!(node.store().current().unwrap() > before);
    assert_eq!(
        node.store()
            .roll_back(node.store().current().unwrap().unwrap())
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_renewal_that_fails_keeps_nothing_else_from_going_on() {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    hub.answers().validity = Some((now() - 1000, now() + 100));
    let failed = Problem::new(Code::Unavailable, "later");
    hub.answers().refuse.insert(routes::RENEW, failed);
    let mut node = Node::new(&hub);
    hub.answers().validity = None;
    node.start(&hub);
    settled(&mut hub, 1).await;
    hub.answers().refuse.clear();
    hub.asked(|seen| (seen == Seen::Renew).then_some(())).await;
    settled(&mut hub, 1).await;
}

#[tokio::test]
async fn a_node_that_the_hub_does_not_know_says_what_to_do() {
    let (mut hub, mut node) = delivered().await;
    hub.stop().await;
    let unknown = Problem::new(Code::NotEnrolled, "this certificate is not known");
    hub.answers().refuse.insert(routes::NODE, unknown);
    hub.restart().await;
    let told = |status: &Arc<AgentStatus>| {
        status
            .hub
            .error
            .as_ref()
            .is_some_and(|error| error.contains("enroll --force"))
    };
    node.until(told).await;
    assert_eq!(
        node.read("svc", "cred").as_deref(),
        Some("one"),
        "last known good stays"
    );
}

#[tokio::test]
async fn a_node_without_an_identity_is_told_to_enrol() {
    let hub = FakeHub::start().await;
    let node = Node::new(&hub);
    fs::remove_file(node.dir.path().join("state/identity")).unwrap();
    node.configure(&hub, "");
    let config = Config::load(&node.config_path()).unwrap();
    let error = build(config, &node.config_path(), vec![]).err().unwrap();
    assert!(error.to_string().contains("enroll --token -"), "{error}");
}
