//! What profiles say of files, and when there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::status::DeploymentState;

use super::world::{World, bindings, deployment, json};
use crate::consumers::lifecycle::Verdict;
use crate::consumers::profile::{
    Action, Credentials, Lifecycle, OnChange, Principal, Profile, SecretShape, Shape, Template,
    Workload,
};
use crate::delivery::faults;

fn profile(shape: Shape) -> Profile {
    Profile {
        service: "myorg/uplink".parse().unwrap(),
        consumer: None,
        file: "uplink.yaml".into(),
        shape,
        on_change: None,
        lifecycle: None,
        credentials: None,
        secrets_api: None,
    }
}

/// Every secret as a directory of fields, and a file made of `a` and `b`.
fn rich() -> Shape {
    Shape {
        mode: Some(0o440),
        format: Some(Format::Fields),
        templates: vec![Template {
            name: "conf".parse().unwrap(),
            text: "a={{ secrets.a.value }} b={{ secrets.b.value }}\n".into(),
            reads: Some(BTreeSet::from(["a".parse().unwrap(), "b".parse().unwrap()])),
            mode: Some(0o400),
        }],
        ..Shape::default()
    }
}

fn of(a: &str, b: &str, c: &str) -> edge_secrets_protocol::binding::Deployment {
    deployment("d1", "uplink", &[("a", a), ("b", b), ("c", c)])
}

fn conf(a: &str, b: &str) -> String {
    format!("a=canary a {a} b=canary b {b}\n")
}

fn text(world: &World, file: &str) -> Option<String> {
    fs::read_to_string(world.home("uplink").join(file)).ok()
}

/// The definition's word stands where the profile says nothing.
#[test]
fn a_definitions_mode_is_taken_below_the_profiles() {
    let mut world = World::new();
    let asking = |a: &str, b: &str| {
        let mut deployment = of("1", "1", "1");
        let secrets = &mut deployment.consumers[0].secrets;
        for (at, mode) in [a, b].into_iter().enumerate() {
            secrets[at].mode = (!mode.is_empty()).then(|| mode.parse().unwrap());
        }
        deployment
    };
    let modes = |world: &World| {
        ["a", "b", "c"].map(|file| {
            let meta = fs::metadata(world.home("uplink").join(file)).unwrap();
            meta.permissions().mode() & 0o7777
        })
    };
    world.apply(&bindings(1, [asking("0440", "")]));
    assert_eq!(modes(&world), [0o440, 0o400, 0o400]);
    // Another mode alone makes other files.
    world.apply(&bindings(2, [asking("0640", "0440")]));
    assert_eq!(modes(&world), [0o640, 0o440, 0o400]);
    let special = SecretShape {
        format: None,
        mode: Some(0o600),
    };
    let shape = Shape {
        secrets: BTreeMap::from([("b".parse().unwrap(), special)]),
        ..Shape::default()
    };
    world.shape(vec![profile(shape)]);
    world.apply(&bindings(3, [asking("0640", "0440")]));
    assert_eq!(modes(&world), [0o640, 0o600, 0o400]);
    let all = Shape {
        mode: Some(0o400),
        ..Shape::default()
    };
    world.shape(vec![profile(all)]);
    world.apply(&bindings(4, [asking("0640", "0440")]));
    assert_eq!(modes(&world), [0o400; 3]);
    assert_eq!(world.apply(&bindings(5, [asking("0640", "0440")])), 0);
}

#[test]
fn one_rotation_renders_what_reads_it_and_keeps_the_rest() {
    let mut world = World::new();
    world.shape(vec![profile(rich())]);
    assert_eq!(world.apply(&bindings(1, [of("1", "1", "1")])), 3);
    assert_eq!(text(&world, "conf"), Some(conf("1", "1")));
    assert_eq!(text(&world, "c/value").as_deref(), Some("canary c 1"));
    let meta = |file: &str| fs::metadata(world.home("uplink").join(file)).unwrap();
    assert_eq!(meta("a/value").permissions().mode() & 0o7777, 0o440);
    assert_eq!(meta("conf").permissions().mode() & 0o7777, 0o400);
    let before = (meta("b/value").ino(), meta("conf").ino());

    // The template needs both of its secrets; nothing else is fetched.
    assert_eq!(world.apply(&bindings(2, [of("2", "1", "1")])), 2);
    assert_eq!(text(&world, "conf"), Some(conf("2", "1")));
    let meta = |file: &str| fs::metadata(world.home("uplink").join(file)).unwrap();
    assert_eq!(
        meta("b/value").ino(),
        before.0,
        "what has not changed is not written"
    );
    assert_ne!(meta("conf").ino(), before.1);

    let conf_before = meta("conf").ino();
    assert_eq!(world.apply(&bindings(3, [of("2", "1", "2")])), 1);
    let meta = |file: &str| fs::metadata(world.home("uplink").join(file)).unwrap();
    assert_eq!(
        meta("conf").ino(),
        conf_before,
        "the template does not read c"
    );
    assert_eq!(world.apply(&bindings(3, [of("2", "1", "2")])), 0);
}

