use std::collections::BTreeMap;
use std::time::Duration;

use edge_secrets_protocol::binding::{Bindings, Deployment, SecretState};
use edge_secrets_protocol::sealed::Place;
use edge_secrets_protocol::{Generation, SealingKey, Secret};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::clock::{BootMark, BootTime};
use crate::hub::fake::deployment;
use crate::identity::{Resealer, SealingKeys};

struct World {
    dir: TempDir,
    key: SealingKey,
    boot: BootMark,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: SealingKey::generate(),
            boot: BootMark::new(),
        }
    }

    fn whose(&self) -> Whose {
        let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
        Whose::new(&org, &node, &self.key.public())
    }

    fn open(&self) -> (SealedCache, Option<Desired>) {
        SealedCache::open(self.dir.path(), self.whose(), at(1_000), &self.boot)
    }

    fn sealed(&self, item: &FetchItem, value: &str) -> (FetchItem, Sealed) {
        let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
        let place = Place::Node {
            org: &org,
            node: &node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        let value = Secret::new(value.as_bytes().to_vec());
        let sealed = self.key.public().seal(&place, &value).unwrap();
        (item.clone(), sealed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("cache").join(name)
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir.path().join("cache")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Keeps what is desired, with a value for each that is ready.
    fn keep(&self, cache: &SealedCache, desired: &Desired) {
        let items = desired.bindings().deployments.iter().flat_map(ready);
        let fresh = items.map(|item| self.sealed(&item, item.version.as_str()));
        let save = cache.save(desired.clone(), fresh.collect(), at(1_000));
        save.run().unwrap();
    }
}

fn at(seconds: u64) -> Now {
    Now {
        wall: jiff::Timestamp::from_second(1_700_000_000 + seconds as i64).unwrap(),
        boot: BootTime::LONG_AGO.after(Duration::from_secs(seconds)),
    }
}

fn desired(generation: u64, deployments: Vec<Deployment>) -> Desired {
    let bindings = Bindings {
        generation: Generation(generation),
        deployments,
        ..Bindings::default()
    };
    Desired::new(bindings, at(1_000))
}

fn svc(version: &str) -> Vec<Deployment> {
    vec![deployment("d1", "svc", &[("cred", version)])]
}

fn cred(version: &str) -> FetchItem {
    let deployments = svc(version);
    deployments.iter().flat_map(ready).next().unwrap()
}

fn states(desired: &Desired) -> BTreeMap<String, SecretState> {
    let deployments = desired.bindings().deployments.iter();
    let secrets = deployments.flat_map(|deployment| &deployment.secrets);
    secrets
        .map(|secret| (secret.name.to_string(), secret.state.clone()))
        .collect()
}

#[test]
fn what_is_kept_is_there_in_the_next_life_and_nowhere_in_clear() {
    let world = World::new();
    let (cache, nothing) = world.open();
    assert_eq!(nothing, None);
    let wanted = desired(7, svc("1"));
    world.keep(&cache, &wanted);
    let (next, kept) = world.open();
    assert_eq!(kept, Some(wanted));
    let sealed = next.find(&cred("1")).unwrap();
    assert_eq!(sealed, cache.find(&cred("1")).unwrap());
    assert_eq!(next.find(&cred("2")), None);
    assert!(next.lacks(&desired(7, svc("1"))).is_empty());
    assert_eq!(next.lacks(&desired(8, svc("2"))), [cred("2")]);
    for name in world.files() {
        let mode = fs::metadata(world.path(&name)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// What has arrived of a service's next values is not fetched again while the others are on their way, and is
/// nothing to a reader of the index before all have.
#[test]
fn what_has_arrived_stays_until_the_rest_has() {
    let world = World::new();
    let (cache, _) = world.open();
    let of = |a: &str, b: &str| vec![deployment("d1", "svc", &[("a", a), ("b", b)])];
    world.keep(&cache, &desired(1, of("1", "1")));
    let next = desired(2, of("2", "2"));
    let items: Vec<_> = next.bindings().deployments.iter().flat_map(ready).collect();
    let arrive = |item: &FetchItem| {
        let fresh = vec![world.sealed(item, "2")];
        cache.save(next.clone(), fresh, at(1_000)).run().unwrap();
    };
    arrive(&items[1]);
    assert_eq!(cache.lacks(&next), [items[0].clone()]);
    let (reopened, kept) = world.open();
    assert_eq!(states(&kept.unwrap()), states(&desired(1, of("1", "1"))));
    assert_eq!(reopened.find(&items[1]), None);
    // The one that was at work has it still on its list, and is told where it is gone.
    arrive(&items[1]);
    arrive(&items[0]);
    assert_eq!(world.open().1, Some(next));
}

#[test]
fn what_is_superseded_undeployed_or_denied_leaves_for_good() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &desired(1, svc("1")));
    world.keep(&cache, &desired(2, svc("2")));
    assert_eq!(world.files().len(), 2, "the index and one value");
    assert_eq!(world.open().0.find(&cred("1")), None);

    let mut denied = svc("2");
    denied[0].secrets[0].state = SecretState::Denied;
    let denied = desired(3, denied);
    assert!(cache.exceeds(&denied));
    world.keep(&cache, &denied);
    assert_eq!(world.files(), BTreeSet::from([INDEX.to_owned()]));

    world.keep(&cache, &desired(4, svc("2")));
    world.keep(&cache, &desired(5, vec![]));
    assert_eq!(world.open().0.len(), 0);
}

#[test]
fn the_last_version_stays_until_the_next_has_arrived() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &desired(1, svc("1")));
    let next = desired(2, svc("2"));
    assert!(!cache.exceeds(&next), "the name is wanted");
    cache.save(next.clone(), vec![], at(1_000)).run().unwrap();
    let (again, kept) = world.open();
    // What is delivered may be newer: the generation does not claim otherwise.
    assert_eq!(kept, Some(desired(1, svc("1"))));
    assert!(again.find(&cred("1")).is_some());

    let mut pending = svc("1");
    pending[0].secrets[0].state = SecretState::Pending;
    let pending = desired(3, pending);
    assert!(!cache.exceeds(&pending));
    cache.save(pending, vec![], at(1_000)).run().unwrap();
    assert_eq!(world.open().1, Some(desired(3, svc("1"))));
}

#[test]
fn a_save_from_before_everything_was_forgotten_brings_nothing_back() {
    let world = World::new();
    let (cache, _) = world.open();
    let wanted = desired(1, svc("1"));
    let save = cache.save(
        wanted.clone(),
        vec![world.sealed(&cred("1"), "one")],
        at(1_000),
    );
    cache.clear().unwrap();
    save.run().unwrap();
    assert!(!world.dir.path().join("cache").exists());
    world.keep(&cache, &wanted);
    assert_eq!(world.open().1, Some(wanted));
}

#[test]
fn what_is_of_another_enrolment_or_damaged_is_set_aside_and_filled_again() {
    let world = World::new();
    let (cache, _) = world.open();
    let wanted = desired(1, svc("1"));
    world.keep(&cache, &wanted);
    let other = World::new();
    let (_, kept) = SealedCache::open(world.dir.path(), other.whose(), at(1_000), &other.boot);
    assert_eq!(kept, None);
    let aside = world.dir.path().join(SET_ASIDE);
    assert!(aside.join(INDEX).exists() && !world.dir.path().join("cache").exists());

    let (cache, _) = world.open();
    world.keep(&cache, &wanted);
    let index = fs::read(world.path(INDEX)).unwrap();
    for cut in 0..index.len() {
        fs::write(world.path(INDEX), &index[..cut]).unwrap();
        assert_eq!(world.open().1, None, "cut at {cut}");
        fs::rename(&aside, world.dir.path().join("cache")).unwrap();
    }
    for at in (0..index.len()).step_by(7) {
        let mut index = index.clone();
        index[at] ^= 1;
        fs::write(world.path(INDEX), &index).unwrap();
        assert_eq!(world.open().1, None, "changed at {at}");
        fs::rename(&aside, world.dir.path().join("cache")).unwrap();
    }
    fs::write(world.path(INDEX), &index).unwrap();
    assert_eq!(world.open().1, Some(wanted.clone()), "it is whole again");

    // One damaged value costs itself.
    fs::write(world.path(&file_name(&cred("1"))), "{}").unwrap();
    let (cache, kept) = world.open();
    assert_eq!(kept, Some(wanted.clone()));
    assert_eq!(cache.find(&cred("1")), None);
    assert_eq!(cache.lacks(&wanted), [cred("1")]);
    world.keep(&cache, &wanted);
    assert!(cache.find(&cred("1")).is_some());
}

#[test]
fn a_value_moved_to_anothers_name_is_not_found() {
    let world = World::new();
    let (cache, _) = world.open();
    let both = || vec![deployment("d1", "svc", &[("cred", "1"), ("key", "1")])];
    world.keep(&cache, &desired(1, both()));
    let mut key = cred("1");
    key.name = "key".parse().unwrap();
    fs::copy(
        world.path(&file_name(&key)),
        world.path(&file_name(&cred("1"))),
    )
    .unwrap();
    assert_eq!(cache.find(&cred("1")), None);
    assert!(cache.find(&key).is_some());
}

#[test]
fn a_kill_anywhere_leaves_what_was_kept_before_or_what_is_kept_now() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &desired(1, svc("1")));
    let before: BTreeMap<_, _> = contents(&world);
    world.keep(&cache, &desired(2, svc("2")));
    let after: BTreeMap<_, _> = contents(&world);
    let next = file_name(&cred("2"));
    // The steps of a save, cut off after each.
    let steps: [&[(&str, &[u8])]; 4] = [
        &[("x.sealed.new", b"{")],
        &[(&next, &after[&next])],
        &[(&next, &after[&next]), ("index.new", b"edge")],
        &[(&next, &after[&next]), (INDEX, &after[INDEX])],
    ];
    for (step, files) in steps.iter().enumerate() {
        fs::remove_dir_all(world.path("")).unwrap();
        fs::create_dir(world.path("")).unwrap();
        for (name, bytes) in &before {
            fs::write(world.path(name), bytes).unwrap();
        }
        for (name, bytes) in *files {
            fs::write(world.path(name), bytes).unwrap();
        }
        let (cache, kept) = world.open();
        let version = if step == 3 { "2" } else { "1" };
        assert_eq!(
            states(&kept.unwrap())["cred"],
            states(&desired(0, svc(version)))["cred"]
        );
        assert!(cache.find(&cred(version)).is_some(), "step {step}");
        assert_eq!(world.files().len(), 2, "step {step}: nothing is left over");
    }
}

