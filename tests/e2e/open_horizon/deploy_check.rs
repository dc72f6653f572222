//! 24 to 26: whether what is to be deployed goes together, asked before anything is published.

use edge_secrets_tests::operator::Ended;
use edge_secrets_tests::samples::{policy, service};
use edge_secrets_tests::{ORG, Operator, TestHub};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::secrets_manager::add;

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        oh_24_a_policy_and_its_service_go_together,
        oh_25_a_pattern_and_its_two_services_go_together,
        oh_26_a_secret_that_nothing_binds_is_incompatible,
    ]
}

const LOCATION: &str = "https://bluehorizon.network/services/location";

const GPS: &str = "https://bluehorizon.network/services/gps";

/// A hub with the secrets of the original's fixtures, and the definition.
fn hub_with(definition: &Value) -> (TestHub, Operator) {
    let hub = TestHub::start();
    let admin = hub.operator();
    for name in ["user/admin/aitoken", "sqltoken", "extratoken"] {
        add(&admin, name, "token", "t");
    }
    admin.publish_service(definition);
    (hub, admin)
}

fn location(names: &[&str]) -> Value {
    let declared: Vec<_> = names.iter().map(|name| (*name, None)).collect();
    service(LOCATION, "2.0.7", &[("location2", &declared)])
}

/// Two versions, of which the definition is one; with a binding that nobody needs.
fn location_policy() -> Value {
    let bound = [
        ("loc_secret1", "user/admin/aitoken"),
        ("loc_secret2", "sqltoken"),
        ("extra", "extratoken"),
    ];
    let mut policy = policy(LOCATION, &["purpose == network-testing"], &bound);
    let version = |version: &str, priority: u64| {
        json!({ "version": version, "upgradePolicy": {}, "priority": {
            "priority_value": priority, "retries": 2, "retry_durations": 3600,
            "verified_durations": 52 } })
    };
    policy["service"]["serviceVersions"] = json!([version("2.0.6", 3), version("2.0.7", 2)]);
    policy["secretBinding"][0]["serviceVersionRange"] = "2.0.6".into();
    policy["userInput"] = json!([{ "serviceOrgid": ORG, "serviceUrl": LOCATION,
        "serviceVersionRange": "2.0.3", "inputs": [{ "name": "test", "value": "testValue" }] }]);
    policy
}

fn check(admin: &Operator, policy: &Value) -> Ended {
    admin.run(
        &["policy", "publish", "location", "-", "--dry-run"],
        policy.to_string(),
    )
}

fn oh_24_a_policy_and_its_service_go_together() {
    let (hub, admin) = hub_with(&location(&["loc_secret1", "loc_secret2"]));
    let _node = hub.raw_node("an12345", &[("purpose", json!("network-testing"))]);
    let ended = check(&admin, &location_policy());
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ended.stdout + &ended.stderr;
    assert!(said.contains("would change 1 node"), "{said}");
    // The binding that nobody needs is a warning.
    assert!(
        said.contains("The following secret bindings are not required by any services: [extra]"),
        "{said}"
    );
    assert_eq!(
        admin.json(&["policy", "list"]),
        json!([]),
        "it was only asked"
    );
}

fn oh_25_a_pattern_and_its_two_services_go_together() {
    let (_hub, admin) = hub_with(&location(&["loc_secret1", "loc_secret2"]));
    admin.publish_service(&service(GPS, "2.0.3", &[("gps", &[("gps_secret", None)])]));
    let offered = |url: &str, version: &str| {
        json!({ "serviceUrl": url, "serviceOrgid": ORG, "serviceArch": "*",
            "serviceVersions": [{ "version": version, "priority": {}, "upgradePolicy": {} }],
            "dataVerification": {}, "nodeHealth": {} })
    };
    let bound = |url: &str, secrets: Value| {
        json!({ "serviceOrgid": ORG, "serviceUrl": url, "serviceArch": "*",
            "serviceVersionRange": "2.0.3", "secrets": secrets })
    };
    let pattern = json!({
        "name": "sloc", "org": ORG, "label": "location and gps", "description": "", "public": false,
        "services": [offered(LOCATION, "2.0.7"), offered(GPS, "2.0.3")],
        "agreementProtocols": [{ "name": "Basic" }],
        "userInput": [{ "serviceOrgid": ORG, "serviceUrl": LOCATION,
            "serviceVersionRange": "2.0.3", "inputs": [{ "name": "test", "value": "testValue" }] }],
        "secretBinding": [
            bound(LOCATION, json!([{ "loc_secret1": "user/admin/aitoken" }, { "loc_secret2": "sqltoken" },
                { "extra": "extratoken" }])),
            bound(GPS, json!([{ "gps_secret": "sqltoken" }])),
        ],
    });
    let check = |pattern: &Value| {
        let line = ["pattern", "publish", "sloc", "-", "--dry-run"];
        admin.run(&line, pattern.to_string())
    };
    let ended = check(&pattern);
    assert_eq!(ended.code, 0, "{ended:?}");
    let said = ended.stdout + &ended.stderr;
    assert!(
        said.contains("The following secret bindings are not required by any services: [extra]"),
        "{said}"
    );
    assert_eq!(admin.json(&["pattern", "list"]), json!([]));
    // One of the two without its binding, and they do not.
    let mut unbound = pattern.clone();
    unbound["secretBinding"] = json!([pattern["secretBinding"][0]]);
    let ended = check(&unbound);
    assert_ne!(ended.code, 0, "{ended:?}");
    let words = "No secret binding found for the following service secrets: [gps_secret]";
    assert!(ended.stderr.contains(words), "{ended:?}");
}

fn oh_26_a_secret_that_nothing_binds_is_incompatible() {
    let (_hub, admin) = hub_with(&location(&["loc_secret1", "loc_secret2", "foo"]));
    let ended = check(&admin, &location_policy());
    assert_ne!(ended.code, 0, "{ended:?}");
    let words = "No secret binding found for the following service secrets: [foo]";
    assert!(ended.stderr.contains(words), "{ended:?}");
}
