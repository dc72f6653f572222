//! The hub, killed at each of its changes: what it has answered is there, what it has not is there as a
//! whole or not at all.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use edge_secrets_protocol::{SealingKey, routes};
use edge_secrets_tests::cut::Order;
use edge_secrets_tests::node::enrol_body;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{Canary, Client, Credentials, RawNode, TestAgent, TestHub, wait};
use http::Method;
use libtest_mimic::Trial;
use serde_json::json;

use crate::node::URL;
use crate::points::{Tally, kills};
use crate::store::{Store, ended, recorded, recovery_key, text, traced};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_hub_killed_at_any_change_of_a_set_secret_has_what_it_answered,
        a_hub_killed_at_any_change_of_a_policy_has_it_whole_or_not_at_all,
        a_hub_killed_at_any_change_of_an_enrolment_knows_the_node_or_does_not,
        a_hub_killed_at_any_change_of_a_renewal_leaves_the_node_a_certificate,
        a_hub_killed_at_any_change_of_a_revocation_revokes_what_it_answered,
        a_hub_killed_at_any_change_of_its_start_starts_the_next_time,
        an_exchange_of_the_master_key_killed_at_any_change_loses_nothing,
        a_backup_killed_at_any_change_leaves_no_half_file,
        a_restore_killed_at_any_change_is_no_hub_or_a_whole_one,
        an_init_killed_at_any_change_is_no_hub_or_a_whole_one,
    ]
}

fn a_hub_killed_at_any_change_of_a_set_secret_has_what_it_answered() {
    let mut store = Store::new();
    let agent = RefCell::new(TestAgent::start(&store.hub, "edge-01", &[]));
    let operator = store.hub.operator();
    let first = Canary::new();
    operator.set("pair", first.value());
    operator.publish_service(&plain_service(URL, &["a"]));
    operator.publish_policy("pair", &policy(URL, &[], &[("a", "pair")]));
    store.hub.await_rollout("pair", 1);
    let file = agent.borrow().consumer(URL, "main").join("a");
    store.calls(
        "hub: secret set",
        |store, _| {
            let old = fs::read(&file).expect("the value before");
            (store.hub.admin(), Canary::new(), old)
        },
        |_, (admin, canary, _)| {
            let body = admin.sealed("pair", &[("value", canary.value().as_bytes())]);
            let path = admin.path("secrets/pair");
            let answer = admin.client.json(Method::PUT, &path, &body);
            answer.is_ok_and(|answer| answer.status / 100 == 2)
        },
        |store, (_, canary, old), answered, what| {
            let shown = store.hub.operator();
            let shown = shown.ok(&["secret", "show", "pair", "--reveal"], "");
            let shown = shown.trim_end_matches('\n').as_bytes();
            let new = canary.value();
            let is_new = shown == new.as_bytes();
            assert!(
                is_new || (!answered && shown == old),
                "{what}: {} bytes",
                shown.len()
            );
            at_once(&agent);
            store.hub.await_rollout("pair", 1);
            wait::content(&file, shown);
            let scan = Scanner::new(&[&canary]).files(store.hub.place());
            scan.assert_clean(what);
        },
    );
}

fn a_hub_killed_at_any_change_of_a_policy_has_it_whole_or_not_at_all() {
    let mut store = Store::new();
    let agent = RefCell::new(TestAgent::start(&store.hub, "edge-01", &[]));
    let operator = store.hub.operator();
    operator.set("pair", "value");
    operator.publish_service(&plain_service(URL, &["a"]));
    let file = agent.borrow().consumer(URL, "main").join("a");
    let bound = policy(URL, &[], &[("a", "pair")]);
    store.calls(
        "hub: policy publish",
        |store, _| store.hub.admin(),
        |_, admin| {
            let path = admin.path("policies/pair");
            let answer = admin.client.json(Method::PUT, &path, &bound);
            answer.is_ok_and(|answer| answer.status / 100 == 2)
        },
        |store, _, answered, what| {
            let mut admin = store.hub.admin();
            let path = admin.path("policies/pair");
            let found = admin.client.get(&path).expect("an answer");
            if found.status == 404 {
                assert!(!answered, "{what}: it is not there");
                assert!(!file.exists(), "{what}: delivered without a policy");
                assert_eq!(admin.put("policies/pair", &bound).status, 200, "{what}");
            } else {
                assert_eq!(found.status, 200, "{what}: {found}");
            }
            // It reaches the node, and its end does.
            at_once(&agent);
            store.hub.await_rollout("pair", 1);
            wait::content(&file, b"value");
            let gone = admin.client.send(Method::DELETE, &path, &[], "");
            assert_eq!(gone.expect("an answer").status, 200, "{what}");
            wait::gone(&file);
        },
    );
}

