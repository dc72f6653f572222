//! SIGKILL at any instant leaves the old or the new generation (invariant 9).

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use edge_secrets_tests::reader::{Reader, stamped};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use crate::whole::{LEN, URL, one_change};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_agent_killed_a_hundred_times_under_rotation_never_shows_a_broken_read,
        an_agent_killed_while_it_undeploys_finishes_at_its_next_start,
        a_hub_killed_under_rotation_loses_nothing_it_has_answered,
    ]
}

fn an_agent_killed_a_hundred_times_under_rotation_never_shows_a_broken_read() {
    let hub = TestHub::start();
    let mut agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("pair", stamped(0, LEN));
    operator.publish_service(&plain_service(URL, &["a", "b"]));
    operator.publish_policy("pair", &policy(URL, &[], &[("a", "pair"), ("b", "pair")]));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("b"), &stamped(0, LEN));
    let reader = Reader::start(&dir, &["a", "b"], one_change);
    let rotation = Rotation::start(&hub, 1);
    let random = RandomState::new();
    for kill in 0..KILLS {
        // Not a wait for anything: the instant is what is drawn.
        thread::sleep(Duration::from_micros(
            random.hash_one(kill) % LONGEST_LIFE_US,
        ));
        agent.kill();
        agent.run();
        // Now and then it lives until it has delivered, so that kills also meet a working agent.
        if kill % 5 == 0 {
            let before = fs::read_link(dir.join("..data")).ok();
            wait::until(&dir, "the next generation", || {
                fs::read_link(dir.join("..data")).ok() != before
            });
        }
    }
    let last = rotation.finish();
    wait::content(&dir.join("a"), &stamped(last, LEN));
    wait::content(&dir.join("b"), &stamped(last, LEN));
    let reads = reader.finish();
    // Those that were waited for, but for what the reader missed between two looks.
    assert!(reads.changes >= KILLS / 10, "{reads:?}");
    wait::until(&dir, "what kills left behind is swept", || {
        TestAgent::superseded(&dir).is_empty()
    });
    let names: Vec<_> = fs::read_dir(&dir).expect("readable").collect();
    assert_eq!(
        names.len(),
        4,
        "`..data`, one generation and two names: {names:?}"
    );
    hub.await_rollout("pair", 1);
}

fn an_agent_killed_while_it_undeploys_finishes_at_its_next_start() {
    let hub = TestHub::start();
    let mut agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("pair", stamped(0, LEN));
    operator.publish_service(&plain_service(URL, &["a", "b"]));
    let policy = policy(URL, &[], &[("a", "pair"), ("b", "pair")]);
    let dir = agent.consumer(URL, "main");
    let random = RandomState::new();
    let mut admin = hub.admin();
    for round in 0..10 {
        assert_eq!(admin.put("policies/pair", &policy).status, 200);
        wait::content(&dir.join("b"), &stamped(0, LEN));
        let path = admin.path("policies/pair");
        let answer = admin
            .client
            .send(http::Method::DELETE, &path, &[], "")
            .expect("an answer");
        assert_eq!(answer.status, 200, "{answer}");
        thread::sleep(Duration::from_micros(random.hash_one(round) % 3_000));
        agent.kill();
        agent.run();
        wait::until(&dir, "nothing is left", || {
            fs::read_dir(&dir).map_or(true, |entries| entries.count() == 0)
        });
    }
}

fn a_hub_killed_under_rotation_loses_nothing_it_has_answered() {
    let mut hub = TestHub::start();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    let operator = hub.operator();
    operator.set("pair", stamped(0, LEN));
    operator.publish_service(&plain_service(URL, &["a"]));
    operator.publish_policy("pair", &policy(URL, &[], &[("a", "pair")]));
    let file = agent.consumer(URL, "main").join("a");
    wait::content(&file, &stamped(0, LEN));
    let random = RandomState::new();
    let mut next = 1;
    let mut before = 0;
    for round in 0..8 {
        let rotation = Rotation::start(&hub, next);
        thread::sleep(Duration::from_micros(random.hash_one(round) % 300_000));
        hub.kill();
        let answered = rotation.finish();
        hub.serve();
        let mut latest = 0;
        wait::until(&file, "what was answered, or what came after it", || {
            latest = fs::read(&file)
                .ok()
                .and_then(|content| edge_secrets_tests::reader::stamp(&content, LEN).ok())
                .unwrap_or(0);
            // The one under way when the hub died may or may not have become durable.
            let of_this_round = latest == answered || latest == answered + 1;
            // It may have died before it answered anything: then what was there may still be.
            let of_the_last = answered < next && (latest == before || latest == before + 1);
            of_this_round || of_the_last
        });
        before = latest;
        next = latest + 2;
    }
    hub.await_rollout("pair", 1);
}

/// Sets the secret again and again, as fast as the hub takes it.
struct Rotation {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Rotation {
    fn start(hub: &TestHub, next: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut admin = hub.admin();
        let thread = thread::spawn(move || {
            let mut answered = next - 1;
            while !stopped.load(Ordering::Relaxed) {
                let change = answered + 1;
                let value = stamped(change, LEN);
                let body = admin.sealed("pair", &[("value", &value)]);
                let path = admin.path("secrets/pair");
                match admin.client.json(http::Method::PUT, &path, &body) {
                    Ok(answer) => assert_eq!(answer.status, 200, "{answer}"),
                    // The hub was killed.
                    Err(_) => break,
                }
                answered = change;
            }
            answered
        });
        Self { stop, thread }
    }

    /// The last change that the hub has answered.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the rotation ends")
    }
}

const KILLS: u64 = 120;
/// About twice what an agent needs to start and deliver.
const LONGEST_LIFE_US: u64 = 250_000;
