//! The node's clock.

use std::time::Duration;

use edge_secrets_tests::clock::days;
use edge_secrets_tests::relay::{Direction, Fault};
use edge_secrets_tests::wait;
use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::Scene;
use crate::offline::power_cut;

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        a_node_that_boots_in_1970_serves_what_it_keeps_and_connects_when_its_clock_is_right,
        steps_of_a_running_nodes_clock_take_nothing_away,
        a_clock_that_is_ahead_renews_once_and_not_for_ever,
        a_clock_that_is_set_right_shows_at_once_that_a_renewal_is_due,
        a_certificate_that_ended_is_renewed_within_the_grace,
        a_certificate_that_ended_long_ago_needs_a_token_and_services_go_on,
        what_ends_while_the_machine_sleeps_is_gone_when_it_wakes,
        max_age_counts_the_time_that_the_machine_sleeps,
        a_connection_that_died_while_the_machine_slept_is_noticed,
    ]
}

fn a_node_that_boots_in_1970_serves_what_it_keeps_and_connects_when_its_clock_is_right() {
    let mut scene = Scene::start();
    let certificate = scene.certificate();
    scene.hub.kill();
    power_cut(&mut scene.agent);
    scene.node_clock.boot();
    scene
        .node_clock
        .set(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(20));
    scene.agent.run();
    scene.has(0);
    let reader = scene.reader();
    scene.hub.serve();
    scene.set(1);
    scene.says("the clock of this machine is behind");
    let check = scene.agent.ended(&["check"]);
    assert_ne!(check.code, 0);
    assert!(
        check.stdout.contains("it says 1970-01-01T00:0"),
        "{check:?}"
    );
    assert_eq!(std::fs::read(scene.file()).expect("readable"), b"value-0");
    scene.node_clock.set_right();
    scene.has(1);
    scene.hub.await_rollout("uplink", 1);
    assert_eq!(scene.certificate(), certificate, "it is still good");
    assert_eq!(scene.renewals(), 0);
    reader.finish();
}