fn a_hub_killed_at_any_change_of_an_enrolment_knows_the_node_or_does_not() {
    let mut store = Store::new();
    store.calls(
        "hub: enrolment",
        |store, round| {
            let node = format!("edge-{round}");
            let key = rcgen::KeyPair::generate().expect("a key");
            let token = store.hub.token(&node);
            let body = enrol_body(&token, &key, &SealingKey::generate(), &[]);
            (node, body, store.hub.stranger())
        },
        |_, (_, body, stranger)| {
            let answer = stranger.json(Method::POST, routes::ENROLL, body);
            answer.is_ok_and(|answer| answer.status / 100 == 2)
        },
        |store, (node, body, _), answered, what| {
            let again = store
                .hub
                .stranger()
                .json(Method::POST, routes::ENROLL, &body);
            let again = again.expect("an answer");
            let used = again.status == 403;
            assert!(used || again.status == 200, "{what}: {again}");
            assert!(used || !answered, "{what}: the token works a second time");
            let nodes = store.hub.operator().json(&["node", "list"]);
            let known = nodes.as_array().expect("a list").iter();
            assert_eq!(
                known.filter(|n| n["node"] == node).count(),
                1,
                "{what}: {nodes}"
            );
            // Whoever did not hear the answer takes another token.
            let mut anew = RawNode::enrol(&store.hub, &node, &[]);
            let answer = anew.client.get(routes::BINDINGS).expect("an answer");
            assert_eq!(answer.status, 200, "{what}: {answer}");
        },
    );
}

fn a_hub_killed_at_any_change_of_a_renewal_leaves_the_node_a_certificate() {
    let mut store = Store::new();
    store.calls(
        "hub: renewal",
        |store, round| {
            let node = RawNode::enrol(&store.hub, &format!("edge-{round}"), &[]);
            (node, rcgen::KeyPair::generate().expect("a key"), None)
        },
        |_, (node, key, got)| {
            let body = enrol_body("", key, &SealingKey::generate(), &[]);
            let body = json!({ "csr": body.csr });
            let answer = node.client.json(Method::POST, routes::RENEW, &body);
            *got = answer.ok().filter(|answer| answer.status == 200);
            got.is_some()
        },
        |store, (mut node, key, got), answered, what| {
            let works = |who: &Credentials| {
                let client = Client::connect(store.hub.port(), Some(&store.hub.ca()), Some(who));
                let answer = client.and_then(|mut client| client.get(routes::BINDINGS));
                answer.is_ok_and(|answer| answer.status / 100 == 2)
            };
            if let Some(answer) = got {
                let identity: edge_secrets_protocol::enroll::Identity = answer.ok();
                let new = Credentials {
                    chain: identity.certificate,
                    key: key.serialize_pem(),
                };
                assert!(works(&new), "{what}: the new certificate");
                return;
            }
            assert!(!answered);
            assert!(works(&node.credentials), "{what}: the old certificate");
            node.reconnect(&store.hub);
            let body = enrol_body("", &key, &SealingKey::generate(), &[]);
            let again = node
                .client
                .json(Method::POST, routes::RENEW, &json!({ "csr": body.csr }));
            assert_eq!(again.expect("an answer").status, 200, "{what}: again");
        },
    );
}

fn a_hub_killed_at_any_change_of_a_revocation_revokes_what_it_answered() {
    let mut store = Store::new();
    store.calls(
        "hub: revocation",
        |store, round| {
            let name = format!("edge-{round}");
            let node = RawNode::enrol(&store.hub, &name, &[]);
            (name, node, store.hub.admin())
        },
        |_, (name, _, admin)| {
            let path = admin.path(&format!("nodes/{name}/revoke"));
            let answer = admin.client.json(Method::POST, &path, &json!({}));
            answer.is_ok_and(|answer| answer.status / 100 == 2)
        },
        |store, (name, node, _), answered, what| {
            let refused = || {
                let who = Some(&node.credentials);
                let client = Client::connect(store.hub.port(), Some(&store.hub.ca()), who);
                let answer = client.and_then(|mut client| client.get(routes::BINDINGS));
                answer.is_ok_and(|answer| answer.code() == "node_revoked")
            };
            assert!(
                !answered || refused(),
                "{what}: served after it was revoked"
            );
            store.hub.operator().ok(&["node", "revoke", &name], "");
            assert!(refused(), "{what}: served after it was revoked again");
        },
    );
}

fn a_hub_killed_at_any_change_of_its_start_starts_the_next_time() {
    let mut store = Store::new();
    store.hub.operator().set("pair", "value");
    store.stop();
    store.serve(Order::Count);
    let acts = store.cut().acts();
    store.stop();
    let config = store.hub.config();
    let data = store.hub.data_dir();
    let serve = ["serve", "--config", text(&config)];
    let mut tally = Tally::new("hub: start", acts.len(), "3 7 8");
    for order in kills(&acts) {
        let (ended, end) = traced(store.hub.place(), &[&data], order, &serve);
        tally.count(ended.code != 0);
        store.serve(Order::Count);
        let shown = store.hub.operator();
        let shown = shown.ok(&["secret", "show", "pair", "--reveal"], "");
        assert_eq!(shown.trim_end(), "value", "{order}: {end}");
        store.stop();
    }
    tally.finish();
}

