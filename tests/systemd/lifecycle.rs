//! Secrets that are there while a unit runs, and no longer.

use edge_secrets_tests::{Canary, scan::Scanner, wait};
use libtest_mimic::Trial;

use crate::node::{AGENT, DIR, NAME, Node};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        secrets_come_with_the_unit_and_go_when_it_stops,
        a_crash_loop_does_not_thrash,
        a_unit_that_is_not_there_has_nothing,
        a_restarted_bus_loses_nothing,
    ]
}

const PROFILE: &str = "lifecycle: { unit: uplink.service, linger: 1s }\n";

const UPLINK: &str = "[Service]\nExecStart=sleep infinity\n";

fn secrets_come_with_the_unit_and_go_when_it_stops() {
    let node = Node::start();
    let canary = Canary::new();
    node.profile(PROFILE);
    node.unit("uplink.service", UPLINK);
    node.set(&canary.value());
    node.deploy();
    node.await_status("the deployment is known and stopped", |status| {
        status["services"][0]["state"] == "stopped"
    });
    assert!(!node.path(DIR).join(NAME).exists());
    node.ok(&["systemctl", "start", "uplink"]);
    wait::content(&node.path(DIR).join(NAME), canary.value().as_bytes());
    node.ok(&["systemctl", "stop", "uplink"]);
    wait::empty(&node.path(DIR));
    Scanner::new(&[&canary])
        .files(&node.path("/run/edge-secrets"))
        .assert_clean("the runtime directory");
    // The hub knows.
    node.until("the hub sees it stopped", || {
        node.run(&["edge-secrets", "explain", "edge-01", "-o", "json"], "")
            .stdout
            .contains("stopped")
    });
    node.ok(&["systemctl", "start", "uplink"]);
    wait::content(&node.path(DIR).join(NAME), canary.value().as_bytes());
}

fn a_crash_loop_does_not_thrash() {
    let node = Node::start();
    node.profile("lifecycle: { unit: uplink.service, linger: 30s }\n");
    node.unit(
        "uplink.service",
        "[Unit]\nStartLimitIntervalSec=0\n\
         [Service]\nExecStart=/bin/sh -c 'echo run >>/root/runs; exit 1'\n\
         Restart=always\nRestartSec=200ms\n",
    );
    node.set("v1");
    node.deploy();
    node.ok(&["systemctl", "start", "--no-block", "uplink"]);
    wait::there(&node.path(DIR).join(NAME));
    let inode = node.sh(&format!("stat -L -c %i {DIR}/{NAME}"));
    let runs = || {
        node.sh("wc -l </root/runs")
            .parse::<u32>()
            .expect("a number")
    };
    wait::there(&node.path("/root/runs"));
    let before = runs();
    wait::until(&node.path("/root/runs"), "ten more crashes", || {
        runs() > before + 10
    });
    assert_eq!(
        node.sh(&format!("stat -L -c %i {DIR}/{NAME}")),
        inode,
        "the very same file"
    );
}

fn a_unit_that_is_not_there_has_nothing() {
    let node = Node::start();
    node.profile("lifecycle: { unit: nowhere.service, linger: 1s }\n");
    node.set("v1");
    node.deploy();
    node.await_status("it is said that the unit is not there", |status| {
        status["services"][0]["consumers"][0]["lifecycle"]["presence"] == "absent"
    });
    // What came before systemd had answered stays for its linger.
    wait::gone(&node.path(DIR).join(NAME));
    // And comes to something when the unit does.
    node.unit("nowhere.service", UPLINK);
    node.ok(&["systemctl", "start", "nowhere"]);
    wait::content(&node.path(DIR).join(NAME), b"v1");
}

fn a_restarted_bus_loses_nothing() {
    let node = Node::start();
    node.profile(PROFILE);
    node.unit("uplink.service", UPLINK);
    node.ok(&["systemctl", "start", "uplink"]);
    node.delivered("v1");
    node.ok(&["systemctl", "restart", "dbus.service"]);
    // What happened meanwhile is seen as well.
    node.ok(&["systemctl", "stop", "uplink"]);
    wait::gone(&node.path(DIR).join(NAME));
    node.ok(&["systemctl", "start", "uplink"]);
    wait::content(&node.path(DIR).join(NAME), b"v1");
    assert_eq!(node.show(AGENT, "NRestarts"), "0");
}
