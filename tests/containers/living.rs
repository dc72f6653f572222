//! Secrets that live with a container, and containers that hear of new ones.

use std::fs;

use edge_secrets_tests::podman::IMAGE;
use edge_secrets_tests::wait;

use crate::Named;
use crate::edge::{CONSUMER, Edge, FILE};

pub(crate) fn trials() -> Vec<Named> {
    crate::trials![
        a_container_has_its_secrets_while_it_runs,
        a_crash_loop_keeps_its_generation,
        an_engine_that_is_away_takes_nothing_away,
        a_running_container_gets_a_signal_after_a_rotation,
    ]
}

fn a_container_has_its_secrets_while_it_runs() {
    let edge = living("1s");
    edge.await_reported("stopped");
    assert!(!edge.file().exists(), "nothing runs that needs it");
    start(&edge);
    wait::content(&edge.file(), b"one");
    edge.await_reported("applied");
    for _ in 0..2 {
        edge.podman.ok(&["stop", "--time", "0", CONSUMER]);
        wait::gone(&edge.file());
        edge.await_reported("stopped");
        edge.podman.ok(&["start", CONSUMER]);
        wait::content(&edge.file(), b"one");
        let ended = edge.podman.exec(CONSUMER, &format!("cat {FILE}"));
        assert_eq!((ended.code, &*ended.stdout), (0, "one"), "{ended:?}");
    }
    // Made again under its name.
    edge.podman.ok(&["rm", "--force", "--time", "0", CONSUMER]);
    wait::gone(&edge.file());
    start(&edge);
    wait::content(&edge.file(), b"one");
}

fn a_crash_loop_keeps_its_generation() {
    let edge = living("10m");
    start(&edge);
    wait::content(&edge.file(), b"one");
    let link = edge.dir().join("..data");
    let generation = fs::read_link(&link).expect("a link");
    for _ in 0..5 {
        edge.podman.ok(&["kill", "--signal", "KILL", CONSUMER]);
        edge.await_presence("absent");
        assert_eq!(fs::read_link(&link).expect("a link"), generation);
        edge.podman.ok(&["start", CONSUMER]);
        edge.await_presence("present");
    }
    assert_eq!(fs::read_link(&link).expect("a link"), generation);
}

fn an_engine_that_is_away_takes_nothing_away() {
    let mut edge = living("1s");
    start(&edge);
    wait::content(&edge.file(), b"one");
    edge.podman.stop_serving();
    edge.await_presence("unknown");
    edge.rotate("two");
    wait::content(&edge.file(), b"two");
    edge.podman.serve();
    edge.await_presence("present");
    edge.podman.ok(&["stop", "--time", "0", CONSUMER]);
    wait::gone(&edge.file());
}

fn a_running_container_gets_a_signal_after_a_rotation() {
    let profile = "service: myorg/com.example.uplink\nconsumer: uplink\n\
                   on_change: { signal: HUP, container: uplink }\n";
    let mut edge = Edge::with_profile(Some(profile));
    edge.podman.serve();
    edge.publish("one", "value_only");
    edge.deploy();
    wait::content(&edge.file(), b"one");
    let out = tempfile::tempdir().expect("a place");
    let script = format!(
        "trap 'cat {FILE} > /out/new; mv /out/new /out/heard' HUP; echo yes > /out/ready; \
         while true; do sleep 86400 & wait $!; done"
    );
    let heard = format!("--volume={}:/out", out.path().display());
    edge.podman.start(
        CONSUMER,
        &[&edge.mount(), &heard, IMAGE, "sh", "-c", &script],
    );
    wait::content(&out.path().join("ready"), b"yes\n");
    let process = edge.podman.process(CONSUMER);
    for value in ["two", "three"] {
        edge.rotate(value);
        wait::content(&out.path().join("heard"), value.as_bytes());
    }
    assert_eq!(edge.podman.process(CONSUMER), process, "no restart");
}

/// A node whose service is deployed and lives with its container, which does not run yet.
fn living(linger: &str) -> Edge {
    let profile = format!(
        "service: myorg/com.example.uplink\nconsumer: uplink\n\
         lifecycle: {{ container: uplink, linger: {linger} }}\n"
    );
    let mut edge = Edge::with_profile(Some(&profile));
    edge.podman.serve();
    edge.publish("one", "value_only");
    edge.deploy();
    // podman mounts only what is there, so that the directory must be before the container is.
    wait::until(&edge.dir(), "there is a directory to mount", || {
        edge.dir().is_dir()
    });
    edge
}

fn start(edge: &Edge) {
    edge.podman
        .start(CONSUMER, &[&edge.mount(), IMAGE, "sleep", "86400"]);
}
