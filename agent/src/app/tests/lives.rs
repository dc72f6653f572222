//! Values that end while nobody can be asked, and values that come later than they are asked for.

use std::fs;
use std::time::Duration;

use edge_secrets_protocol::binding::{Deployment, SecretState};
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{Code, Generation};

use super::node::{Node, delivered, push, set, settled, value};
use crate::app::tests::deployment;
use crate::hub::fake::{FakeHub, Seen};
use crate::local_api;
use crate::status::{ActionState, AgentStatus};

/// The deployment with a lease of so long.
fn lease(version: &str, life: Duration) -> Deployment {
    let mut deployment = deployment("d1", "svc", &[("cred", version)]);
    deployment.secrets[0].expires_in_ms = Some(life.as_millis().try_into().unwrap());
    // Whatever the hub's wall clock says.
    deployment.secrets[0].expires_at = Some("1999-01-01T00:00:00Z".parse().unwrap());
    deployment
}

/// Has the hub say that the lease ends soon, and waits until the node has heard it.
async fn cut_short(hub: &mut FakeHub) -> StatusReport {
    set(hub, 2, vec![lease("1", Duration::from_millis(300))]);
    push(hub, 2);
    let heard = |seen| match seen {
        Seen::Report(report) => Some(report).filter(|it| it.generation == Generation(2)),
        _ => None,
    };
    hub.asked(heard).await
}

fn has_expired(status: &AgentStatus) -> bool {
    let mut errors = status.services.iter().filter_map(|s| s.error.as_ref());
    errors.any(|error| error.code == Code::Expired)
}

#[tokio::test]
async fn a_lease_ends_without_a_hub_and_its_successor_brings_it_back() {
    let (mut hub, mut node) = delivered().await;
    cut_short(&mut hub).await;
    hub.stop().await;
    let status = node.until(|status| has_expired(status)).await;
    assert_eq!(node.read("svc", "cred"), None);
    assert!(status.services[0].secrets[0].expires_at.is_some());
    let socket = node.dir.path().join("run/agent.sock");
    let answer = local_api::wait(&socket, "svc", Duration::ZERO).await;
    assert!(!answer.unwrap().applied);

    value(&hub, "cred", "two");
    set(&hub, 3, vec![lease("2", Duration::from_secs(3600))]);
    hub.asked_so_far();
    hub.restart().await;
    settled(&mut hub, 3).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
    node.stop().await;
}

#[tokio::test]
async fn the_hub_hears_of_an_end_and_is_asked_for_another_version() {
    let (mut hub, node) = delivered().await;
    let mut report = cut_short(&mut hub).await;
    while report.deployments[0].error.is_none() {
        report = hub
            .asked(|seen| match seen {
                Seen::Report(report) => Some(report),
                _ => None,
            })
            .await;
    }
    let told = &report.deployments[0];
    assert_eq!(told.error.as_ref().unwrap().code, Code::Expired);
    assert!(told.applied.is_empty());
    assert_eq!(node.read("svc", "cred"), None);
    // No push: it asks by itself.
    value(&hub, "cred", "two");
    set(&hub, 3, vec![lease("2", Duration::from_secs(3600))]);
    settled(&mut hub, 3).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
}

#[tokio::test]
async fn a_restart_over_a_lease_without_a_hub_ends_it_in_time() {
    let (mut hub, mut node) = delivered().await;
    cut_short(&mut hub).await;
    hub.stop().await;
    node.stop().await;
    node.start(&hub);
    node.until(|status| has_expired(status)).await;
    assert_eq!(node.read("svc", "cred"), None);
    node.stop().await;
}

#[tokio::test]
async fn who_should_hear_hears_of_an_end() {
    let mut hub = FakeHub::start().await;
    value(&hub, "cred", "one");
    set(&hub, 1, vec![lease("1", Duration::from_secs(3600))]);
    let mut node = Node::new(&hub);
    let services = node.dir.path().join("services.d");
    fs::create_dir(&services).unwrap();
    node.extra = format!("services_dir: {}\n", services.display());
    // How many files the command finds there when it runs.
    let heard = node.dir.path().join("heard");
    let files = node.dir.path().join("run/services/myorg/svc/main");
    let script = format!("ls {} | wc -l >> {}", files.display(), heard.display());
    let profile = format!(
        "service: myorg/svc\n\
         on_change: {{ command: [/bin/sh, -c, \"{script}\"], debounce: 1ms }}\n"
    );
    fs::write(services.join("svc.yaml"), profile).unwrap();
    node.start(&hub);
    settled(&mut hub, 1).await;
    let done_since = |status: &AgentStatus| {
        let mut consumers = status.services.iter().flat_map(|s| &s.consumers);
        let action = consumers.find_map(|c| c.on_change.as_ref())?;
        (action.state == ActionState::Done).then_some(action.since)
    };
    let status = node.until(|status| done_since(status).is_some()).await;
    let first = done_since(&status);
    cut_short(&mut hub).await;
    node.until(|status| {
        let again = done_since(status);
        has_expired(status) && again.is_some() && again != first
    })
    .await;
    assert_eq!(fs::read_to_string(&heard).unwrap(), "1\n0\n");
    node.stop().await;
}

#[tokio::test]
async fn a_binding_that_is_pending_is_asked_for_again_and_again() {
    let mut hub = FakeHub::start().await;
    let mut late = deployment("d1", "svc", &[("cred", "1")]);
    late.secrets[0].state = SecretState::Pending;
    set(&hub, 1, vec![late]);
    value(&hub, "cred", "one");
    let mut node = Node::started(&hub).await;
    node.until(|status| {
        let mut errors = status.services.iter().filter_map(|s| s.error.as_ref());
        errors.any(|error| error.code == Code::Pending)
    })
    .await;
    hub.asked_so_far();
    for _ in 0..2 {
        let pulled = |seen| matches!(seen, Seen::Pull(_)).then_some(());
        hub.asked(pulled).await;
    }
    // The hub has it now, and its push is lost.
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "1")])]);
    settled(&mut hub, 2).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
}
