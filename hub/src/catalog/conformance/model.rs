//! Random histories against a model that recomputes everything from scratch.

use std::collections::BTreeMap;

use edge_secrets_protocol::Generation;
use edge_secrets_protocol::binding::{Bindings, Deployment};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::Place;
use super::world::{World, placed, placement, policy};
use crate::catalog::records::{BoundDeployment, NodeBindings, Placed};

const NODES: [&str; 3] = ["a", "b", "c"];
const SECRETS: [&str; 4] = ["x", "y", "node/a/x", "node/b/x"];

#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Remove(usize),
    /// Per node the bindings of its two deployments; none where the deployment is absent.
    Place(Vec<[Option<Vec<usize>>; 2]>),
    Pull(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let candidates = prop::option::of(prop::collection::vec(0..SECRETS.len(), 0..3));
    let node = [candidates.clone(), candidates];
    prop_oneof![
        4 => (0..SECRETS.len()).prop_map(Step::Put),
        2 => (0..SECRETS.len()).prop_map(Step::Remove),
        2 => prop::collection::vec(node, NODES.len()).prop_map(Step::Place),
        3 => (0..NODES.len()).prop_map(Step::Pull),
    ]
}

/// A naive catalog: what exists, what is placed.
#[derive(Default)]
struct Model {
    current: BTreeMap<usize, u64>,
    last: BTreeMap<usize, u64>,
    placed: BTreeMap<(usize, usize), Vec<usize>>,
}

impl Model {
    /// What a node's names resolve to, as [`World::resolved`] writes it.
    fn resolved(&self, node: usize) -> BTreeMap<String, String> {
        let own = self.placed.iter().filter(|((of, _), _)| *of == node);
        own.map(|((_, at), candidates)| {
            let first = candidates.iter().find(|c| self.current.contains_key(c));
            let text = match first {
                Some(found) => format!("{}@{}", SECRETS[*found], self.current[found]),
                None => "missing".to_owned(),
            };
            (format!("d{at}/s"), text)
        })
        .collect()
    }

    /// What decides whether a node's generation must grow.
    fn facts(&self, node: usize) -> (BTreeMap<String, String>, Vec<Placed>) {
        (self.resolved(node), self.deployments(node))
    }

    fn deployments(&self, node: usize) -> Vec<Placed> {
        let own = self.placed.iter().filter(|((of, _), _)| *of == node);
        own.map(|((_, at), candidates)| {
            let names: Vec<_> = candidates.iter().map(|c| SECRETS[*c]).collect();
            placed(&format!("d{at}"), &[&format!("s={}", names.join("|"))])
        })
        .collect()
    }
}

pub(crate) async fn any_history_agrees_with_the_naive_model(place: &mut dyn Place) {
    let world = World::new(place).await;
    for node in NODES {
        world.enrol(node).await;
    }
    let mut runner = TestRunner::default();
    let steps = prop::collection::vec(step(), 250)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let mut model = Model::default();
    // What an agent of each node holds, brought up to date by differences alone.
    let mut held = vec![Bindings::default(); NODES.len()];
    for (count, step) in steps.iter().enumerate() {
        let before: Vec<_> = (0..NODES.len()).map(|node| model.facts(node)).collect();
        let generations = generations(&world).await;
        run(&world, &mut model, step).await;
        let grown = self::generations(&world).await;
        for node in 0..NODES.len() {
            let differs = model.facts(node) != before[node];
            assert_eq!(
                grown[node],
                generations[node] + u64::from(differs),
                "node {node} at step {count} of {steps:#?}"
            );
            assert_eq!(
                world.resolved(NODES[node]).await,
                model.resolved(node),
                "node {node} at step {count} of {steps:#?}"
            );
        }
        if let Step::Pull(node) = step {
            let since = held[*node].generation;
            let answer = world.bindings(NODES[*node], Some(since.0)).await;
            let whole = wire(world.bindings(NODES[*node], None).await, None);
            held[*node] = wire(answer, Some(since)).onto(&held[*node]).unwrap();
            assert_eq!(held[*node], whole, "step {count} of {steps:#?}");
        }
    }
}

async fn run(world: &World, model: &mut Model, step: &Step) {
    match step {
        Step::Put(secret) => {
            let number = model.last.get(secret).copied().unwrap_or(0) + 1;
            world.put(SECRETS[*secret], number).await;
            model.last.insert(*secret, number);
            model.current.insert(*secret, number);
        }
        Step::Remove(secret) => {
            if model.current.remove(secret).is_some() {
                world.remove(SECRETS[*secret]).await;
            }
        }
        Step::Place(nodes) => {
            model.placed.clear();
            for (node, deployments) in nodes.iter().enumerate() {
                for (at, candidates) in deployments.iter().enumerate() {
                    if let Some(candidates) = candidates {
                        model.placed.insert((node, at), candidates.clone());
                    }
                }
            }
            let placements = NODES
                .iter()
                .enumerate()
                .map(|(node, name)| placement(name, model.deployments(node)));
            world
                .commit(policy("p"), placements.collect())
                .await
                .unwrap();
        }
        Step::Pull(_) => {}
    }
}

async fn generations(world: &World) -> Vec<u64> {
    let nodes = world.catalog.nodes(&world.org).await.unwrap();
    nodes.iter().map(|node| node.generation.0).collect()
}

/// The answer as it goes to the node.
fn wire(answer: NodeBindings, since: Option<Generation>) -> Bindings {
    let deployment = |bound: BoundDeployment| Deployment {
        id: bound.placed.id,
        service: bound.placed.service,
        service_version: bound.placed.service_version,
        policy: bound.placed.policy,
        secrets: bound.secrets,
        consumers: bound.placed.consumers,
    };
    Bindings {
        generation: answer.generation,
        deployments: answer.deployments.into_iter().map(deployment).collect(),
        since,
        unchanged: answer.unchanged,
    }
}