fn an_exchange_of_the_master_key_killed_at_any_change_loses_nothing() {
    let mut hub = TestHub::start();
    hub.operator().set("pair", "value");
    assert!(hub.stop().success());
    let (config, data) = (hub.config(), hub.data_dir());
    let rotate = ["rotate-master-key", "--config", text(&config)];
    let acts = recorded(hub.place(), &[&data], &rotate);
    let mut tally = Tally::new("hub: rotate-master-key", acts.len(), "3 8");
    for order in kills(&acts) {
        let (ended, end) = traced(hub.place(), &[&data], order, &rotate);
        tally.count(ended.code != 0);
        hub.serve();
        let shown = hub
            .operator()
            .ok(&["secret", "show", "pair", "--reveal"], "");
        assert_eq!(shown.trim_end(), "value", "{order}: {end}");
        assert!(!data.join("master.key.next").exists(), "{order}: {end}");
        assert!(hub.stop().success());
    }
    tally.finish();
}

/// The arguments of a backup.
fn backing_up<'a>(config: &'a Path, out: &'a Path, public: &'a Path) -> [&'a str; 7] {
    let (config, out, public) = (text(config), text(out), text(public));
    [
        "backup",
        "--config",
        config,
        "--out",
        out,
        "--recipient",
        public,
    ]
}

fn a_backup_killed_at_any_change_leaves_no_half_file() {
    let hub = TestHub::start();
    hub.operator().set("pair", "value");
    let (config, data) = (hub.config(), hub.data_dir());
    let (key, public) = recovery_key(hub.place());
    let dir = tempfile::tempdir().expect("a place");
    let out = dir.path().join("hub.backup");
    let backup = backing_up(&config, &out, &public);
    let check = [
        "restore",
        "--from",
        text(&out),
        "--check",
        "--key",
        text(&key),
    ];
    let acts = recorded(hub.place(), &[&data, dir.path()], &backup);
    let mut tally = Tally::new("hub: backup", acts.len(), "3 8");
    for order in kills(&acts) {
        fs::remove_file(&out).ok();
        let (killed, end) = traced(hub.place(), &[&data, dir.path()], order, &backup);
        tally.count(killed.code != 0);
        if !out.exists() {
            let again = ended(&backup);
            assert_eq!(again.code, 0, "{order}: {end}: {again:?}");
        }
        let whole = ended(&check);
        assert_eq!(whole.code, 0, "{order}: {end}: {whole:?}");
        assert!(
            !data.join("backup.db").exists() || killed.code != 0,
            "{order}: {end}"
        );
    }
    tally.finish();
}

fn a_restore_killed_at_any_change_is_no_hub_or_a_whole_one() {
    let hub = TestHub::start();
    hub.operator().set("pair", "value");
    let config = hub.config();
    let (key, public) = recovery_key(hub.place());
    let out = hub.place().join("hub.backup");
    let backup = backing_up(&config, &out, &public);
    assert_eq!(ended(&backup).code, 0);
    let place = tempfile::tempdir().expect("a place");
    let data = place.path().join("data");
    let restore = [
        "restore",
        "--from",
        text(&out),
        "--data-dir",
        text(&data),
        "--key",
        text(&key),
    ];
    whole_or_none(&hub, "hub: restore", &data, &restore);
}

fn an_init_killed_at_any_change_is_no_hub_or_a_whole_one() {
    let hub = TestHub::start();
    let place = tempfile::tempdir().expect("a place");
    let data = place.path().join("data");
    let init = [
        "init",
        "--data-dir",
        text(&data),
        "--org",
        "myorg",
        "--listen",
        "127.0.0.1:0",
    ];
    whole_or_none(&hub, "hub: init", &data, &init);
}

/// Starts the agent again: it would wait longer with each hub that it finds gone.
fn at_once(agent: &RefCell<TestAgent>) {
    let mut agent = agent.borrow_mut();
    agent.kill();
    agent.run();
}

/// A command that fills a directory: killed anywhere, it leaves a hub's or one that nothing serves, and
/// that says what it is.
fn whole_or_none(hub: &TestHub, scene: &'static str, data: &std::path::Path, fill: &[&str]) {
    let above = data.parent().expect("a directory");
    let acts = recorded(hub.place(), &[above], fill);
    let config = data.join("hub.yaml");
    let mut tally = Tally::new(scene, acts.len(), "3 8");
    for order in kills(&acts) {
        fs::remove_dir_all(data).expect("an own directory");
        let (killed, end) = traced(hub.place(), &[above], order, fill);
        let what = format!("{scene}, {order}: {end}");
        tally.count(killed.code != 0);
        let again = ended(fill);
        if config.exists() && again.code != 0 {
            assert!(again.stderr.contains("is not empty"), "{what}: {again:?}");
        } else if again.code != 0 {
            assert!(again.stderr.contains("cut off"), "{what}: {again:?}");
            fs::remove_dir_all(data).expect("an own directory");
            let anew = ended(fill);
            assert_eq!(anew.code, 0, "{what}: {anew:?}");
        }
        // The exchange opens every key with the master key, and the database as a whole.
        let opened = ended(&["rotate-master-key", "--config", text(&config)]);
        let elsewhere = opened.stderr.contains("is serving");
        assert!(opened.code == 0 || elsewhere, "{what}: {opened:?}");
    }
    tally.finish();
}