#[test]
fn a_kill_at_any_call_leaves_the_old_or_the_new_of_every_shape() {
    let mut world = World::new();
    for steps in 0.. {
        world.renew();
        world.shape(vec![profile(rich())]);
        world.apply(&bindings(1, [of("1", "1", "1")]));
        world.finish_wiping();
        faults::stop_after(steps);
        world.apply(&bindings(2, [of("2", "1", "1")]));
        world.stop();
        let hit = faults::clear();
        let seen = (text(&world, "..data/a/value"), text(&world, "..data/conf"));
        let of_version = |v: &str| (Some(format!("canary a {v}")), Some(conf(v, "1")));
        assert!(
            seen == of_version("1") || seen == of_version("2"),
            "{steps}: {seen:?}"
        );
        world.restart();
        world.finish_wiping();
        assert_eq!((text(&world, "a/value"), text(&world, "conf")), seen);
        world.apply(&bindings(2, [of("2", "1", "1")]));
        world.finish_wiping();
        assert_eq!(text(&world, "conf"), Some(conf("2", "1")));
        assert_eq!(world.generations("uplink"), 1);
        let values = world.files();
        let values = values
            .iter()
            .filter(|(path, _)| path.to_str().unwrap().contains("/services/"));
        assert_eq!(values.count(), 4, "three fields and a rendered file");
        if !hit {
            return;
        }
    }
}

#[test]
fn another_shape_is_delivered_anew_and_back() {
    let mut world = World::new();
    let wanted = bindings(1, [of("1", "1", "1")]);
    world.apply(&wanted);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    world.shape(vec![profile(rich())]);
    assert_eq!(
        world.read("uplink", "a").unwrap(),
        json("a", "1"),
        "until there are values"
    );
    assert_eq!(world.apply(&wanted), 3);
    assert_eq!(text(&world, "conf"), Some(conf("1", "1")));
    world.restart();
    assert_eq!(world.apply(&wanted), 0, "a restart knows the shape");
    world.shape(Vec::new());
    assert_eq!(world.apply(&wanted), 3);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    assert_eq!(text(&world, "conf"), None);
    world.apply(&bindings(2, []));
    world.assert_nothing_is_left();
}

#[test]
fn a_damaged_template_or_field_is_mended() {
    let mut world = World::new();
    world.shape(vec![profile(rich())]);
    let wanted = bindings(1, [of("1", "1", "1")]);
    world.apply(&wanted);
    for (file, values) in [("..data/conf", 2), ("..data/c/value", 1)] {
        let path = world.home("uplink").join(file);
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(world.reconciler().verify(), 1);
        assert_eq!(world.apply(&wanted), values, "{file}");
        let path = world.home("uplink").join(file);
        assert_eq!(fs::read(path).unwrap(), good);
    }
}

#[test]
fn what_does_not_fit_is_said_and_leaves_the_old() {
    let mut world = World::new();
    let wanted = bindings(1, [of("1", "1", "1")]);
    world.apply(&wanted);
    let template = |name: &str, reads: &str| Shape {
        templates: vec![Template {
            name: name.parse().unwrap(),
            text: String::new(),
            reads: Some(BTreeSet::from([reads.parse().unwrap()])),
            mode: None,
        }],
        ..Shape::default()
    };
    let unknown = Shape {
        owner: Some(Principal::Name("no-such-user-here".into())),
        ..Shape::default()
    };
    for (shape, word) in [
        (template("a", "b"), "secret a"),
        (template("conf", "zebra"), "zebra"),
        (unknown, "no-such-user-here"),
    ] {
        world.shape(vec![profile(shape)]);
        world.apply(&wanted);
        let status = world.reconciler().services().remove(0);
        assert_eq!(status.state, DeploymentState::Failed);
        assert!(status.error.unwrap().detail.contains(word), "{word}");
        assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    }
    world.shape(Vec::new());
    world.apply(&wanted);
    assert_eq!(
        world.reconciler().services()[0].state,
        DeploymentState::Applied
    );
}

#[test]
fn what_does_not_run_has_nothing_and_the_rest_goes_on() {
    let mut world = World::new();
    let mut tied = profile(Shape::default());
    tied.lifecycle = Some(Lifecycle {
        workload: Workload::Unit("uplink.service".parse().unwrap()),
        linger: Duration::ZERO,
    });
    world.shape(vec![tied]);
    let wanted = bindings(
        1,
        [of("1", "1", "1"), deployment("d2", "other", &[("a", "1")])],
    );
    world.apply(&wanted);
    assert!(
        world.read("uplink", "a").is_err(),
        "nobody knows whether it runs"
    );
    assert!(
        world.home("uplink").is_dir(),
        "a container can mount it already"
    );
    assert!(world.read("other", "a").is_ok());

    let key = ("myorg/uplink".parse().unwrap(), None);
    let now = world.now();
    let live = |world: &mut World, verdict| {
        let stances = BTreeMap::from([(key.clone(), verdict)]);
        world.reconciler().live_by(stances, now)
    };
    assert!(live(&mut world, Verdict::Deliver));
    assert_eq!(world.apply(&wanted), 3);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));
    live(&mut world, Verdict::Leave);
    world.apply(&wanted);
    assert!(
        world.read("uplink", "a").is_ok(),
        "what is there stays while nobody knows"
    );
    live(&mut world, Verdict::Withhold);
    assert!(
        world.read("uplink", "a").is_err(),
        "at once, without the hub"
    );
    let report = world.reconciler().report();
    let stopped = &report.deployments[0];
    assert_eq!(stopped.state, DeploymentState::Stopped);
    assert!(stopped.applied.is_empty());
    assert_eq!(world.apply(&wanted), 0);
    assert!(world.read("other", "a").is_ok());
    assert!(!live(&mut world, Verdict::Withhold), "nothing has changed");
}

