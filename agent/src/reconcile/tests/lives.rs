//! Values that end, with and without a hub.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use edge_secrets_protocol::binding::{Deployment, SecretState};
use edge_secrets_protocol::status::DeploymentState;
use edge_secrets_protocol::{Code, Problem};

use super::world::{World, bindings, deployment, json, lease};
use crate::consumers::lifecycle::Verdict;
use crate::consumers::profile::{Action, Lifecycle, OnChange, Profile, Shape, Workload};
use crate::delivery::faults;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// One lease of a minute, and a secret that stays.
fn leased(version: &str) -> Deployment {
    lease(
        deployment("d1", "uplink", &[("cred", version), ("stays", "1")]),
        "cred",
        MINUTE,
    )
}

fn told(action: Action) -> Profile {
    Profile {
        service: "myorg/uplink".parse().unwrap(),
        consumer: None,
        file: "uplink.yaml".into(),
        shape: Shape::default(),
        on_change: Some(OnChange {
            action,
            debounce: Duration::ZERO,
            timeout: Duration::ZERO,
        }),
        lifecycle: None,
        credentials: None,
        secrets_api: None,
    }
}

fn reload() -> Profile {
    told(Action::Reload("uplink.service".parse().unwrap()))
}

fn state(world: &mut World) -> (DeploymentState, Option<Code>) {
    let report = world.reconciler().report();
    let first = &report.deployments[0];
    (first.state, first.error.as_ref().map(|error| error.code))
}

const EXPIRED: (DeploymentState, Option<Code>) = (DeploymentState::Blocked, Some(Code::Expired));
const APPLIED: (DeploymentState, Option<Code>) = (DeploymentState::Applied, None);

#[test]
fn a_value_that_ends_is_wiped_and_a_newer_one_brings_all_back() {
    let mut world = World::new();
    let other = || deployment("d2", "camera", &[("c", "1")]);
    world.apply(&bindings(1, [leased("1"), other()]));
    let mut held = File::open(world.home("uplink").join("cred")).unwrap();
    world.wait(MINUTE - SECOND);
    assert_eq!(world.read("uplink", "cred").unwrap(), json("cred", "1"));
    assert_eq!(state(&mut world), APPLIED);
    let ends = world.reconciler().services()[1].secrets[0].expires_at;
    assert_eq!(ends, Some("2026-01-01T00:01:00Z".parse().unwrap()));

    world.wait(SECOND);
    for name in ["cred", "stays"] {
        assert!(
            world.read("uplink", name).is_err(),
            "all names change together"
        );
    }
    let mut left = Vec::new();
    held.read_to_end(&mut left).unwrap();
    assert!(
        left.iter().all(|byte| *byte == 0),
        "overwritten, whoever reads it"
    );
    assert_eq!(world.read("camera", "c").unwrap(), json("c", "1"));
    assert_eq!(state(&mut world), EXPIRED);
    let report = world.reconciler().report();
    assert!(report.deployments[0].applied.is_empty());
    let services = world.reconciler().services();
    let uplink = services
        .iter()
        .find(|s| s.deployment.as_str() == "d1")
        .unwrap();
    assert!(!uplink.is_applied());
    assert_eq!(
        uplink.secrets[0].expires_at, ends,
        "people see when it ended"
    );
    let now = world.now();
    assert_eq!(
        world.reconciler().next_end(now),
        None,
        "nothing to wake up for"
    );

    assert_eq!(world.apply(&bindings(2, [leased("2"), other()])), 2);
    assert_eq!(world.read("uplink", "cred").unwrap(), json("cred", "2"));
    assert_eq!(state(&mut world), APPLIED);
}

#[test]
fn the_same_bindings_again_neither_fetch_nor_show_what_has_ended() {
    let mut world = World::new();
    let dead = lease(leased("1"), "cred", Duration::ZERO);
    world.apply(&bindings(1, [leased("1")]));
    world.wait(MINUTE);
    assert_eq!(world.apply(&bindings(1, [dead])), 0);
    assert!(world.read("uplink", "cred").is_err());
    assert_eq!(state(&mut world), EXPIRED);
}