fn contents(world: &World) -> BTreeMap<String, Vec<u8>> {
    let files = world.files().into_iter();
    files
        .map(|name| (name.clone(), fs::read(world.path(&name)).unwrap()))
        .collect()
}

#[test]
fn a_life_goes_on_while_the_machine_is_off_and_ends_when_nobody_can_tell() {
    let world = World::new();
    let (cache, _) = world.open();
    let mut lease = svc("1");
    lease[0].secrets[0].expires_in_ms = Some(600_000);
    world.keep(&cache, &desired(1, lease));
    let left_after = |now: Now, boot: &BootMark| {
        let (_, kept) = SealedCache::open(world.dir.path(), world.whose(), now, boot);
        let kept = kept.unwrap();
        let end = kept
            .ends()
            .values()
            .next()
            .unwrap()
            .values()
            .next()
            .copied();
        end.unwrap().at.since(now.boot).as_secs()
    };
    let another = BootMark::new();
    let left = |now| left_after(now, &another);
    assert_eq!(left(at(1_000)), 600);
    // Rebooted: the wall clock knows how long it took.
    let mut rebooted = at(1_100);
    rebooted.boot = BootTime::LONG_AGO.after(Duration::from_secs(3));
    assert_eq!(left(rebooted), 500);
    // Once more in that boot, of which nothing was written yet: no life is given back.
    let mut again = at(1_130);
    again.boot = BootTime::LONG_AGO.after(Duration::from_secs(33));
    assert_eq!(left(again), 470);
    // Restarted, with a wall clock that stood still.
    let mut restarted = at(1_200);
    restarted.wall = at(1_000).wall;
    assert_eq!(left(restarted), 400);
    // A wall clock that is behind cannot tell.
    let mut behind = at(1_100);
    behind.wall = at(999).wall;
    assert_eq!(left(behind), 0);
    assert_eq!(left(at(9_999)), 0);
    // Where the machine has run all the time, no step of the wall clock ends or prolongs a life.
    for years in [-40, -1, 1, 40] {
        let mut stepped = at(1_100);
        stepped.wall = at(1_100).wall + jiff::SignedDuration::from_hours(years * 365 * 24);
        assert_eq!(left_after(stepped, &world.boot), 500, "{years} years");
    }
    // What ends is not asked for anew only to be kept.
    let (cache, kept) = SealedCache::open(world.dir.path(), world.whose(), at(1_001), &another);
    fs::remove_file(world.path(&file_name(&cred("1")))).unwrap();
    assert_eq!(cache.find(&cred("1")), None);
    assert!(cache.lacks(&kept.unwrap()).is_empty());
}

