//! What services see while values change under them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{GRACE, World, bindings, deployment, json};

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![1; 256];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

fn is_zero(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0)
}

#[test]
fn a_descriptor_opened_before_undeploy_reads_zeros() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let file = File::open(world.home("uplink").join("a")).unwrap();
    let home = File::open(world.home("uplink")).unwrap();
    world.apply(&bindings(2, []));
    assert!(is_zero(&content(&file)));
    world.assert_nothing_is_left();
    // A running container's mount stays good: it is the same directory.
    world.apply(&bindings(3, [deployment("d1", "uplink", &[("a", "1")])]));
    let inode = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    assert_eq!(
        inode(&home),
        inode(&File::open(world.home("uplink")).unwrap())
    );
}

#[test]
fn undeploy_wipes_what_a_rotation_left_for_a_reader_too() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let first = File::open(world.home("uplink").join("a")).unwrap();
    world.apply(&bindings(2, [deployment("d1", "uplink", &[("a", "2")])]));
    let start = Instant::now();
    world.reconciler().tick(start);
    world.reconciler().tick(start + Duration::from_secs(5));
    let second = File::open(world.home("uplink").join("a")).unwrap();
    world.apply(&bindings(3, [deployment("d1", "uplink", &[("a", "3")])]));
    assert_eq!(content(&first), json("a", "1"));
    world.apply(&bindings(4, []));
    assert!(is_zero(&content(&first)) && is_zero(&content(&second)));
    world.assert_nothing_is_left();
    assert_eq!(
        world.reconciler().tick(start + Duration::from_secs(6)),
        None
    );
}

#[test]
fn a_reader_of_a_superseded_file_reads_it_until_the_grace_is_over() {
    let mut world = World::new();
    world.apply(&bindings(
        1,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])],
    ));
    let held = File::open(world.home("uplink").join("a")).unwrap();
    world.apply(&bindings(
        2,
        [deployment("d1", "uplink", &[("a", "2"), ("b", "2")])],
    ));
    let mut now = Instant::now();
    let end = now + GRACE;
    while let Some(next) = world.reconciler().tick(now) {
        let waiting = world
            .files()
            .iter()
            .filter(|(_, bytes)| *bytes == json("a", "1"))
            .count();
        if now < end {
            assert_eq!(content(&held), json("a", "1"));
            assert_eq!(waiting, 1);
        }
        assert!(next > now);
        now = next;
    }
    assert!(now >= end);
    assert!(is_zero(&content(&held)));
    // What nobody read was wiped long before.
    assert!(
        world
            .files()
            .iter()
            .all(|(_, bytes)| *bytes != json("b", "1"))
    );
}

#[test]
fn a_superseded_file_is_wiped_as_soon_as_its_reader_is_gone() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let held = File::open(world.home("uplink").join("a")).unwrap();
    let old = world.files().len();
    world.apply(&bindings(2, [deployment("d1", "uplink", &[("a", "2")])]));
    let start = Instant::now();
    world.reconciler().tick(start);
    assert!(
        world
            .reconciler()
            .tick(start + Duration::from_secs(2))
            .is_some()
    );
    assert_eq!(world.files().len(), old + 1);
    drop(held);
    // A child that another test is just starting has it too, until it is its program.
    let mut now = start + Duration::from_secs(4);
    while let Some(next) = world.reconciler().tick(now) {
        assert!(next < start + GRACE, "nobody reads it");
        std::thread::sleep(Duration::from_millis(5));
        now = next;
    }
    assert_eq!(world.files().len(), old);
}

#[test]
fn a_superseded_file_left_by_a_killed_agent_waits_for_its_reader_too() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let held = File::open(world.home("uplink").join("a")).unwrap();
    world.apply(&bindings(2, [deployment("d1", "uplink", &[("a", "2")])]));
    world.restart();
    assert_eq!(content(&held), json("a", "1"));
    assert_eq!(world.generations("uplink"), 1);
    world.finish_wiping();
    assert!(is_zero(&content(&held)));
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "2"));
}

#[test]
fn a_directory_opened_once_is_one_generation_whole() {
    let mut world = World::new();
    world.apply(&bindings(
        1,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])],
    ));
    let data = fs::canonicalize(world.home("uplink").join("..data")).unwrap();
    world.apply(&bindings(
        2,
        [deployment("d1", "uplink", &[("a", "2"), ("b", "2")])],
    ));
    world.reconciler().tick(Instant::now());
    for name in ["a", "b"] {
        assert_eq!(fs::read(data.join(name)).unwrap(), json(name, "1"));
    }
}

#[test]
fn wiping_everything_leaves_nothing() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let held = File::open(world.home("uplink").join("a")).unwrap();
    world.apply(&bindings(
        7,
        [
            deployment("d1", "uplink", &[("a", "2")]),
            deployment("d2", "camera", &[("b", "1")]),
        ],
    ));
    let now = world.now();
    world.reconciler().wipe_all(now.wall).unwrap();
    assert!(is_zero(&content(&held)));
    world.assert_nothing_is_left();
    assert!(world.reconciler().services().is_empty());
    // Enrolled anew, at a hub that counts from the start.
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
}

#[test]
fn readers_never_see_a_torn_mixed_or_missing_value() {
    let mut world = World::new();
    let rotation = |n: u64| {
        let version = n.to_string();
        let version = version.as_str();
        bindings(
            n,
            [deployment(
                "d1",
                "uplink",
                &[("a", version), ("b", version)],
            )],
        )
    };
    world.apply(&rotation(1));
    let home = world.home("uplink");
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (home, done) = (home.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut reads = 0_u64;
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let by_name = version_of(&fs::read(home.join("a")).unwrap(), "a");
                    assert!(by_name >= last, "went back from {last} to {by_name}");
                    let data = fs::read_link(home.join("..data")).unwrap();
                    let pair = ["a", "b"].map(|name| {
                        let mut bytes = Vec::new();
                        let mut file = File::open(home.join(&data).join(name)).ok()?;
                        file.read_to_end(&mut bytes).unwrap();
                        Some(version_of(&bytes, name))
                    });
                    let [Some(a), Some(b)] = pair else {
                        // Held up for longer than a superseded generation stays: start over.
                        continue;
                    };
                    assert_eq!(a, b, "two generations mixed");
                    last = by_name;
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for n in 2..=300 {
        world.apply(&rotation(n));
        world.reconciler().tick(Instant::now());
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
    world.finish_wiping();
    assert_eq!(world.generations("uplink"), 1);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "300"));
}

/// The version that a file's content was made of; panics when it is torn.
fn version_of(bytes: &[u8], name: &str) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap();
    let version = text
        .strip_prefix(&format!("{{\"value\":\"canary {name} "))
        .and_then(|text| text.strip_suffix("\"}"));
    version
        .unwrap_or_else(|| panic!("torn: {text:?}"))
        .parse()
        .unwrap()
}
