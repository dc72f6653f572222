//! A reader in a tight loop over more than ten thousand rotations of several secrets at once sees
//! whole generations and nothing else (invariant 1).

use edge_secrets_tests::reader::{Reader, stamp, stamped};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![no_read_is_torn_over_ten_thousand_rotations]
}

fn no_read_is_torn_over_ten_thousand_rotations() {
    let hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    let mut admin = hub.admin();
    for name in NAMES {
        admin.set(name, &stamped(0, LEN));
    }
    operator.publish_service(&plain_service(URL, &NAMES));
    operator.publish_policy("soak", &policy(URL, &[], &NAMES.map(|name| (name, name))));
    let dir = agent.consumer(URL, "main");
    for name in NAMES {
        wait::content(&dir.join(name), &stamped(0, LEN));
    }
    let reader = Reader::start(&dir, &NAMES, in_step);
    for round in 1..=ROUNDS {
        for name in NAMES {
            admin.set(name, &stamped(round, LEN));
        }
    }
    for name in NAMES {
        wait::content(&dir.join(name), &stamped(ROUNDS, LEN));
    }
    let reads = reader.finish();
    let rotations = ROUNDS * NAMES.len() as u64;
    println!("{rotations} rotations: {reads:?}");
    assert!(reads.whole > 0 && reads.changes > 1_000, "{reads:?}");
}

/// The secrets are set in turn, so that at any time one is ahead by a round at most, and none is
/// ahead of one that is set before it. Read by its own path, one alone is whole.
fn in_step(contents: &[Vec<u8>]) -> Result<(), String> {
    let rounds: Result<Vec<u64>, String> = contents.iter().map(|c| stamp(c, LEN)).collect();
    let rounds = rounds?;
    let falling = rounds.is_sorted_by(|a, b| a >= b);
    let (first, last) = (rounds.first(), rounds.last());
    let close = first
        .zip(last)
        .is_some_and(|(first, last)| first.saturating_sub(*last) <= 1);
    if falling && close {
        Ok(())
    } else {
        Err(format!("rounds {rounds:?} in one generation"))
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: u64 = 3_400;
const URL: &str = "com.example.soak";
const LEN: usize = 5_003;
