//! Installing, upgrading, removing and purging.

use edge_secrets_tests::nspawn::Machine;
use edge_secrets_tests::{Canary, scan::Scanner, wait};
use libtest_mimic::Trial;

use crate::node::{AGENT, CONFIG, DIR, HUB, NAME, Node, SOCKET};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_fresh_installation_is_enabled_and_waits_to_be_set_up,
        manuals_completions_and_examples_are_there,
        an_upgrade_leaves_no_moment_without_the_secret,
        an_upgrade_respects_what_was_stopped_or_disabled,
        an_upgrade_replaces_an_agent_that_is_only_starting,
        removing_wipes_and_purging_leaves_nothing,
        removing_wipes_where_the_configuration_is_broken_too,
        installing_on_a_running_machine_and_removing_before_enrolment_work,
    ]
}

fn a_fresh_installation_is_enabled_and_waits_to_be_set_up() {
    let mut machine = Machine::new(true);
    machine.boot();
    for unit in [AGENT, SOCKET, HUB] {
        assert_eq!(machine.ok(&["systemctl", "is-enabled", unit]), "enabled");
        assert_eq!(machine.show(unit, "ActiveState"), "inactive", "{unit}");
    }
    let state = machine.run(&["systemctl", "is-system-running"], "");
    assert_eq!(state.stdout.trim(), "running", "something has failed");
    // A unit that wants a credential of an agent that is not set up must not start without it.
    machine.write(
        "/etc/systemd/system/early.service",
        "[Service]\nType=oneshot\nLoadCredential=cred:/run/edge-secrets/credentials.sock\n\
         ExecStart=/bin/true\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_ne!(machine.run(&["systemctl", "start", "early"], "").code, 0);
    assert_eq!(machine.show("early", "ExecMainStatus"), "243");
}

fn manuals_completions_and_examples_are_there() {
    let machine = Machine::new(true);
    for file in [
        "/usr/share/man/man1/edge-secrets-agent.1.gz",
        "/usr/share/man/man1/edge-secrets-agent-mount.1.gz",
        "/usr/share/man/man1/edge-secrets-hub.1.gz",
        "/usr/share/man/man1/edge-secrets-secret-set.1.gz",
        "/usr/share/bash-completion/completions/edge-secrets-agent",
        "/usr/share/bash-completion/completions/edge-secrets",
        "/usr/share/zsh/vendor-completions/_edge-secrets-hub",
        "/usr/share/fish/vendor_completions.d/edge-secrets-agent.fish",
        "/usr/share/doc/edge-secrets-agent/copyright",
        "/usr/share/doc/edge-secrets-agent/changelog.Debian.gz",
        "/usr/share/doc/edge-secrets-agent/examples/agent.yaml",
        "/usr/share/doc/edge-secrets-agent/examples/files/uplink.yaml",
        "/usr/share/doc/edge-secrets-hub/examples/uplink/policy.json",
        "/etc/edge-secrets/services.d/README",
    ] {
        assert!(machine.disk(file).is_file(), "{file}");
    }
    assert!(
        !machine.disk(CONFIG).exists(),
        "it would be a node that nobody set up"
    );
}

/// Gives the agent's package a later version.
fn later_package(node: &Node) -> &'static str {
    node.sh(
        "cd /root/packages && dpkg-deb --raw-extract edge-secrets-agent_*.deb later
         sed -i 's/^Version: .*/&.later/' later/DEBIAN/control
         dpkg-deb --build -Znone later /root/later.deb",
    );
    "/root/later.deb"
}

fn an_upgrade_leaves_no_moment_without_the_secret() {
    let node = Node::start();
    node.delivered("readable throughout");
    let later = later_package(&node);
    // Reads without a pause, and ends with the first read that is not the secret.
    node.unit(
        "reader.service",
        &format!(
            "[Service]\nExecStart=/bin/sh -c 'n=0; while test \"$$(cat {DIR}/{NAME})\" = \
             \"readable throughout\"; do n=$$((n+1)); echo $$n >/run/reads; done; exit 1'\n"
        ),
    );
    node.ok(&["systemctl", "start", "reader"]);
    wait::there(&node.path("/run/reads"));
    let (before, mounted) = (
        node.show(AGENT, "MainPID"),
        node.sh("stat -c %d /run/edge-secrets"),
    );
    node.ok(&["dpkg", "--install", later]);
    assert_ne!(node.show(AGENT, "MainPID"), before, "the new agent runs");
    assert_eq!(node.show(AGENT, "ActiveState"), "active");
    assert_eq!(
        node.sh("stat -c %d /run/edge-secrets"),
        mounted,
        "the same tmpfs"
    );
    node.await_service();
    // Not one read failed, and the new agent goes on with the next value.
    assert_eq!(node.show("reader", "ActiveState"), "active");
    node.set("and it goes on");
    node.await_value(NAME, "and it goes on");
    node.until("the reader sees the next value", || {
        node.show("reader", "ActiveState") == "failed"
    });
    let versions = node.sh("dpkg-query --show --showformat '${Version}' edge-secrets-agent");
    assert!(versions.ends_with(".later"), "{versions}");
}

