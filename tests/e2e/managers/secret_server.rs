//! Secret Server (PIM): what stands before its values, and what it never says outright.

use std::fs;
use std::time::Duration;

use edge_secrets_fakes::log::Call;
use edge_secrets_fakes::secret_server::{Item, OTHER_USER};
use edge_secrets_tests::{Operator, TestAgent, TestHub, TestSecretServer, wait};
use libtest_mimic::Trial;
use serde_json::json;

use super::{
    URL, another, await_trouble, await_well, bind, bind_at, explained, file, node_at, text,
};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        by_path_and_by_number_it_reaches_its_nodes_and_nothing_is_checked_out,
        a_checked_out_secret_is_one_nodes_until_its_deployment_goes,
        what_somebody_else_has_checked_out_is_waited_for,
        what_stands_before_a_value_is_told_and_takes_nothing_away,
        a_comment_is_given_where_one_is_wanted,
        absent_or_denied_never_deletes,
    ]
}

const DB: &str = "pim:BU044/Team/db";
const PASSWORD: &str = "pim:BU044/Team/db#password";

/// A hub over a Secret Server, with settings of its kind.
fn hub_over(pim: &TestSecretServer, settings: &[(&str, serde_yaml::Value)]) -> TestHub {
    TestHub::configured(|config| {
        pim.configure(config, &["BU044/Team", "id"]);
        for (name, value) in settings {
            config["managers"][0]["secret_server"][*name] = value.clone();
        }
    })
}

fn add(pim: &TestSecretServer, name: &str, password: &str) -> u64 {
    let items = [
        Item::text("username", "uplink"),
        Item::password("password", password),
    ];
    pim.add("BU044/Team", name, &items)
}

/// Demands that every read of a value said that it must not check anything out.
fn assert_no_read_checks_out(pim: &TestSecretServer) {
    let reads = pim.reads();
    assert!(!reads.is_empty(), "nothing was read");
    let says_so = |call: &Call| {
        let mut query = call.query.iter();
        query.any(|(name, value)| name == "noAutoCheckout" && value == "true")
    };
    for call in &reads {
        assert!(says_so(call), "{call:?}");
    }
}

/// Does everything that an operator can do to look.
fn look(operator: &Operator) {
    for args in [
        &["secret", "show", DB][..],
        &["secret", "versions", DB],
        &["secret", "list", "pim:BU044/Team/"],
        &["secret", "list", "pim:BU044/", "--search", "db"],
        &["manager", "check", "pim"],
        &["manager", "list"],
        &["lease", "list"],
    ] {
        operator.ok(args, "");
    }
}

fn by_path_and_by_number_it_reaches_its_nodes_and_nothing_is_checked_out() {
    let pim = TestSecretServer::start();
    let items = [
        Item::text("username", "uplink"),
        Item::password("password", "one"),
        Item::file("keytab", b"\x05\x02\0\xff"),
    ];
    let id = pim.add("BU044/Team", "db", &items);
    // As newer servers do: that takes a read of the field by itself.
    pim.secret(id, |secret| secret.hides_passwords = true);
    let hub = hub_over(&pim, &[]);
    let agents = ["edge-01", "edge-02"].map(|node| TestAgent::start(&hub, node, &[]));
    let by_number = format!("pim:id/{id}#password");
    let bindings = [
        ("username", "pim:BU044/Team/db#username"),
        ("password", PASSWORD),
        ("keytab", "pim:BU044/Team/db#keytab"),
        ("by-number", &by_number),
    ];
    bind(&hub.operator(), "uplink", URL, &bindings);
    for agent in &agents {
        wait::content(&file(agent, "username"), b"uplink");
        wait::content(&file(agent, "password"), b"one");
        wait::content(&file(agent, "keytab"), b"\x05\x02\0\xff");
        wait::content(&file(agent, "by-number"), b"one");
    }
    hub.await_rollout("uplink", 2);
    let whole_and_two_fields = 3;
    let given = pim.with(|pim| pim.values_given);
    assert_eq!(
        given,
        2 * whole_and_two_fields,
        "once for each of its names"
    );
    // By hand, and by the manager itself.
    pim.edit(id, "password", "two");
    for agent in &agents {
        wait::content(&file(agent, "password"), b"two");
        wait::content(&file(agent, "by-number"), b"two");
    }
    pim.rotate(id, "password", "three");
    for agent in &agents {
        wait::content(&file(agent, "password"), b"three");
        wait::content(&file(agent, "by-number"), b"three");
    }
    look(&hub.operator());
    assert_no_read_checks_out(&pim);
    assert_eq!(pim.checkouts(), 0);
}

