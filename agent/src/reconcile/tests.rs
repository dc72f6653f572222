//! The reconciler on real tmpfs, with really sealed values.

mod faults;
mod lives;
mod mounted;
mod opening;
mod readers;
mod shapes;
pub(crate) mod world;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};

use edge_secrets_protocol::binding::{Format, SecretState};
use edge_secrets_protocol::status::DeploymentState;
use edge_secrets_protocol::{Code, SealingKey};

use self::world::{World, bindings, deployment, json};

#[test]
fn a_bound_secret_is_readable_by_its_name() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("cred", "1")])]));
    assert_eq!(world.read("uplink", "cred").unwrap(), json("cred", "1"));
    let report = world.reconciler().report();
    assert_eq!(report.generation.0, 1);
    assert_eq!(report.deployments[0].state, DeploymentState::Applied);
    assert_eq!(report.deployments[0].applied.len(), 1);
}

#[test]
fn modes_are_set_whatever_the_umask() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("cred", "1")])]));
    let home = world.home("uplink");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&home.join("cred")), 0o400);
    assert_eq!(mode(&home.join("..data/")), 0o755);
    assert_eq!(mode(&home), 0o755);
    assert_eq!(mode(home.parent().unwrap()), 0o755);
    assert_eq!(mode(&world.dir().join("services")), 0o755);
    assert_eq!(mode(&world.dir().join("trash")), 0o700);
    assert_eq!(mode(&world.dir().join("manifests")), 0o700);
}

#[test]
fn a_directory_that_a_kill_left_closed_is_opened() {
    let mut world = World::new();
    // Made for the agent alone, and killed before its mode was set.
    let org = world.dir().join("services/myorg");
    fs::DirBuilder::new().mode(0o700).create(&org).unwrap();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let mode = fs::metadata(&org).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn names_with_any_letters_are_delivered() {
    let mut world = World::new();
    let names = [
        ("schlüssel für 東京", "1"),
        ("-rf", "1"),
        (".hidden", "1"),
        ("a\\b*?", "1"),
    ];
    world.apply(&bindings(1, [deployment("d1", "uplink", &names)]));
    for (name, version) in names {
        assert_eq!(world.read("uplink", name).unwrap(), json(name, version));
    }
}

#[test]
fn a_rotation_writes_the_changed_file_alone() {
    let mut world = World::new();
    world.apply(&bindings(
        1,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])],
    ));
    let inode = |world: &World, name| fs::metadata(world.home("uplink").join(name)).unwrap().ino();
    let (a, b) = (inode(&world, "a"), inode(&world, "b"));
    let fetched = world.apply(&bindings(
        2,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "2")])],
    ));
    assert_eq!(fetched, 1);
    assert_eq!(inode(&world, "a"), a);
    assert_ne!(inode(&world, "b"), b);
    assert_eq!(world.read("uplink", "b").unwrap(), json("b", "2"));
    world.finish_wiping();
    // The file that both generations shared has lost a name, not its content.
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    assert_eq!(world.generations("uplink"), 1);
}

#[test]
fn nothing_is_fetched_or_written_twice() {
    let mut world = World::new();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1")])]);
    world.apply(&wanted);
    let before = world.data("uplink");
    assert_eq!(world.apply(&wanted), 0);
    assert_eq!(world.data("uplink"), before);
}

#[test]
fn names_that_vanish_lose_their_links_without_a_fetch() {
    let mut world = World::new();
    world.apply(&bindings(
        1,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])],
    ));
    assert_eq!(
        world.apply(&bindings(2, [deployment("d1", "uplink", &[("a", "1")])])),
        0
    );
    assert!(fs::symlink_metadata(world.home("uplink").join("b")).is_err());
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
}

#[test]
fn a_changed_format_is_delivered_again() {
    let mut world = World::new();
    let mut wanted = deployment("d1", "uplink", &[("a", "1")]);
    world.apply(&bindings(1, [wanted.clone()]));
    wanted.consumers[0].secrets[0].format = Format::ValueOnly;
    assert_eq!(world.apply(&bindings(2, [wanted])), 1);
    assert_eq!(world.read("uplink", "a").unwrap(), b"canary a 1");
}

