//! Secrets as systemd credentials: `LoadCredential=` from the agent's socket.

use libtest_mimic::Trial;

use crate::node::{AGENT, CONFIG, NAME, Node, PROFILE, SOCKET};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_unit_gets_its_credential_at_boot_before_the_agent_is_up,
        a_credential_that_never_comes_fails_the_unit_before_it_starts,
        another_unit_is_refused,
        a_template_stands_for_its_instances,
        a_changed_credential_restarts_the_unit,
        a_unit_waits_through_a_restart_of_the_agent,
        a_unit_waits_through_a_kill_of_the_agent,
        a_restart_that_brings_no_agent_fails_the_unit_that_waits,
        a_running_unit_keeps_its_credential_without_the_agent,
        a_flood_of_connections_refuses_nobody_who_is_entitled,
    ]
}

/// Copies its credential and stays.
const CONSUMER: &str = "[Service]\nDynamicUser=no\n\
    LoadCredential=cred:/run/edge-secrets/credentials.sock\n\
    ExecStart=/bin/sh -ec 'cat $CREDENTIALS_DIRECTORY/cred >>/root/got; exec sleep infinity'\n\
    [Install]\nWantedBy=multi-user.target\n";

fn profile(wait: &str) -> String {
    format!(
        "files: false\nsystemd:\n  units: [consumer.service, \"many@.service\"]\n  wait: {wait}\n"
    )
}

fn a_unit_gets_its_credential_at_boot_before_the_agent_is_up() {
    let mut node = Node::start();
    node.profile(&profile("100s"));
    node.set("at boot");
    node.deploy();
    node.await_service();
    node.unit("consumer.service", CONSUMER);
    node.ok(&["systemctl", "enable", "consumer"]);
    // The agent comes last of all; whoever wants a secret waits for it.
    node.write(
        "/etc/systemd/system/edge-secrets-agent.service.d/late.conf",
        "[Service]\nExecStartPre=/bin/sleep 3\n",
    );
    node.reboot();
    node.until("the unit has its credential", || {
        node.run(&["cat", "/root/got"], "").stdout == "at boot"
    });
    assert_eq!(node.show("consumer", "ActiveState"), "active");
    assert_eq!(node.show("consumer", "NRestarts"), "0");
}

fn a_credential_that_never_comes_fails_the_unit_before_it_starts() {
    let node = Node::start();
    node.profile(&profile("1s"));
    node.unit("consumer.service", CONSUMER);
    let ended = node.run(&["systemctl", "start", "consumer"], "");
    // systemd's answer to Type=simple comes before the credentials are loaded: its end tells.
    node.until("the unit has failed", || {
        node.show("consumer", "ActiveState") == "failed"
    });
    assert_eq!(node.show("consumer", "ExecMainStatus"), "243", "{ended:?}");
    assert!(
        !node.disk("/root/got").exists(),
        "it started with an empty credential"
    );
}

fn another_unit_is_refused() {
    let node = Node::start();
    node.profile(&profile("1s"));
    node.delivered("v1");
    node.unit("thief.service", &CONSUMER.replace("DynamicUser=no\n", ""));
    node.run(&["systemctl", "start", "thief"], "");
    node.until("the unit has failed", || {
        node.show("thief", "ActiveState") == "failed"
    });
    assert_eq!(node.show("thief", "ExecMainStatus"), "243");
    assert!(!node.disk("/root/got").exists());
    // And so is a credential that the profile's consumer does not have.
    node.unit(
        "consumer.service",
        &CONSUMER.replace("LoadCredential=cred:", "LoadCredential=more:"),
    );
    node.run(&["systemctl", "start", "consumer"], "");
    node.until("the unit has failed", || {
        node.show("consumer", "ActiveState") == "failed"
    });
    assert_eq!(node.show("consumer", "ExecMainStatus"), "243");
}

fn a_template_stands_for_its_instances() {
    let node = Node::start();
    node.profile(&profile("100s"));
    node.delivered("v1");
    let text = "[Service]\nType=oneshot\nLoadCredential=cred:/run/edge-secrets/credentials.sock\n\
        ExecStart=/bin/sh -ec 'cp $CREDENTIALS_DIRECTORY/cred /root/got-%i'\n";
    node.unit("many@.service", text);
    node.ok(&["systemctl", "start", "many@one", "many@two"]);
    assert_eq!(node.sh("cat /root/got-one /root/got-two"), "v1v1");
}

