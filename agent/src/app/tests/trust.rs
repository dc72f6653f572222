//! Whom the agent believes: revocation, another hub, enrolment, renewal.

use super::node::{Node, delivered, push, set, settled, value};
use super::*;

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
async fn what_was_withdrawn_is_served_no_more_even_while_a_call_hangs() {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    let mut node = Node::new(&hub);
    node.extra = "open_horizon: { secrets_api: true }\n".into();
    node.start(&hub);
    settled(&mut hub, 1).await;
    let door = node.dir.path().join("run/ess/myorg/svc/main");
    assert!(door.join("essapi.sock").exists());
    hub.answers().hang = Some(routes::SECRETS);
    set(&hub, 2, vec![deployment("d2", "other", &[("cred", "1")])]);
    push(&hub, 2);
    hub.asked(|seen| matches!(seen, Seen::Fetch(_)).then_some(()))
        .await;
    assert_eq!(node.read("svc", "cred"), None);
    for name in ["essapi.sock", "auth.json", "cert.pem", "env"] {
        assert!(!door.join(name).exists(), "{name}");
    }
    // Who comes instead can be started meanwhile.
    let other = node.dir.path().join("run/ess/myorg/other/main");
    assert!(other.join("essapi.sock").exists());
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
    let former = node.dir.path().join("state/identity-1");
    while former.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_that_the_hub_does_not_take_is_gone_once_the_former_is_taken_again() {
    let mut hub = FakeHub::start().await;
    let end = now() + 100;
    hub.answers().validity = Some((now() - 1000, end));
    let mut node = Node::new(&hub);
    let before = node.store().current().unwrap();
    hub.answers().validity = None;
    hub.answers().knows = Some(i64::try_from(end).unwrap());
    node.start(&hub);
    hub.asked(|seen| (seen == Seen::Renew).then_some(())).await;
    // Back to the one that the hub knows. Were the other one kept, the next that is refused would lead to it.
    node.until(|status| status.hub.state == HubState::Connected)
        .await;
    let refused = node.dir.path().join("state/identity-2");
    while refused.exists() || node.store().current().unwrap() != before {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
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
