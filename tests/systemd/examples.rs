//! The examples, installed exactly as they stand.

use std::fs;
use std::path::{Path, PathBuf};

use edge_secrets_tests::wait;
use libtest_mimic::Trial;

use crate::node::{A_MOMENT, Node, PROFILE};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        the_credential_example_is_restarted_with_each_new_value,
        the_files_example_reads_again_on_reload,
        the_template_example_reads_its_configuration_again,
        a_change_while_the_files_example_starts_does_not_end_it,
        a_change_while_the_template_example_starts_does_not_end_it,
    ]
}

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(path)
}

/// The service and policy of `examples/uplink`, and a secret of `len` bytes.
fn deploy(node: &Node, len: usize) {
    set(node, len);
    for (args, file) in [
        (&["service", "publish", "-"][..], "uplink/service.json"),
        (&["policy", "publish", "uplink", "-"], "uplink/policy.json"),
    ] {
        let document = fs::read(example(file)).expect("the example");
        let ended = node.run(&[&["edge-secrets"], args].concat(), document);
        assert_eq!(ended.code, 0, "{file}: {ended:?}");
    }
    node.await_service();
}

fn set(node: &Node, len: usize) {
    let args = [
        "edge-secrets",
        "secret",
        "set",
        "cloudServiceXYZSecret",
        "--value-file",
        "-",
    ];
    let ended = node.run(&args, "x".repeat(len));
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// Installs unit and profile, and what `files/` has beside them.
fn install(node: &Node, unit: &str) {
    node.copy(
        &example("systemd/files/uplink.sh"),
        "/usr/local/bin/uplink.sh",
    );
    node.sh("chmod 755 /usr/local/bin/uplink.sh");
    node.copy(
        &example("systemd/files/uplink.conf"),
        "/etc/sysusers.d/uplink.conf",
    );
    node.ok(&["systemd-sysusers"]);
    let folder = folder(unit);
    let profile = example(&format!("systemd/{folder}/uplink.yaml"));
    node.reads_profiles(|| node.copy(&profile, PROFILE));
    let to = format!("/etc/systemd/system/{unit}");
    node.copy(&example(&format!("systemd/{folder}/{unit}")), &to);
    node.ok(&["systemctl", "daemon-reload"]);
}

/// How long what stands around the value in what the unit reads is.
fn around(unit: &str) -> usize {
    match folder(unit) {
        "template" => "[cloud]\nurl = https://cloud.example.com\npassword = \n".len(),
        // The default format is a JSON object around the value.
        _ => r#"{"value":""}"#.len(),
    }
}

/// The example's folder.
fn folder(unit: &str) -> &str {
    unit.trim_start_matches("uplink-")
        .trim_end_matches(".service")
}

fn the_credential_example_is_restarted_with_each_new_value() {
    let node = Node::start();
    install(&node, "uplink-credential.service");
    // Before its secret is there: it waits.
    node.ok(&[
        "systemctl",
        "enable",
        "--now",
        "--no-block",
        "uplink-credential.service",
    ]);
    deploy(&node, 100);
    let says = |len: usize| {
        let len = len + around("uplink-credential.service");
        format!("Started with a credential of {len} bytes.")
    };
    node.until_says("uplink-credential.service", &says(100));
    set(&node, 200);
    node.until_says("uplink-credential.service", &says(200));
}

fn the_files_example_reads_again_on_reload() {
    let node = Node::start();
    install(&node, "uplink-files.service");
    deploy(&node, 100);
    node.ok(&["systemctl", "enable", "--now", "uplink-files.service"]);
    let says = |len: usize| format!("Read {} bytes.", len + around("uplink-files.service"));
    node.until_says("uplink-files.service", &says(100));
    set(&node, 200);
    node.until_says("uplink-files.service", &says(200));
    assert_eq!(node.show("uplink-files", "NRestarts"), "0");
}

fn the_template_example_reads_its_configuration_again() {
    let node = Node::start();
    install(&node, "uplink-template.service");
    deploy(&node, 100);
    node.ok(&["systemctl", "enable", "--now", "uplink-template.service"]);
    let says = |len: usize| format!("Read {} bytes.", len + around("uplink-template.service"));
    node.until_says("uplink-template.service", &says(100));
    set(&node, 200);
    node.until_says("uplink-template.service", &says(200));
    assert_eq!(node.show("uplink-template", "NRestarts"), "0");
}

fn a_change_while_the_files_example_starts_does_not_end_it() {
    changed_while_it_starts("uplink-files.service");
}

fn a_change_while_the_template_example_starts_does_not_end_it() {
    changed_while_it_starts("uplink-template.service");
}

/// The change comes when the program runs and does not hear signals yet.
fn changed_while_it_starts(unit: &str) {
    let node = Node::start();
    let reloaded = |is: bool| {
        node.await_status("the reload is under way, or done", |_| {
            (node.consumer()["on_change"]["state"] == "done") == is
        });
    };
    install(&node, unit);
    deploy(&node, 100);
    reloaded(true);
    node.sh("mkfifo /run/go");
    let text = fs::read_to_string(example(&format!("systemd/{}/{unit}", folder(unit))));
    let text = text.expect("the example");
    let mut lines = text.lines();
    let command = lines.find_map(|line| line.strip_prefix("ExecStart="));
    let command = command.expect("a command");
    node.write(
        &format!("/etc/systemd/system/{unit}.d/slow.conf"),
        format!(
            "[Service]\nExecStart=\nExecStart=/bin/sh -ec 'read go </run/go; exec {command}'\n"
        ),
    );
    node.ok(&["systemctl", "daemon-reload"]);
    node.ok(&["systemctl", "start", "--no-block", unit]);
    node.until("its program runs", || node.show(unit, "MainPID") != "0");
    set(&node, 200);
    reloaded(false);
    // Nothing shows that systemd was asked for the reload: a start takes it in.
    wait::within(&node.path("/run/go"), A_MOMENT, &mut || false);
    node.sh("echo go >/run/go");
    // At its start, and when it is reloaded.
    node.until("it has read the newer one twice", || {
        let says = format!("Read {} bytes.", 200 + around(unit));
        node.journal(unit).matches(&says).count() == 2
    });
    reloaded(true);
    assert_eq!(node.show(unit, "ActiveState"), "active");
    assert_eq!(node.show(unit, "NRestarts"), "0");
}
