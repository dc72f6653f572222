//! The hub's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use edge_secrets_fakes::vault::{Event, Role};
use edge_secrets_tests::clock::days;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestVault, wait};
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;

use super::Scene;
use crate::delivery::URL;
use crate::managers::vault::{CREDENTIAL, credential};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        a_hub_that_starts_with_a_wrong_clock_is_found_when_it_is_right,
        a_certificate_that_was_given_in_the_future_is_taken_and_exchanged,
        a_value_that_ended_by_a_wrong_clock_stays_and_is_good_when_it_is_right,
        a_token_that_ended_by_a_wrong_clock_is_good_when_it_is_right,
        credentials_are_kept_alive_whatever_the_hubs_clock_is_set_to,
    ]
}

/// Its own certificate is of its clock: no node takes it while that is wrong.
fn a_hub_that_starts_with_a_wrong_clock_is_found_when_it_is_right() {
    let in_1970 = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    for (wrong, says) in [
        (in_1970, "the hub's certificate has expired"),
        (
            Timestamp::now() + days(400),
            "the hub says this node's certificate has expired, or a clock is wrong",
        ),
    ] {
        let mut scene = Scene::start();
        let reader = scene.reader();
        let certificate = scene.certificate();
        scene.hub.stop();
        scene.hub_clock.set(wrong);
        scene.hub.serve();
        scene.says(says);
        scene.hub_clock.set_right();
        scene.agent.await_hub("connected");
        scene.set(1);
        scene.has(1);
        assert_eq!(scene.certificate(), certificate);
        reader.finish();
    }
}

/// The hub's clock was some days ahead when it renewed the node's certificate.
fn a_certificate_that_was_given_in_the_future_is_taken_and_exchanged() {
    let mut scene = Scene::start();
    let reader = scene.reader();
    scene.hub_clock.step(days(8));
    scene.cut();
    scene.agent.await_log("Certificate renewed.");
    scene.agent.await_hub("connected");
    scene.set(1);
    scene.has(1);
    scene.hub_clock.set_right();
    scene.cut();
    scene.agent.await_hub("connected");
    scene.set(2);
    scene.has(2);
    assert_eq!(scene.renewals(), 1, "it is taken, though it has not begun");
    // The next start exchanges it, once.
    scene.agent.stop();
    scene.agent.run();
    wait::until(&scene.agent.log(), "it is exchanged", || {
        scene.renewals() == 2
    });
    scene.agent.await_hub("connected");
    scene.set(3);
    scene.has(3);
    reader.finish();
}

fn a_value_that_ended_by_a_wrong_clock_stays_and_is_good_when_it_is_right() {
    let mut scene = Scene::start();
    let edit = ["secret", "edit", "cloudServiceXYZSecret", "--expires", "3d"];
    scene.hub.operator().ok(&edit, "");
    scene.agent.await_status("it has an end", |status| {
        status["services"][0]["secrets"][0]["expires_at"].is_string()
    });
    scene.hub_clock.step(days(5));
    scene.hub.await_log("A secret has ended.");
    // The node goes by its own clock, and by that it has not.
    assert_eq!(std::fs::read(scene.file()).expect("readable"), b"value-0");
    scene.hub_clock.set_right();
    let revived = "A secret has not ended: the clock was set back.";
    scene.hub.await_log(revived);
    scene.hub.await_rollout("uplink", 1);
    scene.has(0);
}

fn a_token_that_ended_by_a_wrong_clock_is_good_when_it_is_right() {
    let mut scene = Scene::start();
    let token = scene.hub.token("edge-02");
    let other = TestAgent::new(&scene.hub, "edge-02", &[]);
    scene.hub_clock.step(days(2));
    let ended = other.enrol(&token);
    assert_eq!(ended.code, 77, "{ended:?}");
    scene.hub_clock.set_right();
    let ended = other.enrol(&token);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// Side by side: most of it is waiting for a manager's credentials to grow old.
fn credentials_are_kept_alive_whatever_the_hubs_clock_is_set_to() {
    let steps = [days(-1), days(5), days(-30 * 365)];
    thread::scope(|scope| {
        let each = steps.map(|step| scope.spawn(move || credentials_are_kept_alive(step)));
        for one in each {
            one.join().expect("it held");
        }
    });
}

/// Credentials that live for half a minute, by the manager's own clock, which is right.
fn credentials_are_kept_alive(step: SignedDuration) {
    let vault = TestVault::start();
    let role = Role {
        ttl: 30,
        max_ttl: 3_600,
        ..Role::default()
    };
    vault
        .server()
        .with(|vault| vault.database_role("database", "app", role));
    let prolonged = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&prolonged);
    vault.on_user(move |event| {
        if matches!(event, Event::Renewed { .. } | Event::Created { .. }) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut scene = Scene::configured(|config| vault.configure(config, &["database/creds/app"]));
    // What is over by a clock that was set forward is replaced: for a moment the node has the old one.
    let works = |scene: &Scene, when: &str| {
        let dir = scene.agent.consumer(URL, "main");
        wait::until(&dir, &format!("it works {when}, {step}"), || {
            let (user, password) = credential(&scene.agent);
            vault.user_works(&user, &password)
        });
    };
    let prolonged_since = |scene: &Scene, before: usize, when: &str| {
        vault.until(&scene.hub.log(), &format!("{when}, {step}"), |_| {
            prolonged.load(Ordering::SeqCst) > before
        });
    };
    let operator = scene.hub.operator();
    let names = CREDENTIAL.map(|(name, _)| name);
    operator.publish_service(&plain_service(URL, &names));
    operator.publish_policy("uplink", &policy(URL, &[], &CREDENTIAL));
    prolonged_since(&scene, 0, "it is made");
    works(&scene, "when it was made");
    let before = prolonged.load(Ordering::SeqCst);
    scene.hub_clock.step(step);
    prolonged_since(&scene, before, "it is kept alive by the wrong clock");
    works(&scene, "by the wrong clock");
    told_no_longer_than_it_lives(&scene);
    let before = prolonged.load(Ordering::SeqCst);
    scene.hub_clock.set_right();
    prolonged_since(&scene, before, "it is kept alive by the right clock");
    works(&scene, "by the right clock");
    told_no_longer_than_it_lives(&scene);
    // Nobody keeps it alive: the node ends it in time.
    scene.hub.kill();
    wait::gone(&scene.agent.consumer(URL, "main").join("password"));
}

/// What the node was told of the end, by the clock of who told it.
fn told_no_longer_than_it_lives(scene: &Scene) {
    scene.agent.await_status("it ends in time", |status| {
        let end = status["services"][0]["secrets"][0]["expires_at"].as_str();
        let end: Option<Timestamp> = end.and_then(|end| end.parse().ok());
        end.is_some_and(|end| end.duration_since(scene.hub_clock.now()).as_secs() <= 31)
    });
}
