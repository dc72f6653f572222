//! What services read, while the agent comes and goes.

use edge_secrets_tests::{Canary, scan::Scanner, wait};
use libtest_mimic::Trial;

use crate::node::{AGENT, DIR, NAME, Node};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_unit_reads_what_the_packaged_agent_delivers,
        what_is_delivered_stays_readable_over_restarts_and_kills,
        undeploying_wipes_the_files,
        a_reboot_brings_the_secrets_back,
        the_agent_writes_for_another_user_with_its_four_capabilities,
        a_template_renders_a_configuration_file_for_another_user,
    ]
}

fn a_unit_reads_what_the_packaged_agent_delivers() {
    let node = Node::start();
    node.delivered("v1");
    assert_eq!(node.sh(&format!("cat {DIR}/{NAME}")), "v1");
    let options = node.sh("findmnt --noheadings --output OPTIONS --target /run/edge-secrets");
    for option in ["nosuid", "nodev", "noexec", "noswap"] {
        assert!(options.split(',').any(|has| has == option), "{options}");
    }
    let status = node.status();
    let protection = status["protection"].to_string();
    assert!(protection.contains("memfd_secret"), "{protection}");
    // An ordinary user reads nothing, and a unit of root's does.
    assert_ne!(
        node.run(
            &[
                "runuser",
                "-u",
                "nobody",
                "--",
                "cat",
                &format!("{DIR}/{NAME}")
            ],
            ""
        )
        .code,
        0
    );
    node.ok(&[
        "systemd-run",
        "--wait",
        "--quiet",
        "test",
        "-s",
        &format!("{DIR}/{NAME}"),
    ]);
    node.set("v2");
    node.await_value(NAME, "v2");
}

fn what_is_delivered_stays_readable_over_restarts_and_kills() {
    let node = Node::start();
    node.delivered("v1");
    let inode = || node.sh(&format!("stat -L -c %i {DIR}/{NAME}"));
    let before = inode();
    node.ok(&["systemctl", "restart", AGENT]);
    assert_eq!(inode(), before);
    node.await_service();
    node.sh(&format!(
        "kill -KILL $(systemctl show --value -p MainPID {AGENT})"
    ));
    assert_eq!(inode(), before);
    node.until("systemd starts it again", || {
        node.show(AGENT, "NRestarts") == "1"
    });
    node.await_service();
    assert_eq!(inode(), before);
    node.set("v2");
    node.await_value(NAME, "v2");
}

fn undeploying_wipes_the_files() {
    let node = Node::start();
    let canary = Canary::new();
    node.delivered(&canary.value());
    node.withdraw();
    wait::empty(&node.path(DIR));
    Scanner::new(&[&canary])
        .files(&node.path("/run/edge-secrets"))
        .assert_clean("the runtime directory");
}

fn a_reboot_brings_the_secrets_back() {
    let mut node = Node::start();
    node.delivered("v1");
    node.reboot();
    wait::content(&node.path(DIR).join(NAME), b"v1");
    let state = node.ok(&["systemctl", "is-system-running", "--wait"]);
    assert_eq!(state, "running");
}

fn the_agent_writes_for_another_user_with_its_four_capabilities() {
    let node = Node::start();
    node.ok(&["useradd", "--system", "uplink"]);
    node.profile("owner: uplink\nmode: 0400\n");
    node.delivered("v1");
    node.until("the file is its user's", || {
        let stat = format!("stat -L -c %U:%a {DIR}/{NAME}");
        node.run(&["sh", "-c", &stat], "").stdout == "uplink:400\n"
    });
    let as_user =
        |script: &str| node.run(&["runuser", "-u", "uplink", "--", "sh", "-c", script], "");
    assert_eq!(as_user(&format!("cat {DIR}/{NAME}")).stdout, "v1");
    // A reader with the file open, of another user than the agent's: its lease is known, and the old
    // generation is overwritten once it is closed.
    node.set("v2");
    node.await_value(NAME, "v2");
    node.withdraw();
    wait::gone(&node.path(DIR).join(NAME));
}

fn a_template_renders_a_configuration_file_for_another_user() {
    let node = Node::start();
    node.ok(&["useradd", "--system", "uplink"]);
    node.profile(
        "owner: uplink\ntemplates:\n  - name: uplink.conf\n    text: \"password = {{ \
         secrets.cred.value }}\\n\"\n",
    );
    node.delivered("one");
    node.await_value("uplink.conf", "password = one\n");
    assert_eq!(
        node.sh(&format!("stat -L -c %U {DIR}/uplink.conf")),
        "uplink"
    );
    node.set("two");
    node.await_value("uplink.conf", "password = two\n");
}
