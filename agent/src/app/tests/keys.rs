//! The sealing key changes with each renewal; whatever is lost or cut off, what the hub seals and what is
//! kept can be opened, and what is not needed any more opens nothing.

use std::fs;
use std::time::Duration;

use edge_secrets_protocol::{Code, Problem, PublicKey, routes};

use super::node::{Node, push, set, settled, value};
use crate::app::tests::deployment;
use crate::hub::Connection;
use crate::hub::fake::{FakeHub, Seen, now};
use crate::identity::{NodeIdentity, SetNumber, renew};

/// A node that keeps one value, and whose renewal is due and refused.
async fn due() -> (FakeHub, Node) {
    let mut hub = FakeHub::start().await;
    set(&hub, 1, vec![deployment("d1", "svc", &[("cred", "1")])]);
    value(&hub, "cred", "one");
    hub.answers().validity = Some((now() - 1000, now() + 100));
    refuse_renewal(&hub);
    let node = Node::started(&hub).await;
    hub.answers().validity = None;
    settled(&mut hub, 1).await;
    (hub, node)
}

fn refuse_renewal(hub: &FakeHub) {
    let later = Problem::new(Code::Unavailable, "later");
    hub.answers().refuse.insert(routes::RENEW, later);
}

/// Waits until there is one set alone, and gives it.
async fn retired(node: &Node, after: SetNumber) -> NodeIdentity {
    loop {
        let identity = NodeIdentity::load(&node.store()).unwrap().unwrap();
        if identity.set > after && !identity.sealing.has_former() {
            return identity;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn told(hub: &FakeHub) -> Option<PublicKey> {
    hub.answers().sealing_key.clone()
}

#[tokio::test]
async fn a_renewal_changes_the_sealing_key_and_what_is_kept_follows() {
    let (mut hub, mut node) = due().await;
    let before = NodeIdentity::load(&node.store()).unwrap().unwrap();
    node.stop().await;
    hub.answers().refuse.clear();
    hub.asked_so_far();
    node.start(&hub);
    let after = retired(&node, before.set).await;
    assert!(
        after.sealing.current().unwrap().public() != before.sealing.current().unwrap().public()
    );
    assert_eq!(told(&hub), Some(after.sealing.current().unwrap().public()));
    let asked = hub.asked_so_far();
    assert!(
        !asked.iter().any(|seen| matches!(seen, Seen::Fetch(_))),
        "what is there is not fetched again: {asked:?}"
    );
    assert_eq!(node.read("svc", "cred").as_deref(), Some("one"));
    assert_eq!(
        node.boot_alone(&mut hub).await.as_deref(),
        Some("one"),
        "by the new key alone"
    );
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    hub.restart().await;
    settled(&mut hub, 2).await;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_loses_no_value() {
    let (mut hub, mut node) = due().await;
    node.stop().await;
    hub.answers().refuse.clear();
    hub.answers().hang = Some(routes::RENEW);
    let former = told(&hub);
    hub.asked_so_far();
    node.start(&hub);
    hub.asked(|seen| (seen == Seen::Renew).then_some(())).await;
    let next = told(&hub);
    assert!(next != former, "the hub knows the next key");
    node.stop().await;

    // What comes now is sealed to a key of which no set was made.
    hub.answers().hang = None;
    refuse_renewal(&hub);
    value(&hub, "cred", "two");
    set(&hub, 2, vec![deployment("d1", "svc", &[("cred", "2")])]);
    node.start(&hub);
    settled(&mut hub, 2).await;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("two"));

    // The renewal that comes about is of that same key.
    let set = node.store().current().unwrap().unwrap();
    hub.answers().refuse.clear();
    node.stop().await;
    hub.restart().await;
    node.start(&hub);
    retired(&node, set).await;
    assert!(told(&hub) == next);
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_kill_before_the_renewed_identity_was_used_leaves_the_former_key_until_it_is() {
    let (mut hub, mut node) = due().await;
    node.stop().await;
    hub.answers().refuse.clear();
    let before = NodeIdentity::load(&node.store()).unwrap().unwrap();
    let connection = Connection::open(&hub.url(), before.tls.clone()).await;
    let renewed = renew(connection.unwrap(), node.store(), before.set).await;
    let renewed = renewed.unwrap();
    assert!(renewed.sealing.has_former());
    node.start(&hub);
    // It may have got further than the boot that follows, which is no matter.
    let read = node.boot_alone(&mut hub).await;
    assert_eq!(read.as_deref(), Some("one"));
    hub.restart().await;
    retired(&node, before.set).await;
    let read = node.boot_alone(&mut hub).await;
    assert_eq!(read.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_value_at_hand_before_the_key_changes_is_used_after_it() {
    let (mut hub, mut node) = due().await;
    let pending = Problem::new(Code::Pending, "not yet");
    hub.answers().item_problems.insert("late".into(), pending);
    value(&hub, "key", "k");
    value(&hub, "late", "l");
    let both = deployment("d2", "two", &[("key", "1"), ("late", "1")]);
    set(&hub, 2, vec![both]);
    push(&hub, 2);
    hub.asked(|seen| match seen {
        Seen::Fetch(items) => items.iter().any(|i| i.name.as_str() == "key").then_some(()),
        _ => None,
    })
    .await;
    let set_before = node.store().current().unwrap().unwrap();
    hub.answers().refuse.clear();
    retired(&node, set_before).await;
    hub.answers().item_problems.clear();
    let mut fetched = Vec::new();
    while node.read("two", "late").is_none() {
        if let Seen::Fetch(items) = hub.asked(Some).await {
            fetched.extend(items);
        }
    }
    assert_eq!(node.read("two", "key").as_deref(), Some("k"));
    assert!(
        fetched.iter().all(|item| item.name.as_str() == "late"),
        "{fetched:?}"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_keeps_the_former_key_and_says_so() {
    let (mut hub, mut node) = due().await;
    let state = node.dir.path().join("state");
    let value = fs::read_dir(state.join("cache")).unwrap().find_map(|e| {
        let name = e.unwrap().file_name().into_string().unwrap();
        name.ends_with(".sealed").then_some(name)
    });
    let in_the_way = state.join(format!("cache/{}.new", value.unwrap()));
    node.stop().await;
    let before = node.store().current().unwrap().unwrap();
    hub.answers().refuse.clear();
    node.start(&hub);
    fs::create_dir_all(&in_the_way).unwrap();
    let failed = |status: &crate::status::AgentStatus| {
        status
            .cache
            .as_ref()
            .is_some_and(|cache| cache.error.is_some())
    };
    node.until(|status| failed(status)).await;
    assert!(state.join("identity-1/sealing.key").exists());
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));
    fs::remove_dir(&in_the_way).ok();
    hub.restart().await;
    retired(&node, before).await;
    assert_eq!(node.boot_alone(&mut hub).await.as_deref(), Some("one"));
}