#[test]
fn every_consumer_gets_its_own_shape_of_one_fetched_value() {
    let mut world = World::new();
    let mut wanted = deployment("d1", "uplink", &[("a", "1")]);
    let mut second = wanted.consumers[0].clone();
    second.name = "sidecar".parse().unwrap();
    second.secrets[0].format = Format::ValueOnly;
    wanted.consumers.push(second);
    assert_eq!(world.apply(&bindings(1, [wanted.clone()])), 1);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    let sidecar = world.home("uplink").with_file_name("sidecar");
    assert_eq!(fs::read(sidecar.join("a")).unwrap(), b"canary a 1");

    // A consumer that vanishes is wiped; the other stays.
    wanted.consumers.pop();
    world.apply(&bindings(2, [wanted]));
    assert!(fs::read_dir(&sidecar).unwrap().next().is_none());
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
}

#[test]
fn a_blocked_deployment_keeps_what_it_had_and_stops_no_other() {
    let mut world = World::new();
    let good = [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])];
    world.apply(&bindings(1, good));
    let mut blocked = deployment("d1", "uplink", &[("a", "2"), ("b", "2")]);
    for (state, code) in [
        (SecretState::Denied, Code::Denied),
        (SecretState::Missing, Code::Missing),
        (SecretState::Pending, Code::Pending),
        (SecretState::Failed, Code::Failed),
    ] {
        blocked.secrets[1].state = state;
        let other = deployment("d2", "camera", &[("c", "1")]);
        world.apply(&bindings(2, [blocked.clone(), other]));
        let report = world.reconciler().report();
        assert_eq!(report.deployments[0].state, DeploymentState::Blocked);
        assert_eq!(report.deployments[0].error.as_ref().unwrap().code, code);
        assert_eq!(report.deployments[0].applied.len(), 2);
        assert_eq!(report.deployments[1].state, DeploymentState::Applied);
        assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
        assert_eq!(world.read("camera", "c").unwrap(), json("c", "1"));
    }
}

#[test]
fn a_refused_value_blocks_until_it_is_asked_for_again() {
    let mut world = World::new();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])]);
    world.refuse("b", Code::Unavailable);
    world.apply(&wanted);
    assert!(
        world.read("uplink", "a").is_err(),
        "nothing partial is shown"
    );
    let report = world.reconciler().report();
    assert_eq!(report.deployments[0].state, DeploymentState::Blocked);
    assert_eq!(
        report.deployments[0].error.as_ref().unwrap().code,
        Code::Unavailable
    );
    assert!(world.reconciler().again().is_empty());

    world.allow("b");
    assert_eq!(
        world.apply(&wanted),
        1,
        "the value at hand is not fetched again"
    );
    assert_eq!(world.read("uplink", "b").unwrap(), json("b", "1"));
    assert_eq!(
        world.reconciler().report().deployments[0].state,
        DeploymentState::Applied
    );
}

#[test]
fn what_a_full_batch_leaves_out_is_asked_for_at_once() {
    let mut world = World::new();
    world.refuse("b", Code::BatchFull);
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])]);
    let items = world.desire(&wanted);
    world.answer(&items);
    assert_eq!(
        world.reconciler().report().generation.0,
        0,
        "not worked through yet"
    );
    let again = world.reconciler().again();
    assert_eq!(again.len(), 1);
    world.allow("b");
    world.answer(&again);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    assert_eq!(world.reconciler().report().generation.0, 1);
}

#[test]
fn outdated_bindings_are_ignored() {
    let mut world = World::new();
    world.apply(&bindings(2, [deployment("d1", "uplink", &[("a", "2")])]));
    assert_eq!(world.apply(&bindings(1, [])), 0);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "2"));
}

#[test]
fn a_policy_swap_rotates_in_place() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let swapped = bindings(2, [deployment("d2", "uplink", &[("a", "1")])]);
    let items = world.desire(&swapped);
    // The same version of another deployment need not be the same value.
    assert_eq!(items.len(), 1);
    assert_eq!(
        world.read("uplink", "a").unwrap(),
        json("a", "1"),
        "no moment without"
    );
    world.answer(&items);
    let states: Vec<_> = world.reconciler().report().deployments;
    let states: Vec<_> = states.iter().map(|d| (d.id.as_str(), d.state)).collect();
    assert_eq!(
        states,
        [
            ("d2", DeploymentState::Applied),
            ("d1", DeploymentState::Wiped)
        ]
    );
}

