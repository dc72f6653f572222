//! Who may do what: as Open Horizon has it, and decided on every call.

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{Operator, TestHub};
use libtest_mimic::Trial;
use serde_json::json;

use crate::delivery::URL;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_administrator_and_a_user_reach_what_is_theirs,
        nobody_binds_another_users_secret,
        a_removed_user_is_nobody_at_once,
        users_of_a_role_administer_or_do_not,
    ]
}

fn allowed(operator: &Operator, args: &[&str]) {
    let ended = operator.run(args, "value");
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
}

fn denied(operator: &Operator, args: &[&str]) {
    let ended = operator.run(args, "value");
    assert_eq!(ended.code, 77, "{args:?}: {ended:?}");
}

fn an_administrator_and_a_user_reach_what_is_theirs() {
    let hub = TestHub::start();
    let (admin, alice, bob) = (
        hub.operator(),
        hub.user("alice", "user"),
        hub.user("bob", "user"),
    );
    let set = |reference| ["secret", "set", reference, "--value-file", "-"];
    let reveal = |reference| ["secret", "show", reference, "--reveal"];
    // The organisation's.
    allowed(&admin, &set("org"));
    allowed(&admin, &reveal("org"));
    denied(&alice, &set("org"));
    denied(&alice, &set("org2"));
    denied(&alice, &reveal("org"));
    denied(&alice, &["secret", "rm", "org"]);
    let names = alice.json(&["secret", "list"]);
    assert_eq!(names[0]["reference"], "org", "a user lists names: {names}");
    // Her own.
    allowed(&alice, &set("user/alice/own"));
    allowed(&alice, &set("user/alice/node/edge-01/own"));
    allowed(&alice, &reveal("user/alice/own"));
    // Another's: an administrator lists and removes, and neither reads nor writes.
    for other in [&bob, &admin] {
        denied(other, &set("user/alice/own"));
        denied(other, &reveal("user/alice/own"));
    }
    denied(&bob, &["secret", "rm", "user/alice/own"]);
    denied(&bob, &["secret", "versions", "user/alice/own"]);
    let listed = |who: &Operator| who.json(&["secret", "list", "user/alice/"]);
    assert_eq!(listed(&bob), json!([]));
    assert_eq!(listed(&admin).as_array().map(Vec::len), Some(2));
    assert_eq!(listed(&alice).as_array().map(Vec::len), Some(2));
    // What is not there and what is another's are not told apart.
    let absent = bob.run(&reveal("user/alice/absent"), "");
    let present = bob.run(&reveal("user/alice/own"), "");
    assert_eq!(absent.code, present.code);
    assert_eq!(
        absent.stderr.replace("absent", "?"),
        present.stderr.replace("own", "?")
    );
    allowed(&admin, &["secret", "rm", "user/alice/own"]);
    let refusals = admin.audit(&[("actor", "user/bob"), ("result", "denied")]);
    assert!(refusals.len() >= 4, "refusals are audited: {refusals:#?}");
}

fn nobody_binds_another_users_secret() {
    let hub = TestHub::start();
    let (admin, alice, bob) = (
        hub.operator(),
        hub.user("alice", "user"),
        hub.user("bob", "user"),
    );
    alice.set("user/alice/cred", "hers");
    admin.publish_service(&plain_service(URL, &["cred"]));
    let policy = policy(URL, &[], &[("cred", "user/alice/cred")]).to_string();
    for other in [&bob, &admin] {
        let ended = other.run(&["policy", "publish", "steal", "-"], &policy);
        assert_ne!(ended.code, 0, "{ended:?}");
    }
    let ended = alice.run(&["policy", "publish", "own", "-"], &policy);
    assert_eq!(ended.code, 0, "{ended:?}");
    // Nor takes over a policy that binds it.
    let ended = bob.run(&["policy", "publish", "own", "-"], &policy);
    assert_ne!(ended.code, 0, "{ended:?}");
    denied(&bob, &["policy", "rm", "own"]);
}

fn a_removed_user_is_nobody_at_once() {
    let hub = TestHub::start();
    let bob = hub.user("bob", "admin");
    allowed(&bob, &["node", "list"]);
    allowed(&hub.operator(), &["user", "rm", "bob"]);
    denied(&bob, &["node", "list"]);
}

fn users_of_a_role_administer_or_do_not() {
    let hub = TestHub::start();
    let bob = hub.user("bob", "user");
    let _node = hub.raw_node("edge-01", &[]);
    let out = hub.place().join("eve.yaml");
    denied(
        &bob,
        &[
            "user",
            "add",
            "eve",
            "--role",
            "admin",
            "--out",
            out.to_str().expect("plain"),
        ],
    );
    assert!(!out.exists(), "nothing is left of what was refused");
    denied(&bob, &["user", "rm", "admin"]);
    denied(&bob, &["node", "revoke", "edge-01"]);
    denied(&bob, &["node", "rm", "edge-01"]);
    denied(&bob, &["node", "token", "edge-01"]);
}
