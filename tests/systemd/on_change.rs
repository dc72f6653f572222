//! What is done after a change.

use edge_secrets_tests::{Canary, wait};
use libtest_mimic::Trial;

use crate::node::{A_MOMENT, AGENT, DIR, NAME, Node};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_unit_is_reloaded_after_the_swap,
        a_units_main_process_is_signalled,
        a_signal_does_not_end_a_unit_that_is_starting,
        a_command_runs_as_the_chosen_user_without_any_value,
        a_hanging_action_is_reported_and_holds_up_nobody,
        an_action_for_a_unit_that_is_not_there_is_reported,
        a_restarted_bus_does_not_lose_an_action,
    ]
}

/// Notes what it reads at its start and at every reload.
fn reloading() -> String {
    format!(
        "[Service]\nExecStart=/bin/sh -ec 'trap : HUP; while :; do sleep infinity & wait; done'\n\
         ExecStartPost=/bin/sh -ec 'cat {DIR}/{NAME} >>/root/read'\n\
         ExecReload=/bin/sh -ec 'cat {DIR}/{NAME} >>/root/read'\n"
    )
}

fn a_unit_is_reloaded_after_the_swap() {
    let node = Node::start();
    node.delivered("one\n");
    node.later_profile("on_change: { reload: uplink.service }\n");
    node.unit("uplink.service", &reloading());
    node.ok(&["systemctl", "start", "uplink"]);
    node.set("two\n");
    // The reload saw the new value: it came after the swap.
    wait::content(&node.path("/root/read"), b"one\ntwo\n");
    node.await_status("the action is done", |_| {
        node.consumer()["on_change"]["state"] == "done"
    });
}

fn a_units_main_process_is_signalled() {
    let node = Node::start();
    node.delivered("one\n");
    node.later_profile("on_change: { signal: USR1, unit: uplink.service }\n");
    node.unit(
        "uplink.service",
        &format!(
            "[Service]\nExecStart=/bin/sh -c 'trap \"cat {DIR}/{NAME} >>/root/read\" USR1; echo \
             ready >/run/ready; while :; do sleep infinity & wait $!; done'\n"
        ),
    );
    node.ok(&["systemctl", "start", "uplink"]);
    wait::there(&node.path("/run/ready"));
    node.set("two\n");
    wait::content(&node.path("/root/read"), b"two\n");
}

fn a_signal_does_not_end_a_unit_that_is_starting() {
    let node = Node::start();
    node.delivered("one\n");
    node.later_profile("on_change: { signal: HUP, unit: uplink.service }\n");
    node.sh("mkfifo /run/go");
    node.unit(
        "uplink.service",
        &format!(
            "[Service]\nType=notify\nNotifyAccess=all\n\
             ExecStart=/bin/sh -ec 'read go </run/go; trap \"cat {DIR}/{NAME} >>/root/read\" HUP; \
             systemd-notify --ready || :; while :; do sleep infinity & wait $! || :; done'\n"
        ),
    );
    node.ok(&["systemctl", "start", "--no-block", "uplink"]);
    node.until("its program runs", || node.show("uplink", "MainPID") != "0");
    node.set("two\n");
    node.await_status("it is to be signalled", |_| {
        node.consumer()["on_change"]["state"] != "done"
    });
    wait::within(&node.path("/run/go"), A_MOMENT, &mut || false);
    node.sh("echo go >/run/go");
    wait::content(&node.path("/root/read"), b"two\n");
    assert_eq!(node.show("uplink", "ActiveState"), "active");
}

fn a_command_runs_as_the_chosen_user_without_any_value() {
    let node = Node::start();
    let canary = Canary::new();
    node.ok(&["useradd", "--system", "uplink"]);
    node.sh("install -d -o uplink /root/../srv/uplink");
    node.write(
        "/usr/local/bin/changed",
        "#!/bin/sh\n{ id -un; echo \"$@\"; env; grep -i capeff /proc/self/status; } \
         >/srv/uplink/ran.new\nmv /srv/uplink/ran.new /srv/uplink/ran\n",
    );
    node.sh("chmod 755 /usr/local/bin/changed");
    node.profile(
        "owner: uplink\non_change: { command: [/usr/local/bin/changed, now], user: uplink }\n",
    );
    node.delivered(&canary.value());
    node.set(&canary.value().repeat(2));
    let ran = wait::file(&node.path("/srv/uplink/ran"));
    let text = String::from_utf8_lossy(&ran);
    let mut lines = text.lines();
    assert_eq!((lines.next(), lines.next()), (Some("uplink"), Some("now")));
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    edge_secrets_tests::scan::Scanner::new(&[&canary])
        .text(ran.as_slice(), "what the command was given")
        .assert_clean("the command's argv and environment");
}

fn a_hanging_action_is_reported_and_holds_up_nobody() {
    let node = Node::start();
    node.profile("on_change: { command: [/bin/sleep, infinity], timeout: 1s }\n");
    node.delivered("one");
    node.set("two");
    node.await_status("the action is said to fail", |_| {
        node.consumer()["on_change"]["state"] == "failing"
    });
    // Deliveries go on.
    node.set("three");
    node.await_value(NAME, "three");
    // And nothing is left of an attempt when its time is over.
    node.profile("on_change: { reload: nowhere.service }\n");
    node.until("no attempt runs any more", || {
        node.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .matches("/bin/sleep infinity")
            .count()
            == 0
    });
}

fn an_action_for_a_unit_that_is_not_there_is_reported() {
    let node = Node::start();
    node.profile("on_change: { restart: nowhere.service }\n");
    node.delivered("one");
    node.set("two");
    node.await_status("the action is said to fail, and why", |_| {
        let action = &node.consumer()["on_change"];
        action["state"] == "failing" && action["error"].to_string().contains("nowhere.service")
    });
    // Made later, it is restarted by the next attempt.
    node.unit("nowhere.service", "[Service]\nExecStart=sleep infinity\n");
    node.until("the unit runs", || {
        node.show("nowhere", "ActiveState") == "active"
    });
}

fn a_restarted_bus_does_not_lose_an_action() {
    let node = Node::start();
    node.delivered("one\n");
    node.later_profile("on_change: { reload: uplink.service }\n");
    node.unit("uplink.service", &reloading());
    node.ok(&["systemctl", "start", "uplink"]);
    node.ok(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    node.set("two\n");
    node.await_value(NAME, "two\n");
    // systemctl speaks to systemd without the bus.
    node.ok(&["systemctl", "start", "dbus.socket", "dbus.service"]);
    wait::content(&node.path("/root/read"), b"one\ntwo\n");
    assert_eq!(node.show(AGENT, "NRestarts"), "0");
}