#[test]
fn a_policy_swap_to_what_is_denied_wipes() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let mut denied = deployment("d2", "uplink", &[("a", "1")]);
    denied.secrets[0].state = SecretState::Denied;
    world.apply(&bindings(2, [denied]));
    assert!(world.read("uplink", "a").is_err());
    world.assert_nothing_is_left();
}

/// What the hub says where a manager does not tell absent from denied.
#[test]
fn a_policy_swap_to_what_fails_keeps_what_is_there() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let before = world.data("uplink");
    let mut failing = deployment("d2", "uplink", &[("a", "1")]);
    failing.secrets[0].state = SecretState::Failed;
    world.apply(&bindings(2, [failing]));
    assert_eq!(world.data("uplink"), before);
    assert!(world.read("uplink", "a").is_ok());
}

#[test]
fn a_new_service_version_with_the_same_values_disturbs_nobody() {
    let mut world = World::new();
    let mut wanted = deployment("d1", "uplink", &[("a", "1")]);
    world.apply(&bindings(1, [wanted.clone()]));
    let before = world.data("uplink");
    wanted.service_version = "2.0.0".into();
    assert_eq!(world.apply(&bindings(2, [wanted])), 0);
    assert_eq!(world.data("uplink"), before);
    world.restart();
    assert_eq!(world.reconciler().services()[0].service_version, "2.0.0");
}

#[test]
fn a_restart_changes_nothing_and_knows_everything() {
    let mut world = World::new();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1")])]);
    world.apply(&wanted);
    let before = (world.data("uplink"), world.reconciler().services());
    world.restart();
    assert_eq!(world.data("uplink"), before.0);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    let services = world.reconciler().services();
    assert_eq!(services[0].state, DeploymentState::Applied);
    assert_eq!(services[0].consumers, before.1[0].consumers);
    let since = services[0].secrets[0].since;
    assert_eq!(world.apply(&wanted), 0);
    assert_eq!(world.reconciler().services(), before.1);
    assert_eq!(world.reconciler().services()[0].secrets[0].since, since);
}

#[test]
fn what_is_withdrawn_while_the_agent_is_away_is_wiped_when_it_hears_of_it() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    world.restart();
    world.apply(&bindings(2, []));
    world.assert_nothing_is_left();
    let report = world.reconciler().report();
    assert_eq!(report.deployments[0].state, DeploymentState::Wiped);
    world.reconciler().report_sent(&report);
    assert!(world.reconciler().report().deployments.is_empty());
}

#[test]
fn damage_is_found_and_mended() {
    let mut world = World::new();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])]);
    world.apply(&wanted);
    let home = world.home("uplink");
    // Another file under the name, and a link that leads elsewhere.
    let file = home.join("..data/a");
    fs::remove_file(&file).unwrap();
    fs::write(&file, json("a", "1")).unwrap();
    fs::remove_file(home.join("b")).unwrap();
    symlink("/etc/passwd", home.join("b")).unwrap();
    symlink("/etc/passwd", home.join("stray")).unwrap();

    assert_eq!(world.reconciler().verify(), 1);
    assert_eq!(
        world.read("uplink", "b").unwrap(),
        json("b", "1"),
        "links are mended at once"
    );
    assert!(fs::symlink_metadata(home.join("stray")).is_err());
    assert_eq!(world.apply(&wanted), 1);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    assert_eq!(world.reconciler().verify(), 0);

    // The whole directory gone: everything is written again.
    fs::remove_dir_all(&home).unwrap();
    assert_eq!(world.reconciler().verify(), 2);
    assert_eq!(world.apply(&wanted), 2);
    assert_eq!(world.read("uplink", "b").unwrap(), json("b", "1"));
}