#[test]
fn a_directory_that_cannot_be_written_says_so_and_keeps_what_it_had() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &desired(1, svc("1")));
    // The next index cannot take its place, whoever writes it.
    fs::create_dir(world.path("index.new")).unwrap();
    let fresh = vec![world.sealed(&cred("2"), "two")];
    let error = cache.save(desired(2, svc("2")), fresh, at(1_000)).run();
    assert!(error.unwrap_err().to_string().contains("cannot be written"));
    fs::remove_dir(world.path("index.new")).unwrap();
    let (again, kept) = world.open();
    assert_eq!(kept, Some(desired(1, svc("1"))));
    assert!(again.find(&cred("1")).is_some());
    // It is tried again as a whole.
    world.keep(&cache, &desired(2, svc("2")));
    assert_eq!(world.open().1, Some(desired(2, svc("2"))));
}

#[test]
fn what_is_undeployed_leaves_although_there_is_no_room_for_an_index() {
    let world = World::new();
    let (cache, _) = world.open();
    let two = [svc("1"), vec![deployment("d2", "other", &[("key", "1")])]].concat();
    world.keep(&cache, &desired(1, two));
    fs::create_dir(world.path("index.new")).unwrap();
    let save = cache.save(desired(2, svc("1")), Vec::new(), at(1_000));
    assert!(save.run().is_err());
    fs::remove_dir(world.path("index.new")).unwrap();
    assert_eq!(world.files().len(), 2, "{:?}", world.files());
    let (again, kept) = world.open();
    assert_eq!(again.len(), 1);
    assert!(again.find(&cred("1")).is_some());
    assert_eq!(again.lacks(&kept.unwrap()).len(), 1);
}

