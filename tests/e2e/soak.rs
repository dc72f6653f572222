//! Long runs. A reader in a tight loop over thousands of rotations of several secrets at once sees whole
//! generations and nothing else (invariant 1); and hours of faults leave memory, descriptors and files as
//! they were. Short by default; `EDGE_SECRETS_SOAK_SECONDS` says how long.

mod counts;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use edge_secrets_tests::reader::{Reader, stamp, stamped};
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;

use self::counts::{Counts, Process, Sample};
use self::world::World;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = crate::trials![no_read_is_torn_over_thousands_of_rotations];
    // The agent's memory and descriptors are for root to see.
    trials.push(crate::as_root(
        "soak::faults_at_random_leave_nothing_behind",
        faults_at_random_leave_nothing_behind,
    ));
    trials
}

fn no_read_is_torn_over_thousands_of_rotations() {
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
    let rounds = if asked_for().is_some() { MANY } else { FEW };
    let reader = Reader::start(&dir, &NAMES, in_step);
    for round in 1..=rounds {
        for name in NAMES {
            admin.set(name, &stamped(round, LEN));
        }
        // How many rotations one delivery brings is up to the machine: now and then it is waited for.
        if round % WAITED_FOR == 0 {
            wait::content(&dir.join(NAMES[NAMES.len() - 1]), &stamped(round, LEN));
        }
    }
    for name in NAMES {
        wait::content(&dir.join(name), &stamped(rounds, LEN));
    }
    let reads = reader.finish();
    let rotations = rounds * NAMES.len() as u64;
    println!("{rotations} rotations: {reads:?}");
    assert!(reads.whole > 0, "{reads:?}");
    assert!(reads.changes >= rounds / WAITED_FOR / 2, "{reads:?}");
}

/// A third of the time with kills of both programs; then they are started anew and live to the end, and
/// what they hold then is compared.
fn faults_at_random_leave_nothing_behind() {
    let long = asked_for();
    let whole = long.unwrap_or(SHORT);
    let seed = env::var("EDGE_SECRETS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().expect("random"));
    println!(
        "EDGE_SECRETS_SEED={seed} EDGE_SECRETS_SOAK_SECONDS={}",
        whole.as_secs()
    );
    let start = Instant::now();
    let mut events = BTreeMap::new();
    let mut world = World::start(seed);
    let first = world.at_rest(None);
    let mut until = |world: &mut World, part: f64, kills: bool| {
        // Once at least, however slow the machine is.
        loop {
            *events.entry(world.befall(kills)).or_insert(0) += 1;
            if start.elapsed() >= whole.mul_f64(part) {
                return;
            }
        }
    };
    until(&mut world, 0.33, true);
    world.restart();
    let base = world.at_rest(Some(&first.held()));
    // What is filled once, caches and pools, is filled before memory is looked at.
    let mut samples = vec![("start", first), ("restarted", base)];
    for (name, part) in [
        ("warm", 0.5),
        ("two thirds", 0.67),
        ("five sixths", 0.83),
        ("end", 1.0),
    ] {
        until(&mut world, part, false);
        let held = samples[0].1.held();
        samples.push((name, world.at_rest(Some(&held))));
    }
    let reads = world.reader.take().expect("a reader").finish();
    print(&samples);
    println!("events: {events:?}");
    println!(
        "{} rotations of {} secrets; {reads:?}",
        world.round,
        NAMES.len()
    );
    let of = |name: &str| {
        let found = samples.iter().find(|(n, _)| *n == name);
        found.map(|(_, sample)| sample).expect("a sample")
    };
    let (warm, end) = (of("warm"), of("end"));
    // In a short run little has been filled yet.
    let share = if long.is_some() { 10 } else { 50 };
    flat("agent", &warm.agent, &end.agent, share, 512);
    // SQLite keeps up to 2 MB of pages for each of five connections, and the database has more of them
    // with each audit record.
    flat("hub", &warm.hub, &end.hub, share, 4_096);
    grow_by_design(&warm.rows, &end.rows);
    assert!(reads.whole > 0 && reads.changes > 0, "{reads:?}");
}

/// At most so many hundredths and KiB more.
fn flat(who: &str, warm: &Process, end: &Process, share: u64, more: u64) {
    let most = warm.anonymous + warm.anonymous * share / 100 + more;
    assert!(
        end.anonymous <= most,
        "{who} grows: {} KiB, then {} KiB",
        warm.anonymous,
        end.anonymous
    );
}

/// The audit trail is for ever; the feed keeps its last entries; used tokens and certificates that have
/// not ended are known. All else is what it was.
fn grow_by_design(warm: &Counts, end: &Counts) {
    for (table, rows) in end {
        let grows = ["audit", "feed", "tokens", "node_certificates"].contains(&table.as_str());
        let before = warm.get(table).copied().unwrap_or(0);
        assert!(
            grows || *rows <= before,
            "{table}: {before} rows, then {rows}"
        );
    }
}

fn print(samples: &[(&str, Sample)]) {
    println!(
        "KiB of its own, KiB proportional, descriptors, threads; files on tmpfs and in the state directory; bytes of the database"
    );
    println!(
        "{:<12} {:<26} {:<26} {:>6} {:>6} {:>9}",
        "", "agent", "hub", "tmpfs", "state", "database"
    );
    for (name, sample) in samples {
        let below = |place: &str| -> u64 {
            let found = sample
                .node
                .iter()
                .filter(|(what, _)| what.starts_with(place));
            found.map(|(_, n)| n).sum()
        };
        println!(
            "{name:<12} {:<26} {:<26} {:>6} {:>6} {:>9}",
            sample.agent.to_string(),
            sample.hub.to_string(),
            below("tmpfs"),
            below("state"),
            sample.database
        );
    }
    for (name, sample) in samples {
        println!(
            "{name}: agent {:?}; hub {:?}; rows {:?}",
            sample.agent.open, sample.hub.open, sample.rows
        );
    }
}

/// For how long somebody wants it.
fn asked_for() -> Option<Duration> {
    let seconds = env::var("EDGE_SECRETS_SOAK_SECONDS").ok()?;
    Some(Duration::from_secs(
        seconds.parse().expect("a number of seconds"),
    ))
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
/// Rounds of rotations of three secrets: more than ten thousand where time was given, more than a thousand
/// beside the other tests.
const MANY: u64 = 3_400;
const FEW: u64 = 400;
/// Every how many rounds it is waited until they have arrived.
const WAITED_FOR: u64 = 10;
/// What fits beside the other tests.
const SHORT: Duration = Duration::from_secs(45);
const URL: &str = "com.example.soak";
const LEN: usize = 5_003;