fn a_checked_out_secret_is_one_nodes_until_its_deployment_goes() {
    let pim = TestSecretServer::start();
    let id = add(&pim, "db", "one");
    pim.secret(id, |secret| {
        secret.checkout = Some(Duration::from_secs(30 * 60));
        secret.changes_at_check_in = true;
    });
    let mut hub = hub_over(&pim, &[("checkout", true.into())]);
    let (one, two) = (
        node_at(&hub, "edge-01", "one"),
        node_at(&hub, "edge-02", "two"),
    );
    let operator = hub.operator();
    look(&operator);
    assert_eq!(
        operator.json(&["secret", "show", DB])["effect"],
        "exclusive"
    );
    let refused = operator.run(&["secret", "show", DB, "--reveal"], "");
    assert_ne!(refused.code, 0, "{refused:?}");
    let said = bind_at(&operator, "one", &[("password", PASSWORD)]);
    assert!(said.contains("for one node alone"), "{said}");
    assert_eq!(text(&one, "password"), "one");
    bind_at(&operator, "two", &[("password", PASSWORD)]);
    await_trouble(&hub, "two", "exclusive");
    assert_eq!(explained(&operator, "edge-02"), "exclusive");
    look(&operator);
    pim.asked_again(&hub.log(), 3);
    assert_eq!(pim.checkouts(), 1, "looking takes nothing");
    assert!(!file(&two, "password").exists());
    // Another process of the hub knows what is its own to give back.
    hub.kill();
    hub.serve();
    one.await_hub("connected");
    assert!(pim.secret(id, |secret| secret.is_ours()));
    hub.operator().ok(&["policy", "rm", "one"], "");
    wait::gone(&file(&one, "password"));
    // Checked in, and out again for who waited: with the password of after the check-in.
    assert_eq!(text(&two, "password"), "changed-at-check-in-1");
    assert_eq!(pim.checkouts(), 2);
    hub.operator().ok(&["policy", "rm", "two"], "");
    pim.until(&hub.log(), "it is checked in", |pim| {
        pim.secret(id, |secret| secret.checked_out.is_none())
    });
    assert_eq!(pim.checkouts(), 2);
    assert_no_read_checks_out(&pim);
}

