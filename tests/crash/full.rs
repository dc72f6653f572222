//! Disks that are full, over quota, read-only or broken, at each change of agent and hub: nothing half is
//! shown or kept, the reason is said, and once there is room everything goes on by itself.

use std::fs;
use std::time::Duration;

use edge_secrets_protocol::routes;
use edge_secrets_tests::cut::{Act, Kind, Order};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, RawNode, TestAgent, wait};
use http::Method;
use libtest_mimic::Trial;
use nix::libc;
use serde_json::json;

use crate::changes::{deployed, recorded};
use crate::node::{Node, URL, Whole};
use crate::points::{Tally, chosen};
use crate::store::Store;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_agent_without_room_at_any_change_keeps_the_old_value_and_goes_on_when_there_is_room,
        a_hub_without_room_at_any_change_refuses_writes_in_words_and_goes_on_when_there_is_room,
    ]
}

fn an_agent_without_room_at_any_change_keeps_the_old_value_and_goes_on_when_there_is_room() {
    let mut node = deployed();
    let whole = Whole::of(&node);
    let acts = recorded(&mut node, &whole, Node::rotate);
    let mut tally = Tally::new("no room, agent's rotation", acts.len(), "1 3 4 6 7 8 9");
    let runtime = fs::canonicalize(node.agent.runtime_dir()).expect("a directory");
    for (round, (at, act)) in failing(&acts).into_iter().enumerate() {
        let (errno, on_tmpfs, on_disk) = ERRORS[round % ERRORS.len()];
        node.cut().order(Order::FailFrom(at, errno));
        node.rotate();
        let what = format!("change {at}, {act}: {on_disk}");
        let (act, swapped) = node.await_failing(at, &what);
        let what = format!("change {at}, {act}: {on_disk}");
        tally.count(true);
        // Before the swap it is a failure of the deployment; after it, nothing that services see.
        if !swapped && act.path.starts_with(&runtime) {
            node.await_failed(on_tmpfs, &what);
            node.assert_before(&what);
        } else if in_cache(&act) {
            node.await_cache_error(on_disk, &what);
            // The disk delays no reader.
            node.assert_wanted(&what);
        } else {
            let log = node.agent.log();
            wait::within(&log, A_MOMENT, &mut || false);
        }
        node.assert_readable(&what);
        node.assert_nothing_in_clear(&what);
        node.cut().order(Order::Count);
        node.settle(&whole, &what);
    }
    tally.finish();
}

fn a_hub_without_room_at_any_change_refuses_writes_in_words_and_goes_on_when_there_is_room() {
    let store = Store::new();
    let agent = TestAgent::start(&store.hub, "edge-01", &[("site", json!("berlin"))]);
    let operator = store.hub.operator();
    let first = Canary::new();
    operator.set("pair", first.value());
    operator.publish_service(&plain_service(URL, &["a"]));
    operator.publish_policy("pair", &policy(URL, &["site == berlin"], &[("a", "pair")]));
    store.hub.await_rollout("pair", 1);
    let file = agent.consumer(URL, "main").join("a");
    let mut reader = RawNode::enrol(&store.hub, "edge-02", &[]);
    let mut admin = store.hub.admin();
    let path = admin.path("secrets/pair");
    store.cut().order(Order::Count);
    let body = admin.sealed("pair", &[("value", b"recorded")]);
    let answer = admin.client.json(Method::PUT, &path, &body);
    assert_eq!(answer.expect("an answer").status, 200);
    store.hub.await_rollout("pair", 1);
    let acts = store.cut().acts();
    let mut tally = Tally::new("no room, hub's secret set", acts.len(), "3 6 7");
    for (at, act) in failing(&acts) {
        for (errno, _, error) in ERRORS {
            let what = format!("change {at}, {act}: {error}");
            let canary = Canary::new();
            let old = fs::read(&file).expect("the value before");
            let unsynced = || store.hub.log_text().matches(FSYNC_FAILED).count();
            let before = unsynced();
            store.cut().order(Order::FailFrom(at, errno));
            let body = admin.sealed("pair", &[("value", canary.value().as_bytes())]);
            let answer = admin.client.json(Method::PUT, &path, &body);
            let answer = answer.expect("an answer");
            tally.count(true);
            if answer.status != 200 {
                assert_eq!(answer.code(), "unavailable", "{what}: {answer}");
                let told = answer.to_string();
                // Of what could not be synced SQLite does not tell why.
                let full = errno == libc::ENOSPC && unsynced() == before;
                assert!(
                    told.contains(if full { "disk is full" } else { "disk" }),
                    "{what}: {told}"
                );
            }
            // What needs no write goes on.
            let bindings = reader.client.get(routes::BINDINGS).expect("an answer");
            assert_eq!(bindings.status, 200, "{what}: {bindings}");
            let listed = admin.client.get(&admin.path("secrets")).expect("an answer");
            assert_eq!(listed.status, 200, "{what}: {listed}");
            let seen = fs::read(&file).expect("last known good");
            assert!(seen == old || seen == canary.value().as_bytes(), "{what}");
            store.cut().order(Order::Count);
            let body = admin.sealed("pair", &[("value", canary.value().as_bytes())]);
            let answer = admin.client.json(Method::PUT, &path, &body);
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{what}, with room: {answer}");
            wait::content(&file, canary.value().as_bytes());
            store.hub.await_rollout("pair", 1);
            let scan = Scanner::new(&[&canary]).files(store.hub.place());
            scan.assert_clean(&what);
        }
    }
    tally.finish();
}

/// Whether it is a change of the sealed cache.
pub(crate) fn in_cache(act: &Act) -> bool {
    let mut parts = act.path.components();
    parts.any(|part| part.as_os_str() == "cache")
}

/// The changes that can fail for lack of room.
pub(crate) fn failing(acts: &[Act]) -> Vec<(usize, &Act)> {
    let acts = chosen(acts).into_iter().map(|at| (at, &acts[at - 1]));
    acts.filter(|(_, act)| !matches!(act.kind, Kind::Remove | Kind::Mode))
        .collect()
}

/// What the kernel says, and what is said of it: of the tmpfs, of a disk.
pub(crate) const ERRORS: [(i32, &str, &str); 4] = [
    (libc::ENOSPC, "the tmpfs is full", "No space left"),
    (libc::EDQUOT, "the tmpfs is full", "quota exceeded"),
    (libc::EIO, "I/O error", "Input/output error"),
    (libc::EROFS, "ead-only", "Read-only"),
];
/// SQLite's code for that.
const FSYNC_FAILED: &str = "(code: 1034)";
/// For what is not to be seen from outside.
const A_MOMENT: Duration = Duration::from_millis(500);