/// What a node meets that connects anew while its clock is wrong.
enum Then {
    Connects,
    /// The reason that it gives.
    Waits(&'static str),
}

fn steps_of_a_running_nodes_clock_take_nothing_away() {
    let mut scene = Scene::start();
    let reader = scene.reader();
    let behind = "the clock of this machine is behind";
    let ahead = "the clock of this machine is ahead";
    let steps = [
        (
            "an hour ahead",
            SignedDuration::from_hours(1),
            Then::Connects,
        ),
        ("a month behind", days(-30), Then::Waits(behind)),
        ("a year ahead", days(365), Then::Waits(ahead)),
        ("forty years behind", days(-40 * 365), Then::Waits(behind)),
    ];
    for (number, (step, by, then)) in (1..).step_by(3).zip(steps) {
        println!("{step}");
        // The connection goes on.
        scene.node_clock.step(by);
        scene.set(number);
        scene.has(number);
        scene.cut();
        scene.set(number + 1);
        match then {
            Then::Connects => scene.has(number + 1),
            Then::Waits(reason) => scene.says(reason),
        }
        scene.node_clock.set_right();
        scene.has(number + 1);
        scene.set(number + 2);
        scene.has(number + 2);
        scene.hub.await_rollout("uplink", 1);
        // One that has failed often tries seldom: the next step begins with a fresh one.
        scene.agent.stop();
        scene.agent.run();
        scene.agent.await_hub("connected");
    }
    assert_eq!(scene.renewals(), 0, "no clock made a certificate old");
    reader.finish();
}

/// By its clock every certificate of the hub's is as good as over when it comes; the hub's own is not.
fn a_clock_that_is_ahead_renews_once_and_not_for_ever() {
    let mut scene = Scene::start();
    let reader = scene.reader();
    scene.agent.stop();
    scene.node_clock.step(days(30));
    scene.agent.run();
    scene.agent.await_log("Certificate renewed.");
    scene.agent.await_hub("connected");
    // Nothing is waited for: that nothing happens is looked at for as long as it would take twice.
    let again = wait::within(&scene.agent.log(), Duration::from_secs(12), &mut || {
        scene.renewals() > 1
    });
    assert!(!again, "it renews again and again");
    scene.set(1);
    scene.has(1);
    reader.finish();
}

fn a_clock_that_is_set_right_shows_at_once_that_a_renewal_is_due() {
    let mut scene = short_lived();
    scene.agent.stop();
    scene.hub.stop();
    scene.hub_clock.step(SignedDuration::from_hours(20));
    scene.hub.serve();
    scene.node_clock.set(Timestamp::UNIX_EPOCH);
    scene.agent.run();
    scene.says("the clock of this machine is behind");
    scene.node_clock.set(scene.hub_clock.now());
    scene.agent.await_log("Certificate renewed.");
}

/// Certificates that live for a day, and may be renewed for two days more.
fn short_lived() -> Scene {
    Scene::configured(|config| {
        config["node_certificates"]["lifetime"] = "1d".into();
        config["node_certificates"]["renewal_grace"] = "2d".into();
    })
}

fn a_certificate_that_ended_is_renewed_within_the_grace() {
    let mut scene = short_lived();
    let reader = scene.reader();
    let certificate = scene.certificate();
    scene.agent.stop();
    scene.hub.stop();
    scene.both(|clock| clock.step(SignedDuration::from_hours(60)));
    scene.hub.serve();
    scene.set(1);
    scene.agent.run();
    scene.has(1);
    assert_ne!(scene.certificate(), certificate);
    assert_eq!(scene.renewals(), 1);
    reader.finish();
}

fn a_certificate_that_ended_long_ago_needs_a_token_and_services_go_on() {
    let mut scene = short_lived();
    let reader = scene.reader();
    scene.agent.stop();
    scene.hub.stop();
    scene.both(|clock| clock.step(days(10)));
    scene.hub.serve();
    scene.set(1);
    scene.agent.run();
    scene.says("enrol again");
    assert_eq!(std::fs::read(scene.file()).expect("readable"), b"value-0");
    let token = scene.hub.token("edge-01");
    let enrolled = scene.agent.enrol_anew(&token);
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    scene.has(1);
    assert_eq!(scene.renewals(), 0);
    reader.finish();
}

fn what_ends_while_the_machine_sleeps_is_gone_when_it_wakes() {
    for hub_is_there in [true, false] {
        let mut scene = Scene::start();
        let edit = ["secret", "edit", "cloudServiceXYZSecret", "--expires", "2h"];
        scene.hub.operator().ok(&edit, "");
        scene.agent.await_status("it has an end", |status| {
            status["services"][0]["secrets"][0]["expires_at"].is_string()
        });
        if !hub_is_there {
            scene.hub.kill();
            scene.agent.await_hub("disconnected");
        }
        scene.both(|clock| clock.sleep(Duration::from_secs(3_600)));
        let status = scene.agent.status().expect("a status");
        assert_eq!(status["services"][0]["state"], "applied", "{status}");
        assert!(scene.file().exists(), "it has another hour");
        scene.both(|clock| clock.sleep(Duration::from_secs(3_700)));
        wait::gone(&scene.file());
        // A hub says, as soon as it notices too, that the secret is not there any more.
        let code = if hub_is_there { "missing" } else { "expired" };
        scene.agent.await_status("it says why", |status| {
            status["services"][0]["error"]["code"] == code
        });
    }
}

fn max_age_counts_the_time_that_the_machine_sleeps() {
    let mut scene = Scene::start();
    scene.hub.stop();
    scene.agent.await_hub("disconnected");
    scene.both(|clock| clock.sleep(Duration::from_secs(29 * 86_400)));
    let status = scene.agent.status().expect("a status");
    assert_eq!(status["services"][0]["state"], "applied", "{status}");
    scene.both(|clock| clock.sleep(Duration::from_secs(2 * 86_400)));
    wait::gone(&scene.file());
    let cache = scene.agent.state_dir().join("cache");
    wait::until(&cache, "the cache is gone", || !cache.exists());
    // The hub is back: its word counts again, and the certificate is renewed within the grace.
    scene.hub.serve();
    scene.has(0);
    assert_eq!(scene.renewals(), 1);
}

/// Found by pings, within half a minute that the machine is awake.
fn a_connection_that_died_while_the_machine_slept_is_noticed() {
    let mut scene = Scene::start();
    let reader = scene.reader();
    scene.agent.signal(Signal::SIGSTOP);
    scene.relay.plan(Direction::Down, 0, Fault::Silence);
    scene.set(1);
    scene.both(|clock| clock.sleep(Duration::from_secs(8 * 3_600)));
    scene.agent.signal(Signal::SIGCONT);
    scene.has(1);
    assert!(scene.relay.happened());
    scene.hub.await_rollout("uplink", 1);
    reader.finish();
}
