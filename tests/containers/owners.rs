//! Whom a container's process is on the host, and what it may read.

use std::fs;
use std::os::unix::fs::MetadataExt;

use edge_secrets_tests::podman::IMAGE;

use crate::Named;
use crate::edge::{Edge, FILE};

pub(crate) fn trials() -> Vec<Named> {
    crate::trials![
        an_ordinary_user_in_a_container_reads_nothing_without_a_profile,
        root_in_a_user_namespace_is_nobody_on_the_host,
        a_user_in_a_container_reads_what_its_profile_gives_to_it,
        a_user_namespace_reads_what_the_host_gives_to_its_mapped_id,
    ]
}

fn an_ordinary_user_in_a_container_reads_nothing_without_a_profile() {
    let edge = Edge::delivered(None, "one");
    let args = [
        "--rm",
        "--user=1000:1000",
        &edge.mount(),
        IMAGE,
        "cat",
        FILE,
    ];
    denied(&edge.podman.run(&args));
}

fn root_in_a_user_namespace_is_nobody_on_the_host() {
    let edge = Edge::delivered(None, "one");
    let mount = edge.mount();
    let args = [&["--rm", &*mount], &MAPPED[..], &[IMAGE, "cat", FILE]].concat();
    denied(&edge.podman.run(&args));
}

fn a_user_in_a_container_reads_what_its_profile_gives_to_it() {
    let edge = Edge::delivered(Some(&profile(1000)), "one");
    let look = format!("stat -L -c '%u:%g %a' {FILE}; cat {FILE}");
    let mount = edge.mount();
    let as_user = |user: &str| {
        let user = format!("--user={user}");
        edge.podman
            .run(&["--rm", &user, &mount, IMAGE, "sh", "-c", &look])
    };
    let ended = as_user("1000:1000");
    assert_eq!(
        (ended.code, &*ended.stdout),
        (0, "1000:1000 400\none"),
        "{ended:?}"
    );
    denied(&as_user("1001:1001"));
}

fn a_user_namespace_reads_what_the_host_gives_to_its_mapped_id() {
    let edge = Edge::delivered(Some(&profile(START + 1000)), "one");
    let host = fs::metadata(edge.file()).expect("it is there");
    assert_eq!((host.uid(), host.gid()), (START + 1000, START + 1000));
    let look = format!("stat -L -c '%u:%g %a' {FILE}; cat {FILE}");
    let mount = edge.mount();
    let own = ["--rm", "--user=1000:1000", &*mount];
    let args = [&own, &MAPPED[..], &[IMAGE, "sh", "-c", &look]].concat();
    let ended = edge.podman.run(&args);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (0, "1000:1000 400\none"),
        "{ended:?}"
    );
}

fn denied(ended: &edge_secrets_tests::operator::Ended) {
    assert_ne!(ended.code, 0, "{ended:?}");
    let reason = format!("can't open '{FILE}': Permission denied");
    assert!(ended.stderr.contains(&reason), "{ended:?}");
    assert!(!ended.stdout.contains("one"), "{ended:?}");
}

/// One owner, who alone may read.
fn profile(owner: u32) -> String {
    format!(
        "service: myorg/com.example.uplink\nconsumer: uplink\n\
         owner: {owner}\ngroup: {owner}\nmode: 0400\n"
    )
}

/// The host's id of the namespace's 0.
const START: u32 = 300_000;
const MAPPED: [&str; 2] = ["--uidmap=0:300000:65536", "--gidmap=0:300000:65536"];
