//! A kill, or a full file system, at every single call that changes something.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use edge_secrets_protocol::binding::Bindings;
use edge_secrets_protocol::status::DeploymentState;
use nix::errno::Errno;

use super::world::{World, bindings, deployment, json};
use crate::delivery::faults;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What the reader finds under the names, all of it read through one generation.
fn seen(world: &World) -> Option<Vec<Option<Vec<u8>>>> {
    let data = world.home("uplink").join("..data/");
    fs::metadata(&data).ok()?;
    Some(NAMES.map(|name| fs::read(data.join(name)).ok()).to_vec())
}

fn wanted(secrets: Values<'_>) -> Option<Vec<Option<Vec<u8>>>> {
    if secrets.is_empty() {
        return None;
    }
    let version = |name| secrets.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    Some(NAMES.map(|name| Some(json(name, version(name)?))).to_vec())
}

fn of(generation: u64, secrets: Values<'_>) -> Bindings {
    if secrets.is_empty() {
        return bindings(generation, []);
    }
    bindings(generation, [deployment("d1", "uplink", secrets)])
}

/// What is in the directory is one live generation with its manifest and names, and nothing else.
fn assert_only_what_is_live(world: &World, secrets: Values<'_>) {
    if secrets.is_empty() {
        return world.assert_nothing_is_left();
    }
    let generation = world.data("uplink").into_string().unwrap();
    let mut entries = BTreeSet::from(["..data".to_owned(), generation.clone()]);
    entries.extend(secrets.iter().map(|(name, _)| (*name).to_owned()));
    let found = fs::read_dir(world.home("uplink")).unwrap();
    let found: BTreeSet<_> = found
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, entries);
    let files = world.files();
    let values = files
        .iter()
        .filter(|(path, _)| path.to_str().unwrap().contains("/services/"));
    assert_eq!(values.count(), secrets.len());
    let manifests: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.to_str().unwrap().contains("/manifests/"))
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(manifests, [generation]);
    assert_eq!(files.len(), secrets.len() + 1, "{files:?}");
    for (name, _) in secrets {
        let link = fs::metadata(world.home("uplink").join(name)).unwrap();
        assert_eq!(link.nlink(), 1);
    }
}

/// Names and versions.
type Values<'a> = &'a [(&'a str, &'a str)];

/// Before and after.
const CHANGES: [(Values<'_>, Values<'_>); 4] = [
    (&[], &[("a", "1"), ("b", "1")]),
    (&[("a", "1"), ("b", "1")], &[("a", "2"), ("b", "1")]),
    (&[("a", "1"), ("b", "1")], &[("b", "2"), ("c", "1")]),
    (&[("a", "1"), ("b", "1")], &[]),
];

#[test]
fn a_kill_at_any_call_leaves_the_old_or_the_new() {
    let mut world = World::new();
    for (before, after) in CHANGES {
        for steps in 0.. {
            world.renew();
            world.apply(&of(1, before));
            world.finish_wiping();
            faults::stop_after(steps);
            world.apply(&of(2, after));
            world.stop();
            let hit = faults::clear();

            let now = seen(&world);
            assert!(
                now == wanted(before) || now == wanted(after),
                "{before:?} {after:?} {steps}"
            );
            world.restart();
            assert_eq!(
                seen(&world),
                now,
                "a restart changes nothing that services read"
            );
            world.finish_wiping();
            let live = if now == wanted(after) { after } else { before };
            assert_only_what_is_live(&world, live);
            world.apply(&of(2, after));
            world.finish_wiping();
            assert_eq!(seen(&world), wanted(after));
            assert_only_what_is_live(&world, after);
            if !hit {
                assert!(steps > 3, "the change takes some calls");
                break;
            }
        }
    }
}

#[test]
fn a_kill_while_sweeping_leaves_it_to_the_next_start() {
    let mut world = World::new();
    let (before, after) = (&[("a", "1"), ("b", "1")], &[("a", "2"), ("c", "1")]);
    // Stops right before and after the swap, and in the middle of writing.
    for steps in [3, 6, 8, 9, 10, 11, 12] {
        for sweep_steps in 0.. {
            world.renew();
            world.apply(&of(1, before));
            world.finish_wiping();
            faults::stop_after(steps);
            world.apply(&of(2, after));
            world.stop();
            assert!(faults::clear());
            let now = seen(&world);
            faults::stop_after(sweep_steps);
            world.try_open().ok();
            let hit = faults::clear();
            world.restart();
            assert_eq!(seen(&world), now);
            world.finish_wiping();
            let live = if now == wanted(after) { after } else { before };
            assert_only_what_is_live(&world, live);
            if !hit {
                break;
            }
        }
    }
}

#[test]
fn a_call_that_fails_leaves_the_old_whole_and_is_tried_again() {
    let mut world = World::new();
    for (before, after) in CHANGES {
        for steps in 0.. {
            world.renew();
            world.apply(&of(1, before));
            world.finish_wiping();
            faults::fail_once_after(steps, Errno::ENOSPC);
            world.apply(&of(2, after));
            let hit = faults::clear();

            let now = seen(&world);
            assert!(
                now == wanted(before) || now == wanted(after),
                "{before:?} {after:?} {steps}"
            );
            let report = world.reconciler().report();
            let state = report.deployments[0].state;
            if now != wanted(after) {
                assert_eq!(state, DeploymentState::Failed);
                let error = report.deployments[0].error.clone().unwrap();
                assert!(error.detail.contains("full"), "{}", error.detail);
            }
            world.apply(&of(2, after));
            world.finish_wiping();
            assert_eq!(seen(&world), wanted(after));
            assert_only_what_is_live(&world, after);
            let report = world.reconciler().report();
            let done = if after.is_empty() {
                DeploymentState::Wiped
            } else {
                DeploymentState::Applied
            };
            assert_eq!(report.deployments[0].state, done);
            if !hit {
                break;
            }
        }
    }
}
