//! A node that is rebooted, restarted or left alone while its hub is away.

use std::fs;

use edge_secrets_protocol::status::DeploymentState;
use edge_secrets_protocol::{Code, Problem, routes};

use super::node::{Node, delivered, push, set, settled, value};
use crate::app::tests::deployment;
use crate::hub::fake::Seen;
use crate::status::{AgentStatus, HubState};

fn cached(node: &Node) -> usize {
    let entries = fs::read_dir(node.dir.path().join("state/cache"));
    entries.map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_reboot_without_a_hub_brings_everything_back() {
    let (mut hub, mut node) = delivered().await;
    value(&hub, "key", "k");
    let both = || {
        vec![
            deployment("d1", "svc", &[("cred", "1")]),
            deployment("d2", "new", &[("key", "1")]),
        ]
    };
    set(&hub, 2, both());
    push(&hub, 2);
    settled(&mut hub, 2).await;
    hub.stop().await;
    node.power_off().await;
    node.start(&hub);
    let status = node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(status.hub.state, HubState::Connecting);
    assert!(
        status
            .services
            .iter()
            .all(|s| s.state == DeploymentState::Applied)
    );
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    assert_eq!(node.read("new", "key").as_deref(), Some("k"));

    // Nothing of it is fetched again when the hub is back, and what was missed is caught up.
    set(&hub, 3, vec![deployment("d2", "new", &[("key", "1")])]);
    hub.asked_so_far();
    hub.restart().await;
    settled(&mut hub, 3).await;
    let asked = hub.asked_so_far();
    assert!(
        !asked.iter().any(|seen| matches!(seen, Seen::Fetch(_))),
        "{asked:?}"
    );
    assert_eq!(node.read("svc", "cred"), None);
    assert_eq!(node.read("new", "key").as_deref(), Some("k"));
}

#[tokio::test]
async fn what_was_rotated_away_undeployed_or_revoked_never_comes_back() {
    let (mut hub, mut node) = delivered().await;
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    push(&hub, 2);
    settled(&mut hub, 2).await;
    node.power_off().await;
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));

    set(&hub, 3, vec![]);
    hub.restart().await;
    settled(&mut hub, 3).await;
    assert_eq!(cached(&node), 1, "the index alone");
    node.power_off().await;
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred"), None);

    set(&hub, 4, vec![deployment("d1", "svc", &[("cred", "2")])]);
    hub.restart().await;
    settled(&mut hub, 4).await;
    let revoked = Problem::new(Code::NodeRevoked, "it is revoked");
    hub.answers().refuse.insert(routes::BINDINGS, revoked);
    push(&hub, 5);
    node.until(|status| status.hub.state == HubState::Revoked)
        .await;
    assert_eq!(cached(&node), 0);
    node.power_off().await;
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred"), None);
}

#[tokio::test]
async fn a_restart_never_goes_back_behind_what_is_delivered() {
    let (mut hub, mut node) = delivered().await;
    let state = node.dir.path().join("state");
    let old = state.join("old");
    copy(&state.join("cache"), &old);
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    push(&hub, 2);
    settled(&mut hub, 2).await;
    node.stop().await;
    hub.stop().await;
    // As when the agent was killed after the swap and before the save.
    fs::remove_dir_all(state.join("cache")).unwrap();
    fs::rename(&old, state.join("cache")).unwrap();
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_cache_that_is_lost_or_damaged_is_filled_again() {
    let (mut hub, mut node) = delivered().await;
    node.stop().await;
    fs::write(node.dir.path().join("state/cache/index"), "damaged").unwrap();
    hub.asked_so_far();
    node.start(&hub);
    let fetched = hub.asked(|seen| match seen {
        Seen::Fetch(items) => Some(items),
        _ => None,
    });
    assert_eq!(fetched.await.len(), 1);
    node.until(|status| status.cache.as_ref().is_some_and(|cache| cache.values == 1))
        .await;
    assert!(node.dir.path().join("state/cache.set-aside/index").exists());
    node.power_off().await;
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
}

#[tokio::test]
async fn a_disk_that_fails_delays_nothing_but_the_cache_and_says_so() {
    let (mut hub, mut node) = delivered().await;
    // The next index cannot be written, whoever tries.
    let in_the_way = node.dir.path().join("state/cache/index.new");
    fs::create_dir(&in_the_way).unwrap();
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    push(&hub, 2);
    settled(&mut hub, 2).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("two"));
    let failed = |status: &AgentStatus| status.cache.as_ref().unwrap().error.is_some();
    node.until(|status| failed(status)).await;

    fs::remove_dir(&in_the_way).unwrap();
    value(&hub, "cred", "three");
    set(&hub, 3, vec![deployment("d1", "svc", &[("cred", "3")])]);
    push(&hub, 3);
    settled(&mut hub, 3).await;
    node.until(|status| !failed(status)).await;
    node.power_off().await;
    hub.stop().await;
    node.start(&hub);
    node.until(|status| status.hub.error.is_some()).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("three"));
}

#[tokio::test]
async fn a_hub_that_is_away_for_too_long_costs_everything_until_it_is_back() {
    let (mut hub, mut node) = delivered().await;
    node.configure(&hub, "offline: { max_age: 1s }\n");
    hub.stop().await;
    node.until(|status| status.services.is_empty()).await;
    assert_eq!(node.read("svc", "cred"), None);
    assert_eq!(cached(&node), 0);
    hub.asked_so_far();
    hub.restart().await;
    settled(&mut hub, 1).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
}

#[tokio::test]
async fn a_cache_that_is_switched_off_is_removed() {
    let (mut hub, mut node) = delivered().await;
    assert_eq!(cached(&node), 2);
    node.configure(&hub, "offline: { cache: off }\n");
    node.until(|status| status.cache.is_none()).await;
    assert!(!node.dir.path().join("state/cache").exists());
    node.configure(&hub, "");
    node.until(|status| status.cache.is_some()).await;
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    push(&hub, 2);
    settled(&mut hub, 2).await;
    assert_eq!(cached(&node), 2);
}