fn an_upgrade_respects_what_was_stopped_or_disabled() {
    let node = Node::start();
    let later = later_package(&node);
    node.ok(&["systemctl", "disable", AGENT, SOCKET]);
    node.ok(&["systemctl", "stop", SOCKET, AGENT]);
    node.ok(&["dpkg", "--install", later]);
    assert_eq!(node.show(AGENT, "ActiveState"), "inactive");
    assert_eq!(
        node.run(&["systemctl", "is-enabled", AGENT], "")
            .stdout
            .trim(),
        "disabled"
    );
}

fn an_upgrade_replaces_an_agent_that_is_only_starting() {
    let node = Node::start();
    let later = later_package(&node);
    // Without its hub, and with nothing kept, it is not ready for a while.
    node.sh(&format!("echo 'offline: {{ cache: off }}' >>{CONFIG}"));
    node.ok(&["systemctl", "stop", HUB, AGENT]);
    node.ok(&["systemctl", "start", "--no-block", AGENT]);
    node.until("the agent is starting", || {
        node.show(AGENT, "ActiveState") == "activating" && node.show(AGENT, "MainPID") != "0"
    });
    let before = node.show(AGENT, "MainPID");
    node.ok(&["dpkg", "--install", later]);
    assert_ne!(node.show(AGENT, "MainPID"), before, "the new agent runs");
    assert_eq!(node.show(AGENT, "ActiveState"), "active");
}

fn removing_wipes_and_purging_leaves_nothing() {
    let node = Node::start();
    let canary = Canary::new();
    node.delivered(&canary.value());
    // Whoever has the file open reads zeros, not the value, once it is wiped.
    node.unit(
        "holder.service",
        &format!(
            "[Service]\nExecStart=/bin/sh -c 'exec 3<{DIR}/{NAME}; echo open >/run/held; read x \
             </run/go; head -c 8 <&3 | od -An -tx1 >/run/seen'\n"
        ),
    );
    node.sh("mkfifo /run/go");
    node.ok(&["systemctl", "start", "holder"]);
    wait::there(&node.path("/run/held"));
    node.ok(&["dpkg", "--remove", "edge-secrets-agent"]);
    assert!(
        !node.path("/run/edge-secrets").exists(),
        "the tmpfs is gone"
    );
    assert_eq!(node.show(AGENT, "ActiveState"), "inactive");
    node.sh("echo >/run/go");
    node.until("the holder has read", || {
        node.show("holder", "ActiveState") != "active"
    });
    let seen = node.sh("cat /run/seen");
    assert!(seen.split_whitespace().all(|byte| byte == "00"), "{seen}");
    // The node can come back with what is left.
    assert!(node.path("/var/lib/edge-secrets/identity").exists());
    assert!(node.path(CONFIG).exists());
    node.ok(&["dpkg", "--purge", "edge-secrets-agent"]);
    for path in [
        "/var/lib/edge-secrets",
        "/etc/edge-secrets",
        "/run/edge-secrets",
    ] {
        assert!(!node.path(path).exists(), "{path}");
    }
    // The drop-in is this test's own.
    let found = node.sh(
        "find / -xdev -name '*edge-secrets-agent*' ! -path '/root/*' ! -path '/var/lib/dpkg/*' \
         ! -path '/etc/systemd/system/*.d'",
    );
    assert_eq!(found, "", "left behind");
    // Nor does the disk, journal and all, know the value. The hub's database has it encrypted.
    Scanner::new(&[&canary])
        .files(&node.disk("/"))
        .assert_clean("the machine's disk");
    node.ok(&["dpkg", "--purge", "edge-secrets-hub"]);
    assert!(!node.path("/var/lib/edge-secrets-hub").exists());
}

fn removing_wipes_where_the_configuration_is_broken_too() {
    let node = Node::start();
    node.delivered("value");
    node.write(CONFIG, "hub: nonsense\n");
    let removed = node.run(&["dpkg", "--remove", "edge-secrets-agent"], "");
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(
        removed.stdout.contains("Everything is wiped."),
        "{removed:?}"
    );
    assert!(!node.path("/run/edge-secrets").exists());
}

fn installing_on_a_running_machine_and_removing_before_enrolment_work() {
    let mut machine = Machine::new(false);
    for package in edge_secrets_tests::nspawn::packages() {
        let name = package.file_name().and_then(|name| name.to_str());
        machine.copy(&package, &format!("/root/{}", name.expect("a name")));
    }
    machine.boot();
    machine.sh("dpkg --install /root/*.deb");
    let state = machine.run(&["systemctl", "is-system-running"], "");
    assert_eq!(state.stdout.trim(), "running");
    machine.ok(&["edge-secrets-agent", "mount"]);
    machine.ok(&["dpkg", "--purge", "edge-secrets-agent", "edge-secrets-hub"]);
    assert!(!machine.path("/run/edge-secrets").exists());
    let state = machine.run(&["systemctl", "is-system-running"], "");
    assert_eq!(state.stdout.trim(), "running");
}