#[test]
fn before_the_hub_was_heard_what_a_former_life_delivered_stays() {
    let mut world = World::new();
    let wanted = bindings(
        1,
        [of("1", "1", "1"), deployment("d2", "other", &[("a", "1")])],
    );
    world.apply(&wanted);
    let mut tied = profile(Shape::default());
    tied.lifecycle = Some(Lifecycle {
        workload: Workload::Unit("uplink.service".parse().unwrap()),
        linger: Duration::ZERO,
    });
    world.shape(vec![tied]);
    world.restart();
    let key = || ("myorg/uplink".parse().unwrap(), None);
    let now = world.now();
    for verdict in [Verdict::Leave, Verdict::Deliver, Verdict::Leave] {
        let stances = BTreeMap::from([(key(), verdict)]);
        world.reconciler().live_by(stances, now);
        assert!(world.read("uplink", "a").is_ok(), "{verdict:?}");
        assert!(world.read("other", "a").is_ok(), "{verdict:?}");
    }
    let stances = BTreeMap::from([(key(), Verdict::Withhold)]);
    world.reconciler().live_by(stances, now);
    assert!(
        world.read("uplink", "a").is_err(),
        "what has stopped has nothing, hub or no hub"
    );
    assert!(world.read("other", "a").is_ok());
    let report = world.reconciler().report();
    let states: Vec<_> = report.deployments.iter().map(|d| d.state).collect();
    assert_eq!(states, [DeploymentState::Stopped, DeploymentState::Applied]);
    world.apply(&wanted);
    assert!(world.read("other", "a").is_ok());
}

#[test]
fn consumers_of_credentials_alone_keep_others_out() {
    let mut world = World::new();
    let private = Shape {
        private: true,
        ..Shape::default()
    };
    let wanted = bindings(1, [of("1", "1", "1")]);
    let mode = |world: &World| {
        fs::metadata(world.home("uplink"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    world.shape(vec![profile(private)]);
    world.apply(&wanted);
    assert_eq!(mode(&world), 0o700);
    world.shape(Vec::new());
    world.apply(&wanted);
    assert_eq!(mode(&world), 0o755);
}

#[test]
fn who_should_hear_of_a_generation_is_not_forgotten_and_hears_once() {
    let mut world = World::new();
    let mut told = profile(Shape::default());
    told.on_change = Some(OnChange {
        action: Action::Reload("uplink.service".parse().unwrap()),
        debounce: Duration::ZERO,
        timeout: Duration::ZERO,
    });
    world.shape(vec![told]);
    let wanted = bindings(
        1,
        [of("1", "1", "1"), deployment("d2", "other", &[("a", "1")])],
    );
    world.apply(&wanted);
    world.restart();
    world.apply(&wanted);
    let open = world.reconciler().unannounced();
    let [(consumer, generation)] = open.as_slice() else {
        panic!("{open:?}");
    };
    assert_eq!(consumer.service.to_string(), "myorg/uplink");
    world.reconciler().announced(consumer, "..g0.another");
    assert_eq!(world.reconciler().unannounced().len(), 1);
    world.reconciler().announced(consumer, generation);
    assert!(world.reconciler().unannounced().is_empty());
    world.restart();
    world.apply(&wanted);
    assert!(world.reconciler().unannounced().is_empty());
    world.apply(&bindings(2, [of("2", "1", "1")]));
    assert_eq!(world.reconciler().unannounced().len(), 1);
}

#[test]
fn who_starts_with_its_first_secrets_hears_of_later_ones_alone() {
    let mut world = World::new();
    let mut told = profile(Shape::default());
    told.on_change = Some(OnChange {
        action: Action::Restart("uplink@1.service".parse().unwrap()),
        debounce: Duration::ZERO,
        timeout: Duration::ZERO,
    });
    told.credentials = Some(Credentials {
        units: vec!["uplink@.service".parse().unwrap()],
        ids: BTreeMap::new(),
        wait: Duration::ZERO,
    });
    world.shape(vec![told]);
    world.apply(&bindings(1, [of("1", "1", "1")]));
    assert!(
        world.reconciler().unannounced().is_empty(),
        "it would be restarted just after its start"
    );
    world.apply(&bindings(2, [of("2", "1", "1")]));
    assert_eq!(world.reconciler().unannounced().len(), 1);
}
