//! What definitions say beyond names and formats: `optional`, `mode`, and services' own policies.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::json;

use crate::delivery::URL;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        an_optional_secret_comes_and_goes_and_holds_nothing_up,
        a_definitions_mode_is_its_files_mode,
        a_services_own_policy_keeps_it_from_other_nodes,
    ]
}

fn an_optional_secret_comes_and_goes_and_holds_nothing_up() {
    let hub = TestHub::start();
    let operator = hub.operator();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    operator.set("db", "one");
    let mut definition = plain_service(URL, &["cred", "extra"]);
    definition["deployment"]["services"]["main"]["secrets"]["extra"]["optional"] = json!(true);
    operator.publish_service(&definition);
    operator.publish_policy("uplink", &policy(URL, &[], &[("cred", "db")]));
    let home = agent.consumer(URL, "main");
    wait::content(&home.join("cred"), b"one");
    assert!(!home.join("extra").exists(), "nothing binds it");

    // Bound to what is not there yet, it stays away and the rest is rotated all the same.
    let bound = policy(URL, &[], &[("cred", "db"), ("extra", "more")]);
    let publish = ["policy", "publish", "uplink", "-", "--allow-missing"];
    operator.ok(&publish, bound.to_string());
    operator.set("db", "two");
    wait::content(&home.join("cred"), b"two");
    assert!(!home.join("extra").exists(), "it does not exist");
    hub.await_rollout("uplink", 1);

    operator.set("more", "there");
    wait::content(&home.join("extra"), b"there");
    operator.ok(&["secret", "rm", "more", "--yes"], "");
    wait::gone(&home.join("extra"));
    wait::content(&home.join("cred"), b"two");
    hub.await_rollout("uplink", 1);
}

fn a_definitions_mode_is_its_files_mode() {
    let hub = TestHub::start();
    let operator = hub.operator();
    let agent = TestAgent::start(&hub, "edge-01", &[]);
    operator.set("db", "one");
    let mut definition = plain_service(URL, &["cred", "plain"]);
    definition["deployment"]["services"]["main"]["secrets"]["cred"]["mode"] = json!("0440");
    operator.publish_service(&definition);
    let bindings = [("cred", "db"), ("plain", "db")];
    operator.publish_policy("uplink", &policy(URL, &[], &bindings));
    let home = agent.consumer(URL, "main");
    // Names appear one after the other, as they are sorted.
    wait::content(&home.join("plain"), b"one");
    assert_eq!(
        (mode(&home.join("cred")), mode(&home.join("plain"))),
        (0o440, 0o400)
    );
    // Another mode is a change like another value.
    definition["deployment"]["services"]["main"]["secrets"]["cred"]["mode"] = json!("0400");
    operator.publish_service(&definition);
    wait::until(&home, "the file is the owner's alone", || {
        mode(&home.join("cred")) == 0o400
    });
    definition["deployment"]["services"]["main"]["secrets"]["cred"]["mode"] = json!("0444");
    let refused = operator.run(&["service", "publish", "-"], definition.to_string());
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("secrets.cred.mode"), "{refused:?}");
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).map_or(0, |found| found.permissions().mode() & 0o7777)
}

fn a_services_own_policy_keeps_it_from_other_nodes() {
    let hub = TestHub::start();
    let operator = hub.operator();
    let berlin = TestAgent::start(&hub, "edge-01", &[("site", json!("berlin"))]);
    let paris = TestAgent::start(&hub, "edge-02", &[("site", json!("paris"))]);
    operator.set("db", "one");
    operator.publish_service(&plain_service(URL, &["cred"]));
    operator.publish_policy("uplink", &policy(URL, &[], &[("cred", "db")]));
    let [here, there] = [&berlin, &paris].map(|agent| agent.consumer(URL, "main").join("cred"));
    wait::content(&here, b"one");
    wait::content(&there, b"one");

    let own = json!({ "properties": [], "constraints": ["site == berlin"] }).to_string();
    let set = ["service", "policy", "set", URL, "-"];
    let asked = operator.ok(&[&set[..], &["--dry-run"]].concat(), &own);
    assert!(
        asked.contains("edge-02") && !asked.contains("edge-01"),
        "{asked}"
    );
    assert!(there.exists(), "it was only asked");
    operator.ok(&set, &own);
    wait::gone(&there);
    wait::content(&here, b"one");
    let told = operator.ok(&["explain", "edge-02"], "");
    assert!(told.contains("site"), "{told}");

    operator.ok(&["service", "policy", "rm", URL], "");
    wait::content(&there, b"one");
}