#[test]
fn a_kept_value_that_does_not_open_is_replaced_by_the_next_that_arrives() {
    let world = World::new();
    let (cache, _) = world.open();
    let wanted = desired(1, svc("1"));
    let (item, damaged) = World::new().sealed(&cred("1"), "one");
    let fresh = vec![(item.clone(), damaged)];
    cache.save(wanted.clone(), fresh, at(1_000)).run().unwrap();
    let (item, good) = world.sealed(&item, "one");
    let fresh = vec![(item.clone(), good.clone())];
    cache.save(wanted, fresh, at(1_000)).run().unwrap();
    assert_eq!(world.open().0.find(&item), Some(good));
}

proptest! {
    #[test]
    fn no_bytes_make_an_index_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Index::decode(&bytes).is_err());
        let mut cut = b"edge-secrets-cache 1 ".to_vec();
        cut.extend(bytes);
        prop_assert!(Index::decode(&cut).is_err());
    }

    /// Whatever is said in whatever order, and whatever of it arrives: the next life finds every value
    /// that it is told of as ready where one had arrived, and no version that was superseded by one.
    #[test]
    fn any_history_leaves_what_was_last_at_hand(
        steps in prop::collection::vec((0..3_u8, 0..4_u8, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let world = World::new();
        let (cache, _) = world.open();
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        let mut arrived: BTreeMap<&str, u64> = BTreeMap::new();
        for (generation, (which, what, arrives, restart)) in steps.into_iter().enumerate() {
            let name = ["a", "b", "c"][usize::from(which)];
            match what {
                0 => {
                    newest.remove(name);
                    arrived.remove(name);
                }
                _ => *newest.entry(name).or_default() += 1 + u64::from(what) * 10,
            }
            let deployments: Vec<_> = newest
                .iter()
                .map(|(name, version)| deployment(name, name, &[("cred", &version.to_string())]))
                .collect();
            let wanted = desired(generation as u64 + 1, deployments);
            let mut fresh = Vec::new();
            if arrives && let Some(version) = newest.get(name) {
                let all = wanted.bindings().deployments.iter().flat_map(ready);
                let own: Vec<_> = all.filter(|item| item.service.url.as_str() == name).collect();
                fresh.push(world.sealed(&own[0], "value"));
                arrived.insert(name, *version);
            }
            cache.save(wanted, fresh, at(1_000)).run().unwrap();
            if restart {
                world.open();
            }
        }
        let (cache, kept) = world.open();
        let kept = kept.unwrap();
        for item in kept.bindings().deployments.iter().flat_map(ready) {
            let name = item.service.url.as_str();
            let version: u64 = item.version.as_str().parse().unwrap();
            match arrived.get(name) {
                Some(last) => {
                    prop_assert_eq!(version, *last);
                    prop_assert!(cache.find(&item).is_some());
                }
                None => prop_assert_eq!(version, newest[name]),
            }
        }
        prop_assert_eq!(cache.len(), arrived.len());
    }
}

/// A world whose node has another sealing key since what it keeps was sealed.
fn rotated(world: &World) -> (SealingKeys, Resealer) {
    let former = SealingKey::from_bytes(world.key.expose()).unwrap();
    let keys = SealingKeys::new(Some(SealingKey::generate()), None, vec![former]);
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let resealer = Resealer::new(&org, &node, &keys).unwrap();
    (keys, resealer)
}

fn opens(cache: &SealedCache, item: &FetchItem, key: &SealingKey) -> bool {
    let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
    let place = Place::Node {
        org: &org,
        node: &node,
        service: &item.service,
        name: &item.name,
        version: &item.version,
    };
    let sealed = cache.find(item).unwrap();
    sealed.open(key, &place).is_ok()
}

fn three() -> Desired {
    let secrets = [("a", "1"), ("b", "1"), ("c", "1")];
    desired(1, vec![deployment("d1", "svc", &secrets)])
}

#[test]
fn what_is_kept_is_sealed_to_the_new_key_and_the_former_one_opens_nothing() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &three());
    let (keys, resealer) = rotated(&world);
    let resealed = cache.reseal(&resealer).unwrap();
    assert_eq!((resealed.values, resealed.lost), (3, 0));
    let (next, kept) = world.open();
    assert_eq!(kept, Some(three()));
    for item in three().bindings().deployments.iter().flat_map(ready) {
        assert!(opens(&next, &item, keys.current().unwrap()));
        assert!(!opens(&next, &item, &world.key));
    }
    assert_eq!(next.reseal(&resealer).unwrap(), Resealed::default());
}

