//! A sealing key that is encrypted under a credential of the agent's unit: switched on, lost, switched off.

use std::fs;
use std::time::Duration;

use super::node::{Node, delivered, set, settled, value};
use crate::app::tests::deployment;
use crate::app::{AppError, build};
use crate::config::{Config, SealingKeyCustody};
use crate::hub::fake::{FakeHub, Seen};
use crate::identity::{Custody, CustodyError, NodeIdentity, Store};

const ON: &str = "identity: { sealing_key: credential }\n";

fn credential(node: &mut Node, bytes: &[u8]) {
    let dir = node.dir.path().join("credentials");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("edge-secrets-key"), bytes).unwrap();
    node.credentials = Some(dir);
}

fn custody(node: &Node) -> Custody {
    Custody::of(SealingKeyCustody::File, node.credentials.as_deref()).unwrap()
}

/// Waits until the key in use is kept so and nothing is left of those before it.
async fn kept_as(node: &Node, wanted: SealingKeyCustody) {
    let store = node.store().with_custody(custody(node));
    loop {
        let identity = NodeIdentity::load(&store).unwrap().unwrap();
        if identity.custody == wanted && !identity.sealing.has_former() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node with one kept value and its key under the credential.
async fn under_credential() -> (FakeHub, Node) {
    let (mut hub, mut node) = delivered().await;
    node.stop().await;
    node.extra = ON.into();
    credential(&mut node, &[7; 32]);
    hub.asked_so_far();
    node.start(&hub);
    kept_as(&node, SealingKeyCustody::Credential).await;
    let asked = hub.asked_so_far();
    assert!(
        !asked.iter().any(|seen| matches!(seen, Seen::Fetch(_))),
        "what is kept is sealed anew: {asked:?}"
    );
    (hub, node)
}

#[tokio::test]
async fn switched_on_neither_the_state_directory_nor_a_copy_of_it_opens_what_is_kept() {
    let (mut hub, mut node) = under_credential().await;
    let status = node.until(|status| status.cache.is_some()).await;
    let cache = status.cache.as_ref().unwrap();
    assert_eq!(cache.sealing_key, SealingKeyCustody::Credential);
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));
    assert!(!node.dir.path().join("state/cache.set-aside").exists());

    let stolen = NodeIdentity::load(&Store::new(node.store().dir()));
    let stolen = stolen.unwrap().unwrap();
    assert!(stolen.sealing.current().is_none() && stolen.sealing.all().is_empty());
}

#[tokio::test]
async fn a_lost_credential_costs_the_cache_until_the_hub_has_heard_of_another_key() {
    let (mut hub, mut node) = under_credential().await;
    credential(&mut node, &[8; 32]);
    assert_eq!(node.boot_alone(&mut hub).await, None);
    assert!(node.dir.path().join("state/cache.set-aside/index").exists());
    hub.asked_so_far();
    hub.restart().await;
    settled(&mut hub, 1).await;
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    kept_as(&node, SealingKeyCustody::Credential).await;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));

    // Switched off without it, the same.
    node.extra = String::new();
    node.credentials = None;
    assert_eq!(node.boot_alone(&mut hub).await, None);
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    hub.restart().await;
    settled(&mut hub, 2).await;
    kept_as(&node, SealingKeyCustody::File).await;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn switched_off_with_the_credential_still_there_loses_nothing() {
    let (mut hub, mut node) = under_credential().await;
    node.extra = String::new();
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));
    hub.restart().await;
    kept_as(&node, SealingKeyCustody::File).await;
    node.credentials = None;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_credential_that_is_not_given_is_asked_for() {
    let hub = FakeHub::start().await;
    let node = Node::new(&hub);
    node.configure(&hub, ON);
    let config = Config::load(&node.config_path()).unwrap();
    let error = build(config, &node.config_path(), vec![]).err().unwrap();
    assert!(matches!(error, AppError::Custody(CustodyError::Absent)));
}
