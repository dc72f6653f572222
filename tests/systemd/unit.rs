//! The agent as a unit: how tight it is, and what it is to others.

use edge_secrets_tests::wait;
use libtest_mimic::Trial;

use crate::node::{AGENT, CONFIG, DIR, HUB, NAME, Node, SOCKET};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        the_units_exposure_is_at_most_2,
        nothing_but_the_mounting_unit_may_mount,
        the_socket_outlives_an_agent_that_cannot_start,
        a_reload_reads_the_configuration_again,
        a_unit_ordered_after_the_agent_finds_its_file_at_once,
        the_watchdog_ends_an_agent_that_hangs,
    ]
}

fn the_units_exposure_is_at_most_2() {
    let node = Node::start();
    for (unit, most) in [(AGENT, 2.0), (HUB, 2.0)] {
        let analysis = node.ok(&["systemd-analyze", "security", "--no-pager", unit]);
        let line = analysis.lines().last().expect("a last line");
        println!("{line}");
        let number = line
            .split(": ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let exposure: f64 = number.expect("a number").parse().expect("a number");
        assert!(exposure <= most, "{analysis}");
    }
    let verified = node.run(
        &[
            "sh",
            "-c",
            "systemd-analyze verify --man=no /lib/systemd/system/edge-secrets-*",
        ],
        "",
    );
    let ours = |line: &&str| line.contains("edge-secrets");
    let complaints: Vec<_> = verified.stderr.lines().filter(ours).collect();
    assert!(verified.code == 0 && complaints.is_empty(), "{verified:?}");
}

fn nothing_but_the_mounting_unit_may_mount() {
    let node = Node::start();
    let status = node.sh(&format!(
        "cat /proc/$(systemctl show --value -p MainPID {AGENT})/status"
    ));
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.expect("a set").trim(), 16).expect("a set")
    };
    // capability(7): CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, LEASE 28.
    let wanted = 1 | 1 << 1 | 1 << 3 | 1 << 28;
    assert_eq!(set("CapBnd:"), wanted);
    assert_eq!(set("CapEff:"), wanted);
    assert_eq!(set("CapAmb:"), 0);
}

/// A node whose configuration was spoilt, with units that wait for it.
fn the_socket_outlives_an_agent_that_cannot_start() {
    let node = Node::start();
    let good = node.sh(&format!("cat {CONFIG}"));
    node.write(CONFIG, "hub: nonsense\n");
    node.ok(&["systemctl", "stop", AGENT]);
    // More at once than any limit of systemd's on starts or triggers.
    node.unit(
        "eager@.service",
        "[Service]\nType=oneshot\nLoadCredential=cred:/run/edge-secrets/credentials.sock\n\
         ExecStart=/bin/true\n",
    );
    node.sh("for i in $(seq 60); do systemctl start --no-block eager@$i; done");
    node.until("it was tried again and again", || {
        node.journal(AGENT).matches("agent.yaml:1").count() >= 4
    });
    assert_eq!(
        node.show(SOCKET, "ActiveState"),
        "active",
        "{}",
        node.journal(SOCKET)
    );
    assert_eq!(
        node.show("eager@1.service", "ActiveState"),
        "activating",
        "it waits"
    );
    // Mended, it starts by itself, because somebody waits.
    node.write(CONFIG, good);
    node.until_says(AGENT, "Connected.");
    assert_eq!(node.show(SOCKET, "ActiveState"), "active");
}

fn a_reload_reads_the_configuration_again() {
    let node = Node::start();
    node.delivered("v1");
    let config = node.sh(&format!("cat {CONFIG}")).replace("berlin", "paris");
    node.write(CONFIG, config);
    node.ok(&["systemctl", "reload", AGENT]);
    // The policy is for Berlin.
    wait::gone(&node.path(DIR).join(NAME));
}

fn a_unit_ordered_after_the_agent_finds_its_file_at_once() {
    let mut node = Node::start();
    node.delivered("at boot");
    node.unit(
        "ordered.service",
        &format!(
            "[Unit]\nWants={AGENT}\nAfter={AGENT}\n[Service]\nType=oneshot\n\
             ExecStart=/bin/sh -ec 'cat {DIR}/{NAME} >/root/found'\n\
             [Install]\nWantedBy=multi-user.target\n"
        ),
    );
    node.ok(&["systemctl", "enable", "ordered"]);
    node.reboot();
    let state = node.ok(&["systemctl", "is-system-running", "--wait"]);
    assert_eq!(state, "running", "{}", node.journal("ordered"));
    assert_eq!(node.sh("cat /root/found"), "at boot");
}

fn the_watchdog_ends_an_agent_that_hangs() {
    let node = Node::start();
    node.delivered("v1");
    node.write(
        "/etc/systemd/system/edge-secrets-agent.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=10s\n",
    );
    node.ok(&["systemctl", "daemon-reload"]);
    node.ok(&["systemctl", "restart", AGENT]);
    let hung = node.sh(&format!(
        "pid=$(systemctl show --value -p MainPID {AGENT}); kill -STOP $pid; echo $pid"
    ));
    node.until("another agent runs", || {
        let pid = node.show(AGENT, "MainPID");
        pid != hung && pid != "0" && node.show(AGENT, "ActiveState") == "active"
    });
    assert!(node.journal(AGENT).contains("Watchdog timeout"));
    assert_eq!(node.sh(&format!("cat {DIR}/{NAME}")), "v1");
}
