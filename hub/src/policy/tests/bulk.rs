//! Placement in bulk, against a naive model that shares no code with it: a hundred thousand generated
//! policies and as many nodes, in worlds small enough that they get in each other's way.
//!
//! A world is a seed. `EDGE_SECRETS_BULK_SEED=N` looks at that one alone, `EDGE_SECRETS_BULK_WORLDS=N` at
//! another number of them.

mod dice;
mod naive;
mod world;
mod write;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;

use super::*;
use dice::Dice;
use world::World;

#[test]
fn a_hundred_thousand_policies_and_nodes_agree_with_the_naive_model() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let seeds = match number("EDGE_SECRETS_BULK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EDGE_SECRETS_BULK_WORLDS").unwrap_or(WORLDS),
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = (seeds.end - seeds.start).div_ceil(threads);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let shares = (0..threads).map(|at| {
            let from = (seeds.start + at * share).min(seeds.end);
            let range = from..(from + share).min(seeds.end);
            scope.spawn(move || {
                let mut tally = Tally::default();
                range.for_each(|seed| tally.add(seed));
                tally
            })
        });
        let running: Vec<_> = shares.collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut all = Tally::default();
    tallies.into_iter().for_each(|tally| all.join(tally));
    let Tally {
        policies,
        nodes,
        deployments,
        without,
        wrong,
    } = all;
    println!(
        "{policies} policies, {nodes} nodes: {deployments} deployments, {without} nodes without any"
    );
    let seeds: Vec<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
    assert!(
        wrong.is_empty(),
        "seeds {seeds:?}; the first: {}",
        wrong[0].1
    );
    if seeds.is_empty() && nodes > 10_000 {
        // Worlds in which everything or nothing is deployed would show little.
        assert!(deployments > nodes / 2, "{deployments} on {nodes}");
        assert!(without > nodes / 20, "{without} of {nodes}");
    }
}

#[derive(Default)]
struct Tally {
    policies: usize,
    nodes: usize,
    deployments: usize,
    /// Nodes that get nothing.
    without: usize,
    /// Seeds of worlds in which the two disagree, and how.
    wrong: Vec<(u64, String)>,
}

impl Tally {
    fn add(&mut self, seed: u64) {
        let world = World::new(&mut Dice::new(seed));
        let definitions = write::definitions(&world);
        self.policies += world.policies.len();
        for node in &world.nodes {
            let expected = naive::place(&world, node);
            let view = write::node(node);
            let placed = super::super::place(&org(), &view, &definitions);
            let mut found: Vec<String> = placed.iter().map(shown).collect();
            found.sort();
            self.nodes += 1;
            self.deployments += found.len();
            self.without += usize::from(found.is_empty());
            let explains = !seed.is_multiple_of(EXPLAINED) || {
                let verdicts = super::super::explain(&org(), &view, &definitions);
                let own = verdicts
                    .iter()
                    .filter_map(|verdict| verdict.placed.as_ref());
                let mut explained: Vec<String> = own.map(shown).collect();
                explained.sort();
                let tops = found.iter().filter(|line| line.contains(" top "));
                tops.eq(&explained)
            };
            if expected != found || !explains {
                let mut text = format!("seed {seed}, node {}\n", node.name);
                if !explains {
                    writeln!(text, "the reasons are of something else").unwrap();
                }
                writeln!(text, "expected: {expected:#?}\nfound: {found:#?}").unwrap();
                writeln!(text, "{}", write::shown(&world, node)).unwrap();
                self.wrong.push((seed, text));
                return;
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.policies += other.policies;
        self.nodes += other.nodes;
        self.deployments += other.deployments;
        self.without += other.without;
        self.wrong.extend(other.wrong);
    }
}

/// A deployment as the naive model writes it.
fn shown(placed: &crate::catalog::records::Placed) -> String {
    let bindings: BTreeMap<String, String> = placed
        .bindings
        .iter()
        .map(|(name, binding)| {
            let candidates: Vec<_> = binding.candidates.iter().map(ToString::to_string).collect();
            let mut text = candidates.join("|");
            if binding.denied {
                text.push_str(" denied");
            }
            if binding.optional {
                text.push_str(" optional");
            }
            (name.to_string(), text)
        })
        .collect();
    let read = placed.consumers.iter().flat_map(|one| &one.secrets);
    let read: Vec<_> = read.map(|secret| secret.name.as_str()).collect();
    let mut users: Vec<String> = placed
        .required_by
        .iter()
        .map(|user| match user.path.is_empty() {
            true => format!("{} own", user.policy),
            false => user.policy.to_string(),
        })
        .collect();
    let top = users.is_empty() || users.iter().any(|user| user.ends_with("own"));
    if users.is_empty() {
        users.push(format!("{} own", placed.policy));
    }
    naive::line(
        top,
        placed.service.url.as_str(),
        &placed.service_version,
        &placed.policy.to_string(),
        &bindings,
        &read,
        &users,
    )
}

const WORLDS: u64 = 12_500;
/// Every how many worlds the reasons are asked for as well.
const EXPLAINED: u64 = 8;