fn a_changed_credential_restarts_the_unit() {
    let node = Node::start();
    node.profile(&(profile("100s") + "on_change: { try_restart: consumer.service }\n"));
    node.delivered("one\n");
    node.unit("consumer.service", CONSUMER);
    node.ok(&["systemctl", "start", "consumer"]);
    edge_secrets_tests::wait::content(&node.path("/root/got"), b"one\n");
    node.set("two\n");
    edge_secrets_tests::wait::content(&node.path("/root/got"), b"one\ntwo\n");
    assert_eq!(node.show("consumer", "ActiveState"), "active");
}

/// A unit is waiting for its credential; `disturb` the agent; deploy; the unit has it.
fn waits_through(disturb: impl Fn(&Node)) {
    let node = Node::start();
    node.profile(&profile("100s"));
    node.unit("consumer.service", CONSUMER);
    node.ok(&["systemctl", "start", "--no-block", "consumer"]);
    node.until("the agent knows that it waits", || {
        node.journal(AGENT).contains("consumer.service")
    });
    disturb(&node);
    node.set("in the end");
    node.deploy();
    edge_secrets_tests::wait::content(&node.path("/root/got"), b"in the end");
    assert_eq!(node.show("consumer", "NRestarts"), "0");
}

fn a_unit_waits_through_a_restart_of_the_agent() {
    waits_through(|node| {
        node.ok(&["systemctl", "restart", AGENT]);
    });
}

fn a_unit_waits_through_a_kill_of_the_agent() {
    waits_through(|node| {
        node.sh(&format!(
            "kill -KILL $(systemctl show --value -p MainPID {AGENT})"
        ));
        node.until("systemd starts it again", || {
            node.show(AGENT, "NRestarts") == "1"
        });
    });
}

fn a_restart_that_brings_no_agent_fails_the_unit_that_waits() {
    for spoil in [
        format!("mv {CONFIG} /root"),
        "mv /var/lib/edge-secrets/identity /root".to_owned(),
        format!("echo 'hub: nonsense' >{CONFIG}"),
    ] {
        let node = Node::start();
        node.profile(&profile("100s"));
        node.unit("consumer.service", CONSUMER);
        node.ok(&["systemctl", "start", "--no-block", "consumer"]);
        node.until("the agent knows that it waits", || {
            node.journal(AGENT).contains("consumer.service")
        });
        node.sh(&spoil);
        node.run(&["systemctl", "restart", AGENT], "");
        node.until("the unit has ended or started", || {
            node.show("consumer", "ActiveState") == "failed" || node.disk("/root/got").exists()
        });
        assert_eq!(node.show("consumer", "ExecMainStatus"), "243", "{spoil}");
        assert!(!node.disk("/root/got").exists(), "{spoil}");
    }
}

fn a_running_unit_keeps_its_credential_without_the_agent() {
    let node = Node::start();
    node.profile(&profile("100s"));
    node.delivered("v1");
    node.unit("consumer.service", CONSUMER);
    node.ok(&["systemctl", "start", "consumer"]);
    edge_secrets_tests::wait::content(&node.path("/root/got"), b"v1");
    node.ok(&["systemctl", "stop", SOCKET, AGENT]);
    assert_eq!(
        node.sh(&format!("cat /run/credentials/consumer.service/{NAME}")),
        "v1"
    );
}

fn a_flood_of_connections_refuses_nobody_who_is_entitled() {
    let node = Node::start();
    node.profile(&profile("100s"));
    node.delivered("v1");
    // Each of them is refused, all of them at once.
    node.unit(
        "flood@.service",
        "[Service]\nType=oneshot\nLoadCredential=cred:/run/edge-secrets/credentials.sock\n\
         ExecStart=/bin/true\n",
    );
    node.sh("for i in $(seq 200); do systemctl start --no-block flood@$i; done");
    node.unit("consumer.service", CONSUMER);
    node.ok(&["systemctl", "start", "consumer"]);
    edge_secrets_tests::wait::content(&node.path("/root/got"), b"v1");
    node.until("every other one is refused", || {
        let failed = node.ok(&[
            "systemctl",
            "list-units",
            "--plain",
            "--no-legend",
            "--failed",
            "flood@*",
        ]);
        failed.lines().count() == 200
    });
    assert_eq!(node.show(SOCKET, "ActiveState"), "active");
    assert!(node.disk(PROFILE).exists());
}