#[test]
fn damage_that_shows_up_while_writing_is_fetched_at_once() {
    for replaced in [false, true] {
        let mut world = World::new();
        let before = deployment("d1", "uplink", &[("a", "1"), ("b", "1")]);
        world.apply(&bindings(1, [before]));
        let file = world.home("uplink").join("..data/a");
        fs::remove_file(&file).unwrap();
        if replaced {
            fs::write(&file, b"something else").unwrap();
        }
        let after = deployment("d1", "uplink", &[("a", "1"), ("b", "2")]);
        assert_eq!(world.apply(&bindings(2, [after])), 2);
        assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
        assert_eq!(world.read("uplink", "b").unwrap(), json("b", "2"));
    }
}

#[test]
fn rotating_one_secret_costs_the_same_among_few_and_among_many() {
    let cost = |services: usize| {
        let mut world = World::new();
        let all = |version| {
            (0..services).map(move |n| {
                let first = if n == 0 { version } else { "1" };
                let secrets = [("a", first), ("b", "1"), ("c", "1"), ("d", "1")];
                deployment(&format!("d{n:02}"), &format!("s{n}"), &secrets)
            })
        };
        world.apply(&bindings(1, all("1")));
        world.finish_wiping();
        crate::delivery::faults::stop_after(u64::MAX);
        assert_eq!(world.apply(&bindings(2, all("2"))), 1);
        assert_eq!(world.read("s0", "a").unwrap(), json("a", "2"));
        crate::delivery::faults::count()
    };
    // The directory (made, mode twice), three links, the file (made, written, mode), the manifest
    // (the same), the swap (two).
    assert_eq!(cost(1), 14);
    assert_eq!(cost(20), 14);
}

#[test]
fn two_keys_are_tried_while_one_is_rotated() {
    let mut world = World::new();
    let old = world.replace_key(SealingKey::generate());
    let items = world.desire(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let answers = world.sealed(&items);
    world.deliver_with(&[&old], &answers);
    let report = world.reconciler().report();
    assert_eq!(report.deployments[0].state, DeploymentState::Failed);
    assert!(world.read("uplink", "a").is_err());

    let items = world.desire(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let answers = world.sealed(&items);
    let new = world.replace_key(SealingKey::generate());
    world.deliver_with(&[&old, &new], &answers);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
}

#[test]
fn a_value_that_does_not_fit_its_format_fails_its_deployment_alone() {
    let mut world = World::new();
    let mut unfit = deployment("d1", "uplink", &[("two-fields", "1")]);
    unfit.consumers[0].secrets[0].format = Format::ValueOnly;
    world.apply(&bindings(
        1,
        [unfit, deployment("d2", "camera", &[("a", "1")])],
    ));
    let report = world.reconciler().report();
    let error = report.deployments[0].error.as_ref().unwrap();
    assert_eq!(
        (report.deployments[0].state, error.code),
        (DeploymentState::Failed, Code::Invalid)
    );
    assert!(error.detail.contains("two-fields") && !error.detail.contains("canary"));
    assert_eq!(world.read("camera", "a").unwrap(), json("a", "1"));
    assert_eq!(world.generations("uplink"), 0);
}

#[test]
fn times_stay_while_nothing_changes() {
    let mut world = World::new();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1"), ("b", "1")])]);
    world.apply(&wanted);
    let first = world.reconciler().services();
    world.later();
    world.apply(&wanted);
    assert_eq!(world.reconciler().services(), first);
    world.apply(&bindings(
        2,
        [deployment("d1", "uplink", &[("a", "1"), ("b", "2")])],
    ));
    let second = world.reconciler().services();
    assert_eq!(second[0].secrets[0], first[0].secrets[0]);
    assert_ne!(second[0].secrets[1].since, first[0].secrets[1].since);
}

#[test]
fn nothing_that_can_be_printed_holds_a_value() {
    let mut world = World::new();
    world.apply(&bindings(1, [deployment("d1", "uplink", &[("a", "1")])]));
    let shown = format!("{:?}", world.reconciler());
    assert!(!shown.contains("canary"), "{shown}");
    for (path, content) in world.files() {
        let holds = content.windows(6).any(|part| part == b"canary");
        assert_eq!(
            holds,
            path.to_str().unwrap().contains("/services/"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_reconciler_can_move_to_another_thread() {
    fn movable<T: Send>(_: &T) {}
    let mut world = World::new();
    movable(world.reconciler());
}
