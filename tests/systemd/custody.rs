//! The node's sealing key under a credential of the agent's unit, which systemd keeps encrypted.
//!
//! No machine under test has a TPM: the credential is encrypted to the key of the host
//! (`--with-key=host`). To the agent both are the same: a file that it is given.

use libtest_mimic::Trial;

use crate::node::{AGENT, CONFIG, DIR, HUB, NAME, Node};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![a_sealing_key_under_an_encrypted_credential_opens_the_cache_at_boot]
}

const KEY: &str = "/var/lib/edge-secrets/identity/sealing.key";
const DROP_IN: &str = "/etc/systemd/system/edge-secrets-agent.service.d/key.conf";

/// Makes a credential as the documents say, and names it in a drop-in.
fn make_credential(node: &Node) {
    node.sh("install -d -m 0700 /etc/credstore.encrypted
         head -c 32 /dev/urandom | systemd-creds encrypt --with-key=host \
             --name=edge-secrets-key - /etc/credstore.encrypted/edge-secrets-key");
    let credential = "edge-secrets-key:/etc/credstore.encrypted/edge-secrets-key";
    node.write(
        DROP_IN,
        format!("[Service]\nLoadCredentialEncrypted={credential}\n"),
    );
    node.ok(&["systemctl", "daemon-reload"]);
}

fn await_custody(node: &Node, wanted: &str) {
    node.await_status("the sealing key is kept as wanted", |status| {
        status["cache"]["sealing_key"] == wanted
    });
}

fn a_sealing_key_under_an_encrypted_credential_opens_the_cache_at_boot() {
    let mut node = Node::start();
    node.delivered("v1");
    await_custody(&node, "file");
    make_credential(&node);
    let plain = node.sh(&format!("cat {CONFIG}"));
    let wanted = format!("{plain}\nidentity: {{ sealing_key: credential }}\n");
    node.write(CONFIG, &wanted);
    node.ok(&["systemctl", "restart", AGENT]);
    await_custody(&node, "credential");
    node.until_says(AGENT, "Kept values are sealed to the new key.");
    let first = node.sh(&format!("head -n 1 {KEY}"));
    assert_eq!(first, "edge-secrets encrypted key 1");

    // Booted without its hub, it opens what it keeps.
    node.ok(&["systemctl", "disable", HUB]);
    node.reboot();
    node.await_value(NAME, "v1");
    assert_eq!(node.show(HUB, "ActiveState"), "inactive");
    await_custody(&node, "credential");

    // Without the drop-in it says what to do, and is not started again and again.
    node.ok(&["rm", DROP_IN]);
    node.ok(&["systemctl", "daemon-reload"]);
    assert_ne!(node.run(&["systemctl", "restart", AGENT], "").code, 0);
    assert_eq!(node.show(AGENT, "ExecMainStatus"), "64");
    node.until_says(AGENT, "LoadCredentialEncrypted=edge-secrets-key");
    assert_eq!(node.sh(&format!("cat {DIR}/{NAME}")), "v1", "it stays");

    // Another credential, as where a machine's TPM was replaced: filled again from the hub.
    make_credential(&node);
    node.ok(&["systemctl", "start", HUB]);
    node.ok(&["systemctl", "start", AGENT]);
    node.until_says(AGENT, "The sealed cache is set aside");
    node.await_status("the cache is filled again", |status| {
        status["cache"]["values"] == 1 && status["hub"]["state"] == "connected"
    });
    node.ok(&["systemctl", "stop", HUB]);
    node.reboot();
    node.await_value(NAME, "v1");
}
