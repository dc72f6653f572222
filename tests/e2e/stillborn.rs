//! An agent that cannot run, started by systemd with connections of units that wait since its former
//! life.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use edge_secrets_tests::binaries::binaries;
use edge_secrets_tests::unit::{Loaded, load};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_wrong_configuration_fails_the_units_that_wait,
        a_wrong_command_line_fails_the_units_that_wait,
        a_node_that_is_not_enrolled_fails_the_units_that_wait,
    ]
}

fn a_wrong_configuration_fails_the_units_that_wait() {
    refuses("hub: nonsense\n", &["run"]);
}

fn a_wrong_command_line_fails_the_units_that_wait() {
    refuses(
        "hub: { url: \"https://localhost\" }\n",
        &["run", "--no-such-option"],
    );
}

fn a_node_that_is_not_enrolled_fails_the_units_that_wait() {
    refuses("hub: { url: \"https://localhost\" }\n", &["run"]);
}

/// systemd gives the connections up when the agent has ended with 64: whoever has read nothing by
/// then starts with an empty credential.
fn refuses(configuration: &str, arguments: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("agent.yaml");
    let state = dir.path().join("state");
    let place = format!("{configuration}state_dir: {}\n", state.display());
    fs::write(&config, place).expect("written");
    let socket = dir.path().join("credentials.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let waiting = load(&socket, "uplink.service", "cred");
    let (stored, _) = listener.accept().expect("a connection");
    // The shell puts its input and output where systemd would put the two.
    let mut agent = Command::new("/bin/sh")
        .arg("-c")
        .arg("exec 3<&0 4<&1 1>&2; LISTEN_PID=$$ exec \"$0\" \"$@\"")
        .arg(&binaries().agent)
        .arg("--config")
        .arg(&config)
        .args(arguments)
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "credentials:credential-0123456789abcdef")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(stored)))
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent starts");
    assert_eq!(agent.wait().expect("it ends").code(), Some(64));
    let loaded = waiting.join().expect("it ends").expect("readable");
    assert_eq!(loaded, Loaded::Refused);
}