#[test]
fn a_renewed_lease_lives_on_in_the_same_files_and_nobody_is_told() {
    let mut world = World::new();
    world.shape(vec![reload()]);
    world.apply(&bindings(1, [leased("1")]));
    let open = world.reconciler().unannounced();
    world.reconciler().announced(&open[0].0, &open[0].1);
    let before = world.data("uplink");
    let inode = fs::metadata(world.home("uplink").join("cred"))
        .unwrap()
        .ino();
    world.wait(MINUTE / 2);
    assert_eq!(world.apply(&bindings(2, [leased("1")])), 0);
    assert_eq!(world.data("uplink"), before);
    let after = fs::metadata(world.home("uplink").join("cred"))
        .unwrap()
        .ino();
    assert_eq!(after, inode);
    assert!(world.reconciler().unannounced().is_empty());
    // Known to the next life too.
    world.restart();
    world.wait(MINUTE - SECOND);
    assert!(world.read("uplink", "cred").is_ok());
    world.wait(SECOND);
    assert!(world.read("uplink", "cred").is_err());
}

#[test]
fn an_end_that_is_told_again_makes_no_work() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    let services = world.reconciler().services();
    let manifests = |world: &World| {
        let files = world.files().into_iter();
        let own = files.filter(|(path, _)| path.to_str().unwrap().contains("/manifests/"));
        let [(path, _)] = own.collect::<Vec<_>>().try_into().unwrap();
        fs::metadata(path).unwrap().ino()
    };
    let before = manifests(&world);
    for generation in 2..20 {
        world.pass(SECOND);
        let millis = u64::from(generation % 2 == 0) * 1_500;
        let left = MINUTE - SECOND * (u32::try_from(generation).unwrap() - 1);
        let again = lease(leased("1"), "cred", left - Duration::from_millis(millis));
        world.apply(&bindings(generation, [again]));
        assert_eq!(world.reconciler().services(), services);
    }
    assert_eq!(manifests(&world), before);
}

#[test]
fn a_lease_that_is_cut_short_or_lasts_for_ever_is_believed() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.apply(&bindings(2, [lease(leased("1"), "cred", SECOND * 10)]));
    world.wait(SECOND * 9);
    assert!(world.read("uplink", "cred").is_ok());
    world.apply(&bindings(
        3,
        [deployment("d1", "uplink", &[("cred", "1"), ("stays", "1")])],
    ));
    world.wait(MINUTE * 600);
    assert!(world.read("uplink", "cred").is_ok());
    assert_eq!(world.reconciler().services()[0].secrets[0].expires_at, None);
}

#[test]
fn a_renewal_holds_although_the_deployment_lacks_something_else() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.wait(MINUTE / 2);
    let mut blocked = leased("1");
    blocked.secrets[1].state = SecretState::Failed;
    world.apply(&bindings(2, [blocked]));
    world.wait(MINUTE - SECOND);
    assert!(world.read("uplink", "cred").is_ok());
    world.wait(SECOND);
    assert!(world.read("uplink", "cred").is_err());
}

#[test]
fn of_two_ends_in_one_consumer_the_earlier_one_counts() {
    let mut world = World::new();
    let both = |cred: &str| lease(leased(cred), "stays", MINUTE * 2);
    world.apply(&bindings(1, [both("1")]));
    world.wait(MINUTE);
    assert!(world.read("uplink", "stays").is_err());
    // The other one ends while its deployment has nothing to show.
    world.wait(MINUTE);
    let half = lease(both("2"), "stays", Duration::ZERO);
    assert_eq!(world.apply(&bindings(2, [half])), 0);
    assert_eq!(state(&mut world), EXPIRED);
    assert_eq!(world.apply(&bindings(3, [both("2")])), 2);
    assert_eq!(state(&mut world), APPLIED);
}

#[test]
fn consumers_that_do_not_show_what_has_ended_keep_what_they_have() {
    let mut world = World::new();
    let mut wanted = leased("1");
    let mut second = wanted.consumers[0].clone();
    second.name = "sidecar".parse().unwrap();
    second.secrets.remove(0);
    wanted.consumers.push(second);
    world.apply(&bindings(1, [wanted]));
    world.wait(MINUTE);
    assert!(world.read("uplink", "stays").is_err());
    let sidecar = world.home("uplink").with_file_name("sidecar").join("stays");
    assert_eq!(fs::read(sidecar).unwrap(), json("stays", "1"));
    assert_eq!(state(&mut world), EXPIRED);
}

