//! Readers see whole files of one generation (invariant 1).

use edge_secrets_tests::reader::{Reader, stamp, stamped};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        two_names_of_one_secret_change_together,
        two_names_bound_anew_by_one_policy_change_together,
    ]
}

fn two_names_of_one_secret_change_together() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("pair", stamped(0, LEN));
    operator.publish_service(&plain_service(URL, &["a", "b"]));
    operator.publish_policy("pair", &policy(URL, &[], &[("a", "pair"), ("b", "pair")]));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("b"), &stamped(0, LEN));
    let reader = Reader::start(&dir, &["a", "b"], one_change);
    let mut admin = hub.admin();
    for change in 1..=CHANGES {
        admin.set("pair", &stamped(change, LEN));
    }
    wait::content(&dir.join("b"), &stamped(CHANGES, LEN));
    let reads = reader.finish();
    assert!(reads.whole > 0 && reads.changes > 1, "{reads:?}");
}

fn two_names_bound_anew_by_one_policy_change_together() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    for set in 0..3 {
        for name in ["a", "b"] {
            operator.set(&format!("{name}{set}"), stamped(set, LEN));
        }
    }
    let bound = |set: u64| {
        let (a, b) = (format!("a{set}"), format!("b{set}"));
        policy(URL, &[], &[("a", a.as_str()), ("b", b.as_str())])
    };
    operator.publish_service(&plain_service(URL, &["a", "b"]));
    operator.publish_policy("pair", &bound(0));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("b"), &stamped(0, LEN));
    let reader = Reader::start(&dir, &["a", "b"], one_change);
    let mut admin = hub.admin();
    for change in 1..=40 {
        let answer = admin.put("policies/pair", &bound(change % 3));
        assert_eq!(answer.status, 200, "{answer}");
        // Every second one is waited for, so that changes both pile up and come one by one: never for what was
        // there already.
        if change % 2 == 1 {
            wait::content(&dir.join("b"), &stamped(change % 3, LEN));
        }
    }
    wait::content(&dir.join("b"), &stamped(40 % 3, LEN));
    let reads = reader.finish();
    assert!(reads.whole > 0 && reads.changes > 10, "{reads:?}");
}

/// All contents are whole and of the same change.
pub(crate) fn one_change(contents: &[Vec<u8>]) -> Result<(), String> {
    let mut first = None;
    for content in contents {
        let change = stamp(content, LEN)?;
        if *first.get_or_insert(change) != change {
            return Err(format!("changes {first:?} and {change} in one generation"));
        }
    }
    Ok(())
}

pub(crate) const URL: &str = "com.example.pair";
/// Not a multiple of a page, and more than one.
pub(crate) const LEN: usize = 9_001;
const CHANGES: u64 = 200;