fn what_somebody_else_has_checked_out_is_waited_for() {
    let pim = TestSecretServer::start();
    let id = add(&pim, "db", "one");
    let theirs_for = |time: Duration| {
        let until = pim.now() + time;
        pim.secret(id, |secret| secret.checked_out = Some((OTHER_USER, until)));
    };
    pim.secret(id, |secret| {
        secret.checkout = Some(Duration::from_secs(30 * 60))
    });
    let hub = hub_over(&pim, &[("checkout", true.into())]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    theirs_for(Duration::from_secs(17 * 60 + 50));
    let shown = operator.run(&["secret", "show", DB], "");
    assert_ne!(shown.code, 0);
    assert!(shown.stderr.contains("Somebody else"), "{}", shown.stderr);
    assert!(shown.stderr.contains("17 min"), "{}", shown.stderr);
    // For the rest of a minute, so that it is asked about again soon.
    theirs_for(Duration::from_secs(55));
    bind(&operator, "uplink", URL, &[("password", PASSWORD)]);
    await_trouble(&hub, "uplink", "busy");
    assert_eq!(explained(&operator, "edge-01"), "busy");
    assert_eq!(pim.checkouts(), 0);
    pim.secret(id, |secret| secret.checked_out = None);
    assert_eq!(text(&agent, "password"), "one");
    await_well(&hub, "uplink");
    assert_no_read_checks_out(&pim);
}

fn what_stands_before_a_value_is_told_and_takes_nothing_away() {
    let pim = TestSecretServer::start();
    let hub = hub_over(&pim, &[]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    for (name, code, advice) in [
        ("approval", "needs_approval", "approve"),
        ("comment", "needs_comment", "`comment`"),
        ("checkout", "needs_checkout", "`checkout: true`"),
    ] {
        let id = add(&pim, name, "one");
        let stands = |stands: bool| {
            pim.secret(id, |secret| match name {
                "approval" => secret.wants_approval = stands,
                "comment" => secret.wants_comment = stands,
                _ => secret.checkout = stands.then_some(Duration::from_secs(600)),
            });
        };
        let reference = format!("pim:BU044/Team/{name}");
        let bound = format!("{reference}#password");
        bind(&operator, "uplink", URL, &[("password", &bound)]);
        wait::content(&file(&agent, "password"), b"one");
        await_well(&hub, "uplink");
        // From now on, and with another value that nobody gets before.
        stands(true);
        pim.edit(id, "password", "two");
        await_trouble(&hub, "uplink", code);
        assert_eq!(explained(&operator, "edge-01"), code);
        let shown = operator.run(&["secret", "show", &reference], "");
        assert_ne!(shown.code, 0, "{name}");
        assert!(shown.stderr.contains(advice), "{}", shown.stderr);
        pim.asked_again(&hub.log(), 2);
        let kept = fs::read(file(&agent, "password")).expect("it stays");
        assert_eq!(kept, b"one", "{name}");
        stands(false);
        wait::content(&file(&agent, "password"), b"two");
        await_well(&hub, "uplink");
    }
    assert_eq!(pim.checkouts(), 0);
    assert_no_read_checks_out(&pim);
}

fn a_comment_is_given_where_one_is_wanted() {
    let pim = TestSecretServer::start();
    let (plain, taken) = (add(&pim, "db", "one"), add(&pim, "taken", "two"));
    for id in [plain, taken] {
        pim.secret(id, |secret| secret.wants_comment = true);
    }
    pim.secret(taken, |secret| {
        secret.checkout = Some(Duration::from_secs(600))
    });
    let settings = [
        ("comment", "delivered by edge-secrets".into()),
        ("checkout", true.into()),
    ];
    let hub = hub_over(&pim, &settings);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let bindings = [
        ("plain", PASSWORD),
        ("taken", "pim:BU044/Team/taken#password"),
    ];
    bind(&hub.operator(), "uplink", URL, &bindings);
    wait::content(&file(&agent, "plain"), b"one");
    wait::content(&file(&agent, "taken"), b"two");
    assert_eq!(pim.checkouts(), 1);
    assert_no_read_checks_out(&pim);
    hub.operator().ok(&["policy", "rm", "uplink"], "");
    pim.until(&hub.log(), "it is checked in", |pim| {
        pim.secret(taken, |secret| secret.checked_out.is_none())
    });
}

fn absent_or_denied_never_deletes() {
    let pim = TestSecretServer::start();
    let id = add(&pim, "db", "one");
    let mut hub = hub_over(&pim, &[]);
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    bind(&hub.operator(), "uplink", URL, &[("password", PASSWORD)]);
    wait::content(&file(&agent, "password"), b"one");
    hub.await_rollout("uplink", 1);
    pim.secret(id, |secret| secret.visible = false);
    await_trouble(&hub, "uplink", "not_found_or_denied");
    let shown = hub.operator().run(&["secret", "show", DB], "");
    assert_ne!(shown.code, 0);
    assert!(
        shown.stderr.contains("does not tell which"),
        "{}",
        shown.stderr
    );
    // However often it says so, and to whichever process of the hub.
    pim.asked_again(&hub.log(), 8);
    hub.stop();
    hub.serve();
    agent.await_hub("connected");
    pim.asked_again(&hub.log(), 8);
    let rollout = hub.operator().json(&["rollout", "uplink"]);
    let standing = &rollout["nodes"][0]["secrets"][0];
    assert_eq!(standing["state"], "ready", "{rollout}");
    assert_eq!(
        standing["trouble"]["fault"], "not_found_or_denied",
        "{rollout}"
    );
    assert_eq!(
        fs::read(file(&agent, "password")).expect("it stays"),
        b"one"
    );
    // What was never there reads the same, and is refused to be bound.
    let policy = edge_secrets_tests::samples::policy(
        URL,
        &[],
        &[("password", "pim:BU044/Team/never#password")],
    );
    let args = ["policy", "publish", "other", "-"];
    let refused = hub.operator().run(&args, policy.to_string());
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("not_found_or_denied"),
        "{}",
        refused.stderr
    );
    // Seen again, and changed meanwhile.
    pim.edit(id, "password", "two");
    pim.secret(id, |secret| secret.visible = true);
    assert_eq!(another(&agent, "password", "one"), "two");
    await_well(&hub, "uplink");
    let trail = hub.operator().json(&["audit"]);
    let observed = json!("secret.observe");
    let told = trail.as_array().expect("records").iter();
    let mut told = told
        .filter(|record| record["action"] == observed && record["result"] == "not_found_or_denied");
    assert!(told.next().is_some(), "the trail has it");
}
