//! A hub that exchanges its certificate authority while its nodes go on.

use std::fs;
use std::process::Command;

use edge_secrets_tests::binaries::binaries;
use edge_secrets_tests::operator::{Ended, run};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::json;

use crate::delivery::{URL, publish_uplink};

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![a_ca_is_exchanged_and_no_node_is_lost_not_even_one_that_was_away]
}

fn ca(hub: &TestHub, step: &[&str]) -> Ended {
    let mut command = Command::new(&binaries().hub);
    command
        .arg("ca")
        .args(step)
        .arg("--config")
        .arg(hub.config());
    run(&mut command, b"")
}

fn done(hub: &TestHub, step: &[&str]) -> String {
    let ended = ca(hub, step);
    assert_eq!(ended.code, 0, "{step:?}: {ended:?}");
    ended.stdout
}

fn authority(path: &std::path::Path) -> String {
    fs::read_to_string(path).expect("a certificate")
}

fn a_ca_is_exchanged_and_no_node_is_lost_not_even_one_that_was_away() {
    let mut hub = TestHub::configured(|config| {
        // The shortest life, so that renewals come while the test waits.
        config["node_certificates"]["lifetime"] = "60s".into();
    });
    let site = [("site", json!("berlin"))];
    let agent = TestAgent::start(&hub, "edge-01", &site);
    let mut away = TestAgent::start(&hub, "edge-02", &site);
    publish_uplink(&hub.operator(), "one");
    let file = |agent: &TestAgent| agent.consumer(URL, "main").join("myCloudServiceCred");
    for agent in [&agent, &away] {
        wait::content(&file(agent), b"one");
    }
    away.kill();
    let old = authority(&hub.data_dir().join("ca.crt"));

    let served = ca(&hub, &["rotate"]);
    assert!(
        served.code != 0 && served.stderr.contains("serving"),
        "{served:?}"
    );
    hub.stop();
    done(&hub, &["rotate"]);
    hub.serve();
    wait::until(
        &hub.log(),
        "the node that is there hears of the new CA",
        || done(&hub, &["status"]).contains("1 of 2 nodes are there"),
    );
    // The hub has said so; that the node has it on its disk comes after.
    let bundle = agent.state_dir().join("identity/ca.crt");
    wait::until(&agent.state_dir(), "the node keeps both", || {
        let bundle = fs::read_to_string(&bundle).unwrap_or_default();
        bundle.matches("BEGIN CERTIFICATE").count() == 2
    });

    hub.stop();
    let refused = ca(&hub, &["switch"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("edge-02"),
        "{refused:?}"
    );
    done(&hub, &["switch", "--force"]);
    hub.serve();
    // Whoever was away trusts the old CA alone, is served by it, and renews.
    hub.operator().set("cloudServiceXYZSecret", "two");
    away.run();
    for agent in [&agent, &away] {
        wait::content(&file(agent), b"two");
    }
    wait::until(&hub.log(), "both have a certificate of the new CA", || {
        let status = done(&hub, &["status"]);
        status.contains("2 of 2 nodes are there") && status.contains("0 users")
    });

    hub.stop();
    done(&hub, &["finish"]);
    let new = authority(&hub.data_dir().join("ca.crt"));
    assert!(new != old && new.matches("BEGIN CERTIFICATE").count() == 1);
    hub.serve();
    hub.operator().set("cloudServiceXYZSecret", "three");
    for agent in [&agent, &away] {
        wait::content(&file(agent), b"three");
    }
    let fresh = TestAgent::start(&hub, "edge-03", &site);
    wait::content(&file(&fresh), b"three");
}