#[test]
fn a_value_that_ends_on_its_way_is_not_delivered() {
    let mut world = World::new();
    world.refuse("stays", Code::Pending);
    let wanted = bindings(1, [leased("1")]);
    let items = world.desire(&wanted);
    assert_eq!(items.len(), 2);
    // One is at hand and waits for the other; both come too late.
    world.answer(&items);
    world.wait(MINUTE);
    assert_eq!(state(&mut world), EXPIRED);
    world.allow("stays");
    world.answer(&items);
    assert!(world.read("uplink", "cred").is_err());
    assert!(world.reconciler().again().is_empty());
    world.assert_nothing_is_left();

    // Ended while it was fetched, and nobody has looked at the clock since.
    let items = world.desire(&bindings(2, [leased("2")]));
    world.pass(MINUTE);
    world.answer(&items);
    assert!(world.read("uplink", "cred").is_err());
    assert_eq!(state(&mut world), EXPIRED);
}

#[test]
fn a_successor_that_comes_as_the_old_one_ends_leaves_no_gap() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.pass(MINUTE - SECOND);
    let items = world.desire(&bindings(2, [leased("2")]));
    assert!(world.read("uplink", "cred").is_ok());
    world.pass(SECOND);
    world.answer(&items);
    assert_eq!(world.read("uplink", "cred").unwrap(), json("cred", "2"));
    assert_eq!(state(&mut world), APPLIED);
}

#[test]
fn what_is_to_be_replaced_by_another_deployment_ends_all_the_same() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.refuse("cred", Code::Unavailable);
    world.apply(&bindings(
        2,
        [deployment("d2", "uplink", &[("cred", "1"), ("stays", "1")])],
    ));
    assert!(
        world.read("uplink", "cred").is_ok(),
        "until there is another"
    );
    world.wait(MINUTE);
    assert!(world.read("uplink", "cred").is_err());
}

#[test]
fn a_restarted_agent_knows_when_values_end() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.wait(MINUTE / 2);
    world.restart();
    let now = world.now();
    assert!(!world.reconciler().expire(now));
    let ends = world.reconciler().services()[0].secrets[0].expires_at;
    assert_eq!(ends, Some("2026-01-01T00:01:00Z".parse().unwrap()));
    world.wait(MINUTE / 2 - SECOND);
    assert!(world.read("uplink", "cred").is_ok());
    world.wait(SECOND);
    assert!(world.read("uplink", "cred").is_err());
    assert_eq!(state(&mut world), EXPIRED);
    // And another life knows why there is nothing.
    world.restart();
    assert_eq!(state(&mut world), EXPIRED);
    world.apply(&bindings(2, [leased("2")]));
    assert_eq!(state(&mut world), APPLIED);
    world.finish_wiping();
    let notes = world.files();
    let mut notes = notes.iter().map(|(path, _)| path.to_str().unwrap());
    assert!(!notes.any(|path| path.ends_with("..ended")));
}

#[test]
fn what_ended_while_the_agent_was_dead_goes_at_its_start() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    world.stop();
    world.pass(MINUTE);
    world.restart();
    let now = world.now();
    assert!(world.reconciler().expire(now));
    assert!(world.read("uplink", "cred").is_err());
    assert_eq!(state(&mut world), EXPIRED);
}

#[test]
fn a_kill_at_any_call_of_an_end_forgets_neither_the_end_nor_who_should_hear() {
    let mut world = World::new();
    for steps in 0.. {
        world.renew();
        world.shape(vec![reload()]);
        world.apply(&bindings(1, [leased("1")]));
        let open = world.reconciler().unannounced();
        world.reconciler().announced(&open[0].0, &open[0].1);
        world.pass(MINUTE);
        faults::stop_after(steps);
        let now = world.now();
        world.reconciler().expire(now);
        world.stop();
        let hit = faults::clear();
        world.restart();
        world.reconciler().expire(now);
        world.finish_wiping();
        assert!(world.read("uplink", "cred").is_err(), "{steps}");
        assert_eq!(state(&mut world), EXPIRED, "{steps}");
        let open = world.reconciler().unannounced();
        assert_eq!(open.len(), 1, "{steps}");
        let values = world.files();
        let mut values = values.iter().map(|(path, _)| path.to_str().unwrap());
        assert!(!values.any(|path| path.contains("/services/")), "{steps}");
        if !hit {
            return;
        }
    }
}