#[test]
fn a_kill_while_values_are_sealed_anew_leaves_each_under_a_key_that_is_there() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &three());
    let before = contents(&world);
    let (keys, resealer) = rotated(&world);
    cache.reseal(&resealer).unwrap();
    let after = contents(&world);
    let names: Vec<_> = before.keys().filter(|name| *name != INDEX).collect();
    for step in 0..=2 * names.len() {
        fs::remove_dir_all(world.path("")).unwrap();
        fs::create_dir(world.path("")).unwrap();
        for (at, name) in before.keys().enumerate() {
            let done = names
                .iter()
                .position(|n| *n == name)
                .is_some_and(|n| n < step / 2);
            let bytes = if done { &after[name] } else { &before[name] };
            fs::write(world.path(name), bytes).unwrap();
            // Cut off within a write.
            if step % 2 == 1 && at == step / 2 {
                fs::write(world.path(&format!("{name}.new")), &after[name][..9]).unwrap();
            }
        }
        let (cache, kept) = world.open();
        assert_eq!(kept, Some(three()), "step {step}");
        let items: Vec<_> = three()
            .bindings()
            .deployments
            .iter()
            .flat_map(ready)
            .collect();
        for item in &items {
            let any = keys.all().into_iter().any(|key| opens(&cache, item, key));
            assert!(any, "step {step}");
        }
        assert_eq!(world.files().len(), 4, "step {step}: nothing is left over");
        let rest = cache.reseal(&resealer).unwrap();
        assert_eq!((rest.values, rest.lost), (3 - step / 2, 0), "step {step}");
        assert!(
            items
                .iter()
                .all(|item| opens(&cache, item, keys.current().unwrap()))
        );
    }
}

