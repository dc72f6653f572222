//! What a container sees of its one read-only directory.

use std::fs;

use edge_secrets_tests::podman::IMAGE;
use edge_secrets_tests::wait;

use crate::Named;
use crate::edge::{CONSUMER, Edge, FILE, MOUNT, NAME, REFERENCE, URL};

pub(crate) fn trials() -> Vec<Named> {
    crate::trials![
        a_container_reads_its_secret_and_cannot_write_there,
        a_running_container_follows_rotation_withdrawal_and_redeployment,
        an_agent_restart_goes_unnoticed_in_a_running_container,
        open_horizons_directory_works_the_same,
        an_env_file_is_sourced_in_the_container,
    ]
}

fn a_container_reads_its_secret_and_cannot_write_there() {
    let edge = Edge::delivered(None, "user:one");
    let mount = edge.mount();
    let ended = edge.podman.run(&["--rm", &mount, IMAGE, "cat", FILE]);
    assert_eq!((ended.code, &*ended.stdout), (0, "user:one"), "{ended:?}");
    for attempt in [
        format!("echo x > {FILE}"),
        format!("touch {MOUNT}/new"),
        format!("mv {FILE} {MOUNT}/moved"),
        format!("echo x > {MOUNT}/..data/{NAME}"),
    ] {
        let ended = edge
            .podman
            .run(&["--rm", &mount, IMAGE, "sh", "-c", &attempt]);
        assert_ne!(ended.code, 0, "{attempt}: {ended:?}");
        assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    }
    assert_eq!(fs::read(edge.file()).expect("it is there"), b"user:one");
}

fn a_running_container_follows_rotation_withdrawal_and_redeployment() {
    let edge = Edge::delivered(None, "one");
    edge.podman
        .start(CONSUMER, &[&edge.mount(), IMAGE, "sleep", "86400"]);
    let process = edge.podman.process(CONSUMER);
    let reads = |wanted: &str| {
        let ended = edge.podman.exec(CONSUMER, &format!("cat {FILE}"));
        assert_eq!((ended.code, &*ended.stdout), (0, wanted), "{ended:?}");
    };
    reads("one");
    edge.rotate("two");
    wait::content(&edge.file(), b"two");
    reads("two");
    edge.undeploy();
    wait::empty(&edge.dir());
    let ended = edge.podman.exec(CONSUMER, &format!("ls -A {MOUNT}"));
    assert_eq!((ended.code, &*ended.stdout), (0, ""), "{ended:?}");
    edge.rotate("three");
    edge.deploy();
    wait::content(&edge.file(), b"three");
    reads("three");
    assert_eq!(edge.podman.process(CONSUMER), process, "no restart");
}

fn an_agent_restart_goes_unnoticed_in_a_running_container() {
    let mut edge = Edge::delivered(None, "one");
    edge.podman
        .start(CONSUMER, &[&edge.mount(), IMAGE, "sleep", "86400"]);
    let script = format!("readlink {MOUNT}/..data; cat {FILE}");
    let before = edge.podman.exec(CONSUMER, &script);
    edge.agent.kill();
    let without = edge.podman.exec(CONSUMER, &script);
    assert_eq!((without.code, &without.stdout), (0, &before.stdout));
    edge.agent.run();
    edge.agent.await_hub("connected");
    let after = edge.podman.exec(CONSUMER, &script);
    assert_eq!((after.code, &after.stdout), (0, &before.stdout));
    edge.rotate("two");
    wait::content(&edge.file(), b"two");
    let rotated = edge.podman.exec(CONSUMER, &format!("cat {FILE}"));
    assert_eq!(rotated.stdout, "two", "{rotated:?}");
}

fn open_horizons_directory_works_the_same() {
    let edge = Edge::delivered(None, "one");
    let mount = format!("--volume={}:/open-horizon-secrets:ro", edge.dir().display());
    let file = format!("/open-horizon-secrets/{NAME}");
    let ended = edge.podman.run(&["--rm", &mount, IMAGE, "cat", &file]);
    assert_eq!((ended.code, &*ended.stdout), (0, "one"), "{ended:?}");
}

fn an_env_file_is_sourced_in_the_container() {
    let edge = Edge::with_profile(Some(&format!("service: myorg/{URL}\nformat: env\n")));
    edge.publish("replaced below", "value_only");
    let place = tempfile::tempdir().expect("a place");
    let fields = [("USER", "uplink"), ("TOKEN", "p\"a ss\\ $HOME `id`")];
    let fields = fields.map(|(name, value)| {
        let path = place.path().join(name);
        fs::write(&path, value).expect("written");
        format!("{name}={}", path.display())
    });
    let [user, token] = &fields;
    let set = [
        "secret",
        "set",
        REFERENCE,
        "--field-file",
        user,
        "--field-file",
        token,
    ];
    edge.hub.operator().ok(&set, "");
    edge.deploy();
    edge.agent.await_service(URL);
    let script = format!("set -a; . {FILE}; set +a; env");
    let args = ["--rm", &edge.mount(), IMAGE, "sh", "-c", &script];
    let ended = edge.podman.run(&args);
    let lines: Vec<_> = ended.stdout.lines().collect();
    for line in ["USER=uplink", "TOKEN=p\"a ss\\ $HOME `id`"] {
        assert!(lines.contains(&line), "{line}: {ended:?}");
    }
    // `--env-file` gives it too, but engines differ in whether they take the quotes off.
    let env_file = format!("--env-file={}", edge.file().display());
    let ended = edge.podman.run(&["--rm", &env_file, IMAGE, "env"]);
    let user = ended.stdout.lines().find(|line| line.starts_with("USER="));
    assert!(
        matches!(user, Some("USER=uplink" | "USER=\"uplink\"")),
        "{ended:?}"
    );
}