#[test]
fn who_hears_of_changes_hears_of_an_end_and_of_what_follows() {
    for profile in [
        reload(),
        Profile {
            // It lives with what it restarts: it would hear of its first secrets by its start.
            lifecycle: Some(Lifecycle {
                workload: Workload::Unit("uplink.service".parse().unwrap()),
                linger: Duration::ZERO,
            }),
            ..told(Action::Restart("uplink.service".parse().unwrap()))
        },
    ] {
        let tied = profile.lifecycle.is_some();
        let mut world = World::new();
        world.shape(vec![profile]);
        let live = |world: &mut World, verdict| {
            let key = ("myorg/uplink".parse().unwrap(), None);
            let now = world.now();
            let stances = BTreeMap::from([(key, verdict)]);
            world.reconciler().live_by(stances, now)
        };
        if tied {
            live(&mut world, Verdict::Deliver);
        }
        world.apply(&bindings(1, [leased("1")]));
        for (consumer, generation) in world.reconciler().unannounced() {
            world.reconciler().announced(&consumer, &generation);
        }
        world.wait(MINUTE);
        let [(consumer, generation)] = world.reconciler().unannounced().try_into().unwrap();
        assert!(world.reconciler().delivers(&consumer), "its action goes on");
        world.reconciler().announced(&consumer, &generation);
        world.restart();
        assert!(world.reconciler().unannounced().is_empty(), "once");
        if tied {
            live(&mut world, Verdict::Deliver);
        }
        world.apply(&bindings(2, [leased("2")]));
        assert_eq!(world.reconciler().unannounced().len(), 1, "it runs without");

        if tied {
            // Stopped while it has nothing: the next start brings the news.
            world.wait(MINUTE);
            live(&mut world, Verdict::Withhold);
            assert!(world.reconciler().unannounced().is_empty());
            world.apply(&bindings(3, [leased("3")]));
            live(&mut world, Verdict::Deliver);
            world.apply(&bindings(3, [leased("3")]));
            assert!(world.read("uplink", "cred").is_ok());
            assert!(world.reconciler().unannounced().is_empty());
        }
    }
}

#[test]
fn what_ends_while_it_is_withheld_is_not_given_to_who_starts_then() {
    let mut world = World::new();
    let mut tied = reload();
    tied.lifecycle = Some(Lifecycle {
        workload: Workload::Unit("uplink.service".parse().unwrap()),
        linger: Duration::ZERO,
    });
    world.shape(vec![tied]);
    assert_eq!(world.apply(&bindings(1, [leased("1")])), 0);
    world.wait(MINUTE);
    let now = world.now();
    let key = ("myorg/uplink".parse().unwrap(), None);
    let stances = BTreeMap::from([(key, Verdict::Deliver)]);
    world.reconciler().live_by(stances, now);
    assert!(world.reconciler().again().is_empty());
    assert_eq!(state(&mut world), EXPIRED);
}

#[test]
fn an_end_that_cannot_be_noted_holds_and_is_noted_later() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    faults::stop_after(0);
    world.apply(&bindings(2, [lease(leased("1"), "cred", MINUTE / 2)]));
    faults::clear();
    assert!(world.read("uplink", "cred").is_ok());
    world.apply(&bindings(2, [lease(leased("1"), "cred", MINUTE / 2)]));
    world.restart();
    world.wait(MINUTE / 2);
    assert!(world.read("uplink", "cred").is_err());
}

#[test]
fn what_cannot_be_wiped_at_its_end_is_tried_again_without_a_hub() {
    let mut world = World::new();
    world.apply(&bindings(1, [leased("1")]));
    faults::stop_after(0);
    world.pass(MINUTE);
    let now = world.now();
    world.reconciler().expire(now);
    faults::clear();
    let again = world.reconciler().next_end(now).unwrap();
    assert!(again > now.boot);
    assert!(world.reconciler().shelved().is_empty(), "no unit gets it");
    world.wait(MINUTE);
    assert!(world.read("uplink", "cred").is_err());
    assert_eq!(world.reconciler().next_end(now), None);
}

#[test]
fn a_problem_of_an_item_that_has_ended_is_forgotten() {
    let mut world = World::new();
    let items = world.desire(&bindings(1, [leased("1")]));
    let late = Problem::new(Code::Pending, "later");
    let refused = edge_secrets_protocol::binding::FetchResult::Problem(late);
    let answers: Vec<_> = items
        .into_iter()
        .map(|item| (item, refused.clone()))
        .collect();
    world.deliver_with(&[], &answers);
    assert_eq!(state(&mut world).1, Some(Code::Pending));
    world.wait(MINUTE);
    assert_eq!(state(&mut world), EXPIRED);
}