#[test]
fn what_no_key_opens_is_fetched_again_and_what_cannot_be_written_keeps_the_former_key() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &three());
    let items: Vec<_> = three()
        .bindings()
        .deployments
        .iter()
        .flat_map(ready)
        .collect();
    let (keys, resealer) = rotated(&world);
    let in_the_way = world.path(&format!("{}.new", file_name(&items[1])));
    fs::create_dir(&in_the_way).unwrap();
    assert!(cache.reseal(&resealer).is_err());
    fs::remove_dir(&in_the_way).unwrap();
    for item in &items {
        assert!(keys.all().into_iter().any(|key| opens(&cache, item, key)));
    }

    let (_, foreign) = World::new().sealed(&items[0], "foreign");
    let kept = Kept {
        item: items[0].clone(),
        sealed: foreign,
    };
    fs::write(world.path(&file_name(&items[0])), kept.encode().unwrap()).unwrap();
    fs::write(world.path(&file_name(&items[2])), "{").unwrap();
    let resealed = cache.reseal(&resealer).unwrap();
    assert_eq!(resealed.lost, 2);
    assert_eq!(cache.lacks(&three()), [items[0].clone(), items[2].clone()]);
    assert!(opens(&cache, &items[1], keys.current().unwrap()));
}

#[test]
fn a_save_from_before_values_were_sealed_anew_says_that_it_kept_nothing() {
    let world = World::new();
    let (cache, _) = world.open();
    world.keep(&cache, &desired(1, svc("1")));
    let save = cache.save(
        desired(2, svc("2")),
        vec![world.sealed(&cred("2"), "two")],
        at(1_000),
    );
    let (_, resealer) = rotated(&world);
    cache.reseal(&resealer).unwrap();
    assert!(save.run().is_err());
    assert_eq!(world.open().1, Some(desired(1, svc("1"))));
}

#[test]
fn whoever_asks_what_is_kept_does_not_wait_for_the_disk() {
    let world = World::new();
    let (cache, _) = world.open();
    let wanted = desired(1, svc("1"));
    world.keep(&cache, &wanted);
    // As a save does whose disk hangs.
    let hangs = cache.disk();
    assert_eq!(cache.len(), 1);
    assert!(cache.is_current(&wanted) && !cache.exceeds(&wanted));
    assert!(cache.lacks(&wanted).is_empty());
    assert!(cache.find(&cred("1")).is_some());
    drop(hangs);
}
